//! A StatsD daemon that only remembers: it parses datagrams strictly, tags included, and adds up.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// One line: `name:value|type|#tag:value,…`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// `c`, `g`, `ms`, `h`, `d` …
    pub(crate) kind: String,
    pub(crate) tags: BTreeMap<String, String>,
}

/// The sink. Its thread ends with the process.
pub(crate) struct Statsd {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<Line>,
    malformed: Vec<String>,
}

impl Statsd {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
        let address = socket.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = Arc::clone(&seen);
        thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]);
                let mut seen = into.lock();
                for line in text.split('\n').filter(|line| !line.is_empty()) {
                    match parse(line) {
                        Some(mut parsed) => seen.lines.append(&mut parsed),
                        None => seen.malformed.push(line.to_owned()),
                    }
                }
            }
        });
        Statsd { address, seen }
    }

    /// All values received so far, in order. Fails when a line was not StatsD.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let seen = self.seen.lock();
        assert!(seen.malformed.is_empty(), "not StatsD: {:?}", seen.malformed);
        seen.lines.clone()
    }

    /// The sum of a counter over all lines that carry (at least) these tags.
    pub(crate) fn sum(&self, name: &str, tags: &[(&str, &str)]) -> f64 {
        let lines = self.lines();
        let matching = lines.iter().filter(|l| l.kind == "c" && l.name == name && carries(l, tags));
        matching.map(|line| line.value).sum()
    }

    /// Waits until the counter's sum is exactly `wanted`; the failure names what it was.
    #[track_caller]
    pub(crate) fn await_sum(&self, name: &str, tags: &[(&str, &str)], wanted: f64, limit: Duration) {
        super::eventually(&format!("{name}{tags:?} = {wanted}"), limit, || {
            let sum = self.sum(name, tags);
            assert!(sum <= wanted, "{name}{tags:?} is {sum}, more than {wanted}");
            (sum >= wanted).then_some(())
        });
    }
}

fn carries(line: &Line, tags: &[(&str, &str)]) -> bool {
    tags.iter().all(|(key, value)| line.tags.get(*key).is_some_and(|v| v == value))
}

/// All values of a text of lines. Fails when one is not StatsD.
pub(crate) fn parse_all(text: &str) -> Vec<Line> {
    text.lines().flat_map(|line| parse(line).unwrap_or_else(|| panic!("not StatsD: {line}"))).collect()
}

/// DogStatsD 1.1: several values may share one line (`name:1:2:3|c`).
fn parse(line: &str) -> Option<Vec<Line>> {
    let mut parts = line.split('|');
    let mut head = parts.next()?.split(':');
    let name = head.next().filter(|name| !name.is_empty())?;
    let kind = parts.next().filter(|kind| ["c", "g", "ms", "h", "d", "s"].contains(kind))?;
    let (mut tags, mut rate) = (BTreeMap::new(), 1.0);
    for part in parts {
        if let Some(list) = part.strip_prefix('#') {
            tags = list.split(',').map(tag).collect::<Option<_>>()?;
        } else if let Some(text) = part.strip_prefix('@') {
            rate = text.parse().ok().filter(|rate| *rate > 0.0)?;
        } else if !part.starts_with("c:") && !part.starts_with('T') {
            return None;
        }
    }
    let values: Vec<f64> = head.map(|value| value.parse().ok()).collect::<Option<_>>()?;
    let scale = if kind == "c" { 1.0 / rate } else { 1.0 };
    let line = |value: f64| Line { name: name.into(), value: value * scale, kind: kind.into(), tags: tags.clone() };
    (!values.is_empty()).then(|| values.into_iter().map(line).collect())
}

fn tag(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once(':')?;
    (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_tags() {
        let lines = parse("pushsent:3|c|#platform:apns,game:chess").expect("StatsD");
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].value, lines[0].tags["game"].as_str()), (3.0, "chess"));
    }

    #[test]
    fn packed_values_and_rates_count_in_full() {
        let lines = parse("a:1:2|c|@0.5").expect("StatsD");
        assert_eq!(lines.iter().map(|line| line.value as i64).sum::<i64>(), 6);
    }

    #[test]
    fn what_is_not_statsd_is_refused() {
        for line in ["", "a", "a:1", "a:x|c", ":1|c", "a:1|q", "a:1|c|#", "a:1|c|junk", "a:1|c|#k"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
