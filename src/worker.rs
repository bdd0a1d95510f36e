//! The wiring: builds every room from the configuration and joins them. The only file that knows all concrete types.
//!
//! Threads: `poll` (Kafka, synchronous), `send-0…` (one `current_thread` runtime each, with its own connections), `house`
//! (one small runtime for everything that is not a push: PostgreSQL, StatsD's clock, provider tokens).

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::delivery::FeedbackSwitches;
use crate::desk::{AppTools, Desk, Waiting};
use crate::dispatch::{self, Ended};
use crate::handlers::{self, Provider, Sender};
use crate::observer::WorkerObserver;
use crate::queue::kafka::KafkaQueue;
use crate::queue::{InFlight, Queue};
use crate::reporters::Reporters;
use crate::sender::SenderHandle;
use crate::settings::WorkerSettings;
use crate::spread::Spread;
use crate::tally::Tally;

/// Why a worker did not start. All of them are found before anything is consumed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key's value, a credential or a topic that the operator must mend.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine refused a thread or a runtime.
    #[error("{what} could not be started: {error}")]
    Machine {
        /// What was to be started.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
}

/// The field under which a worker logs its ledger as JSON when it ends.
pub const LEDGER: &str = "ledger";

/// A running worker.
pub struct Worker {
    stop: CancellationToken,
    poll: JoinHandle<Ended>,
    tally: Arc<Tally>,
    in_flight: Arc<InFlight>,
}

impl Worker {
    /// Starts the worker of one platform (`apns`): reads credentials, checks that feedback can be written, joins the group.
    /// `production` chooses the provider's production host. It runs until `stop` is cancelled or the queue fails for good;
    /// `stop` is cancelled then.
    pub fn start(config: &Config, platform: &str, production: bool, stop: CancellationToken) -> Result<Worker, StartError> {
        let settings = WorkerSettings::from_config(config)?;
        let house = House::start()?;
        let provider = handlers::provider(platform, config, production)?;
        let reporters = Arc::new(Reporters::from_config(config, house.runtime.handle())?);
        reporters.check(provider.platform(), &provider.apps())?;
        let in_flight = InFlight::new(settings.max_in_flight, settings.max_in_flight_bytes);
        let tally = Arc::new(Tally::default());
        let observer = Arc::new(WorkerObserver::new(tally.clone(), reporters.clone()));
        let queue = KafkaQueue::start(config, provider.platform(), &provider.apps(), in_flight.clone(), observer)?;
        Self::assemble(Box::new(queue), Parts { settings, house, provider, reporters, in_flight, tally }, stop)
    }

    fn assemble(queue: Box<dyn Queue>, parts: Parts, stop: CancellationToken) -> Result<Worker, StartError> {
        let Parts { settings, house, provider, reporters, in_flight, tally } = parts;
        let apps: Vec<_> = provider.apps().into_iter().map(|app| (app.clone(), provider.pool_key(&app))).collect();
        let spread = Spread::new(apps, settings.workers, provider.streams_per_connection());
        let bench = Workbench { provider: provider.clone(), reporters: reporters.clone(), tally: tally.clone(), feedback: settings.feedback };
        let senders = start_senders(&settings, &spread, &bench, &stop)?;
        let (poll_stop, grace) = (stop.clone(), settings.graceful_shutdown);
        let poll = std::thread::Builder::new().name("poll".into()).spawn(move || {
            let ended = dispatch::run(queue, senders, spread, &poll_stop, grace, || provider.close(), |left| reporters.flush(left));
            house.end();
            ended
        });
        let poll = poll.map_err(|error| StartError::Machine { what: "the poll thread", error })?;
        Ok(Worker { stop, poll, tally, in_flight })
    }

    /// The worker's own ledger.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What is lent and not resolved.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Begins the end; see [`Worker::join`].
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the end: everything on a stream finished or the deadline come, feedback flushed, offsets committed.
    pub fn join(self) -> Ended {
        self.poll.join().unwrap_or_else(|_| {
            let error = crate::queue::QueueError::Fatal("the poll thread panicked".into());
            Ended { error: Some(error), drained: false }
        })
    }
}

struct Parts {
    settings: WorkerSettings,
    house: House,
    provider: Arc<dyn Provider>,
    reporters: Arc<Reporters>,
    in_flight: Arc<InFlight>,
    tally: Arc<Tally>,
}

/// What every sender's desk is made of.
#[derive(Clone)]
struct Workbench {
    provider: Arc<dyn Provider>,
    reporters: Arc<Reporters>,
    tally: Arc<Tally>,
    feedback: FeedbackSwitches,
}

impl Workbench {
    /// Runs on the sender's thread, inside its runtime.
    fn desk(self, spread: &HashMap<Arc<str>, crate::spread::Load>, sender: Sender, waiting_room: mpsc::Sender<Waiting>) -> Desk {
        let tools = |app: &Arc<str>, load: &crate::spread::Load| AppTools { handler: self.provider.handler(app, sender), load: load.clone() };
        let apps = spread.iter().map(|(app, load)| (app.clone(), tools(app, load))).collect();
        Desk::new(apps, self.reporters, self.feedback, self.tally, waiting_room)
    }
}

fn start_senders(settings: &WorkerSettings, spread: &Spread, bench: &Workbench, stop: &CancellationToken) -> Result<Vec<SenderHandle>, StartError> {
    let start = |index| {
        let (bench, sender) = (bench.clone(), Sender { index, of: settings.workers });
        let loads: HashMap<_, _> = bench.provider.apps().into_iter().map(|app| (app.clone(), spread.load(&app))).collect();
        SenderHandle::start(format!("send-{index}"), settings.max_in_flight, stop.clone(), move |waiting_room| bench.desk(&loads, sender, waiting_room))
            .map_err(|error| StartError::Machine { what: "a sender thread", error })
    };
    (0..settings.workers).map(start).collect()
}

/// The runtime of everything that is not a push.
struct House {
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn start() -> Result<House, StartError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).max_blocking_threads(4).thread_name("house").enable_all().build();
        Ok(House { runtime: runtime.map_err(|error| StartError::Machine { what: "the housekeeping runtime", error })? })
    }

    fn end(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
