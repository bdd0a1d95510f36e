//! Two apps that both have more than one thread can send.

use pusher::generate::Mix;
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;

use crate::support::eventually;
use crate::support::flow::{Ends, LONG};

const EACH: u64 = 24_000;

#[test]
fn apps_share_a_worker_that_is_too_slow_for_all_by_their_weights() {
    let mut ends = Ends::<Simulator>::of(&["light", "heavy"], Faults::default());
    for (app, first) in [("light", 0), ("heavy", EACH)] {
        let pushes = Ends::<Simulator>::generate(app, EACH, first, Mix::CALM);
        ends.produce_for(app, pushes.iter().map(|push| &push.line));
    }
    let running = ends.worker_with(&[("workers", "1"), ("weights.heavy", "3")]);
    let delivered = |app| running.totals_of(app).delivered;
    let light_when_heavy_has = |count| {
        eventually("the heavy app's pushes", LONG, || (delivered("heavy") >= count).then(|| delivered("light")))
    };
    let (before, after) = (light_when_heavy_has(EACH / 4), light_when_heavy_has(EACH - EACH / 8));
    let third = (EACH - EACH / 4 - EACH / 8) / 3;
    let light = after - before;
    assert!((third * 6 / 10..third * 16 / 10).contains(&light), "{light} of the light app, {third} were its part");
    ends.settle();
    assert_eq!(running.stop().totals.delivered, 2 * EACH);
}
