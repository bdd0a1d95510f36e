//! Whether the topic is there; made when it is not and may be.

use std::future::Future;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::{Settings, Stage};

/// Longest wait for an answer.
const CALL: Duration = Duration::from_secs(5);

/// Looks for the topic, and makes it with `maker` if it is missing and that is wanted. `Ok`: it is there.
pub(super) fn find<C: ConsumerContext>(
    settings: &Settings,
    maker: Option<&ClientConfig>,
    consumer: &BaseConsumer<C>,
) -> Result<(), Stage> {
    // A consumer's question: a producer's would have some brokers make the topic, and not a compacted one.
    match look(consumer, &settings.topic)? {
        None => Ok(()),
        Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic)) => match maker.filter(|_| settings.create) {
            Some(client) => create(settings, client),
            None => Err(missing(settings, code)),
        },
        Some(code) => Err(Stage::Away(format!("{}: {code}", settings.topic))),
    }
}

fn look<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<Option<Code>, Stage> {
    match consumer.fetch_metadata(Some(topic), CALL) {
        Ok(metadata) => Ok(metadata.topics().first().and_then(rdkafka::metadata::MetadataTopic::error).map(Code::from)),
        Err(error) => Err(away(&error)),
    }
}

/// An answer of the brokers to one request of an administrator's; the thread waits for it.
fn asked<T, F: Future<Output = KafkaResult<T>>>(
    client: &ClientConfig,
    ask: impl FnOnce(AdminClient<DefaultClientContext>) -> F,
) -> Result<T, Stage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stage::Away(error.to_string()))?;
    let admin = client.create().map_err(|error| away(&error))?;
    runtime.block_on(ask(admin)).map_err(|error| away(&error))
}

fn create(settings: &Settings, client: &ClientConfig) -> Result<(), Stage> {
    // The brokers' own number of replicas.
    let topic = NewTopic::new(&settings.topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let answer = asked(client, async |admin| admin.create_topics([&topic], &options).await)?;
    match answer.into_iter().next() {
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(missing(settings, code)),
        Some(Ok(_)) | None => {
            tracing::info!(topic = settings.topic, "made the control topic");
            Ok(())
        }
    }
}

/// A topic that somebody else made, or a broker by itself, may forget. Waits for an answer; who may not ask is not told.
pub(super) fn warn_unless_compacted(settings: &Settings, client: &ClientConfig) {
    let resource = ResourceSpecifier::Topic(&settings.topic);
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let answer = asked(client, async |admin| admin.describe_configs([&resource], &options).await);
    let described = answer.ok().and_then(|answer| answer.into_iter().next()?.ok());
    let policy = described.as_ref().and_then(|config| config.get("cleanup.policy")?.value.clone());
    if let Some(policy) = policy.filter(|policy| !policy.contains("compact")) {
        let topic = &settings.topic;
        tracing::warn!(
            topic,
            policy,
            "the control topic is not compacted and will forget what it holds: set its cleanup.policy to compact"
        );
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
