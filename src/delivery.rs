//! One message's life, top to bottom.
//!
//! lent → attempt → *resolved*: reported (statistics at once, feedback until the broker acknowledged it, a dead token until
//! it is deleted or deferred) → receipt resolved → the offset may move.
//!        └─────→ *retry* or *hold*: into the waiting room with the same receipt; holds no task and no stream there. From
//!                there to the next attempt, or, when it was charged all that its budget holds, *failed*: a dead letter.
//!        └─────→ its job is stopped by order, before an attempt or between two: resolved as *cancelled*.
//!        └─────→ *released*, or its app is paused: given back unresolved; whoever owns the partition sends it later.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use crate::circuit::{Circuit, Mark, Pass};
use crate::desk::{AppTools, Desk};
use crate::gate::{Admitted, DeliveryGate};
use crate::handlers::retry::{Budget, wish};
use crate::handlers::{Gate, MessageHandler};
use crate::jobs::Job;
use crate::line::Begun;
use crate::message::QueueMessage;
use crate::outcome::{Attempt, Class, Outcome, Refusal, Source, Verdict};
use crate::queue::{Lent, Receipt};
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::Metric;

mod finish;
mod report;

use finish::{Report, finish};

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
    /// Its job, when it names one.
    pub job: Option<Arc<Job>>,
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
            job: None,
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

    /// Where its app stood when the last attempt began.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Whether its last attempt failed for what fails every message of its app: the provider, the way to it, our credentials.
    pub fn failed_with_all(&self) -> bool {
        let of_all = |last: &Refusal| matches!(last.source, Source::Network | Source::Project);
        self.last.as_ref().is_some_and(|last| of_all(last) || last.class == Class::Configuration)
    }

    /// Its last attempt is not charged.
    pub fn excuse(&mut self) {
        self.judged = true;
    }

    /// Charges it for its last attempt, once, if others of its app succeeded since that began: an outage is not its fault. Nor is
    /// the time for which the provider asked. Whether it was charged now.
    pub fn charge(&mut self, circuit: &Circuit, now: Instant) -> bool {
        let (false, Some(mark), Some(last)) = (std::mem::replace(&mut self.judged, true), &self.mark, &self.last)
        else {
            return false;
        };
        let is_charged = circuit.others_succeeded(mark, last);
        if is_charged {
            self.spent.charge(now.saturating_duration_since(mark.began).saturating_sub(wish(last)));
        }
        is_charged
    }

    /// Whether it has waited as long as the provider asked after its last attempt.
    pub fn is_rested(&self, now: Instant) -> bool {
        let asked_for = self.last.as_deref().map_or(Duration::ZERO, wish);
        self.mark.as_ref().is_none_or(|mark| now.saturating_duration_since(mark.began) >= asked_for)
    }
}

/// A message's first attempt and what follows from it. Runs as the message's task on a sender's runtime.
pub fn deliver(mut push: Push, begun: Begun, desk: Arc<Desk>) -> impl Future<Output = ()> + Send {
    push.job = desk.job_of(&push.message);
    attempt_once(push, begun, None, desk)
}

/// A later attempt, for which there is leave already.
pub fn deliver_again(push: Push, begun: Begun, pass: Pass, desk: Arc<Desk>) -> impl Future<Output = ()> + Send {
    attempt_once(push, begun, Some(pass), desk)
}

/// There are thousands of these at a time, so what is not needed while the handler works is not in them.
#[expect(clippy::manual_async_fn, reason = "an async function keeps its arguments twice")]
fn attempt_once(mut push: Push, begun: Begun, pass: Option<Pass>, desk: Arc<Desk>) -> impl Future<Output = ()> + Send {
    async move {
        let Some(tools) = desk.app(&push.message.origin.app) else {
            // The queue lends only configured apps; a missing handler is a wiring bug and must not lose the message.
            tracing::error!(alarm = true, app = %push.message.origin.app, "no handler for a configured app");
            return desk.give_back(push);
        };
        if pass.is_none() && desk.is_cancelled(&push) {
            drop(begun);
            if let Some(report) = finish(push, Outcome::cancelled(), &tools.handler, &desk) {
                report.await;
            }
            return;
        }
        let Some(pass) = pass.or_else(|| tools.circuit.admit()) else { return desk.give_back(push) };
        (push.mark, push.judged) = (Some(tools.circuit.mark()), false);
        let gate = DeliveryGate::new(&push, &desk, &tools.circuit, pass, &begun);
        let attempt = attempt(tools.handler.as_ref(), &push, &gate).await;
        push.admitted = gate.admitted().or(push.admitted);
        // A borrow of the attempt would give it a place of its own in this future. To one that expired no answer came.
        let answered = match attempt.verdict {
            Verdict::Resolved(Outcome::Expired(_)) => None,
            Verdict::Resolved(_) => Some(attempt.round_trip),
            _ => None,
        };
        begun.ended(attempt.requests, answered);
        drop(begun);
        if let Some(report) = end(push, attempt, pass, tools, &desk) {
            report.await;
        }
    }
}

/// What follows from an attempt; what of it must be waited for.
fn end(mut push: Push, attempt: Attempt, pass: Pass, tools: &AppTools, desk: &Arc<Desk>) -> Option<Report> {
    let AppTools { handler, circuit, .. } = tools;
    circuit.ended(pass, &attempt);
    note(&mut push, &attempt, handler.as_ref(), desk);
    let held = matches!(attempt.verdict, Verdict::Hold(_));
    match attempt.verdict {
        Verdict::Resolved(outcome) => {
            let outcome = with_history(outcome, push.last.as_deref());
            return finish(push, outcome, handler, desk);
        }
        Verdict::Retry(_) | Verdict::Hold(_) | Verdict::Released if desk.is_cancelled(&push) => {
            return finish(push, Outcome::cancelled(), handler, desk);
        }
        // Its app was paused meanwhile: the backlog is Kafka's to keep. A probe waits here, so that the next one is another.
        Verdict::Retry(_) | Verdict::Hold(_) if !circuit.still(pass) => desk.give_back(push),
        Verdict::Retry(why) | Verdict::Hold(why) => desk.wait(push, why, handler.as_ref(), held),
        Verdict::Released => desk.give_back(push),
    }
    None
}

/// The end of a message whose budget is spent: the provider takes others, and not this one.
pub async fn give_up(push: Push, desk: Arc<Desk>) {
    let Some(tools) = desk.app(&push.message.origin.app) else { return desk.give_back(push) };
    let Some(last) = &push.last else { return desk.give_back(push) };
    let description = format!(
        "given up after {} attempts that failed while others passed; the last: {}",
        push.spent.attempts, last.description
    );
    let outcome = Outcome::Failed(Refusal { description: description.into(), ..Refusal::clone(last) });
    if let Some(report) = finish(push, outcome, &tools.handler, &desk) {
        report.await;
    }
}

/// The end of a message whose job is stopped.
pub async fn cancel(push: Push, desk: Arc<Desk>) {
    let Some(tools) = desk.app(&push.message.origin.app) else { return desk.give_back(push) };
    if let Some(report) = finish(push, Outcome::cancelled(), &tools.handler, &desk) {
        report.await;
    }
}

/// The handler's attempt; a panic in it ends this message with reason `internal`, and nothing else.
async fn attempt(handler: &dyn MessageHandler, push: &Push, gate: &dyn Gate) -> Attempt {
    let attempt = async { handler.handle(&push.message, push.attempts, gate).await };
    AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
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

/// Which feedback is written.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackSwitches {
    /// For deliveries too (`feedback.success`).
    pub success: bool,
    /// With the producer's metadata (`feedback.metadata`).
    pub metadata: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use parking_lot::Mutex;
    use tokio::sync::mpsc;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;
    use crate::config::Config;
    use crate::desk::{Next, Waiting};
    use crate::handlers::breaker::Settings;
    use crate::handlers::retry::{Policy, ShareSettings};
    use crate::handlers::{BoxFuture, RecordForm};
    use crate::line::{Ahead, Tools, Turns};
    use crate::message::{Lane, Origin, Platform};
    use crate::outcome::Acceptance;
    use crate::queue::memory::{MemoryLog, MemoryQueue};
    use crate::queue::{InFlight, Queue as _};
    use crate::reporters::Reporters;
    use crate::reporters::stats::Stats;

    const APNS: Platform = Platform("apns");

    fn ahead() -> Ahead {
        Ahead::new(&Turns::default(), Tools::default())
    }

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
        fn metadata<'a>(&self, _: &'a QueueMessage) -> Option<&'a str> {
            panic!("on purpose")
        }
        fn expires_at_ms(&self, _: &QueueMessage) -> Option<i64> {
            None
        }
        fn client(&self) -> &'static str {
            "panics"
        }
    }

    /// Takes nothing, for this reason.
    struct Refuses(Refusal);

    impl MessageHandler for Refuses {
        fn handle<'a>(&'a self, _: &'a QueueMessage, _: u32, _: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
            Box::pin(async { Attempt::local(Verdict::Hold(self.0.clone())) })
        }
        fn feedback(&self, _: &QueueMessage, _: &Outcome, _: RecordForm) -> Vec<u8> {
            Vec::new()
        }
        fn metadata<'a>(&self, _: &'a QueueMessage) -> Option<&'a str> {
            None
        }
        fn expires_at_ms(&self, _: &QueueMessage) -> Option<i64> {
            None
        }
        fn client(&self) -> &'static str {
            "refuses"
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

    /// A desk for the one app of the log.
    fn desk_of(handler: impl MessageHandler + 'static, in_flight: &Arc<InFlight>) -> Desk {
        desk_and_room(handler, in_flight).0
    }

    /// The same, and where its messages wait.
    fn desk_and_room(
        handler: impl MessageHandler + 'static,
        in_flight: &Arc<InFlight>,
    ) -> (Desk, mpsc::Receiver<Waiting>) {
        let breaker = Settings::from_config(&Config::default(), Duration::from_secs(1)).expect("defaults");
        let share = in_flight.share("game");
        let circuit = Circuit::new("game".into(), APNS, share, breaker, ShareSettings::default(), Stats::default());
        let tools = AppTools { handler: Arc::new(handler), ahead: ahead(), circuit: Arc::new(circuit) };
        let (waiting_room, waiting) = mpsc::channel(1);
        let switches = FeedbackSwitches { success: false, metadata: true };
        let (apps, reporters) = (BTreeMap::from([("game".into(), tools)]), Arc::new(Reporters::default()));
        (Desk::new(apps, reporters, switches, Policy::default(), waiting_room), waiting)
    }

    #[test]
    fn a_panic_in_a_handler_is_one_failed_message_and_one_alarm() {
        let (log, in_flight) = (log(), InFlight::new(10, 100));
        let (push, mut queue) = one(&log, &in_flight);
        let desk = desk_of(Panics, &in_flight);
        let alarms = Alarms::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(alarms.clone()), || {
            runtime.block_on(deliver(push, ahead().enter(), Arc::new(desk)));
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

    /// A message that was a probe while `refusal` failed its app, and what becomes of it when the app is found to be well or, if
    /// it `is_alone`, when nobody is there to find out.
    fn after_an_outage(refusal: &Refusal, is_alone: bool) -> Next {
        let (log, in_flight) = (log(), InFlight::new(100, 1_000));
        let (push, _queue) = one(&log, &in_flight);
        let (desk, mut room) = desk_and_room(Refuses(refusal.clone()), &in_flight);
        let (desk, runtime) =
            (Arc::new(desk), tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
        let circuit = &desk.app("game").expect("configured").circuit;
        for _ in 0..20 {
            let pass = circuit.admit().expect("all is well");
            let why = Refusal { source: Source::Project, ..refusal.clone() };
            circuit.ended(pass, &Attempt::local(Verdict::Hold(why)));
        }
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        circuit.tick(begun + 2 * second);
        circuit.tick(begun + 5 * second);
        assert!(circuit.is_open());
        runtime.block_on(deliver(push, ahead().enter(), desk.clone()));
        let Waiting { push, .. } = room.try_recv().expect("a probe that failed");
        // Its own pause is long, and what the provider asked for is over.
        let (waiting, later) = (Waiting { push, until: begun + 3_600 * second }, begun + 600 * second);
        let Next::Wait(waiting) = desk.look_at(waiting, later) else { panic!("the app is paused") };
        circuit.tick(later);
        let Next::Wait(waiting) = desk.look_at(waiting, later) else { panic!("a new one goes first") };
        if is_alone {
            return desk.look_at(waiting, later + second);
        }
        let probe = circuit.admit().expect("the next one");
        let accepted = Outcome::Delivered(Acceptance { status: 200, provider_id: None });
        circuit.ended(probe, &Attempt::local(Verdict::Resolved(accepted)));
        desk.look_at(waiting, later)
    }

    #[test]
    fn who_failed_with_all_goes_again_as_soon_as_the_provider_is_well_and_is_not_charged() {
        let minute = Some(Duration::from_mins(1));
        let of = |class, source| Refusal { source, retry_after: minute, ..Refusal::local(class, "key", "Reason", "") };
        for class in [Class::Configuration, Class::Provider] {
            let next = after_an_outage(&of(class, Source::Project), false);
            let Next::Attempt(push, Pass::Ordinary(1)) = next else { panic!("{class:?}: {next:?}") };
            assert_eq!(push.spent, Budget::default(), "an outage is nobody's fault");
            push.receipt.resolve();
            let next = after_an_outage(&of(class, Source::Project), true);
            let Next::Attempt(push, Pass::Probe(1)) = next else { panic!("no other push is there: {next:?}") };
            push.receipt.resolve();
        }
        for is_alone in [false, true] {
            let next = after_an_outage(&of(Class::Provider, Source::Device), is_alone);
            let Next::Wait(waiting) = next else { panic!("what its device asked for is still so: {next:?}") };
            waiting.push.receipt.resolve();
        }
    }

    /// A push whose attempt was refused like this a moment ago, when others passed, and the budget that it has then.
    fn charged(push: &mut Push, circuit: &Circuit, refusal: Refusal, waited: Duration) -> bool {
        (push.mark, push.judged) = (Some(circuit.mark()), false);
        let pass = circuit.admit().expect("all is well");
        circuit.ended(pass, &Attempt::local(Verdict::Retry(refusal.clone())));
        let accepted = Outcome::Delivered(Acceptance { status: 200, provider_id: None });
        circuit.ended(pass, &Attempt::local(Verdict::Resolved(accepted)));
        push.last = Some(Box::new(refusal));
        push.charge(circuit, Instant::now() + waited)
    }

    #[test]
    fn the_providers_wish_is_nobodys_time() {
        let in_flight = InFlight::new(1, 100);
        let ((mut push, _queue), desk) = (one(&log(), &in_flight), desk_of(Panics, &in_flight));
        let (hour, circuit) = (Duration::from_hours(1), &desk.app("game").expect("configured").circuit);
        let limited = |retry_after| Refusal {
            source: Source::Device,
            retry_after,
            ..Refusal::local(Class::Provider, "key", "Reason", "")
        };
        assert!(charged(&mut push, circuit, limited(Some(hour)), hour));
        assert_eq!((push.spent.attempts, push.spent.time.as_secs()), (1, 0));
        assert!(charged(&mut push, circuit, limited(None), hour));
        assert_eq!((push.spent.attempts, push.spent.time.as_secs()), (2, 3_600));
        assert!(!push.charge(circuit, Instant::now()), "once for each attempt");
        push.receipt.resolve();
    }

    #[test]
    fn nobody_is_given_up_for_an_attempt_that_is_not_charged() {
        let in_flight = InFlight::new(1, 100);
        let ((mut push, _queue), desk) = (one(&log(), &in_flight), desk_of(Panics, &in_flight));
        let circuit = &desk.app("game").expect("configured").circuit;
        let of = |class, source| Refusal { source, ..Refusal::local(class, "key", "Reason", "") };
        for _ in 0..12 {
            assert!(charged(&mut push, circuit, of(Class::Provider, Source::Network), Duration::ZERO));
        }
        // Refused with all others: the budget of such refusals is smaller than what was charged.
        let held = of(Class::Configuration, Source::Project);
        assert!(Policy::default().is_spent(push.spent, &held));
        (push.mark, push.judged, push.last) = (Some(circuit.mark()), false, Some(Box::new(held.clone())));
        circuit.ended(circuit.admit().expect("all is well"), &Attempt::local(Verdict::Hold(held.clone())));
        let now = Instant::now();
        let Next::Attempt(mut push, _) = desk.look_at(Waiting { push, until: now }, now) else { panic!("given up") };
        assert!(charged(&mut push, circuit, held, Duration::ZERO));
        push.judged = false;
        let Next::GiveUp(push) = desk.look_at(Waiting { push, until: now }, now) else { panic!("others passed") };
        push.receipt.resolve();
    }

    /// One for each push in flight; see the handlers' test of the same.
    #[test]
    fn a_delivery_under_way_is_small() {
        let in_flight = InFlight::new(1, 100);
        let (push, _queue) = one(&log(), &in_flight);
        let delivery = deliver(push, ahead().enter(), Arc::new(desk_of(Panics, &in_flight)));
        let size = size_of_val(&delivery);
        drop(delivery); // an alarm in the log: its message ends without an outcome
        assert!(size <= 640, "{size} bytes");
    }

    #[test]
    fn a_lost_answer_makes_every_later_request_a_possible_duplicate() {
        let (mut push, _queue) = one(&log(), &InFlight::new(1, 100));
        let retry = |maybe| Attempt::local(Verdict::Retry(Refusal::network("key", "Reason", "", maybe)));
        let accepted = Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None }));
        let attempts = [retry(false), retry(true), retry(false), retry(false), Attempt::local(accepted)];
        assert_eq!(attempts.map(|attempt| push.attempted(&attempt)), [false, false, true, true, true]);
        assert_eq!(push.attempts, 5);
        assert!(!format!("{push:?}").is_empty(), "and its words come to an end");
        push.receipt.resolve();
    }
}
