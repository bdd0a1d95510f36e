//! `pusher demo`: the whole main job on embedded parts, for both platforms side by side, and the proof that the books balance.
//!
//! Kafka is librdkafka's mock cluster, APNs and FCM are the simulators over TLS, StatsD and the feedback consumers are
//! counters; the workers are this program started as its users start it (`pusher apns`, `pusher gcm`, environment only). At
//! the end what the far ends saw is held against each worker's own ledger and against what the generator expects.

mod balance;
mod far_end;
mod kafka;
mod side;
mod sinks;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::MultiProgress;
use tokio::runtime::Runtime;

use crate::shutdown::Shutdown;
use balance::Books;
use far_end::FarEnd;
use kafka::DemoKafka;
use side::Side;
use sinks::StatsdSink;

const PARTITIONS: i32 = 8;
const FEEDBACK_PARTITIONS: i32 = 4;
/// Pushes produced to each side between two looks at what came of them.
const BURST: usize = 256;
/// How long there is nothing to look at.
const MOMENT: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pushes through each provider.
    pub count: u64,
    /// Pushes produced per second for each; `None`: as fast as they go.
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

fn run_in(options: &Options, runtime: &Runtime, scratch: &Path, shutdown: &Shutdown) -> Result<()> {
    eprintln!("starting Kafka (mock cluster), APNs and FCM (simulators), StatsD, feedback consumers and two workers …");
    let far_ends = [runtime.block_on(FarEnd::apns(scratch))?, runtime.block_on(FarEnd::fcm(scratch))?];
    let topics: Vec<_> = far_ends
        .iter()
        .flat_map(|far| [(far.topic(), PARTITIONS), (far.feedback_topic(), FEEDBACK_PARTITIONS)])
        .collect();
    let (kafka, statsd) = (DemoKafka::start(&topics)?, StatsdSink::start()?);
    let bars = MultiProgress::new();
    let start = |far: FarEnd| {
        let bar = bars.add(crate::pusher::progress(options.count, &format!("pushes through {}", far.title)));
        Side::start(far, &kafka, &statsd, scratch, options, bar)
    };
    let mut sides = far_ends.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    push(&mut sides, options)?;
    if options.keep {
        stay(&kafka, &sides, shutdown);
    }
    let books = sides.into_iter().map(|side| side.end(&kafka, &statsd, options.keep)).collect::<Result<Vec<_>>>()?;
    println!("{}", balance::table(&books));
    books.iter().try_for_each(Books::check)
}

/// Produces to all sides in turn, and waits until every push has its outcome.
fn push(sides: &mut [Side], options: &Options) -> Result<()> {
    let messages = |side: &Side| side.far.messages(options.count, options.seed);
    let mut messages: Vec<_> = sides.iter().map(messages).collect();
    sides.iter_mut().for_each(Side::begin);
    loop {
        let mut ended = true;
        for (side, messages) in sides.iter_mut().zip(&mut messages) {
            for push in messages.take(BURST) {
                side.produce(&push)?;
                ended = false;
            }
        }
        if ended {
            break;
        }
        until(sides, Side::has_room)?;
    }
    sides.iter().try_for_each(Side::flush)?;
    until(sides, Side::is_done)
}

/// Looks again and again until all sides have come so far.
fn until(sides: &mut [Side], far_enough: impl Fn(&Side) -> bool) -> Result<()> {
    loop {
        sides.iter_mut().try_for_each(Side::look)?;
        if sides.iter().all(&far_enough) {
            return Ok(());
        }
        std::thread::park_timeout(MOMENT);
    }
}

/// Says how to push by hand, and waits for a signal.
fn stay(kafka: &DemoKafka, sides: &[Side], shutdown: &Shutdown) {
    let brokers = kafka.brokers();
    println!("\nKafka at {brokers}");
    for Side { far, .. } in sides {
        let (title, topic, feedback) = (far.title, far.topic(), far.feedback_topic());
        let example = far.messages(1, 1).next().map(|push| push.line).unwrap_or_default();
        println!("\n{title}: simulator at https://{}", far.address);
        println!("push by hand:\n  echo '{example}' | kcat -P -b {brokers} -t {topic}");
        println!("  or: kafka-console-producer --bootstrap-server {brokers} --topic {topic}");
        println!("read feedback:\n  kcat -C -b {brokers} -t {feedback} -o beginning");
        println!("  or: kafka-console-consumer --bootstrap-server {brokers} --topic {feedback} --from-beginning");
    }
    println!("\nCtrl-C ends it and prints the balance");
    while !shutdown.has_begun() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn tempdir() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("pusher-demo-{}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}
