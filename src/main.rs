//! Parses the command line, loads the configuration, starts telemetry, runs, and says how it went by the exit code.

mod allocator;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use pusher::admin::ask::AskError;
use pusher::check::NotWell;
use pusher::cli::{Cli, Command, Flags};
use pusher::config::{self, Config, ConfigError, ConfigErrors, LoadError, Loaded, Notice};
use pusher::pusher::Unwell;
use pusher::shutdown::{Reason, Shutdown};
use pusher::telemetry::{self, Telemetry};
use pusher::worker::StartError;
use pusher::{pusher as commands, settings};
use tracing::level_filters::LevelFilter;

/// A part failed at run time.
const FAILED: u8 = 1;
/// The configuration is wrong; nothing was consumed.
const MISCONFIGURED: u8 = 2;
/// How long the exit waits for alarms on their way to Sentry.
const FLUSH: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Version = cli.command {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let (loaded, telemetry) = match prepare(&cli) {
        Ok((loaded, telemetry)) => {
            if !matches!(cli.command, Command::Check(_) | Command::Status(_)) {
                loaded.notices.iter().for_each(log_notice);
            }
            (Ok(loaded), telemetry)
        }
        Err(error) => (Err(error), start_telemetry(telemetry::Settings::default(), &cli.flags)),
    };
    let shutdown = Shutdown::default();
    let result = loaded.and_then(|loaded| {
        shutdown.on_signals()?;
        commands::run(&cli, &loaded, &shutdown)
    });
    let code = exit_code(&result, shutdown.reason());
    telemetry.flush(FLUSH);
    // Not by returning: destructors of what is left at the deadline could wait for it.
    std::process::exit(code.into());
}

/// The commands that make their own configuration read neither file nor environment.
fn prepare(cli: &Cli) -> anyhow::Result<(Loaded, Telemetry)> {
    let loaded = match cli.command {
        Command::Apns
        | Command::Gcm
        | Command::StartFeedbackListener
        | Command::Valve { .. }
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Job { .. }
        | Command::Check(_)
        | Command::Peek(_)
        | Command::Redrive(_)
        | Command::Status(_) => config::load(cli.flags.config_file(), std::env::vars_os(), settings::catalogue())?,
        _ => Loaded { config: Config::default(), notices: Vec::new() },
    };
    if let Command::Check(_) = cli.command {
        // Its report says all, what is wrong with these keys included, and is no alarm.
        let mut quiet = telemetry::Settings::default();
        quiet.level = LevelFilter::ERROR;
        return Ok((loaded, start_telemetry(quiet, &cli.flags)));
    }
    let mut problems = config::Problems::default();
    let telemetry = problems.take(telemetry::Settings::from_config(&loaded.config));
    loaded.config.check(problems)?;
    Ok((loaded, start_telemetry(telemetry.unwrap_or_default(), &cli.flags)))
}

fn start_telemetry(settings: telemetry::Settings, flags: &Flags) -> Telemetry {
    Telemetry::start(&settings.with_flags(flags.debug, flags.json))
}

fn log_notice(notice: &Notice) {
    if notice.is_warning() {
        tracing::warn!("{notice}");
    } else {
        tracing::info!("{notice}");
    }
}

/// Logs why it ended, and the code that says so.
fn exit_code(result: &anyhow::Result<()>, reason: Option<&Reason>) -> u8 {
    let Err(error) = result else {
        return match reason {
            Some(Reason::Failed { .. }) => FAILED,
            Some(Reason::Asked(_)) | None => 0,
        };
    };
    if error.is::<NotWell>() {
        // The report has said it all.
        return MISCONFIGURED;
    }
    if error.is::<Unwell>() {
        return FAILED;
    }
    if let Some(error) = error.downcast_ref::<AskError>() {
        tracing::error!("{error}");
        return FAILED;
    }
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        errors.lines().for_each(|line| tracing::error!(alarm = true, reason = "configuration", "{line}"));
        return MISCONFIGURED;
    }
    let at_start = error.downcast_ref::<StartError>().is_some_and(StartError::is_configuration);
    if at_start || error.is::<ConfigError>() || error.is::<LoadError>() {
        tracing::error!(alarm = true, reason = "configuration", "{error:#}");
        return MISCONFIGURED;
    }
    tracing::error!(alarm = true, reason = "fatal", error = format!("{error:#}"), "cannot go on");
    FAILED
}
