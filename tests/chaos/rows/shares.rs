//! A worker whose two apps both have more than it can send, one with three times the other's weight; then the heavier one sends
//! steadily beside what the other has left, and then alone.

use std::ops::Range;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use pusher::generate::Mix;

use super::{broken, until};
use crate::episode::{PATIENCE, pause};
use crate::options::{Options, Shares};
use crate::plan;
use crate::side::Side;
use crate::times::{Times, now_ms};
use crate::world::World;

/// Pushes per second of the app that sends steadily.
const RATE: u32 = 500;
const WEIGHT: u32 = 3;
/// What part of the whole is the light app's, and by how much it may be missed.
const PART: f64 = 1.0 / (WEIGHT + 1) as f64;
const NEAR: f64 = 0.25;
/// Speed is compared when the heavy app has sent so much of its backlog: speeds are learned by then, and it has some left.
const COMPARED: Range<f64> = 0.5..0.95;
/// What the steady app gets of its speed beside the other's backlog.
const KEPT: f64 = 0.95;
/// A steady app is looked at for so long, once it has been steady for a while.
const LOOK: Duration = Duration::from_secs(15);
const SETTLED: Duration = Duration::from_secs(3);

pub(crate) fn run(row: Shares, options: &Options) -> Vec<String> {
    let rate = options.rate.unwrap_or(RATE);
    let world = World::start(&[], &plan(options, 4));
    let [mut light, mut heavy] = Side::pair(row.platform.name(), &world.neighbours, &plan(options, 4));
    for side in [&mut light, &mut heavy] {
        side.flow(None, row.backlog, Mix::CALM);
    }
    for side in [&mut light, &mut heavy] {
        until(side, "produced", row.backlog, Side::produced);
        side.ebb();
    }
    let produced = now_ms();
    // One sender is what both wait for, and not Kafka or the provider, which share the machine with it.
    light.start_with(&[(&format!("weights.{}", heavy.app), &WEIGHT.to_string()), ("workers", "1")]);
    until_settled(&mut light, &heavy);
    heavy.flow(Some(rate), u64::MAX, Mix::CALM);
    pass(&mut light, SETTLED);
    let beside = pass(&mut light, LOOK);
    let was_beside = !light.is_settled();
    let mut all = Vec::new();
    if !light.settle(PATIENCE) {
        all.push(format!("not settled: {:?}", light.committed()));
    }
    let alone = pass(&mut light, LOOK);
    heavy.ebb();
    if !heavy.settle(PATIENCE) {
        all.push(format!("not settled: {:?}", heavy.committed()));
    }
    let times = [&light, &heavy].map(|side| Times::read(&world.neighbours.kafka.brokers, side));
    for side in [&mut light, &mut heavy] {
        all.extend(broken(&side.audit(), 0));
    }
    let told = |share: f64| times[1].when_told(produced, (row.backlog as f64 * share) as usize).unwrap_or(produced);
    let both = told(COMPARED.start)..told(COMPARED.end);
    println!("{}", table(&times, &[both.clone(), beside.clone(), alone]));
    println!(
        "{} pushes of each app over {}, weights 1 and {WEIGHT}, then {rate}/s of the heavier; seed {}",
        row.backlog,
        row.platform.name(),
        options.seed
    );
    let [of_light, of_heavy] = times.each_ref().map(|times| times.fared(std::slice::from_ref(&both)).per_second);
    let part = of_light / (of_light + of_heavy);
    if (part / PART - 1.0).abs() > NEAR {
        all.push(format!("the light app has {:.0} % of all, {:.0} % are its part", 100.0 * part, 100.0 * PART));
    }
    let steady = times[1].fared(&[beside]).per_second;
    if steady < KEPT * f64::from(rate) {
        all.push(format!("{steady:.0} pushes/s of the steady app beside the other's backlog, {rate} are its own"));
    }
    if !was_beside {
        all.push("the backlog was over before it was looked at: --backlog".into());
    }
    all
}

/// Waits until all of an app's pushes have ended; the worker is the first side's.
fn until_settled(first: &mut Side, side: &Side) {
    let begun = Instant::now();
    while !side.is_settled() {
        first.assert_alive();
        assert!(begun.elapsed() < 3 * PATIENCE, "the backlog of the heavy app: {:?}", side.committed());
        pause(Duration::from_millis(50));
    }
}

/// Lets time pass; which that was, Unix ms.
fn pass(first: &mut Side, time: Duration) -> Range<i64> {
    let (begin, begun) = (now_ms(), Instant::now());
    while begun.elapsed() < time {
        first.assert_alive();
        pause(Duration::from_millis(50));
    }
    begin..now_ms()
}

fn table([light, heavy]: &[Times; 2], times: &[Range<i64>; 3]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["", "light app, pushes/s", "heavy app, pushes/s", "heavy app p50 ms", "p99 ms"]);
    let names = ["both have a backlog", "the heavy app is steady, the light one has a backlog", "the heavy app alone"];
    for (name, time) in names.into_iter().zip(times) {
        let [light, heavy] = [light, heavy].map(|times| times.fared(std::slice::from_ref(time)));
        let waited = |ms: i64| if time == &times[0] { "–".to_owned() } else { ms.to_string() };
        let [of_light, of_heavy] = [&light, &heavy].map(|fared| format!("{:.0}", fared.per_second));
        table.add_row([name.to_owned(), of_light, of_heavy, waited(heavy.p50), waited(heavy.p99)]);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
