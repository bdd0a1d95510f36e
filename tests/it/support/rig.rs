//! A worker's whole world: topics on the real Kafka, tables on the real PostgreSQL, a provider of its own, and the books that
//! say what must become of every record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pusher::generate::produce::LineProducer;
use pusher::generate::{Generated, Generator, Settings};
use pusher::message::identity;
use pusher::simulator::apns::Simulator;
use pusher::simulator::handle::Provider;
use serde_json::Value;
use uuid::Uuid;

use super::far::Far;
use super::kafka::Record;
use super::postgres::Database;
use super::worker::Worker;
use super::{kafka, postgres, unique};

/// How long anything may take on a busy machine that is to come by itself.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// One worker's world; nothing in it is another test's.
pub(crate) struct Rig<F = Simulator> {
    pub(crate) app: String,
    pub(crate) group: String,
    /// `push-<app>_<platform>-massive`.
    pub(crate) topic: String,
    pub(crate) feedback: String,
    pub(crate) simulator: F,
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
    /// An app with one push topic of so many partitions, its feedback topic and an empty table; pushed to through APNs.
    pub(crate) fn new(stem: &str, partitions: i32) -> Rig {
        Rig::with(stem, partitions)
    }
}

impl<F: Far> Rig<F> {
    /// The same for any provider.
    pub(crate) fn with(stem: &str, partitions: i32) -> Self {
        let app = unique(stem);
        let rig = Rig {
            group: unique("group"),
            topic: format!("push-{app}_{}-massive", F::PLATFORM),
            feedback: format!("push-{app}-{}-feedbacks", F::PLATFORM),
            simulator: F::start(<F::Levers as Provider>::Faults::default(), &[&app]),
            database: postgres().database(stem),
            credentials: tempfile::tempdir().expect("a folder"),
            next_serial: 0,
            fates: HashMap::new(),
            app,
        };
        kafka().create_topic(&rig.topic, partitions);
        kafka().create_topic(&rig.feedback, 2);
        kafka().create_topic(&format!("deadletters-{}-apns", rig.app), 1);
        rig.database.query(&format!("CREATE TABLE \"{}\" (token text PRIMARY KEY)", rig.table()));
        rig
    }

    /// The app's table of tokens.
    pub(crate) fn table(&self) -> String {
        format!("{}_{}", self.app, F::PLATFORM)
    }

    /// Starts a worker; `more` goes before the rig's own settings. Names without `PUSHER_`.
    pub(crate) fn worker(&self, more: &[(&str, &str)]) -> Worker {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all: BTreeMap<String, String> = self.settings().into_iter().chain(more).collect();
        let all: Vec<_> = all.into_iter().map(|(name, value)| (format!("PUSHER_{name}"), value)).collect();
        Worker::start(F::PLATFORM, &all)
    }

    /// Starts a worker with the rig's settings and with more of an environment, which are no settings.
    pub(crate) fn worker_in(&self, environment: &[(&str, &str)]) -> Worker {
        let settings = self.settings().into_iter().map(|(name, value)| (format!("PUSHER_{name}"), value));
        let more = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Worker::start(F::PLATFORM, &settings.chain(more).collect::<Vec<_>>())
    }

    fn settings(&self) -> Vec<(String, String)> {
        let common = [
            ("queue.brokers", kafka().brokers.clone()),
            ("queue.group", self.group.clone()),
            ("queue.offsetResetStrategy", "earliest".into()),
            ("feedback.reporters", "kafka".into()),
            ("feedback.kafka.brokers", kafka().brokers.clone()),
            ("invalidToken.handlers", "pg".into()),
            ("invalidToken.pg.host", postgres().host.clone()),
            ("invalidToken.pg.port", postgres().port.to_string()),
            ("invalidToken.pg.user", postgres().user.clone()),
            ("invalidToken.pg.database", self.database.name.clone()),
            ("workers", "2".into()),
        ];
        let far = self.simulator.settings(&[&self.app], self.credentials.path());
        let all = far.into_iter().chain(common.map(|(key, value)| (key.to_owned(), value)));
        all.map(|(key, value)| (key.to_uppercase().replace('.', "_"), value)).collect()
    }

    /// Makes messages, with serials that go on from the last ones, and notes what must become of them.
    pub(crate) fn generate(&mut self, settings: Settings) -> Vec<Generated> {
        let settings = Settings { first_serial: self.next_serial, ..settings };
        self.next_serial += settings.count;
        let made: Vec<_> = Generator::new(F::shape(&self.app), settings).collect();
        for push in &made {
            let fate = push.expected.reason_key().map_or(Fate::Delivered(push.serial), Fate::Refused);
            self.note(push.line.clone(), fate);
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

    /// Different messages that the provider accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.simulator.levers().ledger().sums().accepted
    }

    /// Waits until everything produced has its outcome: the provider has accepted what it will, and the group has committed the
    /// end of each log without a map, which it does only when every refusal's record is acknowledged.
    #[track_caller]
    pub(crate) fn settle(&self, worker: &mut Worker, limit: Duration) {
        let wanted = self.deliveries();
        worker.until(&format!("{wanted} deliveries"), limit, || (self.accepted() >= wanted).then_some(()));
        let ends = kafka().end_offsets(&self.topic);
        worker.until(&format!("the ends {ends:?} committed"), limit, || self.has_committed(&ends).then_some(()));
    }

    /// Whether these ends are committed, with nothing open before them.
    pub(crate) fn has_committed(&self, ends: &[i64]) -> bool {
        self.has_committed_of(&self.topic, ends)
    }

    /// The same of any topic.
    pub(crate) fn has_committed_of(&self, topic: &str, ends: &[i64]) -> bool {
        let committed = kafka().committed(&self.group, topic);
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
        let ledger = self.simulator.levers().ledger();
        let serials = placed.iter().filter_map(|one| one.fate.serial());
        let missing: Vec<u64> = serials.clone().filter(|serial| !ledger.accepted(*serial)).take(20).collect();
        assert!(missing.is_empty(), "never accepted: {missing:?} …");
        assert_eq!(ledger.sums().accepted, serials.clone().count() as u64, "nothing else was accepted");
        assert_eq!(ledger.sums().identity_changes, 0, "a message keeps its identity");

        let mut told: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for record in kafka().records(&self.feedback) {
            let record: Value = serde_json::from_slice(&record.payload).expect("a feedback record is JSON");
            let id = record["metadata"]["pusherId"].as_str().expect("pusherId").parse().expect("a UUID");
            told.entry(id).or_default().push(F::told(&record).expect("a reason's key").to_owned());
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

/// The token of a message, when it has one that a table could hold.
pub(crate) fn token<F: Far>(push: &Generated) -> Option<String> {
    let line: Value = serde_json::from_str(&push.line).ok()?;
    F::token(&line).filter(|token| !token.is_empty()).map(ToOwned::to_owned)
}
