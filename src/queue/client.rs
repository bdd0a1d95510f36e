//! The consumer's client: its options, and the errors after which it cannot go on.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::QueueError;
use super::config::Settings;
use super::prefetch::Prefetch;
use crate::config::ConfigError;

/// Longest time between two heartbeats. By them a member learns that the group shares anew, and until the last one has, those that have joined
/// stand still and no commit of theirs is answered: of that time a crash repeats what went on meanwhile. Kafka recommends at most a third of the
/// session and less where rebalances are to be short (Kafka: heartbeat.interval.ms).
const HEARTBEAT_MS: u128 = 500;

/// What the promise fixes goes over what the configuration passes through.
pub(super) fn client(settings: &Settings, prefetch: Prefetch) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in prefetch.options(&settings.options) {
        client.set(name, value);
    }
    for (name, value) in &settings.options {
        client.set(name, value);
    }
    let session = settings.session_timeout.as_millis();
    client
        .set("bootstrap.servers", &settings.brokers)
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false");
    // With the group protocol of KIP-848 both are the brokers' to say.
    if !settings.brokers_assign() {
        client.set("session.timeout.ms", session.to_string());
        client.set("heartbeat.interval.ms", (session / 3).min(HEARTBEAT_MS).to_string());
    }
    // The client asks that it is no shorter than a session; its default is five minutes.
    if session > 300_000 && !settings.options.contains_key("max.poll.interval.ms") {
        client.set("max.poll.interval.ms", session.to_string());
    }
    client
}

/// Whether librdkafka takes all options.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let prefetch = Prefetch::of(settings.prefetch_bytes, 1);
    client(settings, prefetch).create_native_config().map(drop).map_err(|error| option_error(settings, &error))
}

/// An option that librdkafka does not know or take.
pub(super) fn option_error(settings: &Settings, error: &KafkaError) -> ConfigError {
    let (name, why) = match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            (settings.key(&format!(".kafka.{name}")), description.clone())
        }
        other => (settings.key(".kafka"), other.to_string()),
    };
    ConfigError { key: name, value: None, rule: format!("was refused by librdkafka: {why}") }
}

/// Errors after which trying on would be silence: somebody must mend the group or the permissions.
pub(super) fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{GroupAuthorizationFailed, InconsistentGroupProtocol, UnsupportedAssignor};
    matches!(code, InconsistentGroupProtocol | GroupAuthorizationFailed | UnsupportedAssignor)
}

/// The end of the queue, with what to do about it.
pub(super) fn fatal(code: RDKafkaErrorCode) -> QueueError {
    let advice = match code {
        RDKafkaErrorCode::InconsistentGroupProtocol => {
            "; another member of the group shares partitions in another way: use the same queue.assignment for all"
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "; allow this user to read the group (kafka-acls --add --operation Read --group …)"
        }
        _ => "",
    };
    QueueError::Fatal(format!("kafka: {code}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn options(pairs: &[(&str, &str)], names: [&str; 4]) -> [Option<String>; 4] {
        let settings = Settings::from_config(&Config::from_pairs(pairs.iter().copied())).expect("settings");
        let client = client(&settings, Prefetch::of(settings.prefetch_bytes, 64));
        names.map(|name| client.get(name).map(ToOwned::to_owned))
    }

    #[test]
    fn a_session_is_ours_to_choose_unless_the_brokers_share_partitions() {
        let names =
            ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "max.poll.interval.ms"];
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(options(&[], names), [text("6000"), text("500"), text("range,roundrobin"), None]);
        assert_eq!(options(&[("queue.kafka.group.protocol", "consumer")], names), [None, None, None, None]);
        let long = options(&[("queue.sessionTimeout", "600000")], names);
        assert_eq!(long, [text("600000"), text("500"), text("range,roundrobin"), text("600000")]);
    }

    #[test]
    fn what_is_fetched_ahead_is_shared_unless_it_was_chosen() {
        let names =
            ["queued.min.messages", "queued.max.messages.kbytes", "fetch.message.max.bytes", "fetch.queue.backoff.ms"];
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(options(&[], names), [text("256"), text("512"), text("262144"), text("5")]);
        let chosen = [("queue.kafka.queued.min.messages", "9"), ("queue.kafka.max.partition.fetch.bytes", "99999")];
        assert_eq!(options(&chosen, names), [text("9"), text("512"), None, text("5")]);
    }
}
