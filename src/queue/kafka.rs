//! The Kafka queue: what it has, how it begins and ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::belief::Past;
use super::client::{client, option_error};
use super::commit::Commits;
use super::config::Settings;
use super::in_flight::{InFlight, LastPoll};
use super::logs::Logs;
use super::membership::Membership;
use super::partition::Partition;
use super::place::Place;
use super::prefetch::Prefetch;
use super::scout::Scout;
use super::seek::{Searches, Seeks};
use super::settling::Settling;
use super::stall::Stall;
use super::topics::Topics;
use super::turn::{HELD_NAP, NAP};
use super::wakeup::Wakeup;
use super::{Lent, Observer, Queue, QueueError, Selection};
use crate::config::ConfigError;

/// The queue of the topics that its selection calls ours.
pub struct KafkaQueue {
    pub(super) consumer: Membership,
    pub(super) settings: Settings,
    pub(super) prefetch: Prefetch,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) partitions: Vec<Partition>,
    /// Partitions that are ours and not begun.
    pub(super) settling: Settling,
    /// Partitions that were ours, in case they come back untouched.
    pub(super) remembered: BTreeMap<Place, Past>,
    /// When each partition began first that has ever been ours, ms since the epoch.
    pub(super) begun: BTreeMap<Place, i64>,
    pub(super) commits: Commits,
    pub(super) last_poll: Arc<LastPoll>,
    pub(super) wakeup: Wakeup,
    /// Positions to go to, until the client has done it.
    pub(super) seeks: Seeks,
    pub(super) searches: Searches,
    pub(super) selection: Box<dyn Selection>,
    pub(super) scout: Scout,
    pub(super) logs: Logs,
    pub(super) topics: Topics,
    /// `None` before the first look.
    pub(super) subscribed: Option<Vec<String>>,
    /// When the brokers have answered the scout last.
    pub(super) listed_at: Option<Instant>,
    /// Since when the group has not said which partitions are ours, while it was asked.
    pub(super) unassigned_since: Option<Instant>,
    pub(super) stall: Stall,
    /// Whether the scout tries to read what we do not.
    pub(super) reading: bool,
    /// Whether the client was ever a member, or asked to be.
    pub(super) has_subscribed: bool,
    pub(super) ignored: Vec<String>,
    pub(super) stopped: bool,
    /// The partition to be read first.
    pub(super) turn: usize,
    /// Since when something is readable and there is no room for it.
    pub(super) full_since: Option<Instant>,
    /// Partitions that had no room for what they have, the most since this was told.
    pub(super) starved: usize,
}

impl KafkaQueue {
    /// Connects lazily, and joins the group when the first topic of ours has been seen.
    ///
    /// # Errors
    /// An option of the client that makes no sense.
    pub fn start(
        settings: Settings,
        selection: Box<dyn Selection>,
        in_flight: Arc<InFlight>,
        observer: Arc<dyn Observer>,
    ) -> Result<KafkaQueue, ConfigError> {
        let (wakeup, prefetch) = (Wakeup::default(), Prefetch::of(settings.prefetch_bytes, 1));
        let consumer =
            Membership::prepare(&settings, prefetch, &wakeup).map_err(|error| option_error(&settings, &error))?;
        let on_report = wakeup.clone();
        let (logs, interval) = (Logs::default(), settings.topic_interval);
        let options = client(&settings, prefetch);
        let scout = Scout::start(&options, interval, logs.clone(), observer.clone(), move || on_report.wake())
            .map_err(|rule| ConfigError { key: settings.key(".kafka"), value: None, rule })?;
        Ok(KafkaQueue {
            consumer,
            prefetch,
            in_flight,
            observer,
            partitions: Vec::new(),
            settling: Settling::default(),
            remembered: BTreeMap::new(),
            begun: BTreeMap::new(),
            commits: Commits::new(settings.commit_interval),
            last_poll: LastPoll::new(settings.session_timeout, Instant::now()),
            wakeup,
            seeks: Seeks::default(),
            searches: Searches::default(),
            selection,
            scout,
            logs,
            topics: Topics::default(),
            subscribed: None,
            listed_at: None,
            unassigned_since: None,
            stall: Stall::new(settings.client_patience),
            reading: false,
            has_subscribed: false,
            ignored: Vec::new(),
            stopped: false,
            turn: 0,
            full_since: None,
            starved: 0,
            settings,
        })
    }
}

impl Queue for KafkaQueue {
    fn lend(&mut self, wait: Duration, out: &mut Vec<Lent>) -> Result<(), QueueError> {
        let now = Instant::now();
        let more = self.serve(now, out)?;
        if self.stopped {
            if !more {
                self.wakeup.wait(wait.min(NAP));
            }
            return Ok(());
        }
        // Nothing that is assigned from now on would begin: the process ends, so that its supervisor starts a whole one.
        if self.scout.has_ended() {
            return Err(QueueError::Fatal("the thread that asks the brokers ended unexpectedly".into()));
        }
        let Some(nap) = self.take(now, out)?.filter(|_| !more) else { return Ok(()) };
        let woken = self.wakeup.wait(wait.min(nap).min(self.commits.due_in(now)));
        if woken {
            let now = Instant::now();
            self.serve(now, out)?;
            self.take(now, out)?;
        } else if nap >= HELD_NAP {
            self.partitions.iter().for_each(|one| one.readable.set()); // idle: a look costs little
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.settling.clear();
        self.partitions.iter().for_each(|partition| partition.assignment.stop_sending());
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> Result<(), QueueError> {
        let until = Instant::now() + deadline;
        self.stop();
        self.act_on_events();
        self.commit_last(|_| true, until);
        self.tell_what_was_lost();
        self.consumer.leave_within(until.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

impl Drop for KafkaQueue {
    /// The client waits for an answer to all that the group announces, also when it is dropped by a panic.
    fn drop(&mut self) {
        self.partitions.iter().for_each(|partition| partition.assignment.end());
        self.remembered.values().for_each(|past| past.assignment.end());
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
