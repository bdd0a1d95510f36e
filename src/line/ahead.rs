//! What has begun of an app on one sender, and how much more may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Turns;
use crate::concurrency::Concurrency;
use crate::handlers::pace::Pace;
use crate::spread::Load;

/// Attempts of an app that may be without a stream: enough to fill what one read of answers sets free.
pub(super) const AHEAD: usize = 256;
/// More are begun when so few are left: in bursts, not one by one as streams come free.
pub(super) const LOW: usize = AHEAD / 2;
/// Attempts beyond the limit while something urgent waits, and no more than as many again.
const RESERVE: usize = 64;

/// How many attempts of an app have begun on a sender: those that have no stream yet, and all that have not ended.
#[derive(Clone, Debug)]
pub struct Ahead(Arc<Started>);

#[derive(Debug)]
struct Started {
    without_stream: AtomicUsize,
    /// Those that have not ended and began since the app's last pause; after how many of them.
    under_way: AtomicUsize,
    pauses: AtomicU64,
    /// Messages that wait or are under way here.
    held: AtomicUsize,
    turns: Turns,
    tools: Tools,
}

/// Who is concerned by the attempts of an app on one sender.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// At which pace its requests leave; `None`: at any.
    pub pace: Option<Arc<Pace>>,
    /// Its key's load.
    pub load: Load,
    /// How many of its attempts may be under way on all senders.
    pub concurrency: Arc<Concurrency>,
}

impl Ahead {
    /// Of an app on the sender that waits for these turns.
    pub fn new(turns: &Turns, tools: Tools) -> Self {
        Ahead(Arc::new(Started {
            without_stream: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            turns: turns.clone(),
            tools,
        }))
    }

    /// Counts an attempt until it ends, as one without a stream until it has one, and the request that it is to make.
    pub fn enter(&self) -> Begun {
        self.hold();
        self.0.without_stream.fetch_add(1, Relaxed);
        let pauses = self.count_anew();
        self.0.under_way.fetch_add(1, Relaxed);
        // Most of what a paused app begins leaves no request, and those who share its pace are not to wait for that.
        let payer = self.0.tools.pace.as_ref().filter(|_| !self.0.tools.concurrency.is_lifted());
        if let Some(pace) = payer {
            pace.spend(1);
        }
        let (has_left, has_asked) = (AtomicBool::new(false), AtomicBool::new(false));
        Begun { ahead: self.clone(), pauses, has_paid: payer.is_some(), has_left, has_asked }
    }

    /// What began before a pause may be without an answer for long, and counts no more after it. How many pauses there were.
    fn count_anew(&self) -> u64 {
        let pauses = self.0.tools.concurrency.pauses();
        if self.0.pauses.swap(pauses, Relaxed) != pauses {
            self.0.under_way.store(0, Relaxed);
        }
        pauses
    }

    /// A message has come to this sender.
    pub(super) fn hold(&self) {
        self.0.tools.load.add(1);
        if self.0.held.fetch_add(1, Relaxed) == 0 {
            self.0.tools.concurrency.join();
        }
    }

    /// So many are gone.
    pub(super) fn release(&self, messages: usize) {
        self.0.tools.load.sub(messages);
        if messages > 0 && self.0.held.fetch_sub(messages, Relaxed) == messages {
            self.0.tools.concurrency.leave();
        }
    }

    /// Whether one more may begin; `urgent`: something urgent waits.
    pub(super) fn has_room(&self, urgent: bool, now: Instant) -> bool {
        // What is begun of a paused app goes back at once; it does not wait for connections that nobody takes.
        if self.0.without_stream.load(Relaxed) >= AHEAD && !self.0.tools.concurrency.is_lifted() {
            return false;
        }
        self.count_anew();
        let part = self.0.tools.concurrency.part();
        let most = part + if urgent { RESERVE.min(part) } else { 0 };
        let has_room = self.0.under_way.load(Relaxed) < most;
        if !has_room {
            self.0.tools.concurrency.press(now);
        }
        has_room
    }

    /// Who waits for a turn is woken when there is room for some, not for each.
    fn left(&self) {
        let (under_way, most) = (self.0.under_way.load(Relaxed), self.0.tools.concurrency.part());
        if self.0.without_stream.load(Relaxed) <= LOW && under_way <= most - most / 4 {
            self.0.turns.tell();
        }
    }

    /// Why it must not begin another attempt now, if it must not: until when.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let is_paced = |pace: &&Arc<Pace>| !self.0.tools.concurrency.is_lifted() && !pace.is_ready(now);
        self.0.tools.pace.as_ref().filter(is_paced).map(|pace| pace.next())
    }
}

/// An attempt that has begun; see [`Ahead::enter`].
#[derive(Debug)]
pub struct Begun {
    ahead: Ahead,
    /// After how many pauses of its app it began.
    pauses: u64,
    /// Whether its first request is paid for.
    has_paid: bool,
    has_left: AtomicBool,
    has_asked: AtomicBool,
}

impl Begun {
    /// It has its stream, or needs none.
    pub fn leave(&self) {
        if !self.has_left.swap(true, Relaxed) {
            self.ahead.0.without_stream.fetch_sub(1, Relaxed);
            self.ahead.left();
        }
    }

    /// It made so many requests, and had its answer after so long, and is to be dropped: who waits for a report after it is under
    /// way no more.
    pub fn ended(&self, requests: u32, answered: Option<Duration>) {
        self.leave(); // one that was ended here needed no stream
        self.asked(requests);
        if let Some(round_trip) = answered.filter(|_| requests > 0) {
            self.ahead.0.tools.concurrency.answered(round_trip, Instant::now());
        }
    }

    /// It has made so many requests.
    pub(super) fn asked(&self, requests: u32) {
        let unpaid = requests.saturating_sub(u32::from(self.has_paid));
        if requests > 0
            && !self.has_asked.swap(true, Relaxed)
            && unpaid > 0
            && let Some(pace) = &self.ahead.0.tools.pace
        {
            pace.spend(unpaid);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.ahead.release(1);
        if self.ahead.0.pauses.load(Relaxed) == self.pauses {
            self.ahead.0.under_way.fetch_sub(1, Relaxed);
        }
        self.leave();
        self.ahead.left();
        if self.has_paid
            && !*self.has_asked.get_mut()
            && let Some(pace) = &self.ahead.0.tools.pace
        {
            pace.give_back();
        }
    }
}
