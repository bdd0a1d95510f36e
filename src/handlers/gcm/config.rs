//! The keys of `gcm.*` and what they mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use crate::admission::PlatformKeys;
use crate::config::{Config, ConfigError, Ignored, Key};
use crate::handlers::pace;
use crate::handlers::retry::Policy;
use crate::handlers::settings::{RetryKeys, app_names, duration, endpoint, number};

const APPS: Key = Key::optional("gcm.apps", "apps to push for through FCM, separated by commas");
pub(super) const CREDENTIALS: Key = Key::optional(
    "gcm.firebaseCredentials.<app>",
    "the service account's key, the JSON itself; instead of firebaseCredentialsFile",
)
.secret();
pub(super) const CREDENTIALS_FILE: Key =
    Key::optional("gcm.firebaseCredentialsFile.<app>", "file of the service account's key (JSON)");
pub(super) const PROJECT_ID: Key = Key::optional(
    "gcm.projectId.<app>",
    "the Firebase project; unset: the credentials' own. Set without credentials: Google's default ones (metadata server)",
);
const ENDPOINT: Key = Key::optional("gcm.endpoint", "https://host:port instead of Google's, for simulators");
const CA_FILE: Key = Key::optional("gcm.caFile", "PEM file of certificates to trust beside the system's");
const MAX_CONNECTIONS: Key = Key::new(
    "gcm.maxConnections",
    "16",
    "most connections of this process per project; Google takes 100 pushes on each",
);
const QUOTA: Key = Key::new(
    "gcm.quota.perMinute",
    "600000",
    "messages that a project may send in a minute: Google's quota, or what you have agreed on; more wait",
);
const REPLICAS: Key =
    Key::new("gcm.quota.replicas", "1", "processes that share the project's quota; each sends its part of it at most");
const QUOTA_RAMP: Key =
    Key::new("gcm.quota.ramp", "60s", "time from silence to that rate, up to 1h, as Google asks; 0s: at once");
const TIMEOUT: Key =
    Key::new("gcm.timeout", "20s", "longest wait for the answer to one request; at least 10s, as Google asks");
const CONNECT_TIMEOUT: Key = Key::new("gcm.connectTimeout", "5s", "longest wait for a connection and its handshake");
const RETRY: RetryKeys = RetryKeys {
    interval: Key::optional(
        "gcm.retry.interval",
        "ceiling of the first pause before a push is sent again (a bare number counts seconds); unset: by the kind of failure",
    ),
    attempts: Key::optional(
        "gcm.retry.maxRetryAttempts",
        "attempts that failed while others of the app succeeded, after which a push is given up; unset: by the kind of failure",
    ),
    time: Key::optional(
        "gcm.retry.maxRetryTime",
        "the same as time that these attempts and the pauses after them took, but for what the provider asked to wait; unset: by the kind of failure",
    ),
};

/// The keys of rate limit and dedup.
pub(super) const ADMISSION: PlatformKeys = PlatformKeys::new("gcm.rateLimit.rpm", "gcm.dedup.ttl");

/// The keys that this room declares.
pub const KEYS: &[Key] = &[
    APPS,
    CREDENTIALS,
    CREDENTIALS_FILE,
    PROJECT_ID,
    ENDPOINT,
    CA_FILE,
    MAX_CONNECTIONS,
    QUOTA,
    REPLICAS,
    QUOTA_RAMP,
    TIMEOUT,
    CONNECT_TIMEOUT,
    RETRY.interval,
    RETRY.attempts,
    RETRY.time,
    ADMISSION.rpm,
    ADMISSION.dedup_ttl,
];

const XMPP: &str = "it belongs to the XMPP interface, which Google shut down";

/// Keys of the original that are accepted without effect.
pub const IGNORED: &[Ignored] = &[
    Ignored {
        name: "gcm.concurrentWorkers",
        because: "requests share connections as streams: maxInFlight and gcm.maxConnections bound them",
    },
    Ignored { name: "gcm.pingInterval", because: XMPP },
    Ignored { name: "gcm.pingTimeout", because: XMPP },
    Ignored { name: "gcm.maxPendingMessages", because: XMPP },
    Ignored { name: "gcm.certs.*", because: XMPP },
    Ignored { name: "gcm.logStatsInterval", because: "statistics are metrics, not log lines" },
];

/// Google's host.
const GOOGLE: &str = "fcm.googleapis.com:443";
/// Google: Scale FCM. A push that is given up earlier is often sent twice.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// More than any machine sends.
const MOST_PER_MINUTE: usize = 1_000_000_000;
/// Longest project id that is believed; Google's have at most 30 characters, old ones a domain before them.
const LONGEST_PROJECT: usize = 128;

/// Everything that is configured for FCM.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The apps, in the configuration's order and case.
    pub apps: Vec<App>,
    /// Host and port.
    pub authority: Authority,
    /// Certificates to trust beside the system's; for Google's token endpoint too.
    pub ca_file: Option<PathBuf>,
    /// Most connections of the process per project.
    pub max_connections: usize,
    /// How fast the requests of a project may leave this process.
    pub pace: pace::Settings,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// When to try again, and how often.
    pub retry: Policy,
}

/// One app and its credentials.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name, as in topics.
    pub name: Arc<str>,
    /// The project that the configuration names.
    pub project: Option<String>,
    /// Where its credentials are.
    pub credentials: Origin,
}

/// Where credentials come from.
#[derive(Clone)]
pub enum Origin {
    /// The configuration itself.
    Text(String),
    /// A file.
    File(PathBuf),
    /// Google's Application Default Credentials: a file named by the environment, else the metadata server.
    Default,
}

impl std::fmt::Debug for Origin {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Text(_) => f.write_str("Text"),
            Origin::File(path) => f.debug_tuple("File").field(path).finish(),
            Origin::Default => f.write_str("Default"),
        }
    }
}

impl Settings {
    /// Reads and checks the keys; credentials are not opened yet.
    pub fn from_config(config: &Config) -> Result<Settings, ConfigError> {
        let apps = app_names(config, &APPS)?.iter().map(|name| app(config, name)).collect::<Result<_, _>>()?;
        Ok(Settings {
            apps,
            authority: endpoint(config, &ENDPOINT)?.unwrap_or(Authority::from_static(GOOGLE)),
            ca_file: config.get::<String>(&CA_FILE)?.map(PathBuf::from),
            max_connections: number(config, &MAX_CONNECTIONS, 1..=1000)?,
            pace: pace(config)?,
            timeout: duration(config, &TIMEOUT, SHORTEST_TIMEOUT)?,
            connect_timeout: duration(config, &CONNECT_TIMEOUT, SHORTEST_CONNECT_TIMEOUT)?,
            retry: RETRY.read(config)?,
        })
    }
}

fn pace(config: &Config) -> Result<pace::Settings, ConfigError> {
    let per_minute: usize = number(config, &QUOTA, 60..=MOST_PER_MINUTE)?;
    let replicas: usize = number(config, &REPLICAS, 1..=10_000)?;
    let ramp: Duration = config.require(&QUOTA_RAMP)?;
    if ramp > Duration::from_hours(1) {
        return Err(config.error(&QUOTA_RAMP, "must be from 0s to 1h"));
    }
    Ok(pace::Settings { per_second: per_minute as f64 / 60.0 / replicas as f64, ramp })
}

fn app(config: &Config, name: &str) -> Result<App, ConfigError> {
    let given = |key: &Key| -> Result<Option<String>, ConfigError> {
        let text = config.get_for::<String>(key, name)?.map(|text| text.trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    };
    let project = given(&PROJECT_ID)?;
    if project.as_deref().is_some_and(|id| !is_project(id)) {
        return Err(config.error_for(&PROJECT_ID, name, "must be a project id such as my-game-1234, or its number"));
    }
    let credentials = match (given(&CREDENTIALS)?, given(&CREDENTIALS_FILE)?) {
        (Some(_), Some(_)) => {
            return Err(config.error_for(&CREDENTIALS_FILE, name, "must not be set beside firebaseCredentials"));
        }
        (Some(text), None) => Origin::Text(text),
        (None, Some(path)) => Origin::File(path.into()),
        (None, None) if project.is_some() => Origin::Default,
        (None, None) => {
            let rule = "must be set, or firebaseCredentialsFile, or (for Google's default credentials) projectId";
            return Err(config.error_for(&CREDENTIALS, name, rule));
        }
    };
    Ok(App { name: name.into(), project, credentials })
}

/// Whether a text can be a project's id or number; it becomes a part of a path.
pub(super) fn is_project(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_PROJECT).contains(&id.len()) && id.bytes().all(fits) && !matches!(id, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let all = [("gcm.apps", "Game")].iter().chain(pairs).copied();
        Settings::from_config(&Config::from_pairs(all)).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_are_a_text_or_a_file_or_googles_default() {
        let of = |pairs: &[(&str, &str)]| format!("{:?}", settings(pairs).unwrap().apps[0].credentials);
        assert_eq!(of(&[("gcm.firebaseCredentials.game", "{\"secret\":1}")]), "Text");
        assert_eq!(of(&[("gcm.firebaseCredentialsFile.game", "/k.json")]), "File(\"/k.json\")");
        assert_eq!(of(&[("gcm.projectId.game", "my-game")]), "Default");
        let settings = settings(&[("gcm.projectId.game", "my-game")]).unwrap();
        assert_eq!((settings.authority.as_str(), settings.max_connections), (GOOGLE, 16));
    }

    #[test]
    fn wrong_values_name_key_and_rule_and_never_a_secret() {
        let cases: [&[(&str, &str)]; 7] = [
            &[],
            &[("gcm.apps", "")],
            &[("gcm.firebaseCredentials.game", "s3cret"), ("gcm.firebaseCredentialsFile.game", "f")],
            &[("gcm.projectId.game", "a/b")],
            &[("gcm.projectId.game", "p"), ("gcm.timeout", "9s")],
            &[("gcm.projectId.game", "p"), ("gcm.endpoint", "http://127.0.0.1")],
            &[("gcm.projectId.game", "p"), ("gcm.maxConnections", "0")],
        ];
        let errors = cases.map(|pairs| settings(pairs).unwrap_err()).join("\n");
        assert!(!errors.contains("s3cret"));
        insta::assert_snapshot!(errors);
    }
}
