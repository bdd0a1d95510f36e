//! A worker of two apps in this process, on a mock Kafka: pushes go in, and what became of them is looked up at the far ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pusher::circuit::Circuit;
use pusher::config::Config;
use pusher::queue::in_flight::Usage;
use pusher::shutdown::Shutdown;
use pusher::tally::Totals;
use pusher::worker::Worker;

use super::eventually;
use super::mock::Mock;

/// Far above what anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(1);

const PARTITIONS: i32 = 2;

/// A breaker that is as quick as a test: its rules are the same, its times a tenth or less of the defaults.
const QUICK: [(&str, &str); 5] = [
    ("breaker.patience", "200ms"),
    ("breaker.window", "2s"),
    ("breaker.probeInterval", "100ms"),
    ("breaker.maxProbeInterval", "200ms"),
    ("breaker.ramp", "500ms"),
];

/// Kafka, and what a worker is configured with.
pub(crate) struct World {
    pub(crate) mock: Mock,
    platform: &'static str,
    pairs: BTreeMap<String, String>,
    /// How many records each app's topic has, by partition.
    produced: BTreeMap<String, [i64; PARTITIONS as usize]>,
}

/// A worker under way.
pub(crate) struct Running {
    worker: Worker,
    shutdown: Shutdown,
}

impl World {
    /// For these apps; `pairs` are the provider's, and whatever differs.
    pub(crate) fn new(
        platform: &'static str,
        apps: &[&str],
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> World {
        let mock = Mock::start(&[]);
        for app in apps {
            mock.create_topic(&push_topic(app, platform), PARTITIONS);
            mock.create_topic(&format!("push-{app}-{platform}-feedbacks"), 1);
            mock.create_topic(&format!("deadletters-{app}-{platform}"), 1);
        }
        let own = [
            ("queue.brokers", mock.brokers.as_str()),
            ("queue.offsetResetStrategy", "earliest"),
            ("queue.commitInterval", "100ms"),
            ("feedback.reporters", "kafka"),
            ("feedback.kafka.brokers", mock.brokers.as_str()),
            ("workers", "2"),
            ("admin.listen", "off"),
        ];
        let own = own.into_iter().chain(QUICK).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pairs = own.chain(pairs).collect();
        let produced = apps.iter().map(|app| ((*app).to_owned(), [0; PARTITIONS as usize])).collect();
        World { mock, platform, pairs, produced }
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// With these keys instead of its own.
    pub(crate) fn start_with(&self, instead: &[(&str, &str)]) -> Running {
        let own = self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let config = Config::from_pairs(own.chain(instead.iter().copied()));
        let shutdown = Shutdown::default();
        let worker = Worker::start(&config, self.platform, false, shutdown.clone()).expect("a worker");
        Running { worker, shutdown }
    }

    pub(crate) fn produce<L: AsRef<[u8]>>(&mut self, app: &str, lines: impl IntoIterator<Item = L>) {
        let (topic, produced) = (push_topic(app, self.platform), self.produced.get_mut(app).expect("an app"));
        for (index, line) in lines.into_iter().enumerate() {
            let partition = index as i32 % PARTITIONS;
            produced[partition as usize] += 1;
            self.mock.append(&topic, partition, line);
        }
        self.mock.flush();
    }

    /// Waits until everything of the app has its outcome, reported, and is committed without a map.
    #[track_caller]
    pub(crate) fn settle(&self, app: &str) {
        let (topic, produced) = (push_topic(app, self.platform), self.produced[app]);
        eventually(&format!("all of {app} committed"), LONG, || {
            let done = |partition: i32| {
                let end = produced[partition as usize];
                end == 0 || self.mock.committed("test", &topic, partition) == Some((end, String::new()))
            };
            (0..PARTITIONS).all(done).then_some(())
        });
    }

    /// Feedback records of an app.
    pub(crate) fn feedback(&self, app: &str) -> Vec<Vec<u8>> {
        self.mock.records(&format!("push-{app}-{}-feedbacks", self.platform), 0)
    }

    /// Dead letters of an app with their headers.
    pub(crate) fn dead_letters(&self, app: &str) -> Vec<(Vec<u8>, BTreeMap<String, String>)> {
        self.mock.with_headers(&format!("deadletters-{app}-{}", self.platform), 0)
    }
}

fn push_topic(app: &str, platform: &str) -> String {
    format!("push-{app}_{platform}-massive")
}

impl Running {
    /// What became of the pushes of all apps so far.
    pub(crate) fn totals(&self) -> Totals {
        self.worker.tally().totals()
    }

    /// Of one app.
    pub(crate) fn totals_of(&self, app: &str) -> Totals {
        let lanes = self.worker.tally().lanes().into_iter().filter(|(key, _)| *key.app == *app);
        lanes.fold(Totals::default(), |mut sum, (_, totals)| {
            sum.add(&totals);
            sum
        })
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Totals) -> bool) {
        eventually(what, LONG, || done(&self.totals()).then_some(()));
    }

    /// Lets it look at its files now.
    pub(crate) fn reload(&self) {
        self.worker.reload().ask();
    }

    pub(crate) fn circuit(&self, app: &str) -> &Arc<Circuit> {
        self.worker.circuit(app).expect("an app")
    }

    /// What an app holds in memory.
    pub(crate) fn usage(&self, app: &str) -> Usage {
        self.worker.in_flight().usage(app)
    }

    /// What all apps hold.
    pub(crate) fn total_usage(&self) -> Usage {
        self.worker.in_flight().total()
    }

    /// Ends it; fails unless all was drained and the ledger balances.
    #[track_caller]
    pub(crate) fn stop(self) -> Totals {
        self.shutdown.begin("test");
        let summary = self.worker.join();
        assert!(summary.drained, "{:?}", summary.totals);
        assert_eq!(summary.totals.unaccounted(), 0, "{:?}", summary.totals);
        summary.totals
    }
}
