//! Records that a producer was given and has not reported on, each under a number that is never used again: a report that
//! comes too late is nobody's.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use crate::reporters::Owed;
use crate::reporters::quick_hash::QuickHash;

/// What a record's delivery report says.
pub(super) type Report = Result<(), KafkaError>;

/// Who is told of a report.
pub(super) enum Waiter {
    /// A task.
    Task(oneshot::Sender<Report>),
    /// Whoever posted it.
    Post(Box<dyn Owed>),
}

impl Waiter {
    /// Tells it.
    pub(super) fn tell(self, report: Report) {
        match self {
            // Nobody waits any more when the record was given up or the process is ending.
            Waiter::Task(task) => drop(task.send(report)),
            Waiter::Post(owed) if report.is_ok() => unharmed(|| owed.acknowledged()),
            Waiter::Post(owed) => unharmed(|| owed.refused()),
        }
    }

    /// It was not taken, or there will be no report.
    pub(super) fn no_report(self) {
        match self {
            Waiter::Task(task) => drop(task),
            Waiter::Post(owed) => unharmed(|| owed.refused()),
        }
    }
}

/// A panic of whoever is told ends its message's report, which the panic's own alarm tells of, and not the reports of all others.
fn unharmed(tell: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(tell));
}

/// One producer's.
#[derive(Default)]
pub(super) struct Given {
    next: AtomicUsize,
    posted: AtomicU64,
    looks: AtomicU32,
    /// With the look at which each was given.
    waiters: Mutex<HashMap<usize, (u32, Waiter), QuickHash>>,
}

impl Given {
    /// Notes one; its number.
    pub(super) fn enter(&self, waiter: Waiter) -> usize {
        let (number, look) = (self.next.fetch_add(1, Relaxed), self.looks.load(Relaxed));
        if matches!(waiter, Waiter::Post(_)) {
            self.posted.fetch_add(1, Relaxed);
        }
        self.waiters.lock().insert(number, (look, waiter));
        number
    }

    /// Takes one back; `None` when its time was over.
    pub(super) fn leave(&self, number: usize) -> Option<Waiter> {
        let (_, waiter) = self.waiters.lock().remove(&number)?;
        self.left(&waiter);
        Some(waiter)
    }

    /// How many are posted.
    pub(super) fn posted(&self) -> u64 {
        self.posted.load(Relaxed)
    }

    /// Looks at them, on a clock, and calls an end to those that were there at `most` looks before; whether there were any. A
    /// process that stood still has looked no more often meanwhile, and reads its reports first.
    pub(super) fn look(&self, most: u32) -> bool {
        let now = self.looks.fetch_add(1, Relaxed);
        let is_over = |_: &usize, (since, _): &mut (u32, Waiter)| now.wrapping_sub(*since) >= most;
        let over: Vec<_> = self.waiters.lock().extract_if(is_over).map(|(_, (_, waiter))| waiter).collect();
        let any = !over.is_empty();
        for waiter in over {
            self.left(&waiter);
            waiter.no_report();
        }
        any
    }

    fn left(&self, waiter: &Waiter) {
        if matches!(waiter, Waiter::Post(_)) {
            self.posted.fetch_sub(1, Relaxed);
        }
    }
}

/// The client is gone, and with it what it did not report.
impl Drop for Given {
    fn drop(&mut self) {
        self.waiters.get_mut().drain().for_each(|(_, (_, waiter))| waiter.no_report());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Lane, Origin, Platform};
    use crate::reporters::RecordSource;

    /// One without a place for its end panics over it.
    struct Debt(Origin, Option<Arc<Mutex<Vec<&'static str>>>>);

    impl RecordSource for Debt {
        fn record(&self, _: bool) -> Vec<u8> {
            Vec::new()
        }
    }

    impl Owed for Debt {
        fn origin(&self) -> &Origin {
            &self.0
        }
        fn acknowledged(self: Box<Self>) {
            self.1.expect("a place").lock().push("acknowledged");
        }
        fn refused(self: Box<Self>) {
            self.1.expect("a place").lock().push("refused");
        }
    }

    fn debt(ends: &Arc<Mutex<Vec<&'static str>>>) -> Waiter {
        told_at(Some(ends.clone()))
    }

    fn told_at(place: Option<Arc<Mutex<Vec<&'static str>>>>) -> Waiter {
        let origin = Origin {
            topic: "push-game_apns".into(),
            partition: 0,
            app: "game".into(),
            platform: Platform("apns"),
            lane: Lane::Single,
        };
        Waiter::Post(Box::new(Debt(origin, place)))
    }

    #[test]
    fn each_is_told_once_and_a_late_report_is_nobodys() {
        let (given, ends) = (Given::default(), Arc::default());
        let [first, second, third] = [(); 3].map(|()| given.enter(debt(&ends)));
        given.leave(first).expect("it waits").tell(Ok(()));
        assert!(given.leave(first).is_none());
        given.leave(second).expect("it waits").tell(Err(KafkaError::Canceled));
        assert_eq!((given.posted(), &ends.lock()[..]), (1, &["acknowledged", "refused"][..]));
        assert!(!given.look(2) && !given.look(2), "its time is not over");
        let fourth = given.enter(debt(&ends));
        assert!(given.look(2));
        assert_eq!((given.posted(), ends.lock().len()), (1, 3), "the fourth came two looks later");
        assert!(given.leave(third).is_none(), "its report comes too late");
        given.leave(fourth).expect("it waits").tell(Ok(()));
        assert_ne!(given.enter(debt(&ends)), third);
    }

    #[test]
    fn a_panic_of_one_spares_the_others() {
        let (given, ends) = (Given::default(), Arc::default());
        for place in [None, Some(Arc::clone(&ends))] {
            given.enter(told_at(place));
        }
        assert!(given.look(0));
        assert_eq!((given.posted(), &ends.lock()[..]), (0, &["refused"][..]));
    }

    #[tokio::test]
    async fn who_waits_hears_when_the_client_is_gone() {
        let (given, ends) = (Given::default(), Arc::default());
        let (told, hears) = oneshot::channel();
        given.enter(Waiter::Task(told));
        given.enter(debt(&ends));
        drop(given);
        assert!(hears.await.is_err());
        assert_eq!(ends.lock()[..], ["refused"]);
    }
}
