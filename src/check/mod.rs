//! `pusher check`: what a worker would run with, and whether its neighbours are as it needs them, without consuming or
//! sending anything.
//!
//! What lives here: the choice of proofs, running them side by side within a bound, and the [`report`]. What may not: how to
//! prove anything. Each room knows that about its own neighbour and hands out [`Proof`]s.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::admission::Plan;
use crate::config::{Config, ConfigError, ConfigErrors, Loaded, Problems};
use crate::handlers;
use crate::message::Platform;
use crate::proof::{Finding, Proof};
use crate::queue;
use crate::queue::probe::Probe;
use crate::settings::catalogue;
use crate::telemetry;
use crate::worker::readings::Readings;

pub mod report;

use report::Report;

/// How long one look at a neighbour may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long a proof may take that does not keep to that.
const PATIENCE: Duration = Duration::from_secs(15);
const NOT_LOOKED: &str = "not looked at, because a key of it is wrong";

/// What is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A worker's platform; `None`: of every platform that has apps.
    pub platform: Option<String>,
    /// The provider's production hosts.
    pub production: bool,
}

/// Something is wrong or away: the report says what, and the exit code is 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} of the proofs failed")]
pub struct NotWell(pub usize);

/// Looks at everything, all at once.
///
/// # Errors
/// The machine refuses a runtime, or `stop` comes first.
pub fn look(loaded: &Loaded, request: &Request, stop: &CancellationToken) -> std::io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let platforms = platforms(&loaded.config, request.platform.as_deref());
    let mut gathered = Gathered::default();
    {
        // Pools and clients are made inside of it.
        let _inside = runtime.enter();
        match &platforms {
            Ok(platforms) => gathered.all(&loaded.config, platforms, request.production, runtime.handle()),
            Err(error) => gathered.wrong(&loaded.config.placed(error)),
        }
    }
    let Gathered { mut findings, proofs } = gathered;
    let all = join_all(proofs.into_iter().map(proved));
    let proved = runtime.block_on(stop.run_until_cancelled(all));
    // A look that outlasts its bound is left behind.
    runtime.shutdown_background();
    findings.extend(proved.ok_or(std::io::ErrorKind::Interrupted)?.concat());
    let platforms = platforms.unwrap_or_default();
    let rows = loaded.config.rows(catalogue());
    let rows = rows.into_iter().filter(|row| concerns(&row.name, &platforms)).collect();
    Ok(Report { platforms, production: request.production, rows, notices: loaded.notices.clone(), findings })
}

async fn proved(proof: Proof) -> Vec<Finding> {
    let Proof { subject, work } = proof;
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| vec![Finding::away(&subject, format!("no answer within {PATIENCE:?}"))])
}

/// The apps of a platform's list, as far as it can be read.
fn listed(config: &Config, platform: Platform) -> Vec<Arc<str>> {
    let list = format!("{platform}.apps");
    let key = catalogue().keys().find(|key| key.name == list);
    let apps: Option<Vec<String>> = key.and_then(|key| config.get(key).ok().flatten());
    apps.unwrap_or_default().into_iter().map(Into::into).collect()
}

/// The platform that was named, or all that have apps.
fn platforms(config: &Config, named: Option<&str>) -> Result<Vec<Platform>, ConfigError> {
    let known = handlers::providers().iter().map(|one| one.platform);
    let chosen: Vec<_> = match named {
        Some(name) => known.filter(|platform| platform.0 == name).collect(),
        None => known.filter(|platform| !listed(config, *platform).is_empty()).collect(),
    };
    if chosen.is_empty() {
        let (key, rule) = ("apns.apps".into(), "must be set, or gcm.apps, or both: no platform has an app".into());
        return Err(ConfigError { key, value: None, rule });
    }
    Ok(chosen)
}

/// Whether a key is of interest to these platforms: everything but another platform's section.
fn concerns(name: &str, platforms: &[Platform]) -> bool {
    let section = name.split('.').next().unwrap_or_default();
    let mut others = handlers::providers().iter().map(|one| one.platform).filter(|one| !platforms.contains(one));
    platforms.is_empty() || !others.any(|other| other.0 == section)
}

/// What is known at once, and what is still to be proved.
#[derive(Debug, Default)]
struct Gathered {
    findings: Vec<Finding>,
    proofs: Vec<Proof>,
}

impl Gathered {
    /// Reads what a worker's start would read, and goes on where that would end.
    fn all(&mut self, config: &Config, platforms: &[Platform], production: bool, runtime: &tokio::runtime::Handle) {
        let mut problems = Problems::default();
        problems.take(telemetry::Settings::from_config(config));
        let (mut apps, mut reporters) = (Vec::new(), None);
        for platform in platforms {
            let readings = Readings::take(config, platform.0, production, runtime, &mut problems);
            let own = self.one(config, *platform, &readings, &mut problems);
            apps.extend(own.into_iter().map(|app| (app, *platform)));
            self.admission(readings.admission.flatten());
            reporters = readings.reporters;
        }
        match reporters {
            Some(reporters) => self.proofs.extend(reporters.proofs(&apps, LOOK)),
            None => self.findings.push(Finding::unproved("reporters", NOT_LOOKED)),
        }
        if let Err(errors) = config.check(problems) {
            self.wrong(&errors);
        }
    }

    /// One platform's provider and topics; its apps.
    fn one(
        &mut self,
        config: &Config,
        platform: Platform,
        readings: &Readings,
        problems: &mut Problems,
    ) -> Vec<Arc<str>> {
        let apps = match &readings.provider {
            Some(Ok(provider)) => {
                self.proofs.extend(provider.proofs());
                provider.apps()
            }
            // What its apps need of others can be proved also when it cannot be set up itself.
            Some(Err(error)) => {
                self.findings.push(Finding::wrong("credentials", error.to_string()));
                listed(config, platform)
            }
            None => listed(config, platform),
        };
        match readings.queue.clone().and_then(|queue| problems.take(probe(queue, platform, &apps))) {
            Some(probe) => self.proofs.push(probe.proof(LOOK)),
            None => self.findings.push(Finding::unproved("kafka", NOT_LOOKED)),
        }
        apps
    }

    fn admission(&mut self, plan: Option<Plan>) {
        let Some(plan) = plan else { return };
        self.proofs.push(Proof::new("redis", async move {
            let said = |(server, reached): (String, Result<(), String>)| match reached {
                Ok(()) => Finding::proved("redis", format!("{server} answers in time")),
                Err(why) => Finding::away("redis", format!("{server}: {why}"))
                    .fix("check rateLimiter.redis and dedup.redis; without it pushes go on, unlimited and uncompared"),
            };
            plan.reach().await.into_iter().map(said).collect()
        }));
    }

    fn wrong(&mut self, errors: &ConfigErrors) {
        self.findings.extend(errors.lines().map(|line| Finding::wrong("configuration", line)));
    }
}

fn probe(settings: queue::config::Settings, platform: Platform, apps: &[Arc<str>]) -> Result<Probe, ConfigError> {
    let known: Vec<_> = handlers::providers().iter().map(|one| one.platform).collect();
    Probe::new(settings, platform, &known, apps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_platform_with_apps_is_checked() {
        let chosen = |pairs: &[(&str, &str)], named| {
            let config = Config::from_pairs(pairs.iter().copied());
            platforms(&config, named).map(|list| list.iter().map(|one| one.0).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(chosen(&[("apns.apps", "a")], None).unwrap(), "apns");
        assert_eq!(chosen(&[("apns.apps", "a"), ("gcm.apps", "b")], None).unwrap(), "apns gcm");
        assert_eq!(chosen(&[], Some("gcm")).unwrap(), "gcm");
        assert_eq!(chosen(&[], None).unwrap_err().key, "apns.apps");
    }

    #[test]
    fn another_platforms_section_is_of_no_interest() {
        let apns = [Platform("apns")];
        assert!(concerns("apns.timeout", &apns) && concerns("queue.group", &apns) && !concerns("gcm.timeout", &apns));
        assert!(concerns("gcm.timeout", &[]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_that_does_not_end_is_left_and_named() {
        let findings = proved(Proof::new("redis", std::future::pending())).await;
        assert_eq!(findings, [Finding::away("redis", "no answer within 15s")]);
    }
}
