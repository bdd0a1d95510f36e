//! `make chaos`: the workers on real Apache Kafka and PostgreSQL, with simulated providers, under every fault that a night on
//! call brings, in an order drawn from a printed seed. Each fault has its promise (docs/chaos.md): nothing is lost, nothing
//! unexpired fails, repeats stay below their bound, deliveries come back in time. Exactness is counted by the serial in each
//! push, at the provider, and by the feedback records.
//!
//! - The world: [`world`] (neighbours), [`side`] (one app's worker, topics and books), [`home`], [`provider`] (APNs or FCM and what
//!   can be wrong with them), [`traffic`].
//! - The judgement: [`pulse`] (over time), [`resident`] (memory), [`processors`] (load), [`times`] (latency), [`books`] and [`log`] (what was produced), [`audit`], [`report`].
//! - The run: [`faults`], [`episode`] (one of them), [`rows`] (longer looks at one promise), [`options`].

#[path = "../it/support/mod.rs"]
mod support;

mod audit;
mod books;
mod episode;
mod faults;
mod home;
mod log;
mod options;
mod processors;
mod provider;
mod pulse;
mod report;
mod resident;
mod rows;
mod side;
mod times;
mod traffic;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use fastrand::Rng;

use faults::Fault;
use home::Plan;
use options::{Options, Row};
use report::Line;
use world::World;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for fault in faults::ALL {
            println!("{:18} {}{}", fault.name, fault.what, if fault.short { "" } else { " (not in the short form)" });
        }
        return ExitCode::SUCCESS;
    }
    eprintln!("seed {}, {:?}", options.seed, options.membership);
    let broken = match options.row {
        None => all(&options),
        Some(Row::Kills(row)) => rows::kills::run(row, &options),
        Some(Row::Stuck(row)) => rows::stuck::run(row, &options),
        Some(Row::Stragglers(row)) => rows::stragglers::run(row, &options),
        Some(Row::Memory(row)) => rows::memory::run(row, &options),
        Some(Row::Beside(row)) => rows::beside::run(row, &options),
        Some(Row::Shares(row)) => rows::shares::run(row, &options),
    };
    for promise in &broken {
        eprintln!("BROKEN: {promise} (seed {})", options.seed);
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The faults that are asked for, in random order; the promises that were broken.
fn all(options: &Options) -> Vec<String> {
    let mut rng = Rng::with_seed(options.seed);
    let mut faults: Vec<&Fault> = faults::ALL.iter().filter(|fault| is_wanted(fault, options)).collect();
    faults = faults.repeat(options.times);
    if faults.is_empty() {
        return vec![format!("no fault is named {:?}: --list", options.only)];
    }
    rng.shuffle(&mut faults);
    let (start, plan) = (Instant::now(), plan(options, 4));
    let mut world = World::start(&["apns", "gcm"], &plan);
    let (mut lines, mut last_words): (Vec<Line>, _) = Default::default();
    for (number, fault) in faults.iter().enumerate() {
        eprintln!("{:4} s {:2}/{} {}: {}", start.elapsed().as_secs(), number + 1, faults.len(), fault.name, fault.what);
        let played = episode::play(&mut world, fault, &mut rng, options);
        let stop = played.iter().any(|line| !line.complaints.is_empty());
        if played.iter().any(|line| !line.broken().is_empty()) {
            last_words = report::keep_logs(&world, fault.name);
        }
        lines.extend(played);
        if stop {
            eprintln!("what follows would meet what this fault left: the run ends here");
            break;
        }
    }
    println!("{}", report::table(&lines));
    println!("{} faults in {} s; seed {}", faults.len(), start.elapsed().as_secs(), options.seed);
    let of =
        |line: &Line| line.broken().into_iter().map(move |what| (line.fault, line.platform, what)).collect::<Vec<_>>();
    let broken = lines.iter().flat_map(of).map(|(fault, platform, what)| format!("{fault} ({platform}): {what}"));
    // What is broken comes last: of a long run often only the end is kept.
    last_words.into_iter().chain(broken).collect()
}

fn is_wanted(fault: &Fault, options: &Options) -> bool {
    let named = options.only.iter().any(|part| fault.name.contains(part.as_str()));
    if options.only.is_empty() { fault.short || !options.short } else { named }
}

fn plan(options: &Options, partitions: i32) -> Plan<'static> {
    let settings = options.worker_settings();
    Plan { partitions, seed: options.seed, membership: options.membership, settings, lenient: options.short }
}
