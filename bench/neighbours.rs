//! Whom the contenders talk to: the simulators as processes of their own (so that their CPU is known apart), Kafka as a mock
//! cluster in this process, and the workers as their users start them. With two cores, the contender has one and everybody
//! else the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pusher::generate::produce::LineProducer;
use pusher::tally::Totals;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::bare::Plan;
use crate::platform::{Files, Platform};
use crate::usage::Usage;

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

/// A command whose instructions and system calls are counted by part into `out`, when it ends.
pub(crate) fn under_callgrind(program: &Path, out: &Path) -> Command {
    let mut command = pinned(1, Path::new("valgrind"));
    command.args(["--tool=callgrind", "--quiet", "--fair-sched=yes", "--collect-systime=nsec"]);
    command.arg(format!("--callgrind-out-file={}", out.display())).arg(program);
    // Fifty times slower, everything takes fifty times as long.
    command.env("PUSHER_APNS_TIMEOUT", "10m").env("PUSHER_GCM_TIMEOUT", "10m");
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

/// A platform's simulator.
#[derive(Debug)]
pub(crate) struct Simulator {
    /// Whose stand-in it is.
    pub platform: Platform,
    /// `127.0.0.1:port`.
    address: String,
    /// The same of its token endpoint, if it has one.
    tokens: Option<String>,
    files: Files,
    control: String,
    child: Leash,
}

impl Simulator {
    /// Starts it on free ports.
    pub(crate) fn start(platform: Platform, scratch: &Path) -> Result<Simulator> {
        let files = platform.files(scratch);
        let mut command = pinned(0, Path::new(PROGRAM));
        command.args(platform.simulator(&files)).stdout(Stdio::piped());
        let mut child = Leash(command.spawn().context("starting the simulator")?);
        let mut lines = BufReader::new(child.0.stdout.take().context("the simulator's output is piped")?).lines();
        let mut address = |scheme: &str| -> Result<String> {
            let line = lines.next().context("the simulator ended")??;
            let (_, address) = line.split_once(scheme).with_context(|| format!("no address in {line:?}"))?;
            Ok(address.trim().trim_end_matches("/token").to_owned())
        };
        let own = address("https://")?;
        let tokens = (platform == Platform::Gcm).then(|| address("https://")).transpose()?;
        let control = address("http://")?;
        Ok(Simulator { platform, address: own, tokens, files, control, child })
    }

    /// What the bare client is to do.
    pub(crate) fn plan(&self, pushes: u64) -> Result<Plan> {
        self.platform.plan(&self.address, self.tokens.as_deref(), &self.files, pushes)
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

    /// Answers so late.
    pub(crate) fn set_latency(&self, ms: u64) -> Result<()> {
        let mut faults: serde_json::Value = serde_json::from_str(&self.ask("GET", "/faults")?)?;
        faults["processing_ms"] = ms.into();
        self.ask_with("PUT", "/faults", &faults.to_string()).map(drop)
    }

    fn ask(&self, method: &str, path: &str) -> Result<String> {
        self.ask_with(method, path, "")
    }

    fn ask_with(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.control)?;
        let head = "host: simulator\r\nconnection: close\r\ncontent-type: application/json\r\n";
        write!(stream, "{method} {path} HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }
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
    pub(crate) fn fill(&self, platform: Platform, round: usize, pushes: u64) -> Result<String> {
        let topic = format!("push-game{round}_{}-massive", platform.name());
        self.cluster.create_topic(&topic, PARTITIONS, 1)?;
        let mut producer = LineProducer::new(&self.cluster.bootstrap_servers(), &topic, None)?;
        platform.messages(pushes).try_for_each(|push| producer.send(push.line.as_bytes()))?;
        producer.flush()?;
        let kept = self.records(&topic)?;
        ensure!(
            kept == pushes as i64,
            "the mock cluster has kept {kept} of {pushes} messages: a partition was too small"
        );
        Ok(topic)
    }

    /// Records that the topic's partitions hold.
    fn records(&self, topic: &str) -> Result<i64> {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.cluster.bootstrap_servers()).create()?;
        let held = |partition| {
            let (first, end) = client.fetch_watermarks(topic, partition, Duration::from_secs(10))?;
            Ok(end - first)
        };
        (0..PARTITIONS).map(held).sum()
    }
}

/// A Redis server.
#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    _child: Leash,
}

impl Redis {
    /// Starts one that keeps nothing; `None` where there is none.
    pub(crate) fn start() -> Option<Redis> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).ok()?.port();
        let mut command = pinned(0, Path::new("redis-server"));
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let child = Leash(command.stdout(Stdio::null()).spawn().ok()?);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if since.elapsed() > Duration::from_secs(10) {
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Some(Redis { port, _child: child })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// A worker under measurement.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Leash,
    log: PathBuf,
}

impl Worker {
    /// Starts a worker of the simulator's platform for the app of `topic`, the one of this number, with `more` settings.
    /// `run` makes the command of its program.
    pub(crate) fn start(
        simulator: &Simulator,
        kafka: &Kafka,
        scratch: &Path,
        topic: &str,
        place: usize,
        more: &[(String, String)],
        run: impl FnOnce(&Path) -> Command,
    ) -> Result<Worker> {
        let app = topic.strip_prefix("push-").and_then(|rest| rest.split_once('_')).context("a push topic")?.0;
        let brokers = kafka.cluster.bootstrap_servers();
        let platform = simulator.platform;
        let log = scratch.join(format!("{app}-{}-{place}.log", platform.name()));
        let mut command = run(Path::new(PROGRAM));
        command.args([platform.name(), "--json"]).current_dir(scratch).stderr(std::fs::File::create(&log)?);
        let settings = platform.settings(app, &simulator.address, &simulator.files);
        let settings = settings.iter().chain(more);
        command.envs(settings.map(|(name, value)| (format!("PUSHER_{name}"), value)));
        command
            .env("PUSHER_QUEUE_BROKERS", &brokers)
            .env("PUSHER_CONTROL_TOPIC", "off")
            .env("PUSHER_QUEUE_GROUP", format!("{app}-{}", platform.name()))
            .env("PUSHER_QUEUE_OFFSETRESETSTRATEGY", "earliest")
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
