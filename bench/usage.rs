//! What a process has used so far.

use std::ops::Sub;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// CPU time (user + sys, all threads) and wall time at one moment, or between two.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Usage {
    /// User + sys.
    pub cpu: Duration,
    /// Since the program's first look at the clock.
    pub wall: Duration,
}

fn wall() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

impl Usage {
    /// This process.
    pub(crate) fn of_self() -> Usage {
        Usage::by(UsageWho::RUSAGE_SELF)
    }

    /// All children that have ended and were waited for.
    pub(crate) fn of_ended_children() -> Usage {
        Usage::by(UsageWho::RUSAGE_CHILDREN)
    }

    fn by(who: UsageWho) -> Usage {
        let cpu = getrusage(who)
            .map(|usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
            .unwrap_or_default();
        Usage { cpu: Duration::from_micros(cpu as u64), wall: wall() }
    }

    /// Another process, by the kernel's per-thread nanosecond clocks (`/proc/<pid>/task/*/schedstat`): finer than the
    /// 10 ms ticks of `stat`. Threads that have ended are not in it, so look before a process ends.
    pub(crate) fn of(pid: u32) -> Result<Usage> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanos += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Usage { cpu: Duration::from_nanos(nanos), wall: wall() })
    }
}

impl Usage {
    /// What two processes used side by side.
    pub(crate) fn beside(self, other: Usage) -> Usage {
        Usage { cpu: self.cpu + other.cpu, wall: self.wall.max(other.wall) }
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, earlier: Usage) -> Usage {
        Usage { cpu: self.cpu.saturating_sub(earlier.cpu), wall: self.wall.saturating_sub(earlier.wall) }
    }
}

/// Largest resident set of a process so far, bytes.
pub(crate) fn peak_rss(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM in /proc")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no figure in VmHWM")?.parse()?;
    Ok(kib * 1024)
}
