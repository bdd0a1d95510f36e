//! The FCM handler against the simulator, over real TLS: tokens from its token endpoint, every answer, what is sent again at
//! once, what waits, what is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pusher::config::Config;
use pusher::handlers::gcm::{GcmProvider, PLATFORM, Settings};
use pusher::handlers::{Gate, MessageHandler, OpenGate, Provider, Sender};
use pusher::message::{Lane, Origin, QueueMessage};
use pusher::outcome::{Attempt, Outcome, Refusal, Source, Verdict};
use pusher::simulator::fcm::faults::{Faults, OAuthAnswer, OAuthFaults};
use pusher::simulator::fcm::{self as simulated, Simulator};

const PLAIN: &str = "cXyzAbC123:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ";
const ONE: Sender = Sender { index: 0, of: 1 };

/// A simulator, and the worker's handler aimed at it.
struct Flow {
    simulator: Simulator,
    provider: GcmProvider,
    handler: Arc<dyn MessageHandler>,
}

impl Flow {
    async fn start(faults: Faults) -> Flow {
        Flow::with(faults, &[]).await
    }

    async fn with(faults: Faults, config: &[(&str, &str)]) -> Flow {
        let projects = vec!["game-1".to_owned(), "game-2".into()];
        let settings = simulated::Settings { faults, projects, ..Default::default() };
        let simulator = Simulator::start(settings).await.expect("simulator");
        let dir = tempfile::tempdir().expect("directory");
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, simulator.ca_pem()).expect("ca");
        let endpoint = format!("https://localhost:{}", simulator.address().port());
        let (one, two) =
            (simulator.credentials("game-1").expect("known"), simulator.credentials("game-2").expect("known"));
        let pairs = [
            ("gcm.apps", "game,other"),
            ("gcm.firebaseCredentials.game", one.as_str()),
            ("gcm.firebaseCredentials.other", two.as_str()),
            ("gcm.endpoint", &endpoint),
            ("gcm.caFile", ca.to_str().expect("path")),
        ];
        let config = Config::from_pairs(pairs.into_iter().chain(config.iter().copied()));
        let provider = GcmProvider::new(Settings::from_config(&config).expect("settings")).expect("provider");
        provider.start(&tokio::runtime::Handle::current());
        let handler = provider.handler("game", ONE);
        Flow { simulator, provider, handler }
    }

    async fn push(&self, token: &str, serial: i64) -> Attempt {
        self.handler.handle(&message(token, serial, ""), 0, &OpenGate).await
    }

    /// Pushes until it is delivered: a peer that broke a young connection is not called again at once.
    async fn push_at_last(&self, token: &str, serial: i64) {
        let begun = Instant::now();
        loop {
            let attempt = self.push(token, serial).await;
            if word(&attempt.verdict) == "delivered" {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it is tried again within seconds: {:?}",
                attempt.verdict
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Faults)) {
        self.simulator.handle().change(edit).expect("faults");
    }
}

fn message(token: &str, serial: i64, members: &str) -> QueueMessage {
    let origin = Origin {
        topic: "push-game_gcm-single".into(),
        partition: 0,
        app: "game".into(),
        platform: PLATFORM,
        lane: Lane::Single,
    };
    let payload = format!(r#"{{"to":"{token}","data":{{"serial":{serial},"a":"b"}}{members}}}"#);
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
async fn a_push_is_accepted_under_fcms_name_and_the_next_one_shares_connection_and_token() {
    let flow = Flow::start(Faults::default()).await;
    let attempt = flow.push(PLAIN, 1).await;
    let Verdict::Resolved(Outcome::Delivered(acceptance)) = &attempt.verdict else { panic!("{:?}", attempt.verdict) };
    assert!(acceptance.provider_id.as_deref().is_some_and(|name| name.starts_with("projects/game-1/messages/")));
    assert!(attempt.requests == 1 && attempt.round_trip > Duration::ZERO);
    assert_eq!(word(&flow.push(PLAIN, 2).await.verdict), "delivered");
    let stats = flow.simulator.stats();
    assert_eq!((stats.counts.connections, stats.messages.accepted, stats.messages.repeated), (1, 2, 0));
    let dry = flow.handler.handle(&message(PLAIN, 3, r#","dry_run":true"#), 0, &OpenGate).await;
    assert_eq!(word(&dry.verdict), "delivered");
    assert_eq!((flow.simulator.stats().validated, flow.simulator.stats().messages.accepted), (1, 2));
}

#[tokio::test]
async fn a_burst_on_a_cold_pool_breaks_no_rule_of_the_protocol_and_loses_nothing() {
    let flow = Flow::start(Faults { processing_ms: 5, ..Faults::default() }).await;
    let attempts = futures_util::future::join_all((0..600).map(|serial| flow.push(PLAIN, serial))).await;
    assert!(attempts.iter().all(|attempt| word(&attempt.verdict) == "delivered"));
    let stats = flow.simulator.stats();
    assert_eq!((stats.messages.accepted, stats.messages.repeated), (600, 0));
    assert_eq!((stats.counts.protocol_errors, stats.counts.refused_streams), (0, 0));
}

/// Every answer that the simulator can give, by status and variant.
#[tokio::test]
async fn every_answer_leads_where_the_table_says() {
    let flow = Flow::start(Faults::default()).await;
    flow.push(PLAIN, 0).await;
    let mut lines = Vec::new();
    for (serial, (status, variant)) in simulated::problem::CODES.iter().enumerate() {
        let attempt = flow.push(&steering(usize::from(*variant), *status, 0), serial as i64 + 1).await;
        let refusal = refusal(&attempt);
        assert_eq!(refusal.status, *status);
        let deletes = if refusal.invalid_token.is_some() { " deletes" } else { "" };
        let after = refusal.retry_after.map_or(String::new(), |after| format!(" after({after:?})"));
        let after = if after.contains('.') { " after(a date)".into() } else { after };
        let (word, source) = (word(&attempt.verdict), refusal.source);
        lines.push(format!("{status}/{variant} {word} {source:?} {} {}{deletes}{after}", refusal.key, refusal.reason));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn what_was_not_processed_is_sent_again_at_once_and_what_may_have_been_waits() {
    let flow = Flow::start(Faults::default()).await;
    flow.push(PLAIN, 0).await;
    for (serial, odd) in [(1, 2), (2, 5)] {
        let attempt = flow.push(&steering(odd, 0, 1), serial).await;
        assert_eq!((word(&attempt.verdict), attempt.requests), ("delivered", 2), "{odd}");
    }
    for (serial, odd, key) in [
        (3, 3, "stream-reset"),
        (4, 8, "stream-reset"),
        (5, 7, "UNKNOWN"),
        (6, 9, "UNKNOWN"),
        (7, 4, "connection-lost"),
    ] {
        let attempt = flow.push(&steering(odd, 0, 0), serial).await;
        assert_eq!((word(&attempt.verdict), refusal(&attempt).key), ("retry", key), "{odd}");
        assert!(refusal(&attempt).maybe_delivered && attempt.requests == 1, "{odd}");
    }
    flow.push_at_last(PLAIN, 8).await;
}

#[tokio::test]
async fn a_revoked_access_token_is_replaced_once_for_all_and_the_pushes_sent_again_at_once() {
    let flow = Flow::start(Faults::default()).await;
    assert_eq!(word(&flow.push(PLAIN, 0).await.verdict), "delivered");
    let before = flow.simulator.stats().oauth;
    flow.simulator.handle().revoke_tokens();
    let attempts = futures_util::future::join_all((1..=50).map(|serial| flow.push(PLAIN, serial))).await;
    assert!(attempts.iter().all(|attempt| word(&attempt.verdict) == "delivered" && attempt.requests <= 2));
    let after = flow.simulator.stats();
    assert_eq!((after.messages.accepted, after.messages.repeated), (51, 0));
    assert_eq!(given(&after.oauth) - given(&before), 1);
}

/// How many access tokens the endpoint gave to this app.
fn given(stats: &simulated::oauth::OAuthStats) -> u64 {
    stats.tokens.get("game-1").copied().unwrap_or_default()
}

#[tokio::test]
async fn an_app_whose_tokens_are_refused_is_held_and_another_goes_on() {
    let flow = Flow::with(Faults::default(), &[("gcm.projectId.game", "game-2")]).await;
    // Of another project: IAM says no.
    let held = flow.push(PLAIN, 1).await;
    assert_eq!((word(&held.verdict), refusal(&held).status), ("hold", 403));
    assert_eq!((refusal(&held).key, &refusal(&held).invalid_token), ("permission-denied", &None));
    let other = flow.provider.handler("other", ONE);
    assert_eq!(word(&other.handle(&message(PLAIN, 2, ""), 0, &OpenGate).await.verdict), "delivered");
}

#[tokio::test]
async fn a_project_that_nobody_knows_costs_no_token() {
    let flow = Flow::with(Faults::default(), &[("gcm.projectId.game", "no-such-game")]).await;
    let held = flow.push(PLAIN, 1).await;
    assert_eq!((word(&held.verdict), refusal(&held).key), ("hold", "not-found"));
    assert_eq!(refusal(&held).invalid_token, None);
}

#[tokio::test]
async fn without_a_token_endpoint_at_the_start_pushes_wait_without_a_request_until_it_is_there() {
    let oauth = OAuthFaults { answer: Some(OAuthAnswer::Internal), ..OAuthFaults::default() };
    let flow = Flow::start(Faults { oauth, ..Faults::default() }).await;
    let waiting = flow.push(PLAIN, 1).await;
    assert_eq!((word(&waiting.verdict), refusal(&waiting).key, waiting.requests), ("retry", "no-access-token", 0));
    assert_eq!(refusal(&waiting).source, Source::Project);
    flow.change(|faults| faults.oauth = OAuthFaults::default());
    flow.push_at_last(PLAIN, 1).await;
    assert_eq!(flow.simulator.stats().messages.accepted, 1);
}

#[tokio::test]
async fn refused_credentials_hold_their_pushes() {
    let oauth = OAuthFaults { answer: Some(OAuthAnswer::InvalidGrant), ..OAuthFaults::default() };
    let flow = Flow::start(Faults { oauth, ..Faults::default() }).await;
    let held = flow.push(PLAIN, 1).await;
    assert_eq!((word(&held.verdict), refusal(&held).key, held.requests), ("hold", "credentials-refused", 0));
}

#[tokio::test]
async fn tokens_that_live_for_seconds_are_renewed_in_time_under_load_and_one_at_a_time() {
    let oauth = OAuthFaults { expires_in_s: 4, delay_ms: 200, ..OAuthFaults::default() };
    let flow = Flow::start(Faults { oauth, ..Faults::default() }).await;
    let begun = Instant::now();
    let mut serial = 0;
    while begun.elapsed() < Duration::from_secs(7) {
        let attempts = futures_util::future::join_all((0..20).map(|n| flow.push(PLAIN, serial + n))).await;
        assert!(attempts.iter().all(|attempt| word(&attempt.verdict) == "delivered" && attempt.requests == 1));
        serial += 20;
    }
    let stats = flow.simulator.stats();
    assert_eq!((stats.messages.accepted as i64, stats.messages.repeated), (serial, 0));
    // Renewed after 2.75 to 3 s.
    assert!((3..=4).contains(&given(&stats.oauth)), "{:?}", stats.oauth);
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
    assert_eq!(word(&flow.push(PLAIN, 2).await.verdict), "delivered", "the place was given back");
    flow.provider.close();
    assert_eq!(flow.push(PLAIN, 3).await, Attempt::local(Verdict::Released));
    assert_eq!(flow.simulator.stats().counts.requests, 1);
}

#[tokio::test]
async fn goaway_after_every_few_requests_loses_and_repeats_nothing() {
    let flow = Flow::start(Faults { goaway_every: 20, ..Faults::default() }).await;
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
    assert_eq!((left.len(), messages.accepted, messages.repeated), (0, 400, 0));
}
