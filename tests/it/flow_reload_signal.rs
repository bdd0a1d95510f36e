//! SIGHUP, to the program as its users run it.

use std::time::Duration;

use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;

use serde_json::Value;

use crate::flow_reload::put;
use crate::support::flow::Ends;
use crate::support::process;
use crate::support::worker::Worker;

const LONG: Duration = Duration::from_mins(1);
const REFUSED: &str = "the file has changed and is refused";

#[test]
fn it_changes_the_log_level_and_looks_at_files_and_says_what_takes_a_restart() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    let (settings, folder) = (ends.settings(), process::folder("worker"));
    let file = folder.join("config.yaml");
    put(&file, "log: {level: info}\nmaxInFlight: 5000\n");
    let path_of = |end: &str| {
        let setting = settings.iter().find(|(name, _)| name.ends_with(end));
        std::path::PathBuf::from(&setting.expect("a file's key").1)
    };
    let (key, ca) = (path_of("authKeyPath"), path_of("caFile"));
    let [good, good_ca] = [&key, &ca].map(|path| std::fs::read_to_string(path).expect("a file"));
    let environment: Vec<_> = settings
        .into_iter()
        .map(|(key, value)| (format!("PUSHER_{}", key.to_uppercase().replace('.', "_")), value))
        .collect();
    let mut worker =
        Worker::start_in(&["apns", "--config", file.to_str().expect("a path")], &environment, folder.clone());
    worker.until("started", LONG, || worker_said(&folder, "started"));
    put(&file, "log: {level: debug}\nmaxInFlight: 6000\n");
    // The clock may by chance be first to look at one: then there is another. The signal cannot be last each time.
    let asked = (1..=5).find(|&number| {
        put(&key, &format!("{number} half a key"));
        worker.hang_up();
        let what = format!("alarm {number}");
        worker.until(&what, LONG, || (said(&folder, REFUSED).len() == number).then_some(()));
        let alarm = said(&folder, REFUSED).pop().expect("just counted");
        assert_eq!((&alarm["alarm"], &alarm["key"]), (&true.into(), &"apns.certs.game.authKeyPath".into()));
        alarm["asked"] == true
    });
    let refused = asked.expect("the signal makes it look at the files");
    worker.until("the new level", LONG, || worker_said(&folder, "the log level has changed"));
    let waits = said(&folder, "changed in the configuration, and not in effect");
    assert_eq!(waits.first().expect("a line")["keys"], "maxInFlight");
    put(&ca, "no certificate");
    worker.until("the clock's look", LONG, || (said(&folder, REFUSED).len() > refused).then_some(()));
    let alarm = said(&folder, REFUSED).pop().expect("just counted");
    assert_eq!(
        (&alarm["alarm"], &alarm["key"], &alarm["asked"]),
        (&true.into(), &"apns.caFile".into(), &false.into()),
        "nobody has asked"
    );
    put(&ca, &good_ca);
    put(&file, "log: [unreadable\n");
    put(&key, &good);
    worker.hang_up();
    worker
        .until("a configuration that is none", LONG, || worker_said(&folder, "the configuration cannot be read again"));
    let restored = "the file holds again what is in use";
    worker.until("the good files", LONG, || (said(&folder, restored).len() >= 2).then_some(()));
    ends.produce(Ends::<Simulator>::calm(200));
    worker.until("all accepted", LONG, || ends.is_settled("game").then_some(()));
    assert!(worker.log().iter().any(|line| line["level"] == "debug"));
    assert_eq!(worker.stop().delivered, 200);
}

/// What its log has, of lines whose message begins so.
fn said(folder: &std::path::Path, beginning: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["msg"].as_str().is_some_and(|said| said.starts_with(beginning))).collect()
}

fn worker_said(folder: &std::path::Path, beginning: &str) -> Option<()> {
    (!said(folder, beginning).is_empty()).then_some(())
}
