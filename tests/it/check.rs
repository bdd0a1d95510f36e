//! `pusher check` as people run it: everything well, everything wrong, nobody there; and who may write feedback, on a Kafka
//! that asks for names.

use std::collections::BTreeMap;
use std::process::Command;

use pusher::simulator::apns::{self, Simulator as Apns};
use pusher::simulator::fcm::faults::OAuthAnswer;
use pusher::simulator::fcm::{self, Simulator as Fcm};
use serde_json::Value;

use crate::support::kafka::{USER, login};
use crate::support::{Kafka, Postgres, kafka, ports, postgres, redis, unique, wait_for};

/// What a check is run with, and the words that differ from run to run, each with what stands for it in a snapshot.
struct Setup {
    environment: BTreeMap<String, String>,
    words: Vec<(String, &'static str)>,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Setup {
        let folder = tempfile::tempdir().expect("a folder");
        let words = vec![(folder.path().display().to_string(), "<folder>")];
        Setup { environment: BTreeMap::new(), words, folder }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.environment.insert(format!("PUSHER_{name}"), value.into());
        self
    }

    fn word(&mut self, word: impl Into<String>, stands: &'static str) -> &mut Self {
        self.words.push((word.into(), stands));
        self
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    /// An app on the APNs simulator.
    fn apns(&mut self, app: &str, simulator: &Apns) -> &mut Self {
        let (key, ca) = (self.file("key.p8", &simulator.key().pem), self.file("apns.pem", simulator.ca_pem()));
        self.word(simulator.address().to_string(), "<apns>");
        self.set("APNS_APPS", app)
            .set("APNS_ENDPOINT", format!("https://{}", simulator.address()))
            .set("APNS_CAFILE", ca);
        let cert = format!("APNS_CERTS_{}", app.to_uppercase());
        self.set(&format!("{cert}_AUTHKEYPATH"), key)
            .set(&format!("{cert}_KEYID"), &simulator.key().key_id)
            .set(&format!("{cert}_TEAMID"), &simulator.key().team_id)
            .set(&format!("{cert}_TOPIC"), "com.example.game")
    }

    /// An app on the FCM simulator.
    fn fcm(&mut self, app: &str, simulator: &Fcm) -> &mut Self {
        let credentials = simulator.credentials("simulated-project").expect("the default project");
        let (file, ca) = (self.file("account.json", &credentials), self.file("fcm.pem", simulator.ca_pem()));
        let token_uri = simulator.token_uri().to_owned();
        let (_, host) = token_uri.split_once("://").expect("a URL");
        let host = host.split('/').next().unwrap_or(host).to_owned();
        self.word(simulator.address().to_string(), "<fcm>").word(host, "<oauth>");
        self.set("GCM_APPS", app).set("GCM_ENDPOINT", format!("https://{}", simulator.address())).set("GCM_CAFILE", ca);
        self.set(&format!("GCM_FIREBASECREDENTIALSFILE_{}", app.to_uppercase()), file)
    }

    fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
        command.env_clear().envs(&self.environment).current_dir(self.folder.path()).args(arguments);
        let output = command.output().expect("the program runs");
        let named = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.words.iter().fold(text, |text, (word, stands)| text.replace(word, stands))
        };
        (output.status.code(), named(&output.stdout), named(&output.stderr))
    }

    /// Exit code and findings, without the table of the configuration.
    fn check(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let all: Vec<&str> = ["check"].iter().chain(arguments).copied().collect();
        let (code, out, err) = self.command(&all);
        assert_eq!(err, "", "the report is all there is to say");
        let findings = out.lines().skip_while(|line| !line.starts_with(['✓', '✗', '–']));
        (code, findings.collect::<Vec<_>>().join("\n"))
    }
}

fn simulators() -> (Apns, Fcm) {
    let apns = wait_for(Apns::start(apns::Settings::default())).expect("the APNs simulator");
    let fcm = wait_for(Fcm::start(fcm::Settings::default())).expect("the FCM simulator");
    (apns, fcm)
}

#[test]
fn everything_is_well() {
    let (apns, fcm) = simulators();
    let (app, group, database) = (unique("well"), unique("group"), postgres().database("check"));
    for topic in [format!("push-{app}_apns-single"), format!("push-{app}_gcm-massive")] {
        kafka().create_topic(&topic, 3);
    }
    for platform in ["apns", "gcm"] {
        kafka().create_topic(&format!("push-{app}-{platform}-feedbacks"), 2);
        kafka().create_topic(&format!("deadletters-{app}-{platform}"), 1);
        database.query(&format!("CREATE TABLE \"{app}_{platform}\" (id serial PRIMARY KEY, token text)"));
        database.query(&format!("CREATE INDEX ON \"{app}_{platform}\" (token)"));
    }
    let mut setup = Setup::new();
    setup.apns(&app, &apns).fcm(&app, &fcm);
    setup.set("QUEUE_BROKERS", &kafka().brokers).set("QUEUE_GROUP", &group).set("FEEDBACK_REPORTERS", "kafka");
    setup.set("FEEDBACK_KAFKA_BROKERS", &kafka().brokers).set("STATS_REPORTERS", "statsd");
    setup.set("STATS_STATSD_HOST", "127.0.0.1:8125").set("INVALIDTOKEN_HANDLERS", "pg");
    setup.set("INVALIDTOKEN_PG_HOST", &postgres().host).set("INVALIDTOKEN_PG_PORT", postgres().port.to_string());
    setup.set("INVALIDTOKEN_PG_USER", &postgres().user).set("INVALIDTOKEN_PG_DATABASE", &database.name);
    setup.set("APNS_RATELIMIT_RPM", "20").set("RATELIMITER_REDIS_PORT", redis().port.to_string());
    setup.set("RATELIMITER_TLS_DISABLED", "true").word(redis().port.to_string(), "<redis>");
    setup.word(&kafka().brokers, "<kafka>").word(&app, "game").word(&group, "pusher");
    let version = database.query("SHOW server_version").remove(0).remove(0);
    setup.word(version, "<version>");
    let (code, findings) = setup.check(&[]);
    insta::assert_snapshot!(findings);
    assert_eq!(code, Some(0));

    let (code, json, _) = setup.command(&["check", "gcm", "--json"]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &report["ok"], &report["checked"]), (Some(0), &Value::Bool(true), &serde_json::json!(["gcm"])));
    let keys: Vec<_> = report["configuration"].as_array().expect("rows").iter().map(|row| row["key"].clone()).collect();
    assert!(keys.contains(&"gcm.apps".into()) && !keys.contains(&"apns.apps".into()), "{keys:?}");
}

#[test]
fn everything_is_wrong() {
    let (apns, fcm) = simulators();
    let (app, other, database) = (unique("wrong"), unique("other"), postgres().database("check"));
    for table in [format!("{app}_gcm (id text)"), format!("{other}_apns (token text)")] {
        database.query(&format!("CREATE TABLE {table}"));
    }
    let user = unique("user");
    database.query(&format!("CREATE TABLE {app}_apns (token text PRIMARY KEY); CREATE ROLE {user} LOGIN; GRANT SELECT ON {other}_apns TO {user}"));
    database.query(&format!("GRANT DELETE ON {other}_apns TO {user}"));
    let mut setup = Setup::new();
    setup.apns(&app, &apns).fcm(&app, &fcm);
    // A second app, with the same file under another key's id.
    let key = setup.environment[&format!("PUSHER_APNS_CERTS_{}_AUTHKEYPATH", app.to_uppercase())].clone();
    let cert = format!("APNS_CERTS_{}", other.to_uppercase());
    setup.set(&format!("{cert}_AUTHKEYPATH"), key).set(&format!("{cert}_KEYID"), "KEY1234567");
    setup.set(&format!("{cert}_TEAMID"), "TEAM123456").set(&format!("{cert}_TOPIC"), "com.example.other");
    setup.set("APNS_APPS", format!("{app},{other}"));
    apns.handle().change(|faults| faults.connection.fail_tls = true).expect("valid faults");
    fcm.handle().change(|faults| faults.oauth.answer = Some(OAuthAnswer::InvalidGrant)).expect("valid faults");
    setup.set("QUEUE_BROKERS", &kafka().brokers).set("QUEUE_GROUP", &other);
    setup.set("FEEDBACK_REPORTERS", "kafka").set("FEEDBACK_KAFKA_BROKERS", &kafka().brokers);
    setup.set("STATS_REPORTERS", "statsd").set("STATS_STATSD_HOST", "no-such-host.invalid:8125");
    setup.set("INVALIDTOKEN_HANDLERS", "pg").set("INVALIDTOKEN_PG_USER", &user);
    setup.set("INVALIDTOKEN_PG_HOST", &postgres().host).set("INVALIDTOKEN_PG_PORT", postgres().port.to_string());
    setup.set("INVALIDTOKEN_PG_DATABASE", &database.name).set("MAXINFLIGHT", "1");
    setup.word(&kafka().brokers, "<kafka>").word(&app, "game").word(&other, "other").word(&user, "somebody");
    setup.word(database.query("SHOW server_version").remove(0).remove(0), "<version>");
    let (code, findings) = setup.check(&[]);
    insta::assert_snapshot!(findings);
    assert_eq!(code, Some(2));
}

#[test]
fn nobody_is_there() {
    let mut setup = Setup::new();
    let (apns, fcm) = simulators();
    setup.apns("game", &apns).fcm("game", &fcm);
    wait_for(async {
        apns.shutdown().await;
        fcm.shutdown().await;
    });
    let [kafka, postgres] = [ports::free(), ports::free()].map(|port| format!("127.0.0.1:{port}"));
    setup.set("GCM_RATELIMIT_RPM", "20").set("RATELIMITER_REDIS_PORT", ports::free().to_string());
    let redis = setup.environment["PUSHER_RATELIMITER_REDIS_PORT"].clone();
    setup.set("RATELIMITER_TLS_DISABLED", "true").word(redis, "<redis>");
    setup.word(&kafka, "<kafka>").word(&postgres, "<postgres>");
    setup.set("QUEUE_BROKERS", &kafka).set("FEEDBACK_REPORTERS", "kafka").set("FEEDBACK_KAFKA_BROKERS", &kafka);
    setup.set("INVALIDTOKEN_HANDLERS", "pg").set("INVALIDTOKEN_PG_USER", "me").set("INVALIDTOKEN_PG_DATABASE", "push");
    let (host, port) = postgres.split_once(':').expect("host:port");
    setup.set("INVALIDTOKEN_PG_HOST", host).set("INVALIDTOKEN_PG_PORT", port);
    let (code, findings) = setup.check(&[]);
    insta::assert_snapshot!(findings);
    assert_eq!(code, Some(2));
}

/// The whole way of a forbidden topic, on a Kafka with an authorizer: the start stops and says what mends it, a check says
/// the same, and both are content when it is granted.
#[test]
fn who_may_not_write_feedback_is_told_before_anything_is_consumed() {
    let kafka = Kafka::start_guarded("");
    let (apns, _) = simulators();
    let (topic, feedback) = ("push-game_apns-single", "push-game-apns-feedbacks");
    kafka.create_topic(topic, 1);
    kafka.create_topic(feedback, 1);
    let user = format!("User:{USER}");
    let allow = |words: &[&str]| kafka.acls(&[&["--add", "--allow-principal", &user], words].concat());
    allow(&["--operation", "Describe", "--topic", feedback]);
    allow(&["--operation", "Describe", "--topic", topic, "--group", "pusher"]);

    let mut setup = Setup::new();
    setup.apns("game", &apns).set("QUEUE_BROKERS", &kafka.brokers).set("QUEUE_GROUP", "pusher");
    setup.set("FEEDBACK_REPORTERS", "kafka").set("FEEDBACK_KAFKA_BROKERS", &kafka.brokers);
    setup.set("DEADLETTERS_ENABLED", "false").word(&kafka.brokers, "<kafka>");
    for (name, value) in login(USER) {
        let name = name.to_uppercase().replace('.', "_");
        setup.set(&format!("QUEUE_KAFKA_{name}"), value).set(&format!("FEEDBACK_KAFKA_OPTIONS_{name}"), value);
    }
    let (code, findings) = setup.check(&[]);
    insta::assert_snapshot!("forbidden", findings);
    assert_eq!(code, Some(2));
    let (code, _, log) = setup.command(&["apns"]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("push-game-apns-feedbacks may not be written by this user; grant it: kafka-acls.sh"), "{log}");

    // Feedback may be written, the group not joined: the worker ends, with the alarm that says why.
    allow(&["--producer", "--topic", feedback]);
    let (code, _, log) = setup.command(&["apns"]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("alarm=true") && log.contains("kafka-acls --add --operation Read --group"), "{log}");

    allow(&["--consumer", "--topic", topic, "--group", "pusher"]);
    let (code, findings) = setup.check(&[]);
    insta::assert_snapshot!("granted", findings);
    assert_eq!(code, Some(0));

    // Without its entries the listener deletes nothing.
    for (name, value) in login(USER) {
        let name = name.to_uppercase().replace('.', "_");
        setup.set(&format!("FEEDBACKLISTENERS_QUEUE_KAFKA_{name}"), value);
    }
    setup.set("FEEDBACKLISTENERS_QUEUE_BROKERS", &kafka.brokers);
    let nobody = ports::free().to_string();
    setup.set("FEEDBACKLISTENERS_INVALIDTOKEN_PG_USER", "me").set("FEEDBACKLISTENERS_INVALIDTOKEN_PG_DATABASE", "push");
    setup
        .set("FEEDBACKLISTENERS_INVALIDTOKEN_PG_HOST", "127.0.0.1")
        .set("FEEDBACKLISTENERS_INVALIDTOKEN_PG_PORT", nobody);
    let of_control = || {
        let (_, findings) = setup.check(&["listener"]);
        findings.lines().find(|line| line.contains("control topic")).map(str::to_owned).unwrap_or(findings)
    };
    let line = of_control();
    assert!(line.starts_with("✗ control topic") && line.contains("Topic authorization failed"), "{line}");
    allow(&["--consumer", "--topic", "pusher-control", "--group", "pusher"]);
    let line = of_control();
    assert!(line.starts_with("– control topic") && line.contains("there is no control topic pusher-control"), "{line}");
    kafka.create_topic("pusher-control", 1);
    let line = of_control();
    assert!(line.starts_with("✓ control topic") && line.contains("pusher-control may be read"), "{line}");

    setup.set("QUEUE_KAFKA_SASL_PASSWORD", "wrong").set("FEEDBACK_KAFKA_OPTIONS_SASL_PASSWORD", "wrong");
    let (code, findings) = setup.check(&[]);
    assert_eq!(code, Some(2));
    assert_eq!(findings.matches("Authentication failed").count(), 2, "{findings}");
}

/// With `verify-full` the server must show a certificate of a CA that is trusted, for its name; the original took any.
#[test]
fn a_database_with_a_strange_certificate_is_not_spoken_to() {
    let ca = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = parameters.self_signed(&ca).expect("a certificate");
    let key = rcgen::KeyPair::generate().expect("a key");
    let issuer = rcgen::Issuer::new(parameters, ca);
    let leaf = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let postgres = Postgres::start_encrypted(&leaf.pem(), &key.serialize_pem());
    let database = postgres.database("tls");
    database.query("CREATE TABLE game_apns (token text PRIMARY KEY)");

    let mut setup = Setup::new();
    let (apns, _) = simulators();
    setup.apns("game", &apns).set("QUEUE_BROKERS", &kafka().brokers).set("INVALIDTOKEN_HANDLERS", "pg");
    setup.set("INVALIDTOKEN_PG_HOST", "localhost").set("INVALIDTOKEN_PG_PORT", postgres.port.to_string());
    setup.set("INVALIDTOKEN_PG_USER", &postgres.user).set("INVALIDTOKEN_PG_DATABASE", &database.name);
    setup.set("INVALIDTOKEN_PG_SSLMODE", "verify-full");
    let (_, findings) = setup.check(&[]);
    assert!(findings.contains("cannot be asked: invalid peer certificate: UnknownIssuer"), "{findings}");

    let root = setup.file("root.pem", &root.pem());
    setup.environment.insert("PGSSLROOTCERT".into(), root);
    let (_, findings) = setup.check(&[]);
    assert!(findings.contains("✓ token table"), "{findings}");
    setup.set("INVALIDTOKEN_PG_HOST", "127.0.0.1");
    let (_, findings) = setup.check(&[]);
    assert!(findings.contains("✗ postgresql"), "the certificate is for another name: {findings}");
}

#[test]
fn wrong_values_and_odd_names_are_findings_and_notices() {
    let mut setup = Setup::new();
    setup.set("APNS_APPS", "game").set("MAXINFLIGHT", "0").set("SENTRY_URL", "hunter2").set("QUEUE_GROOP", "g");
    let (code, out, _) = setup.command(&["check", "apns"]);
    assert_eq!(code, Some(2));
    assert!(out.contains("! PUSHER_QUEUE_GROOP: unknown, did you mean PUSHER_QUEUE_GROUP?"), "{out}");
    let wrong: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("✗ configuration")).map(str::trim).collect();
    assert!(wrong.contains(&"maxInFlight: \"0\" must be from 2 to 1000000 (PUSHER_MAXINFLIGHT)"), "{out}");
    assert!(wrong.iter().any(|line| line.starts_with("sentry.url: must be a Sentry DSN")), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
}
