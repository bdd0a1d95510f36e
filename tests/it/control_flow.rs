//! The entries that outlive a process, on the mock cluster: set by one, known to all and to who comes later.

use std::collections::BTreeMap;
use std::time::Duration;

use pusher::config::Config;
use pusher::control::config::Consumer;
use pusher::control::{Control, NotRead, Settings};

use crate::support::mock::{Mock, broker_up};
use crate::support::{eventually, wait_for};

const TOPIC: &str = "pusher-control";
const LONG: Duration = Duration::from_secs(30);

fn settings(mock: &Mock) -> Settings {
    let consumer = Consumer { brokers: &mock.brokers, group: "test", options: &BTreeMap::new() };
    Settings::from_config(&Config::default(), consumer).expect("the defaults").expect("a topic")
}

fn start(mock: &Mock) -> Control {
    let control = Control::new(Some(settings(mock)));
    control.start();
    control
}

fn read(control: &Control) {
    wait_for(control.read(LONG)).expect("the topic answers");
}

#[track_caller]
fn until(control: &Control, key: &str, wanted: Option<i32>) {
    eventually(&format!("{key} = {wanted:?}"), LONG, || (control.state().get::<i32>(key) == wanted).then_some(()));
}

#[test]
fn what_one_sets_all_know_and_who_comes_later() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (one, other) = (start(&mock), start(&mock));
    read(&one);
    read(&other);
    one.set("valve/a", &1);
    until(&one, "valve/a", Some(1));
    until(&other, "valve/a", Some(1));
    other.set("valve/a", &2);
    one.set("valve/b", &3);
    assert!(wait_for(one.written(LONG)) && wait_for(other.written(LONG)));
    let late = start(&mock);
    read(&late);
    assert_eq!((late.state().get::<i32>("valve/a"), late.state().get::<i32>("valve/b")), (Some(2), Some(3)));
    late.remove("valve/b", "ann");
    until(&one, "valve/b", None);
    assert_eq!(one.state().ended_by("valve/b"), Some("ann"));
    assert!(wait_for(late.written(LONG)));
    let latest = start(&mock);
    read(&latest);
    assert_eq!(latest.state().get::<i32>("valve/b"), None, "removed for good");
}

#[test]
fn the_last_of_many_values_wins_everywhere() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (one, other) = (start(&mock), start(&mock));
    read(&one);
    read(&other);
    for n in 0..=500 {
        one.set("k", &n);
        other.set(&format!("k{}", n % 7), &n);
    }
    until(&other, "k", Some(500));
    assert!(wait_for(other.written(LONG)));
    for n in 494..=500 {
        until(&one, &format!("k{}", n % 7), Some(n));
    }
}

#[test]
fn a_silent_broker_is_waited_for_and_what_was_set_meanwhile_is_written() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let control = start(&mock);
    read(&control);
    mock.cluster().broker_down(1).expect("down");
    control.set("k", &1);
    control.set("k", &2);
    assert!(!wait_for(control.written(Duration::from_millis(300))), "nobody has taken it");
    assert_eq!(control.state().get::<i32>("k"), None, "the topic is the truth");
    broker_up(&mock.cluster());
    until(&control, "k", Some(2));
    assert!(wait_for(control.written(LONG)));
    let later = start(&mock);
    read(&later);
    assert_eq!(later.state().get::<i32>("k"), Some(2));
}

#[test]
fn records_that_are_no_entries_are_passed_over() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, ["no key", "nor this"]);
    let control = start(&mock);
    control.set("k", &1);
    read(&control);
    until(&control, "k", Some(1));
}

#[test]
fn a_cluster_that_is_not_there_is_told_and_costs_the_wait_alone() {
    let mock = Mock::start(&[]);
    let away = Control::new(Some(Settings { brokers: "127.0.0.1:1".into(), ..settings(&mock) }));
    away.start();
    away.set("k", &1);
    let answer = wait_for(away.read(Duration::from_secs(1)));
    assert!(matches!(answer, Err(NotRead::Away(_))), "{answer:?}");
}
