//! The command line.

use clap::{Parser, Subcommand};

use crate::platform::Platform;
use crate::variants::{ALL, Variant};

/// CPU per push of the whole worker, beside a bare HTTP/2 client.
#[derive(Debug, Parser)]
#[command(name = "make bench ARGS=")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The first row alone, two rounds of 50,000 pushes.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this (may be given several times).
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Only this platform.
    #[arg(long, value_parser = Platform::ALL.map(|platform| platform.name()))]
    platform: Option<String>,
    /// Interleaved rounds [default: 5, quick: 2].
    #[arg(long)]
    rounds: Option<usize>,
    /// Pushes of each contender and round [default: 200000, quick: 50000].
    #[arg(long)]
    pushes: Option<u64>,
    /// What `cargo bench` says to every bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Instructions per push by part of the program, under callgrind; see `make profile`.
    Profile {
        /// `apns` or `gcm` for one platform, `functions` for the most expensive ones.
        words: Vec<String>,
    },
    /// The floor itself, as a child of the bench.
    #[command(hide = true)]
    Bare { plan: String },
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.unwrap_or(if self.quick { 50_000 } else { 200_000 })
    }

    pub(crate) fn variants(&self) -> Vec<Variant> {
        let all = if self.quick && self.only.is_empty() { &ALL[..1] } else { &ALL[..] };
        let wanted = |variant: &&Variant| {
            self.only.is_empty() || self.only.iter().any(|part| variant.name.contains(part.as_str()))
        };
        all.iter().filter(wanted).copied().collect()
    }

    pub(crate) fn platforms(&self) -> Vec<Platform> {
        let wanted = |platform: &Platform| self.platform.as_deref().is_none_or(|name| name == platform.name());
        Platform::ALL.into_iter().filter(wanted).collect()
    }
}
