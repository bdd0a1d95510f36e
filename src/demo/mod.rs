//! `pusher demo`: the whole main job on embedded parts, and the proof that the books balance.
//!
//! Kafka is librdkafka's mock cluster, APNs is the simulator over TLS, StatsD and the feedback consumer are counters; the
//! worker is this program started as its users start it (`pusher apns`, environment only). At the end what the far ends saw
//! is held against the worker's own ledger and against what the generator expects.

mod balance;
mod kafka;
mod sinks;
mod worker;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;

use crate::generate::produce::LineProducer;
use crate::generate::{self, Generated, Generator};
use crate::shutdown::Shutdown;
use crate::simulator::apns::{Settings as SimulatorSettings, Simulator};
use balance::{Books, Expected};
use kafka::DemoKafka;
use sinks::{FeedbackSink, StatsdSink};
use worker::ChildWorker;

const APP: &str = "game";
const TOPIC: &str = "push-game_apns-massive";
const FEEDBACK: &str = "push-game-apns-feedbacks";
const PARTITIONS: i32 = 8;
/// Pushes produced and not yet done, at most: the mock cluster keeps 5 MiB per partition.
const BACKLOG: u64 = 40_000;
/// No progress for this long is a failure.
const STALL: Duration = Duration::from_mins(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pushes.
    pub count: u64,
    /// Pushes produced per second; `None`: as fast as they go.
    pub rate: Option<u32>,
    /// Seed of the generator.
    pub seed: u64,
    /// Stay up after the run until SIGINT or SIGTERM.
    pub keep: bool,
}

/// Runs the demo; an error says which figures disagree.
pub fn run(options: &Options, shutdown: &Shutdown) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let scratch = tempdir()?;
    let outcome = run_in(options, &runtime, &scratch, shutdown);
    let _ = std::fs::remove_dir_all(&scratch);
    outcome
}

fn run_in(options: &Options, runtime: &tokio::runtime::Runtime, scratch: &Path, shutdown: &Shutdown) -> Result<()> {
    eprintln!("starting Kafka (mock cluster), APNs (simulator), StatsD, a feedback consumer and the worker …");
    let kafka = DemoKafka::start(&[(TOPIC, PARTITIONS), (FEEDBACK, 4)])?;
    let simulator = runtime.block_on(Simulator::start(SimulatorSettings::default()))?;
    let statsd = StatsdSink::start()?;
    let feedback = FeedbackSink::start(kafka.brokers(), FEEDBACK)?;
    let environment = environment(&kafka, &simulator, &statsd, scratch)?;
    let mut worker = ChildWorker::start("apns", &environment, scratch)?;
    kafka.wait_for_group("demo", TOPIC, || worker.check())?;

    let (started, cpu_before) = (Instant::now(), worker.cpu());
    let mut expected = Expected::default();
    let mut producer = LineProducer::new(kafka.brokers(), TOPIC, options.rate)?;
    let bar = crate::pusher::progress(options.count, "pushes");
    let mut watch = Watch { simulator: &simulator, feedback: &feedback, bar: &bar, seen: 0, since: Instant::now() };
    for push in generator(options.count, options.seed) {
        producer.send(push.line.as_bytes())?;
        expected.add(&push);
        if producer.sent() % 256 == 0 {
            watch.wait(|seen| producer.sent() - seen < BACKLOG, &mut worker)?;
        }
    }
    producer.flush()?;
    watch.wait(|seen| seen >= options.count, &mut worker)?;
    bar.finish_and_clear();
    let (took, cpu) = (started.elapsed(), worker.cpu().saturating_sub(cpu_before));
    if options.keep {
        stay(&kafka, &simulator, shutdown);
    }
    let ledger = worker.stop().context("stopping the worker")?;
    let books = Books {
        expected,
        ledger,
        accepted: simulator.stats().messages.accepted,
        repeated: simulator.stats().messages.repeated,
        feedback: feedback.seen(),
        committed: kafka.committed("demo", TOPIC)?,
        end: kafka.end(TOPIC)?,
        statsd: [statsd.counter("demo.sent"), statsd.counter("demo.ack"), statsd.counter("demo.failed")],
        extra: options.keep,
    };
    println!("{}", books.table(took, cpu));
    books.check()
}

/// The worker's whole configuration.
fn environment(
    kafka: &DemoKafka,
    simulator: &Simulator,
    statsd: &StatsdSink,
    scratch: &Path,
) -> Result<Vec<(String, String)>> {
    let (key, ca) = (scratch.join("key.p8"), scratch.join("ca.pem"));
    std::fs::write(&key, &simulator.key().pem)?;
    std::fs::write(&ca, simulator.ca_pem())?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let pairs = [
        ("PUSHER_QUEUE_BROKERS", kafka.brokers().to_owned()),
        ("PUSHER_QUEUE_GROUP", "demo".into()),
        ("PUSHER_QUEUE_OFFSETRESETSTRATEGY", "earliest".into()),
        ("PUSHER_APNS_APPS", APP.into()),
        ("PUSHER_APNS_CERTS_GAME_AUTHKEYPATH", path(&key)),
        ("PUSHER_APNS_CERTS_GAME_KEYID", simulator.key().key_id.clone()),
        ("PUSHER_APNS_CERTS_GAME_TEAMID", simulator.key().team_id.clone()),
        ("PUSHER_APNS_CERTS_GAME_TOPIC", "com.example.game".into()),
        ("PUSHER_APNS_ENDPOINT", format!("https://{}", simulator.address())),
        ("PUSHER_APNS_CAFILE", path(&ca)),
        ("PUSHER_STATS_REPORTERS", "statsd".into()),
        ("PUSHER_STATS_STATSD_HOST", statsd.address()),
        ("PUSHER_STATS_STATSD_PREFIX", "demo.".into()),
        ("PUSHER_FEEDBACK_REPORTERS", "kafka".into()),
        ("PUSHER_FEEDBACK_KAFKA_BROKERS", kafka.brokers().to_owned()),
        ("PUSHER_LOG_LEVEL", "info".into()),
        ("PUSHER_ADMIN_LISTEN", "127.0.0.1:0".into()),
    ];
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

fn generator(count: u64, seed: u64) -> impl Iterator<Item = Generated> {
    let settings = generate::Settings { count, seed, ..generate::Settings::default() };
    Generator::new(generate::apns::Apns { app: APP.into() }, settings)
}

/// Watches how many messages have an outcome that somebody else has seen.
struct Watch<'a> {
    simulator: &'a Simulator,
    feedback: &'a FeedbackSink,
    bar: &'a ProgressBar,
    seen: u64,
    since: Instant,
}

impl Watch<'_> {
    /// Waits until `enough` of the pushes seen; fails when the worker has ended or nothing moves any more.
    fn wait(&mut self, enough: impl Fn(u64) -> bool, worker: &mut ChildWorker) -> Result<()> {
        while !enough(self.look()) {
            worker.check()?;
            if self.since.elapsed() > STALL {
                bail!("no progress for {} s: {} pushes have an outcome", STALL.as_secs(), self.seen);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn look(&mut self) -> u64 {
        let seen = self.simulator.handle().ledger().sums().accepted + self.feedback.distinct();
        if seen > self.seen {
            (self.seen, self.since) = (seen, Instant::now());
            self.bar.set_position(seen);
        }
        seen
    }
}

/// Says how to push by hand, and waits for a signal.
fn stay(kafka: &DemoKafka, simulator: &Simulator, shutdown: &Shutdown) {
    let (brokers, example) = (kafka.brokers(), generator(1, 1).map(|push| push.line).next());
    println!("\nKafka at {brokers}, topic {TOPIC}; APNs simulator at https://{}\n", simulator.address());
    println!("push by hand:\n  echo '{}' | kcat -P -b {brokers} -t {TOPIC}", example.unwrap_or_default());
    println!("  or: kafka-console-producer --bootstrap-server {brokers} --topic {TOPIC}\n");
    println!("read feedback:\n  kcat -C -b {brokers} -t {FEEDBACK} -o beginning");
    println!("  or: kafka-console-consumer --bootstrap-server {brokers} --topic {FEEDBACK} --from-beginning\n");
    println!("Ctrl-C ends it and prints the balance");
    while !shutdown.has_begun() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn tempdir() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("pusher-demo-{}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}
