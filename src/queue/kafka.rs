//! The Kafka queue: one turn of the poll thread after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::client::{client, fatal, is_hopeless};
use super::commit::Commits;
use super::config::Settings;
use super::context::{Consumer, Context, Event};
use super::in_flight::{InFlight, LastPoll};
use super::logs::Logs;
use super::membership::Membership;
use super::partition::{Partition, Turn};
use super::rebalance::Pending;
use super::seek::Seeks;
use super::topic::Selection;
use super::topics::{TopicWatch, Topics};
use super::wakeup::Wakeup;
use super::{Lent, Observer, Queue, QueueError};
use crate::config::ConfigError;
use crate::message::Platform;

/// Records taken from one partition before the next one has its turn.
const BURST: usize = 64;
/// Events served in one turn, so that a flood of them does not keep messages waiting.
const EVENTS: usize = 32;
/// Longest sleep of the poll thread: the common queue is served at least this often, whatever else is going on.
const NAP: Duration = Duration::from_millis(50);
/// Sleep when something is readable and there is no room for it.
const FULL_NAP: Duration = Duration::from_millis(1);
/// The queue of one platform's push topics.
pub struct KafkaQueue {
    pub(super) consumer: Membership,
    pub(super) settings: Settings,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) partitions: Vec<Partition>,
    pub(super) pending: Option<Pending>,
    pub(super) commits: Commits,
    pub(super) last_poll: Arc<LastPoll>,
    pub(super) wakeup: Wakeup,
    /// Positions to go to, until the client has done it.
    pub(super) seeks: Seeks,
    pub(super) platform: Platform,
    pub(super) selection: Selection,
    pub(super) watch: TopicWatch,
    pub(super) logs: Logs,
    /// The partitions that were there at the first look; what is not among them appeared while we run.
    pub(super) first_look: Option<Topics>,
    pub(super) subscribed: Vec<String>,
    pub(super) ignored: Vec<String>,
    turn: usize,
    starved: usize,
    stopped: bool,
}

impl KafkaQueue {
    /// Connects lazily, and joins the group when the first topic of ours has been seen.
    ///
    /// # Errors
    /// A pattern or an option of the client that makes no sense.
    pub fn start(
        settings: Settings,
        platform: Platform,
        known_platforms: &[Platform],
        apps: &[Arc<str>],
        in_flight: Arc<InFlight>,
        observer: Arc<dyn Observer>,
    ) -> Result<KafkaQueue, ConfigError> {
        let wrong = |key: &str, rule: String| ConfigError { key: key.into(), value: None, rule };
        let selection = Selection::new(&settings.topics, platform, known_platforms, apps)
            .map_err(|rule| wrong("queue.topics", rule))?;
        in_flight.set_apps(apps);
        let client = client(&settings);
        let mut consumer: Consumer =
            client.create_with_context(Context::default()).map_err(|error| wrong("queue.kafka", error.to_string()))?;
        let wakeup = Wakeup::default();
        let (on_event, on_topics) = (wakeup.clone(), wakeup.clone());
        consumer.set_nonempty_callback(move || on_event.wake());
        let logs = Logs::default();
        let watch = TopicWatch::start(&client, logs.clone(), move || on_topics.wake())
            .map_err(|error| wrong("queue", error.to_string()))?;
        let commits = Commits::new(settings.commit_interval);
        let last_poll = LastPoll::new(settings.session_timeout, Instant::now());
        Ok(KafkaQueue {
            consumer: Membership::of(consumer),
            settings,
            in_flight,
            observer,
            partitions: Vec::new(),
            pending: None,
            commits,
            last_poll,
            wakeup,
            platform,
            selection,
            watch,
            logs,
            first_look: None,
            subscribed: Vec::new(),
            ignored: Vec::new(),
            seeks: Seeks::default(),
            turn: 0,
            starved: 0,
            stopped: false,
        })
    }

    /// Everything but messages: callbacks, rebalances, topics, commits.
    fn serve(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<(), QueueError> {
        self.last_poll.touch(now);
        self.observer.polled();
        self.poll_common_queue(now, out)?;
        self.act_on_events();
        if self.stopped {
            self.decline_pending();
        } else {
            self.settle_pending(now);
            self.look_at_topics();
        }
        if self.commits.is_due(now) {
            self.on_clock(now);
        }
        Ok(())
    }

    fn poll_common_queue(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<(), QueueError> {
        let consumer = self.consumer.clone();
        for _ in 0..EVENTS {
            let message = match consumer.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Ok(message)) => message,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(fatal(code)),
                Some(Err(KafkaError::MessageConsumption(code))) if is_hopeless(code) => return Err(fatal(code)),
                Some(Err(error)) => {
                    consumer.context().complain(&error, "");
                    continue;
                }
            };
            // Not expected, every partition has its own queue before it is assigned; and not to be lost if it happens.
            let is_its = |one: &&mut Partition| {
                *one.origin.topic == *message.topic() && one.origin.partition == message.partition()
            };
            if let Some(partition) = self.partitions.iter_mut().find(is_its).filter(|_| !self.stopped) {
                partition.accept(message.into(), now, &*self.observer, out);
            }
        }
        Ok(())
    }

    fn act_on_events(&mut self) {
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
        for partition in &mut self.partitions {
            let dropped = partition.assignment.take_dropped();
            if dropped > 0 {
                self.observer.receipts_lost(&partition.origin, dropped);
            }
            if let Some(first) = partition.assignment.take_lost().first() {
                self.seeks.back_to(&partition.origin, *first);
            }
        }
        self.seek();
        // One at a time: the client sends a refused commit again by itself, and an older one must not come after a newer.
        if !self.commits.is_under_way() {
            // Known since the assignment, unless a broker was slow then: without it no commit carries a map.
            self.commits.cluster(&self.consumer, Duration::from_millis(1));
            self.commits.ask(&self.consumer, self.partitions.iter_mut(), &*self.observer);
        }
        let oldest = self.partitions.iter().filter_map(|partition| partition.assignment.ledger.lock().oldest());
        let age = oldest.map(|(_, since)| now.saturating_duration_since(since)).max();
        self.observer.oldest_in_flight(age.unwrap_or_default());
        self.observer.starved(std::mem::take(&mut self.starved));
        self.tell_standing(now);
    }

    /// One turn of all partitions. Whether anything was lent, and whether something readable had no room.
    fn take(&mut self, now: Instant, out: &mut Vec<Lent>) -> Result<(bool, bool), QueueError> {
        let (before, count) = (out.len(), self.partitions.len());
        let (mut full, mut missing) = (0, Vec::new());
        for step in 0..count {
            let index = (self.turn + step) % count;
            let partition = &mut self.partitions[index];
            match partition.take(BURST, now, self.consumer.context(), &*self.observer, out) {
                Turn::Empty | Turn::More => {}
                Turn::Full => full += 1,
                Turn::OutOfRange => missing.push(index),
                Turn::Fatal(error) => return Err(QueueError::Fatal(error)),
            }
        }
        self.turn = self.turn.wrapping_add(1);
        self.starved = self.starved.max(full);
        if !missing.is_empty() {
            for index in missing {
                self.on_out_of_range(index);
            }
            self.seek();
        }
        Ok((out.len() > before, full > 0))
    }
}

impl Queue for KafkaQueue {
    fn lend(&mut self, wait: Duration, out: &mut Vec<Lent>) -> Result<(), QueueError> {
        let now = Instant::now();
        self.serve(now, out)?;
        if self.stopped {
            self.wakeup.wait(wait.min(NAP));
            return Ok(());
        }
        let (lent, full) = self.take(now, out)?;
        if !lent {
            self.wakeup.wait(wait.min(if full { FULL_NAP } else { NAP }));
            let now = Instant::now();
            self.serve(now, out)?;
            self.take(now, out)?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.partitions.iter().for_each(|partition| partition.assignment.stop_sending());
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> Result<(), QueueError> {
        let until = Instant::now() + deadline;
        self.stop();
        self.act_on_events();
        self.commit_last(|_| true, until);
        self.consumer.leave_within(until.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

impl Drop for KafkaQueue {
    /// The client waits for an answer to all that the group announces, also when it is dropped by a panic.
    fn drop(&mut self) {
        self.partitions.iter().for_each(|partition| partition.assignment.end());
        self.partitions.clear();
        self.dismiss();
    }
}

impl std::fmt::Debug for KafkaQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaQueue")
            .field("subscribed", &self.subscribed)
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}
