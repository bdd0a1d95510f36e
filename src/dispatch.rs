//! The poll thread: lends from the queue, spreads over the sender threads, keeps the group alive to the very end.
//!
//! Back-pressure is not made here: the queue lends only what has room ([`crate::queue::InFlight`]), so nothing in this
//! file ever waits for a sender. Polling never stops, whatever a neighbour does.

use std::time::{Duration, Instant};

use crate::queue::{Lent, Queue, QueueError};
use crate::sender::SenderHandle;
use crate::shutdown::Shutdown;
use crate::spread::Spread;

/// Longest wait for a message in one poll; also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(500);

/// How the poll thread ended.
#[derive(Debug)]
pub struct Ended {
    /// Why the group could not be left, when nothing had failed before.
    pub error: Option<QueueError>,
    /// Whether the senders had finished everything before the deadline.
    pub drained: bool,
}

/// Runs until `shutdown` begins, or begins it with a fatal error of the queue's; then drains within `grace`, commits and leaves
/// the group.
///
/// `on_stop` is called once when the end begins: it closes the pools.
/// `before_close` is called when the senders are done, with what is left of the grace: it flushes what must be flushed
/// before the last commit.
pub fn run(
    mut queue: Box<dyn Queue>,
    senders: &[SenderHandle],
    mut spread: Spread,
    shutdown: &Shutdown,
    grace: Duration,
    on_stop: impl FnOnce(),
    before_close: impl FnOnce(Duration),
) -> Ended {
    let failed = serve(queue.as_mut(), senders, &mut spread, shutdown);
    // At once: a signal that comes while the rest ends would be taken for the reason, and the exit for a good one.
    if let Err(error) = &failed {
        shutdown.fail("queue", error);
    }
    let deadline = Instant::now() + grace;
    queue.stop();
    senders.iter().for_each(SenderHandle::stop);
    on_stop();
    let drained = drain(queue.as_mut(), senders, deadline);
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    before_close(left(deadline));
    let error = queue.close(left(deadline)).err().filter(|_| failed.is_ok());
    Ended { error, drained }
}

fn serve(
    queue: &mut dyn Queue,
    senders: &[SenderHandle],
    spread: &mut Spread,
    shutdown: &Shutdown,
) -> Result<(), QueueError> {
    let (mut lent, mut is_gone) = (Vec::new(), false);
    let mut outboxes: Vec<Vec<Lent>> = senders.iter().map(|_| Vec::new()).collect();
    while !shutdown.has_begun() {
        if let Err(error) = queue.lend(POLL, &mut lent) {
            give_back(lent);
            return Err(error);
        }
        for message in lent.drain(..) {
            outboxes[spread.sender(&message.message.origin.app)].push(message);
        }
        for (sender, outbox) in senders.iter().zip(&mut outboxes) {
            let batch = std::mem::take(outbox);
            if let Err(batch) = if batch.is_empty() { Ok(()) } else { sender.send(batch) } {
                give_back(batch);
                is_gone = true;
            }
        }
        // It has panicked outside of a message's task, which has begun the end: the process ends, so that its supervisor
        // starts a whole one.
        if is_gone {
            return Err(QueueError::Fatal("a sender thread ended unexpectedly".into()));
        }
    }
    Ok(())
}

/// What no sender has taken over was never accepted.
fn give_back(lent: Vec<Lent>) {
    for lent in lent {
        lent.receipt.release();
    }
}

/// Serves the group until every sender has ended or the deadline has come.
fn drain(queue: &mut dyn Queue, senders: &[SenderHandle], deadline: Instant) -> bool {
    let mut none = Vec::new();
    while !senders.iter().all(SenderHandle::is_finished) {
        if Instant::now() >= deadline {
            return false;
        }
        if queue.lend(Duration::from_millis(10), &mut none).is_err() {
            // The group is lost; what the senders still finish is reported, and repeated by the partition's next owner.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Reason;

    /// It fails for good, and somebody stops the process while it is being closed.
    struct Broken(Shutdown);

    impl Queue for Broken {
        fn lend(&mut self, _: Duration, _: &mut Vec<Lent>) -> Result<(), QueueError> {
            Err(QueueError::Fatal("fenced".into()))
        }
        fn stop(&mut self) {
            self.0.begin("SIGTERM");
        }
        fn close(self: Box<Self>, _: Duration) -> Result<(), QueueError> {
            Err(QueueError::Fatal("not a member any more".into()))
        }
    }

    #[test]
    fn what_failed_first_is_the_reason_of_the_end() {
        let (shutdown, spread) = (Shutdown::default(), Spread::new([], 1, 1, |_, _| 0));
        let queue = Box::new(Broken(shutdown.clone()));
        let ended = run(queue, &[], spread, &shutdown, Duration::from_secs(1), || {}, |_| {});
        let failed = Reason::Failed { part: "queue".into(), error: "fenced".into() };
        assert_eq!((shutdown.reason(), ended.drained), (Some(&failed), true));
        assert!(ended.error.is_none(), "{:?}", ended.error);
    }
}
