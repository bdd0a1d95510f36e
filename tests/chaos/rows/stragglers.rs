//! A share of the pushes is refused with 429 and a long Retry-After. Each holds its partition's committed offset until it is
//! delivered, and the offset map has room for so many: that bounds the throughput, and nothing is lost.

use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pusher::generate::Mix;
use pusher::queue::map::{self, OffsetMap};

use super::{broken, until};
use crate::episode::PATIENCE;
use crate::options::{Options, Stragglers};
use crate::provider::Ill;
use crate::side::Side;
use crate::world::World;
use crate::{home, plan};

/// The pause is Retry-After alone, and the map is the only bound: the others are raised.
const SETTINGS: [(&str, &str); 3] =
    [("apns.retry.interval", "20ms"), ("maxInFlight", "1000000"), ("maxInFlightBytes", "2000000000")];
/// What is measured may differ so much from what was computed: dice, and the worker's cautious count of bytes.
const NEAR: Range<f64> = 0.7..1.15;

pub(crate) fn run(row: Stragglers, options: &Options) -> Vec<String> {
    let window = window(row.share, options.seed);
    let delay = Duration::from_secs(row.delay.into());
    let computed = window as f64 * f64::from(row.partitions) / delay.as_secs_f64();
    eprintln!("the map holds {window} offsets of a partition with {} refused: {computed:.0}/s", row.share);
    let plan = home::Plan { settings: &SETTINGS, ..plan(options, row.partitions) };
    let mut world = World::start(&["apns"], &plan);
    let side = &mut world.sides[0];
    side.provider().set(Some(Ill::Limited { share: row.share, retry_after: Some(row.delay) }));
    side.start();
    side.flow(Some((computed * 1.3) as u32), u64::MAX, Mix::CALM);
    until(side, "the first delivery", 1, Side::accepted);
    let_pass(side, delay);
    let (begin, before) = (Instant::now(), side.accepted());
    let_pass(side, delay * row.rounds);
    let measured = (side.accepted() - before) as f64 / begin.elapsed().as_secs_f64();
    let texts = side.committed().iter().map(|(_, text, _)| text.len()).max().unwrap_or(0);
    side.provider().set(None);
    side.ebb();
    let goal = side.produced();
    until(side, "to the end", goal, Side::accepted);
    let settled = side.settle(PATIENCE + delay);
    let findings = side.audit();
    println!(
        "{} of {} pushes refused once with Retry-After {} s on {} partitions: {measured:.0}/s, computed {computed:.0}/s from {window} offsets \
         in the map (longest map {texts} characters); lost {}, repeated {}; seed {}",
        row.share, findings.pushes, row.delay, row.partitions, findings.lost, findings.repeated, options.seed,
    );
    let mut all = broken(&findings, 0);
    if !NEAR.contains(&(measured / computed)) {
        all.push(format!("{measured:.0}/s is not near the computed {computed:.0}/s"));
    }
    if !settled {
        all.push(format!("not settled: {:?}", side.committed()));
    }
    all
}

fn let_pass(side: &mut Side, time: Duration) {
    let begin = Instant::now();
    until(side, "time passes", time.as_secs(), |_| begin.elapsed().as_secs());
}

/// The most offsets of a partition, with this share of them unresolved, that one map holds.
fn window(share: f64, seed: u64) -> i64 {
    let mut rng = Rng::with_seed(seed);
    let waiting: Vec<bool> = (0..1_000_000).map(|_| rng.f64() < share).collect();
    let fits = |offsets: i64| {
        let mut resolved: Vec<Range<i64>> = Vec::new();
        for offset in (1..offsets).filter(|offset| !waiting[*offset as usize]) {
            match resolved.last_mut() {
                Some(last) if last.end == offset => last.end += 1,
                _ => resolved.push(offset..offset + 1),
            }
        }
        map::encode(&OffsetMap { base: 0, base_timestamp_ms: 0, cluster: 0, resolved }).is_some()
    };
    let (mut low, mut high) = (1, waiting.len() as i64);
    while high - low > 1 {
        let middle = i64::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}
