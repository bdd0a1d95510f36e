//! The harness itself: what the other `real_*` tests build on holds.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::{self, process, unique};

#[test]
fn kafka_carries_records_from_its_console_producer() {
    let (kafka, topic) = (support::kafka(), unique("records"));
    kafka.create_topic(&topic, 3);
    let lines: Vec<String> = (0..50).map(|n| format!("{{\"n\":{n}}}")).collect();
    kafka.console_producer(&topic, &lines);
    assert_eq!(kafka.end_offsets(&topic).iter().sum::<i64>(), 50);
    let records = kafka.records(&topic).into_iter().map(|record| String::from_utf8(record.payload).expect("UTF-8"));
    assert_eq!(records.collect::<BTreeSet<_>>(), lines.into_iter().collect());
}

#[test]
fn kafka_keeps_the_metadata_of_a_commit() {
    let (kafka, topic, group) = (support::kafka(), unique("commit"), unique("group"));
    kafka.create_topic(&topic, 2);
    let nothing: Vec<_> = kafka.committed(&group, &topic).into_iter().map(|c| c.offset).collect();
    assert_eq!(nothing, [None, None]);

    let consumer: BaseConsumer = kafka.config().set("group.id", &group).create().expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    let mut element = offsets.add_partition(&topic, 1);
    element.set_offset(Offset::Offset(7)).expect("a valid offset");
    element.set_metadata("v1;map of what is resolved");
    consumer.commit(&offsets, CommitMode::Sync).expect("a commit");

    let committed = kafka.committed(&group, &topic);
    assert_eq!((committed[0].offset, committed[1].offset), (None, Some(7)));
    assert_eq!(committed[1].metadata, "v1;map of what is resolved");
}

#[test]
fn postgres_gives_each_test_a_database() {
    let postgres = support::postgres();
    let (one, other) = (postgres.database("one"), postgres.database("other"));
    one.query("CREATE TABLE game_apns (token text); INSERT INTO game_apns VALUES ('a'), ('b')");
    assert_eq!(one.query("SELECT token, 1 FROM game_apns ORDER BY token"), [["a", "1"], ["b", "1"]]);
    assert_eq!(one.count("game_apns"), 2);
    assert!(other.query("SELECT 1 FROM pg_tables WHERE tablename = 'game_apns'").is_empty());
}

#[test]
fn redis_answers() {
    assert!(support::redis().answers());
}

#[test]
fn the_leash_ends_a_server_whose_tests_were_killed() {
    let folder = process::folder("leash");
    let mut shell = Command::new("sh")
        .args(["-c", include_str!("support/leash.sh"), "leash"])
        .arg(&folder)
        .args(["sh", "-c", "echo $$ > pid; exec sleep 600"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let limit = Duration::from_secs(20);
    let pid = support::eventually("the server's id", limit, || {
        std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse::<u32>().ok()
    });
    // What the kernel does for a process that was killed: it closes its end of the pipe.
    drop(shell.stdin.take());
    shell.wait().expect("the shell's end");
    support::eventually("the folder is gone", limit, || (!folder.exists()).then_some(()));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the server outlived its leash");
}

/// Apart from the shared one, which other tests are using.
#[test]
fn a_stopped_postgres_comes_back_with_its_data() {
    let postgres = support::Postgres::start_apart();
    let database = postgres.database("back");
    database.query("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)");
    postgres.stop("INT");
    assert!(std::net::TcpStream::connect((postgres.host.as_str(), postgres.port)).is_err());
    postgres.start();
    assert_eq!(database.count("kept"), 1);
}

/// Apart from the shared one, which other tests are using.
#[test]
fn a_killed_kafka_comes_back_with_its_records() {
    let (kafka, topic) = (support::Kafka::start_apart(), unique("back"));
    kafka.create_topic(&topic, 1);
    kafka.console_producer(&topic, ["one", "two"]);
    kafka.stop("KILL");
    assert!(std::net::TcpStream::connect(&kafka.brokers).is_err());
    kafka.start();
    let payloads: Vec<_> = kafka.records(&topic).into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, [b"one", b"two"]);
}
