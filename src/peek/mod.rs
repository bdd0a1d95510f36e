//! `pusher peek`: what the messages of a push topic would become, without sending them.
//!
//! `kafka` reads them, the provider's own code makes requests of them ([`crate::handlers::Provider::preview`]), `show` says
//! it. Joins no group and commits nothing.

mod kafka;
mod show;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::cli::Peek;
use crate::config::Config;
use crate::handlers::{self, Provider};
use crate::message::{Origin, Platform, QueueMessage};
use crate::queue::config::Settings;
use crate::queue::topic;
use crate::shutdown::Shutdown;

/// A message and what it would become, as text.
pub type Shown = String;

/// The messages that are asked for, each as text or, with `json`, as a line of JSON; `production` chooses the provider's hosts.
pub fn run(config: &Config, arguments: &Peek, production: bool, json: bool, shutdown: &Shutdown) -> Result<Vec<Shown>> {
    let known: Vec<Platform> = handlers::providers().iter().map(|one| one.platform).collect();
    let Some(parsed) = topic::parse(&arguments.topic, &known) else {
        bail!("{} is no push topic: those are named push-<app>_<platform>-single or -massive", arguments.topic);
    };
    let provider = handlers::provider(parsed.platform.0, config, production)?;
    let app = provider.apps().into_iter().find(|app| app.eq_ignore_ascii_case(parsed.app));
    let app = app.with_context(|| format!("app {} is not in {}.apps", parsed.app, parsed.platform))?;
    let queue = Settings::from_config(config).map_err(|error| config.placed(&error))?;
    let records = kafka::read(&queue, arguments, shutdown)?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let topic: Arc<str> = arguments.topic.as_str().into();
    let message = |record: kafka::Record| QueueMessage {
        origin: Arc::new(Origin {
            topic: topic.clone(),
            partition: record.partition,
            app: app.clone(),
            platform: parsed.platform,
            lane: parsed.lane,
        }),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        redrive_of: record.redrive_of,
        lent_at: Instant::now(),
        payload: record.payload.into(),
    };
    Ok(records.into_iter().map(|record| shown(&*provider, &message(record), now_ms, json)).collect())
}

/// What one message would become at `now_ms`, as text or as a line of JSON.
pub fn shown(provider: &dyn Provider, message: &QueueMessage, now_ms: i64, json: bool) -> Shown {
    let preview = provider.preview(message, now_ms);
    if json { show::line(message, &preview) } else { show::text(message, &preview, now_ms) }
}
