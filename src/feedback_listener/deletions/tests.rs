use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::control::Control;
use crate::feedback_listener::ledger::Totals;
use crate::feedback_listener::topic::Apps;
use crate::feedback_listener::valve::Limits;
use crate::message::{Lane, Origin, Platform};
use crate::outcome::InvalidToken;
use crate::queue::memory::{MemoryLog, MemoryQueue};
use crate::queue::{InFlight, Queue as _};
use crate::reporters::invalid_token::Deleter;
use crate::reporters::invalid_token::latch::{Entry, Watcher};
use crate::reporters::stats::Stats;

const APNS: Platform = Platform("apns");

/// How a table answers.
#[derive(Clone, Debug)]
enum Answer {
    Deletes,
    Fails(DeleteError),
    /// One token makes any statement fail.
    Poisoned(&'static str),
    /// Deletes after a while.
    Slow(Duration),
    /// Waits for a lock for as long as a statement may take, which is when the server ends it.
    Locked,
    /// The same for statements with this token.
    LockedRow(&'static str),
}

async fn locked() -> Result<Deleted, DeleteError> {
    sleep(Duration::from_secs(59)).await;
    Err(DeleteError::Conflict("57014".into()))
}

/// Tables in memory.
#[derive(Default)]
struct Fake {
    answers: Mutex<BTreeMap<String, Answer>>,
    statements: Mutex<Vec<(String, Vec<String>)>>,
    rows: Option<u64>,
}

impl Fake {
    fn set(&self, app: &str, answer: Answer) {
        self.answers.lock().insert(app.into(), answer);
    }

    fn deleted(&self, app: &str) -> Vec<String> {
        let statements = self.statements.lock();
        let mut tokens: Vec<_> =
            statements.iter().filter(|(one, _)| one == app).flat_map(|(_, tokens)| tokens.clone()).collect();
        tokens.sort();
        tokens
    }
}

#[async_trait]
impl Deleter for Fake {
    async fn delete(
        &self,
        app: &str,
        _: Platform,
        tokens: &[InvalidToken],
        _: Duration,
    ) -> Result<Deleted, DeleteError> {
        let answer = self.answers.lock().get(app).cloned().unwrap_or(Answer::Deletes);
        match answer {
            Answer::Fails(error) => return Err(error),
            Answer::Poisoned(poison) if tokens.iter().any(|token| token.token == poison) => {
                return Err(DeleteError::Row("test".into()));
            }
            Answer::Slow(time) => sleep(time).await,
            Answer::Locked => return locked().await,
            Answer::LockedRow(row) if tokens.iter().any(|token| token.token == row) => return locked().await,
            Answer::Deletes | Answer::Poisoned(_) | Answer::LockedRow(_) => {}
        }
        self.statements.lock().push((app.into(), tokens.iter().map(|token| token.token.clone()).collect()));
        Ok(Deleted { rows: tokens.len() as u64, nonexistent: 0 })
    }

    async fn rows(&self, _: &str, _: Platform, _: Duration) -> Result<Option<u64>, DeleteError> {
        Ok(self.rows)
    }

    async fn close(&self) {}
}

struct Place {
    log: MemoryLog,
    queue: MemoryQueue,
    fake: Arc<Fake>,
    guards: Arc<Guards>,
    ledger: Arc<Ledger>,
    end: CancellationToken,
    out: Option<mpsc::Sender<Batch>>,
    serving: JoinHandle<()>,
}

const APPS: [&str; 3] = ["a", "b", "c"];
const OFF: Limits = Limits { max_share: 1.0, window: Duration::from_hours(1), min_rows: 0 };

impl Place {
    fn new(fake: Fake, limits: Limits) -> Place {
        Place::with_control(fake, limits, &Control::in_memory())
    }

    fn with_control(fake: Fake, limits: Limits, control: &Control) -> Place {
        let origin = |app: &str| Origin {
            topic: format!("push-{app}-apns-feedbacks").into(),
            partition: 0,
            app: app.into(),
            platform: APNS,
            lane: Lane::Single,
        };
        let log = MemoryLog::new(APPS.map(origin));
        let (in_flight, fake) = (InFlight::new(10_000, 1 << 24), Arc::new(fake));
        let ledger = Arc::new(Ledger::new(in_flight.tally().clone()));
        let queue = log.queue(&in_flight);
        let guards = Arc::new(Guards {
            limits,
            in_flight,
            deleter: fake.clone(),
            control: control.clone(),
            platforms: vec![Apps { platform: APNS, configured: None }],
            hostname: "host".into(),
            process: "host-1".into(),
            stats: Stats::default(),
            by_table: RwLock::default(),
        });
        let end = CancellationToken::new();
        let deletions = Arc::new(Deletions::new(guards.clone(), ledger.clone(), end.clone()));
        let (out, batches) = mpsc::channel(10_000);
        let serving = tokio::spawn(deletions.serve(3, batches));
        tokio::spawn(guards.clone().follow(end.clone()));
        tokio::spawn(guards.clone().ask_again(end.clone()));
        Place { log, queue, fake, guards, ledger, end, out: Some(out), serving }
    }

    /// One batch of these tokens of an app.
    fn batch(&mut self, app: &str, tokens: impl IntoIterator<Item = String>) {
        let partition = APPS.iter().position(|one| *one == app).expect("one of the apps");
        let tokens: Vec<_> = tokens.into_iter().inspect(|token| _ = self.log.push(partition, token.clone())).collect();
        let mut lent = Vec::new();
        while lent.len() < tokens.len() {
            self.queue.lend(Duration::ZERO, &mut lent).expect("a queue that goes on");
        }
        let item = |(lent, token): (crate::queue::Lent, String)| {
            let token = InvalidToken { token, unregistered_at_ms: None };
            Item { token, told_at_ms: lent.message.timestamp_ms, receipt: lent.receipt }
        };
        let items = lent.into_iter().zip(tokens).map(item).collect();
        let batch = Batch { table: (app.into(), APNS), items };
        self.out.as_ref().expect("not ended").try_send(batch).expect("room for a batch");
    }

    fn committed(&mut self, app: &str) -> i64 {
        let partition = APPS.iter().position(|one| *one == app).expect("one of the apps");
        let mut lent = Vec::new();
        self.queue.lend(Duration::ZERO, &mut lent).expect("a queue that goes on");
        for lent in lent {
            lent.receipt.release();
        }
        self.log.committed(partition).offset
    }

    fn is_closed(&self, app: &str) -> bool {
        self.guards.in_flight.share(&format!("{app}_apns")).is_paused()
    }

    /// Ends as the process does, and gives the books.
    async fn end(mut self) -> Totals {
        self.queue.stop();
        self.end.cancel();
        self.out.take();
        self.serving.await.expect("a good end");
        assert_eq!(self.ledger.totals().unaccounted(), 0, "{:?}", self.ledger.totals());
        self.ledger.totals()
    }
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("{n:05}"))
}

fn away() -> Answer {
    Answer::Fails(DeleteError::Away("refused".into()))
}

#[tokio::test(start_paused = true)]
async fn offsets_move_when_the_statement_has_committed() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Slow(Duration::from_secs(5)));
    place.batch("a", ["2", "1", "2"].map(String::from));
    sleep(Duration::from_millis(4_900)).await;
    assert_eq!(place.committed("a"), 0);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(place.committed("a"), 3);
    assert_eq!(
        *place.fake.statements.lock(),
        [("a".to_owned(), vec!["1".to_owned(), "2".to_owned()])],
        "sorted, once each"
    );
    assert_eq!(place.end().await, Totals { lent: 3, deleted: 3, rows: 2, ..Totals::default() });
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_for_and_loses_nothing() {
    let mut place = Place::new(Fake::default(), OFF);
    for app in APPS {
        place.fake.set(app, away());
        place.batch(app, numbers(0..100));
    }
    sleep(Duration::from_hours(1)).await;
    assert_eq!(APPS.map(|app| place.committed(app)), [0; 3]);
    for app in APPS {
        place.fake.set(app, Answer::Deletes);
    }
    sleep(Duration::from_secs(6)).await;
    assert_eq!(APPS.map(|app| place.committed(app)), [100; 3]);
    assert_eq!(place.end().await, Totals { lent: 300, deleted: 300, rows: 300, ..Totals::default() });
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_for_the_database_is_given_back_at_once() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", away());
    (0..5).for_each(|n| place.batch("a", numbers(n * 10..n * 10 + 10)));
    sleep(Duration::from_mins(1)).await;
    let began = Instant::now();
    assert_eq!(place.end().await, Totals { lent: 50, released: 50, ..Totals::default() });
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_tried_again() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Fails(DeleteError::Conflict("deadlock".into())));
    place.batch("a", numbers(0..3));
    sleep(Duration::from_millis(200)).await;
    place.fake.set("a", Answer::Deletes);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(place.committed("a"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_waits_and_holds_up_nobody() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Fails(DeleteError::Refused("no table".into())));
    place.batch("a", numbers(0..3));
    place.batch("b", numbers(0..3));
    sleep(Duration::from_mins(1)).await;
    assert!(place.is_closed("a") && !place.is_closed("b"));
    assert_eq!(place.ledger.totals().released, 3, "its records are in Kafka, not here");
    assert_eq!((place.committed("a"), place.committed("b")), (0, 3));
    place.fake.set("a", Answer::Deletes);
    sleep(Duration::from_secs(16)).await;
    assert!(!place.is_closed("a"));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_go_holds_up_no_other() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Poisoned("00041"));
    place.batch("a", numbers(0..100));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(place.committed("a"), 100);
    assert_eq!(place.fake.deleted("a").len(), 99);
    assert_eq!(place.end().await, Totals { lent: 100, deleted: 99, rows: 99, refused: 1, ..Totals::default() });
}

#[tokio::test(start_paused = true)]
async fn a_slow_table_leaves_a_place_to_the_others() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Slow(Duration::from_secs(50)));
    (0..6).for_each(|n| place.batch("a", numbers(n..n + 1)));
    (0..20).for_each(|n| place.batch("b", numbers(n..n + 1)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((place.committed("a"), place.committed("b")), (0, 20));
    sleep(Duration::from_secs(150)).await;
    assert_eq!(place.committed("a"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_never_answers_is_not_the_whole_database() {
    let mut place = Place::new(Fake::default(), OFF);
    place.fake.set("a", Answer::Slow(Duration::from_hours(9)));
    place.batch("a", numbers(0..3));
    sleep(Duration::from_mins(10)).await;
    place.batch("b", numbers(0..3));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((place.committed("a"), place.committed("b")), (0, 3));
    place.fake.set("a", Answer::Deletes);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(place.committed("a"), 3);
}

#[tokio::test(start_paused = true)]
async fn as_many_locked_tables_as_there_are_places_hold_up_no_other() {
    let mut place = Place::new(Fake::default(), OFF);
    for app in ["a", "b"] {
        place.fake.set(app, Answer::Locked);
        (0..5).for_each(|n| place.batch(app, numbers(n * 3..n * 3 + 3)));
    }
    // Until their first statements have ended nobody knows that they are locked, and one may have begun a second by then.
    sleep(Duration::from_mins(2)).await;
    for n in 0..100 {
        place.batch("c", numbers(n..n + 1));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(place.committed("c"), i64::from(n) + 1);
    }
    assert_eq!(["a", "b"].map(|app| place.committed(app)), [0; 2]);
    place.fake.set("a", Answer::Deletes);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(["a", "b"].map(|app| place.committed(app)), [15, 0]);
    assert_eq!(place.end().await, Totals { lent: 130, deleted: 115, rows: 115, released: 15, ..Totals::default() });
}

#[tokio::test(start_paused = true)]
async fn one_locked_row_holds_up_neither_its_table_nor_others() {
    let mut place = Place::new(Fake::default(), OFF);
    for app in ["a", "b"] {
        place.fake.set(app, Answer::LockedRow("00000"));
        place.batch(app, numbers(0..1));
    }
    sleep(Duration::from_mins(2)).await;
    for n in 1..100 {
        for app in APPS {
            place.batch(app, numbers(n..n + 1));
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(APPS.map(|app| place.fake.deleted(app).len()), [99; 3]);
    assert_eq!(place.committed("c"), 99);
    assert_eq!(place.end().await, Totals { lent: 299, deleted: 297, rows: 297, released: 2, ..Totals::default() });
}

const TENTH: Limits = Limits { max_share: 0.1, window: Duration::from_hours(1), min_rows: 100 };

#[tokio::test(start_paused = true)]
async fn the_valve_keeps_all_but_a_share_of_the_table_until_somebody_opens_it() {
    let control = Control::in_memory();
    let mut place = Place::with_control(Fake { rows: Some(2_000), ..Fake::default() }, TENTH, &control);
    place.batch("a", numbers(0..150));
    place.batch("a", numbers(150..300));
    place.batch("b", numbers(0..10));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((place.fake.deleted("a").len(), place.fake.deleted("b").len()), (200, 10));
    assert!(place.is_closed("a") && !place.is_closed("b"));
    let key = Watcher::Listener.key("apns", "a");
    let entry: Entry = control.state().get(&key).expect("an entry");
    assert_eq!(
        (entry.closed, &*entry.why),
        (true, "200 of about 2000 rows were deleted within 60 min, at most 200 may be")
    );

    // Another process, later: it is closed before anything is read.
    let later = Place::with_control(Fake { rows: Some(2_000), ..Fake::default() }, TENTH, &control);
    later.guards.obey(&control.state());
    assert!(later.is_closed("a") && !later.is_closed("b"));

    control.set(&key, &entry.opened(0, "somebody", "mended", None));
    sleep(Duration::from_millis(1)).await;
    assert!(!place.is_closed("a") && !later.is_closed("a"));
    place.batch("a", numbers(300..310));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(place.fake.deleted("a").len(), 210);
}

#[tokio::test(start_paused = true)]
async fn what_was_told_before_an_operators_decision_is_kept() {
    let control = Control::in_memory();
    let mut place = Place::with_control(Fake { rows: None, ..Fake::default() }, TENTH, &control);
    place.batch("a", numbers(0..101));
    sleep(Duration::from_secs(1)).await;
    let key = Watcher::Listener.key("apns", "a");
    let entry: Entry = control.state().get(&key).expect("an entry");
    assert!(entry.closed && entry.why.contains("run ANALYZE"), "{}", entry.why);
    let before = place.fake.deleted("a").len();
    control.set(&key, &entry.opened(0, "somebody", "a wrong host", Some(i64::MAX)));
    sleep(Duration::from_millis(1)).await;
    place.batch("a", numbers(200..230));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(place.fake.deleted("a").len(), before);
    assert_eq!(place.ledger.totals().kept, 30);
}

#[tokio::test(start_paused = true)]
async fn a_workers_valve_that_closes_closes_the_listeners_once() {
    let control = Control::in_memory();
    let mut place = Place::with_control(Fake::default(), OFF, &control);
    let (closing, by, why) = ("w/1".into(), "pod".into(), "62 % dead".into());
    let worker = Entry { closed: true, closing, at: 1, by, why, keep_before: None };
    control.set(&Watcher::Worker.key("apns", "a"), &worker);
    sleep(Duration::from_millis(1)).await;
    let key = Watcher::Listener.key("apns", "a");
    let entry: Entry = control.state().get(&key).expect("an entry");
    assert!(place.is_closed("a") && entry.closed && entry.why.ends_with("62 % dead"), "{entry:?}");
    // The worker's valve opens by itself; what it saw while it was closed is still in question.
    control.set(&Watcher::Worker.key("apns", "a"), &worker.opened(2, "pod", "", None));
    sleep(Duration::from_millis(1)).await;
    assert!(place.is_closed("a"));
    control.set(&key, &entry.opened(3, "somebody", "", None));
    sleep(Duration::from_millis(1)).await;
    assert!(!place.is_closed("a"));
    place.batch("a", numbers(0..5));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(place.fake.deleted("a").len(), 5);
}
