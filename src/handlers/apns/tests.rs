//! The room from outside: credentials at start, shares of connections, feedback records of whole messages.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::handlers::OpenGate;
use crate::message::{Lane, Origin};
use crate::outcome::Verdict;
use crate::outcome::{Acceptance, Class, InvalidToken, Refusal};

const TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), token::tests::key_pem()).unwrap();
        }
        std::fs::write(dir.path().join("bad"), "not a key").unwrap();
        Keys { dir }
    }

    /// Apps as (name, file, key id).
    fn provider(&self, apps: &[(&str, &str, &str)]) -> Result<ApnsProvider, ProviderError> {
        let mut pairs = vec![("apns.apps".to_owned(), apps.iter().map(|app| app.0).collect::<Vec<_>>().join(","))];
        for (app, file, key_id) in apps {
            let (path, key_id) = (self.dir.path().join(file).display().to_string(), format!("{key_id:0>10}"));
            for (key, value) in
                [("authKeyPath", path.as_str()), ("keyID", &key_id), ("teamID", "TEAM123456"), ("topic", "com.x")]
            {
                pairs.push((format!("apns.certs.{app}.{key}"), value.to_owned()));
            }
        }
        let config = Config::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        ApnsProvider::new(Settings::from_config(&config, false)?)
    }
}

#[test]
fn apps_of_one_key_share_token_and_pool_key_and_others_do_not() {
    let keys = Keys::new();
    let provider = keys.provider(&[("one", "a", "K1"), ("two", "a", "K1"), ("three", "b", "K2")]).unwrap();
    assert!(Arc::ptr_eq(&provider.keys[0].token, &provider.keys[1].token));
    assert!(!Arc::ptr_eq(&provider.keys[0].token, &provider.keys[2].token));
    assert_eq!(provider.pool_key("one"), provider.pool_key("two"));
    assert_ne!(provider.pool_key("one"), provider.pool_key("three"));
}

#[test]
fn credentials_that_cannot_be_used_stop_the_start_and_name_app_key_and_file() {
    let keys = Keys::new();
    let error = |apps: &[(&str, &str, &str)]| keys.provider(apps).err().unwrap().to_string();
    let dir = keys.dir.path().display().to_string();
    let errors = [
        error(&[("game", "missing", "K1")]),
        error(&[("good", "a", "K1"), ("game", "bad", "K2")]),
        error(&[("one", "a", "K1"), ("two", "b", "K1")]),
    ];
    insta::assert_snapshot!(errors.join("\n").replace(&dir, "/keys"));
}

#[test]
fn an_unknown_platform_lists_the_known() {
    let error = crate::handlers::provider("apple", &Config::default(), false).err().unwrap();
    assert!(error.to_string().contains("apns"), "{error}");
}

#[test]
fn senders_divide_the_connections_and_one_of_them_keeps_the_idle_one() {
    let of = |all, senders| (0..senders).map(|index| share(all, Sender { index, of: senders })).collect::<Vec<_>>();
    assert_eq!(of(8, 3), [3, 3, 2]);
    assert_eq!(of(1, 3), [1, 1, 1]);
    assert!((0..20).all(|senders| home_sender("any key", senders) < senders.max(1)));
    let keys = Keys::new();
    let provider = keys.provider(&[("one", "a", "K1")]).unwrap();
    let key = provider.pool_key("one");
    let idle: usize = (0..5).map(|index| provider.pool_settings(&key, Sender { index, of: 5 }).min_idle).sum();
    assert_eq!(idle, 1);
}

fn message(payload: impl Into<Bytes>) -> QueueMessage {
    let origin = Origin {
        topic: "push-game_apns-single".into(),
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

fn record(payload: impl Into<Bytes>, outcome: &Outcome, form: RecordForm) -> Value {
    let about = About {
        app: "game",
        hostname: "pod-1",
        pusher_id: message(Bytes::new()).identity(),
        redriven: false,
        consumed_at_s: 1_718_900_000,
        form,
    };
    let payload = payload.into();
    let bytes = feedback::record(&Fields::read(&payload).unwrap_or_default(), outcome, &about);
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

fn unregistered() -> Outcome {
    Outcome::Rejected(Refusal {
        status: 410,
        source: crate::outcome::Source::Device,
        invalid_token: Some(InvalidToken { token: TOKEN.into(), unregistered_at_ms: Some(1_718_800_000_123) }),
        provider_id: Some("9A1E0B1C".into()),
        ..Refusal::local(Class::Token, "unregistered", "Unregistered", "the device is gone")
    })
}

fn payload() -> String {
    json!({
        "DeviceToken": TOKEN,
        "Payload": {"aps": {"alert": "hi"}},
        "metadata": {"jobId": "j-1", "game": "forged", "timestamp": 5},
    })
    .to_string()
}

#[test]
fn the_record_of_a_refusal_holds_every_field_of_the_original_and_ours() {
    let record = record(payload(), &unregistered(), FULL);
    let id = message(Bytes::new()).identity().to_string();
    // The original's record, field by field.
    assert_eq!(record["Sent"], json!(false));
    assert_eq!(record["StatusCode"], json!(410));
    assert_eq!(record["Reason"], json!("Unregistered"));
    assert_eq!(record["ApnsID"], json!("9A1E0B1C"));
    assert_eq!(record["Err"], json!({"Key": "unregistered", "Description": "Unregistered"}));
    assert_eq!(record["DeviceToken"], json!(TOKEN));
    assert_eq!(record["timestamp"], json!(1_718_900_000));
    let m = json!({"jobId": "j-1", "game": "forged", "timestamp": 5});
    assert_eq!(record["Notification"], json!({"aps": {"alert": "hi"}, "M": m}));
    let metadata = json!({
        "deleteToken": true, "deviceToken": TOKEN, "game": "game", "hostname": "pod-1", "jobId": "j-1",
        "platform": "apns", "pusherId": id,
    });
    assert_eq!(record["metadata"], metadata);
    // Ours.
    assert_eq!(record["unregisteredAt"], json!(1_718_800_000_123_i64));
    assert_eq!(record.as_object().unwrap().len(), 10);
}

#[test]
fn a_delivery_an_expiry_and_a_failure_have_records_of_the_same_shape() {
    let delivered = Outcome::Delivered(Acceptance { status: 200, provider_id: None });
    let failed = Outcome::Failed(Refusal::network("timeout", "Timeout", "no answer in 20 s", true));
    let records = [
        record(payload(), &delivered, FULL),
        record(payload(), &Outcome::Expired(None), RecordForm { metadata: false, truncated: false }),
        record(payload(), &failed, RecordForm { metadata: true, truncated: true }),
    ];
    insta::assert_snapshot!(records.map(|record| record.to_string()).join("\n"));
}

#[test]
fn an_unreadable_message_has_a_record_with_its_identity() {
    for broken in [&b"not json"[..], b"", b"\xff", b"[1,2]"] {
        let refusal = Fields::read(broken).err().expect("refused");
        let key = refusal.key;
        let record = record(broken, &Outcome::Rejected(*refusal), FULL);
        assert_eq!(record["Err"]["Key"], json!(key));
        assert_eq!(record["metadata"]["pusherId"], json!(message(Bytes::new()).identity().to_string()));
        assert_eq!(record["DeviceToken"], json!(""));
        assert!(record.get("Notification").is_none());
    }
}

#[test]
fn a_truncated_record_is_small_whatever_the_message_holds() {
    let many: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("key{n}"), json!("x".repeat(100)))).collect();
    let metadata = json!({"jobId": "j-1", "large": "x".repeat(1_000_000), "many": many.clone()});
    let texts = [
        json!({"DeviceToken": "t".repeat(1_000_000), "Payload": {}, "metadata": metadata}),
        json!({"DeviceToken": TOKEN, "Payload": "x".repeat(1_000_000), "metadata": many}),
    ];
    for text in texts {
        let record = record(text.to_string(), &unregistered(), RecordForm { metadata: true, truncated: true });
        assert_eq!(record["truncated"], json!(true));
        assert!(record.to_string().len() < 24 * 1024);
    }
}

#[tokio::test]
async fn a_refused_message_costs_no_request_and_an_expired_one_neither() {
    let keys = Keys::new();
    let provider = keys.provider(&[("game", "a", "K1")]).unwrap();
    let handler = provider.handler("game", Sender { index: 0, of: 1 });
    let refused = handler.handle(&message("{}"), 0, &OpenGate).await;
    assert!(matches!(refused.verdict, Verdict::Resolved(Outcome::Rejected(_))));
    assert_eq!((refused.requests, refused.round_trip), (0, Duration::ZERO));
    let old = message(r#"{"deviceToken":"a","payload":{},"push_expiry":1000}"#);
    assert_eq!(handler.handle(&old, 0, &OpenGate).await.verdict, Verdict::Resolved(Outcome::Expired(None)));
    assert_eq!(handler.expires_at_ms(&old), Some(1_000_000));
    assert_eq!(handler.expires_at_ms(&message("?")), None);
    let metadata = |record: &str| handler.metadata(&message(record.to_owned())).map(str::to_owned);
    let given = r#"{"deviceToken":"a","METADATA":{"a":1},"metadata":{"b":[ 2 ]},"jobId":"x"}"#;
    assert_eq!(metadata(given).as_deref(), Some(r#"{"b":[ 2 ]}"#));
    assert_eq!(
        (metadata(r#"{"data":{"metadata":1}}"#), metadata(r#"{"metadata":{}"#), metadata("")),
        (None, None, None)
    );
}

/// One for each push in flight. Above 1032 bytes glibc serves no allocation from a thread's cache.
#[tokio::test]
async fn an_attempt_under_way_is_small() {
    let keys = Keys::new();
    let provider = keys.provider(&[("game", "a", "K1")]).unwrap();
    let handler = provider.handler("game", Sender { index: 0, of: 1 });
    let push = message(r#"{"DeviceToken":"a","Payload":{"aps":{}},"metadata":{}}"#);
    let size = size_of_val(&*handler.handle(&push, 0, &OpenGate));
    assert!((300..=1032).contains(&size), "{size} bytes; the lower bound: it is the attempt, and no answer at once");
}
