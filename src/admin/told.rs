//! What statistics were told, on the page: every [`Metric`] that the ledger does not have, under a name made of its own.

use std::borrow::Cow;

use super::{Family, Kind, Page};
use crate::reporters::stats::told::{Reading, Total};
use crate::reporters::stats::{self, Metric};

/// The family of a metric; `None` when the ledger has it.
///
/// `feedback_lost` by `game` becomes `pusher_feedback_lost` by `app`.
pub fn family(metric: Metric) -> Option<Family> {
    if metric.is_in_ledger() {
        return None;
    }
    let (kind, unit) = match metric.kind() {
        stats::Kind::Counter => (Kind::Counter, ""),
        stats::Kind::Gauge => (Kind::Gauge, ""),
        stats::Kind::Timer => (Kind::Histogram, "_seconds"),
    };
    let name = Cow::Owned(format!("pusher_{}{unit}", metric.name()));
    Some(Family {
        name,
        kind,
        labels: metric.tags().iter().filter_map(|tag| label(tag)).collect(),
        meaning: metric.meaning(),
    })
}

/// What a tag is called here.
fn label(tag: &'static str) -> Option<&'static str> {
    match tag {
        // Prometheus has it as `instance`.
        "hostname" => None,
        "game" => Some("app"),
        other => Some(other),
    }
}

/// Writes what was told so far.
pub fn write(page: &mut Page, readings: &[Reading]) {
    for Reading { metric, tags, total } in readings {
        let Some(family) = family(*metric) else { continue };
        let value = |wanted: &&str| {
            let given = tags.iter().find(|(tag, _)| label(tag) == Some(wanted));
            given.map_or("", |(_, value)| value)
        };
        let labels: Vec<&str> = family.labels.iter().map(value).collect();
        match total {
            Total::Count(n) => page.count(&family, &labels, *n),
            Total::Gauge(value) => page.gauge(&family, &labels, *value),
            Total::Times(times) => page.times(&family, &labels, times),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::admin::family::ALL;

    #[test]
    fn no_name_is_on_the_page_twice() {
        let told: Vec<_> = Metric::ALL.iter().filter_map(|metric| family(*metric)).collect();
        let names: HashSet<_> = ALL.iter().copied().chain(&told).map(|family| &*family.name).collect();
        assert_eq!(names.len(), ALL.len() + told.len());
    }

    #[test]
    fn tags_become_labels_and_units_are_named() {
        let labels = |metric| family(metric).expect("told").labels.into_owned();
        assert_eq!(labels(Metric::TokensDeleteError), ["app", "platform"]);
        assert_eq!(labels(Metric::Retries), ["platform", "app", "reason"]);
        assert_eq!(family(Metric::Attempts), None, "the ledger has it");
    }
}
