//! `config/default.yaml` and `docs/configuration.md` name what the program reads, no less and no more.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pusher::admin::{self, family, told};
use pusher::config::{Config, ConfigFile, Key, ambiguous, load};
use pusher::reporters::stats::{Descent, Kind, Metric};
use pusher::settings::{ALIASES, ALL_KEYS, catalogue};
use yaml_rust2::{Yaml, YamlLoader};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn keys() -> impl Iterator<Item = &'static Key> {
    ALL_KEYS.iter().copied().flatten()
}

/// All names of a mapping, those without a value included.
fn names(prefix: &str, yaml: &Yaml, out: &mut Vec<String>) {
    let Some(mapping) = yaml.as_hash().filter(|mapping| !mapping.is_empty()) else {
        out.push(prefix.to_lowercase());
        return;
    };
    for (key, value) in mapping {
        let key = key.as_str().unwrap();
        names(&if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }, value, out);
    }
}

/// Whether `name` of the file stands for `key`: apps are any one part, what passes through may be left empty.
fn stands_for(name: &str, key: &Key) -> bool {
    let pattern = regex::escape(&key.name.to_lowercase()).replace("<app>", "[^.]+").replace(r"\.\*", r"(\..+)?");
    regex::Regex::new(&format!("^{pattern}$")).unwrap().is_match(name)
}

#[test]
fn the_default_file_names_every_key_and_no_other() {
    let text = std::fs::read_to_string(path("config/default.yaml")).unwrap();
    let mut written = Vec::new();
    names("", &YamlLoader::load_from_str(&text).unwrap()[0], &mut written);
    let missing: Vec<_> = keys().filter(|key| !written.iter().any(|name| stands_for(name, key))).collect();
    assert!(missing.is_empty(), "missing in config/default.yaml: {missing:#?}");
    let unknown: Vec<_> = written.iter().filter(|name| !keys().any(|key| stands_for(name, key))).collect();
    assert!(unknown.is_empty(), "config/default.yaml has keys that no room declares: {unknown:?}");
}

#[test]
fn the_default_file_gives_no_reason_to_warn() {
    let loaded = load(ConfigFile::Explicit(&path("config/default.yaml")), [], catalogue()).unwrap();
    assert_eq!(loaded.notices, []);
}

#[test]
fn no_two_keys_share_a_variable_or_a_name() {
    assert_eq!(ambiguous(keys()), Vec::<String>::new());
}

#[test]
fn every_default_can_be_read() {
    for key in keys().filter(|key| key.default.is_some() && !key.name.contains('<')) {
        assert!(Config::default().require::<Vec<String>>(key).is_ok_and(|list| !list.is_empty()), "{}", key.name);
    }
}

#[test]
fn an_alias_is_no_key_itself_and_stands_for_as_many_apps() {
    for alias in ALIASES {
        assert_eq!(alias.written.contains("<app>"), alias.name.contains("<app>"), "{alias:?}");
        assert!(!keys().any(|key| key.name.eq_ignore_ascii_case(alias.written)), "{alias:?} is a key itself");
    }
}

fn tables() -> String {
    let mut out = String::new();
    let cell = |text: &str| text.replace('|', "\\|");
    for room in ALL_KEYS {
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        for key in *room {
            let default = key.default.map_or("–".to_owned(), |text| format!("`{}`", cell(text)));
            let secret = if key.secret { " (never printed)" } else { "" };
            let _ = writeln!(out, "| `{}`<br>`{}` | {default} | {}{secret} |", key.name, key.env_name(), cell(key.doc));
        }
        out.push('\n');
    }
    out.push_str("### Other names that are understood\n\n| written | read as |\n|---|---|\n");
    for alias in ALIASES {
        let _ = writeln!(out, "| `{}` | `{}` |", alias.written, alias.name);
    }
    out.push_str("\n### Accepted, no effect\n\n| key of the original | because |\n|---|---|\n");
    for ignored in catalogue().ignored() {
        let _ = writeln!(out, "| `{}` | {} |", ignored.name, cell(ignored.because));
    }
    out
}

/// Every metric, whose dashboards know it, as written in the code.
fn metrics() -> String {
    let mut out = String::from("| metric | type | tags | meaning | from |\n|---|---|---|---|---|\n");
    for metric in Metric::ALL {
        let tags: Vec<_> = metric.tags().iter().map(|tag| format!("`{tag}`")).collect();
        let tags = if tags.is_empty() { "–".to_owned() } else { tags.join(", ") };
        let kind = match metric.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Timer => "timer",
        };
        let from = if metric.descent() == Descent::Original { "the original" } else { "new" };
        let meaning = metric.meaning().trim().trim_end_matches('.');
        let _ = writeln!(out, "| `{}` | {kind} | {tags} | {meaning} | {from} |", metric.name());
    }
    out
}

/// Every family of the page that Prometheus reads: those with words of their own, then those that statistics are told.
fn families() -> String {
    let mut out =
        String::from("\n## For Prometheus: `/metrics`\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    let told = Metric::ALL.iter().filter_map(|metric| told::family(*metric));
    for family in family::ALL.iter().map(|family| (*family).clone()).chain(told) {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (kind, end) = match family.kind {
            admin::Kind::Counter => ("counter", "_total"),
            admin::Kind::Gauge => ("gauge", ""),
            admin::Kind::Histogram => ("histogram", ""),
        };
        let meaning = family.meaning.trim().trim_end_matches('.');
        let _ = writeln!(out, "| `{}{end}` | {kind} | {labels} | {meaning} |", family.name);
    }
    out
}

/// `UPDATE_DOCS=1 cargo test --test it cli_docs` writes what is below the mark.
#[track_caller]
fn written_below_the_mark(page: &str, written: &str) {
    const MARK: &str = "<!-- From here on written by `UPDATE_DOCS=1 cargo test --test it cli_docs`. -->\n\n";
    let file = path(page);
    let text = std::fs::read_to_string(&file).unwrap();
    let (by_hand, _) = text.split_once(MARK).expect("the page has the mark");
    let expected = format!("{by_hand}{MARK}{written}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
    } else {
        assert!(text == expected, "{page} is not up to date: run UPDATE_DOCS=1 cargo test --test it cli_docs");
    }
}

#[test]
fn the_documentation_has_the_tables_of_the_code() {
    written_below_the_mark("docs/configuration.md", &tables());
    written_below_the_mark("docs/metrics.md", &(metrics() + &families()));
}
