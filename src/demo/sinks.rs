//! The demo's other far ends: a StatsD daemon and consumers of feedback topics, all of which only count.

use std::collections::{BTreeMap, HashSet};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use serde::Deserialize;

const TICK: Duration = Duration::from_millis(100);

/// A thread that runs until it is told to stop.
#[derive(Debug)]
struct Loop {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    /// Calls `turn`, which must come back within a moment, until the end.
    fn start(name: &str, mut turn: impl FnMut() + Send + 'static) -> Result<Loop> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while !stopped.load(Relaxed) {
                turn();
            }
        })?;
        Ok(Loop { stop, thread: Some(thread) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sums the counters of the StatsD lines that reach a UDP port.
#[derive(Debug)]
pub(super) struct StatsdSink {
    address: std::net::SocketAddr,
    counters: Arc<Mutex<BTreeMap<String, u64>>>,
    _loop: Loop,
}

impl StatsdSink {
    /// Listens on a free port of the loopback interface.
    pub(super) fn start() -> Result<StatsdSink> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("binding a UDP port for the StatsD sink")?;
        socket.set_read_timeout(Some(TICK))?;
        let (address, counters) = (socket.local_addr()?, Arc::new(Mutex::new(BTreeMap::new())));
        let sums = counters.clone();
        let mut datagram = vec![0; 65536];
        let turn = move || {
            if let Ok(length) = socket.recv(&mut datagram) {
                count(&String::from_utf8_lossy(&datagram[..length]), &mut sums.lock());
            }
        };
        Ok(StatsdSink { address, counters, _loop: Loop::start("statsd-sink", turn)? })
    }

    /// `host:port` for `stats.statsd.host`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The sum of a counter over all its tags.
    pub(super) fn counter(&self, name: &str) -> u64 {
        self.counters.lock().get(name).copied().unwrap_or(0)
    }
}

/// `name:value|c[|@rate][|#tags]`, one per line.
fn count(lines: &str, sums: &mut BTreeMap<String, u64>) {
    for line in lines.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let mut parts = rest.split('|');
        let (Some(value), Some("c")) = (parts.next(), parts.next()) else { continue };
        let Ok(value) = value.parse::<u64>() else { continue };
        *sums.entry(name.to_owned()).or_default() += value;
    }
}

/// What of a feedback record the demo looks at.
#[derive(Deserialize)]
struct Record {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "pusherId")]
    identity: uuid::Uuid,
}

/// Feedback seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct FeedbackSeen {
    /// The messages that have a record.
    pub identities: HashSet<uuid::Uuid>,
    /// Records that could not be read.
    pub unreadable: u64,
}

/// Reads a feedback topic to its end and on.
#[derive(Debug)]
pub(super) struct FeedbackSink {
    seen: Arc<Mutex<FeedbackSeen>>,
    _loop: Loop,
}

impl FeedbackSink {
    /// Consumes `topic` from its beginning.
    pub(super) fn start(brokers: &str, topic: &str) -> Result<FeedbackSink> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", format!("demo-{topic}"))
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .context("creating the feedback consumer")?;
        consumer.subscribe(&[topic])?;
        let seen = Arc::new(Mutex::new(FeedbackSeen::default()));
        let target = seen.clone();
        let turn = move || {
            if let Some(Ok(message)) = consumer.poll(TICK) {
                note(message.payload().unwrap_or_default(), &mut target.lock());
            }
        };
        Ok(FeedbackSink { seen, _loop: Loop::start("feedback-sink", turn)? })
    }

    /// How many different messages have feedback so far.
    pub(super) fn distinct(&self) -> u64 {
        self.seen.lock().identities.len() as u64
    }

    /// Everything seen so far.
    pub(super) fn seen(&self) -> FeedbackSeen {
        self.seen.lock().clone()
    }
}

fn note(record: &[u8], seen: &mut FeedbackSeen) {
    match serde_json::from_slice::<Record>(record) {
        Ok(Record { metadata }) => {
            seen.identities.insert(metadata.identity);
        }
        Err(_) => seen.unreadable += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_lines_and_tags() {
        let mut sums = BTreeMap::new();
        count("pushsent:3|c|#game:a\npushsent:4|c\npushlatency:1.5|ms\nnonsense", &mut sums);
        assert_eq!(sums, BTreeMap::from([("pushsent".into(), 7)]));
    }

    #[test]
    fn a_repeated_record_counts_once() {
        let mut seen = FeedbackSeen::default();
        let record = br#"{"Reason":"Unregistered","metadata":{"pusherId":"7c1e4c1b-6f3a-5d0e-9b52-8a4f3c6d21e7"}}"#;
        note(record, &mut seen);
        note(record, &mut seen);
        note(b"not json", &mut seen);
        assert_eq!((seen.identities.len(), seen.unreadable), (1, 1));
    }
}
