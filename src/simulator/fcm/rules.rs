//! What FCM asks of a message whose form is right: target, reserved keys, ranges, size. Pure.
//!
//! The rules are Google's (reference of `projects.messages`, error codes); where Google shows no text for a breach, the
//! description is ours.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::form::{Violation, constant, duration};
use super::json::Json;

/// Bytes that a message to one device may have, and one to a topic (Google: error codes).
const LARGEST: usize = 4096;
const LARGEST_TO_TOPIC: usize = 2048;
/// Topics in one condition (Google: send messages to topics).
const TOPICS: usize = 5;
/// Four weeks, s.
const LONGEST_TTL: i64 = 2_419_200;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The field: `token`, `topic`, `condition`, `fid`.
    pub field: &'static str,
    /// Its text.
    pub text: &'a str,
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// One field.
    Field(Violation),
    /// The registration token has not the form of one.
    Token,
    /// Too many bytes; Google does not say which (seen by bloomberg/pushiko).
    Size,
}

/// Checks a message. Returns its target.
pub fn check(message: &Json) -> Result<Target<'_>, Breach> {
    let target = target(message).ok_or_else(|| breach("message", "Recipient of the message is not set."))?;
    well_formed(target)?;
    for (path, part) in [("message", Some(message)), ("message.android", message.get("android"))] {
        part.and_then(|part| part.get("data")).map_or(Ok(()), |data| keys(path, data))?;
    }
    if let Some(android) = message.get("android") {
        check_android(android)?;
    }
    labels(message)?;
    let link = message.get("webpush").and_then(|part| part.get("fcm_options")).and_then(|part| part.text("link"));
    // An empty text is protobuf's default: the same as no link.
    if link.is_some_and(|link| !link.is_empty() && !link.to_ascii_lowercase().starts_with("https://")) {
        return Err(breach("message.webpush.fcm_options.link", "Link must be an https URL."));
    }
    let largest = if matches!(target.field, "token" | "fid") { LARGEST } else { LARGEST_TO_TOPIC };
    if size(message) > largest { Err(Breach::Size) } else { Ok(target) }
}

fn breach(field: &str, description: impl Into<String>) -> Breach {
    Breach::Field(Violation::new(field, description))
}

fn target(message: &Json) -> Option<Target<'_>> {
    super::schema::TARGETS.iter().find_map(|field| Some(Target { field, text: message.text(field)? }))
}

fn well_formed(Target { field, text }: Target<'_>) -> Result<(), Breach> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| constant("^[A-Za-z0-9:_-]{1,4096}$"));
    static TOPIC: LazyLock<Regex> = LazyLock::new(|| constant("^[a-zA-Z0-9-_.~%]+$"));
    match field {
        "topic" if !TOPIC.is_match(text) => Err(breach("message.topic", "Invalid topic name.")),
        "condition" if !condition(text) => Err(breach("message.condition", "Invalid condition expression.")),
        "token" | "fid" if !TOKEN.is_match(text) => Err(Breach::Token),
        _ => Ok(()),
    }
}

/// `'a' in topics`, joined by `&&`, `||`, `!` and parentheses.
fn condition(text: &str) -> bool {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| constant(r"^\s*(?:('[a-zA-Z0-9-_.~%]+'\s+in\s+topics)|(&&|\|\|)|(!)|(\()|(\)))\s*"));
    let (mut rest, mut open, mut topics, mut complete) = (text, 0_u32, 0, false);
    while let Some(found) = WORD.captures(rest) {
        let kind = (1..6).find(|group| found.get(*group).is_some()).unwrap_or(0);
        let fits = match kind {
            1 => {
                topics += 1;
                !std::mem::replace(&mut complete, true)
            }
            2 => std::mem::replace(&mut complete, false),
            3 => !complete,
            4 => {
                open += 1;
                !complete
            }
            _ => open.checked_sub(1).is_some_and(|left| {
                open = left;
                complete
            }),
        };
        if !fits {
            return false;
        }
        rest = &rest[found[0].len()..];
    }
    rest.is_empty() && complete && open == 0 && topics <= TOPICS
}

fn keys(path: &str, data: &Json) -> Result<(), Breach> {
    let reserved = |key: &str| {
        key == "from" || key == "message_type" || key.starts_with("google.") || key.starts_with("gcm.notification.")
    };
    match data.members().iter().find(|(key, _)| reserved(key)) {
        Some((key, _)) => Err(breach(&format!("{path}.data"), format!("Invalid data payload key: {key}"))),
        None => Ok(()),
    }
}

fn check_android(android: &Json) -> Result<(), Breach> {
    static COLOR: LazyLock<Regex> = LazyLock::new(|| constant("^#[0-9a-fA-F]{6}$"));
    let in_range = |ttl: &str| duration(ttl).is_none_or(|s| (0..=LONGEST_TTL).contains(&s) && !ttl.starts_with('-'));
    if android.text("ttl").is_some_and(|ttl| !in_range(ttl)) {
        return Err(breach("message.android.ttl", "Invalid ttl: it must be from 0 to 2419200 seconds."));
    }
    let Some(notification) = android.get("notification") else { return Ok(()) };
    if notification.text("color").is_some_and(|color| !COLOR.is_match(color)) {
        return Err(breach("message.android.notification.color", "Invalid color: it must be in the form #RRGGBB."));
    }
    let Some(lights) = notification.get("light_settings") else { return Ok(()) };
    match ["color", "light_on_duration", "light_off_duration"].into_iter().find(|name| lights.get(name).is_none()) {
        Some(name) => Err(breach(&format!("message.android.notification.light_settings.{name}"), "It is required.")),
        None => Ok(()),
    }
}

/// Analytics labels, wherever they stand.
fn labels(message: &Json) -> Result<(), Breach> {
    static LABEL: LazyLock<Regex> = LazyLock::new(|| constant("^[a-zA-Z0-9-_.~%]{1,50}$"));
    let parts = [("message", Some(message))].into_iter();
    let parts = parts.chain(["android", "apns", "webpush"].map(|name| (name, message.get(name))));
    for (name, part) in parts {
        let label = part.and_then(|part| part.get("fcm_options")).and_then(|part| part.text("analytics_label"));
        if label.is_some_and(|label| !LABEL.is_match(label)) {
            let path = if name == "message" { String::new() } else { format!(".{name}") };
            return Err(breach(&format!("message{path}.fcm_options.analytics_label"), "Invalid analytics label."));
        }
    }
    Ok(())
}

/// Bytes of the largest payload that a device would get: keys and values, not the request's JSON. Of Android: what
/// `message.android` says stands for what `message` says; of APNs and the web: their own part.
fn size(message: &Json) -> usize {
    let android = message.get("android");
    let data = android.and_then(|part| part.get("data")).or(message.get("data"));
    let mut shown = BTreeMap::new();
    for part in [message.get("notification"), android.and_then(|part| part.get("notification"))].into_iter().flatten() {
        shown.extend(part.members().iter().map(|(key, value)| (key.as_str(), value)));
    }
    let shown: usize = shown.into_iter().map(|(key, value)| key.len() + bytes(value)).sum();
    let of = |part: &str, field| message.get(part).and_then(|part| part.get(field)).map_or(0, bytes);
    let android = data.map_or(0, bytes) + shown;
    android.max(of("apns", "payload")).max(of("webpush", "data") + of("webpush", "notification"))
}

fn bytes(value: &Json) -> usize {
    match value {
        Json::Null => 4,
        Json::Bool(value) => 4 + usize::from(!value),
        Json::Number(number) => number.to_string().len(),
        Json::Text(text) => text.len(),
        Json::List(items) => items.iter().map(bytes).sum(),
        Json::Object(members) => members.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn say(message: &str) -> String {
        match check(&serde_json::from_str(message).expect("json")) {
            Ok(Target { field, text }) => format!("{field} {text}"),
            Err(Breach::Field(Violation { field, description })) => format!("{field}: {description}"),
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn what_fcm_asks_of_a_message() {
        let mut seen = String::new();
        for message in [
            r#"{"token":"cXyz-_1:APA91b"}"#,
            r#"{"fid":"cXyz"}"#,
            r#"{"data":{"a":"b"}}"#,
            r#"{"token":""}"#,
            r#"{"token":"with blank"}"#,
            r#"{"topic":"news-1.x~%"}"#,
            r#"{"topic":"/topics/news"}"#,
            r#"{"condition":"('a' in topics || !('b' in topics)) && 'c' in topics"}"#,
            r#"{"condition":"'a' in topics &&"}"#,
            r#"{"condition":"'a' in topics 'b' in topics"}"#,
            r#"{"condition":"('a' in topics"}"#,
            r#"{"condition":"'a' in topics || 'b' in topics || 'c' in topics || 'd' in topics || 'e' in topics || 'f' in topics"}"#,
            r#"{"token":"a","data":{"from":"x"}}"#,
            r#"{"token":"a","data":{"message_type":"x"}}"#,
            r#"{"token":"a","data":{"google.x":"x"}}"#,
            r#"{"token":"a","data":{"googles":"x","gcm":"x","gcm.notify":"x"}}"#,
            r#"{"token":"a","android":{"data":{"gcm.notification.title":"x"}}}"#,
            r#"{"token":"a","android":{"ttl":"2419200s"}}"#,
            r#"{"token":"a","android":{"ttl":"2419201s"}}"#,
            r#"{"token":"a","android":{"ttl":"-0.5s"}}"#,
            r##"{"token":"a","android":{"notification":{"color":"#aabbcc"}}}"##,
            r##"{"token":"a","android":{"notification":{"color":"#abc"}}}"##,
            r#"{"token":"a","android":{"notification":{"lightSettings":{"color":{},"lightOnDuration":"1s"}}}}"#,
            r#"{"token":"a","apns":{"fcmOptions":{"analyticsLabel":"no blanks"}}}"#,
            r#"{"token":"a","webpush":{"fcm_options":{"link":"http://a"}}}"#,
        ] {
            writeln!(seen, "{message}\n    {}", say(message)).expect("a string");
        }
        insta::assert_snapshot!(seen);
    }

    #[test]
    fn size_counts_what_the_device_gets() {
        let with = |target: &str, data: usize, rest: &str| {
            let data = "x".repeat(data - 1);
            say(&format!(r#"{{{target},"data":{{"k":"{data}"}}{rest}}}"#))
        };
        assert_eq!(with(r#""token":"a""#, 4096, ""), "token a");
        assert_eq!(with(r#""token":"a""#, 4097, ""), "Size");
        assert_eq!(with(r#""topic":"a""#, 2048, ""), "topic a");
        assert_eq!(with(r#""topic":"a""#, 2049, ""), "Size");
        let title = r#","notification":{"title":"12345"}"#;
        assert_eq!(with(r#""token":"a""#, 4086, title), "token a");
        assert_eq!(with(r#""token":"a""#, 4087, title), "Size");
        let replaced = r#","notification":{"title":"12345"},"android":{"notification":{"title":"1"}}"#;
        assert_eq!(with(r#""token":"a""#, 4090, replaced), "token a", "the platform's text stands for the common one");
    }
}
