//! The whole feedback listener in this process, between a mock Kafka and tables in memory: what is deleted, what is kept, and
//! what Kafka is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pusher::config::{Config, ConfigFile, load};
use pusher::control::config::Consumer;
use pusher::control::{self, Control};
use pusher::feedback_listener::config::{POSTGRES, QUEUE};
use pusher::feedback_listener::ledger::Totals;
use pusher::feedback_listener::{Apps, Bounds, Listener, Summary};
use pusher::levers::Levers;
use pusher::levers::orders::Target;
use pusher::message::{Lane, Origin, Platform};
use pusher::outcome::InvalidToken;
use pusher::reporters::invalid_token::latch::{Entry, Watcher};
use pusher::reporters::invalid_token::postgres;
use pusher::reporters::invalid_token::{DeleteError, Deleted, Deleter, now_ms};
use pusher::settings::catalogue;
use pusher::shutdown::Shutdown;

use crate::flow_page::{assert_page, status};
use crate::support::mock::Mock;
use crate::support::proxy::{Proxy, Way};
use crate::support::scrape::{ask, get};
use crate::support::{Statsd, eventually, root, wait_for};

const LONG: Duration = Duration::from_mins(1);
const APNS: &str = "push-game-apns-feedbacks";
const GCM: &str = "push-my-game-gcm-feedbacks";
const CONTROL: &str = "pusher-control";

/// Tables of tokens.
#[derive(Default)]
struct Tables {
    rows: Mutex<BTreeMap<String, BTreeSet<String>>>,
    away: AtomicBool,
}

impl Tables {
    fn fill(&self, table: &str, tokens: impl IntoIterator<Item = String>) {
        self.rows.lock().entry(table.to_owned()).or_default().extend(tokens);
    }

    fn left(&self, table: &str) -> BTreeSet<String> {
        self.rows.lock()[table].clone()
    }

    fn is_gone(&self, table: &str) -> Option<()> {
        self.rows.lock()[table].is_empty().then_some(())
    }
}

#[async_trait]
impl Deleter for Tables {
    async fn delete(
        &self,
        app: &str,
        platform: Platform,
        tokens: &[InvalidToken],
        _: Duration,
    ) -> Result<Deleted, DeleteError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(DeleteError::Away("test".into()));
        }
        let mut tables = self.rows.lock();
        let table = format!("{app}_{platform}");
        let rows = tables.get_mut(&table).ok_or_else(|| DeleteError::Refused(format!("no table {table}")))?;
        let gone = tokens.iter().filter(|token| rows.remove(&token.token)).count() as u64;
        Ok(Deleted { rows: gone, nonexistent: tokens.len() as u64 - gone })
    }

    async fn rows(&self, app: &str, platform: Platform, _: Duration) -> Result<Option<u64>, DeleteError> {
        Ok(self.rows.lock().get(&format!("{app}_{platform}")).map(|rows| rows.len() as u64))
    }

    async fn close(&self) {}
}

struct Running {
    listener: Listener,
    shutdown: Shutdown,
}

impl Running {
    fn stop(self) -> Totals {
        self.shutdown.begin("test");
        let Summary { totals, drained } = self.listener.join();
        assert!(drained);
        assert_eq!((totals.unaccounted(), self.shutdown.at_work()), (0, vec![]), "{totals:?}");
        totals
    }

    /// Waits until it lends nothing of `my-game`, or does again.
    #[track_caller]
    fn until_held(&self, held: bool) {
        let origin = Origin {
            topic: GCM.into(),
            partition: 0,
            app: "my-game".into(),
            platform: Platform("gcm"),
            lane: Lane::Single,
        };
        eventually("held back", LONG, || (self.listener.in_flight().holds_back(&origin) == held).then_some(()));
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Totals) -> bool) {
        eventually(what, LONG, || done(&self.listener.ledger().totals()).then_some(()));
    }
}

fn start(mock: &Mock, tables: &Arc<Tables>, apps: [Option<&[&str]>; 2], more: &[(&str, &str)]) -> Running {
    let pairs = [
        ("feedbackListeners.queue.brokers", mock.brokers.as_str()),
        ("feedbackListeners.queue.offsetResetStrategy", "earliest"),
        ("feedbackListeners.queue.commitInterval", "100ms"),
        ("feedbackListeners.invalidToken.flush.time.ms", "50"),
        ("feedbackListeners.invalidToken.buffer.size", "100"),
        ("feedbackListeners.invalidToken.valve.maxShare", "1"),
        ("feedbackListeners.invalidToken.pg.user", "nobody"),
        ("feedbackListeners.invalidToken.pg.database", "none"),
    ];
    let config = Config::from_pairs(pairs).with(more.iter().copied());
    let platforms = [Platform("apns"), Platform("gcm")].into_iter().zip(apps).map(|(platform, apps)| Apps {
        platform,
        configured: apps.map(|apps| apps.iter().map(|app| Arc::from(*app)).collect()),
    });
    let (shutdown, tables) = (Shutdown::default(), tables.clone());
    let bounds = Ok(Bounds { messages: 1_000, bytes: 1 << 24 });
    let database = move |_, _: &tokio::runtime::Handle| tables as Arc<dyn Deleter>;
    let listener = Listener::start_on(&config, bounds, platforms.collect(), shutdown.clone(), database);
    Running { listener: listener.expect("a listener"), shutdown }
}

fn dead(token: impl std::fmt::Display) -> String {
    format!(r#"{{"from":"{token}","error":"DEVICE_UNREGISTERED","error_description":"gone"}}"#)
}

fn tokens(range: std::ops::Range<u32>) -> impl Iterator<Item = String> + Clone {
    range.map(|n| format!("token-{n:06}"))
}

#[track_caller]
fn until_committed(mock: &Mock, topic: &str, offset: i64) {
    let wanted = Some((offset, String::new()));
    eventually("all offsets committed", LONG, || (mock.committed("test", topic, 0) == wanted).then_some(()));
}

/// The golden records: platform, verdict, token, record.
fn golden() -> impl Iterator<Item = [&'static str; 4]> {
    let text = include_str!("../fixtures/feedback-records.tsv");
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [platform, says, token, _, record] = columns[..] else { panic!("five columns: {line}") };
        [platform, says, token, record]
    })
}

#[test]
fn records_of_the_original_and_of_ours_delete_the_tokens_that_they_call_dead_and_no_other() {
    let foreign = ["push-game_apns-single", "push-other-apns-feedbacks", "deadletters-apns"];
    let mock = Mock::start(&[(APNS, 1), (GCM, 1), (foreign[0], 1), (foreign[1], 1), (foreign[2], 1), (CONTROL, 1)]);
    for topic in foreign {
        mock.produce(topic, 0, [dead("alive")]);
    }
    let (tables, statsd) = (Arc::new(Tables::default()), Statsd::start());
    let mut of = BTreeMap::<&str, (i64, i64, i64, BTreeSet<String>)>::new();
    for [platform, says, token, record] in golden() {
        let (topic, table) = if platform == "apns" { (APNS, "game_apns") } else { (GCM, "my-game_gcm") };
        mock.append(topic, 0, record);
        let counts = of.entry(table).or_default();
        match says {
            "dead" => (counts.0, _) = (counts.0 + 1, counts.3.insert(token.to_owned())),
            "other" => counts.1 += 1,
            _ => counts.2 += 1,
        }
    }
    mock.flush();
    for (table, (_, _, _, dead)) in &of {
        // The first of them has no row any more.
        tables.fill(table, dead.iter().skip(1).cloned().chain(["alive".into()]));
    }
    let stats = [("stats.reporters", "statsd"), ("stats.statsd.host", &*statsd.address.to_string())];
    let running = start(
        &mock,
        &tables,
        [Some(&["game"]), Some(&["my-game"])],
        &[stats[0], stats[1], ("stats.statsd.flushInterval", "100ms")],
    );
    for (topic, table) in [(APNS, "game_apns"), (GCM, "my-game_gcm")] {
        let (dead, other, unreadable, _) = of[table];
        until_committed(&mock, topic, dead + other + unreadable);
        assert_eq!(tables.left(table), BTreeSet::from(["alive".to_owned()]));
    }
    let (dead_records, passed) = of.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1 + one.2));
    let hostname = gethostname::gethostname().to_string_lossy().into_owned();
    let host = ("hostname", hostname.as_str());
    for (table, app, platform) in [("game_apns", "game", "apns"), ("my-game_gcm", "my-game", "gcm")] {
        let (dead, other, unreadable, tokens) = &of[table];
        let place = [("game", app), ("platform", platform)];
        let counted = |kind, n: &i64| {
            statsd.await_sum("pushfeedback_records_read", &[place[0], place[1], ("kind", kind)], *n as f64, LONG);
        };
        counted("dead", dead);
        counted("other", other);
        counted("unreadable", unreadable);
        statsd.await_sum("pushtokens_delete_success", &[host, place[0], place[1]], tokens.len() as f64 - 1.0, LONG);
    }
    statsd.await_sum("pushfeedback_listener_restart", &[host], 1.0, LONG);
    let gauges = ["queue_out_channel", "invalid_token_handler_buffer", "broker_invalid_token_channel"];
    eventually("the gauges", LONG, || {
        let lines = statsd.lines();
        let is_there = |name: &&str| {
            let name = format!("push{name}");
            lines.iter().any(|line| line.name == name && line.kind == "g" && line.tags["hostname"] == hostname)
        };
        gauges.iter().all(is_there).then_some(())
    });
    let totals = running.stop();
    assert_eq!((totals.deleted as i64, totals.passed as i64), (dead_records, passed));
    assert_eq!((totals.released, totals.kept, totals.refused), (0, 0, 0));
    for topic in foreign {
        assert_eq!(mock.committed("test", topic, 0), None, "{topic}");
    }
}

/// The file of an operator of the original starts the listener unchanged, and what has no effect is named.
#[test]
fn a_configuration_of_the_original_is_read_as_it_is() {
    let file = root().join("tests/fixtures/original-listener.yaml");
    let loaded = load(ConfigFile::Explicit(&file), [], catalogue()).expect("readable");
    let said: Vec<_> = loaded.notices.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"));
    let config = &loaded.config;
    let own = pusher::feedback_listener::config::Settings::from_config(config).expect("its own section");
    assert_eq!((own.grace, own.batch_size, own.enabled), (Duration::from_secs(1), 99, true));
    let queue = pusher::queue::config::Settings::read(config, &QUEUE).expect("its queue");
    assert_eq!((&*queue.brokers, &*queue.group, queue.topics.len()), ("localhost:9941", "testGroup", 1));
    let postgres = postgres::Settings::read(config, &POSTGRES).expect("its database");
    assert_eq!(postgres.pool_size, 20);
}

#[test]
fn a_database_that_is_away_over_restarts_loses_nothing() {
    let mock = Mock::start(&[(GCM, 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..5_000));
    mock.produce(GCM, 0, tokens(0..5_000).map(dead));
    tables.away.store(true, Ordering::Relaxed);
    let first = start(&mock, &tables, [None, None], &[]);
    first.until("as many as may be in flight", |totals| totals.lent >= 1_000);
    let first = first.stop();
    assert_eq!((first.deleted, first.released), (0, first.lent));
    assert!(first.lent < 2_000, "{first:?}");

    let second = start(&mock, &tables, [None, None], &[]);
    second.until("some", |totals| totals.lent >= 500);
    tables.away.store(false, Ordering::Relaxed);
    second.until("some deletions", |totals| totals.rows >= 700);
    let second = second.stop();

    let third = start(&mock, &tables, [None, None], &[]);
    eventually("all rows gone", LONG, || tables.is_gone("my-game_gcm"));
    until_committed(&mock, GCM, 5_000);
    let third = third.stop();
    assert_eq!(second.deleted + third.deleted, 5_000, "a good end repeats nothing: {second:?} {third:?}");
    assert_eq!(second.rows + third.rows, 5_000);
}

#[test]
fn a_table_that_is_missing_waits_in_kafka_and_holds_up_nobody() {
    let mock = Mock::start(&[(APNS, 1), (GCM, 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..3_000));
    let unregistered = |token| format!(r#"{{"Reason":"Unregistered","DeviceToken":"{token}"}}"#);
    mock.produce(APNS, 0, tokens(0..3_000).map(unregistered));
    mock.produce(GCM, 0, tokens(0..3_000).map(dead));
    let running = start(&mock, &tables, [None, None], &[]);
    eventually("the other table", LONG, || tables.is_gone("my-game_gcm"));
    until_committed(&mock, GCM, 3_000);
    running.until("all of the missing table given back", |totals| totals.unaccounted() == 0 && totals.released > 0);
    assert_ne!(mock.committed("test", APNS, 0).map(|(offset, _)| offset), Some(3_000));

    tables.fill("game_apns", tokens(0..3_001));
    until_committed(&mock, APNS, 3_000);
    assert_eq!(tables.left("game_apns"), tokens(3_000..3_001).collect());
    running.stop();
}

#[test]
fn a_paused_app_waits_in_kafka_over_restarts_until_it_is_resumed() {
    const OTHER: &str = "push-other-gcm-feedbacks";
    let mock = Mock::start(&[(GCM, 1), (OTHER, 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..200));
    tables.fill("other_gcm", tokens(0..300));
    let levers = Levers::new(Desk::open(&mock).control, [Platform("gcm")]);
    let app = Target { app: "my-game".into(), platform: "listener".into(), lane: None };

    let first = start(&mock, &tables, [None, None], &[]);
    mock.produce(GCM, 0, tokens(0..100).map(dead));
    until_committed(&mock, GCM, 100);
    wait_for(levers.pause(&app, "ann", None)).expect("paused");
    first.until_held(true);
    mock.produce(GCM, 0, tokens(100..200).map(dead));
    mock.produce(OTHER, 0, tokens(0..100).map(dead));
    until_committed(&mock, OTHER, 100);
    assert_eq!(first.stop().rows, 200);

    let second = start(&mock, &tables, [None, None], &[]);
    second.until_held(true);
    mock.produce(OTHER, 0, tokens(100..300).map(dead));
    until_committed(&mock, OTHER, 300);
    assert_eq!(tables.left("my-game_gcm"), tokens(100..200).collect(), "still paused after a restart");
    wait_for(levers.resume(&app, "ann")).expect("resumed");
    until_committed(&mock, GCM, 200);
    assert_eq!(second.stop().rows, 300);
    assert!(tables.left("my-game_gcm").is_empty());
}

#[test]
fn its_page_and_status_are_those_of_a_listener() {
    let mock = Mock::start(&[(GCM, 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..100));
    mock.produce(GCM, 0, tokens(0..100).map(dead));
    let own = [("admin.listen", "127.0.0.1:0"), ("admin.token", "s3cret")];
    let running = start(&mock, &tables, [None, None], &own);
    let admin = running.listener.admin().expect("an admin server");
    until_committed(&mock, GCM, 100);
    assert_page(admin);
    let seen = eventually("its books", LONG, || {
        let status = status(admin);
        // The broker has the commit before who sent it has the answer.
        let is_committed = status.partitions.iter().any(|partition| partition.committed == 100);
        (status.ready && status.ledger.outcomes["handled"] == 100 && is_committed).then_some(status)
    });
    assert_eq!((seen.program.as_str(), seen.platforms.as_slice()), ("listener", &["gcm".to_owned()][..]));
    assert!(seen.ledger.balances && seen.ledger.consumed == 100 && seen.pools.is_empty(), "{seen:?}");
    let [app] = seen.apps.as_slice() else { panic!("one app: {seen:?}") };
    assert_eq!((app.app.as_str(), app.platform.as_str()), ("my-game", "gcm"));
    assert_eq!((app.breaker, app.retries_waiting, app.reporting), (None, None, None), "it sends nothing");
    assert_eq!((seen.partitions[0].topic.as_str(), seen.partitions[0].committed), (GCM, 100));
    assert_eq!(get(admin, "/api/jobs").1, r#"{"jobs":[],"stopped":[]}"#);

    let order = |path: &str| {
        let target = r#"{"app":"my-game","platform":"listener","why":"wrong table"}"#;
        let (code, said) = ask(admin, "POST", path, Some("s3cret"), target);
        assert_eq!(code, 200, "{said}");
    };
    order("/api/pause");
    running.until_held(true);
    let paused = status(admin);
    let given = paused.apps[0].lanes[0].paused.as_ref().expect("an order for the listener");
    assert_eq!(given.why.as_deref(), Some("wrong table"));
    let said = &paused.problems.first().expect("a problem").what;
    assert!(said.starts_with("my-game on gcm, lane single, is paused by ann at 127.0.0.1:"), "{said}");
    order("/api/resume");
    running.until_held(false);
    assert_eq!(status(admin).apps[0].lanes[0].paused, None);
    running.stop();
}

/// The listener's entry of `my-game`.
struct Desk {
    control: Control,
}

impl Desk {
    fn open(mock: &Mock) -> Desk {
        let consumer = Consumer { brokers: &mock.brokers, group: "test", options: &BTreeMap::new() };
        let settings = control::Settings::from_config(&Config::default(), consumer).expect("settings");
        let control = Control::new(settings);
        control.start();
        wait_for(control.read(LONG)).expect("the entries");
        Desk { control }
    }

    fn entry(&self) -> Option<Entry> {
        self.control.state().get(&Watcher::Listener.key("gcm", "my-game"))
    }

    #[track_caller]
    fn until_closed(&self) -> Entry {
        eventually("a closed valve", LONG, || self.entry().filter(|entry| entry.closed))
    }

    fn resume(&self, keep_before: Option<i64>) {
        let end = self.until_closed().opened(1, "somebody", "by hand", keep_before);
        self.control.set(&Watcher::Listener.key("gcm", "my-game"), &end);
    }
}

const VALVE: &[(&str, &str)] = &[
    ("feedbackListeners.invalidToken.valve.maxShare", "0.1"),
    ("feedbackListeners.invalidToken.valve.minRows", "100"),
];

#[test]
fn a_closed_valve_keeps_its_app_in_kafka_over_restarts_until_it_is_opened() {
    let mock = Mock::start(&[(GCM, 1), ("push-other-gcm-feedbacks", 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..10_000));
    tables.fill("other_gcm", tokens(0..2_000));
    mock.produce(GCM, 0, tokens(0..1_800).map(dead));
    let desk = Desk::open(&mock);
    let first = start(&mock, &tables, [None, None], VALVE);
    let entry = desk.until_closed();
    assert!(entry.why.starts_with("1000 of about 10000 rows"), "{}", entry.why);
    first.until("all given back", |totals| totals.unaccounted() == 0 && totals.released > 0);
    let gone = 10_000 - tables.left("my-game_gcm").len();
    assert_eq!(gone, 1_000);
    let totals = first.stop();
    assert_eq!(totals.rows, 1_000);

    let second = start(&mock, &tables, [None, None], VALVE);
    mock.produce("push-other-gcm-feedbacks", 0, tokens(0..100).map(dead));
    until_committed(&mock, "push-other-gcm-feedbacks", 100);
    assert_eq!(tables.left("my-game_gcm").len(), 9_000, "closed from the start on");
    desk.resume(None);
    until_committed(&mock, GCM, 1_800);
    assert_eq!(tables.left("my-game_gcm"), tokens(1_800..10_000).collect());
    let totals = second.stop();
    assert_eq!(totals.rows, 900, "{totals:?}");
    assert!(!desk.entry().expect("an entry").closed);
}

#[test]
fn what_was_held_can_be_kept() {
    let mock = Mock::start(&[(GCM, 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..10_000));
    mock.produce(GCM, 0, tokens(0..3_000).map(dead));
    let desk = Desk::open(&mock);
    let running = start(&mock, &tables, [None, None], VALVE);
    desk.until_closed();
    let decided_at = now_ms() + 1;
    desk.resume(Some(decided_at));
    until_committed(&mock, GCM, 3_000);
    assert_eq!(tables.left("my-game_gcm").len(), 9_000, "no more went");
    eventually("a moment after the decision", LONG, || (now_ms() > decided_at).then_some(()));
    mock.produce(GCM, 0, tokens(9_000..9_500).map(dead));
    until_committed(&mock, GCM, 3_500);
    assert_eq!(tables.left("my-game_gcm").len(), 8_500, "what is told from now on goes");
    assert_eq!(running.stop().kept, 2_000);
}

#[test]
fn without_the_control_topic_it_works_in_memory() {
    let mock = Mock::start(&[(GCM, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..10_000));
    mock.produce(GCM, 0, tokens(0..2_000).map(dead));
    let off = ("control.topic", "off");
    let first = start(&mock, &tables, [None, None], &[VALVE[0], VALVE[1], off]);
    first.until("all given back", |totals| totals.unaccounted() == 0 && totals.released > 0);
    assert_eq!(first.stop().rows, 1_000);
    let second = start(&mock, &tables, [None, None], &[VALVE[0], VALVE[1], off]);
    second.until("a new allowance", |totals| totals.rows == 900);
    second.stop();
}

/// A deletion cannot be undone, so none is begun before it is known which valves are closed and what is to be kept.
#[test]
fn until_the_control_topic_has_been_read_nothing_is_deleted() {
    let mock = Mock::start(&[(GCM, 1), ("push-other-gcm-feedbacks", 1), (CONTROL, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..10));
    tables.fill("other_gcm", tokens(0..10));
    mock.produce(GCM, 0, tokens(0..10).map(dead));
    mock.produce("push-other-gcm-feedbacks", 0, tokens(0..10).map(dead));
    let closed = Entry {
        closed: true,
        closing: "pod/1".into(),
        at: now_ms(),
        by: "pod".into(),
        why: "the host was wrong".into(),
        keep_before: None,
    };
    let desk = Desk::open(&mock);
    desk.control.set(&Watcher::Listener.key("gcm", "my-game"), &closed);
    assert!(wait_for(desk.control.written(LONG)));
    let port = mock.brokers.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    let way = Proxy::to(port);
    way.set(Way::Absent);
    let through = format!("127.0.0.1:{}", way.port);
    let listener = start(&mock, &tables, [None, None], &[("control.brokers", &through)]);
    listener.until("all is read", |totals| totals.lent == 20);
    // Its batches are full or late by now: what is lent later goes behind them.
    mock.produce("push-other-gcm-feedbacks", 0, tokens(0..200).map(dead));
    listener.until("more is read", |totals| totals.lent == 220);
    assert_eq!((tables.left("my-game_gcm").len(), tables.left("other_gcm").len()), (10, 10));
    way.set(Way::Open);
    eventually("the open table's", LONG, || tables.is_gone("other_gcm"));
    listener.until("the closed one's are given back", |totals| totals.released >= 10);
    assert_eq!(tables.left("my-game_gcm").len(), 10);
    listener.stop();
}

/// Nor when the process ends meanwhile.
#[test]
fn what_waits_for_the_control_topic_is_given_back_at_the_end() {
    let mock = Mock::start(&[(GCM, 1)]);
    let tables = Arc::new(Tables::default());
    tables.fill("my-game_gcm", tokens(0..10));
    mock.produce(GCM, 0, tokens(0..10).map(dead));
    let listener = start(&mock, &tables, [None, None], &[("control.brokers", "127.0.0.1:1")]);
    listener.until("all is read", |totals| totals.lent == 10);
    let totals = listener.stop();
    assert_eq!((totals.released, totals.rows, tables.left("my-game_gcm").len()), (10, 0, 10));
}
