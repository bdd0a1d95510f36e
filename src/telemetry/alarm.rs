//! Alarms to Sentry. The only place that names `sentry`, and the list of what may leave the process.

use std::sync::Arc;
use std::time::Duration;

use sentry::ClientOptions;
use sentry::integrations::backtrace::{AttachStacktraceIntegration, ProcessStacktraceIntegration};
use sentry::integrations::contexts::ContextIntegration;
use sentry::protocol::{Event as Report, Level};
pub(super) use sentry::types::Dsn;
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::format::Fields;

/// Fields that become tags, by which Sentry groups and searches.
const TAGS: &[&str] = &["app", "platform", "reason", "part", "topic"];
/// Fields that go along. Everything else stays in the log.
const EXTRAS: &[&str] = &["error", "place", "thread"];

/// A layer that sends each alarm to Sentry. Sending is a thread of the client's behind a bounded queue; what does not fit
/// is dropped there, so an unreachable Sentry costs nothing.
#[derive(Clone)]
pub(super) struct Alarms(Arc<sentry::Client>);

impl Alarms {
    pub(super) fn start(dsn: Dsn) -> Self {
        let mut options = ClientOptions::new();
        options.dsn = Some(dsn);
        Self::with_options(options)
    }

    /// No default integrations: the one for panics sends their message as it is.
    fn with_options(mut options: ClientOptions) -> Self {
        options.release = Some(concat!("pusher@", env!("CARGO_PKG_VERSION")).into());
        options.send_default_pii = false;
        options.attach_stacktrace = true;
        options.default_integrations = false;
        let options = options
            .add_integration(AttachStacktraceIntegration)
            .add_integration(ContextIntegration::new())
            .add_integration(ProcessStacktraceIntegration);
        Alarms(Arc::new(sentry::Client::from(sentry::apply_defaults(options))))
    }

    /// Waits for what is on its way, at most `timeout`. The client's own flush waits without a limit for a place in its
    /// queue, hence a thread that may be left behind.
    pub(super) fn flush(&self, timeout: Duration) {
        let client = Arc::clone(&self.0);
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        let flush = move || done.send(client.flush(Some(timeout)));
        if std::thread::Builder::new().name("sentry-flush".into()).spawn(flush).is_ok() {
            let _ = wait.recv_timeout(timeout);
        }
    }
}

impl<S: Subscriber> Layer<S> for Alarms {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.0.get("alarm") == Some(&Value::Bool(true)) && *event.metadata().level() == tracing::Level::ERROR {
            self.0.capture_event(report(fields), None);
        }
    }
}

fn report(mut fields: Fields) -> Report<'static> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let message = fields.0.remove("message").map(text).unwrap_or_default();
    let mut report = Report { level: Level::Error, ..Report::default() };
    for name in TAGS {
        report.tags.extend(fields.0.remove(*name).map(|value| ((*name).to_owned(), text(value))));
    }
    for name in EXTRAS {
        report.extra.extend(fields.0.remove(*name).map(|value| ((*name).to_owned(), value)));
    }
    let reason = report.tags.get("reason").cloned().unwrap_or_default();
    let place = report.extra.get("place").cloned().map(text).unwrap_or_default();
    report.fingerprint = vec![message.clone().into(), reason.into(), place.into()].into();
    report.message = Some(message);
    report
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use sentry::{Envelope, Transport};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Default)]
    struct Caught(Mutex<Vec<Envelope>>);

    impl Transport for Caught {
        fn send_envelope(&self, envelope: Envelope) {
            self.0.lock().push(envelope);
        }
    }

    fn sent(events: impl FnOnce()) -> Vec<Report<'static>> {
        let caught = Arc::new(Caught::default());
        let transport = Arc::clone(&caught);
        let mut options = ClientOptions::new();
        options.dsn = Some("https://key@sentry.invalid/1".parse().unwrap());
        options.transport = Some(Arc::new(move |_: &ClientOptions| Arc::clone(&transport) as Arc<dyn Transport>));
        let alarms = Alarms::with_options(options);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(alarms), events);
        caught.0.lock().iter().filter_map(|envelope| envelope.event().cloned()).collect()
    }

    #[test]
    fn only_alarms_are_sent_and_only_what_may_leave() {
        let reports = sent(|| {
            tracing::error!("an error that is no alarm");
            tracing::warn!(alarm = true, "a warning");
            tracing::error!(alarm = false, "not meant");
            tracing::error!(alarm = true, app = %"game", platform = "apns", reason = "valve", token = "secret", "the valve closed");
        });
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report.message.as_deref(), Some("the valve closed"));
        let tags: Vec<_> = report.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(tags, ["app=game", "platform=apns", "reason=valve"]);
        assert!(report.extra.is_empty());
        assert!(!serde_json::to_string(report).unwrap().contains("\"secret\""));
        assert!(report.user.is_none());
    }

    #[test]
    fn a_sentry_that_never_answers_costs_no_more_than_the_timeout() {
        struct Stuck;
        impl Transport for Stuck {
            fn send_envelope(&self, _: Envelope) {}
            fn flush(&self, _: Duration) -> bool {
                loop {
                    std::thread::park();
                }
            }
        }
        let mut options = ClientOptions::new();
        options.dsn = Some("https://key@sentry.invalid/1".parse().unwrap());
        options.transport = Some(Arc::new(|_: &ClientOptions| Arc::new(Stuck) as Arc<dyn Transport>));
        Alarms::with_options(options).flush(Duration::from_millis(10)); // returns at all
    }
}
