//! File, then environment, into one [`Config`]; what is odd about them becomes [`Notice`]s, which never stop a start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::env::{self, Names, Target};
use super::key::{Catalogue, Plugin, matches};
use super::nearest::nearest;
use super::notice::Notice;
use super::value::{FromValue as _, Value};
use super::{Config, Source, Written, yaml};

/// Which file to read.
#[derive(Clone, Copy, Debug)]
pub enum ConfigFile<'a> {
    /// Asked for by name: must be there.
    Explicit(&'a Path),
    /// The usual place: may be absent when the environment says enough.
    Default(&'a Path),
}

/// The sources cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened or read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable {
        /// Its path as given.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no YAML, or YAML of another shape.
    #[error("{} line {line}: {what}", path.display())]
    Malformed {
        /// Its path as given.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// A `PUSHER_*` variable's value is not UTF-8.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(String),
}

/// A configuration and what there is to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// For the log, as soon as there is one.
    pub notices: Vec<Notice>,
}

type Values = BTreeMap<String, Written>;

/// Reads `file` and those variables of `env` that begin with `PUSHER_`.
pub fn load(
    file: ConfigFile<'_>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    catalogue: Catalogue<'_>,
) -> Result<Loaded, LoadError> {
    let mut notices = Vec::new();
    let in_file = read_file(file, &mut notices)?;
    let variables = read_env(env)?;

    let plain = Names::plain(catalogue);
    let mut from_env = Values::new();
    for (variable, text) in &variables {
        for target in plain.find(variable) {
            if let Target::Key(name) = target {
                from_env.insert(name.to_lowercase(), by_variable(variable, text, name));
            }
        }
    }
    let listed = from_env.clone(); // the lists of apps, as far as the environment has them
    let apps = |pattern: &str| apps_of(pattern, catalogue, &in_file, &listed);
    let mut values = resolve_file(&in_file, catalogue, &apps, &mut notices);
    let names = plain.with_apps(apps);
    for (variable, text) in &variables {
        let targets = names.find(variable);
        if targets.is_empty() && !env::is_service_link(variable) {
            let nearest = nearest(variable, names.all().map(str::to_owned));
            notices.push(Notice::Unknown { name: variable.clone(), line: None, nearest });
        }
        for target in targets {
            match target {
                Target::Key(name) => {
                    from_env.insert(name.to_lowercase(), by_variable(variable, text, name));
                }
                Target::Alias { name, .. } => {
                    notices.push(Notice::Renamed { written: variable.clone(), name: name.clone() });
                    from_env.entry(name.to_lowercase()).or_insert_with(|| by_variable(variable, text, name));
                }
                Target::Ignored(because) => {
                    notices.push(Notice::NoEffect { names: vec![variable.clone()], because: because.to_owned() });
                }
            }
        }
    }
    values.extend(from_env);
    notices.extend(in_vain(&values, catalogue));
    Ok(Loaded { config: Config { values }, notices: Notice::gathered(notices) })
}

fn by_variable(variable: &str, text: &str, name: String) -> Written {
    let source = Source::Environment { variable: variable.to_owned() };
    Written { name, value: Value::Scalar(text.to_owned()), source }
}

fn read_file(file: ConfigFile<'_>, notices: &mut Vec<Notice>) -> Result<Values, LoadError> {
    let (ConfigFile::Explicit(path) | ConfigFile::Default(path)) = file;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && matches!(file, ConfigFile::Default(_)) => {
            notices.push(Notice::NoFile(path.to_owned()));
            return Ok(Values::new());
        }
        Err(error) => return Err(LoadError::Unreadable { path: path.to_owned(), error }),
    };
    let entries = yaml::parse(&text).map_err(|error| LoadError::Malformed {
        path: path.to_owned(),
        line: error.line,
        what: error.what,
    })?;
    let written = |entry: yaml::Entry| {
        let source = Source::File { path: path.to_owned(), line: entry.line };
        (entry.name.to_lowercase(), Written { name: entry.name, value: entry.value, source })
    };
    Ok(entries.into_iter().map(written).collect())
}

/// The variables that concern us, in order of their names. An empty one counts as absent, as with the original (viper).
fn read_env(env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<BTreeMap<String, String>, LoadError> {
    let ours = env.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(env::PREFIX))?;
        Some(match value.into_string() {
            Ok(text) => Ok((name, text)),
            Err(_) => Err(LoadError::NotText(name)),
        })
    });
    ours.filter(|one| !matches!(one, Ok((_, text)) if text.trim().is_empty())).collect()
}

/// The apps that `<app>` in `pattern` stands for, as written in the environment or else the file.
fn apps_of(pattern: &str, catalogue: Catalogue<'_>, in_file: &Values, by_env: &Values) -> Vec<String> {
    let mut apps = Vec::new();
    for list in catalogue.app_lists(pattern) {
        let name = list.name.to_lowercase();
        let written = by_env.get(&name).or_else(|| in_file.get(&name));
        for app in written.and_then(|written| Vec::from_value(&written.value).ok()).unwrap_or_default() {
            if !apps.contains(&app) {
                apps.push(app);
            }
        }
    }
    apps
}

/// Gives every entry of the file its meaning: kept, moved to the name it is an alias of, or said to be without effect.
fn resolve_file(
    in_file: &Values,
    catalogue: Catalogue<'_>,
    apps: &dyn Fn(&str) -> Vec<String>,
    notices: &mut Vec<Notice>,
) -> Values {
    let is_app = |pattern: &str, app: &str| app.is_empty() || apps(pattern).iter().any(|one| one.to_lowercase() == app);
    let mut values = Values::new();
    let mut aliased = Values::new();
    for (folded, written) in in_file {
        let line = written.source.line();
        let found = catalogue.keys().find_map(|key| Some((key, matches(key.name, folded)?)));
        if let Some((key, app)) = found {
            if !is_app(key.name, app) {
                let lists = catalogue.app_lists(key.name).iter().map(|list| list.name).collect::<Vec<_>>().join(" or ");
                notices.push(Notice::UnknownApp { name: written.name.clone(), line, lists });
            }
            values.insert(folded.clone(), written.clone());
            continue;
        }
        let meant = catalogue.aliases.iter().find_map(|alias| {
            let app = matches(alias.written, folded).filter(|app| is_app(alias.name, app))?;
            Some(alias.name.replace("<app>", app))
        });
        if let Some(name) = meant {
            notices.push(Notice::Renamed { written: written.name.clone(), name: name.clone() });
            aliased.insert(name.to_lowercase(), Written { name, ..written.clone() });
        } else if let Some(one) = catalogue.ignored().find(|one| matches(one.name, folded).is_some()) {
            notices.push(Notice::NoEffect { names: vec![written.name.clone()], because: one.because.to_owned() });
        } else {
            let candidates = catalogue.keys().flat_map(|key| {
                if key.name.contains("<app>") {
                    apps(key.name).iter().map(|app| key.name.replace("<app>", app)).collect()
                } else {
                    vec![key.name.to_owned()]
                }
            });
            let nearest = nearest(&written.name, candidates);
            notices.push(Notice::Unknown { name: written.name.clone(), line, nearest });
        }
    }
    for (folded, written) in aliased {
        values.entry(folded).or_insert(written);
    }
    values
}

/// What is written for plug-ins that no list names.
fn in_vain(values: &Values, catalogue: Catalogue<'_>) -> Vec<Notice> {
    let named = |plugin: &&Plugin| {
        let written = values.get(&plugin.list.to_lowercase()).map(|list| list.value.clone());
        let default = || catalogue.keys().find(|key| key.name == plugin.list).and_then(|key| key.default);
        let list = written.or_else(|| default().map(|text| Value::Scalar(text.to_owned())));
        let names: Vec<String> = list.and_then(|list| Vec::from_value(&list).ok()).unwrap_or_default();
        names.iter().any(|name| name.eq_ignore_ascii_case(plugin.name))
    };
    let as_written = |written: &Written| match &written.source {
        Source::Environment { variable } => variable.clone(),
        _ => written.name.clone(),
    };
    let of = |plugin: &Plugin| {
        let below = values.iter().filter(|(name, _)| matches(plugin.section, name).is_some());
        let names: Vec<_> = below.map(|(_, written)| as_written(written)).collect();
        (!names.is_empty())
            .then(|| Notice::NoEffect { names, because: format!("{} does not name {}", plugin.list, plugin.name) })
    };
    catalogue.plugins.iter().filter(|plugin| !named(plugin)).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{Alias, Ignored, Key};
    use super::*;

    const APPS: Key = Key::optional("apns.apps", "");
    const KEY_ID: Key = Key::optional("apns.certs.<app>.keyID", "");
    const KEY_PATH: Key = Key::optional("apns.certs.<app>.authKeyPath", "");
    const TIMEOUT: Key = Key::new("queue.sessionTimeout", "6000", "");
    const KAFKA: Key = Key::optional("queue.kafka.*", "");
    const GRACE: Key = Key::new("gracefulShutdownTimeout", "10", "");
    const REPORTERS: Key = Key::optional("reporters", "");
    const STATSD: Key = Key::optional("statsd.host", "");
    const KEYS: &[Key] = &[APPS, KEY_ID, KEY_PATH, TIMEOUT, KAFKA, GRACE, REPORTERS, STATSD];
    const CATALOGUE: Catalogue<'static> = Catalogue {
        keys: &[KEYS],
        aliases: &[
            Alias { written: "apns.certs.<app>", name: "apns.certs.<app>.authKeyPath" },
            Alias { written: "gracefullShutdownTimeout", name: "gracefulShutdownTimeout" },
        ],
        ignored: &[
            &[Ignored { name: "gcm.*", because: "this is a test" }],
            &[
                Ignored { name: "apns.pushQueueSize", because: "the pool is sized by load" },
                Ignored { name: "apns.responseChannelSize", because: "the pool is sized by load" },
            ],
        ],
        plugins: &[Plugin { list: "reporters", name: "statsd", section: "statsd.*" }],
    };

    fn loaded(yaml: &str, env: &[(&str, &str)]) -> Loaded {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load(ConfigFile::Explicit(file.path()), env, CATALOGUE).unwrap()
    }

    fn notices(yaml: &str, env: &[(&str, &str)]) -> String {
        loaded(yaml, env).notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn get(loaded: &Loaded, key: &Key, app: &str) -> Option<String> {
        loaded.config.get_for(key, app).unwrap()
    }

    #[test]
    fn the_environment_goes_before_the_file_before_the_default() {
        let yaml = "queue:\n  sessiontimeout: 1\napns: {apps: game}\n";
        let read = |yaml, env: &[(&str, &str)]| {
            let loaded = loaded(yaml, env);
            (loaded.config.get::<u64>(&TIMEOUT).unwrap().unwrap(), loaded.config.source_of(&TIMEOUT, None))
        };
        assert_eq!(read("", &[]), (6000, Source::Default));
        let (value, source) = read(yaml, &[]);
        assert_eq!((value, source.line()), (1, Some(2)));
        let variable = "PUSHER_QUEUE_SESSIONTIMEOUT";
        assert_eq!(read(yaml, &[(variable, "2")]), (2, Source::Environment { variable: variable.into() }));
        assert_eq!(read(yaml, &[(variable, "")]).0, 1, "an empty variable counts as absent");
    }

    #[test]
    fn apps_keep_their_case_and_are_found_in_any() {
        let loaded = loaded(
            "apns:\n  apps: MyGame, other\n  certs:\n    MyGame: {keyID: 0012345678}\n    OTHER: {keyid: K2}\n",
            &[],
        );
        assert_eq!(loaded.config.get::<Vec<String>>(&APPS).unwrap().unwrap(), ["MyGame", "other"]);
        assert_eq!(get(&loaded, &KEY_ID, "MyGame").as_deref(), Some("0012345678"));
        assert_eq!(get(&loaded, &KEY_ID, "other").as_deref(), Some("K2"));
        assert_eq!(loaded.notices, []);
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let env = [
            ("PUSHER_APNS_APPS", "my_game my-game"),
            ("PUSHER_APNS_CERTS_MY_GAME_KEYID", "K1"),
            ("PUSHER_QUEUE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("HOME", "/root"),
            ("PUSHER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ];
        let loaded = loaded("", &env);
        assert_eq!(get(&loaded, &KEY_ID, "my_game").as_deref(), Some("K1"));
        assert_eq!(get(&loaded, &KEY_ID, "my-game").as_deref(), Some("K1"));
        assert_eq!(loaded.config.below(&KAFKA), BTreeMap::from([("security.protocol".into(), "SASL_SSL".into())]));
        assert_eq!(loaded.notices, []);
    }

    #[test]
    fn aliases_are_understood_unless_the_key_itself_is_there() {
        let old = loaded("apns: {apps: game, certs: {game: /old.p8}}\n", &[("PUSHER_GRACEFULLSHUTDOWNTIMEOUT", "7")]);
        assert_eq!(get(&old, &KEY_PATH, "game").as_deref(), Some("/old.p8"));
        assert_eq!(old.config.get::<u64>(&GRACE), Ok(Some(7)));
        let both = loaded("gracefulShutdownTimeout: 1\ngracefullShutdownTimeout: 2\n", &[]);
        assert_eq!(both.config.get::<u64>(&GRACE), Ok(Some(1)));
    }

    #[test]
    fn odd_names_are_named_once_with_what_was_meant() {
        let yaml = "apns:\n  apps: game\n  pushQueueSize: 1\n  responseChannelSize: 2\n  certs:\n    gmae: {keyID: K}\n    game: {kyeID: K}\nqueue:\n  sesionTimeout: 1\nwhatever: 1\n";
        insta::assert_snapshot!(notices(yaml, &[]), @r#"
apns.certs.game.kyeID (line 7): unknown, did you mean apns.certs.game.keyID?
apns.certs.gmae.keyID (line 6): not used, because apns.apps does not list this app
apns.pushQueueSize, apns.responseChannelSize: accepted, no effect, because the pool is sized by load
queue.sesionTimeout (line 9): unknown, did you mean queue.sessionTimeout?
whatever (line 10): unknown, not used
"#);
        let env = [
            ("PUSHER_APNS_APPS", "game"),
            ("PUSHER_APNS_CERTS_GAME_KEY_ID", "K"),
            ("PUSHER_GCM_APPS", "game"),
            ("PUSHER_QUEUE_SESSION_TIMEOUT", "1"),
            ("PUSHER_GRACEFULLSHUTDOWNTIMEOUT", "1"),
        ];
        insta::assert_snapshot!(notices("gcm: {concurrentWorkers: 1}", &env), @r#"
gcm.concurrentWorkers, PUSHER_GCM_APPS: accepted, no effect, because this is a test
PUSHER_APNS_CERTS_GAME_KEY_ID: unknown, did you mean PUSHER_APNS_CERTS_GAME_KEYID?
PUSHER_GRACEFULLSHUTDOWNTIMEOUT: read as gracefulShutdownTimeout, which is its name now
PUSHER_QUEUE_SESSION_TIMEOUT: unknown, did you mean PUSHER_QUEUE_SESSIONTIMEOUT?
"#);
    }

    #[test]
    fn a_section_that_no_list_names_is_written_in_vain() {
        let vain = "statsd.host: accepted, no effect, because reporters does not name statsd";
        assert_eq!(notices("statsd: {host: a}", &[]), vain);
        assert_eq!(notices("statsd: {host: a}\nreporters: [other]", &[]), vain);
        assert_eq!(notices("statsd: {host: a}\nreporters: [STATSD]", &[]), "");
        assert_eq!(notices("statsd: {host: a}", &[("PUSHER_REPORTERS", "other statsd")]), "");
        assert_eq!(notices("", &[("PUSHER_STATSD_HOST", "a")]), vain.replace("statsd.host", "PUSHER_STATSD_HOST"));
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_asked_for() {
        let path = Path::new("/nowhere/pusher.yaml");
        let loaded = load(ConfigFile::Default(path), [], CATALOGUE).unwrap();
        insta::assert_snapshot!(loaded.notices[0], @"no configuration file /nowhere/pusher.yaml: reading the environment only");
        insta::assert_snapshot!(load(ConfigFile::Explicit(path), [], CATALOGUE).unwrap_err(), @"cannot read the configuration file /nowhere/pusher.yaml: No such file or directory (os error 2)");
        assert!(matches!(load(ConfigFile::Default(Path::new("/")), [], CATALOGUE), Err(LoadError::Unreadable { .. })));
    }

    #[test]
    fn wrong_values_are_shown_together_with_their_places() {
        let loaded = loaded("gracefulShutdownTimeout: x\n", &[("PUSHER_QUEUE_SESSIONTIMEOUT", "-1")]);
        let mut problems = super::super::Problems::default();
        problems.take(loaded.config.seconds(&GRACE));
        problems.take(loaded.config.get::<u64>(&TIMEOUT));
        problems.take(loaded.config.require::<String>(&APPS));
        let errors = loaded.config.check(problems).unwrap_err().to_string();
        let path = errors.split(" (").nth(2).unwrap().split(" line").next().unwrap().to_owned();
        insta::assert_snapshot!(errors.replace(&path, "pusher.yaml"), @r#"
gracefulShutdownTimeout: "x" must be a number (s) or a duration such as 250ms, 5s, 10m (pusher.yaml line 1)
queue.sessionTimeout: "-1" must be a whole number from 0 to 18446744073709551615 (PUSHER_QUEUE_SESSIONTIMEOUT)
apns.apps: must be set
"#);
    }
}
