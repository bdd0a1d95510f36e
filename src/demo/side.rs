//! One side of the demo: a provider, its topics, its worker, and what everybody saw of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;

use super::Options;
use super::balance::{Books, Expected};
use super::far_end::FarEnd;
use super::kafka::DemoKafka;
use super::sinks::{FeedbackSink, StatsdSink};
use super::worker::ChildWorker;
use crate::generate::Generated;
use crate::generate::produce::LineProducer;

/// Pushes produced and not yet done, at most: the mock cluster keeps 5 MiB per partition.
const BACKLOG: u64 = 40_000;
/// No progress for this long is a failure.
const STALL: Duration = Duration::from_mins(1);

/// A side under way.
pub(super) struct Side {
    /// Its provider.
    pub far: FarEnd,
    feedback: FeedbackSink,
    worker: ChildWorker,
    producer: LineProducer,
    expected: Expected,
    bar: ProgressBar,
    /// Messages with an outcome that somebody else has seen, and when that last changed.
    outcomes: u64,
    since: Instant,
    /// CPU that the worker had used by then.
    cpu: Duration,
    began: (Instant, Duration),
}

impl Side {
    /// Starts its worker and waits until it has joined its group.
    pub(super) fn start(
        far: FarEnd,
        kafka: &DemoKafka,
        statsd: &StatsdSink,
        folder: &Path,
        options: &Options,
        bar: ProgressBar,
    ) -> Result<Side> {
        let (topic, group) = (far.topic(), group(&far));
        let feedback = FeedbackSink::start(kafka.brokers(), &far.feedback_topic())?;
        let mut worker = ChildWorker::start(far.platform, &environment(&far, kafka, statsd), folder)?;
        kafka.wait_for_group(&group, &topic, || worker.check())?;
        let producer = LineProducer::new(kafka.brokers(), &topic, options.rate)?;
        let (now, cpu) = (Instant::now(), worker.cpu());
        let expected = Expected::default();
        Ok(Side { far, feedback, worker, producer, expected, bar, outcomes: 0, since: now, cpu, began: (now, cpu) })
    }

    /// From here on time and CPU count.
    pub(super) fn begin(&mut self) {
        self.began = (Instant::now(), self.worker.cpu());
        self.since = self.began.0;
    }

    /// Produces one push.
    pub(super) fn produce(&mut self, push: &Generated) -> Result<()> {
        self.producer.send(push.line.as_bytes())?;
        self.expected.add(push);
        Ok(())
    }

    /// Waits until the brokers have everything.
    pub(super) fn flush(&self) -> Result<()> {
        self.producer.flush()
    }

    /// Whether the producer may go on without running too far ahead.
    pub(super) fn has_room(&self) -> bool {
        self.producer.sent() - self.outcomes < BACKLOG
    }

    /// Whether all that was produced has its outcome.
    pub(super) fn is_done(&self) -> bool {
        self.outcomes >= self.producer.sent()
    }

    /// Looks at what has come of the pushes; an error when the worker has ended or nothing moves any more.
    pub(super) fn look(&mut self) -> Result<()> {
        let outcomes = self.far.seen().accepted + self.feedback.distinct();
        if outcomes > self.outcomes {
            (self.outcomes, self.since, self.cpu) = (outcomes, Instant::now(), self.worker.cpu());
            self.bar.set_position(outcomes);
        }
        self.worker.check()?;
        if !self.is_done() && self.since.elapsed() > STALL {
            let title = self.far.title;
            bail!("{title}: no progress for {} s: {outcomes} pushes have an outcome", STALL.as_secs());
        }
        Ok(())
    }

    /// Stops the worker, and closes the books of this side.
    pub(super) fn end(self, kafka: &DemoKafka, statsd: &StatsdSink, by_hand: bool) -> Result<Books> {
        self.bar.finish_and_clear();
        let (title, platform, seen) = (self.far.title, self.far.platform, self.far.seen());
        let ledger = self.worker.stop().with_context(|| format!("stopping the worker of {title}"))?;
        let counter = |name: &str| statsd.counter(&format!("demo.{platform}.{name}"));
        Ok(Books {
            title,
            expected: self.expected,
            ledger,
            accepted: seen.accepted,
            repeated: seen.repeated,
            feedback: self.feedback.seen(),
            committed: kafka.committed(&group(&self.far), &self.far.topic())?,
            end: kafka.end(&self.far.topic())?,
            acknowledged: counter("ack"),
            failed: counter("failed"),
            by_hand,
            took: self.since - self.began.0,
            cpu: self.cpu.saturating_sub(self.began.1),
        })
    }
}

fn group(far: &FarEnd) -> String {
    format!("demo-{}", far.platform)
}

/// The worker's whole configuration.
fn environment(far: &FarEnd, kafka: &DemoKafka, statsd: &StatsdSink) -> Vec<(String, String)> {
    let common = [
        ("QUEUE_BROKERS", kafka.brokers().to_owned()),
        ("CONTROL_TOPIC", "off".into()), // nothing is to outlive a demo
        ("QUEUE_GROUP", group(far)),
        ("QUEUE_OFFSETRESETSTRATEGY", "earliest".into()),
        ("STATS_REPORTERS", "statsd".into()),
        ("STATS_STATSD_HOST", statsd.address()),
        ("STATS_STATSD_PREFIX", format!("demo.{}.", far.platform)),
        ("FEEDBACK_REPORTERS", "kafka".into()),
        ("FEEDBACK_KAFKA_BROKERS", kafka.brokers().to_owned()),
        ("LOG_LEVEL", "info".into()),
        ("ADMIN_LISTEN", "127.0.0.1:0".into()),
    ];
    let all = far.settings.iter().cloned().chain(common);
    all.map(|(name, value)| (format!("PUSHER_{name}"), value)).collect()
}
