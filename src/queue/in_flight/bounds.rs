//! How much is lent, where it is, and when that is too much.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Numbers of what is lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Messages lent and not resolved.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Those of them that wait for a retry.
    pub waiting: usize,
    /// Those of them whose outcome is known and being reported.
    pub reporting: usize,
}

impl Usage {
    /// What is to be sent or being sent.
    pub fn on_way(self) -> usize {
        self.messages.saturating_sub(self.waiting + self.reporting)
    }
}

/// Where a lent message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    OnWay,
    Waiting,
    Reporting,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    waiting: AtomicUsize,
    reporting: AtomicUsize,
}

impl Counters {
    pub(super) fn usage(&self) -> Usage {
        Usage {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            reporting: self.reporting.load(Ordering::Relaxed),
        }
    }

    pub(super) fn enter(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, from: Place, to: Place) {
        // Counted at the new place first: nobody sees more on their way than there are.
        if let Some(counter) = self.at(to) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = self.at(from) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn at(&self, place: Place) -> Option<&AtomicUsize> {
        match place {
            Place::OnWay => None,
            Place::Waiting => Some(&self.waiting),
            Place::Reporting => Some(&self.reporting),
        }
    }
}

/// A bound with watermarks: full at the top, and until a tenth below it again, so that partitions are not paused and
/// resumed for every message.
#[derive(Debug)]
pub(super) struct Gate {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    full: AtomicBool,
}

impl Gate {
    pub(super) fn new(messages: usize, bytes: usize) -> Self {
        Gate { messages: messages.max(1).into(), bytes: bytes.max(1).into(), full: AtomicBool::new(false) }
    }

    /// Most messages.
    pub(super) fn capacity(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn resize(&self, messages: usize, bytes: usize) {
        self.messages.store(messages.max(1), Ordering::Relaxed);
        self.bytes.store(bytes.max(1), Ordering::Relaxed);
    }

    pub(super) fn has_room(&self, usage: Usage) -> bool {
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
