//! The status of a process while somebody watches: `/` (the page), `/api/status`, `/api/events`, `/api/history`,
//! `/api/openapi.json`. One clock notes the books once a second; a document is made when it is asked for, and once a second while
//! somebody listens to the events.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::compose::{self, Facts};
use super::document::{History, Protected, Status};
use super::recent::{INTERVAL, Recent};
use super::view::View;
use super::{Shared, html, openapi, reasons};
use crate::journal;
use crate::levers::Levers;
use crate::rhythm;

/// How often the books are noted and listeners are told.
const BEAT: Duration = Duration::from_secs(1);
/// Most listeners to the events at a time.
const LISTENERS: usize = 64;

/// See the module. Ends with the last handle to it.
pub(super) struct Live {
    site: Shared,
    instance: String,
    since_ms: i64,
    recent: Mutex<Recent>,
    told: watch::Sender<Arc<str>>,
}

impl Live {
    /// Begins to note the books, on `runtime`.
    pub(super) fn start(site: Shared, runtime: &tokio::runtime::Handle) -> Arc<Live> {
        let instance = gethostname::gethostname().to_string_lossy().into_owned();
        let (recent, told) = (Mutex::default(), watch::Sender::new(Arc::from("")));
        let live = Arc::new(Live { site, instance, since_ms: now_ms(), recent, told });
        runtime.spawn(keep_time(Arc::downgrade(&live)));
        live
    }

    fn view(&self) -> View {
        self.site.get().map(|site| site.view()).unwrap_or_default()
    }

    /// The document of this moment.
    fn status(&self) -> Status {
        self.status_of(&self.view(), &self.recent.lock())
    }

    fn status_of(&self, view: &View, recent: &Recent) -> Status {
        let (site, now) = (self.site.get(), Instant::now());
        let facts = Facts {
            instance: &self.instance,
            since_ms: self.since_ms,
            at_ms: now_ms(),
            now,
            not_ready: reasons(&self.site),
            standing_still: site.map(|site| site.standing_still()).unwrap_or_default(),
            journal: journal::of_process().entries(),
            orders: site.and_then(|site| site.levers()).map(Levers::orders).unwrap_or_default(),
            jobs: site.and_then(|site| site.jobs()).map(|jobs| jobs.figures(now)).unwrap_or_default(),
        };
        compose::status(view, facts, recent)
    }

    fn beat(&self) {
        let (mut recent, now) = (self.recent.lock(), Instant::now());
        let (is_due, is_heard) = (recent.is_due(now), self.told.receiver_count() > 0);
        if !is_due && !is_heard {
            // The books alone, for nobody looks at the rest.
            recent.note(&self.site.get().map(|site| site.sheets()).unwrap_or_default(), now);
            return;
        }
        let view = self.view();
        recent.note(&view.sheets, now);
        let status = self.status_of(&view, &recent);
        if is_due {
            recent.sample(compose::sample(&status), now);
        }
        drop(recent);
        if is_heard {
            self.told.send_replace(text(&status));
        }
    }
}

async fn keep_time(live: Weak<Live>) {
    loop {
        rhythm::strike(BEAT).await;
        let Some(live) = live.upgrade() else { return };
        live.beat();
    }
}

fn text(status: &Status) -> Arc<str> {
    // A document of texts and numbers.
    serde_json::to_string(status).unwrap_or_default().into()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The routes that show how the process stands.
pub(super) fn reading(live: Arc<Live>) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/events", get(events))
        .route("/api/history", get(history))
        .with_state(live)
}

/// The routes that are the same in every process: the page and the description.
pub(super) fn fixed() -> Router {
    Router::new().route("/", get(html::page)).route("/api/openapi.json", get(openapi::json))
}

/// How the process stands, all of one moment.
#[utoipa::path(get, path = "/api/status", tag = "status", responses(
    (status = 200, description = "How the process stands, also while it is not ready", body = Status),
    Protected,
), security((), ("token" = [])))]
pub(super) async fn status(State(live): State<Arc<Live>>) -> Response {
    (NO_STORE, Json(live.status())).into_response()
}

/// The last 15 minutes, for charts.
#[utoipa::path(get, path = "/api/history", tag = "status", responses(
    (status = 200, description = "One sample each 5 seconds", body = History),
    Protected,
), security((), ("token" = [])))]
pub(super) async fn history(State(live): State<Arc<Live>>) -> Response {
    let samples = live.recent.lock().samples().cloned().collect();
    (NO_STORE, Json(History { interval_s: INTERVAL.as_secs_f64(), samples })).into_response()
}

/// The document of `/api/status` now and once a second, as server-sent events without end.
#[utoipa::path(get, path = "/api/events", tag = "status", responses(
    (status = 200, description = "Events named `status` whose data is the document", body = String, content_type = "text/event-stream"),
    (status = 503, description = "Too many listeners already", body = String, content_type = "text/plain"),
    Protected,
), security((), ("token" = [])))]
pub(super) async fn events(State(live): State<Arc<Live>>) -> Response {
    if live.told.receiver_count() >= LISTENERS {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many listeners: ask /api/status instead\n").into_response();
    }
    let mut told = live.told.subscribe();
    told.mark_unchanged();
    let first = text(&live.status());
    drop(live);
    (NO_STORE, Sse::new(told_from(first, told))).into_response()
}

/// A listener that is slow misses what is old.
fn told_from(first: Arc<str>, told: watch::Receiver<Arc<str>>) -> impl Stream<Item = Result<Event, Infallible>> {
    let later = stream::unfold(told, async |mut told| {
        told.changed().await.ok()?;
        let text = told.borrow_and_update().clone();
        Some((text, told))
    });
    stream::once(async { first }).chain(later).map(|text| Ok(Event::default().event("status").data(&*text)))
}

/// Each answer is of its moment.
const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];
