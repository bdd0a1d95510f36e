//! `/api/openapi.json`: what can be asked of the admin server, made from the functions that answer and the structures that they
//! answer with.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::live;

/// The description. Paths are collected here, one line each.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pusher's admin server",
        description = "What a running worker or listener says of itself. Reading changes nothing.",
    ),
    tags(
        (name = "status", description = "How the process stands"),
        (name = "probes", description = "For orchestrators and Prometheus"),
    ),
    paths(
        live::status,
        live::events,
        live::history,
        super::html::page,
        json,
        super::healthz,
        super::readyz,
        super::metrics,
    )
)]
pub struct Description;

static TEXT: LazyLock<String> = LazyLock::new(|| {
    // A description is texts in maps, which JSON can always write.
    Description::openapi().to_pretty_json().unwrap_or_default()
});

/// This description.
#[utoipa::path(get, path = "/api/openapi.json", tag = "status", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value),
))]
pub(super) async fn json() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}
