//! Feedback topics → dead tokens → DELETEs: what the worker could not delete at once, and what the original's workers leave
//! to their listener.
//!
//! # Layout, in the order of the flow
//! - Pure: [`topic`] (whose a feedback topic is), [`record`] (what a record says), [`valve`] (how much may go), `lines` (whose
//!   turn it is). [`config`], [`ledger`].
//! - `run`: the poll thread, with `batches`: records in, batches of one table's tokens out.
//! - `deletions`: statements side by side, one batch's life. `guards` and `guard`: whether a table may be deleted from now.
//!   `health`: whether the database serves.
//! - `wiring`: how these are joined. `status`: what it says of itself. `proofs`: what can be known of its neighbours before.
//!
//! # Invariants
//! - A record's offset may move only after the DELETE of its token has committed, or when it tells no dead token. The queue,
//!   its ledger and its commits are the worker's own.
//! - Nothing is given up: an absent database, a lock, a deadlock are waited for, in bounded memory, and the rest stays in Kafka.
//! - A table that the database refuses, and one whose valve is closed, holds up nobody else: its records stay in Kafka,
//!   unread, until it is mended or opened.
//! - What is deleted twice does no harm, but that a token may have been registered again in between: so nothing is begun for a
//!   partition that is somebody else's, and rows newer than the token's death survive (`updatedAtColumn`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

use crate::admin::{self, Admin};
use crate::config::{Config, ConfigError, ConfigErrors, Problems};
use crate::control::Control;
use crate::levers::Levers;
use crate::observer::QueueObserver;
use crate::queue::InFlight;
use crate::queue::kafka::KafkaQueue;
use crate::reporters::StatsReporter as _;
use crate::reporters::invalid_token::Deleter;
use crate::reporters::invalid_token::postgres::{self, Postgres};
use crate::reporters::stats::Stats;
use crate::shutdown::Shutdown;

mod batches;
pub mod config;
mod deletions;
mod guard;
mod guards;
mod health;
pub mod ledger;
mod lines;
mod proofs;
pub mod record;
mod run;
mod status;
pub mod topic;
pub mod valve;
mod wiring;

use config::Configured;
use ledger::{Ledger, Totals};
pub use proofs::proofs;
use status::Status;
pub use topic::Apps;
use wiring::Parts;

/// How long the last statistics, and the last entries, may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the process as a whole allows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most records in flight.
    pub messages: usize,
    /// Most bytes of them.
    pub bytes: usize,
}

/// Why a listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values that the operator must mend.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The machine refused a thread or a runtime.
    #[error("{what} could not be started: {error}")]
    Machine {
        /// What was to be started.
        what: &'static str,
        /// The system's answer.
        error: std::io::Error,
    },
}

/// What a listener leaves behind.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its books.
    pub totals: Totals,
    /// Whether all statements under way came to their end in time.
    pub drained: bool,
}

/// A running listener.
pub struct Listener {
    shutdown: Shutdown,
    poll: std::thread::JoinHandle<run::Ended>,
    house: Runtime,
    deleter: Arc<dyn Deleter>,
    stats: Stats,
    control: Control,
    ledger: Arc<Ledger>,
    in_flight: Arc<InFlight>,
    admin: Option<Admin>,
}

impl Listener {
    /// Starts a listener for these platforms and apps. The database and Kafka need not be there. It runs until `shutdown`
    /// begins, or begins it when the queue fails for good.
    pub fn start(
        config: &Config,
        bounds: Result<Bounds, ConfigError>,
        platforms: Vec<Apps>,
        shutdown: Shutdown,
    ) -> Result<Listener, StartError> {
        let postgres = |settings: postgres::Settings, runtime: &Handle| {
            Arc::new(Postgres::new(settings, runtime)) as Arc<dyn Deleter>
        };
        Listener::start_on(config, bounds, platforms, shutdown, postgres)
    }

    /// The same on any database.
    pub fn start_on(
        config: &Config,
        bounds: Result<Bounds, ConfigError>,
        platforms: Vec<Apps>,
        shutdown: Shutdown,
        database: impl FnOnce(postgres::Settings, &Handle) -> Arc<dyn Deleter>,
    ) -> Result<Listener, StartError> {
        let house = wiring::house()?;
        let mut problems = Problems::default();
        let bounds = problems.take(bounds);
        let configured = Configured::read(config, &mut problems);
        let stats = problems.take(Stats::from_config(config));
        let queue = configured.as_ref().map(|configured| &configured.queue);
        let topics = queue.and_then(|queue| problems.take(wiring::topics(queue, &platforms)));
        let control = queue.and_then(|queue| problems.take(wiring::control(config, queue))).map(Control::new);
        let admin = problems.take(admin::Settings::from_config(config));
        config.check(problems)?;
        let (Some(bounds), Some(configured), Some(stats), Some(topics), Some(control), Some(admin)) =
            (bounds, configured, stats, topics, control, admin)
        else {
            unreachable!("what is missing has left a problem, and there is none")
        };
        let admin = Admin::start(&admin, house.handle()).map_err(|error| config.placed(&error))?;
        let Configured { own, queue, postgres } = configured;
        let (places, in_flight) = (postgres.pool_size as usize, InFlight::new(bounds.messages, bounds.bytes));
        let tally = in_flight.tally().clone();
        let (ledger, deleter) = (Arc::new(Ledger::new(tally.clone())), database(postgres, house.handle()));
        let observer = QueueObserver::new(tally, stats.clone(), shutdown.pulses(), queue.commit_interval);
        let observer = Arc::new(observer);
        wiring::obey(&control, &in_flight, &house, &shutdown);
        let queue = KafkaQueue::start(queue, Box::new(topics), in_flight.clone(), observer.clone())
            .map_err(|error| config.placed(&error))?;
        if let Some(admin) = &admin {
            let levers = Levers::new(control.clone(), platforms.iter().map(|one| one.platform));
            let (stats, in_flight) = (stats.clone(), in_flight.clone());
            admin.open(Arc::new(Status { stats, in_flight, observer, levers, shutdown: shutdown.clone() }));
        }
        let parts = Parts { own, most: bounds.messages, places, in_flight, deleter, control, platforms, stats, ledger };
        parts.assemble(Box::new(queue), house, shutdown, admin)
    }

    /// The listener's own books.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What is lent and not resolved.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Where its admin server listens, when it has one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Waits for the end: statements under way ended or the deadline come, offsets committed.
    pub fn join(self) -> Summary {
        let drained = match self.poll.join() {
            Ok(run::Ended { error, drained }) => {
                if let Some(error) = error {
                    self.shutdown.fail("queue", error);
                }
                drained
            }
            // The panic itself has begun the end and raised the alarm; see `shutdown`.
            Err(_) => false,
        };
        let totals = self.ledger.totals();
        if !drained {
            tracing::warn!(in_flight = totals.unaccounted(), left = ?self.shutdown.at_work(), "the deadline came first; what is left stays uncommitted and is read after the next start");
        }
        if !self.house.block_on(self.control.written(LAST_WORDS)) {
            tracing::warn!("the state of a valve could not be kept: the control topic did not acknowledge it");
        }
        let close = async { timeout(LAST_WORDS, self.deleter.close()).await };
        if self.house.block_on(close).is_err() {
            tracing::debug!("the connections to the database were not closed in time");
        }
        self.stats.close(LAST_WORDS);
        self.house.shutdown_timeout(Duration::from_secs(1));
        Summary { totals, drained }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("totals", &self.ledger.totals()).finish_non_exhaustive()
    }
}
