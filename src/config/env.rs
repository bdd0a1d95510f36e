//! `PUSHER_*`: which variable means which key. Names are made from the keys and compared whole, because a name cannot
//! be taken apart: `_` stands for a dot and is a letter of keys and apps as well.

use std::collections::HashMap;

use super::key::{Catalogue, Key};

pub(super) const PREFIX: &str = "PUSHER_";

/// The variable that sets `name`: `PUSHER_`, upper case, dots to underscores.
pub(super) fn env_name(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('.', "_"))
}

/// The variables of one key for one app: as it is, and with `-` as `_`, since most shells cannot set a name with `-`.
fn env_names_for(pattern: &str, app: &str) -> [String; 2] {
    let name = env_name(&pattern.replace("<app>", app));
    [name.replace('-', "_"), name]
}

/// Whether the variable is one of those that Kubernetes sets for a service called `pusher` in the same namespace.
pub(super) fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_HOST") || rest.starts_with("SERVICE_PORT")
}

/// What a variable stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The key of this (dotted) name.
    Key(String),
    /// `written` is another name of the key `name`.
    Alias { written: String, name: String },
    /// Nothing, for this reason.
    Ignored(&'static str),
}

/// Variable → meaning.
pub(super) struct Names<'a> {
    exact: HashMap<String, Vec<Target>>,
    catalogue: Catalogue<'a>,
}

impl<'a> Names<'a> {
    /// The variables of all names without a placeholder. Enough to read the lists of apps.
    pub(super) fn plain(catalogue: Catalogue<'a>) -> Self {
        let mut exact: HashMap<String, Vec<Target>> = HashMap::new();
        for key in catalogue.keys().filter(|key| !has_placeholder(key.name)) {
            exact.entry(env_name(key.name)).or_default().push(Target::Key(key.name.to_owned()));
        }
        Names { exact, catalogue }
    }

    /// Adds what depends on the apps; `apps` answers with those that a pattern's `<app>` stands for.
    pub(super) fn with_apps(mut self, apps: impl Fn(&str) -> Vec<String>) -> Self {
        for key in self.catalogue.keys().filter(|key| key.name.contains("<app>")) {
            for app in apps(key.name) {
                let name = key.name.replace("<app>", &app);
                self.add(env_names_for(key.name, &app), &Target::Key(name), true);
            }
        }
        for alias in self.catalogue.aliases {
            let expanded = if alias.written.contains("<app>") { apps(alias.name) } else { vec![String::new()] };
            for app in expanded {
                let [written, name] = [alias.written, alias.name].map(|name| name.replace("<app>", &app));
                self.add(env_names_for(alias.written, &app), &Target::Alias { written, name }, false);
            }
        }
        for ignored in self.catalogue.ignored().filter(|one| !one.name.ends_with('*')) {
            let expanded = if ignored.name.contains("<app>") { apps(ignored.name) } else { vec![String::new()] };
            for app in expanded {
                self.add(env_names_for(ignored.name, &app), &Target::Ignored(ignored.because), false);
            }
        }
        self
    }

    /// Two apps whose names differ in `-` and `_` share a variable, and both get its value. A lesser meaning (alias,
    /// ignored) never joins a key's.
    fn add(&mut self, names: [String; 2], target: &Target, shared: bool) {
        for name in names {
            let targets = self.exact.entry(name).or_default();
            if !targets.contains(target) && (shared || targets.is_empty()) {
                targets.push(target.clone());
            }
        }
    }

    /// What `variable` stands for; nothing when it is unknown.
    pub(super) fn find(&self, variable: &str) -> Vec<Target> {
        if let Some(targets) = self.exact.get(variable) {
            return targets.clone();
        }
        let below = |pattern: &str| {
            let prefix = env_name(pattern.strip_suffix('*')?);
            variable.strip_prefix(&prefix).filter(|rest| !rest.is_empty()).map(str::to_owned)
        };
        let longest = self.catalogue.keys().filter(|key| below(key.name).is_some()).max_by_key(|key| key.name.len());
        if let Some((key, rest)) = longest.and_then(|key| Some((key, below(key.name)?))) {
            // librdkafka's names are lower case with dots; none that matters has an underscore.
            let name = format!("{}{}", key.name.trim_end_matches('*'), rest.to_lowercase().replace('_', "."));
            return vec![Target::Key(name)];
        }
        let ignored = self.catalogue.ignored().find(|ignored| below(ignored.name).is_some());
        ignored.map(|ignored| Target::Ignored(ignored.because)).into_iter().collect()
    }

    /// All variables that can be written out, to suggest one for a misspelt one.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(String::as_str)
    }
}

fn has_placeholder(name: &str) -> bool {
    name.contains("<app>") || name.ends_with('*')
}

/// Variables that would set two different keys: a mistake of the rooms that declared them.
pub fn ambiguous<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    keys.filter_map(|key| {
        let other = seen.insert(key.env_name(), key.name)?;
        Some(format!("{other} and {} share {}", key.name, key.env_name()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::{Alias, Ignored};
    use super::*;

    const KEYS: &[Key] = &[
        Key::optional("apns.apps", ""),
        Key::optional("apns.certs.<app>.keyID", ""),
        Key::optional("apns.certs.<app>.authKeyPath", ""),
        Key::new("queue.fetch.min.bytes", "1", ""),
        Key::optional("queue.kafka.*", ""),
        Key::optional("feedback.kafka.topics", ""),
        Key::optional("feedback.kafka.options.*", ""),
    ];
    const ALIASES: &[Alias] = &[Alias { written: "apns.certs.<app>", name: "apns.certs.<app>.authKeyPath" }];
    const IGNORED: &[Ignored] =
        &[Ignored { name: "gcm.*", because: "test" }, Ignored { name: "queue.channelSize", because: "test" }];

    fn names(apps: &[&str]) -> Names<'static> {
        let apps: Vec<String> = apps.iter().map(|app| (*app).to_owned()).collect();
        Names::plain(Catalogue { keys: &[KEYS], aliases: ALIASES, ignored: &[IGNORED], plugins: &[] })
            .with_apps(|_| apps.clone())
    }

    fn key(name: &str) -> Vec<Target> {
        vec![Target::Key(name.into())]
    }

    #[test]
    fn names_are_compared_whole() {
        let names = names(&["my_game", "Other"]);
        assert_eq!(names.find("PUSHER_QUEUE_FETCH_MIN_BYTES"), key("queue.fetch.min.bytes"));
        assert_eq!(names.find("PUSHER_APNS_CERTS_MY_GAME_KEYID"), key("apns.certs.my_game.keyID"));
        assert_eq!(names.find("PUSHER_APNS_CERTS_OTHER_AUTHKEYPATH"), key("apns.certs.Other.authKeyPath"));
        assert_eq!(names.find("PUSHER_APNS_CERTS_THIRD_KEYID"), []);
        assert_eq!(names.find("PUSHER_APNS"), []);
    }

    #[test]
    fn what_passes_through_becomes_a_librdkafka_name() {
        let names = names(&[]);
        assert_eq!(names.find("PUSHER_QUEUE_KAFKA_SASL_USERNAME"), key("queue.kafka.sasl.username"));
        assert_eq!(
            names.find("PUSHER_FEEDBACK_KAFKA_OPTIONS_SSL_CA_LOCATION"),
            key("feedback.kafka.options.ssl.ca.location")
        );
        assert_eq!(names.find("PUSHER_FEEDBACK_KAFKA_TOPICS"), key("feedback.kafka.topics"));
        assert_eq!(names.find("PUSHER_QUEUE_KAFKA_"), []);
    }

    #[test]
    fn aliases_and_dead_names() {
        let names = names(&["game"]);
        let alias = Target::Alias { written: "apns.certs.game".into(), name: "apns.certs.game.authKeyPath".into() };
        assert_eq!(names.find("PUSHER_APNS_CERTS_GAME"), [alias]);
        assert_eq!(names.find("PUSHER_GCM_APPS"), [Target::Ignored("test")]);
        assert_eq!(names.find("PUSHER_QUEUE_CHANNELSIZE"), [Target::Ignored("test")]);
    }

    #[test]
    fn apps_that_differ_in_a_dash_share_the_variable() {
        let names = names(&["my-game", "my_game"]);
        assert_eq!(
            names.find("PUSHER_APNS_CERTS_MY_GAME_KEYID"),
            [Target::Key("apns.certs.my-game.keyID".into()), Target::Key("apns.certs.my_game.keyID".into())]
        );
        assert_eq!(names.find("PUSHER_APNS_CERTS_MY-GAME_KEYID"), key("apns.certs.my-game.keyID"));
    }

    #[test]
    fn service_links_are_recognised() {
        for name in ["PUSHER_PORT", "PUSHER_PORT_8080_TCP_ADDR", "PUSHER_SERVICE_HOST", "PUSHER_SERVICE_PORT_HTTP"] {
            assert!(is_service_link(name), "{name}");
        }
        assert!(!is_service_link("PUSHER_PORTAL"));
        assert!(!is_service_link("PUSHER_SERVICES"));
    }

    proptest! {
        /// Every app, whatever its letters, is reached through its variable, and through no other app's.
        #[test]
        fn every_app_has_its_variable(apps in proptest::collection::btree_set("[a-z][a-z0-9_]{0,9}(-[a-z0-9]{1,4})?", 1..5)) {
            let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
            let names = names(&apps);
            for app in &apps {
                let variable = format!("PUSHER_APNS_CERTS_{}_KEYID", app.to_uppercase().replace('-', "_"));
                let found = names.find(&variable);
                prop_assert!(found.contains(&Target::Key(format!("apns.certs.{app}.keyID"))), "{variable}: {found:?}");
                for target in found {
                    let Target::Key(name) = target else { panic!("{target:?}") };
                    let other = name.trim_start_matches("apns.certs.").trim_end_matches(".keyID").to_owned();
                    prop_assert_eq!(other.replace('-', "_"), app.replace('-', "_"));
                }
            }
        }
    }
}
