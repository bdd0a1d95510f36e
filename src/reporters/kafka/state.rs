//! What is known about a reporter's broker and its topics, so that each change is logged once, not once per record.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::Notify;

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
    unreachable_since: Option<Instant>,
    refused_topics: HashSet<String>,
    too_large_topics: HashSet<String>,
    /// Producers that were replaced since something was acknowledged.
    rebuilds: u32,
    /// A producer that failed for good could not be replaced.
    no_producer: bool,
    /// The client's last words about a broker.
    heard: Option<String>,
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

    /// The broker did not take a record in time, or all brokers are down.
    pub(super) fn unreachable(&self, code: Option<Code>) {
        let mut trouble = self.trouble.lock();
        self.troubled.store(true, Ordering::Release);
        if trouble.unreachable_since.is_none() {
            trouble.unreachable_since = Some(Instant::now());
            let (records, brokers, meanwhile) = (self.records, &self.brokers, self.meanwhile());
            tracing::warn!(records, brokers, ?code, meanwhile, "the broker does not acknowledge records");
        }
    }

    /// A topic is missing or may not be written.
    pub(super) fn topic_refused(&self, topic: &str, code: Option<Code>) {
        let mut trouble = self.trouble.lock();
        self.troubled.store(true, Ordering::Release);
        if trouble.refused_topics.insert(topic.to_owned()) {
            let (records, meanwhile) = (self.records, self.meanwhile());
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
        if let Some(reason) = fatal {
            tracing::error!(
                records,
                reason,
                "a producer failed for good and was built anew: its records are sent again"
            );
        } else if trouble.rebuilds == 1 {
            tracing::warn!(
                records,
                "nothing is acknowledged for long: the producer is built anew, now and then, in case it is the one that stands still"
            );
        }
    }

    /// Whether a producer of this age has had its time.
    pub(super) fn stands_still(&self, age: Duration) -> bool {
        let rebuilds = self.trouble.lock().rebuilds;
        let patience = STILL.1.min(STILL.0 * 2_u32.saturating_pow(rebuilds));
        self.stalled_for().min(age) >= patience
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
        // Kept for good and not part of `troubled`: the topic's limit is the operator's to raise, once told is enough.
        if trouble.too_large_topics.insert(topic.to_owned()) {
            tracing::error!(
                records = self.records,
                topic,
                "even a truncated record is too large for the topic and is lost: raise its max.message.bytes"
            );
        }
    }

    /// A record of `topic` was acknowledged.
    pub(super) fn acknowledged(&self, topic: &str) {
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut trouble = self.trouble.lock();
        trouble.rebuilds = 0;
        if let Some(since) = trouble.unreachable_since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(
                records = self.records,
                brokers = self.brokers,
                seconds,
                "the broker acknowledges records again"
            );
        }
        if trouble.refused_topics.remove(topic) {
            tracing::info!(records = self.records, topic, "the topic of records can be written again");
        }
        self.troubled.store(!trouble.refused_topics.is_empty(), Ordering::Release);
    }

    /// For how long nothing was acknowledged; zero when all is well.
    pub(super) fn stalled_for(&self) -> Duration {
        self.trouble.lock().unreachable_since.map_or(Duration::ZERO, |since| since.elapsed())
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
        state.unreachable(None);
        state.topic_refused("a", None);
        state.topic_refused("b", None);
        state.acknowledged("a");
        assert_eq!(state.stalled_for(), Duration::ZERO);
        assert!(state.troubled.load(Ordering::Acquire), "topic b is still refused");
        state.acknowledged("b");
        assert!(!state.troubled.load(Ordering::Acquire));
    }

    #[test]
    fn a_producer_has_more_time_the_more_of_them_were_in_vain() {
        let state = State::new("feedback", "b", None);
        let hour = Duration::from_hours(1);
        assert!(!state.stands_still(hour), "all is well");
        let since = Instant::now().checked_sub(hour);
        state.unreachable(None);
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
