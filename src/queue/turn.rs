//! One turn of the poll thread after the other: serve the group, then lend.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::client::{fatal, is_hopeless};
use super::context::Event;
use super::kafka::KafkaQueue;
use super::partition::Partition;
use super::scout::Report;
use super::{Lent, QueueError};

/// Records taken from one partition before the next one has its turn.
const BURST: usize = 64;
/// Events served in one turn, so that a flood of them does not keep messages waiting.
const EVENTS: usize = 32;

/// Longest sleep of the poll thread: the common queue is served at least this often, whatever else is going on.
pub(super) const NAP: Duration = Duration::from_millis(500);
/// Sleep when something is readable that may not be sent for now: a probe may be wanted, or the pause be over.
pub(super) const HELD_NAP: Duration = Duration::from_millis(50);
/// Shortest and longest sleep when something is readable and there is no room for it. Between them it is half as long as there has been
/// none: room comes when a part of what is lent has ended, and what else is lent lasts for longer than the part did.
const FULL_NAPS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// What a partition's queue came to in one turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing readable now.
    Empty,
    /// More may be readable: its turn was used up.
    More,
    /// Readable, but there is no room for it: its app's share or its map is full.
    Full,
    /// Readable, but as much of its app is lent as is of use.
    Enough,
    /// Nothing of its app, or of this lane of it, is to be sent for now.
    Paused,
    /// The log does not have the offset that comes next.
    OutOfRange,
    /// The log is another one than that of which something is known; its record was not lent.
    OtherLog {
        /// When the last record was written that is known to be of the other one, ms since the epoch.
        seen_ms: i64,
    },
    /// The client is broken for good.
    Fatal(String),
}

impl KafkaQueue {
    /// Everything but messages: callbacks, rebalances, topics, commits. Whether there may be more of it.
    pub(super) fn serve(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<bool, QueueError> {
        if let Some(silence) = self.last_poll.touch(now) {
            tracing::warn!(
                silence_s = silence.as_secs_f64(),
                "the queue was not polled for longer than the group's session: nothing is sent until the group has accepted a commit"
            );
            self.commits.hurry(now);
        }
        self.observer.polled();
        let more = self.poll_common_queue(now, out)?;
        self.act_on_events();
        if let Some(asked_at) = self.commits.proof()
            && self.last_poll.vouch(asked_at)
        {
            tracing::info!("the group has accepted a commit: sending goes on");
        }
        self.hear_scout();
        if !self.stopped {
            self.settle(now);
            self.ask_for_logs(now);
        }
        if self.commits.is_due(now) {
            self.on_clock(now);
            if !self.stopped {
                self.look_for_a_stall(now);
            }
        }
        Ok(more)
    }

    fn hear_scout(&mut self) {
        while let Some(report) = self.scout.report() {
            match report {
                _ if self.stopped => {}
                Report::Topics(listing) => {
                    self.listed_at = Some(Instant::now());
                    self.on_topics(&listing);
                }
                Report::Starts { number, cluster, found } => {
                    self.commits.set_cluster(cluster);
                    self.on_found(number, found);
                }
                Report::Log { place, log } => self.on_log(&place, log),
                Report::Readable(found) => self.on_readable(found),
            }
        }
    }

    fn poll_common_queue(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<bool, QueueError> {
        let consumer = self.consumer.clone();
        for _ in 0..EVENTS {
            let message = match consumer.poll(Duration::ZERO) {
                None => return Ok(false),
                Some(Ok(message)) => message,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(fatal(code)),
                Some(Err(KafkaError::MessageConsumption(code))) if is_hopeless(code) => return Err(fatal(code)),
                Some(Err(error)) => {
                    consumer.context().complain(&error, "");
                    continue;
                }
            };
            self.on_stray(message, now, out);
        }
        Ok(true)
    }

    /// A message on the common queue. Not expected, every partition has its own queue before it is assigned; and not to be
    /// lost if it happens.
    pub(super) fn on_stray(&mut self, message: BorrowedMessage<'_>, now: Instant, out: &mut Vec<Lent>) {
        let is_its =
            |one: &Partition| *one.origin.topic == *message.topic() && one.origin.partition == message.partition();
        if let Some(index) = self.partitions.iter().position(is_its) {
            let other = self.partitions[index].accept(message.into(), now, &*self.observer, out);
            if let Some(seen_ms) = other {
                self.on_other_log(index, seen_ms);
            }
        }
    }

    pub(super) fn act_on_events(&mut self) {
        let consumer = self.consumer.clone();
        while let Some(event) = consumer.context().next_event() {
            match event {
                Event::Assigned(partitions) => self.on_assigned(&partitions),
                Event::Revoked { partitions, lost } => self.on_revoked(&partitions, lost),
                Event::Committed { result, partitions } => self.on_committed(&result, &partitions),
            }
        }
    }

    fn on_clock(&mut self, now: Instant) {
        let mut full = 0;
        for partition in &mut self.partitions {
            full += usize::from(partition.is_full());
            partition.readable.set(); // for the case that the client did not say so
            let dropped = partition.assignment.take_dropped();
            if dropped > 0 {
                self.observer.receipts_lost(&partition.origin, dropped);
            }
            // Back to the first of all that were ever given back: an earlier one may not have been read again yet.
            if !partition.assignment.take_lost().is_empty() {
                self.seeks.back_to(&partition.origin, partition.assignment.ledger.lock().read_from());
            }
        }
        self.look_for_what_was_cut_off(now);
        self.seek();
        if self.last_poll.is_in_doubt() {
            // The group is asked whether it still calls us its member, also when there is nothing to commit.
            self.partitions.iter().for_each(Partition::set_dirty);
        }
        // One at a time: the client sends a refused commit again by itself, and an older one must not come after a newer.
        if !self.commits.is_under_way() {
            self.commits.ask(&self.consumer, self.partitions.iter_mut(), false, &*self.observer);
        }
        let oldest = self.partitions.iter().filter_map(|partition| partition.assignment.ledger.lock().oldest());
        let age = oldest.map(|(_, since)| now.saturating_duration_since(since)).max();
        self.observer.oldest_in_flight(age.unwrap_or_default());
        self.observer.starved(std::mem::take(&mut self.starved));
        self.observer.full(full);
        self.observer.unsettled(self.settling.len());
        self.tell_standing(now);
    }

    /// One turn of all partitions. How long to sleep before the next, if nothing wakes us: nothing is readable, or it may not be lent, or
    /// it has to wait for what is lent already. `None`: something was lent, or more is there behind what is skipped.
    pub(super) fn take(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<Option<Duration>, QueueError> {
        let (before, count) = (out.len(), self.partitions.len());
        // What would be lent in doubt would only come back unsent.
        if self.last_poll.is_in_doubt() {
            return Ok(Some(HELD_NAP));
        }
        let (mut more, mut full, mut enough, mut paused) = (false, 0, 0, 0);
        let (first, mut lent) = (self.turn, out.len());
        for step in 0..count {
            let index = (first + step) % count;
            let partition = &mut self.partitions[index];
            if self.searches.contains(&partition.origin) {
                continue;
            }
            match partition.take(BURST, now, self.consumer.context(), &*self.observer, out) {
                Turn::Empty => {}
                Turn::More => more = true,
                Turn::Full => full += 1,
                Turn::Enough => enough += 1,
                Turn::Paused => paused += 1,
                Turn::OutOfRange => self.on_out_of_range(index),
                Turn::OtherLog { seen_ms } => self.on_other_log(index, seen_ms),
                Turn::Fatal(error) => return Err(QueueError::Fatal(error)),
            }
            if out.len() > lent {
                // Little room goes round: whoever had the last of it is the last next time.
                (lent, self.turn) = (out.len(), index + 1);
            }
        }
        self.starved = self.starved.max(full + paused);
        let has_lent = out.len() > before;
        self.full_since = self.full_since.filter(|_| !has_lent && full + enough > 0);
        Ok(match (more || has_lent, full + enough, paused) {
            (true, ..) => None,
            (false, 1.., _) => Some(self.full_nap(now)),
            (false, 0, 1..) => Some(HELD_NAP),
            (false, 0, 0) => Some(NAP),
        })
    }

    fn full_nap(&mut self, now: Instant) -> Duration {
        let since = *self.full_since.get_or_insert(now);
        full_nap(now.saturating_duration_since(since))
    }
}

/// When there has been no room for so long.
fn full_nap(full: Duration) -> Duration {
    (full / 2).clamp(FULL_NAPS.0, FULL_NAPS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_room_looks_often_at_first_and_never_later_than_at_half_as_long_again() {
        let (mut full, mut looks) = (Duration::ZERO, 0);
        while full < Duration::from_millis(50) {
            let nap = full_nap(full);
            assert!(nap <= (full / 2).max(Duration::from_millis(1)) && nap <= Duration::from_millis(10));
            (full, looks) = (full + nap, looks + 1);
        }
        assert_eq!(looks, 11);
    }
}
