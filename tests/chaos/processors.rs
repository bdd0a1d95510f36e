//! How busy the machine is, all of it: the worker, its neighbours and the run itself.

use std::fs;

/// Time that the processors spent so far, in ticks, as `/proc/stat` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    pub(crate) fn now() -> Processors {
        let stat = fs::read_to_string("/proc/stat").expect("the system's times");
        let line = stat.lines().next().expect("the line of all processors");
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two already (proc(5)).
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        Processors { idle: ticks[3] + ticks[4], all: ticks.iter().sum() }
    }

    /// What part of the time since then was so many ticks.
    pub(crate) fn share_since(self, then: Processors, ticks: u64) -> f64 {
        ticks as f64 / (self.all - then.all).max(1) as f64
    }

    /// What part of the time since then they were busy.
    pub(crate) fn busy_since(self, then: Processors) -> f64 {
        let (idle, all) = (self.idle - then.idle, (self.all - then.all).max(1));
        1.0 - idle as f64 / all as f64
    }
}
