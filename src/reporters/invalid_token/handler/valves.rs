//! The valves of a worker's apps, and what of them is shared with other processes and kept for later ones.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, futures::Notified};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::latch::{self, Entry, Latch, Order, Watcher};
use super::super::now_ms;
use super::super::valve::{Change, Judgement, Valve};
use crate::control::{Control, Stage, State};
use crate::message::{Origin, Platform};
use crate::reporters::StatsReporter;
use crate::reporters::quick_hash::QuickHash;
use crate::reporters::stats::{Metric, Stats};

type ByApp = HashMap<Platform, HashMap<Arc<str>, Arc<AppValve>, QuickHash>, QuickHash>;

/// One app's valve.
pub(super) struct AppValve {
    guarded: Mutex<(Valve, Latch)>,
    changed: Notify,
}

impl AppValve {
    /// Whether a dead token may be deleted now.
    pub(super) fn judge(&self) -> Judgement {
        self.guarded.lock().0.judge(Instant::now().into_std())
    }

    /// Completes when it may judge otherwise.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

/// All of them.
pub(super) struct Valves {
    max_share: f64,
    min_answers: u32,
    by_app: RwLock<ByApp>,
    control: Control,
    /// The entries that were there when this process had read them all.
    first: OnceLock<Arc<State>>,
    hostname: String,
    process: String,
    stats: Stats,
}

impl Valves {
    pub(super) fn new(max_share: f64, min_answers: u32, control: Control, hostname: String, stats: Stats) -> Self {
        let process = latch::process(&hostname);
        let (by_app, first) = (RwLock::default(), OnceLock::new());
        Valves { max_share, min_answers, by_app, control, first, hostname, process, stats }
    }

    /// Calls `act` with the valve of the message's app, made if it is new.
    pub(super) fn with<T>(&self, origin: &Origin, act: impl FnOnce(&Arc<AppValve>) -> T) -> T {
        {
            // Held by each message for an instant; the map itself changes once per app.
            let valves = self.by_app.read();
            if let Some(valve) = valves.get(&origin.platform).and_then(|apps| apps.get(&origin.app)) {
                return act(valve);
            }
        }
        let new = || {
            let (valve, changed) = (Valve::new(self.max_share, self.min_answers), Notify::new());
            let valve = Arc::new(AppValve { guarded: Mutex::new((valve, Latch::default())), changed });
            if self.first.get().is_some() {
                self.obey(&self.control.state(), origin.platform, &origin.app, &valve);
            }
            valve
        };
        act(self.by_app.write().entry(origin.platform).or_default().entry(origin.app.clone()).or_insert_with(new))
    }

    /// Takes note of one final answer.
    pub(super) fn observe(&self, origin: &Origin, invalid: bool) {
        let now = Instant::now().into_std();
        self.with(origin, |app| {
            let mut guarded = app.guarded.lock();
            let change = guarded.0.observe(invalid, now);
            if change == Change::None {
                return;
            }
            app.changed.notify_waiters();
            let share = guarded.0.share();
            match change {
                Change::Closed => self.closed(origin, share, guarded.1.close(&self.process)),
                Change::Opened => self.opened(origin, share, guarded.1.open()),
                Change::Cleared | Change::None => {}
            }
        });
    }

    fn closed(&self, origin: &Origin, share: f64, closing: String) {
        let (app, platform, limit) = (&*origin.app, origin.platform, self.max_share);
        tracing::error!(
            alarm = true, app, %platform, share, limit,
            "too many dead tokens: none of this app is deleted any more, pushes go on; check host (-p), topic and key, then: pusher valve resume"
        );
        let why = format!(
            "{:.0} % of the last answers called the token dead, more than {:.0} %",
            share * 100.0,
            limit * 100.0
        );
        let (at, by) = (now_ms(), self.hostname.clone());
        let entry = Entry { closed: true, closing, at, by, why, keep_before: None };
        self.control.set(&Watcher::Worker.key(platform.0, app), &entry);
        self.gauge(platform, app, true);
    }

    fn opened(&self, origin: &Origin, share: f64, closing: Option<String>) {
        let (app, platform) = (&*origin.app, origin.platform);
        tracing::warn!(app, %platform, share, "the share of dead tokens is low again: they are deleted again");
        if let Some(closing) = closing {
            let why = format!("{:.0} % of the last answers called the token dead", share * 100.0);
            let (at, by) = (now_ms(), self.hostname.clone());
            let entry = Entry { closed: false, closing, at, by, why, keep_before: None };
            self.control.set(&Watcher::Worker.key(platform.0, app), &entry);
        }
        self.gauge(platform, app, false);
    }

    /// Follows what other processes, and people, decide, until `stop`.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut watch = self.control.watch();
        loop {
            let view = watch.borrow_and_update().clone();
            if view.stage == Stage::Complete {
                self.first.get_or_init(|| view.state.clone());
                for (platform, apps) in &*self.by_app.read() {
                    for (app, valve) in apps {
                        self.obey(&view.state, *platform, app, valve);
                    }
                }
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn obey(&self, state: &State, platform: Platform, app: &str, valve: &AppValve) {
        let key = Watcher::Worker.key(platform.0, app);
        let Some(entry) = state.get::<Entry>(&key) else { return };
        let first = self.first.get().and_then(|first| first.get::<Entry>(&key));
        let at_start = first.is_some_and(|first| first.closing == entry.closing);
        let mut guarded = valve.guarded.lock();
        let (valve_itself, latch) = &mut *guarded;
        match latch.follow(&entry, &self.process, at_start) {
            Order::None => return,
            Order::Close => {
                valve_itself.close(latch.is_ours());
                let (by, why) = (entry.by, entry.why);
                tracing::warn!(app, %platform, by, why, "the valve is closed: dead tokens of this app are not deleted");
            }
            Order::Open => {
                valve_itself.open();
                tracing::warn!(app, %platform, by = entry.by, "the valve was opened: dead tokens of this app are deleted again");
            }
        }
        let is_closed = valve_itself.is_closed();
        drop(guarded);
        valve.changed.notify_waiters();
        self.gauge(platform, app, is_closed);
    }

    /// Waits until what was decided here is kept, at most `limit`; whether it is.
    pub(super) async fn written(&self, limit: Duration) -> bool {
        self.control.written(limit).await
    }

    /// Tells statistics the state of each.
    pub(super) fn publish(&self) {
        for (platform, apps) in &*self.by_app.read() {
            for (app, valve) in apps {
                self.gauge(*platform, app, valve.guarded.lock().0.is_closed());
            }
        }
    }

    fn gauge(&self, platform: Platform, app: &str, closed: bool) {
        let tags = [("platform", platform.0), ("game", app)];
        self.stats.gauge(Metric::ValveClosed, &tags, f64::from(u8::from(closed)));
    }
}
