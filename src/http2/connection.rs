//! The task behind one connection: moves its bytes, learns the peer's limits, watches its requests and its signs of life.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Interval};

use super::PoolSettings;
use super::channel::{Channel, End};
use super::connect::Tls;
use super::keep_alive::{Beat, KeepAlive};
use super::link::Link;
use super::shared::Shared;
use crate::rhythm;

/// Longest time between two looks at the deadlines.
const LONGEST_TICK: Duration = Duration::from_millis(500);
/// Shortest: settings for tests may be small.
const SHORTEST_TICK: Duration = Duration::from_millis(5);
/// Bytes that may wait for a socket that takes none before nothing more is added to them.
const MOST_BACKLOG: usize = 1 << 20;

/// Drives one connection to its end and says in words what that was.
pub(super) struct Driver {
    shared: Arc<Shared>,
    id: u64,
    link: Arc<Link>,
    channel: Channel<Tls>,
    limit: Option<u32>,
    /// What the peer's GOAWAY said, when that was noted.
    goaway: Option<Arc<str>>,
    tick: Interval,
    keep_alive: KeepAlive,
    life: Option<Duration>,
    draining_since: Option<Instant>,
    /// Whether we have said that it is over.
    is_farewell: bool,
}

/// What a tick found.
struct Found {
    beat: Beat,
    draining: bool,
    in_flight: usize,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, id: u64, link: Arc<Link>, channel: Channel<Tls>) -> Self {
        let settings = &shared.settings;
        let tick = rhythm::clock(tick(settings));
        let keep_alive = KeepAlive::new(settings.ping_after, settings.dead_after, Instant::now(), link.read());
        let life = settings.max_age.map(|age| age.mul_f64(1.0 - fastrand::f64() / 10.0));
        let limit = link.session().limit();
        let (goaway, draining_since, is_farewell) = (None, None, false);
        Driver { shared, id, link, channel, limit, goaway, tick, keep_alive, life, draining_since, is_farewell }
    }

    /// Takes up what the last frames changed: the peer's stream limit, its window, a GOAWAY. `true`: nothing is to come any more.
    fn look_at_peer(&mut self) -> bool {
        let (limit, window, goaway, backlog) = {
            let session = self.link.session();
            (session.limit(), session.window(), session.goaway(), session.backlog())
        };
        if let Some(said) = goaway {
            self.note_goaway(said);
        }
        let mut state = self.shared.state.lock();
        let typical = state.typical as i64;
        let Some(member) = state.member(self.id) else { return false };
        member.places.look(window, Instant::now());
        let stalled = window < typical || backlog > MOST_BACKLOG;
        let is_news = stalled != member.places.is_stalled() || limit != self.limit;
        let is_over = member.places.is_draining() && member.places.in_flight() == 0;
        drop(state);
        if is_news {
            self.limit = limit;
            let limit = self.shared.settings.streams(limit);
            self.shared.with_state(|state| {
                let Some(member) = state.member(self.id) else { return };
                let begins = window < typical && !member.places.is_stalled();
                member.places.set_limit(limit);
                if stalled != member.places.is_stalled() {
                    member.places.set_stalled(stalled);
                }
                state.totals.window_stalls += u64::from(begins);
            });
        }
        is_over
    }

    /// New streams are refused from now on. What is said in a second one is not told.
    fn note_goaway(&mut self, said: Arc<str>) {
        if self.goaway.is_some() {
            return;
        }
        let untold = self.shared.with_state(|state| {
            state.totals.goaways += 1;
            if let Some(member) = state.member(self.id) {
                member.turn_away(&said);
            }
            state.goaways.note(&said, Instant::now())
        });
        if let Some(untold) = untold {
            tracing::info!(host = %self.shared.settings.host, reason = &*said, untold, "the peer says goaway");
        }
        self.goaway = Some(said);
    }

    /// A connection that can take nothing more gets no new streams, while it is read to its end. What that was is said then: a GOAWAY
    /// may still lie there.
    fn drain(&mut self) {
        self.shared.with_state(|state| {
            if let Some(member) = state.member(self.id) {
                member.is_breaking = true;
                member.places.drain();
            }
        });
    }

    /// The connection's end in words; a GOAWAY that came with it is counted like any other.
    fn end(&mut self, end: &End) -> String {
        let said = self.link.session().goaway();
        let why = end.told(said.as_deref());
        if let Some(said) = said {
            self.note_goaway(said);
        }
        why
    }

    /// Looks through the connection's requests, its age and its peer's signs of life.
    fn look_at_clock(&mut self, now: Instant) -> Option<Found> {
        let (shared, link, keep_alive, life) = (&self.shared, &self.link, &mut self.keep_alive, self.life);
        shared.with_state(|state| {
            let living = state.living();
            let member = state.member(self.id)?;
            if !member.places.is_draining()
                && let Some(why) = shared.outlived(member, living, life, now)
            {
                member.retire(why);
            }
            let draining = member.places.is_draining();
            let mut session = link.session();
            let beat = keep_alive.beat(now, link.read(), session.oldest());
            let before = now.checked_sub(shared.settings.request_timeout);
            if before.is_some_and(|before| session.expire(before)) {
                member.mute_since = Some(session.answers());
            }
            drop(session);
            let in_flight = member.places.in_flight();
            state.leave_if_mute(self.id, shared.settings.max_connections);
            Some(Found { beat, draining, in_flight })
        })
    }

    /// Acts on a tick. Returns the connection's end when the peer is dead.
    fn on_tick(&mut self) -> Option<String> {
        let now = Instant::now();
        let found = self.look_at_clock(now)?;
        if found.draining {
            let since = *self.draining_since.get_or_insert(now);
            if found.in_flight == 0 && now.duration_since(since) >= self.shared.settings.dead_after {
                return Some("closed without the peer, which takes no farewell".to_owned());
            }
        }
        match found.beat {
            Beat::Fine => None,
            Beat::Ping => {
                self.link.session().ping();
                None
            }
            Beat::Dead(silence) => Some(format!("the peer has been silent for {silence:?}")),
        }
    }

    /// Looks at the clock last: after a time in which the process stood still, what the peer said meanwhile is read first.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if !self.is_farewell {
            if let Poll::Ready(end) = self.channel.poll(cx) {
                return Poll::Ready(self.end(&end));
            }
            let is_broken = self.channel.is_broken();
            if is_broken {
                self.drain();
            }
            if self.look_at_peer() && !is_broken {
                self.is_farewell = true;
                self.link.session().say_goaway(None);
            }
        }
        if self.is_farewell && self.channel.poll_farewell(cx).is_ready() {
            return Poll::Ready("closed".to_owned());
        }
        while self.tick.poll_tick(cx).is_ready() {
            if let Some(why) = self.on_tick() {
                return Poll::Ready(why);
            }
        }
        Poll::Pending
    }
}

impl Future for Driver {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        let end = self.poll_end(cx);
        if let Poll::Ready(why) = &end {
            self.link.session().lose(why);
        }
        end
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
