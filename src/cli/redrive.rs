//! Arguments of `redrive`.

use std::time::Duration;

use clap::Args;

use super::simulate::time;

/// What help says below the arguments of `redrive`.
pub(super) const EXAMPLES: &str = "\
Examples:
  pusher redrive game apns --dry-run                Count them by reason; nothing is sent
  pusher redrive game apns --rate 500               All that were not redriven yet, 500 a second
  pusher redrive game gcm --reason INTERNAL --since 2h --limit 1000

Each letter goes back to the topic and partition that it came from, in one transaction with
the note that it did (group pusher-redrive-<APP>-<PLATFORM>): however often this command is
stopped or killed and run again, none is published twice. What a filter leaves out stays for
later runs. A letter that fails again becomes a new one, for the next run.";

/// Arguments of `redrive`.
#[derive(Args, Debug)]
pub struct Redrive {
    /// The app, as in the topics' names
    pub app: String,
    /// Its platform: apns or gcm
    pub platform: String,
    /// Only those that failed for this reason, as their header says it; repeatable
    #[arg(long, value_name = "REASON")]
    pub reason: Vec<String>,
    /// Only those of the last so many hours or minutes (2h, 30m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// So many a second; without it as fast as it goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Count what would be redriven, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
