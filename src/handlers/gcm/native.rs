//! A message in FCM's own form, passed through as raw JSON.
//!
//! It leaves as its producer wrote it: what the original's fields would say (data, notification, priority, TTL) cannot be said
//! beside it, and metadata goes to the feedback record alone. Only a target may be named beside it.

use std::borrow::Cow;

use super::fields::{Fields, refused, text};
use super::forms;
use super::message::{self, Target, check_size, check_token, missing_target, multiple_targets, object};
use super::notification;
use super::schema::{self, Kind, MESSAGE, is_named};
use crate::handlers::json::{Members, Text, push_text_member};
use crate::outcome::Refusal;

/// Longest message: the payloads of all platforms in one, with room.
const LONGEST: usize = 64 * 1024;
/// Fields that name whom it goes to.
const TARGETS: [&str; 4] = ["token", "topic", "condition", "fid"];

/// Writes the message, with the top level's target when it names none itself. Returns the token that it goes to.
pub(super) fn write<'a>(
    json: &mut Vec<u8>,
    raw: &'a str,
    fields: &Fields<'a>,
) -> Result<Option<Cow<'a, str>>, Box<Refusal>> {
    let beside = [
        ("data", fields.data),
        ("notification", fields.notification),
        ("collapse_key", fields.collapse_key),
        ("priority", fields.priority),
        ("time_to_live", fields.time_to_live),
    ];
    if let Some((name, _)) = beside.into_iter().find(|(_, value)| value.is_some()) {
        let what =
            format!("{name} has no effect beside message: say it in the message, as FCM's HTTP v1 interface does");
        return Err(refused("beside-message", "BesideMessage", what));
    }
    if raw.len() > LONGEST {
        let what = format!("the message has {} bytes; no platform takes so much", raw.len());
        return Err(refused("payload-too-large", "PayloadTooLarge", what));
    }
    let members = object(raw, "message")?;
    if !forms::is_sound(raw) {
        let what = "the message is nested too deeply for Google, or has an escape that is half a character";
        return Err(refused("malformed-message", "MalformedMessage", what));
    }
    schema::check(raw, &Kind::Fields(MESSAGE), "message")?;
    let own = own_target(&members)?;
    let beside = message::target(fields)?;
    check_size(size(&members), !to_many(own.as_ref(), beside.as_ref()))?;
    match (own, beside) {
        (Some(_), Some(_)) => Err(multiple_targets()),
        (None, None) => Err(missing_target()),
        (Some((name, target)), None) => {
            json.extend_from_slice(raw.as_bytes());
            if name != "token" {
                return Ok(None);
            }
            check_token(&target)?;
            Ok(Some(target))
        }
        (None, Some(target)) => {
            write_with(json, raw, &target);
            let Target::Token(token) = target else { return Ok(None) };
            Ok(Some(token))
        }
    }
}

/// Writes the message with its target first.
fn write_with(json: &mut Vec<u8>, raw: &str, target: &Target<'_>) {
    let (key, value) = target.member();
    json.push(b'{');
    push_text_member(json, key, value);
    let rest = raw[1..].trim_start(); // an object's raw text begins with its brace
    if !rest.starts_with('}') {
        json.push(b',');
    }
    json.extend_from_slice(rest.as_bytes());
}

fn to_many(own: Option<&(&str, Cow<'_, str>)>, beside: Option<&Target<'_>>) -> bool {
    own.is_some_and(|(name, _)| matches!(*name, "topic" | "condition"))
        || matches!(beside, Some(Target::Topic(_) | Target::Condition(_)))
}

/// The one field of the message that says whom it goes to.
fn own_target<'a>(members: &Members<'a>) -> Result<Option<(&'static str, Cow<'a, str>)>, Box<Refusal>> {
    let mut found = None;
    for (key, value) in &members.0 {
        let Some(name) = TARGETS.into_iter().find(|name| name == key) else { continue };
        if *value == "null" {
            continue;
        }
        let target = text(Some(value), "the message's target")?.ok_or_else(missing_target)?;
        if found.replace((name, target)).is_some() {
            return Err(multiple_targets());
        }
    }
    Ok(found)
}

/// Bytes of what reaches an Android device: data, and the notification, Android's own of both before the common ones.
fn size(members: &Members<'_>) -> usize {
    let android = member(members, "android");
    let own = |name| android.as_ref().and_then(|android| member(android, name));
    let data = own("data").or_else(|| member(members, "data")).map_or(0, |data| notification::size_of(&data));
    let shown = own("notification");
    let common = member(members, "notification").map_or(0, |mut common| {
        common.0.retain(|(key, _)| shown.as_ref().is_none_or(|shown| shown.get(key).is_none()));
        notification::size_of(&common)
    });
    data + common + shown.map_or(0, |shown| notification::size_of(&shown))
}

/// The members of an object's member.
fn member<'a>(members: &Members<'a>, name: &str) -> Option<Members<'a>> {
    members.0.iter().find(|(key, _)| is_named(key, name)).and_then(|(_, value)| Members::of(value))
}

/// The token that the message names, or its topic as `/topics/name`.
pub(super) fn addressee(raw: &str) -> Option<Cow<'_, str>> {
    let members = Members::of(raw)?;
    let of = |name| members.get(name).and_then(Text::of);
    of("token").map(|Text(token)| token).or_else(|| Some(Cow::Owned(format!("/topics/{}", of("topic")?.0))))
}
