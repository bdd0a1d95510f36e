//! Which topics are read: `push-<app>-<platform>-feedbacks`. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Lane, Origin, Platform};
use crate::queue::topic::{Patterns, before_word, is_app};
use crate::queue::{Owner, Selection};

/// A platform that exists, and its apps.
#[derive(Clone, Debug)]
pub struct Apps {
    /// Its name in topics.
    pub platform: Platform,
    /// The apps that are configured for it; `None`: none is, so any that a topic names is ours.
    pub configured: Option<Vec<Arc<str>>>,
}

impl Apps {
    /// A platform with its list of apps; an empty one is no list.
    pub fn new(platform: Platform, apps: Vec<Arc<str>>) -> Self {
        Apps { platform, configured: Some(apps).filter(|apps| !apps.is_empty()) }
    }
}

/// The feedback topics of our apps.
#[derive(Debug)]
pub struct FeedbackTopics {
    patterns: Patterns,
    platforms: Vec<Apps>,
}

impl FeedbackTopics {
    /// Selects those of the apps of `platforms`.
    ///
    /// # Errors
    /// The rule that a pattern breaks, to be put after its key's name.
    pub fn new(patterns: &[String], platforms: &[Apps]) -> Result<Self, String> {
        Ok(FeedbackTopics { patterns: Patterns::new(patterns)?, platforms: platforms.to_vec() })
    }

    /// The app and the platform that a topic's name says, the app taking as much of it as leaves a platform.
    fn parse<'t>(&self, topic: &'t str) -> Option<(&'t str, &Apps)> {
        let rest = before_word(topic.strip_prefix("push-")?, "feedbacks")?;
        let readings = self.platforms.iter().filter_map(|one| Some((before_word(rest, one.platform.0)?, one)));
        readings.filter(|(app, _)| is_app(app)).max_by_key(|(app, _)| app.len())
    }

    /// A topic that is named after a configured app letter by letter is ours whatever the patterns say; one whose app
    /// differs in case alone, or is of a platform without configured apps, when a pattern wants it.
    fn app(&self, topic: &str, spelled: &str, configured: Option<&[Arc<str>]>) -> Option<Arc<str>> {
        let Some(apps) = configured else {
            return self.patterns.want(topic).then(|| spelled.into());
        };
        if let Some(app) = apps.iter().find(|app| ***app == *spelled) {
            return Some(app.clone());
        }
        let app = apps.iter().find(|app| app.eq_ignore_ascii_case(spelled))?;
        self.patterns.want(topic).then(|| app.clone())
    }
}

impl Selection for FeedbackTopics {
    fn owner(&self, topic: &str) -> Option<Owner> {
        let (spelled, Apps { platform, configured }) = self.parse(topic)?;
        let app = self.app(topic, spelled, configured.as_deref())?;
        Some(Owner { app, platform: *platform, lane: Lane::Single })
    }

    fn is_akin(&self, topic: &str) -> bool {
        topic.strip_prefix("push-").is_some_and(|rest| before_word(rest, "feedbacks").is_some())
    }

    /// By table: what one table cannot take holds up no other.
    fn share<'a>(&self, origin: &'a Origin) -> Cow<'a, str> {
        Cow::Owned(share(&origin.app, origin.platform))
    }
}

/// The name of the share of what is deleted from the table of an app.
pub fn share(app: &str, platform: Platform) -> String {
    format!("{app}_{platform}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback_listener::config::QUEUE;

    const APNS: Platform = Platform("apns");
    const GCM: Platform = Platform("gcm");

    fn topics(pattern: &str, apns: Option<&[&str]>, gcm: Option<&[&str]>) -> FeedbackTopics {
        let apps = |platform, apps: Option<&[&str]>| Apps {
            platform,
            configured: apps.map(|apps| apps.iter().map(|app| Arc::from(*app)).collect()),
        };
        FeedbackTopics::new(&[pattern.to_owned()], &[apps(APNS, apns), apps(GCM, gcm)]).unwrap()
    }

    /// The default of `feedbackListeners.queue.topics`.
    fn default() -> &'static str {
        QUEUE.keys().iter().find(|key| key.name.ends_with(".topics")).and_then(|key| key.default).unwrap()
    }

    fn found(topics: &FeedbackTopics, topic: &str) -> Option<(String, &'static str)> {
        topics.owner(topic).map(|owner| (owner.app.to_string(), owner.platform.0))
    }

    #[test]
    fn without_apps_all_that_match_are_read_whatever_letters_their_names_hold() {
        let all = topics(default(), None, None);
        for (topic, app, platform) in [
            ("push-game-apns-feedbacks", "game", "apns"),
            ("push-my-game-gcm-feedbacks", "my-game", "gcm"),
            ("push-my_game-apns-feedbacks", "my_game", "apns"),
            ("push-MyGame_gcm_feedbacks", "MyGame", "gcm"),
            ("push-foo_gcm-apns-feedbacks", "foo_gcm", "apns"),
            ("push-apns-apns-feedbacks", "apns", "apns"),
        ] {
            assert_eq!(found(&all, topic), Some((app.to_owned(), platform)), "{topic}");
        }
        for topic in [
            "push-game_apns-single",
            "push-apns-feedbacks",
            "push-game-fcm-feedbacks",
            "push-ga.me-apns-feedbacks",
            "push-game-apns-feedbacks-old",
            "my-push-game-apns-feedbacks",
            "deadletters-game-apns-feedbacks",
        ] {
            assert_eq!(found(&all, topic), None, "{topic}");
        }
    }

    #[test]
    fn the_originals_pattern_is_obeyed_and_a_configured_app_is_read_all_the_same() {
        let original = "^push-[^-_]+-(apns|gcm)-feedbacks";
        let any = topics(original, None, None);
        assert_eq!(found(&any, "push-my-game-apns-feedbacks"), None);
        let ours = topics(original, Some(&["my-game"]), Some(&["game"]));
        assert_eq!(found(&ours, "push-my-game-apns-feedbacks"), Some(("my-game".into(), "apns")));
        assert_eq!(found(&ours, "push-my-game-gcm-feedbacks"), None, "configured for the other platform");
        assert_eq!(found(&ours, "push-other-apns-feedbacks"), None);
        assert_eq!(found(&ours, "push-Game-gcm-feedbacks"), Some(("game".into(), "gcm")), "a pattern wants it");
    }

    #[test]
    fn a_platform_without_apps_reads_all_beside_one_with_apps() {
        let mixed = topics(default(), Some(&["game"]), None);
        assert_eq!(found(&mixed, "push-other-apns-feedbacks"), None);
        assert_eq!(found(&mixed, "push-other-gcm-feedbacks"), Some(("other".into(), "gcm")));
        assert!(mixed.is_akin("push-other-apns-feedbacks") && !mixed.is_akin("push-other_apns-single"));
    }

    #[test]
    fn each_table_has_a_share() {
        let all = topics(default(), None, None);
        let share = |topic: &str| {
            let Owner { app, platform, lane } = all.owner(topic).unwrap();
            all.share(&Origin { topic: topic.into(), partition: 0, app, platform, lane }).into_owned()
        };
        assert_eq!(share("push-game-apns-feedbacks"), "game_apns");
        assert_eq!(share("push-game-gcm-feedbacks"), "game_gcm");
    }
}
