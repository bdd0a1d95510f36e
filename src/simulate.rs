//! `pusher simulate`: a stand-in for a provider, until the program is stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cli::{SimulateApns, SimulateFcm};
use crate::shutdown::Shutdown;
use crate::simulator::{apns, fcm};

/// Runs the APNs simulator.
pub fn apns(arguments: &SimulateApns, shutdown: &Shutdown) -> Result<()> {
    let mut settings = apns::Settings {
        listen: arguments.listen,
        control: arguments.control,
        topics: arguments.topic.clone(),
        ..apns::Settings::default()
    };
    let (key_id, team_id) = (arguments.key_id.clone(), arguments.team_id.clone());
    settings.keys = vec![apns::Key { key_id, team_id, ..apns::Key::generate()? }];
    settings.faults.connection.rtt_ms = arguments.rtt.as_millis() as u64;
    settings.faults.processing_ms = arguments.processing.as_millis() as u64;
    runtime()?.block_on(async {
        let simulator = apns::Simulator::start(settings).await.context("starting the simulator")?;
        write_out(arguments.ca_out.as_deref(), simulator.ca_pem())?;
        write_out(arguments.key_out.as_deref(), &simulator.key().pem)?;
        println!("APNs simulator at https://{}", simulator.address());
        if let Some(control) = simulator.control_address() {
            println!("control endpoint at http://{control}");
        }
        shutdown.token().cancelled().await;
        simulator.shutdown().await;
        Ok(())
    })
}

/// Runs the FCM simulator and its token endpoint.
pub fn fcm(arguments: &SimulateFcm, shutdown: &Shutdown) -> Result<()> {
    let mut settings = fcm::Settings {
        listen: arguments.listen,
        oauth: arguments.oauth,
        control: arguments.control,
        host: arguments.host.clone(),
        projects: arguments.project.clone(),
        ..fcm::Settings::default()
    };
    settings.faults.connection.rtt_ms = arguments.rtt.as_millis() as u64;
    settings.faults.processing_ms = arguments.processing.as_millis() as u64;
    settings.faults.quota_per_minute = arguments.quota;
    settings.faults.oauth.expires_in_s = u32::try_from(arguments.token_lifetime.as_secs()).unwrap_or(u32::MAX);
    runtime()?.block_on(async {
        let simulator = fcm::Simulator::start(settings).await.context("starting the simulator")?;
        write_out(arguments.ca_out.as_deref(), simulator.ca_pem())?;
        for project in &arguments.project {
            let path = arguments.credentials_out.as_deref().map(|path| of_project(path, project, &arguments.project));
            let credentials = simulator.credentials(project).context("a project without credentials")?;
            write_out(path.as_deref(), &credentials)?;
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

/// The file for one of several projects has its name before the extension.
fn of_project(path: &Path, project: &str, all: &[String]) -> PathBuf {
    if all.len() == 1 {
        return path.to_owned();
    }
    let extension = path.extension().map_or_else(|| "json".into(), |extension| extension.to_string_lossy());
    path.with_extension(format!("{project}.{extension}"))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn write_out(path: Option<&Path>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_projects_have_a_file_each() {
        let name = |path: &str, all: &[&str]| {
            let all: Vec<String> = all.iter().map(|&name| name.to_owned()).collect();
            of_project(Path::new(path), &all[0], &all).display().to_string()
        };
        assert_eq!(name("x/account.json", &["one"]), "x/account.json");
        assert_eq!(name("x/account.json", &["one", "two"]), "x/account.one.json");
        assert_eq!(name("x/account", &["one", "two"]), "x/account.one.json");
    }
}
