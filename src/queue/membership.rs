//! The client as a member of its group, and its end.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;

use super::client::client;
use super::config::Settings;
use super::context::{Consumer, Context};
use super::prefetch::Prefetch;
use super::wakeup::Wakeup;

/// Longest farewell of a client that nobody has asked to hurry.
const LEAVE: Duration = Duration::from_secs(5);
/// Shortest one that it is given.
const HURRY: Duration = Duration::from_secs(2);

/// The consumer of a queue. Dropping it leaves the group, and takes no longer than a bound: a client that is destroyed has been
/// seen to wait for a thread of its own for ever (librdkafka issues 4041 and 4884), and that must hold up neither the end
/// of the process nor a panic.
pub(super) struct Membership {
    /// There until the drop.
    consumer: Option<Arc<Consumer>>,
    limit: Duration,
}

impl Membership {
    /// A client that is no member before it subscribes. It connects by itself.
    pub(super) fn prepare(settings: &Settings, prefetch: Prefetch, wakeup: &Wakeup) -> KafkaResult<Self> {
        let mut consumer: Consumer = client(settings, prefetch).create_with_context(Context::default())?;
        let on_event = wakeup.clone();
        consumer.set_nonempty_callback(move || on_event.wake());
        Ok(Membership { consumer: Some(Arc::new(consumer)), limit: LEAVE })
    }

    /// How long the farewell may take.
    pub(super) fn leave_within(&mut self, limit: Duration) {
        self.limit = limit.max(HURRY);
    }
}

impl Deref for Membership {
    type Target = Arc<Consumer>;

    fn deref(&self) -> &Arc<Consumer> {
        self.consumer.as_ref().expect("it is taken by the drop alone")
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.context().close();
            leave(consumer, self.limit);
        }
    }
}

/// Destroys the client aside, and waits for no longer than `limit`.
fn leave(consumer: Arc<Consumer>, limit: Duration) {
    let (done, left) = sync_channel::<()>(1);
    let body = move || {
        drop(consumer);
        drop(done);
    };
    match std::thread::Builder::new().name("leave-group".into()).spawn(body) {
        Ok(_) => {
            if left.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("the client did not leave the group in time; the group notices by its session timeout");
            }
        }
        Err(error) => tracing::warn!(%error, "no thread to leave the group on"),
    }
}
