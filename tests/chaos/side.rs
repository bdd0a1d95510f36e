//! One platform's part of the world: its provider, its workers, its topics, its traffic and its books.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pusher::generate::{Mix, Settings};
use pusher::queue::map;
use pusher::tally::Totals;
use serde_json::Value;

use super::audit::{self, Findings};
use super::books::{Books, Fate};
use super::episode::pause;
use super::home::{Home, Plan};
use super::log::{Committed, Log};
use super::options::Membership;
use super::provider::Provider;
use super::pulse::{self, Pulse, Sample};
use super::resident::Resident;
use super::traffic::Traffic;
use super::world::Neighbours;
use crate::support::worker::Worker;
use crate::support::{Statsd, eventually, scrape, unique};

/// What one crash may repeat was accepted within it: `queue.commitInterval`, in which a worker commits twice.
const UNCOMMITTED: Duration = Duration::from_secs(1);
/// The same with a commit's way to a busy broker.
const UNCOMMITTED_LENIENT: Duration = Duration::from_secs(2);

/// The wait for what is on a stream when partitions change hands, and as much again until that is seen here.
const HAND_OVER: Duration = Duration::from_secs(6);

/// Pushes of every end that a campaign has, but for those that say nothing under faults.
pub(crate) const MIX: Mix = Mix([930, 30, 10, 30, 0, 0, 0]);

/// What is looked at all the time.
pub(crate) struct Meter {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) books: Mutex<Books>,
    /// Messages handed to Kafka.
    pub(crate) produced: AtomicU64,
    /// Those of them that can be delivered.
    pub(crate) offered: AtomicU64,
    pub(crate) pulse: Pulse,
}

impl Meter {
    pub(crate) fn look(&self) {
        let sums = self.provider.ledger().sums();
        self.pulse.note(Sample {
            at: Instant::now(),
            offered: self.offered.load(Relaxed),
            accepted: sums.accepted,
            acceptances: sums.accepted + sums.repeated,
            streams: self.provider.counts().open_streams,
        });
    }
}

/// A worker, and the number of its place among those of its side.
struct Member {
    place: usize,
    worker: Worker,
    /// Whether it has settings that only a fault wants.
    is_odd: bool,
}

pub(crate) struct Side {
    pub(crate) platform: &'static str,
    pub(crate) app: String,
    pub(crate) topic: String,
    pub(crate) feedback: String,
    pub(crate) meter: Arc<Meter>,
    /// What may come twice for what was done to it in this episode.
    pub(crate) may_repeat: u64,
    /// The most that is promised about it. What a crash may repeat was accepted within [`Side::uncommitted`].
    pub(crate) promised: u64,
    uncommitted: Duration,
    /// What the last crash may repeat, by serial, and whether some of it was still to come at that crash.
    at_stake: HashSet<u64>,
    pub(crate) was_still_at_stake: bool,
    /// The worker's memory in this episode, where it is looked at.
    pub(crate) resident: Option<Resident>,
    /// How much was produced before the present traffic.
    produced_before: u64,
    /// How much will have been produced by the end of the traffic.
    planned: u64,
    /// The logs of the workers that have ended in this episode.
    pub(crate) ended: Vec<Vec<Value>>,
    members: Vec<Member>,
    membership: Membership,
    lenient: bool,
    settings: BTreeMap<String, String>,
    brokers: String,
    seed: u64,
    next_serial: u64,
    traffic: Option<Traffic>,
    pushes: Log,
    records: Log,
    told_before: audit::Before,
    letters: Log,
    committed: Committed,
    _credentials: Arc<tempfile::TempDir>,
}

impl Side {
    /// An app of this platform with topics of its own.
    pub(crate) fn new(platform: &'static str, world: &Neighbours, plan: &Plan<'_>) -> Side {
        let app = unique("chaos");
        let home = Home::start(platform, &[&app], world, plan);
        Side::of(app, &home, 0, world, plan)
    }

    /// Two apps of one worker, which the first side starts and ends.
    pub(crate) fn pair(platform: &'static str, world: &Neighbours, plan: &Plan<'_>) -> [Side; 2] {
        let (first, second) = (unique("chaos"), unique("chaos"));
        let home = Home::start(platform, &[&first, &second], world, plan);
        [Side::of(first, &home, 0, world, plan), Side::of(second, &home, 1 << 30, world, plan)]
    }

    fn of(app: String, home: &Home, first_serial: u64, world: &Neighbours, plan: &Plan<'_>) -> Side {
        let (platform, group) = (home.platform, &home.group);
        let (topic, feedback) = (format!("push-{app}_{platform}-massive"), format!("push-{app}-{platform}-feedbacks"));
        world.kafka.create_topic(&topic, plan.partitions);
        world.kafka.create_topic(&feedback, FEEDBACK_PARTITIONS);
        let letters = format!("deadletters-{app}-{platform}");
        world.kafka.create_topic(&letters, 1);
        world.database.query(&format!("CREATE TABLE \"{app}_{platform}\" (token text PRIMARY KEY)"));
        Side {
            platform,
            pushes: Log::open(&world.kafka.brokers, &topic, vec![0; plan.partitions as usize]),
            records: Log::open(&world.kafka.brokers, &feedback, vec![0; FEEDBACK_PARTITIONS as usize]),
            told_before: audit::Before::new(),
            letters: Log::open(&world.kafka.brokers, &letters, vec![0]),
            committed: Committed::watch(&world.kafka.brokers, group, &topic, plan.partitions),
            settings: home.settings.clone(),
            meter: Arc::new(Meter {
                provider: home.provider.clone(),
                books: Mutex::default(),
                produced: AtomicU64::default(),
                offered: AtomicU64::default(),
                pulse: Pulse::default(),
            }),
            may_repeat: 0,
            promised: 0,
            at_stake: HashSet::new(),
            was_still_at_stake: false,
            uncommitted: if plan.lenient { UNCOMMITTED_LENIENT } else { UNCOMMITTED },
            resident: None,
            produced_before: 0,
            planned: 0,
            ended: Vec::new(),
            members: Vec::new(),
            membership: plan.membership,
            lenient: plan.lenient,
            brokers: world.kafka.brokers.clone(),
            seed: plan.seed,
            next_serial: first_serial,
            traffic: None,
            app,
            topic,
            feedback,
            _credentials: home.credentials.clone(),
        }
    }

    pub(crate) fn provider(&self) -> &dyn Provider {
        self.meter.provider.as_ref()
    }

    pub(crate) fn samples(&self, since: Instant) -> Vec<Sample> {
        self.meter.look();
        self.meter.pulse.since(since)
    }

    // Workers.

    /// One more worker, in the lowest place that is free; its index, the last one.
    pub(crate) fn start(&mut self) -> usize {
        self.start_with(&[])
    }

    /// The same, with settings that go before its own.
    pub(crate) fn start_with(&mut self, more: &[(&str, &str)]) -> usize {
        let is_free = |place: &usize| self.members.iter().all(|member| member.place != *place);
        let place = (0..=self.members.len()).find(is_free).expect("one more than are taken");
        let mut settings = self.settings.clone();
        settings.extend(self.membership.settings(place));
        settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let name = |key: String| format!("PUSHER_{}", key.to_uppercase().replace('.', "_"));
        let environment: Vec<_> = settings.into_iter().map(|(key, value)| (name(key), value)).collect();
        let worker = Worker::start(self.platform, &environment);
        self.members.push(Member { place, worker, is_odd: !more.is_empty() });
        self.members.len() - 1
    }

    pub(crate) fn workers(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn worker(&mut self, index: usize) -> &mut Worker {
        &mut self.members[index].worker
    }

    /// Ends a worker in order. What was on a stream at a hand-over may be repeated; what is not handed over, may not.
    pub(crate) fn stop(&mut self, index: usize) -> Totals {
        let worker = self.members.remove(index).worker;
        self.ended.push(worker.log());
        worker.stop()
    }

    /// SIGKILL, and what it may repeat.
    pub(crate) fn kill(&mut self, index: usize) {
        let ended = self.members.remove(index).worker.kill();
        self.ended.push(ended.log);
        self.count_at_stake();
    }

    /// A worker was cut off: what is accepted and not committed may be repeated, and what is on a stream. That is counted;
    /// what is promised about it is an estimate by time, which needs a machine that keeps up.
    pub(crate) fn count_at_stake(&mut self) {
        let now = Instant::now();
        let since = pulse::ago(now, self.uncommitted);
        let at_stake = self.uncommitted_acceptances();
        // What was on the way when the worker was cut off is accepted after that: looked at last, that counts on both sides.
        let samples = self.samples(since);
        self.promised += pulse::at_stake(&samples, now, self.uncommitted);
        self.may_repeat += at_stake.len() as u64 + pulse::most_streams(&samples, since);
        self.was_still_at_stake = !at_stake.is_disjoint(&self.at_stake);
        self.at_stake = at_stake;
    }

    /// Pushes that were accepted although neither the group's offsets nor their maps know it, by serial.
    fn uncommitted_acceptances(&self) -> HashSet<u64> {
        let committed = self.committed();
        let maps = committed
            .iter()
            .map(|(_, text, _)| map::decode(text).ok().flatten().map_or(Vec::new(), |map| map.resolved));
        let maps: Vec<_> = maps.collect();
        let mut found = HashSet::new();
        let first = committed.iter().map(|(offset, ..)| *offset).collect();
        Log::open(&self.brokers, &self.topic, first).read(|record| {
            let resolved = maps[record.partition as usize].iter().any(|range| range.contains(&record.offset));
            let fate = self.meter.books.lock().of(record.value);
            if let (false, Some(Fate::Delivered(serial))) = (resolved, fate) {
                found.extend(self.provider().ledger().accepted(serial).then_some(serial));
            }
        });
        found
    }

    /// So many pushes may be repeated, and that is promised.
    pub(crate) fn may_come_again(&mut self, pushes: u64) {
        (self.may_repeat, self.promised) = (self.may_repeat + pushes, self.promised + pushes);
    }

    /// Partitions have changed hands: what was on a stream and did not end within the short wait for it may be repeated.
    /// On a machine that does not keep up that is what was accepted shortly before.
    pub(crate) fn count_hand_over(&mut self) {
        let now = Instant::now();
        let since = pulse::ago(now, HAND_OVER);
        let samples = self.samples(pulse::ago(now, 2 * HAND_OVER));
        let streams = pulse::most_streams(&samples, since);
        self.promised += streams;
        self.may_repeat += if self.lenient { pulse::at_stake(&samples, now, HAND_OVER) } else { streams };
    }

    /// Fails when a worker has ended by itself.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        self.members.iter_mut().for_each(|member| member.worker.assert_alive());
        if let Some(mut resident) = self.resident {
            resident.look(self);
            self.resident = Some(resident);
        }
    }

    /// From now on its worker's memory is looked at.
    pub(crate) fn watch_memory(&mut self) {
        self.resident = Some(Resident::since_now(self));
    }

    /// A new episode: one worker, nothing noted yet.
    pub(crate) fn begin(&mut self) {
        self.meter.pulse.clear();
        self.ended.clear();
        (self.may_repeat, self.promised, self.resident) = (0, 0, None);
        self.back_to_one();
    }

    /// Back to one worker, the youngest that has the settings of all.
    fn back_to_one(&mut self) {
        while self.members.len() > 1 {
            self.stop(0);
        }
        if self.members.iter().any(|member| member.is_odd) {
            self.stop(0);
        }
        if self.members.is_empty() {
            self.start();
        }
    }

    /// All logs of this episode.
    pub(crate) fn logs(&self) -> impl Iterator<Item = Vec<Value>> {
        self.ended.iter().cloned().chain(self.members.iter().map(|member| member.worker.log()))
    }

    /// The metrics of the workers that run and answer.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = String> {
        self.members.iter().filter_map(|member| Some(scrape::get(member.worker.admin()?, "/metrics").1))
    }

    /// Requests that got no answer in time so far, by the workers' metrics, and those that the provider left unanswered and
    /// did not accept. Each of the others may be followed by a repeat that is the machine's doing and not the fault's.
    pub(crate) fn timed_out(&self, statsd: &Statsd) -> (u64, u64) {
        let tags = [("platform", self.platform), ("game", &self.app), ("reason", "timeout")];
        (statsd.sum("pushretries", &tags) as u64, self.provider().counts().unanswered)
    }

    // Traffic and its books.

    /// Begins to produce until [`Side::ebb`], at most `count`.
    pub(crate) fn flow(&mut self, rate: Option<u32>, count: u64, mix: Mix) {
        self.planned = self.meter.produced.load(Relaxed).saturating_add(count);
        let settings = Settings { count, first_serial: self.next_serial, seed: self.seed, mix, ..Settings::default() };
        let messages = self.provider().messages(&self.app, settings);
        self.produced_before = self.meter.produced.load(Relaxed);
        self.traffic = Some(Traffic::start(&self.brokers, &self.topic, rate, messages, self.meter.clone()));
    }

    /// How much was produced since the traffic began.
    pub(crate) fn produced(&self) -> u64 {
        self.meter.produced.load(Relaxed) - self.produced_before
    }

    /// Ends the traffic; Kafka has all of it.
    pub(crate) fn ebb(&mut self) {
        if let Some(traffic) = self.traffic.take() {
            self.next_serial += traffic.stop();
        }
    }

    /// How much of the traffic is still to be produced or to be accepted.
    pub(crate) fn left(&self) -> u64 {
        self.planned.saturating_sub(self.accepted())
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.provider().ledger().sums().accepted
    }

    /// Acceptances beyond a push's first.
    pub(crate) fn repeated(&self) -> u64 {
        self.provider().ledger().sums().repeated
    }

    /// Whether each message has come to its end and the group has committed that.
    pub(crate) fn is_settled(&self) -> bool {
        self.accepted() >= self.meter.offered.load(Relaxed) && self.committed.is_at_end()
    }

    /// Waits for that; says whether it came to it.
    pub(crate) fn settle(&mut self, limit: Duration) -> bool {
        let (start, mut settled) = (Instant::now(), false);
        while !settled && start.elapsed() < limit {
            self.assert_alive();
            settled = self.is_settled();
            pause(Duration::from_millis(100));
        }
        settled
    }

    /// What the group has committed.
    pub(crate) fn committed(&self) -> Vec<(i64, String, i64)> {
        eventually("the group's commits", Duration::from_mins(1), || self.committed.look())
    }

    /// Judges what was produced since the last time.
    pub(crate) fn audit(&mut self) -> Findings {
        let mut books = self.meter.books.lock();
        let provider = self.meter.provider.as_ref();
        let mut findings = audit::judge(&mut self.pushes, &mut self.records, &books, provider, &mut self.told_before);
        books.close();
        self.letters.read(|letter| findings.wrong(|| format!("{} is a dead letter", letter.offset)));
        findings
    }
}

/// Partitions of a feedback topic.
pub(crate) const FEEDBACK_PARTITIONS: i32 = 2;
