//! Signs of life: each loop that must go on beats a pulse, and whoever asks is told which have been silent for too long.
//!
//! A beat is one store to an atomic, so the loop pays nothing for being watched. A pulse is watched from when it is started
//! until it is dropped: what has ended by plan is no longer asked for a sign, and what ends by a panic ends the process, as
//! everything that is started under a name does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rhythm;

/// How often a runtime is asked for a sign of life.
const BEAT: Duration = Duration::from_secs(1);

/// All pulses of a process. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Pulses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Instant,
    beating: Mutex<Vec<Arc<Beat>>>,
}

#[derive(Debug)]
struct Beat {
    name: String,
    limit: Duration,
    /// Milliseconds from the origin to the last beat.
    at_ms: AtomicU64,
}

/// Something that should move and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// What stands still.
    pub name: String,
    /// For how long.
    pub lasts: Duration,
    /// The longest that it may be silent.
    pub limit: Duration,
}

impl Default for Pulses {
    fn default() -> Self {
        Pulses(Arc::new(Inner { origin: Instant::now(), beating: Mutex::default() }))
    }
}

impl Pulses {
    /// Watches something that beats more often than every `limit`, from now on.
    pub fn start(&self, name: impl Into<String>, limit: Duration) -> Pulse {
        let beat = Arc::new(Beat { name: name.into(), limit, at_ms: AtomicU64::new(self.since(Instant::now())) });
        self.0.beating.lock().push(beat.clone());
        Pulse { all: self.clone(), beat }
    }

    /// What has been silent for longer than it may at `now`.
    pub fn silent(&self, now: Instant) -> Vec<Silence> {
        let now = self.since(now);
        let silence = |beat: &Arc<Beat>| {
            let lasts = Duration::from_millis(now.saturating_sub(beat.at_ms.load(Relaxed)));
            Silence { name: beat.name.clone(), lasts, limit: beat.limit }
        };
        self.0.beating.lock().iter().map(silence).filter(|silence| silence.lasts > silence.limit).collect()
    }

    fn since(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.0.origin).as_millis() as u64
    }
}

/// What is watched; see [`Pulses::start`].
#[derive(Debug)]
pub struct Pulse {
    all: Pulses,
    beat: Arc<Beat>,
}

impl Pulse {
    /// It goes on.
    pub fn beat(&self) {
        self.beat.at_ms.store(self.all.since(Instant::now()), Relaxed);
    }

    /// Beats once a second for as long as `work` runs. The beat is part of the same task, so it shows that the runtime serves
    /// this task, whether there is work or not.
    pub async fn during<F: Future>(self, work: F) -> F::Output {
        let beating = async {
            loop {
                self.beat();
                rhythm::strike(BEAT).await;
            }
        };
        tokio::select! {
            biased;
            () = beating => unreachable!("it never ends"),
            done = work => done,
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.all.0.beating.lock().retain(|beat| !Arc::ptr_eq(beat, &self.beat));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pulses: &Pulses, now: Instant) -> Vec<String> {
        pulses.silent(now).into_iter().map(|silence| silence.name).collect()
    }

    #[test]
    fn what_is_silent_for_too_long_is_named_until_it_beats_again() {
        let (pulses, start) = (Pulses::default(), Instant::now());
        let poll = pulses.start("poll", Duration::from_secs(10));
        let _clock = pulses.start("clock", Duration::from_hours(1));
        let later = start + Duration::from_secs(30);
        assert!(names(&pulses, start).is_empty());
        assert_eq!(names(&pulses, later), ["poll"]);
        assert!(pulses.silent(later)[0].lasts > Duration::from_secs(29));
        poll.beat.at_ms.store(pulses.since(later), Relaxed);
        assert!(names(&pulses, later).is_empty());
    }

    #[test]
    fn what_has_ended_is_not_missed() {
        let pulses = Pulses::default();
        drop(pulses.start("sender", Duration::ZERO));
        assert!(names(&pulses, Instant::now() + Duration::from_secs(1)).is_empty());
    }

    #[tokio::test]
    async fn a_pulse_beats_while_its_work_waits_and_ends_with_it() {
        let pulses = Pulses::default();
        let pulse = pulses.start("runtime", BEAT * 30);
        pulse.beat.at_ms.store(0, Relaxed);
        let beat = pulse.beat.clone();
        let work = async {
            while beat.at_ms.load(Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            7
        };
        assert_eq!(pulse.during(work).await, 7);
        assert!(names(&pulses, Instant::now() + BEAT * 60).is_empty());
    }
}
