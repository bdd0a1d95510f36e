//! Dispatch, senders, delivery and desk on the queue in memory, with a handler that does as it is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pusher::circuit::Circuit;
use pusher::config::Config;
use pusher::delivery::FeedbackSwitches;
use pusher::desk::{AppTools, Desk};
use pusher::dispatch::{self, Ended};
use pusher::handlers::breaker;
use pusher::handlers::retry::{Policy, ShareSettings};
use pusher::handlers::{BoxFuture, Gate, MessageHandler, RecordForm};
use pusher::line::{Ahead, Tools, Turns};
use pusher::message::{Lane, Origin, Platform, QueueMessage};
use pusher::outcome::{Acceptance, Attempt, Class, Outcome, Refusal, Source, Verdict};
use pusher::queue::memory::MemoryLog;
use pusher::queue::{InFlight, Queue as _};
use pusher::reporters::stats::Stats;
use pusher::reporters::{
    Backlog, DeadLetter, DeadLetterReporter, FeedbackFate, FeedbackReporter, Owed, Post, RecordSource, Reporters,
};
use pusher::sender::SenderHandle;
use pusher::shutdown::Shutdown;
use pusher::spread::{Load, Spread};
use pusher::tally::{Tally, Totals};
use tokio::sync::Notify;

use crate::support::eventually;

const LONG: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(10);
const POLICY: Policy = Policy { first: Some(Duration::from_millis(40)), attempts: None, time: None };

/// A door that tasks wait at until it is opened.
#[derive(Default)]
struct Door {
    open: AtomicBool,
    opened: Notify,
}

impl Door {
    fn open(&self) {
        self.open.store(true, SeqCst);
        self.opened.notify_waiters();
    }

    async fn pass(&self) {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        opened.as_mut().enable();
        if !self.open.load(SeqCst) {
            opened.await;
        }
    }
}

/// Does what the payload says.
#[derive(Default)]
struct Script {
    attempts: Mutex<HashMap<i64, u32>>,
    door: Door,
    on_stream: AtomicUsize,
    outage: AtomicBool,
    /// Blocks the thread, which a handler must not do.
    block: Mutex<()>,
}

fn refusal(class: Class, key: &'static str) -> Refusal {
    Refusal { source: Source::Network, ..Refusal::local(class, key, "Scripted", "") }
}

fn sent(verdict: Verdict) -> Attempt {
    Attempt { verdict, requests: 1, round_trip: Duration::from_micros(10) }
}

fn delivered() -> Verdict {
    Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None }))
}

impl MessageHandler for Script {
    fn handle<'a>(&'a self, message: &'a QueueMessage, attempt: u32, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            *self.attempts.lock().entry(message.offset).or_default() += 1;
            if !gate.pass() {
                return Attempt::local(Verdict::Released);
            }
            sent(match &message.payload[..] {
                b"retry twice" if attempt < 2 => Verdict::Retry(refusal(Class::Provider, "again")),
                b"retry for ever" => Verdict::Retry(refusal(Class::Provider, "again")),
                b"while it lasts" if self.outage.load(SeqCst) => Verdict::Retry(refusal(Class::Provider, "outage")),
                b"hold" => Verdict::Hold(refusal(Class::Configuration, "held")),
                b"reject" | b"feedback panic" => Verdict::Resolved(Outcome::Rejected(refusal(Class::Message, "no"))),
                b"expire" if attempt == 0 => Verdict::Retry(refusal(Class::Provider, "again")),
                b"expire" => Verdict::Resolved(Outcome::Expired(None)),
                b"panic" => panic!("on purpose"),
                b"block" => {
                    drop(self.block.lock());
                    delivered()
                }
                b"slow" => {
                    self.on_stream.fetch_add(1, SeqCst);
                    self.door.pass().await;
                    delivered()
                }
                _ => delivered(),
            })
        })
    }

    fn feedback(&self, message: &QueueMessage, outcome: &Outcome, _: RecordForm) -> Vec<u8> {
        assert_ne!(&message.payload[..], b"feedback panic", "on purpose");
        let history = matches!(outcome, Outcome::Expired(Some(_)));
        format!("{} {} {history}", message.offset, outcome.key().unwrap_or("delivered")).into_bytes()
    }

    fn metadata<'a>(&self, _: &'a QueueMessage) -> Option<&'a str> {
        None
    }

    fn expires_at_ms(&self, message: &QueueMessage) -> Option<i64> {
        assert_ne!(&message.payload[..], b"hold", "on purpose: a message without a readable expiry waits all the same");
        (&message.payload[..] == b"expire").then_some(0)
    }

    fn client(&self) -> &'static str {
        "script"
    }
}

/// Feedback and dead letters that wait at a door.
#[derive(Default)]
struct Records {
    door: Door,
    waiting: AtomicUsize,
    written: Mutex<Vec<String>>,
    letters: Mutex<Vec<String>>,
    /// Whether records may be posted; they are kept until the test tells their ends.
    takes_posts: AtomicBool,
    posted: Mutex<Vec<Box<dyn Owed>>>,
}

impl Records {
    /// What was posted, when there is something.
    fn take_posted(&self) -> Option<Box<dyn Owed>> {
        self.posted.lock().pop()
    }
}

impl Post for Records {
    fn post(&self, owed: Box<dyn Owed>) {
        self.posted.lock().push(owed);
    }
}

#[async_trait]
impl FeedbackReporter for Records {
    fn post(&self) -> Option<&dyn Post> {
        self.takes_posts.load(SeqCst).then_some(self)
    }

    async fn send_feedback(&self, _: &Origin, record: &dyn RecordSource) -> FeedbackFate {
        self.waiting.fetch_add(1, SeqCst);
        self.door.pass().await;
        self.written.lock().push(String::from_utf8(record.record(false)).expect("text"));
        FeedbackFate::Acknowledged
    }
    async fn flush(&self, _: Duration) -> bool {
        true
    }
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}

#[async_trait]
impl DeadLetterReporter for Records {
    async fn send_dead_letter(&self, letter: &DeadLetter<'_>) -> FeedbackFate {
        self.door.pass().await;
        let DeadLetter { message, reason, attempts, .. } = letter;
        self.letters.lock().push(format!("{} {reason} {attempts}", message.offset));
        FeedbackFate::Acknowledged
    }
    async fn flush(&self, _: Duration) -> bool {
        true
    }
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }
}

#[expect(clippy::too_many_arguments, reason = "a sender is what joins them all")]
fn sender(
    index: usize,
    capacity: usize,
    shutdown: &Shutdown,
    script: &Arc<Script>,
    reporters: &Arc<Reporters>,
    load: Load,
    circuit: &Arc<Circuit>,
    policy: Policy,
) -> SenderHandle {
    let (script, reporters, circuit) = (script.clone(), reporters.clone(), circuit.clone());
    let desk = move |waiting_room, turns: &Turns| {
        let ahead = Ahead::new(turns, Tools { load, ..Tools::default() });
        let apps = BTreeMap::from([("game".into(), AppTools { handler: script, ahead, circuit })]);
        Desk::new(apps, reporters, FeedbackSwitches { success: false, metadata: true }, policy, waiting_room)
    };
    SenderHandle::start(&format!("send-{index}"), capacity, shutdown, desk).expect("a thread")
}

/// The app's way to its provider. Its breaker stays closed: nobody lets it look at the clock.
fn circuit(in_flight: &Arc<InFlight>) -> Arc<Circuit> {
    let breaker =
        breaker::Settings::from_config(&Config::default(), Duration::from_secs(1)).expect("every key has a default");
    let (share, stats) = (in_flight.share("game"), Stats::default());
    Arc::new(Circuit::new("game".into(), Platform("apns"), share, breaker, ShareSettings::default(), stats))
}

/// The middle of a worker: everything between the queue and the provider.
struct Middle {
    log: MemoryLog,
    in_flight: Arc<InFlight>,
    tally: Arc<Tally>,
    script: Arc<Script>,
    records: Arc<Records>,
    circuit: Arc<Circuit>,
    shutdown: Shutdown,
    poll: std::thread::JoinHandle<Ended>,
}

fn log() -> MemoryLog {
    let origin = Origin {
        topic: "push-game_apns".into(),
        partition: 0,
        app: "game".into(),
        platform: Platform("apns"),
        lane: Lane::Single,
    };
    MemoryLog::new([origin])
}

impl Middle {
    /// With feedback that is acknowledged at once.
    fn start(log: &MemoryLog, max_in_flight: usize) -> Middle {
        let middle = Middle::with(log, max_in_flight, GRACE, 2);
        middle.records.door.open();
        middle
    }

    fn with(log: &MemoryLog, max_in_flight: usize, grace: Duration, senders: usize) -> Middle {
        Middle::by(POLICY, log, max_in_flight, grace, senders)
    }

    fn by(policy: Policy, log: &MemoryLog, max_in_flight: usize, grace: Duration, senders: usize) -> Middle {
        let (script, records) = (Arc::new(Script::default()), Arc::new(Records::default()));
        let (in_flight, shutdown) = (InFlight::new(max_in_flight, 1 << 20), Shutdown::default());
        let tally = in_flight.tally().clone();
        let reporters = Reporters::new(Stats::default(), [records.clone() as Arc<dyn FeedbackReporter>], []);
        let reporters = Arc::new(reporters.with_dead_letters([records.clone() as Arc<dyn DeadLetterReporter>]));
        let circuit = circuit(&in_flight);
        let spread = Spread::new([("game".into(), "key".into())], senders, 1, |_, _| 0);
        let start = |index| {
            let load = spread.load("game");
            sender(index, max_in_flight, &shutdown, &script, &reporters, load, &circuit, policy)
        };
        let senders: Vec<_> = (0..senders).map(start).collect();
        let (queue, stopping) = (Box::new(log.queue(&in_flight)), shutdown.clone());
        let poll = std::thread::spawn(move || dispatch::run(queue, &senders, spread, &stopping, grace, || {}, |_| {}));
        Middle { log: log.clone(), in_flight, tally, script, records, circuit, shutdown, poll }
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Totals) -> bool) {
        eventually(what, LONG, || done(&self.tally.totals()).then_some(()));
    }

    #[track_caller]
    fn until_committed(&self, offset: i64) {
        eventually("the commit", LONG, || (self.log.committed(0).offset == offset).then_some(()));
    }

    /// Ends it; what the ledger says then.
    fn stop(self) -> (Totals, bool) {
        self.shutdown.begin("test");
        let ended = self.poll.join().expect("the poll thread");
        assert!(ended.error.is_none(), "{:?}", ended.error);
        if ended.drained {
            assert_eq!((self.in_flight.total().messages, self.in_flight.lost()), (0, 0), "every receipt has ended");
        }
        (self.tally.totals(), ended.drained)
    }
}

#[test]
fn every_kind_of_verdict_comes_to_its_end_once() {
    let log = log();
    for payload in ["deliver", "retry twice", "reject", "expire", "panic", "feedback panic", "deliver"] {
        log.push(0, payload);
    }
    let middle = Middle::start(&log, 100);
    middle.until_committed(7);
    assert_eq!(middle.script.attempts.lock()[&1], 3);
    let mut written = middle.records.written.lock().clone();
    written.sort();
    let bare = written.pop().expect("the record of the panic");
    assert_eq!(
        written,
        ["2 no false", "3 expired true", "4 internal false"],
        "an expiry tells why it was not sent before"
    );
    assert!(bare.contains(r#""Reason":"no""#) && bare.contains("pusherId"), "{bare}");
    let (totals, drained) = middle.stop();
    assert!(drained);
    assert_eq!((totals.lent, totals.delivered, totals.rejected, totals.expired, totals.failed), (7, 3, 2, 1, 1));
    assert_eq!((totals.retries, totals.released, totals.unaccounted(), totals.feedback), (3, 0, 0, 4));
    assert_eq!(totals.dead_letters, 1, "the panic's message is kept");
    assert_eq!(log.committed(0).metadata, "");
}

/// What is posted is nobody's task: its end is told on this thread.
#[test]
fn what_is_posted_holds_its_offset_until_its_end_is_told() {
    let log = log();
    let middle = Middle::with(&log, 100, GRACE, 2);
    middle.records.takes_posts.store(true, SeqCst);
    for payload in ["reject", "reject", "deliver", "reject"] {
        log.push(0, payload);
    }
    let posted = || middle.records.take_posted();
    let first = eventually("a record", LONG, posted);
    let offset =
        |owed: &dyn Owed| String::from_utf8(owed.record(false)).expect("text")[..1].parse::<i64>().expect("one");
    let (mut open, next) = (vec![offset(&*first)], eventually("another", LONG, posted));
    open.push(offset(&*next));
    middle.until("the delivery beside them", |totals| totals.delivered == 1);
    first.acknowledged();
    middle.until("its end", |totals| (totals.rejected, totals.feedback) == (1, 1));
    assert!(log.committed(0).offset <= open[1], "the other one's is not told");
    next.refused();
    eventually("it is sent again, and waited for", LONG, || (middle.records.waiting.load(SeqCst) == 1).then_some(()));
    assert_eq!(middle.tally.totals().rejected, 1);
    middle.records.door.open();
    middle.until("its end", |totals| (totals.rejected, totals.feedback) == (2, 2));
    let last = eventually("the last", LONG, posted);
    middle.shutdown.begin("the end waits for what is posted");
    assert!(!middle.poll.is_finished());
    std::thread::spawn(|| last.acknowledged()).join().expect("no panic");
    let (totals, drained) = middle.stop();
    assert!(drained, "nothing is left");
    assert_eq!((totals.rejected, totals.feedback, totals.unaccounted()), (3, 3, 0));
    assert_eq!(log.committed(0).offset, 4);
}

/// Nobody else would tell of what is at its end when the time is up: it comes again.
#[test]
fn what_is_posted_and_not_told_before_the_deadline_stays_uncommitted() {
    let log = log();
    let middle = Middle::with(&log, 100, Duration::from_millis(300), 1);
    middle.records.takes_posts.store(true, SeqCst);
    log.push(0, "reject");
    let records = middle.records.clone();
    let posted = eventually("a record", LONG, || records.take_posted());
    let (totals, drained) = middle.stop();
    assert_eq!((drained, totals.rejected, log.committed(0).offset), (false, 0, 0));
    drop(posted);
}

#[test]
fn feedback_that_waits_holds_the_offset_and_nothing_else() {
    let log = log();
    log.push(0, "reject");
    for _ in 0..50 {
        log.push(0, "deliver");
    }
    let middle = Middle::with(&log, 100, GRACE, 2);
    middle.until("deliveries behind it", |totals| totals.delivered == 50);
    eventually("the record", LONG, || (middle.records.waiting.load(SeqCst) == 1).then_some(()));
    eventually("the map", LONG, || log.committed(0).map().filter(|map| map.resolved.iter().eq([&(1..51)])));
    assert_eq!((log.committed(0).offset, middle.tally.totals().rejected), (0, 0), "not before it is acknowledged");
    middle.records.door.open();
    middle.until_committed(51);
    let (totals, _) = middle.stop();
    assert_eq!((totals.rejected, totals.feedback), (1, 1));
}

#[test]
fn held_messages_fill_half_of_the_bounds_and_the_rest_goes_on() {
    let log = log();
    for _ in 0..100 {
        log.push(0, "hold");
    }
    let middle = Middle::start(&log, 20);
    middle.until("a full waiting room", |totals| totals.holds >= 10);
    eventually("waiters", LONG, || (middle.in_flight.usage("game").waiting >= 10).then_some(()));
    let (totals, drained) = middle.stop();
    assert!(drained && totals.lent <= 20, "{totals:?}");
    assert_eq!((totals.released, totals.unaccounted()), (totals.lent, 0), "what waits is given back at once");
    assert_eq!(log.committed(0).offset, 0);
}

#[test]
fn the_end_finishes_what_is_on_a_stream_and_releases_the_rest_at_once() {
    let log = log();
    for payload in ["slow", "retry for ever", "hold", "deliver", "slow"] {
        log.push(0, payload);
    }
    let middle = Middle::start(&log, 100);
    middle.until("waiters", |totals| totals.retries >= 1 && totals.holds == 1 && totals.delivered == 1);
    eventually("two streams", LONG, || (middle.script.on_stream.load(SeqCst) == 2).then_some(()));
    middle.shutdown.begin("test");
    middle.until("releases", |totals| totals.released == 2);
    assert_eq!(middle.tally.totals().delivered, 1, "the streams are still open");
    middle.script.door.open();
    let (totals, drained) = middle.stop();
    assert!(drained);
    assert_eq!((totals.delivered, totals.released, totals.unaccounted()), (3, 2, 0));
    assert_eq!((log.committed(0).offset, log.committed(0).map().expect("a map").resolved.pop()), (1, Some(3..5)));
    let next = Middle::start(&log, 100);
    next.until("what was released", |totals| totals.retries >= 1 && totals.holds == 1);
    assert_eq!(next.stop().0.lent, 2, "and nothing else");
}

#[test]
fn what_is_on_a_stream_at_the_deadline_stays_uncommitted() {
    let log = log();
    log.push(0, "slow");
    log.push(0, "deliver");
    let middle = Middle::with(&log, 100, Duration::from_millis(300), 1);
    eventually("a stream", LONG, || (middle.script.on_stream.load(SeqCst) == 1).then_some(()));
    middle.until("its neighbour", |totals| totals.delivered == 1);
    let script = middle.script.clone();
    let began = Instant::now();
    let (totals, drained) = middle.stop();
    assert!(!drained && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((totals.unaccounted(), log.committed(0).offset), (1, 0));
    script.door.open();
    let next = Middle::start(&log, 100);
    next.script.door.open();
    next.until_committed(2);
    assert_eq!(next.stop().0.lent, 1);
}

#[test]
fn thousands_come_through_small_bounds_and_are_counted_once() {
    let log = log();
    let kinds = ["deliver", "retry twice", "reject", "panic", "expire"];
    for n in 0..5_000 {
        log.push(0, kinds[if n % 100 < 96 { 0 } else { n % 5 }]);
    }
    let middle = Middle::start(&log, 50);
    let mut most = 0;
    eventually("the end of the log", Duration::from_mins(1), || {
        most = most.max(middle.in_flight.total().messages);
        (log.committed(0).offset == 5_000).then_some(())
    });
    assert!(most <= 50, "{most}");
    let (totals, _) = middle.stop();
    assert_eq!((totals.lent, totals.resolved(), totals.unaccounted(), totals.released), (5_000, 5_000, 0, 0));
    assert_eq!((totals.delivered, totals.rejected, totals.failed, totals.expired), (4_850, 50, 50, 50));
}

#[test]
fn an_end_at_any_moment_is_a_clean_end() {
    for round in 0..30 {
        let log = log();
        for n in 0..300 {
            log.push(0, if n % 10 == 0 { "retry for ever" } else { "deliver" });
        }
        let middle = Middle::start(&log, 60);
        middle.until("some", |totals| totals.lent >= round * 5);
        let (totals, drained) = middle.stop();
        assert!(drained);
        assert_eq!((totals.unaccounted(), totals.resolved()), (0, totals.delivered));
        let next = Middle::start(&log, 1_000);
        next.until("all that can be delivered", |next| {
            next.delivered + totals.delivered == 270 && next.lent >= 300 - totals.delivered
        });
        assert_eq!(next.stop().0.lent, 300 - totals.delivered, "nothing is repeated, nothing lost");
    }
}

/// A push that fails for ever while others of its app pass is given up; its offset waits for its dead letter.
#[test]
fn what_fails_while_others_pass_is_given_up_and_kept() {
    let log = log();
    log.push(0, "retry for ever");
    let policy = Policy { first: Some(Duration::from_millis(5)), attempts: Some(3), time: None };
    let middle = Middle::by(policy, &log, 100, GRACE, 2);
    middle.until("more attempts than the budget has", |totals| totals.retries > 6);
    assert_eq!(middle.tally.totals().failed, 0, "alone, it is charged nothing");
    eventually("a message that waits to be kept", LONG, || {
        log.push(0, "deliver");
        (middle.in_flight.usage("game").reporting == 1).then_some(())
    });
    let others = log.end(0) - 1;
    eventually("the map", LONG, || {
        log.committed(0).map().filter(|map| map.resolved.last().is_some_and(|last| last.end > others)).map(|_| ())
    });
    assert_eq!((log.committed(0).offset, middle.tally.totals().failed), (0, 0), "not before it is kept");
    middle.records.door.open();
    middle.until_committed(log.end(0));
    let letters = middle.records.letters.lock().clone();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.starts_with("0 again "), "{letter}");
    assert_eq!(*middle.records.written.lock(), ["0 again false"]);
    let (totals, _) = middle.stop();
    assert_eq!((totals.failed, totals.dead_letters, totals.unaccounted()), (1, 1, 0));
}

/// While an app is paused nothing of it is in memory but the probes that failed; then all of it goes on.
#[test]
fn a_paused_app_leaves_its_backlog_to_the_queue_and_comes_back_by_a_probe() {
    let log = log();
    for _ in 0..300 {
        log.push(0, "while it lasts");
    }
    let middle = Middle::start(&log, 200);
    middle.script.outage.store(true, SeqCst);
    let mut now = Instant::now();
    let mut pass = |ms| {
        now = now.max(Instant::now()) + Duration::from_millis(ms);
        middle.circuit.tick(now);
    };
    middle.until("failures", |totals| totals.retries >= 50);
    eventually("a pause", LONG, || {
        pass(1_000);
        middle.circuit.is_open().then_some(())
    });
    eventually("an empty memory", LONG, || (middle.in_flight.total().messages == 0).then_some(()));
    let released = middle.tally.totals().released;
    assert!(released >= 50, "{released}");
    for probes in 1..=3 {
        pass(5_000);
        let attempts = || middle.script.attempts.lock().values().sum::<u32>();
        let before = attempts();
        eventually("a probe", LONG, || (attempts() > before).then_some(()));
        eventually("its end", LONG, || (middle.in_flight.usage("game").on_way() == 0).then_some(()));
        assert_eq!(attempts(), before + 1, "one at a time");
        assert!(middle.in_flight.total().messages <= probes, "what has probed waits, and nothing else");
    }
    middle.script.outage.store(false, SeqCst);
    pass(5_000);
    eventually("recovery", LONG, || (!middle.circuit.is_open()).then_some(()));
    eventually("all of it", LONG, || {
        pass(1_000);
        (log.committed(0).offset == 300).then_some(())
    });
    // A backlog of 300 may be worked off before the ramp is over.
    eventually("the end of the ramp", LONG, || {
        pass(1_000);
        (middle.circuit.position() == breaker::Position::Closed).then_some(())
    });
    let (totals, _) = middle.stop();
    assert_eq!((totals.delivered, totals.failed, totals.unaccounted()), (300, 0, 0));
}

/// Held messages wait half a minute and more; those of a partition that is gone leave their places to its next epoch.
#[test]
fn what_waits_for_a_partition_that_is_gone_makes_room() {
    let (log, in_flight, shutdown) = (log(), InFlight::new(100, 1 << 20), Shutdown::default());
    for _ in 0..30 {
        log.push(0, "hold");
    }
    let (script, reporters) = (Arc::new(Script::default()), Arc::new(Reporters::default()));
    let sender = sender(0, 100, &shutdown, &script, &reporters, Load::default(), &circuit(&in_flight), POLICY);
    let (mut queue, mut lent) = (log.queue(&in_flight), Vec::new());
    queue.lend(Duration::ZERO, &mut lent).expect("a queue that goes on");
    sender.send(lent).expect("a sender");
    eventually("waiters", LONG, || (in_flight.usage("game").waiting == 30).then_some(()));
    drop(queue);
    eventually("an empty waiting room", Duration::from_secs(8), || (in_flight.total().messages == 0).then_some(()));
    let totals = in_flight.tally().totals();
    assert_eq!((totals.released, totals.unaccounted(), in_flight.lost()), (30, 0, 0));
    sender.stop();
    eventually("the sender's end", LONG, || sender.is_finished().then_some(()));
}

/// A handler that blocks its thread holds all that this sender has: its pulse stops, and the others' do not.
#[test]
fn a_sender_that_stands_still_shows_no_sign_of_life() {
    let (log, in_flight, shutdown) = (log(), InFlight::new(100, 1 << 20), Shutdown::default());
    log.push(0, "block");
    let (script, reporters) = (Arc::new(Script::default()), Arc::new(Reporters::default()));
    let busy = sender(0, 100, &shutdown, &script, &reporters, Load::default(), &circuit(&in_flight), POLICY);
    let idle = sender(1, 100, &shutdown, &script, &reporters, Load::default(), &circuit(&in_flight), POLICY);
    // Within five seconds of the limit of thirty, so that this test need not wait for all of it.
    let silent = |name: &str| {
        let silent = shutdown.pulses().silent(Instant::now() + Duration::from_secs(25));
        silent.iter().any(|silence| silence.name == name)
    };
    let (mut queue, mut lent) = (log.queue(&in_flight), Vec::new());
    let held = script.block.lock();
    queue.lend(Duration::ZERO, &mut lent).expect("a queue that goes on");
    busy.send(lent).expect("a sender");
    eventually("silence", LONG, || silent("send-0").then_some(()));
    eventually("a sign of life of the other", LONG, || (!silent("send-1")).then_some(()));
    assert!(shutdown.pulses().silent(Instant::now() + Duration::from_hours(1)).len() >= 2, "both are watched");
    drop(held);
    eventually("a sign of life", LONG, || (!silent("send-0")).then_some(()));
    [&busy, &idle].into_iter().for_each(SenderHandle::stop);
    eventually("the senders' end", LONG, || (busy.is_finished() && idle.is_finished()).then_some(()));
    assert_eq!(shutdown.pulses().silent(Instant::now() + Duration::from_hours(1)), [], "what has ended is not missed");
}
