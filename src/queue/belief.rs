//! What is believed of a partition when its first record agrees: that record is the only witness that the log is the one
//! that we know. Pure.

use std::sync::Arc;

use super::anchors::Anchors;
use super::in_flight::Assignment;
use super::map::OffsetMap;

/// What this process knows of a partition that was taken away: it is true again when nobody else has gone on in it.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) assignment: Arc<Assignment>,
    pub(super) anchors: Anchors,
    /// Whether it was lost with the group, and not handed over.
    pub(super) lost: bool,
}

impl Past {
    /// As [`Anchors::since_ms`].
    pub(super) fn since_ms(&self) -> Option<i64> {
        self.anchors.since_ms(&self.assignment.ledger.lock())
    }
}

/// What would be known.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// What somebody resolved beyond the committed offset.
    pub(super) map: Option<OffsetMap>,
    /// Whether nothing of the map counts but its base.
    pub(super) only_base: bool,
    /// What we did when we had the partition before.
    pub(super) past: Option<Past>,
}

/// What the first record says.
#[derive(Debug)]
pub(super) enum Judgement {
    /// What agreed with it.
    Agrees(Belief),
    /// The record at the committed offset is another one than that which was seen there at this time: this is another log.
    OtherLog {
        /// In ms since the epoch.
        seen_ms: i64,
        /// What shows it, until a place in this log is known: if the partition goes before that, it has to be shown again.
        belief: Belief,
    },
    /// The record that was seen there is gone: nothing can be told.
    Silent(Belief),
}

impl Belief {
    /// Our past in it is over.
    pub(super) fn forget(&mut self) {
        if let Some(past) = self.past.take() {
            past.assignment.end();
        }
    }

    /// Judges by the first record. `committed`: the offset at which reading began.
    pub(super) fn judge(mut self, committed: i64, offset: i64, timestamp: i64) -> Judgement {
        // A record without a time is like any other.
        let of_past = |past: &Past| past.anchors.first_at(committed).filter(|(_, timestamp)| *timestamp >= 0);
        let known = self.past.as_ref().and_then(of_past);
        if offset != committed && known != Some((offset, timestamp)) {
            return Judgement::Silent(self);
        }
        let is_of_map = |map: &OffsetMap| offset == committed && map.base_timestamp_ms == timestamp;
        let (map_agrees, past_agrees) = (self.map.as_ref().is_some_and(is_of_map), known == Some((offset, timestamp)));
        let seen = [self.map.as_ref().map(|map| map.base_timestamp_ms), known.map(|(_, timestamp)| timestamp)];
        if let Some(seen_ms) = seen.into_iter().flatten().max()
            && !map_agrees
            && !past_agrees
        {
            return Judgement::OtherLog { seen_ms, belief: self };
        }
        if !past_agrees {
            self.forget();
        }
        Judgement::Agrees(Belief { map: self.map.filter(|_| map_agrees), ..self })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::in_flight::LastPoll;
    use super::super::offsets::Ledger;
    use super::*;
    use crate::message::{Lane, Origin, Platform};
    use crate::tally::Tally;

    fn map(base_timestamp_ms: i64) -> OffsetMap {
        OffsetMap { base: 5, base_timestamp_ms, cluster: 1, resolved: std::iter::once(7..9).collect() }
    }

    fn past(timestamp: i64) -> Past {
        let last_poll = LastPoll::new(Duration::from_secs(1), Instant::now());
        let mut anchors = Anchors::new(5);
        anchors.read(5, timestamp);
        let (platform, lane) = (Platform("apns"), Lane::Single);
        let origin = Origin { topic: "t".into(), partition: 0, app: "a".into(), platform, lane };
        let assignment = Assignment::new(Ledger::new(5, vec![]), last_poll, Tally::default().lane(&origin));
        let past = Past { assignment, anchors, lost: false };
        past.assignment.suspend();
        past
    }

    fn judge(
        map: Option<OffsetMap>,
        past: Option<Past>,
        offset: i64,
        timestamp: i64,
    ) -> (Option<bool>, Option<bool>, Option<i64>) {
        match (Belief { map, past, only_base: false }).judge(5, offset, timestamp) {
            Judgement::Agrees(belief) => (Some(belief.map.is_some()), Some(belief.past.is_some()), None),
            Judgement::OtherLog { seen_ms, .. } => (None, None, Some(seen_ms)),
            Judgement::Silent(_) => (None, None, None),
        }
    }

    #[test]
    fn what_agrees_with_the_first_record_is_believed() {
        assert_eq!(judge(Some(map(50)), None, 5, 50), (Some(true), Some(false), None));
        assert_eq!(judge(None, Some(past(50)), 5, 50), (Some(false), Some(true), None));
        assert_eq!(judge(Some(map(50)), Some(past(50)), 5, 50), (Some(true), Some(true), None));
        assert_eq!(judge(Some(map(40)), Some(past(50)), 5, 50), (Some(false), Some(true), None));
        assert_eq!(judge(None, None, 5, 50), (Some(false), Some(false), None));
    }

    #[test]
    fn where_somebody_else_went_on_our_past_is_over() {
        let past = past(50);
        let assignment = past.assignment.clone();
        let judgement = (Belief { past: Some(past), ..Belief::default() }).judge(6, 6, 60);
        assert!(matches!(judgement, Judgement::Agrees(Belief { map: None, past: None, .. })), "{judgement:?}");
        assignment.revive();
        assert!(assignment.is_over());
    }

    #[test]
    fn another_record_at_the_same_offset_is_of_another_log() {
        assert_eq!(judge(Some(map(50)), None, 5, 70), (None, None, Some(50)));
        assert_eq!(judge(Some(map(50)), Some(past(60)), 5, 70), (None, None, Some(60)));
    }

    /// The partition may go before it is known where to begin in the other log, and come again.
    #[test]
    fn what_shows_another_log_shows_it_again() {
        let (past, map) = (past(60), map(50));
        let assignment = past.assignment.clone();
        let mut belief = Belief { map: Some(map), past: Some(past), only_base: false };
        for _ in 0..2 {
            let Judgement::OtherLog { seen_ms: 60, belief: again } = belief.judge(5, 5, 70) else {
                panic!("another log");
            };
            belief = again;
        }
        belief.forget();
        assignment.revive();
        assert!(assignment.is_over(), "what was known of it ends with the search");
    }

    #[test]
    fn a_record_that_is_gone_tells_nothing() {
        assert_eq!(judge(Some(map(50)), None, 6, 50), (None, None, None));
        assert_eq!(judge(None, Some(past(50)), 6, 50), (None, None, None));
    }

    #[test]
    fn behind_the_mark_of_a_transaction_the_next_record_is_the_witness() {
        let marked = |timestamp| {
            let mut past = past(40);
            past.anchors = Anchors::new(5);
            past.anchors.read(6, timestamp);
            past
        };
        assert_eq!(judge(None, Some(marked(60)), 6, 60), (Some(false), Some(true), None));
        assert_eq!(judge(None, Some(marked(60)), 6, 61), (None, None, None));
        assert_eq!(judge(None, Some(marked(60)), 5, 60), (None, None, Some(60)), "there was none at that offset");
    }

    #[test]
    fn what_was_not_read_is_no_older_than_the_oldest_without_an_outcome() {
        let past = past(50);
        assert_eq!(past.since_ms(), Some(50));
        past.assignment.ledger.lock().lend(5, 30, Instant::now());
        assert_eq!(past.since_ms(), Some(30));
    }
}
