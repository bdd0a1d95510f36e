//! SIGHUP, to the program as its users run it.

use std::time::Duration;

use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;

use crate::flow_reload::put;
use crate::support::flow::Ends;
use crate::support::process;
use crate::support::worker::Worker;

const LONG: Duration = Duration::from_mins(1);

#[test]
fn it_changes_the_log_level_and_looks_at_files_and_says_what_takes_a_restart() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    let (settings, folder) = (ends.settings(), process::folder("worker"));
    let file = folder.join("config.yaml");
    put(&file, "log: {level: info}\nmaxInFlight: 5000\n");
    let key = settings.iter().find(|(name, _)| name.ends_with("authKeyPath")).map(|(_, path)| path.clone());
    let key = std::path::PathBuf::from(key.expect("the key's file"));
    let good = std::fs::read_to_string(&key).expect("the key");
    let environment: Vec<_> = settings
        .into_iter()
        .map(|(key, value)| (format!("PUSHER_{}", key.to_uppercase().replace('.', "_")), value))
        .collect();
    let mut worker =
        Worker::start_in(&["apns", "--config", file.to_str().expect("a path")], &environment, folder.clone());
    worker.until("started", LONG, || worker_said(&folder, "started"));
    put(&file, "log: {level: debug}\nmaxInFlight: 6000\n");
    put(&key, "half a key");
    worker.hang_up();
    worker.until("the new level", LONG, || worker_said(&folder, "the log level has changed"));
    worker.until("the alarm", LONG, || worker_said(&folder, "the file has changed and is refused"));
    let log = worker.log();
    let said = |beginning: &str| {
        log.iter().find(|line| line["msg"].as_str().is_some_and(|said| said.starts_with(beginning))).expect("a line")
    };
    assert_eq!(said("changed in the configuration, and not in effect")["keys"], "maxInFlight");
    let alarm = said("the file has changed and is refused");
    assert_eq!((&alarm["alarm"], &alarm["key"]), (&true.into(), &"apns.certs.game.authKeyPath".into()));
    put(&file, "log: [unreadable\n");
    put(&key, &good);
    worker.hang_up();
    worker
        .until("a configuration that is none", LONG, || worker_said(&folder, "the configuration cannot be read again"));
    worker.until("the good key", LONG, || worker_said(&folder, "the file holds again what is in use"));
    ends.produce(Ends::<Simulator>::calm(200));
    worker.until("all accepted", LONG, || ends.is_settled("game").then_some(()));
    assert!(worker.log().iter().any(|line| line["level"] == "debug"));
    assert_eq!(worker.stop().delivered, 200);
}

fn worker_said(folder: &std::path::Path, beginning: &str) -> Option<()> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut said = lines.filter_map(|line| line["msg"].as_str().map(str::to_owned));
    said.any(|said| said.starts_with(beginning)).then_some(())
}
