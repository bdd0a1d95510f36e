//! A client beside the group that asks the brokers, on a thread of its own: such a call may wait for a broker for seconds,
//! and the poll thread must not. It looks for topics on a clock, and answers questions about partitions in their order.
//!
//! Every question has a bound in time, and so has a round of them; a broker that does not answer holds up its own
//! partitions only. While none answers, all bounds of one turn of the loop together are half a minute at most, so that whoever
//! watches can tell an outage from a thread that stands still.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::Observer;
use super::logs::Logs;
use super::native;
use super::place::Place;
use super::start::{self, Log};
use super::topics::{Age, Listing};

mod client;
mod reading;
mod survey;

use client::{Asked, Client, Heard};
use survey::{Late, Survey};

/// Questions and reports that wait, at most.
const ROOM: usize = 16;
/// How long one look for topics may take.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(2);
/// How long a round of calls may take before what is left is called unknown.
const ROUND: Duration = Duration::from_secs(5);
/// The same when nothing waits for the answers but a metric: questions about partitions wait behind it.
const GLANCE: Duration = Duration::from_secs(1);
/// The client's own events are served at least this often.
const SERVE: Duration = Duration::from_secs(1);

/// What the poll thread wants to know.
#[derive(Debug)]
pub(super) enum Question {
    /// Where these partitions begin.
    Starts { number: u64, places: Vec<(Place, Age)> },
    /// What a log holds, and which record is its first since a moment in ms since the epoch.
    Log { place: Place, since_ms: Option<i64> },
    /// Whether there is something to read in these partitions from these offsets on.
    Readable { places: Vec<(Place, i64)> },
}

/// What is committed of a partition, and what its log holds when something depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) committed: Option<i64>,
    pub(super) metadata: String,
    pub(super) log: Option<Log>,
}

/// An answer, or the reason why there is none.
pub(super) type Answer<T> = Result<T, String>;

/// What the scout has seen.
#[derive(Debug)]
pub(super) enum Report {
    /// The topics that exist.
    Topics(Listing),
    /// The answer to a question, with crc32 of the cluster's id.
    Starts { number: u64, cluster: u32, found: Vec<(Place, Answer<Found>)> },
    /// The answer to a question.
    Log { place: Place, log: Answer<Log> },
    /// The answer to a question.
    Readable(Vec<(Place, i64, bool)>),
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub(super) struct Scout {
    questions: SyncSender<Question>,
    reports: Receiver<Report>,
    heard: Heard,
    /// Not joined at the end: it may be inside a call for some seconds, and nothing depends on its end.
    thread: JoinHandle<()>,
}

impl Scout {
    /// Starts looking every `refresh`; the first look is at once. `wake` is called on its thread when there is a report, and the
    /// observer is told there that it goes on.
    pub(super) fn start(
        config: &ClientConfig,
        refresh: Duration,
        logs: Logs,
        observer: Arc<dyn Observer>,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Scout, String> {
        let mut config = config.clone();
        // It reads the group's commits and is no member of it.
        for member in ["group.instance.id", "group.protocol", "group.remote.assignor"] {
            config.remove(member);
        }
        let heard = Heard::default();
        let client = Client::new(config, heard.clone()).map_err(|error| error.to_string())?;
        let (questions, asked) = sync_channel(ROOM);
        let (told, reports) = sync_channel(ROOM);
        let errand = Errand { client, cluster: None, refresh, logs, late: Late::default(), observer, told, wake };
        let thread = std::thread::Builder::new().name("scout".into()).spawn(move || errand.run(&asked));
        let thread = thread.map_err(|error| error.to_string())?;
        Ok(Scout { questions, reports, heard, thread })
    }

    /// Whether its thread is no more, which only a panic can be the reason of while somebody listens.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What its client complained about last: it tells more than a call that took too long.
    pub(super) fn last_error(&self) -> Option<String> {
        self.heard.last()
    }

    /// Puts a question; false when too many wait already.
    pub(super) fn ask(&self, question: Question) -> bool {
        match self.questions.try_send(question) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// A report that has not been taken yet.
    pub(super) fn report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }
}

/// The scout's thread.
struct Errand<Wake> {
    client: Client,
    /// crc32 of the cluster's id.
    cluster: Option<u32>,
    refresh: Duration,
    logs: Logs,
    late: Late,
    observer: Arc<dyn Observer>,
    told: SyncSender<Report>,
    wake: Wake,
}

impl<Wake: Fn()> Errand<Wake> {
    fn run(mut self, asked: &Receiver<Question>) {
        let mut next_look = Instant::now();
        loop {
            self.observer.scouted();
            // Nobody else does, and events that are not fetched pile up.
            while self.client.poll(Duration::ZERO).is_some() {}
            let now = Instant::now();
            if next_look <= now {
                let well = self.look();
                self.client.note(Asked::Brokers, well);
                next_look = now + if well { self.refresh } else { AGAIN };
                if well {
                    self.look_at_logs();
                }
            }
            let pause = next_look.saturating_duration_since(Instant::now()).min(SERVE);
            let report = match asked.recv_timeout(pause) {
                Ok(Question::Starts { number, places }) => {
                    let (well, found) = self.starts(places);
                    self.client.note(Asked::Coordinator, well);
                    Report::Starts { number, cluster: self.cluster.unwrap_or_default(), found }
                }
                Ok(Question::Log { place, since_ms }) => {
                    let mut logs = self.survey().logs(vec![(place.clone(), since_ms)]);
                    let log = logs.remove(&place).unwrap_or_else(|| Err("there was no answer".into()));
                    Report::Log { place, log }
                }
                Ok(Question::Readable { places }) => Report::Readable(reading::try_to(&self.client, places, CALL)),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.tell(report) {
                return;
            }
        }
    }

    /// False when nobody listens any more.
    fn tell(&self, report: Report) -> bool {
        let told = self.told.send(report).is_ok();
        (self.wake)();
        told
    }

    /// One look; whether it went well.
    fn look(&mut self) -> bool {
        let metadata = match self.client.fetch_metadata(None, LOOK) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::debug!(%error, "listing topics");
                return false;
            }
        };
        if self.cluster.is_none() {
            let id = self.client.client().fetch_cluster_id(Duration::from_millis(100));
            self.cluster = id.map(|id| crc32fast::hash(id.as_bytes()));
        }
        let listed = metadata.topics().iter().map(|topic| {
            let known = topic.error().is_none().then(|| topic.partitions().len() as i32);
            (topic.name().to_owned(), known)
        });
        self.tell(Report::Topics(listed.collect()))
    }

    /// Notes where our logs end, and now and then for how long they keep.
    fn look_at_logs(&self) {
        let asked = Instant::now();
        let survey = Survey { client: &self.client, until: asked + GLANCE, late: &self.late };
        self.logs.note_ends(asked, survey.logs(self.logs.ours()));
        self.logs.note_retention(self.client.config());
    }

    /// A round of questions begins.
    fn survey(&self) -> Survey<'_> {
        Survey { client: &self.client, until: Instant::now() + ROUND, late: &self.late }
    }

    /// And whether the group's coordinator has answered.
    fn starts(&self, places: Vec<(Place, Age)>) -> (bool, Vec<(Place, Answer<Found>)>) {
        let survey = self.survey();
        let committed = match self.client.committed_offsets(list(places.iter().map(|(place, _)| place)), CALL) {
            Ok(committed) => committed,
            Err(error) => {
                let why = format!("what the group has committed is not known: {error}");
                return (false, places.into_iter().map(|(place, _)| (place, Err(why.clone()))).collect());
            }
        };
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for (place, age) in places {
            let answer = committed_at(&committed, &place);
            if let Ok(Found { committed, metadata, .. }) = &answer
                && start::needs_log(*committed, metadata)
            {
                wanted.push((place.clone(), start::look_back(*committed, metadata, age)));
            }
            found.push((place, answer));
        }
        let mut logs = survey.logs(wanted);
        let with_log = |(place, answer): (Place, Answer<Found>)| {
            let answer = match (answer, logs.remove(&place)) {
                (Ok(found), Some(log)) => log.map(|log| Found { log: Some(log), ..found }),
                (answer, _) => answer,
            };
            (place, answer)
        };
        (true, found.into_iter().map(with_log).collect())
    }
}

fn list<'a>(places: impl Iterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

fn committed_at(committed: &TopicPartitionList, place: &Place) -> Answer<Found> {
    let element = committed.find_partition(&place.topic, place.partition).ok_or("what is committed is not known")?;
    element.error().map_err(|error| format!("what is committed is not known: {error}"))?;
    let offset = element.offset().to_raw().filter(|offset| *offset >= 0);
    Ok(Found { committed: offset, metadata: native::metadata(committed, place), log: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::NoObserver;

    /// Events of the client are served though no call succeeds: a client whose events nobody fetches says nothing, and
    /// keeps them all.
    #[test]
    fn what_the_client_complains_about_is_heard() {
        // Nobody listens there.
        let config: ClientConfig = [("bootstrap.servers", "127.0.0.1:1"), ("group.id", "test")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (observer, refresh) = (Arc::new(NoObserver), Duration::from_secs(10));
        let scout = Scout::start(&config, refresh, Logs::default(), observer, || ()).expect("a client");
        let began = Instant::now();
        while scout.last_error().is_none() {
            assert!(began.elapsed() < Duration::from_mins(2), "{:?}", scout.report());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}
