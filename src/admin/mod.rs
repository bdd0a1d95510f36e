//! What a running process says of itself over HTTP, and by what orders are given to it: `/healthz`, `/readyz`, `/metrics`, the
//! status page with its documents, and the calls below `/api` that change something.
//!
//! What lives here: the server, its connections (`connections`), who may ask for what ([`guard`]), the calls that give orders
//! (`orders`), the questioner of `pusher health` ([`ask`]), and two ways of telling the same:
//! - for Prometheus: the words of the page ([`family`]), and writers of what other rooms' snapshots say ([`books`], [`pools`],
//!   [`standing`], [`told`]);
//! - for people: what a site shows ([`view`]), the last minutes ([`recent`]), the document ([`document`], written by `compose`,
//!   with `advice`), its routes (`live`), page (`html`) and description ([`openapi`]).
//!
//! What may not live here: a worker. Whoever runs behind this is a [`Site`]; that it is a worker, a listener or a test is its own
//! business.
//!
//! - *Health is about us.* Unhealthy means that a part of this process stands still, which a restart mends. A neighbour that is
//!   away, an open breaker or a backlog is never a reason: a restart would only add to the harm.
//! - *Readiness is about the work.* Not ready means that no push can go through to its end now, and why.
//! - The server begins before there is anything to tell: a slow start is healthy and not ready.
//! - No secret but the server's own token, no device's token and no payload is known here.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::config::{Config, ConfigError, Key};
use crate::jobs::Jobs;
use crate::levers::Levers;
use crate::pulse::Silence;
use crate::tally::{LaneKey, Sheet};

mod advice;
pub mod ask;
pub mod books;
mod compose;
mod connections;
pub mod document;
pub mod family;
pub mod guard;
mod html;
mod live;
pub mod openapi;
mod orders;
pub mod page;
pub mod pools;
pub mod recent;
pub mod standing;
pub mod told;
pub mod view;

use connections::{Bounded, Peer};
pub use family::{Family, Kind};
pub use guard::{Guard, Who};
use live::Live;
pub use page::Page;
pub use view::View;

/// Where to listen.
pub const LISTEN: Key = Key::new(
    "admin.listen",
    "127.0.0.1:8080",
    "host:port of the HTTP server with the status page, /healthz, /readyz and /metrics; off (in a file also \"\"): none; when this default is taken: none, with a warning",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[LISTEN, guard::TOKEN, guard::TOKEN_FILE, guard::PROTECT_READS];

/// Behind the server: what it is asked for. Every call is short.
pub trait Site: Send + Sync {
    /// What should move and does not. Empty: healthy.
    fn standing_still(&self) -> Vec<Silence>;
    /// Why no work can be done now. Empty: ready.
    fn not_ready(&self) -> Vec<Reason>;
    /// Writes all numbers, those that belong together of one moment.
    fn measure(&self, page: &mut Page);
    /// How it stands, for people: the same facts.
    fn view(&self) -> View;
    /// The books of that alone.
    fn sheets(&self) -> Vec<(LaneKey, Sheet)> {
        self.view().sheets
    }
    /// By what orders are given; `None`: it takes none.
    fn levers(&self) -> Option<&Levers> {
        None
    }
    /// The jobs whose messages it sends; `None`: it sends none.
    fn jobs(&self) -> Option<&Jobs> {
        None
    }
}

/// What every process says of itself at the end of its page.
pub fn write_itself(page: &mut Page, is_ready: bool) {
    page.gauge(&family::READY, &[], f64::from(u8::from(is_ready)));
    page.gauge(&family::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
}

/// Why a process is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Short, from a closed set: `group`, `credentials`, `feedback`, `draining`, `starting`.
    pub what: &'static str,
    /// For people.
    pub detail: String,
}

impl Reason {
    /// A reason with its explanation.
    pub fn new(what: &'static str, detail: impl Into<String>) -> Self {
        Reason { what, detail: detail.into() }
    }
}

/// What the configuration says about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`; `None`: no server.
    pub listen: Option<String>,
    /// Who may ask for what.
    pub guard: Guard,
}

impl Settings {
    /// Reads [`KEYS`].
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let listen = config.get::<String>(&LISTEN)?.map(|listen| listen.trim().to_owned());
        let listen = listen.filter(|listen| !listen.eq_ignore_ascii_case("off"));
        let is_address = |listen: &String| {
            listen.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if listen.as_ref().is_some_and(|listen| !is_address(listen)) {
            return Err(config.error(&LISTEN, "must be host:port, for example 127.0.0.1:8080, or off"));
        }
        Ok(Settings { listen, guard: Guard::from_config(config)? })
    }
}

type Shared = Arc<OnceLock<Arc<dyn Site>>>;

/// A server that serves, and waits for its site.
#[derive(Clone)]
pub struct Admin {
    site: Shared,
    address: SocketAddr,
}

impl Admin {
    /// Listens, and serves on this runtime for as long as it lives; `None` when no server is asked for, or when the default
    /// address is taken.
    ///
    /// # Errors
    /// An address that cannot be listened on: the port is taken, the host is not ours.
    pub fn start(settings: &Settings, runtime: &tokio::runtime::Handle) -> Result<Option<Admin>, ConfigError> {
        let Some(listen) = &settings.listen else { return Ok(None) };
        let (listener, address) = match bind(listen, runtime) {
            Ok(bound) => bound,
            // Workers of two platforms on one machine, with what the default file says, are no reason to send nothing.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && LISTEN.default == Some(listen) => {
                tracing::warn!(address = listen, "no admin server: the default address is taken; set admin.listen");
                return Ok(None);
            }
            Err(error) => {
                let rule = format!("cannot be listened on ({error}): end who uses it, choose another port, or off");
                return Err(ConfigError { key: LISTEN.name.into(), value: Some(listen.clone()), rule });
            }
        };
        let site = Shared::default();
        let router = router(&site, Live::start(site.clone(), runtime), &settings.guard);
        let router = router.into_make_service_with_connect_info::<Peer>();
        runtime.spawn(async move {
            if let Err(error) = axum::serve(Bounded::new(listener), router).await {
                tracing::error!(%error, "the admin server ended");
            }
        });
        tracing::info!(%address, "the admin server listens: status page at /, /healthz, /readyz, /metrics");
        Ok(Some(Admin { site, address }))
    }

    /// From now on answers are this site's; the first one counts.
    pub fn open(&self, site: Arc<dyn Site>) {
        let _ = self.site.set(site);
    }

    /// Where it listens: with the port, when the configuration asks for any.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn bind(listen: &str, runtime: &tokio::runtime::Handle) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let _inside = runtime.enter();
    Ok((TcpListener::from_std(listener)?, address))
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

fn router(site: &Shared, live: Arc<Live>, guard: &Guard) -> Router {
    let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    let reading = Router::new().route("/metrics", get(metrics)).merge(orders::reading());
    let of_site = open.merge(guard.reading(reading)).merge(guard.changing(orders::changing())).with_state(site.clone());
    of_site.merge(guard.reading(live::reading(live))).merge(live::fixed())
}

/// Why no work can be done: of a process that has no site yet, that it starts.
fn reasons(site: &Shared) -> Vec<Reason> {
    let starting = || vec![Reason::new("starting", "credentials and neighbours are being checked")];
    site.get().map_or_else(starting, |site| site.not_ready())
}

/// Whether every part of the process moves.
#[utoipa::path(get, path = "/healthz", tag = "probes", responses(
    (status = 200, description = "It moves", body = Value),
    (status = 503, description = "A part stands still: restart it", body = Value),
))]
async fn healthz(State(site): State<Shared>) -> Response {
    let silent = site.get().map(|site| site.standing_still()).unwrap_or_default();
    let seconds = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
    let one =
        |one: &Silence| json!({ "name": one.name, "silent_s": seconds(one.lasts), "limit_s": seconds(one.limit) });
    let body = json!({
        "status": if silent.is_empty() { "healthy" } else { "standing still" },
        "standing_still": silent.iter().map(one).collect::<Vec<_>>(),
    });
    answer(silent.is_empty(), &body)
}

/// Whether work can go through to its end, and why not.
#[utoipa::path(get, path = "/readyz", tag = "probes", responses(
    (status = 200, description = "It can", body = Value),
    (status = 503, description = "It cannot; why", body = Value),
))]
async fn readyz(State(site): State<Shared>) -> Response {
    let reasons = reasons(&site);
    let one = |one: &Reason| json!({ "reason": one.what, "detail": one.detail });
    let body = json!({
        "status": if reasons.is_empty() { "ready" } else { "not ready" },
        "reasons": reasons.iter().map(one).collect::<Vec<_>>(),
    });
    answer(reasons.is_empty(), &body)
}

fn answer(well: bool, body: &Value) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// All numbers, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "probes", responses(
    (status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"),
    document::Protected,
), security((), ("token" = [])))]
async fn metrics(State(site): State<Shared>) -> Response {
    let mut page = Page::default();
    if let Some(site) = site.get() {
        site.measure(&mut page);
    }
    match page.text() {
        Ok(text) => ([(header::CONTENT_TYPE, page::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
