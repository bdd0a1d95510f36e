//! The control endpoint's routes: the levers of [`Handle`] as HTTP and JSON.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::faults::Faults;
use super::{Handle, Stats};

#[derive(Deserialize)]
struct GoAway {
    #[serde(default = "shutdown")]
    reason: String,
}

fn shutdown() -> String {
    "Shutdown".into()
}

/// A serial's fate.
#[derive(Serialize)]
struct Fate {
    serial: u64,
    requests: u32,
    accepted: u32,
}

pub(super) fn routes(handle: Handle) -> Router {
    Router::new()
        .route("/stats", get(stats))
        .route("/faults", get(faults).put(put_faults))
        .route("/goaway", post(goaway))
        .route("/close", post(close))
        .route("/mute", post(mute))
        .route("/reset", post(reset))
        .route("/serials/{serial}", get(serial))
        .route("/missing/{from}/{to}", get(missing))
        .route("/repeated", get(repeated))
        .with_state(handle)
}

async fn stats(State(handle): State<Handle>) -> Json<Stats> {
    Json(handle.stats())
}

async fn faults(State(handle): State<Handle>) -> Json<Faults> {
    Json(handle.faults())
}

async fn put_faults(
    State(handle): State<Handle>,
    Json(faults): Json<Faults>,
) -> Result<Json<Faults>, (StatusCode, String)> {
    handle.set_faults(faults).map_err(|rule| (StatusCode::UNPROCESSABLE_ENTITY, rule))?;
    Ok(Json(handle.faults()))
}

async fn goaway(State(handle): State<Handle>, body: Option<Json<GoAway>>) -> StatusCode {
    handle.goaway(&body.map_or_else(shutdown, |Json(goaway)| goaway.reason));
    StatusCode::NO_CONTENT
}

async fn close(State(handle): State<Handle>) -> StatusCode {
    handle.close_connections();
    StatusCode::NO_CONTENT
}

async fn mute(State(handle): State<Handle>) -> StatusCode {
    handle.mute_connections();
    StatusCode::NO_CONTENT
}

async fn reset(State(handle): State<Handle>) -> StatusCode {
    handle.reset();
    StatusCode::NO_CONTENT
}

async fn serial(State(handle): State<Handle>, Path(serial): Path<u64>) -> Json<Fate> {
    let (requests, accepted) = handle.ledger().of(serial);
    Json(Fate { serial, requests, accepted })
}

/// The ranges `[from, to)` never accepted, at most 1,000.
async fn missing(State(handle): State<Handle>, Path((from, to)): Path<(u64, u64)>) -> Json<Vec<(u64, u64)>> {
    let ranges = handle.ledger().missing(from..to);
    Json(ranges.into_iter().map(|range| (range.start, range.end)).collect())
}

/// Serials accepted more than once and how often, at most 1,000.
async fn repeated(State(handle): State<Handle>) -> Json<Vec<(u64, u32)>> {
    Json(handle.ledger().repeated())
}
