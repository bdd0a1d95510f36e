//! Logs and alarms of the process: `tracing` events to stderr as text or JSON, and the few that need a person to Sentry.
//!
//! - A line has `time`, `level`, `msg` and the event's fields, in the notation of the original (logrus), text or JSON.
//! - Other crates are heard from `info` upwards at most: HTTP/2 and Kafka clients at debug print a line per frame, and frames
//!   carry device tokens.
//! - An alarm is an event at ERROR with the field `alarm = true`. What goes to Sentry of it is in `alarm`, and only there.
//! - What this program says at `info` and above is a change of state, kept in the journal (`changes`) whatever the level is.
//! - A panic is an alarm. Logging never waits for Sentry.

mod alarm;
mod changes;
mod format;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::{Registry, reload};

use crate::config::{Config, ConfigError, Key};
use alarm::{Alarms, Dsn};

/// Changes at run time, see [`set_level`].
pub const LEVEL: Key = Key::new(
    "log.level",
    "info",
    "trace, debug, info, warning or error; --debug goes before it; another word means info",
);
const SENTRY: Key =
    Key::optional("sentry.url", "DSN of the Sentry project that alarms are sent to; unset: none").secret();

/// The keys of this room.
pub const KEYS: &[Key] = &[LEVEL, SENTRY];

/// What to log and where alarms go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The least severe level that is logged.
    pub level: LevelFilter,
    /// JSON lines instead of text.
    pub json: bool,
    /// A level in the configuration that does not exist, to be warned about.
    pub unknown_level: Option<String>,
    sentry: Option<Dsn>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { level: LevelFilter::INFO, json: false, unknown_level: None, sentry: None }
    }
}

impl Settings {
    /// Reads [`KEYS`].
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        if let Some(word) = config.get::<String>(&LEVEL)? {
            match parse_level(&word) {
                Some(level) => settings.level = level,
                None => settings.unknown_level = Some(word),
            }
        }
        if let Some(url) = config.get::<String>(&SENTRY)? {
            let rule = "must be a Sentry DSN such as https://key@sentry.example.com/1";
            settings.sentry = Some(url.trim().parse().map_err(|_| config.error(&SENTRY, rule))?);
        }
        Ok(settings)
    }

    /// With the flags of the command line: `--debug` and `--json`.
    #[must_use]
    pub fn with_flags(mut self, debug: bool, json: bool) -> Self {
        if debug {
            self.level = self.level.max(LevelFilter::DEBUG);
            self.unknown_level = None;
        }
        self.json |= json;
        self
    }
}

/// A level by its name, also by the names of the original's library (logrus): `warning`, `fatal`, `panic`.
pub fn parse_level(word: &str) -> Option<LevelFilter> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        _ => return None,
    })
}

fn filter(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("pusher", level)
}

/// What is logged by the process, once [`Telemetry::start`] was called.
static LOGGED: Mutex<Option<Logged>> = Mutex::new(None);

struct Logged {
    level: LevelFilter,
    filter: reload::Handle<Targets, Registry>,
}

/// The least severe level that is logged now; `None` before telemetry has started.
pub fn level() -> Option<LevelFilter> {
    LOGGED.lock().as_ref().map(|logged| logged.level)
}

/// Changes the level of the running process, and says so; nothing before telemetry has started.
pub fn set_level(level: LevelFilter) {
    let mut logged = LOGGED.lock();
    let Some(Logged { level: present, filter: handle }) = logged.as_mut() else { return };
    let before = std::mem::replace(present, level);
    let changed = handle.reload(filter(level));
    drop(logged);
    match changed {
        Ok(()) if before == level => {}
        // A warning, so that it is heard at most levels.
        Ok(()) => tracing::warn!(%before, now = %level, "the log level has changed"),
        Err(error) => tracing::warn!(%error, "cannot change the log level"),
    }
}

/// The running telemetry. Keep it until the end of `main`.
pub struct Telemetry {
    alarms: Option<Alarms>,
}

impl Telemetry {
    /// Starts logging for the whole process, and reports panics from now on.
    ///
    /// # Panics
    /// When called twice: a second subscriber would be ignored silently.
    pub fn start(settings: &Settings) -> Self {
        let (filter, handle) = reload::Layer::new(filter(settings.level));
        let alarms = settings.sentry.clone().map(Alarms::start);
        let log = format::Log { json: settings.json, writer: std::io::stderr };
        let layers = alarms.clone().map(|alarms| alarms.with_filter(LevelFilter::ERROR));
        let subscriber = tracing_subscriber::registry().with(log.with_filter(filter)).with(layers);
        let subscriber = subscriber.with(changes::Changes.with_filter(changes::filter()));
        tracing::subscriber::set_global_default(subscriber).expect("main starts telemetry once");
        std::panic::set_hook(Box::new(report_panic));
        if let Some(word) = &settings.unknown_level {
            tracing::warn!(key = LEVEL.name, value = %word, "unknown log level, using info: one of trace, debug, info, warning, error");
        }
        *LOGGED.lock() = Some(Logged { level: settings.level, filter: handle });
        Telemetry { alarms }
    }

    /// Waits for alarms on their way to Sentry, at most `timeout`.
    pub fn flush(&self, timeout: Duration) {
        if let Some(alarms) = &self.alarms {
            alarms.flush(timeout);
        }
    }
}

fn report_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map_or_else(String::new, ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        alarm = true,
        reason = "panic",
        place,
        thread = thread.name().unwrap_or("unnamed"),
        error = harmless(info.payload_as_str().unwrap_or("no message")),
        backtrace,
        "panic"
    );
}

/// The message without what the standard library quotes of a text when an index into it is wrong: that may be a payload.
fn harmless(message: &str) -> &str {
    let cut = [" of `", " in `"].iter().filter_map(|quote| message.find(quote)).min();
    &message[..cut.unwrap_or(message.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_any_of_their_names() {
        let level = |text| Settings::from_config(&Config::from_pairs([("log.level", text)])).unwrap();
        assert_eq!(level("Warning").level, LevelFilter::WARN);
        assert_eq!(level("").level, LevelFilter::INFO);
        let odd = level("chatty");
        assert_eq!((odd.level, odd.unknown_level.as_deref()), (LevelFilter::INFO, Some("chatty")));
        assert_eq!(odd.with_flags(true, true).level, LevelFilter::DEBUG);
        assert_eq!(level("trace").with_flags(true, false).level, LevelFilter::TRACE);
    }

    #[test]
    fn a_bad_dsn_is_refused_and_not_shown() {
        let error = Settings::from_config(&Config::from_pairs([("sentry.url", "https://secret")])).unwrap_err();
        insta::assert_snapshot!(error, @"sentry.url: must be a Sentry DSN such as https://key@sentry.example.com/1");
    }

    #[test]
    fn a_panic_quotes_no_text() {
        let quoted = std::panic::catch_unwind(|| &"naïve token"[..3]).unwrap_err();
        let message = quoted.downcast_ref::<String>().unwrap();
        assert!(message.contains("token"), "the standard library's wording changed: {message}");
        assert!(!harmless(message).contains("token"), "{message}");
        assert_eq!(harmless("index out of bounds"), "index out of bounds");
    }
}
