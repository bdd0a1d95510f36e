//! `make bench`: CPU per push of the whole worker, for each platform, beside a bare `h2` client that sends the same requests to
//! the same server in the same run. See README.md beside this file.

#[path = "../src/allocator.rs"]
mod allocator;
mod bare;
mod callgrind;
mod h2load;
mod neighbours;
mod options;
mod platform;
mod profile;
mod usage;
mod variants;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser as _;
use comfy_table::{CellAlignment, Table, presets};
use pusher::tally::Totals;

use bare::Plan;
use neighbours::{Kafka, Redis, Simulator, Worker};
use options::{Command, Options};
use usage::Usage;
use variants::Variant;

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.command {
        Some(Command::Bare { plan }) => run_bare(plan),
        Some(Command::Profile { words }) => profile::run(words),
        None => in_scratch(|scratch| measure(scratch, &options)),
    }
}

/// The child that is the floor.
fn run_bare(plan: &str) -> Result<()> {
    let usage = bare::run(serde_json::from_str(plan)?)?;
    println!("{}", serde_json::to_string(&usage)?);
    Ok(())
}

/// What one contender used in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    usage: Usage,
    pushes: u64,
    server: Duration,
    peak_rss: u64,
    p50_us: u64,
    p99_us: u64,
}

impl Round {
    fn cpu_us(&self) -> f64 {
        self.usage.cpu.as_secs_f64() * 1e6 / self.pushes as f64
    }

    fn server_us(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.pushes as f64
    }

    fn per_core(&self) -> f64 {
        1e6 / self.cpu_us()
    }
}

/// Runs in a folder of its own, which is removed.
fn in_scratch(run: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("pusher-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let result = run(&scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

/// What was measured of one platform.
struct Contest {
    simulator: Simulator,
    floor: Vec<Round>,
    /// None where it is not installed.
    h2load: Vec<Round>,
    workers: Vec<(Variant, Vec<Round>)>,
}

fn measure(scratch: &Path, options: &Options) -> Result<()> {
    let (variants, rounds, pushes) = (options.variants(), options.rounds(), options.pushes());
    ensure!(!variants.is_empty(), "--only: no row has such a name");
    let redis = if variants.iter().any(|variant| variant.is_limited) { Redis::start() } else { None };
    let wanted = variants.iter().filter(|variant| redis.is_some() || !variant.is_limited);
    let workers: Vec<_> = wanted.map(|variant| (*variant, Vec::new())).collect();
    if workers.len() < variants.len() {
        eprintln!("redis-server is missing: no row with it (apt-get install -y redis-server)");
    }
    let has_h2load = h2load::is_installed();
    if !has_h2load {
        eprintln!("h2load is missing: no row with it (apt-get install -y nghttp2-client)");
    }
    let contest = |platform| {
        let simulator = Simulator::start(platform, scratch)?;
        Ok(Contest { simulator, floor: Vec::new(), h2load: Vec::new(), workers: workers.clone() })
    };
    let mut contests = options.platforms().into_iter().map(contest).collect::<Result<Vec<_>>>()?;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}: {pushes} pushes each, bare h2 and the worker, per platform", round + 1);
        for Contest { simulator, floor, h2load, workers } in &mut contests {
            floor.push(client_round(simulator, pushes, |plan| Ok((bare_client(plan)?, pushes)))?);
            if has_h2load {
                h2load.push(client_round(simulator, pushes, |plan| h2load::run(plan, scratch))?);
            }
            for (variant, rounds) in workers {
                let settings = variant.settings(simulator.platform, redis.as_ref().map(Redis::port));
                rounds.push(worker_round(simulator, *variant, &settings, scratch, pushes)?);
            }
        }
    }
    println!("{}", table(&contests));
    println!("machine: {}; {rounds} interleaved rounds of {pushes} pushes, medians (minimum to maximum)", machine());
    Ok(())
}

/// A round of a client that is no worker, which says what it used and how much was accepted.
fn client_round(simulator: &Simulator, pushes: u64, run: impl FnOnce(&Plan) -> Result<(Usage, u64)>) -> Result<Round> {
    simulator.reset()?;
    simulator.set_latency(0)?;
    let plan = simulator.plan(pushes)?;
    let before = simulator.cpu()?;
    let (usage, pushes) = run(&plan)?;
    let server = simulator.cpu()?.checked_sub(before).unwrap();
    Ok(Round { usage, pushes, server, peak_rss: 0, p50_us: 0, p99_us: 0 })
}

/// The bare client, in a process of its own.
fn bare_client(plan: &Plan) -> Result<Usage> {
    let program = std::env::current_exe()?;
    let output = neighbours::pinned(1, &program).arg("bare").arg(serde_json::to_string(plan)?).output()?;
    ensure!(output.status.success(), "the bare client failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn worker_round(
    simulator: &Simulator,
    variant: Variant,
    settings: &[(String, String)],
    scratch: &Path,
    pushes: u64,
) -> Result<Round> {
    // One for each round: what a mock cluster holds, it holds to its end.
    let kafka = Kafka::start()?;
    let topic = kafka.fill(simulator.platform, 0, pushes)?;
    simulator.reset()?;
    simulator.set_latency(variant.latency_ms)?;
    // The first has a core, the second, if there is one, what the others leave of theirs.
    let start = |place: usize| {
        let run = |program: &Path| neighbours::pinned(1 - place % 2, program);
        Worker::start(simulator, &kafka, scratch, &topic, place, settings, run)
    };
    let workers = (0..variant.processes).map(start).collect::<Result<Vec<_>>>()?;
    let used = || {
        let all = workers.iter().map(|worker| Usage::of(worker.pid())).collect::<Result<Vec<_>>>()?;
        anyhow::Ok(all.into_iter().reduce(Usage::beside).unwrap_or_default())
    };
    let begun = simulator.wait_for_accepted(1)?;
    let (before, server_before) = (used()?, simulator.cpu()?);
    let accepted = simulator.wait_for_accepted(pushes)?;
    ensure!(accepted == pushes, "{accepted} of {pushes} accepted");
    let (after, server) = (used()?, simulator.cpu()?.checked_sub(server_before).unwrap());
    let rss = workers.iter().map(|worker| usage::peak_rss(worker.pid())).collect::<Result<Vec<_>>>()?;
    let (mut ledger, mut p50_us, mut p99_us) = (Totals::default(), 0, 0);
    for worker in workers {
        let own = worker.stop()?;
        ledger.add(&own);
        (p50_us, p99_us) = (own.accepted_p50_us.max(p50_us), own.accepted_p99_us.max(p99_us));
    }
    ensure!(ledger.delivered == pushes && ledger.unaccounted() == 0, "the books do not balance: {ledger:?}");
    let peak_rss = rss.into_iter().max().unwrap_or(0);
    Ok(Round { usage: after - before, pushes: pushes - begun, server, peak_rss, p50_us, p99_us })
}

fn table(contests: &[Contest]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "",
        "pushes",
        "CPU µs/push",
        "× floor",
        "pushes/s per core",
        "pushes/s",
        "RSS peak",
        "p50",
        "p99",
        "server µs/push",
    ]);
    for Contest { simulator, floor, h2load, workers } in contests {
        let name = simulator.platform.name();
        let least = median(floor, Round::cpu_us);
        table.add_row(row(&format!("bare h2 client, as {name} (its floor)"), floor, least));
        if !h2load.is_empty() {
            table.add_row(row(&format!("h2load, as {name}"), h2load, least));
        }
        for (variant, rounds) in workers {
            table.add_row(row(&format!("pusher {name}, {}", variant.name), rounds, least));
        }
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn row(name: &str, rounds: &[Round], floor: f64) -> [String; 10] {
    let rss = rounds.iter().map(|round| round.peak_rss).max().unwrap_or(0);
    let shown = |figure: String, there: bool| if there { figure } else { "–".into() };
    [
        name.to_owned(),
        rounds.iter().map(|round| round.pushes).max().unwrap_or(0).to_string(),
        spread(rounds, Round::cpu_us),
        format!("{:.2}", median(rounds, Round::cpu_us) / floor),
        format!("{:.0}", median(rounds, Round::per_core)),
        format!("{:.0}", median(rounds, |round| round.pushes as f64 / round.usage.wall.as_secs_f64())),
        shown(format!("{} MiB", rss >> 20), rss > 0),
        shown(format!("{:.1} ms", median(rounds, |round| round.p50_us as f64 / 1e3)), rss > 0),
        shown(format!("{:.1} ms", median(rounds, |round| round.p99_us as f64 / 1e3)), rss > 0),
        format!("{:.1}", median(rounds, Round::server_us)),
    ]
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let mut figures: Vec<_> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    // Of an even number the two in the middle count.
    let middle = figures.len().saturating_sub(1) / 2..figures.len() / 2 + 1;
    figures.get(middle.clone()).map_or(f64::NAN, |of| of.iter().sum::<f64>() / middle.len() as f64)
}

fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64 + Copy) -> String {
    let figures = rounds.iter().map(figure);
    let (least, most) = figures.fold((f64::MAX, f64::MIN), |(least, most), one| (least.min(one), most.max(one)));
    format!("{:.1} ({least:.1} to {most:.1})", median(rounds, figure))
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("?", |(_, name)| name.trim());
    format!("{model}, {} cores", std::thread::available_parallelism().map_or(0, std::num::NonZero::get))
}
