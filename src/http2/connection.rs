//! The task behind one connection: drives `h2`, learns the peer's limits, watches its requests and its signs of life.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::PoolSettings;
use super::burst::Exit;
use super::connect::{Io, Tls, why_ended};
use super::keep_alive::{Beat, KeepAlive};
use super::shared::Shared;
use super::streams::Expired;
use super::traffic::Traffic;

/// Longest time between two looks at the deadlines.
const LONGEST_TICK: Duration = Duration::from_millis(250);
/// Shortest: settings for tests may be small.
const SHORTEST_TICK: Duration = Duration::from_millis(5);

/// Drives one connection to its end and says in words what that was.
pub(super) struct Driver {
    shared: Arc<Shared>,
    id: u64,
    connection: Connection<Io, Bytes>,
    exit: Exit<Tls>,
    /// Tells of the peer's limit and its GOAWAY. Gone when the connection drains: `h2` ends a connection that nobody can
    /// use and that has no stream.
    probe: Option<SendRequest<Bytes>>,
    ping: Option<PingPong>,
    awaits_pong: bool,
    limit: usize,
    traffic: Arc<Traffic>,
    tick: Interval,
    keep_alive: KeepAlive,
    life: Option<Duration>,
    draining_since: Option<Instant>,
}

/// What a tick found.
struct Found {
    expired: Vec<SendStream<Bytes>>,
    beat: Beat,
    draining: bool,
    in_flight: usize,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u64,
        (mut connection, exit): (Connection<Io, Bytes>, Exit<Tls>),
        probe: SendRequest<Bytes>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let settings = &shared.settings;
        let mut tick = tokio::time::interval(tick(settings));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keep_alive = KeepAlive::new(settings.ping_after, settings.dead_after, Instant::now(), traffic.read());
        let life = settings.max_age.map(|age| age.mul_f64(1.0 - fastrand::f64() / 10.0));
        let limit = probe.current_max_send_streams();
        let ping = connection.ping_pong();
        Driver {
            id,
            connection,
            exit,
            probe: Some(probe),
            ping,
            awaits_pong: false,
            limit,
            traffic,
            tick,
            keep_alive,
            life,
            draining_since: None,
            shared,
        }
    }

    /// Takes up what the last frames changed: the peer's stream limit, a GOAWAY.
    fn look_at_peer(&mut self, cx: &mut Context<'_>) {
        let Some(probe) = &mut self.probe else { return };
        if let Poll::Ready(Err(error)) = probe.poll_ready(cx) {
            self.drain(&error, cx);
            return;
        }
        let limit = probe.current_max_send_streams();
        if limit != self.limit {
            self.limit = limit;
            let limit = self.shared.settings.streams(limit);
            self.shared.with_state(|state| {
                if let Some(member) = state.member(self.id) {
                    member.places.set_limit(limit);
                }
            });
        }
    }

    /// `h2` has sent what it could: does the next body still fit the peer's window?
    fn look_at_window(&mut self) {
        let left = self.traffic.window();
        let mut state = self.shared.state.lock();
        let typical = state.typical as i64;
        let Some(member) = state.member(self.id) else { return };
        member.places.look(left, Instant::now());
        let stalled = left < typical;
        let is_news = stalled != member.places.is_stalled();
        drop(state);
        if is_news {
            self.shared.with_state(|state| {
                state.totals.window_stalls += u64::from(stalled);
                if let Some(member) = state.member(self.id) {
                    member.places.set_stalled(stalled);
                }
            });
        }
    }

    /// New streams are refused: the peer said GOAWAY, or the connection is about to end, which then tells why.
    fn drain(&mut self, error: &h2::Error, cx: &mut Context<'_>) {
        if error.is_go_away() && error.is_remote() {
            self.note_goaway(&error.to_string());
        } else {
            self.shared.with_state(|state| state.member(self.id).map(|member| member.places.drain()));
        }
        self.forget_probe(cx);
    }

    fn note_goaway(&self, reason: &str) {
        let untold = self.shared.with_state(|state| {
            state.totals.goaways += 1;
            if let Some(member) = state.member(self.id) {
                member.turn_away(reason);
            }
            state.goaways.note(reason, Instant::now())
        });
        if let Some(untold) = untold {
            tracing::info!(host = %self.shared.settings.host, reason, untold, "the peer says goaway");
        }
    }

    /// The connection's end in words; a GOAWAY that came with it is counted like any other.
    fn end(&mut self, error: Option<h2::Error>, cx: &mut Context<'_>) -> String {
        let Some(probe) = &mut self.probe else {
            return error.map_or_else(|| "closed".to_owned(), |error| error.to_string());
        };
        match probe.poll_ready(cx) {
            Poll::Ready(Err(told)) if told.is_go_away() && told.is_remote() => {
                self.drain(&told, cx);
                told.to_string()
            }
            // When the connection breaks right behind it, `h2` tells of the break alone.
            _ if self.traffic.said_goaway() => {
                let why = "the peer said goaway and broke the connection";
                self.note_goaway(why);
                why.to_owned()
            }
            _ => why_ended(error, probe, cx),
        }
    }

    /// Lets go of the last handle; `h2` must be polled once more to notice.
    fn forget_probe(&mut self, cx: &mut Context<'_>) {
        if self.probe.take().is_some() {
            cx.waker().wake_by_ref();
        }
    }

    /// Looks through the connection's requests, its age and its peer's signs of life.
    fn look_at_clock(&mut self, now: Instant) -> Option<Found> {
        let (shared, keep_alive, life) = (&self.shared, &mut self.keep_alive, self.life);
        shared.with_state(|state| {
            let living = state.living();
            let member = state.member(self.id)?;
            if member.places.is_draining() {
                member.retire("recycled after its last request");
            } else if let Some(why) = shared.outlived(member, living, life, now) {
                member.retire(why);
            }
            let draining = member.places.is_draining();
            let beat = keep_alive.beat(now, member.traffic.read(), member.streams.oldest());
            let (answers, before) = (member.traffic.answers(), now.checked_sub(shared.settings.request_timeout));
            let Expired { streams, is_mute } =
                before.map(|before| member.streams.expired(before, answers)).unwrap_or_default();
            if is_mute {
                member.mute_since = Some(answers);
            }
            let in_flight = member.places.in_flight();
            state.leave_if_mute(self.id, shared.settings.max_connections);
            Some(Found { expired: streams, beat, draining, in_flight })
        })
    }

    /// Acts on a tick. Returns the connection's end when the peer is dead.
    fn on_tick(&mut self, cx: &mut Context<'_>) -> Option<String> {
        let now = Instant::now();
        let found = self.look_at_clock(now)?;
        for mut stream in found.expired {
            stream.send_reset(Reason::CANCEL); // its request ends with this as its error
        }
        if found.draining {
            self.forget_probe(cx);
            let since = *self.draining_since.get_or_insert(now);
            if found.in_flight == 0 && now.duration_since(since) >= self.shared.settings.dead_after {
                return Some("closed without the peer, which takes no farewell".to_owned());
            }
        }
        match found.beat {
            Beat::Fine => None,
            Beat::Ping => {
                if let Some(ping) = &mut self.ping
                    && ping.send_ping(Ping::opaque()).is_ok()
                {
                    self.awaits_pong = true;
                }
                None
            }
            Beat::Dead(silence) => Some(format!("the peer has been silent for {silence:?}")),
        }
    }

    fn take_pong(&mut self, cx: &mut Context<'_>) {
        if let Some(ping) = &mut self.ping
            && self.awaits_pong
            && ping.poll_pong(cx).is_ready()
        {
            self.awaits_pong = false;
        }
    }
}

impl Future for Driver {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        let this = &mut *self;
        let mut end = Pin::new(&mut this.connection).poll(cx);
        if end.is_pending() && this.exit.leave(cx) {
            end = Pin::new(&mut this.connection).poll(cx);
        }
        if let Poll::Ready(end) = end {
            return Poll::Ready(this.end(end.err(), cx));
        }
        this.look_at_peer(cx);
        this.look_at_window();
        this.take_pong(cx);
        while this.tick.poll_tick(cx).is_ready() {
            if let Some(why) = this.on_tick(cx) {
                return Poll::Ready(why);
            }
        }
        Poll::Pending
    }
}

/// Often enough for the shortest of the bounds that it watches.
fn tick(settings: &PoolSettings) -> Duration {
    let shortest = settings
        .request_timeout
        .min(settings.dead_after)
        .min(settings.idle_timeout)
        .min(settings.ping_after.unwrap_or(Duration::MAX));
    (shortest / 8).clamp(SHORTEST_TICK, LONGEST_TICK)
}
