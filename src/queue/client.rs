//! The consumer's client: its options, and the errors after which it cannot go on.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::QueueError;
use super::config::Settings;
use crate::config::ConfigError;

/// What the promise fixes goes over what the configuration passes through.
pub(super) fn client(settings: &Settings) -> ClientConfig {
    let mut client = ClientConfig::new();
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
    if settings.options.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
        client.set("session.timeout.ms", session.to_string());
        client.set("heartbeat.interval.ms", (session / 3).min(3000).to_string());
    }
    client
}

/// Whether librdkafka takes all options.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    client(settings).create_native_config().map(drop).map_err(|error| option_error(&error))
}

/// An option that librdkafka does not know or take.
pub(super) fn option_error(error: &KafkaError) -> ConfigError {
    let (name, why) = match error {
        KafkaError::ClientConfig(_, description, name, _) => (format!("queue.kafka.{name}"), description.clone()),
        other => ("queue.kafka".to_owned(), other.to_string()),
    };
    ConfigError { key: name, value: None, rule: format!("was refused by librdkafka: {why}") }
}

/// Errors after which trying on would be silence: somebody must mend the group or the permissions.
pub(super) fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::InconsistentGroupProtocol | RDKafkaErrorCode::GroupAuthorizationFailed)
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
