//! Servers that end when the tests do.
//!
//! A server runs below a small shell, `leash.sh`, whose standard input is a pipe from the test process. However the tests end
//! (returning, panicking, SIGKILL), the kernel closes the pipe, and the shell ends the server and removes its folder. The
//! usual way, PR_SET_PDEATHSIG, needs unsafe code and follows the *thread* that started the child, which here is a test's.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running server.
pub(crate) struct Server {
    name: &'static str,
    folder: PathBuf,
    shell: Child,
}

impl Server {
    /// Starts `command` with its output in `folder/log`. The folder belongs to the server from here on.
    pub(crate) fn start(name: &'static str, folder: &Path, command: &[String]) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("the server's log");
        let shell = Command::new("sh")
            .arg("-c")
            .arg(include_str!("leash.sh"))
            .arg("leash")
            .arg(folder)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            // Its own group: Ctrl-C ends the tests, and the leash then ends the server in its own order.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: cannot start a shell: {error}"));
        Server { name, folder: folder.to_owned(), shell }
    }

    /// Waits until `ready` says so; a server that ends instead, or takes longer than `limit`, fails with its log's end.
    pub(crate) fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.shell.try_wait().expect("the shell's status") {
                panic!("{} ended at start ({status}); its log ends with:\n{}", self.name, self.log_end());
            }
            assert!(start.elapsed() < limit, "{} not ready in {limit:?}; log:\n{}", self.name, self.log_end());
            #[allow(clippy::disallowed_methods, reason = "another process cannot be awaited, only looked at")]
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the success of a program that ends by itself; its folder is removed.
    pub(crate) fn finish(mut self, limit: Duration) {
        self.succeed(limit);
    }

    /// The same, keeping the folder for what comes next.
    pub(crate) fn prepare(mut self, limit: Duration) {
        self.succeed(limit);
        // A line on the leash, though there is nothing left to end: it makes the watcher leave the folder.
        self.end("TERM");
    }

    /// Waits for a program that ends by itself, well or not; its folder is removed.
    #[track_caller]
    pub(crate) fn await_end(mut self, limit: Duration) -> ExitStatus {
        super::eventually(self.name, limit, || self.shell.try_wait().expect("the shell's status"))
    }

    fn succeed(&mut self, limit: Duration) {
        let status = super::eventually(self.name, limit, || self.shell.try_wait().expect("the shell's status"));
        assert!(status.success(), "{} failed ({status}); its log ends with:\n{}", self.name, self.log_end());
    }

    /// Ends the server with `signal` ("TERM", "KILL" …), keeping its folder, and waits until it is gone; how it ended, as
    /// the shell says it: 128 and the signal's number when it was killed.
    pub(crate) fn end(mut self, signal: &str) -> ExitStatus {
        let leash = self.shell.stdin.as_mut().expect("the leash is piped");
        writeln!(leash, "{signal}").unwrap_or_else(|error| panic!("{}: the leash is broken: {error}", self.name));
        self.shell.wait().expect("the shell's end")
    }

    /// Sends it a signal that it lives on with (SIGSTOP, SIGCONT).
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(self.folder.join("pid")).expect("the leash notes it");
        Pid::from_raw(pid.trim().parse().expect("a number"))
    }

    /// How many files and sockets it may have open; what is open already stays so. What it was before.
    pub(crate) fn limit_files(&self, most: u64) -> u64 {
        let prlimit = |arguments: &[&str]| {
            let pid = self.pid().to_string();
            let said =
                Command::new("prlimit").args(["--pid", &pid]).args(arguments).output().expect("prlimit, of util-linux");
            assert!(said.status.success(), "{said:?}");
            String::from_utf8(said.stdout).expect("text")
        };
        let before = prlimit(&["--nofile", "--output", "SOFT", "--noheadings"]);
        prlimit(&[&format!("--nofile={most}:")]);
        before.trim().parse().expect("a number")
    }

    /// Fails with the end of the log when the server has ended by itself.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.shell.try_wait().expect("the shell's status") {
            panic!("{} ended by itself ({status}); its log ends with:\n{}", self.name, self.log_end());
        }
    }

    /// What the system says in a file about the server: the shell's child of that name.
    fn told(&self, program: &str, file: &str) -> String {
        let shell = self.shell.id();
        let children =
            fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell's children");
        let of = |pid: &&str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let server = children.split_whitespace().find(|pid| of(pid, "comm").trim() == program).expect("the server");
        of(&server, file)
    }

    /// Processor time that the server has used so far, in ticks, as `/proc/stat` has it.
    pub(crate) fn ticks(&self, program: &str) -> u64 {
        let stat = self.told(program, "stat");
        // What follows the name, which may hold spaces: user and system are its 12th and 13th (proc(5)).
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("a number")).sum()
    }

    /// Resident memory of the server, bytes.
    pub(crate) fn resident(&self, program: &str) -> u64 {
        let status = self.told(program, "status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
        1024 * line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A new folder for a server below the system's temporary one, readable by all (PostgreSQL runs as another user).
pub(crate) fn folder(name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new()
        .prefix(&format!("pusher-{name}-"))
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder");
    // Not removed on drop: the leash does that, when the server has ended.
    folder.keep()
}

/// Runs a short command to its end; its standard output, or a panic with all it said.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (is it installed? make deps)"));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}
