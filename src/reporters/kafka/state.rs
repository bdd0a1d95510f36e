//! What is known about a reporter's broker and its topics, so that each change is logged once, not once per record.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::Notify;

use super::next::is_about_records;

/// A producer that refuses a record and that nothing was acknowledged of for so long is replaced; the next one after twice the
/// time, up to the longest. One that stands still is not told apart from one whose broker is away, where this costs
/// next to nothing.
const STILL: (Duration, Duration) = (Duration::from_secs(25), Duration::from_mins(4));

/// Shared by the reporter and its producer's callbacks.
#[derive(Debug)]
pub(super) struct State {
    /// What the records are.
    records: &'static str,
    brokers: String,
    give_up_after: Option<Duration>,
    /// Something below is not well: the only thing that an acknowledgement looks at otherwise.
    troubled: AtomicBool,
    trouble: Mutex<Trouble>,
    room: Notify,
}

#[derive(Debug, Default)]
struct Trouble {
    /// When it was told that the broker does not acknowledge records.
    told_at: Option<Instant>,
    /// Since when nothing of any topic was acknowledged.
    unreachable_since: Option<Instant>,
    /// Topics whose records are not taken in time, be others' taken or not.
    slow_topics: HashMap<String, Slow>,
    /// A producer failed for good, and it was told.
    fatal_told: bool,
    refused_topics: HashSet<String>,
    /// Topics that a record was lost of.
    too_large_topics: HashSet<String>,
    /// Topics that take less than a batch.
    small_topics: HashSet<String>,
    /// Producers that were replaced since something was acknowledged.
    rebuilds: u32,
    /// A producer that failed for good could not be replaced.
    no_producer: bool,
    /// The client's last words about a broker.
    heard: Option<String>,
}

/// A topic whose records are not taken in time.
#[derive(Debug)]
struct Slow {
    since: Instant,
    /// Whether the log has it: not when it only shares what was told of the broker.
    told: bool,
}

impl State {
    pub(super) fn new(records: &'static str, brokers: &str, give_up_after: Option<Duration>) -> Self {
        State {
            records,
            brokers: brokers.into(),
            give_up_after,
            troubled: AtomicBool::new(false),
            trouble: Mutex::default(),
            room: Notify::new(),
        }
    }

    /// What happens to records meanwhile, for the log.
    fn meanwhile(&self) -> &'static str {
        if self.give_up_after.is_none() { "offsets wait" } else { "records are lost after feedback.timeout" }
    }

    /// What the client says about a broker that it cannot use: connection refused, a password that is wrong.
    pub(super) fn heard(&self, reason: &str) {
        self.trouble.lock().heard = Some(reason.to_owned());
    }

    /// The last of that.
    pub(super) fn last_words(&self) -> Option<String> {
        self.trouble.lock().heard.clone()
    }

    /// The broker did not take a record of this topic in time, or, of none, all brokers are down.
    pub(super) fn unreachable(&self, topic: Option<&str>, code: Option<Code>) {
        let (mut trouble, now) = (self.trouble.lock(), Instant::now());
        self.troubled.store(true, Ordering::Release);
        trouble.unreachable_since.get_or_insert(now);
        // Where each is given up after its time, nobody waits for a topic to be well again.
        let topic = topic.filter(|_| self.give_up_after.is_none());
        if let Some(new) = topic.filter(|topic| !trouble.slow_topics.contains_key(*topic)) {
            trouble.slow_topics.insert(new.to_owned(), Slow { since: now, told: false });
        }
        if trouble.told_at.is_some() {
            return;
        }
        let is_told = match topic.and_then(|topic| trouble.slow_topics.get_mut(topic)) {
            Some(slow) => std::mem::replace(&mut slow.told, true),
            None => trouble.told_at.replace(now).is_some(),
        };
        if !is_told {
            let (records, brokers, meanwhile) = (self.records, &self.brokers, self.meanwhile());
            tracing::warn!(records, brokers, topic, ?code, meanwhile, "the broker does not acknowledge records");
        }
    }

    /// A topic is missing or may not be written.
    pub(super) fn topic_refused(&self, topic: &str, code: Option<Code>) {
        let mut trouble = self.trouble.lock();
        self.troubled.store(true, Ordering::Release);
        if trouble.refused_topics.insert(topic.to_owned()) {
            let (records, meanwhile) = (self.records, self.meanwhile());
            if is_about_records(code) {
                return tracing::error!(
                    records,
                    topic,
                    ?code,
                    meanwhile,
                    "the topic of records does not take them: is it compacted, or is there a policy against them?"
                );
            }
            tracing::error!(
                records,
                topic,
                ?code,
                meanwhile,
                "the topic of records is missing or may not be written: create it or grant it"
            );
        }
    }

    /// A producer failed for good, for a reason, or stood still, and was replaced.
    pub(super) fn rebuilt(&self, fatal: Option<&str>) {
        let (records, mut trouble) = (self.records, self.trouble.lock());
        trouble.no_producer = false;
        // The next acknowledgement ends the count, also of one that failed for good while all else was well.
        self.troubled.store(true, Ordering::Release);
        trouble.rebuilds = trouble.rebuilds.saturating_add(1);
        if trouble.rebuilds > 1 {
            // Each fails for good in its turn, or stands still: seen as a stall.
            trouble.unreachable_since.get_or_insert_with(Instant::now);
        }
        if let Some(reason) = fatal {
            if !std::mem::replace(&mut trouble.fatal_told, true) {
                tracing::error!(
                    records,
                    reason,
                    "a producer failed for good and was built anew: its records are sent again"
                );
            }
        } else if trouble.rebuilds == 1 {
            tracing::warn!(
                records,
                "nothing is acknowledged for long: the producer is built anew, now and then, in case it is the one that stands still"
            );
        }
    }

    /// Whether a producer of this age has had its time.
    pub(super) fn stands_still(&self, age: Duration) -> bool {
        let trouble = self.trouble.lock();
        let patience = STILL.1.min(STILL.0 * 2_u32.saturating_pow(trouble.rebuilds));
        trouble.unreachable_since.is_some_and(|since| since.elapsed().min(age) >= patience)
    }

    /// It could not be replaced; each record that finds it dead tries to.
    pub(super) fn not_rebuilt(&self, error: &KafkaError) {
        if !std::mem::replace(&mut self.trouble.lock().no_producer, true) {
            tracing::error!(records = self.records, %error, "a producer cannot be built anew, trying again");
        }
    }

    /// Even the truncated record was refused.
    pub(super) fn too_large(&self, topic: &str) {
        let mut trouble = self.trouble.lock();
        trouble.slow_topics.remove(topic); // nobody waits for that record any more
        // Kept for good and not part of `troubled`: the topic's limit is the operator's to raise, once told is enough.
        if trouble.too_large_topics.insert(topic.to_owned()) {
            tracing::error!(
                records = self.records,
                topic,
                "even a truncated record is too large for the topic and is lost: raise its max.message.bytes"
            );
        }
    }

    /// A record that was refused in a batch was taken by itself.
    pub(super) fn too_large_together(&self, topic: &str) {
        // Kept for good, as above.
        if self.trouble.lock().small_topics.insert(topic.to_owned()) {
            let records = self.records;
            tracing::warn!(
                records,
                topic,
                "a batch was too large for the topic and its records go one by one, which is slow: raise its max.message.bytes, or make batches smaller"
            );
        }
    }

    /// A record of `topic` was acknowledged.
    pub(super) fn acknowledged(&self, topic: &str) {
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut trouble = self.trouble.lock();
        (trouble.rebuilds, trouble.unreachable_since, trouble.fatal_told) = (0, None, false);
        let slow = trouble.slow_topics.remove(topic).filter(|slow| slow.told);
        let of_topic = slow.map(|slow| (Some(topic), slow.since));
        for (topic, since) in of_topic.into_iter().chain(trouble.told_at.take().map(|since| (None, since))) {
            let (records, brokers, seconds) = (self.records, &self.brokers, since.elapsed().as_secs());
            tracing::info!(records, brokers, topic, seconds, "the broker acknowledges records again");
        }
        if trouble.refused_topics.remove(topic) {
            tracing::info!(records = self.records, topic, "the topic of records can be written again");
        }
        let is_well = trouble.slow_topics.is_empty() && trouble.refused_topics.is_empty();
        self.troubled.store(!is_well, Ordering::Release);
    }

    /// For how long nothing was acknowledged of any topic, or of the one that has waited longest; zero when all is well.
    pub(super) fn stalled_for(&self) -> Duration {
        let trouble = self.trouble.lock();
        let since = trouble.slow_topics.values().map(|slow| &slow.since).chain(&trouble.unreachable_since).min();
        since.map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Topics that are missing or may not be written.
    pub(super) fn refused_topics(&self) -> Vec<String> {
        self.trouble.lock().refused_topics.iter().cloned().collect()
    }

    /// Waits until a record has left the producer's queue, `most` at the longest.
    pub(super) async fn room(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.room.notified()).await;
    }

    /// A record left the producer's queue.
    pub(super) fn made_room(&self) {
        self.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_ends_the_trouble_of_its_topic_and_broker() {
        let state = State::new("feedback", "b", None);
        state.unreachable(None, None);
        state.topic_refused("a", None);
        state.topic_refused("b", None);
        state.acknowledged("a");
        assert_eq!(state.stalled_for(), Duration::ZERO);
        assert!(state.troubled.load(Ordering::Acquire), "topic b is still refused");
        state.acknowledged("b");
        assert!(!state.troubled.load(Ordering::Acquire));
    }

    #[test]
    fn a_topic_that_is_not_taken_stalls_while_others_are_acknowledged() {
        let (state, lossy) = (State::new("feedback", "b", None), State::new("feedback", "b", Some(Duration::ZERO)));
        let hour = Duration::from_hours(1);
        for state in [&state, &lossy] {
            state.unreachable(Some("a"), Some(Code::MessageTimedOut));
            state.acknowledged("b");
        }
        assert_eq!(lossy.stalled_for(), Duration::ZERO, "its records are given up");
        let slow = Slow { since: Instant::now().checked_sub(hour).unwrap(), told: true };
        state.trouble.lock().slow_topics.insert("a".into(), slow);
        assert!(state.stalled_for() >= hour && !state.stands_still(hour), "the producer is well");
        state.unreachable(Some("a"), Some(Code::MessageTimedOut));
        assert!(state.stalled_for() >= hour, "since it began");
        state.acknowledged("a");
        assert_eq!((state.stalled_for(), state.troubled.load(Ordering::Acquire)), (Duration::ZERO, false));
    }

    #[test]
    fn producers_that_fail_for_good_one_after_the_other_are_a_stall() {
        let state = State::new("feedback", "b", None);
        state.rebuilt(Some("not authorized"));
        assert_eq!(state.trouble.lock().unreachable_since, None, "one may");
        state.rebuilt(Some("not authorized"));
        assert!(state.trouble.lock().unreachable_since.is_some());
        state.acknowledged("a");
        assert_eq!(state.trouble.lock().unreachable_since, None);
    }

    #[test]
    fn a_producer_has_more_time_the_more_of_them_were_in_vain() {
        let state = State::new("feedback", "b", None);
        let hour = Duration::from_hours(1);
        assert!(!state.stands_still(hour), "all is well");
        let since = Instant::now().checked_sub(hour);
        state.unreachable(None, None);
        state.trouble.lock().unreachable_since = since;
        let patience = || (1..=600).find(|s| state.stands_still(Duration::from_secs(*s)));
        let times: Vec<_> = (0..6).map(|_| (patience(), state.rebuilt(None)).0).collect();
        assert_eq!(times, [25, 50, 100, 200, 240, 240].map(Some));
        state.acknowledged("a");
        assert!(!state.stands_still(hour));
        state.rebuilt(Some("fenced"));
        state.acknowledged("a");
        assert_eq!(state.trouble.lock().rebuilds, 0, "one that failed for good, and no more");
    }

    #[tokio::test]
    async fn room_made_before_the_wait_is_not_missed() {
        let state = State::new("feedback", "b", None);
        state.made_room();
        state.room(Duration::from_hours(1)).await;
    }
}
