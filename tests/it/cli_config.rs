//! Wrong and odd configurations, by running the program: exit code 2 before anything is consumed, and what is said.

use std::io::Write as _;
use std::process::Command;

/// Exit code and log of `pusher apns` with this file and these variables; times and the file's path are replaced.
fn start(yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> (Option<i32>, String) {
    start_of("apns", yaml, env, flags)
}

/// The same for any platform.
fn start_of(platform: &str, yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> (Option<i32>, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().envs(env.iter().copied()).args([platform, "--config", path]).args(flags);
    let output = command.output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap().replace(path, "pusher.yaml");
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").unwrap();
    (output.status.code(), time.replace_all(&log, "<time>").into_owned())
}

/// An app with credentials, of which the key file is not there.
const APP: &str = "apns: {apps: game, certs: {game: {authKeyPath: /nowhere.p8, keyID: ABC123DEFG, teamID: DEF123GHIJ, \
                   topic: com.example.game}}}\n";

#[test]
fn a_wrong_value_stops_the_start() {
    let (code, log) = start(&format!("gracefulShutdownTimeout: soon\n{APP}"), &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="gracefulShutdownTimeout: \"soon\" must be a number (s) or a duration such as 250ms, 5s, 10m (pusher.yaml line 1)" alarm=true reason=configuration
"#);
}

#[test]
fn one_start_names_all_wrong_values_and_no_secret() {
    let yaml = "queue: {offsetResetStrategy: newest, kafka: {group.id: mine}}\nstats: {reporters: [datadog]}\n\
                invalidToken: {handlers: [pg], pg: {pass: hunter2}}\nmaxInFlight: 0\n";
    let (code, log) = start(yaml, &[("PUSHER_APNS_TIMEOUT", "20")], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="maxInFlight: \"0\" must be from 2 to 1000000 (pusher.yaml line 4)" alarm=true reason=configuration
time="<time>" level=error msg="queue.offsetResetStrategy: \"newest\" must be latest or earliest (pusher.yaml line 1)" alarm=true reason=configuration
time="<time>" level=error msg="stats.reporters: \"datadog\" is not known; known are: statsd (pusher.yaml line 2)" alarm=true reason=configuration
time="<time>" level=error msg="apns.apps: must name at least one app, by the name that its topics have" alarm=true reason=configuration
"#);
}

#[test]
fn an_option_that_carries_the_promise_is_refused_with_the_reason() {
    let (code, log) = start(&format!("{APP}queue: {{kafka: {{enable.auto.commit: true}}}}\n"), &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="queue.kafka.enable.auto.commit: cannot be set: offsets move only after an outcome is final and reported; see queue.commitInterval (pusher.yaml line 2)" alarm=true reason=configuration
"#);
}

#[test]
fn an_app_without_credentials_is_named_with_the_key_that_is_missing() {
    let (code, log) = start("apns: {apps: game, certs: {gmae: {authKeyPath: key.p8}}}\n", &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=warning msg="apns.certs.gmae.authKeyPath (line 1): not used, because apns.apps does not list this app"
time="<time>" level=error msg="apns.certs.game.authKeyPath: must be set: app game of apns.apps needs authKeyPath, keyID, teamID and topic" alarm=true reason=configuration
"#);
}

#[test]
fn a_signing_key_that_cannot_be_used_stops_the_start_and_names_the_app() {
    let (code, log) = start(APP, &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="apns app game: apns.certs.game.authKeyPath: \"/nowhere.p8\" cannot be read: No such file or directory (os error 2)" alarm=true reason=configuration
"#);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n").unwrap();
    let path = key.path().to_str().unwrap();
    let (code, log) = start(APP, &[("PUSHER_APNS_CERTS_GAME_AUTHKEYPATH", path)], &[]);
    assert_eq!(code, Some(2));
    assert!(log.contains("is not an EC private key in PEM") && !log.contains("hunter2"), "{log}");
}

#[test]
fn without_file_and_environment_the_first_thing_to_set_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    let output = command.env_clear().current_dir(tempfile::tempdir().unwrap().path()).arg("apns").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("apns.apps: must name at least one app, by the name that its topics have"), "{log}");
}

#[test]
fn a_wrong_variable_is_named_and_a_secret_is_not_shown() {
    let (code, log) = start("", &[("PUSHER_SENTRY_URL", "https://hunter2")], &["-j"]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
{"alarm":true,"level":"error","msg":"sentry.url: must be a Sentry DSN such as https://key@sentry.example.com/1 (PUSHER_SENTRY_URL)","reason":"configuration","time":"<time>"}
"#);
}

#[test]
fn an_unreadable_or_malformed_file_is_named_with_its_line() {
    let (code, log) = start("queue:\n  topics: [a\n", &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="pusher.yaml line 3: not YAML: while parsing a flow sequence, expected ',' or ']'" alarm=true reason=configuration
"#);
    let (code, log) = start("", &[], &["--config", "/nowhere.yaml"]);
    assert_eq!(code, Some(2), "{log}");
}

#[test]
fn odd_names_are_warned_about_before_what_stops_the_start() {
    let yaml = "gracefulShutdownTimeout: 0\nlog: {levle: debug}\npprof: {enabled: true, port: 8081}\n";
    let (code, log) =
        start(&format!("{yaml}{APP}"), &[("PUSHER_LOG_LEVEL", "chatty"), ("PUSHER_LOGLEVEL", "debug")], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=warning msg="unknown log level, using info: one of trace, debug, info, warning, error" key=log.level value=chatty
time="<time>" level=warning msg="log.levle (line 2): unknown, did you mean log.level?"
time="<time>" level=warning msg="pprof.enabled, pprof.port: accepted, no effect, because it belongs to the original's runtime"
time="<time>" level=warning msg="PUSHER_LOGLEVEL: unknown, did you mean PUSHER_LOG_LEVEL?"
time="<time>" level=error msg="gracefulShutdownTimeout: \"0\" must be from 1 second to 1 hour (pusher.yaml line 1)" alarm=true reason=configuration
"#);
}

/// File and environment reach `pusher gcm` as they reach `pusher apns`.
#[test]
fn credentials_of_fcm_that_cannot_be_used_stop_the_start_and_name_app_and_key() {
    let yaml = "gcm: {apps: [game, other], firebaseCredentialsFile: {game: /nowhere.json}}\n";
    let (code, log) = start_of("gcm", yaml, &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log);
    let (code, log) = start_of("gcm", yaml, &[("PUSHER_GCM_PROJECTID_OTHER", "my-project")], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log);
}
