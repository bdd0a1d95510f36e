//! What is lent and not yet resolved: its bounds, each app's share of them, and the receipts. Nothing here waits; all of
//! it is atomics, but for the ledger that an [`Assignment`] holds.
//!
//! A receipt ends in one of three ways. *Resolved*: its offset may move. *Released*: its offset stays, the message comes
//! again. *Dropped*: a release when its partition is being given up, otherwise a bug, and the message is lent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;

mod assignment;
pub use assignment::{Assignment, LastPoll};

/// Numbers of what is lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Messages lent and not resolved.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Those of them that wait for a retry.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    waiting: AtomicUsize,
}

impl Counters {
    fn usage(&self) -> Usage {
        Usage {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn enter(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn leave(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A bound with watermarks: full at the top, and until a tenth below it again, so that partitions are not paused and
/// resumed for every message.
#[derive(Debug)]
struct Gate {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    full: AtomicBool,
}

impl Gate {
    fn new(messages: usize, bytes: usize) -> Self {
        Gate { messages: messages.max(1).into(), bytes: bytes.max(1).into(), full: AtomicBool::new(false) }
    }

    fn has_room(&self, usage: Usage) -> bool {
        let (messages, bytes) = (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let full = if self.full.load(Ordering::Relaxed) {
            usage.messages > messages - messages.div_ceil(10) || usage.bytes > bytes - bytes.div_ceil(10)
        } else {
            usage.messages >= messages || usage.bytes >= bytes
        };
        self.full.store(full, Ordering::Relaxed);
        !full
    }
}

/// Bounds of everything lent by this process, and who holds how much of it.
#[derive(Debug)]
pub struct InFlight {
    messages: usize,
    bytes: usize,
    gate: Gate,
    total: Counters,
    lost: AtomicUsize,
    shares: RwLock<Vec<Arc<Share>>>,
}

impl InFlight {
    /// At most `messages` and `bytes` lent at once; with several apps none holds more than half of each. What is lent
    /// while there is room may exceed the bytes by one message.
    pub fn new(messages: usize, bytes: usize) -> Arc<Self> {
        Arc::new(InFlight {
            messages,
            bytes,
            gate: Gate::new(messages, bytes),
            total: Counters::default(),
            lost: AtomicUsize::new(0),
            shares: RwLock::default(),
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
        for share in shares.iter() {
            share.gate.messages.store((self.messages / parts).max(1), Ordering::Relaxed);
            share.gate.bytes.store((self.bytes / parts).max(1), Ordering::Relaxed);
        }
        Arc::clone(&shares[shares.len() - 1])
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
#[derive(Debug)]
pub struct Share {
    app: Arc<str>,
    gate: Gate,
    held: Counters,
    all: Arc<InFlight>,
}

impl Share {
    fn new(app: &str, all: &Arc<InFlight>) -> Self {
        let gate = Gate::new(all.messages, all.bytes);
        Share { app: app.into(), gate, held: Counters::default(), all: Arc::clone(all) }
    }

    /// Whether one more message may be lent. False from when the app's share or the process is full until it is a tenth
    /// below, and while waiters for a retry hold half of the app's share: the rest is for what can be sent now.
    pub fn has_room(&self) -> bool {
        let held = self.held.usage();
        let crowded = held.waiting * 2 >= self.gate.messages.load(Ordering::Relaxed).max(2);
        // Both are asked, so that both know when they are full.
        let (app, process) = (self.gate.has_room(held), self.all.gate.has_room(self.all.total.usage()));
        app && process && !crowded
    }

    /// What the app holds.
    pub fn usage(&self) -> Usage {
        self.held.usage()
    }

    fn enter(&self, bytes: usize) {
        self.held.enter(bytes);
        self.all.total.enter(bytes);
    }

    fn leave(&self, bytes: usize) {
        self.held.leave(bytes);
        self.all.total.leave(bytes);
    }

    fn set_waiting(&self, waiting: bool) {
        for counters in [&self.held, &self.all.total] {
            if waiting {
                counters.waiting.fetch_add(1, Ordering::Relaxed);
            } else {
                counters.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Lends the message at `offset`, which the assignment's ledger has called new; it counts against the share until the
/// receipt ends. `bytes` is what its payload takes.
pub fn lend(assignment: &Arc<Assignment>, share: &Arc<Share>, offset: i64, bytes: usize) -> Receipt {
    share.enter(bytes);
    Receipt {
        assignment: Arc::clone(assignment),
        share: Arc::clone(share),
        offset,
        bytes,
        on_stream: AtomicBool::new(false),
        waiting: AtomicBool::new(false),
        ended: false,
    }
}

/// The obligation to resolve one lent message. Dropping it unresolved is a bug: logged, counted, the message lent again.
#[derive(Debug)]
pub struct Receipt {
    assignment: Arc<Assignment>,
    share: Arc<Share>,
    offset: i64,
    bytes: usize,
    on_stream: AtomicBool,
    waiting: AtomicBool,
    ended: bool,
}

impl Receipt {
    /// The message's outcome is final and reported: its offset may move.
    pub fn resolve(mut self) {
        self.ended = true;
        self.assignment.resolve(self.offset);
    }

    /// Not resolved on purpose (shutdown, revoked partition): the offset stays, the message comes again to whoever owns it.
    pub fn release(mut self) {
        self.ended = true;
        self.assignment.give_back(self.offset);
    }

    /// Whether this process may still send the message: its partition is ours and not draining, and the queue was polled
    /// within the session timeout. A `true` notes it as being on a stream until the receipt ends or `off_stream`.
    pub fn may_send(&self) -> bool {
        if self.on_stream.swap(true, Ordering::AcqRel) {
            return self.assignment.may_send();
        }
        let may = self.assignment.enter_stream();
        self.on_stream.store(may, Ordering::Release);
        may
    }

    /// The attempt ended without an outcome; the message waits for a retry.
    pub fn off_stream(&self) {
        if self.on_stream.swap(false, Ordering::AcqRel) {
            self.assignment.leave_stream();
        }
    }

    /// Enters or leaves the waiting room for retries; counted against the app's share of waiters.
    pub fn set_waiting(&self, waiting: bool) {
        if self.waiting.swap(waiting, Ordering::AcqRel) != waiting {
            self.share.set_waiting(waiting);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.ended && self.assignment.give_back(self.offset) {
            self.share.all.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(alarm = true, app = %self.share.app, offset = self.offset, "a message was dropped without an outcome; it is sent again");
        }
        self.off_stream();
        self.set_waiting(false);
        self.share.leave(self.bytes);
    }
}

#[cfg(test)]
mod tests;
