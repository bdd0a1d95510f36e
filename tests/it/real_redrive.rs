//! Redrive on Apache Kafka: killed in its midst and run again, it publishes each letter once.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use pusher::generate::{Mix, Settings};
use pusher::message::identity;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::rig::{PATIENCE, Rig};
use crate::support::{eventually, kafka, letters};

const LETTERS: u64 = 10_000;
const PARTITIONS: i32 = 4;

/// `pusher redrive` of the rig's app; ended when the test is.
struct Redrive(Child);

impl Redrive {
    fn start(rig: &Rig, more: &[&str]) -> Redrive {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
        command.args(["redrive", &rig.app, "apns", "--json"]).args(more).env_clear();
        command.env("PUSHER_QUEUE_BROKERS", &kafka().brokers).stdin(Stdio::null()).stdout(Stdio::piped());
        Redrive(command.spawn().expect("a redrive"))
    }

    fn kill(mut self) {
        self.0.kill().expect("it is there");
        assert_eq!(self.0.wait().expect("its end").code(), None, "it was killed, and not done before");
    }

    /// Its report.
    fn finish(mut self) -> Value {
        let report = std::io::read_to_string(self.0.stdout.take().expect("piped")).expect("a report");
        assert!(self.0.wait().expect("its end").success());
        serde_json::from_str(report.lines().last().expect("a line")).expect("JSON")
    }
}

impl Drop for Redrive {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Messages that lie in the push topic, are resolved as far as the group knows, and have a letter each.
fn give_up(rig: &mut Rig) -> BTreeSet<String> {
    let pushes = rig.generate(Settings { count: LETTERS, mix: Mix::CALM, seed: 21, ..Settings::default() });
    rig.produce(&pushes, None);
    let consumer: BaseConsumer = kafka().config().set("group.id", &rig.group).create().expect("a consumer");
    let mut ends = TopicPartitionList::new();
    for (partition, end) in (0..).zip(kafka().end_offsets(&rig.topic)) {
        ends.add_partition_offset(&rig.topic, partition, Offset::Offset(end)).expect("an offset");
    }
    consumer.commit(&ends, CommitMode::Sync).expect("a commit");
    let given_up: Vec<_> = kafka()
        .records(&rig.topic)
        .into_iter()
        .map(|record| letters::message(&rig.app, &rig.topic, record.partition, record.offset, record.payload))
        .collect();
    letters::write(&kafka().brokers, &given_up, "timeout");
    given_up.iter().map(|message| message.identity().to_string()).collect()
}

fn feedback(rig: &Rig) -> Vec<Value> {
    let records = kafka().records(&rig.feedback);
    records.iter().map(|record| serde_json::from_slice(&record.payload).expect("JSON")).collect()
}

#[test]
fn ten_thousand_letters_come_back_once_each_through_two_kills() {
    let mut rig = Rig::new("redrive", PARTITIONS);
    let identities = give_up(&mut rig);
    assert_eq!(identities.len() as u64, LETTERS);
    let mut worker = rig.worker(&[("FEEDBACK_SUCCESS", "true")]);
    // The second has to end what the first left open, and is killed itself.
    for share in [3, 6] {
        let redrive = Redrive::start(&rig, &["--rate", "4000"]);
        worker.until("a part of the letters", PATIENCE, || (rig.accepted() >= LETTERS * share / 10).then_some(()));
        redrive.kill();
    }
    let report = Redrive::start(&rig, &[]).finish();
    let rest = report["redriven"].as_u64().expect("a number");
    assert!(rest > 0 && rest < LETTERS && report["partial"] == false, "{report}");
    worker.until("all letters", PATIENCE, || (rig.accepted() >= LETTERS).then_some(()));
    let again = Redrive::start(&rig, &[]).finish();
    assert_eq!((again["redriven"].as_u64(), again["left"].as_u64()), (Some(0), Some(0)), "{again}");
    let told = worker.until("a record of each", PATIENCE, || {
        let told = feedback(&rig);
        (told.len() as u64 >= LETTERS).then_some(told)
    });
    let totals = worker.stop();

    let ledger = rig.simulator.handle().ledger();
    let wrong: Vec<_> = (0..LETTERS).filter(|serial| ledger.of(*serial).1 != 1).collect();
    assert!(wrong.is_empty(), "not accepted exactly once: {wrong:?}");
    assert_eq!((totals.consumed(), totals.delivered), (LETTERS, LETTERS), "what was taken back by a kill is not read");
    let ids: BTreeSet<_> =
        told.iter().map(|record| record["metadata"]["pusherId"].as_str().expect("one").to_owned()).collect();
    assert_eq!((told.len() as u64, ids == identities), (LETTERS, true), "one record each, under the first identity");
    assert!(told.iter().all(|record| record["metadata"]["redriven"] == true));
}

/// Transactions leave marks in the log, which are no records: a restart between them skips and repeats nothing.
#[test]
fn a_worker_goes_on_behind_the_marks_of_transactions() {
    let mut rig = Rig::new("marks", 1);
    let pushes = rig.generate(Settings { count: 20, mix: Mix::CALM, seed: 22, ..Settings::default() });
    rig.produce(&pushes, None);
    let mut worker = rig.worker(&[]);
    rig.settle(&mut worker, PATIENCE);
    worker.stop();
    let records = kafka().records(&rig.topic);
    let letters: Vec<_> = records
        .into_iter()
        .map(|record| letters::message(&rig.app, &rig.topic, record.partition, record.offset, record.payload))
        .collect();
    letters::write(&kafka().brokers, &letters, "timeout");
    let times = |rig: &Rig| (0..20).map(|serial| rig.simulator.handle().ledger().of(serial).1).sum::<u32>();
    for (life, limit) in [(1, "7"), (2, "13")] {
        let report = Redrive::start(&rig, &["--limit", limit, "--rate", "5"]).finish();
        assert_eq!(report["redriven"].to_string(), limit, "{report}");
        let mut worker = rig.worker(&[]);
        let wanted = if life == 1 { 27 } else { 40 };
        worker.until("its letters", PATIENCE, || (times(&rig) >= wanted).then_some(()));
        let end = kafka().end_offsets(&rig.topic)[0];
        eventually("all but the last mark committed", PATIENCE, || {
            (kafka().committed(&rig.group, &rig.topic)[0].offset >= Some(end - 1)).then_some(())
        });
        worker.stop();
        assert_eq!(times(&rig), wanted);
    }
    let first = identity(&rig.topic, 0, 0);
    assert_eq!(letters[0].identity(), first);
}
