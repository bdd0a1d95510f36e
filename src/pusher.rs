//! What each command runs.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::ask::ask;
use crate::check::{self, NotWell};
use crate::cli::{self, Cli, Command, Demo, Flags, Generate, GenerateFor, Health, Peek, Redrive, Simulate};
use crate::config::{Config, Loaded};
use crate::demo;
use crate::feedback_listener::{self, Apps, Bounds, Listener};
use crate::generate::{self, Generator, Shape, apns::Apns, gcm::Gcm, produce::LineProducer};
use crate::handlers;
use crate::notify;
use crate::on_call;
use crate::peek;
use crate::redrive;
use crate::settings::WorkerSettings;
use crate::shutdown::Shutdown;
use crate::simulate;
use crate::status;
use crate::tally::Totals;
use crate::valve;
use crate::worker::{StartError, Worker};

mod hangup;

use hangup::{Hangup, Running};

/// The field under which a worker logs its ledger, as JSON, when it ends.
pub const LEDGER: &str = "ledger";

/// Runs the command until it is done or `shutdown` begins.
pub fn run(cli: &Cli, loaded: &Loaded, shutdown: &Shutdown) -> Result<()> {
    let config = &loaded.config;
    match &cli.command {
        Command::Apns => work("apns", &cli.flags, config, shutdown),
        Command::Gcm => work("gcm", &cli.flags, config, shutdown),
        Command::StartFeedbackListener => listen(&cli.flags, config, shutdown),
        Command::Valve { action: cli::Valve::Status { app } } => valve::status(config, app.as_deref(), cli.flags.json),
        Command::Valve { action: cli::Valve::Resume(arguments) } => valve::resume(config, arguments),
        Command::Pause(arguments) => on_call::pause(config, arguments, cli.flags.json),
        Command::Resume(arguments) => on_call::resume(config, arguments),
        Command::Job { action } => on_call::job(config, action, cli.flags.json),
        Command::Peek(arguments) => peek(config, arguments, &cli.flags, shutdown),
        Command::Redrive(arguments) => redrive(config, arguments, cli.flags.json, shutdown),
        Command::Simulate { provider: Simulate::Apns(arguments) } => simulate::apns(arguments, shutdown),
        Command::Simulate { provider: Simulate::Fcm(arguments) } => simulate::fcm(arguments, shutdown),
        Command::Generate { provider: Generate::Apns(arguments) } => {
            generate("apns", Apns { app: arguments.app.clone() }, arguments, shutdown)
        }
        Command::Generate { provider: Generate::Gcm(arguments) } => {
            generate("gcm", Gcm { app: arguments.app.clone() }, arguments, shutdown)
        }
        Command::Check(arguments) => {
            let request = check::Request { what: arguments.what.clone(), production: cli.flags.production };
            run_check(loaded, &request, cli.flags.json, shutdown)
        }
        Command::Demo(arguments) => run_demo(arguments, shutdown),
        Command::Health(arguments) => health(arguments),
        Command::Status(arguments) => {
            if status::run(config, arguments, cli.flags.json, shutdown)? {
                Ok(())
            } else {
                Err(Unwell.into())
            }
        }
        Command::Version => Ok(()),
    }
}

/// A process that was asked is not well. What it said is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not well")]
pub struct Unwell;

/// Prints what the process says of itself.
fn health(arguments: &Health) -> Result<()> {
    let answer = ask(&arguments.admin, if arguments.ready { "/readyz" } else { "/healthz" })?;
    writeln!(io::stdout(), "{}", answer.body)?;
    if answer.well { Ok(()) } else { Err(Unwell.into()) }
}

/// A worker, from start to ledger.
fn work(platform: &'static str, flags: &Flags, config: &Config, shutdown: &Shutdown) -> Result<()> {
    let (hangup, production) = (Hangup::caught()?, flags.production);
    let worker = match Worker::start(config, platform, production, shutdown.clone()) {
        Ok(worker) => worker,
        Err(StartError::Stopped) => {
            let ledger = serde_json::to_string(&Totals::default())?;
            tracing::info!(platform, drained = true, ledger, "stopped before anything was consumed");
            return Ok(());
        }
        // Shown line by line, as those of every other command.
        Err(StartError::Config(errors)) => return Err(errors.into()),
        Err(other) => return Err(other.into()),
    };
    let reload = worker.reload().clone();
    hangup.serve(Running { flags: flags.clone(), config: config.clone() }, move || reload.ask())?;
    tracing::info!(platform, production, version = env!("CARGO_PKG_VERSION"), "started");
    notify::tell(notify::State::Ready);
    let summary = worker.join();
    let ledger = serde_json::to_string(&summary.totals)?;
    tracing::info!(platform, drained = summary.drained, ledger, "stopped");
    Ok(())
}

/// Prints what was found; an error when something must be mended.
fn run_check(loaded: &Loaded, request: &check::Request, json: bool, shutdown: &Shutdown) -> Result<()> {
    let report = check::look(loaded, request, &shutdown.token())?;
    if json {
        writeln!(io::stdout(), "{:#}", report.json())?;
    } else {
        writeln!(io::stdout(), "{report}")?;
    }
    match report.failures() {
        0 => Ok(()),
        failures => Err(NotWell(failures).into()),
    }
}

/// The feedback listener, from start to ledger.
fn listen(flags: &Flags, config: &Config, shutdown: &Shutdown) -> Result<()> {
    let hangup = Hangup::caught()?;
    let settings = WorkerSettings::from_config(config);
    let bounds = settings.map(|all| Bounds { messages: all.max_in_flight, bytes: all.max_in_flight_bytes });
    let platforms = handlers::providers().iter().map(|known| Apps::new(known.platform, known.apps(config))).collect();
    let listener = Listener::start(config, bounds, platforms, shutdown.clone()).map_err(|error| match error {
        feedback_listener::StartError::Config(errors) => anyhow::Error::new(errors),
        other @ feedback_listener::StartError::Machine { .. } => anyhow::Error::new(other),
    })?;
    hangup.serve(Running { flags: flags.clone(), config: config.clone() }, || {})?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    notify::tell(notify::State::Ready);
    let summary = listener.join();
    let ledger = serde_json::to_string(&summary.totals)?;
    tracing::info!(drained = summary.drained, ledger, "stopped");
    Ok(())
}

fn generate(platform: &str, shape: impl Shape, arguments: &GenerateFor, shutdown: &Shutdown) -> Result<()> {
    let settings = generate::Settings {
        count: arguments.count,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
        size: arguments.size as usize,
        ..generate::Settings::default()
    };
    let lines = Generator::new(shape, settings).map(|push| push.line);
    match &arguments.brokers {
        None => print_lines(lines, shutdown),
        Some(brokers) => {
            let topic = arguments.topic.clone().unwrap_or_else(|| format!("push-{}_{platform}-single", arguments.app));
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

fn peek(config: &Config, arguments: &Peek, flags: &Flags, shutdown: &Shutdown) -> Result<()> {
    let shown = peek::run(config, arguments, flags.production, flags.json, shutdown)?;
    // Messages in words have an empty line between them.
    print_lines(shown.into_iter(), shutdown)
}

fn redrive(config: &Config, arguments: &Redrive, json: bool, shutdown: &Shutdown) -> Result<()> {
    let report = redrive::run(config, arguments, |count| progress(count, "dead letters"), shutdown)?;
    if json {
        println!("{}", report.line());
    } else {
        print!("{}", report.text());
    }
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
