//! The wiring of one worker: builds every room from the configuration and joins them. Only this file knows all concrete
//! types.
//!
//! Threads: `poll` (Kafka, synchronous), `send-0…` (one `current_thread` runtime each, with its own connections), `house`
//! (one small runtime for everything that is not a push: PostgreSQL, clocks). The queue and the feedback producer have
//! librdkafka's threads besides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::config::{Config, ConfigError, ConfigErrors, Problems};
use crate::control::{self, Control};
use crate::delivery::FeedbackSwitches;
use crate::desk::{AppTools, Desk, Waiting};
use crate::dispatch;
use crate::handlers::{self, Provider, ProviderError, Sender};
use crate::message::Platform;
use crate::observer::QueueObserver;
use crate::queue::kafka::KafkaQueue;
use crate::queue::topic::PushTopics;
use crate::queue::{self, InFlight, Queue};
use crate::reporters::stats::Metric;
use crate::reporters::{CheckError, Reporters, StatsReporter as _, feedback, invalid_token};
use crate::sender::SenderHandle;
use crate::settings::WorkerSettings;
use crate::shutdown::Shutdown;
use crate::spread::{Load, Spread};
use crate::tally::{Tally, Totals};

/// How long the start waits for the feedback topics to be confirmed.
const CHECK: Duration = Duration::from_secs(30);
/// How often gauges are told.
const GAUGES: Duration = Duration::from_secs(1);
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
    tally: Arc<Tally>,
    in_flight: Arc<InFlight>,
}

impl Worker {
    /// Starts the worker of a platform (`apns`): reads credentials, checks that feedback can be written, joins the group.
    /// `production` chooses the provider's production hosts. It runs until `shutdown` begins, or begins it when the
    /// queue fails for good.
    pub fn start(config: &Config, platform: &str, production: bool, shutdown: Shutdown) -> Result<Worker, StartError> {
        let house = house()?;
        let Configured { settings, queue, feedback, reporters, provider } =
            Configured::read(config, platform, production, &house)?;
        let apps = provider.apps();
        let with_platform: Vec<_> = apps.iter().map(|app| (app.clone(), provider.platform())).collect();
        house.block_on(reporters.check(&with_platform, CHECK))?;
        let tally = Arc::new(Tally::default());
        let in_flight = InFlight::new(settings.max_in_flight, settings.max_in_flight_bytes);
        let observer = Arc::new(QueueObserver::new(tally.clone(), reporters.stats().clone()));
        let known: Vec<_> = handlers::providers().iter().map(|registration| registration.platform).collect();
        let topics = PushTopics::new(&queue.topics, provider.platform(), &known, &apps)
            .map_err(|rule| config.placed(&queue.wrong_topics(rule)))?;
        in_flight.set_apps(&apps);
        let queue = KafkaQueue::start(queue, Box::new(topics), in_flight.clone(), observer)
            .map_err(|error| config.placed(&error))?;
        let switches = FeedbackSwitches { success: feedback.success, metadata: feedback.metadata };
        let parts = Parts { settings, provider, reporters, tally, in_flight, switches };
        parts.assemble(Box::new(queue), house, shutdown)
    }

    /// The worker's own ledger.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What is lent and not resolved.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
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
        let totals = self.tally.totals();
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
        f.debug_struct("Worker").field("totals", &self.tally.totals()).finish_non_exhaustive()
    }
}

/// What the configuration says, room by room.
struct Configured {
    settings: WorkerSettings,
    queue: queue::config::Settings,
    feedback: feedback::Settings,
    reporters: Arc<Reporters>,
    provider: Arc<dyn Provider>,
}

impl Configured {
    /// Reads all rooms before it gives up: one start names everything that is wrong. Connects to nothing.
    fn read(config: &Config, platform: &str, production: bool, house: &Runtime) -> Result<Configured, StartError> {
        let mut problems = Problems::default();
        let settings = problems.take(WorkerSettings::from_config(config));
        let queue = problems.take(queue::config::Settings::from_config(config));
        let feedback = problems.take(feedback::Settings::from_config(config));
        let control = problems.take(control(config, queue.as_ref()));
        let control = control.unwrap_or_else(Control::in_memory);
        let reporters = problems.take(Reporters::from_config(config, house.handle(), &control));
        let provider = match handlers::provider(platform, config, production) {
            Err(ProviderError::Config(error)) => problems.take(Err(error)),
            other => Some(other),
        };
        config.check(problems)?;
        control.start();
        let (Some(settings), Some(queue), Some(feedback), Some(reporters), Some(provider)) =
            (settings, queue, feedback, reporters, provider)
        else {
            unreachable!("what is missing has left a problem, and there is none")
        };
        let provider = provider.inspect_err(|error| tell_initialize_failure(&reporters, error))?;
        Ok(Configured { settings, queue, feedback, reporters: Arc::new(reporters), provider })
    }
}

/// The entries that outlive this process, when it keeps any.
fn control(config: &Config, queue: Option<&queue::config::Settings>) -> Result<Control, ConfigError> {
    let Some(queue) = queue else { return Ok(Control::in_memory()) };
    let consumer = control::config::Consumer { brokers: &queue.brokers, group: &queue.group, options: &queue.options };
    let settings = control::Settings::from_config(config, consumer)?;
    let is_used = invalid_token::HANDLERS.chosen(config).is_ok_and(|handlers| !handlers.is_empty());
    Ok(Control::new(settings.filter(|_| is_used)))
}

/// What a worker is made of, besides its queue.
#[derive(Clone)]
struct Parts {
    settings: WorkerSettings,
    provider: Arc<dyn Provider>,
    reporters: Arc<Reporters>,
    tally: Arc<Tally>,
    in_flight: Arc<InFlight>,
    switches: FeedbackSwitches,
}

impl Parts {
    fn assemble(self, queue: Box<dyn Queue>, house: Runtime, shutdown: Shutdown) -> Result<Worker, StartError> {
        let apps: Vec<_> =
            self.provider.apps().into_iter().map(|app| (app.clone(), self.provider.pool_key(&app))).collect();
        let streams = self.provider.streams_per_connection();
        let spread = Spread::new(apps, self.settings.workers, streams, handlers::home_sender);
        self.provider.start(house.handle());
        let senders = self.start_senders(&spread, &shutdown)?;
        house.spawn(tell_gauges(self.clone(), shutdown.clone()));
        let Parts { settings, provider, reporters, tally, in_flight, .. } = self;
        let (stop, runtime, to_close) = (shutdown.token(), house.handle().clone(), reporters.clone());
        let body = move || {
            let before_close = |left| runtime.block_on(to_close.close(left));
            dispatch::run(queue, &senders, spread, &stop, settings.graceful_shutdown, || provider.close(), before_close)
        };
        let poll =
            shutdown.thread("poll", body).map_err(|error| StartError::Machine { what: "the poll thread", error })?;
        Ok(Worker { shutdown, poll, house, reporters, tally, in_flight })
    }

    fn start_senders(&self, spread: &Spread, shutdown: &Shutdown) -> Result<Vec<SenderHandle>, StartError> {
        let of = self.settings.workers;
        let start = |index| {
            let loads: HashMap<_, _> =
                self.provider.apps().into_iter().map(|app| (app.clone(), spread.load(&app))).collect();
            let (parts, sender) = (self.clone(), Sender { index, of });
            let desk = move |waiting_room| parts.desk(loads, sender, waiting_room);
            SenderHandle::start(&format!("send-{index}"), self.settings.max_in_flight, shutdown, desk)
                .map_err(|error| StartError::Machine { what: "a sender thread", error })
        };
        (0..of).map(start).collect()
    }

    /// Runs on the sender's thread, inside its runtime.
    fn desk(self, loads: HashMap<Arc<str>, Load>, sender: Sender, waiting_room: mpsc::Sender<Waiting>) -> Desk {
        let tools = |(app, load): (Arc<str>, Load)| {
            let handler = self.provider.handler(&app, sender);
            (app, AppTools { handler, load })
        };
        let apps = loads.into_iter().map(tools).collect();
        Desk::new(apps, self.reporters, self.switches, self.tally, self.provider.retry(), waiting_room)
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
    builder.build().map_err(|error| StartError::Machine { what: "the housekeeping runtime", error })
}

/// Tells statistics what is under way, once a second.
async fn tell_gauges(parts: Parts, shutdown: Shutdown) {
    let mut clock = tokio::time::interval(GAUGES);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (platform, token) = (parts.provider.platform(), shutdown.token());
    while tokio::select! { _ = clock.tick() => true, () = token.cancelled() => false } {
        parts.reporters.publish();
        in_flight(&parts, platform);
    }
}

fn in_flight(parts: &Parts, platform: Platform) {
    let stats = parts.reporters.stats();
    for app in parts.provider.apps() {
        let usage = parts.in_flight.usage(&app);
        let tags = [("platform", platform.0), ("game", &*app)];
        stats.gauge(Metric::InFlight, &tags, usage.messages as f64);
        stats.gauge(Metric::RetryWaiting, &tags, usage.waiting as f64);
    }
}
