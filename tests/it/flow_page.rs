//! The status of a running worker: its document and events balance during a run, `pusher status` says the same, the page works in
//! a real browser, and the description holds against Schemathesis.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use pusher::admin::document::{Breaker, History, Status};
use pusher::generate::{Generated, Mix};
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;
use pusher::simulator::fcm;
use serde_json::Value;

use crate::support::far::Far as _;
use crate::support::flow::{Ends, PARTITIONS};
use crate::support::scrape::{ask, get};
use crate::support::worker::Worker;
use crate::support::{eventually, root};

const LONG: Duration = Duration::from_mins(2);
const TOKEN: &str = "letmein";
/// To the top left of a terminal, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Mostly delivered, some refused for several reasons.
const MIX: Mix = Mix([900, 40, 20, 10, 10, 10, 10]);

/// Pushes of `app` without end, some each 50 ms, until `stop`.
fn keep_producing(ends: &Ends<Simulator>, app: &str, lane: &str, stop: &AtomicBool) {
    let (topic, mut serial) = (format!("push-{app}_apns-{lane}"), 0);
    while !stop.load(SeqCst) {
        let pushes: Vec<Generated> = Ends::<Simulator>::generate(app, 12, serial, MIX);
        serial += pushes.len() as u64;
        for push in pushes {
            ends.mock.append(&topic, (push.serial % PARTITIONS as u64) as i32, &push.line);
        }
        ends.mock.flush();
        #[allow(clippy::disallowed_methods, reason = "the rhythm of a producer")]
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
pub(crate) fn status(admin: SocketAddr) -> Status {
    let (code, body) = get(admin, "/api/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).expect("a status")
}

/// The law, in the whole and in each lane.
#[track_caller]
fn assert_balance(status: &Status) {
    let books = &status.ledger;
    let ended: u64 = books.outcomes.values().sum();
    assert!(books.balances && books.consumed == ended + books.in_flight, "{books:?}");
    for lane in status.apps.iter().flat_map(|app| &app.lanes) {
        assert_eq!(lane.consumed, lane.outcomes.values().sum::<u64>() + lane.in_flight, "{lane:?}");
    }
    assert!(!status.problems.iter().any(|problem| problem.what.contains("ledger")), "{:?}", status.problems);
}

/// The documents of `n` events.
fn events(admin: SocketAddr, n: usize) -> Vec<Status> {
    let mut stream = TcpStream::connect(admin).expect("the admin server");
    stream.set_read_timeout(Some(LONG)).expect("a limit");
    write!(stream, "GET /api/events HTTP/1.1\r\nhost: {admin}\r\n\r\n").expect("a question");
    let lines = BufReader::new(stream).lines().map(|line| line.expect("events without end"));
    let data = lines.filter_map(|line| line.strip_prefix("data: ").map(ToOwned::to_owned));
    data.take(n).map(|text| serde_json::from_str(&text).expect("a status")).collect()
}

#[test]
fn status_and_events_balance_during_a_run_and_tell_of_it() {
    let ends = Ends::<Simulator>::start(Faults { processing_ms: 20, ..Faults::default() });
    let running = ends.worker();
    let admin = running.worker.admin().expect("an admin server");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_producing(&ends, "game", "single", &stop));
        let work = std::panic::catch_unwind(|| watch(admin));
        stop.store(true, SeqCst);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    running.until("all ended", |totals| totals.unaccounted() == 0);
    let last = status(admin);
    assert_balance(&last);
    assert_eq!(last.ledger.outcomes["delivered"], running.totals().delivered);
    let refused = last.apps[0].lanes[0].reasons.iter().filter(|one| one.outcome == "rejected");
    let refused: u64 = refused.map(|one| one.count).sum();
    assert_eq!(last.ledger.outcomes["rejected"], refused, "each with its reason");
    running.stop();
}

fn watch(admin: SocketAddr) {
    let seen = eventually("a lane under way", LONG, || {
        let status = status(admin);
        assert_balance(&status);
        let lane = status.apps.first()?.lanes.first()?;
        let is_told = lane.delivered_per_s > 0.0 && lane.accepted.p99_ms.is_some() && lane.backlog.is_some();
        let has_committed = status.partitions.iter().any(|one| one.committed > 0 && one.log_end.is_some());
        (is_told && has_committed && status.ready).then_some(status)
    });
    assert_eq!((seen.program.as_str(), seen.platforms.as_slice()), ("worker", &["apns".to_owned()][..]));
    assert_eq!(seen.partitions.len(), PARTITIONS as usize);
    assert!(seen.pools.iter().map(|pool| pool.open).sum::<u64>() > 0, "{:?}", seen.pools);
    let round_trip = seen.apps[0].lanes[0].round_trip.p50_ms.expect("requests");
    assert!(round_trip >= 10.0, "the provider takes 20 ms, within ranges: {round_trip}");
    let told = events(admin, 5);
    assert!(
        told[1].at_ms >= told[0].at_ms && told[1].ledger.consumed >= told[0].ledger.consumed,
        "at once, then each second"
    );
    for (before, after) in told[1..].iter().zip(&told[2..]) {
        assert_balance(after);
        assert!(after.at_ms > before.at_ms && after.ledger.consumed > before.ledger.consumed, "events tell of a run");
    }
    let (code, body) = get(admin, "/api/history");
    let history: History = serde_json::from_str(&body).expect("a history");
    assert!(code == 200 && !history.samples.is_empty(), "{body}");
}

#[test]
fn pusher_status_says_what_the_document_says_and_ends_accordingly() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    ends.produce(Ends::<Simulator>::calm(60));
    let running = ends.worker_with(&[("admin.token", TOKEN), ("admin.protectReads", "true")]);
    let admin = running.worker.admin().expect("an admin server");
    running.until("all delivered", |totals| totals.delivered == 60);
    let pusher = |arguments: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
        command.current_dir(std::env::temp_dir()).arg("status").args(arguments).env("PUSHER_ADMIN_TOKEN", token);
        let Output { status, stdout, stderr } = command.output().expect("pusher status");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status.code(), text(&stdout), text(&stderr))
    };
    let url = format!("http://{admin}");
    eventually("ready and well", LONG, || (pusher(&["--url", &url], TOKEN).0 == Some(0)).then_some(()));
    let (_, shown, _) = pusher(&["--url", &url], TOKEN);
    assert!(
        shown.starts_with("all well: worker apns on ") && shown.contains("60 delivered + 0 in flight: it balances"),
        "{shown}"
    );
    let (code, shown, _) = pusher(&["--url", &url, "--json"], TOKEN);
    let json: Status = serde_json::from_str(&shown).expect("the document");
    assert_eq!((code, json.ledger.outcomes["delivered"]), (Some(0), 60));
    let (code, shown, said) = pusher(&["--url", &url], "wrong");
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(said.contains("refuses /api/status") && !said.contains("wrong"), "{said}");
    running.stop();
    let (code, _, said) = pusher(&["--url", &url], TOKEN);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no admin server at"), "{said}");
}

/// `pusher status --watch` in a terminal, with what that shows.
struct Watching {
    program: Child,
    shown: Arc<Mutex<String>>,
}

impl Watching {
    fn start(admin: SocketAddr) -> Watching {
        let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
        command.current_dir(std::env::temp_dir()).args(["status", "--watch", "--url", &format!("http://{admin}")]);
        command.stdin(Stdio::null()).stdout(slave).stderr(Stdio::null());
        let program = command.spawn().expect("pusher status");
        // Its end of the terminal is closed here, so that the reader sees an end.
        drop(command);
        let shown = Arc::<Mutex<String>>::default();
        let (into, mut from) = (shown.clone(), File::from(master));
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut some) {
                into.lock().push_str(&String::from_utf8_lossy(&some[..length]));
            }
        });
        Watching { program, shown }
    }

    /// What was painted, one screen after the other, the last one perhaps half.
    fn screens(&self) -> Vec<String> {
        self.shown.lock().split(CLEAR).skip(1).map(ToOwned::to_owned).collect()
    }

    /// Ctrl-C; its exit code.
    fn interrupt(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.program.id().cast_signed()), Signal::SIGINT).expect("a signal");
        eventually("the end", LONG, || self.program.try_wait().expect("a child of ours")).code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn pusher_status_watch_repaints_until_it_is_interrupted_and_says_so_when_nobody_answers() {
    let mut ends = Ends::<Simulator>::start(Faults::default());
    ends.produce(Ends::<Simulator>::calm(60));
    let running = ends.worker();
    let admin = running.worker.admin().expect("an admin server");
    running.until("all delivered", |totals| totals.delivered == 60);
    eventually("ready and well", LONG, || Some(status(admin)).filter(|status| status.ready && status.well).map(drop));

    let watching = Watching::start(admin);
    eventually("three screens", LONG, || (watching.screens().len() > 3).then_some(()));
    for screen in &watching.screens()[..3] {
        assert!(screen.starts_with("all well: worker apns on ") && screen.contains("60 delivered"), "{screen}");
    }
    assert_eq!(watching.interrupt(), Some(0), "all was well when it was seen last");

    let watching = Watching::start(admin);
    eventually("a screen", LONG, || watching.screens().first()?.starts_with("all well").then_some(()));
    running.stop();
    let away = |screen: &String| screen.contains("no admin server at");
    eventually("that nobody answers", LONG, || watching.screens().iter().any(away).then_some(()));
    assert_eq!(watching.interrupt(), Some(1));
}

#[test]
fn a_worker_of_fcm_says_what_it_is() {
    let mut ends = Ends::<fcm::Simulator>::start(fcm::faults::Faults::default());
    ends.produce(Ends::<fcm::Simulator>::calm(60));
    let running = ends.worker();
    let admin = running.worker.admin().expect("an admin server");
    running.until("all delivered", |totals| totals.delivered == 60);
    assert_page(admin);
    let seen = eventually("ready, with its connections", LONG, || {
        let status = status(admin);
        (status.ready && status.pools.iter().any(|pool| pool.open > 0)).then_some(status)
    });
    assert_balance(&seen);
    assert_eq!((seen.program.as_str(), seen.platforms.as_slice()), ("worker", &["gcm".to_owned()][..]));
    assert_eq!((seen.pools[0].platform.as_str(), seen.pools[0].pool.as_str()), ("gcm", "game"));
    let [app] = seen.apps.as_slice() else { panic!("one app: {seen:?}") };
    assert_eq!((app.platform.as_str(), app.breaker, app.retries_waiting), ("gcm", Some(Breaker::Closed), Some(0)));
    assert_eq!((app.lanes[0].lane.as_str(), app.lanes[0].outcomes["delivered"]), ("single", 60));
    assert!(seen.partitions.iter().all(|one| one.topic == "push-game_gcm-single"), "{seen:?}");
    running.stop();
}

/// The page is there: one file, of which the browser's test has the rest.
#[track_caller]
pub(crate) fn assert_page(admin: SocketAddr) {
    let (code, page) = get(admin, "/");
    assert!(code == 200 && page.starts_with("<!doctype html>") && page.contains("api/events"), "{code}: {page}");
}

/// A worker as its users run it, whose reading needs a token, with two apps and pushes of two lanes under way.
fn with_a_busy_worker(work: impl FnOnce(SocketAddr) + std::panic::UnwindSafe) {
    let ends = Ends::<Simulator>::of(&["game", "shop"], Faults { processing_ms: 20, ..Faults::default() });
    ends.mock.create_topic("push-game_apns-massive", PARTITIONS);
    let mut settings = ends.settings();
    settings
        .extend([("admin.token", TOKEN), ("admin.protectReads", "true")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let name = |key: &str| format!("PUSHER_{}", key.to_uppercase().replace('.', "_"));
    let variables: Vec<_> = settings.iter().map(|(key, value)| (name(key), value.clone())).collect();
    let mut worker = Worker::start(Simulator::PLATFORM, &variables);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (app, lane) in [("game", "single"), ("game", "massive"), ("shop", "single")] {
            let (ends, stop) = (&ends, &stop);
            scope.spawn(move || keep_producing(ends, app, lane, stop));
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let admin = eventually("the admin server", LONG, || worker.admin());
            worker.until("assigned", LONG, || (get(admin, "/readyz").0 == 200).then_some(()));
            work(admin);
        }));
        stop.store(true, SeqCst);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    worker.stop();
}

/// What a tool of ours prints: where something is. Fails with what it says is missing.
#[track_caller]
fn fetched(tool: &str) -> PathBuf {
    let output = Command::new(root().join("tools").join(tool)).output().expect("the tool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let began = Instant::now();
    let Output { status, stdout, stderr } = command.output().expect("a program");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status} after {:?}:\n{said}", began.elapsed());
    said
}

#[test]
fn the_page_works_in_a_browser() {
    let home = fetched("browser-fetch");
    // To be looked at, and copied to docs/ when the page has changed.
    let out = root().join("target/page");
    std::fs::create_dir_all(&out).expect("a folder");
    with_a_busy_worker(|admin| {
        let mut command = Command::new("node");
        command.arg(root().join("tests/browser/page.mjs")).env("PUSHER_BROWSER_HOME", &home).env("OUT", &out);
        let said = succeed(command.env("PAGE", format!("http://{admin}/")).env("TOKEN", TOKEN));
        assert!(said.contains("all to the worker"), "{said}");
        eprintln!("{said}");
    });
    for name in ["dark-desk", "light-desk", "dark-phone", "light-phone"] {
        assert!(out.join(format!("{name}.png")).metadata().expect("a screenshot").len() > 10_000, "{name}");
    }
}

#[test]
fn the_description_holds_against_schemathesis() {
    let schemathesis = fetched("schemathesis-fetch");
    let folder = tempfile::tempdir().expect("a folder");
    with_a_busy_worker(|admin| {
        let (code, description) = get(admin, "/api/openapi.json");
        let description: Value = serde_json::from_str(&description).expect("JSON");
        assert_eq!((code, description["openapi"].as_str()), (200, Some("3.1.0")));
        for path in
            ["/", "/api/status", "/api/events", "/api/history", "/api/openapi.json", "/healthz", "/readyz", "/metrics"]
        {
            assert!(description["paths"][path]["get"].is_object(), "{path} is described");
        }
        for path in ["/api/status", "/api/history", "/api/events", "/api/pauses", "/api/jobs", "/metrics"] {
            let answers = &description["paths"][path]["get"]["responses"];
            assert!(answers["401"].is_object(), "{path} may be protected: {answers}");
        }
        // An app or a platform that does not exist is refused, as a description cannot say.
        let config = "[checks]\npositive_data_acceptance.expected-statuses = [200, 400]\n";
        std::fs::write(folder.path().join("schemathesis.toml"), config).expect("a file");
        let right = format!("Authorization: Bearer {TOKEN}");
        eprintln!("{}", succeed(run(&schemathesis, admin, folder.path(), "all").args(["--header", &right])));
        // Whoever has no token, or a wrong one, is told so as is described, whatever is asked.
        for header in [&[][..], &["--header", "Authorization: Bearer wrong"]] {
            eprintln!("{}", succeed(run(&schemathesis, admin, folder.path(), CONFORMS).args(header)));
        }
        let refused = |token: Option<&str>| {
            let paths = ["/api/status", "/api/history", "/api/events", "/api/pauses", "/api/jobs", "/metrics"];
            let posts = ["/api/pause", "/api/resume", "/api/jobs/j/stop", "/api/jobs/j/start"];
            let all = paths.map(|path| ("GET", path)).into_iter().chain(posts.map(|path| ("POST", path)));
            all.for_each(|(method, path)| assert_eq!(ask(admin, method, path, token, "").0, 401, "{method} {path}"));
        };
        refused(None);
        refused(Some("wrong"));
    });
}

/// What an answer is held to, whether a question was good or not.
const CONFORMS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Orders are given as well: what follows from them other tests know. Without the events, which have no end.
fn run(schemathesis: &Path, admin: SocketAddr, folder: &Path, checks: &str) -> Command {
    let mut command = Command::new(schemathesis);
    command.arg("run").arg(format!("http://{admin}/api/openapi.json")).current_dir(folder);
    command.args(["--exclude-path", "/api/events", "--checks", checks, "--max-examples", "20"]);
    command.args(["--seed", "1", "--workers", "1", "--no-color"]);
    command
}
