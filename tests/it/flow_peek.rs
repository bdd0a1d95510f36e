//! Peek on embedded parts: what is shown of messages, and that nothing else happens to them.

use std::time::Instant;

use bytes::Bytes;
use clap::Parser as _;
use pusher::cli::{Cli, Command};
use pusher::config::Config;
use pusher::handlers::provider;
use pusher::message::{Lane, Origin, Platform, QueueMessage};
use pusher::peek;
use pusher::shutdown::Shutdown;
use pusher::simulator::{apns, fcm};
use serde_json::Value;

use crate::support::far::Far;
use crate::support::mock::Mock;

/// 14 November 2023.
const NOW_MS: i64 = 1_700_000_000_000;

/// A configuration for the app `game` with credentials that can sign; nobody is called.
fn config<F: Far>(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Config {
    let simulator = F::start(Default::default(), &["game"]);
    let settings = simulator.settings(&["game"], folder.path());
    let pairs = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Config::from_pairs(pairs).with(more.iter().copied())
}

fn shown(config: &Config, platform: Platform, records: &[&str], json: bool) -> String {
    let provider = provider(platform.0, config, false).expect("a provider");
    let show = |(offset, record): (i64, &&str)| {
        let topic = format!("push-game_{platform}-single").into();
        let origin = Origin { topic, partition: 3, app: "game".into(), platform, lane: Lane::Single };
        let message = QueueMessage {
            origin: origin.into(),
            offset,
            timestamp_ms: Some(NOW_MS - 90_000),
            redrive_of: (offset == 1).then_some(0),
            lent_at: Instant::now(),
            payload: Bytes::copy_from_slice(record.as_bytes()).into(),
        };
        peek::shown(&*provider, &message, NOW_MS, json)
    };
    (0..).zip(records).map(show).collect::<Vec<_>>().join("\n")
}

const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

#[test]
fn messages_for_apns_are_shown_as_they_would_be_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config::<apns::Simulator>(&folder, &[("apns.endpoint", "https://apns.example.com")]);
    let whole = format!(
        r#"{{"DeviceToken":"{DEVICE}","Payload":{{"aps":{{"alert":"Your castle is under attack"}},"to":"{DEVICE}"}},"push_expiry":1800000000,"collapse_id":"castle","metadata":{{"jobId":"42"}}}}"#
    );
    let silent = format!(r#"{{"DeviceToken":"{DEVICE}","Payload":{{"aps":{{"content-available":1}}}}}}"#);
    let late = format!(r#"{{"DeviceToken":"{DEVICE}","Payload":{{"aps":{{}}}},"push_expiry":1600000000}}"#);
    let records = [&*whole, &silent, &late, r#"{"Payload":{}}"#, "not JSON with a s3cret"];
    let text = shown(&config, Platform("apns"), &records, false);
    insta::assert_snapshot!("apns", text);
    let json = shown(&config, Platform("apns"), &records, true);
    insta::assert_snapshot!("apns.json", json);
    for told in [text, json] {
        assert!(
            !told.contains(DEVICE) && !told.contains("s3cret") && !told.to_lowercase().contains("bearer"),
            "{told}"
        );
    }
}

#[test]
fn messages_for_fcm_are_shown_as_they_would_be_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config::<fcm::Simulator>(&folder, &[("gcm.endpoint", "https://fcm.example.com")]);
    let device = format!("cXyz:APA91b{}", "Q".repeat(120));
    let whole = format!(
        r#"{{"to":"{device}","notification":{{"title":"Castle","body":"under attack"}},"data":{{"level":7}},"time_to_live":60,"push_expiry":1700000030}}"#
    );
    let native = format!(r#"{{"message":{{"token":"{device}","android":{{"priority":"high"}}}}}}"#);
    let records = [&*whole, &native, r#"{"to":"/topics/news","data":{"a":"b"}}"#, r#"{"data":{"a":"b"}}"#];
    let text = shown(&config, Platform("gcm"), &records, false);
    insta::assert_snapshot!("gcm", text);
    assert!(!text.contains(&device), "{text}");
}

#[test]
fn the_last_ones_or_those_from_an_offset_on_are_read_and_nothing_is_committed() {
    let (mock, folder) = (Mock::start(&[("push-game_apns-single", 2)]), tempfile::tempdir().expect("a folder"));
    let config = config::<apns::Simulator>(
        &folder,
        &[("queue.brokers", &mock.brokers), ("apns.endpoint", "https://localhost:1")],
    );
    for partition in 0..2 {
        mock.produce("push-game_apns-single", partition, ["{}"; 5]);
    }
    let read = |more: &[&str]| {
        let words = ["pusher", "peek", "push-game_apns-single"].iter().chain(more);
        let Command::Peek(arguments) = Cli::parse_from(words).command else { panic!("another command") };
        let lines = peek::run(&config, &arguments, false, true, &Shutdown::default())?;
        let place = |line: String| {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            (line["partition"].as_i64().expect("a number"), line["offset"].as_i64().expect("a number"))
        };
        anyhow::Ok(lines.into_iter().map(place).collect::<Vec<_>>())
    };
    assert_eq!(read(&[]).expect("ten").len(), 10);
    assert_eq!(read(&["-n", "3"]).expect("the last three").len(), 3);
    assert_eq!(read(&["--partition", "1", "-n", "2"]).expect("the last two"), [(1, 3), (1, 4)]);
    assert_eq!(read(&["--partition", "0", "--offset", "1", "-n", "2"]).expect("two"), [(0, 1), (0, 2)]);
    assert_eq!(read(&["--partition", "0", "--offset", "9"]).expect("none"), []);
    let error = read(&["--partition", "7"]).expect_err("no such partition").to_string();
    assert_eq!(error, "push-game_apns-single has no partition 7: there are 2, from 0");
    assert!((0..2).all(|partition| mock.committed("test", "push-game_apns-single", partition).is_none()));
}
