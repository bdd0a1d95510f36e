//! What a simulator saw, apart from the serials: see [`super::ledger`].

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;

/// Connections remembered one by one; older ones are only in the sums.
const REMEMBERED: usize = 1024;
/// Different answers counted one by one; more are only possible with invented reasons.
const ANSWERS: usize = 256;

/// Counters of a simulator.
#[derive(Debug, Default)]
pub struct Counters {
    /// TCP connections accepted.
    pub connections: AtomicU64,
    /// TLS handshakes completed.
    pub tls_handshakes: AtomicU64,
    /// TLS handshakes that failed, by the client or on request.
    pub tls_failures: AtomicU64,
    /// Connections that ended with a protocol error of the client.
    pub protocol_errors: AtomicU64,
    /// Requests whose body was complete.
    pub requests: AtomicU64,
    /// Streams given up by the client before their answer.
    pub cancelled: AtomicU64,
    /// Streams refused with `REFUSED_STREAM` for the stream limit.
    pub refused_streams: AtomicU64,
    /// Streams reset on request.
    pub resets: AtomicU64,
    /// Streams left without an answer on request.
    pub unanswered: AtomicU64,
    /// Streams whose connection broke before their answer was on its way.
    pub cut_off: AtomicU64,
    /// GOAWAY frames sent.
    pub goaways: AtomicU64,
    /// PING frames received, acknowledgements not counted.
    pub pings: AtomicU64,
    /// Acknowledgements of PINGs that were sent.
    pub pings_answered: AtomicU64,
    /// Most streams at once on one connection.
    pub max_streams: AtomicU64,
    answers: Mutex<BTreeMap<(u16, Cow<'static, str>), u64>>,
    each: Mutex<VecDeque<Arc<Connection>>>,
}

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its number, from 1.
    pub number: u64,
    /// Requests whose body was complete.
    pub requests: AtomicU64,
    /// Streams open at present.
    pub streams: AtomicU64,
    /// Most streams at once.
    pub max_streams: AtomicU64,
    /// Whether a GOAWAY was sent.
    pub goaway: AtomicBool,
    /// Whether it has ended.
    pub closed: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is documented at its counter")]
pub struct Counts {
    pub connections: u64,
    pub open_connections: u64,
    /// Streams open on them.
    pub open_streams: u64,
    pub tls_handshakes: u64,
    pub tls_failures: u64,
    pub protocol_errors: u64,
    pub requests: u64,
    pub cancelled: u64,
    pub refused_streams: u64,
    pub resets: u64,
    pub unanswered: u64,
    pub cut_off: u64,
    pub goaways: u64,
    pub pings: u64,
    pub pings_answered: u64,
    pub max_streams: u64,
    /// Answers by reason, `200` for those without one.
    pub answers: BTreeMap<String, u64>,
    /// The latest connections (at most 1,024).
    pub each_connection: Vec<ConnectionCounts>,
}

/// One connection's counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is documented at its counter")]
pub struct ConnectionCounts {
    pub number: u64,
    pub requests: u64,
    pub streams: u64,
    pub max_streams: u64,
    pub goaway: bool,
    pub closed: bool,
}

impl Counters {
    /// Notes a new TCP connection.
    pub fn connect(&self) -> Arc<Connection> {
        let number = self.connections.fetch_add(1, Relaxed) + 1;
        let connection = Arc::new(Connection { number, ..Connection::default() });
        let mut each = self.each.lock();
        if each.len() == REMEMBERED {
            each.pop_front();
        }
        each.push_back(Arc::clone(&connection));
        connection
    }

    /// Notes an answer.
    pub fn answer(&self, status: u16, reason: Cow<'static, str>) {
        let mut answers = self.answers.lock();
        if answers.len() < ANSWERS {
            *answers.entry((status, reason)).or_default() += 1;
        } else if let Some(count) = answers.get_mut(&(status, reason)) {
            *count += 1;
        }
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        let mut answers = BTreeMap::new();
        for ((status, reason), count) in &*self.answers.lock() {
            let name = if reason.is_empty() { status.to_string() } else { reason.to_string() };
            *answers.entry(name).or_default() += count;
        }
        let each_connection: Vec<_> = self.each.lock().iter().map(|connection| connection.counts()).collect();
        let open = || each_connection.iter().filter(|connection| !connection.closed);
        Counts {
            connections: self.connections.load(Relaxed),
            open_connections: open().count() as u64,
            open_streams: open().map(|connection| connection.streams).sum(),
            tls_handshakes: self.tls_handshakes.load(Relaxed),
            tls_failures: self.tls_failures.load(Relaxed),
            protocol_errors: self.protocol_errors.load(Relaxed),
            requests: self.requests.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            refused_streams: self.refused_streams.load(Relaxed),
            resets: self.resets.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            cut_off: self.cut_off.load(Relaxed),
            goaways: self.goaways.load(Relaxed),
            pings: self.pings.load(Relaxed),
            pings_answered: self.pings_answered.load(Relaxed),
            max_streams: self.max_streams.load(Relaxed),
            answers,
            each_connection,
        }
    }

    /// Back to zero; open connections stay known, their own counters go on.
    pub fn reset(&self) {
        for counter in [
            &self.connections,
            &self.tls_handshakes,
            &self.tls_failures,
            &self.protocol_errors,
            &self.requests,
            &self.cancelled,
            &self.refused_streams,
            &self.resets,
            &self.unanswered,
            &self.cut_off,
            &self.goaways,
            &self.pings,
            &self.pings_answered,
            &self.max_streams,
        ] {
            counter.store(0, Relaxed);
        }
        self.answers.lock().clear();
        self.each.lock().retain(|connection| !connection.closed.load(Relaxed));
    }
}

impl Connection {
    fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            number: self.number,
            requests: self.requests.load(Relaxed),
            streams: self.streams.load(Relaxed),
            max_streams: self.max_streams.load(Relaxed),
            goaway: self.goaway.load(Relaxed),
            closed: self.closed.load(Relaxed),
        }
    }
}
