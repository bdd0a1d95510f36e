//! `pusher start-feedback-listener` and `pusher valve` as their users run them, on real Apache Kafka and PostgreSQL.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pusher::feedback_listener::ledger::Totals;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::support::postgres::Database;
use crate::support::rig::PATIENCE;
use crate::support::worker::Worker;
use crate::support::{self, Postgres, eventually, unique, wait_for};

/// A listener's world: an app on each platform, its feedback topics and tables, a group and a control topic of its own.
struct Place<'a> {
    postgres: &'a Postgres,
    database: Database,
    apps: [String; 2],
    group: String,
    control: String,
}

const PARTITIONS: i32 = 4;
const PLATFORMS: [&str; 2] = ["apns", "gcm"];

impl<'a> Place<'a> {
    fn new(stem: &str, postgres: &'a Postgres) -> Place<'a> {
        // The second has a name that the original's topics expression and its SQL do not take.
        let apps = [unique(stem), format!("{}-two_x", unique(stem))];
        let (group, control) = (unique("group"), unique("control"));
        let place = Place { postgres, database: postgres.database(stem), apps, group, control };
        for (app, platform) in place.pairs() {
            support::kafka().create_topic(&topic(app, platform), PARTITIONS);
            place.create_table(app, platform);
        }
        place
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.apps.iter().map(String::as_str).zip(PLATFORMS)
    }

    fn create_table(&self, app: &str, platform: &str) {
        let table = table(app, platform);
        let sql = format!("CREATE TABLE \"{table}\" (token text); CREATE INDEX ON \"{table}\" (token)");
        self.database.query(&sql);
    }

    /// Names without `PUSHER_`; `more` goes first.
    fn variables(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let port = self.postgres.port.to_string();
        let own = [
            ("FEEDBACKLISTENERS_QUEUE_BROKERS", support::kafka().brokers.as_str()),
            ("FEEDBACKLISTENERS_QUEUE_GROUP", &self.group),
            ("FEEDBACKLISTENERS_QUEUE_OFFSETRESETSTRATEGY", "earliest"),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_FLUSH_TIME_MS", "100"),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_VALVE_MAXSHARE", "1"),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_PG_HOST", &self.postgres.host),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_PG_PORT", &port),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_PG_USER", &self.postgres.user),
            ("FEEDBACKLISTENERS_INVALIDTOKEN_PG_DATABASE", &self.database.name),
            ("APNS_APPS", &self.apps[0]),
            ("GCM_APPS", &self.apps[1]),
            ("CONTROL_TOPIC", &self.control),
        ];
        let rest = own.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        more.iter().copied().chain(rest).map(|(name, value)| (format!("PUSHER_{name}"), value.to_owned())).collect()
    }

    fn start(&self, more: &[(&str, &str)]) -> Worker {
        Worker::start("start-feedback-listener", &self.variables(more))
    }

    /// `pusher valve …` with the same configuration.
    fn valve(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_pusher"))
            .env_clear()
            .envs(self.variables(&[]))
            .arg("valve")
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .output()
            .expect("pusher valve runs");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("UTF-8")
    }

    fn rows(&self, app: &str, platform: &str) -> u64 {
        self.database.count(&table(app, platform))
    }

    /// Rows of both tables.
    fn all_rows(&self) -> u64 {
        self.pairs().map(|(app, platform)| self.rows(app, platform)).sum()
    }

    /// Waits until so many rows are left in both tables, or fewer. Looks seldom: counting costs what is to be measured.
    #[track_caller]
    fn until_rows(&self, listener: &mut Worker, wanted: u64) -> u64 {
        let mut next_look = Instant::now();
        listener.until(&format!("{wanted} rows left"), PATIENCE, || {
            let is_due = Instant::now() >= next_look;
            next_look = if is_due { Instant::now() + Duration::from_millis(300) } else { next_look };
            is_due.then(|| self.all_rows()).filter(|rows| *rows <= wanted)
        })
    }

    fn left(&self, app: &str, platform: &str) -> BTreeSet<String> {
        let sql = format!("SELECT token FROM \"{}\"", table(app, platform));
        self.database.query(&sql).into_iter().flatten().collect()
    }

    /// Waits until the ends of both topics' logs are committed, without a map.
    #[track_caller]
    fn settle(&self, listener: &mut Worker) {
        for (app, platform) in self.pairs() {
            let topic = topic(app, platform);
            let ends = support::kafka().end_offsets(&topic);
            listener.until(&format!("{ends:?} of {topic} committed"), PATIENCE, || {
                let committed = support::kafka().committed(&self.group, &topic);
                let is_done = |(one, end): (&support::kafka::Committed, &i64)| {
                    one.offset == Some(*end) && one.metadata.is_empty()
                };
                committed.iter().zip(&ends).all(is_done).then_some(())
            });
        }
    }
}

fn topic(app: &str, platform: &str) -> String {
    format!("push-{app}-{platform}-feedbacks")
}

fn table(app: &str, platform: &str) -> String {
    format!("{app}_{platform}").to_lowercase()
}

/// A token, and whether it must go.
fn token(platform: &str, n: u32) -> String {
    let id = fastrand::Rng::with_seed(u64::from(n)).u64(..);
    if platform == "apns" { format!("{id:016x}{n:048x}") } else { format!("{id:016x}:APA91b{n:0100}") }
}

/// A record as the original's workers (`even`), or ours, write it.
fn record(platform: &str, token: &str, is_dead: bool, n: u32) -> String {
    let (ours, delete) = (n % 2 == 1, if is_dead { "true" } else { "false" });
    match (platform, is_dead) {
        ("apns", _) => {
            let reason = if is_dead { "Unregistered" } else { "TooManyRequests" };
            let ours = if ours { format!(r#","pusherId":"{n}","deleteToken":{delete}"#) } else { String::new() };
            format!(
                r#"{{"Sent":false,"StatusCode":410,"Reason":"{reason}","ApnsID":"{n}","Err":{{"Key":"k","Description":"d"}},"DeviceToken":"{token}","timestamp":1718900000,"metadata":{{"jobId":"1"{ours}}},"Notification":{{"aps":{{"alert":"Hello"}}}}}}"#
            )
        }
        (_, true) => format!(r#"{{"from":"{token}","error":"DEVICE_UNREGISTERED","error_description":"gone"}}"#),
        (_, false) => format!(r#"{{"from":"{token}","error":"UNAVAILABLE"}}"#),
    }
}

fn produce(topic: &str, records: impl Iterator<Item = String>) {
    let config = &mut support::kafka().config();
    let producer: BaseProducer =
        config.set("queue.buffering.max.messages", "1000000").set("linger.ms", "20").create().expect("a producer");
    for (n, record) in records.enumerate() {
        let record = BaseRecord::<(), String>::to(topic).partition(n as i32 % PARTITIONS).payload(&record);
        producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
    }
    producer.flush(PATIENCE).expect("all records in the log");
}

/// Fills tables and topics: of `n` records a tenth tells no dead token. The tokens that must be left, by pair.
fn fill(place: &Place<'_>, n: u32) -> Vec<BTreeSet<String>> {
    let mut left = Vec::new();
    for (app, platform) in place.pairs() {
        let is_dead = |n: &u32| n % 10 != 3;
        let tokens: Vec<String> = (0..n / 2).map(|n| token(platform, n)).collect();
        let unmentioned: Vec<String> = (n..n + 1_000).map(|n| token(platform, n)).collect();
        place.database.fill(&table(app, platform), tokens.iter().chain(&unmentioned).map(String::as_str));
        let living = (0..n / 2).filter(|n| !is_dead(n)).map(|n| tokens[n as usize].clone());
        left.push(living.chain(unmentioned).collect());
        produce(&topic(app, platform), (0..n / 2).map(|n| record(platform, &tokens[n as usize], is_dead(&n), n)));
    }
    left
}

#[track_caller]
fn assert_left(place: &Place<'_>, left: &[BTreeSet<String>]) {
    for ((app, platform), wanted) in place.pairs().zip(left) {
        let found = place.left(app, platform);
        let (missed, too_many): (Vec<_>, Vec<_>) =
            (found.difference(wanted).take(3).collect(), wanted.difference(&found).take(3).collect());
        assert!(missed.is_empty() && too_many.is_empty(), "{platform}: not deleted {missed:?}…, deleted {too_many:?}…");
    }
}

/// Prints what it took: `make bench-listener` runs this in a release build.
#[test]
fn a_backlog_of_dead_tokens_is_worked_off_exactly_and_soon() {
    let place = Place::new("backlog", support::postgres());
    let records = 200_000;
    let left = fill(&place, records);
    let (all, wanted) = (place.all_rows(), left.iter().map(|left| left.len() as u64).sum::<u64>());
    let mut listener = place.start(&[]);
    let first = place.until_rows(&mut listener, all - 1);
    let began = Instant::now();
    let last = place.until_rows(&mut listener, wanted);
    let (took, gone) = (began.elapsed().as_secs_f64(), first - last);
    println!("{gone} tokens from Kafka to PostgreSQL in {took:.2} s: {:.0} deletes/s", gone as f64 / took);
    place.settle(&mut listener);
    let totals: Totals = listener.stop_with();
    assert_eq!((totals.lent, totals.passed), (u64::from(records), u64::from(records) / 10), "{totals:?}");
    assert_eq!((totals.deleted, totals.rows), (u64::from(records) * 9 / 10, u64::from(records) * 9 / 10));
    assert_left(&place, &left);
}

/// 200,000 records, one in twenty of an app that is not ours; PostgreSQL away for 20 s; two SIGKILLs, one of them meanwhile.
#[test]
fn outages_and_crashes_delete_exactly_the_right_rows() {
    let postgres = Postgres::start_apart();
    let place = Place::new("faults", &postgres);
    let left = fill(&place, 190_000);
    let foreign = unique("foreign");
    support::kafka().create_topic(&topic(&foreign, "apns"), PARTITIONS);
    place.create_table(&foreign, "apns");
    let strangers: Vec<String> = (0..10_000).map(|n| token("apns", n)).collect();
    place.database.fill(&table(&foreign, "apns"), strangers.iter().map(String::as_str));
    produce(&topic(&foreign, "apns"), (0..10_000).map(|n| record("apns", &strangers[n as usize], true, n)));

    let (all, wanted) = (place.all_rows(), left.iter().map(|left| left.len() as u64).sum::<u64>());
    let mut first = place.start(&[]);
    place.until_rows(&mut first, all - 20_000);
    first.kill();

    let mut second = place.start(&[]);
    place.until_rows(&mut second, all - 50_000);
    postgres.stop("INT");
    let away = Instant::now();
    eventually("the outage noticed", PATIENCE, || second.has_said("dead tokens cannot be deleted").then_some(()));
    second.kill();
    let mut third = place.start(&[]);
    third.until("20 s", PATIENCE, || (away.elapsed() >= Duration::from_secs(20)).then_some(()));
    postgres.start();
    let (began, from) = (Instant::now(), place.all_rows());
    let to = place.until_rows(&mut third, wanted);
    let took = began.elapsed().as_secs_f64();
    println!("after the outage {} rows in {took:.2} s: {:.0} deletes/s", from - to, (from - to) as f64 / took);
    place.settle(&mut third);
    let totals: Totals = third.stop_with();
    assert_eq!((totals.unaccounted(), totals.refused, totals.kept), (0, 0, 0), "{totals:?}");
    assert_left(&place, &left);
    assert_eq!(place.rows(&foreign, "apns"), 10_000, "not ours");
    let untouched = support::kafka().committed(&place.group, &topic(&foreign, "apns"));
    assert!(untouched.iter().all(|partition| partition.offset.is_none()), "{untouched:?}");
}

#[test]
fn a_closed_valve_is_shown_and_opened_from_the_command_line() {
    let place = Place::new("valve", support::postgres());
    let [app, _] = &place.apps;
    let table = table(app, "apns");
    let tokens: Vec<String> = (0..10_000).map(|n| token("apns", n)).collect();
    place.database.fill(&table, tokens.iter().map(String::as_str));
    // Counted once, so that the limits of this test are known.
    place.database.query(&format!("ALTER TABLE \"{table}\" SET (autovacuum_enabled = false)"));
    place.database.query(&format!("ANALYZE \"{table}\""));
    assert_eq!(place.valve(&["status"]), "no valve is closed, and none was\n");
    produce(&topic(app, "apns"), (0..3_000).map(|n| record("apns", &tokens[n as usize], true, n)));
    let limits = [
        ("FEEDBACKLISTENERS_INVALIDTOKEN_VALVE_MAXSHARE", "0.1"),
        ("FEEDBACKLISTENERS_INVALIDTOKEN_VALVE_MINROWS", "10"),
    ];
    let first = place.start(&limits);
    eventually("a closed valve", PATIENCE, || first.has_said("the valve closes").then_some(()));
    eventually("its rows", PATIENCE, || (place.rows(app, "apns") == 9_000).then_some(()));
    let _: Totals = first.stop_with();
    assert_eq!(policy(&place.control), "compact");

    let mut second = place.start(&limits);
    eventually("partitions", PATIENCE, || second.has_said("partitions assigned").then_some(()));
    let status: Value =
        serde_json::from_str(place.valve(&["status", app, "--json"]).trim()).expect("one object for a script");
    assert_eq!((&status["closed"], &status["watcher"]), (&Value::Bool(true), &Value::from("listener")));
    assert!(place.valve(&["status"]).contains("1000 of about 10000 rows"), "{}", place.valve(&["status"]));
    assert_eq!(place.rows(app, "apns"), 9_000);

    assert_eq!(place.valve(&["resume", "another"]), "no valve of another is closed\n");
    let said = place.valve(&["resume", &app.to_uppercase()]);
    let asked = Instant::now();
    assert_eq!(said, format!("opened: {app} on apns, the listener's\n"));
    second.until("deleting again", PATIENCE, || (place.rows(app, "apns") < 9_000).then_some(()));
    println!("a resume took effect {} ms after it was acknowledged", asked.elapsed().as_millis());
    second.until("closed again", PATIENCE, || (place.rows(app, "apns") == 8_000).then_some(()));
    eventually("the entry", PATIENCE, || {
        place.valve(&["status", app, "--json"]).contains("\"closed\":true").then_some(())
    });
    let keep = place.valve(&["resume", app, "--keep"]);
    assert!(keep.starts_with("opened"), "{keep}");
    place.settle(&mut second);
    assert_eq!(place.rows(app, "apns"), 8_000, "kept");
    let totals: Totals = second.stop_with();
    assert_eq!((totals.kept, totals.rows), (1_000, 1_000), "{totals:?}");
    let status = place.valve(&["status"]);
    assert!(status.contains("open") && status.contains("what was held is kept"), "{status}");
}

/// A topic's cleanup.policy.
fn policy(topic: &str) -> String {
    let admin: AdminClient<DefaultClientContext> = support::kafka().config().create().expect("an admin client");
    let resource = ResourceSpecifier::Topic(topic);
    let described = wait_for(async { admin.describe_configs([&resource], &AdminOptions::new()).await });
    let config = described.expect("an answer").remove(0).expect("the topic's configuration");
    config.get("cleanup.policy").and_then(|entry| entry.value.clone()).expect("a policy")
}

#[test]
fn rows_registered_after_the_record_survive() {
    let place = Place::new("again", support::postgres());
    let [app, _] = &place.apps;
    let table = table(app, "apns");
    place.database.query(&format!("ALTER TABLE \"{table}\" ADD updated_at timestamptz"));
    place.database.query(&format!(
        "INSERT INTO \"{table}\" VALUES ('early', now() - interval '1 day'), ('between', now() - interval '1 minute'), \
         ('later', now() + interval '1 day'), ('said', now() - interval '1 minute'), ('never', NULL)"
    ));
    let unregistered = |token: &str, more: &str| {
        format!(r#"{{"Reason":"Unregistered","DeviceToken":"{token}"{more},"metadata":{{"deleteToken":true}}}}"#)
    };
    // `said`: dead for an hour, by the provider's word, and registered again a minute ago.
    let an_hour_ago = format!(",\"unregisteredAt\":{}", pusher::reporters::invalid_token::now_ms() - 3_600_000);
    let records = ["early", "between", "later", "never"].map(|token| unregistered(token, ""));
    produce(&topic(app, "apns"), records.into_iter().chain([unregistered("said", &an_hour_ago)]));
    let mut listener = place.start(&[("FEEDBACKLISTENERS_INVALIDTOKEN_PG_UPDATEDATCOLUMN", "updated_at")]);
    place.settle(&mut listener);
    assert_eq!(place.left(app, "apns"), ["later", "said"].map(String::from).into());
    let totals: Totals = listener.stop_with();
    assert_eq!((totals.deleted, totals.rows), (5, 3));
}
