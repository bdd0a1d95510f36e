//! What a sender thread has at hand for its messages: handlers, reporters, counters, the way to the waiting room.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::circuit::{Circuit, Pass};
use crate::clock;
use crate::delivery::{FeedbackSwitches, Push};
use crate::handlers::MessageHandler;
use crate::handlers::retry::Policy;
use crate::jobs::{Job, Jobs};
use crate::line::{Ahead, Tools, Turns};
use crate::message::QueueMessage;
use crate::outcome::Refusal;
use crate::reporters::stats::Metric;
use crate::reporters::{Reporters, StatsReporter as _};

/// A retry that found no leave looks again after a pause of this length, more or less.
const NO_LEAVE: Duration = Duration::from_millis(200);

/// A message that waits, and until when.
#[derive(Debug)]
pub struct Waiting {
    /// The message with its receipt.
    pub push: Push,
    /// When it is tried again.
    pub until: Instant,
}

/// What becomes of a message that waits.
#[derive(Debug)]
pub enum Next {
    /// It waits on.
    Wait(Waiting),
    /// It is attempted.
    Attempt(Push, Pass),
    /// It was charged all that its budget holds.
    GiveUp(Push),
    /// Its job was stopped.
    Cancel(Push),
    /// It goes back: its partition is somebody else's, or its app or its lane was paused while it waited.
    GiveBack(Push),
}

/// What a sender has for one app.
pub struct AppTools {
    /// Sends its messages.
    pub handler: Arc<dyn MessageHandler>,
    /// Counts its attempts that have begun here.
    pub ahead: Ahead,
    /// Whether they may be made.
    pub circuit: Arc<Circuit>,
}

/// One sender thread's tools.
pub struct Desk {
    /// Who is told what happened.
    pub reporters: Arc<Reporters>,
    /// Which feedback is written.
    pub feedback: FeedbackSwitches,
    /// Rate limit and dedup; `None`: everything is admitted.
    pub admission: Option<Admission>,
    /// Which message belongs to which job, and which jobs are stopped.
    pub jobs: Arc<Jobs>,
    /// What is under way here: attempts and reports. The sender's end waits for it.
    pub tasks: TaskTracker,
    apps: BTreeMap<Arc<str>, AppTools>,
    retry: Policy,
    waiting_room: mpsc::Sender<Waiting>,
}

impl Desk {
    /// A desk for these apps; `waiting_room` must have room for every message that can be in flight.
    pub fn new(
        apps: BTreeMap<Arc<str>, AppTools>,
        reporters: Arc<Reporters>,
        feedback: FeedbackSwitches,
        retry: Policy,
        waiting_room: mpsc::Sender<Waiting>,
    ) -> Self {
        let (jobs, tasks) = (Arc::default(), TaskTracker::new());
        Desk { reporters, feedback, admission: None, jobs, tasks, apps, retry, waiting_room }
    }

    /// The same desk, where pushes are admitted or not.
    #[must_use]
    pub fn with_admission(self, admission: Option<Admission>) -> Self {
        Desk { admission, ..self }
    }

    /// The same desk, where jobs are known and may be stopped.
    #[must_use]
    pub fn with_jobs(self, jobs: Arc<Jobs>) -> Self {
        Desk { jobs, ..self }
    }

    /// The job of a message that has come in.
    pub fn job_of(&self, message: &QueueMessage) -> Option<Arc<Job>> {
        let tools = self.app(&message.origin.app)?;
        let metadata = catch_unwind(AssertUnwindSafe(|| tools.handler.metadata(message))).unwrap_or_else(|_| {
            let place = format!("{message:?}");
            // Its attempt is an alarm by itself when that panics as well.
            tracing::error!(app = %message.origin.app, reason = "internal", place, "a handler panicked over a message's metadata; it counts for no job");
            None
        });
        self.jobs.of(metadata?, message.lent_at)
    }

    /// Whether a message's job is stopped, and we may still say so: its partition is ours. A yes counts as an attempt under
    /// way, so that a partition that is given up waits for the message's end.
    pub fn is_cancelled(&self, push: &Push) -> bool {
        self.jobs.is_stopped(push.job.as_deref()) && push.receipt.may_send()
    }

    /// What belongs to an app.
    pub fn app(&self, app: &str) -> Option<&AppTools> {
        self.apps.get(app)
    }

    /// The attempts of an app that have begun here.
    pub fn ahead(&self, app: &str) -> Ahead {
        let of_none = || Ahead::new(&Turns::default(), Tools::default());
        self.app(app).map_or_else(of_none, |tools| tools.ahead.clone())
    }

    /// Puts a message into the waiting room, with the receipt it has, until the policy's moment or its expiry.
    pub fn wait(&self, mut push: Push, why: Refusal, handler: &dyn MessageHandler, held: bool) {
        let delay = self.retry.delay(&why, push.attempts.saturating_sub(1), fastrand::u64(..));
        // A panic here would drop the receipt, and the message would come again for ever.
        let expiry = catch_unwind(AssertUnwindSafe(|| handler.expires_at_ms(&push.message))).unwrap_or_default();
        let delay = match expiry {
            Some(expiry) => delay.min(time_left(expiry)),
            None => delay,
        };
        let origin = &push.message.origin;
        let tags = [("platform", origin.platform.0), ("game", &*origin.app), ("reason", why.key)];
        self.reporters.stats().count(if held { Metric::Holds } else { Metric::Retries }, &tags, 1);
        push.receipt.lane().waits(held);
        push.receipt.off_stream();
        push.receipt.set_waiting(true);
        push.last = Some(Box::new(why));
        let waiting = Waiting { push, until: Instant::now() + delay };
        if let Err(refused) = self.waiting_room.try_send(waiting) {
            // Closed at shutdown; never full, because it holds as many as may be in flight.
            self.give_back(refused.into_inner().push);
        }
    }

    /// What becomes of a message that waits, as of `now`. Charges it for its last attempt when its time has come.
    pub fn look_at(&self, mut waiting: Waiting, now: Instant) -> Next {
        let Some(AppTools { circuit, .. }) = self.app(&waiting.push.message.origin.app) else {
            return Next::GiveBack(waiting.push);
        };
        if self.is_cancelled(&waiting.push) {
            return Next::Cancel(waiting.push);
        }
        // What was attempted within the pause is a probe that failed, and is not to be the next probe again and again.
        let is_paused = waiting.push.mark().is_some_and(|mark| circuit.is_paused_since(mark));
        let is_held_back = waiting.push.receipt.is_held_back(&waiting.push.message.origin);
        if waiting.push.receipt.is_over() || is_paused || is_held_back {
            return Next::GiveBack(waiting.push);
        }
        // What failed it is mended, or may be and nobody else finds out: it waits no longer, and it was not its fault.
        let is_mended = || waiting.push.mark().is_some_and(|mark| circuit.is_mended_since(mark));
        let stands_in = || waiting.push.is_rested(now) && circuit.wants_probe(now);
        if waiting.push.failed_with_all() && (is_mended() || stands_in()) {
            waiting.push.excuse();
        } else if waiting.until > now {
            return Next::Wait(waiting);
        }
        let is_charged = waiting.push.charge(circuit, now);
        let is_spent = |last| self.retry.is_spent(waiting.push.spent, last);
        if is_charged && waiting.push.last.as_deref().is_some_and(is_spent) {
            return Next::GiveUp(waiting.push);
        }
        match circuit.admit_again(now) {
            Some(pass) => Next::Attempt(waiting.push, pass),
            None => Next::Wait(Waiting { until: now + NO_LEAVE.mul_f64(0.5 + fastrand::f64()), ..waiting }),
        }
    }

    /// Gives a message back unresolved: this process may not send it now or any more, and its offset stays.
    pub fn give_back(&self, push: Push) {
        let origin = &push.message.origin;
        let tags = [("platform", origin.platform.0), ("game", &*origin.app)];
        let stats = self.reporters.stats();
        stats.count(Metric::Released, &tags, 1);
        if push.maybe_delivered {
            // Whoever sends it next does not know.
            stats.count(Metric::PossibleDuplicates, &tags, 1);
            push.receipt.lane().possible_duplicate();
        }
        push.receipt.release();
    }
}

/// Time until an expiry, with a moment's grace so that the attempt at its end finds it passed.
fn time_left(expiry_ms: i64) -> Duration {
    Duration::from_millis(expiry_ms.saturating_sub(clock::now_ms()).max(0) as u64 + 1)
}
