//! The whole worker in this process, between a mock Kafka and a provider's simulator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pusher::config::Config;
use pusher::generate::{Generated, Generator, Mix, Settings};
use pusher::shutdown::Shutdown;
use pusher::simulator::handle::Provider;
use pusher::tally::Totals;
use pusher::worker::{Summary, Worker};
use serde_json::Value;

use super::eventually;
use super::far::Far;
use super::mock::Mock;

pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Both far ends, and what a worker needs to know about them.
pub(crate) struct Ends<F> {
    pub(crate) mock: Arc<Mock>,
    pub(crate) simulator: F,
    apps: Vec<String>,
    folder: tempfile::TempDir,
    /// Records so far, by app and partition.
    produced: BTreeMap<String, [i64; PARTITIONS as usize]>,
}

/// A worker under way.
pub(crate) struct Running {
    pub(crate) worker: Worker,
    shutdown: Shutdown,
}

impl<F: Far> Ends<F> {
    /// For one app, `game`.
    pub(crate) fn start(faults: <F::Levers as Provider>::Faults) -> Self {
        Ends::of(&["game"], faults)
    }

    /// For these apps.
    pub(crate) fn of(apps: &[&str], faults: <F::Levers as Provider>::Faults) -> Self {
        Ends::on(Arc::new(Mock::start(&[])), apps, faults)
    }

    /// For these apps, on a Kafka that others use as well.
    pub(crate) fn on(mock: Arc<Mock>, apps: &[&str], faults: <F::Levers as Provider>::Faults) -> Self {
        for app in apps {
            mock.create_topic(&topic::<F>(app), PARTITIONS);
            mock.create_topic(&feedback_topic::<F>(app), 1);
        }
        let simulator = F::start(faults, apps);
        let apps: Vec<String> = apps.iter().map(|app| (*app).to_owned()).collect();
        let produced = apps.iter().map(|app| (app.clone(), <[i64; PARTITIONS as usize]>::default())).collect();
        Ends { mock, simulator, apps, folder: tempfile::tempdir().expect("a folder"), produced }
    }

    pub(crate) fn worker(&self) -> Running {
        self.worker_with(&[])
    }

    /// With these keys besides.
    pub(crate) fn worker_with(&self, more: &[(&str, &str)]) -> Running {
        let settings = self.settings();
        let settings = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let config = Config::from_pairs(settings.chain(more.iter().copied()));
        let shutdown = Shutdown::default();
        let worker = Worker::start(&config, F::PLATFORM, false, shutdown.clone()).expect("a worker");
        Running { worker, shutdown }
    }

    /// The worker's whole configuration.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let common = [
            ("queue.brokers", self.mock.brokers.as_str()),
            ("queue.offsetResetStrategy", "earliest"),
            ("queue.commitInterval", "100ms"),
            ("feedback.reporters", "kafka"),
            ("feedback.kafka.brokers", &self.mock.brokers),
            ("workers", "2"),
            ("admin.listen", "127.0.0.1:0"),
        ];
        let apps: Vec<&str> = self.apps.iter().map(String::as_str).collect();
        let far = self.simulator.settings(&apps, self.folder.path());
        far.into_iter().chain(common.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
    }

    /// Produces to the app `game`, over all partitions.
    pub(crate) fn produce<L: AsRef<[u8]>>(&mut self, lines: impl IntoIterator<Item = L>) {
        self.produce_for("game", lines);
    }

    pub(crate) fn produce_for<L: AsRef<[u8]>>(&mut self, app: &str, lines: impl IntoIterator<Item = L>) {
        let produced = self.produced.get_mut(app).expect("an app of ours");
        for (index, line) in lines.into_iter().enumerate() {
            let partition = index as i32 % PARTITIONS;
            produced[partition as usize] += 1;
            self.mock.append(&topic::<F>(app), partition, line);
        }
        self.mock.flush();
    }

    /// Whether the ends of an app's partitions are committed, without a map.
    pub(crate) fn is_settled(&self, app: &str) -> bool {
        let produced = &self.produced[app];
        (0..PARTITIONS).all(|partition| {
            let committed = self.mock.committed("test", &topic::<F>(app), partition);
            committed == Some((produced[partition as usize], String::new()))
        })
    }

    #[track_caller]
    pub(crate) fn settle(&self) {
        eventually("all offsets committed", LONG, || self.apps.iter().all(|app| self.is_settled(app)).then_some(()));
    }

    /// The feedback records of the app `game` by identity; none may be written twice.
    pub(crate) fn feedback(&self) -> BTreeMap<String, Value> {
        let records = self.mock.records(&feedback_topic::<F>("game"), 0);
        let count = records.len();
        let text = |value: &Value| value["metadata"]["pusherId"].as_str().map(ToOwned::to_owned).expect("an identity");
        let by_id: BTreeMap<_, _> = records
            .iter()
            .map(|record| serde_json::from_slice::<Value>(record).expect("JSON"))
            .map(|record| (text(&record), record))
            .collect();
        assert_eq!(by_id.len(), count, "a record for each message that failed, and one only");
        by_id
    }

    /// Messages as producers write them for `app`.
    pub(crate) fn generate(app: &str, count: u64, first_serial: u64, mix: Mix) -> Vec<Generated> {
        Generator::new(F::shape(app), Settings { count, first_serial, mix, ..Settings::default() }).collect()
    }

    /// Messages for the app `game` that are delivered at once.
    pub(crate) fn calm(count: u64) -> Vec<String> {
        Self::generate("game", count, 0, Mix::CALM).into_iter().map(|push| push.line).collect()
    }
}

fn topic<F: Far>(app: &str) -> String {
    format!("push-{app}_{}-single", F::PLATFORM)
}

fn feedback_topic<F: Far>(app: &str) -> String {
    format!("push-{app}-{}-feedbacks", F::PLATFORM)
}

impl Running {
    pub(crate) fn totals(&self) -> Totals {
        self.worker.tally().totals()
    }

    /// Of one app.
    pub(crate) fn totals_of(&self, app: &str) -> Totals {
        let lanes = self.worker.tally().lanes().into_iter().filter(|(key, _)| &*key.app == app);
        lanes.fold(Totals::default(), |mut sum, (_, totals)| {
            sum.add(&totals);
            sum
        })
    }

    /// Begins its end, without waiting for it.
    pub(crate) fn begin_stop(&self) {
        self.shutdown.begin("test");
    }

    pub(crate) fn stop(self) -> Summary {
        self.shutdown.begin("test");
        self.worker.join()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Totals) -> bool) {
        eventually(what, LONG, || done(&self.totals()).then_some(()));
    }
}
