//! Positions that must change: back to what was given back, on to what the log still has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context;
use super::kafka::KafkaQueue;
use super::start;
use crate::message::Origin;

/// Longest single question to a broker.
const CALL: Duration = Duration::from_secs(5);

/// Positions to go to, until the client has done it.
#[derive(Debug, Default)]
pub(super) struct Seeks(BTreeMap<(Arc<str>, i32), i64>);

impl Seeks {
    /// Back to an offset that must be read again. An earlier one that waits stays: what is between is read once more and
    /// skipped.
    pub(super) fn back_to(&mut self, origin: &Origin, offset: i64) {
        self.0.entry(key(origin)).and_modify(|waiting| *waiting = offset.min(*waiting)).or_insert(offset);
    }

    /// To an offset that exists, whatever was wished before.
    pub(super) fn to(&mut self, origin: &Origin, offset: i64) {
        self.0.insert(key(origin), offset);
    }

    /// Forgets a partition's: it would make its next epoch begin where it should not.
    pub(super) fn forget(&mut self, origin: &Origin) {
        self.0.remove(&key(origin));
    }
}

fn key(origin: &Origin) -> (Arc<str>, i32) {
    (origin.topic.clone(), origin.partition)
}

impl KafkaQueue {
    /// Changes positions; what the client refuses stays for the next strike of the clock.
    pub(super) fn seek(&mut self) {
        let (consumer, partitions) = (&self.consumer, &self.partitions);
        self.seeks.0.retain(|place, offset| {
            let ours = partitions.iter().any(|one| key(&one.origin) == *place);
            // Refused for a partition that has been out of range: the client has stopped reading it.
            ours && consumer.seek(&place.0, place.1, Offset::Offset(*offset), CALL).is_err()
        });
        if self.seeks.0.is_empty() {
            return;
        }
        match self.restart() {
            Ok(()) => self.seeks.0.clear(),
            Err(error) => tracing::warn!(%error, "partitions cannot be read from where they should be; trying again"),
        }
    }

    /// Takes partitions that the client has stopped reading anew, each from where it must be read. Where partitions are not
    /// handed over one by one, that can only be said of all of them at once.
    fn restart(&self) -> KafkaResult<()> {
        let one_by_one = context::is_cooperative(&self.consumer);
        let (mut all, mut places) = (TopicPartitionList::new(), TopicPartitionList::new());
        for partition in &self.partitions {
            let wish = self.seeks.0.get(&key(&partition.origin)).copied();
            if one_by_one && wish.is_none() {
                continue;
            }
            let from = wish.unwrap_or_else(|| partition.assignment.ledger.lock().read_from());
            places.add_partition(&partition.origin.topic, partition.origin.partition);
            all.add_partition_offset(&partition.origin.topic, partition.origin.partition, Offset::Offset(from))?;
        }
        if !one_by_one {
            return self.consumer.assign(&all);
        }
        self.consumer.incremental_unassign(&places)?;
        self.consumer.incremental_assign(&all)
    }

    /// The log does not have what comes next: on with the nearest offset that exists.
    pub(super) fn on_out_of_range(&mut self, index: usize) {
        let origin = self.partitions[index].origin.clone();
        let next = self.partitions[index].assignment.ledger.lock().next();
        match self.consumer.fetch_watermarks(&origin.topic, origin.partition, CALL) {
            Ok((_, high)) if next > high => {
                // A truncated or another log: what comes now under the old numbers is new.
                self.partitions[index].begin_anew(high, self.last_poll.clone());
                self.lost_by_the_log(&origin, high, 0);
                self.seeks.to(&origin, high);
            }
            Ok((low, high)) => {
                let abandoned = self.partitions[index].assignment.ledger.lock().abandon(low);
                let start = start::out_of_range(next, low, high, false);
                if start.skipped > 0 || abandoned > 0 {
                    self.lost_by_the_log(&origin, start.offset, start.skipped + abandoned);
                }
                self.partitions[index].set_dirty();
                let again = self.partitions[index].assignment.ledger.lock().read_from();
                self.seeks.to(&origin, again.max(low));
            }
            Err(error) => {
                tracing::warn!(%error, topic = %origin.topic, partition = origin.partition, "asking for the log's ends");
                self.seeks.to(&origin, next); // asks again, and comes back here
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lane, Platform};

    fn origin(partition: i32) -> Origin {
        Origin { topic: "t".into(), partition, app: "a".into(), platform: Platform("apns"), lane: Lane::Single }
    }

    #[test]
    fn the_earliest_offset_that_must_be_read_again_wins_until_the_partition_goes() {
        let mut seeks = Seeks::default();
        seeks.back_to(&origin(0), 5);
        seeks.back_to(&origin(0), 9);
        seeks.back_to(&origin(1), 9);
        assert_eq!(seeks.0.values().copied().collect::<Vec<_>>(), [5, 9]);
        seeks.to(&origin(0), 100);
        seeks.forget(&origin(1));
        assert_eq!(seeks.0.into_values().collect::<Vec<_>>(), [100]);
    }
}
