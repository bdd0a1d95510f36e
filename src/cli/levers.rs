//! The arguments of `pause`, `resume` and `job`.

use clap::{Args, Subcommand, ValueEnum};

use crate::message::Lane;

pub(super) const PAUSE: &str = "\
Examples:
  pusher pause                          What is paused, since when, by whom and why
  pusher pause game apns                Nothing of the app is sent by Apple's workers any more
  pusher pause game gcm --lane massive --why \"wrong segment\"
                                        Campaigns wait, single pushes go on
  pusher pause game listener            The feedback listener leaves the app's tokens alone

All workers of the platform obey within two seconds, and those that start later. What is in
flight goes on to its end; the rest stays in Kafka, so mind the topics' retention. Undone by
pusher resume. To be rid of a wrong campaign: pusher job stop.";

pub(super) const RESUME: &str = "\
Examples:
  pusher resume game apns
  pusher resume game gcm --lane single";

pub(super) const JOB: &str = "\
Examples:
  pusher job list
  pusher job stop 8f14e45f --why \"wrong text\"
  pusher job start 8f14e45f";

/// Arguments of `pause`.
#[derive(Args, Debug)]
pub struct Pause {
    /// The app, as in the topics' names; without it what is paused is listed
    #[arg(requires = "platform")]
    pub app: Option<String>,
    /// apns, gcm, or listener
    pub platform: Option<String>,
    /// Only this lane; without it both
    #[arg(long)]
    pub lane: Option<LaneName>,
    /// Why, for whoever looks next
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
}

/// Arguments of `resume`.
#[derive(Args, Debug)]
pub struct ResumeLanes {
    /// The app, as in the topics' names
    pub app: String,
    /// apns, gcm, or listener
    pub platform: String,
    /// Only this lane; without it both
    #[arg(long)]
    pub lane: Option<LaneName>,
}

/// A lane by its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LaneName {
    /// Transactional pushes, one by one
    Single,
    /// Campaigns
    Massive,
}

impl From<LaneName> for Lane {
    fn from(name: LaneName) -> Lane {
        match name {
            LaneName::Single => Lane::Single,
            LaneName::Massive => Lane::Massive,
        }
    }
}

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Cancel a job: its messages are resolved without being sent, at full speed, until it is started again
    #[command(after_help = "\
Examples:
  pusher job stop 8f14e45f
  pusher job stop 8f14e45f --why \"wrong text\"

Messages belong to the job that their metadata.jobId names. Cancelled ones are gone for good: they are
counted as cancelled, each has its feedback record (reason cancelled), and a later start does not
bring them back. The order stays until it is taken back; it costs nothing to leave it.")]
    Stop {
        /// The job, as in metadata.jobId
        job: String,
        /// Why, for whoever looks next
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Send a stopped job's messages again, from those on that are not cancelled yet
    #[command(after_help = "Example:\n  pusher job start 8f14e45f")]
    Start {
        /// The job, as in metadata.jobId
        job: String,
    },
    /// List the jobs that are stopped, and those that a worker has in sight
    #[command(after_help = "\
Examples:
  pusher job list
  pusher job list --admin 127.0.0.1:9000    In sight of the worker whose admin.listen says so
  pusher job list --json                    One JSON object per line, for scripts")]
    List {
        /// A worker's admin server [default: admin.listen]
        #[arg(long, value_name = "HOST:PORT")]
        admin: Option<String>,
    },
}
