//! Rate limit and dedup over kills, on the real Kafka and Redis: what comes again is not refused for having come before.

use std::time::{Duration, Instant};

use pusher::generate::{Mix, Settings};

use crate::support::redis;
use crate::support::rig::{PATIENCE, Rig};

/// Each device may have one push in a minute, every content is compared, and workers are killed again and again: a push that
/// paid or claimed before a kill and was not delivered is delivered after it.
#[test]
fn redelivery_after_a_kill_is_neither_a_duplicate_of_itself_nor_over_its_limit() {
    let mut rig = Rig::new("admitted", 4);
    rig.simulator.handle().change(|faults| faults.processing_ms = 300).expect("valid faults");
    let port = redis().port.to_string();
    let settings = [
        // The same member comes back at once, as in a StatefulSet; otherwise each kill costs the session timeout.
        ("QUEUE_KAFKA_GROUP_INSTANCE_ID", "one"),
        ("APNS_RATELIMIT_RPM", "1"),
        ("APNS_DEDUP_TTL", "10m"),
        ("DEDUP_GAMES", &format!(r#"{{"{}": 100}}"#, rig.app)),
        ("RATELIMITER_REDIS_HOST", "127.0.0.1"),
        ("RATELIMITER_REDIS_PORT", &port),
        ("RATELIMITER_REDIS_TIMEOUT", "10s"),
        ("RATELIMITER_TLS_DISABLED", "true"),
        ("DEDUP_REDIS_HOST", "127.0.0.1"),
        ("DEDUP_REDIS_PORT", &port),
        ("DEDUP_REDIS_TIMEOUT", "10s"),
        ("DEDUP_TLS_DISABLED", "true"),
    ];
    // Some are refused once and wait when they are killed.
    let mix = Mix([8, 0, 0, 0, 0, 1, 1]);
    let pushes = rig.generate(Settings { count: 6_000, seed: fastrand::u64(..), mix, ..Settings::default() });
    let mut again = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| rig.produce(&pushes, Some(1_000)));
        for life in 0..4 {
            let (mut worker, before) = (rig.worker(&settings), rig.accepted());
            worker.until("deliveries", PATIENCE, || (rig.accepted() >= before + 200).then_some(()));
            let (start, time) = (Instant::now(), Duration::from_millis(200 * life));
            worker.until("its end", PATIENCE, || (start.elapsed() >= time).then_some(()));
            worker.kill();
        }
        let mut worker = rig.worker(&settings);
        rig.settle(&mut worker, PATIENCE);
        let totals = worker.stop();
        assert_eq!((totals.limited, totals.deduplicated), (0, 0), "{totals:?}");
        again = totals.lent;
    });
    let repeats = rig.assert_nothing_lost(&rig.placed());
    eprintln!("{again} of 6000 in the last life, {} repeated in all", repeats.deliveries.len());
    assert!(!repeats.deliveries.is_empty(), "the kills met pushes that had paid");
}
