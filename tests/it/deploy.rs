//! What runs Pusher in a cluster or on a machine: the Helm chart, rendered by Helm itself and held against Kubernetes' schemas;
//! the systemd unit, judged by systemd; and that a worker tells its service manager how it stands.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use clap::Parser as _;
use config::{Config, File, FileFormat};
use pusher::cli::Cli;
use pusher::config::{ConfigFile, load};
use pusher::settings::catalogue;
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::Faults;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::flow::Ends;
use crate::support::worker::Worker;
use crate::support::{process, root};

/// The Kubernetes that the chart is rendered for and checked against.
const KUBERNETES: &str = "1.34.0";
const EVERYTHING: &str = "deploy/helm/ci/everything-values.yaml";

/// Helm's command; `None` where it cannot be had, which is said where nobody can miss it: what remains then is
/// [`what_templates_ask_for_is_a_value_that_the_schema_knows`].
fn helm(arguments: &[&str]) -> Option<Output> {
    let fetched = Command::new(root().join("tools/helm-fetch")).output().expect("tools/helm-fetch");
    match fetched.status.code() {
        Some(0) => {}
        Some(3) => {
            // Past the test harness, which shows nothing of a test that passes.
            let why = String::from_utf8_lossy(&fetched.stderr);
            let said = format!("\nNOT TESTED, the Helm chart is not rendered: {}\n", why.trim());
            std::io::stderr().write_all(said.as_bytes()).expect("standard error");
            return None;
        }
        _ => panic!("{}", String::from_utf8_lossy(&fetched.stderr)),
    }
    let mut command = Command::new(String::from_utf8(fetched.stdout).expect("a path").trim());
    command.args(arguments).args(["--kube-version", KUBERNETES]).current_dir(root());
    Some(command.output().expect("helm"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn yaml(text: &str) -> Value {
    let built = Config::builder().add_source(File::from_str(text, FileFormat::Yaml)).build().expect("YAML");
    built.try_deserialize().expect("YAML")
}

/// The manifests with these values, when Helm can be had.
fn rendered(more: &[&str]) -> Option<Vec<Value>> {
    let output = helm(&[&["template", "push", "deploy/helm"], more].concat())?;
    assert!(output.status.success(), "{}", said(&output));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("manifests.yaml");
    std::fs::write(&file, &output.stdout).expect("a file");
    process::run(Command::new(root().join("tools/kube-validate")).arg(KUBERNETES).arg(file));
    let text = String::from_utf8(output.stdout).expect("text");
    Some(text.split("\n---\n").filter(|one| one.contains("kind:")).map(yaml).collect())
}

fn of_kind<'a>(manifests: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    manifests.iter().filter(move |one| one["kind"] == kind)
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The container of a deployment, with its variables that this program reads.
fn container(deployment: &Value) -> (&Value, Vec<(String, String)>) {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let variable = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["value"].as_str()?.to_owned()));
    let all = container["env"].as_array().expect("variables").iter().filter_map(variable);
    (container, all.filter(|(name, _)| name.starts_with("PUSHER_")).collect())
}

/// One deployment: what is started can be started, and is given the time that it takes to end.
fn assert_runs(deployment: &Value) {
    let (pod, (container, variables)) = (&deployment["spec"]["template"]["spec"], container(deployment));
    let name = deployment["metadata"]["name"].as_str().expect("a name");
    let line: Vec<_> = std::iter::once("pusher").chain(texts(&container["args"])).collect();
    assert!(
        Cli::try_parse_from(&line).is_ok_and(|cli| cli.flags.json && cli.flags.config.is_some()),
        "{name}: {line:?}"
    );
    let value = |wanted: &str| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let port =
        value("PUSHER_ADMIN_LISTEN").and_then(|at| at.strip_prefix("0.0.0.0:")).expect("the admin server's address");
    assert_eq!(container["ports"][0]["containerPort"].to_string(), port, "{name}");
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(
            (&container[probe]["httpGet"]["path"], &container[probe]["httpGet"]["port"]),
            (&path.into(), &"admin".into())
        );
    }
    let patience: u64 = value("PUSHER_GRACEFULSHUTDOWNTIMEOUT").and_then(|text| text.parse().ok()).expect("seconds");
    let killed_after = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    assert!(
        killed_after >= before + patience + 5,
        "{name} is killed after {killed_after} s, waits {before} s and may take {patience} s"
    );
    assert_eq!(value("PUSHER_FEEDBACKLISTENERS_GRACEFULSHUTDOWNTIMEOUT"), value("PUSHER_GRACEFULSHUTDOWNTIMEOUT"));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let selected = deployment["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert!(selected.iter().all(|(name, value)| labels[name] == *value), "{name} finds its own pods");
}

/// The configuration of the chart and its variables are known to the program.
fn assert_configured(manifests: &[Value]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.yaml");
    let text = of_kind(manifests, "ConfigMap").next().expect("a ConfigMap")["data"]["config.yaml"].as_str();
    std::fs::write(&file, text.expect("a file")).expect("a file");
    for deployment in of_kind(manifests, "Deployment") {
        let known = catalogue().keys().any(|key| key.name == "admin.listen");
        let (_, variables) = container(deployment);
        let variables = variables.into_iter().filter(|(name, _)| known || name != "PUSHER_ADMIN_LISTEN");
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let loaded = load(ConfigFile::Explicit(&file), variables, catalogue()).expect("a configuration");
        let warnings: Vec<_> =
            loaded.notices.iter().filter(|notice| notice.is_warning()).map(ToString::to_string).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

#[test]
fn the_chart_passes_helms_own_lint() {
    for values in [&[][..], &["-f", EVERYTHING]] {
        let Some(output) = helm(&[&["lint", "--strict", "deploy/helm"], values].concat()) else { return };
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn its_workers_start_are_probed_and_have_time_to_end() {
    for (values, count, sleep) in [(&[][..], 2, Value::Null), (&["-f", EVERYTHING], 3, json!({ "seconds": 5 }))] {
        let Some(manifests) = rendered(values) else { return };
        assert_eq!(of_kind(&manifests, "Deployment").count(), count);
        for deployment in of_kind(&manifests, "Deployment") {
            assert_runs(deployment);
            assert_eq!(container(deployment).0["lifecycle"]["preStop"]["sleep"], sleep);
        }
        assert_eq!(of_kind(&manifests, "PodDisruptionBudget").count(), count);
        assert_configured(&manifests);
    }
}

#[test]
fn it_scales_by_the_lag_or_by_cpu_and_not_against_its_own_count() {
    let Some(manifests) = rendered(&["-f", EVERYTHING]) else { return };
    let scaled = of_kind(&manifests, "ScaledObject").next().expect("one by KEDA");
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], "push-pusher-apns");
    let trigger = &scaled["spec"]["triggers"][0];
    assert_eq!((&trigger["type"], &trigger["metadata"]["consumerGroup"]), (&"kafka".into(), &"pusher".into()));
    let by_cpu = of_kind(&manifests, "HorizontalPodAutoscaler").next().expect("one by CPU");
    assert_eq!(by_cpu["spec"]["scaleTargetRef"]["name"], "push-pusher-gcm");
    for deployment in of_kind(&manifests, "Deployment") {
        let is_listener = deployment["metadata"]["name"] == "push-pusher-listener";
        assert_eq!(deployment["spec"]["replicas"].is_null(), !is_listener, "{}", deployment["metadata"]["name"]);
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (values, why) in [
        (&["--set", "components.apns.autoscaling.kind=lag"][..], "kind"),
        (&["--set", "components.apns.autoscaling.kind=keda"], "keda.brokers"),
        (&["--set", "gracefulShutdown=5"], "gracefulShutdown"),
        (&["--set", "graceBeyond=0"], "graceBeyond"),
        (&["--set", "preStopSeconds=-1"], "preStopSeconds"),
    ] {
        let Some(output) = helm(&[&["template", "push", "deploy/helm"], values].concat()) else { return };
        assert!(!output.status.success() && said(&output).contains(why), "{values:?}: {}", said(&output));
    }
}

/// Where a value stands in the schema: below `properties`, references followed.
fn in_schema<'a>(schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |at, name| {
        let at = match at["$ref"].as_str() {
            Some(reference) => schema.pointer(reference.trim_start_matches('#'))?,
            None => at,
        };
        // What is free in form has no properties.
        if at["properties"].is_null() && at["type"] == "object" { Some(at) } else { at["properties"].get(name) }
    })
}

/// All paths of the values, of a component's as of one of them.
fn paths(values: &Value, at: &str, into: &mut BTreeSet<String>) {
    for (name, value) in values.as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        paths(value, &path, into);
        into.insert(path);
    }
}

/// Without Helm too: a misspelled value would render as nothing, and one that the schema does not know is refused.
#[test]
fn what_templates_ask_for_is_a_value_that_the_schema_knows() {
    let read = |name: &str| std::fs::read_to_string(root().join("deploy/helm").join(name)).expect("a file");
    let (values, schema) = (yaml(&read("values.yaml")), read("values.schema.json"));
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut known = BTreeSet::new();
    paths(&values, "", &mut known);
    for path in &known {
        let names: Vec<_> = path.split('.').skip(1).collect();
        assert!(in_schema(&schema, &names).is_some(), "{path} is in no schema");
    }
    let everything = yaml(&read("ci/everything-values.yaml"));
    let top = everything.as_object().expect("values").keys();
    top.for_each(|name| assert!(in_schema(&schema, &[name]).is_some(), "{name} is in no schema"));
    let asked = Regex::new(r"(\.Values|\$it|\$scaling)((?:\.\w+)+)").expect("a pattern");
    let mut count = 0;
    for name in [
        "_helpers.tpl",
        "autoscaling.yaml",
        "configmap.yaml",
        "deployment.yaml",
        "poddisruptionbudget.yaml",
        "serviceaccount.yaml",
    ] {
        for found in asked.captures_iter(&read(&format!("templates/{name}"))) {
            let under = match &found[1] {
                ".Values" => "",
                "$it" => ".components.apns",
                _ => ".components.apns.autoscaling",
            };
            assert!(
                known.contains(&format!("{under}{}", &found[2])),
                "{name} asks for {}, which is no value",
                &found[0]
            );
            count += 1;
        }
    }
    assert!(count > 40, "templates ask for {count} values");
}

#[test]
fn the_chart_is_of_this_version() {
    let chart = yaml(&std::fs::read_to_string(root().join("deploy/helm/Chart.yaml")).expect("the chart"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The unit with the program that was built, as systemd must find one.
fn unit() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(root().join("deploy/systemd/pusher@.service")).expect("the unit");
    let file = folder.path().join("pusher@.service");
    std::fs::write(&file, text.replace("/usr/bin/pusher", env!("CARGO_BIN_EXE_pusher"))).expect("a file");
    (folder, file, text)
}

fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn systemd_finds_the_unit_in_order_and_well_shut_in() {
    let (folder, file, text) = unit();
    for command in ["apns", "gcm", "start-feedback-listener"] {
        let instance = folder.path().join(format!("pusher@{command}.service"));
        process::run(Command::new("systemd-analyze").arg("verify").arg(instance));
        let line = setting(&text, "ExecStart").replace("%i", command);
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    // Of 100; 14 is what its need of the network leaves.
    process::run(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(file));
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().expect("seconds");
    let defaults = yaml(&std::fs::read_to_string(root().join("config/default.yaml")).expect("the defaults"));
    let patience = defaults["gracefulShutdownTimeout"].as_u64().expect("seconds");
    assert!(seconds(setting(&text, "TimeoutStopSec")) >= patience + 5);
}

#[test]
fn a_worker_tells_its_service_manager_that_it_works_and_that_it_ends() {
    let ends: Ends<Simulator> = Ends::start(Faults::default());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_mins(1))).expect("a limit");
    let told = || {
        let mut datagram = [0; 64];
        let length = socket.recv(&mut datagram).expect("a datagram");
        String::from_utf8_lossy(&datagram[..length]).into_owned()
    };
    let settings = ends.settings();
    let variables =
        settings.iter().map(|(key, value)| (format!("PUSHER_{}", key.to_uppercase().replace('.', "_")), value.clone()));
    let own = [("NOTIFY_SOCKET".to_owned(), text(&path))];
    let worker = Worker::start("apns", &variables.chain(own).collect::<Vec<_>>());
    assert_eq!(told(), "READY=1");
    worker.stop();
    assert_eq!(told(), "STOPPING=1");
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
