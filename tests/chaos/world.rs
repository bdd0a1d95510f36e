//! The neighbours of one run: Apache Kafka, PostgreSQL and StatsD of its own, and a side per platform.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::episode::pause;
use super::home::Plan;
use super::side::{Meter, Side};
use crate::support::postgres::Database;
use crate::support::{Kafka, Postgres, Statsd};

/// How often the sides are looked at.
const LOOK: Duration = Duration::from_millis(25);

/// What the sides share.
pub(crate) struct Neighbours {
    pub(crate) kafka: Kafka,
    pub(crate) postgres: Postgres,
    pub(crate) statsd: Statsd,
    pub(crate) database: Database,
}

impl Neighbours {
    fn start() -> Neighbours {
        let (kafka, postgres) = std::thread::scope(|scope| {
            let kafka = scope.spawn(Kafka::start_apart);
            let postgres = Postgres::start_apart();
            (kafka.join().expect("Kafka starts"), postgres)
        });
        let database = postgres.database("chaos");
        Neighbours { kafka, postgres, statsd: Statsd::start(), database }
    }

    /// What a worker is told about them.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let all = [
            ("queue.brokers", self.kafka.brokers.clone()),
            ("queue.offsetResetStrategy", "earliest".into()),
            ("feedback.reporters", "kafka".into()),
            ("feedback.kafka.brokers", self.kafka.brokers.clone()),
            // A record of each outcome: what is lost on the way to the offset shows.
            ("feedback.success", "true".into()),
            ("stats.reporters", "statsd".into()),
            ("stats.statsd.host", self.statsd.address.to_string()),
            ("invalidToken.handlers", "pg".into()),
            ("invalidToken.pg.host", self.postgres.host.clone()),
            ("invalidToken.pg.port", self.postgres.port.to_string()),
            ("invalidToken.pg.user", self.postgres.user.clone()),
            ("invalidToken.pg.database", self.database.name.clone()),
            ("workers", "2".into()),
            // A restart repeats nothing if there is time for what is on a stream; how much depends on the machine.
            ("gracefulShutdownTimeout", "60".into()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }
}

pub(crate) struct World {
    pub(crate) neighbours: Neighbours,
    pub(crate) sides: Vec<Side>,
    _watcher: Watcher,
}

impl World {
    /// Starts everything but workers.
    pub(crate) fn start(platforms: &[&'static str], plan: &Plan<'_>) -> World {
        let neighbours = Neighbours::start();
        let sides: Vec<_> = platforms.iter().map(|platform| Side::new(platform, &neighbours, plan)).collect();
        let watcher = Watcher::start(sides.iter().map(|side| side.meter.clone()).collect());
        World { neighbours, sides, _watcher: watcher }
    }
}

/// The thread that looks at the sides.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(meters: Vec<Arc<Meter>>) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                for meter in &meters {
                    meter.look();
                }
                pause(LOOK);
            }
        });
        Watcher { stop, thread: Some(thread) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
