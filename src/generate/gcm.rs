//! FCM messages in the shapes of the field's producers, who write for the legacy GCM API: `to`, `data`, `notification`,
//! `time_to_live`, `metadata` about the campaign.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Expected, Kind, Shape};

/// Expiry of a message that has expired: July 2017, in ms.
const PAST: i64 = 1_500_000_000_000;
/// Expiry of a message that has not: the year 2100, in ms; and the same in s, as some producers write `time_to_live`.
const FUTURE: i64 = 4_102_444_800_000;
const FUTURE_S: i64 = FUTURE / 1000;

/// Bytes of a text, at least: tokens are long, and lines of the default size have no room for one.
const TEXT: usize = 24;

/// The shape of FCM messages of one app.
#[derive(Clone, Debug)]
pub struct Gcm {
    /// The app; part of the campaign's name.
    pub app: String,
}

/// How a producer writes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `data` alone, all strings.
    Data,
    /// `data` alone, with numbers, bools and objects, which v1 takes as strings only.
    LooseData,
    /// `notification` alone; the serial is in `metadata`, which is merged into the data.
    Notification,
    /// Both.
    Both,
    /// `notification` by keys of the app's own texts.
    LocKeys,
    /// As the campaign tool of the original's users writes it: `push_expiry` in s, an absolute `time_to_live`, `delay_while_idle`.
    Campaign,
}

const STYLES: [Style; 6] =
    [Style::Data, Style::LooseData, Style::Notification, Style::Both, Style::LocKeys, Style::Campaign];

impl Shape for Gcm {
    fn write(&self, rng: &mut Rng, serial: u64, kind: Kind, size: usize) -> (String, Expected) {
        let (steering, expiry, expected) = match kind {
            Kind::Delivered | Kind::Malformed => ("", FUTURE, Expected::Delivered { after: None }),
            Kind::Unregistered => ("dead040400", FUTURE, Expected::Rejected("UNREGISTERED")),
            Kind::BadToken => ("dead040000", FUTURE, Expected::Rejected("INVALID_ARGUMENT")),
            Kind::Expired => ("", PAST, Expected::Expired),
            // With retry-after: 1; without it a client has to wait for a minute.
            Kind::LimitedOnce => ("dead142901", FUTURE, Expected::Delivered { after: Some("QUOTA_EXCEEDED") }),
            Kind::UnavailableOnce => ("dead150301", FUTURE, Expected::Delivered { after: Some("UNAVAILABLE") }),
        };
        let token = token(rng, steering, serial);
        let line = self.line(rng, serial, &token, expiry, size);
        if kind == Kind::Malformed {
            let (line, how) = broken(rng, &line, &token);
            return (line, Expected::Malformed(how));
        }
        (line, expected)
    }
}

impl Gcm {
    fn line(&self, rng: &mut Rng, serial: u64, token: &str, expiry: i64, size: usize) -> String {
        let style = STYLES[rng.usize(..STYLES.len())];
        let metadata = self.metadata(rng, serial, style);
        let build = |text: &str| {
            let mut message = message(style, serial, text);
            message["to"] = token.into();
            message["push_expiry"] = if style == Style::Campaign { expiry / 1000 } else { expiry }.into();
            message["metadata"] = metadata.clone();
            message.to_string()
        };
        let bare = build("").len();
        build(&super::words(rng, size.saturating_sub(bare).max(TEXT)))
    }

    fn metadata(&self, rng: &mut Rng, serial: u64, style: Style) -> Value {
        let mut metadata = json!({
            "userId": format!("{:012x}", rng.u64(..1 << 48)),
            "jobId": super::job(&self.app, serial),
            "pushType": "massive",
            "muid": format!("{:016x}", rng.u64(..)),
        });
        if matches!(style, Style::Notification | Style::LocKeys) {
            metadata["serial"] = serial.to_string().into();
        }
        metadata
    }
}

fn message(style: Style, serial: u64, text: &str) -> Value {
    let m = json!({ "serial": serial }).to_string();
    let shown = json!({ "title": "A word", "body": text, "sound": "default", "color": "#33aa55" });
    match style {
        Style::Data => json!({ "data": { "m": m, "alert": text }, "priority": "high", "time_to_live": 86_400 }),
        Style::LooseData => json!({
            "data": { "m": { "serial": serial }, "alert": text, "badge": 3, "silent": false, "ratio": 0.5 },
            "collapse_key": "news",
        }),
        Style::Notification => json!({ "notification": shown, "time_to_live": 3600 }),
        Style::Both => json!({
            "data": { "serial": serial.to_string() },
            "notification": shown,
            "priority": "normal",
            "collapse_key": "gift",
        }),
        Style::LocKeys => json!({ "notification": {
            "title_loc_key": "GIFT_TITLE", "title_loc_args": "[\"gold\"]",
            "body_loc_key": "GIFT_BODY", "body_loc_args": text, "tag": "gift", "icon": "ic_gift",
        } }),
        Style::Campaign => json!({
            "data": { "alert": text, "m": m, "templateName": "daily-gift" },
            "dry_run": false,
            "delay_while_idle": false,
            "message_id": format!("m-{serial}"),
            "time_to_live": FUTURE_S,
        }),
    }
}

/// A registration token that no other serial has.
fn token(rng: &mut Rng, steering: &str, serial: u64) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut token = format!("{steering}c{serial:016x}:APA91b");
    while token.len() < 163 {
        token.push(char::from(DIGITS[rng.usize(..DIGITS.len())]));
    }
    token
}

/// Breaks a message in one of the ways that producers do. None of them can be sent.
fn broken(rng: &mut Rng, line: &str, token: &str) -> (String, &'static str) {
    match rng.u8(..6) {
        0 => (line[..line.len() / 2].to_owned(), "cut off"),
        1 => ("pushed by hand".to_owned(), "not json"),
        2 => ("[]".to_owned(), "not an object"),
        3 => (line.replacen("\"to\"", "\"receiver\"", 1), "no target"),
        4 => (line.replacen(token, "", 1), "empty target"),
        _ => (line.replacen(&format!("\"{token}\""), "42", 1), "target not a string"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generated, Generator, Mix, Settings};
    use super::*;
    use crate::simulator::fcm::convention::{self, Fate};
    use crate::simulator::fcm::problem::Problem;
    use crate::simulator::ledger::serial_of;
    use std::collections::{BTreeMap, HashSet};
    use std::fmt::Write as _;

    const SETTINGS: Settings =
        Settings { count: 5_000, first_serial: 0, seed: 1, size: 640, mix: Mix([900, 30, 10, 20, 10, 20, 10]) };

    fn generate(settings: Settings) -> Vec<Generated> {
        Generator::new(Gcm { app: "game".into() }, settings).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_lines() {
        let settings = Settings { count: 50, ..SETTINGS };
        assert_eq!(generate(settings), generate(settings));
        assert_ne!(generate(settings), generate(Settings { seed: 2, ..settings }));
    }

    #[test]
    fn every_style_as_it_is_written() {
        let mut seen = String::new();
        for style in STYLES {
            let metadata = Gcm { app: "game".into() }.metadata(&mut Rng::with_seed(1), 7, style);
            writeln!(seen, "{style:?}: {}\n    {metadata}", message(style, 7, "text")).expect("a string");
        }
        insta::assert_snapshot!(seen);
    }

    #[test]
    fn every_message_is_what_it_is_expected_to_be() {
        let (mut tokens, mut seen) = (HashSet::new(), BTreeMap::<Expected, u32>::new());
        for message in generate(SETTINGS) {
            *seen.entry(message.expected).or_default() += 1;
            assert!(!message.line.contains('\n'));
            let parsed = serde_json::from_str::<Value>(&message.line);
            if let Expected::Malformed(how) = message.expected {
                let target = parsed.as_ref().ok().and_then(|value| value["to"].as_str());
                assert!(target.is_none_or(str::is_empty), "{how}: {}", message.line);
                continue;
            }
            let value = parsed.expect("json");
            assert_eq!(message.line.len(), SETTINGS.size, "{}", message.line);
            assert_eq!(serial_of(message.line.as_bytes()), Some(message.serial), "{}", message.line);
            let token = value["to"].as_str().expect("token");
            assert!(tokens.insert(token.to_owned()));
            let expiry = value["push_expiry"].as_i64().expect("expiry");
            let expired = expiry == PAST || expiry == PAST / 1000;
            assert_eq!(expired, message.expected == Expected::Expired);
            match (convention::read(token), message.expected) {
                (Fate::Accept, Expected::Delivered { after: None } | Expected::Expired) => {}
                (Fate::Refuse { status, variant, attempts: 0 }, Expected::Rejected(word)) => {
                    assert_eq!(Problem::numbered(status, variant, "p").expect("listed").name, word);
                }
                (Fate::Refuse { status, variant, attempts: 1 }, Expected::Delivered { after }) => {
                    let problem = Problem::numbered(status, variant, "p").expect("listed");
                    assert_eq!((Some(problem.name.as_ref()), problem.retry_after.is_some()), (after, true));
                }
                (fate, expected) => panic!("{fate:?} is not {expected:?}"),
            }
        }
        assert_eq!(seen.len(), 12, "every kind and every way to be malformed: {seen:?}");
    }
}
