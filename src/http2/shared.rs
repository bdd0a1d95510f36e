//! What handles, slots and tasks of a pool share: its one lock, and the tasks that open and drive its connections.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{self, ConnectError, Opened};
use super::state::{Member, State};
use super::tls::Trust;
use super::width::Width;
use super::{ConnectionRef, Failure, Fate, PoolSettings, SendError, Slot, connection};

/// How long a connection without a request may wait for its peer's window, or for its leave for a stream, before it is replaced.
const PATIENCE: Duration = Duration::from_secs(1);

/// What handles, slots and tasks of a pool share.
pub(super) struct Shared {
    pub(super) settings: PoolSettings,
    pub(super) state: Mutex<State<Slot>>,
    tls: Trust,
    runtime: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What who asks for a place gets.
pub(super) enum Entry {
    /// The place.
    Place(Slot),
    /// A place in the queue.
    Queue(oneshot::Receiver<Result<Slot, SendError>>),
}

impl Shared {
    /// The pool's shared half on the current runtime; begins to connect for the idle minimum.
    pub(super) fn new(settings: PoolSettings, tls: Trust) -> Arc<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(&settings)),
            settings,
            tls,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        shared.with_state(|_| ());
        shared
    }

    /// Takes a place when there is one and nobody waits, else joins the queue.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Entry, SendError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(self.closed());
        }
        if state.waiters.is_empty()
            && let Some(place) = state.take()
        {
            return Ok(Entry::Place(Slot::new(self.clone(), place)));
        }
        if state.living() == 0 && state.width.is_resting(Instant::now()) {
            state.width.miss();
            return Err(Self::no_connection(&state.refusal));
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.push(sender);
        self.widen(&mut state);
        Ok(Entry::Queue(receiver))
    }

    /// Waits until every connection of a closed pool has ended.
    pub(super) async fn ended(&self) {
        self.tasks.wait().await;
    }

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
        if !state.waiters.is_empty() || state.useful() < state.least(&self.settings) {
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
        let (tls, family) = (self.tls.current(), self.state.lock().family);
        let opened = tokio::select! {
            opened = connect::open(&self.settings, &tls, family) => opened,
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
        let Opened { link, channel, peer, .. } = opened;
        let id = self.with_state(|state| {
            let id = state.join(&self.settings, link.clone(), peer);
            state.width.ended();
            if state.closed {
                state.retire_all("closed");
            }
            id
        });
        tracing::debug!(host = %self.settings.host, %peer, "connection opened");
        let why = connection::Driver::new(self.clone(), id, link, channel).await;
        self.connection_ended(id, &why)
    }

    fn connection_ended(self: &Arc<Self>, id: u64, why: &str) -> Option<Duration> {
        let now = Instant::now();
        self.with_state(|state| {
            let member = state.member(id)?;
            let (announced, lived) = (member.end.is_some(), now.duration_since(member.born));
            (member.ended, member.is_breaking) = (true, false);
            member.turn_away(why);
            let (peer, streams, by_us) = (member.peer, member.places.in_flight(), member.by_us);
            // A peer that drops us again and again must not be hammered; one that says GOAWAY after work may. Its work counts
            // when its answers were read: with the end in the same packet, no request's task has looked at them yet.
            let (first, longest) = self.settings.backoff;
            let (answered, looked_at) = (member.link.answered(), member.answered);
            let useless = !by_us && if answered { !announced && lived < first } else { lived < longest };
            let reason = member.end.clone().unwrap_or_default();
            if answered && !looked_at && !useless {
                self.works(&mut state.width);
            }
            state.totals.lost += u64::from(streams > 0);
            state.sweep_members();
            let is_told = !by_us || streams > 0;
            if let Some(untold) = is_told.then(|| state.ends.note(&reason, now)).flatten() {
                tracing::info!(host = %self.settings.host, %peer, streams, %reason, untold, "connection ended");
            }
            useless.then(|| {
                let host = &self.settings.host;
                self.refuse_waiters(state, &format!("{host} ({peer}) ended the connection at once: {reason}"), now)
            })
        })
    }

    /// A connection proved of use.
    pub(super) fn works(&self, width: &mut Width) {
        if width.works() {
            tracing::info!(host = %self.settings.host, "connected again");
        }
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
        state.family = state.family.other();
        let news = !state.width.is_resting(now);
        let pause = state.width.failed(now, fastrand::f64());
        // Once per outage: the reason is in every refused message's error as well.
        if news && state.width.failures() == 1 {
            tracing::warn!(host = %self.settings.host, port = self.settings.port, reason, "no connection");
        } else {
            tracing::debug!(host = %self.settings.host, reason, failures = state.width.failures(), "still no connection");
        }
        state.refusal = Arc::from(reason);
        if state.living() == 0 && state.width.connecting() == 0 {
            for waiter in state.waiters.drain() {
                let _ = waiter.send(Err(Self::no_connection(reason))); // refused: it gave up in the same moment
            }
        }
        pause
    }

    pub(super) fn close(self: &Arc<Self>) {
        let waiters = {
            let mut state = self.state.lock();
            state.closed = true;
            state.retire_all("closed");
            state.waiters.drain()
        };
        self.tasks.close();
        self.closing.cancel();
        for waiter in waiters {
            let _ = waiter.send(Err(self.closed())); // refused: it gave up in the same moment
        }
    }

    /// Ends the pause after failed connects, and makes up for what was missed in it.
    pub(super) fn end_rest(self: &Arc<Self>) {
        self.with_state(|state| {
            state.width.end_rest();
            if state.living() == 0 {
                self.widen(state);
            }
        });
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
        // One that allows no stream, or has no window, from the beginning is not called connected, and its waiters hear of that.
        if (member.places.is_shut() || member.places.is_stalled()) && idle >= PATIENCE {
            return Some("its peer has nothing to answer and takes nothing more");
        }
        (idle >= self.settings.idle_timeout && living > self.settings.min_idle).then_some("idle")
    }

    pub(super) fn closed(&self) -> SendError {
        SendError {
            failure: Failure::Closed,
            fate: Fate::NotProcessed,
            detail: format!("connections to {} are closed", self.settings.host),
            connection: ConnectionRef::default(),
            after: Duration::ZERO,
        }
    }

    fn no_connection(reason: &str) -> SendError {
        SendError {
            failure: Failure::Connect,
            fate: Fate::NotProcessed,
            detail: reason.to_owned(),
            connection: ConnectionRef::default(),
            after: Duration::ZERO,
        }
    }
}
