//! One connection as its requests, its task and its pool see it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::wire::{Broken, Session};

/// A connection's state behind its lock, and beside it what a pool asks all the time, which the connection's task alone changes.
pub(super) struct Link {
    session: Mutex<Session>,
    read: AtomicU64,
    answers: AtomicU64,
}

impl Link {
    /// Of a connection that is about to begin; see [`PoolSettings::reads`](super::PoolSettings::reads).
    pub(super) fn new(reads: &[&'static str]) -> Self {
        Link { session: Mutex::new(Session::new(reads)), read: AtomicU64::new(0), answers: AtomicU64::new(0) }
    }

    /// The connection's state. Locked after the pool's, if that is needed as well.
    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock()
    }

    /// What the peer said: see [`Session::receive`].
    pub(super) fn receive(&self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut session = self.session.lock();
        let taken = session.receive(bytes);
        self.answers.store(session.answers(), Ordering::Relaxed);
        taken
    }

    /// Notes bytes that came: signs of life, also in the middle of a frame.
    pub(super) fn heard(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes received.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether the peer has answered a request, though its task may not have looked yet.
    pub(super) fn answered(&self) -> bool {
        self.answers() > 0
    }

    /// Answers so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}
