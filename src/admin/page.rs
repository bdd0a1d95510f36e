//! A page in Prometheus' text format, by `prometheus-client` (the only user of it): its collectors take values that are made at
//! the scrape, from one moment, where a recorder would keep books of its own.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Family, Kind};
use crate::histogram::Histogram;

/// The page's content type.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// A value of a family.
#[derive(Clone, Debug)]
enum Value {
    Count(u64),
    Gauge(f64),
    Times(Box<Histogram>),
}

type Labels = Vec<(&'static str, String)>;

/// Samples by family, in the order in which the families came.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<(Family, Vec<(Labels, Value)>)>,
}

impl Page {
    /// Adds a counter's sample; `labels` are the values of the family's labels, in their order.
    pub fn count(&mut self, family: &Family, labels: &[&str], n: u64) {
        self.add(family, Kind::Counter, labels, Value::Count(n));
    }

    /// Adds a gauge's sample.
    pub fn gauge(&mut self, family: &Family, labels: &[&str], value: f64) {
        self.add(family, Kind::Gauge, labels, Value::Gauge(value));
    }

    /// Adds a histogram.
    pub fn times(&mut self, family: &Family, labels: &[&str], times: &Histogram) {
        self.add(family, Kind::Histogram, labels, Value::Times(Box::new(times.clone())));
    }

    fn add(&mut self, family: &Family, kind: Kind, labels: &[&str], value: Value) {
        debug_assert_eq!((family.kind, family.labels.len()), (kind, labels.len()), "{}", family.name);
        let labels = family.labels.iter().copied().zip(labels.iter().map(|value| (*value).to_owned())).collect();
        match self.families.iter_mut().find(|(known, _)| known.name == family.name) {
            Some((_, samples)) => samples.push((labels, value)),
            None => self.families.push((family.clone(), vec![(labels, value)])),
        }
    }

    /// The page as text.
    ///
    /// # Errors
    /// Those of the encoder, which has none for text in memory.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (family, samples) in &self.families {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(&family.name, family.meaning.trim(), None, kind)?;
            for (labels, value) in samples {
                let mut encoder = encoder.encode_family(labels)?;
                match value {
                    Value::Count(n) => encoder.encode_counter::<NoLabelSet, u64, f64>(n, None)?,
                    Value::Gauge(value) => encoder.encode_gauge(value)?,
                    Value::Times(times) => {
                        let ranges: Vec<_> = times.ranges().collect();
                        encoder.encode_histogram::<NoLabelSet>(times.sum(), times.count(), &ranges, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_is_prometheus_text_with_every_family_once() {
        let family = |name: &'static str, kind, labels: &'static [&'static str]| Family {
            name: name.into(),
            kind,
            labels: labels.into(),
            meaning: " What it says.",
        };
        let counter = family("pusher_things", Kind::Counter, &["app", "lane"]);
        let gauge = family("pusher_level", Kind::Gauge, &[]);
        let histogram = family("pusher_t_seconds", Kind::Histogram, &["app"]);
        let mut page = Page::default();
        page.count(&counter, &["a", "single"], 3);
        page.gauge(&gauge, &[], 0.5);
        page.count(&counter, &["b\"\\\n", "massive"], 4);
        let mut times = Histogram::default();
        for ms in [2, 90_000_000] {
            times.record(Duration::from_millis(ms));
        }
        page.times(&histogram, &["a"], &times);
        let text = page.text().unwrap();
        let few = text.lines().filter(|line| !line.contains("le=") || line.contains("0.0025") || line.contains("+Inf"));
        insta::assert_snapshot!(few.collect::<Vec<_>>().join("\n"));
    }
}
