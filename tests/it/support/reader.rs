//! A member of a consumer group: the Kafka queue with an observer that remembers, and the turns of a poll thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pusher::config::Config;
use pusher::message::{Origin, Platform};
use pusher::queue::config::Settings;
use pusher::queue::kafka::KafkaQueue;
use pusher::queue::topic::PushTopics;
use pusher::queue::{InFlight, Lent, Observer, Queue};

const APNS: Platform = Platform("apns");
const KNOWN: [Platform; 2] = [APNS, Platform("gcm")];
/// Far above what anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(10);

/// What the observer was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) skipped: u64,
    pub(crate) maps_dropped: Vec<&'static str>,
    pub(crate) out_of_range: Vec<u64>,
    pub(crate) lost: u64,
    pub(crate) commits_failed: u64,
    /// Clients that took the place of another.
    pub(crate) clients_replaced: u32,
    pub(crate) assigned: usize,
    /// Partitions whose map is full.
    pub(crate) full: usize,
    /// How often that was told.
    pub(crate) rebalances: u32,
    pub(crate) ignored: Option<usize>,
    /// Looks at the list of topics.
    pub(crate) looks: u32,
}

#[derive(Debug, Default)]
struct Ear(Mutex<Told>);

impl Observer for Ear {
    fn skipped(&self, _: &Origin, n: u64) {
        self.0.lock().skipped += n;
    }
    fn map_dropped(&self, _: &Origin, reason: &'static str) {
        self.0.lock().maps_dropped.push(reason);
    }
    fn out_of_range(&self, _: &Origin, skipped: u64) {
        self.0.lock().out_of_range.push(skipped);
    }
    fn receipts_lost(&self, _: &Origin, n: u64) {
        self.0.lock().lost += n;
    }
    fn commit_failed(&self) {
        self.0.lock().commits_failed += 1;
    }
    fn client_replaced(&self) {
        self.0.lock().clients_replaced += 1;
    }
    fn map_bytes(&self, _: &Origin, _: usize) {}
    fn assigned(&self, partitions: usize) {
        let mut told = self.0.lock();
        told.assigned = partitions;
        told.rebalances += 1;
    }
    fn unsettled(&self, _: usize) {}
    fn starved(&self, _: usize) {}
    fn full(&self, partitions: usize) {
        self.0.lock().full = partitions;
    }
    fn ignored_topics(&self, topics: usize) {
        let mut told = self.0.lock();
        told.ignored = Some(topics);
        told.looks += 1;
    }
    fn oldest_in_flight(&self, _: Duration) {}
}

/// A queue; see [`Reader::new`].
pub(crate) fn queue(
    brokers: &str,
    apps: &[&str],
    more: &[(&str, &str)],
    messages: usize,
    observer: Arc<dyn Observer>,
) -> (KafkaQueue, Arc<InFlight>) {
    queue_with(brokers, apps, more, messages, observer, |_| ())
}

fn queue_with(
    brokers: &str,
    apps: &[&str],
    more: &[(&str, &str)],
    messages: usize,
    observer: Arc<dyn Observer>,
    change: impl FnOnce(&mut Settings),
) -> (KafkaQueue, Arc<InFlight>) {
    let pairs =
        [("queue.brokers", brokers), ("queue.commitInterval", "50ms"), ("queue.offsetResetStrategy", "earliest")];
    let config = Config::from_pairs(pairs.into_iter().chain(more.iter().copied()));
    let mut settings = Settings::from_config(&config).expect("settings");
    change(&mut settings);
    let in_flight = InFlight::new(messages, 64 << 20);
    let apps: Vec<Arc<str>> = apps.iter().map(|app| Arc::from(*app)).collect();
    let topics = PushTopics::new(&settings.topics, APNS, &KNOWN, &apps).expect("patterns");
    in_flight.set_apps(&apps);
    let queue = KafkaQueue::start(settings, Box::new(topics), in_flight.clone(), observer).expect("a queue");
    (queue, in_flight)
}

/// A member of a group.
pub(crate) struct Reader {
    pub(crate) queue: Box<KafkaQueue>,
    pub(crate) in_flight: Arc<InFlight>,
    ear: Arc<Ear>,
}

impl Reader {
    /// At most so many `messages` in flight; commits often, begins with what is there.
    pub(crate) fn new(brokers: &str, apps: &[&str], more: &[(&str, &str)], messages: usize) -> Reader {
        let ear = Arc::new(Ear::default());
        let (queue, in_flight) = queue(brokers, apps, more, messages, ear.clone());
        Reader { queue: Box::new(queue), in_flight, ear }
    }

    /// One whose client may stand still for so long.
    pub(crate) fn with_patience(brokers: &str, apps: &[&str], more: &[(&str, &str)], patience: Duration) -> Reader {
        let ear = Arc::new(Ear::default());
        let (queue, in_flight) =
            queue_with(brokers, apps, more, 10_000, ear.clone(), |settings| settings.client_patience = patience);
        Reader { queue: Box::new(queue), in_flight, ear }
    }

    pub(crate) fn told(&self) -> Told {
        self.ear.0.lock().clone()
    }

    /// One turn; how long it took must stay far below what a group member may be silent for.
    pub(crate) fn turn(&mut self, lent: &mut Vec<Lent>) {
        let began = Instant::now();
        self.queue.lend(TURN, lent).expect("a queue that goes on");
        assert!(began.elapsed() < Duration::from_secs(5), "a turn took {:?}", began.elapsed());
    }

    /// Turns until `done`, collecting what is lent.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Reader, &[Lent]) -> bool) -> Vec<Lent> {
        let (began, mut lent) = (Instant::now(), Vec::new());
        while !done(self, &lent) {
            self.turn(&mut lent);
            assert!(
                began.elapsed() < LONG,
                "{what}: not within {LONG:?}; lent {:?}, told {:?}",
                offsets(&lent),
                self.told()
            );
        }
        lent
    }

    #[track_caller]
    pub(crate) fn read(&mut self, n: usize) -> Vec<Lent> {
        let lent = self.until("messages", |_, lent| lent.len() >= n);
        assert_eq!(lent.len(), n, "{:?}", offsets(&lent));
        lent
    }

    pub(crate) fn close(self) {
        let began = Instant::now();
        self.queue.close(Duration::from_secs(20)).expect("a good end");
        assert!(began.elapsed() < Duration::from_secs(10), "closing took {:?}", began.elapsed());
    }
}

pub(crate) fn offsets(lent: &[Lent]) -> Vec<i64> {
    lent.iter().map(|lent| lent.message.offset).collect()
}

pub(crate) fn resolve(lent: impl IntoIterator<Item = Lent>) {
    lent.into_iter().for_each(|lent| lent.receipt.resolve());
}
