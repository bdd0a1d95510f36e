//! What is lent and not yet resolved: its bounds, each app's share of them, and the receipts, which keep the books
//! ([`crate::tally`]). Nothing here waits; all of it is atomics, but for the ledger that an [`Assignment`] holds and a lane's
//! books.
//!
//! A receipt ends in one of three ways. *Resolved*: its offset may move. *Released*: its offset stays, the message comes
//! again: from whoever owns the partition next, or, when it stays ours (an app that may not send now), from here. *Dropped*:
//! a release when its partition is being given up, otherwise a bug, and the message is lent again.
//!
//! A message is in one of three places: *on its way* (lent, being attempted), *waiting* for a retry, or *being reported*. An
//! app's allowance bounds the first alone. Campaigns may hold three quarters of each bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::message::{Lane, Origin};
use crate::tally::Tally;

mod assignment;
mod bounds;
mod campaigns;
mod held;
mod last_poll;
mod reach;
mod receipt;
pub use assignment::Assignment;
pub use bounds::Usage;
use bounds::{Counters, Gate, Place};
use campaigns::Campaigns;
pub use last_poll::LastPoll;
use reach::Reach;
pub use receipt::{Receipt, lend};

/// Bounds of everything lent by this process, and who holds how much of it.
#[derive(Debug)]
pub struct InFlight {
    messages: usize,
    bytes: usize,
    gate: Gate,
    campaigns: Campaigns,
    total: Counters,
    lost: AtomicUsize,
    shares: RwLock<Vec<Arc<Share>>>,
    held: held::Lanes,
    tally: Arc<Tally>,
}

impl InFlight {
    /// At most `messages` and `bytes` lent at once; with several apps none holds more than half of each. What is lent
    /// while there is room may exceed the bytes by one message.
    pub fn new(messages: usize, bytes: usize) -> Arc<Self> {
        Arc::new(InFlight {
            messages,
            bytes,
            gate: Gate::new(messages, bytes),
            campaigns: Campaigns::of(messages, bytes),
            total: Counters::default(),
            lost: AtomicUsize::new(0),
            shares: RwLock::default(),
            held: held::Lanes::default(),
            tally: Arc::default(),
        })
    }

    /// The apps that share the bounds. To be called before anything is lent; later calls add apps and never remove one.
    pub fn set_apps(self: &Arc<Self>, apps: &[Arc<str>]) {
        for app in apps {
            self.share(app);
        }
    }

    /// The share of an app, by its exact name.
    pub fn share(self: &Arc<Self>, app: &str) -> Arc<Share> {
        let known = |shares: &[Arc<Share>]| shares.iter().find(|share| *share.app == *app).cloned();
        if let Some(share) = known(&self.shares.read()) {
            return share;
        }
        let mut shares = self.shares.write();
        if let Some(share) = known(&shares) {
            return share;
        }
        shares.push(Arc::new(Share::new(app, self)));
        let parts = shares.len().min(2);
        // Each but one may have a topic of records that cannot be written, and the one still gets its part of the process.
        let reports = if parts == 1 { usize::MAX } else { (self.messages / (shares.len() + 1)).max(1) };
        for share in shares.iter() {
            share.reports.store(reports, Ordering::Relaxed);
            share.gate.resize(self.messages / parts, self.bytes / parts);
            share.campaigns.resize(self.messages / parts, self.bytes / parts);
        }
        Arc::clone(&shares[shares.len() - 1])
    }

    /// From now on nothing is lent from these lanes (app in any case, lane), and from all others.
    pub fn hold_back(&self, lanes: Vec<(String, Lane)>) {
        self.held.set(lanes);
    }

    /// Whether nothing is to be lent from there.
    pub fn holds_back(&self, origin: &Origin) -> bool {
        self.held.contain(origin)
    }

    /// The books of all that was ever lent.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What an app holds; nothing for one without a share.
    pub fn usage(&self, app: &str) -> Usage {
        let shares = self.shares.read();
        shares.iter().find(|share| *share.app == *app).map(|share| share.held.usage()).unwrap_or_default()
    }

    /// What the process holds.
    pub fn total(&self) -> Usage {
        self.total.usage()
    }

    /// Receipts dropped without an end since the start: bugs, each logged.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

/// What one app may hold of the bounds, and does.
pub struct Share {
    app: Arc<str>,
    gate: Gate,
    campaigns: Campaigns,
    held: Counters,
    /// With so many messages whose outcome is being reported, nothing more is lent.
    reports: AtomicUsize,
    /// Most messages that may be on their way.
    allowance: AtomicUsize,
    /// Those on their way that were there before the allowance, and may be without an answer for long.
    stale: AtomicUsize,
    reach: Reach,
    all: Arc<InFlight>,
}

impl std::fmt::Debug for Share {
    /// Not all of the process, which has each share again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("app", &self.app).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Share {
    fn new(app: &str, all: &Arc<InFlight>) -> Self {
        let (gate, campaigns) = (Gate::new(all.messages, all.bytes), Campaigns::of(all.messages, all.bytes));
        let [reports, allowance] = [usize::MAX; 2].map(AtomicUsize::new);
        let (held, stale, reach) = (Counters::default(), AtomicUsize::new(0), Reach::default());
        Share { app: app.into(), gate, campaigns, held, reports, allowance, stale, reach, all: Arc::clone(all) }
    }

    /// Whether one more message of this lane may be lent. False from when the app's share or the process is full until it is a tenth
    /// below, while waiters for a retry hold half of the app's share (the rest is for what can be sent now; those of campaigns are
    /// nothing to what is urgent), while those that wait for their report hold what other apps are to have, and while as many are
    /// on their way as the app is allowed.
    pub fn has_room(&self, lane: Lane) -> bool {
        let held = self.held.usage();
        if !self.is_allowed() {
            return false;
        }
        let waiting = match lane {
            Lane::Massive => held.waiting,
            Lane::Single => held.waiting.saturating_sub(self.campaigns.usage().waiting),
        };
        let crowded =
            waiting * 2 >= self.gate.capacity().max(2) || held.reporting >= self.reports.load(Ordering::Relaxed);
        // Both are asked, so that both know when they are full.
        let (app, process) = (self.gate.has_room(held), self.all.gate.has_room(self.all.total.usage()));
        let campaigns = lane == Lane::Single || self.campaigns.has_room() & self.all.campaigns.has_room();
        app && process && !crowded && campaigns
    }

    /// Bounds what may be on its way: 0 pauses the app, `usize::MAX` leaves it to the other bounds.
    pub fn set_allowance(&self, messages: usize) {
        self.allowance.store(messages, Ordering::Relaxed);
    }

    /// Of what is on its way, so many were there before the app was paused: they count for no allowance.
    pub fn set_stale(&self, messages: usize) {
        self.stale.store(messages, Ordering::Relaxed);
    }

    /// How many that are.
    pub fn stale(&self) -> usize {
        self.stale.load(Ordering::Relaxed)
    }

    /// What is on its way and counts for the allowance.
    pub fn level(&self) -> usize {
        self.held.usage().on_way().saturating_sub(self.stale())
    }

    /// Whether one more of this lane is worth lending: it comes sooner to the provider from here than later from Kafka. An app
    /// with an allowance is bounded by that.
    pub fn has_use(&self, lane: Lane) -> bool {
        if self.allowance.load(Ordering::Relaxed) != usize::MAX {
            return true;
        }
        let (on_way, campaigns) = (self.level(), self.campaigns.usage().on_way());
        let of_lane = if lane == Lane::Massive { campaigns } else { on_way.saturating_sub(campaigns) };
        self.reach.has_room(lane, on_way, of_lane)
    }

    /// So many of its messages may be under way now.
    pub fn set_reach(&self, attempts: usize) {
        self.reach.set(attempts);
    }

    /// How many of its messages may be under way.
    pub fn reach(&self) -> usize {
        self.reach.attempts()
    }

    /// Whether one more may be on its way, as far as the allowance goes.
    pub fn is_allowed(&self) -> bool {
        self.level() < self.allowance.load(Ordering::Relaxed)
    }

    /// Whether nothing of the app is to be lent for now.
    pub fn is_paused(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing is to be lent from there by order.
    pub fn holds_back(&self, origin: &Origin) -> bool {
        self.all.holds_back(origin)
    }

    /// Most messages that the app may hold.
    pub fn capacity(&self) -> usize {
        self.gate.capacity()
    }

    /// What the app holds.
    pub fn usage(&self) -> Usage {
        self.held.usage()
    }

    fn enter(&self, lane: Lane, bytes: usize) {
        self.held.enter(bytes);
        self.all.total.enter(bytes);
        if lane == Lane::Massive {
            self.campaigns.enter(bytes);
            self.all.campaigns.enter(bytes);
        }
    }

    fn leave(&self, lane: Lane, bytes: usize) {
        self.held.leave(bytes);
        self.all.total.leave(bytes);
        if lane == Lane::Massive {
            self.campaigns.leave(bytes);
            self.all.campaigns.leave(bytes);
        }
    }

    fn moved(&self, lane: Lane, from: Place, to: Place) {
        self.held.moved(from, to);
        self.all.total.moved(from, to);
        if lane == Lane::Massive {
            self.campaigns.moved(from, to);
            self.all.campaigns.moved(from, to);
        }
    }
}

#[cfg(test)]
mod tests;
