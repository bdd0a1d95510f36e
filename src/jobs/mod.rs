//! Jobs (campaigns): which message belongs to which ([`id`]), which of them are stopped, and what became of those in sight.
//!
//! A stopped job's messages are resolved as *cancelled* without being sent, wherever they are: when they are lent, while they
//! wait for a stream or for a retry. Whether a job is stopped is asked for each message, and costs one look at a flag while
//! none is.
//!
//! What is counted is for people on call, in memory and of this process alone, and bounded: of more than [`MOST`] jobs those
//! that were least recently seen are forgotten. The ledger ([`crate::tally`]) forgets nothing and knows no job.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::RwLock;

mod figures;
pub mod id;

pub use figures::{Figures, Job};

/// Jobs that are counted at the same time.
pub const MOST: usize = 100;

/// All jobs that this process knows of.
#[derive(Debug, Default)]
pub struct Jobs {
    any_stopped: AtomicBool,
    stopped: RwLock<HashSet<Arc<str>>>,
    in_sight: RwLock<HashMap<Arc<str>, Arc<Job>>>,
}

impl Jobs {
    /// From now on these are stopped, and no others.
    pub fn set_stopped(&self, ids: impl IntoIterator<Item = Arc<str>>) {
        let ids: HashSet<_> = ids.into_iter().collect();
        let any = !ids.is_empty();
        *self.stopped.write() = ids;
        self.any_stopped.store(any, Relaxed);
    }

    /// Whether a message of this job is not to be sent.
    pub fn is_stopped(&self, job: Option<&Job>) -> bool {
        self.any_stopped.load(Relaxed) && job.is_some_and(|job| self.stopped.read().contains(job.id()))
    }

    /// The job of a message that has come in with this metadata, which is seen by that.
    pub fn of(&self, metadata: &str, now: Instant) -> Option<Arc<Job>> {
        let id = id::of(metadata)?;
        if let Some(job) = self.in_sight.read().get(&*id) {
            job.seen(now);
            return Some(job.clone());
        }
        let mut in_sight = self.in_sight.write();
        if in_sight.len() >= 2 * MOST {
            forget_stale(&mut in_sight);
        }
        let id: Arc<str> = id.into();
        Some(in_sight.entry(id.clone()).or_insert_with(|| Arc::new(Job::new(id, now))).clone())
    }

    /// What those in sight have come to, the most recently seen first.
    pub fn figures(&self, now: Instant) -> Vec<Figures> {
        let mut jobs: Vec<_> = self.in_sight.read().values().cloned().collect();
        jobs.sort_by(|a, b| b.last_seen().cmp(&a.last_seen()).then_with(|| a.id().cmp(b.id())));
        jobs.truncate(MOST);
        jobs.iter().map(|job| job.figures(self.is_stopped(Some(job)), now)).collect()
    }
}

/// Half of them at once, so that producers who name a job of its own for each push cost little.
fn forget_stale(in_sight: &mut HashMap<Arc<str>, Arc<Job>>) {
    let mut seen: Vec<_> = in_sight.values().map(|job| job.last_seen()).collect();
    let (_, oldest_kept, _) = seen.select_nth_unstable_by(MOST, |a, b| b.cmp(a));
    in_sight.retain(|_, job| job.last_seen() > *oldest_kept);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metadata(id: &str) -> String {
        format!(r#"{{"jobId":"{id}"}}"#)
    }

    #[test]
    fn a_job_is_stopped_by_name_and_goes_on_when_it_is_not() {
        let (jobs, now) = (Jobs::default(), Instant::now());
        let [one, other] = ["a", "b"].map(|id| jobs.of(&metadata(id), now));
        assert!(!jobs.is_stopped(one.as_deref()));
        jobs.set_stopped(["a".into()]);
        assert!(jobs.is_stopped(one.as_deref()) && !jobs.is_stopped(other.as_deref()) && !jobs.is_stopped(None));
        assert_eq!(
            jobs.figures(now).iter().map(|one| (one.id.as_str(), one.stopped)).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        jobs.set_stopped([]);
        assert!(!jobs.is_stopped(one.as_deref()));
        assert!(jobs.of("{}", now).is_none());
    }

    #[test]
    fn those_least_recently_seen_are_forgotten() {
        let (jobs, start) = (Jobs::default(), Instant::now());
        let see = |id: usize, second: u64| jobs.of(&metadata(&id.to_string()), start + Duration::from_secs(second));
        for id in 0..MOST {
            see(id, id as u64);
        }
        let first = see(0, 200).unwrap();
        see(MOST, 201);
        let known = || jobs.figures(start).into_iter().map(|one| one.id).collect::<Vec<_>>();
        let now = known();
        assert_eq!((now.len(), &*now[0], &*now[1], now.contains(&"1".to_owned())), (MOST, "100", "0", false));
        for id in MOST + 1..10 * MOST {
            see(id, 201 + id as u64);
            see(0, 201 + id as u64);
            assert!(jobs.in_sight.read().len() <= 2 * MOST);
        }
        assert_eq!((known().len(), &*known()[0], &*known()[1]), (MOST, "0", "999"));
        assert!(Arc::ptr_eq(&first, &see(0, 202).unwrap()));
    }
}
