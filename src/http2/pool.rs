//! The handle of a pool, its numbers, and the handle of one of its connections.

use std::fmt;
use std::sync::Arc;

use super::shared::{Entry, Shared};
use super::tls::Trust;
use super::{PoolSettings, SendError, Slot};

/// Connections to one peer under one credential, on one sender thread. Cheap to clone; its tasks run on the runtime
/// that it was made on. When the last clone is dropped, it closes.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// Closes the pool when its last handle goes.
struct Owner(Arc<Shared>);

/// A pool in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that take new streams.
    pub connections: usize,
    /// Connections that only finish what they have.
    pub draining: usize,
    /// Connections being opened.
    pub connecting: usize,
    /// Places in use: granted, sent, unanswered.
    pub in_flight: usize,
    /// Callers that wait for a place.
    pub waiting: usize,
    /// Connections opened so far.
    pub handshakes: u64,
    /// Connects that failed so far, and connections that ended before their first answer.
    pub connect_failures: u64,
    /// GOAWAYs received so far.
    pub goaways: u64,
    /// How often a connection used up its peer's flow-control window.
    pub window_stalls: u64,
    /// Requests so far without an answer in time.
    pub timeouts: u64,
    /// Connections so far that ended with requests unanswered.
    pub lost: u64,
}

impl Pool {
    /// A pool on the current runtime; opens `min_idle` connections in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(settings: PoolSettings, tls: impl Into<Trust>) -> Self {
        let shared = Shared::new(settings, tls.into());
        Pool { owner: Arc::new(Owner(shared)) }
    }

    /// Waits for a place, first come, first served. Fails with [`Failure::Connect`](super::Failure::Connect) when the connect that it waits for
    /// fails while no other connection lives, and at once during the pause after such a failure; with
    /// [`Failure::Closed`](super::Failure::Closed) when the pool is closed.
    pub async fn acquire(&self) -> Result<Slot, SendError> {
        match self.owner.0.enter()? {
            Entry::Place(slot) => Ok(slot),
            Entry::Queue(place) => place.await.unwrap_or_else(|_| Err(self.owner.0.closed())),
        }
    }

    /// Refuses all that waits for a place, now and from now on; open streams go on.
    pub fn close(&self) {
        self.owner.0.close();
    }

    /// Waits until every connection of a closed pool has ended.
    pub async fn ended(&self) {
        self.owner.0.ended().await;
    }

    /// Marks every present connection as not to be used for new streams; they end when their streams have ended.
    /// For a credential that the peer has turned against (expired provider token, revoked key).
    pub fn retire_all(&self) {
        let shared = &self.owner.0;
        shared.with_state(|state| state.retire_all("retired"));
    }

    /// Connections are for a credential of this generation or a later one from now on: those of an earlier one end when their
    /// streams have ended, and each [`Slot`] says which one it is of. What waits for a place gets one on a new connection.
    pub fn renew(&self, generation: u32) {
        let shared = &self.owner.0;
        shared.with_state(|state| state.renew(generation));
    }

    /// The peer was reached from elsewhere: the pause after failed connects is over, if there is one.
    pub fn end_rest(&self) {
        self.owner.0.end_rest();
    }

    /// The pool in numbers.
    pub fn stats(&self) -> Stats {
        let state = self.owner.0.state.lock();
        let totals = state.totals;
        let living = state.living();
        Stats {
            connections: living,
            draining: state.members.iter().filter(|member| !member.ended).count() - living,
            connecting: state.width.connecting(),
            in_flight: state.members.iter().map(|member| member.places.in_flight()).sum(),
            waiting: state.waiters.len(),
            handshakes: totals.handshakes,
            connect_failures: totals.connect_failures,
            goaways: totals.goaways,
            window_stalls: totals.window_stalls,
            timeouts: totals.timeouts,
            lost: totals.lost,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One connection of a pool, to be retired by who learns that it is of no more use. The default refers to none.
#[derive(Clone, Default)]
pub struct ConnectionRef(Option<(Arc<Shared>, u64)>);

impl ConnectionRef {
    pub(super) fn new(shared: Arc<Shared>, id: u64) -> Self {
        ConnectionRef(Some((shared, id)))
    }

    /// Marks this connection as not to be used for new streams; it ends when its streams have ended.
    pub fn retire(&self) {
        if let Some((shared, id)) = &self.0 {
            shared.retire(*id, "retired");
        }
    }
}

impl fmt::Debug for ConnectionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((shared, id)) => write!(f, "connection {id} to {}", shared.settings.host),
            None => f.write_str("no connection"),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.owner.0.settings;
        f.debug_struct("Pool").field("host", &settings.host).field("port", &settings.port).finish_non_exhaustive()
    }
}
