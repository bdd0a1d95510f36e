//! The arguments of `valve`.

use clap::{Args, Subcommand};

/// What can be done with valves.
#[derive(Debug, Subcommand)]
pub enum Valve {
    /// List the valves that are closed, or were, with the reason
    #[command(after_help = "\
Examples:
  pusher valve status
  pusher valve status game --json   One JSON object per line, for scripts")]
    Status {
        /// Only this app's
        app: Option<String>,
    },
    /// Open an app's closed valves; workers and listeners follow within two seconds
    #[command(after_help = "\
Examples:
  pusher valve resume game          The tokens are dead: delete them, those of the held records too
  pusher valve resume game --keep   They were not: keep those told so far, delete from now on

Without --keep the listener deletes what it has held back. When the cause was a wrong host,
key or topic, those tokens live, and --keep is right: the records are passed over.")]
    Resume(Resume),
}

/// Arguments of `valve resume`.
#[derive(Args, Debug)]
pub struct Resume {
    /// The app, as in the topics' names
    pub app: String,
    /// Only on this platform; without it on all
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Keep the tokens that were told before now
    #[arg(long)]
    pub keep: bool,
}
