//! A sender thread: one `current_thread` runtime with its own connections, one line of those that wait for their turn, one
//! task per push that has it, one waiting room.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use crate::delivery::{cancel, deliver, deliver_again, give_up};
use crate::desk::{Desk, Next, Waiting};
use crate::line::{Line, Turns};
use crate::queue::Lent;
use crate::shutdown::Shutdown;

/// How often a message that waits is looked at: whether its partition is still ours and its app sends. Else it makes room at
/// once; a held one would keep its place in the bounds for minutes, beside its second copy when the partition has come back.
const LOOK: Duration = Duration::from_secs(1);

/// A runtime that has not served its own heartbeat for so long stands still: nothing in a sender blocks its thread.
const STANDSTILL: Duration = Duration::from_secs(30);

/// The poll thread's end of a sender.
#[derive(Debug)]
pub struct SenderHandle {
    intake: mpsc::Sender<Vec<Lent>>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl SenderHandle {
    /// Starts the thread. `make_desk` runs on it, inside its runtime, because connections belong to the runtime that made
    /// them. `capacity` is the most messages that can be in flight in the process: no channel here can overflow.
    pub fn start(
        name: &str,
        capacity: usize,
        shutdown: &Shutdown,
        make_desk: impl FnOnce(mpsc::Sender<Waiting>, &Turns) -> Desk + Send + 'static,
    ) -> std::io::Result<SenderHandle> {
        let (intake, batches) = mpsc::channel(capacity.max(1));
        let (stop, pulse) = (CancellationToken::new(), shutdown.pulses().start(name, STANDSTILL));
        let stopped = stop.clone();
        let thread = shutdown.thread(name, move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(alarm = true, %error, "a sender's runtime could not start"),
            };
            runtime.block_on(pulse.during(async {
                let (waiting_room, waiters) = mpsc::channel(capacity.max(1));
                let turns = Turns::default();
                let desk = Arc::new(make_desk(waiting_room, &turns));
                run(batches, waiters, turns, desk, stopped).await;
            }));
        })?;
        Ok(SenderHandle { intake, stop, thread })
    }

    /// Hands over a batch. Comes back when the sender is gone.
    pub fn send(&self, batch: Vec<Lent>) -> Result<(), Vec<Lent>> {
        self.intake.try_send(batch).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Begins its end. To be called when the queue lends no more: what a sender gives back before that is lent again.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether the thread has ended: after a drain, or unasked for.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Serves until `stop`, then gives back what waits and finishes what is on a stream or being reported.
async fn run(
    mut batches: mpsc::Receiver<Vec<Lent>>,
    mut waiters: mpsc::Receiver<Waiting>,
    turns: Turns,
    desk: Arc<Desk>,
    stop: CancellationToken,
) {
    let pushes = desk.tasks.clone();
    let mut room: DelayQueue<Waiting> = DelayQueue::new();
    let mut line: Line<Lent> = Line::new(turns.clone());
    loop {
        let now = Instant::now();
        while let Some((lent, begun)) = line.begin(now) {
            // Its lane was paused while it stood here: the backlog is Kafka's to keep.
            if lent.receipt.is_held_back(&lent.message.origin) {
                desk.give_back(lent.into());
            } else {
                pushes.spawn(deliver(lent.into(), begun, desk.clone()));
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(waiting) = waiters.recv() => sit_down(&mut room, waiting),
            Some(due) = room.next(), if !room.is_empty() => match desk.look_at(due.into_inner(), Instant::now()) {
                Next::Wait(waiting) => sit_down(&mut room, waiting),
                Next::Attempt(push, pass) => {
                    push.receipt.set_waiting(false);
                    let begun = desk.ahead(&push.message.origin.app).enter();
                    pushes.spawn(deliver_again(push, begun, pass, desk.clone()));
                }
                Next::Cancel(push) => {
                    pushes.spawn(cancel(push, desk.clone()));
                }
                Next::GiveUp(push) => {
                    pushes.spawn(give_up(push, desk.clone()));
                }
                Next::GiveBack(push) => desk.give_back(push),
            },
            batch = batches.recv() => match batch {
                Some(batch) => for lent in batch {
                    let origin = lent.message.origin.clone();
                    line.push(&origin.app, origin.lane, lent, || desk.ahead(&origin.app));
                },
                None => break,
            },
            () = turns.come() => {}
            () = until(line.look_again()) => {}
        }
    }
    line.drain().for_each(|lent| desk.give_back(lent.into()));
    batches.close();
    while let Some(batch) = batches.recv().await {
        for lent in batch {
            desk.give_back(lent.into());
        }
    }
    while let Some(key) = room.peek() {
        desk.give_back(room.remove(&key).into_inner().push);
    }
    pushes.close();
    waiters.close();
    pushes.wait().await;
    while let Ok(Waiting { push, .. }) = waiters.try_recv() {
        desk.give_back(push);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Until its moment, or until it is looked at.
fn sit_down(room: &mut DelayQueue<Waiting>, waiting: Waiting) {
    // By chance a little sooner: not always the same one is to find that a probe is wanted.
    let at = waiting.until.min(Instant::now() + LOOK.mul_f64(0.75 + 0.25 * fastrand::f64()));
    room.insert_at(waiting, at.into());
}
