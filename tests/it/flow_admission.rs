//! Rate limit and dedup in the whole worker, between a mock Kafka, a real Redis and the simulators: refused pushes are
//! outcomes, workers share their limits, and a Redis that is not well costs nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pusher::generate::Mix;
use pusher::simulator::apns::Simulator as Apns;
use pusher::simulator::apns::faults::Faults;
use pusher::simulator::fcm::Simulator as Fcm;
use pusher::tally::Totals;

use crate::support::far::Far;
use crate::support::flow::{Ends, LONG, PARTITIONS, Running};
use crate::support::proxy::{Proxy, Way};
use crate::support::{Redis, Statsd, eventually, redis};

/// What turns rate limit and dedup on, at a Redis on this port. Time is no subject but where `more` says so.
pub(crate) fn keys<'a>(port: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let common = [
        ("rateLimiter.redis.host", "127.0.0.1"),
        ("rateLimiter.redis.port", port),
        ("rateLimiter.redis.timeout", "10s"),
        ("rateLimiter.tls.disabled", "true"),
        ("dedup.redis.host", "127.0.0.1"),
        ("dedup.redis.port", port),
        ("dedup.redis.timeout", "10s"),
        ("dedup.tls.disabled", "true"),
    ];
    common.into_iter().chain(more.iter().copied()).collect()
}

/// Waits for a minute with some time left: what a device may have is counted by the minute.
fn early_in_a_minute() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 60;
    eventually("an early second of a minute", Duration::from_mins(1), || (second() < 30).then_some(()));
}

/// A token that nobody else has and every provider takes for one.
pub(crate) fn device() -> String {
    format!("ab{:062x}", fastrand::u128(..))
}

pub(crate) fn apns(device: &str, content: u32) -> String {
    // Metadata differs between copies, as with the field's producers.
    let metadata = fastrand::u32(..);
    format!(
        r#"{{"DeviceToken":"{device}","Payload":{{"aps":{{"alert":"{content}"}}}},"metadata":{{"jobId":"{metadata}"}}}}"#
    )
}

fn gcm(device: &str, content: u32) -> String {
    let metadata = fastrand::u32(..);
    format!(r#"{{"to":"{device}","data":{{"alert":"{content}"}},"metadata":{{"jobId":"{metadata}"}}}}"#)
}

/// The refused pushes of one device over its limit and of one device with copies, and all that is told about them.
fn refused_pushes_are_told<F: Far>(line: fn(&str, u32) -> String, rpm: &str)
where
    <F::Levers as pusher::simulator::handle::Provider>::Faults: Default,
{
    let (statsd, port) = (Statsd::start(), redis().port.to_string());
    let address = statsd.address.to_string();
    let mut ends = Ends::<F>::start(Default::default());
    let more = [
        (rpm, "2"),
        ("dedup.games", r#"{"game": 100, "another": 3}"#),
        ("stats.reporters", "statsd"),
        ("stats.statsd.host", address.as_str()),
        ("stats.statsd.prefix", ""),
    ];
    early_in_a_minute();
    let (greedy, doubled) = (device(), device());
    ends.produce((0..5).map(|content| line(&greedy, content)).chain((0..4).map(|_| line(&doubled, 7))));
    let running = ends.worker_with(&keys(&port, &more));
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.limited, totals.deduplicated, totals.unaccounted()), (3, 3, 3, 0));
    assert_eq!((totals.requests, totals.feedback), (3, 6), "refused before a stream is spent, and told: {totals:?}");
    let mut told = BTreeMap::<String, u32>::new();
    for record in ends.feedback().values() {
        *told.entry(F::told(record).expect("a reason").to_owned()).or_default() += 1;
    }
    assert_eq!(told, BTreeMap::from([("rate-limited".to_owned(), 3), ("duplicate".to_owned(), 3)]));
    let tags = [("game", "game"), ("platform", F::PLATFORM)];
    for (metric, wanted) in [("rate_limit_reached", 3.0), ("duplicated_messages", 3.0), ("ack", 3.0), ("sent", 3.0)] {
        statsd.await_sum(metric, &tags, wanted, LONG);
    }
    assert!(statsd.sum("rate_limit_failed", &[]) + statsd.sum("dedup_errors", &[]) == 0.0);
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    statsd.await_sum("duplicated_messages", &[("hostname", &host)], 3.0, LONG);
}

#[test]
fn refused_pushes_are_outcomes_with_metric_and_feedback() {
    refused_pushes_are_told::<Apns>(apns, "apns.rateLimit.rpm");
}

#[test]
fn fcm_has_the_same_limits() {
    refused_pushes_are_told::<Fcm>(gcm, "gcm.rateLimit.rpm");
}

#[test]
fn a_retry_does_not_pay_again_and_is_no_duplicate_of_itself() {
    let port = redis().port.to_string();
    let mut ends = Ends::<Apns>::start(Faults::default());
    let pushes = Ends::<Apns>::generate("game", 300, fastrand::u64(..1 << 40), Mix([5, 0, 0, 0, 0, 3, 3]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let more = [("apns.rateLimit.rpm", "1"), ("dedup.games.game", "100")];
    let running = ends.worker_with(&keys(&port, &more));
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.unaccounted()), (300, 0), "{totals:?}");
    assert!(totals.retries > 100, "{totals:?}");
}

#[test]
fn a_copy_of_a_push_that_was_not_delivered_is_sent() {
    let port = redis().port.to_string();
    let mut ends = Ends::<Apns>::start(Faults::default());
    // The simulator answers this one with 400 BadDeviceToken.
    let device = format!("dead040000{:054x}", fastrand::u128(..));
    let running = ends.worker_with(&keys(&port, &[("dedup.games.game", "100")]));
    for _ in 0..3 {
        ends.produce([apns(&device, 1)]);
        ends.settle();
    }
    let totals = running.stop().totals;
    assert_eq!((totals.rejected, totals.deduplicated, totals.requests), (3, 0, 3), "{totals:?}");
}

#[test]
fn memory_serves_one_worker_without_a_redis() {
    let mut ends = Ends::<Apns>::start(Faults::default());
    let (greedy, doubled) = (device(), device());
    early_in_a_minute();
    ends.produce((0..5).map(|content| apns(&greedy, content)).chain((0..4).map(|_| apns(&doubled, 7))));
    let memory = [("rateLimiter.store", "memory"), ("dedup.store", "memory")];
    let more = [("apns.rateLimit.rpm", "2"), ("dedup.games.game", "100"), memory[0], memory[1]];
    let running = ends.worker_with(&more);
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.limited, totals.deduplicated), (3, 3, 3), "{totals:?}");
}

/// Warms both workers up, so that each has partitions; what they have delivered then.
fn until_both_work(ends: &mut Ends<Apns>, workers: &[Running; 2]) -> u64 {
    while workers.iter().any(|worker| worker.totals().lent == 0) {
        ends.produce((0..30).map(|_| apns(&device(), 1)));
        ends.settle();
    }
    workers.iter().map(|worker| worker.totals().delivered).sum()
}

#[test]
fn two_workers_of_a_group_share_limits_and_contents() {
    let port = redis().port.to_string();
    let mut ends = Ends::<Apns>::start(Faults::default());
    let more = [("apns.rateLimit.rpm", "3"), ("dedup.games.game", "100")];
    let keys = keys(&port, &more);
    let workers = [ends.worker_with(&keys), ends.worker_with(&keys)];
    let warm = until_both_work(&mut ends, &workers);
    early_in_a_minute();
    let devices: Vec<_> = (0..30).map(|_| device()).collect();
    // Ten contents to each device, and ten copies of one content to each of others, over all partitions.
    let others: Vec<_> = (0..30).map(|_| device()).collect();
    let many = (0..300).map(|n| apns(&devices[n % 30], n as u32 / 30));
    let copies = (0..300).map(|n| apns(&others[n % 30], 0));
    ends.produce(many.zip(copies).flat_map(|(one, copy)| [one, copy]));
    ends.settle();
    let mut totals = Totals::default();
    for worker in workers {
        let of_one = worker.stop().totals;
        assert!(of_one.limited > 0 && of_one.deduplicated > 0, "each has its part: {of_one:?}");
        totals.add(&of_one);
    }
    assert_eq!((totals.limited, totals.deduplicated), (210, 270), "{totals:?}");
    assert_eq!((totals.delivered - warm, totals.unaccounted()), (90 + 30, 0));
}

/// Offers pushes at a constant rate; how long it took until all were delivered.
fn offer(ends: &Ends<Apns>, running: &Running, count: u32, per_second: u32) -> Duration {
    let (before, start) = (running.totals().delivered, Instant::now());
    for sent in 0..count {
        let due = start + Duration::from_secs(1) * sent / per_second;
        #[allow(clippy::disallowed_methods, reason = "a fixed load is a matter of time")]
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        ends.mock.append("push-game_apns-single", sent as i32 % PARTITIONS, apns(&device(), sent));
    }
    running.until("all of the load", |totals| totals.delivered >= before + u64::from(count));
    start.elapsed()
}

#[test]
fn a_redis_that_is_not_well_costs_nothing_at_a_fixed_load() {
    const LOAD: (u32, u32) = (750, 150);
    let (redis, statsd) = (Redis::start(), Statsd::start());
    let proxy = Proxy::to(redis.port);
    let (port, address) = (proxy.port.to_string(), statsd.address.to_string());
    let ends = Ends::<Apns>::start(Faults::default());
    let stats = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str()), ("stats.statsd.prefix", "")];
    let without = ends.worker_with(&stats);
    let usual = offer(&ends, &without, LOAD.0, LOAD.1);
    without.stop();

    // The time limit is the default's.
    let more = [("rateLimiter.redis.timeout", "50ms"), ("dedup.redis.timeout", "50ms")];
    let limits = [("apns.rateLimit.rpm", "1"), ("dedup.games.game", "100")];
    let all: Vec<_> = more.into_iter().chain(limits).chain(stats).collect();
    let running = ends.worker_with(&keys(&port, &all));
    let failed = || statsd.sum("rate_limit_failed", &[("platform", "apns"), ("game", "game")]);
    let errors = || statsd.sum("dedup_errors", &[("platform", "apns"), ("game", "game")]);
    for way in [Way::Absent, Way::Silent, Way::Slow(Duration::from_millis(200)), Way::Open] {
        proxy.set(way);
        let before = (failed(), errors());
        let took = offer(&ends, &running, LOAD.0, LOAD.1);
        eprintln!("{way:?}: {took:?} for what takes {usual:?} without a Redis");
        assert!(usual.as_secs_f64() >= 0.9 * took.as_secs_f64(), "{way:?}: {took:?}, without a Redis {usual:?}");
        if way != Way::Open {
            // Those that were asked before it was noticed, or of a probe's time, may have been answered.
            let most = f64::from(LOAD.0) * 0.9;
            eventually("decisions fail open, and metrics say so", LONG, || {
                (failed() - before.0 >= most && errors() - before.1 >= most).then_some(())
            });
        }
    }
    // It is back: the limit is in force again.
    early_in_a_minute();
    let again = device();
    eventually("a refusal", LONG, || {
        ends.mock.produce("push-game_apns-single", 0, [apns(&again, fastrand::u32(..))]);
        (running.totals().limited > 0).then_some(())
    });
    let totals = running.stop().totals;
    assert_eq!((totals.deduplicated, totals.unaccounted()), (0, 0), "{totals:?}");
}
