//! A worker's whole world: topics on the real Kafka, tables on the real PostgreSQL, an APNs of its own, and the books that
//! say what must become of every record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pusher::generate::apns::Apns;
use pusher::generate::produce::LineProducer;
use pusher::generate::{Expected, Generated, Generator, Settings};
use pusher::message::identity;
use pusher::simulator::apns::{Settings as SimulatorSettings, Simulator};
use serde_json::Value;
use uuid::Uuid;

use super::kafka::Record;
use super::postgres::Database;
use super::worker::Worker;
use super::{kafka, postgres, unique, wait_for};

/// How long anything may take on a busy machine that is to come by itself.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// One worker's world; nothing in it is another test's.
pub(crate) struct Rig {
    pub(crate) app: String,
    pub(crate) group: String,
    /// `push-<app>_apns-massive`.
    pub(crate) topic: String,
    pub(crate) feedback: String,
    pub(crate) simulator: Simulator,
    pub(crate) database: Database,
    credentials: tempfile::TempDir,
    next_serial: u64,
    fates: HashMap<Vec<u8>, Fate>,
}

/// What must become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Accepted, by this serial.
    Delivered(u64),
    /// Refused; the reason's key in the feedback record.
    Refused(&'static str),
    /// Nothing: it is from before the worker's time.
    Ignored,
}

impl Fate {
    /// Of what must be delivered.
    pub(crate) fn serial(&self) -> Option<u64> {
        if let Fate::Delivered(serial) = self { Some(*serial) } else { None }
    }
}

/// A record and what must become of it.
pub(crate) struct Placed {
    pub(crate) record: Record,
    pub(crate) fate: Fate,
}

impl Placed {
    /// Partition and offset.
    pub(crate) fn place(&self) -> (i32, i64) {
        (self.record.partition, self.record.offset)
    }
}

impl Rig {
    /// An app with one push topic of so many partitions, its feedback topic and an empty table.
    pub(crate) fn new(stem: &str, partitions: i32) -> Rig {
        let app = unique(stem);
        let simulator = wait_for(Simulator::start(SimulatorSettings::default())).expect("the simulator starts");
        let rig = Rig {
            group: unique("group"),
            topic: format!("push-{app}_apns-massive"),
            feedback: format!("push-{app}-apns-feedbacks"),
            simulator,
            database: postgres().database(stem),
            credentials: tempfile::tempdir().expect("a folder"),
            next_serial: 0,
            fates: HashMap::new(),
            app,
        };
        kafka().create_topic(&rig.topic, partitions);
        kafka().create_topic(&rig.feedback, 2);
        rig.database.query(&format!("CREATE TABLE \"{}\" (token text PRIMARY KEY)", rig.table()));
        std::fs::write(rig.credentials.path().join("key.p8"), &rig.simulator.key().pem).expect("the key's file");
        std::fs::write(rig.credentials.path().join("ca.pem"), rig.simulator.ca_pem()).expect("the CA's file");
        rig
    }

    /// The app's table of tokens.
    pub(crate) fn table(&self) -> String {
        format!("{}_apns", self.app)
    }

    /// Starts a worker; `more` goes before the rig's own settings. Names without `PUSHER_`.
    pub(crate) fn worker(&self, more: &[(&str, &str)]) -> Worker {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all: BTreeMap<String, String> = self.settings().into_iter().chain(more).collect();
        Worker::start(
            "apns",
            &all.into_iter().map(|(name, value)| (format!("PUSHER_{name}"), value)).collect::<Vec<_>>(),
        )
    }

    fn settings(&self) -> Vec<(String, String)> {
        let file = |name: &str| self.credentials.path().join(name).display().to_string();
        let (cert, key) = (format!("APNS_CERTS_{}", self.app.to_uppercase()), self.simulator.key());
        let of_app = [
            ("AUTHKEYPATH", file("key.p8")),
            ("KEYID", key.key_id.clone()),
            ("TEAMID", key.team_id.clone()),
            ("TOPIC", "com.example.game".into()),
        ];
        let common = [
            ("QUEUE_BROKERS", kafka().brokers.clone()),
            ("QUEUE_GROUP", self.group.clone()),
            ("QUEUE_OFFSETRESETSTRATEGY", "earliest".into()),
            ("APNS_APPS", self.app.clone()),
            ("APNS_ENDPOINT", format!("https://{}", self.simulator.address())),
            ("APNS_CAFILE", file("ca.pem")),
            // Refusals that pass are tried again soon: what is shown is that they are, not how patient we are.
            ("APNS_RETRY_INTERVAL", "200ms".into()),
            ("FEEDBACK_REPORTERS", "kafka".into()),
            ("FEEDBACK_KAFKA_BROKERS", kafka().brokers.clone()),
            ("INVALIDTOKEN_HANDLERS", "pg".into()),
            ("INVALIDTOKEN_PG_HOST", postgres().host.clone()),
            ("INVALIDTOKEN_PG_PORT", postgres().port.to_string()),
            ("INVALIDTOKEN_PG_USER", postgres().user.clone()),
            ("INVALIDTOKEN_PG_DATABASE", self.database.name.clone()),
            ("WORKERS", "2".into()),
        ];
        let of_app = of_app.map(|(name, value)| (format!("{cert}_{name}"), value));
        of_app.into_iter().chain(common.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// Makes messages, with serials that go on from the last ones, and notes what must become of them.
    pub(crate) fn generate(&mut self, settings: Settings) -> Vec<Generated> {
        let settings = Settings { first_serial: self.next_serial, ..settings };
        self.next_serial += settings.count;
        let made: Vec<_> = Generator::new(Apns { app: self.app.clone() }, settings).collect();
        for push in &made {
            self.note(push.line.clone(), fate(push));
        }
        made
    }

    /// Notes what must become of a record that the test makes itself.
    pub(crate) fn note(&mut self, value: impl Into<Vec<u8>>, fate: Fate) {
        self.fates.insert(value.into(), fate);
    }

    /// The next number that no message has yet.
    pub(crate) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// Produces to the push topic, as fast as it goes, or so many per second.
    pub(crate) fn produce(&self, pushes: &[Generated], rate: Option<u32>) {
        let mut producer = LineProducer::new(&kafka().brokers, &self.topic, rate).expect("a producer");
        for push in pushes {
            producer.send(push.line.as_bytes()).expect("produced");
        }
        producer.flush().expect("the broker has everything");
    }

    /// How many deliveries were noted.
    pub(crate) fn deliveries(&self) -> u64 {
        self.fates.values().filter_map(Fate::serial).count() as u64
    }

    /// Different messages that APNs accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.simulator.handle().ledger().sums().accepted
    }

    /// Waits until everything produced has its outcome: APNs has accepted what it will, and the group has committed the
    /// end of each log without a map, which it does only when every refusal's record is acknowledged.
    #[track_caller]
    pub(crate) fn settle(&self, worker: &mut Worker, limit: Duration) {
        let wanted = self.deliveries();
        worker.until(&format!("{wanted} deliveries"), limit, || (self.accepted() >= wanted).then_some(()));
        let ends = kafka().end_offsets(&self.topic);
        worker.until(&format!("the ends {ends:?} committed"), limit, || self.has_committed(&ends).then_some(()));
    }

    fn has_committed(&self, ends: &[i64]) -> bool {
        let committed = kafka().committed(&self.group, &self.topic);
        committed.iter().zip(ends).all(|(one, end)| one.offset == Some(*end) && one.metadata.is_empty())
    }

    /// Every record of the push topic with its fate. Fails when a delivery of the books was never produced.
    #[track_caller]
    pub(crate) fn placed(&self) -> Vec<Placed> {
        let placed = self.placed_so_far();
        let there: BTreeSet<u64> = placed.iter().filter_map(|one| one.fate.serial()).collect();
        let missing: Vec<u64> =
            self.fates.values().filter_map(Fate::serial).filter(|one| !there.contains(one)).collect();
        assert!(missing.is_empty(), "never produced: {missing:?}");
        placed
    }

    /// The records that are there, while more are being produced.
    #[track_caller]
    pub(crate) fn placed_so_far(&self) -> Vec<Placed> {
        let place = |record: Record| {
            let unknown = || panic!("not in the books: {}", String::from_utf8_lossy(&record.payload));
            let fate = self.fates.get(&record.payload).unwrap_or_else(unknown).clone();
            Placed { record, fate }
        };
        kafka().records(&self.topic).into_iter().map(place).collect()
    }

    /// Nothing is lost: everything that must be delivered was, each refusal has its feedback record with the right reason,
    /// nothing else was sent or told. Gives the serials that came more than once, with how often, and the identities that
    /// were told more than once.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, placed: &[Placed]) -> Repeats {
        let ledger = self.simulator.handle().ledger();
        let serials = placed.iter().filter_map(|one| one.fate.serial());
        let missing: Vec<u64> = serials.clone().filter(|serial| !ledger.accepted(*serial)).take(20).collect();
        assert!(missing.is_empty(), "never accepted: {missing:?} …");
        assert_eq!(ledger.sums().accepted, serials.clone().count() as u64, "nothing else was accepted");
        assert_eq!(ledger.sums().identity_changes, 0, "a message keeps its identity");

        let mut told: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for record in kafka().records(&self.feedback) {
            let record: Value = serde_json::from_slice(&record.payload).expect("a feedback record is JSON");
            let id = record["metadata"]["pusherId"].as_str().expect("pusherId").parse().expect("a UUID");
            told.entry(id).or_default().push(record["Err"]["Key"].as_str().expect("a reason's key").to_owned());
        }
        let mut repeated_feedback = Vec::new();
        for one in placed {
            let place = one.place();
            let seen = told.remove(&identity(&self.topic, place.0, place.1));
            match (&one.fate, seen) {
                (Fate::Delivered(_) | Fate::Ignored, None) => {}
                (Fate::Refused(key), Some(seen)) if seen.iter().all(|one| one == key) => {
                    repeated_feedback.extend((seen.len() > 1).then_some(place));
                }
                (fate, seen) => panic!("{place:?} must be {fate:?}, its feedback says {seen:?}"),
            }
        }
        assert!(told.is_empty(), "feedback of no message: {told:?}");
        let times = serials.map(|serial| (serial, ledger.of(serial).1));
        Repeats { deliveries: times.filter(|(_, times)| *times > 1).collect(), feedback: repeated_feedback }
    }
}

/// What happened more than once; see [`Rig::assert_nothing_lost`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeats {
    /// Serial, times accepted.
    pub(crate) deliveries: Vec<(u64, u32)>,
    /// Partition, offset.
    pub(crate) feedback: Vec<(i32, i64)>,
}

/// What the generator promises, in the words of the feedback record.
fn fate(push: &Generated) -> Fate {
    Fate::Refused(match push.expected {
        Expected::Delivered { .. } => return Fate::Delivered(push.serial),
        Expected::Expired => "expired",
        Expected::Rejected("Unregistered") => "unregistered",
        Expected::Rejected("BadDeviceToken") => "bad-device-token",
        Expected::Malformed("cut off" | "not json") => "malformed-json",
        Expected::Malformed("not an object") => "not-an-object",
        Expected::Malformed("no token" | "empty token") => "missing-device-token",
        Expected::Malformed("token not a string") => "wrong-type",
        Expected::Malformed("token cannot stand in a path") => "malformed-device-token",
        other => panic!("the generator has something new: {other:?}"),
    })
}

/// The token of a message, when it has one that a table could hold.
pub(crate) fn token(push: &Generated) -> Option<String> {
    let line: Value = serde_json::from_str(&push.line).ok()?;
    let token = line.get("DeviceToken")?.as_str()?;
    (!token.is_empty() && token.chars().all(|c| c.is_ascii_hexdigit())).then(|| token.to_owned())
}
