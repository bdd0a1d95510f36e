//! `StatsD` datagrams as a daemon receives them.

use std::net::UdpSocket;
use std::time::Duration;

use pusher::config::Config;
use pusher::message::{Lane, Origin, Platform};
use pusher::reporters::StatsReporter;
use pusher::reporters::stats::Metric;
use pusher::reporters::stats::statsd::{Settings, Statsd};

fn origin(topic: &str) -> Origin {
    Origin { topic: topic.into(), partition: 0, app: "game".into(), platform: Platform("apns"), lane: Lane::Single }
}

fn daemon() -> UdpSocket {
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    daemon
}

fn reporter(daemon: &UdpSocket, prefix: &str, flush: &str) -> Statsd {
    let host = daemon.local_addr().unwrap().to_string();
    let config = Config::from_pairs([
        ("stats.statsd.host", host.as_str()),
        ("stats.statsd.prefix", prefix),
        ("stats.statsd.flushInterval", flush),
    ]);
    Statsd::start(Settings::from_config(&config).unwrap())
}

/// Lines until one begins with `last`.
fn lines(daemon: &UdpSocket, last: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while !all.iter().any(|line| line.starts_with(last)) {
        let mut datagram = [0u8; 2_048];
        let n = daemon.recv(&mut datagram).unwrap();
        assert!(n <= 1432, "{n} bytes");
        all.extend(std::str::from_utf8(&datagram[..n]).unwrap().lines().map(String::from));
    }
    all
}

#[test]
fn one_line_per_series_with_the_originals_names_and_tags() {
    let daemon = daemon();
    let stats = reporter(&daemon, "push", "60s");
    let (single, massive) = (origin("push-game_apns-single"), origin("push-game_apns-massive"));
    for origin in [&single, &single, &massive] {
        stats.sent(origin);
        stats.latency(origin, "apns", Duration::from_micros(12_400));
    }
    stats.success(&single);
    stats.success(&massive);
    stats.failure(&single, "unregistered");
    stats.count(Metric::Attempts, &[("platform", "apns"), ("game", "a|b#c,d:e@f\ng")], 7);
    stats.gauge(Metric::InFlight, &[("platform", "apns"), ("game", "game")], 2.0);
    stats.gauge(Metric::InFlight, &[("platform", "apns"), ("game", "game")], 41.5);
    stats.close(Duration::from_secs(10));
    let mut lines = lines(&daemon, "push");
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @"
    pushack:2|c|#platform:apns,game:game
    pushattempts:7|c|#platform:apns,game:a_b_c_d_e_f_g
    pushfailed:1|c|#platform:apns,game:game,reason:unregistered
    pushin_flight:41.5|g|#platform:apns,game:game
    pushsend_notification_latency:12|ms|#platform:apns,game:game,client:apns
    pushsend_notification_latency:12|ms|#platform:apns,game:game,client:apns
    pushsend_notification_latency:12|ms|#platform:apns,game:game,client:apns
    pushsent:1|c|#platform:apns,game:game,topic:push-game_apns-massive
    pushsent:2|c|#platform:apns,game:game,topic:push-game_apns-single
    ");
}

#[test]
fn values_are_sent_on_the_clock_and_counts_stay_exact_under_threads() {
    let daemon = daemon();
    let stats = reporter(&daemon, "p.", "100ms");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let stats = &stats;
            scope.spawn(move || {
                // Each thread has an Origin of its own, as each assignment makes new ones.
                let origin = origin("push-game_apns");
                for _ in 0..20_000 {
                    stats.sent(&origin);
                    stats.latency(&origin, "apns", Duration::from_millis(n));
                }
            });
        }
    });
    stats.gauge(Metric::IgnoredTopics, &[], 1.0);
    let mut all = lines(&daemon, "p.ignored_topics");
    stats.count(Metric::CommitFailed, &[], 1);
    stats.close(Duration::from_secs(10));
    all.extend(lines(&daemon, "p.commit_failed"));
    let value = |line: &str| line.split_once(':').unwrap().1.split('|').next().unwrap().parse::<f64>().unwrap();
    let sent: f64 = all.iter().filter(|line| line.starts_with("p.sent")).map(|line| value(line)).sum();
    assert_eq!(sent as u64, 80_000);
    let rate =
        |line: &str| line.split('|').find_map(|part| part.strip_prefix('@')).map_or(1.0, |r| r.parse::<f64>().unwrap());
    let timed: f64 = all.iter().filter(|line| line.contains("latency")).map(|line| 1.0 / rate(line)).sum();
    assert!((timed - 80_000.0).abs() < 1.0, "sampled timings stand for {timed}");
}

#[test]
fn nobody_listening_costs_nothing_and_a_daemon_that_comes_back_is_told() {
    let gone = daemon();
    let address = gone.local_addr().unwrap();
    let stats = reporter(&gone, "push", "100ms");
    drop(gone);
    let origin = origin("push-game_apns");
    stats.sent(&origin);
    let back = UdpSocket::bind(address).unwrap();
    back.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut datagram = [0u8; 2048];
    let heard = (0..100).any(|_| {
        stats.sent(&origin);
        back.recv(&mut datagram).is_ok()
    });
    assert!(heard);
}

#[test]
fn a_name_that_cannot_be_resolved_is_no_error() {
    let config = Config::from_pairs([("stats.statsd.host", "no-such-host.invalid:8125")]);
    let stats = Statsd::start(Settings::from_config(&config).unwrap());
    stats.sent(&origin("push-game_apns"));
    stats.close(Duration::from_secs(30));
}
