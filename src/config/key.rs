//! The keys that exist: declared by the rooms, collected by the caller in a [`Catalogue`].

/// One known key, declared by the room that reads it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted name as documented, e.g. `queue.sessionTimeout`; a part in angle brackets (`apns.certs.<app>.keyID`) stands
    /// for each configured app; a last part `*` passes whatever is below through (`queue.kafka.*`).
    pub name: &'static str,
    /// The default in the notation of the YAML file; `None`: unset.
    pub default: Option<&'static str>,
    /// Never printed.
    pub secret: bool,
    /// One line for people: what it is, unit, what the default means.
    pub doc: &'static str,
}

impl Key {
    /// A key with a default.
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Key { name, default: Some(default), secret: false, doc }
    }

    /// A key that is unset unless written.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Key { name, default: None, secret: false, doc }
    }

    /// The same key, never printed.
    #[must_use]
    pub const fn secret(self) -> Self {
        Key { secret: true, ..self }
    }

    /// The environment variable that sets this key, with `<APP>` and `*` where the name has them.
    pub fn env_name(&self) -> String {
        super::env::env_name(self.name)
    }
}

/// Another name under which a key is understood, because files and manifests of the original carry it.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The name as it is found.
    pub written: &'static str,
    /// The key that it means; holds `<app>` exactly when `written` does.
    pub name: &'static str,
}

/// A key of the original that is accepted and changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Ignored {
    /// The name, with `<app>` or a last part `*` as in [`Key::name`].
    pub name: &'static str,
    /// Completes "accepted, no effect, because …".
    pub because: &'static str,
}

/// A section that is read when a list names its plug-in, and only then.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// The key of the list (`stats.reporters`).
    pub list: &'static str,
    /// The name in it (`statsd`).
    pub name: &'static str,
    /// The section (`stats.statsd.*`).
    pub section: &'static str,
}

/// Everything that may stand in the file or the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Catalogue<'a> {
    /// The keys of all rooms.
    pub keys: &'a [&'a [Key]],
    /// Tolerated names. A key of the same name goes first.
    pub aliases: &'a [Alias],
    /// Names without effect, room by room. A key or alias of the same name goes first.
    pub ignored: &'a [&'a [Ignored]],
    /// Sections that may be written in vain.
    pub plugins: &'a [Plugin],
}

impl<'a> Catalogue<'a> {
    /// All keys, room by room.
    pub fn keys(&self) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.keys.iter().copied().flatten()
    }

    /// All names without effect, room by room.
    pub fn ignored(&self) -> impl Iterator<Item = &'a Ignored> + use<'a> {
        self.ignored.iter().copied().flatten()
    }

    /// The lists of apps that `<app>` in `pattern` stands for: `<first part>.apps` when that is a key, else every key
    /// that ends in `.apps`.
    pub(super) fn app_lists(&self, pattern: &str) -> Vec<&'a Key> {
        let own = format!("{}.apps", pattern.split('.').next().unwrap_or_default());
        let lists = || self.keys().filter(|key| key.name.rsplit_once('.').is_some_and(|(_, last)| last == "apps"));
        match lists().find(|key| key.name.eq_ignore_ascii_case(&own)) {
            Some(key) => vec![key],
            None => lists().collect(),
        }
    }
}

/// Whether `name` (in lower case) is meant by `pattern`; the part that `<app>` stands for, empty without one.
pub(super) fn matches<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    let pattern = pattern.to_lowercase();
    if let Some(prefix) = pattern.strip_suffix('*') {
        return name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).map(|_| "");
    }
    match pattern.split_once("<app>") {
        Some((before, after)) => {
            // An app's name is a part of a topic's and has no dot.
            let app = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after))?;
            Some(app).filter(|app| !app.is_empty() && !app.contains('.'))
        }
        None => (pattern == name).then_some(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_its_keys() {
        assert_eq!(matches("queue.sessionTimeout", "queue.sessiontimeout"), Some(""));
        assert_eq!(matches("apns.certs.<app>.keyID", "apns.certs.my_game.keyid"), Some("my_game"));
        assert_eq!(matches("dedup.games.<app>", "dedup.games.game.percentage"), None);
        assert_eq!(matches("apns.certs.<app>.keyID", "apns.certs.keyid"), None);
        assert_eq!(matches("queue.kafka.*", "queue.kafka.sasl.username"), Some(""));
        assert_eq!(matches("queue.kafka.*", "queue.kafka."), None);
        assert_eq!(matches("queue.group", "queue.groups"), None);
    }

    #[test]
    fn apps_come_from_the_platforms_own_list_or_from_all() {
        const KEYS: &[Key] = &[Key::optional("apns.apps", ""), Key::optional("gcm.apps", ""), Key::optional("x", "")];
        let catalogue = Catalogue { keys: &[KEYS], ..Catalogue::default() };
        let names = |pattern| catalogue.app_lists(pattern).iter().map(|key| key.name).collect::<Vec<_>>();
        assert_eq!(names("apns.certs.<app>.keyID"), ["apns.apps"]);
        assert_eq!(names("dedup.games.<app>.percentage"), ["apns.apps", "gcm.apps"]);
    }
}
