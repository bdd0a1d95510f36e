use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const APNS: Platform = Platform("apns");
const GCM: Platform = Platform("gcm");

/// One line of the fixture.
struct Golden<'a> {
    number: usize,
    platform: Platform,
    says: &'a str,
    token: &'a str,
    since: Option<i64>,
    record: &'a str,
}

fn golden() -> impl Iterator<Item = Golden<'static>> {
    let text = include_str!("../../../tests/fixtures/feedback-records.tsv");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(at, line)| {
        let columns: Vec<_> = line.split('\t').collect();
        let [platform, says, token, since, record] = columns[..] else { panic!("line {}: five columns", at + 1) };
        let platform = [APNS, GCM].into_iter().find(|known| known.0 == platform).expect("a platform");
        Golden { number: at + 1, platform, says, token, since: since.parse().ok(), record }
    })
}

#[test]
fn golden_records_say_what_they_say() {
    for Golden { number, platform, says, token, since, record } in golden() {
        let expected = match says {
            "dead" => Reading::Dead(Dead { token: token.into(), unregistered_at_ms: since }),
            "other" => Reading::Other,
            "unreadable" => Reading::Unreadable,
            other => panic!("line {number}: {other}"),
        };
        assert_eq!(read(platform, record.as_bytes()), expected, "line {number}");
    }
    assert!(golden().count() > 40);
}

#[test]
fn a_token_without_an_escape_is_borrowed_from_the_record() {
    for Golden { platform, record, .. } in golden().filter(|one| one.says == "dead" && !one.token.contains('\\')) {
        let Reading::Dead(dead) = read(platform, record.as_bytes()) else { panic!("{record}") };
        assert!(matches!(dead.token, Cow::Borrowed(_)));
    }
}

#[test]
fn a_text_too_long_for_a_token_is_none() {
    let of = |length: usize| json!({"error": "DEVICE_UNREGISTERED", "from": "x".repeat(length)}).to_string();
    assert!(matches!(read(GCM, of(LONGEST).as_bytes()), Reading::Dead(_)));
    assert_eq!(read(GCM, of(LONGEST + 1).as_bytes()), Reading::Other);
}

#[test]
fn nothing_of_a_token_shows_in_a_log() {
    let reading = format!("{:?}", read(GCM, br#"{"error":"DEVICE_UNREGISTERED","from":"secret"}"#));
    assert!(reading.contains("Dead") && !reading.contains("secret"), "{reading}");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("Unregistered")),
        Just(json!("DEVICE_UNREGISTERED")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let name =
            prop_oneof![Just("Reason"), Just("DeviceToken"), Just("error"), Just("from"), Just("metadata"), Just("x")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80), apns in any::<bool>()) {
        let _ = read(if apns { APNS } else { GCM }, &bytes);
    }

    /// Any object is read; a token comes out only if its reason, and the token itself, stand where they belong.
    #[test]
    fn any_object_is_judged_by_its_own_members(value in json_value(), apns in any::<bool>()) {
        let text = value.to_string();
        let (platform, reason, token) = if apns { (APNS, "Reason", "DeviceToken") } else { (GCM, "error", "from") };
        match read(platform, text.as_bytes()) {
            Reading::Unreadable => prop_assert!(!value.is_object()),
            Reading::Other => prop_assert!(value.is_object()),
            Reading::Dead(dead) => {
                prop_assert_eq!(value[token].as_str(), Some(&*dead.token));
                prop_assert!(["Unregistered", "DEVICE_UNREGISTERED"].contains(&value[reason].as_str().unwrap()));
            }
        }
    }

    /// Whatever stands beside them, and in whatever order: the members that matter are found.
    #[test]
    fn a_dead_token_is_found_among_anything(token in "\\PC{1,60}", at in any::<i64>(), noise in json_value(), turn in 0usize..5) {
        let mut members = [
            ("Reason", json!("Unregistered")),
            ("DeviceToken", json!(token)),
            ("unregisteredAt", json!(at)),
            ("metadata", json!({"pusherId": "x", "noise": noise, "deleteToken": true})),
            ("Notification", noise.clone()),
        ];
        members.rotate_left(turn);
        let text = format!("{{{}}}", members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>().join(" , "));
        let expected = Dead { token: token.as_str().into(), unregistered_at_ms: Some(at) };
        prop_assert_eq!(read(APNS, text.as_bytes()), Reading::Dead(expected));
    }

    /// A broken record never gives another token than the whole one.
    #[test]
    fn a_record_cut_off_gives_nothing(cut in 0usize..300) {
        let whole = json!({"Reason": "Unregistered", "DeviceToken": "abcdef", "metadata": {"deleteToken": true}}).to_string();
        prop_assume!(cut < whole.len());
        prop_assert_eq!(read(APNS, &whole.as_bytes()[..cut]), Reading::Unreadable);
    }
}
