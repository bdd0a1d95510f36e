//! The room from outside: credentials at start, who shares what, feedback records of whole messages.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::handlers::record::About;
use crate::handlers::{OpenGate, RecordForm};
use crate::message::{Lane, Origin};
use crate::outcome::{Acceptance, Class, InvalidToken, Outcome, Verdict};

fn provider(pairs: &[(&str, &str)]) -> Result<GcmProvider, ProviderError> {
    GcmProvider::new(Settings::from_config(&Config::from_pairs(pairs.iter().copied()))?)
}

fn account(project: &str, kid: &str) -> String {
    let mut account = credentials::tests::account();
    account["project_id"] = json!(project);
    account["private_key_id"] = json!(kid);
    account.to_string()
}

#[test]
fn apps_of_one_project_share_connections_and_apps_of_one_credential_their_token() {
    let (a, b, c) = (account("p1", "k1"), account("p1", "k2"), account("p1", "k1"));
    let provider = provider(&[
        ("gcm.apps", "one,two,three"),
        ("gcm.firebaseCredentials.one", &a),
        ("gcm.firebaseCredentials.two", &b),
        ("gcm.firebaseCredentials.three", &c),
        ("gcm.projectId.three", "p3"),
    ])
    .unwrap();
    assert_eq!(provider.pool_key("one"), provider.pool_key("two"));
    assert_ne!(provider.pool_key("one"), provider.pool_key("three"));
    let same = |a: usize, b: usize| Arc::ptr_eq(&provider.accounts[a].token, &provider.accounts[b].token);
    assert!(same(0, 2) && !same(0, 1));
}

#[test]
fn credentials_that_cannot_be_used_stop_the_start_and_name_app_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.json");
    std::fs::write(&bad, "s3cret").unwrap();
    let projectless = account("", "k");
    let error = |pair: (&str, &str)| provider(&[("gcm.apps", "game"), pair]).err().unwrap().to_string();
    let errors = [
        error(("gcm.firebaseCredentials.game", "{\"s3cret\":")),
        error(("gcm.firebaseCredentialsFile.game", bad.to_str().unwrap())),
        error(("gcm.firebaseCredentialsFile.game", "/nowhere/key.json")),
        error(("gcm.firebaseCredentials.game", &projectless)),
    ]
    .join("\n")
    .replace(&dir.path().display().to_string(), "/keys");
    assert!(!errors.contains("s3cret"));
    insta::assert_snapshot!(errors);
}

fn message(payload: impl Into<Bytes>) -> QueueMessage {
    let origin = Origin {
        topic: "push-game_gcm-single".into(),
        partition: 3,
        app: "game".into(),
        platform: PLATFORM,
        lane: Lane::Single,
    };
    let lent_at = Instant::now();
    QueueMessage {
        origin: Arc::new(origin),
        offset: 42,
        timestamp_ms: None,
        redrive_of: None,
        lent_at,
        payload: payload.into().into(),
    }
}

const FULL: RecordForm = RecordForm { metadata: true, truncated: false };

fn record(payload: &str, outcome: &Outcome, form: RecordForm) -> Value {
    let about = About {
        app: "game",
        hostname: "pod-1",
        pusher_id: message(Bytes::new()).identity(),
        redriven: false,
        consumed_at_s: 1_718_900_000,
        form,
    };
    let bytes = feedback::record(&Fields::read(payload.as_bytes()).unwrap_or_default(), outcome, &about);
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

fn unregistered() -> Outcome {
    Outcome::Rejected(Refusal {
        status: 404,
        source: crate::outcome::Source::Device,
        invalid_token: Some(InvalidToken { token: "t1".into(), unregistered_at_ms: None }),
        ..Refusal::local(Class::Token, "DEVICE_UNREGISTERED", "UNREGISTERED", "the app was removed")
    })
}

const PAYLOAD: &str = r#"{"to":"t1","data":{"a":1},"metadata":{"jobId":"j-1","game":"forged","timestamp":5}}"#;

#[test]
fn the_record_of_a_redriven_message_says_so() {
    let redriven = QueueMessage { redrive_of: Some(7), ..message(Bytes::from_static(PAYLOAD.as_bytes())) };
    let about = About::of(&redriven, "game", "pod-1", FULL);
    let bytes = feedback::record(&Fields::of(&redriven).unwrap(), &unregistered(), &about);
    let record: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(record["metadata"]["redriven"], true);
    assert_ne!(record["metadata"]["pusherId"], message(Bytes::new()).identity().to_string());
}

#[test]
fn the_record_of_a_refusal_holds_every_field_of_the_original_and_ours() {
    let id = message(Bytes::new()).identity().to_string();
    let expected = json!({
        "from": "t1", "error": "DEVICE_UNREGISTERED", "error_description": "the app was removed",
        "message_id": id, "error_code": "UNREGISTERED", "status": "NOT_FOUND", "status_code": 404,
        "timestamp": 1_718_900_000,
        "metadata": {
            "deleteToken": true, "deviceToken": "t1", "game": "game", "hostname": "pod-1", "jobId": "j-1",
            "platform": "gcm", "pusherId": id,
        },
    });
    assert_eq!(record(PAYLOAD, &unregistered(), FULL), expected);
}

#[test]
fn records_of_every_outcome() {
    let delivered = Outcome::Delivered(Acceptance { status: 200, provider_id: Some("projects/p/messages/1".into()) });
    let failed = Outcome::Failed(Refusal::network("timeout", "Timeout", "no answer in 20 s", true));
    let Outcome::Rejected(last) = unregistered() else { unreachable!() };
    let without = RecordForm { metadata: false, truncated: false };
    let records = [
        record(PAYLOAD, &delivered, FULL),
        record(PAYLOAD, &Outcome::Expired(None), without),
        record(PAYLOAD, &Outcome::Expired(Some(Box::new(last))), FULL),
        record(PAYLOAD, &failed, RecordForm { metadata: true, truncated: true }),
        record(r#"{"topic":"news"}"#, &delivered, without),
        record(r#"{"condition":"'a' in topics"}"#, &delivered, without),
        record(r#"{"message":{"token":"t2"},"metadata":{"jobId":"j"}}"#, &delivered, FULL),
        record("not json", &failed, FULL),
    ];
    insta::assert_snapshot!(records.map(|record| record.to_string()).join("\n"));
}

#[test]
fn a_truncated_record_is_small_whatever_the_message_holds() {
    let many: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("key{n}"), json!("x".repeat(100)))).collect();
    let text =
        json!({"to": "t".repeat(1_000_000), "metadata": {"jobId": "j", "large": "x".repeat(1_000_000), "many": many}});
    let record = record(&text.to_string(), &unregistered(), RecordForm { metadata: true, truncated: true });
    assert_eq!((&record["truncated"], &record["metadata"]["jobId"]), (&json!(true), &json!("j")));
    assert!(record.to_string().len() < 24 * 1024);
}

#[tokio::test]
async fn a_refused_message_costs_no_request_and_an_expired_one_neither() {
    let key = account("p1", "k1");
    let provider = provider(&[("gcm.apps", "game"), ("gcm.firebaseCredentials.game", &key)]).unwrap();
    let handler = provider.handler("game", Sender { index: 0, of: 1 });
    let refused = handler.handle(&message("{}"), 0, &OpenGate).await;
    assert!(matches!(refused.verdict, Verdict::Resolved(Outcome::Rejected(_))));
    assert_eq!((refused.requests, refused.round_trip), (0, Duration::ZERO));
    let old = message(r#"{"to":"t1","time_to_live":1500000000}"#);
    assert_eq!(handler.handle(&old, 0, &OpenGate).await.verdict, Verdict::Resolved(Outcome::Expired(None)));
    assert_eq!(handler.expires_at_ms(&old), Some(1_500_000_000_000));
    assert_eq!((handler.client(), handler.own_latency()), ("fcm", Some("firebase_latency")));
    let metadata = |record: &str| handler.metadata(&message(record.to_owned())).map(str::to_owned);
    let given = r#"{"to":"t1","METADATA":{"a":1},"metadata":{"b":[ 2 ]},"jobId":"x"}"#;
    assert_eq!(metadata(given).as_deref(), Some(r#"{"b":[ 2 ]}"#));
    assert_eq!(
        (metadata(r#"{"data":{"metadata":1}}"#), metadata(r#"{"metadata":{}"#), metadata("")),
        (None, None, None)
    );
}

#[test]
fn the_pool_follows_googles_rules() {
    let key = account("p1", "k1");
    let provider = provider(&[("gcm.apps", "game"), ("gcm.firebaseCredentials.game", &key)]).unwrap();
    let settings = provider.pool_settings("any", Sender { index: 0, of: 2 });
    assert_eq!((settings.host.as_str(), settings.port, settings.max_connections), ("fcm.googleapis.com", 443, 8));
    assert_eq!((settings.ping_after, settings.streams_unless_named), (None, 100));
    assert!(settings.request_timeout >= Duration::from_secs(10) && settings.max_age < Some(Duration::from_hours(1)));
}

/// One for each push in flight. Above 1032 bytes glibc serves no allocation from a thread's cache.
#[tokio::test]
async fn an_attempt_under_way_is_small() {
    let key = account("p1", "k1");
    let provider = provider(&[("gcm.apps", "game"), ("gcm.firebaseCredentials.game", &key)]).unwrap();
    let handler = provider.handler("game", Sender { index: 0, of: 1 });
    let push = message(r#"{"to":"t1","data":{}}"#);
    let size = size_of_val(&*handler.handle(&push, 0, &OpenGate));
    assert!((300..=1032).contains(&size), "{size} bytes; the lower bound: it is the attempt, and no answer at once");
}
