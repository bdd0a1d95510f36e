//! Rate limit and dedup on a real Redis: keys, atomicity, identity, and what becomes of them when Redis is not well.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use pusher::admission::content::ContentKey;
use pusher::admission::{Admission, Decision, Plan, PlatformKeys, Refused};
use pusher::config::Config;
use pusher::reload::Look;
use redis::Commands as _;
use uuid::Uuid;

use crate::support::proxy::{Proxy, Way};
use crate::support::{Redis, eventually, ports, redis as shared, unique};

const KEYS: PlatformKeys = PlatformKeys::new("apns.rateLimit.rpm", "apns.dedup.ttl");
const LONG: Duration = Duration::from_secs(30);

/// What a worker's configuration says; pairs of `more` go before.
fn plan(port: u16, more: &[(&str, &str)]) -> Plan {
    let port = port.to_string();
    let pairs = [
        ("rateLimiter.redis.port", port.as_str()),
        ("rateLimiter.redis.host", "127.0.0.1"),
        ("rateLimiter.tls.disabled", "true"),
        // Answers are waited for on a busy machine; where time is the subject, it is set.
        ("rateLimiter.redis.timeout", "10s"),
        ("dedup.redis.port", port.as_str()),
        ("dedup.redis.host", "127.0.0.1"),
        ("dedup.tls.disabled", "true"),
        ("dedup.redis.timeout", "10s"),
        ("dedup.ttl", "5m"),
    ];
    let config = Config::from_pairs(pairs.into_iter().chain(more.iter().copied()));
    Plan::from_config(&config, &KEYS, &["game".into()]).expect("a valid configuration").expect("something to do")
}

fn limiting(port: u16, rpm: &str) -> Admission {
    plan(port, &[("apns.rateLimit.rpm", rpm)]).open(0)
}

fn comparing(port: u16) -> Admission {
    plan(port, &[("dedup.games.game", "100")]).open(0)
}

fn identity() -> Uuid {
    Uuid::new_v4()
}

async fn ask(admission: &Admission, device: &str, content: &str, identity: Uuid) -> Decision {
    admission.decide("game", device, &[content, ""], identity.into()).await
}

async fn is_limited(admission: &Admission, device: &str, identity: Uuid) -> bool {
    let decision = ask(admission, device, "", identity).await;
    assert!(!decision.limit_failed, "Redis has answered");
    decision.refused == Some(Refused::Limited)
}

/// The original's key of a device now. Waits for a minute that has some time left, so that what follows happens in it.
fn counter(device: &str) -> String {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    eventually("an early second of a minute", Duration::from_mins(1), || (second() % 60 < 45).then_some(()));
    format!("{device}:{}", second() / 60 % 60)
}

#[tokio::test]
async fn two_workers_share_a_devices_limit_exactly() {
    let device = unique("device");
    counter(&device);
    let workers = [limiting(shared().port, "20"), limiting(shared().port, "20")];
    let asks = (0..100).map(|n| is_limited(&workers[n % 2], &device, identity()));
    let limited = join_all(asks).await.into_iter().filter(|limited| *limited).count();
    assert_eq!(limited, 80);
    assert!(!is_limited(&workers[0], &unique("other"), identity()).await, "another device has its own");
}

#[tokio::test]
async fn old_and_new_count_on_the_same_keys() {
    let (device, mut look) = (unique("device"), shared().look(0));
    let key = counter(&device);
    let worker = limiting(shared().port, "3");
    // The original has sent two: it increments and sets the expiry.
    let () =
        redis::pipe().atomic().incr(&key, 1).incr(&key, 1).expire(&key, 60).ignore().exec(&mut look).expect("Redis");
    assert!(!is_limited(&worker, &device, identity()).await);
    // The original refuses at the limit, and a refusal of ours does not count.
    for _ in 0..3 {
        assert!(is_limited(&worker, &device, identity()).await);
    }
    let (count, life): (i64, i64) = (look.get(&key).expect("a count"), look.ttl(&key).expect("an expiry"));
    assert!(count == 3 && (50..=60).contains(&life), "{count} {life}");
}

#[tokio::test]
async fn a_message_pays_once_whoever_asks_for_it() {
    let device = unique("device");
    counter(&device);
    let [before, after] = [limiting(shared().port, "2"), limiting(shared().port, "2")];
    let [first, second] = [identity(), identity()];
    for identity in [first, second] {
        assert!(!is_limited(&before, &device, identity).await);
    }
    assert!(is_limited(&before, &device, identity()).await);
    for identity in [first, second, first] {
        assert!(!is_limited(&after, &device, identity).await, "redelivered to another worker, it has paid");
    }
}

#[tokio::test]
async fn a_key_that_is_not_a_count_fails_open_for_its_device_alone() {
    let (odd, list, even, mut look) = (unique("odd"), unique("list"), unique("even"), shared().look(0));
    let () = look.set_ex(counter(&odd), "not a number", 60).expect("Redis");
    let () = look.lpush(counter(&list), "an element").expect("Redis");
    let worker = limiting(shared().port, "1");
    let decisions = join_all([&odd, &list, &even].map(|device| ask(&worker, device, "", Uuid::from_u128(1)))).await;
    assert_eq!(
        decisions.iter().map(|one| (one.refused, one.limit_failed)).collect::<Vec<_>>(),
        [(None, true), (None, true), (None, false)]
    );
    assert!(is_limited(&worker, &even, Uuid::from_u128(2)).await);
}

#[tokio::test]
async fn a_content_belongs_to_one_message_that_is_never_its_own_duplicate() {
    let (device, mut look) = (unique("device"), shared().look(1));
    let [before, after] = [comparing(shared().port), comparing(shared().port)];
    let (first, copy) = (identity(), identity());
    assert_eq!(ask(&before, &device, "hi", first).await.refused, None);
    assert_eq!(ask(&after, &device, "hi", copy).await.refused, Some(Refused::Duplicate));
    assert_eq!(ask(&after, &device, "hi", first).await.refused, None, "redelivered to another worker");
    assert_eq!(ask(&after, &device, "ho", copy).await.refused, None, "another content");
    assert_eq!(ask(&after, &unique("device"), "hi", copy).await.refused, None, "another device");
    let key = format!("pusher:dedup:{}", ContentKey::of(&device, &["hi", ""]));
    let (owner, life): (String, i64) = (look.get(&key).expect("a claim"), look.ttl(&key).expect("an expiry"));
    assert!(owner == first.to_string() && (200..=300).contains(&life), "{owner} {life}");
}

#[tokio::test]
async fn a_claim_that_is_given_up_is_free_and_only_its_owner_can() {
    let device = unique("device");
    let worker = comparing(shared().port);
    let (first, copy) = (identity(), identity());
    let claim = ask(&worker, &device, "hi", first).await.claim;
    worker.give_up(claim, copy);
    assert_eq!(ask(&worker, &device, "hi", copy).await.refused, Some(Refused::Duplicate));
    worker.give_up(claim, first);
    assert_eq!(ask(&worker, &device, "hi", copy).await.refused, None);
}

#[tokio::test]
async fn limit_and_dedup_of_one_server_share_a_connection() {
    let redis = Redis::start();
    let plan = plan(redis.port, &[("apns.rateLimit.rpm", "2"), ("dedup.games", r#"{"game": 100}"#)]);
    let admission = plan.open(0);
    let device = unique("device");
    counter(&device);
    let asks = (0..40).map(|n| {
        let (admission, device) = (admission.clone(), format!("{device}{}", n % 10));
        async move { ask(&admission, &device, &(n / 10).to_string(), identity()).await }
    });
    let decisions = join_all(asks).await;
    let limited = decisions.iter().filter(|one| one.refused == Some(Refused::Limited)).count();
    assert_eq!((limited, decisions.iter().filter(|one| one.claim.is_some()).count()), (20, 20));
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal").query(&mut redis.look(0)).expect("Redis");
    assert_eq!(clients.lines().count(), 2, "one, and the one that looks:\n{clients}");
    // What was limited gave its claim up before this one asks: the same contents are free for others.
    assert_eq!(ask(&admission, &unique("device"), "", identity()).await.refused, None);
    let claims: Vec<String> = redis.look(1).keys("pusher:dedup:*").expect("Redis");
    assert_eq!(claims.len(), 21);
}

#[tokio::test]
async fn a_password_is_given_and_a_wrong_one_fails_open() {
    let redis = Redis::start_with(ports::free(), &[]);
    let () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "s3cret"]).exec(&mut redis.look(0)).expect("Redis");
    let with = |password| {
        let more = [("apns.rateLimit.rpm", "1"), ("rateLimiter.redis.password", password)];
        plan(redis.port, &more).open(0)
    };
    let device = unique("device");
    counter(&device);
    let right = with("s3cret");
    assert!(!is_limited(&right, &device, identity()).await);
    assert!(is_limited(&right, &device, identity()).await);
    let wrong = ask(&with("wrong"), &device, "", identity()).await;
    assert_eq!((wrong.refused, wrong.limit_failed), (None, true));
}

#[tokio::test]
async fn tls_is_spoken_to_a_server_that_is_vouched_for() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let tls = ports::free().to_string();
    let options = ["--tls-port", &tls, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let redis = Redis::start_with(ports::free(), &[&options[..], &["--tls-ca-cert-file", &cert]].concat());
    assert!(redis.answers());
    let plan_with = |ca: Option<&str>| {
        let more = [
            ("apns.rateLimit.rpm", "1"),
            ("rateLimiter.tls.disabled", "false"),
            ("rateLimiter.redis.host", "localhost"),
            ("rateLimiter.redis.port", tls.as_str()),
            ("rateLimiter.redis.caFile", ca.unwrap_or_default()),
        ];
        plan(redis.port, &more)
    };
    let with = |ca: Option<&str>| plan_with(ca).open(0);
    let device = unique("device");
    counter(&device);
    let trusting = with(Some(&cert));
    assert!(!is_limited(&trusting, &device, identity()).await);
    assert!(is_limited(&trusting, &device, identity()).await);
    assert!(ask(&with(None), &device, "", identity()).await.limit_failed, "nobody vouches for it");

    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let changing = file("changing.pem", other.cert.pem());
    let plan = plan_with(Some(&changing));
    let (admission, mut files) = (plan.open(0), plan.watched());
    assert!(ask(&admission, &device, "", identity()).await.limit_failed, "another one vouches for others");
    std::fs::write(&changing, "no certificate").expect("a file");
    let Look::Refused(why) = files[0].look().await else { panic!("no certificate is taken into use") };
    assert!(files[0].key() == "rateLimiter.redis.caFile" && why.contains(&changing), "{why}");
    std::fs::write(&changing, made.cert.pem()).expect("a file");
    assert_eq!(files[0].look().await, Look::Taken);
    until_limited(&admission, &device).await;
}

#[tokio::test]
async fn a_look_before_a_deployment_says_which_server_is_not_well() {
    let (away, proxy) = (ports::free().to_string(), Proxy::to(shared().port));
    let ports = [shared().port.to_string(), proxy.port.to_string()];
    let both = [("apns.rateLimit.rpm", "1"), ("dedup.games.game", "100"), ("dedup.redis.timeout", "100ms")];
    let with = |limit: &str, dedup: &str| {
        let more = [("rateLimiter.redis.port", limit), ("dedup.redis.port", dedup)];
        plan(0, &[&both[..], &more[..]].concat())
    };
    proxy.set(Way::Slow(Duration::from_millis(300)));
    assert_eq!(with(&ports[0], &ports[0]).reach().await.len(), 2, "they differ in the time limit");
    let found = with(&away, &ports[1]).reach().await;
    let wrong: Vec<_> = found.iter().map(|(address, reached)| (address.as_str(), reached.clone().err())).collect();
    let refused = "Connection refused (os error 111)".to_owned();
    let slow = "it needs more than 100ms for an answer".to_owned();
    assert_eq!(
        wrong,
        [
            (format!("127.0.0.1:{away}").as_str(), Some(refused)),
            (format!("127.0.0.1:{}", ports[1]).as_str(), Some(slow))
        ]
    );
    assert!(with(&ports[0], &away).reach().await[0].1.is_ok());
}

/// Asks until Redis has an opinion again: a device at its limit is refused.
async fn until_limited(admission: &Admission, device: &str) {
    let start = Instant::now();
    while ask(admission, device, "", identity()).await.refused.is_none() {
        assert!(start.elapsed() < LONG, "Redis is back and not asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_redis_that_is_away_silent_or_slow_is_asked_no_more_until_it_is_well() {
    let proxy = Proxy::to(shared().port);
    let more = [("apns.rateLimit.rpm", "1"), ("rateLimiter.redis.timeout", "150ms")];
    let admission = plan(proxy.port, &more).open(0);
    for way in [Way::Absent, Way::Silent, Way::Slow(Duration::from_millis(400)), Way::Absent, Way::Silent] {
        let device = unique("device");
        until_limited(&admission, &device).await;
        proxy.set(way);
        let start = Instant::now();
        while !ask(&admission, &device, "", identity()).await.limit_failed {
            assert!(start.elapsed() < LONG, "{way:?} is not noticed");
        }
        // From now on nobody waits: far below one time limit for all of these together, whatever the machine does.
        let (start, count) = (Instant::now(), 10_000);
        for _ in 0..count {
            let decision = ask(&admission, &device, "", identity()).await;
            assert_eq!((decision.refused, decision.limit_failed), (None, true), "{way:?}");
        }
        let each = start.elapsed() / count;
        assert!(each < Duration::from_millis(1), "{way:?}: {each:?} for each");
        proxy.set(Way::Open);
    }
    until_limited(&admission, &unique("device")).await;
}

#[tokio::test]
async fn a_redis_that_was_restarted_or_has_lost_its_scripts_is_used_at_once() {
    let port = ports::free();
    let first = Redis::start_with(port, &[]);
    let admission = limiting(port, "1");
    let device = unique("device");
    until_limited(&admission, &device).await;
    let () = redis::cmd("SCRIPT").arg("FLUSH").exec(&mut first.look(0)).expect("Redis");
    until_limited(&admission, &unique("device")).await;
    first.stop();
    let _second = Redis::start_with(port, &[]);
    until_limited(&admission, &unique("device")).await;
}

#[tokio::test]
async fn a_burst_is_answered_whole() {
    let admission = Arc::new(limiting(shared().port, "1"));
    let stem = unique("device");
    counter(&stem);
    // More than a batch holds, each device twice.
    let asks = (0..4_000).map(|n| {
        let (admission, device) = (admission.clone(), format!("{stem}{}", n % 2_000));
        tokio::spawn(async move { ask(&admission, &device, "", identity()).await })
    });
    let decisions = join_all(asks).await.into_iter().map(|one| one.expect("no panic"));
    let limited = decisions.filter(|one| {
        assert!(!one.limit_failed);
        one.refused == Some(Refused::Limited)
    });
    assert_eq!(limited.count(), 2_000);
}
