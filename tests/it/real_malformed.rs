//! Messages that cannot be sent, and topics that are not ours, on real Apache Kafka and PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use pusher::generate::apns::Apns;
use pusher::generate::{Generator, Mix, Settings};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::support::rig::{Fate, PATIENCE, Repeats, Rig};
use crate::support::{self, unique};

/// What the record's value is; `None`: a record without one.
type Value = Option<Vec<u8>>;

/// Every way to be wrong, with the reason that the feedback record must name.
fn malformed() -> Vec<(Value, &'static str)> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let to = |token: &str| text(&format!(r#"{{"DeviceToken":{token},"Payload":{{"aps":{{"alert":"x"}}}}}}"#));
    let with = |more: &str| text(&format!(r#"{{"DeviceToken":"00ff","Payload":{{"aps":{{"alert":"x"}}}},{more}}}"#));
    let payload = |payload: &str| text(&format!(r#"{{"DeviceToken":"00ff","Payload":{payload}}}"#));
    let long = "x".repeat(900_000);
    vec![
        (None, "malformed-json"),
        (text(""), "malformed-json"),
        (text("   "), "malformed-json"),
        (text("pushed by hand"), "malformed-json"),
        (text(r#"{"DeviceToken":"00ff","Payload":{"aps":{}"#), "malformed-json"),
        (text(r#"{"DeviceToken":"00ff"} {"DeviceToken":"00ff"}"#), "malformed-json"),
        (text(&"x".repeat(1_000_000)), "malformed-json"),
        (text(&"[".repeat(1_000_000)), "not-an-object"),
        (text(&r#"{"a":"#.repeat(100_000)), "malformed-json"),
        (text("[]"), "not-an-object"),
        (text("null"), "not-an-object"),
        (text("7"), "not-an-object"),
        (Some(b"{\"DeviceToken\":\"00ff\",\"Payload\":{\"aps\":\"\xff\xfe\"}}".to_vec()), "bad-utf8"),
        (Some(vec![0; 64]), "malformed-json"),
        (Some(vec![0xc3; 1000]), "bad-utf8"),
        (text("{}"), "missing-device-token"),
        (
            payload("{}").map(|line| String::from_utf8_lossy(&line).replace("DeviceToken", "Receiver").into_bytes()),
            "missing-device-token",
        ),
        (to("null"), "missing-device-token"),
        (to("\"\""), "missing-device-token"),
        (to("42"), "wrong-type"),
        (to("[\"00ff\"]"), "wrong-type"),
        (to(r#""00ff\n""#), "malformed-device-token"),
        (to(r#""00ff\r\nx-header: 1""#), "malformed-device-token"),
        (to(r#""00ff%2f..""#), "malformed-device-token"),
        (to(r#""../../3/device/00ff""#), "malformed-device-token"),
        (to(r#""00ff\u0000""#), "malformed-device-token"),
        (to(r#""żółw""#), "malformed-device-token"),
        (to(&format!("\"{}\"", "a".repeat(100_000))), "malformed-device-token"),
        (payload("42"), "wrong-type"),
        (payload("[]"), "wrong-type"),
        (payload("null"), "payload-empty"),
        (payload("\"\""), "payload-empty"),
        (payload(&format!(r#"{{"aps":{{"alert":"{}"}}}}"#, "x".repeat(4096))), "payload-too-large"),
        // Its feedback record is larger than what the broker takes: it comes without the payload.
        (payload(&format!(r#"{{"aps":{{"alert":"{long}"}},"more":"{}"}}"#, "y".repeat(99_000))), "payload-too-large"),
        (with(r#""metadata":"x""#), "wrong-type"),
        (with(&format!(r#""metadata":{{"x":"{long}"}}"#)), "payload-too-large"),
        (with(r#""push_expiry":"soon""#), "wrong-type"),
        (with(r#""push_expiry":1e300"#), "wrong-type"),
        (with(r#""push_expiry":1500000000000"#), "expired"),
        (with(r#""priority":7"#), "bad-priority"),
        (with(r#""collapse_id":"a\r\nb: c""#), "bad-collapse-id"),
        (with(r#""push_type":"no such\n""#), "invalid-push-type"),
        (with(r#""apns_topic":"com.example\r\n""#), "bad-topic"),
        (with(r#""ApnsID":7"#), "wrong-type"),
    ]
}

/// As producers of any make can: with or without a value, up to what the broker takes.
fn produce(topic: &str, partition: i32, values: &[Value]) {
    let producer: BaseProducer =
        support::kafka().config().set("message.max.bytes", "1048000").create().expect("a producer");
    for value in values {
        let record = BaseRecord::<(), Vec<u8>>::to(topic).partition(partition);
        let record = if let Some(value) = value { record.payload(value) } else { record };
        producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).expect("the broker has everything");
}

#[test]
fn a_malformed_message_has_one_outcome_and_harms_no_neighbour() {
    let mut rig = Rig::new("malformed", 2);
    let malformed = malformed();
    let neighbours =
        rig.generate(Settings { count: malformed.len() as u64 * 3, mix: Mix::CALM, ..Settings::default() });
    let mut values = Vec::new();
    for ((value, key), neighbours) in malformed.iter().zip(neighbours.chunks(3)) {
        rig.note(value.clone().unwrap_or_default(), Fate::Refused(key));
        values.push(value.clone());
        values.extend(neighbours.iter().map(|push| Some(push.line.clone().into_bytes())));
    }
    let mut worker = rig.worker(&[]);
    // Partition 0 has all of them among neighbours; partition 1 nothing but them, twice.
    let alone: Vec<Value> = malformed.iter().chain(&malformed).map(|(value, _)| value.clone()).collect();
    produce(&rig.topic, 0, &values);
    produce(&rig.topic, 1, &alone);
    rig.settle(&mut worker, PATIENCE);
    let ledger = worker.stop();

    let placed = rig.placed();
    assert_eq!(rig.assert_nothing_lost(&placed), Repeats::default());
    let mut reasons = BTreeMap::<String, u64>::new();
    for (_, key) in &malformed {
        *reasons.entry((*key).to_owned()).or_default() += 3;
    }
    assert_eq!(ledger.reasons, reasons);
    assert_eq!((ledger.feedback, ledger.feedback_lost), (reasons.values().sum(), 0));
    assert_eq!(ledger.delivered, neighbours.len() as u64);
    assert_eq!(ledger.requests, neighbours.len() as u64, "no request is spent on what cannot be sent");
    assert_eq!(rig.simulator.stats().counts.protocol_errors, 0);
}

#[test]
fn topics_of_others_are_never_touched() {
    let mut rig = Rig::new("mine", 2);
    let (app, other) = (rig.app.clone(), unique("other"));
    let theirs = [
        format!("push-{app}_gcm-single"),
        format!("push-{app}_gcm-massive"),
        format!("push-{other}_apns-single"),
        format!("push-{other}_apns_massive"),
        format!("push-{app}x_apns-single"),
        format!("push-{app}-gcm-feedbacks"),
        format!("push-{other}-apns-feedbacks"),
        format!("deadletters-{app}_apns-massive"),
        format!("deadletters-push-{app}_apns-massive"),
        format!("{app}_apns-massive"),
        format!("push-{app}_apns-massive-old"),
        format!("old-push-{app}_apns-massive"),
    ];
    let serials = 1_000_000..1_000_000 + 20 * theirs.len() as u64;
    let settings = Settings {
        count: 20 * theirs.len() as u64,
        first_serial: serials.start,
        mix: Mix::CALM,
        ..Settings::default()
    };
    let pushes: Vec<_> =
        Generator::new(Apns { app: app.clone() }, settings).map(|push| Some(push.line.into_bytes())).collect();
    for (topic, pushes) in theirs.iter().zip(pushes.chunks(20)) {
        support::kafka().create_topic(topic, 1);
        produce(topic, 0, pushes);
    }
    // The feedback of our own refusals is in a topic that looks like a push topic, too.
    let ours = rig.generate(Settings { count: 500, ..Settings::default() });
    let single = format!("push-{app}_apns-single");
    support::kafka().create_topic(&single, 1);
    rig.produce(&ours, None);
    // As the original's default: one pattern for all apps and both platforms. Everything would be read from its beginning.
    let mut worker = rig.worker(&[("QUEUE_TOPICS", "^push-[^-_]+_(apns|gcm)[_-](single|massive) ^.*")]);
    rig.settle(&mut worker, PATIENCE);
    let extra = Generator::new(
        Apns { app: app.clone() },
        Settings { count: 10, first_serial: 900_000, mix: Mix::CALM, ..Settings::default() },
    );
    produce(&single, 0, &extra.map(|push| Some(push.line.into_bytes())).collect::<Vec<_>>());
    worker.until("our other lane", PATIENCE, || (rig.accepted() == rig.deliveries() + 10).then_some(()));
    worker.until("its commit", PATIENCE, || {
        (support::kafka().committed(&rig.group, &single)[0].offset == Some(10)).then_some(())
    });
    assert!(worker.has_said("topics of other apps or platforms"), "they are named in the log");
    assert_eq!(worker.stop().consumed(), 510);

    let ledger = rig.simulator.handle().ledger();
    assert_eq!(ledger.missing(serials.clone()), [serials]);
    for topic in theirs.iter().chain([&rig.feedback]) {
        for one in support::kafka().committed(&rig.group, topic) {
            assert_eq!(one.offset, None, "{topic}/{} has an offset of the group", one.partition);
        }
    }
    for topic in &theirs {
        assert_eq!(support::kafka().end_offsets(topic), [20], "{topic}");
    }
}
