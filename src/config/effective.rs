//! The configuration as it is in effect: every known key with its value and where that came from, for people.

use std::collections::BTreeMap;

use super::key::{Catalogue, Key};
use super::value::Value;
use super::{Config, Source};

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Dotted, with the app's name where the key has one per app.
    pub name: String,
    /// As written or by default, in one line; `None`: unset.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
}

/// What stands for a secret that is set.
const HIDDEN: &str = "(secret)";
/// Parts of the names of librdkafka's options whose values are secrets.
const SECRET_OPTIONS: &[&str] = &["password", "secret", ".pem", "oauthbearer.config", "ssl.key", "token"];

impl Config {
    /// All keys of the catalogue, in its order; those per app once for each app, what passes through as far as written.
    /// Secrets do not show.
    pub fn rows(&self, catalogue: Catalogue<'_>) -> Vec<Row> {
        catalogue.keys().flat_map(|key| self.rows_of(key, catalogue)).collect()
    }

    /// Names of what another configuration says differently, in order. No values: they may be secret.
    pub fn differences<'a>(&'a self, other: &'a Config) -> Vec<&'a str> {
        let all: BTreeMap<_, _> = self.values.iter().chain(&other.values).collect();
        let of = |config: &'a Config, name: &String| config.values.get(name).map(|written| &written.value);
        let differ = all.into_iter().filter(|(name, _)| of(self, name) != of(other, name));
        differ.map(|(_, written)| written.name.as_str()).collect()
    }

    fn rows_of(&self, key: &Key, catalogue: Catalogue<'_>) -> Vec<Row> {
        if let Some(prefix) = key.name.strip_suffix('*') {
            let below = self.below(key);
            return below.keys().map(|name| self.row(key, format!("{prefix}{name}"))).collect();
        }
        if !key.name.contains("<app>") {
            return vec![self.row(key, key.name.to_owned())];
        }
        let mut apps: Vec<String> = Vec::new();
        for list in catalogue.app_lists(key.name) {
            let listed: Vec<String> = self.get(list).ok().flatten().unwrap_or_default();
            apps.extend(listed.into_iter().filter(|app| !apps.contains(app)).collect::<Vec<_>>());
        }
        apps.iter().map(|app| self.row(key, key.name.replace("<app>", app))).collect()
    }

    fn row(&self, key: &Key, name: String) -> Row {
        let source = self.place(&name).unwrap_or(Source::Default);
        let secret = key.secret || (key.name.ends_with('*') && is_secret_option(&name));
        let value = self.effective(key, &name);
        let shown = |value: Value| if secret { HIDDEN.to_owned() } else { one_line(&value.text()) };
        Row { name, value: value.map(shown), source }
    }
}

fn is_secret_option(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_OPTIONS.iter().any(|part| name.contains(part))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key::optional("apns.apps", ""),
        Key::optional("apns.certs.<app>.keyID", ""),
        Key::optional("pg.pass", "").secret(),
        Key::new("log.level", "info", ""),
        Key::optional("queue.kafka.*", ""),
        Key::optional("sentry.url", "").secret(),
    ];

    #[test]
    fn differences_are_named_and_not_shown() {
        let one = Config::from_pairs([("pg.pass", "a"), ("log.level", "info"), ("apns.apps", "game")]);
        let other = Config::from_pairs([("pg.pass", "b"), ("LOG.level", "info"), ("queue.Group", "g")]);
        assert_eq!(one.differences(&other), ["apns.apps", "pg.pass", "queue.Group"]);
        assert!(one.differences(&one.clone()).is_empty());
    }

    #[test]
    fn every_key_has_its_row_and_no_secret_shows() {
        let pairs = [
            ("apns.apps", "Game, other"),
            ("apns.certs.game.keyid", "K1"),
            ("pg.pass", "hunter2"),
            ("queue.kafka.sasl.password", "hunter2"),
            ("queue.kafka.sasl.username", "me"),
        ];
        let rows = Config::from_pairs(pairs).rows(Catalogue { keys: &[KEYS], ..Catalogue::default() });
        let shown: Vec<_> = rows
            .iter()
            .map(|row| format!("{}={} ({})", row.name, row.value.as_deref().unwrap_or("-"), row.source))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
apns.apps=Game, other (given)
apns.certs.Game.keyID=K1 (given)
apns.certs.other.keyID=- (default)
pg.pass=(secret) (given)
log.level=info (default)
queue.kafka.sasl.password=(secret) (given)
queue.kafka.sasl.username=me (given)
sentry.url=- (default)
");
    }
}
