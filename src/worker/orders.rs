//! Puts what people have ordered into force in a worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::control::Control;
use crate::jobs::Jobs;
use crate::levers::Follower;
use crate::message::Platform;
use crate::queue::InFlight;
use crate::shutdown::Shutdown;

/// How long a start waits for the orders: nothing of what was paused or stopped is to be sent before they are known.
const ENTRIES: Duration = Duration::from_secs(10);

/// Obeys the orders that stand, and from then on those that come; the jobs that it stops.
pub(super) fn obey(
    platform: Platform,
    control: &Control,
    in_flight: &Arc<InFlight>,
    house: &Runtime,
    shutdown: &Shutdown,
) -> Arc<Jobs> {
    let jobs = Arc::new(Jobs::default());
    let follower = Follower::new(platform.0, control.clone(), in_flight.clone(), jobs.clone());
    house.block_on(shutdown.token().run_until_cancelled(follower.begin(ENTRIES)));
    shutdown.spawn_on(house.handle(), "orders", follower.follow(shutdown.token()));
    jobs
}
