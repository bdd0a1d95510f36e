//! The wiring of one worker: builds every room from the configuration and joins them. Only this file knows all concrete
//! types.
//!
//! Threads: `poll` (Kafka, synchronous), `send-0…` (one `current_thread` runtime each, with its own connections), `house`
//! (one small runtime for everything that is not a push: PostgreSQL, clocks). The queue and the producers of feedback and
//! dead letters have librdkafka's threads besides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::admin::Admin;
use crate::admission;
use crate::circuit::Circuit;
use crate::concurrency::Rivals;
use crate::config::Config;
use crate::delivery::FeedbackSwitches;
use crate::desk::{AppTools, Desk, Waiting};
use crate::dispatch;
use crate::handlers::{self, Provider, Sender};
use crate::jobs::Jobs;
use crate::levers::Levers;
use crate::line::{self, Ahead, Turns};
use crate::observer::QueueObserver;
use crate::queue::kafka::KafkaQueue;
use crate::queue::topic::PushTopics;
use crate::queue::{InFlight, Queue};
use crate::reporters::{Reporters, StatsReporter as _};
use crate::sender::SenderHandle;
use crate::settings::WorkerSettings;
use crate::shutdown::Shutdown;
use crate::spread::{Load, Spread};
use crate::tally::{Tally, Totals};

mod clocks;
mod configured;
mod credentials;
mod orders;
pub mod readings;
mod start_error;
mod status;

use configured::Configured;
pub use credentials::Reload;
pub use start_error::StartError;
use status::Status;

/// How long the topics of feedback, and of dead letters, may take to be confirmed.
const CHECK: Duration = Duration::from_secs(30);
/// A housekeeping runtime that has not served its own heartbeat for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(30);
/// How long the last deletions and entries, and then the last statistics, may take: no offset waits for them any more.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a worker leaves behind.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its ledger.
    pub totals: Totals,
    /// Whether everything that was on its way came to its end in time.
    pub drained: bool,
}

/// A running worker of one platform.
pub struct Worker {
    shutdown: Shutdown,
    poll: std::thread::JoinHandle<dispatch::Ended>,
    house: Runtime,
    reporters: Arc<Reporters>,
    in_flight: Arc<InFlight>,
    circuits: HashMap<Arc<str>, Arc<Circuit>>,
    admin: Option<Admin>,
    reload: Reload,
}

impl Worker {
    /// Starts the worker of a platform (`apns`): reads credentials, checks that feedback can be written, joins the group.
    /// `production` chooses the provider's production hosts. It runs until `shutdown` begins, or begins it when the
    /// queue fails for good.
    pub fn start(config: &Config, platform: &str, production: bool, shutdown: Shutdown) -> Result<Worker, StartError> {
        let house = clocks::house()?;
        let Configured {
            settings,
            weights,
            queue,
            feedback,
            breaker,
            retries,
            control,
            reporters,
            provider,
            admission,
            admin,
        } = Configured::read(config, platform, production, &house)?;
        // First of all: who watches must not take a slow start for a hanging one.
        let admin = Admin::start(&admin, house.handle()).map_err(|error| config.placed(&error))?;
        let apps = provider.apps();
        let with_platform: Vec<_> = apps.iter().map(|app| (app.clone(), provider.platform())).collect();
        house.block_on(shutdown.token().run_until_cancelled(reporters.check(&with_platform, CHECK))).transpose()?;
        let looking = reporters.clone();
        house.spawn(async move { looking.look_for_dead_letters(&with_platform, CHECK).await });
        let in_flight = InFlight::new(settings.max_in_flight, settings.max_in_flight_bytes);
        let (tally, stats, interval) = (in_flight.tally().clone(), reporters.stats().clone(), queue.commit_interval);
        let observer = Arc::new(QueueObserver::new(tally, stats, shutdown.pulses(), interval));
        let known: Vec<_> = handlers::providers().iter().map(|registration| registration.platform).collect();
        let topics = PushTopics::new(&queue.topics, provider.platform(), &known, &apps)
            .map_err(|rule| config.placed(&queue.wrong_topics(rule)))?;
        in_flight.set_apps(&apps);
        // It may wait for them, and a queue that has started is to be polled.
        let jobs = orders::obey(provider.platform(), &control, &in_flight, &house, &shutdown);
        if shutdown.has_begun() {
            // What is being looked at may take its time.
            house.shutdown_background();
            return Err(StartError::Stopped);
        }
        let queue = KafkaQueue::start(queue, Box::new(topics), in_flight.clone(), observer.clone())
            .map_err(|error| config.placed(&error))?;
        let switches = FeedbackSwitches { success: feedback.success, metadata: feedback.metadata };
        // The queue has told the bounds which apps share them.
        let (rivals, failed) = (Arc::new(Rivals::default()), Arc::new(Notify::new()));
        let circuit = |(app, weight): (Arc<str>, u32)| {
            let (share, stats) = (in_flight.share(&app), reporters.stats().clone());
            let circuit = Circuit::new(app.clone(), provider.platform(), share, breaker, retries, stats);
            let circuit = circuit.beside(rivals.enter(weight), provider.pace(&app), failed.clone());
            (app, Arc::new(circuit))
        };
        let circuits: HashMap<_, _> = weights.into_iter().map(circuit).collect();
        if let Some(admin) = &admin {
            let (provider, reporters, in_flight) = (provider.clone(), reporters.clone(), in_flight.clone());
            let (circuits, jobs, shutdown) = (circuits.clone(), jobs.clone(), shutdown.clone());
            let levers = Levers::new(control, handlers::providers().iter().map(|known| known.platform));
            admin.open(Arc::new(Status { provider, reporters, in_flight, circuits, observer, levers, jobs, shutdown }));
        }
        let parts =
            Parts { settings, provider, reporters, in_flight, switches, circuits, failed, rivals, admission, jobs };
        parts.assemble(Box::new(queue), house, shutdown, admin)
    }

    /// The worker's own ledger.
    pub fn tally(&self) -> &Arc<Tally> {
        self.in_flight.tally()
    }

    /// What is lent and not resolved.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// The way of an app to its provider; `None` for an app that is not configured.
    pub fn circuit(&self, app: &str) -> Option<&Arc<Circuit>> {
        self.circuits.get(app)
    }

    /// Asks it to look at its files of credentials now.
    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// Where its admin server listens, when it has one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Waits for the end: what was on its way finished or the deadline come, feedback flushed, offsets committed.
    pub fn join(self) -> Summary {
        let drained = match self.poll.join() {
            Ok(dispatch::Ended { error, drained }) => {
                if let Some(error) = error {
                    self.shutdown.fail("queue", error);
                }
                drained
            }
            // The panic itself has begun the end and raised the alarm; see `shutdown`.
            Err(_) => false,
        };
        let totals = self.in_flight.tally().totals();
        if !drained {
            tracing::warn!(in_flight = totals.unaccounted(), left = ?self.shutdown.at_work(), "the deadline came first; what is left stays uncommitted and is sent after the next start");
        }
        self.house.block_on(self.reporters.close(LAST_WORDS));
        self.reporters.stats().close(LAST_WORDS);
        self.house.shutdown_timeout(Duration::from_secs(1));
        Summary { totals, drained }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("totals", &self.tally().totals()).finish_non_exhaustive()
    }
}

/// What a worker is made of, besides its queue.
#[derive(Clone)]
struct Parts {
    settings: WorkerSettings,
    provider: Arc<dyn Provider>,
    reporters: Arc<Reporters>,
    in_flight: Arc<InFlight>,
    switches: FeedbackSwitches,
    circuits: HashMap<Arc<str>, Arc<Circuit>>,
    /// Told by the circuits when something has failed.
    failed: Arc<Notify>,
    rivals: Arc<Rivals>,
    admission: Option<Arc<admission::Plan>>,
    jobs: Arc<Jobs>,
}

impl Parts {
    fn assemble(
        self,
        queue: Box<dyn Queue>,
        house: Runtime,
        shutdown: Shutdown,
        admin: Option<Admin>,
    ) -> Result<Worker, StartError> {
        let apps: Vec<_> =
            self.provider.apps().into_iter().map(|app| (app.clone(), self.provider.pool_key(&app))).collect();
        let streams = self.provider.streams_per_connection();
        let spread = Spread::new(apps, self.settings.workers, streams, handlers::home_sender);
        self.provider.start(house.handle());
        let told = self.reporters.stats().told();
        self.provider.apps().iter().for_each(|app| told.begin(self.provider.platform(), app));
        let senders = self.start_senders(&spread, &shutdown)?;
        let pulse = shutdown.pulses().start("housekeeping runtime", STANDSTILL);
        house.spawn(pulse.during(clocks::tell_gauges(self.clone(), shutdown.clone())));
        house.spawn(clocks::keep_breakers(self.clone(), shutdown.clone()));
        let reload = Reload::default();
        house.spawn(credentials::watch(self.clone(), reload.clone(), shutdown.clone()));
        let Parts { settings, provider, reporters, in_flight, circuits, .. } = self;
        let (stopping, runtime, to_flush) = (shutdown.clone(), house.handle().clone(), reporters.clone());
        let body = move || {
            let before_close = |left| runtime.block_on(to_flush.flush(left));
            let grace = settings.graceful_shutdown;
            dispatch::run(queue, &senders, spread, &stopping, grace, || provider.close(), before_close)
        };
        let poll =
            shutdown.thread("poll", body).map_err(|error| StartError::Machine { what: "the poll thread", error })?;
        Ok(Worker { shutdown, poll, house, reporters, in_flight, circuits, admin, reload })
    }

    fn start_senders(&self, spread: &Spread, shutdown: &Shutdown) -> Result<Vec<SenderHandle>, StartError> {
        let of = self.settings.workers;
        let start = |index| {
            let loads: HashMap<_, _> =
                self.provider.apps().into_iter().map(|app| (app.clone(), spread.load(&app))).collect();
            let (parts, sender) = (self.clone(), Sender { index, of });
            let desk = move |waiting_room, turns: &Turns| parts.desk(loads, sender, waiting_room, turns);
            SenderHandle::start(&format!("send-{index}"), self.settings.max_in_flight, shutdown, desk)
                .map_err(|error| StartError::Machine { what: "a sender thread", error })
        };
        (0..of).map(start).collect()
    }

    /// Runs on the sender's thread, inside its runtime.
    fn desk(
        self,
        loads: HashMap<Arc<str>, Load>,
        sender: Sender,
        waiting_room: mpsc::Sender<Waiting>,
        turns: &Turns,
    ) -> Desk {
        self.rivals.watch(tokio::runtime::Handle::current().metrics());
        let tools = |(app, load): (Arc<str>, Load)| {
            let (handler, circuit) = (self.provider.handler(&app, sender), self.circuits[&app].clone());
            let (pace, concurrency) = (circuit.pace().cloned(), circuit.concurrency().clone());
            let ahead = Ahead::new(turns, line::Tools { pace, load, concurrency });
            (app, AppTools { handler, ahead, circuit })
        };
        let apps = loads.into_iter().map(tools).collect();
        let admission = self.admission.map(|plan| plan.open(sender.index));
        let desk = Desk::new(apps, self.reporters, self.switches, self.provider.retry(), waiting_room);
        desk.with_admission(admission).with_jobs(self.jobs)
    }
}
