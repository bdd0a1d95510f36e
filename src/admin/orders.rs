//! The calls that give orders and take them back, and those that tell which stand.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::{
    JobInSight, Jobs, NotChanged, NotTold, NowPaused, NowResumed, NowStarted, NowStopped, Pause, Pauses, Place,
    Protected, Refusal, StoppedJob,
};
use super::guard::Who;
use super::{Shared, Site};
use crate::jobs::Figures;
use crate::jobs::id::{LONGEST, is_name};
use crate::levers::orders::{Given, Paused, Target};
use crate::levers::{Levers, NotGiven};

/// Characters; more of a reason is refused: it is for people.
const LONGEST_WHY: usize = 500;

pub(super) fn reading() -> Router<Shared> {
    Router::new().route("/api/jobs", get(jobs)).route("/api/pauses", get(pauses))
}

pub(super) fn changing() -> Router<Shared> {
    Router::new()
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .route("/api/jobs/{id}/stop", post(stop))
        .route("/api/jobs/{id}/start", post(start))
}

/// What is answered instead.
pub(super) struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { error: self.1 })).into_response()
    }
}

impl From<NotGiven> for Refused {
    fn from(why: NotGiven) -> Self {
        let status = match why {
            NotGiven::Wrong(_) => StatusCode::BAD_REQUEST,
            NotGiven::NoTopic(_) | NotGiven::NotRead(_) | NotGiven::NotWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused(status, why.to_string())
    }
}

impl From<JsonRejection> for Refused {
    fn from(why: JsonRejection) -> Self {
        Refused(StatusCode::BAD_REQUEST, why.body_text())
    }
}

/// A target and, optionally, why: `{"app": "game", "platform": "apns", "lane": "massive", "why": "…"}`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^/\x00-\x1f\x7f-\x9f]+$", example = "game")]
    app: String,
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^/\x00-\x1f\x7f-\x9f]+$", example = "apns")]
    platform: String,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(single|massive|all)$")]
    lane: Value,
    #[serde(default)]
    #[schema(max_length = 500)]
    why: Option<String>,
}

impl Wish {
    fn read(self) -> Result<(Target, Option<String>), Refused> {
        let Wish { app, platform, lane, why } = self;
        let target = serde_json::from_value(json!({ "app": app, "platform": platform, "lane": lane }));
        let target: Target = target.map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))?;
        Ok((target, checked(why)?))
    }
}

/// Why, for the others on call: `{"why": "…"}`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    #[serde(default)]
    #[schema(max_length = 500)]
    why: Option<String>,
}

impl Reason {
    /// Of a body that may as well be empty.
    fn read(body: &[u8]) -> Result<Option<String>, Refused> {
        if body.is_empty() {
            return Ok(None);
        }
        let reason = Json::<Option<Reason>>::from_bytes(body)?.0;
        checked(reason.and_then(|reason| reason.why))
    }
}

fn checked(why: Option<String>) -> Result<Option<String>, Refused> {
    match why {
        Some(text) if text.chars().count() > LONGEST_WHY => {
            Err(Refused(StatusCode::BAD_REQUEST, format!("why: at most {LONGEST_WHY} characters")))
        }
        why => Ok(why.filter(|text| !text.is_empty())),
    }
}

fn site(shared: &Shared) -> Result<&Arc<dyn Site>, Refused> {
    shared.get().ok_or_else(|| Refused(StatusCode::SERVICE_UNAVAILABLE, "the process is starting".into()))
}

fn levers(shared: &Shared) -> Result<&Levers, Refused> {
    site(shared)?.levers().ok_or_else(|| Refused(StatusCode::NOT_FOUND, "this process takes no orders".into()))
}

/// An order that was not taken, or that may be in force later all the same: who gave it is told in either case.
fn not_done<'a>(who: &'a Who, order: &'static str, about: &'a str) -> impl FnOnce(NotGiven) -> Refused + 'a {
    move |error| {
        tracing::warn!(%who, order, about, %error, "an order was asked for and is not known to be kept");
        error.into()
    }
}

/// Stops the reading of an app, or of one of its lanes, by all processes.
#[utoipa::path(post, path = "/api/pause", tag = "orders", request_body = Wish, responses(
    (status = 200, description = "What is paused", body = NowPaused),
    NotChanged,
), security(("token" = [])))]
pub(super) async fn pause(
    State(shared): State<Shared>,
    who: Who,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<NowPaused>, Refused> {
    let (target, why) = wish?.0.read()?;
    let paused = levers(&shared)?.pause(&target, &who, why.clone()).await;
    let paused = paused.map_err(not_done(&who, "pause", &target.to_string()))?;
    for Paused { app, platform, lane } in &paused {
        tracing::info!(%who, app, platform, lane = lane.as_str(), why, "asked to pause");
    }
    Ok(Json(NowPaused { paused: paused.into_iter().map(place).collect() }))
}

/// Lets all processes read it again.
#[utoipa::path(post, path = "/api/resume", tag = "orders", request_body = Wish, responses(
    (status = 200, description = "What was paused", body = NowResumed),
    NotChanged,
), security(("token" = [])))]
pub(super) async fn resume(
    State(shared): State<Shared>,
    who: Who,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<NowResumed>, Refused> {
    let (target, why) = wish?.0.read()?;
    let resumed = levers(&shared)?.resume(&target, &who).await;
    let resumed = resumed.map_err(not_done(&who, "resume", &target.to_string()))?;
    for Paused { app, platform, lane } in &resumed {
        tracing::info!(%who, app, platform, lane = lane.as_str(), why, "asked to resume");
    }
    Ok(Json(NowResumed { resumed: resumed.into_iter().map(place).collect() }))
}

/// Cancels the messages of a job from now on, in all processes.
#[utoipa::path(post, path = "/api/jobs/{id}/stop", tag = "orders", request_body = Option<Reason>, params(
    ("id" = String, Path, description = "The job's name", min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
), responses(
    (status = 200, description = "It is stopped", body = NowStopped),
    NotChanged,
), security(("token" = [])))]
pub(super) async fn stop(
    State(shared): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<NowStopped>, Refused> {
    let (job, why) = (job(id)?, Reason::read(&body)?);
    let stopped = levers(&shared)?.stop_job(&job, &who, why.clone()).await;
    stopped.map_err(not_done(&who, "stop a job", &job))?;
    tracing::info!(%who, job, why, "asked to stop a job");
    Ok(Json(NowStopped { job, stopped: true }))
}

/// Sends the messages of a job again that are not cancelled yet.
#[utoipa::path(post, path = "/api/jobs/{id}/start", tag = "orders", params(
    ("id" = String, Path, description = "The job's name", min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
), responses(
    (status = 200, description = "It is sent", body = NowStarted),
    NotChanged,
), security(("token" = [])))]
pub(super) async fn start(
    State(shared): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<NowStarted>, Refused> {
    let job = job(id)?;
    let was_stopped = levers(&shared)?.start_job(&job, &who).await;
    let was_stopped = was_stopped.map_err(not_done(&who, "start a job", &job))?;
    tracing::info!(%who, job, was_stopped, "asked to start a job");
    Ok(Json(NowStarted { job, stopped: false, was_stopped }))
}

fn job(id: Result<Path<String>, PathRejection>) -> Result<String, Refused> {
    let rule = || format!("a job's name has 1 to {LONGEST} bytes and no control characters");
    match id {
        Ok(Path(id)) if is_name(&id) => Ok(id),
        _ => Err(Refused(StatusCode::BAD_REQUEST, rule())),
    }
}

/// What is paused.
#[utoipa::path(get, path = "/api/pauses", tag = "orders", responses(
    (status = 200, description = "Each lane, with when, by whom and why", body = Pauses),
    NotTold,
    Protected,
), security((), ("token" = [])))]
pub(super) async fn pauses(State(shared): State<Shared>) -> Result<Json<Pauses>, Refused> {
    let one = |(paused, Given { at, by, why }): (Paused, Given)| {
        let Place { app, platform, lane } = place(paused);
        Pause { app, platform, lane, at, by, why }
    };
    Ok(Json(Pauses { pauses: levers(&shared)?.orders().pauses.into_iter().map(one).collect() }))
}

/// The jobs in sight, and those that are stopped.
#[utoipa::path(get, path = "/api/jobs", tag = "orders", responses(
    (status = 200, description = "Their numbers in this process", body = Jobs),
    NotTold,
    Protected,
), security((), ("token" = [])))]
pub(super) async fn jobs(State(shared): State<Shared>) -> Result<Json<Jobs>, Refused> {
    let one = |(id, Given { at, by, why }): (String, Given)| StoppedJob { id, at, by, why };
    let stopped = levers(&shared)?.orders().jobs.into_iter().map(one).collect();
    let in_sight = site(&shared)?.jobs().map(|jobs| jobs.figures(Instant::now())).unwrap_or_default();
    Ok(Json(Jobs { jobs: in_sight.into_iter().map(job_in_sight).collect(), stopped }))
}

fn place(Paused { app, platform, lane }: Paused) -> Place {
    Place { app, platform, lane: lane.as_str().to_owned() }
}

fn job_in_sight(figures: Figures) -> JobInSight {
    let Figures { id, stopped, delivered, cancelled, reasons, per_second, idle_s } = figures;
    let reasons = reasons.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect();
    JobInSight { id, stopped, delivered, cancelled, reasons, per_second, idle_s }
}
