//! Positions that must change: back to what was given back, on to what the log still has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context;
use super::kafka::KafkaQueue;
use super::partition::Partition;
use super::place::Place;
use super::scout::Question;
use super::start::{self, Log};
use crate::clock::now_ms;
use crate::message::Origin;

/// Longest wait for the client to change a position; it needs no broker for that.
const CALL: Duration = Duration::from_millis(500);
/// Pause before a log is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// Positions to go to, until the client has done it.
#[derive(Debug, Default)]
pub(super) struct Seeks(BTreeMap<Place, i64>);

impl Seeks {
    /// Back to an offset that must be read again. An earlier one that waits stays: what is between is read once more and
    /// skipped.
    pub(super) fn back_to(&mut self, origin: &Origin, offset: i64) {
        self.0.entry(origin.into()).and_modify(|waiting| *waiting = offset.min(*waiting)).or_insert(offset);
    }

    /// To an offset that exists, whatever was wished before.
    fn to(&mut self, origin: &Origin, offset: i64) {
        self.0.insert(origin.into(), offset);
    }

    /// Forgets a partition's: it would make its next epoch begin where it should not.
    pub(super) fn forget(&mut self, place: &Place) {
        self.0.remove(place);
    }
}

/// Partitions that are not read on before it is known what their log holds.
#[derive(Debug, Default)]
pub(super) struct Searches {
    open: BTreeMap<Place, Search>,
    /// When a partition was read again where its log was said not to have anything, and has.
    in_vain: BTreeMap<Place, Instant>,
}

#[derive(Debug)]
struct Search {
    /// It was seen to be another log. Otherwise its next offset was not there.
    is_other: bool,
    /// That offset. What is given back while the log is asked for lies before it, and says nothing about it.
    at: i64,
    /// Whether nothing had been read there since its place was changed.
    is_moved: bool,
    /// What is older was there before, ms since the epoch; `None`: nothing is known to have been.
    since_ms: Option<i64>,
    /// When to ask; `None`: it is asked.
    due: Option<Instant>,
    /// Whether it was told that there is no answer.
    told: bool,
}

/// What follows from what a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It lost its older records.
    PassOver,
    /// It has what was not there: the client told late of a place before.
    ReadAgain,
    /// It is another log, or was cut off.
    BeginAnew,
}

impl Search {
    /// `next`: the offset behind the last record that was read of the partition; a log that is shorter was cut off.
    fn judge(&self, log: &Log, next: i64) -> Verdict {
        match self {
            Search { is_other: false, at, .. } if *at < log.low => Verdict::PassOver,
            Search { is_other: false, is_moved: true, at, .. } if next.max(*at) <= log.high => Verdict::ReadAgain,
            _ => Verdict::BeginAnew,
        }
    }
}

impl Searches {
    pub(super) fn contains(&self, origin: &Origin) -> bool {
        !self.open.is_empty() && self.open.contains_key(&origin.into())
    }

    pub(super) fn forget(&mut self, place: &Place) {
        self.open.remove(place);
        self.in_vain.remove(place);
    }
}

impl KafkaQueue {
    /// Changes positions; what the client refuses stays for the next strike of the clock.
    pub(super) fn seek(&mut self) {
        if self.seeks.0.is_empty() {
            return;
        }
        for partition in &mut self.partitions {
            if self.seeks.0.contains_key(&Place::from(&*partition.origin)) {
                partition.cursor.moved();
            }
        }
        let (consumer, partitions, until) = (&self.consumer, &self.partitions, Instant::now() + CALL);
        self.seeks.0.retain(|place, offset| {
            let ours = partitions.iter().any(|one| Place::from(&*one.origin) == *place);
            let left = until.saturating_duration_since(Instant::now());
            // Refused for a partition that has been out of range: the client has stopped reading it.
            ours && (left.is_zero()
                || consumer.seek(&place.topic, place.partition, Offset::Offset(*offset), left).is_err())
        });
        if self.seeks.0.is_empty() {
            return;
        }
        match self.restart() {
            Ok(()) => self.seeks.0.clear(),
            Err(error) => {
                self.consumer.context().complain(&error, "partitions cannot be read from where they should be");
            }
        }
    }

    /// Takes partitions that the client has stopped reading anew, each from where it must be read.
    fn restart(&self) -> KafkaResult<()> {
        if !context::is_cooperative(&self.consumer) {
            return self.consumer.assign(&self.positions()?);
        }
        let (mut places, mut offsets) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (place, offset) in &self.seeks.0 {
            places.add_partition(&place.topic, place.partition);
            offsets.add_partition_offset(&place.topic, place.partition, Offset::Offset(*offset))?;
        }
        self.consumer.incremental_unassign(&places)?;
        self.consumer.incremental_assign(&offsets)
    }

    /// Where each partition that we have must be read on. Where partitions are not handed over one by one, a change can
    /// only be said of all of them at once.
    pub(super) fn positions(&self) -> KafkaResult<TopicPartitionList> {
        let mut all = TopicPartitionList::new();
        for partition in &self.partitions {
            let wish = self.seeks.0.get(&Place::from(&*partition.origin)).copied();
            let from = wish.unwrap_or_else(|| partition.assignment.ledger.lock().read_from());
            all.add_partition_offset(&partition.origin.topic, partition.origin.partition, Offset::Offset(from))?;
        }
        Ok(all)
    }

    /// The log does not have what comes next.
    pub(super) fn on_out_of_range(&mut self, index: usize) {
        let partition = &self.partitions[index];
        let since = since_by_the_clock(partition).or_else(|| partition.past()?.since_ms());
        self.search(index, false, since);
    }

    /// The first record was of another log than that of which something is known.
    pub(super) fn on_other_log(&mut self, index: usize, seen_ms: i64) {
        self.search(index, true, Some(seen_ms));
    }

    /// Looks for logs that were cut off, and have grown since or not at all: no fetch tells that.
    pub(super) fn look_for_what_was_cut_off(&mut self, now: Instant) {
        for index in 0..self.partitions.len() {
            let partition = &mut self.partitions[index];
            let end = self.logs.end(&Place::from(&*partition.origin));
            if !self.searches.contains(&partition.origin) && end.is_some_and(|end| partition.is_cut_off(end, now)) {
                let since = partition.since_ms().or_else(|| since_by_the_clock(partition));
                self.search(index, true, since);
            }
        }
    }

    /// `last_ms`: what is newer may not have been read, as records say; a record of the future says nothing.
    fn search(&mut self, index: usize, is_other: bool, last_ms: Option<i64>) {
        let (partition, now) = (&self.partitions[index], Instant::now());
        let place = Place::from(&*partition.origin);
        let due = self.searches.in_vain.get(&place).map_or(now, |at| now.max(*at + AGAIN));
        let search = Search {
            is_other,
            // What is read now, not what was read last: back at what was given back, the log may have lost that alone.
            at: partition.reads_at(),
            is_moved: partition.cursor.is_moved(),
            since_ms: last_ms.map(|last| start::before(last.min(now_ms()))),
            due: Some(due),
            told: false,
        };
        self.searches.open.insert(place, search);
    }

    /// Asks for logs that have not been asked for yet.
    pub(super) fn ask_for_logs(&mut self, now: Instant) {
        for (place, search) in &mut self.searches.open {
            let is_due = search.due.is_some_and(|due| due <= now);
            let question = || Question::Log { place: place.clone(), since_ms: search.since_ms };
            if is_due && self.scout.ask(question()) {
                search.due = None;
            }
        }
    }

    /// What a log holds is known: on with what exists.
    pub(super) fn on_log(&mut self, place: &Place, log: Result<Log, String>) {
        let Some(index) = self.partitions.iter().position(|one| Place::from(&*one.origin) == *place) else { return };
        let Some(search) = self.searches.open.get_mut(place).filter(|search| search.due.is_none()) else { return };
        let log = match log {
            Ok(log) => log,
            Err(why) => {
                if !std::mem::replace(&mut search.told, true) {
                    tracing::warn!(why, topic = %place.topic, partition = place.partition, "cannot see what the log holds; trying again");
                }
                search.due = Some(Instant::now() + AGAIN);
                return;
            }
        };
        let next = self.partitions[index].assignment.ledger.lock().next();
        let verdict = search.judge(&log, next);
        self.searches.open.remove(place);
        match verdict {
            Verdict::PassOver => self.pass_over(index, log.low),
            Verdict::ReadAgain => self.read_again(index),
            Verdict::BeginAnew => self.begin_anew(index, log),
        }
        self.seek();
    }

    /// The log has it, and nothing was read since the place was changed: the client tells late what was wrong with the one before, and
    /// again when others are changed.
    fn read_again(&mut self, index: usize) {
        let (origin, at) = (self.partitions[index].origin.clone(), self.partitions[index].reads_at());
        tracing::debug!(topic = %origin.topic, partition = origin.partition, at, "out of range, and in the log: read again");
        self.searches.in_vain.insert(Place::from(&*origin), Instant::now());
        self.seeks.to(&origin, at);
    }

    /// It is another log: what comes now under the old numbers was never sent.
    fn begin_anew(&mut self, index: usize, log: Log) {
        let (partition, offset) = (&mut self.partitions[index], log.beginning());
        let next = partition.assignment.ledger.lock().next();
        partition.begin_anew(offset, self.last_poll.clone());
        let origin = partition.origin.clone();
        self.exchanged(&origin, next, offset);
        self.seeks.to(&origin, offset);
    }

    /// The log lost its older records.
    fn pass_over(&mut self, index: usize, low: i64) {
        let partition = &mut self.partitions[index];
        let origin = partition.origin.clone();
        let mut ledger = partition.assignment.ledger.lock();
        let skipped = (low - ledger.next()).max(0) + ledger.abandon(low);
        let again = ledger.read_from().max(low);
        drop(ledger);
        partition.cursor.goes_on_at(again);
        partition.set_dirty();
        self.lost_by_the_log(&origin, low, skipped);
        self.seeks.to(&origin, again);
    }

    pub(super) fn lost_by_the_log(&self, origin: &Origin, offset: i64, skipped: i64) {
        tracing::error!(
            alarm = true, app = %origin.app, platform = %origin.platform, topic = %origin.topic, partition = origin.partition,
            offset, skipped, reason = "out of range",
            "messages were deleted from the log before they were read; going on with the oldest that exists, raise the topic's retention"
        );
        self.observer.out_of_range(origin, skipped as u64);
    }

    pub(super) fn exchanged(&self, origin: &Origin, known: i64, offset: i64) {
        tracing::error!(
            alarm = true, app = %origin.app, platform = %origin.platform, topic = %origin.topic, partition = origin.partition,
            known, offset, reason = "another log",
            "the log is not the one that was read before (topic made anew, or cut off by an unclean election); going on where nothing is known to have been sent, some messages may be repeated"
        );
        self.observer.out_of_range(origin, 0);
    }
}

/// Since when its log may hold what was not read, ms since the epoch: since something was read last, or the oldest that has no
/// outcome was written. `None`: nothing was read.
fn since_by_the_clock(partition: &Partition) -> Option<i64> {
    let ago = partition.cursor.ago(Instant::now())?;
    let since = now_ms().saturating_sub(ago.as_millis() as i64);
    // What has no outcome is to be sent, if it is still there.
    let unresolved = partition.assignment.ledger.lock().position_time().ms();
    Some(unresolved.map_or(since, |at| since.min(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lane, Platform};

    fn origin(partition: i32) -> Origin {
        Origin { topic: "t".into(), partition, app: "a".into(), platform: Platform("apns"), lane: Lane::Single }
    }

    #[test]
    fn a_log_that_does_not_have_what_comes_next_was_cut_off_unless_the_client_tells_late() {
        let judge = |is_other, at, is_moved, next| {
            let search = Search { is_other, at, is_moved, since_ms: None, due: None, told: false };
            search.judge(&Log { low: 10, high: 100, newer: None }, next)
        };
        assert_eq!(judge(false, 5, false, 100), Verdict::PassOver);
        assert_eq!(judge(false, 50, true, 100), Verdict::ReadAgain);
        assert_eq!(judge(false, 100, true, 100), Verdict::ReadAgain, "its end is in order");
        assert_eq!(judge(false, 101, false, 101), Verdict::BeginAnew);
        assert_eq!(judge(false, 50, false, 100), Verdict::BeginAnew, "it was not there, and is: it has grown since");
        assert_eq!(judge(false, 50, true, 101), Verdict::BeginAnew, "what was read is not there any more");
        assert_eq!([5, 50].map(|at| judge(true, at, true, 100)), [Verdict::BeginAnew; 2]);
    }

    #[test]
    fn the_earliest_offset_that_must_be_read_again_wins_until_the_partition_goes() {
        let mut seeks = Seeks::default();
        seeks.back_to(&origin(0), 5);
        seeks.back_to(&origin(0), 9);
        seeks.back_to(&origin(1), 9);
        assert_eq!(seeks.0.values().copied().collect::<Vec<_>>(), [5, 9]);
        seeks.to(&origin(0), 100);
        seeks.forget(&Place::from(&origin(1)));
        assert_eq!(seeks.0.into_values().collect::<Vec<_>>(), [100]);
    }
}
