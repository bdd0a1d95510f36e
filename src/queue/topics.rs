//! Which topics exist: asked for on a thread of its own, because a metadata call may wait for a broker and the poll thread
//! must not.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::logs::Logs;

/// How often new topics are looked for; the first look is at once.
const REFRESH: Duration = Duration::from_secs(10);
/// How long one look may take.
const CALL: Duration = Duration::from_secs(5);
/// After a look that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// The topics of the cluster with their numbers of partitions.
pub(super) type Topics = BTreeMap<String, i32>;

/// A look-out for topics. Ends when dropped.
#[derive(Debug)]
pub(super) struct TopicWatch {
    lists: Receiver<Topics>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TopicWatch {
    /// Starts looking, also at `logs`, with a client of its own that belongs to no group. `found` is called on its thread.
    pub(super) fn start(
        config: &ClientConfig,
        logs: Logs,
        found: impl Fn() + Send + 'static,
    ) -> std::io::Result<TopicWatch> {
        let (send, lists) = sync_channel(1);
        let (stop, stopped) = sync_channel(1);
        let mut config = config.clone();
        config.remove("group.id");
        let body = move || {
            let client: BaseConsumer = match config.create() {
                Ok(client) => client,
                Err(error) => return tracing::error!(alarm = true, %error, "cannot look for topics"),
            };
            look(&client, &send, &stopped, found, || logs.look(&client, &config));
        };
        let thread = std::thread::Builder::new().name("topics".into()).spawn(body)?;
        Ok(TopicWatch { lists, stop: Some(stop), thread: Some(thread) })
    }

    /// The latest list, when there is one that has not been taken yet.
    pub(super) fn latest(&self) -> Option<Topics> {
        self.lists.try_iter().last()
    }
}

fn look(
    client: &BaseConsumer,
    lists: &SyncSender<Topics>,
    stopped: &Receiver<()>,
    found: impl Fn(),
    look_at_logs: impl Fn(),
) {
    loop {
        look_at_logs();
        let pause = match client.fetch_metadata(None, CALL) {
            Ok(metadata) => {
                let whole = metadata.topics().iter().filter(|topic| topic.error().is_none());
                let topics = whole.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect();
                match lists.try_send(topics) {
                    Ok(()) => found(),
                    // The one before has not been taken yet; the next look brings a newer one.
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Disconnected(_)) => return,
                }
                REFRESH
            }
            Err(error) => {
                tracing::debug!(%error, "listing topics");
                AGAIN
            }
        };
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Drop for TopicWatch {
    fn drop(&mut self) {
        self.stop.take();
        // Not joined: it may be inside a call for some seconds, and nothing depends on its end.
        self.thread.take();
    }
}
