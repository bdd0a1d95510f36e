//! The demo's worker: this very program as a child, started as its users start it, with environment variables alone.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::tally::Totals;

/// The last lines of the worker's log, kept to be shown when it fails.
const LOG_LINES: usize = 40;

/// A worker under way.
#[derive(Debug)]
pub(super) struct ChildWorker {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<Option<Totals>>>,
}

impl ChildWorker {
    /// Starts `pusher <platform> -j` with nothing but `environment` for configuration, in a folder without a file of it.
    pub(super) fn start(platform: &str, environment: &[(String, String)], folder: &Path) -> Result<ChildWorker> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command
            .args([platform, "--json"])
            .current_dir(folder)
            .envs(environment.iter().cloned())
            // Ctrl-C in a terminal reaches its whole group: the worker is stopped by us, and a second signal would hurry it.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting the worker")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().context("the worker's log is piped")?).lines();
        let tail = log.clone();
        let reader = std::thread::Builder::new().name("worker-log".into()).spawn(move || {
            let mut ledger = None;
            for line in lines.map_while(std::io::Result::ok) {
                ledger = ledger_of(&line).or(ledger);
                let mut tail = tail.lock();
                if tail.len() == LOG_LINES {
                    tail.remove(0);
                }
                tail.push(line);
            }
            ledger
        })?;
        Ok(ChildWorker { child, log, reader: Some(reader) })
    }

    /// CPU time (user + sys, all threads) that the worker has used so far.
    pub(super) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_task = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.into_iter().flatten().flatten().filter_map(of_task).sum())
    }

    /// An error with the end of its log when it has ended unasked for.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the worker ended by itself ({status}); its last words:\n{}", self.last_words());
        }
        Ok(())
    }

    /// SIGTERM, and its ledger when it has ended well.
    pub(super) fn stop(mut self) -> Result<Totals> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        let reader = self.reader.take().context("the log is read once")?;
        let ledger = reader.join().ok().flatten();
        ensure!(status.success(), "the worker ended with {status}; its last words:\n{}", self.last_words());
        ledger.with_context(|| format!("the worker printed no ledger; its last words:\n{}", self.last_words()))
    }

    fn last_words(&self) -> String {
        self.log.lock().join("\n")
    }
}

impl Drop for ChildWorker {
    /// Nothing is left running when the demo fails.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The ledger that a worker logs as its last word; see [`crate::pusher::LEDGER`].
fn ledger_of(line: &str) -> Option<Totals> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    serde_json::from_str(line.get(crate::pusher::LEDGER)?.as_str()?).ok()
}
