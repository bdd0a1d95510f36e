//! Whom the contenders talk to: the simulator as a process of its own (so that its CPU is known apart), Kafka as a mock
//! cluster in this process, and the worker as its users start it. With two cores, the contender has one and everybody else
//! the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pusher::generate::{self, Generator, Mix, apns::Apns, produce::LineProducer};
use pusher::tally::Totals;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::usage::Usage;

/// Ids of the simulator's key.
pub(crate) const KEY_ID: &str = "SIMULATE01";
/// See [`KEY_ID`].
pub(crate) const TEAM_ID: &str = "SIMTEAM001";
/// Enough of them that the mock cluster's 5 MiB each hold a round.
const PARTITIONS: i32 = 64;
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_mins(3);
const PROGRAM: &str = env!("CARGO_BIN_EXE_pusher");

/// A command on one core, where `taskset` can do that.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let can = cores > core && Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !can {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// A child that ends with us.
#[derive(Debug)]
struct Leash(Child);

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The APNs simulator.
#[derive(Debug)]
pub(crate) struct Simulator {
    /// `127.0.0.1:port`.
    pub address: String,
    /// Its CA, PEM.
    pub ca: PathBuf,
    /// The key that it trusts, PEM.
    pub key: PathBuf,
    control: String,
    child: Leash,
}

impl Simulator {
    /// Starts it on free ports.
    pub(crate) fn start(scratch: &Path) -> Result<Simulator> {
        let (ca, key) = (scratch.join("ca.pem"), scratch.join("key.p8"));
        let mut command = pinned(0, Path::new(PROGRAM));
        command.args(["simulate", "apns", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.arg("--ca-out").arg(&ca).arg("--key-out").arg(&key).stdout(Stdio::piped());
        let mut child = Leash(command.spawn().context("starting the simulator")?);
        let mut lines = BufReader::new(child.0.stdout.take().context("the simulator's output is piped")?).lines();
        let mut address = |scheme: &str| -> Result<String> {
            let line = lines.next().context("the simulator ended")??;
            let (_, address) = line.split_once(scheme).with_context(|| format!("no address in {line:?}"))?;
            Ok(address.trim().to_owned())
        };
        let (address, control) = (address("https://")?, address("http://")?);
        Ok(Simulator { address, ca, key, control, child })
    }

    /// CPU that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(Usage::of(self.child.0.id())?.cpu)
    }

    /// Forgets what was accepted.
    pub(crate) fn reset(&self) -> Result<()> {
        self.ask("POST", "/reset").map(drop)
    }

    /// Waits until so many different pushes were accepted, and says how many were by then.
    pub(crate) fn wait_for_accepted(&self, wanted: u64) -> Result<u64> {
        let since = Instant::now();
        loop {
            let stats: serde_json::Value = serde_json::from_str(&self.ask("GET", "/stats")?)?;
            let accepted = stats["messages"]["accepted"].as_u64().context("no accepted in /stats")?;
            if accepted >= wanted {
                return Ok(accepted);
            }
            if since.elapsed() > LIMIT {
                bail!("{accepted} of {wanted} accepted after {} s: {stats}", LIMIT.as_secs());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn ask(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.control)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }
}

fn lines(count: u64) -> impl Iterator<Item = String> {
    let settings = generate::Settings { count, mix: Mix::CALM, ..generate::Settings::default() };
    Generator::new(Apns { app: "game".into() }, settings).map(|push| push.line)
}

/// The body that the worker sends for a generated message: its payload with the metadata merged in.
pub(crate) fn body() -> Result<String> {
    let line: serde_json::Value = serde_json::from_str(&lines(1).next().context("one line")?)?;
    let mut payload = line["Payload"].clone();
    payload["M"] = line["metadata"].clone();
    Ok(payload.to_string())
}

/// The mock cluster.
pub(crate) struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Kafka {
    /// One broker.
    pub(crate) fn start() -> Result<Kafka> {
        Ok(Kafka { cluster: MockCluster::new(1)? })
    }

    /// A topic of its own for each round, full of pushes.
    pub(crate) fn fill(&self, round: usize, pushes: u64) -> Result<String> {
        let topic = format!("push-game{round}_apns-massive");
        self.cluster.create_topic(&topic, PARTITIONS, 1)?;
        let mut producer = LineProducer::new(&self.cluster.bootstrap_servers(), &topic, None)?;
        lines(pushes).try_for_each(|line| producer.send(line.as_bytes()))?;
        producer.flush()?;
        Ok(topic)
    }
}

/// A worker under measurement.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Leash,
    log: PathBuf,
}

impl Worker {
    /// Starts `pusher apns` for the app of `topic`.
    pub(crate) fn start(simulator: &Simulator, kafka: &Kafka, scratch: &Path, topic: &str) -> Result<Worker> {
        let app = topic.strip_prefix("push-").and_then(|rest| rest.split_once('_')).context("a push topic")?.0;
        let brokers = kafka.cluster.bootstrap_servers();
        let log = scratch.join(format!("{app}.log"));
        let upper = app.to_uppercase();
        let mut command = pinned(1, Path::new(PROGRAM));
        command.args(["apns", "--json"]).current_dir(scratch).stderr(std::fs::File::create(&log)?);
        command
            .env("PUSHER_QUEUE_BROKERS", &brokers)
            .env("PUSHER_QUEUE_GROUP", app)
            .env("PUSHER_QUEUE_OFFSETRESETSTRATEGY", "earliest")
            .env("PUSHER_APNS_APPS", app)
            .env(format!("PUSHER_APNS_CERTS_{upper}_AUTHKEYPATH"), &simulator.key)
            .env(format!("PUSHER_APNS_CERTS_{upper}_KEYID"), KEY_ID)
            .env(format!("PUSHER_APNS_CERTS_{upper}_TEAMID"), TEAM_ID)
            .env(format!("PUSHER_APNS_CERTS_{upper}_TOPIC"), "com.example.game")
            .env("PUSHER_APNS_ENDPOINT", format!("https://{}", simulator.address))
            .env("PUSHER_APNS_CAFILE", &simulator.ca)
            .env("PUSHER_ADMIN_LISTEN", "off")
            .env("PUSHER_STATS_REPORTERS", "statsd")
            .env("PUSHER_STATS_STATSD_HOST", "127.0.0.1:9")
            .env("PUSHER_FEEDBACK_REPORTERS", "kafka")
            .env("PUSHER_FEEDBACK_KAFKA_BROKERS", &brokers);
        Ok(Worker { child: Leash(command.spawn().context("starting the worker")?), log })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// SIGTERM, and its ledger.
    pub(crate) fn stop(mut self) -> Result<Totals> {
        kill(Pid::from_raw(self.child.0.id() as i32), Signal::SIGTERM)?;
        let status = self.child.0.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        ensure!(status.success(), "the worker ended with {status}:\n{log}");
        let last = log.lines().rev().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            serde_json::from_str(line.get(pusher::pusher::LEDGER)?.as_str()?).ok()
        });
        last.with_context(|| format!("the worker printed no ledger:\n{log}"))
    }
}
