//! What `pusher valve` runs: the valves as the control topic has them, for people.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::cli::Resume;
use crate::config::Config;
use crate::control::{self, Control, NotRead, State};
use crate::feedback_listener::config::QUEUE;
use crate::queue::config::{Settings, WORKER};
use crate::reporters::invalid_token::latch::{Entry, Watcher};
use crate::reporters::invalid_token::now_ms;
use crate::status::words::age;

/// How long the topic may take to be read, and an entry to be written.
const PATIENCE: Duration = Duration::from_secs(15);

/// One valve.
#[derive(Debug)]
struct Valve {
    app: String,
    platform: String,
    watcher: Watcher,
    entry: Entry,
}

impl Valve {
    fn is_of(&self, app: &str) -> bool {
        self.app.eq_ignore_ascii_case(app)
    }
}

/// `pusher valve status`.
pub fn status(config: &Config, app: Option<&str>, json: bool) -> Result<()> {
    let (runtime, control, topic) = open_kept(config)?;
    let valves = match runtime.block_on(control.read(PATIENCE)) {
        Ok(()) => valves(&control.state()),
        Err(NotRead::Missing(_)) => {
            tracing::debug!(topic, "no control topic");
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let valves: Vec<_> = valves.into_iter().filter(|valve| app.is_none_or(|app| valve.is_of(app))).collect();
    if json {
        for valve in &valves {
            println!("{}", line(valve));
        }
    } else {
        print!("{}", shown(&valves, now_ms()));
    }
    Ok(())
}

/// `pusher valve resume`.
pub fn resume(config: &Config, arguments: &Resume) -> Result<()> {
    let (runtime, control, topic) = open_kept(config)?;
    runtime.block_on(control.read(PATIENCE))?;
    let wanted = |valve: &Valve| {
        valve.entry.closed
            && valve.is_of(&arguments.app)
            && arguments.platform.as_ref().is_none_or(|platform| *platform == valve.platform)
    };
    let valves: Vec<_> = valves(&control.state()).into_iter().filter(wanted).collect();
    if valves.is_empty() {
        println!("no valve of {} is closed", arguments.app);
        return Ok(());
    }
    let (now, by) = (now_ms(), person());
    for valve in &valves {
        let why = if arguments.keep { "opened by hand, what was held is kept" } else { "opened by hand" };
        let end = valve.entry.opened(now, &by, why, arguments.keep.then_some(now));
        control.set(&valve.watcher.key(&valve.platform, &valve.app), &end);
    }
    let written = runtime.block_on(control.written(PATIENCE));
    ensure!(
        written,
        "the topic {topic} did not acknowledge it within {} s; look again with: pusher valve status",
        PATIENCE.as_secs()
    );
    for Valve { app, platform, watcher, .. } in &valves {
        println!("opened: {app} on {platform}, the {}'s", watcher.name());
    }
    Ok(())
}

fn open_kept(config: &Config) -> Result<(Runtime, Control, String)> {
    match open(config, false)? {
        Some(open) => Ok(open),
        None => bail!("control.topic is off: valves work in the memory of each process, and a restart opens them"),
    }
}

/// The entries, as the worker or, where only that is configured, the listener finds them; with the topic's name. `create`: a
/// topic that is not there is made. `None`: nothing is kept.
pub fn open(config: &Config, create: bool) -> Result<Option<(Runtime, Control, String)>> {
    let section = if QUEUE.is_written(config) && !WORKER.is_written(config) { &QUEUE } else { &WORKER };
    let queue = Settings::read(config, section).map_err(|error| config.placed(&error))?;
    let consumer = control::config::Consumer { brokers: &queue.brokers, group: &queue.group, options: &queue.options };
    let settings = control::Settings::from_config(config, consumer).map_err(|error| config.placed(&error))?;
    let Some(settings) = settings else { return Ok(None) };
    let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let topic = settings.topic.clone();
    let control = Control::new(Some(control::Settings { create, ..settings }));
    control.start();
    Ok(Some((runtime, control, topic)))
}

fn valves(state: &State) -> Vec<Valve> {
    let of = |watcher: Watcher| {
        let keys = watcher.keys();
        let read = |(rest, entry): (&str, Entry)| {
            let (platform, app) = rest.split_once('/')?;
            Some(Valve { app: app.to_owned(), platform: platform.to_owned(), watcher, entry })
        };
        state.below::<Entry>(&keys).filter_map(read).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = Watcher::ALL.into_iter().flat_map(of).collect();
    all.sort_by(|a, b| {
        (!a.entry.closed, &a.app, &a.platform, a.watcher).cmp(&(!b.entry.closed, &b.app, &b.platform, b.watcher))
    });
    all
}

/// For scripts.
fn line(valve: &Valve) -> String {
    let Valve { app, platform, watcher, entry } = valve;
    let Entry { closed, at, by, why, keep_before, .. } = entry;
    json!({
        "app": app, "platform": platform, "watcher": watcher.name(), "closed": closed, "at": at, "by": by, "why": why,
        "keepBefore": keep_before,
    })
    .to_string()
}

fn shown(valves: &[Valve], now: i64) -> String {
    if valves.is_empty() {
        return "no valve is closed, and none was\n".into();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["APP", "PLATFORM", "WATCHED BY", "STATE", "FOR", "DECIDED BY", "WHY"]);
    for Valve { app, platform, watcher, entry } in valves {
        let state = if entry.closed { "closed" } else { "open" };
        let age = age(now - entry.at);
        table.add_row([app.as_str(), platform, watcher.name(), state, &age, &entry.by, &entry.why]);
    }
    let mut out = String::new();
    for row in table.lines() {
        let _ = writeln!(out, "{}", row.trim());
    }
    let closed = valves.iter().find(|valve| valve.entry.closed);
    if let Some(valve) = closed {
        let _ = writeln!(out, "\nTo open one: pusher valve resume {} (see pusher valve resume --help)", valve.app);
    }
    out
}

/// Who asks, as far as the system says.
pub fn person() -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() => format!("{user}@{host}"),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        let mut add = |watcher: Watcher, app: &str, closed: bool, at: i64, why: &str| {
            let (closing, by, why) = ("p/1".into(), "pod-1".into(), why.into());
            let entry = Entry { closed, closing, at, by, why, keep_before: None };
            state.apply(&watcher.key("apns", app), Some(&serde_json::to_string(&entry).unwrap()));
        };
        add(Watcher::Worker, "zoo", false, 1_000, "opened by hand");
        add(Watcher::Worker, "game", true, 89_000, "62 % of the last answers called the token dead, more than 30 %");
        add(Watcher::Listener, "game", true, 90_000, "the worker's valve of the app has closed");
        state.apply("valve/listener/gcm/odd", Some("{}"));
        state.apply("pause/apns/game", Some("true"));
        state
    }

    #[test]
    fn what_is_closed_comes_first_with_what_to_do() {
        insta::assert_snapshot!(shown(&valves(&state()), 4_000_000));
        assert_eq!(shown(&[], 0), "no valve is closed, and none was\n");
    }

    #[test]
    fn scripts_get_objects() {
        insta::assert_snapshot!(line(&valves(&state())[0]), @r#"{"app":"game","at":89000,"by":"pod-1","closed":true,"keepBefore":null,"platform":"apns","watcher":"worker","why":"62 % of the last answers called the token dead, more than 30 %"}"#);
    }
}
