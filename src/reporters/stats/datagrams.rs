//! Lines packed into datagrams for an address that may be unknown, change, or have nobody behind it. Never blocks on the
//! socket; resolving a name may take its time, which is why only the reporter's own thread comes here.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cadence::MetricSink;

/// The payload that fits an Ethernet frame of 1500 bytes (statsd's documentation, `metric_types` and multi-metric packets).
const DATAGRAM: usize = 1432;
/// A name that was found is asked for again after this long: addresses move.
const RESOLVE_AGAIN: Duration = Duration::from_secs(30);
/// A name that was not found, or an address where nobody listens, is tried again after this long.
const RETRY: Duration = Duration::from_secs(2);
/// Without an error for this long the daemon counts as reached again.
const QUIET: Duration = Duration::from_secs(10);

/// A sink of lines for one `host:port`.
#[derive(Debug)]
pub(super) struct Datagrams {
    host: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: String,
    socket: Option<UdpSocket>,
    address: Option<SocketAddr>,
    resolve_at: Option<Instant>,
    away: bool,
    failed_at: Option<Instant>,
}

impl Datagrams {
    /// A sink for `host` ("name:port"); nothing is resolved before the first flush.
    pub(super) fn new(host: &str) -> Self {
        Datagrams { host: host.to_owned(), state: Mutex::default() }
    }
}

impl MetricSink for Datagrams {
    fn emit(&self, line: &str) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.lines.is_empty() && state.lines.len() + 1 + line.len() > DATAGRAM {
            state.send(&self.host, Instant::now());
        }
        if !state.lines.is_empty() {
            state.lines.push('\n');
        }
        state.lines.push_str(line);
        Ok(line.len())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.lines.is_empty() {
            state.send(&self.host, Instant::now());
        }
        Ok(())
    }
}

impl State {
    /// Sends what is buffered, or drops it: statistics of an absent daemon are not kept.
    fn send(&mut self, host: &str, now: Instant) {
        if self.resolve_at.is_none_or(|at| at <= now) {
            self.resolve(host, now);
        }
        if let Some(socket) = &self.socket {
            match socket.send(self.lines.as_bytes()) {
                Ok(_) => self.note_well(host, now),
                // The kernel's buffer is full: this datagram is lost, the address is right.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.note_away(host, &error, now),
            }
        }
        self.lines.clear();
    }

    fn resolve(&mut self, host: &str, now: Instant) {
        match host.to_socket_addrs().and_then(|found| connect(found, self.address)) {
            Ok(None) => self.resolve_at = Some(now + RESOLVE_AGAIN),
            Ok(Some((socket, address))) => {
                self.socket = Some(socket);
                self.address = Some(address);
                self.resolve_at = Some(now + RESOLVE_AGAIN);
            }
            Err(error) => self.note_away(host, &error, now),
        }
    }

    /// Logged when it begins, not per datagram.
    fn note_away(&mut self, host: &str, error: &io::Error, now: Instant) {
        // A connected UDP socket learns from ICMP that nobody listens; the next flush then asks for the name again.
        self.resolve_at = Some(self.resolve_at.filter(|at| *at > now).map_or(now + RETRY, |at| at.min(now + RETRY)));
        self.failed_at = Some(now);
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(host, %error, "statsd cannot be reached: statistics are dropped until it can, pushes go on");
        }
    }

    fn note_well(&mut self, host: &str, now: Instant) {
        // Without a listener every second send succeeds (the error of one is reported by the next), so the state
        // changes back only when nothing has gone wrong for a while.
        let quiet = self.failed_at.is_none_or(|at| now.saturating_duration_since(at) > QUIET);
        if self.away && quiet {
            self.away = false;
            tracing::info!(host, "statsd is reached again");
        }
    }
}

/// A non-blocking socket connected to the first address that takes one; `None` when that is still `current`.
fn connect(
    found: impl Iterator<Item = SocketAddr>,
    current: Option<SocketAddr>,
) -> io::Result<Option<(UdpSocket, SocketAddr)>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        if Some(address) == current {
            return Ok(None);
        }
        let any = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let made = UdpSocket::bind(any).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.connect(address)?;
            Ok(socket)
        });
        match made {
            Ok(socket) => return Ok(Some((socket, address))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(server: &UdpSocket) -> String {
        let mut datagram = [0u8; 2_048];
        let n = server.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..n].to_vec()).unwrap()
    }

    fn server() -> UdpSocket {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        server
    }

    #[test]
    fn lines_are_packed_up_to_the_size_of_a_frame() {
        let server = server();
        let sink = Datagrams::new(&server.local_addr().unwrap().to_string());
        let line = "x".repeat(100);
        for _ in 0..15 {
            sink.emit(&line).unwrap();
        }
        sink.flush().unwrap();
        assert_eq!(received(&server).lines().count(), 14);
        assert_eq!(received(&server), line);
    }

    #[test]
    fn an_unknown_name_is_no_error_and_is_asked_again() {
        let sink = Datagrams::new("no-such-host.invalid:8125");
        sink.emit("a:1|c").unwrap();
        sink.flush().unwrap();
        let state = sink.state.lock().unwrap();
        assert!(state.away && state.lines.is_empty() && state.socket.is_none());
        assert!(state.resolve_at.unwrap() <= Instant::now() + RETRY);
    }

    #[test]
    fn an_address_that_moved_is_followed_and_one_that_stayed_keeps_its_socket() {
        let (first, second): (SocketAddr, SocketAddr) =
            ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(connect([first].into_iter(), None).unwrap().unwrap().1, first);
        assert!(connect([first].into_iter(), Some(first)).unwrap().is_none());
        assert_eq!(connect([second].into_iter(), Some(first)).unwrap().unwrap().1, second);
        assert!(connect([].into_iter(), None).is_err());
    }
}
