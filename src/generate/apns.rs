//! APNs messages in the shape of the field's producers: `DeviceToken`, `Payload` with `aps`, `m` and `templateName`,
//! `push_expiry` in ms, `metadata` about the campaign.

use fastrand::Rng;
use serde_json::json;

use super::{Expected, Kind, Shape};

/// Expiry of a message that has expired: July 2017, in ms.
const PAST: i64 = 1_500_000_000_000;
/// Expiry of a message that has not: the year 2100, in ms.
const FUTURE: i64 = 4_102_444_800_000;

/// The shape of APNs messages of one app.
#[derive(Clone, Debug)]
pub struct Apns {
    /// The app; part of the campaign's name.
    pub app: String,
}

impl Shape for Apns {
    fn write(&self, rng: &mut Rng, serial: u64, kind: Kind, size: usize) -> (String, Expected) {
        let (steering, expiry, expected) = match kind {
            Kind::Delivered | Kind::Malformed => ("", FUTURE, Expected::Delivered { after: None }),
            Kind::Unregistered => ("dead041000", FUTURE, Expected::Rejected("Unregistered")),
            Kind::BadToken => ("dead040000", FUTURE, Expected::Rejected("BadDeviceToken")),
            Kind::Expired => ("", PAST, Expected::Expired),
            Kind::LimitedOnce => ("dead042901", FUTURE, Expected::Delivered { after: Some("TooManyRequests") }),
            Kind::UnavailableOnce => ("dead050301", FUTURE, Expected::Delivered { after: Some("ServiceUnavailable") }),
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

impl Apns {
    fn line(&self, rng: &mut Rng, serial: u64, token: &str, expiry: i64, size: usize) -> String {
        let template = ["daily-gift", "come-back", "event", "friend"][rng.usize(..4)];
        let metadata = json!({
            "userId": format!("{:012x}", rng.u64(..1 << 48)),
            "pushTime": 1_700_000_000_000_u64 + serial,
            "templateName": template,
            "jobId": super::job(&self.app, serial),
            "pushType": "massive",
            "muid": format!("{:016x}", rng.u64(..)),
        });
        let build = |text: &str| {
            let aps = json!({ "alert": { "title": "A word", "body": text }, "badge": 1, "sound": "default" });
            let payload = json!({ "aps": aps, "m": { "serial": serial }, "templateName": template });
            json!({ "DeviceToken": token, "Payload": payload, "push_expiry": expiry, "metadata": metadata }).to_string()
        };
        let bare = build("").len();
        build(&super::words(rng, size.saturating_sub(bare)))
    }
}

/// A token of 64 hex digits that no other serial has.
fn token(rng: &mut Rng, steering: &str, serial: u64) -> String {
    let mut first = rng.u32(..);
    if first >> 16 == 0xdead {
        first ^= 0xffff_0000; // what begins so would steer the simulator
    }
    let mut token = format!("{steering}{first:08x}{serial:016x}");
    while token.len() < 64 {
        token.push(char::from(b"0123456789abcdef"[rng.usize(..16)]));
    }
    token
}

/// Breaks a message in one of the ways that producers do. None of them can be sent.
fn broken(rng: &mut Rng, line: &str, token: &str) -> (String, &'static str) {
    match rng.u8(..7) {
        0 => (line[..line.len() / 2].to_owned(), "cut off"),
        1 => ("pushed by hand".to_owned(), "not json"),
        2 => ("[]".to_owned(), "not an object"),
        3 => (line.replacen("DeviceToken", "Receiver", 1), "no token"),
        4 => (line.replacen(token, "", 1), "empty token"),
        5 => (line.replacen(&format!("\"{token}\""), "42", 1), "token not a string"),
        _ => (line.replacen(token, "00ff\\n/3/device/00%2f", 1), "token cannot stand in a path"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generated, Generator, Mix, Settings};
    use super::*;
    use crate::simulator::apns::convention::{self, Fate};
    use crate::simulator::ledger::serial_of;
    use serde_json::Value;
    use std::collections::{BTreeMap, HashSet};

    fn generate(settings: Settings) -> Vec<Generated> {
        Generator::new(Apns { app: "game".into() }, settings).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_lines() {
        let settings = Settings { count: 50, ..Settings::default() };
        assert_eq!(generate(settings), generate(settings));
        assert_ne!(generate(settings), generate(Settings { seed: 2, ..settings }));
        let tail = generate(Settings { count: 10, first_serial: 40, ..settings });
        assert_eq!(generate(settings)[40..], tail, "a serial's message does not depend on the first one");
        let calm = Settings { count: 1, mix: Mix::CALM, ..settings };
        insta::assert_snapshot!(generate(calm)[0].line);
    }

    #[test]
    fn every_message_is_what_it_is_expected_to_be() {
        let (mut tokens, mut seen) = (HashSet::new(), BTreeMap::<Expected, u32>::new());
        for message in generate(Settings { count: 5_000, ..Settings::default() }) {
            *seen.entry(message.expected).or_default() += 1;
            assert!(!message.line.contains('\n'));
            let parsed = serde_json::from_str::<Value>(&message.line);
            if let Expected::Malformed(how) = message.expected {
                let token = parsed.as_ref().ok().and_then(|value| value["DeviceToken"].as_str());
                assert!(token.is_none_or(|token| convention::read(token).is_none()), "{how}: {}", message.line);
                continue;
            }
            let value = parsed.expect("json");
            assert_eq!(message.line.len(), 420);
            assert_eq!(serial_of(value["Payload"].to_string().as_bytes()), Some(message.serial));
            let token = value["DeviceToken"].as_str().expect("token");
            assert!(tokens.insert(token.to_owned()) && token.len() == 64);
            let expired = value["push_expiry"].as_i64().expect("expiry") == PAST;
            assert_eq!(expired, message.expected == Expected::Expired);
            match (convention::read(token).expect("hex"), message.expected) {
                (Fate::Accept, Expected::Delivered { after: None } | Expected::Expired) => {}
                (Fate::Refuse { reason, attempts: 0, .. }, Expected::Rejected(word)) => assert_eq!(reason.word, word),
                (Fate::Refuse { reason, attempts: 1, .. }, Expected::Delivered { after }) => {
                    assert_eq!(Some(reason.word), after);
                }
                (fate, expected) => panic!("{fate:?} is not {expected:?}"),
            }
        }
        assert_eq!(seen.len(), 13, "every kind and every way to be malformed: {seen:?}");
    }
}
