//! The poll thread: lends from the queue, spreads over the sender threads, keeps the group alive to the very end.
//!
//! Back-pressure is not made here: the queue lends only what has room ([`crate::queue::InFlight`]), so nothing in this
//! file ever waits for a sender. Polling never stops, whatever a neighbour does.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::queue::{Lent, Queue, QueueError};
use crate::sender::SenderHandle;
use crate::spread::Spread;

/// Longest wait for a message in one poll; also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(50);

/// How the poll thread ended.
#[derive(Debug)]
pub struct Ended {
    /// Why it stopped by itself, when it did.
    pub error: Option<QueueError>,
    /// Whether the senders had finished everything before the deadline.
    pub drained: bool,
}

/// Runs until `stop` (or a fatal queue error), then drains within `grace`, commits and leaves the group.
///
/// `on_stop` is called once when the end begins: it closes the pools.
/// `before_close` is called when the senders are done, with what is left of the grace: it flushes what must be flushed
/// before the last commit.
pub fn run(
    mut queue: Box<dyn Queue>,
    senders: &[SenderHandle],
    mut spread: Spread,
    stop: &CancellationToken,
    grace: Duration,
    on_stop: impl FnOnce(),
    before_close: impl FnOnce(Duration),
) -> Ended {
    let mut error = serve(queue.as_mut(), senders, &mut spread, stop).err();
    let deadline = Instant::now() + grace;
    stop.cancel();
    queue.stop();
    senders.iter().for_each(SenderHandle::stop);
    on_stop();
    let drained = drain(queue.as_mut(), senders, deadline);
    let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    before_close(left(deadline));
    if let Err(refused) = queue.close(left(deadline)) {
        error.get_or_insert(refused);
    }
    Ended { error, drained }
}

fn serve(
    queue: &mut dyn Queue,
    senders: &[SenderHandle],
    spread: &mut Spread,
    stop: &CancellationToken,
) -> Result<(), QueueError> {
    let (mut lent, mut is_gone) = (Vec::new(), false);
    let mut outboxes: Vec<Vec<Lent>> = senders.iter().map(|_| Vec::new()).collect();
    while !stop.is_cancelled() {
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
