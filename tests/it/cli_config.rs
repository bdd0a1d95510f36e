//! Wrong and odd configurations, by running the program: exit code 2 before anything is consumed, and what is said.

use std::io::Write as _;
use std::process::Command;

/// Exit code and log of `pusher apns` with this file and these variables; times and the file's path are replaced.
fn start(yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> (Option<i32>, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().envs(env.iter().copied()).args(["apns", "--config", path]).args(flags);
    let output = command.output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap().replace(path, "pusher.yaml");
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").unwrap();
    (output.status.code(), time.replace_all(&log, "<time>").into_owned())
}

#[test]
fn a_wrong_value_stops_the_start() {
    let (code, log) = start("gracefulShutdownTimeout: soon\n", &[], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=error msg="gracefulShutdownTimeout: \"soon\" must be a number (s) or a duration such as 250ms, 5s, 10m (pusher.yaml line 1)" alarm=true reason=configuration
"#);
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
    let (code, log) = start(yaml, &[("PUSHER_LOG_LEVEL", "chatty"), ("PUSHER_LOGLEVEL", "debug")], &[]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(log, @r#"
time="<time>" level=warning msg="unknown log level, using info: one of trace, debug, info, warning, error" key=log.level value=chatty
time="<time>" level=warning msg="log.levle (line 2): unknown, did you mean log.level?"
time="<time>" level=warning msg="pprof.enabled, pprof.port: accepted, no effect, because it belongs to the original's runtime"
time="<time>" level=warning msg="PUSHER_LOGLEVEL: unknown, did you mean PUSHER_LOG_LEVEL?"
time="<time>" level=error msg="gracefulShutdownTimeout: \"0\" must be from 1 second to 1 hour (pusher.yaml line 1)" alarm=true reason=configuration
"#);
}
