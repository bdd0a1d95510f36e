//! Whether the threads that send are busy all the time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::RuntimeMetrics;

/// Busy for this part of the time is all the time: the rest goes to the kernel's say of what has arrived.
const ALL: f64 = 0.85;
/// It is looked at over so long at least …
const LEAST: Duration = Duration::from_millis(100);
/// … and at most: an average over longer says nothing of now.
const MOST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    threads: Vec<RuntimeMetrics>,
    /// The last look, and for how long all of them together had been busy then.
    last: Option<(Instant, Duration)>,
    is_everything: bool,
    #[cfg(test)]
    is_pretended: bool,
}

impl Busy {
    /// One more thread, by the runtime on it.
    pub(super) fn watch(&self, thread: RuntimeMetrics) {
        let mut seen = self.0.lock();
        seen.threads.push(thread);
        seen.last = None;
    }

    /// Whether all of the threads' time is used.
    pub(super) fn is_everything(&self, now: Instant) -> bool {
        let mut seen = self.0.lock();
        #[cfg(test)]
        if seen.is_pretended {
            return true;
        }
        seen.look(now);
        seen.is_everything
    }

    #[cfg(test)]
    pub(super) fn pretend(&self) {
        self.0.lock().is_pretended = true;
    }
}

impl Seen {
    fn look(&mut self, now: Instant) {
        let passed = self.last.map(|(at, _)| now.saturating_duration_since(at));
        if passed.is_some_and(|passed| passed < LEAST) {
            return;
        }
        let busy: Duration = self.threads.iter().map(|thread| thread.worker_total_busy_duration(0)).sum();
        let since = self.last.replace((now, busy));
        self.is_everything = match (since, passed) {
            (Some((_, before)), Some(passed)) if passed <= MOST => {
                let all = passed.as_secs_f64() * self.threads.len() as f64;
                busy.saturating_sub(before).as_secs_f64() >= ALL * all && all > 0.0
            }
            _ => false,
        };
    }
}
