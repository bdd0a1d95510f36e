//! PostgreSQL from the distribution's packages, in a folder of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;

use super::process::{self, Server};
use super::{ports, unique};

const START: Duration = Duration::from_mins(1);

/// A PostgreSQL to test with.
pub(crate) struct Postgres {
    /// `postgres://user@host:port/postgres`: the maintenance database. Tests use [`Postgres::database`].
    pub(crate) url: String,
    /// Host of the URL.
    pub(crate) host: String,
    /// Port of the URL.
    pub(crate) port: u16,
    /// User of the URL; it may create databases.
    pub(crate) user: String,
    ours: Option<Cluster>,
}

/// One test's database.
pub(crate) struct Database {
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) url: String,
}

impl Postgres {
    pub(super) fn find_or_start() -> Self {
        if let Ok(url) = std::env::var("PUSHER_TEST_POSTGRES")
            && !url.is_empty()
        {
            return Postgres::given(url);
        }
        Postgres::start_apart()
    }

    /// A server of its own, for a test that stops it.
    pub(crate) fn start_apart() -> Self {
        Postgres::start_cluster(Cluster::create())
    }

    /// One of its own that speaks TLS with this certificate and key (PEM).
    pub(crate) fn start_encrypted(certificate: &str, key: &str) -> Self {
        Postgres::start_cluster(
            Cluster { encrypted: true, ..Cluster::create() }
                .with_files([("server.crt", certificate), ("server.key", key)]),
        )
    }

    fn start_cluster(cluster: Cluster) -> Self {
        let port = cluster.port;
        let postgres = Postgres {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            host: "127.0.0.1".into(),
            port,
            user: "postgres".into(),
            ours: Some(cluster),
        };
        postgres.start();
        postgres
    }

    fn given(url: String) -> Self {
        let rest = url.split_once("://").expect("PUSHER_TEST_POSTGRES must be postgres://user@host:port/database").1;
        let (login, place) = rest.split_once('@').expect("PUSHER_TEST_POSTGRES names a user: postgres://user@host");
        let place = place.split('/').next().unwrap_or(place);
        let (host, port) = place.split_once(':').unwrap_or((place, "5432"));
        let user = login.split(':').next().unwrap_or(login).to_owned();
        let (host, port) = (host.to_owned(), port.parse().expect("the port in PUSHER_TEST_POSTGRES is a number"));
        Postgres { url, host, port, user, ours: None }
    }

    /// Starts the server on its old port with its old data, and waits until it answers.
    pub(crate) fn start(&self) {
        let ours = self.cluster();
        let mut running = ours.running.lock();
        assert!(running.is_none(), "postgres is running already");
        let mut server = Server::start("postgres", &ours.folder, &ours.command());
        server.wait_until(START, || psql_command(&self.url, "SELECT 1").output().is_ok_and(|o| o.status.success()));
        *running = Some(server);
    }

    /// Ends the server: "INT" cuts connections off and stops in order, "TERM" waits for clients to leave, "QUIT" is a crash.
    pub(crate) fn stop(&self, signal: &str) {
        self.cluster().running.lock().take().expect("postgres is not running").end(signal);
    }

    /// Makes an empty database whose name begins with `stem`.
    pub(crate) fn database(&self, stem: &str) -> Database {
        let name = unique(stem);
        psql(&self.url, &format!("CREATE DATABASE \"{name}\""));
        let base = self.url.rsplit_once('/').map_or(self.url.as_str(), |(base, _)| base);
        Database { url: format!("{base}/{name}"), name }
    }

    fn cluster(&self) -> &Cluster {
        self.ours.as_ref().expect("PUSHER_TEST_POSTGRES names a server that the tests may not stop: unset it")
    }
}

impl Database {
    /// Runs SQL statements; the rows of the last one, each its columns' texts.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        psql(&self.url, sql)
    }

    /// Puts rows of one text column into a table, all at once.
    pub(crate) fn fill<'a>(&self, table: &str, rows: impl Iterator<Item = &'a str>) {
        let mut psql = psql_command(&self.url, &format!("COPY \"{table}\" FROM STDIN"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut into = std::io::BufWriter::new(psql.stdin.take().expect("its input is piped"));
        rows.for_each(|row| writeln!(into, "{row}").expect("psql reads"));
        drop(into);
        assert!(psql.wait().expect("psql's end").success(), "COPY into {table}");
    }

    /// The number of rows of a table.
    pub(crate) fn count(&self, table: &str) -> u64 {
        self.query(&format!("SELECT count(*) FROM \"{table}\""))[0][0].parse().expect("a count is a number")
    }
}

/// The cluster that this run made.
struct Cluster {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    encrypted: bool,
    running: Mutex<Option<Server>>,
}

impl Cluster {
    /// Puts files into its data, readable by the server alone, as it asks for with keys.
    fn with_files<'a>(self, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        use std::os::unix::fs::PermissionsExt;
        for (name, text) in files {
            let path = self.folder.join("data").join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
            if root_user() {
                process::run(Command::new("chown").arg("postgres:").arg(&path));
            }
        }
        self
    }

    fn create() -> Self {
        let (bin, folder) = (programs(), process::folder("postgres"));
        if root_user() {
            process::run(Command::new("chown").arg("postgres:").arg(&folder));
        }
        let init = as_postgres(&[
            &bin.join("initdb").display().to_string(),
            "--pgdata=data",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        Server::start("initdb", &folder, &init).prepare(START);
        Cluster { bin, folder, port: ports::free(), encrypted: false, running: Mutex::new(None) }
    }

    fn command(&self) -> Vec<String> {
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        let (program, port) = (self.bin.join("postgres").display().to_string(), self.port.to_string());
        let data = self.folder.join("data").display().to_string();
        as_postgres(&[
            &program,
            "-D",
            &data,
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            &sockets,
            "-c",
            "fsync=off",
            "-c",
            if self.encrypted { "ssl=on" } else { "ssl=off" },
        ])
    }
}

/// The newest installed server's programs; Debian keeps them off the PATH.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.filter(|path| path.join("bin/initdb").exists()).max_by_key(|path| version(path));
    newest.expect("PostgreSQL's server is not installed: run 'make deps', or set PUSHER_TEST_POSTGRES").join("bin")
}

fn version(folder: &Path) -> u32 {
    folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or(0)
}

fn root_user() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// PostgreSQL refuses to run as root: then as the user that its package makes. `setpriv` becomes the program, so that
/// signals meet the server itself.
fn as_postgres(command: &[&str]) -> Vec<String> {
    let change: &[&str] =
        if root_user() { &["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] } else { &[] };
    change.iter().chain(command).map(|word| (*word).to_owned()).collect()
}

fn psql(url: &str, sql: &str) -> Vec<Vec<String>> {
    let out = process::run(&mut psql_command(url, sql));
    out.lines().map(|line| line.split('\t').map(ToOwned::to_owned).collect()).collect()
}

/// The stock client: foreign to the worker's own, and at home inside and outside of runtimes.
fn psql_command(url: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
    command
}
