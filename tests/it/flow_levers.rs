//! The levers of the person on call, on whole workers in this process: who may pull them, and what they do.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use pusher::message::{Lane, Origin, Platform};
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;
use pusher::simulator::fcm;
use pusher::simulator::handle::Provider;
use serde_json::Value;

use crate::support::eventually;
use crate::support::far::Far;
use crate::support::flow::{Ends, LONG, Running};
use crate::support::jobs::of_job;
use crate::support::mock::Mock;
use crate::support::scrape::{Scrape, ask, get};
use crate::support::worker::Worker;

const CONTROL: &str = "pusher-control";
const TOKEN: (&str, &str) = ("admin.token", "s3cret");
const PAUSED: &str = "paused by order: nothing more is lent, the backlog stays in Kafka";
const STOPPED: &str = "the job is stopped by order: its messages are cancelled, not sent";
const STARTED: &str = "the job goes on by order: its messages are sent again";
const NOT_KEPT: &str = "an order was asked for and is not known to be kept";

/// A cluster with a control topic, and a provider; apps `game` and `other`.
fn ends<F: Far>() -> Ends<F> {
    let mock = Arc::new(Mock::start(&[(CONTROL, 1)]));
    Ends::on(mock, &["game", "other"], <F::Levers as Provider>::Faults::default())
}

fn admin(running: &Running) -> SocketAddr {
    running.worker.admin().expect("an admin server")
}

/// An order that is taken.
#[track_caller]
fn order(running: &Running, path: &str, body: &str) -> Value {
    let (status, answer) = ask(admin(running), "POST", path, Some(TOKEN.1), body);
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// Waits until their partitions are handed out: what is on its way while they are may come twice.
#[track_caller]
fn until_ready(workers: &[&Running]) {
    eventually("the group is at rest", LONG, || {
        workers.iter().all(|running| get(admin(running), "/readyz").0 == 200).then_some(())
    });
}

/// Waits until a worker lends nothing from there, or does again.
#[track_caller]
fn until_held(running: &Running, app: &str, platform: &'static str, lane: Lane, held: bool) {
    let origin = Origin { topic: "t".into(), partition: 0, app: app.into(), platform: Platform(platform), lane };
    let what = format!("{app} {} held back: {held}", lane.as_str());
    eventually(&what, LONG, || (running.worker.in_flight().holds_back(&origin) == held).then_some(()));
}

#[test]
fn changes_need_the_token_and_readings_where_that_is_wanted() {
    let ends = Ends::<Simulator>::on(Arc::new(Mock::start(&[(CONTROL, 1)])), &["game"], Faults::default());
    let pause = |running: &Running, token| {
        ask(admin(running), "POST", "/api/pause", token, r#"{"app":"game","platform":"apns"}"#)
    };
    let pauses = |running: &Running, token| ask(admin(running), "GET", "/api/pauses", token, "");
    let none = ends.worker();
    for (path, body) in
        [("/api/pause", "{}"), ("/api/resume", "{}"), ("/api/jobs/j/stop", ""), ("/api/jobs/j/start", "")]
    {
        let (status, text) = ask(admin(&none), "POST", path, Some("s3cret"), body);
        assert!(status == 403 && text.contains("admin.token"), "{path}: {status} {text}");
    }
    assert_eq!(get(admin(&none), "/metrics").0, 200);
    let with = ends.worker_with(&[TOKEN]);
    for wrong in [None, Some(""), Some("s3cre"), Some("s3cret0")] {
        assert_eq!(pause(&with, wrong).0, 401, "{wrong:?}");
    }
    let (status, said) = pauses(&with, None);
    assert_eq!((status, said.trim()), (200, r#"{"pauses":[]}"#), "what was refused has changed nothing");
    let strict = ends.worker_with(&[TOKEN, ("admin.protectReads", "true")]);
    for path in ["/metrics", "/api/pauses", "/api/jobs"] {
        assert_eq!(get(admin(&strict), path).0, 401, "{path}");
        assert_eq!(ask(admin(&strict), "GET", path, Some("s3cret"), "").0, 200, "{path}");
    }
    assert_eq!(get(admin(&strict), "/healthz").0, 200);
    assert_ne!(get(admin(&strict), "/readyz").0, 401);
    for (wrong, why) in [
        (r#"{"app":"game","platform":"apn"}"#, "there is no platform \\\"apn\\\"; there are apns, gcm, listener"),
        (r#"{"app":"game"}"#, "missing field `platform`"),
        (r#"{"app":"game","platform":"apns","lanes":"single"}"#, "unknown field `lanes`"),
        (r#"{"app":"game","platform":"apns","lane":"x"}"#, "lane must be single, massive or all"),
        ("", "EOF"),
    ] {
        let (status, text) = ask(admin(&with), "POST", "/api/pause", Some("s3cret"), wrong);
        assert!(status == 400 && text.contains(why), "{wrong}: {status} {text}");
    }
    assert_eq!(pause(&with, Some("s3cret")).0, 200);
    let said: Value = serde_json::from_str(&pauses(&with, None).1).expect("JSON");
    assert_eq!((&said["pauses"][1]["lane"], said["pauses"].as_array().expect("pauses").len()), (&"single".into(), 2));
    assert!(said["pauses"][0]["by"].as_str().expect("who").starts_with("ann at 127.0.0.1:"), "{said}");
}

fn accepted<F: Far>(ends: &Ends<F>) -> u64 {
    ends.simulator.levers().ledger().sums().accepted
}

#[track_caller]
fn until_accepted<F: Far>(ends: &Ends<F>, count: u64) {
    eventually(&format!("{count} accepted"), LONG, || (accepted(ends) >= count).then_some(()));
}

fn lanes_wait_alone<F: Far>() {
    let mut ends = ends::<F>();
    let massive = format!("push-game_{}-massive", F::PLATFORM);
    ends.mock.create_topic(&massive, 1);
    let (one, two) = (ends.worker_with(&[TOKEN]), ends.worker_with(&[TOKEN]));
    until_ready(&[&one, &two]);
    let target = |lane: &str| format!(r#"{{"app":"game","platform":"{}","lane":"{lane}"}}"#, F::PLATFORM);
    assert_eq!(order(&one, "/api/pause", &target("massive"))["paused"][0]["lane"], "massive");
    for running in [&one, &two] {
        until_held(running, "game", F::PLATFORM, Lane::Massive, true);
    }
    let lines: Vec<_> =
        Ends::<F>::generate("game", 400, 0, pusher::generate::Mix::CALM).into_iter().map(|push| push.line).collect();
    ends.mock.produce(&massive, 0, &lines[..100]);
    ends.produce(&lines[100..200]);
    until_accepted(&ends, 100);
    eventually("the other lane is done", LONG, || ends.is_settled("game").then_some(()));
    let (status, _) = ask(admin(&two), "POST", "/api/pause", Some(TOKEN.1), &target("all"));
    assert_eq!(status, 200);
    for running in [&one, &two] {
        until_held(running, "game", F::PLATFORM, Lane::Single, true);
    }
    ends.produce(&lines[200..300]);
    let others: Vec<_> = Ends::<F>::generate("other", 100, 1_000, pusher::generate::Mix::CALM)
        .into_iter()
        .map(|push| push.line)
        .collect();
    ends.produce_for("other", &others);
    until_accepted(&ends, 200);
    eventually("the other app is done", LONG, || ends.is_settled("other").then_some(()));
    // A restart forgets no pause.
    assert!(one.stop().drained);
    let three = ends.worker_with(&[TOKEN]);
    until_ready(&[&two, &three]);
    until_held(&three, "game", F::PLATFORM, Lane::Single, true);
    assert_eq!(order(&three, "/api/resume", &target("single"))["resumed"].as_array().map(Vec::len), Some(1));
    until_accepted(&ends, 300);
    eventually("the resumed lane is done", LONG, || ends.is_settled("game").then_some(()));
    let ledger = ends.simulator.levers().ledger();
    assert!((0..100).all(|serial| !ledger.accepted(serial)), "the paused lane waits on");
    assert_eq!(order(&three, "/api/resume", &target("all"))["resumed"][0]["lane"], "massive");
    until_accepted(&ends, 400);
    assert_eq!(order(&three, "/api/resume", &target("all"))["resumed"].as_array().map(Vec::len), Some(0));
    for running in [two, three] {
        let summary = running.stop();
        assert!(summary.drained && summary.totals.unaccounted() == 0, "{summary:?}");
    }
    assert_eq!((accepted(&ends), ends.simulator.levers().ledger().sums().repeated), (400, 0));
}

#[test]
fn a_paused_lane_and_a_paused_app_wait_and_the_others_go_on() {
    lanes_wait_alone::<Simulator>();
}

#[test]
fn and_so_with_fcm() {
    lanes_wait_alone::<fcm::Simulator>();
}

/// Refused with 503 at every attempt.
fn stubborn<F: Far>(line: &str) -> String {
    let message: Value = serde_json::from_str(line).expect("JSON");
    let token = F::token(&message).expect("a token");
    line.replace(token, &format!("dead050399{}", &token[10..]))
}

fn a_job_is_stopped<F: Far>() {
    let mut ends = ends::<F>();
    let running = ends.worker_with(&[TOKEN]);
    let lines = Ends::<F>::calm(400);
    let (bad, good): (Vec<_>, Vec<_>) = (lines[..200].iter().collect(), lines[200..300].iter().collect());
    ends.produce(bad[..6].iter().map(|line| of_job(&stubborn::<F>(line), "bad")));
    running.until("all of them wait for a retry", |totals| totals.retries >= 6);
    assert_eq!(order(&running, "/api/jobs/bad/stop", ""), serde_json::json!({ "job": "bad", "stopped": true }));
    running.until("they are cancelled", |totals| totals.cancelled == 6);
    ends.produce(bad[6..].iter().map(|line| of_job(line, "bad")).chain(good.iter().map(|line| of_job(line, "good"))));
    ends.settle();
    let totals = running.totals();
    assert_eq!((totals.cancelled, totals.delivered, totals.unaccounted()), (200, 100, 0), "{totals:?}");
    let scrape = Scrape::of(admin(&running));
    scrape.assert_balance();
    assert_eq!(scrape.sum("pusher_outcomes_total", &[("outcome", "cancelled"), ("app", "game")]), 200);
    assert_eq!(scrape.sum("pusher_outcome_reasons_total", &[("outcome", "cancelled"), ("reason", "cancelled")]), 200);
    let feedback = ends.feedback();
    assert_eq!(feedback.len(), 200);
    let is_told = |record: &Value| F::told(record) == Some("cancelled") && record["metadata"]["jobId"] == "bad";
    assert!(feedback.values().all(is_told), "{feedback:?}");

    let (_, jobs) = get(admin(&running), "/api/jobs");
    let jobs: Value = serde_json::from_str(&jobs).expect("JSON");
    let of =
        |id: &str| jobs["jobs"].as_array().expect("jobs").iter().find(|job| job["id"] == id).expect("in sight").clone();
    assert_eq!(
        (&of("bad")["cancelled"], &of("bad")["stopped"], &of("bad")["delivered"]),
        (&200.into(), &true.into(), &0.into())
    );
    assert_eq!(of("bad")["reasons"], serde_json::json!({ "cancelled": 200 }));
    assert_eq!((&of("good")["delivered"], &of("good")["stopped"]), (&100.into(), &false.into()));
    assert!(of("good")["perSecond"].as_f64().expect("a rate") > 0.0);
    assert_eq!(jobs["stopped"][0]["id"], "bad");

    assert!(running.stop().drained);
    let again = ends.worker_with(&[TOKEN]);
    ends.produce(lines[300..310].iter().map(|line| of_job(line, "bad")));
    again.until("still stopped after a restart", |totals| totals.cancelled == 10);
    assert_eq!(order(&again, "/api/jobs/bad/start", "")["wasStopped"], true);
    assert_eq!(order(&again, "/api/jobs/bad/start", "")["wasStopped"], false);
    ends.produce(lines[310..320].iter().map(|line| of_job(line, "bad")));
    again.until("started again", |totals| totals.delivered == 10);
    ends.settle();
    assert_eq!(again.stop().totals.cancelled, 10);
    let ledger = ends.simulator.levers().ledger();
    assert!((0..200).chain(300..310).all(|serial| !ledger.accepted(serial)), "nothing of it was accepted");
}

#[test]
fn a_stopped_job_is_cancelled_wherever_its_messages_are() {
    a_job_is_stopped::<Simulator>();
}

#[test]
fn and_one_of_fcm_too() {
    a_job_is_stopped::<fcm::Simulator>();
}

/// `pusher` with the brokers of this cluster: whether it ended well, and what it said.
fn pusher(mock: &Mock, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().env("PUSHER_QUEUE_BROKERS", &mock.brokers).env("PUSHER_ADMIN_LISTEN", "off").args(arguments);
    command.env("USER", "bob");
    let output = command.output().expect("pusher");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn commands_give_the_same_orders() {
    let ends = ends::<Simulator>();
    let running = ends.worker_with(&[TOKEN]);
    let run = |arguments: &[&str]| {
        let (well, said) = pusher(&ends.mock, arguments);
        assert!(well, "{arguments:?}: {said}");
        said
    };
    assert_eq!(run(&["pause"]), "nothing is paused\n");
    assert_eq!(
        run(&["pause", "game", "apns", "--lane", "massive", "--why", "wrong segment"]),
        "paused: game on apns, massive\n"
    );
    until_held(&running, "game", "apns", Lane::Massive, true);
    until_held(&running, "game", "apns", Lane::Single, false);
    let listed = run(&["pause"]);
    assert!(listed.starts_with("APP") && listed.contains("wrong segment"), "{listed}");
    assert_eq!(run(&["resume", "Game", "apns"]), "resumed: game on apns, massive\n");
    until_held(&running, "game", "apns", Lane::Massive, false);
    assert_eq!(run(&["resume", "game", "apns"]), "nothing of game on apns is paused\n");
    assert_eq!(run(&["job", "stop", "j-1"]), "stopped: j-1\n");
    let listed = run(&["job", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).expect("JSON")["id"], "j-1");
    assert!(run(&["job", "list", "--admin", &admin(&running).to_string()]).starts_with("STOPPED JOB"));
    assert_eq!(run(&["job", "start", "j-1"]), "started: j-1\n");
    assert_eq!(run(&["job", "list"]), "no job is stopped\n");
    assert!(!pusher(&ends.mock, &["pause", "game", "apn"]).0, "there is no such platform");
}

#[test]
fn while_the_control_topic_is_away_pushes_go_on_and_orders_are_refused() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    let running = ends.worker_with(&[TOKEN, ("control.brokers", "127.0.0.1:1")]);
    ends.produce(Ends::<Simulator>::calm(30));
    ends.settle();
    let (status, text) = ask(admin(&running), "POST", "/api/jobs/j/stop", Some(TOKEN.1), "");
    assert!(status == 503 && text.contains("nothing is changed: the control topic cannot be read"), "{status} {text}");
    assert!(running.stop().drained);
    let own = ends.worker_with(&[TOKEN, ("control.topic", "off")]);
    order(&own, "/api/jobs/j/stop", "");
    ends.produce(Ends::<Simulator>::calm(30).iter().map(|line| of_job(line, "j")));
    own.until("stopped in this process alone", |totals| totals.cancelled == 30);
}

/// The last line of a worker's log that says this.
#[track_caller]
fn line(worker: &mut Worker, what: &str) -> Value {
    let log = worker.log_file();
    worker.until(what, LONG, || log.read().into_iter().rev().find(|line| line["msg"] == what))
}

/// Who gives an order, takes one back, or tries to, is in the log of the process that was asked and of all that obey.
#[test]
fn every_order_is_logged_with_who_and_why() {
    let ends = Ends::<Simulator>::on(Arc::new(Mock::start(&[])), &["game"], Faults::default());
    let control = Mock::start(&[]);
    let own = [TOKEN, ("control.brokers", control.brokers.as_str())];
    let settings = ends.settings().into_iter().chain(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let name = |key: &str| format!("PUSHER_{}", key.to_uppercase().replace('.', "_"));
    let mut worker = Worker::start("apns", &settings.map(|(key, value)| (name(&key), value)).collect::<Vec<_>>());
    let admin = eventually("the admin server", LONG, || worker.admin());
    worker.until("assigned", LONG, || (get(admin, "/readyz").0 == 200).then_some(()));
    let post = |path: &str, body: &str| ask(admin, "POST", path, Some(TOKEN.1), body);
    let game = r#"{"app":"game","platform":"apns","lane":"massive","why":"wrong segment"}"#;
    let is_anns =
        |line: &Value, field: &str| line[field].as_str().is_some_and(|who| who.starts_with("ann at 127.0.0.1:"));

    for (path, body, asked, obeyed, why) in [
        ("/api/pause", game, "asked to pause", PAUSED, Some("wrong segment")),
        ("/api/resume", game, "asked to resume", "resumed by order", None),
        ("/api/jobs/j/stop", r#"{"why":"wrong text"}"#, "asked to stop a job", STOPPED, Some("wrong text")),
        ("/api/jobs/j/start", "", "asked to start a job", STARTED, None),
    ] {
        let (status, said) = post(path, body);
        assert_eq!(status, 200, "{path}: {said}");
        let (asked, obeyed) = (line(&mut worker, asked), line(&mut worker, obeyed));
        assert!(is_anns(&asked, "who") && is_anns(&obeyed, "by"), "{asked} {obeyed}");
        assert_eq!(obeyed["why"].as_str(), why, "{obeyed}");
        let whats = if path.contains("jobs") { ["job", "job"] } else { ["app", "lane"] };
        assert!(whats.iter().all(|what| asked[what].is_string() && asked[what] == obeyed[what]), "{asked} {obeyed}");
    }

    // On the command line: by whom is in the topic, and so in the log of who obeys.
    let by_bob = |line: &Value| line["by"].as_str().is_some_and(|who| who.starts_with("bob@"));
    for (arguments, obeyed) in [
        (&["pause", "game", "apns", "--lane", "single"][..], PAUSED),
        (&["resume", "game", "apns"], "resumed by order"),
        (&["job", "stop", "k"], STOPPED),
        (&["job", "start", "k"], STARTED),
    ] {
        assert!(pusher(&control, arguments).0, "{arguments:?}");
        let log = worker.log_file();
        let is_it = |line: &Value| line["msg"] == obeyed && by_bob(line);
        worker.until(obeyed, LONG, || log.read().into_iter().find(is_it));
    }

    let (status, _) = post("/api/pause", r#"{"app":"game","platform":"apn"}"#);
    assert_eq!(status, 400);
    let refused = line(&mut worker, NOT_KEPT);
    assert_eq!((&refused["order"], &refused["about"]), (&"pause".into(), &"game on apn, all lanes".into()));
    control.cluster().broker_down(1).expect("down");
    let (status, said) = post("/api/jobs/l/stop", "");
    assert!(status == 503 && said.contains("did not acknowledge"), "{status} {said}");
    let log = worker.log_file();
    let unknown = worker.until("the order that is not known to be kept", LONG, || {
        log.read().into_iter().find(|line| line["msg"] == NOT_KEPT && line["about"] == "l")
    });
    assert!(is_anns(&unknown, "who") && unknown["error"].as_str().is_some_and(|error| error.contains("look again")));
    assert_eq!((&unknown["order"], &unknown["level"]), (&"stop a job".into(), &"warning".into()), "{unknown}");
    worker.stop();
}
