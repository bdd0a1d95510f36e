//! The command line: what can be asked, and the help that teaches it. A command is listed when it works.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::ConfigFile;

mod generate;
mod levers;
mod peek;
mod redrive;
mod simulate;
mod status;
mod valve;

pub use generate::{Generate, GenerateFor};
pub use levers::{Job, LaneName, Pause, ResumeLanes};
pub use peek::Peek;
pub use redrive::Redrive;
pub use simulate::{SimulateApns, SimulateFcm};
pub use status::Status;
pub use valve::{Resume, Valve};

/// Where the configuration is without `--config`, as with the original.
pub const DEFAULT_CONFIG: &str = "./config/default.yaml";

/// Sends push notifications from Kafka to Apple's and Google's push services, losing none.
///
/// Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong configuration, credentials or command line.
#[derive(Debug, Parser)]
#[command(name = "pusher", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pusher demo                                      See it work, with nothing installed
  pusher apns                                      Run Apple's worker with ./config/default.yaml
  PUSHER_QUEUE_BROKERS=kafka:9092 pusher apns -p   The same against Apple's production hosts
  pusher gcm                                       Run Google's worker (Firebase Cloud Messaging)

Every key of the file has an environment variable: PUSHER_ and the key in upper case,
with underscores for dots.";

/// Flags that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Flags {
    /// Configuration file [default: ./config/default.yaml, which may be missing]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log at level debug, whatever log.level says
    #[arg(short, long, global = true)]
    pub debug: bool,
    /// Log JSON lines instead of text
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Push through the provider's production hosts, not its development hosts
    #[arg(short, long, global = true)]
    pub production: bool,
}

impl Flags {
    /// The file to read.
    pub fn config_file(&self) -> ConfigFile<'_> {
        match &self.config {
            Some(path) => ConfigFile::Explicit(path),
            None => ConfigFile::Default(Path::new(DEFAULT_CONFIG)),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the worker for Apple's push service
    #[command(after_help = "\
Examples:
  pusher apns --config config/default.yaml
  PUSHER_APNS_APPS=game PUSHER_APNS_CERTS_GAME_AUTHKEYPATH=/keys/game.p8 pusher apns -p -j

SIGINT and SIGTERM stop it: pushes on their way are waited for (gracefulShutdownTimeout),
the rest stays in Kafka. A second signal exits at once with code 1; what was on its way
may then be sent again.")]
    Apns,
    /// Run the worker for Google's push service (Firebase Cloud Messaging)
    #[command(after_help = "\
Examples:
  pusher gcm --config config/default.yaml
  PUSHER_GCM_APPS=game PUSHER_GCM_FIREBASECREDENTIALSFILE_GAME=/keys/game.json pusher gcm -j
  PUSHER_GCM_APPS=game PUSHER_GCM_PROJECTID_GAME=my-project pusher gcm

The last one runs without a key on Google's machines, by their metadata server. FCM has no
development hosts: --production changes nothing. It stops as pusher apns does.")]
    Gcm,
    /// Prove a configuration before it is deployed, without consuming or sending anything
    #[command(after_help = "\
Examples:
  pusher check                     Every platform that has apps
  pusher check listener            The feedback listener: its topics and tables
  pusher check apns -p --json      For a pipeline: exit code 0 or 2, and the report as JSON

Prints the configuration in effect with where each value came from, what is odd about it, and what
was proved: that credentials sign and are granted, hosts answer, topics and tables are there and
may be used. With --json as JSON. docs/check.md says what each proof means.")]
    Check(Check),
    /// Run the feedback listener: dead tokens from feedback topics to PostgreSQL
    ///
    /// Reads the feedback topics of both platforms (push-APP-PLATFORM-feedbacks, written by this program's workers or the
    /// original's) and deletes the tokens that they call dead from the table `APP_PLATFORM`, in batches. A record's
    /// offset moves only after the DELETE has committed: while PostgreSQL is away, records wait in Kafka.
    #[command(after_help = "\
Examples:
  pusher start-feedback-listener --config config/default.yaml
  PUSHER_FEEDBACKLISTENERS_QUEUE_BROKERS=kafka:9092 \\
  PUSHER_FEEDBACKLISTENERS_INVALIDTOKEN_PG_HOST=postgres \\
  PUSHER_FEEDBACKLISTENERS_INVALIDTOKEN_PG_USER=pusher \\
  PUSHER_FEEDBACKLISTENERS_INVALIDTOKEN_PG_DATABASE=push pusher start-feedback-listener -j

It deletes for the apps in apns.apps and gcm.apps; where a list is unset, for every app whose
topic matches feedbackListeners.queue.topics. A table needs an index on its column token.

SIGINT and SIGTERM stop it: statements under way are waited for
(feedbackListeners.gracefulShutdownTimeout), the rest stays in Kafka.")]
    StartFeedbackListener,
    /// Show and open safety valves, which stop the deletion of tokens
    ///
    /// A valve closes when too many tokens die: the worker's (invalidToken.maxShare) when too many of a provider's last
    /// answers call the token dead, as with a wrong host; the feedback listener's
    /// (feedbackListeners.invalidToken.valve) when too large a part of a table has gone. It stays closed over
    /// restarts, in the topic control.topic, until it is opened here; the worker's opens by itself too.
    #[command(after_help = "\
Examples:
  pusher valve status
  pusher valve resume game")]
    Valve {
        /// What to do.
        #[command(subcommand)]
        action: Valve,
    },
    /// Stop the sending of an app's messages, or of one lane of them, for a while; or list what is stopped so
    #[command(after_help = levers::PAUSE)]
    Pause(Pause),
    /// Go on with what was paused
    #[command(after_help = levers::RESUME)]
    Resume(ResumeLanes),
    /// Stop a wrong campaign, wherever its messages are
    #[command(after_help = levers::JOB)]
    Job {
        /// What to do.
        #[command(subcommand)]
        action: Job,
    },
    /// Show what the messages of a topic would become, without sending them
    #[command(after_help = peek::EXAMPLES)]
    Peek(Peek),
    /// Send dead letters again: back to the topics that they came from, none twice
    #[command(after_help = redrive::EXAMPLES)]
    Redrive(Redrive),
    /// Run a stand-in for a provider
    #[command(after_help = "\
Examples:
  pusher simulate apns --ca-out ca.pem --key-out key.p8
  pusher simulate fcm --ca-out ca.pem --credentials-out account.json")]
    Simulate {
        /// Which one.
        #[command(subcommand)]
        provider: Simulate,
    },
    /// Make test messages
    #[command(after_help = "\
Examples:
  pusher generate apns --count 3
  pusher generate gcm --count 3")]
    Generate {
        /// For which provider.
        #[command(subcommand)]
        provider: Generate,
    },
    /// Show both workers at work on embedded parts: Kafka, APNs, FCM, statistics, feedback
    #[command(after_help = "\
Examples:
  pusher demo                      20000 pushes through each as fast as they go, then the balances
  pusher demo --keep --rate 50     Stay up, and print how to push by hand and read the feedback")]
    Demo(Demo),
    /// Ask a running worker whether it is healthy, or ready
    #[command(after_help = "\
Examples:
  pusher health                                Exit code 0: healthy; 1: a part stands still, or no answer
  pusher health --ready                        Whether pushes can go through now, and why not
  pusher health --admin 127.0.0.1:9000         The worker whose admin.listen says so

As a container's health check (the image has no HTTP client): CMD pusher health
The same by HTTP: /healthz and /readyz, and /metrics for Prometheus.")]
    Health(Health),
    /// Show how a running worker or listener stands, what is wrong and what to do
    #[command(after_help = status::EXAMPLES)]
    Status(Status),
    /// Print the version
    #[command(after_help = "Example:\n  pusher version")]
    Version,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Whose configuration; without it every platform's that has apps
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::check::names()))]
    pub what: Option<String>,
}

/// The stand-ins.
#[derive(Debug, Subcommand)]
pub enum Simulate {
    /// A strict APNs server over TLS, with answers and faults to choose
    #[command(after_help = "\
Examples:
  pusher simulate apns --listen 127.0.0.1:8443 --ca-out ca.pem --key-out key.p8
  PUSHER_APNS_ENDPOINT=https://127.0.0.1:8443 PUSHER_APNS_CAFILE=ca.pem PUSHER_APNS_APPS=game \\
  PUSHER_APNS_CERTS_GAME_AUTHKEYPATH=key.p8 PUSHER_APNS_CERTS_GAME_KEYID=SIMULATE01 \\
  PUSHER_APNS_CERTS_GAME_TEAMID=SIMTEAM001 PUSHER_APNS_CERTS_GAME_TOPIC=com.example.game \\
  pusher apns")]
    Apns(SimulateApns),
    /// A strict FCM (HTTP v1) server and its OAuth token endpoint over TLS, with answers and faults to choose
    #[command(after_help = "\
Examples:
  pusher simulate fcm --ca-out ca.pem --credentials-out account.json
  pusher simulate fcm --project one --project two --credentials-out account.json
      writes account.one.json and account.two.json")]
    Fcm(SimulateFcm),
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// How many pushes to send through each provider
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20_000)]
    pub count: u64,
    /// Pushes per second and provider; without it as fast as they go
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Stay up afterwards, for pushing by hand; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// The same seed gives the same pushes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Arguments of `health`.
#[derive(Args, Debug)]
pub struct Health {
    /// The worker's admin server (admin.listen)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub admin: String,
    /// Ask whether it is ready (/readyz) instead of whether it is healthy (/healthz)
    #[arg(long)]
    pub ready: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for line in [["pusher", "-p", "-j", "apns"], ["pusher", "apns", "-j", "-p"]] {
            let cli = Cli::parse_from(line);
            assert!(cli.flags.production && cli.flags.json && !cli.flags.debug);
            assert!(matches!(cli.flags.config_file(), ConfigFile::Default(path) if path == Path::new(DEFAULT_CONFIG)));
        }
        let cli = Cli::parse_from(["pusher", "apns", "--config", "x.yaml"]);
        assert!(matches!(cli.flags.config_file(), ConfigFile::Explicit(path) if path == Path::new("x.yaml")));
    }

    #[test]
    fn times_have_a_unit() {
        let line = ["pusher", "simulate", "apns", "--rtt", "20ms", "--processing", "1s", "--listen", "[::1]:0"];
        let Command::Simulate { provider: Simulate::Apns(arguments) } = Cli::parse_from(line).command else { panic!() };
        assert_eq!((arguments.rtt, arguments.processing), (Duration::from_millis(20), Duration::from_secs(1)));
        assert!(Cli::try_parse_from(["pusher", "simulate", "apns", "--rtt", "20"]).is_err());
    }

    #[test]
    fn a_topic_without_brokers_is_refused() {
        for provider in ["apns", "gcm"] {
            assert!(Cli::try_parse_from(["pusher", "generate", provider, "--topic", "t"]).is_err());
        }
    }
}
