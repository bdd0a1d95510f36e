//! Redrive on embedded parts: letters back to a worker, under the identity of their messages; and who may not claim one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Parser as _;
use indicatif::ProgressBar;
use pusher::cli::{Cli, Command};
use pusher::config::Config;
use pusher::message::{QueueMessage, REDRIVE_OF, identity, redrive_of};
use pusher::redrive::{self, Report};
use pusher::shutdown::Shutdown;
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;

use crate::flow_admission::{apns, device, keys};
use crate::support::flow::{Ends, PARTITIONS};
use crate::support::letters;
use crate::support::mock::Mock;
use crate::support::reader::Reader;
use crate::support::redis;
use crate::support::scrape::Scrape;

const TOPIC: &str = "push-game_apns-single";

fn redriven(brokers: &str, more: &[&str]) -> Report {
    let words = ["pusher", "redrive", "game", "apns"].iter().chain(more);
    let Command::Redrive(arguments) = Cli::parse_from(words).command else { panic!("another command") };
    let config = Config::from_pairs([("queue.brokers", brokers)]);
    redrive::run(&config, &arguments, |_| ProgressBar::hidden(), &Shutdown::default()).expect("a run")
}

fn messages(lines: &[String]) -> Vec<QueueMessage> {
    let place = |index: usize| (index as i32 % PARTITIONS, index as i64 / i64::from(PARTITIONS));
    let message = |(index, line): (usize, &String)| {
        let (partition, offset) = place(index);
        letters::message("game", TOPIC, partition, offset, line.clone().into_bytes())
    };
    lines.iter().enumerate().map(message).collect()
}

#[test]
fn letters_come_back_under_the_identity_of_their_messages() {
    const PUSHES: u64 = 30;
    let mut ends: Ends<Simulator> = Ends::start(Faults::default());
    ends.mock.create_topic("deadletters-game-apns", 2);
    let lines = Ends::<Simulator>::calm(PUSHES);
    ends.produce(&lines);
    let worker = ends.worker();
    worker.until("all delivered once", |totals| totals.delivered == PUSHES);
    ends.settle();
    worker.stop();

    let messages = messages(&lines);
    letters::write(&ends.mock.brokers, &messages[..20], "timeout");
    letters::write(&ends.mock.brokers, &messages[15..], "internal");
    let dry = redriven(&ends.mock.brokers, &["--dry-run"]);
    assert_eq!((dry.total(), dry.repeated, dry.dry_run), (PUSHES, 5, true));
    assert_eq!(ends.mock.ends(TOPIC, 0).1, 10, "a dry run changes nothing");
    let report = redriven(&ends.mock.brokers, &["--reason", "TIMEOUT"]);
    // Which of two letters of one record comes first is nobody's promise: they may lie in two partitions.
    assert_eq!((report.total(), report.redriven.len(), report.is_partial), (20, 1, false), "{report:?}");
    assert_eq!(report.left + report.repeated, 15, "{report:?}");

    let worker = ends.worker_with(&[("feedback.success", "true")]);
    worker.until("the letters delivered", |totals| totals.delivered == 20);
    let counted = Scrape::of(worker.worker.admin().expect("an admin server"));
    assert_eq!(counted.sum("pusher_redriven_total", &[("platform", "apns"), ("app", "game")]), 20);
    let summary = worker.stop();
    assert_eq!(summary.totals.unaccounted(), 0);
    let told = ends.feedback();
    let wanted: BTreeSet<_> = messages[..20].iter().map(|message| message.identity().to_string()).collect();
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), wanted);
    assert!(told.values().all(|record| record["metadata"]["redriven"] == true && record["Sent"] == true));
    let seen = ends.simulator.stats();
    assert_eq!(
        (seen.messages.accepted, seen.messages.identity_changes),
        (PUSHES, 0),
        "the same apns-id for the same push"
    );
}

#[test]
fn a_rate_is_kept() {
    const PUSHES: u64 = 200;
    let mut ends: Ends<Simulator> = Ends::start(Faults::default());
    ends.mock.create_topic("deadletters-game-apns", 1);
    let lines = Ends::<Simulator>::calm(PUSHES);
    ends.produce(&lines);
    letters::write(&ends.mock.brokers, &messages(&lines), "timeout");
    let began = Instant::now();
    assert_eq!(redriven(&ends.mock.brokers, &["--rate", "100"]).total(), PUSHES);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

/// The push was delivered, and its content claimed; its letter is no copy of it, and what is one still is.
#[test]
fn dedup_takes_a_redriven_push_for_what_it_is() {
    let port = redis().port.to_string();
    let (admission, device) = (keys(&port, &[("dedup.games.game", "100")]), device());
    let mut ends: Ends<Simulator> = Ends::start(Faults::default());
    ends.mock.create_topic("deadletters-game-apns", 1);
    let lines = [apns(&device, 1)];
    ends.produce(&lines);
    let worker = ends.worker_with(&admission);
    worker.until("delivered once", |totals| totals.delivered == 1);
    ends.settle();
    worker.stop();

    letters::write(&ends.mock.brokers, &messages(&lines), "timeout");
    assert_eq!(redriven(&ends.mock.brokers, &[]).total(), 1);
    let worker = ends.worker_with(&admission);
    worker.until("the letter delivered", |totals| totals.delivered == 1);
    ends.produce([apns(&device, 1)]);
    worker.until("its copy refused", |totals| totals.deduplicated == 1);
    let counted = Scrape::of(worker.worker.admin().expect("an admin server"));
    assert_eq!(counted.sum("pusher_redriven_total", &[("app", "game")]), 1);
    let totals = worker.stop().totals;
    assert_eq!((totals.delivered, totals.deduplicated, totals.unaccounted()), (1, 1, 0), "{totals:?}");
}

/// A header is believed when it names an earlier record of its own partition whose outcome is final.
#[test]
fn no_producer_can_take_the_identity_of_a_message_that_is_under_way() {
    let mock = Mock::start(&[(TOPIC, 2)]);
    mock.append(TOPIC, 0, "first");
    mock.append(TOPIC, 0, "second");
    for said in [redrive_of(TOPIC, 0, 0), redrive_of(TOPIC, 0, 9), redrive_of(TOPIC, 1, 0), "junk".into()] {
        mock.append_with(TOPIC, 0, "a claim", (REDRIVE_OF, &said));
    }
    mock.flush();
    let mut reader = Reader::new(&mock.brokers, &["game"], &[], 100);
    let mut lent = reader.read(6);
    let own = |lent: &[pusher::queue::Lent]| {
        lent.iter()
            .all(|one| one.message.redrive_of.is_none() && one.message.identity() == one.message.record_identity())
    };
    assert!(own(&lent), "the first is still under way, and the other claims are of elsewhere");
    lent.remove(0).receipt.resolve();
    for said in [redrive_of(TOPIC, 0, 0), redrive_of(TOPIC, 0, 1)] {
        mock.append_with(TOPIC, 0, "a claim", (REDRIVE_OF, &said));
    }
    mock.flush();
    let mut more = reader.read(2);
    assert!(own(&more[1..]), "the second is under way");
    let redriven = more.remove(0);
    assert_eq!(redriven.message.identity(), identity(TOPIC, 0, 0));
    assert_ne!(redriven.message.identity(), redriven.message.record_identity());
    lent.into_iter().chain(more).chain([redriven]).for_each(|one| one.receipt.resolve());
    reader.close();
}
