//! What a topic's name says: the app, the platform, the lane, and whether the topic is ours. Pure.
//!
//! Producers write `push-<app>[-_]<platform>`, optionally followed by `[-_]single` or `[-_]massive`. An app's name may
//! hold both separators and even a platform's word (`push-foo_gcm_apns-single` is app `foo_gcm` on `apns`), so the name is
//! read from its end. What a worker cannot send, another platform or an app that it does not have, it does not consume.

use std::sync::Arc;

use regex::Regex;

use super::selection::{Owner, Selection};
use crate::message::{Lane, Platform};

/// What a push topic's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The app, as the topic spells it.
    pub app: &'a str,
    /// The platform, one of the known ones.
    pub platform: Platform,
    /// The suffix; a topic without one is [`Lane::Single`].
    pub lane: Lane,
}

/// Reads the name of a push topic; `None` for every other topic: feedback (`push-game-apns-feedbacks`), dead letters, and
/// what merely contains such a name. The app takes as much of the name as leaves a platform.
pub fn parse<'a>(topic: &'a str, platforms: &[Platform]) -> Option<Parsed<'a>> {
    let rest = topic.strip_prefix("push-")?;
    let with_lane = |lane: Lane| Some((before_word(rest, lane.as_str())?, lane));
    let named = [Some((rest, Lane::Single)), with_lane(Lane::Single), with_lane(Lane::Massive)];
    named.into_iter().flatten().find_map(|(rest, lane)| {
        let apps = platforms.iter().filter_map(|platform| Some((before_word(rest, platform.0)?, *platform)));
        let (app, platform) = apps.filter(|(app, _)| is_app(app)).max_by_key(|(app, _)| app.len())?;
        Some(Parsed { app, platform, lane })
    })
}

/// What stands before `[-_]word` at the end of `name`.
pub fn before_word<'a>(name: &'a str, word: &str) -> Option<&'a str> {
    name.strip_suffix(word)?.strip_suffix(['-', '_'])
}

/// Letters, digits and `_`, in groups joined by one `-` each: the original's `[\w]+(?:[_-][\w]+)*`.
pub fn is_app(name: &str) -> bool {
    let is_word = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    name.split('-').all(is_word)
}

/// Whether a pattern makes sense; the rule that it breaks, to be put after its key's name.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    Pattern::new(pattern).map(drop)
}

/// Whether a pattern is a name that no topic can have, being perhaps a regular expression without its `^`.
pub(super) fn is_nobodys(pattern: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=249).contains(&pattern.len()) && pattern.bytes().all(fits);
    !pattern.starts_with('^') && !is_name
}

#[derive(Debug)]
enum Pattern {
    Name(String),
    Regex(Regex),
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('^') {
            return Ok(Pattern::Name(text.into()));
        }
        Regex::new(text).map(Pattern::Regex).map_err(|error| {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!(
                "holds `{text}`, which is not a regular expression ({why}); write one, or a topic's name without `^`"
            )
        })
    }

    fn matches(&self, topic: &str) -> bool {
        match self {
            Pattern::Name(name) => name == topic,
            Pattern::Regex(regex) => regex.is_match(topic),
        }
    }
}

/// The wishes of a key such as `queue.topics`: names, and regular expressions that begin with `^`.
#[derive(Debug)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads them.
    ///
    /// # Errors
    /// The rule that one breaks, to be put after its key's name.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        texts.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>().map(Patterns)
    }

    /// Whether one of them wants the topic.
    pub fn want(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }
}

/// The push topics of the configured apps on one platform.
#[derive(Debug)]
pub struct PushTopics {
    patterns: Patterns,
    platform: Platform,
    known_platforms: Vec<Platform>,
    apps: Vec<Arc<str>>,
}

impl PushTopics {
    /// Selects for `platform` and `apps`.
    ///
    /// # Errors
    /// The rule that a pattern breaks, to be put after its key's name.
    pub fn new(
        patterns: &[String],
        platform: Platform,
        known_platforms: &[Platform],
        apps: &[Arc<str>],
    ) -> Result<Self, String> {
        let patterns = Patterns::new(patterns)?;
        Ok(PushTopics { patterns, platform, known_platforms: known_platforms.to_vec(), apps: apps.to_vec() })
    }

    /// A topic named after an app letter by letter is ours whatever the patterns say: the original subscribes to these
    /// names for every app. One whose app differs in case alone is ours when a pattern wants it.
    fn app(&self, topic: &str, spelled: &str) -> Option<&Arc<str>> {
        if let Some(app) = self.apps.iter().find(|app| ***app == *spelled) {
            return Some(app);
        }
        let app = self.apps.iter().find(|app| app.eq_ignore_ascii_case(spelled))?;
        self.patterns.want(topic).then_some(app)
    }
}

impl Selection for PushTopics {
    fn owner(&self, topic: &str) -> Option<Owner> {
        let parsed = parse(topic, &self.known_platforms).filter(|parsed| parsed.platform == self.platform)?;
        let app = self.app(topic, parsed.app)?.clone();
        Some(Owner { app, platform: self.platform, lane: parsed.lane })
    }

    fn is_akin(&self, topic: &str) -> bool {
        topic.starts_with("push-") || topic.starts_with("deadletters-")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APNS: Platform = Platform("apns");
    const GCM: Platform = Platform("gcm");
    const KNOWN: [Platform; 2] = [APNS, GCM];
    const DEFAULT: &str = "^push-[^-_]+_(apns|gcm)[_-](single|massive)";

    #[test]
    fn names_of_push_topics() {
        let table = [
            ("push-game_apns-single", "game", APNS, Lane::Single),
            ("push-game_apns_massive", "game", APNS, Lane::Massive),
            ("push-game-gcm", "game", GCM, Lane::Single),
            ("push-my-game_gcm-massive", "my-game", GCM, Lane::Massive),
            ("push-my_game_gcm-massive", "my_game", GCM, Lane::Massive),
            ("push-foo_gcm_apns-single", "foo_gcm", APNS, Lane::Single),
            ("push-foo-apns-gcm", "foo-apns", GCM, Lane::Single),
            ("push-apns-apns", "apns", APNS, Lane::Single),
            ("push-single_single_apns-massive", "single_single", APNS, Lane::Massive),
            ("push-MyGame2_apns", "MyGame2", APNS, Lane::Single),
            ("push-push-game_apns", "push-game", APNS, Lane::Single),
        ];
        for (topic, app, platform, lane) in table {
            assert_eq!(parse(topic, &KNOWN), Some(Parsed { app, platform, lane }), "{topic}");
        }
    }

    #[test]
    fn other_topics_are_no_push_topics() {
        let others = [
            "",
            "push-",
            "push-apns",
            "push-_",
            "push--apns",
            "push-game",
            "push-gameapns",
            "push-game_apns-",
            "push-game_apns-singles",
            "push-game_apns-single-massive",
            "push-game_APNS",
            "push-game_fcm",
            "push-ga.me_apns",
            "push-a--b_apns",
            "push-a-_apns",
            "push-jogo_é_apns",
            "my-push-game_apns",
            "push-game_apns\n",
            "push-game-apns-feedbacks",
            "push-game_gcm_feedbacks",
            "deadletters-push-game_apns",
            "deadletters-apns",
            "com.games.test",
            "__consumer_offsets",
        ];
        for topic in others {
            assert_eq!(parse(topic, &KNOWN), None, "{topic}");
        }
    }

    fn selection(patterns: &[&str], apps: &[&str]) -> PushTopics {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let apps: Vec<Arc<str>> = apps.iter().map(|app| Arc::from(*app)).collect();
        PushTopics::new(&patterns, APNS, &KNOWN, &apps).unwrap()
    }

    #[test]
    fn ours_are_the_apps_of_this_platform() {
        let ours = selection(&[DEFAULT], &["game", "my-game"]);
        let origin = |topic| ours.owner(topic).map(|owner| (owner.app.to_string(), owner.lane));
        assert_eq!(origin("push-game_apns-single"), Some(("game".into(), Lane::Single)));
        assert_eq!(
            origin("push-my-game_apns-massive"),
            Some(("my-game".into(), Lane::Massive)),
            "no pattern, but its name"
        );
        assert_eq!(origin("push-game-apns"), Some(("game".into(), Lane::Single)));
        assert_eq!(origin("push-Game_apns-single"), Some(("game".into(), Lane::Single)), "the pattern wants it");
        assert_eq!(origin("push-Game_apns"), None, "no pattern wants it");
        assert_eq!(origin("push-game_gcm-single"), None, "another platform");
        assert_eq!(origin("push-other_apns-single"), None, "another app");
        assert_eq!(origin("push-game-apns-feedbacks"), None);
    }

    #[test]
    fn an_app_is_compared_exactly_first() {
        let ours = selection(&[DEFAULT], &["game", "GAME", "Game"]);
        for app in ["game", "GAME", "Game"] {
            assert_eq!(&*ours.owner(&format!("push-{app}_apns-single")).unwrap().app, app);
        }
        assert_eq!(&*ours.owner("push-gAme_apns-single").unwrap().app, "game");
    }

    #[test]
    fn a_name_without_a_caret_is_taken_literally() {
        let ours = selection(&["push-GAME_apns", "push-.*"], &["game"]);
        assert!(ours.owner("push-GAME_apns").is_some());
        assert!(ours.owner("push-GAME_apns-single").is_none());
        assert!(ours.owner("push-GaME_apns").is_none(), "not a regular expression");
        assert_eq!(["push-GAME_apns", "push-.*", "^push-.*"].map(is_nobodys), [false, true, false]);
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = PushTopics::new(&["^push-(".into()], APNS, &KNOWN, &[]).unwrap_err();
        insta::assert_snapshot!(error, @"holds `^push-(`, which is not a regular expression (unclosed group); write one, or a topic's name without `^`");
    }

    /// The rule as one expression, to compare the reading from the end with.
    fn reference(topic: &str) -> Option<(String, String, Option<String>)> {
        let rule = Regex::new(r"\Apush-([0-9A-Za-z_]+(?:[_-][0-9A-Za-z_]+)*)[-_](apns|gcm)(?:[-_](single|massive))?\z")
            .unwrap();
        let found = rule.captures(topic)?;
        Some((found[1].into(), found[2].into(), found.get(3).map(|lane| lane.as_str().into())))
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("push-"),
            Just("-"),
            Just("_"),
            Just("apns"),
            Just("gcm"),
            Just("single"),
            Just("massive"),
            Just("a"),
            Just("é"),
            Just("."),
            Just("feedbacks"),
        ];
        prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn reads_as_the_expression_does(end in pieces(), prefixed in any::<bool>()) {
            let topic = if prefixed { format!("push-{end}") } else { end };
            let read = parse(&topic, &KNOWN).map(|p| (p.app.to_string(), p.platform.0.to_string(), p.lane));
            let expected = reference(&topic).map(|(app, platform, lane)| {
                (app, platform, if lane.as_deref() == Some("massive") { Lane::Massive } else { Lane::Single })
            });
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_name_is_survived(topic in ".{0,40}") {
            let _ = parse(&topic, &KNOWN);
        }

        #[test]
        fn what_is_written_is_read(app in "[a-zA-Z0-9_]{1,8}(-[a-zA-Z0-9_]{1,8}){0,2}", gcm in any::<bool>(), a in "[-_]", b in "[-_]", massive in any::<bool>()) {
            let platform = if gcm { GCM } else { APNS };
            let lane = if massive { Lane::Massive } else { Lane::Single };
            let topic = format!("push-{app}{a}{platform}{b}{}", lane.as_str());
            prop_assert_eq!(parse(&topic, &KNOWN), Some(Parsed { app: &app, platform, lane }));
        }
    }
}
