//! One message's life, top to bottom.
//!
//! lent → attempt → *resolved*: reported (statistics at once, feedback until the broker acknowledged it, a dead token until
//! it is deleted or deferred) → receipt resolved → the offset may move.
//!        └─────→ *retry* or *hold*: into the waiting room with the same receipt; holds no task and no stream there. From
//!                there to the next attempt, or, when it was charged all that its budget holds, *failed*: a dead letter.
//!        └─────→ *released*, or its app is paused: given back unresolved; whoever owns the partition sends it later.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt as _;

use crate::circuit::{Circuit, Mark, Pass};
use crate::desk::{AppTools, Desk};
use crate::gate::{Admitted, DeliveryGate, settle};
use crate::handlers::retry::Budget;
use crate::handlers::{Gate, MessageHandler, RecordForm};
use crate::message::QueueMessage;
use crate::outcome::{Attempt, Class, Outcome, Refusal, Source, Verdict};
use crate::queue::{Lent, Receipt};
use crate::reporters::stats::Metric;
use crate::reporters::{DeadLetter, FeedbackFate, RecordSource, StatsReporter as _};

/// A message on its way, with what its earlier attempts left behind.
#[derive(Debug)]
pub struct Push {
    /// What came in.
    pub message: QueueMessage,
    /// The obligation that came with it.
    pub receipt: Receipt,
    /// Attempts made so far in this process.
    pub attempts: u32,
    /// Whether a request has left us for it: `sent` counts once per message.
    pub sent: bool,
    /// Whether an earlier attempt may have been accepted, its answer being lost: from then on every request may repeat it.
    pub maybe_delivered: bool,
    /// How it was admitted (rate limit, dedup); `None`: nobody was asked yet.
    pub admitted: Option<Admitted>,
    /// Why the last attempt did not deliver.
    pub last: Option<Box<Refusal>>,
    /// What it was charged so far.
    pub spent: Budget,
    /// Where its app stood when the last attempt began.
    mark: Option<Mark>,
    /// Whether it was charged for that attempt, or let off.
    judged: bool,
}

impl From<Lent> for Push {
    fn from(lent: Lent) -> Self {
        Push {
            message: lent.message,
            receipt: lent.receipt,
            attempts: 0,
            sent: false,
            maybe_delivered: false,
            admitted: None,
            last: None,
            spent: Budget::default(),
            mark: None,
            judged: false,
        }
    }
}

impl Push {
    /// Notes the end of an attempt; whether its requests may have repeated what an earlier attempt delivered.
    fn attempted(&mut self, attempt: &Attempt) -> bool {
        let duplicate = self.maybe_delivered;
        if let Verdict::Retry(why) | Verdict::Hold(why) = &attempt.verdict {
            self.maybe_delivered |= why.maybe_delivered;
        }
        self.attempts += 1;
        duplicate
    }

    /// Charges it for its last attempt, once, if others of its app succeeded since that began: an outage is not its fault.
    pub fn charge(&mut self, circuit: &Circuit, now: Instant) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        if let Some(mark) = self.mark.as_ref().filter(|mark| circuit.others_succeeded(mark)) {
            self.spent.charge(now.saturating_duration_since(mark.began));
        }
    }
}

/// A message's first attempt and what follows from it. Runs as the message's task on a sender's runtime.
pub async fn deliver(push: Push, desk: Arc<Desk>) {
    let Some(tools) = desk.app(&push.message.origin.app) else {
        // The queue lends only configured apps; a missing handler is a wiring bug and must not lose the message.
        tracing::error!(alarm = true, app = %push.message.origin.app, "no handler for a configured app");
        return desk.give_back(push);
    };
    match tools.circuit.admit() {
        Some(pass) => deliver_with(tools, push, pass, &desk).await,
        None => desk.give_back(push),
    }
}

/// A later attempt, for which there is leave already.
pub async fn deliver_again(push: Push, pass: Pass, desk: Arc<Desk>) {
    match desk.app(&push.message.origin.app) {
        Some(tools) => deliver_with(tools, push, pass, &desk).await,
        None => desk.give_back(push),
    }
}

async fn deliver_with(tools: &AppTools, mut push: Push, pass: Pass, desk: &Desk) {
    let AppTools { handler, load, circuit } = tools;
    (push.mark, push.judged) = (Some(circuit.mark()), false);
    let gate = DeliveryGate::new(&push, desk, circuit, pass);
    let attempt = {
        let _under_way = load.enter();
        attempt(handler.as_ref(), &push, &gate).await
    };
    push.admitted = gate.admitted().or(push.admitted);
    circuit.ended(pass, &attempt);
    note(&mut push, &attempt, handler.as_ref(), desk);
    let held = matches!(attempt.verdict, Verdict::Hold(_));
    match attempt.verdict {
        Verdict::Resolved(outcome) => {
            let outcome = with_history(outcome, push.last.as_deref());
            report(&push, &outcome, handler.as_ref(), desk).await;
            push.receipt.resolve_as(&outcome);
        }
        // Its app was paused meanwhile: the backlog is Kafka's to keep. A probe waits here, so that the next one is another.
        Verdict::Retry(_) | Verdict::Hold(_) if !circuit.still(pass) => desk.give_back(push),
        Verdict::Retry(why) | Verdict::Hold(why) => desk.wait(push, why, handler.as_ref(), held),
        Verdict::Released => desk.give_back(push),
    }
}

/// The end of a message whose budget is spent: the provider takes others, and not this one.
pub async fn give_up(push: Push, desk: Arc<Desk>) {
    let (Some(tools), Some(last)) = (desk.app(&push.message.origin.app), &push.last) else {
        return desk.give_back(push);
    };
    let description = format!(
        "given up after {} attempts that failed while others passed; the last: {}",
        push.spent.attempts, last.description
    );
    let outcome = Outcome::Failed(Refusal { description: description.into(), ..Refusal::clone(last) });
    report(&push, &outcome, tools.handler.as_ref(), &desk).await;
    push.receipt.resolve_as(&outcome);
}

/// The handler's attempt; a panic in it ends this message with reason `internal`, and nothing else.
async fn attempt(handler: &dyn MessageHandler, push: &Push, gate: &dyn Gate) -> Attempt {
    let attempt = AssertUnwindSafe(handler.handle(&push.message, push.attempts, gate)).catch_unwind();
    attempt.await.unwrap_or_else(|_| {
        let place = format!("{:?}", push.message);
        tracing::error!(alarm = true, app = %push.message.origin.app, reason = "internal", place, "a handler panicked; the message is failed");
        let description = "a bug in this program ended the attempt; the error log names the place";
        let refusal = Refusal {
            source: Source::Local,
            ..Refusal::local(Class::Message, "internal", "Internal", description)
        };
        Attempt::local(Verdict::Resolved(Outcome::Failed(refusal)))
    })
}

/// Statistics of one attempt, true as of now.
fn note(push: &mut Push, attempt: &Attempt, handler: &dyn MessageHandler, desk: &Desk) {
    let duplicate = push.attempted(attempt);
    let origin = &push.message.origin;
    push.receipt.lane().attempted(&push.message, attempt, duplicate);
    if attempt.requests == 0 {
        return;
    }
    let stats = desk.reporters.stats();
    let tags = [("platform", origin.platform.0), ("game", &*origin.app)];
    stats.count(Metric::Attempts, &tags, attempt.requests.into());
    if duplicate {
        stats.count(Metric::PossibleDuplicates, &tags, 1);
    }
    stats.latency(origin, handler.client(), attempt.round_trip);
    if let Some(metric) = handler.own_latency().and_then(Metric::named) {
        stats.time(metric, &[("game", &*origin.app)], attempt.round_trip);
    }
    if !push.sent {
        push.sent = true;
        stats.sent(origin);
    }
}

/// An expiry tells why the attempts before it failed.
fn with_history(outcome: Outcome, last: Option<&Refusal>) -> Outcome {
    match outcome {
        Outcome::Expired(None) => Outcome::Expired(last.cloned().map(Box::new)),
        other => other,
    }
}

/// Tells everybody who must know. Completes when the outcome is safe: only then may the offset move.
async fn report(push: &Push, outcome: &Outcome, handler: &dyn MessageHandler, desk: &Desk) {
    let (message, origin) = (&push.message, &push.message.origin);
    let lane = push.receipt.lane();
    settle(push, outcome, desk);
    match outcome.key() {
        None => desk.reporters.stats().success(origin),
        Some(reason) => desk.reporters.stats().failure(origin, reason),
    }
    if let Outcome::Expired(_) = outcome {
        desk.reporters.stats().count(Metric::Expired, &[("platform", origin.platform.0), ("game", &*origin.app)], 1);
    }
    if push.sent {
        desk.reporters.observe(origin, outcome.invalid_token().is_some());
    }
    let wants_feedback = desk.feedback.success || !matches!(outcome, Outcome::Delivered(_));
    if wants_feedback {
        push.receipt.set_reporting(); // from here on it may wait for a broker
    }
    let kept = async {
        if let Outcome::Failed(why) = outcome {
            let fate = desk.reporters.dead_letter(&dead_letter(push, why)).await;
            lane.dead_letter(fate == Some(FeedbackFate::Acknowledged));
        }
    };
    if wants_feedback && desk.reporters.wants_feedback() {
        let record = Record { message, outcome, handler, metadata: desk.feedback.metadata };
        let deletion = async {
            if let Some(token) = outcome.invalid_token() {
                desk.reporters.invalid_token(origin, token).await;
            }
        };
        let (fate, (), ()) = tokio::join!(desk.reporters.feedback(origin, &record), deletion, kept);
        lane.feedback(fate == FeedbackFate::Acknowledged);
    } else {
        if let Some(token) = outcome.invalid_token() {
            desk.reporters.invalid_token(origin, token).await;
        }
        kept.await;
    }
}

/// What is kept of a message that was given up.
fn dead_letter<'a>(push: &'a Push, why: &'a Refusal) -> DeadLetter<'a> {
    let last = push.mark.as_ref().map_or(push.message.lent_at, |mark| mark.began);
    let wall = |moment: Instant| SystemTime::now().checked_sub(moment.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    DeadLetter {
        message: &push.message,
        reason: why.key,
        description: &why.description,
        status: why.status,
        attempts: push.attempts,
        first_attempt: wall(push.message.lent_at),
        last_attempt: wall(last),
    }
}

/// Which feedback is written.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackSwitches {
    /// For deliveries too (`feedback.success`).
    pub success: bool,
    /// With the producer's metadata (`feedback.metadata`).
    pub metadata: bool,
}

struct Record<'a> {
    message: &'a QueueMessage,
    outcome: &'a Outcome,
    handler: &'a dyn MessageHandler,
    metadata: bool,
}

impl RecordSource for Record<'_> {
    /// A panic in the provider's code would drop the receipt of a message that has been sent, and send it again for ever:
    /// the record then names the message and its reason, and nothing else.
    fn record(&self, truncated: bool) -> Vec<u8> {
        let form = RecordForm { metadata: self.metadata, truncated };
        catch_unwind(AssertUnwindSafe(|| self.handler.feedback(self.message, self.outcome, form))).unwrap_or_else(|_| {
            let place = format!("{:?}", self.message);
            tracing::error!(alarm = true, app = %self.message.origin.app, reason = "internal", place, "a handler panicked over a feedback record; a bare one is written");
            let metadata = serde_json::json!({ "pusherId": self.message.identity() });
            serde_json::json!({ "Reason": self.outcome.key(), "truncated": true, "metadata": metadata }).to_string().into_bytes()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt::Write as _;
    use std::time::Duration;

    use parking_lot::Mutex;
    use tokio::sync::mpsc;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;
    use crate::config::Config;
    use crate::handlers::BoxFuture;
    use crate::handlers::breaker::Settings;
    use crate::handlers::retry::{Policy, ShareSettings};
    use crate::message::{Lane, Origin, Platform};
    use crate::outcome::Acceptance;
    use crate::queue::memory::{MemoryLog, MemoryQueue};
    use crate::queue::{InFlight, Queue as _};
    use crate::reporters::Reporters;
    use crate::reporters::stats::Stats;
    use crate::spread::Load;

    const APNS: Platform = Platform("apns");

    /// The one message of a log, and its queue, which must live as long as the message is to be ours.
    fn one(log: &MemoryLog, in_flight: &Arc<InFlight>) -> (Push, MemoryQueue) {
        let (mut queue, mut lent) = (log.queue(in_flight), Vec::new());
        queue.lend(Duration::ZERO, &mut lent).expect("a message");
        (Push::from(lent.remove(0)), queue)
    }

    fn log() -> MemoryLog {
        let origin = Origin { topic: "t".into(), partition: 0, app: "game".into(), platform: APNS, lane: Lane::Single };
        let log = MemoryLog::new([origin]);
        log.push(0, "push");
        log
    }

    /// The failpoint: a handler with a bug.
    struct Panics;

    impl MessageHandler for Panics {
        fn handle<'a>(&'a self, _: &'a QueueMessage, _: u32, _: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
            Box::pin(async { panic!("on purpose") })
        }
        fn feedback(&self, _: &QueueMessage, _: &Outcome, _: RecordForm) -> Vec<u8> {
            Vec::new()
        }
        fn expires_at_ms(&self, _: &QueueMessage) -> Option<i64> {
            None
        }
        fn client(&self) -> &'static str {
            "panics"
        }
    }

    /// Remembers the events that are alarms, as text.
    #[derive(Clone, Default)]
    struct Alarms(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Alarms {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut text = String::new();
            event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                let _ = write!(text, "{field}={value:?} "); // a text takes everything
            });
            if text.contains("alarm=true") {
                self.0.lock().push(text);
            }
        }
    }

    #[test]
    fn a_panic_in_a_handler_is_one_failed_message_and_one_alarm() {
        let (log, in_flight) = (log(), InFlight::new(10, 100));
        let (push, mut queue) = one(&log, &in_flight);
        let breaker = Settings::from_config(&Config::default(), Duration::from_secs(1)).expect("defaults");
        let circuit = Circuit::new(
            "game".into(),
            APNS,
            in_flight.share("game"),
            breaker,
            ShareSettings::default(),
            Stats::default(),
        );
        let tools = AppTools { handler: Arc::new(Panics), load: Load::default(), circuit: Arc::new(circuit) };
        let (waiting_room, _waiters) = mpsc::channel(1);
        let switches = FeedbackSwitches { success: false, metadata: true };
        let apps = HashMap::from([("game".into(), tools)]);
        let desk = Desk::new(apps, Arc::new(Reporters::default()), switches, Policy::default(), waiting_room);
        let alarms = Alarms::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(alarms.clone()), || {
            runtime.block_on(deliver(push, Arc::new(desk)));
        });
        let told = alarms.0.lock().clone();
        let [alarm] = told.as_slice() else { panic!("{told:?}") };
        assert!(
            alarm.contains(r#"reason="internal""#)
                && alarm.contains("t/0/0")
                && alarm.contains("the message is failed"),
            "{alarm}"
        );
        queue.lend(Duration::ZERO, &mut Vec::new()).expect("a queue that goes on");
        let totals = in_flight.tally().totals();
        assert_eq!(
            (totals.failed, totals.reasons["internal"], log.committed(0).offset),
            (1, 1, 1),
            "resolved: it does not come again"
        );
    }

    #[test]
    fn a_lost_answer_makes_every_later_request_a_possible_duplicate() {
        let (mut push, _queue) = one(&log(), &InFlight::new(1, 100));
        let retry = |maybe| Attempt::local(Verdict::Retry(Refusal::network("key", "Reason", "", maybe)));
        let accepted = Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None }));
        let attempts = [retry(false), retry(true), retry(false), retry(false), Attempt::local(accepted)];
        assert_eq!(attempts.map(|attempt| push.attempted(&attempt)), [false, false, true, true, true]);
        assert_eq!(push.attempts, 5);
        push.receipt.resolve();
    }
}
