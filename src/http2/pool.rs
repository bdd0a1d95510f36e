//! Places on connections, given out first come, first served; connections opened for those who wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{self, ConnectError, Opened};
use super::state::{Member, State};
use super::{Failure, Fate, PoolSettings, SendError, Slot, connection};

/// How long a connection without a request may wait for its peer's window before it is replaced.
const WINDOW_PATIENCE: Duration = Duration::from_secs(1);

/// Connections to one peer under one credential, on one sender thread. Cheap to clone; its tasks run on the runtime
/// that it was made on. When the last clone is dropped, it closes.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// Closes the pool when its last handle goes.
struct Owner(Arc<Shared>);

/// What handles, slots and tasks of a pool share.
pub(super) struct Shared {
    pub(super) settings: PoolSettings,
    pub(super) state: Mutex<State<Slot>>,
    tls: Arc<ClientConfig>,
    runtime: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
}

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
    pub fn new(settings: PoolSettings, tls: Arc<ClientConfig>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(&settings)),
            settings,
            tls,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        shared.with_state(|_| ());
        Pool { owner: Arc::new(Owner(shared)) }
    }

    /// Waits for a place, first come, first served. Fails with [`Failure::Connect`] when the connect that it waits for
    /// fails while no other connection lives, and at once during the pause after such a failure; with
    /// [`Failure::Closed`] when the pool is closed.
    pub async fn acquire(&self) -> Result<Slot, SendError> {
        let shared = &self.owner.0;
        let receiver = {
            let mut state = shared.state.lock();
            if state.closed {
                return Err(shared.closed());
            }
            if state.waiters.is_empty()
                && let Some(taken) = state.take()
            {
                return Ok(Slot::new(shared.clone(), taken));
            }
            if state.living() == 0 && state.width.is_resting(Instant::now()) {
                state.width.miss();
                return Err(shared.no_connection(&state.refusal));
            }
            let (sender, receiver) = oneshot::channel();
            state.waiters.push(sender);
            shared.widen(&mut state);
            receiver
        };
        receiver.await.unwrap_or_else(|_| Err(shared.closed()))
    }

    /// Refuses all that waits for a place, now and from now on; open streams go on.
    pub fn close(&self) {
        self.owner.0.close();
    }

    /// Waits until every connection of a closed pool has ended.
    pub async fn ended(&self) {
        self.owner.0.tasks.wait().await;
    }

    /// Marks every present connection as not to be used for new streams; they end when their streams have ended.
    /// For a credential that the peer has turned against (expired provider token, revoked key).
    pub fn retire_all(&self) {
        let shared = &self.owner.0;
        shared.with_state(|state| retire_all(state, "retired"));
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

fn retire_all(state: &mut State<Slot>, why: &str) {
    for member in &mut state.members {
        member.retire(why);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    /// Changes the state, then gives out what places there are and opens what connections are called for.
    pub(super) fn with_state<R>(self: &Arc<Self>, change: impl FnOnce(&mut State<Slot>) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let unwanted = self.serve(&mut state);
        drop(state);
        drop(unwanted); // a slot that is dropped locks again
        result
    }

    /// Gives places to those who wait. Returns slots whose waiter went away in the same moment.
    fn serve(self: &Arc<Self>, state: &mut State<Slot>) -> Vec<Slot> {
        let mut unwanted = Vec::new();
        while state.waiters.has_next() {
            let Some(taken) = state.take() else { break };
            let slot = Slot::new(self.clone(), taken);
            let refused = match state.waiters.pop() {
                Some(waiter) => waiter.send(Ok(slot)).err(),
                None => Some(Ok(slot)),
            };
            unwanted.extend(refused.and_then(Result::ok));
        }
        if state.waiters.is_empty() {
            state.width.relax();
        }
        if !state.waiters.is_empty() || state.living() < self.settings.min_idle {
            self.widen(state);
        }
        unwanted
    }

    /// Begins the connects that are called for.
    fn widen(self: &Arc<Self>, state: &mut State<Slot>) {
        for _ in 0..state.connects(&self.settings) {
            self.tasks.spawn_on(Self::run_connection(self.clone()), &self.runtime);
        }
    }

    /// One connection's life, or one failed connect and the pause after it.
    async fn run_connection(self: Arc<Self>) {
        let opened = tokio::select! {
            opened = connect::open(&self.settings, &self.tls) => opened,
            () = self.closing.cancelled() => {
                self.state.lock().width.ended();
                return;
            }
        };
        let pause = match opened {
            Ok(opened) => self.live(opened).await,
            Err(error) => Some(self.connect_failed(&error)),
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = tokio::time::sleep(pause) => self.with_state(|state| {
                    if state.living() == 0 {
                        self.widen(state);
                    }
                }),
                () = self.closing.cancelled() => {}
            }
        }
    }

    /// From the handshake to the end. Returns a pause when the connection was of no use.
    async fn live(self: &Arc<Self>, opened: Opened) -> Option<Duration> {
        let Opened { connection, send, peer, traffic } = opened;
        let probe = send.clone();
        let id = self.with_state(|state| {
            let id = state.join(&self.settings, send, peer, traffic.clone());
            state.width.ended();
            if state.closed {
                retire_all(state, "closed");
            }
            id
        });
        tracing::debug!(host = %self.settings.host, %peer, "connection opened");
        let why = connection::Driver::new(self.clone(), id, connection, probe, traffic).await;
        self.connection_ended(id, &why)
    }

    fn connection_ended(self: &Arc<Self>, id: u64, why: &str) -> Option<Duration> {
        let now = Instant::now();
        self.with_state(|state| {
            let member = state.member(id)?;
            member.ended = true;
            member.turn_away(why);
            let (peer, streams, by_us) = (member.peer, member.places.in_flight(), member.by_us);
            let useless = !by_us && !member.answered && now.duration_since(member.born) < self.settings.backoff.1;
            let reason = member.end.clone().unwrap_or_default();
            state.totals.lost += u64::from(streams > 0);
            state.sweep_members();
            if !by_us || streams > 0 {
                tracing::info!(host = %self.settings.host, %peer, streams, %reason, "connection ended");
            }
            useless.then(|| {
                let host = &self.settings.host;
                self.refuse_waiters(state, &format!("{host} ({peer}) ended the connection at once: {reason}"), now)
            })
        })
    }

    fn connect_failed(self: &Arc<Self>, error: &ConnectError) -> Duration {
        self.with_state(|state| {
            state.width.ended();
            self.refuse_waiters(state, &error.to_string(), Instant::now())
        })
    }

    /// Notes a failure and, unless a connection lives or is being opened, tells it to all who wait. Returns the pause.
    fn refuse_waiters(&self, state: &mut State<Slot>, reason: &str, now: Instant) -> Duration {
        state.totals.connect_failures += 1;
        let pause = state.width.failed(now, fastrand::f64());
        // Once per outage: the reason is in every refused message's error as well.
        if state.width.failures() == 1 {
            tracing::warn!(host = %self.settings.host, port = self.settings.port, reason, "no connection");
        } else {
            tracing::debug!(host = %self.settings.host, reason, failures = state.width.failures(), "still no connection");
        }
        state.refusal = Arc::from(reason);
        if state.living() == 0 && state.width.connecting() == 0 {
            for waiter in state.waiters.drain() {
                let _ = waiter.send(Err(self.no_connection(reason))); // refused: it gave up in the same moment
            }
        }
        pause
    }

    fn close(self: &Arc<Self>) {
        let waiters = {
            let mut state = self.state.lock();
            state.closed = true;
            retire_all(&mut state, "closed");
            state.waiters.drain()
        };
        self.tasks.close();
        self.closing.cancel();
        for waiter in waiters {
            let _ = waiter.send(Err(self.closed())); // refused: it gave up in the same moment
        }
    }

    /// No new streams on this connection.
    pub(super) fn retire(self: &Arc<Self>, id: u64, why: &str) {
        self.with_state(|state| {
            if let Some(member) = state.member(id) {
                member.retire(why);
            }
        });
    }

    /// Whether this idle connection is one too many, or too old.
    pub(super) fn outlived(
        &self,
        member: &Member,
        living: usize,
        life: Option<Duration>,
        now: Instant,
    ) -> Option<&'static str> {
        if life.is_some_and(|life| now.duration_since(member.born) >= life) {
            return Some("recycled after its time");
        }
        let idle = member.idle_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        if member.places.is_stalled() && idle >= WINDOW_PATIENCE {
            return Some("its peer answered everything and opens no window");
        }
        (idle >= self.settings.idle_timeout && living > self.settings.min_idle).then_some("idle")
    }

    fn closed(&self) -> SendError {
        SendError {
            failure: Failure::Closed,
            fate: Fate::NotProcessed,
            detail: format!("connections to {} are closed", self.settings.host),
            connection: ConnectionRef::default(),
        }
    }

    fn no_connection(&self, reason: &str) -> SendError {
        SendError {
            failure: Failure::Connect,
            fate: Fate::NotProcessed,
            detail: reason.to_owned(),
            connection: ConnectionRef::default(),
        }
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
