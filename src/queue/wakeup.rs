//! Wakes the poll thread when one of librdkafka's queues has become readable.

use std::sync::Arc;
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
