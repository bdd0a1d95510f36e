//! What a pool knows: its connections, who waits, how wide it is. Behind the pool's one lock; awaits nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::PoolSettings;
use super::connect::Family;
use super::link::Link;
use super::news::News;
use super::places::Places;
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
    /// The addresses that the next connect begins with.
    pub(super) family: Family,
    next_id: u64,
    /// Of the credential that new connections are for.
    generation: u32,
}

/// A place that was taken.
pub(super) struct Place {
    /// The connection's number in its pool.
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) link: Arc<Link>,
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
    pub(super) link: Arc<Link>,
    pub(super) born: Instant,
    pub(super) idle_since: Option<Instant>,
    /// Whether a request has taken an answer from it; the link knows of answers before that.
    pub(super) answered: bool,
    /// Why it ended, or is about to.
    pub(super) end: Option<Arc<str>>,
    /// Whether we wanted that end (idle, recycled, retired, closed).
    pub(super) by_us: bool,
    /// Whether it takes nothing more and is read to its end.
    pub(super) is_breaking: bool,
    pub(super) ended: bool,
    /// Its answers when a request's time was over and it had given none since that began: it is mute until there are more.
    pub(super) mute_since: Option<u64>,
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
            family: Family::default(),
            next_id: 0,
            generation: 0,
        }
    }

    /// A new connection joins.
    pub(super) fn join(&mut self, settings: &PoolSettings, link: Arc<Link>, peer: SocketAddr) -> u64 {
        self.next_id += 1;
        self.totals.handshakes += 1;
        let limit = settings.streams(link.session().limit());
        let now = Instant::now();
        self.members.push(Member {
            id: self.next_id,
            peer,
            places: Places::new(limit, settings.streams_until_proven, settings.max_requests),
            link,
            generation: self.generation,
            born: now,
            idle_since: Some(now),
            answered: false,
            end: None,
            by_us: false,
            is_breaking: false,
            ended: false,
            mute_since: None,
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

    /// Takes a place on the oldest connection that has one: the youngest then fall idle first and can be closed. One that answers
    /// nothing comes last.
    pub(super) fn take(&mut self) -> Option<Place> {
        let typical = self.typical;
        let mut places = self.members.iter().enumerate().filter(|(_, member)| member.places.has_room(typical));
        let first = places.next()?;
        let best =
            if first.1.is_mute() { places.find(|(_, member)| !member.is_mute()).unwrap_or(first) } else { first };
        let index = best.0;
        let member = &mut self.members[index];
        member.places.take(typical);
        if member.places.is_draining() {
            member.retire("recycled after its last request");
        }
        member.idle_since = None;
        let Member { id, peer, generation, .. } = *member;
        Some(Place { id, peer, link: member.link.clone(), bytes: typical, generation })
    }

    /// A body of `bytes` is sent: what the next ones will probably weigh.
    pub(super) fn learn(&mut self, bytes: usize) {
        self.typical = (self.typical * 15 + bytes).div_ceil(16);
    }

    /// Forgets connections that have ended and that no request refers to any more.
    pub(super) fn sweep_members(&mut self) {
        self.members.retain(|member| !(member.ended && member.places.in_flight() == 0));
    }

    /// A connection that answers nothing takes no new streams any more when another one answers, or when there can be no other to
    /// find out. A proxy may answer PINGs, and give the window back, for an upstream that is gone; but if it is the provider that is
    /// silent, the connections there are will be wanted when it comes back.
    pub(super) fn leave_if_mute(&mut self, id: u64, most: usize) {
        let (living, others_answer) =
            (self.living(), self.members.iter().any(|member| member.id != id && member.answers()));
        if let Some(member) = self.member(id).filter(|member| member.is_living() && member.is_mute())
            && (others_answer || living >= most.max(1))
        {
            member.turn_away("the peer takes requests and answers none");
        }
    }

    /// Connections to have without load. Beside those that answer nothing there is to be one more.
    pub(super) fn least(&self, settings: &PoolSettings) -> usize {
        let is_any_mute = self.members.iter().any(|member| member.is_living() && member.is_mute());
        settings.min_idle.max(usize::from(is_any_mute))
    }

    /// Connections that take new streams, and answer as far as is known.
    pub(super) fn useful(&self) -> usize {
        self.members.iter().filter(|member| member.is_living() && !member.is_mute()).count()
    }

    /// Connections that take new streams.
    pub(super) fn living(&self) -> usize {
        self.members.iter().filter(|member| member.is_living()).count()
    }

    /// How many connects to begin now. Asked on every push while somebody waits: the clock is read last.
    pub(super) fn connects(&mut self, settings: &PoolSettings) -> usize {
        let (living, most) = (self.living(), settings.max_connections.max(1));
        // What is read to its end is still to be judged: a pause may have to go before the next.
        if self.members.iter().any(|member| member.is_breaking) {
            return 0;
        }
        if self.closed || self.width.connecting() > 0 || living >= most {
            return 0;
        }
        let useful = self.useful();
        let is_unproven = |member: &Member| member.is_living() && !member.is_mute() && !member.places.is_proven();
        let view = View {
            living: useful,
            unproven: self.members.iter().any(is_unproven),
            waiting: !self.waiters.is_empty(),
            min_idle: self.least(settings),
            max: most - (living - useful),
        };
        self.width.begin(view, Instant::now())
    }
}

impl Member {
    pub(super) fn is_living(&self) -> bool {
        !self.ended && !self.places.is_draining()
    }

    /// Whether it takes requests and has answered none for the time that one may take.
    pub(super) fn is_mute(&self) -> bool {
        self.mute_since == Some(self.link.answers())
    }

    /// Whether it takes requests and is known to answer them.
    fn answers(&self) -> bool {
        self.is_living() && self.link.answered() && !self.is_mute()
    }

    /// We want no new streams on it; it ends when its last one has.
    pub(super) fn retire(&mut self, why: &str) {
        self.by_us |= self.end.is_none();
        self.turn_away(why);
    }

    /// The peer takes no new streams. The first reason given is the one that counts.
    pub(super) fn turn_away(&mut self, why: &str) {
        if !self.places.is_draining() {
            self.places.drain();
            self.link.session().wake(); // it may be its end at once
        }
        if self.end.is_none() {
            self.end = Some(Arc::from(why));
        }
    }
}
