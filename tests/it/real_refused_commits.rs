//! Commits of which Apache Kafka refuses a part: what is refused of one topic or partition is no matter of the others.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pusher::queue::Lent;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::support::kafka::{Committed, Kafka, USER, login};
use crate::support::reader::{LONG, Reader, offsets, resolve};
use crate::support::unique;

/// The least that the broker takes for a session.
const SESSION: Duration = Duration::from_secs(6);

/// One that grants what it is told to, and takes short metadata only.
fn strict() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| Kafka::start_guarded("offset.metadata.max.bytes=200\n"))
}

fn acl(how: &str, words: &[&str]) {
    strict().acls(&[&[how, "--allow-principal", &format!("User:{USER}")], words].concat());
}

/// Two apps with a topic each, and a group of their own.
struct Two {
    apps: [String; 2],
    topics: [String; 2],
    group: String,
    producer: BaseProducer,
}

impl Two {
    /// The first may be read, the second be seen.
    fn new(partitions: i32) -> Two {
        let apps = [unique("one"), unique("other")];
        let topics = [0, 1].map(|index| format!("push-{}_apns-single", apps[index]));
        let producer = strict().config().set("linger.ms", "1").create().expect("a producer");
        let two = Two { group: unique("group"), topics, apps, producer };
        two.topics.iter().for_each(|topic| strict().create_topic(topic, partitions));
        acl("--add", &["--consumer", "--topic", &two.topics[0], "--group", &two.group]);
        acl("--add", &["--operation", "Describe", "--topic", &two.topics[1]]);
        two
    }

    /// Whether the second topic may be read.
    fn read_second(&self, how: &str) {
        acl(how, &["--operation", "Read", "--topic", &self.topics[1]]);
    }

    fn produce(&self, topic: usize, partition: i32, n: usize) {
        for _ in 0..n {
            let record = BaseRecord::<(), str>::to(&self.topics[topic]).partition(partition).payload("push");
            self.producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
            self.producer.poll(Duration::ZERO);
        }
        self.producer.flush(LONG).expect("all records in the log");
    }

    fn reader(&self) -> Reader {
        let login = login(USER).map(|(name, value)| (format!("queue.kafka.{name}"), value));
        let mut options: Vec<_> = login.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        options.push(("queue.group", &self.group));
        Reader::new(&strict().brokers, &[&self.apps[0], &self.apps[1]], &options, 10_000)
    }

    fn committed(&self, topic: usize) -> Vec<Committed> {
        strict().committed(&self.group, &self.topics[topic])
    }

    fn has_committed(&self, topic: usize, offset: i64) -> bool {
        self.committed(topic)[0].offset == Some(offset)
    }

    /// Which of a topic's are among these.
    fn of(&self, lent: &[Lent], topic: usize) -> usize {
        lent.iter().filter(|lent| *lent.message.origin.topic == *self.topics[topic]).count()
    }
}

/// What decides where a partition begins is committed first. That of a topic which may not be read is refused.
#[test]
fn a_topic_that_may_not_be_read_keeps_no_other_from_beginning() {
    let two = Two::new(2);
    (0..2).for_each(|topic| two.produce(topic, 0, 5));
    let mut reader = two.reader();
    let lent = reader.read(5);
    assert_eq!((two.of(&lent, 0), offsets(&lent)), (5, (0..5).collect()));
    resolve(lent);
    reader.until("its commit", |_, _| two.has_committed(0, 5));
    two.read_second("--add");
    let lent = reader.read(5);
    assert_eq!(two.of(&lent, 1), 5, "it begins as soon as it may");
    resolve(lent);
    reader.until("its commit", |_, _| two.has_committed(1, 5));
    reader.close();
}

/// After a silence nothing is sent before the group has accepted a commit: one that is refused for a topic must not hide that
/// the others are accepted.
#[test]
fn a_topic_whose_commits_are_refused_keeps_no_other_from_being_sent() {
    let two = Two::new(1);
    two.read_second("--add");
    (0..2).for_each(|topic| two.produce(topic, 0, 5));
    let mut reader = two.reader();
    let lent = reader.read(10);
    reader.until("the starts' commits", |_, _| two.has_committed(0, 0) && two.has_committed(1, 0));
    two.read_second("--remove");
    resolve(lent);
    reader.until("the first one's commit", |_, _| two.has_committed(0, 5));
    assert!(two.has_committed(1, 0), "{:?}", two.committed(1));
    two.produce(0, 0, 5);
    let began = Instant::now();
    while began.elapsed() < SESSION + SESSION / 4 {
        std::thread::park_timeout(SESSION / 4);
    }
    let new = reader.read(5);
    assert!(two.of(&new, 0) == 5 && new.iter().all(|lent| lent.receipt.may_send()));
    resolve(new);
    reader.until("their commit", |_, _| two.has_committed(0, 10));
    let (failed, began) = (reader.told().commits_failed, Instant::now());
    reader.until("a while", |_, _| began.elapsed() > SESSION);
    let failed = reader.told().commits_failed - failed;
    // Pauses of 250 ms and twice as long each time.
    assert!(failed <= 6, "{failed} refused commits in {SESSION:?}: no storm for what stays refused");
    two.read_second("--add");
    reader.until("the other one's commit", |_, _| two.has_committed(1, 5));
    reader.close();
}

#[test]
fn a_map_that_is_too_long_for_the_broker_costs_no_other_partition_its_map() {
    let two = Two::new(2);
    two.produce(0, 0, 20);
    two.produce(0, 1, 4_000);
    let mut reader = two.reader();
    let lent = reader.read(4_020);
    reader.until("the starts' commits", |_, _| two.committed(0).iter().all(|one| one.offset == Some(0)));
    let (held, done): (Vec<_>, Vec<_>) = lent.into_iter().partition(|lent| lent.message.offset % 3 == 0);
    let mut random = fastrand::Rng::with_seed(7);
    let (more, done): (Vec<_>, Vec<_>) =
        done.into_iter().partition(|lent| lent.message.origin.partition == 1 && random.bool());
    resolve(done);
    let began = Instant::now();
    reader.until("a while", |_, _| began.elapsed() > Duration::from_secs(2));
    let [short, long] = <[Committed; 2]>::try_from(two.committed(0)).expect("two partitions");
    assert!(short.offset == Some(0) && !short.metadata.is_empty(), "{short:?}");
    assert_eq!((long.offset, &*long.metadata), (Some(0), ""));
    reader.close();
    let [short, long] = <[Committed; 2]>::try_from(two.committed(0)).expect("two partitions");
    assert!(!short.metadata.is_empty() && long.metadata.is_empty(), "{short:?} {long:?}");
    drop((held, more));
}
