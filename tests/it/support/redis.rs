//! Redis from the distribution's package, keeping nothing on disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use super::ports;
use super::process::{self, Server};

/// A Redis to test with.
pub(crate) struct Redis {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    folder: PathBuf,
    // Held: its leash ends the server with the tests.
    server: Server,
}

impl Redis {
    /// On a port of its own.
    pub(crate) fn start() -> Self {
        Redis::start_with(ports::free(), &[])
    }

    /// On this port, with more options. Without a password, and not with TLS alone.
    pub(crate) fn start_with(port: u16, options: &[&str]) -> Self {
        let words = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
        let mut command: Vec<String> = words.iter().chain(options).map(|word| (*word).to_owned()).collect();
        command.extend(["--port".into(), port.to_string()]);
        let folder = process::folder("redis");
        let mut server = Server::start("redis", &folder, &command);
        server.wait_until(Duration::from_secs(30), || ping(port).is_some());
        Redis { port, folder, server }
    }

    /// Ends it; its port is free then.
    pub(crate) fn stop(self) {
        self.server.end("KILL");
        std::fs::remove_dir_all(&self.folder).expect("its folder");
    }

    /// A connection to one of its databases, for a look from outside.
    pub(crate) fn look(&self, database: u8) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/{database}", self.port)).expect("an address");
        client.get_connection().expect("a connection")
    }

    /// Whether it answers.
    pub(crate) fn answers(&self) -> bool {
        ping(self.port).is_some()
    }
}

fn ping(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).ok()?;
    (&answer == b"+PONG\r\n").then_some(())
}
