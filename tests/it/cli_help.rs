//! The command line as people meet it: help, version, wrong arguments.

use std::process::{Command, Output};

/// Runs the program with nothing of our environment that would change its answer.
fn pusher(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PUSHER_") {
            command.env_remove(name);
        }
    }
    command.env("COLUMNS", "100").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    // Trailing blanks in blank lines are clap's affair, and editors strip them from snapshots.
    String::from_utf8_lossy(bytes).lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_of_every_command() {
    for arguments in [
        &["--help"][..],
        &["apns", "--help"],
        &["gcm", "--help"],
        &["check", "--help"],
        &["start-feedback-listener", "--help"],
        &["valve", "--help"],
        &["valve", "status", "--help"],
        &["valve", "resume", "--help"],
        &["pause", "--help"],
        &["resume", "--help"],
        &["job", "--help"],
        &["job", "stop", "--help"],
        &["job", "start", "--help"],
        &["job", "list", "--help"],
        &["peek", "--help"],
        &["redrive", "--help"],
        &["simulate", "--help"],
        &["simulate", "apns", "--help"],
        &["simulate", "fcm", "--help"],
        &["generate", "--help"],
        &["generate", "apns", "--help"],
        &["generate", "gcm", "--help"],
        &["demo", "--help"],
        &["health", "--help"],
        &["status", "--help"],
        &["version", "--help"],
    ] {
        let output = pusher(arguments);
        assert!(output.status.success(), "{arguments:?}");
        let name = arguments.join("-").replace("--help", "help").replace("help-", "");
        insta::assert_snapshot!(name, text(&output.stdout));
    }
}

#[test]
fn version_prints_the_crates_version() {
    let output = pusher(&["version"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), env!("CARGO_PKG_VERSION")));
}

/// Found by its name alone, and without a word if it is not.
#[test]
fn the_allocator_finds_its_settings_in_the_binary() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pusher")).env("_RJEM_MALLOC_CONF", "stats_print:true").arg("version").output();
    let told = text(&output.unwrap().stderr);
    for setting in ["Global variable malloc_conf: \"dirty_decay_ms:1000\"", "opt.background_thread: true"] {
        assert!(told.contains(setting), "{told}");
    }
}

#[test]
fn a_wrong_command_line_is_a_wrong_configuration() {
    for (arguments, said) in [
        (&["apn"][..], "apns"),
        (&["apns", "--verbose"], "--verbose"),
        (&["simulate", "apns", "--rtt", "20"], "must be a duration such as 250ms"),
        (&["generate", "apns", "--topic", "t"], "--brokers"),
        (&[], "Usage: pusher"),
    ] {
        let output = pusher(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}
