//! The main job on real Apache Kafka and PostgreSQL: every message has one outcome, through ends of every kind. What is shown
//! here for APNs is shown for FCM in `real_gcm`, by the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use pusher::generate::{Expected, Settings};
use pusher::queue::map;
use pusher::tally::Totals;

use crate::support::far::Far;
use crate::support::rig::{self, Fate, PATIENCE, Placed, Repeats, Rig};
use crate::support::worker::Worker;
use crate::support::{self, eventually};

/// The tests that keep every core busy take turns: beside each other they would only be slower, and time out.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
}

/// Dice whose seed is told, and taken from `PUSHER_TEST_SEED` to see the same again.
fn dice(test: &str) -> fastrand::Rng {
    let given = std::env::var("PUSHER_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{test}: PUSHER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Lets time pass for a worker that must not have ended by then.
fn let_run(worker: &mut Worker, time: Duration) {
    let start = Instant::now();
    worker.until("time passes", time + PATIENCE, || (start.elapsed() >= time).then_some(()));
}

/// A start that waits for a neighbour can be stopped: nothing was consumed, so there is nothing to wait for.
#[test]
fn a_start_that_waits_for_its_feedback_broker_ends_when_told_to() {
    let rig = Rig::new("waiting", 1);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let broker = silent.local_addr().expect("an address").to_string();
    silent.set_nonblocking(true).expect("a listener");
    let mut worker = rig.worker(&[("FEEDBACK_KAFKA_BROKERS", &broker)]);
    // It looks for its topic then, and hears nothing.
    let _connection = worker.until("it connects", PATIENCE, || silent.accept().ok());
    let told = Instant::now();
    assert_eq!(worker.stop(), Totals::default());
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
}

#[test]
fn a_hundred_thousand_pushes_have_one_outcome_each() {
    a_hundred_thousand(Rig::new("calm", 4));
}

pub(super) fn a_hundred_thousand<F: Far>(mut rig: Rig<F>) {
    let _turn = alone();
    let pushes = rig.generate(Settings { count: 100_000, seed: 11, ..Settings::default() });
    let tokens: Vec<_> = pushes.iter().filter_map(|push| Some((rig::token::<F>(push)?, push.expected))).collect();
    rig.database.fill(&rig.table(), tokens.iter().map(|(token, _)| token.as_str()));

    let mut worker = rig.worker(&[]);
    let (by_hand, by_program) = pushes.split_at(20_000);
    support::kafka().console_producer(&rig.topic, by_hand.iter().map(|push| &push.line));
    rig.produce(by_program, None);
    rig.settle(&mut worker, 3 * PATIENCE);
    let ledger = worker.stop();

    let placed = rig.placed();
    assert_eq!(placed.len(), 100_000);
    assert_eq!(rig.assert_nothing_lost(&placed), Repeats::default(), "a calm run repeats nothing");
    let mut reasons = BTreeMap::<String, u64>::new();
    for one in &placed {
        if let Fate::Refused(key) = one.fate {
            *reasons.entry(key.to_owned()).or_default() += 1;
        }
    }
    let refused: u64 = reasons.values().sum();
    let waited = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { after: Some(_) })).count();
    assert_eq!(ledger.reasons, reasons);
    assert_eq!((ledger.consumed(), ledger.delivered), (100_000, 100_000 - refused));
    assert_eq!((ledger.failed, ledger.released, ledger.skipped, ledger.possible_duplicates), (0, 0, 0, 0));
    assert_eq!((ledger.feedback, ledger.feedback_lost), (refused, 0));
    assert_eq!((ledger.retries, ledger.holds), (waited as u64, 0));
    assert_eq!(ledger.requests, rig.simulator.counts().requests);

    let living = tokens.into_iter().filter(|(_, expected)| !matches!(expected, Expected::Rejected(_)));
    let rows: BTreeSet<_> =
        rig.database.query(&format!("SELECT token FROM \"{}\"", rig.table())).into_iter().flatten().collect();
    assert_eq!(rows, living.map(|(token, _)| token).collect(), "dead tokens are gone, and no other");
}

#[test]
fn restarts_in_the_middle_lose_and_repeat_nothing() {
    restarts(Rig::new("restart", 4));
}

pub(super) fn restarts<F: Far>(mut rig: Rig<F>) {
    let _turn = alone();
    let mut dice = dice("restarts");
    rig.simulator.slow(40, 100);
    let pushes = rig.generate(Settings { count: 15_000, seed: 12, ..Settings::default() });
    let deliverable = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { .. })).count() as u64;
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        scope.spawn(|| rig.produce(&pushes, Some(2_000)));
        for _ in 0..5 {
            let (mut worker, before) = (rig.worker(&[]), rig.accepted());
            // Long lives may have left nothing for the last one.
            let begun = || rig.accepted() > before || rig.accepted() == deliverable;
            worker.until("some deliveries", PATIENCE, || begun().then_some(()));
            let_run(&mut worker, Duration::from_millis(dice.u64(0..1_500)));
            totals.add(&worker.stop());
        }
    });
    let mut worker = rig.worker(&[]);
    rig.settle(&mut worker, PATIENCE);
    totals.add(&worker.stop());

    let placed = rig.placed();
    assert_eq!(rig.assert_nothing_lost(&placed), Repeats::default(), "an orderly end repeats nothing");
    assert_eq!(totals.resolved(), 15_000, "each has one outcome in one of the lives: {totals:?}");
    assert_eq!((totals.feedback_lost, totals.failed, totals.possible_duplicates), (0, 0, 0));
}

/// A roll-out: each worker joins the group while the one before is at work, and takes partitions over from it.
#[test]
fn workers_that_come_and_go_share_the_work_and_repeat_nothing() {
    let _turn = alone();
    let mut dice = dice("roll-out");
    let mut rig = Rig::new("rollout", 4);
    rig.simulator.slow(40, 100);
    let pushes = rig.generate(Settings { count: 10_000, seed: 15, ..Settings::default() });
    let (mut totals, mut left) = (Totals::default(), 0);
    let mut last = std::thread::scope(|scope| {
        scope.spawn(|| rig.produce(&pushes, Some(1_500)));
        let mut at_work = rig.worker(&[]);
        for _ in 0..3 {
            let mut next = rig.worker(&[]);
            eventually("its share", PATIENCE, || next.has_said("partitions assigned").then_some(()));
            let_run(&mut next, Duration::from_millis(dice.u64(0..1_000)));
            left += at_work.sum_said("partitions revoked", "left");
            totals.add(&at_work.stop());
            at_work = next;
        }
        at_work
    });
    rig.settle(&mut last, PATIENCE);
    left += last.sum_said("partitions revoked", "left");
    totals.add(&last.stop());

    let Repeats { deliveries, feedback } = rig.assert_nothing_lost(&rig.placed());
    let repeats = (deliveries.len() + feedback.len()) as u64;
    // On a machine that is busy with others a broker may be slower than the wait when partitions change hands.
    assert!(repeats <= left, "{repeats} are repeated, and {left} were left behind: {deliveries:?} {feedback:?}");
    assert!((10_000..=10_000 + left).contains(&totals.resolved()), "one outcome each, but for those: {totals:?}");
    assert_eq!((totals.feedback_lost, totals.failed, totals.possible_duplicates), (0, 0, 0));
}

/// How often the provider has accepted something, and when it was looked at: says how much that was since a moment.
struct History(Vec<(Instant, u64)>);

impl History {
    fn begin<F: Far>(rig: &Rig<F>) -> History {
        History(vec![(Instant::now(), acceptances(rig))])
    }

    fn look<F: Far>(&mut self, rig: &Rig<F>) {
        self.0.push((Instant::now(), acceptances(rig)));
    }

    fn by(&self, moment: Instant) -> u64 {
        self.0.iter().take_while(|(at, _)| *at <= moment).last().map_or(0, |(_, accepted)| *accepted)
    }
}

fn acceptances<F: Far>(rig: &Rig<F>) -> u64 {
    let sums = rig.simulator.levers().ledger().sums();
    sums.accepted + sums.repeated
}

/// The places (partition, offset) that the group's commits call resolved.
fn resolved<F: Far>(rig: &Rig<F>, placed: &[Placed]) -> BTreeSet<(i32, i64)> {
    let mut resolved = BTreeSet::new();
    for one in support::kafka().committed(&rig.group, &rig.topic) {
        let base = one.offset.unwrap_or(0);
        let map = map::decode(&one.metadata).expect("our own map");
        let beyond = map.map_or(Vec::new(), |map| map.resolved);
        let of_partition = placed.iter().filter(|placed| placed.record.partition == one.partition);
        let done = of_partition
            .map(|placed| placed.record.offset)
            .filter(|at| *at < base || beyond.iter().any(|r| r.contains(at)));
        resolved.extend(done.map(|offset| (one.partition, offset)));
    }
    resolved
}

/// What the next life may repeat after a kill.
struct Kill {
    /// Serials that were accepted and are not in the committed map, each with how often it was accepted.
    deliveries: BTreeMap<u64, u32>,
    /// Places that are not in the committed map.
    unresolved: BTreeSet<(i32, i64)>,
}

/// Kills the worker. What this life adds to what may be repeated is not more than the streams that were open and what was
/// accepted within the commit interval.
fn kill<F: Far>(rig: &Rig<F>, worker: Worker, history: &History, kills: &mut Vec<Kill>) {
    /// `queue.commitInterval`.
    const INTERVAL: Duration = Duration::from_secs(1);
    let since = Instant::now().checked_sub(INTERVAL).expect("the machine is older");
    let before = rig.simulator.counts();
    let ended = worker.kill();
    assert!(!ended.log.iter().any(|line| line["alarm"] == true), "{:#?}", ended.last_words());
    eventually("the simulator has seen its end", PATIENCE, || {
        (rig.simulator.counts().open_connections == 0).then_some(())
    });
    let mut placed = rig.placed_so_far();
    let (resolved, ledger) = (resolved(rig, &placed), rig.simulator.levers().ledger());
    placed.retain(|one| !resolved.contains(&one.place()));
    let serials = placed.iter().filter_map(|one| one.fate.serial()).map(|serial| (serial, ledger.of(serial).1));
    let deliveries: BTreeMap<u64, u32> = serials.filter(|(_, times)| *times > 0).collect();
    // What an earlier life left, and this one did not come to, is not its doing.
    let left = |serial| kills.last().and_then(|before| before.deliveries.get(serial));
    let new =
        deliveries.iter().filter(|(serial, times)| left(serial).is_none_or(|before| *times > before)).count() as u64;
    let open = before.each_connection.iter().filter(|one| !one.closed).map(|one| one.max_streams);
    let bound = acceptances(rig) - history.by(since) + open.sum::<u64>();
    eprintln!("{}: killed; {new} more may be repeated, at most {bound}", rig.app);
    assert!(new <= bound, "{new} may be repeated, more than {bound}");
    kills.push(Kill { deliveries, unresolved: placed.iter().map(Placed::place).collect() });
}

/// Every repeat is explained by a kill.
fn assert_explained<F: Far>(rig: &Rig<F>, repeats: &Repeats, kills: &[Kill]) {
    for (serial, times) in &repeats.deliveries {
        let reasons = kills.iter().filter(|kill| kill.deliveries.contains_key(serial)).count();
        assert!(*times as usize <= 1 + reasons, "serial {serial} was accepted {times} times, with {reasons} reasons");
    }
    for place in &repeats.feedback {
        assert!(kills.iter().any(|kill| kill.unresolved.contains(place)), "the feedback of {place:?} came twice");
    }
    eprintln!(
        "{}: {} deliveries and {} feedback records repeated",
        rig.app,
        repeats.deliveries.len(),
        repeats.feedback.len()
    );
}

#[test]
fn kills_at_any_moment_lose_nothing_and_repeat_what_was_in_flight() {
    kills(Rig::new("kill", 4));
}

pub(super) fn kills<F: Far>(mut rig: Rig<F>) {
    let _turn = alone();
    let mut dice = dice("kills");
    rig.simulator.slow(50, 100);
    let connections = format!("{}_MAXCONNECTIONS", F::PLATFORM.to_uppercase());
    // The same member comes back at once, as in a StatefulSet; otherwise each kill costs the session timeout.
    let settings = [("QUEUE_KAFKA_GROUP_INSTANCE_ID", "one"), (&connections, "1")];
    let pushes = rig.generate(Settings { count: 20_000, seed: 13, ..Settings::default() });
    let (mut kills, mut history) = (Vec::new(), History::begin(&rig));
    std::thread::scope(|scope| {
        scope.spawn(|| rig.produce(&pushes, Some(3_000)));
        for life in 0..5 {
            let (mut worker, before) = (rig.worker(&settings), rig.accepted());
            worker.until("the first delivery", PATIENCE, || {
                history.look(&rig);
                (rig.accepted() > before).then_some(())
            });
            // The first dies before its first commit.
            let (start, time) = (Instant::now(), Duration::from_millis(if life == 0 { 0 } else { dice.u64(0..2_500) }));
            worker.until("its end", PATIENCE, || {
                history.look(&rig);
                (start.elapsed() >= time).then_some(())
            });
            kill(&rig, worker, &history, &mut kills);
        }
    });
    let mut worker = rig.worker(&settings);
    rig.settle(&mut worker, PATIENCE);
    worker.stop();
    let repeats = rig.assert_nothing_lost(&rig.placed());
    assert_explained(&rig, &repeats, &kills);
}

/// Between the commit of the start offsets and the first ordinary commit, with `latest`: a worker that decided anew where
/// to begin would lose what was produced in between. The group learns of each death by its session timeout.
#[test]
fn a_kill_just_after_the_start_with_latest_loses_nothing() {
    let mut rig = Rig::new("latest", 4);
    let latest = [("QUEUE_OFFSETRESETSTRATEGY", "latest")];
    rig.note("before our time", Fate::Ignored);
    support::kafka().console_producer(&rig.topic, ["before our time"; 10]);
    let ends = support::kafka().end_offsets(&rig.topic);
    let mut worker = rig.worker(&latest);
    worker.until("the start offsets are committed", PATIENCE, || {
        let committed = support::kafka().committed(&rig.group, &rig.topic);
        committed.iter().zip(&ends).all(|(one, end)| one.offset == Some(*end)).then_some(())
    });
    let pushes = rig.generate(Settings { count: 2_000, seed: 14, ..Settings::default() });
    let (mut kills, history) = (Vec::new(), History::begin(&rig));
    rig.produce(&pushes[..1_000], None);
    kill(&rig, worker, &history, &mut kills);
    rig.produce(&pushes[1_000..], None);

    let (mut worker, before) = (rig.worker(&latest), rig.accepted());
    worker.until("deliveries after the first kill", PATIENCE, || (rig.accepted() > before).then_some(()));
    kill(&rig, worker, &history, &mut kills);

    let mut worker = rig.worker(&latest);
    rig.settle(&mut worker, PATIENCE);
    let ledger = worker.stop();
    assert!(ledger.consumed() <= 2_000, "what was there before our time is not sent: {ledger:?}");
    let repeats = rig.assert_nothing_lost(&rig.placed());
    assert_explained(&rig, &repeats, &kills);
}
