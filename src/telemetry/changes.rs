//! The log as the journal keeps it: what this program itself says at `info` and above is a change of state, told once.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use super::format::{Fields, level_name};
use crate::journal;

/// Fields that say nothing to a reader of the page.
const LEFT_OUT: [&str; 4] = ["alarm", "backtrace", "message", "ledger"];

/// Whose lines are kept.
pub(super) fn filter() -> Targets {
    Targets::new().with_target("pusher", LevelFilter::INFO)
}

/// A layer that adds to the journal of the process.
pub(super) struct Changes;

impl<S: Subscriber> Layer<S> for Changes {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (what, about) = told(fields);
        journal::of_process().add(now_ms(), level_name(*event.metadata().level()), what, about);
    }
}

fn told(Fields(fields): Fields) -> (String, BTreeMap<String, String>) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let what = fields.get("message").map(text).unwrap_or_default();
    let kept = fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    (what, kept.map(|(name, value)| (name.clone(), text(value))).collect())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn what_the_log_tells_is_kept_without_what_is_for_machines() {
        let layers = tracing_subscriber::registry().with(Changes.with_filter(filter()));
        tracing::subscriber::with_default(layers, || {
            tracing::error!(alarm = true, app = "journal-test", reason = "x", "the breaker is open");
            tracing::debug!(app = "journal-test", "a detail");
            tracing::error!(target: "h2", app = "journal-test", "another crate");
        });
        let ours = |entry: &journal::Entry| entry.about.get("app").is_some_and(|app| app == "journal-test");
        let kept: Vec<_> = journal::of_process().entries().into_iter().filter(ours).collect();
        let [entry] = kept.as_slice() else { panic!("{kept:?}") };
        assert_eq!((entry.level, entry.what.as_str()), ("error", "the breaker is open"));
        assert_eq!(entry.about.keys().collect::<Vec<_>>(), ["app", "reason"]);
    }
}
