//! Servers of other makes, started for one test, with a certificate of their own.

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pusher::http2::{Pool, PoolSettings, tls};

/// A server that runs until it is dropped.
pub(super) struct Foreign {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Foreign {
    /// Starts a program: `arguments` is given the port to listen at and where a file of this name lies (`key.pem` and `cert.pem` do). `None`
    /// when the machine has no such program.
    pub(super) async fn start(
        program: &str,
        arguments: impl FnOnce(u16, &dyn Fn(&str) -> String) -> Vec<String>,
    ) -> Option<Foreign> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(at("cert.pem"), key.cert.pem()).unwrap();
        std::fs::write(at("key.pem"), key.signing_key.serialize_pem()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let spawned = Command::new(program)
            .args(arguments(port, &at))
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdout(Stdio::null())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("cannot start {program}: {error}"),
        };
        let server = Foreign { child, port, dir };
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = server.read("error.log");
            assert!(begun.elapsed() < Duration::from_secs(20), "{program} does not listen: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    /// What a file of its folder holds; nothing when there is none.
    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Three connections to it at most.
    pub(super) fn pool(&self) -> Pool {
        let settings = PoolSettings { max_connections: 3, ..PoolSettings::new("localhost", self.port) };
        Pool::new(settings, tls::client_config(Some(&self.dir.path().join("cert.pem"))).unwrap())
    }
}
