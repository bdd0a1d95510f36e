//! What each command runs.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Cli, Command, Demo, Generate, GenerateApns, Simulate, SimulateApns};
use crate::config::Config;
use crate::demo;
use crate::generate::{self, Generator, apns::Apns, produce::LineProducer};
use crate::shutdown::Shutdown;
use crate::simulator::apns::{self as simulator, Simulator};
use crate::worker::{StartError, Worker};

/// The field under which a worker logs its ledger, as JSON, when it ends.
pub const LEDGER: &str = "ledger";

/// Runs the command until it is done or `shutdown` begins.
pub fn run(cli: &Cli, config: &Config, shutdown: &Shutdown) -> Result<()> {
    match &cli.command {
        Command::Apns => work("apns", cli.flags.production, config, shutdown),
        Command::Gcm => work("gcm", cli.flags.production, config, shutdown),
        Command::Simulate { provider: Simulate::Apns(arguments) } => simulate_apns(arguments, shutdown),
        Command::Generate { provider: Generate::Apns(arguments) } => generate_apns(arguments, shutdown),
        Command::Demo(arguments) => run_demo(arguments, shutdown),
        Command::Version => Ok(()),
    }
}

/// A worker, from start to ledger.
fn work(platform: &'static str, production: bool, config: &Config, shutdown: &Shutdown) -> Result<()> {
    let worker = Worker::start(config, platform, production, shutdown.clone()).map_err(|error| match error {
        // Shown line by line, as those of every other command.
        StartError::Config(errors) => anyhow::Error::new(errors),
        other => anyhow::Error::new(other),
    })?;
    tracing::info!(platform, production, version = env!("CARGO_PKG_VERSION"), "started");
    let summary = worker.join();
    let ledger = serde_json::to_string(&summary.totals)?;
    tracing::info!(platform, drained = summary.drained, ledger, "stopped");
    Ok(())
}

fn simulate_apns(arguments: &SimulateApns, shutdown: &Shutdown) -> Result<()> {
    let settings = simulator_settings(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let simulator = Simulator::start(settings).await.context("starting the simulator")?;
        if let Some(file) = &arguments.ca_out {
            write_secret(&ca_key_file(file), simulator.ca_key_pem())?;
            write(file, simulator.ca_pem())?;
        }
        if let Some(file) = &arguments.key_out {
            write_secret(file, &simulator.key().pem)?;
        }
        println!("APNs simulator at https://{}", simulator.address());
        if let Some(control) = simulator.control_address() {
            println!("control endpoint at http://{control}");
        }
        shutdown.token().cancelled().await;
        simulator.shutdown().await;
        Ok(())
    })
}

/// Keys of an earlier start are used again: who trusts them need not be told of a restart.
fn simulator_settings(arguments: &SimulateApns) -> Result<simulator::Settings> {
    let mut settings = simulator::Settings {
        listen: arguments.listen,
        control: arguments.control,
        topics: arguments.topic.clone(),
        ca_key: arguments.ca_out.as_deref().map(ca_key_file).map(|file| kept(&file)).transpose()?.flatten(),
        ..simulator::Settings::default()
    };
    let pem = match arguments.key_out.as_deref().map(kept).transpose()?.flatten() {
        Some(pem) => pem,
        None => simulator::Key::generate()?.pem,
    };
    let (key_id, team_id) = (arguments.key_id.clone(), arguments.team_id.clone());
    settings.keys = vec![simulator::Key { key_id, team_id, pem }];
    settings.names.extend(arguments.name.iter().cloned());
    settings.faults.connection.rtt_ms = arguments.rtt.as_millis() as u64;
    settings.faults.processing_ms = arguments.processing.as_millis() as u64;
    Ok(settings)
}

/// `ca.pem` → `ca.key`.
fn ca_key_file(ca: &Path) -> PathBuf {
    ca.with_extension("key")
}

/// What an earlier start wrote.
fn kept(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

fn write(file: &Path, pem: &str) -> Result<()> {
    std::fs::write(file, pem).with_context(|| format!("writing {}", file.display()))
}

/// Writes a private key that only its owner may read, unless the file is there: it holds this key then.
fn write_secret(file: &Path, pem: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut out) => out.write_all(pem.as_bytes()).with_context(|| format!("writing {}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("writing {}", file.display())),
    }
}

fn generate_apns(arguments: &GenerateApns, shutdown: &Shutdown) -> Result<()> {
    let settings = generate::Settings {
        count: arguments.count,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
        size: arguments.size as usize,
        ..generate::Settings::default()
    };
    let lines = Generator::new(Apns { app: arguments.app.clone() }, settings).map(|push| push.line);
    match &arguments.brokers {
        None => print_lines(lines, shutdown),
        Some(brokers) => {
            let topic = arguments.topic.clone().unwrap_or_else(|| format!("push-{}_apns-single", arguments.app));
            let mut producer = LineProducer::new(brokers, &topic, arguments.rate)?;
            produce_lines(lines, &mut producer, arguments.count, shutdown)
        }
    }
}

/// A reader that has seen enough (`| head`) is not an error.
fn print_lines(lines: impl Iterator<Item = String>, shutdown: &Shutdown) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let print = || -> io::Result<()> {
        for line in lines.take_while(|_| !shutdown.has_begun()) {
            writeln!(out, "{line}")?;
        }
        out.flush()
    };
    match print() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

fn produce_lines(
    lines: impl Iterator<Item = String>,
    producer: &mut LineProducer,
    count: u64,
    shutdown: &Shutdown,
) -> Result<()> {
    let bar = progress(count, "messages");
    for line in lines.take_while(|_| !shutdown.has_begun()) {
        producer.send(line.as_bytes())?;
        bar.set_position(producer.sent());
    }
    producer.flush()?;
    bar.finish();
    Ok(())
}

/// A progress bar over `count` things.
pub fn progress(count: u64, things: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {things}  {{per_sec}}  {{elapsed}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(count).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn run_demo(arguments: &Demo, shutdown: &Shutdown) -> Result<()> {
    let options =
        demo::Options { count: arguments.count, rate: arguments.rate, seed: arguments.seed, keep: arguments.keep };
    demo::run(&options, shutdown)
}
