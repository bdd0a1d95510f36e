//! The end of the process: who asks for it, who is still at work, and how long that may take.
//!
//! One [`Shutdown`] is made by `main` and cloned into every room. It works across runtimes and threads: the poll thread
//! is no task, and each sender has a runtime of its own. Everything that runs longer than a call is started through it
//! under a name, so that what is left at the deadline can be named.
//!
//! A panic in a named task or thread ends the process: a worker with a limb missing looks alive and is not. (A panic
//! while *one message* is handled is caught before it comes here.)

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Key};
use crate::notify::{self, State};
use crate::pulse::{Pulses, Silence};

/// How long the end may take.
pub const GRACE: Key = Key::new(
    "gracefulShutdownTimeout",
    "10",
    "seconds that requests on their way to a provider, and their reports, are waited for at the end",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[GRACE];

/// Exit code after a second signal.
const IMPATIENT: i32 = 1;

/// What the configuration says about the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the first signal to the exit, whatever is left.
    pub timeout: Duration,
}

impl Settings {
    /// Reads [`KEYS`].
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let timeout = config.seconds(&GRACE)?.ok_or_else(|| config.error(&GRACE, "must be set"))?;
        if timeout.is_zero() || timeout > Duration::from_hours(1) {
            return Err(config.error(&GRACE, "must be from 1 second to 1 hour"));
        }
        Ok(Settings { timeout })
    }
}

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it: a signal, a finished job. Exit code 0.
    Asked(Cow<'static, str>),
    /// A part cannot go on. Exit code 1.
    Failed {
        /// The name of the part.
        part: String,
        /// What happened.
        error: String,
    },
}

/// Those that were still at work at the deadline: name and how many of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Left(pub Vec<(String, usize)>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("still at work: ")?;
        for (index, (name, count)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match count {
                1 => write!(f, "{comma}{name}")?,
                _ => write!(f, "{comma}{name} ({count})")?,
            }
        }
        Ok(())
    }
}

struct Inner {
    token: CancellationToken,
    reason: OnceLock<Reason>,
    at_work: Mutex<BTreeMap<Cow<'static, str>, usize>>,
    count: watch::Sender<usize>,
    pulses: Pulses,
}

/// The handle to the end of the process; clones are the same one.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown(Arc::new(Inner {
            token: CancellationToken::new(),
            reason: OnceLock::new(),
            at_work: Mutex::default(),
            count: watch::Sender::new(0),
            pulses: Pulses::default(),
        }))
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("reason", &self.0.reason.get()).field("at_work", &self.at_work()).finish()
    }
}

impl Shutdown {
    /// Cancelled when the end begins. Any runtime or thread may wait for it.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Why it began; the first reason counts: what fails during the end is logged and changes nothing.
    pub fn reason(&self) -> Option<&Reason> {
        self.0.reason.get()
    }

    /// Begins the end as asked. Later calls change nothing.
    pub fn begin(&self, why: impl Into<Cow<'static, str>>) {
        let why = why.into();
        if self.0.reason.set(Reason::Asked(why.clone())).is_ok() {
            tracing::info!(reason = %why, "stopping");
            notify::tell(State::Stopping);
        }
        self.0.token.cancel();
    }

    /// Begins the end because `part` cannot go on; the process then exits with 1. Raises the alarm.
    pub fn fail(&self, part: &str, error: impl fmt::Display) {
        let error = error.to_string();
        tracing::error!(alarm = true, part, error, "cannot go on, stopping");
        if self.0.reason.set(Reason::Failed { part: part.to_owned(), error }).is_ok() {
            notify::tell(State::Stopping);
        }
        self.0.token.cancel();
    }

    /// Counts the holder as at work under `name` until the guard is dropped.
    pub fn enter(&self, name: impl Into<Cow<'static, str>>) -> AtWork {
        let name = name.into();
        *self.0.at_work.lock().entry(name.clone()).or_default() += 1;
        self.0.count.send_modify(|count| *count += 1);
        AtWork { shutdown: self.clone(), name }
    }

    /// Spawns a task on the current runtime under `name`. It is expected to end by itself after [`Shutdown::token`].
    pub fn spawn<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.spawn_on(&tokio::runtime::Handle::current(), name, future)
    }

    /// The same on another runtime.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        runtime: &tokio::runtime::Handle,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let at_work = self.enter(name);
        runtime.spawn(async move {
            let _at_work = at_work;
            future.await
        })
    }

    /// Starts a thread under `name` (cut to the system's 15 bytes in its tools).
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<T>> {
        let at_work = self.enter(name.to_owned());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _at_work = at_work;
            body()
        })
    }

    /// What stands still now. Nothing once the end has begun: that has a deadline of its own, and parts fall silent one by one.
    pub fn standing_still(&self) -> Vec<Silence> {
        if self.has_begun() { Vec::new() } else { self.0.pulses.silent(Instant::now()) }
    }

    /// The signs of life of those who are at work.
    pub fn pulses(&self) -> &Pulses {
        &self.0.pulses
    }

    /// Who is at work now.
    pub fn at_work(&self) -> Vec<(String, usize)> {
        self.0.at_work.lock().iter().map(|(name, count)| (name.to_string(), *count)).collect()
    }

    /// Waits until nobody is at work, at most `timeout`.
    pub async fn drained(&self, timeout: Duration) -> Result<(), Left> {
        let mut count = self.0.count.subscribe();
        match tokio::time::timeout(timeout, count.wait_for(|count| *count == 0)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Left(self.at_work())),
        }
    }

    /// SIGINT and SIGTERM begin the end from now on; a second one exits at once with code 1.
    ///
    /// They are served by a thread of their own, so that a second signal works when every runtime hangs.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let shutdown = self.clone();
        let serve = async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                }
            };
            shutdown.begin(next().await);
            let signal = next().await;
            tracing::warn!(signal, left = %Left(shutdown.at_work()), "second signal, exiting at once");
            std::process::exit(IMPATIENT);
        };
        // Not counted as at work: it lives until the process ends.
        std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(serve)).map(drop)
    }
}

/// Somebody is at work; see [`Shutdown::enter`].
#[derive(Debug)]
pub struct AtWork {
    shutdown: Shutdown,
    name: Cow<'static, str>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shutdown.fail(&self.name, "it panicked");
        }
        let mut at_work = self.shutdown.0.at_work.lock();
        if let Some(count) = at_work.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                at_work.remove(&self.name);
            }
        }
        drop(at_work);
        self.shutdown.0.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_named() {
        let shutdown = Shutdown::default();
        for _ in 0..2 {
            shutdown.spawn("sender", std::future::pending::<()>());
        }
        let token = shutdown.token();
        shutdown.spawn("feedback", async move { token.cancelled().await });
        assert_eq!(shutdown.drained(Duration::from_secs(1)).await.unwrap_err().0.len(), 2);
        shutdown.begin("test");
        let left = shutdown.drained(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(left.to_string(), "still at work: sender (2)");
    }

    #[tokio::test(start_paused = true)]
    async fn threads_and_other_runtimes_count_too() {
        let shutdown = Shutdown::default();
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let token = shutdown.token();
        shutdown.spawn_on(other.handle(), "elsewhere", async move { token.cancelled().await });
        let token = shutdown.token();
        let poll = shutdown.thread("poll", move || other.block_on(token.cancelled())).unwrap();
        assert_eq!(shutdown.at_work(), [("elsewhere".into(), 1), ("poll".into(), 1)]);
        shutdown.begin("test");
        poll.join().unwrap();
        assert_eq!(shutdown.drained(Duration::from_secs(1)).await, Ok(()));
        assert_eq!(shutdown.at_work(), []);
    }

    #[tokio::test]
    async fn a_panic_in_a_named_part_ends_the_process() {
        let shutdown = Shutdown::default();
        shutdown.spawn("tokens", async { panic!("on purpose") }).await.unwrap_err();
        assert!(shutdown.has_begun());
        let expected = Reason::Failed { part: "tokens".into(), error: "it panicked".into() };
        assert_eq!(shutdown.reason(), Some(&expected));
        assert_eq!(shutdown.drained(Duration::ZERO).await, Ok(()));
    }

    /// Set in the process that the next test starts of itself, to send signals to.
    const CHILD: &str = "SHUTDOWN_TEST_CHILD";

    fn be_signalled() {
        let shutdown = Shutdown::default();
        shutdown.on_signals().unwrap();
        println!("ready");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(shutdown.token().cancelled());
        println!("{:?}", shutdown.reason().unwrap());
        loop {
            std::thread::park(); // hangs, as a worker may: only the second signal ends it
        }
    }

    #[test]
    fn the_first_signal_asks_and_the_second_insists() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};

        use nix::sys::signal::{Signal, kill};

        if std::env::var_os(CHILD).is_some() {
            be_signalled();
        }
        let name = "shutdown::tests::the_first_signal_asks_and_the_second_insists";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let process = nix::unistd::Pid::from_raw(child.id() as i32);
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        said.find(|line| line.contains("ready")).unwrap();
        kill(process, Signal::SIGTERM).unwrap();
        said.find(|line| line.contains(r#"Asked("SIGTERM")"#)).unwrap();
        kill(process, Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(IMPATIENT));
    }

    #[test]
    fn the_first_reason_counts() {
        let shutdown = Shutdown::default();
        shutdown.begin("SIGTERM");
        shutdown.fail("queue", "too late to matter");
        assert_eq!(shutdown.reason(), Some(&Reason::Asked("SIGTERM".into())));
    }

    #[test]
    fn the_timeout_is_in_seconds_and_in_bounds() {
        let read = |text| Settings::from_config(&Config::from_pairs([("gracefulShutdownTimeout", text)]));
        assert_eq!(read("30"), Ok(Settings { timeout: Duration::from_secs(30) }));
        assert_eq!(Settings::from_config(&Config::default()).unwrap().timeout, Duration::from_secs(10));
        for wrong in ["0", "2h", "soon", ""] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
