//! The levers of the person on call: pause an app or a lane of it, stop a job. [`orders`] says what can be ordered and how it is
//! kept; [`Levers`] gives and takes back orders, and is the only one that does, whether a command or the admin server asks;
//! [`Follower`] obeys them.
//!
//! An order is an entry of the control topic: all processes obey it within moments, and who starts later before it lends its
//! first message. What is in flight when a lane is paused goes on to its end; what waits for a retry is given back.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use crate::control::{Control, NotRead};
use crate::message::Platform;

mod follower;
pub mod orders;

pub use follower::Follower;
use orders::{Given, LISTENER, Orders, Paused, Target, job_key};

/// Gives orders and takes them back. Clones are the same.
#[derive(Clone, Debug)]
pub struct Levers {
    control: Control,
    /// Those that exist.
    platforms: Arc<[&'static str]>,
}

/// How long an order may take to be kept, and the entries to be read before.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an order could not be given, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    /// There is no such thing.
    #[error("{0}")]
    Wrong(String),
    /// There is nowhere to keep it.
    #[error("nothing is changed: {0}")]
    NoTopic(String),
    /// Nobody knows what was ordered before, and nothing was changed.
    #[error("nothing is changed: {0}")]
    NotRead(String),
    /// It may be written later.
    #[error(
        "the control topic did not acknowledge the change within {0} s; it is written as soon as it can be, so look again"
    )]
    NotWritten(u64),
}

impl Levers {
    /// Orders among these entries, for these platforms and the listener.
    pub fn new(control: Control, platforms: impl IntoIterator<Item = Platform>) -> Self {
        let platforms = platforms.into_iter().map(|platform| platform.0).chain([LISTENER]).collect();
        Levers { control, platforms }
    }

    /// The orders that stand, as far as they have been read.
    pub fn orders(&self) -> Orders {
        Orders::of(&self.control.state())
    }

    /// The same, all of them.
    pub async fn all_orders(&self) -> Result<Orders, NotGiven> {
        self.control.read(PATIENCE).await.map_err(|error| match error {
            NotRead::Missing(why) => NotGiven::NoTopic(why),
            NotRead::Away(_) => NotGiven::NotRead(error.to_string()),
        })?;
        Ok(self.orders())
    }

    /// Stops the lending of a target's messages; what is paused by that.
    pub async fn pause(&self, target: &Target, by: impl Display, why: Option<String>) -> Result<Vec<Paused>, NotGiven> {
        self.check(target)?;
        self.all_orders().await?;
        let (paused, given) = (target.lanes(), given(by, why));
        let keys: Vec<_> = paused.iter().map(Paused::key).collect();
        for key in &keys {
            self.control.set(key, &given);
        }
        self.known(&keys, true).await?;
        Ok(paused)
    }

    /// Lets them be lent again; what was paused.
    pub async fn resume(&self, target: &Target, by: impl Display) -> Result<Vec<Paused>, NotGiven> {
        self.check(target)?;
        let pauses = self.all_orders().await?.pauses;
        let resumed: Vec<_> = pauses.into_iter().map(|(paused, _)| paused).filter(|one| target.covers(one)).collect();
        // Also those that are not known here: a pause that waits to be written is replaced, and one that only another process
        // remembers ends.
        let keys: BTreeSet<_> = target.lanes().iter().chain(&resumed).map(Paused::key).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        for key in &keys {
            self.control.remove(key, &by);
        }
        self.known(&keys, false).await?;
        Ok(resumed)
    }

    /// From now on messages of this job are cancelled.
    pub async fn stop_job(&self, id: &str, by: impl Display, why: Option<String>) -> Result<(), NotGiven> {
        self.all_orders().await?;
        let key = job_key(id);
        self.control.set(&key, &given(by, why));
        self.known(&[key], true).await
    }

    /// From now on they are sent again; whether they were not.
    pub async fn start_job(&self, id: &str, by: impl Display) -> Result<bool, NotGiven> {
        let was_stopped = self.all_orders().await?.jobs.iter().any(|(stopped, _)| stopped == id);
        // Also when no order is known here: a process that read it before the topic was made anew obeys it still.
        let key = job_key(id);
        self.control.remove(&key, by);
        self.known(&[key], false).await?;
        Ok(was_stopped)
    }

    fn check(&self, target: &Target) -> Result<(), NotGiven> {
        target.check().map_err(NotGiven::Wrong)?;
        if self.platforms.contains(&target.platform.as_str()) {
            return Ok(());
        }
        Err(NotGiven::Wrong(format!(
            "there is no platform {:?}; there are {}",
            target.platform,
            self.platforms.join(", ")
        )))
    }

    /// Waits until a change is written and has been read back: then the next question about it has the right answer.
    async fn known(&self, keys: &[String], there: bool) -> Result<(), NotGiven> {
        let not_written = || NotGiven::NotWritten(PATIENCE.as_secs());
        let mut view = self.control.watch();
        let shows = view.wait_for(|view| keys.iter().all(|key| view.state.get::<Given>(key).is_some() == there));
        let is_known = matches!(timeout(PATIENCE, shows).await, Ok(Ok(_)));
        if is_known && self.control.written(PATIENCE).await { Ok(()) } else { Err(not_written()) }
    }
}

fn given(by: impl Display, why: Option<String>) -> Given {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Given { at: now.as_millis() as i64, by: by.to_string(), why }
}

#[cfg(test)]
mod tests;
