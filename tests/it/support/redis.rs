//! Redis from the distribution's package, keeping nothing on disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::ports;
use super::process::{self, Server};

/// A Redis to test with.
pub(crate) struct Redis {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    // Held: its leash ends the server with the tests.
    _server: Server,
}

impl Redis {
    pub(super) fn start() -> Self {
        let port = ports::free();
        let words = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
        let mut command: Vec<String> = words.map(ToOwned::to_owned).into();
        command.extend(["--port".into(), port.to_string()]);
        let mut server = Server::start("redis", &process::folder("redis"), &command);
        server.wait_until(Duration::from_secs(30), || ping(port).is_some());
        Redis { port, _server: server }
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
