//! Dead letters of messages that lie in a push topic, written by the worker's own reporter.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use pusher::config::Config;
use pusher::message::{Lane, Origin, Platform, QueueMessage};
use pusher::reporters::dead_letter::kafka::KafkaDeadLetters;
use pusher::reporters::stats::Stats;
use pusher::reporters::{DeadLetter, DeadLetterReporter as _, FeedbackFate};

use super::wait_for;

/// The message at a place of a push topic of APNs.
pub(crate) fn message(app: &str, topic: &str, partition: i32, offset: i64, payload: Vec<u8>) -> QueueMessage {
    let (app, topic) = (Arc::from(app), Arc::from(topic));
    let origin = Origin { topic, partition, app, platform: Platform("apns"), lane: Lane::Massive };
    QueueMessage {
        origin: Arc::new(origin),
        offset,
        timestamp_ms: None,
        redrive_of: None,
        lent_at: Instant::now(),
        payload: Bytes::from(payload).into(),
    }
}

/// Writes a letter of each, failed for this reason, all at once, and waits until the brokers have them.
pub(crate) fn write(brokers: &str, messages: &[QueueMessage], reason: &'static str) {
    let config = Config::from_pairs([("queue.brokers", brokers)]);
    let reporter = KafkaDeadLetters::from_config(&config, Stats::default()).expect("a reporter");
    let letter = |message| DeadLetter {
        message,
        reason,
        description: "failed again and again",
        status: 500,
        attempts: 3,
        first_attempt: SystemTime::now(),
        last_attempt: SystemTime::now(),
    };
    let letters: Vec<_> = messages.iter().map(letter).collect();
    let sent = wait_for(futures_util::future::join_all(letters.iter().map(|letter| reporter.send_dead_letter(letter))));
    assert!(sent.into_iter().all(|fate| fate == FeedbackFate::Acknowledged));
}
