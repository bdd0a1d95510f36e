//! What of a valve outlives its process: whether it is closed, by whom and why, as an entry that all processes share. Pure.
//!
//! Every closing has a name, and the entry that opens the valve again carries the same. So an old "open" that is read at a
//! start cannot open a valve that was closed since, whatever the clocks say, and an operator opens just what he has seen.
//! When several processes close at the same time, the last entry in the topic is what all of them come to.

use serde::{Deserialize, Serialize};

/// Who watches over an app's deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watcher {
    /// The worker: the share of dead tokens among the provider's answers.
    Worker,
    /// The feedback listener: the share of the table that is deleted.
    Listener,
}

impl Watcher {
    /// Both.
    pub const ALL: [Watcher; 2] = [Watcher::Worker, Watcher::Listener];

    /// Its name in keys and for people.
    pub fn name(self) -> &'static str {
        match self {
            Watcher::Worker => "worker",
            Watcher::Listener => "listener",
        }
    }

    /// What the keys of its valves begin with.
    pub fn keys(self) -> String {
        format!("valve/{}/", self.name())
    }

    /// The key of the valve of an app on a platform.
    pub fn key(self, platform: &str, app: &str) -> String {
        format!("valve/{}/{platform}/{app}", self.name())
    }
}

/// The state of a valve as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Whether the valve is closed.
    pub closed: bool,
    /// The name of the closing, also when it has ended.
    pub closing: String,
    /// Since when it is so, ms since the epoch.
    pub at: i64,
    /// The host where it was decided.
    pub by: String,
    /// Why, for people.
    pub why: String,
    /// Tokens that were told before this moment (ms since the epoch) are kept: an operator's decision about what was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_before: Option<i64>,
}

impl Entry {
    /// The end of this closing.
    #[must_use]
    pub fn opened(&self, at: i64, by: &str, why: &str, keep_before: Option<i64>) -> Entry {
        let keep_before = keep_before.or(self.keep_before);
        Entry { closed: false, closing: self.closing.clone(), at, by: by.into(), why: why.into(), keep_before }
    }
}

/// A name for this process that its successor on the same host does not have.
pub fn process(hostname: &str) -> String {
    format!("{hostname}-{:08x}", fastrand::u32(..))
}

/// What an entry that was read means for a valve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing new.
    None,
    /// Close.
    Close,
    /// Open.
    Open,
}

/// The closing that a valve is under, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latch {
    closing: Option<Closing>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Closing {
    name: String,
    /// Whether this process may open it by itself: it closed it, or its predecessor may have.
    ours: bool,
}

impl Latch {
    /// This process closes the valve; the name of the closing.
    pub fn close(&mut self, process: &str) -> String {
        let name = format!("{process}/{:016x}", fastrand::u64(..));
        self.closing = Some(Closing { name: name.clone(), ours: true });
        name
    }

    /// This process opens it by itself; the name of the closing that ends.
    pub fn open(&mut self) -> Option<String> {
        self.closing.take().map(|closing| closing.name)
    }

    /// Whether this process may open it by itself.
    pub fn is_ours(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.ours)
    }

    /// Takes note of an entry, which may be this process's own coming back; `at_start`: it was there before.
    pub fn follow(&mut self, entry: &Entry, process: &str, at_start: bool) -> Order {
        let known = self.closing.as_ref().is_some_and(|closing| closing.name == entry.closing);
        match (entry.closed, known) {
            (true, true) | (false, false) => Order::None,
            (false, true) => {
                self.closing = None;
                Order::Open
            }
            (true, false) => {
                let was_open = self.closing.is_none();
                let of_this_process = entry.closing.strip_prefix(process).is_some_and(|rest| rest.starts_with('/'));
                self.closing = Some(Closing { name: entry.closing.clone(), ours: of_this_process || at_start });
                if was_open { Order::Close } else { Order::None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn closed(closing: &str) -> Entry {
        let (closing, by, why) = (closing.into(), "host".into(), "too many".into());
        Entry { closed: true, closing, at: 1, by, why, keep_before: None }
    }

    #[test]
    fn what_one_process_closes_another_closes_and_leaves_to_it() {
        let (mut one, mut other) = (Latch::default(), Latch::default());
        let name = one.close("p1");
        assert!(one.is_ours());
        assert_eq!(one.follow(&closed(&name), "p1", false), Order::None, "its own coming back");
        assert_eq!(other.follow(&closed(&name), "p2", false), Order::Close);
        assert!(!other.is_ours());
        let end = closed(&name).opened(2, "person", "mended", None);
        assert_eq!((one.follow(&end, "p1", false), other.follow(&end, "p2", false)), (Order::Open, Order::Open));
        assert_eq!((one, other), (Latch::default(), Latch::default()));
    }

    #[test]
    fn a_successor_takes_over() {
        let mut latch = Latch::default();
        assert_eq!(latch.follow(&closed("p1/1"), "p2", true), Order::Close);
        assert!(latch.is_ours());
        assert_eq!(latch.open().as_deref(), Some("p1/1"));
    }

    #[test]
    fn an_old_end_opens_nothing() {
        let mut latch = Latch::default();
        latch.close("p1");
        assert_eq!(latch.follow(&closed("p0/7").opened(9, "person", "", None), "p1", true), Order::None);
        assert!(latch.is_ours());
    }

    #[test]
    fn an_entry_is_readable_for_people_and_later_versions() {
        let end = closed("p1/1").opened(2, "person", "mended", Some(5));
        insta::assert_snapshot!(serde_json::to_string(&end).unwrap(), @r#"{"closed":false,"closing":"p1/1","at":2,"by":"person","why":"mended","keepBefore":5}"#);
        let more = r#"{"closed":true,"closing":"c","at":1,"by":"b","why":"w","new":[1]}"#;
        assert!(serde_json::from_str::<Entry>(more).unwrap().closed);
    }

    proptest! {
        /// Processes that read the same entries, each between closings and openings of its own, agree when all is read.
        #[test]
        fn all_come_to_the_last_entry(steps in prop::collection::vec((0usize..3, 0u8..3), 1..40)) {
            let names = ["p0", "p1", "p2"];
            let mut latches = [Latch::default(), Latch::default(), Latch::default()];
            let (mut log, mut read): (Vec<Entry>, _) = (Vec::new(), [0usize; 3]);
            let catch_up = |latch: &mut Latch, name: &str, read: &mut usize, log: &[Entry]| {
                while *read < log.len() {
                    latch.follow(&log[*read], name, false);
                    *read += 1;
                }
            };
            for (who, what) in steps {
                let latch = &mut latches[who];
                match what {
                    0 => if latch.closing.is_none() {
                        let name = latch.close(names[who]);
                        log.push(closed(&name));
                    },
                    1 => catch_up(latch, names[who], &mut read[who], &log),
                    // An operator opens what the topic says.
                    _ => if let Some(last) = log.last().filter(|last| last.closed) {
                        let end = last.opened(0, "person", "", None);
                        log.push(end);
                    },
                }
            }
            for who in 0..3 {
                catch_up(&mut latches[who], names[who], &mut read[who], &log);
            }
            if let Some(last) = log.last().filter(|last| last.closed) {
                for latch in &latches {
                    prop_assert_eq!(latch.closing.as_ref().map(|closing| &closing.name), Some(&last.closing));
                }
            }
        }
    }
}
