//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Faults on real Apache Kafka, in random order, each with its promise. Exit code 1: a promise was broken.
#[derive(Debug, Parser)]
#[command(name = "make chaos ARGS=")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) row: Option<Row>,
    /// What the order and the moments are drawn from; printed, so that a run can be had again.
    #[arg(long, global = true, default_value_t = fastrand::u32(..).into())]
    pub(crate) seed: u64,
    /// A fixed part of the faults, each short, at a low rate: what CI runs.
    #[arg(long)]
    pub(crate) short: bool,
    /// Only the faults whose name contains this (may be given several times).
    #[arg(long, value_name = "FAULT")]
    pub(crate) only: Vec<String>,
    /// How often each fault is played.
    #[arg(long, default_value_t = 1)]
    pub(crate) times: usize,
    /// Lists the faults.
    #[arg(long)]
    pub(crate) list: bool,
    /// Pushes per second and platform [default: 1000, short: 100].
    #[arg(long, global = true)]
    pub(crate) rate: Option<u32>,
    /// Least pushes per fault and platform; traffic goes on until they are reached.
    #[arg(long, default_value_t = 0)]
    pub(crate) pushes: u64,
    /// Seconds that an outage lasts [default: 60, short: 3].
    #[arg(long, global = true)]
    pub(crate) outage: Option<u64>,
    /// How the workers share the partitions.
    #[arg(long, global = true, value_enum, default_value_t = Membership::Range)]
    pub(crate) membership: Membership,
}

impl Options {
    pub(crate) fn rate(&self) -> u32 {
        self.rate.unwrap_or(if self.short { 100 } else { 1_000 })
    }

    pub(crate) fn outage(&self) -> Duration {
        Duration::from_secs(self.outage.unwrap_or(if self.short { 3 } else { 60 }))
    }

    /// What deadlines get beside what is promised. The short form runs beside compilers, where seconds mean little; it
    /// judges what is lost, repeated and told.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(if self.short { 60 } else { 0 })
    }

    /// What the workers are told beside the usual. The long forms run on the defaults.
    pub(crate) fn worker_settings(&self) -> &'static [(&'static str, &'static str)] {
        const SHORT: &[(&str, &str)] = &[
            ("apns.retry.interval", "500ms"),
            ("apns.timeout", "10s"),
            ("gcm.retry.interval", "500ms"),
            ("gcm.timeout", "10s"),
            ("breaker.ramp", "3s"),
        ];
        if self.short { SHORT } else { &[] }
    }
}

/// How the workers are members of their group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Membership {
    /// `range,roundrobin`, the default.
    Range,
    /// `cooperative-sticky`.
    Sticky,
    /// The protocol of KIP-848.
    Consumer,
    /// Each worker is a member by name, as in a `StatefulSet`.
    Static,
}

impl Membership {
    /// What the worker in this place is told.
    pub(crate) fn settings(self, place: usize) -> Vec<(String, String)> {
        let one = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        match self {
            Membership::Range => Vec::new(),
            Membership::Sticky => one("queue.assignment", "cooperative-sticky"),
            Membership::Consumer => one("queue.kafka.group.protocol", "consumer"),
            Membership::Static => one("queue.kafka.group.instance.id", &format!("worker-{place}")),
        }
    }
}

/// A longer look at one promise, with its figures.
#[derive(Debug, Subcommand)]
pub(crate) enum Row {
    /// A fixed rate while the worker is killed (SIGKILL) again and again.
    Kills(Kills),
    /// One push stuck in retry while many behind it are delivered, then SIGKILL.
    Stuck(Stuck),
    /// A share of 429s with a long Retry-After: the throughput that the offset map allows.
    Stragglers(Stragglers),
    /// Memory during an outage with a large backlog.
    Memory(Memory),
    /// One of a worker's two apps is refused in every way: what the other app feels of it.
    Beside(Beside),
    /// Two apps of different weight have more than the worker can send; then one is steady beside the other's backlog.
    Shares(Shares),
}

#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kills {
    /// Pushes.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u64,
    /// SIGKILLs.
    #[arg(long = "kills", value_name = "KILLS", default_value_t = 20)]
    pub(crate) times: u32,
    /// The platform.
    #[arg(long, value_enum, default_value_t = Platform::Apns)]
    pub(crate) platform: Platform,
}

#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// Pushes behind the stuck one.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u64,
}

#[derive(Args, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stragglers {
    /// Share of the pushes that are refused.
    #[arg(long, default_value_t = 0.02)]
    pub(crate) share: f64,
    /// Retry-After, s.
    #[arg(long, default_value_t = 60)]
    pub(crate) delay: u32,
    /// Partitions.
    #[arg(long, default_value_t = 4)]
    pub(crate) partitions: i32,
    /// Delays to measure over, after a first one.
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: u32,
}

#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Messages that wait in Kafka.
    #[arg(long, default_value_t = 5_000_000)]
    pub(crate) backlog: u64,
    /// Minutes of outage, at least 2.
    #[arg(long, default_value_t = 15)]
    pub(crate) minutes: u32,
}

#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// The platform.
    #[arg(long, value_enum, default_value_t = Platform::Apns)]
    pub(crate) platform: Platform,
}

#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Messages of each app that wait in Kafka when the worker starts.
    #[arg(long, default_value_t = 800_000)]
    pub(crate) backlog: u64,
    /// The platform.
    #[arg(long, value_enum, default_value_t = Platform::Apns)]
    pub(crate) platform: Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    Apns,
    Gcm,
}

impl Platform {
    pub(crate) fn name(self) -> &'static str {
        if self == Platform::Apns { "apns" } else { "gcm" }
    }
}
