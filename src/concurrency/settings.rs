//! How the apps of a process share it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, ConfigError, Key};

const WEIGHT: Key = Key::optional(
    "weights.<app>",
    "the app's part of the process, 1 to 100, while several apps have more than it can send; unset: 1, as for every other",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[WEIGHT];

/// Weights of these apps.
pub fn weights(config: &Config, apps: &[Arc<str>]) -> Result<HashMap<Arc<str>, u32>, ConfigError> {
    let weight = |app: &Arc<str>| {
        let weight = config.get_for::<u32>(&WEIGHT, app)?.unwrap_or(1);
        let wrong = || config.error_for(&WEIGHT, app, "must be a whole number from 1 to 100");
        (1..=100).contains(&weight).then(|| (app.clone(), weight)).ok_or_else(wrong)
    };
    apps.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_weighs_1_unless_it_is_told_otherwise() {
        let read = |value| {
            let config = Config::from_pairs([("weights.other", value)]);
            weights(&config, &["game".into(), "other".into()]).map_err(|error| error.to_string())
        };
        assert_eq!(read("3"), Ok(HashMap::from([("game".into(), 1), ("other".into(), 3)])));
        insta::assert_snapshot!(read("0").unwrap_err(), @r#"weights.other: "0" must be a whole number from 1 to 100"#);
        assert!(read("101").is_err() && read("heavy").is_err());
    }
}
