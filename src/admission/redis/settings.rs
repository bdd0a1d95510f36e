//! The keys of a Redis server, twice: for the limit and for dedup, as in the original.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::config::{Config, ConfigError, Key};
use crate::reload::Watched;
use crate::tls::Trust;

/// The keys of one use.
pub(super) struct Section {
    host: Key,
    port: Key,
    password: Key,
    timeout: Key,
    ca_file: Key,
    tls_disabled: Key,
}

macro_rules! section {
    ($name:literal) => {
        Section {
            host: Key::new(concat!($name, ".redis.host"), "localhost", "the Redis server"),
            port: Key::new(concat!($name, ".redis.port"), "6379", "its port"),
            password: Key::optional(concat!($name, ".redis.password"), "its password; unset: none").secret(),
            timeout: Key::new(
                concat!($name, ".redis.timeout"),
                "50ms",
                "how long a push waits for its answer, 1ms to 10s; it goes on without one",
            ),
            ca_file: Key::optional(
                concat!($name, ".redis.caFile"),
                "PEM file of certificates to trust beside the system's",
            ),
            tls_disabled: Key::new(concat!($name, ".tls.disabled"), "false", "true: without TLS"),
        }
    };
}

pub(super) const RATE_LIMITER: Section = section!("rateLimiter");
pub(super) const DEDUP: Section = section!("dedup");

/// The keys that this store reads.
pub const KEYS: &[Key] = &[
    RATE_LIMITER.host,
    RATE_LIMITER.port,
    RATE_LIMITER.password,
    RATE_LIMITER.timeout,
    RATE_LIMITER.ca_file,
    RATE_LIMITER.tls_disabled,
    DEDUP.host,
    DEDUP.port,
    DEDUP.password,
    DEDUP.timeout,
    DEDUP.ca_file,
    DEDUP.tls_disabled,
];

/// One server.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) password: Option<String>,
    /// How long a push waits.
    pub(super) timeout: Duration,
    /// With the name that the server's certificate must carry; `None`: in the clear.
    pub(super) tls: Option<(Trust, ServerName<'static>)>,
    ca_file: Option<PathBuf>,
    /// The key that names it.
    ca_key: &'static str,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let of = |one: &Self| {
            (one.host.clone(), one.port, one.password.clone(), one.timeout, one.tls.is_some(), one.ca_file.clone())
        };
        of(self) == of(other)
    }
}

impl std::fmt::Debug for Settings {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address())
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads and checks a section. Connects to nothing.
    pub(super) fn from_config(config: &Config, keys: &Section) -> Result<Self, ConfigError> {
        let host: String = config.require(&keys.host)?;
        let host = host.trim().trim_matches(['[', ']']).to_owned();
        let timeout = config.millis(&keys.timeout)?.unwrap_or_default();
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&timeout) {
            return Err(config.error(&keys.timeout, "must be from 1ms to 10s"));
        }
        let ca_file = config.get::<String>(&keys.ca_file)?.map(PathBuf::from);
        let tls = if config.require(&keys.tls_disabled)? {
            None
        } else {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| config.error(&keys.host, "must be a host's name or address, without a port"))?;
            let trust = Trust::read(ca_file.as_deref(), &[])
                .map_err(|error| config.error(&keys.ca_file, format!("is of no use: {error}")))?;
            Some((trust, name))
        };
        let (port, password) = (config.require(&keys.port)?, config.get(&keys.password)?);
        Ok(Settings { host, port, password, timeout, tls, ca_file, ca_key: keys.ca_file.name })
    }

    /// The CA file, when there is one: new connections trust what it holds.
    pub(super) fn watched(&self) -> Option<Watched> {
        self.tls.as_ref().and_then(|(trust, _)| trust.watched(self.ca_key, Vec::new()))
    }

    /// Host and port, for logs.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_config(&Config::from_pairs(pairs.iter().copied()), &DEDUP).map_err(|error| error.to_string())
    }

    #[test]
    fn tls_is_on_unless_disabled_and_the_password_stays_secret() {
        assert!(read(&[]).unwrap().tls.is_some());
        let plain = read(&[("dedup.tls.disabled", "true"), ("dedup.redis.password", "s3cret")]).unwrap();
        assert!(plain.tls.is_none() && plain.password.as_deref() == Some("s3cret"));
        assert_eq!(format!("{plain:?}"), r#"Settings { address: "localhost:6379", tls: false, .. }"#);
    }

    #[test]
    fn both_uses_share_a_server_that_is_the_same_in_everything() {
        let server = |more: &[(&'static str, &'static str)]| {
            let plain = [("rateLimiter.tls.disabled", "true"), ("dedup.tls.disabled", "true")];
            let config = Config::from_pairs(plain.into_iter().chain(more.iter().copied()));
            let [limit, dedup] = [&RATE_LIMITER, &DEDUP].map(|keys| Settings::from_config(&config, keys).unwrap());
            limit == dedup
        };
        assert!(server(&[]));
        assert!(!server(&[("dedup.redis.port", "6380")]));
        assert!(!server(&[("dedup.redis.password", "p")]));
        assert!(!server(&[("dedup.redis.timeout", "1s")]));
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        let cases: [&[(&str, &str)]; 5] = [
            &[("dedup.redis.port", "redis")],
            &[("dedup.redis.timeout", "1m")],
            &[("dedup.redis.host", "localhost:6379")],
            &[("dedup.redis.caFile", "/nowhere/ca.pem")],
            &[("dedup.tls.disabled", "perhaps")],
        ];
        insta::assert_snapshot!(cases.map(|pairs| read(pairs).unwrap_err()).join("\n"));
    }
}
