//! A worker with two apps, one of which is refused in every way that a provider has for one app: what the other one feels of
//! it, at a fixed load. Apps of one host share its connections (APNs) or their threads alone (FCM); what befalls a whole host
//! befalls both, and has no place here.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use pusher::generate::Mix;

use super::{broken, until};
use crate::episode::{PATIENCE, pause};
use crate::options::{Beside, Options};
use crate::plan;
use crate::processors::Processors;
use crate::provider::Ill;
use crate::side::Side;
use crate::times::{Times, now_ms, quantile};
use crate::world::World;

/// Pushes per second of each app: with all that the run starts, Kafka and the provider among it, two cores are busy for little more
/// than half then. At twice of it they are for nine tenths, and p99 is theirs.
const RATE: u32 = 250;
/// A worker that takes more of the machine than this in calm times has too much to do: what the other app feels may be that.
const HALF: f64 = 0.5;
/// The same of a machine that is busier than this with all that the run starts.
const FULL: f64 = 0.75;
/// Before each ill both are well for so long.
const CALM: Duration = Duration::from_secs(20);
/// A machine that stands still for half a second makes the p99 of a minute its own. So p99 is that of most windows of this length
/// (or of the shortest phase), and the window in which an ill begins is compared with nearly the worst calm one.
const WINDOW: Duration = Duration::from_secs(5);
/// What the healthy app's speed and p99 may differ from those of calm times.
const NEAR: f64 = 0.15;
/// So many windows are most of them, and are all but those in which the machine stood still.
const MOST: f64 = 0.75;
const NEARLY_ALL: f64 = 0.95;
/// With a part of its devices refused, an app's other pushes go on as before; so many are accepted at the first attempt or
/// within the time that is looked at.
const UNCHANGED: f64 = 0.95;
const LOOK: Duration = Duration::from_millis(100);

const ILLS: [(&str, Ill); 7] = [
    ("503 for all", Ill::Unavailable),
    ("accepted and not answered", Ill::Silent),
    ("an RST storm: 51 % of the streams", Ill::Resets),
    ("10 % of the answers are lost", Ill::AnswersLost(0.1)),
    ("429 for 20 % of the devices", PARTLY),
    ("429 for all devices", Ill::Limited { share: 1.0, retry_after: None }),
    ("429 for all devices, with Retry-After", Ill::Limited { share: 1.0, retry_after: Some(5) }),
];
const PARTLY: Ill = Ill::Limited { share: 0.2, retry_after: Some(1) };

/// A time in which the first app met the same; Unix ms.
struct Phase {
    ill: Option<(&'static str, Ill)>,
    time: Range<i64>,
    /// The worker's resident memory at its end, bytes.
    resident: u64,
    /// What part of the machine was in use, and by the worker.
    busy: f64,
    worker: f64,
}

pub(crate) fn run(row: Beside, options: &Options) -> Vec<String> {
    let rate = options.rate.unwrap_or(RATE);
    let world = World::start(&[], &plan(options, 4));
    let mut sides = Side::pair(row.platform.name(), &world.neighbours, &plan(options, 4));
    sides[0].start();
    for side in &mut sides {
        side.flow(Some(rate), u64::MAX, Mix::CALM);
    }
    until(&mut sides[0], "both at speed", u64::from(rate) * 10, Side::accepted);
    let mut phases = vec![pass(&mut sides, CALM, None)];
    for (name, ill) in ILLS {
        eprintln!("{name}");
        let before = sides[0].provider().counts();
        sides[0].provider().set_for_first(&sides[0].app, ill);
        phases.push(pass(&mut sides, options.outage(), Some((name, ill))));
        sides[0].provider().set(None);
        until_caught_up(&mut sides, rate);
        phases.push(pass(&mut sides, CALM, None));
        // What was accepted and not answered may be followed by one repeat. Counted now: what was under way at the end of it is
        // over.
        let now = sides[0].provider().counts();
        let lost = if matches!(ill, Ill::AnswersLost(_)) { now.resets - before.resets } else { 0 };
        sides[0].may_come_again(lost + now.cut_off - before.cut_off);
    }
    let mut all = Vec::new();
    sides.iter_mut().for_each(Side::ebb);
    for side in &mut sides {
        if !side.settle(PATIENCE) {
            all.push(format!("not settled: {:?}", side.committed()));
        }
    }
    let times = [&sides[0], &sides[1]].map(|side| Times::read(&world.neighbours.kafka.brokers, side));
    for side in &mut sides {
        let may_repeat = side.may_repeat;
        all.extend(broken(&side.audit(), may_repeat));
    }
    println!(
        "{}\n{} pushes/s of each app over {}; seed {}",
        table(&phases, &times),
        rate,
        row.platform.name(),
        options.seed
    );
    all.extend(judge(&phases, &times, rate));
    all
}

/// Lets time pass.
fn pass(sides: &mut [Side; 2], time: Duration, ill: Option<(&'static str, Ill)>) -> Phase {
    let (begin, begun, before, used) = (now_ms(), Instant::now(), Processors::now(), sides[0].worker(0).ticks());
    while begun.elapsed() < time {
        sides[0].assert_alive();
        pause(LOOK);
    }
    let now = Processors::now();
    let worker = now.share_since(before, sides[0].worker(0).ticks() - used);
    let resident = sides[0].worker(0).resident();
    Phase { ill, time: begin..now_ms(), resident, busy: now.busy_since(before), worker }
}

/// Waits until the backlog is gone: less waits than a second brings.
fn until_caught_up(sides: &mut [Side; 2], rate: u32) {
    let begun = Instant::now();
    let waiting = |sides: &[Side; 2]| (sides[0].produced() + sides[1].produced()).saturating_sub(sides[0].accepted());
    while waiting(sides) > u64::from(rate) {
        sides[0].assert_alive();
        assert!(begun.elapsed() < PATIENCE, "{} pushes are still waiting", waiting(sides));
        pause(LOOK);
    }
}

fn ranges(phases: &[&Phase]) -> Vec<Range<i64>> {
    phases.iter().map(|phase| phase.time.clone()).collect()
}

fn mean(phases: &[&Phase], of: fn(&Phase) -> f64) -> f64 {
    phases.iter().map(|phase| of(phase)).sum::<f64>() / phases.len() as f64
}

/// The p99 of an app in windows, ms: not exceeded by most of them, by nearly all, in the first.
struct Felt {
    most: i64,
    nearly_all: i64,
    first: i64,
}

impl Felt {
    fn of(times: &Times, phases: &[&Phase], window: Duration) -> Felt {
        let windows = times.p99s(&ranges(phases), window);
        let first = *windows.first().expect("a phase has a window");
        let mut sorted = windows;
        sorted.sort_unstable();
        assert!(sorted.last() < Some(&i64::MAX), "a window without a push of the healthy app");
        Felt { most: quantile(&sorted, MOST), nearly_all: quantile(&sorted, NEARLY_ALL), first }
    }
}

/// An outage may be set to less than a window.
fn window(phases: &[Phase]) -> Duration {
    let shortest = phases.iter().map(|phase| phase.time.end - phase.time.start).min().unwrap_or(0);
    WINDOW.min(Duration::from_millis(shortest.unsigned_abs()))
}

/// What the apps met, one phase after the other: all calm ones together first.
fn rows(phases: &[Phase]) -> Vec<(&'static str, Vec<&Phase>)> {
    let calm: Vec<_> = phases.iter().filter(|phase| phase.ill.is_none()).collect();
    let ill = phases.iter().filter_map(|phase| phase.ill.map(|(name, _)| (name, vec![phase])));
    [("calm", calm)].into_iter().chain(ill).collect()
}

fn table(phases: &[Phase], times: &[Times; 2]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "one app meets",
        "its pushes/s",
        "the other's",
        "p50 ms",
        "p99 ms",
        "most windows",
        "nearly all",
        "the first",
        "resident MiB",
        "machine busy",
        "by the worker",
    ]);
    let window = window(phases);
    for (name, phases) in rows(phases) {
        let [sick, well] = times.each_ref().map(|times| times.fared(&ranges(&phases)));
        let felt = Felt::of(&times[1], &phases, window);
        let most = phases.iter().map(|phase| phase.resident).max().unwrap_or(0);
        let percent = |of: fn(&Phase) -> f64| format!("{:.0} %", 100.0 * mean(&phases, of));
        let cells = [
            name.to_owned(),
            format!("{:.0}", sick.per_second),
            format!("{:.0}", well.per_second),
            well.p50.to_string(),
            well.p99.to_string(),
            felt.most.to_string(),
            felt.nearly_all.to_string(),
            felt.first.to_string(),
            (most >> 20).to_string(),
            percent(|phase| phase.busy),
            percent(|phase| phase.worker),
        ];
        table.add_row(cells);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn judge(phases: &[Phase], [sick, well]: &[Times; 2], rate: u32) -> Vec<String> {
    let (mut all, window) = (Vec::new(), window(phases));
    let calm: Vec<_> = phases.iter().filter(|phase| phase.ill.is_none()).collect();
    let (well_calm, felt_calm) = (well.fared(&ranges(&calm)), Felt::of(well, &calm, window));
    assert!(
        well_calm.per_second > 0.5 * f64::from(rate),
        "{:.0} pushes/s of the healthy app when calm",
        well_calm.per_second
    );
    let (busy, worker) = (mean(&calm, |phase| phase.busy), mean(&calm, |phase| phase.worker));
    if worker > HALF || busy > FULL {
        let (worker, busy) = (100.0 * worker, 100.0 * busy);
        all.push(format!(
            "when calm the worker takes {worker:.0} % of the machine, which is busy for {busy:.0} %: half and 75 % are meant, see --rate"
        ));
    }
    for phase in phases {
        let Some((name, ill)) = phase.ill else { continue };
        let (now, mut what) = (well.fared(&ranges(&[phase])), String::new());
        if (now.per_second / well_calm.per_second - 1.0).abs() > NEAR {
            write!(what, "{:.0} pushes/s, {:.0} when calm; ", now.per_second, well_calm.per_second).expect("a text");
        }
        let felt = Felt::of(well, &[phase], window);
        let compared = [("", felt.most, felt_calm.most), (" as it begins", felt.first, felt_calm.nearly_all)];
        for (when, p99, calm) in compared {
            if p99 as f64 > calm as f64 * (1.0 + NEAR) {
                write!(what, "p99{when} {p99} ms, {calm} ms when calm; ").expect("a text");
            }
        }
        let ours = sick.fared(&ranges(&[phase])).per_second;
        if ill == PARTLY && ours < UNCHANGED * f64::from(rate) {
            write!(what, "the app itself {ours:.0} pushes/s of {rate}; ").expect("a text");
        }
        if !what.is_empty() {
            all.push(format!("{name}: the other app feels it: {what}"));
        }
    }
    all
}
