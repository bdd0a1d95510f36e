//! The poll thread: lends from the queue, collects, keeps the group alive to the very end.

use std::time::{Duration, Instant};

use super::batches::Intake;
use crate::queue::{Lent, Queue, QueueError};
use crate::shutdown::Shutdown;

/// Longest wait for a record in one poll; also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// The last commit, and leaving the group, may take this long, whatever is left of the grace.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the poll thread ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why the group could not be left, when nothing had failed before.
    pub(super) error: Option<QueueError>,
    /// Whether all statements under way had ended before the deadline.
    pub(super) drained: bool,
}

/// Runs until `shutdown` begins, or begins it with a fatal error of the queue's. Then nothing more is begun: what is collected
/// stays in Kafka, statements under way are waited for within `grace`, what has ended is committed. `is_idle` says whether all
/// statements have ended.
pub(super) fn run(
    mut queue: Box<dyn Queue>,
    mut intake: Intake,
    shutdown: &Shutdown,
    grace: Duration,
    is_idle: impl Fn() -> bool,
) -> Ended {
    let failed = serve(queue.as_mut(), &mut intake, shutdown);
    let deadline = Instant::now() + grace;
    // In this order: a batch that is begun after the stop finds that it may not, and gives its records back.
    queue.stop();
    // At once: a signal that comes while the rest ends would be taken for the reason, and the exit for a good one.
    if let Err(error) = &failed {
        shutdown.fail("queue", error);
    }
    intake.give_back();
    let drained = drain(queue.as_mut(), is_idle, deadline);
    let left = deadline.saturating_duration_since(Instant::now()).max(FAREWELL);
    let error = queue.close(left).err().filter(|_| failed.is_ok());
    Ended { error, drained }
}

fn serve(queue: &mut dyn Queue, intake: &mut Intake, shutdown: &Shutdown) -> Result<(), QueueError> {
    let mut lent: Vec<Lent> = Vec::new();
    while !shutdown.has_begun() {
        let due = intake.due().map_or(POLL, |due| due.saturating_duration_since(Instant::now()).min(POLL));
        let result = queue.lend(due, &mut lent);
        let now = Instant::now();
        lent.drain(..).for_each(|lent| intake.take(lent, now));
        intake.turn(now);
        result?;
    }
    Ok(())
}

/// Serves the group until every statement has ended or the deadline has come.
fn drain(queue: &mut dyn Queue, is_idle: impl Fn() -> bool, deadline: Instant) -> bool {
    let mut none = Vec::new();
    while !is_idle() {
        if Instant::now() >= deadline {
            return false;
        }
        if queue.lend(Duration::from_millis(10), &mut none).is_err() {
            // The group is lost; what still ends is done again by the partition's next owner.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    true
}
