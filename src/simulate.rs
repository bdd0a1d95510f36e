//! `pusher simulate`: a stand-in for a provider, until the program is stopped.
//!
//! Keys of an earlier start are used again: who trusts them need not be told of a restart.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cli::{SimulateApns, SimulateFcm};
use crate::shutdown::Shutdown;
use crate::simulator::{apns, fcm};

/// Runs the APNs simulator.
pub fn apns(arguments: &SimulateApns, shutdown: &Shutdown) -> Result<()> {
    let settings = apns_settings(arguments)?;
    runtime()?.block_on(async {
        let simulator = apns::Simulator::start(settings).await.context("starting the simulator")?;
        write_ca(arguments.ca_out.as_deref(), simulator.ca_pem(), simulator.ca_key_pem())?;
        if let Some(file) = &arguments.key_out {
            write_secret(file, &simulator.key().pem)?;
        }
        println!("APNs simulator at https://{}", simulator.address());
        if let Some(control) = simulator.control_address() {
            println!("control endpoint at http://{control}");
        }
        shutdown.token().cancelled().await;
        simulator.shutdown().await;
        Ok(())
    })
}

fn apns_settings(arguments: &SimulateApns) -> Result<apns::Settings> {
    let mut settings = apns::Settings {
        listen: arguments.listen,
        control: arguments.control,
        topics: arguments.topic.clone(),
        ca_key: kept_ca_key(arguments.ca_out.as_deref())?,
        ..apns::Settings::default()
    };
    let pem = match arguments.key_out.as_deref().map(kept).transpose()?.flatten() {
        Some(pem) => pem,
        None => apns::Key::generate()?.pem,
    };
    let (key_id, team_id) = (arguments.key_id.clone(), arguments.team_id.clone());
    settings.keys = vec![apns::Key { key_id, team_id, pem }];
    settings.names.extend(arguments.name.iter().cloned());
    settings.faults.connection.rtt_ms = arguments.rtt.as_millis() as u64;
    settings.faults.processing_ms = arguments.processing.as_millis() as u64;
    Ok(settings)
}

/// Runs the FCM simulator and its token endpoint.
pub fn fcm(arguments: &SimulateFcm, shutdown: &Shutdown) -> Result<()> {
    let settings = fcm_settings(arguments)?;
    runtime()?.block_on(async {
        let simulator = fcm::Simulator::start(settings).await.context("starting the simulator")?;
        write_ca(arguments.ca_out.as_deref(), simulator.ca_pem(), simulator.ca_key_pem())?;
        for (project, file) in credentials_files(arguments) {
            let credentials = simulator.credentials(project).context("a project without credentials")?;
            // Anew at each start, for the token endpoint may have another port.
            write_private(&file, &credentials)?;
        }
        println!("FCM simulator at https://{}", simulator.address());
        println!("tokens at {}", simulator.token_uri());
        if let Some(control) = simulator.control_address() {
            println!("control endpoint at http://{control}");
        }
        shutdown.token().cancelled().await;
        simulator.shutdown().await;
        Ok(())
    })
}

fn fcm_settings(arguments: &SimulateFcm) -> Result<fcm::Settings> {
    let account = credentials_files(arguments).first().map(|(_, file)| kept(file)).transpose()?.flatten();
    let account_key = account.map(|text| private_key(&text)).transpose().context("reading the service account")?;
    let mut settings = fcm::Settings {
        listen: arguments.listen,
        oauth: arguments.oauth,
        control: arguments.control,
        host: arguments.name.first().cloned(),
        ca_key: kept_ca_key(arguments.ca_out.as_deref())?,
        account_key,
        projects: arguments.project.clone(),
        ..fcm::Settings::default()
    };
    settings.names.extend(arguments.name.iter().cloned());
    settings.faults.connection.rtt_ms = arguments.rtt.as_millis() as u64;
    settings.faults.processing_ms = arguments.processing.as_millis() as u64;
    settings.faults.quota_per_minute = arguments.quota;
    settings.faults.oauth.expires_in_s = u32::try_from(arguments.token_lifetime.as_secs()).unwrap_or(u32::MAX);
    Ok(settings)
}

/// The private key in a service account's JSON.
fn private_key(account: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Account {
        private_key: String,
    }
    Ok(serde_json::from_str::<Account>(account)?.private_key)
}

/// Each project and the file of its account. One of several has its name before the extension.
fn credentials_files(arguments: &SimulateFcm) -> Vec<(&str, PathBuf)> {
    let Some(file) = &arguments.credentials_out else { return Vec::new() };
    let extension = file.extension().map_or_else(|| "json".into(), |extension| extension.to_string_lossy());
    let of = |project: &str| match arguments.project.len() {
        1 => file.clone(),
        _ => file.with_extension(format!("{project}.{extension}")),
    };
    arguments.project.iter().map(|project| (project.as_str(), of(project))).collect()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn write_ca(file: Option<&Path>, pem: &str, key_pem: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    write_secret(&ca_key_file(file), key_pem)?;
    std::fs::write(file, pem).with_context(|| format!("writing {}", file.display()))
}

/// `ca.pem` → `ca.key`.
fn ca_key_file(ca: &Path) -> PathBuf {
    ca.with_extension("key")
}

fn kept_ca_key(ca: Option<&Path>) -> Result<Option<String>> {
    Ok(ca.map(|ca| kept(&ca_key_file(ca))).transpose()?.flatten())
}

/// What an earlier start wrote.
fn kept(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// Writes a private key that only its owner may read, unless the file is there: it holds this key then.
fn write_secret(file: &Path, pem: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut out) => out.write_all(pem.as_bytes()).with_context(|| format!("writing {}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("writing {}", file.display())),
    }
}

/// Writes what only its owner may read, over what is there.
fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened.and_then(|mut out| out.write_all(text.as_bytes())).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, Simulate};

    fn arguments(projects: &[&str], file: &Path) -> SimulateFcm {
        let mut line = vec!["pusher", "simulate", "fcm", "--credentials-out", file.to_str().expect("a path")];
        for project in projects {
            line.extend(["--project", project]);
        }
        match Cli::parse_from(line).command {
            Command::Simulate { provider: Simulate::Fcm(arguments) } => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn several_projects_have_a_file_each() {
        let files = |projects: &[&str], file: &str| {
            let arguments = arguments(projects, Path::new(file));
            credentials_files(&arguments).into_iter().map(|(_, file)| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(files(&[], "x/account.json"), ["x/account.json"]);
        assert_eq!(files(&["one", "two"], "x/account.json"), ["x/account.one.json", "x/account.two.json"]);
        assert_eq!(files(&["one", "two"], "x/account"), ["x/account.one.json", "x/account.two.json"]);
    }

    #[tokio::test]
    async fn the_next_start_uses_the_key_of_the_last() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("account.json");
        let arguments = arguments(&["one"], &file);
        assert_eq!(fcm_settings(&arguments).expect("settings").account_key, None);
        let local = "127.0.0.1:0".parse().expect("address");
        let settings = |from: fcm::Settings| fcm::Settings { listen: local, oauth: local, ..from };
        let simulator =
            fcm::Simulator::start(settings(fcm_settings(&arguments).expect("settings"))).await.expect("start");
        let first = simulator.credentials("one").expect("known");
        write_private(&file, &first).expect("written");
        let again = settings(fcm_settings(&arguments).expect("settings"));
        let again = fcm::Simulator::start(again).await.expect("start").credentials("one").expect("known");
        assert_eq!(private_key(&again).expect("key"), private_key(&first).expect("key"));
        std::fs::write(&file, "{}").expect("written");
        assert!(fcm_settings(&arguments).is_err(), "no account is no reason to make another key in silence");
    }
}
