//! A page of `/metrics` as Prometheus would read it: strictly.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use regex::Regex;

/// Name, labels, value.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// One scrape.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    samples: Samples,
    kinds: BTreeMap<String, String>,
}

/// The status and the body that an admin server answers `path` with.
#[track_caller]
pub(crate) fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "GET", path, None, "")
}

/// The same for any method, with a token and with a body, JSON.
#[track_caller]
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(admin).expect("the admin server");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n{token}x-pusher-operator: ann\r\n");
    write!(stream, "{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

impl Scrape {
    /// Asks for the page.
    #[track_caller]
    pub(crate) fn of(admin: SocketAddr) -> Scrape {
        let (status, page) = get(admin, "/metrics");
        assert_eq!(status, 200, "{page}");
        Scrape::read(&page)
    }

    /// Reads a page; fails on anything that the format does not allow.
    #[track_caller]
    pub(crate) fn read(page: &str) -> Scrape {
        let sample = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$").expect("a pattern");
        let label = Regex::new(r#"([a-z_]+)="((?:[^"\\]|\\.)*)"(,|$)"#).expect("a pattern");
        let (mut samples, mut kinds) = (Samples::new(), BTreeMap::new());
        for line in page.lines() {
            if let Some(text) = line.strip_prefix("# TYPE ") {
                let (name, kind) = text.split_once(' ').expect("a name and a type");
                assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} comes twice");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let found = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"));
            let text = found.get(2).map_or("", |labels| labels.as_str());
            let labels: BTreeMap<_, _> =
                label.captures_iter(text).map(|one| (one[1].to_owned(), one[2].to_owned())).collect();
            let length: usize = label.find_iter(text).map(|one| one.len()).sum();
            assert_eq!(length, text.len(), "labels of {line}");
            let value = found[3].parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert_eq!(samples.insert((found[1].to_owned(), labels), value), None, "comes twice: {line}");
        }
        let scrape = Scrape { samples, kinds };
        scrape.assert_families();
        scrape
    }

    /// Every sample belongs to a family that was announced, and is named as its type asks.
    #[track_caller]
    fn assert_families(&self) {
        for (name, labels) in self.samples.keys() {
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let histogram = stem.filter(|stem| self.kinds.get(*stem).is_some_and(|kind| kind == "histogram"));
            let kind = self.kinds.get(histogram.unwrap_or(name)).unwrap_or_else(|| panic!("{name} has no type"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert_eq!(labels.contains_key("le"), name.ends_with("_bucket"), "{name} {labels:?}");
            if let Some(stem) = histogram.filter(|_| labels.get("le").is_some_and(|le| le == "+Inf")) {
                let of =
                    labels.iter().filter(|(label, _)| *label != "le").map(|(a, b)| (a.clone(), b.clone())).collect();
                let count = self.samples[&(format!("{stem}_count"), of)];
                assert_eq!(
                    self.samples[&(name.clone(), labels.clone())].to_bits(),
                    count.to_bits(),
                    "{name} {labels:?}"
                );
            }
        }
    }

    /// The sum of the samples of this name that have these labels, among others.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.all(name, labels).map(|(_, value)| value as u64).sum()
    }

    /// The one value of this name with these labels; `None` when there is none.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut all = self.all(name, labels);
        let value = all.next().map(|(_, value)| value);
        assert!(all.next().is_none(), "{name} {labels:?} is not one");
        value
    }

    /// A histogram's ranges: the upper end of each, with what lies below it. Empty when nothing was counted.
    pub(crate) fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let range = |(labels, count): (&BTreeMap<String, String>, f64)| {
            let end = &labels["le"];
            (if end == "+Inf" { f64::INFINITY } else { end.parse().expect("a number") }, count)
        };
        self.all(&format!("{name}_bucket"), labels).map(range).collect()
    }

    /// Every sample's name, each once.
    pub(crate) fn families(&self) -> Vec<&str> {
        self.kinds.keys().map(String::as_str).collect()
    }

    fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let has = move |have: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| have.get(*label).is_some_and(|have| have == value))
        };
        let named = self.samples.iter().filter(move |((have, _), _)| have == name);
        named.filter(move |((_, have), _)| has(have)).map(|((_, have), value)| (have, *value))
    }

    /// The law of conservation, lane by lane; how many lanes there are.
    #[track_caller]
    pub(crate) fn assert_balance(&self) -> usize {
        let lanes: Vec<_> = self.all("pusher_consumed_messages_total", &[]).collect();
        for (lane, consumed) in &lanes {
            let lane: Vec<_> = lane.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            let ended = self.sum("pusher_outcomes_total", &lane);
            let in_flight = self.sum("pusher_in_flight_messages", &lane);
            assert_eq!(
                *consumed as u64,
                ended + in_flight,
                "{lane:?}: {ended} ended, {in_flight} in flight: {self:#?}"
            );
            for outcome in ["rejected", "expired", "failed"] {
                let of: Vec<_> = lane.iter().copied().chain([("outcome", outcome)]).collect();
                let (all, by_reason) =
                    (self.sum("pusher_outcomes_total", &of), self.sum("pusher_outcome_reasons_total", &of));
                assert_eq!(all, by_reason, "{of:?}");
            }
        }
        lanes.len()
    }

    /// No counter has gone back since `earlier`.
    #[track_caller]
    pub(crate) fn assert_grown_from(&self, earlier: &Scrape) {
        for ((name, labels), before) in earlier.samples.iter().filter(|((name, _), _)| name.ends_with("_total")) {
            let now = self.samples.get(&(name.clone(), labels.clone()));
            assert!(now.is_some_and(|now| now >= before), "{name} {labels:?}: {before}, then {now:?}");
        }
    }
}
