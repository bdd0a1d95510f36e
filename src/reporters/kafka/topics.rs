//! Whether records can be written, without writing any: the topic exists (a broker that makes topics by itself is asked to
//! make it), and the broker says that this user may write to it.

use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;

use super::Kind;
use crate::kafka_acl::{self, Topic};
use crate::proof::Finding;

/// A broker makes a topic after it has answered that there is none.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What a look at a topic came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// As a broker of this id says.
    There(i32),
    Missing,
    Forbidden,
    Away(Code),
}

/// What is looked at.
pub(super) struct Topics {
    pub(super) kind: Kind,
    pub(super) brokers: String,
    pub(super) names: Vec<String>,
}

impl Topics {
    /// What a finding is about.
    pub(super) fn subject(kind: &Kind) -> String {
        format!("{} topic", kind.name)
    }

    /// One finding per topic. `last_words` are the client's about its brokers. Blocks; `deadline` bounds it.
    pub(super) fn inspect<C: ClientContext>(
        &self,
        client: &Client<C>,
        deadline: Duration,
        last_words: impl Fn() -> Option<String>,
    ) -> Vec<Finding> {
        let end = Instant::now() + deadline;
        let mut findings = Vec::new();
        let (mut there, mut broker) = (Vec::new(), 0);
        for topic in &self.names {
            match look(client, topic, end) {
                Seen::There(answered) => {
                    broker = answered;
                    there.push(topic.clone());
                }
                Seen::Missing => findings.push(self.missing(topic)),
                Seen::Forbidden => findings.push(self.forbidden(topic, "described")),
                Seen::Away(code) => {
                    findings.push(self.away(code, last_words()));
                    return findings;
                }
            }
        }
        if there.is_empty() {
            return findings;
        }
        match kafka_acl::topics(client, &there, broker, left(end)) {
            Ok(answers) => findings.extend(answers.iter().map(|(topic, answer)| self.judged(topic, *answer))),
            Err(code) => {
                let why = format!("the broker did not say: {code}");
                findings.extend(there.iter().map(|topic| self.unknown(topic, &why)));
            }
        }
        findings
    }

    fn judged(&self, topic: &str, answer: Result<Topic, Code>) -> Finding {
        match answer {
            Ok(Topic { may: Some(may), .. }) if !may.write() => self.forbidden(topic, "written"),
            Ok(Topic { may: Some(_), partitions }) => {
                let said = format!("{topic} exists and may be written (partitions: {partitions})");
                Finding::proved(&Topics::subject(&self.kind), said)
            }
            Ok(Topic { may: None, .. }) => self.unknown(topic, "this broker does not say who may write"),
            Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                self.forbidden(topic, "described")
            }
            Err(code) => self.unknown(topic, &format!("the broker did not say: {code}")),
        }
    }

    fn unknown(&self, topic: &str, why: &str) -> Finding {
        let said = format!("{topic} exists; whether it may be written shows with the first record ({why})");
        Finding::unproved(&Topics::subject(&self.kind), said)
    }

    fn missing(&self, topic: &str) -> Finding {
        let Topics { kind: Kind { or_else, .. }, brokers, .. } = self;
        Finding::wrong(&Topics::subject(&self.kind), format!("{topic} does not exist{or_else}"))
            .fix(format!("create it: kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic}"))
    }

    fn forbidden(&self, topic: &str, what: &str) -> Finding {
        let Topics { kind: Kind { or_else, .. }, brokers, .. } = self;
        let said = format!("{topic} may not be {what} by this user{or_else}");
        Finding::wrong(&Topics::subject(&self.kind), said).fix(format!(
            "grant it: kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:<us> --producer --topic {topic}"
        ))
    }

    fn away(&self, code: Code, last_words: Option<String>) -> Finding {
        let why = last_words.unwrap_or_else(|| code.to_string());
        let options = self.kind.section.options.trim_end_matches('*');
        Finding::away(&Topics::subject(&self.kind), format!("{} does not answer: {why}", self.brokers))
            .fix(format!("check the brokers, and {options}security.protocol and the like"))
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
}

fn look<C: ClientContext>(client: &Client<C>, topic: &str, end: Instant) -> Seen {
    for asked in 1.. {
        let (broker, code) = match client.fetch_metadata(Some(topic), left(end)) {
            Ok(metadata) => {
                let refused = metadata.topics().first().and_then(MetadataTopic::error);
                (kafka_acl::broker_of(&metadata), refused.map(Code::from))
            }
            Err(KafkaError::MetadataFetch(code)) => (0, Some(code)),
            Err(_) => (0, Some(Code::Fail)),
        };
        match code {
            None => return Seen::There(broker),
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => return Seen::Forbidden,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic) if asked >= LOOKS => break,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable)
                if Instant::now() < end =>
            {
                std::thread::park_timeout(PAUSE);
            }
            Some(code) => return Seen::Away(code),
        }
    }
    Seen::Missing
}
