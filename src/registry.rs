//! Name → factory of a plug-in. A kind of plug-in keeps its own list; an unknown name is refused with the known ones.

use crate::config::{Config, ConfigError, Key};

/// The plug-ins of one kind: a name as written in the configuration, and what builds it.
#[derive(Debug)]
pub struct Registry<F: 'static> {
    /// The list key that names the plug-ins to build, e.g. `stats.reporters`.
    key: Key,
    entries: &'static [(&'static str, F)],
}

impl<F: Copy + 'static> Registry<F> {
    /// A registry of these entries, chosen by the list under `key`.
    pub const fn new(key: Key, entries: &'static [(&'static str, F)]) -> Self {
        Registry { key, entries }
    }

    /// The names that can be written, in the order of registration.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().map(|(name, _)| *name)
    }

    /// The factories that the configuration names, each once, in its order; none when the key is absent or empty.
    ///
    /// # Errors
    /// A name that is not registered: the error lists those that are.
    pub fn chosen(&self, config: &Config) -> Result<Vec<(&'static str, F)>, ConfigError> {
        let wanted: Vec<String> = config.get(&self.key)?.unwrap_or_default();
        let mut chosen: Vec<(&'static str, F)> = Vec::new();
        for name in &wanted {
            let entry = self.find(name)?;
            if chosen.iter().all(|(have, _)| *have != entry.0) {
                chosen.push(entry);
            }
        }
        Ok(chosen)
    }

    fn find(&self, name: &str) -> Result<(&'static str, F), ConfigError> {
        self.entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim())).copied().ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            ConfigError {
                key: self.key.name.into(),
                value: Some(name.into()),
                rule: format!("is not known; known are: {}", known.join(", ")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::optional("stats.reporters", "which");
    const REGISTRY: Registry<fn() -> u8> = Registry::new(KEY, &[("statsd", || 1), ("other", || 2)]);

    #[test]
    fn builds_what_is_named_in_that_order_and_once() {
        let chosen = REGISTRY.chosen(&Config::from_pairs([("stats.reporters", "other, STATSD other")])).unwrap();
        assert_eq!(chosen.iter().map(|(_, build)| build()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn an_absent_key_names_nothing() {
        assert!(REGISTRY.chosen(&Config::default()).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = REGISTRY.chosen(&Config::from_pairs([("stats.reporters", "statsd grafite")])).unwrap_err();
        insta::assert_snapshot!(error, @r#"stats.reporters: "grafite" is not known; known are: statsd, other"#);
    }
}
