//! The APNs handler against the simulator, over real TLS: every answer, what is sent again at once, what waits, what is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pusher::config::Config;
use pusher::handlers::apns::{ApnsProvider, Now, PLATFORM, Settings};
use pusher::handlers::{Gate, MessageHandler, OpenGate, Provider, Sender};
use pusher::message::{Lane, Origin, QueueMessage};
use pusher::outcome::{Attempt, Outcome, Refusal, Verdict};
use pusher::simulator::apns::faults::{AnswerFault, BodyKind, Faults};
use pusher::simulator::apns::reason::Reason;
use pusher::simulator::apns::{self as simulated, Simulator};
use pusher::simulator::levers::Levers;
use serde_json::json;

const PLAIN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

/// A simulator, and the worker's handler aimed at it.
struct Flow {
    simulator: Simulator,
    provider: ApnsProvider,
    handler: Arc<dyn MessageHandler>,
}

impl Flow {
    async fn start(faults: Faults) -> Flow {
        Flow::with(faults, &[], system_clock).await
    }

    async fn with(faults: Faults, config: &[(&str, &str)], clock: fn() -> Now) -> Flow {
        let settings = simulated::Settings { faults, topics: vec!["com.example.game".into()], ..Default::default() };
        let simulator = Simulator::start(settings).await.expect("simulator");
        let dir = tempfile::tempdir().expect("directory");
        let (key, ca) = (dir.path().join("key.p8"), dir.path().join("ca.pem"));
        std::fs::write(&key, &simulator.key().pem).expect("key");
        std::fs::write(&ca, simulator.ca_pem()).expect("ca");
        let endpoint = format!("https://localhost:{}", simulator.address().port());
        let pairs = [
            ("apns.apps", "game"),
            ("apns.certs.game.authKeyPath", key.to_str().expect("path")),
            ("apns.certs.game.keyID", &simulator.key().key_id),
            ("apns.certs.game.teamID", &simulator.key().team_id),
            ("apns.certs.game.topic", "com.example.game"),
            ("apns.endpoint", &endpoint),
            ("apns.caFile", ca.to_str().expect("path")),
        ];
        let config = Config::from_pairs(pairs.into_iter().chain(config.iter().copied()));
        let settings = Settings::from_config(&config, false).expect("settings");
        let provider = ApnsProvider::with_clock(settings, clock).expect("provider");
        let handler = provider.handler("game", Sender { index: 0, of: 1 });
        Flow { simulator, provider, handler }
    }

    async fn push(&self, token: &str, serial: i64) -> Attempt {
        self.handler.handle(&message(token, serial, ""), 0, &OpenGate).await
    }

    async fn send(&self, message: &QueueMessage) -> Attempt {
        self.handler.handle(message, 0, &OpenGate).await
    }
}

fn message(token: &str, serial: i64, members: &str) -> QueueMessage {
    let origin = Origin {
        topic: "push-game_apns-single".into(),
        partition: 0,
        app: "game".into(),
        platform: PLATFORM,
        lane: Lane::Single,
    };
    let payload =
        format!(r#"{{"DeviceToken":"{token}","Payload":{{"aps":{{"alert":"hi"}},"serial":{serial}}}{members}}}"#);
    let payload = Bytes::from(payload);
    QueueMessage {
        origin: Arc::new(origin),
        offset: serial,
        timestamp_ms: None,
        redrive_of: None,
        lent_at: Instant::now(),
        payload: payload.into(),
    }
}

fn system_clock() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    Now { epoch_s: since.as_secs() as i64, monotonic: since }
}

/// A token that the simulator answers as its convention says, see docs/simulator.md.
fn steering(variant: usize, status: u16, attempts: u8) -> String {
    format!("dead{variant:x}{status:03}{attempts:02x}")
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Resolved(Outcome::Delivered(_)) => "delivered",
        Verdict::Resolved(_) => "rejected",
        Verdict::Retry(_) => "retry",
        Verdict::Hold(_) => "hold",
        Verdict::Released => "released",
    }
}

fn refusal(attempt: &Attempt) -> &Refusal {
    match &attempt.verdict {
        Verdict::Retry(refusal) | Verdict::Hold(refusal) | Verdict::Resolved(Outcome::Rejected(refusal)) => refusal,
        other => panic!("{} is no refusal", word(other)),
    }
}

#[tokio::test]
async fn a_push_is_accepted_under_its_identity_and_the_next_one_shares_its_connection() {
    let flow = Flow::start(Faults::default()).await;
    let first = message(PLAIN, 1, "");
    let attempt = flow.send(&first).await;
    let Verdict::Resolved(Outcome::Delivered(acceptance)) = &attempt.verdict else { panic!("{:?}", attempt.verdict) };
    assert_eq!(acceptance.provider_id, Some(first.identity().to_string()));
    assert!(attempt.requests == 1 && attempt.round_trip > Duration::ZERO);
    assert_eq!(word(&flow.push(PLAIN, 2).await.verdict), "delivered");
    let stats = flow.simulator.stats();
    assert_eq!((stats.counts.connections, stats.messages.accepted, stats.messages.repeated), (1, 2, 0));
}

#[tokio::test]
async fn a_burst_on_a_cold_pool_breaks_no_rule_of_the_protocol_and_loses_nothing() {
    let flow = Flow::start(Faults { processing_ms: 5, ..Faults::default() }).await;
    let pushes = (0..600).map(|serial| flow.push(PLAIN, serial));
    let attempts = futures_util::future::join_all(pushes).await;
    assert!(attempts.iter().all(|attempt| word(&attempt.verdict) == "delivered"));
    let stats = flow.simulator.stats();
    assert_eq!((stats.messages.accepted, stats.messages.repeated), (600, 0));
    assert_eq!((stats.counts.protocol_errors, stats.counts.refused_streams), (0, 0));
    assert_eq!(stats.provider_tokens, 1);
}

#[tokio::test]
async fn every_reason_of_apple_leads_where_the_table_says() {
    let flow = Flow::start(Faults::default()).await;
    let mut numbers = BTreeMap::new();
    let mut lines = Vec::new();
    for (serial, reason) in Reason::ALL.iter().enumerate() {
        let variant = numbers.entry(reason.status).and_modify(|n| *n += 1).or_insert(0);
        let attempt = flow.push(&steering(*variant, reason.status, 0), serial as i64).await;
        let refusal = refusal(&attempt);
        assert_eq!((refusal.status, refusal.reason.as_ref()), (reason.status, reason.word));
        let deletes = if refusal.invalid_token.is_some() { " deletes" } else { "" };
        let since = refusal.invalid_token.as_ref().and_then(|token| token.unregistered_at_ms).map_or("", |_| " since");
        lines.push(format!(
            "{} {} {} {}{deletes}{since}",
            reason.status,
            reason.word,
            word(&attempt.verdict),
            refusal.key
        ));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn what_was_not_processed_is_sent_again_at_once_under_the_same_identity() {
    let flow = Flow::start(Faults::default()).await;
    flow.push(PLAIN, 0).await;
    for (serial, odd) in [(1, 2), (2, 5)] {
        let attempt = flow.push(&steering(odd, 0, 1), serial).await;
        assert_eq!((word(&attempt.verdict), attempt.requests), ("delivered", 2), "{odd}");
    }
    let messages = flow.simulator.stats().messages;
    assert_eq!((messages.accepted, messages.repeated, messages.identity_changes), (3, 0, 0));
    let never = flow.push(&steering(2, 0, 0), 3).await;
    assert_eq!((word(&never.verdict), never.requests), ("retry", 4));
    assert_eq!((refusal(&never).key, refusal(&never).maybe_delivered), ("stream-refused", false));
}

#[tokio::test]
async fn what_may_have_been_processed_waits_for_a_retry_and_says_so() {
    let flow = Flow::with(Faults::default(), &[("apns.timeout", "300ms")], system_clock).await;
    flow.push(PLAIN, 0).await;
    for (serial, odd, key) in
        [(1, 1, "timeout"), (2, 3, "stream-reset"), (3, 8, "stream-reset"), (4, 4, "connection-lost")]
    {
        let attempt = flow.push(&steering(odd, 0, 0), serial).await;
        assert_eq!((word(&attempt.verdict), refusal(&attempt).key), ("retry", key), "{odd}");
        assert!(refusal(&attempt).maybe_delivered && attempt.requests == 1 && refusal(&attempt).status == 0);
    }
    assert_eq!(word(&flow.push(PLAIN, 5).await.verdict), "delivered");
}

#[tokio::test]
async fn answers_without_a_reason_are_understood_by_their_status() {
    let flow = Flow::start(Faults::default()).await;
    let came = |attempt: &Attempt| format!("{} {}", word(&attempt.verdict), refusal(attempt).key);
    assert_eq!(came(&flow.push(&steering(6, 0, 0), 1).await), "retry internal-server-error");
    assert_eq!(came(&flow.push(&steering(7, 0, 0), 2).await), "retry service-unavailable");
    assert_eq!(came(&flow.push(&steering(9, 0, 0), 3).await), "rejected unexpected");
    let patient = flow.push(&steering(2, 429, 0), 4).await;
    assert_eq!(refusal(&patient).retry_after, Some(Duration::from_secs(1)));
    for body in [BodyKind::Html, BodyKind::Empty] {
        for status in [400, 410, 421, 451] {
            let answers = vec![AnswerFault { body, ..AnswerFault::all(status, "") }];
            flow.simulator.handle().change(|faults| faults.answers = answers).expect("faults");
            assert_eq!(
                came(&flow.push(PLAIN, i64::from(status)).await),
                "hold unexpected",
                "{status}: not Apple's word"
            );
        }
    }
}

#[tokio::test]
async fn nobody_to_connect_to_is_a_retry_that_was_surely_not_delivered() {
    let flow = Flow::with(Faults::default(), &[("apns.connectTimeout", "1s")], system_clock).await;
    let Flow { simulator, provider: _provider, handler } = flow;
    simulator.shutdown().await;
    let attempt = handler.handle(&message(PLAIN, 1, ""), 0, &OpenGate).await;
    assert_eq!((word(&attempt.verdict), refusal(&attempt).key, attempt.requests), ("retry", "connect", 0));
    assert!(!refusal(&attempt).maybe_delivered);
}

#[tokio::test]
async fn a_revoked_key_holds_its_pushes_until_it_is_accepted_again() {
    let flow = Flow::start(Faults { rejected_keys: vec!["*".into()], ..Faults::default() }).await;
    let held = flow.push(PLAIN, 1).await;
    assert_eq!((word(&held.verdict), refusal(&held).key), ("hold", "invalid-provider-token"));
    flow.simulator.handle().change(|faults| faults.rejected_keys.clear()).expect("faults");
    assert_eq!(word(&flow.push(PLAIN, 1).await.verdict), "delivered");
}

#[tokio::test]
async fn a_topic_is_held_when_it_is_ours_and_rejected_when_the_message_chose_it() {
    let flow = Flow::start(Faults::default()).await;
    let chosen = flow.send(&message(PLAIN, 1, r#","apns_topic":"com.example.another""#)).await;
    assert_eq!((word(&chosen.verdict), refusal(&chosen).reason.as_ref()), ("rejected", "TopicDisallowed"));
    assert_eq!(refusal(&chosen).invalid_token, None);
    let allowed =
        flow.send(&message(PLAIN, 2, r#","apns_topic":"com.example.game","collapse_id":"c","priority":5"#)).await;
    assert_eq!(word(&allowed.verdict), "delivered");
    let voip = flow.send(&message(PLAIN, 3, r#","push_type":"voip","priority":10"#)).await;
    assert_eq!(word(&voip.verdict), "delivered", "the suffix goes with the topic");
    let ours = Flow::with(Faults::default(), &[("apns.certs.game.topic", "com.example.other")], system_clock).await;
    assert_eq!(word(&ours.push(PLAIN, 1).await.verdict), "hold");
}

static PASSED_S: AtomicI64 = AtomicI64::new(0);

fn shifted_clock() -> Now {
    let passed = PASSED_S.load(Ordering::Relaxed);
    let Now { epoch_s, monotonic } = system_clock();
    Now { epoch_s: epoch_s + passed, monotonic: monotonic + Duration::from_secs(passed as u64) }
}

#[tokio::test]
async fn an_expired_provider_token_is_replaced_with_its_connection_and_the_push_sent_again_at_once() {
    let flow = Flow::with(Faults::default(), &[], shifted_clock).await;
    let expired = |attempts| steering(1, 403, attempts);
    let young = flow.push(&expired(1), 1).await;
    assert_eq!((word(&young.verdict), young.requests), ("retry", 1), "a second token within 20 minutes is not allowed");
    assert_eq!(flow.simulator.stats().provider_tokens, 1);

    PASSED_S.store(25 * 60, Ordering::Relaxed);
    let before = flow.simulator.stats().counts.connections;
    let old = flow.push(&expired(2), 2).await;
    assert_eq!((word(&old.verdict), old.requests), ("retry", 2), "the new token was called expired as well");
    let stats = flow.simulator.stats();
    assert_eq!(stats.provider_tokens, 2);
    assert!(stats.counts.connections > before);
    assert_eq!(word(&flow.push(&expired(2), 2).await.verdict), "delivered");

    PASSED_S.store(50 * 60, Ordering::Relaxed);
    let replaced = flow.push(&format!("{}aa", expired(1)), 3).await;
    assert_eq!((word(&replaced.verdict), replaced.requests), ("delivered", 2));
    let stats = flow.simulator.stats();
    assert_eq!((stats.provider_tokens, stats.messages.identity_changes), (3, 0));
}

struct ClosedGate;

impl Gate for ClosedGate {
    fn pass(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_closed_gate_and_a_closed_provider_release_the_push_unsent() {
    let flow = Flow::start(Faults::default()).await;
    let released = flow.handler.handle(&message(PLAIN, 1, ""), 0, &ClosedGate).await;
    assert_eq!(released, Attempt::local(Verdict::Released));
    assert_eq!(flow.simulator.stats().counts.requests, 0);
    assert_eq!(word(&flow.push(PLAIN, 2).await.verdict), "delivered", "the place was given back");
    flow.provider.close();
    assert_eq!(flow.push(PLAIN, 3).await, Attempt::local(Verdict::Released));
    assert_eq!(flow.simulator.stats().counts.requests, 1);
}

#[tokio::test]
async fn goaway_after_every_few_requests_loses_and_repeats_nothing() {
    let connection = Levers { initial_streams: 1000, ..Levers::default() };
    let flow = Flow::start(Faults { goaway_every: 20, connection, ..Faults::default() }).await;
    let mut left: Vec<i64> = (0..400).collect();
    for _round in 0..20 {
        let attempts = futures_util::future::join_all(left.iter().map(|serial| flow.push(PLAIN, *serial))).await;
        let undelivered = left.iter().zip(&attempts).filter(|(_, attempt)| word(&attempt.verdict) != "delivered");
        left = undelivered
            .map(|(serial, attempt)| {
                assert!(!refusal(attempt).maybe_delivered, "{:?}", attempt.verdict);
                *serial
            })
            .collect();
    }
    let messages = flow.simulator.stats().messages;
    assert_eq!((left.len(), messages.accepted, messages.repeated, messages.identity_changes), (0, 400, 0, 0));
}

#[tokio::test]
async fn the_feedback_record_tells_of_the_body_that_was_sent() {
    let flow = Flow::start(Faults::default()).await;
    let record = flow.handler.feedback(
        &message(PLAIN, 0, ""),
        &Outcome::Expired(None),
        pusher::handlers::RecordForm { metadata: true, truncated: false },
    );
    let record: serde_json::Value = serde_json::from_slice(&record).expect("record");
    assert_eq!(record["Notification"], json!({"aps": {"alert": "hi"}, "serial": 0}));
}
