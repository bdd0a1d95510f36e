//! What must outlive a process and be known to all of them: decisions of people and of valves, as entries key → JSON.
//!
//! # Layout
//! [`state`] (the entries, pure) · [`config`] · `orders` (what is set and not written yet) · `topic` (is it there) ·
//! `kafka` (the thread that reads and writes).
//!
//! # How it works
//! The entries live in a compacted Kafka topic with one partition, so that no other neighbour is needed. Every process reads
//! it from its beginning, without a group, and follows it: an entry that anybody sets is known to all in moments, and to
//! who starts later. The end of an entry is a record without a value; who ended it is in its header `by`. The topic is the
//! truth: [`Control::set`] shows in the state when it has been read back. While the topic cannot be reached all goes on with
//! what is known (but for a listener that knows nothing yet): what is set waits, the last value of each key, and is written
//! when it can.
//! Without a topic ([`Control::in_memory`]) the state is this process's own.
//!
//! Nothing here knows what an entry means.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

pub mod config;
mod kafka;
mod orders;
pub mod state;
mod topic;

pub use config::Settings;
use orders::{Change, Orders};
pub use state::State;

/// How far a process has come with reading the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not at the end yet.
    Reading,
    /// All that was there at the start has been read; what comes is followed.
    Complete,
    /// There is no topic, and it was not made; why, and what to do.
    Missing(String),
    /// It cannot be reached; why. Tried again.
    Away(String),
}

/// What is known at a moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The entries.
    pub state: Arc<State>,
    /// Whether these are all.
    pub stage: Stage,
}

/// Why the entries cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// There is no topic.
    #[error("{0}")]
    Missing(String),
    /// It did not answer in time.
    #[error("the control topic cannot be read: {0}")]
    Away(String),
}

/// The handle to the entries; clones are the same one. The last one's end ends the thread behind it.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    view: watch::Receiver<View>,
    orders: Arc<Orders>,
    /// Where there is no topic: the state itself.
    own: Option<watch::Sender<View>>,
    /// Until it is started.
    thread: Mutex<Option<kafka::Thread>>,
    stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("view", &self.0.view.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Control {
    /// Entries in the topic of these settings, of this process alone without. Connects to nothing: see [`Control::start`].
    pub fn new(settings: Option<Settings>) -> Self {
        let Some(settings) = settings else { return Control::in_memory() };
        let (sender, view) = watch::channel(View { state: Arc::default(), stage: Stage::Reading });
        let (orders, stop) = (Arc::new(Orders::default()), Arc::new(AtomicBool::new(false)));
        let thread = Mutex::new(Some(kafka::Thread::new(settings, sender, orders.clone(), stop.clone())));
        Control(Arc::new(Inner { view, orders, own: None, thread, stop }))
    }

    /// Begins to read and to write, in a thread of its own.
    pub fn start(&self) {
        let Some(thread) = self.0.thread.lock().take() else { return };
        if let Err(error) = std::thread::Builder::new().name("control".into()).spawn(move || thread.run()) {
            tracing::warn!(%error, "no thread for the control topic: valves work in memory");
        }
    }

    /// Entries of this process alone.
    pub fn in_memory() -> Self {
        let (sender, view) = watch::channel(View { state: Arc::default(), stage: Stage::Complete });
        let (orders, thread, stop) = (Arc::default(), Mutex::default(), Arc::default());
        Control(Arc::new(Inner { view, orders, own: Some(sender), thread, stop }))
    }

    /// The entries as they are now.
    pub fn state(&self) -> Arc<State> {
        self.0.view.borrow().state.clone()
    }

    /// For whoever wants to know of changes.
    pub fn watch(&self) -> watch::Receiver<View> {
        self.0.view.clone()
    }

    /// Sets an entry. Comes back at once; the entry is written as soon as it can be.
    pub fn set<T: Serialize>(&self, key: &str, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) if text.len() <= state::LONGEST => self.order(key, Change::Value(text.into())),
            Ok(text) => tracing::error!(alarm = true, key, length = text.len(), "an entry is too long to be kept"),
            Err(error) => tracing::error!(alarm = true, key, %error, "an entry that is no JSON cannot be kept"),
        }
    }

    /// Removes an entry; `by` is told to all who follow ([`State::ended_by`]).
    pub fn remove(&self, key: &str, by: impl Display) {
        self.order(key, Change::End(by.to_string().into()));
    }

    fn order(&self, key: &str, change: Change) {
        match &self.0.own {
            None => self.0.orders.add(key.into(), change),
            Some(own) => own.send_modify(|view| {
                let state = Arc::make_mut(&mut view.state);
                match &change {
                    Change::Value(value) => state.apply(key, Some(value)),
                    Change::End(by) => state.end(key, Some(by)),
                };
            }),
        }
    }

    /// Waits until all that was there at the start has been read.
    ///
    /// # Errors
    /// There is no topic, or it has not answered within `limit`. It may come later all the same.
    pub async fn read(&self, limit: Duration) -> Result<(), NotRead> {
        let mut view = self.watch();
        let came =
            timeout(limit, view.wait_for(|view| matches!(view.stage, Stage::Complete | Stage::Missing(_)))).await;
        let stage = came.map_or_else(
            |_| self.0.view.borrow().stage.clone(),
            |view| view.map_or(Stage::Away("its thread has ended".into()), |view| view.stage.clone()),
        );
        match stage {
            Stage::Complete => Ok(()),
            Stage::Missing(why) => Err(NotRead::Missing(why)),
            Stage::Away(why) => Err(NotRead::Away(why)),
            Stage::Reading => Err(NotRead::Away(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// Waits until all that was set is written (acknowledged by all in-sync replicas), at most `limit`; whether it is.
    pub async fn written(&self, limit: Duration) -> bool {
        let mut open = self.0.orders.open();
        matches!(timeout(limit, open.wait_for(|open| *open == 0)).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_memory_what_is_set_is_known_at_once_and_told() {
        let control = Control::in_memory();
        let mut watch = control.watch();
        assert_eq!(control.read(Duration::ZERO).await, Ok(()));
        control.set("valve/a", &7);
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().state.get::<i32>("valve/a"), Some(7));
        control.remove("valve/a", "ann");
        assert_eq!(control.state().get::<i32>("valve/a"), None);
        assert_eq!(control.state().ended_by("valve/a"), Some("ann"));
        assert!(control.written(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_kept() {
        let control = Control::in_memory();
        control.set("k", &"x".repeat(state::LONGEST));
        assert!(control.state().is_empty());
    }
}
