//! Apache Kafka, one KRaft node, from the jars that `tools/kafka-fetch` keeps in a cache.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::process::{self, Server};
use super::{ports, root, wait_for};

/// How long the broker may take to start: 6 s on an idle machine, more among compilers.
const START: Duration = Duration::from_mins(2);
/// How long the console producer may take.
const PRODUCE: Duration = Duration::from_mins(5);
/// How long one request to the broker may take.
const REQUEST: Duration = Duration::from_secs(20);

/// A Kafka to test with.
pub(crate) struct Kafka {
    /// The bootstrap address, `host:port`.
    pub(crate) brokers: String,
    ours: Option<Broker>,
    /// Who the tests are, where the broker asks for that.
    user: Option<&'static str>,
}

/// The users of [`Kafka::start_guarded`]; each one's password is its name.
const ADMIN: &str = "admin";
/// Java's side of SASL PLAIN.
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
/// One who may do nothing but what is granted.
pub(crate) const USER: &str = "push";

/// What was committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: i32,
    /// `None`: the group has committed nothing here.
    pub(crate) offset: Option<i64>,
    pub(crate) metadata: String,
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) payload: Vec<u8>,
}

impl Kafka {
    pub(super) fn find_or_start() -> Self {
        match std::env::var("PUSHER_TEST_KAFKA") {
            Ok(brokers) if !brokers.is_empty() => Kafka { brokers, ours: None, user: None },
            _ => Kafka::start_apart(),
        }
    }

    /// A broker of its own, for a test that stops it.
    pub(crate) fn start_apart() -> Self {
        Kafka::start_with("PLAINTEXT", "", None)
    }

    /// One that asks for a name and a password and lets nobody do anything that was not granted. The tests are its admin. `more`:
    /// further properties.
    pub(crate) fn start_guarded(more: &str) -> Self {
        let guard = format!(
            "listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=SASL_PLAINTEXT\n\
             sasl.enabled.mechanisms=PLAIN\n\
             sasl.mechanism.inter.broker.protocol=PLAIN\n\
             listener.name.sasl_plaintext.plain.sasl.jaas.config={PLAIN} required username=\"{ADMIN}\" password=\"{ADMIN}\" \
             user_{ADMIN}=\"{ADMIN}\" user_{USER}=\"{USER}\";\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:{ADMIN};User:ANONYMOUS\n\
             {more}"
        );
        Kafka::start_with("SASL_PLAINTEXT", &guard, Some(ADMIN))
    }

    fn start_with(listener: &str, more: &str, user: Option<&'static str>) -> Self {
        let broker = Broker::format(listener, more);
        let kafka = Kafka { brokers: format!("127.0.0.1:{}", broker.port), ours: Some(broker), user };
        kafka.start();
        kafka
    }

    /// Grants the user something, in the words of `kafka-acls.sh --add`, or takes it away with `--remove`.
    pub(crate) fn acls(&self, words: &[&str]) {
        let folder = process::folder("acls");
        let admin = format!(
            "security.protocol=SASL_PLAINTEXT\n\
             sasl.mechanism=PLAIN\n\
             sasl.jaas.config={PLAIN} required username=\"{ADMIN}\" password=\"{ADMIN}\";\n"
        );
        fs::write(folder.join("admin.properties"), admin).expect("admin.properties");
        let common = ["--bootstrap-server", &self.brokers, "--command-config", "admin.properties", "--force"];
        let words: Vec<&str> = common.iter().chain(words).copied().collect();
        Server::start("acls", &folder, &java(&jars(), "org.apache.kafka.tools.AclCommand", &words)).finish(PRODUCE);
    }

    /// Starts the broker on its old port with its old data, and waits until it answers.
    pub(crate) fn start(&self) {
        let ours = self.broker();
        let mut running = ours.running.lock();
        assert!(running.is_none(), "kafka is running already");
        let mut server = Server::start("kafka", &ours.folder, &ours.command("kafka.Kafka", &["server.properties"]));
        let consumer = self.consumer("start");
        server.wait_until(START, || consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok());
        *running = Some(server);
    }

    /// Ends the broker with `signal` ("TERM": in good order, "KILL": a crash) and waits until it is gone.
    pub(crate) fn stop(&self, signal: &str) {
        self.broker().running.lock().take().expect("kafka is not running").end(signal);
    }

    /// Stops in good order and starts again. For a Kafka of one's own ([`Kafka::start_apart`]): others see the outage.
    pub(crate) fn restart(&self) {
        self.stop("TERM");
        self.start();
    }

    /// Creates a topic and waits until its partitions have a leader.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = wait_for(async { admin.create_topics([&topic], &AdminOptions::new()).await });
        for result in created.expect("an answer to CreateTopics") {
            result.unwrap_or_else(|(topic, error)| panic!("cannot create topic {topic}: {error}"));
        }
        let consumer = self.consumer("create-topic");
        super::eventually(&format!("leaders of topic {name}"), REQUEST, || {
            let metadata = consumer.fetch_metadata(Some(name), REQUEST).ok()?;
            let led = metadata.topics().first()?.partitions().iter().filter(|p| p.leader() >= 0).count();
            (led == partitions as usize).then_some(())
        });
    }

    /// Sets one property of a topic, which must have no other.
    pub(crate) fn set_topic(&self, name: &str, property: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(property, value);
        let changed = wait_for(async { admin.alter_configs([&change], &AdminOptions::new()).await });
        for result in changed.expect("an answer to AlterConfigs") {
            result.unwrap_or_else(|(_, error)| panic!("cannot set {property} of topic {name}: {error}"));
        }
    }

    /// The end of each partition's log (the next record's offset), by partition.
    pub(crate) fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let consumer = self.consumer("end-offsets");
        self.partitions(topic).map(|p| consumer.fetch_watermarks(topic, p, REQUEST).expect("watermarks").1).collect()
    }

    /// What `group` has committed for each partition of `topic`.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> Vec<Committed> {
        let mut asked = TopicPartitionList::new();
        for partition in self.partitions(topic) {
            asked.add_partition(topic, partition);
        }
        let answer = self.consumer(group).committed_offsets(asked, REQUEST).expect("committed offsets");
        answer
            .elements()
            .iter()
            .map(|e| Committed {
                partition: e.partition(),
                offset: if let Offset::Offset(offset) = e.offset() { Some(offset) } else { None },
                metadata: e.metadata().to_owned(),
            })
            .collect()
    }

    /// All records from the beginning of `topic` to its present end, by partition and offset.
    pub(crate) fn records(&self, topic: &str) -> Vec<Record> {
        let ends = self.end_offsets(topic);
        let consumer = self.consumer("records");
        let mut from = TopicPartitionList::new();
        for partition in self.partitions(topic) {
            from.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&from).expect("an assignment");
        let wanted = ends.iter().sum::<i64>() as usize;
        let mut records = Vec::with_capacity(wanted);
        while records.len() < wanted {
            let message = consumer.poll(REQUEST).expect("the next record").expect("a record");
            // What came after we looked is not asked for, and must not stand for what is.
            if message.offset() >= ends[message.partition() as usize] {
                continue;
            }
            let payload = message.payload().unwrap_or_default().to_vec();
            records.push(Record { partition: message.partition(), offset: message.offset(), payload });
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Produces `lines` with Kafka's own console producer, as people do by hand, and waits until it is done.
    pub(crate) fn console_producer<L: AsRef<str>>(&self, topic: &str, lines: impl IntoIterator<Item = L>) {
        let folder = process::folder("console-producer");
        let mut file = std::io::BufWriter::new(fs::File::create(folder.join("lines")).expect("a file"));
        for line in lines {
            writeln!(file, "{}", line.as_ref()).expect("room for the lines");
        }
        file.flush().expect("room for the lines");
        let arguments = ["--bootstrap-server", &self.brokers, "--topic", topic];
        // On a leash as the servers are: without a broker it would try for ever.
        let mut command = ["sh", "-c", "exec \"$@\" <lines", "sh"].map(ToOwned::to_owned).to_vec();
        command.extend(java(&jars(), "org.apache.kafka.tools.ConsoleProducer", &arguments));
        Server::start("console producer", &folder, &command).finish(PRODUCE);
    }

    /// Client configuration for this Kafka.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("log_level", "3");
        for (name, value) in self.user.into_iter().flat_map(login) {
            config.set(name, value);
        }
        config
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        self.config().set("group.id", group).set("enable.auto.commit", "false").create().expect("a consumer")
    }

    fn partitions(&self, topic: &str) -> std::ops::Range<i32> {
        let metadata = self.consumer("partitions").fetch_metadata(Some(topic), REQUEST).expect("metadata");
        0..metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32)
    }

    fn broker(&self) -> &Broker {
        self.ours.as_ref().expect("PUSHER_TEST_KAFKA names a Kafka that the tests may not stop: unset it")
    }
}

/// A user's options for librdkafka.
pub(crate) fn login(user: &'static str) -> [(&'static str, &'static str); 4] {
    [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", user),
        ("sasl.password", user),
    ]
}

/// The broker that this run started: its folder outlives stops and starts.
struct Broker {
    jars: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Mutex<Option<Server>>,
}

impl Broker {
    fn format(listener: &str, more: &str) -> Self {
        let (jars, folder) = (jars(), process::folder("kafka"));
        let (port, controller) = (ports::free(), ports::free());
        let properties = properties(&folder.join("data"), listener, port, controller) + more;
        fs::write(folder.join("server.properties"), properties).expect("server.properties");
        // What `StorageTool random-uuid` would print, without another JVM: 16 bytes in URL-safe base64.
        let cluster = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
        let broker = Broker { jars, folder, port, running: Mutex::new(None) };
        // In one word: an id may begin with a dash.
        let cluster = format!("--cluster-id={cluster}");
        let format = broker.command("kafka.tools.StorageTool", &["format", &cluster, "-c", "server.properties"]);
        Server::start("kafka format", &broker.folder, &format).prepare(START);
        broker
    }

    fn command(&self, class: &str, arguments: &[&str]) -> Vec<String> {
        java(&self.jars, class, arguments)
    }
}

fn properties(data: &Path, listener: &str, port: u16, controller: u16) -> String {
    // With `group.protocol: consumer` the broker says how long a session and a heartbeat last: as with `queue.sessionTimeout`.
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={listener}://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         num.partitions=1\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         group.consumer.min.session.timeout.ms=6000\n\
         group.consumer.session.timeout.ms=6000\n\
         group.consumer.min.heartbeat.interval.ms=1000\n\
         group.consumer.heartbeat.interval.ms=1000\n",
        data.display()
    )
}

/// The command line of a Java program of Kafka's, small and quick to start.
fn java(jars: &Path, class: &str, arguments: &[&str]) -> Vec<String> {
    let class_path = jars.join("*").display().to_string();
    let options = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, class];
    let words = ["java"].iter().chain(&options).chain(arguments);
    words.map(|word| (*word).to_owned()).collect()
}

/// The folder of Kafka's jars; fetched when it is not there.
fn jars() -> PathBuf {
    let fetch = root().join("tools/kafka-fetch");
    PathBuf::from(process::run(&mut Command::new(fetch)).trim()).join("lib")
}
