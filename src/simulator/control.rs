//! The control endpoint: plain HTTP/1.1 and JSON on a port of its own. A provider may add routes to those of all.

use std::io;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::handle::{Handle, Provider};

#[derive(Deserialize)]
struct GoAway {
    reason: Option<String>,
}

/// A serial's fate.
#[derive(Serialize)]
struct Fate {
    serial: u64,
    requests: u32,
    accepted: u32,
}

/// The routes that every provider has.
pub fn routes<P: Provider>(simulator: Handle<P>) -> Router {
    Router::new()
        .route("/stats", get(stats::<P>))
        .route("/faults", get(faults::<P>).put(put_faults::<P>))
        .route("/goaway", post(goaway::<P>))
        .route("/close", post(close::<P>))
        .route("/mute", post(mute::<P>))
        .route("/reset", post(reset::<P>))
        .route("/serials/{serial}", get(serial::<P>))
        .route("/missing/{from}/{to}", get(missing::<P>))
        .route("/repeated", get(repeated::<P>))
        .with_state(simulator)
}

async fn stats<P: Provider>(State(simulator): State<Handle<P>>) -> Json<P::Stats> {
    Json(simulator.stats())
}

async fn faults<P: Provider>(State(simulator): State<Handle<P>>) -> Json<P::Faults> {
    Json(simulator.faults())
}

async fn put_faults<P: Provider>(
    State(simulator): State<Handle<P>>,
    Json(given): Json<Value>,
) -> Result<Json<P::Faults>, (StatusCode, String)> {
    let refuse = |rule: String| (StatusCode::UNPROCESSABLE_ENTITY, rule);
    let faults = over_defaults(given).map_err(|error| refuse(error.to_string()))?;
    simulator.set_faults(faults).map_err(refuse)?;
    Ok(Json(simulator.faults()))
}

/// An empty body means the ordinary reason, whatever content type it claims.
async fn goaway<P: Provider>(
    State(simulator): State<Handle<P>>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    let body = if body.is_empty() { &b"{}"[..] } else { &body };
    let goaway: GoAway =
        serde_json::from_slice(body).map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    match goaway.reason {
        Some(reason) => simulator.goaway(&reason),
        None => simulator.goaway_as_usual(),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn close<P: Provider>(State(simulator): State<Handle<P>>) -> StatusCode {
    simulator.close_connections();
    StatusCode::NO_CONTENT
}

async fn mute<P: Provider>(State(simulator): State<Handle<P>>) -> StatusCode {
    simulator.mute_connections();
    StatusCode::NO_CONTENT
}

async fn reset<P: Provider>(State(simulator): State<Handle<P>>) -> StatusCode {
    simulator.reset();
    StatusCode::NO_CONTENT
}

async fn serial<P: Provider>(State(simulator): State<Handle<P>>, Path(serial): Path<u64>) -> Json<Fate> {
    let (requests, accepted) = simulator.ledger().of(serial);
    Json(Fate { serial, requests, accepted })
}

/// The ranges `[from, to)` never accepted, at most 1,000.
async fn missing<P: Provider>(
    State(simulator): State<Handle<P>>,
    Path((from, to)): Path<(u64, u64)>,
) -> Json<Vec<(u64, u64)>> {
    let ranges = simulator.ledger().missing(from..to);
    Json(ranges.into_iter().map(|range| (range.start, range.end)).collect())
}

/// Serials accepted more than once and how often, at most 1,000.
async fn repeated<P: Provider>(State(simulator): State<Handle<P>>) -> Json<Vec<(u64, u32)>> {
    Json(simulator.ledger().repeated())
}

/// Reads faults: what `given` does not name, at any depth, is as in the default. (serde's own defaults know only the type of
/// a part, not whose part it is: providers start from different levers.)
pub fn over_defaults<F: Default + Serialize + DeserializeOwned>(given: Value) -> serde_json::Result<F> {
    let mut whole = serde_json::to_value(F::default())?;
    lay_over(&mut whole, given);
    serde_json::from_value(whole)
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            above.into_iter().for_each(|(name, value)| lay_over(below.entry(name).or_insert(Value::Null), value));
        }
        (below, above) => *below = above,
    }
}

/// Binds the endpoint's address (port 0: any free one).
pub fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} for the control endpoint: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until stopped.
pub async fn serve(listener: std::net::TcpListener, routes: Router, stop: CancellationToken) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        served = axum::serve(listener, routes) => {
            if let Err(error) = served {
                tracing::warn!(%error, "simulator: the control endpoint ended");
            }
        }
    }
}
