//! The wiring of one worker: builds every room from the configuration and joins them. Only this file knows all concrete
//! types.
//!
//! Threads: `poll` (Kafka, synchronous), `send-0…` (one `current_thread` runtime each, with its own connections), `house`
//! (one small runtime for everything that is not a push: PostgreSQL, clocks). The queue and the feedback producer have
//! librdkafka's threads besides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::config::{Config, ConfigErrors, Problems};
use crate::delivery::FeedbackSwitches;
use crate::desk::{AppTools, Desk, Waiting};
use crate::dispatch;
use crate::handlers::{self, Provider, ProviderError, Sender};
use crate::observer::WorkerObserver;
use crate::queue::kafka::KafkaQueue;
use crate::queue::{self, InFlight, Queue};
use crate::reporters::stats::Metric;
use crate::reporters::{CheckError, Reporters, StatsReporter as _, feedback};
use crate::sender::SenderHandle;
use crate::settings::WorkerSettings;
use crate::shutdown::Shutdown;
use crate::spread::{Load, Spread};
use crate::status::Status;
use crate::tally::{Tally, Totals};

/// How long the start waits for the feedback topics to be confirmed.
const CHECK: Duration = Duration::from_secs(30);
/// How long the last statistics may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a worker did not start. All of them are found before anything is consumed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values that the operator must mend.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A credential that the operator must mend.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A feedback topic that the operator must mend.
    #[error(transparent)]
    Feedback(#[from] CheckError),
    /// The machine refused a thread or a runtime.
    #[error("{what} could not be started: {error}")]
    Machine {
        /// What was to be started.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
}

impl StartError {
    /// Whether somebody must mend the configuration (or a credential, or a topic): a restart alone would not help.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, StartError::Machine { .. })
    }
}

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
    admin: Option<Admin>,
}

impl Worker {
    /// Starts the worker of a platform (`apns`): reads credentials, checks that feedback can be written, joins the group.
    /// `production` chooses the provider's production hosts. It runs until `shutdown` begins, or begins it when the
    /// queue fails for good.
    pub fn start(config: &Config, platform: &str, production: bool, shutdown: Shutdown) -> Result<Worker, StartError> {
        let house = house()?;
        let Configured { settings, queue, feedback, reporters, provider, admin } =
            Configured::read(config, platform, production, &house)?;
        // First of all: who watches must not take a slow start for a hanging one.
        let admin = Admin::start(&admin, house.handle()).map_err(|error| config.placed(&error))?;
        let apps = provider.apps();
        let with_platform: Vec<_> = apps.iter().map(|app| (app.clone(), provider.platform())).collect();
        house.block_on(reporters.check(&with_platform, CHECK))?;
        let in_flight = InFlight::new(settings.max_in_flight, settings.max_in_flight_bytes);
        let (tally, interval) = (in_flight.tally().clone(), queue.commit_interval);
        let observer = Arc::new(WorkerObserver::new(tally, reporters.clone(), shutdown.pulses(), interval));
        let known: Vec<_> = handlers::providers().iter().map(|registration| registration.platform).collect();
        let queue = KafkaQueue::start(queue, provider.platform(), &known, &apps, in_flight.clone(), observer.clone())
            .map_err(|error| config.placed(&error))?;
        let switches = FeedbackSwitches { success: feedback.success, metadata: feedback.metadata };
        let status = Status { provider, reporters, in_flight, observer, shutdown };
        Parts { settings, switches, status }.assemble(Box::new(queue), house, admin)
    }

    /// The worker's own ledger.
    pub fn tally(&self) -> &Arc<Tally> {
        self.in_flight.tally()
    }

    /// What is lent and not resolved.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
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

/// What the configuration says, room by room.
struct Configured {
    settings: WorkerSettings,
    queue: queue::config::Settings,
    feedback: feedback::Settings,
    reporters: Arc<Reporters>,
    provider: Arc<dyn Provider>,
    admin: admin::Settings,
}

impl Configured {
    /// Reads all rooms before it gives up: one start names everything that is wrong. Connects to nothing.
    fn read(config: &Config, platform: &str, production: bool, house: &Runtime) -> Result<Configured, StartError> {
        let mut problems = Problems::default();
        let settings = problems.take(WorkerSettings::from_config(config));
        let queue = problems.take(queue::config::Settings::from_config(config));
        let feedback = problems.take(feedback::Settings::from_config(config));
        let reporters = problems.take(Reporters::from_config(config, house.handle()));
        let admin = problems.take(admin::Settings::from_config(config));
        let provider = match handlers::provider(platform, config, production) {
            Err(ProviderError::Config(error)) => problems.take(Err(error)),
            other => Some(other),
        };
        config.check(problems)?;
        let (Some(settings), Some(queue), Some(feedback), Some(reporters), Some(provider), Some(admin)) =
            (settings, queue, feedback, reporters, provider, admin)
        else {
            unreachable!("what is missing has left a problem, and there is none")
        };
        let provider = provider.inspect_err(|error| tell_initialize_failure(&reporters, error))?;
        Ok(Configured { settings, queue, feedback, reporters: Arc::new(reporters), provider, admin })
    }
}

/// What a worker is made of, besides its queue.
#[derive(Clone)]
struct Parts {
    settings: WorkerSettings,
    switches: FeedbackSwitches,
    status: Status,
}

impl Parts {
    fn assemble(self, queue: Box<dyn Queue>, house: Runtime, admin: Option<Admin>) -> Result<Worker, StartError> {
        let provider = &self.status.provider;
        let apps: Vec<_> = provider.apps().into_iter().map(|app| (app.clone(), provider.pool_key(&app))).collect();
        apps.iter().for_each(|(app, _)| self.status.reporters.stats().told().begin(provider.platform(), app));
        let streams = provider.streams_per_connection();
        let spread = Spread::new(apps, self.settings.workers, streams, handlers::home_sender);
        provider.start(house.handle());
        let senders = self.start_senders(&spread)?;
        house.spawn(self.status.clone().tell_gauges());
        if let Some(admin) = &admin {
            admin.open(Arc::new(self.status.clone()));
        }
        let Parts { settings, status: Status { provider, reporters, in_flight, shutdown, .. }, .. } = self;
        let (stop, runtime, to_close) = (shutdown.token(), house.handle().clone(), reporters.clone());
        let body = move || {
            let before_close = |left| runtime.block_on(to_close.close(left));
            dispatch::run(queue, &senders, spread, &stop, settings.graceful_shutdown, || provider.close(), before_close)
        };
        let poll = shutdown.thread("poll", body).map_err(machine("the poll thread"))?;
        Ok(Worker { shutdown, poll, house, reporters, in_flight, admin })
    }

    fn start_senders(&self, spread: &Spread) -> Result<Vec<SenderHandle>, StartError> {
        let of = self.settings.workers;
        let start = |index| {
            let apps = self.status.provider.apps().into_iter();
            let loads: HashMap<_, _> = apps.map(|app| (app.clone(), spread.load(&app))).collect();
            let (parts, sender) = (self.clone(), Sender { index, of });
            let desk = move |waiting_room| parts.desk(loads, sender, waiting_room);
            SenderHandle::start(&format!("send-{index}"), self.settings.max_in_flight, &self.status.shutdown, desk)
                .map_err(machine("a sender thread"))
        };
        (0..of).map(start).collect()
    }

    /// Runs on the sender's thread, inside its runtime.
    fn desk(self, loads: HashMap<Arc<str>, Load>, sender: Sender, waiting_room: mpsc::Sender<Waiting>) -> Desk {
        let Status { provider, reporters, .. } = self.status;
        let tools = |(app, load): (Arc<str>, Load)| {
            let handler = provider.handler(&app, sender);
            (app, AppTools { handler, load })
        };
        let apps = loads.into_iter().map(tools).collect();
        Desk::new(apps, reporters, self.switches, provider.retry(), waiting_room)
    }
}

/// Counts an app whose credentials cannot be used, and waits until that is sent: the program ends now.
fn tell_initialize_failure(reporters: &Reporters, error: &ProviderError) {
    if let ProviderError::Credentials { platform, app, .. } = error {
        reporters.stats().count(Metric::InitializeFailure, &[("platform", platform.0), ("game", app)], 1);
        reporters.stats().close(LAST_WORDS);
    }
}

/// The runtime of everything that is not a push.
fn house() -> Result<Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(4).thread_name("house").enable_all();
    builder.build().map_err(machine("the housekeeping runtime"))
}

/// Makes an error of the system's answer.
fn machine(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |error| StartError::Machine { what, error }
}
