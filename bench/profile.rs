//! `make profile`: instructions per push, by part, of the worker and of the bare client, under callgrind.
//!
//! Instructions do not depend on what else the machine does, so a change of some per cent is seen in one run. Each contender
//! runs twice, with few and with more pushes; the difference of the two is free of what starting and stopping cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table, presets};

use crate::callgrind::{self, Cost, Costs};
use crate::neighbours::{Kafka, Simulator, Worker, under_callgrind};
use crate::platform::Platform;

/// Pushes of the two runs.
const RUNS: [u64; 2] = [3_000, 13_000];
/// The most expensive functions that are listed.
const FUNCTIONS: usize = 40;

/// Profiles the platforms that `words` name, or all; with `functions` among them each table is followed by the worker's most
/// expensive ones. The profiles stay below `target`, for `callgrind_annotate`.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let named = |name: &str| words.iter().any(|word| word == name);
    let wanted: Vec<_> = Platform::ALL.into_iter().filter(|platform| named(platform.name())).collect();
    let platforms = if wanted.is_empty() { Platform::ALL.to_vec() } else { wanted };
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profile");
    std::fs::create_dir_all(&scratch)?;
    profile(&platforms, &scratch, named("functions"))
}

fn profile(platforms: &[Platform], scratch: &Path, with_functions: bool) -> Result<()> {
    let has_valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok();
    ensure!(has_valgrind, "valgrind is missing: apt-get install -y valgrind");
    let kafka = Kafka::start()?;
    for &platform in platforms {
        let simulator = Simulator::start(platform, scratch)?;
        eprintln!("{}: bare h2 and the worker under callgrind, {RUNS:?} pushes each", platform.name());
        let bare = difference(|run, pushes| profile_bare(&simulator, scratch, run, pushes))?;
        let worker = difference(|run, pushes| profile_worker(&simulator, &kafka, scratch, run, pushes))?;
        println!("\n## {}, per push\n\n{}", platform.name(), table(&bare, &worker));
        if with_functions {
            println!("\nThe worker's functions, instructions per push:\n");
            println!("{}", functions(&worker).join("\n"));
        }
    }
    Ok(())
}

/// What the second run cost more than the first.
fn difference(mut profile: impl FnMut(usize, u64) -> Result<Costs>) -> Result<Costs> {
    let (few, mut more) = (profile(0, RUNS[0])?, profile(1, RUNS[1])?);
    for (place, cost) in few {
        let left = more.entry(place).or_default();
        left.instructions = left.instructions.saturating_sub(cost.instructions);
        left.calls = left.calls.saturating_sub(cost.calls);
    }
    Ok(more)
}

fn profile_bare(simulator: &Simulator, scratch: &Path, run: usize, pushes: u64) -> Result<Costs> {
    let out = scratch.join(format!("{}-bare-{run}.callgrind", simulator.platform.name()));
    let plan = serde_json::to_string(&simulator.plan(pushes)?)?;
    let output = under_callgrind(&std::env::current_exe()?, &out).arg("bare").arg(plan).output()?;
    ensure!(output.status.success(), "the bare client failed: {}", String::from_utf8_lossy(&output.stderr));
    callgrind::read(&std::fs::read_to_string(out)?)
}

fn profile_worker(simulator: &Simulator, kafka: &Kafka, scratch: &Path, run: usize, pushes: u64) -> Result<Costs> {
    let out = scratch.join(format!("{}-worker-{run}.callgrind", simulator.platform.name()));
    let topic = kafka.fill(simulator.platform, run, pushes)?;
    simulator.reset()?;
    let worker = Worker::start(simulator, kafka, scratch, &topic, 0, &[], |program| under_callgrind(program, &out))?;
    simulator.wait_for_accepted(pushes)?;
    let ledger = worker.stop()?;
    ensure!(ledger.delivered == pushes && ledger.unaccounted() == 0, "the books do not balance: {ledger:?}");
    callgrind::read(&std::fs::read_to_string(out)?)
}

fn per_push(figure: u64) -> f64 {
    figure as f64 / (RUNS[1] - RUNS[0]) as f64
}

fn by_part(costs: &Costs) -> BTreeMap<&'static str, Cost> {
    let mut parts = BTreeMap::<_, Cost>::new();
    for ((part, _), cost) in costs {
        let sum = parts.entry(*part).or_default();
        sum.instructions += cost.instructions;
        sum.calls += cost.calls;
    }
    parts
}

fn table(bare: &Costs, worker: &Costs) -> Table {
    let (bare, worker) = (by_part(bare), by_part(worker));
    let of = |costs: &BTreeMap<&'static str, Cost>, part: &str| costs.get(part).copied().unwrap_or_default();
    let mut parts: Vec<_> = worker.keys().chain(bare.keys()).copied().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(of(&worker, part).instructions));
    parts.dedup();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["part", "bare h2", "worker", "worker − bare", "system calls, bare", "worker"]);
    let mut add = |name: &str, bare: Cost, worker: Cost| {
        let (before, after) = (per_push(bare.instructions), per_push(worker.instructions));
        let shown = |calls| format!("{:.2}", per_push(calls));
        table.add_row([
            name.to_owned(),
            format!("{before:.0}"),
            format!("{after:.0}"),
            format!("{:.0}", after - before),
            shown(bare.calls),
            shown(worker.calls),
        ]);
    };
    for part in &parts {
        add(part, of(&bare, part), of(&worker, part));
    }
    let sum = |costs: &BTreeMap<_, Cost>| Cost {
        instructions: costs.values().map(|cost| cost.instructions).sum(),
        calls: costs.values().map(|cost| cost.calls).sum(),
    };
    add("all", sum(&bare), sum(&worker));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn functions(costs: &Costs) -> Vec<String> {
    let mut all: Vec<_> = costs.iter().collect();
    all.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.instructions));
    let line = |((part, name), cost): &(&(&str, String), &Cost)| {
        let name: String = name.chars().take(150).collect();
        format!("{:7.0} {:5.2} {part}: {name}", per_push(cost.instructions), per_push(cost.calls))
    };
    all.iter().take(FUNCTIONS).map(line).collect()
}
