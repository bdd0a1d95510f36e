//! `StatsD` with tags in `DogStatsD`'s form, by `cadence` (the only user of it, with `super::datagrams`).
//!
//! Callers add up in memory; a thread of this reporter's own sends what came together once per
//! `stats.statsd.flushInterval`. At 10,000 pushes/s that is a handful of datagrams per second, where one datagram per
//! event would cost more than the push. Counters are exact sums, gauges the last value, timers a bounded uniform sample
//! with the matching sample rate, one value per line: packed values are understood by Datadog's agent alone.

use std::collections::HashMap;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cadence::{Counted, Gauged, StatsdClient, Timed};
use parking_lot::{Mutex, RwLock};

use super::Metric;
use super::datagrams::Datagrams;
use super::series::{Reading, Series, Store};
use crate::config::{Config, ConfigError, Ignored, Key};
use crate::message::Origin;
use crate::proof::{Finding, Proof};
use crate::reporters::StatsReporter;
use crate::reporters::quick_hash::QuickHash;

const HOST: Key = Key::new("stats.statsd.host", "localhost:8125", "host:port of the StatsD daemon (UDP)");
const PREFIX: Key =
    Key::new("stats.statsd.prefix", "push", "put before each name as it is, without a dot: push gives pushsent");
const FLUSH: Key = Key::new("stats.statsd.flushInterval", "1s", "how often added-up values are sent, 100ms to 60s");

/// The keys of this reporter.
pub const KEYS: &[Key] = &[HOST, PREFIX, FLUSH];

const ADDED_UP: &str = "values are added up and sent once per stats.statsd.flushInterval";

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "stats.flush.s", because: ADDED_UP },
    Ignored { name: "stats.statsd.buflen", because: ADDED_UP },
    Ignored { name: "stats.statsd.flushIntervalMs", because: ADDED_UP },
    Ignored { name: "stats.statsd.flushIntervalInMs", because: ADDED_UP },
];

/// Partitions and topics remembered by address; beyond it the memory is emptied and fills again.
const MOST_ORIGINS: usize = 4_096;

/// Where and how often to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`.
    pub host: String,
    /// Put before each name, verbatim.
    pub prefix: String,
    /// Time between two flushes.
    pub flush: Duration,
}

impl Settings {
    /// Reads and checks the section `stats.statsd`.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let host: String = config.require(&HOST)?;
        let named = |name: &str| !name.is_empty() && !name.contains('/');
        let port = host.rsplit_once(':').filter(|(name, _)| named(name)).and_then(|(_, port)| port.parse().ok());
        if port.is_none_or(|port: u16| port == 0) {
            return Err(config.error(&HOST, "must be host:port, for example localhost:8125"));
        }
        let prefix: String = config.get(&PREFIX)?.unwrap_or_default();
        if prefix.chars().any(|c| c.is_control() || c.is_whitespace() || "|:#,@".contains(c)) {
            return Err(config.error(&PREFIX, "must not contain white space or any of | : # , @"));
        }
        let flush: Duration = config.require(&FLUSH)?;
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&flush) {
            return Err(config.error(&FLUSH, "must be from 100ms to 60s"));
        }
        Ok(Settings { host, prefix, flush })
    }
}

/// The series that a message of one topic touches, found by the address of the topic's name. The name is held here,
/// so its address cannot come to mean another topic.
#[derive(Debug)]
struct OfTopic {
    app: Arc<str>,
    topic: Arc<str>,
    sent: Option<Arc<Series>>,
    ack: Option<Arc<Series>>,
    failed: RwLock<Vec<(&'static str, Arc<Series>)>>,
    latency: RwLock<Vec<(&'static str, Arc<Series>)>>,
}

impl OfTopic {
    fn new(store: &Store, origin: &Origin) -> Self {
        let (platform, game) = (("platform", origin.platform.0), ("game", &*origin.app));
        OfTopic {
            app: origin.app.clone(),
            topic: origin.topic.clone(),
            sent: store.handle(Metric::Sent, &[platform, game, ("topic", &origin.topic)]),
            ack: store.handle(Metric::Ack, &[platform, game]),
            failed: RwLock::default(),
            latency: RwLock::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    store: Store,
    topics: RwLock<HashMap<usize, OfTopic, QuickHash>>,
}

impl Shared {
    fn with_topic(&self, origin: &Origin, act: impl FnOnce(&OfTopic)) {
        let address = origin.topic.as_ptr() as usize;
        {
            let topics = self.topics.read();
            if let Some(found) = topics.get(&address).filter(|found| Arc::ptr_eq(&found.topic, &origin.topic)) {
                return act(found);
            }
        }
        let new = OfTopic::new(&self.store, origin);
        act(&new);
        let mut topics = self.topics.write();
        if topics.len() >= MOST_ORIGINS {
            topics.clear();
        }
        topics.insert(address, new);
    }

    fn flush(&self, client: &StatsdClient, prefix: &str) {
        let (all, dropped) = self.store.all();
        for series in all {
            if let Some(reading) = series.take() {
                send(client, prefix, &series, reading);
            }
        }
        if dropped > 0 {
            client.count_with_tags(&format!("{prefix}{}", Metric::SeriesDropped.name()), dropped).send();
        }
        // The sink keeps its own count of what fails and logs a change of state; there is nobody else to tell.
        let _ = client.flush();
    }
}

fn send(client: &StatsdClient, prefix: &str, series: &Series, reading: Reading) {
    let name = format!("{prefix}{}", series.metric().name());
    match reading {
        Reading::Count(n) => {
            series.tags().fold(client.count_with_tags(&name, n), |line, (key, value)| line.with_tag(key, value)).send();
        }
        Reading::Gauge(value) => {
            series
                .tags()
                .fold(client.gauge_with_tags(&name, value), |line, (key, value)| line.with_tag(key, value))
                .send();
        }
        Reading::Millis(values, rate) => {
            for value in values {
                let mut line = client.time_with_tags(&name, value);
                line = series.tags().fold(line, |line, (key, value)| line.with_tag(key, value));
                if rate < 1.0 {
                    line = line.with_sampling_rate(rate);
                }
                line.send();
            }
        }
    }
}

/// The reporter. Dropping it sends what is left.
#[derive(Debug)]
pub struct Statsd {
    host: String,
    shared: Arc<Shared>,
    /// Dropping the sender ends the thread after a last flush; the receiver ends when that is done.
    thread: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

impl Statsd {
    /// Starts the reporter and its thread. The daemon need not be there, nor its name be known.
    pub fn start(settings: Settings) -> Self {
        let shared = Arc::new(Shared::default());
        let (alive, stop) = sync_channel::<()>(0);
        let (done, ended) = sync_channel::<()>(0);
        let (worker, host) = (shared.clone(), settings.host.clone());
        let spawned = std::thread::Builder::new().name("pusher-statsd".into()).spawn(move || {
            let client = StatsdClient::from_sink("", Datagrams::new(&settings.host));
            while stop.recv_timeout(settings.flush) == Err(RecvTimeoutError::Timeout) {
                worker.flush(&client, &settings.prefix);
            }
            worker.flush(&client, &settings.prefix);
            drop(done);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "the statsd thread cannot be started: no statistics will be sent");
        }
        Statsd { host, shared, thread: Mutex::new(Some((alive, ended))) }
    }

    fn end(&self, deadline: Duration) {
        let Some((alive, ended)) = self.thread.lock().take() else { return };
        drop(alive);
        if ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last statistics could not be sent in time");
        }
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.end(Duration::from_millis(200));
    }
}

/// The series of `word` in a short list, made by `make` if it is new. Words are constants, so their addresses tell.
fn of_word(
    list: &RwLock<Vec<(&'static str, Arc<Series>)>>,
    word: &'static str,
    make: impl FnOnce() -> Option<Arc<Series>>,
    act: impl FnOnce(&Series),
) {
    if let Some((_, series)) = list.read().iter().find(|(have, _)| std::ptr::eq(*have, word)) {
        return act(series);
    }
    if let Some(series) = make() {
        act(&series);
        let mut list = list.write();
        if list.len() < 64 {
            list.push((word, series));
        }
    }
}

/// Milliseconds, rounded.
fn millis(took: Duration) -> u64 {
    (took.as_micros() as u64).saturating_add(500) / 1000
}

impl StatsReporter for Statsd {
    fn sent(&self, origin: &Origin) {
        self.shared.with_topic(origin, |topic| topic.sent.iter().for_each(|series| series.add(1)));
    }

    fn success(&self, origin: &Origin) {
        self.shared.with_topic(origin, |topic| topic.ack.iter().for_each(|series| series.add(1)));
    }

    fn failure(&self, origin: &Origin, reason: &'static str) {
        self.shared.with_topic(origin, |topic| {
            let tags = [("platform", origin.platform.0), ("game", &*topic.app), ("reason", reason)];
            of_word(&topic.failed, reason, || self.shared.store.handle(Metric::Failed, &tags), |series| series.add(1));
        });
    }

    fn latency(&self, origin: &Origin, client: &'static str, took: Duration) {
        let millis = millis(took);
        self.shared.with_topic(origin, |topic| {
            let tags = [("platform", origin.platform.0), ("game", &*topic.app), ("client", client)];
            of_word(&topic.latency, client, || self.shared.store.handle(Metric::Latency, &tags), |s| s.time(millis));
        });
    }

    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64) {
        self.shared.store.with(metric, tags, |series| series.add(n));
    }

    fn time(&self, metric: Metric, tags: &[(&'static str, &str)], took: Duration) {
        self.shared.store.with(metric, tags, |series| series.time(millis(took)));
    }

    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64) {
        self.shared.store.with(metric, tags, |series| series.set(value));
    }

    fn proofs(&self) -> Vec<Proof> {
        let host = self.host.clone();
        vec![Proof::blocking("statsd", move || {
            let found = host.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            vec![match found.as_deref() {
                Ok([first, ..]) => Finding::proved(
                    "statsd",
                    format!("{host} is {first} (UDP: that somebody listens cannot be proved)"),
                ),
                Ok([]) => Finding::away("statsd", format!("{host} has no address")).fix("check stats.statsd.host"),
                Err(error) => Finding::away("statsd", format!("{host} cannot be resolved: {error}"))
                    .fix("check stats.statsd.host and the resolver"),
            }]
        })]
    }

    fn close(&self, deadline: Duration) {
        self.end(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_has_safe_defaults() {
        let settings = Settings::from_config(&Config::default()).unwrap();
        assert_eq!(settings.host, "localhost:8125");
        assert_eq!(settings.prefix, "push");
        assert_eq!(settings.flush, Duration::from_secs(1));
    }

    #[test]
    fn wrong_values_name_key_and_rule() {
        let wrong = |key, value| Settings::from_config(&Config::from_pairs([(key, value)])).unwrap_err().to_string();
        insta::assert_snapshot!(wrong("stats.statsd.host", "localhost"), @r#"stats.statsd.host: "localhost" must be host:port, for example localhost:8125"#);
        assert!(wrong("stats.statsd.host", "udp://localhost:8125").contains("must be host:port"));
        insta::assert_snapshot!(wrong("stats.statsd.prefix", "a|b"), @r#"stats.statsd.prefix: "a|b" must not contain white space or any of | : # , @"#);
        insta::assert_snapshot!(wrong("stats.statsd.flushInterval", "1h"), @r#"stats.statsd.flushInterval: "1h" must be from 100ms to 60s"#);
    }
}
