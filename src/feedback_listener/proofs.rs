//! What can be proved about the listener's neighbours before it is started: its topics and its tables.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::config::Configured;
use super::topic::Apps;
use super::wiring;
use crate::admin;
use crate::config::{Config, Problems};
use crate::control::{self, Control, NotRead};
use crate::message::Platform;
use crate::proof::{Finding, Proof};
use crate::queue::probe::{Expected, Probe};
use crate::reporters::invalid_token::Deleter as _;
use crate::reporters::invalid_token::postgres::Postgres;
use crate::reporters::stats::Stats;

/// Reads what a start would read; what is wrong is left in `problems`. Each look may take `limit`. The tables of apps that
/// only a topic names are not known before the topics are, and not looked for.
pub fn proofs(
    config: &Config,
    platforms: &[Apps],
    runtime: &Handle,
    limit: Duration,
    problems: &mut Problems,
) -> Vec<Proof> {
    let configured = Configured::read(config, problems);
    let stats = problems.take(Stats::from_config(config));
    problems.take(admin::Settings::from_config(config));
    let mut proofs = Vec::new();
    if let Some(Configured { queue, postgres, .. }) = configured {
        let control = problems.take(wiring::control(config, &queue));
        proofs.extend(control.map(|settings| entries(settings, limit)));
        let probe = wiring::topics(&queue, platforms)
            .and_then(|topics| Probe::new(queue, Box::new(topics), platforms.iter().flat_map(expected).collect()));
        proofs.extend(problems.take(probe).map(|probe| probe.proof(limit)));
        let apps: Vec<_> = platforms.iter().flat_map(named).collect();
        proofs.extend(Postgres::new(postgres, runtime).proofs(&apps));
    }
    proofs.extend(stats.iter().flat_map(super::super::reporters::StatsReporter::proofs));
    proofs
}

/// Reads the control topic as a start would, for at most `limit`. Makes none.
fn entries(settings: Option<control::Settings>, limit: Duration) -> Proof {
    const SUBJECT: &str = "control topic";
    Proof::new(SUBJECT, async move {
        let Some(settings) = settings else {
            return vec![Finding::unproved(SUBJECT, "control.topic is off: valves work in the memory of each process")];
        };
        let topic = settings.topic.clone();
        let control = Control::new(Some(control::Settings { create: false, ..settings }));
        control.start();
        vec![match control.read(limit).await {
            Ok(()) => Finding::proved(SUBJECT, format!("{topic} may be read")),
            Err(NotRead::Missing(why)) => {
                Finding::unproved(SUBJECT, format!("made at the start, if that is allowed: {why}"))
            }
            Err(NotRead::Away(why)) => Finding::away(SUBJECT, why)
                .fix("nothing is deleted before it has been read: grant DESCRIBE, READ and WRITE of it, or set control.topic to off"),
        }]
    })
}

fn named(apps: &Apps) -> impl Iterator<Item = (Arc<str>, Platform)> {
    apps.configured.iter().flatten().map(|app| (app.clone(), apps.platform))
}

fn expected(apps: &Apps) -> impl Iterator<Item = Expected> {
    named(apps).map(|(app, platform)| Expected { named: format!("push-{app}-{platform}-feedbacks"), app, platform })
}
