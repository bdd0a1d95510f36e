//! The client that the scout asks with. One that gets no answer is replaced now and then.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};

/// A client that has got no answer for so long is replaced, once in this time: it costs little, and one that stands still though
/// the brokers answer is not told apart from one whose brokers are away.
const PATIENCE: Duration = Duration::from_secs(45);

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// Any broker.
    Brokers,
    /// The one that keeps the group's offsets.
    Coordinator,
}

/// The last error of the client. It is not logged by itself: the group's own client reports the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<String>>>);

impl Heard {
    /// It, if there was one.
    pub(super) fn last(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::trace!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::trace!(%error, reason, "kafka reports an error to the client beside the group");
        *self.0.lock() = Some(reason.to_owned());
    }
}

impl ConsumerContext for Heard {}

/// See the module.
pub(super) struct Client {
    consumer: BaseConsumer<Heard>,
    config: ClientConfig,
    heard: Heard,
    /// Since when it has got no answer, by who is asked.
    silent: [Option<Instant>; 2],
}

impl Client {
    /// Connects by itself.
    pub(super) fn new(config: ClientConfig, heard: Heard) -> KafkaResult<Client> {
        let consumer = config.create_with_context(heard.clone())?;
        Ok(Client { consumer, config, heard, silent: [None; 2] })
    }

    /// Its options.
    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Notes whether who was asked has answered, and replaces a client that has waited for too long.
    pub(super) fn note(&mut self, asked: Asked, well: bool) {
        let silent = &mut self.silent[asked as usize];
        let since = *silent.get_or_insert_with(Instant::now);
        *silent = silent.filter(|_| !well);
        if well || since.elapsed() < PATIENCE {
            return;
        }
        match self.config.create_with_context(self.heard.clone()) {
            Ok(client) => {
                let old = std::mem::replace(&mut self.consumer, client);
                self.silent = [None; 2];
                // Its end may wait for what it waits for.
                let _ = std::thread::Builder::new().name("scout-end".into()).spawn(move || drop(old));
            }
            Err(error) => tracing::debug!(%error, "a client beside the group"),
        }
    }
}

impl Deref for Client {
    type Target = BaseConsumer<Heard>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}
