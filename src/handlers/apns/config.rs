//! The keys of `apns.*` and what they mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Authority;

use crate::admission::PlatformKeys;
use crate::config::{Config, ConfigError, Ignored, Key};
use crate::handlers::retry::Policy;
use crate::handlers::settings::{RetryKeys, app_names, duration, endpoint, number};

const APPS: Key = Key::optional("apns.apps", "apps to push for, separated by commas; each needs apns.certs.<app>.*");
const AUTH_KEY_PATH: Key = Key::optional("apns.certs.<app>.authKeyPath", "file of the team's signing key (.p8)");
const KEY_ID: Key = Key::optional("apns.certs.<app>.keyID", "the signing key's id, 10 characters");
const TEAM_ID: Key = Key::optional("apns.certs.<app>.teamID", "the team's id, 10 characters");
const TOPIC: Key = Key::optional("apns.certs.<app>.topic", "the app's bundle id");
const ENDPOINT: Key =
    Key::optional("apns.endpoint", "https://host:port instead of Apple's, for simulators; unset: by the flag -p");
const CA_FILE: Key = Key::optional("apns.caFile", "PEM file of certificates to trust beside the system's");
const MAX_CONNECTIONS: Key = Key::new(
    "apns.maxConnections",
    "16",
    "most connections of this process per host and signing key; each sender thread in use has one at least",
);
const TIMEOUT: Key = Key::new("apns.timeout", "20s", "longest wait for the answer to one request");
const CONNECT_TIMEOUT: Key = Key::new("apns.connectTimeout", "5s", "longest wait for a connection and its handshake");
const RETRY: RetryKeys = RetryKeys {
    interval: Key::optional(
        "apns.retry.interval",
        "ceiling of the first pause before a push is sent again (a bare number counts seconds); unset: by the kind of failure",
    ),
    attempts: Key::optional(
        "apns.retry.maxRetryAttempts",
        "attempts that failed while others of the app succeeded, after which a push is given up; unset: by the kind of failure",
    ),
    time: Key::optional(
        "apns.retry.maxRetryTime",
        "the same as time that these attempts and the pauses after them took, but for what the provider asked to wait; unset: by the kind of failure",
    ),
};

/// The keys of rate limit and dedup.
pub(super) const ADMISSION: PlatformKeys = PlatformKeys::new("apns.rateLimit.rpm", "apns.dedup.ttl");

/// The keys that this room declares.
pub const KEYS: &[Key] = &[
    APPS,
    AUTH_KEY_PATH,
    KEY_ID,
    TEAM_ID,
    TOPIC,
    ENDPOINT,
    CA_FILE,
    MAX_CONNECTIONS,
    TIMEOUT,
    CONNECT_TIMEOUT,
    RETRY.interval,
    RETRY.attempts,
    RETRY.time,
    ADMISSION.rpm,
    ADMISSION.dedup_ttl,
];

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[
    Ignored {
        name: "apns.concurrentWorkers",
        because: "requests share connections as streams: maxInFlight and apns.maxConnections bound them",
    },
    Ignored { name: "apns.connectionPoolSize", because: "connections are opened by load, up to apns.maxConnections" },
    Ignored {
        name: "apns.pushQueueSize",
        because: "there is no queue between consuming and sending: maxInFlight bounds what is taken",
    },
    Ignored {
        name: "apns.responseChannelSize",
        because: "each push waits for its own answer: there is no channel of answers",
    },
    Ignored { name: "apns.logStatsInterval", because: "statistics are metrics, not log lines" },
];

/// Apple's host for apps from the store, and the original's for development builds.
const PRODUCTION: &str = "api.push.apple.com:443";
const DEVELOPMENT: &str = "api.development.push.apple.com:443";

/// Shortest wait that makes sense.
const SHORTEST: Duration = Duration::from_millis(100);

/// Everything that is configured for APNs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The apps, in the configuration's order and case.
    pub apps: Vec<App>,
    /// Host and port.
    pub authority: Authority,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Most connections of the process per host and signing key.
    pub max_connections: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// When to try again.
    pub retry: Policy,
}

/// One app and its credentials.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name, as in topics.
    pub name: Arc<str>,
    /// The .p8 file.
    pub auth_key_path: PathBuf,
    /// The key's id.
    pub key_id: String,
    /// The team's id.
    pub team_id: String,
    /// The bundle id.
    pub topic: HeaderValue,
}

impl Settings {
    /// Reads and checks the keys. `production` is the flag `-p`.
    pub fn from_config(config: &Config, production: bool) -> Result<Settings, ConfigError> {
        let apps = apps(config)?;
        let endpoint = endpoint(config, &ENDPOINT)?;
        if endpoint.is_none() {
            apps.iter().try_for_each(|app| ids_of_apple(config, app))?;
        }
        let apples = Authority::from_static(if production { PRODUCTION } else { DEVELOPMENT });
        Ok(Settings {
            apps,
            authority: endpoint.unwrap_or(apples),
            ca_file: config.get::<String>(&CA_FILE)?.map(PathBuf::from),
            max_connections: number(config, &MAX_CONNECTIONS, 1..=1000)?,
            timeout: duration(config, &TIMEOUT, SHORTEST)?,
            connect_timeout: duration(config, &CONNECT_TIMEOUT, SHORTEST)?,
            retry: RETRY.read(config)?,
        })
    }
}

fn apps(config: &Config) -> Result<Vec<App>, ConfigError> {
    app_names(config, &APPS)?.iter().map(|name| app(config, name)).collect()
}

fn app(config: &Config, name: &str) -> Result<App, ConfigError> {
    let given = |key: &Key| {
        config.get_for::<String>(key, name)?.map(|text| text.trim().to_owned()).ok_or_else(|| ConfigError {
            key: key.name.replace("<app>", name),
            value: None,
            rule: format!("must be set: app {name} of apns.apps needs authKeyPath, keyID, teamID and topic"),
        })
    };
    let [auth_key_path, key_id, team_id, topic] =
        [given(&AUTH_KEY_PATH)?, given(&KEY_ID)?, given(&TEAM_ID)?, given(&TOPIC)?];
    let printable = topic.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::from_str(&topic).ok().filter(|_| printable).ok_or_else(|| ConfigError {
        key: TOPIC.name.replace("<app>", name),
        value: Some(topic),
        rule: "must be a bundle id such as com.example.game".into(),
    })?;
    Ok(App { name: name.into(), auth_key_path: auth_key_path.into(), key_id, team_id, topic: value })
}

/// Apple would refuse every push with other ids; a stand-in may have its own.
fn ids_of_apple(config: &Config, app: &App) -> Result<(), ConfigError> {
    for (key, id) in [(&KEY_ID, &app.key_id), (&TEAM_ID, &app.team_id)] {
        if id.len() != 10 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let rule = "must be the 10 letters and digits that Apple shows in the developer account (Keys, Membership)";
            return Err(config.error_for(key, &app.name, rule));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTS: [(&str, &str); 5] = [
        ("apns.apps", "Game"),
        ("apns.certs.game.authKeyPath", "/keys/game.p8"),
        ("apns.certs.game.keyID", "KEY1234567"),
        ("apns.certs.game.teamID", "TEAM123456"),
        ("apns.certs.game.topic", "com.example.game"),
    ];

    fn settings(changes: &[(&str, &str)]) -> Result<Settings, String> {
        let pairs = CERTS.iter().chain(changes).copied();
        Settings::from_config(&Config::from_pairs(pairs), false).map_err(|error| error.to_string())
    }

    #[test]
    fn four_keys_per_app_are_enough() {
        let settings = settings(&[]).unwrap();
        assert_eq!(&*settings.apps[0].name, "Game");
        assert_eq!(settings.authority, "api.development.push.apple.com:443");
        assert_eq!((settings.max_connections, settings.retry.first), (16, None));
        let production = Settings::from_config(&Config::from_pairs(CERTS), true).unwrap();
        assert_eq!(production.authority, "api.push.apple.com:443");
    }

    #[test]
    fn the_originals_retry_interval_is_the_first_ceiling() {
        assert_eq!(settings(&[("apns.retry.interval", "1s")]).unwrap().retry.first, Some(Duration::from_secs(1)));
        assert_eq!(settings(&[("apns.retry.interval", "0")]).unwrap().retry.first, None);
        let budget =
            settings(&[("apns.retry.maxRetryAttempts", "3"), ("apns.retry.maxRetryTime", "10m")]).unwrap().retry;
        assert_eq!((budget.attempts, budget.time), (Some(3), Some(Duration::from_mins(10))));
    }

    #[test]
    fn an_endpoint_replaces_apples_hosts() {
        assert_eq!(settings(&[("apns.endpoint", "https://127.0.0.1:8443")]).unwrap().authority, "127.0.0.1:8443");
        assert_eq!(settings(&[("apns.endpoint", "https://[::1]:8443/")]).unwrap().authority, "[::1]:8443");
        assert_eq!(settings(&[("apns.endpoint", "https://sim")]).unwrap().authority, "sim:443");
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        let cases: [&[(&str, &str)]; 14] = [
            &[("apns.apps", "")],
            &[("apns.apps", "game, other")],
            &[("apns.apps", "game,GAME")],
            &[("apns.apps", "game.one")],
            &[("apns.certs.game.keyID", " ")],
            &[("apns.certs.game.keyID", "KEY")],
            &[("apns.certs.game.teamID", "com.example")],
            &[("apns.certs.game.topic", "com example")],
            &[("apns.endpoint", "http://127.0.0.1:1")],
            &[("apns.endpoint", "https://host/path")],
            &[("apns.maxConnections", "0")],
            &[("apns.timeout", "1ms")],
            &[("apns.retry.maxRetryAttempts", "0")],
            &[("apns.retry.maxRetryTime", "1ms")],
        ];
        let errors: Vec<String> = cases.map(|changes| settings(changes).unwrap_err()).into();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
