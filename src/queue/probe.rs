//! What can be proved about Kafka without joining the group: that it answers, which topics are ours, that they may be read,
//! how far the group is behind, and that its members share partitions as we would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{client, option_error};
use super::config::{Reset, Settings};
use super::prefetch::Prefetch;
use super::topic::is_nobodys;
use super::{Owner, Selection};
use crate::config::ConfigError;
use crate::kafka_acl::{self, Group, Topic};
use crate::message::Platform;
use crate::proof::{Finding, Proof};

const SUBJECT: &str = "kafka";
const TOPIC: &str = "topic";
const GROUP: &str = "group";
/// Between two questions to a coordinator that is not there yet.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(200);

/// A look at Kafka with a client of its own.
pub struct Probe {
    settings: Settings,
    selection: Box<dyn Selection>,
    /// Who should have a topic, and what to do where one has none.
    expected: Vec<Expected>,
    consumer: BaseConsumer<Ear>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("brokers", &self.settings.brokers).finish_non_exhaustive()
    }
}

/// Remembers the client's last words about a broker.
#[derive(Debug, Default)]
struct Ear(Mutex<Option<String>>);

impl ClientContext for Ear {
    /// What matters comes as an error too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    /// That all brokers are down says less than why one is.
    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.0.lock();
        if heard.is_none() || error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *heard = Some(kafka_acl::plain(reason).to_owned());
        }
    }
}

impl ConsumerContext for Ear {}

/// An app that should have a topic.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its name.
    pub app: Arc<str>,
    /// Its platform.
    pub platform: Platform,
    /// The names that such a topic can have, for people.
    pub named: String,
}

/// Our topics with their partitions.
type Ours = BTreeMap<String, i32>;

impl Probe {
    /// Connects lazily.
    ///
    /// # Errors
    /// As [`super::kafka::KafkaQueue::start`]: a pattern or an option that makes no sense.
    pub fn new(
        settings: Settings,
        selection: Box<dyn Selection>,
        expected: Vec<Expected>,
    ) -> Result<Self, ConfigError> {
        let consumer = client(&settings, Prefetch::of(settings.prefetch_bytes, 1))
            .create_with_context(Ear::default())
            .map_err(|error| option_error(&settings, &error))?;
        Ok(Probe { settings, selection, expected, consumer })
    }

    /// The look as a proof; it may take about `limit`.
    pub fn proof(self, limit: Duration) -> Proof {
        Proof::blocking(SUBJECT, move || self.look(Instant::now() + limit))
    }

    fn look(&self, end: Instant) -> Vec<Finding> {
        let brokers = &self.settings.brokers;
        let metadata = match self.consumer.fetch_metadata(None, left(end)) {
            Ok(metadata) => metadata,
            Err(error) => return vec![self.away(&error)],
        };
        let all = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let ours: Ours = all
            .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
            .filter(|(topic, _)| self.selection.owner(topic).is_some())
            .collect();
        let said = format!("{brokers} answers (brokers: {})", metadata.brokers().len());
        let mut findings = vec![Finding::proved(SUBJECT, said)];
        let nobodys = self.settings.topics.iter().filter(|pattern| is_nobodys(pattern));
        findings.extend(nobodys.map(|pattern| {
            Finding::wrong(TOPIC, format!("no topic can be called {pattern:?} ({})", self.settings.key(".topics")))
                .fix("begin it with ^ if it is a regular expression")
        }));
        findings.extend(self.apps_without(&ours));
        if !ours.is_empty() {
            let lags = self.lags(&ours, end);
            let (names, broker): (Vec<_>, _) = (ours.keys().cloned().collect(), kafka_acl::broker_of(&metadata));
            let may = kafka_acl::topics(self.consumer.client(), &names, broker, left(end)).unwrap_or_default();
            findings.extend(ours.iter().map(|(topic, n)| self.topic(topic, *n, may.get(topic), &lags)));
        }
        findings.push(self.group(self.described(end)));
        findings
    }

    /// A group's coordinator may be on its way, to a new group above all.
    fn described(&self, end: Instant) -> Result<Group, Code> {
        loop {
            match kafka_acl::group(self.consumer.client(), &self.settings.group, left(end)) {
                Err(Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
                    if Instant::now() < end =>
                {
                    std::thread::park_timeout(COORDINATOR_PAUSE);
                }
                other => return other,
            }
        }
    }

    fn away(&self, error: &KafkaError) -> Finding {
        // Errors of brokers are told by polling, one at a time.
        while self.consumer.poll(Duration::from_millis(50)).is_some() {}
        let why = self.consumer.context().0.lock().clone().unwrap_or_else(|| error.to_string());
        Finding::away(SUBJECT, format!("{} does not answer: {why}", self.settings.brokers)).fix(format!(
            "check {}, and {} and the like",
            self.settings.key(".brokers"),
            self.settings.key(".kafka.security.protocol")
        ))
    }

    /// An app that nothing can be consumed for: odd when others have topics, a mistake when none has.
    fn apps_without(&self, ours: &Ours) -> Vec<Finding> {
        let of = |expected: &Expected, owner: Owner| owner.app == expected.app && owner.platform == expected.platform;
        let has = |expected: &&Expected| {
            ours.keys().any(|topic| self.selection.owner(topic).is_some_and(|owner| of(expected, owner)))
        };
        let make = if ours.is_empty() { Finding::wrong } else { Finding::unproved };
        let without = self.expected.iter().filter(|expected| !has(expected));
        without
            .map(|Expected { app, named, .. }| {
                make(TOPIC, format!("there is none for app {app}, or none that this user may see"))
                    .fix(format!("create {named}, or allow this user to describe them"))
            })
            .collect()
    }

    fn topic(&self, topic: &str, partitions: i32, may: Option<&Result<Topic, Code>>, lags: &Lags) -> Finding {
        let forbidden = may.is_some_and(|answer| match answer {
            Ok(described) => described.may.is_some_and(|may| !may.read()),
            Err(code) => *code == Code::TopicAuthorizationFailed,
        });
        if forbidden {
            return Finding::wrong(TOPIC, format!("{topic} may not be read by this user")).fix(format!(
                "grant it: kafka-acls.sh --bootstrap-server {} --add --allow-principal User:<us> --consumer --group {} \
                 --topic {topic}",
                self.settings.brokers, self.settings.group
            ));
        }
        let begins = match self.settings.reset {
            Reset::Latest => "at the end",
            Reset::Earliest => "at the beginning",
        };
        let group = &self.settings.group;
        let behind = match lags.as_ref().map(|lags| lags.get(topic).copied().unwrap_or_default()) {
            Err(error) => format!("lag not known: {error}"),
            Ok(Lag { new, .. }) if new == partitions => {
                format!(
                    "group {group} has committed nothing and begins {begins} ({})",
                    self.settings.key(".offsetResetStrategy")
                )
            }
            Ok(Lag { behind, new: 0 }) => format!("group {group} is {behind} behind"),
            Ok(Lag { behind, new }) => format!("group {group} is {behind} behind, {new} begin {begins}"),
        };
        Finding::proved(TOPIC, format!("{topic}: partitions: {partitions}, {behind}"))
    }

    fn group(&self, described: Result<Group, Code>) -> Finding {
        let name = &self.settings.group;
        let read = "grant it: kafka-acls.sh --add --allow-principal User:<us> --operation Read --group";
        match described {
            Ok(Group { may: Some(may), .. }) if !may.read() => {
                Finding::wrong(GROUP, format!("{name} may not be joined by this user")).fix(format!("{read} {name}"))
            }
            Err(Code::GroupAuthorizationFailed) => {
                Finding::wrong(GROUP, format!("{name} may not be described by this user")).fix(format!("{read} {name}"))
            }
            Ok(Group { members: 0, .. }) => Finding::proved(GROUP, format!("{name} has no members now")),
            Ok(Group { members, assignor, .. }) if !assignor.is_empty() && !self.shares_by(&assignor) => {
                Finding::wrong(
                    GROUP,
                    format!("{name} shares partitions by {assignor} (members: {members}), which ours does not"),
                )
                .fix(format!("use the same {} for all members", self.settings.key(".assignment")))
            }
            Ok(Group { members, assignor, .. }) => {
                Finding::proved(GROUP, format!("{name} has members: {members}, sharing partitions by {assignor}"))
            }
            Err(code) => Finding::unproved(GROUP, format!("{name} was not described: {code}")),
        }
    }

    fn shares_by(&self, assignor: &str) -> bool {
        let ours = self.settings.options.get("partition.assignment.strategy");
        ours.is_none_or(|ours| ours.split(',').any(|one| one.trim() == assignor))
    }

    /// Per topic; an error is of all.
    fn lags(&self, ours: &Ours, end: Instant) -> Lags {
        let mut asked = TopicPartitionList::new();
        for (topic, partitions) in ours {
            asked.add_partition_range(topic, 0, partitions - 1);
        }
        let committed = self.consumer.committed_offsets(asked.clone(), left(end))?;
        asked.set_all_offsets(Offset::End)?;
        let ends = self.consumer.offsets_for_times(asked, left(end))?;
        Ok(lags(&committed, &ends))
    }
}

/// How far the group is behind in a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lag {
    behind: i64,
    /// Partitions without a committed offset.
    new: i32,
}

type Lags = KafkaResult<BTreeMap<String, Lag>>;

fn lags(committed: &TopicPartitionList, ends: &TopicPartitionList) -> BTreeMap<String, Lag> {
    let mut lags = BTreeMap::<String, Lag>::new();
    for one in committed.elements() {
        let lag = lags.entry(one.topic().to_owned()).or_default();
        let end = ends.find_partition(one.topic(), one.partition()).map(|end| end.offset());
        match (one.offset(), end) {
            (Offset::Offset(at), Some(Offset::Offset(end))) => lag.behind += (end - at).max(0),
            (Offset::Offset(_), _) => {}
            _ => lag.new += 1,
        }
    }
    lags
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::proof::State;
    use crate::queue::topic::PushTopics;

    fn probe(pairs: &[(&str, &str)]) -> Probe {
        let settings = Settings::from_config(&Config::from_pairs(pairs.iter().copied())).unwrap();
        let (platform, apps) = (Platform("apns"), ["game", "other"].map(Arc::<str>::from));
        let topics = PushTopics::new(&settings.topics, platform, &[platform], &apps).unwrap();
        let expected = apps.map(|app| Expected { named: format!("push-{app}_apns"), app, platform });
        Probe::new(settings, Box::new(topics), expected.into()).unwrap()
    }

    #[test]
    fn a_group_that_shares_partitions_in_another_way_is_found() {
        let group = |assignor: &str| Group { members: 2, assignor: assignor.into(), may: None };
        let ours = probe(&[]);
        assert_eq!(ours.group(Ok(group("range"))).state, State::Proved);
        let wrong = ours.group(Ok(group("cooperative-sticky")));
        assert_eq!(
            (wrong.state, wrong.fix.as_deref()),
            (State::Wrong, Some("use the same queue.assignment for all members"))
        );
        let ours = probe(&[("queue.assignment", "cooperative-sticky")]);
        assert_eq!(ours.group(Ok(group("cooperative-sticky"))).state, State::Proved);
        assert_eq!(ours.group(Err(Code::UnsupportedVersion)).state, State::Unproved);
    }

    #[test]
    fn an_app_without_topics_is_odd_and_no_app_with_topics_is_wrong() {
        let states = |ours: &[&str]| {
            let ours = ours.iter().map(|topic| ((*topic).to_owned(), 1)).collect();
            probe(&[]).apps_without(&ours).iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_eq!(states(&["push-game_apns-single", "push-other_apns-massive"]), []);
        assert_eq!(states(&["push-game_apns-single"]), [State::Unproved]);
        assert_eq!(states(&[]), [State::Wrong, State::Wrong]);
    }

    #[test]
    fn what_is_known_of_a_topic_is_said() {
        let lags = |behind, new| Ok(BTreeMap::from([("t".to_owned(), Lag { behind, new })]));
        let said = |lags: &Lags| probe(&[]).topic("t", 2, None, lags).said;
        assert_eq!(said(&lags(7, 0)), "t: partitions: 2, group test is 7 behind");
        assert_eq!(said(&lags(7, 1)), "t: partitions: 2, group test is 7 behind, 1 begin at the end");
        assert!(said(&lags(0, 2)).contains("group test has committed nothing and begins at the end"));
        assert!(said(&Err(KafkaError::Canceled)).contains("lag not known"));
    }

    #[test]
    fn lag_is_summed_over_partitions_and_new_ones_are_counted() {
        let (mut committed, mut ends) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (partition, at, end) in [(0, Offset::Offset(5), 12), (1, Offset::Offset(30), 20), (2, Offset::Invalid, 9)] {
            committed.add_partition_offset("t", partition, at).unwrap();
            ends.add_partition_offset("t", partition, Offset::Offset(end)).unwrap();
        }
        assert_eq!(lags(&committed, &ends), BTreeMap::from([("t".into(), Lag { behind: 7, new: 1 })]));
    }
}
