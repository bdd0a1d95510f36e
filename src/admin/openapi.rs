//! `/api/openapi.json`: what can be asked of the admin server, made from the functions that answer and the structures that they
//! answer with.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{live, orders};

/// The description. Paths are collected here, one line each.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pusher's admin server",
        description = "What a running worker or listener says of itself. Reading changes nothing.",
    ),
    tags(
        (name = "status", description = "How the process stands"),
        (name = "orders", description = "What people have ordered; changes need the token"),
        (name = "probes", description = "For orchestrators and Prometheus"),
    ),
    modifiers(&Token),
    // Those of responses that several calls share are not found by themselves.
    components(schemas(super::document::Refusal)),
    paths(
        live::status,
        live::events,
        live::history,
        super::html::page,
        orders::pauses,
        orders::jobs,
        orders::pause,
        orders::resume,
        orders::stop,
        orders::start,
        json,
        super::healthz,
        super::readyz,
        super::metrics,
    )
)]
pub struct Description;

/// The token of `admin.token`, as the description calls it.
struct Token;

impl Modify for Token {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        description.components.get_or_insert_default().add_security_scheme("token", token);
    }
}

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
