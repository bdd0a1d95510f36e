//! How the parts of a listener are joined. Threads: `poll` (Kafka, synchronous) and `house` (one small runtime for statements
//! and clocks); librdkafka and the control topic have threads of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batches::Intake;
use super::config::Settings;
use super::deletions::Deletions;
use super::guards::Guards;
use super::ledger::Ledger;
use super::topic::{Apps, FeedbackTopics};
use super::{Listener, StartError, run};
use crate::admin::Admin;
use crate::config::{Config, ConfigError};
use crate::control::{self, Control};
use crate::levers::{Follower, orders::LISTENER};
use crate::queue::{self, InFlight, Queue};
use crate::reporters::StatsReporter as _;
use crate::reporters::invalid_token::{Deleter, latch};
use crate::reporters::stats::{Metric, Stats};
use crate::rhythm;
use crate::shutdown::Shutdown;

/// How long the start waits for the entries: a valve that was closed must not let anything through before that is known.
const ENTRIES: Duration = Duration::from_secs(10);
/// A housekeeping runtime that has not served its own heartbeat for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(30);
/// How often gauges are told.
const GAUGES: Duration = Duration::from_secs(1);

/// The runtime of statements and clocks.
pub(super) fn house() -> Result<Runtime, StartError> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(4).thread_name("house").enable_all();
    builder.build().map_err(|error| StartError::Machine { what: "the housekeeping runtime", error })
}

/// The topics that the configuration wants of these apps.
pub(super) fn topics(queue: &queue::config::Settings, platforms: &[Apps]) -> Result<FeedbackTopics, ConfigError> {
    FeedbackTopics::new(&queue.topics, platforms).map_err(|rule| queue.wrong_topics(rule))
}

/// Where the entries are that outlive this process.
pub(super) fn control(
    config: &Config,
    queue: &queue::config::Settings,
) -> Result<Option<control::Settings>, ConfigError> {
    let consumer = control::config::Consumer { brokers: &queue.brokers, group: &queue.group, options: &queue.options };
    control::Settings::from_config(config, consumer)
}

/// Waits until the entries are known, and obeys the orders among them from now on. Before the queue starts, which is to be
/// polled from then on.
pub(super) fn obey(control: &Control, in_flight: &Arc<InFlight>, house: &Runtime, shutdown: &Shutdown) {
    control.start();
    let follower = Follower::new(LISTENER, control.clone(), in_flight.clone(), Arc::default());
    house.block_on(shutdown.token().run_until_cancelled(follower.begin(ENTRIES)));
    shutdown.spawn_on(house.handle(), "orders", follower.follow(shutdown.token()));
}

/// What a listener is made of, besides its queue.
pub(super) struct Parts {
    pub(super) own: Settings,
    /// Most records in flight.
    pub(super) most: usize,
    /// Statements side by side.
    pub(super) places: usize,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) deleter: Arc<dyn Deleter>,
    pub(super) control: Control,
    pub(super) platforms: Vec<Apps>,
    pub(super) stats: Stats,
    pub(super) ledger: Arc<Ledger>,
}

impl Parts {
    pub(super) fn assemble(
        self,
        queue: Box<dyn Queue>,
        house: Runtime,
        shutdown: Shutdown,
        admin: Option<Admin>,
    ) -> Result<Listener, StartError> {
        let Parts { own, most, places, in_flight, deleter, control, platforms, stats, ledger } = self;
        let hostname = gethostname::gethostname().to_string_lossy().into_owned();
        let guards = Arc::new(Guards {
            limits: own.limits,
            in_flight: in_flight.clone(),
            deleter: deleter.clone(),
            control: control.clone(),
            platforms,
            process: latch::process(&hostname),
            hostname: hostname.clone(),
            stats: stats.clone(),
            by_table: RwLock::default(),
        });
        guards.obey(&control.state());
        let (end, runtime) = (shutdown.token(), house.handle());
        let (out, batches) = mpsc::channel(most);
        let deletions = Arc::new(Deletions::new(guards.clone(), ledger.clone(), end.clone()));
        let intake = Intake::new(&own, most, in_flight.clone(), out, ledger.clone(), stats.clone());
        let (buffered, waiting) = (intake.buffered(), deletions.waiting());
        let serving = shutdown.spawn_on(runtime, "deletions", deletions.serve(places, batches));
        shutdown.spawn_on(runtime, "valves", guards.clone().follow(end.clone()));
        shutdown.spawn_on(runtime, "refused tables", guards.clone().ask_again(end.clone()));
        stats.count(Metric::FeedbackListenerRestart, &[("hostname", &hostname)], 1);
        let pulse = shutdown.pulses().start("housekeeping runtime", STANDSTILL);
        let gauges = Gauges { guards, in_flight: in_flight.clone(), buffered, waiting }.tell(end);
        shutdown.spawn_on(runtime, "gauges", pulse.during(gauges));
        let stopping = shutdown.clone();
        let body = move || run::run(queue, intake, &stopping, own.grace, || serving.is_finished());
        let poll =
            shutdown.thread("poll", body).map_err(|error| StartError::Machine { what: "the poll thread", error })?;
        Ok(Listener { shutdown, poll, house, deleter, stats, control, ledger, in_flight, admin })
    }
}

/// What is told once a second.
struct Gauges {
    guards: Arc<Guards>,
    in_flight: Arc<InFlight>,
    buffered: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

impl Gauges {
    async fn tell(self, end: CancellationToken) {
        while tokio::select! { () = rhythm::strike(GAUGES) => true, () = end.cancelled() => false } {
            self.guards.publish();
            let gauge = |metric, value: usize| {
                self.guards.stats.gauge(metric, &[("hostname", &self.guards.hostname)], value as f64);
            };
            gauge(Metric::QueueOutChannel, self.in_flight.total().messages);
            gauge(Metric::InvalidTokenHandlerBuffer, self.buffered.load(Relaxed));
            gauge(Metric::BrokerInvalidTokenChannel, self.waiting.load(Relaxed));
        }
    }
}
