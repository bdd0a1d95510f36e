//! The worker as its users run it: `pusher <platform>`, configured by environment variables alone, on a leash (see
//! [`super::process`]), with its log in a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use pusher::tally::Totals;
use serde_json::Value;

use super::process::{self, Server};

/// A running worker.
pub(crate) struct Worker {
    server: Option<Server>,
    folder: PathBuf,
}

/// The file that a worker logs into.
pub(crate) struct LogFile(PathBuf);

impl LogFile {
    /// What is there so far.
    pub(crate) fn read(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).expect("the worker's log");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// What a worker that has ended leaves behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) log: Vec<Value>,
}

impl Worker {
    /// Starts it with nothing but these variables, in a folder of its own.
    pub(crate) fn start(platform: &str, environment: &[(String, String)]) -> Worker {
        Worker::start_in(&[platform], environment, process::folder("worker"))
    }

    /// Starts it with these arguments and variables in a folder, which is its own from here on.
    pub(crate) fn start_in(arguments: &[&str], environment: &[(String, String)], folder: PathBuf) -> Worker {
        // `env` becomes the worker, so that signals meet it and nothing else.
        let mut command: Vec<String> = ["env", "-i", "RUST_BACKTRACE=1"].map(ToOwned::to_owned).into();
        // Any free port, unless the test says which: several workers run side by side.
        command.push("PUSHER_ADMIN_LISTEN=127.0.0.1:0".into());
        command.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.extend([env!("CARGO_BIN_EXE_pusher"), "--json"].iter().chain(arguments).map(|word| (*word).to_owned()));
        let server = Server::start("worker", &folder, &command);
        Worker { server: Some(server), folder }
    }

    /// Fails when it has ended by itself.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        self.server.as_mut().expect("running").assert_alive();
    }

    /// Waits as [`super::eventually`], and fails at once when the worker has ended.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
        super::eventually(what, limit, || {
            self.assert_alive();
            condition()
        })
    }

    /// Stops it in the middle of whatever it does, as a frozen machine would.
    pub(crate) fn freeze(&self) {
        self.server.as_ref().expect("running").signal(Signal::SIGSTOP);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.server.as_ref().expect("running").signal(Signal::SIGHUP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.server.as_ref().expect("running").signal(Signal::SIGCONT);
    }

    /// See [`Server::limit_files`].
    pub(crate) fn limit_files(&self, most: u64) -> u64 {
        self.server.as_ref().expect("running").limit_files(most)
    }

    /// Its resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.server.as_ref().expect("running").resident("pusher")
    }

    /// Processor time that it has used so far, in ticks, as `/proc/stat` has it.
    pub(crate) fn ticks(&self) -> u64 {
        self.server.as_ref().expect("running").ticks("pusher")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log_file().read()
    }

    /// Where it logs, to be read while it is waited for.
    pub(crate) fn log_file(&self) -> LogFile {
        LogFile(self.folder.join("log"))
    }

    /// Waits until it has ended by itself; how.
    #[track_caller]
    pub(crate) fn ends(mut self) -> ExitStatus {
        self.server.take().expect("running").await_end(Duration::from_mins(1))
    }

    /// Where its admin server listens, once it has said so.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        let said = "the admin server listens";
        let log = self.log();
        let line = log.iter().find(|line| line["msg"].as_str().is_some_and(|text| text.starts_with(said)))?;
        line["address"].as_str()?.parse().ok()
    }

    /// Whether a line's message begins so.
    pub(crate) fn has_said(&self, beginning: &str) -> bool {
        self.times_said(beginning) > 0
    }

    /// How many lines' messages begin so.
    pub(crate) fn times_said(&self, beginning: &str) -> usize {
        self.log().iter().filter(|line| line["msg"].as_str().is_some_and(|said| said.starts_with(beginning))).count()
    }

    /// What its lines whose message begins so said under this name, added up.
    pub(crate) fn sum_said(&self, beginning: &str, field: &str) -> u64 {
        let said = |line: &Value| line["msg"].as_str().is_some_and(|text| text.starts_with(beginning));
        self.log().iter().filter(|line| said(line)).filter_map(|line| line[field].as_u64()).sum()
    }

    /// SIGTERM. Fails unless it ends well, with everything drained and a ledger that balances; that ledger.
    #[track_caller]
    pub(crate) fn stop(self) -> Totals {
        let totals: Totals = self.stop_with();
        assert_eq!(totals.unaccounted(), 0, "the ledger balances: {totals:?}");
        totals
    }

    /// The same, whatever the shape of its ledger is, and whether it balances.
    #[track_caller]
    pub(crate) fn stop_with<T: serde::de::DeserializeOwned>(self) -> T {
        let ended = self.end("TERM");
        let last = ended.log.iter().rev().find(|line| line.get(pusher::pusher::LEDGER).is_some());
        let last = last.unwrap_or_else(|| panic!("no ledger ({}): {:#?}", ended.status, ended.last_words()));
        assert!(ended.status.success(), "{}: {:#?}", ended.status, ended.last_words());
        assert_eq!(last["drained"], true, "{:#?}", ended.last_words());
        let ledger = last[pusher::pusher::LEDGER].as_str().expect("the ledger is JSON in a text");
        serde_json::from_str(ledger).expect("a ledger")
    }

    /// SIGKILL.
    pub(crate) fn kill(self) -> Ended {
        let ended = self.end("KILL");
        assert_eq!(ended.status.code(), Some(128 + 9), "killed, not ended before: {:#?}", ended.last_words());
        ended
    }

    fn end(mut self, signal: &str) -> Ended {
        let status = self.server.take().expect("running").end(signal);
        let ended = Ended { status, log: self.log() };
        std::fs::remove_dir_all(&self.folder).expect("the worker's folder");
        ended
    }
}

impl Drop for Worker {
    /// A failed test shows what its worker said last; the leash ends the worker.
    fn drop(&mut self) {
        if let Some(server) = self.server.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("the worker's last words:\n{}", server.log_end());
        }
    }
}

impl Ended {
    /// The end of its log.
    pub(crate) fn last_words(&self) -> &[Value] {
        &self.log[self.log.len().saturating_sub(15)..]
    }
}
