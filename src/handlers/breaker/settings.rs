//! The section `breaker`.

use std::time::Duration;

use crate::config::{Config, ConfigError, Key};

const MIN_FAILURES: Key = Key::new(
    "breaker.minFailures",
    "20",
    "failed attempts of an app below which its breaker never opens; ten refusals for single devices weigh as much as one",
);
const PATIENCE: Key = Key::new(
    "breaker.patience",
    "1s",
    "how long nothing of an app may have succeeded before its breaker opens, 10ms to 5m",
);
const FAILURE_SHARE: Key = Key::new(
    "breaker.failureShare",
    "0.5",
    "share of an app's attempts within breaker.window from which its breaker opens although some succeed, 0.1 to 1",
);
const WINDOW: Key = Key::new("breaker.window", "10s", "what breaker.failureShare is taken of, 100ms to 10m");
const PROBE_INTERVAL: Key = Key::new(
    "breaker.probeInterval",
    "1s",
    "pause before the first probe of an open breaker; each further one is twice as long, 10ms to 10m",
);
const MAX_PROBE_INTERVAL: Key = Key::new(
    "breaker.maxProbeInterval",
    "3s",
    "longest pause between two probes; a provider's Retry-After goes before it",
);
const RAMP: Key = Key::optional(
    "breaker.ramp",
    "time from the first good probe to full speed, 10ms to 1h; unset: 3s for APNs, 60s for FCM, as Google asks",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[MIN_FAILURES, PATIENCE, FAILURE_SHARE, WINDOW, PROBE_INTERVAL, MAX_PROBE_INTERVAL, RAMP];

/// When a breaker opens, probes and closes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Failures in a row, or within the window, that it takes to open.
    pub min_failures: u64,
    /// How long nothing may have succeeded.
    pub patience: Duration,
    /// Share of failures within the window.
    pub failure_share: f64,
    /// The window.
    pub window: Duration,
    /// First pause before a probe.
    pub probe_interval: Duration,
    /// Longest one.
    pub max_probe_interval: Duration,
    /// From the first good probe to full speed.
    pub ramp: Duration,
}

impl Settings {
    /// Reads [`KEYS`]; `ramp` is the provider's own.
    pub fn from_config(config: &Config, ramp: Duration) -> Result<Self, ConfigError> {
        let min_failures: u64 = config.require(&MIN_FAILURES)?;
        if min_failures == 0 {
            return Err(config.error(&MIN_FAILURES, "must be at least 1"));
        }
        let failure_share: f64 = config.require(&FAILURE_SHARE)?;
        if !(0.1..=1.0).contains(&failure_share) {
            return Err(config.error(&FAILURE_SHARE, "must be from 0.1 to 1"));
        }
        let probe_interval = duration(config, &PROBE_INTERVAL, 10, 600)?;
        let max_probe_interval = duration(config, &MAX_PROBE_INTERVAL, 10, 3600)?;
        if max_probe_interval < probe_interval {
            return Err(config.error(&MAX_PROBE_INTERVAL, "must not be shorter than breaker.probeInterval"));
        }
        Ok(Settings {
            min_failures,
            patience: duration(config, &PATIENCE, 10, 300)?,
            failure_share,
            window: duration(config, &WINDOW, 100, 600)?,
            probe_interval,
            max_probe_interval,
            ramp: if config.get::<Duration>(&RAMP)?.is_some() { duration(config, &RAMP, 10, 3600)? } else { ramp },
        })
    }

    /// The pause before a probe after `tries` that failed.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let factor = 1_u32.checked_shl(tries).unwrap_or(u32::MAX);
        self.probe_interval.saturating_mul(factor).min(self.max_probe_interval)
    }

    /// One doubling of the ramp, of an app that may have `full` messages in flight.
    pub(super) fn step(&self, full: usize) -> Duration {
        self.ramp / full.max(2).ilog2()
    }
}

fn duration(config: &Config, key: &Key, least_ms: u64, most_s: u64) -> Result<Duration, ConfigError> {
    let (least, most) = (Duration::from_millis(least_ms), Duration::from_secs(most_s));
    let duration: Duration = config.require(key)?;
    let rule = || format!("must be from {least:?} to {most:?}");
    if (least..=most).contains(&duration) { Ok(duration) } else { Err(config.error(key, rule())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_RAMP: Duration = Duration::from_mins(1);

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_config(&Config::from_pairs(pairs.iter().copied()), OWN_RAMP).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_has_a_default_and_the_ramp_is_the_providers_own() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.min_failures, settings.ramp), (20, OWN_RAMP));
        assert_eq!(read(&[("breaker.ramp", "5s")]).unwrap().ramp, Duration::from_secs(5));
        assert_eq!([0, 1, 2, 60].map(|tries| settings.pause(tries).as_secs()), [1, 2, 3, 3]);
        assert_eq!(settings.step(10_000), OWN_RAMP / 13);
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        let error = |key, value| read(&[(key, value)]).unwrap_err();
        insta::assert_snapshot!(error("breaker.minFailures", "0"), @r#"breaker.minFailures: "0" must be at least 1"#);
        insta::assert_snapshot!(error("breaker.failureShare", "0"), @r#"breaker.failureShare: "0" must be from 0.1 to 1"#);
        insta::assert_snapshot!(error("breaker.patience", "1h"), @r#"breaker.patience: "1h" must be from 10ms to 300s"#);
        insta::assert_snapshot!(error("breaker.ramp", "1ms"), @r#"breaker.ramp: "1ms" must be from 10ms to 3600s"#);
        insta::assert_snapshot!(
            error("breaker.maxProbeInterval", "500ms"),
            @r#"breaker.maxProbeInterval: "500ms" must not be shorter than breaker.probeInterval"#
        );
    }
}
