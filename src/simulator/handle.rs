//! The levers and the view of a running simulator, the same for every provider.

use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::counters::{Counters, Counts};
use super::ledger::Ledger;
use super::levers::Levers;
use super::listener::Shared;
use super::service::{Command, GoAway, Service};

/// A [`Service`] with faults to switch and a memory to read.
pub trait Provider: Service {
    /// What can be switched; the default is the faithful, healthy provider.
    type Faults: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What was seen.
    type Stats: Serialize;

    /// The faults in force.
    fn faults(&self) -> &RwLock<Arc<Self::Faults>>;
    /// What is wrong with the values, named for people.
    fn validate(faults: &Self::Faults) -> Result<(), String>;
    /// How connections behave under these faults.
    fn levers(faults: &Self::Faults) -> Levers;
    /// Faults have changed; for what does not read them on its own.
    fn changed(&self) {}
    /// The GOAWAY of this name; `None`: the most ordinary one.
    fn goaway(reason: Option<&str>) -> GoAway;
    /// Which serials arrived.
    fn ledger(&self) -> &Ledger;
    /// What was seen, given what was counted.
    fn stats(&self, counts: Counts) -> Self::Stats;
    /// Forgets what was seen.
    fn forget(&self);
}

/// The levers and the view of a running simulator. Cheap to clone.
#[derive(Debug)]
pub struct Handle<P: Provider> {
    pub(super) provider: Arc<P>,
    counters: Arc<Counters>,
    shared: Arc<Shared<P>>,
    initial: Arc<P::Faults>,
}

impl<P: Provider> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Handle {
            provider: Arc::clone(&self.provider),
            counters: Arc::clone(&self.counters),
            shared: Arc::clone(&self.shared),
            initial: Arc::clone(&self.initial),
        }
    }
}

impl<P: Provider> Handle<P> {
    /// Of a listener that was just started: the faults in force are those that a reset returns to.
    pub fn new(provider: Arc<P>, shared: Arc<Shared<P>>) -> Self {
        let initial = Arc::clone(&provider.faults().read());
        Handle { provider, counters: Arc::clone(&shared.counters), shared, initial }
    }

    /// The faults in force.
    pub fn faults(&self) -> P::Faults {
        P::Faults::clone(&self.provider.faults().read())
    }

    /// Replaces all faults. The error names the value and its rule.
    pub fn set_faults(&self, faults: P::Faults) -> Result<(), String> {
        P::validate(&faults)?;
        self.put(Arc::new(faults));
        Ok(())
    }

    fn put(&self, faults: Arc<P::Faults>) {
        self.shared.set_levers(P::levers(&faults));
        *self.provider.faults().write() = faults;
        self.provider.changed();
    }

    /// Changes some faults; the error is as in [`Handle::set_faults`].
    pub fn change(&self, edit: impl FnOnce(&mut P::Faults)) -> Result<(), String> {
        let mut faults = self.faults();
        edit(&mut faults);
        self.set_faults(faults)
    }

    /// GOAWAY with `reason` on every open connection; what was taken in is answered.
    pub fn goaway(&self, reason: &str) {
        self.shared.order(Command::GoAway(P::goaway(Some(reason))));
    }

    /// GOAWAY for the provider's most ordinary reason.
    pub fn goaway_as_usual(&self) {
        self.shared.order(Command::GoAway(P::goaway(None)));
    }

    /// Breaks every open connection without a word.
    pub fn close_connections(&self) {
        self.shared.order(Command::Close);
    }

    /// Silences every open connection for good: bytes are taken, nothing is said.
    pub fn mute_connections(&self) {
        self.shared.order(Command::Mute);
    }

    /// What was seen.
    pub fn stats(&self) -> P::Stats {
        self.provider.stats(self.counters.counts())
    }

    /// Which serials arrived.
    pub fn ledger(&self) -> &Ledger {
        self.provider.ledger()
    }

    /// Forgets what was seen and returns to the faults of the start. Connections stay.
    pub fn reset(&self) {
        self.provider.forget();
        self.counters.reset();
        self.put(Arc::clone(&self.initial));
    }
}
