//! What people have ordered, as entries that all processes share. Pure.
//!
//! `pause/<platform>/<app>/<lane>` and `job/<id>`: an order stands while its entry is there, and is taken back by its end. A
//! pause of an app is one of each of its lanes, so that one of them can be taken back alone.

use serde::{Deserialize, Serialize};

use crate::control::State;
use crate::jobs;
use crate::message::Lane;

/// The platform's name that stands for the feedback listener.
pub const LISTENER: &str = "listener";

const PAUSES: &str = "pause/";
const JOBS: &str = "job/";

/// When, by whom and why an order was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Ms since the epoch.
    pub at: i64,
    /// A person, as far as that is known, and where.
    pub by: String,
    /// In the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is, or is to be, paused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Paused {
    /// The app; its case is not looked at.
    pub app: String,
    /// The platform, or [`LISTENER`].
    pub platform: String,
    /// One of its lanes.
    pub lane: Lane,
}

impl Paused {
    pub(super) fn key(&self) -> String {
        format!("{PAUSES}{}/{}/{}", self.platform, self.app, self.lane.as_str())
    }

    fn of(key: &str) -> Option<Paused> {
        let (platform, rest) = key.split_once('/')?;
        let (app, lane) = rest.rsplit_once('/')?;
        Some(Paused { app: app.into(), platform: platform.into(), lane: Lane::named(lane)? })
    }
}

/// An app's lanes, or one of them, that somebody wants to pause or resume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The app.
    pub app: String,
    /// The platform, or [`LISTENER`].
    pub platform: String,
    /// `single` or `massive`; without it all.
    #[serde(default, deserialize_with = "lane")]
    pub lane: Option<Lane>,
}

/// `null`, `all`, or a lane's name.
fn lane<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Lane>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    match name.as_deref() {
        None | Some("all") => Ok(None),
        Some(name) => {
            Lane::named(name).map(Some).ok_or_else(|| serde::de::Error::custom("lane must be single, massive or all"))
        }
    }
}

impl Target {
    /// Whether there can be such an app and platform.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let is_part = |text: &str| {
            (1..=200).contains(&text.chars().count()) && !text.contains(|c: char| c == '/' || c.is_control())
        };
        match (is_part(&self.app), is_part(&self.platform)) {
            (true, true) => Ok(()),
            (false, _) => Err("app must be an app's name, as in the topics' names".into()),
            (_, false) => Err(format!("platform must be a platform's name, or {LISTENER}")),
        }
    }

    /// Each of its lanes.
    pub fn lanes(&self) -> Vec<Paused> {
        let one = |lane: &Lane| Paused { app: self.app.clone(), platform: self.platform.clone(), lane: *lane };
        Lane::ALL.iter().filter(|lane| self.lane.is_none_or(|only| only == **lane)).map(one).collect()
    }

    /// Whether it means this one.
    pub fn covers(&self, paused: &Paused) -> bool {
        paused.platform == self.platform
            && paused.app.eq_ignore_ascii_case(&self.app)
            && self.lane.is_none_or(|lane| lane == paused.lane)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { app, platform, lane } = self;
        write!(f, "{app} on {platform}, {}", lane.map_or("all lanes", |lane| lane.as_str()))
    }
}

/// All orders that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Lanes from which nothing is to be lent.
    pub pauses: Vec<(Paused, Given)>,
    /// Jobs whose messages are to be cancelled.
    pub jobs: Vec<(String, Given)>,
}

impl Orders {
    /// As the entries say.
    pub fn of(state: &State) -> Orders {
        let pauses = state.below::<Given>(PAUSES).filter_map(|(key, given)| Some((Paused::of(key)?, given)));
        let jobs = state.below::<Given>(JOBS).filter(|(id, _)| jobs::id::is_name(id));
        Orders { pauses: pauses.collect(), jobs: jobs.map(|(id, given)| (id.to_owned(), given)).collect() }
    }
}

pub(super) fn job_key(id: &str) -> String {
    format!("{JOBS}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given { at: 1, by: "ann@pod".into(), why: None }
    }

    #[test]
    fn orders_are_read_from_entries_and_what_is_none_is_passed_over() {
        let mut state = State::default();
        let text = serde_json::to_string(&given()).unwrap();
        insta::assert_snapshot!(text, @r#"{"at":1,"by":"ann@pod"}"#);
        let target = Target { app: "my-game".into(), platform: "apns".into(), lane: None };
        let keys = target.lanes().iter().map(Paused::key).collect::<Vec<_>>();
        assert_eq!(keys, ["pause/apns/my-game/single", "pause/apns/my-game/massive"]);
        for key in
            keys.iter().map(String::as_str).chain(["job/j/1", "job/", "pause/apns/game/some", "pause/apns", "valve/x"])
        {
            state.apply(key, Some(&text));
        }
        state.apply("pause/apns/other/single", Some("true"));
        let orders = Orders::of(&state);
        let pauses: Vec<_> = orders.pauses.iter().map(|(paused, _)| (paused.app.as_str(), paused.lane)).collect();
        assert_eq!(pauses, [("my-game", Lane::Massive), ("my-game", Lane::Single)]);
        assert_eq!(orders.jobs, [("j/1".to_owned(), given())]);
        state.apply("job/j/1", None);
        assert_eq!(Orders::of(&state).jobs, []);
    }

    #[test]
    fn a_target_is_one_lane_or_all() {
        let read = |json| serde_json::from_str::<Target>(json).map_err(|error| error.to_string());
        let one = read(r#"{"app":"a","platform":"gcm","lane":"massive"}"#).unwrap();
        assert_eq!(one.lanes().iter().map(Paused::key).collect::<Vec<_>>(), ["pause/gcm/a/massive"]);
        for all in [r#"{"app":"a","platform":"gcm"}"#, r#"{"app":"a","platform":"gcm","lane":"all"}"#] {
            assert_eq!(read(all).unwrap().lanes().len(), 2);
        }
        let paused = |app: &str, lane| Paused { app: app.into(), platform: "gcm".into(), lane };
        assert!(one.covers(&paused("A", Lane::Massive)) && !one.covers(&paused("a", Lane::Single)));
        assert!(!one.covers(&paused("b", Lane::Massive)));
        insta::assert_snapshot!(read(r#"{"app":"a","platform":"gcm","lane":"x"}"#).unwrap_err(), @"lane must be single, massive or all at line 1 column 39");
    }
}
