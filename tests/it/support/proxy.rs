//! A way to a TCP server that can be made slow, silent or absent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::ports;

/// How it is with the way at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As if it were not there.
    Open,
    /// What goes through comes so much later.
    Slow(Duration),
    /// Connections are accepted, bytes are taken, and nothing comes.
    Silent,
    /// Nobody listens.
    Absent,
}

/// The way; its threads end with the process.
pub(crate) struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    server: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    way: Way,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// An open way to a server on 127.0.0.1.
    pub(crate) fn to(server: u16) -> Proxy {
        let state = Arc::new(Mutex::new(State { way: Way::Absent, streams: Vec::new() }));
        let proxy = Proxy { port: ports::free(), server, state };
        proxy.set(Way::Open);
        proxy
    }

    /// Changes the way, for connections that are there as well.
    pub(crate) fn set(&self, way: Way) {
        let before = std::mem::replace(&mut self.state.lock().way, way);
        if way == Way::Absent {
            for stream in self.state.lock().streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            // Wakes the listener, which sees that it is to end.
            let _ = TcpStream::connect(("127.0.0.1", self.port));
        } else if before == Way::Absent {
            let listener = super::eventually("the proxy's port", Duration::from_secs(10), || {
                TcpListener::bind(("127.0.0.1", self.port)).ok()
            });
            let (state, server) = (self.state.clone(), self.server);
            thread::spawn(move || accept(&listener, server, &state));
        }
    }
}

fn accept(listener: &TcpListener, server: u16, state: &Arc<Mutex<State>>) {
    for client in listener.incoming() {
        if state.lock().way == Way::Absent {
            return;
        }
        let (client, server) = (client.expect("a client"), TcpStream::connect(("127.0.0.1", server)));
        let Ok(server) = server else { continue };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a TCP stream");
            state.lock().streams.push(stream.try_clone().expect("a second handle"));
        }
        let back = (server.try_clone().expect("a second handle"), client.try_clone().expect("a second handle"));
        for (from, to) in [(client, server), back] {
            let state = state.clone();
            thread::spawn(move || pump(from, to, &state));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let way = state.lock().way;
        match way {
            Way::Open => {}
            #[allow(clippy::disallowed_methods, reason = "being late is what it is for")]
            Way::Slow(delay) => thread::sleep(delay),
            Way::Silent => continue,
            Way::Absent => break,
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
