//! The calls that give orders and take them back, and those that tell which stand.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Who;
use super::{Shared, Site};
use crate::jobs::id::{LONGEST, is_name};
use crate::levers::orders::{Given, Paused, Target};
use crate::levers::{Levers, NotGiven};

/// More of a reason is refused: it is for people.
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
        (self.0, [(header::CONTENT_TYPE, "application/json")], format!("{}\n", json!({ "error": self.1 })))
            .into_response()
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
pub(super) struct Wish {
    app: String,
    platform: String,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(single|massive|all)$")]
    lane: Value,
    #[serde(default)]
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

fn checked(why: Option<String>) -> Result<Option<String>, Refused> {
    match why {
        Some(text) if text.len() > LONGEST_WHY => {
            Err(Refused(StatusCode::BAD_REQUEST, format!("why: at most {LONGEST_WHY} bytes")))
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

/// Stops the reading of an app, or of one of its lanes, by all processes.
#[utoipa::path(post, path = "/api/pause", tag = "orders", request_body = Wish, responses(
    (status = 200, description = "What is paused", body = Value),
    (status = 400, description = "The order is none", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 401, description = "A token is needed, or this is another one", body = String, content_type = "text/plain"),
    (status = 403, description = "No token is configured: nothing can be changed", body = String, content_type = "text/plain"),
    (status = 503, description = "The order could not be kept", body = Value),
), security(("token" = [])))]
pub(super) async fn pause(
    State(shared): State<Shared>,
    who: Who,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Value>, Refused> {
    let (target, why) = wish?.0.read()?;
    let paused = levers(&shared)?.pause(&target, &who, why).await?;
    for Paused { app, platform, lane } in &paused {
        tracing::info!(%who, app, platform, lane = lane.as_str(), "asked to pause");
    }
    Ok(Json(json!({ "paused": paused.iter().map(place).collect::<Vec<_>>() })))
}

/// Lets all processes read it again.
#[utoipa::path(post, path = "/api/resume", tag = "orders", request_body = Wish, responses(
    (status = 200, description = "What was paused", body = Value),
    (status = 400, description = "The order is none", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 401, description = "A token is needed, or this is another one", body = String, content_type = "text/plain"),
    (status = 403, description = "No token is configured: nothing can be changed", body = String, content_type = "text/plain"),
    (status = 503, description = "The order could not be kept", body = Value),
), security(("token" = [])))]
pub(super) async fn resume(
    State(shared): State<Shared>,
    who: Who,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Value>, Refused> {
    let (target, _) = wish?.0.read()?;
    let resumed = levers(&shared)?.resume(&target).await?;
    for Paused { app, platform, lane } in &resumed {
        tracing::info!(%who, app, platform, lane = lane.as_str(), "asked to resume");
    }
    Ok(Json(json!({ "resumed": resumed.iter().map(place).collect::<Vec<_>>() })))
}

/// Cancels the messages of a job from now on, in all processes.
#[utoipa::path(post, path = "/api/jobs/{id}/stop", tag = "orders", params(("id" = String, Path, description = "The job's name")), responses(
    (status = 200, description = "It is stopped", body = Value),
    (status = 400, description = "The order is none", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 401, description = "A token is needed, or this is another one", body = String, content_type = "text/plain"),
    (status = 403, description = "No token is configured: nothing can be changed", body = String, content_type = "text/plain"),
    (status = 503, description = "The order could not be kept", body = Value),
), security(("token" = [])))]
pub(super) async fn stop(
    State(shared): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let job = job(&id)?;
    levers(&shared)?.stop_job(job, &who, None).await?;
    tracing::info!(%who, job, "asked to stop a job");
    Ok(Json(json!({ "job": job, "stopped": true })))
}

/// Sends the messages of a job again that are not cancelled yet.
#[utoipa::path(post, path = "/api/jobs/{id}/start", tag = "orders", params(("id" = String, Path, description = "The job's name")), responses(
    (status = 200, description = "It is sent", body = Value),
    (status = 400, description = "The order is none", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 401, description = "A token is needed, or this is another one", body = String, content_type = "text/plain"),
    (status = 403, description = "No token is configured: nothing can be changed", body = String, content_type = "text/plain"),
    (status = 503, description = "The order could not be kept", body = Value),
), security(("token" = [])))]
pub(super) async fn start(
    State(shared): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let job = job(&id)?;
    let was_stopped = levers(&shared)?.start_job(job).await?;
    tracing::info!(%who, job, was_stopped, "asked to start a job");
    Ok(Json(json!({ "job": job, "stopped": false, "wasStopped": was_stopped })))
}

fn job(id: &str) -> Result<&str, Refused> {
    let rule = || format!("a job's name has 1 to {LONGEST} bytes and no control characters");
    if is_name(id) { Ok(id) } else { Err(Refused(StatusCode::BAD_REQUEST, rule())) }
}

/// What is paused.
#[utoipa::path(get, path = "/api/pauses", tag = "orders", responses(
    (status = 200, description = "Each lane, with when, by whom and why", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 503, description = "The process is starting", body = Value),
))]
pub(super) async fn pauses(State(shared): State<Shared>) -> Result<Json<Value>, Refused> {
    let pauses = levers(&shared)?.orders().pauses;
    let one = |(paused, given): &(Paused, Given)| with(place(paused), given);
    Ok(Json(json!({ "pauses": pauses.iter().map(one).collect::<Vec<_>>() })))
}

/// The jobs in sight, and those that are stopped.
#[utoipa::path(get, path = "/api/jobs", tag = "orders", responses(
    (status = 200, description = "Their numbers in this process", body = Value),
    (status = 404, description = "This process takes no orders", body = Value),
    (status = 503, description = "The process is starting", body = Value),
))]
pub(super) async fn jobs(State(shared): State<Shared>) -> Result<Json<Value>, Refused> {
    let stopped = levers(&shared)?.orders().jobs;
    let one = |(id, given): &(String, Given)| with(json!({ "id": id }), given);
    let in_sight = site(&shared)?.jobs().map(|jobs| jobs.figures(Instant::now())).unwrap_or_default();
    Ok(Json(json!({ "jobs": in_sight, "stopped": stopped.iter().map(one).collect::<Vec<_>>() })))
}

fn place(Paused { app, platform, lane }: &Paused) -> Value {
    json!({ "app": app, "platform": platform, "lane": lane.as_str() })
}

fn with(mut what: Value, Given { at, by, why }: &Given) -> Value {
    what["at"] = json!(at);
    what["by"] = json!(by);
    what["why"] = json!(why);
    what
}
