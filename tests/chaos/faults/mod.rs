//! The faults. Each is a function that makes it happen under traffic, ends it, and notes on its sides what may be repeated
//! for it; everything else is the same for all (see `episode`).

mod neighbours;
mod provider;
pub(crate) mod workers;

use std::time::Duration;

use super::episode::{SESSION, Stage};

/// A fault and what is promised about it, beside that nothing is lost and nothing unexpired fails.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What happens, in a line.
    pub(crate) what: &'static str,
    pub(crate) platforms: &'static [&'static str],
    /// Whether the short form plays it.
    pub(crate) short: bool,
    pub(crate) within: Within,
    pub(crate) act: fn(&mut Stage<'_>),
}

/// How soon the speed must be back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// After an outage of the provider: 10 s, or 70 s with FCM's ramp.
    Ramp,
    /// The session timeout and 10 s; nothing may stand still for longer.
    Session,
    /// The session timeout and 10 s from the end of the fault, which itself may stop everything.
    Neighbour,
}

impl Within {
    pub(crate) fn bound(self, platform: &str) -> Duration {
        match self {
            Within::Ramp => Duration::from_secs(if platform == "gcm" { 70 } else { 10 }),
            Within::Session | Within::Neighbour => SESSION + Duration::from_secs(10),
        }
    }
}

const BOTH: &[&str] = &["apns", "gcm"];

const fn worker(name: &'static str, what: &'static str, short: bool, act: fn(&mut Stage<'_>)) -> Fault {
    Fault { name, what, platforms: BOTH, short, within: Within::Session, act }
}

const fn outage(name: &'static str, what: &'static str, short: bool, act: fn(&mut Stage<'_>)) -> Fault {
    Fault { name, what, platforms: BOTH, short, within: Within::Ramp, act }
}

const fn neighbour(name: &'static str, what: &'static str, short: bool, act: fn(&mut Stage<'_>)) -> Fault {
    Fault { name, what, platforms: BOTH, short, within: Within::Neighbour, act }
}

/// All of them, in no order: a run shuffles them.
pub(crate) const ALL: &[Fault] = &[
    worker("kill-at-start", "SIGKILL before the first commit", true, workers::kill_at_start),
    worker(
        "kill-in-rebalance",
        "SIGKILL of one of two workers while they share anew",
        true,
        workers::kill_in_rebalance,
    ),
    worker("kill-with-retries", "SIGKILL while retries wait", true, workers::kill_with_retries),
    worker("restart", "SIGTERM and a new worker, twice", true, workers::restart),
    worker("join-leave", "a second and a third worker join; the first ones leave", false, workers::join_leave),
    worker("churn", "up to three workers join, leave, are killed and stand still at random", false, workers::churn),
    worker("freeze", "SIGSTOP beyond the session timeout beside a second worker, then SIGCONT", true, workers::freeze),
    outage("unavailable", "503 for all", false, provider::unavailable),
    outage("refused", "connections are refused", true, provider::refused),
    outage("silent", "requests are accepted and not answered", false, provider::silent),
    outage("tls", "TLS handshakes fail", false, provider::tls_fails),
    outage("goaway", "GOAWAY after every 1,000 requests", true, provider::goaways),
    outage("resets", "an RST storm: 51 % of the streams", true, provider::resets),
    outage("answers-lost", "10 % of the accepted pushes are reset instead of answered", false, provider::answers_lost),
    outage("limited", "429 for 20 % of the devices", true, provider::limited),
    outage("limited-all", "429 for all devices", false, provider::limited_all),
    outage("limited-all-wish", "429 for all devices, with Retry-After", false, provider::limited_all_with_wish),
    Fault {
        platforms: &["gcm"],
        ..outage("oauth", "no token endpoint, and tokens revoked", true, provider::oauth_down)
    },
    outage("revoked", "the key, or the service account, is refused", false, provider::revoked),
    outage("files", "no file descriptor is free, and the provider closes its connections", true, provider::no_files),
    neighbour("kafka", "the broker is stopped and started", true, neighbours::kafka),
    neighbour("feedback", "the feedback topic cannot be written", true, neighbours::feedback),
    neighbour("postgres", "PostgreSQL is stopped and started", true, neighbours::postgres),
    neighbour("statsd", "StatsD's name is not known", false, neighbours::statsd),
    neighbour("neighbours", "all of these at once", false, neighbours::together),
];
