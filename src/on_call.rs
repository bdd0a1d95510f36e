//! What `pusher pause`, `pusher resume` and `pusher job` run: orders in the control topic, given and shown.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::admin::ask::ask_with;
use crate::admin::{self, guard};
use crate::cli::{Job, Pause, ResumeLanes};
use crate::config::Config;
use crate::handlers;
use crate::jobs::id::{LONGEST, is_name};
use crate::levers::orders::{Given, Orders, Paused, Target};
use crate::levers::{Levers, NotGiven};
use crate::status::words::age;
use crate::valve::{open, person};

/// `pusher pause`.
pub fn pause(config: &Config, arguments: &Pause, json: bool) -> Result<()> {
    let (Some(app), Some(platform)) = (&arguments.app, &arguments.platform) else { return list_pauses(config, json) };
    let lane = arguments.lane.map(Into::into);
    let target = Target { app: app.clone(), platform: platform.clone(), lane };
    let (runtime, levers) = levers(config, true)?;
    let paused = runtime.block_on(levers.pause(&target, person(), arguments.why.clone()))?;
    for Paused { app, platform, lane } in &paused {
        println!("paused: {app} on {platform}, {}", lane.as_str());
    }
    warn_of_strangers(config, &target);
    Ok(())
}

/// `pusher resume`.
pub fn resume(config: &Config, arguments: &ResumeLanes) -> Result<()> {
    let ResumeLanes { app, platform, lane } = arguments;
    let target = Target { app: app.clone(), platform: platform.clone(), lane: lane.map(Into::into) };
    let (runtime, levers) = levers(config, false)?;
    let resumed = runtime.block_on(levers.resume(&target, person()))?;
    for Paused { app, platform, lane } in &resumed {
        println!("resumed: {app} on {platform}, {}", lane.as_str());
    }
    if resumed.is_empty() {
        println!("nothing of {app} on {platform} is paused");
    }
    Ok(())
}

/// `pusher job`.
pub fn job(config: &Config, action: &Job, json: bool) -> Result<()> {
    match action {
        Job::Stop { job, why } => {
            ensure!(is_name(job), "a job's name has 1 to {LONGEST} bytes and no control characters");
            let (runtime, levers) = levers(config, true)?;
            runtime.block_on(levers.stop_job(job, person(), why.clone()))?;
            println!("stopped: {job}");
        }
        Job::Start { job } => {
            let (runtime, levers) = levers(config, false)?;
            let was_stopped = runtime.block_on(levers.start_job(job, person()))?;
            println!("{}: {job}", if was_stopped { "started" } else { "was not stopped" });
        }
        Job::List { admin } => list_jobs(config, admin.as_deref(), json)?,
    }
    Ok(())
}

fn levers(config: &Config, create: bool) -> Result<(Runtime, Levers)> {
    let Some((runtime, control, _)) = open(config, create)? else {
        bail!(
            "control.topic is off: orders reach a process by its admin server alone (POST /api/pause, /api/jobs/ID/stop), and a restart forgets them"
        );
    };
    Ok((runtime, Levers::new(control, handlers::providers().iter().map(|known| known.platform))))
}

/// The orders that stand; none where there is no topic.
fn standing(config: &Config) -> Result<Orders> {
    let (runtime, levers) = levers(config, false)?;
    match runtime.block_on(levers.all_orders()) {
        Err(NotGiven::NoTopic(why)) => {
            tracing::debug!(why, "no control topic");
            Ok(Orders::default())
        }
        other => Ok(other?),
    }
}

fn list_pauses(config: &Config, json: bool) -> Result<()> {
    let pauses = standing(config)?.pauses;
    if json {
        for (Paused { app, platform, lane }, Given { at, by, why }) in pauses {
            println!(
                "{}",
                json!({ "app": app, "platform": platform, "lane": lane.as_str(), "at": at, "by": by, "why": why })
            );
        }
        return Ok(());
    }
    if pauses.is_empty() {
        println!("nothing is paused");
        return Ok(());
    }
    let row = |(Paused { app, platform, lane }, given): &(Paused, Given)| {
        [vec![app.clone(), platform.clone(), lane.as_str().to_owned()], words(given)].concat()
    };
    print!("{}", table(&["APP", "PLATFORM", "LANE", "FOR", "BY", "WHY"], pauses.iter().map(row)));
    Ok(())
}

fn list_jobs(config: &Config, address: Option<&str>, json: bool) -> Result<()> {
    let (stopped, in_sight) = (standing(config)?.jobs, in_sight(config, address)?);
    if json {
        for (id, Given { at, by, why }) in stopped {
            println!("{}", json!({ "id": id, "stopped": true, "at": at, "by": by, "why": why }));
        }
        for job in in_sight {
            println!("{job}");
        }
        return Ok(());
    }
    if stopped.is_empty() {
        println!("no job is stopped");
    } else {
        let row = |(id, given): &(String, Given)| [vec![id.clone()], words(given)].concat();
        print!("{}", table(&["STOPPED JOB", "FOR", "BY", "WHY"], stopped.iter().map(row)));
    }
    if !in_sight.is_empty() {
        let head = ["JOB IN SIGHT", "DELIVERED", "CANCELLED", "NOT DELIVERED", "PER SECOND", "IDLE"];
        print!("\n{}", table(&head, in_sight.iter().map(figures)));
    }
    Ok(())
}

/// The jobs that a worker has in sight. Where none is asked for by name, its not being there is no error.
fn in_sight(config: &Config, address: Option<&str>) -> Result<Vec<Value>> {
    let configured = admin::Settings::from_config(config).map_err(|error| config.placed(&error))?.listen;
    let Some(at) = address.map(ToOwned::to_owned).or(configured) else { return Ok(Vec::new()) };
    let token = guard::token(config).map_err(|error| config.placed(&error))?;
    let answer = match ask_with(&at, "/api/jobs", token.as_deref()) {
        Err(error) if address.is_none() => {
            tracing::debug!(%error, "no worker here");
            return Ok(Vec::new());
        }
        other => other?,
    };
    let answer: Value = serde_json::from_str(&answer.body)?;
    Ok(answer["jobs"].as_array().cloned().unwrap_or_default())
}

fn figures(job: &Value) -> Vec<String> {
    let reasons = job["reasons"].as_object().into_iter().flatten();
    let others: Vec<_> = reasons.filter(|(key, _)| *key != "cancelled").map(|(key, n)| format!("{key} {n}")).collect();
    let idle = job["idleS"].as_f64().unwrap_or_default();
    vec![
        job["id"].as_str().unwrap_or_default().to_owned(),
        job["delivered"].to_string(),
        job["cancelled"].to_string(),
        if others.is_empty() { "0".into() } else { others.join(", ") },
        format!("{:.1}", job["perSecond"].as_f64().unwrap_or_default()),
        age(Duration::from_secs_f64(idle.max(0.0)).as_millis() as i64),
    ]
}

/// For how long, by whom and why.
fn words(Given { at, by, why }: &Given) -> Vec<String> {
    vec![age(crate::reporters::invalid_token::now_ms() - at), by.clone(), why.clone().unwrap_or_default()]
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    table.add_rows(rows);
    table.lines().flat_map(|line| [line.trim().to_owned(), "\n".into()]).collect()
}

/// An app that this configuration does not know may be misspelled.
fn warn_of_strangers(config: &Config, target: &Target) {
    let known: Vec<_> = handlers::providers().iter().filter(|one| one.platform.0 == target.platform).collect();
    let apps: Vec<_> = known.iter().flat_map(|one| one.apps(config)).collect();
    if !apps.is_empty() && !apps.iter().any(|app| app.eq_ignore_ascii_case(&target.app)) {
        let (app, platform) = (&target.app, &target.platform);
        tracing::warn!(app, platform, "this configuration has no such app: is it spelled as in the topics' names");
    }
}
