//! `pusher redrive`: dead letters go back to the push topics that they came from.
//!
//! `letter`: what a letter says and who wants it; `progress`: what was redriven before; `report`: what a run came to; `kafka`:
//! how all of that gets in and out. How a worker takes what comes back: [`crate::message::REDRIVE_OF`].
//!
//! - *None twice.* A batch is published in one transaction with the offsets that say so. A run that is killed leaves a
//!   transaction that nobody reads, and the next one ends it. A worker reads what is committed alone (librdkafka's
//!   `isolation.level`, unless it was changed).
//! - *None lost.* What was not published stays open in the group's offsets, whatever the filters of a run.
//! - *Each its own identity.* A letter goes to its partition with its place in a header. The worker believes a header that
//!   names an earlier, resolved record of the same partition: whose outcome is reported already cannot be robbed of it.

mod kafka;
mod letter;
mod progress;
mod report;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use uuid::Uuid;

use crate::cli::Redrive;
use crate::config::Config;
use crate::handlers;
use crate::message::Platform;
use crate::queue::config::Settings;
use crate::reporters::dead_letter::{self, kafka::brokers_apart, kafka::of_the_connection};
use crate::shutdown::Shutdown;
use kafka::{Place, Read, Reader, Writer};
use letter::{Filter, Letter, Owner, Raw};
use progress::{Progress, Taken};
pub use report::Report;

/// Most letters in a transaction.
const BATCH: usize = 500;
/// Most payload in a transaction, bytes.
const BATCH_BYTES: usize = 16 << 20;
/// How long to wait for the next letter at a time.
const TURN: Duration = Duration::from_millis(100);
/// How long the brokers may be silent.
const PATIENCE: Duration = Duration::from_mins(1);

/// Redrives the letters that are there now. Ends early, in good order, when `shutdown` begins.
pub fn run(
    config: &Config,
    arguments: &Redrive,
    bar: impl FnOnce(u64) -> ProgressBar,
    shutdown: &Shutdown,
) -> Result<Report> {
    let known: Vec<Platform> = handlers::providers().iter().map(|one| one.platform).collect();
    let names = known.iter().map(|one| one.0).collect::<Vec<_>>().join(", ");
    let platform = known.iter().find(|one| one.0 == arguments.platform);
    let platform =
        *platform.with_context(|| format!("unknown platform {:?}; known are: {names}", arguments.platform))?;
    let place = place(config, &arguments.app, platform)?;
    // Before it is asked how far others came: it ends the transaction of a run that was killed.
    let writer = if arguments.dry_run { None } else { Some(Writer::open(&place)?) };
    let reader = Reader::open(&place)?;
    let progress = Progress::of(&reader.extents()?, &place.group)?;
    reader.begin(&progress.starts())?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let run = Run {
        owner: Owner { app: &arguments.app, platform, known: &known },
        filter: Filter::new(&arguments.reason, arguments.since, now_ms),
        arguments,
        bar: bar(progress.size()),
        topic: &place.topic,
        report: Report { dry_run: arguments.dry_run, ..Report::default() },
        batch: Batch::default(),
        seen: HashSet::new(),
        began: Instant::now(),
        reader,
        writer,
        progress,
    };
    run.go(shutdown)
}

fn place(config: &Config, app: &str, platform: Platform) -> Result<Place> {
    let queue = Settings::from_config(config).map_err(|error| config.placed(&error))?;
    if let Some(brokers) = brokers_apart(config).map_err(|error| config.placed(&error))? {
        bail!(
            "deadLetters.kafka.brokers names {brokers}, which are not those of the push topics (queue.brokers): one transaction \
             cannot span both, so these letters cannot be redriven"
        );
    }
    Ok(Place {
        brokers: queue.brokers,
        options: of_the_connection(queue.options).collect(),
        topic: dead_letter::topic(app, platform),
        group: format!("pusher-redrive-{app}-{platform}"),
    })
}

/// Letters of the next transaction, and where they lie.
#[derive(Default)]
struct Batch {
    letters: Vec<Letter>,
    places: Vec<(i32, i64)>,
    bytes: usize,
    /// Whether something else is to be noted.
    is_due: bool,
}

/// A run under way.
struct Run<'a> {
    arguments: &'a Redrive,
    owner: Owner<'a>,
    filter: Filter,
    bar: ProgressBar,
    topic: &'a str,
    report: Report,
    batch: Batch,
    /// Records whose letter was met.
    seen: HashSet<Uuid>,
    began: Instant,
    reader: Reader,
    /// `None`: nothing is changed.
    writer: Option<Writer>,
    progress: Progress,
}

impl Run<'_> {
    fn go(mut self, shutdown: &Shutdown) -> Result<Report> {
        let mut heard = Instant::now();
        while !self.progress.is_read() && !shutdown.has_begun() && !self.has_enough() {
            match self.reader.next(TURN)? {
                Read::Letter(raw) => self.take(&raw)?,
                Read::End(partition) => self.progress.end(partition),
                Read::Nothing => {
                    ensure!(heard.elapsed() < PATIENCE, "nothing could be read from {} for a minute", self.topic);
                    self.publish(shutdown)?;
                    continue;
                }
            }
            heard = Instant::now();
            if self.batch.letters.len() >= self.longest_batch() || self.batch.bytes >= BATCH_BYTES {
                self.publish(shutdown)?;
            }
        }
        self.publish(shutdown)?;
        self.report.is_partial = !self.progress.is_read();
        if self.report.is_partial {
            self.bar.abandon();
        } else {
            self.bar.finish();
        }
        Ok(self.report)
    }

    fn has_enough(&self) -> bool {
        let taken = self.report.total() + self.batch.letters.len() as u64;
        self.arguments.limit.is_some_and(|limit| taken >= limit)
    }

    /// A slow rate is kept second by second.
    fn longest_batch(&self) -> usize {
        self.arguments.rate.map_or(BATCH, |rate| BATCH.min(rate as usize))
    }

    fn take(&mut self, raw: &Raw) -> Result<()> {
        let (partition, offset) = (raw.partition, raw.offset);
        let taken = self.progress.take(partition, offset, raw.timestamp_ms)?;
        if taken == Taken::Later {
            return Ok(());
        }
        self.bar.inc(1);
        let letter = match Letter::read(raw, &self.owner) {
            Ok(letter) => letter,
            Err(why) => {
                if taken == Taken::New {
                    self.report.unfit(format!("{}/{partition}/{offset}", self.topic), why);
                    self.pass_over(partition, offset);
                }
                return Ok(());
            }
        };
        let is_first = self.seen.insert(letter.record);
        match taken {
            Taken::Known => self.report.before += 1,
            _ if !is_first => {
                self.report.repeated += 1;
                self.pass_over(partition, offset);
            }
            _ if !self.filter.wants(&letter, raw.timestamp_ms) => {
                self.seen.remove(&letter.record);
                self.report.left += 1;
                self.leave(partition, offset)?;
            }
            _ if !self.reader.has_place(&letter)? => {
                self.report.homeless += 1;
                self.leave(partition, offset)?;
            }
            _ => {
                self.batch.bytes += letter.payload.len();
                self.batch.letters.push(letter);
                self.batch.places.push((partition, offset));
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, partition: i32, offset: i64) {
        self.progress.done(partition, offset);
        self.batch.is_due = true;
    }

    fn leave(&mut self, partition: i32, offset: i64) -> Result<()> {
        self.progress.leave(partition, offset);
        ensure!(
            self.arguments.dry_run || !self.progress.is_full(),
            "more letters are left between those that are redriven than can be noted: redrive the older ones first, without a filter"
        );
        Ok(())
    }

    /// Ends the batch: all of it is published and noted, or nothing.
    fn publish(&mut self, shutdown: &Shutdown) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.letters.is_empty() && !batch.is_due {
            return Ok(());
        }
        batch.places.iter().for_each(|(partition, offset)| self.progress.done(*partition, *offset));
        if let Some(writer) = &self.writer {
            self.keep_pace(batch.letters.len() as u64, shutdown);
            let commit = self.progress.commit().context("what was redriven is too much to be noted")?;
            writer.publish(&batch.letters, &commit, &self.reader)?;
        }
        for letter in batch.letters {
            *self.report.redriven.entry(letter.reason).or_default() += 1;
        }
        Ok(())
    }

    /// Waits until so many more may go. The end of the process does not wait: the batch is small.
    fn keep_pace(&self, more: u64, shutdown: &Shutdown) {
        let Some(rate) = self.arguments.rate else { return };
        let due = self.began + Duration::from_secs_f64((self.report.total() + more) as f64 / f64::from(rate));
        while !shutdown.has_begun() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left.min(TURN));
        }
    }
}
