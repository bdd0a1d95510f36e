//! What people get wrong when they write a configuration, by running the program: each gets a line that names the key and
//! what to do, before anything is consumed.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

/// A mistake: in words, the platform that is started, the file, the environment.
type Mistake = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Right but for the key's file, which is not there: the start ends at the latest with that.
const APNS: &[(&str, &str)] = &[
    ("PUSHER_APNS_APPS", "game"),
    ("PUSHER_APNS_CERTS_GAME_AUTHKEYPATH", "/nowhere.p8"),
    ("PUSHER_APNS_CERTS_GAME_KEYID", "ABC123DEFG"),
    ("PUSHER_APNS_CERTS_GAME_TEAMID", "DEF123GHIJ"),
    ("PUSHER_APNS_CERTS_GAME_TOPIC", "com.example.game"),
];
const GCM: &[(&str, &str)] =
    &[("PUSHER_GCM_APPS", "game"), ("PUSHER_GCM_FIREBASECREDENTIALSFILE_GAME", "/nowhere.json")];

const MISTAKES: &[Mistake] = &[
    ("no app", "apns", "apns: {apps: ''}", &[("PUSHER_APNS_APPS", "")]),
    ("an app without its keys", "apns", "", &[("PUSHER_APNS_APPS", "game, chess")]),
    ("the same app twice", "apns", "", &[("PUSHER_APNS_APPS", "game, Game")]),
    ("JSON where a list stands", "apns", "", &[("PUSHER_APNS_APPS", "[\"game\"]")]),
    ("keys under a misspelt app", "apns", "apns: {certs: {gmae: {keyID: ABC123DEFG}}}", &[]),
    ("a key file that is not there", "apns", "", &[]),
    ("a certificate instead of a key", "apns", "", &[("PUSHER_APNS_CERTS_GAME_AUTHKEYPATH", "Cargo.toml")]),
    ("a key id of another length", "apns", "", &[("PUSHER_APNS_CERTS_GAME_KEYID", "AuthKey_ABC123DEFG")]),
    ("the bundle id as team", "apns", "", &[("PUSHER_APNS_CERTS_GAME_TEAMID", "com.example.game")]),
    ("a name instead of the bundle id", "apns", "", &[("PUSHER_APNS_CERTS_GAME_TOPIC", "My Game")]),
    ("the variable's name made up", "apns", "", &[("PUSHER_APNS_CERTS_GAME_KEY_ID", "ABC123DEFG")]),
    ("an endpoint without TLS", "apns", "apns: {endpoint: 'http://localhost:8443'}", &[]),
    ("a CA file that is not there", "apns", "apns: {caFile: /nowhere.pem}", &[]),
    ("no credentials", "gcm", "", &[("PUSHER_GCM_FIREBASECREDENTIALSFILE_GAME", "")]),
    (
        "a path instead of JSON",
        "gcm",
        "",
        &[("PUSHER_GCM_FIREBASECREDENTIALSFILE_GAME", ""), ("PUSHER_GCM_FIREBASECREDENTIALS_GAME", "/keys/game.json")],
    ),
    (
        "credentials without content",
        "gcm",
        "gcm: {firebaseCredentials: {game: '{}'}}",
        &[("PUSHER_GCM_FIREBASECREDENTIALSFILE_GAME", "")],
    ),
    ("credentials in two places", "gcm", "gcm: {firebaseCredentials: {game: '{}'}}", &[]),
    ("a project's name", "gcm", "gcm: {projectId: {game: My Game}}", &[]),
    ("keys of the legacy interface", "gcm", "gcm: {certs: {game: {apiKey: k, senderID: '1'}}}", &[]),
    ("a URL as broker", "apns", "queue: {brokers: 'http://kafka:9092'}", &[]),
    ("a glob as topic", "apns", "queue: {topics: ['push-*_apns']}", &[]),
    ("half a regular expression", "apns", "queue: {topics: ['^push-(game_apns']}", &[]),
    ("seconds where ms are meant", "apns", "queue: {sessionTimeout: 6}", &[]),
    ("no such place to begin", "apns", "queue: {offsetResetStrategy: beginning of time}", &[]),
    ("an option that carries the promise", "apns", "queue: {kafka: {enable.auto.commit: true}}", &[]),
    ("an option that librdkafka does not have", "apns", "queue: {kafka: {sasl.user: me}}", &[]),
    ("a number without its unit", "apns", "queue: {commitInterval: 5}", &[]),
    ("no such reporter", "apns", "stats: {reporters: [datadog]}", &[]),
    ("a URL as StatsD host", "apns", "stats: {reporters: [statsd], statsd: {host: 'udp://localhost:8125'}}", &[]),
    ("a prefix with white space", "apns", "stats: {reporters: [statsd], statsd: {prefix: my push}}", &[]),
    ("a section that nobody reads", "apns", "stats: {statsd: {host: 'localhost:8125'}}", &[]),
    ("no such feedback reporter", "apns", "feedback: {reporters: [rabbitmq]}", &[]),
    ("records that nobody waits for", "apns", "feedback: {reporters: [kafka], kafka: {options: {acks: 0}}}", &[]),
    ("the database's name as handler", "apns", "invalidToken: {handlers: [postgres]}", &[]),
    ("a database without a user", "apns", "invalidToken: {handlers: [pg], pg: {database: push}}", &[]),
    ("a share in per cent", "apns", "invalidToken: {handlers: [pg], maxShare: 30, pg: {user: u, database: d}}", &[]),
    ("nothing in flight", "apns", "maxInFlight: 0", &[]),
    ("no time to end", "apns", "gracefulShutdownTimeout: 0", &[]),
    ("a tab", "apns", "queue:\n\tgroup: push", &[]),
    ("a key twice", "apns", "queue: {group: a}\nQueue: {group: b}", &[]),
    ("a misspelt key", "apns", "queue: {gruop: push}", &[]),
    ("a key in the wrong place", "apns", "queue: {statsd: {host: 'localhost:8125'}}", &[]),
    ("a level that does not exist", "apns", "log: {level: verbose}", &[]),
    ("a word as DSN", "apns", "sentry: {url: production}", &[]),
];

/// What the program says, without the line about the file that is never there, unless that is the mistake.
fn said((title, platform, yaml, environment): &Mistake) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pusher.yaml");
    std::fs::write(&file, yaml).unwrap();
    let right = if *platform == "apns" { APNS } else { GCM };
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().envs(right.iter().copied()).envs(environment.iter().copied());
    let output = command.args([platform, "--json", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{title}: {}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8(output.stderr).unwrap().replace(&file.display().to_string(), "pusher.yaml");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let words = lines.map(|line| {
        let mut words = line["msg"].as_str().expect("a message").to_owned();
        for field in ["key", "pattern", "value"] {
            if let Some(value) = line[field].as_str() {
                let _ = write!(words, " {field}={value}");
            }
        }
        words
    });
    let all: Vec<_> = words.collect();
    let rest: Vec<_> = all.iter().filter(|line| !line.contains("/nowhere.p8\" cannot be read")).cloned().collect();
    if rest.is_empty() { all } else { rest }
}

#[test]
fn each_typical_mistake_gets_a_line_that_names_the_fix() {
    let mut all = String::new();
    for mistake in MISTAKES {
        let _ = writeln!(all, "{}:", mistake.0);
        for line in said(mistake) {
            let _ = writeln!(all, "    {line}");
        }
    }
    insta::assert_snapshot!(all);
}
