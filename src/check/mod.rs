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
use crate::feedback_listener::{self, Apps};
use crate::handlers::{self, Registration};
use crate::message::Platform;
use crate::proof::{Finding, Proof};
use crate::queue;
use crate::queue::probe::{Expected, Probe};
use crate::queue::topic::PushTopics;
use crate::settings::{WorkerSettings, catalogue};
use crate::telemetry;
use crate::worker::readings::Readings;

pub mod report;

use report::Report;

/// How long one look at a neighbour may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long a proof may take that does not keep to that.
const PATIENCE: Duration = Duration::from_secs(15);
/// The sections and keys that the listener reads besides the lists of apps, its own first.
const LISTENERS: [&str; 8] =
    ["feedbackListeners", "control", "admin", "stats", "sentry", "log", "maxInFlight", "maxInFlightBytes"];
const NOT_LOOKED: &str = "not looked at, because a key of it is wrong";

/// The name of the feedback listener among what can be checked.
pub const LISTENER: &str = "listener";

/// What can be named: the platforms of the workers, and the listener.
pub fn names() -> impl Iterator<Item = &'static str> {
    handlers::providers().iter().map(|one| one.platform.0).chain([LISTENER])
}

/// What is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// One of [`names`]; `None`: the workers of every platform that has apps.
    pub what: Option<String>,
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
    let config = &loaded.config;
    let listener = request.what.as_deref() == Some(LISTENER);
    let platforms = if listener { Ok(Vec::new()) } else { platforms(config, request.what.as_deref()) };
    let mut gathered = Gathered::default();
    {
        // Pools and clients are made inside of it.
        let _inside = runtime.enter();
        match &platforms {
            Ok(_) if listener => gathered.listener(config, runtime.handle()),
            Ok(platforms) => gathered.all(config, platforms, request.production, runtime.handle()),
            Err(error) => gathered.wrong(&config.placed(error)),
        }
    }
    let Gathered { mut findings, proofs } = gathered;
    let all = join_all(proofs.into_iter().map(proved));
    let proved = runtime.block_on(stop.run_until_cancelled(all));
    // A look that outlasts its bound is left behind.
    runtime.shutdown_background();
    findings.extend(proved.ok_or(std::io::ErrorKind::Interrupted)?.concat());
    let workers = platforms.unwrap_or_default().into_iter().map(|known| known.platform.0);
    let checked: Vec<_> = workers.chain(listener.then_some(LISTENER)).collect();
    let rows = config.rows(catalogue()).into_iter().filter(|row| concerns(&row.name, &checked)).collect();
    Ok(Report { checked, production: request.production, rows, notices: loaded.notices.clone(), findings })
}

async fn proved(proof: Proof) -> Vec<Finding> {
    let Proof { subject, work } = proof;
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| vec![Finding::away(&subject, format!("no answer within {PATIENCE:?}"))])
}

/// The platform that was named, or all that have apps.
fn platforms(config: &Config, named: Option<&str>) -> Result<Vec<&'static Registration>, ConfigError> {
    let known = handlers::providers().iter();
    let wanted =
        |known: &&Registration| named.map_or_else(|| !known.apps(config).is_empty(), |name| known.platform.0 == name);
    let chosen: Vec<_> = known.filter(wanted).collect();
    if chosen.is_empty() {
        let (key, rule) = ("apns.apps".into(), "must be set, or gcm.apps, or both: no platform has an app".into());
        return Err(ConfigError { key, value: None, rule });
    }
    Ok(chosen)
}

/// Whether a key is of interest to what is checked: a worker reads everything but another platform's section and the
/// listener's, the listener its own and what all programs have.
fn concerns(name: &str, checked: &[&str]) -> bool {
    let section = name.split('.').next().unwrap_or_default();
    if checked == [LISTENER] {
        return LISTENERS.contains(&section) || name.rsplit('.').next() == Some("apps");
    }
    let mut others = names().filter(|one| !checked.contains(one));
    checked.is_empty() || section != LISTENERS[0] && !others.any(|other| other == section)
}

/// What is known at once, and what is still to be proved.
#[derive(Debug, Default)]
struct Gathered {
    findings: Vec<Finding>,
    proofs: Vec<Proof>,
}

impl Gathered {
    /// Reads what a worker's start would read, and goes on where that would end.
    fn all(
        &mut self,
        config: &Config,
        platforms: &[&Registration],
        production: bool,
        runtime: &tokio::runtime::Handle,
    ) {
        let mut problems = Problems::default();
        problems.take(telemetry::Settings::from_config(config));
        let (mut apps, mut reporters) = (Vec::new(), None);
        for known in platforms {
            let readings = Readings::take(config, known.platform.0, production, runtime, &mut problems);
            let own = self.one(config, known, &readings, &mut problems);
            apps.extend(own.into_iter().map(|app| (app, known.platform)));
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

    /// The same for the feedback listener.
    fn listener(&mut self, config: &Config, runtime: &tokio::runtime::Handle) {
        let mut problems = Problems::default();
        problems.take(telemetry::Settings::from_config(config));
        problems.take(WorkerSettings::from_config(config));
        let platforms: Vec<_> =
            handlers::providers().iter().map(|known| Apps::new(known.platform, known.apps(config))).collect();
        self.proofs.extend(feedback_listener::proofs(config, &platforms, runtime, LOOK, &mut problems));
        if let Err(errors) = config.check(problems) {
            self.wrong(&errors);
        }
    }

    /// One platform's provider and topics; its apps.
    fn one(
        &mut self,
        config: &Config,
        known: &Registration,
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
                known.apps(config)
            }
            None => known.apps(config),
        };
        match readings.queue.clone().and_then(|queue| problems.take(probe(queue, known.platform, &apps))) {
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
    let topics =
        PushTopics::new(&settings.topics, platform, &known, apps).map_err(|rule| settings.wrong_topics(rule))?;
    let named = |app: &Arc<str>| format!("push-{app}_{platform}-single or -massive");
    let expected = apps.iter().map(|app| Expected { app: app.clone(), platform, named: named(app) }).collect();
    Probe::new(settings, Box::new(topics), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_platform_with_apps_is_checked() {
        let chosen = |pairs: &[(&str, &str)], named| {
            let config = Config::from_pairs(pairs.iter().copied());
            platforms(&config, named).map(|list| list.iter().map(|one| one.platform.0).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(chosen(&[("apns.apps", "a")], None).unwrap(), "apns");
        assert_eq!(chosen(&[("apns.apps", "a"), ("gcm.apps", "b")], None).unwrap(), "apns gcm");
        assert_eq!(chosen(&[], Some("gcm")).unwrap(), "gcm");
        assert_eq!(chosen(&[], None).unwrap_err().key, "apns.apps");
    }

    #[test]
    fn another_platforms_section_is_of_no_interest() {
        let of = |name, checked: &[&str]| concerns(name, checked);
        assert!(of("apns.timeout", &["apns"]) && of("queue.group", &["apns"]) && !of("gcm.timeout", &["apns"]));
        assert!(!of("feedbackListeners.queue.group", &["apns", "gcm"]) && of("gcm.timeout", &[]));
        assert!(of("feedbackListeners.queue.group", &["listener"]) && of("gcm.apps", &["listener"]));
        assert!(of("admin.listen", &["listener"]) && of("maxInFlight", &["listener"]));
        assert!(!of("queue.group", &["listener"]) && !of("apns.timeout", &["listener"]));
    }

    #[tokio::test]
    async fn what_would_end_the_listeners_start_is_found() {
        for (key, value) in
            [("admin.listen", "nowhere"), ("maxInFlight", "none"), ("feedbackListeners.invalidToken.buffer.size", "x")]
        {
            let mut gathered = Gathered::default();
            gathered.listener(&Config::from_pairs([(key, value)]), &tokio::runtime::Handle::current());
            let said: Vec<_> = gathered.findings.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|one| one.contains(key)), "{key}: {said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_that_does_not_end_is_left_and_named() {
        let findings = proved(Proof::new("redis", std::future::pending())).await;
        assert_eq!(findings, [Finding::away("redis", "no answer within 15s")]);
    }
}
