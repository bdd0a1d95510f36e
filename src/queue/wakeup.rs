//! Wakes the poll thread when one of librdkafka's queues has become readable.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A flag that can be waited for. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakeup(Arc<(Mutex<bool>, Condvar)>);

impl Wakeup {
    /// Something is readable. Called on librdkafka's threads: short, and never waits.
    pub(super) fn wake(&self) {
        let (flag, condition) = &*self.0;
        *flag.lock() = true;
        condition.notify_one();
    }

    /// Waits until [`Wakeup::wake`] was called since the last wait, at most `limit`; whether it was.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let (flag, condition) = &*self.0;
        let mut woken = flag.lock();
        if !*woken {
            condition.wait_for(&mut woken, limit);
        }
        std::mem::take(&mut *woken)
    }
}

/// Whether a queue may hold something; it may in the beginning. Asking the client for what is not there costs a lock and
/// several looks at the clock, and of many partitions most are empty.
#[derive(Debug)]
pub(super) struct Readable(Arc<AtomicBool>);

impl Default for Readable {
    fn default() -> Self {
        Readable(Arc::new(AtomicBool::new(true)))
    }
}

impl Readable {
    /// To be called when the queue was empty and is not any more.
    pub(super) fn notifier(&self, wakeup: Wakeup) -> impl Fn() + Send + Sync + 'static {
        let flag = self.0.clone();
        move || {
            flag.store(true, Release);
            wakeup.wake();
        }
    }

    /// Whether to look into the queue now. Cleared before the look: what comes after its last message sets it again.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, AcqRel)
    }

    /// There may be more.
    pub(super) fn set(&self) {
        self.0.store(true, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_looked_into_at_first_and_then_when_something_came() {
        let (readable, wakeup) = (Readable::default(), Wakeup::default());
        let on_event = readable.notifier(wakeup.clone());
        assert!(readable.take() && !readable.take());
        assert!(!wakeup.wait(Duration::ZERO));
        on_event();
        assert!(wakeup.wait(Duration::ZERO), "and its reader is woken");
        assert!(readable.take() && !readable.take());
        readable.set();
        assert!(readable.take());
    }
}
