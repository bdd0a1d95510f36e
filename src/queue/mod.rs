//! Where messages come from: a queue lends each message with a receipt, and moves its offset when receipts are resolved.
//!
//! # Layout
//! - Pure: [`topic`] (names), `topics` (which exist), [`selection`] (which of them are ours), [`offsets`] (the ledger of one partition), [`map`] (what is resolved
//!   beyond the committed offset, as text), `start` (where a partition begins), `settling` (partitions that have not begun),
//!   `anchors` (what is committed), `commit_plan` (what to commit), `belief` (what the first record tells), `prefetch`,
//!   `complaints`, `place`, `fullness` (what is told of a full map).
//! - [`in_flight`]: bounds, shares of apps, receipts. [`memory`]: a queue for tests.
//! - Kafka: [`kafka`] (begin and end), `turn` (the poll thread's work), `record`, `partition`, `rebalance`, `membership`, `commit`,
//!   `seek`, `subscription`, `scout` (asks the brokers, aside), `logs` (where they end, for whoever watches), `standing` (how
//!   our partitions stand), `client` (its options), `context` (callbacks), `native` (what the crate does not wrap),
//!   [`config`]; [`probe`] (what can be proved without joining the group).
//!
//! # Invariants
//! - An offset is committed only when its message and all lent before it are resolved; what is resolved beyond it travels as a
//!   map in the commit's metadata, so that a restart repeats only what was in flight.
//! - A partition is lent under one epoch at a time. Receipts of an epoch that has ended change nothing; of one that was taken
//!   away they are noted, and count when the partition comes back and nobody else has gone on in it.
//! - What we hold is ours while the queue is polled. After a silence that may have cost the membership nothing is sent before
//!   the group has accepted a commit.
//! - A partition without a committed offset gets one, committed, before anything of it is lent.
//! - Each partition has a queue of its own in the client, so that a full share is simply not read: nothing that was
//!   prefetched is thrown away, as pausing would, and the others go on. The poll thread never waits for any of them, nor
//!   for a broker: what has to be asked is asked by the scout.
//!
//! Nothing here knows a provider or a reporter: facts worth a metric go to the [`Observer`].

use std::time::Duration;

use crate::message::{Origin, QueueMessage};

mod anchors;
mod belief;
mod client;
mod commit;
mod commit_plan;
mod complaints;
pub mod config;
mod context;
mod cursor;
mod fullness;
pub mod in_flight;
mod in_vain;
pub mod kafka;
mod logs;
pub mod map;
mod membership;
pub mod memory;
mod native;
pub mod offsets;
mod partition;
mod place;
mod prefetch;
pub mod probe;
mod rebalance;
pub mod record;
mod renewal;
mod scout;
mod seek;
pub mod selection;
mod settling;
mod stall;
pub mod standing;
mod start;
mod subscription;
pub mod topic;
mod topics;
mod turn;
mod wakeup;

pub use in_flight::{InFlight, Receipt, Share};
pub use selection::{Owner, Selection};
pub use standing::Standing;

/// A message and the receipt that must be resolved or released.
#[derive(Debug)]
pub struct Lent {
    /// What came in.
    pub message: QueueMessage,
    /// The obligation that comes with it.
    pub receipt: Receipt,
}

/// Why a queue cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The client is broken for good (fenced, authorisation, a fatal broker answer): stop the process.
    #[error("{0}")]
    Fatal(String),
}

/// A source of messages, driven by one thread of its own. Calls are synchronous and bounded in time.
pub trait Queue: Send {
    /// Serves the group (rebalances, commits on the clock), then lends what is readable and has room, appending to
    /// `out`. Waits at most `wait` when nothing is readable. Never blocks on a full share: that app is skipped.
    fn lend(&mut self, wait: Duration, out: &mut Vec<Lent>) -> Result<(), QueueError>;

    /// Stops lending for good; `lend` goes on serving the group so that the membership lasts through the drain.
    fn stop(&mut self);

    /// Commits what is resolved with the map of what is resolved beyond, leaves the group. Waits at most `deadline`.
    fn close(self: Box<Self>, deadline: Duration) -> Result<(), QueueError>;
}

/// Facts of a queue that are worth a metric. Called on the poll thread, unless said otherwise: short.
pub trait Observer: Send + Sync {
    /// Messages passed over because they were resolved before or are in flight already.
    fn skipped(&self, origin: &Origin, n: u64);
    /// A map in a committed offset's metadata is not used.
    fn map_dropped(&self, origin: &Origin, reason: &'static str);
    /// Offsets that the log lost before they were read.
    fn out_of_range(&self, origin: &Origin, skipped: u64);
    /// A receipt was dropped unresolved: a bug; its message is lent again.
    fn receipts_lost(&self, origin: &Origin, n: u64);
    /// The client stood still, and another has taken its place.
    fn client_replaced(&self) {}
    /// The brokers refused a commit; it is asked for again.
    fn commit_failed(&self);
    /// Length of a map that was committed, in characters of metadata.
    fn map_bytes(&self, origin: &Origin, length: usize);
    /// Partitions that are ours and begun.
    fn assigned(&self, partitions: usize);
    /// Partitions that are ours and wait for a broker to tell where to begin.
    fn unsettled(&self, partitions: usize);
    /// Partitions that had something to read and no room for it, in the last second or so.
    fn starved(&self, partitions: usize);
    /// Partitions of which nothing more is lent because their map is full.
    fn full(&self, partitions: usize);
    /// Topics that look like ours and are not.
    fn ignored_topics(&self, topics: usize);
    /// Age of the oldest message in flight.
    fn oldest_in_flight(&self, age: Duration);
    /// The poll thread goes on: told in every turn.
    fn polled(&self) {}
    /// The scout goes on: told on its own thread, in every turn.
    fn scouted(&self) {}
    /// The commit clock has struck, and how our partitions stand.
    fn standing(&self, standing: Standing) {
        let _ = standing;
    }
    /// The group has said which partitions are ours.
    fn joined(&self) {}
    /// The group has taken all of our partitions back, and has not said yet which are ours.
    fn rebalancing(&self) {}
}

/// An observer that looks away, for tests and tools.
#[derive(Debug)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn skipped(&self, _: &Origin, _: u64) {}
    fn map_dropped(&self, _: &Origin, _: &'static str) {}
    fn out_of_range(&self, _: &Origin, _: u64) {}
    fn receipts_lost(&self, _: &Origin, _: u64) {}
    fn commit_failed(&self) {}
    fn map_bytes(&self, _: &Origin, _: usize) {}
    fn assigned(&self, _: usize) {}
    fn unsettled(&self, _: usize) {}
    fn starved(&self, _: usize) {}
    fn full(&self, _: usize) {}
    fn ignored_topics(&self, _: usize) {}
    fn oldest_in_flight(&self, _: Duration) {}
}
