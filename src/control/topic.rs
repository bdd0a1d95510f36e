//! Whether the topic is there; made when it is not and may be.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::{Settings, Stage};

/// Longest wait for an answer.
const CALL: Duration = Duration::from_secs(5);

/// Looks for the topic, and makes it if it is missing and that is wanted. `Ok`: it is there.
pub(super) fn find<C: ConsumerContext>(
    settings: &Settings,
    client: &ClientConfig,
    consumer: &BaseConsumer<C>,
) -> Result<(), Stage> {
    // A consumer's question: a producer's would have some brokers make the topic, and not a compacted one.
    match look(consumer, &settings.topic)? {
        None => Ok(()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) if settings.create => create(settings, client),
        Some(code) => Err(missing(settings, code)),
    }
}

fn look<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<Option<Code>, Stage> {
    match consumer.fetch_metadata(Some(topic), CALL) {
        Ok(metadata) => {
            Ok(metadata.topics().first().and_then(rdkafka::metadata::MetadataTopic::error).map(Code::from))
        }
        Err(error) => Err(away(&error)),
    }
}

fn create(settings: &Settings, client: &ClientConfig) -> Result<(), Stage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stage::Away(error.to_string()))?;
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|error| away(&error))?;
    // The brokers' own number of replicas.
    let topic = NewTopic::new(&settings.topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let answer = runtime.block_on(admin.create_topics([&topic], &options)).map_err(|error| away(&error))?;
    match answer.into_iter().next() {
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(missing(settings, code)),
        Some(Ok(_)) | None => {
            tracing::info!(topic = settings.topic, "made the control topic");
            Ok(())
        }
    }
}

fn away(error: &KafkaError) -> Stage {
    let code = error.rdkafka_error_code();
    Stage::Away(code.map_or_else(|| error.to_string(), |code| code.to_string()))
}

fn missing(settings: &Settings, code: Code) -> Stage {
    let Settings { topic, brokers, .. } = settings;
    Stage::Missing(format!(
        "there is no control topic {topic} that may be used ({code}); make it: kafka-topics.sh --bootstrap-server {brokers} --create \
         --topic {topic} --partitions 1 --config cleanup.policy=compact"
    ))
}
