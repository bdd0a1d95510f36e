//! What only an engine could run, checked as far as it can be without one: `docker-compose.yml`, `Dockerfile`, the dashboard,
//! the scripts. (The compose file was also held against the published compose-spec schema when it was written.)

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use config::{Config, File, FileFormat};
use pusher::admin;
use pusher::cli::{self, Cli};
use pusher::config::{ConfigFile, Loaded, load};
use pusher::reporters::stats::Metric;
use pusher::settings::catalogue;
use pusher::simulator::apns::Key;
use regex::Regex;
use serde_json::{Map, Value};

use crate::support::{process, root};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    let source = File::from_str(&read(path), FileFormat::Yaml);
    let built = Config::builder().add_source(source).build().unwrap_or_else(|error| panic!("{path}: {error}"));
    built.try_deserialize().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn services() -> Map<String, Value> {
    let merged = merged(yaml("docker-compose.yml")["services"].clone());
    merged.as_object().expect("services").clone()
}

/// With YAML's merge keys (`<<`) followed, as an engine does: what stands beside them goes before what they bring.
fn merged(value: Value) -> Value {
    let Value::Object(mut map) = value else { return value };
    let brought = map.remove("<<").map_or_else(Map::new, |brought| match merged(brought) {
        Value::Object(brought) => brought,
        other => panic!("<< brings {other}"),
    });
    let own = map.into_iter().map(|(key, value)| (key, merged(value)));
    Value::Object(brought.into_iter().chain(own).collect())
}

/// The services of our own image.
fn ours() -> impl Iterator<Item = (String, Value)> {
    services().into_iter().filter(|(_, service)| service["image"] == "pusher")
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(ToOwned::to_owned)).collect()
}

/// Services that do their work and end.
fn ends(name: &str) -> bool {
    name == "topics" || name.starts_with("generate-")
}

#[test]
fn every_lasting_service_has_a_health_check() {
    for (name, service) in services() {
        let test = texts(&service["healthcheck"]["test"]);
        assert_eq!(test.first().map(String::as_str), (!ends(&name)).then_some("CMD"), "{name}: {test:?}");
    }
}

#[test]
fn who_waits_waits_for_a_state_that_comes() {
    let services = services();
    let mut waits = 0;
    for (name, service) in &services {
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(other), "{name} waits for {other}, which is not there");
            let wanted = if ends(other) { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(how["condition"], wanted, "{name} waits for {other}");
            waits += 1;
        }
    }
    assert!(waits > 5, "the file was not read as it is written: {waits} waits");
}

#[test]
fn each_worker_waits_for_all_it_talks_to() {
    let services = services();
    for worker in ["worker-apns", "worker-gcm"] {
        let waited: BTreeSet<_> = services[worker]["depends_on"].as_object().expect("a map").keys().cloned().collect();
        let settings = services[worker]["environment"].as_object().expect("a map");
        let named = settings.values().filter_map(Value::as_str).flat_map(|text| text.split(['/', ':', ',']));
        let named: BTreeSet<_> = named.filter(|word| services.contains_key(*word)).map(ToOwned::to_owned).collect();
        assert!(named.len() >= 4, "{worker}: {named:?}");
        assert!(named.is_subset(&waited), "{worker} talks to {named:?}, waits for {waited:?}");
    }
}

/// What a worker reads of its simulator, the simulator writes, into the volume that both have; what it calls is listened on.
#[test]
fn each_worker_finds_what_its_simulator_leaves_for_it() {
    let services = services();
    for (worker, simulator) in [("worker-apns", "simulator-apns"), ("worker-gcm", "simulator-fcm")] {
        let settings = services[worker]["environment"].as_object().expect("a map");
        let command = texts(&services[simulator]["command"]);
        let files = settings.values().filter_map(Value::as_str).filter(|value| value.starts_with("/run/simulator/"));
        let mut found = 0;
        for file in files {
            assert!(command.iter().any(|word| word.ends_with(&format!("-out={file}"))), "{simulator} writes no {file}");
            found += 1;
        }
        assert_eq!(found, 2, "{worker}: a CA and a credential");
        let volume = |name: &str| texts(&services[name]["volumes"])[0].split(':').next().map(ToOwned::to_owned);
        assert_eq!((volume(worker), volume(simulator)), (Some(simulator.into()), Some(simulator.into())));
        assert!(command.contains(&format!("--name={simulator}")), "its certificate holds its name");
        let endpoint = settings.iter().find(|(name, _)| name.ends_with("_ENDPOINT")).expect("an endpoint").1;
        let port =
            endpoint.as_str().and_then(|text| text.strip_prefix(&format!("https://{simulator}:"))).expect("a port");
        assert!(command.contains(&format!("--listen=0.0.0.0:{port}")), "{worker} calls {endpoint}");
    }
}

#[test]
fn both_platforms_have_their_topics_and_their_table() {
    let made = texts(&services()["topics"]["command"]).concat();
    let names = Regex::new(r"for topic in (.*); do").expect("a pattern").captures(&made).expect("a loop")[1].to_owned();
    let shown = process::run(Command::new("bash").arg("-c").arg(format!("echo {names}")));
    let topics: BTreeSet<_> = shown.split_whitespace().collect();
    let tables = read("config/docker/postgres/init.sql");
    for registration in pusher::handlers::providers() {
        let platform = registration.platform;
        for topic in [
            format!("push-game_{platform}-single"),
            format!("push-game_{platform}-massive"),
            format!("push-game-{platform}-feedbacks"),
            format!("deadletters-game-{platform}"),
        ] {
            assert!(topics.contains(&*topic), "{topic} is not among {topics:?}");
        }
        assert!(tables.contains(&format!("CREATE TABLE game_{platform} ")), "no table of {platform}");
        let generate = &services()[&format!("generate-{platform}")]["command"];
        assert!(texts(generate).contains(&format!("--topic=push-game_{platform}-single")), "{generate}");
    }
}

#[test]
fn images_are_pinned_and_mounts_are_there() {
    let volumes = yaml("docker-compose.yml")["volumes"].as_object().expect("volumes").clone();
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        let is_built = service["build"] == ".";
        assert!(is_built || tag.contains(|c: char| c.is_ascii_digit()), "{name}: {image} is not pinned");
        for mount in texts(&service["volumes"]) {
            let from = mount.split(':').next().unwrap_or_default();
            let there = if from.starts_with("./") { root().join(from).exists() } else { volumes.contains_key(from) };
            assert!(there, "{name} mounts {from}, which is not there");
        }
    }
}

#[test]
fn versions_agree() {
    let capture = |pattern: &str, text: &str| {
        Regex::new(pattern).expect("a pattern").captures(text).unwrap_or_else(|| panic!("no {pattern}"))[1].to_owned()
    };
    let jars = capture("<kafka.version>(.*)</kafka.version>", &read("tools/kafka/pom.xml"));
    for name in ["kafka", "topics"] {
        assert_eq!(services()[name]["image"], format!("apache/kafka:{jars}"));
    }
    assert_eq!(
        capture(r"ARG CARGO_AUDITABLE=(.*)", &read("Dockerfile")),
        capture(r"AUDITABLE := (.*)", &read("Makefile"))
    );
    let pinned = capture(r#"channel = "([\d.]+)""#, &read("rust-toolchain.toml"));
    let image = capture(r"FROM rust:([\d.]+)-", &read("Dockerfile"));
    assert!(pinned == image || pinned.starts_with(&format!("{image}.")), "toolchain {pinned}, image {image}");
}

#[test]
fn the_image_runs_pusher_and_not_as_root() {
    let file = read("Dockerfile");
    let last = file.rsplit_once("\nFROM ").expect("two stages").1;
    assert!(last.contains("\nENTRYPOINT [\"pusher\"]\n"), "{last}");
    let user =
        Regex::new(r"(?m)^USER (\d+)$").expect("a pattern").captures(last).expect("USER by number")[1].to_owned();
    assert_ne!(user, "0");
    assert!(last.contains("ca-certificates"), "TLS to providers needs the CAs");
}

#[test]
fn what_the_image_copies_is_there_and_let_through() {
    let (file, ignore) = (read("Dockerfile"), read(".dockerignore"));
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let sources: Vec<_> =
        copies.flat_map(|line| line.rsplit_once(' ').map_or("", |(from, _)| from).split(' ')).collect();
    assert!(sources.len() >= 4, "{sources:?}");
    for source in sources {
        assert!(root().join(source).exists(), "{source} is not there");
        assert!(ignore.lines().any(|line| line == format!("!{source}")), ".dockerignore holds {source} back");
    }
}

/// The names on the page of `/metrics`, as queries spell them.
pub(crate) fn sample_names() -> BTreeSet<String> {
    let told = Metric::ALL.iter().filter_map(|metric| admin::told::family(*metric));
    let families = admin::family::ALL.iter().map(|family| (*family).clone()).chain(told);
    let ends = |family: &admin::Family| match family.kind {
        admin::Kind::Counter => vec!["_total"],
        admin::Kind::Gauge => vec![""],
        admin::Kind::Histogram => vec!["_bucket", "_sum", "_count"],
    };
    families.flat_map(|family| ends(&family).into_iter().map(move |end| format!("{}{end}", family.name))).collect()
}

/// The metrics that a query names; at least one.
fn metrics_of(query: &str) -> Vec<String> {
    let metric = Regex::new(r"\bpusher_[a-z_]+").expect("a pattern");
    let named: Vec<_> = metric.find_iter(query).map(|found| found.as_str().to_owned()).collect();
    assert!(!named.is_empty() || query.starts_with("up{"), "no metric in {query}");
    named
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let names = sample_names();
    let dashboard: Value = serde_json::from_str(&read("config/grafana/dashboards/pusher.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() >= 15);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets")) {
        let query = target["expr"].as_str().expect("an expression");
        for name in metrics_of(query) {
            assert!(names.contains(&name), "{query}: no metric {name}");
        }
    }
}

#[test]
fn every_alert_is_about_metrics_that_exist_and_has_its_page() {
    let (names, page) = (sample_names(), read("docs/on-call.md"));
    let rules = yaml("config/prometheus/alerts.yml")["groups"][0]["rules"].as_array().expect("rules").clone();
    let mut alerts = BTreeSet::new();
    for rule in &rules {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule}")).to_owned();
        let (alert, query) = (text(&rule["alert"]), text(&rule["expr"]));
        for name in metrics_of(&query) {
            assert!(names.contains(&name), "{alert}: no metric {name}");
        }
        assert!(["page", "ticket"].contains(&&*text(&rule["labels"]["severity"])), "{alert}");
        assert!(!text(&rule["annotations"]["summary"]).is_empty());
        let section = format!("docs/on-call.md#{}", alert.to_lowercase());
        assert_eq!(text(&rule["annotations"]["runbook"]), section, "{alert}");
        assert!(page.contains(&format!("\n## {alert}\n")), "docs/on-call.md has no section {alert}");
        alerts.insert(alert);
    }
    let sections: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("## Pusher")).map(|name| format!("Pusher{name}")).collect();
    assert_eq!((alerts.len(), &sections), (rules.len(), &alerts));
    assert_eq!(texts(&yaml("config/prometheus/prometheus.yml")["rule_files"]), ["alerts.yml"]);
}

#[test]
fn the_composed_workers_are_asked_by_themselves_and_by_prometheus() {
    let scraped = texts(&yaml("config/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]);
    for worker in ["worker-apns", "worker-gcm"] {
        let test = texts(&services()[worker]["healthcheck"]["test"]);
        let cli::Command::Health(health) = Cli::try_parse_from(&test[1..]).expect("a command line").command else {
            panic!("{test:?}")
        };
        let port = health.admin.rsplit_once(':').expect("host:port").1;
        assert!(read("Dockerfile").contains(&format!("ENV PUSHER_ADMIN_LISTEN=0.0.0.0:{port}\n")));
        assert!(scraped.contains(&format!("{worker}:{port}")), "{scraped:?}");
    }
}

#[test]
fn prometheus_asks_a_service_of_the_compose_file() {
    let jobs = yaml("config/prometheus/prometheus.yml")["scrape_configs"].as_array().expect("jobs").clone();
    let targets: Vec<_> = jobs.iter().flat_map(|job| texts(&job["static_configs"][0]["targets"])).collect();
    assert!(targets.len() >= 2);
    for target in &targets {
        let host = target.split(':').next().expect("host:port");
        assert!(services().contains_key(host), "{targets:?}");
    }
    let source = &yaml("config/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
}

#[test]
fn scripts_parse_and_may_be_run() {
    for script in [
        ".ci/run",
        "tools/deps",
        "tools/fcm-schema-fetch",
        "tools/helm-fetch",
        "tools/kafka-fetch",
        "tools/kube-validate",
    ] {
        process::run(Command::new("bash").arg("-n").arg(root().join(script)));
        let mode = fs::metadata(root().join(script)).expect("a script").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
    }
}

#[test]
fn make_alone_prints_help_for_its_targets() {
    let help = process::run(Command::new("make").arg("-C").arg(root()).env_remove("MAKEFLAGS"));
    for target in ["demo", "test", "check", "deps"] {
        assert!(help.contains(&format!("make {target} ")), "{help}");
    }
}

/// Loads what these variables say, and demands that none is unknown or without effect.
fn loads(place: &str, variables: Vec<(String, String)>) -> Loaded {
    let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
    let loaded = load(ConfigFile::Default(Path::new("/nonexistent.yaml")), variables, catalogue()).expect(place);
    let warnings: Vec<_> =
        loaded.notices.iter().filter(|notice| notice.is_warning()).map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{place}: {warnings:#?}");
    loaded
}

/// The configuration of a composed worker.
fn composed(worker: &str) -> pusher::config::Config {
    let service = services()[worker].clone();
    let settings = service["environment"].as_object().expect("a map");
    let variables: Vec<_> =
        settings.iter().map(|(name, value)| (name.clone(), value.as_str().expect(name).into())).collect();
    assert!(variables.len() > 15, "{variables:?}");
    let config = loads(worker, variables).config;
    pusher::queue::config::Settings::from_config(&config).expect("queue");
    pusher::reporters::invalid_token::postgres::Settings::from_config(&config).expect("invalidToken.pg");
    config
}

#[test]
fn the_composed_workers_are_configured_by_names_that_exist() {
    let apns = pusher::handlers::apns::Settings::from_config(&composed("worker-apns"), false).expect("apns");
    assert_eq!((apns.apps[0].key_id.as_str(), apns.apps[0].team_id.as_str()), (Key::KEY_ID, Key::TEAM_ID));
    let gcm = pusher::handlers::gcm::Settings::from_config(&composed("worker-gcm")).expect("gcm");
    assert_eq!(gcm.apps.iter().map(|app| &*app.name).collect::<Vec<_>>(), ["game"]);
}

#[test]
fn variables_in_the_documentation_exist() {
    let variable = Regex::new(r"\b(PUSHER_[A-Z0-9_]+)=(\S+)").expect("a pattern");
    for page in ["README.md", "docs/deployment.md", "docs/simulator.md", "docs/gcm-message.md", "src/cli.rs"] {
        let text = read(page);
        let found = variable.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned()));
        let mut found: Vec<_> = found.collect();
        found.extend(["PUSHER_APNS_APPS", "PUSHER_GCM_APPS"].map(|name| (name.to_owned(), "game".to_owned())));
        loads(page, found);
    }
}

#[test]
fn commands_in_the_documentation_and_the_compose_file_can_be_given() {
    let mut lines = Vec::new();
    let pages = ["README.md", "docs/simulator.md", "docs/configuration.md", "docs/guarantee.md", "docs/retries.md"];
    for page in pages.into_iter().chain(["docs/apns-message.md", "docs/gcm-message.md", "docs/deployment.md"]) {
        let text = read(page).replace("\\\n", " ");
        let given = text.lines().filter_map(|line| line.strip_prefix("pusher ")).map(ToOwned::to_owned);
        lines.extend(given.filter(|line| !line.contains(['|', '\u{2026}'])));
    }
    for (name, service) in ours() {
        lines.push(texts(&service["command"]).join(" "));
        assert!(!lines.last().expect("just pushed").is_empty(), "{name} has no command");
    }
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let words = line.split(" #").next().unwrap_or_default().split_whitespace();
        if let Err(error) = Cli::try_parse_from(std::iter::once("pusher").chain(words)) {
            panic!("pusher {line}: {error}");
        }
    }
}
