//! FCM as a [`Service`]: path, access token, project, quota, the faults, the body, the target's fate, in this order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use http::request::Parts;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::Stats;
use super::account::Project;
use super::answer::{Decision, action, drawn, goaway, strange};
use super::convention::{Fate, Odd, read};
use super::faults::Faults;
use super::form::{Violation, violations};
use super::json::Json;
use super::oauth::OAuth;
use super::problem::Problem;
use super::quota::Bucket;
use super::rules::{self, Breach};
use super::schema::REQUEST;
use crate::simulator::attempts::Attempts;
use crate::simulator::counters::Counts;
use crate::simulator::handle::Provider;
use crate::simulator::jwt::bearer;
use crate::simulator::ledger::{Ledger, serial_of};
use crate::simulator::levers::Levers;
use crate::simulator::service::{Action, Farewell, GoAway, Reply, Service};

/// The stand-in for FCM.
#[derive(Debug)]
pub struct Fcm {
    projects: Vec<(Project, Mutex<Bucket>)>,
    pub(super) oauth: Arc<OAuth>,
    seed: u64,
    faults: RwLock<Arc<Faults>>,
    /// Whether the token endpoint listens not.
    pub(super) oauth_refuses: watch::Sender<bool>,
    ledger: Ledger,
    attempts: Attempts,
    /// Messages checked with `validate_only` and found good.
    validated: AtomicU64,
}

/// What FCM remembers per connection.
#[derive(Debug)]
pub struct Session {
    random: fastrand::Rng,
    requests: u64,
}

/// A request that may be sent, but for its target's fate.
struct Passed {
    project: usize,
    target: String,
    validate_only: bool,
}

impl Fcm {
    pub(super) fn new(projects: Vec<Project>, oauth: Arc<OAuth>, seed: u64, faults: Faults) -> Self {
        Fcm {
            projects: projects.into_iter().map(|project| (project, Mutex::default())).collect(),
            oauth,
            seed,
            oauth_refuses: watch::Sender::new(faults.oauth.refuse_connections),
            faults: RwLock::new(Arc::new(faults)),
            ledger: Ledger::default(),
            attempts: Attempts::default(),
            validated: AtomicU64::new(0),
        }
    }

    /// Path, access token and project, in the order of Google's front end. Returns the project's place.
    fn admit(&self, request: &Parts, now_ms: i64) -> Result<usize, Problem> {
        let name = project_name(request).ok_or_else(|| Problem::page(404))?;
        if request.uri.authority().is_none() && !request.headers.contains_key("host") {
            return Err(Problem::page(400));
        }
        let header = request.headers.get("authorization").ok_or_else(Problem::no_credential)?;
        let token = bearer(header.as_bytes()).ok_or_else(|| Problem::unauthenticated("CREDENTIALS_MISSING"))?;
        let access = self.oauth.tokens().find(token, now_ms);
        let access = access.ok_or_else(|| Problem::unauthenticated("ACCESS_TOKEN_EXPIRED"))?;
        if !access.grant.for_fcm {
            return Err(Problem::wrong_scope());
        }
        let place = self.projects.iter().position(|(project, _)| project.is(name));
        let place = place.ok_or_else(Problem::no_such_project)?;
        if place != access.grant.project {
            return Err(Problem::permission_denied(name));
        }
        Ok(place)
    }

    /// What becomes of a message that may be sent.
    fn decide(&self, passed: &Passed) -> Decision {
        match read(&passed.target) {
            Fate::Refuse { status, variant, attempts } if self.attempts.still(&passed.target, attempts) => {
                let project = &self.projects[passed.project].0.id;
                Problem::numbered(status, variant, project).map_or(Decision::Accept, Decision::from)
            }
            Fate::Odd { odd: Odd::Slow, attempts } => Decision::Slow(Duration::from_millis(u64::from(attempts) * 10)),
            Fate::Odd { odd, attempts } if self.attempts.still(&passed.target, attempts) => strange(odd),
            _ => Decision::Accept,
        }
    }

    fn judge(
        &self,
        session: &mut Session,
        request: &Parts,
        body: &[u8],
        faults: &Faults,
        now_ms: i64,
    ) -> (Decision, Option<Passed>) {
        let place = match self.admit(request, now_ms) {
            Ok(place) => place,
            Err(problem) => return (problem.into(), None),
        };
        let (project, bucket) = &self.projects[place];
        if let Err(seconds) = bucket.lock().take(faults.quota_per_minute, now_ms) {
            return (Problem::over_quota(&project.id).after(seconds).into(), None);
        }
        let passed = match check(place, request, body) {
            Ok(passed) => passed,
            Err(problem) => return (problem.into(), None),
        };
        let decision = drawn(&mut session.random, faults, &project.id).unwrap_or_else(|| self.decide(&passed));
        (decision, Some(passed))
    }

    /// The name of an accepted message, in the form that FCM gives those to Android.
    fn name(&self, passed: Option<&Passed>, random: &mut fastrand::Rng, now_ms: i64) -> String {
        let Some(Passed { project, validate_only, .. }) = passed else { return String::new() };
        let project = &self.projects[*project].0.id;
        if *validate_only {
            return format!("projects/{project}/messages/fake_message_id");
        }
        format!("projects/{project}/messages/0:{now_ms}000%{:016x}", random.u64(..))
    }
}

/// Everything that FCM checks before it looks for the target.
fn check(project: usize, request: &Parts, body: &[u8]) -> Result<Passed, Problem> {
    let kind = request.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.starts_with("application/json") {
        let text = "Invalid JSON payload received. The content-type must be application/json.";
        return Err(Problem::ill_formed(&[Violation::new("", text)]));
    }
    if body.len() > Fcm::BODY_READ {
        return Err(Problem::too_large());
    }
    let body: Json = serde_json::from_slice(body).map_err(|error| {
        let text = format!("Invalid JSON payload received. Unexpected token.\n{error}");
        Problem::ill_formed(&[Violation::new("", text)])
    })?;
    let wrong = violations(&body, &REQUEST);
    if !wrong.is_empty() {
        return Err(Problem::ill_formed(&wrong));
    }
    let message = body.get("message").unwrap_or(&Json::Null);
    let target = rules::check(message).map_err(|breach| match breach {
        Breach::Field(violation) => Problem::invalid(&violation.field, &violation.description),
        Breach::Token => Problem::invalid_token(),
        Breach::Size => Problem::too_large(),
    })?;
    let validate_only = body.get("validate_only") == Some(&Json::Bool(true));
    Ok(Passed { project, target: target.text.to_owned(), validate_only })
}

/// The project in `POST /v1/projects/{project}/messages:send`.
fn project_name(request: &Parts) -> Option<&str> {
    let path = request.uri.path().strip_prefix("/v1/projects/").filter(|_| request.method == Method::POST)?;
    path.strip_suffix("/messages:send").filter(|name| !name.is_empty() && !name.contains('/'))
}

impl Service for Fcm {
    type Session = Session;
    /// Far above 4,096 bytes of payload, for JSON may escape each byte to six, and other platforms have parts of their own.
    const BODY_READ: usize = 64 * 1024;
    const NEEDS_ALPN: bool = true;

    fn open(&self, number: u64) -> Session {
        let random = fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Session { random, requests: 0 }
    }

    fn serve(&self, session: &mut Session, request: &Parts, body: &[u8], now_ms: i64) -> Reply {
        let faults = Arc::clone(&self.faults.read());
        session.requests += 1;
        let (decision, passed) = self.judge(session, request, body, &faults, now_ms);
        let validate_only = passed.as_ref().is_some_and(|passed| passed.validate_only);
        if validate_only && decision.accepts() {
            self.validated.fetch_add(1, Relaxed);
        }
        let every = |n: u64| n > 0 && session.requests.is_multiple_of(n);
        let (breaks, goes_away) = (every(faults.break_every), every(faults.goaway_every));
        // One whose connection breaks over it was processed, or was not.
        let is_processed = !breaks || session.random.bool();
        let (serial, accepted) = (serial_of(body), is_processed && decision.accepts() && !validate_only);
        // FCM knows no identity of a message beside its contents.
        self.ledger.note(serial, b"", accepted);

        let mut reply = Reply::new(Action::Silence);
        reply.accepted = serial.filter(|_| accepted);
        reply.after = Duration::from_millis(faults.processing_ms);
        if let Decision::Slow(more) = decision {
            reply.after += more;
        }
        let name = self.name(passed.as_ref(), &mut session.random, now_ms);
        reply.action = action(decision, &name, now_ms);
        reply.limit = (faults.streams > 0).then_some(faults.streams);
        if breaks {
            reply.action = Action::Break;
        } else if goes_away {
            reply.goaway = Some(goaway("max_age"));
        }
        reply
    }

    fn take_back(&self, serial: u64) {
        self.ledger.take_back(serial);
    }

    fn farewell(&self, why: Farewell) -> GoAway {
        goaway(match why {
            Farewell::TooManyStreams => "exceeded_max_concurrent_streams",
            Farewell::TooManyPings => "too_many_pings",
            Farewell::MaxAge => "max_age",
            Farewell::Idle => "session_timed_out",
        })
    }
}

impl Provider for Fcm {
    type Faults = Faults;
    type Stats = Stats;

    fn faults(&self) -> &RwLock<Arc<Faults>> {
        &self.faults
    }

    fn validate(faults: &Faults) -> Result<(), String> {
        faults.validate()
    }

    fn levers(faults: &Faults) -> Levers {
        faults.connection
    }

    fn changed(&self) {
        let faults = self.faults.read().oauth.clone();
        self.oauth_refuses.send_replace(faults.refuse_connections);
        self.oauth.set_faults(faults);
    }

    fn goaway(reason: Option<&str>) -> GoAway {
        goaway(reason.unwrap_or("max_age"))
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn stats(&self, counts: Counts) -> Stats {
        let validated = self.validated.load(Relaxed);
        Stats { counts, messages: self.ledger.sums(), validated, oauth: self.oauth.stats() }
    }

    fn forget(&self) {
        self.attempts.forget();
        self.ledger.reset();
        self.validated.store(0, Relaxed);
        self.oauth.forget();
        for (_, bucket) in &self.projects {
            *bucket.lock() = Bucket::default();
        }
    }
}
