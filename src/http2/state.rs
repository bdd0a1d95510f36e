//! What a pool knows: its connections, who waits, how wide it is. Behind the pool's one lock; awaits nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;

use super::PoolSettings;
use super::news::News;
use super::places::Places;
use super::streams::Streams;
use super::traffic::Traffic;
use super::waiters::Waiters;
use super::width::{View, Width};

/// Size of a body before the first one was seen.
const FIRST_TYPICAL: usize = 512;

/// Totals of a pool since its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) handshakes: u64,
    pub(super) connect_failures: u64,
    pub(super) goaways: u64,
    pub(super) window_stalls: u64,
    pub(super) timeouts: u64,
    pub(super) lost: u64,
}

/// One pool's state; `T` is what a waiter waits for.
pub(super) struct State<T> {
    pub(super) members: Vec<Member>,
    pub(super) waiters: Waiters<T>,
    pub(super) width: Width,
    /// Moving mean of the bodies' sizes: what a place is taken to need.
    pub(super) typical: usize,
    pub(super) closed: bool,
    pub(super) totals: Totals,
    /// GOAWAYs and ends of connections that were told.
    pub(super) goaways: News,
    pub(super) ends: News,
    /// Why the last connect failed.
    pub(super) refusal: Arc<str>,
    next_id: u64,
    /// Of the credential that new connections are for.
    generation: u32,
}

/// A place that was taken.
pub(super) struct Place {
    /// The connection's number in its pool.
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) send: SendRequest<Bytes>,
    pub(super) traffic: Arc<Traffic>,
    /// Bytes set aside for the body.
    pub(super) bytes: usize,
    /// Of the credential that the connection is for.
    pub(super) generation: u32,
}

/// One connection.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) places: Places,
    generation: u32,
    /// Dropped when the connection drains: `h2` ends a connection that nobody can use and that has no stream.
    pub(super) send: Option<SendRequest<Bytes>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) streams: Streams,
    pub(super) born: Instant,
    pub(super) idle_since: Option<Instant>,
    /// Whether a request has taken an answer from it; the traffic knows of answers before that.
    pub(super) answered: bool,
    /// Why it ended, or is about to.
    pub(super) end: Option<Arc<str>>,
    /// Whether we wanted that end (idle, recycled, retired, closed).
    pub(super) by_us: bool,
    pub(super) ended: bool,
}

impl<T> State<T> {
    pub(super) fn new(settings: &PoolSettings) -> Self {
        State {
            members: Vec::new(),
            waiters: Waiters::default(),
            width: Width::new(settings.backoff),
            typical: FIRST_TYPICAL,
            closed: false,
            totals: Totals::default(),
            goaways: News::default(),
            ends: News::default(),
            refusal: Arc::from("no connection was tried yet"),
            next_id: 0,
            generation: 0,
        }
    }

    /// A new connection joins.
    pub(super) fn join(
        &mut self,
        settings: &PoolSettings,
        send: SendRequest<Bytes>,
        peer: SocketAddr,
        traffic: Arc<Traffic>,
    ) -> u64 {
        self.next_id += 1;
        self.totals.handshakes += 1;
        let limit = settings.streams(send.current_max_send_streams());
        let now = Instant::now();
        self.members.push(Member {
            id: self.next_id,
            peer,
            places: Places::new(limit, settings.streams_until_proven, settings.max_requests),
            send: Some(send),
            traffic,
            generation: self.generation,
            streams: Streams::default(),
            born: now,
            idle_since: Some(now),
            answered: false,
            end: None,
            by_us: false,
            ended: false,
        });
        self.next_id
    }

    /// New connections are for a credential of this generation; the present ones take no new streams.
    pub(super) fn renew(&mut self, generation: u32) {
        if generation > self.generation {
            self.generation = generation;
            self.retire_all("a new credential is in use");
        }
    }

    /// We want no new streams on any present connection.
    pub(super) fn retire_all(&mut self, why: &str) {
        for member in &mut self.members {
            member.retire(why);
        }
    }

    pub(super) fn member(&mut self, id: u64) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    /// Takes a place on the oldest connection that has one: the youngest then fall idle first and can be closed.
    pub(super) fn take(&mut self) -> Option<Place> {
        let typical = self.typical;
        let member = self.members.iter_mut().find(|member| member.send.is_some() && member.places.has_room(typical))?;
        let send = member.send.clone()?;
        member.places.take(typical);
        member.idle_since = None;
        let Member { id, peer, generation, .. } = *member;
        Some(Place { id, peer, send, traffic: member.traffic.clone(), bytes: typical, generation })
    }

    /// A body of `bytes` is sent: what the next ones will probably weigh.
    pub(super) fn learn(&mut self, bytes: usize) {
        self.typical = (self.typical * 15 + bytes).div_ceil(16);
    }

    /// Forgets connections that have ended and that no request refers to any more.
    pub(super) fn sweep_members(&mut self) {
        self.members.retain(|member| !(member.ended && member.places.in_flight() == 0));
    }

    /// Connections that take new streams.
    pub(super) fn living(&self) -> usize {
        self.members.iter().filter(|member| member.is_living()).count()
    }

    /// How many connects to begin now. Asked on every push while somebody waits: the clock is read last.
    pub(super) fn connects(&mut self, settings: &PoolSettings) -> usize {
        let living = self.living();
        if self.closed || self.width.connecting() > 0 || living >= settings.max_connections.max(1) {
            return 0;
        }
        let view = View {
            living,
            unproven: self.members.iter().any(|member| member.is_living() && !member.places.is_proven()),
            waiting: !self.waiters.is_empty(),
            min_idle: settings.min_idle,
            max: settings.max_connections.max(1),
        };
        self.width.begin(view, Instant::now())
    }
}

impl Member {
    pub(super) fn is_living(&self) -> bool {
        !self.ended && !self.places.is_draining()
    }

    /// We want no new streams on it; it ends when its last one has.
    pub(super) fn retire(&mut self, why: &str) {
        self.by_us |= self.end.is_none();
        self.turn_away(why);
    }

    /// The peer takes no new streams. The first reason given is the one that counts.
    pub(super) fn turn_away(&mut self, why: &str) {
        self.places.drain();
        self.send = None;
        if self.end.is_none() {
            self.end = Some(Arc::from(why));
        }
    }
}
