//! One push stuck in retry while many behind it in its partition are delivered, then SIGKILL: its neighbours do not come
//! again, because the offset map knows them.

use std::time::Instant;

use fastrand::Rng;
use pusher::generate::produce::LineProducer;
use pusher::generate::{Mix, Settings};
use pusher::queue::map;
use serde_json::Value;

use super::{RATE, broken, until};
use crate::episode::PATIENCE;
use crate::options::{Options, Stuck};
use crate::plan;
use crate::side::Side;
use crate::support::eventually;
use crate::world::World;

/// Refused with 429 at each attempt, as one device's rate (docs/simulator.md).
const STUCK: &str = "dead0429";

pub(crate) fn run(row: Stuck, options: &Options) -> Vec<String> {
    let mut rng = Rng::with_seed(options.seed);
    let mut world = World::start(&["apns"], &plan(options, 1));
    let kafka = world.neighbours.kafka.brokers.clone();
    let side = &mut world.sides[0];
    produce_stuck(side, &kafka);
    side.start();
    side.flow(Some(options.rate.unwrap_or(RATE)), row.count, Mix::CALM);
    // While the last part of them is on its way.
    let moment = row.count - (row.count as f64 * 0.1 * rng.f64()) as u64;
    until(side, "to the kill", moment.min(row.count - 1), Side::accepted);
    side.kill(0);
    let at_kill = side.accepted();
    let maps = side.committed();
    side.start();
    let restarted = Instant::now();
    until(side, "to the first that is new", at_kill + 1, Side::accepted);
    let away = restarted.elapsed();
    until(side, "to the end", row.count, Side::accepted);
    side.ebb();
    // The stuck one holds the committed offset; the map says that all behind it are resolved.
    let resolved = || {
        let (offset, text, end) = side.committed().swap_remove(0);
        let map = map::decode(&text).ok().flatten()?;
        (offset == 0 && map.resolved.len() == 1 && map.resolved[0] == (1..end)).then_some(())
    };
    eventually("a map of all but the stuck one", PATIENCE, resolved);
    let (may_repeat, findings) = (side.may_repeat, side.audit());
    println!(
        "{at_kill} pushes delivered behind a stuck one, then SIGKILL (committed {}, a map of {} characters), {away:.1?} later new ones: of {} lost {}, \
         repeated {} (counted at the kill {may_repeat}, promised {}); seed {}",
        maps[0].0,
        maps[0].1.len(),
        findings.pushes - 1,
        findings.lost,
        findings.repeated,
        side.promised,
        options.seed,
    );
    let mut all = broken(&findings, may_repeat);
    if findings.repeated > side.promised {
        all.push(format!("{} repeated, at most {} are promised", findings.repeated, side.promised));
    }
    all
}

/// The first message of the partition.
fn produce_stuck(side: &Side, brokers: &str) {
    let settings = Settings { count: 1, first_serial: u64::from(u32::MAX), mix: Mix::CALM, ..Settings::default() };
    let push = side.provider().messages(&side.app, settings).next().expect("a message");
    let mut message: Value = serde_json::from_str(&push.line).expect("JSON");
    let token = message["DeviceToken"].as_str().expect("a token");
    message["DeviceToken"] = format!("{STUCK}{}", &token[STUCK.len()..]).into();
    let line = message.to_string();
    side.meter.books.lock().note_waiting(&line);
    let mut producer = LineProducer::new(brokers, &side.topic, None).expect("a producer");
    producer.send(line.as_bytes()).expect("produced");
    producer.flush().expect("the broker has it");
}
