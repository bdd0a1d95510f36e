//! `make bench-lanes`: how long urgent pushes take beside a campaign of a million, at full speed, and how long without it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::neighbours::{Kafka, Simulator, Worker, ask, free_address, pinned};
use crate::platform::Platform;

/// Pushes of the campaign.
const BACKLOG: u64 = 1_000_000;
/// Urgent pushes per second, and how many are measured.
const RATE: u32 = 200;
const URGENT: u64 = 2_000;
/// The first ones open connections; they are not measured.
const FIRST: u64 = 400;
const SERIES: &str = "pusher_produced_to_accepted_seconds";

/// Runs both, and says whether the promise holds: p99 at most twice the idle one and 5 ms.
pub(crate) fn run(scratch: &Path, platform: Platform) -> Result<()> {
    let (kafka, simulator) = (Kafka::start()?, Simulator::start(platform, scratch)?);
    let (single, massive) = (kafka.topic(platform, "single")?, kafka.topic(platform, "massive")?);
    let admin = free_address()?;
    let command = |program: &Path| -> Command {
        let mut command = pinned(1, program);
        command.env("PUSHER_ADMIN_LISTEN", &admin);
        command
    };
    let worker = Worker::start(&simulator, &kafka, scratch, &single, command)?;
    kafka.produce(platform, &single, 0, FIRST, Some(RATE))?;
    simulator.wait_for_accepted(FIRST)?;
    let idle = urgent(&kafka, &simulator, &admin, &single, FIRST)?;
    eprintln!("idle: {idle:?}; now beside {BACKLOG}");
    let first = FIRST + URGENT;
    kafka.produce(platform, &massive, first, BACKLOG, None)?;
    let (since, accepted) = (Instant::now(), simulator.accepted()?);
    let beside = urgent(&kafka, &simulator, &admin, &single, first + BACKLOG)?;
    let rate = (simulator.accepted()? - accepted) as f64 / since.elapsed().as_secs_f64();
    let left = first + BACKLOG + URGENT - simulator.accepted()?;
    ensure!(left > 0, "the campaign was over before the urgent pushes were: nothing was measured");
    println!("| {} pushes, produced→accepted | p50 | p99 |\n|---|---|---|", platform.name());
    for (what, took) in [("idle", &idle), ("beside the campaign", &beside)] {
        println!("| {URGENT} urgent at {RATE}/s, {what} | {:.1} ms | {:.1} ms |", took.p50 * 1e3, took.p99 * 1e3);
    }
    println!("{rate:.0} pushes/s beside; {left} of {BACKLOG} were left at the end");
    drop(worker);
    let most = 2.0 * idle.p99 + 0.005;
    ensure!(beside.p99 <= most, "p99 is above {:.1} ms, twice the idle one and 5 ms", most * 1e3);
    Ok(())
}

/// How long pushes took, seconds; between the bounds of a range as if they lay evenly in it.
#[derive(Debug)]
struct Took {
    p50: f64,
    p99: f64,
}

fn urgent(kafka: &Kafka, simulator: &Simulator, admin: &str, topic: &str, first: u64) -> Result<Took> {
    let before = ranges(admin)?;
    kafka.produce(simulator.platform, topic, first, URGENT, Some(RATE))?;
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let now = ranges(admin)?;
        let counted: Vec<_> = now.iter().zip(&before).map(|((end, now), (_, before))| (*end, now - before)).collect();
        let (_, all) = *counted.last().context("a range without an end")?;
        if all >= URGENT as f64 {
            return Ok(Took { p50: quantile(&counted, 0.5), p99: quantile(&counted, 0.99) });
        }
        ensure!(Instant::now() < deadline, "{all} of {URGENT} urgent pushes were accepted after a minute");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The upper ends of the ranges of the urgent lane, each with how many lie below it.
fn ranges(admin: &str) -> Result<Vec<(f64, f64)>> {
    let page = ask(admin, "GET", "/metrics")?;
    let ours = page.lines().filter(|line| line.starts_with(SERIES) && line.contains("lane=\"single\""));
    let mut ranges = Vec::new();
    for line in ours {
        let Some((_, rest)) = line.split_once("le=\"") else { continue };
        let (end, _) = rest.split_once('"').context("a range without an end")?;
        let (_, count) = line.rsplit_once(' ').context("a line without a value")?;
        let end = if end == "+Inf" { f64::INFINITY } else { end.parse()? };
        ranges.push((end, count.parse()?));
    }
    // Before the first push there is no such lane.
    Ok(if ranges.is_empty() { vec![(f64::INFINITY, 0.0)] } else { ranges })
}

fn quantile(below: &[(f64, f64)], q: f64) -> f64 {
    let wanted = q * below.last().map_or(0.0, |(_, all)| *all);
    let mut start = (0.0, 0.0);
    for &(end, count) in below {
        if count >= wanted {
            let end = if end.is_finite() { end } else { start.0 };
            return start.0 + (end - start.0) * (wanted - start.1) / (count - start.1).max(1.0);
        }
        start = (end, count);
    }
    start.0
}
