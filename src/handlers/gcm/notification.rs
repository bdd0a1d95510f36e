//! `notification` of the original and of Google's legacy interface, split into what all platforms share and what is
//! Android's.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::data::size_of_text;
use super::fields::{refused, wrong_type};
use crate::handlers::json::{Key, Members, Text, key, push_member, push_text};
use crate::outcome::Refusal;

/// Names here, fields of `message.notification`.
const COMMON: [(&str, Key); 4] =
    [("title", key!("title")), ("body", key!("body")), ("image_url", key!("image")), ("image", key!("image"))];
/// Names here, fields of `message.android.notification`. The last two hold lists.
const ANDROID: [(&str, Key); 10] = [
    ("icon", key!("icon")),
    ("color", key!("color")),
    ("sound", key!("sound")),
    ("tag", key!("tag")),
    ("click_action", key!("click_action")),
    ("android_channel_id", key!("channel_id")),
    ("title_loc_key", key!("title_loc_key")),
    ("body_loc_key", key!("body_loc_key")),
    ("title_loc_args", key!("title_loc_args")),
    ("body_loc_args", key!("body_loc_args")),
];
const LISTS_FROM: usize = 8;

/// The known members, raw; empty texts and `null` count as not given, as in the original.
#[derive(Default)]
pub(super) struct Notification<'a> {
    common: [Option<&'a str>; COMMON.len()],
    android: [Option<&'a str>; ANDROID.len()],
}

impl<'a> Notification<'a> {
    /// Finds the known members. Keys match in any case, the last of a repeated one counts.
    pub(super) fn of(raw: &'a str) -> Result<Self, Box<Refusal>> {
        let mut found = Notification::default();
        let known = |key: &str| {
            let place = |names: &[(&str, Key)]| names.iter().position(|(name, _)| name.eq_ignore_ascii_case(key));
            place(&COMMON).or_else(|| place(&ANDROID).map(|at| COMMON.len() + at))
        };
        let Members(all) = Members::of(raw).ok_or_else(|| wrong_type("notification", "an object"))?;
        for (key, value) in all {
            let Some(at) = known(&key) else { continue };
            let value = Some(value).filter(|text| !matches!(*text, "null" | "\"\""));
            match at.checked_sub(COMMON.len()) {
                Some(at) => found.android[at] = value,
                None => found.common[at] = value,
            }
        }
        if found.common[2].is_some() {
            found.common[3] = None; // both are the image; the original's name goes first
        }
        Ok(found)
    }

    /// Writes the member `notification` of all platforms. Returns its size.
    pub(super) fn write_common(&self, json: &mut Vec<u8>) -> Result<usize, Box<Refusal>> {
        write(json, |json| {
            let mut size = 0;
            for ((name, v1), value) in COMMON.iter().zip(self.common) {
                size += value.map_or(Ok(0), |value| text(json, name, *v1, value))?;
            }
            Ok(size)
        })
    }

    /// Writes the member `notification` of `android`. Returns its size.
    pub(super) fn write_android(&self, json: &mut Vec<u8>) -> Result<usize, Box<Refusal>> {
        write(json, |json| {
            let mut size = 0;
            for (at, (name, v1)) in ANDROID.iter().enumerate() {
                let Some(value) = self.android[at] else { continue };
                size += if at < LISTS_FROM { text(json, name, *v1, value)? } else { list(json, name, *v1, value)? };
            }
            Ok(size)
        })
    }
}

/// Writes `notification` around what `members` writes; nothing when that is nothing.
fn write(
    json: &mut Vec<u8>,
    members: impl FnOnce(&mut Vec<u8>) -> Result<usize, Box<Refusal>>,
) -> Result<usize, Box<Refusal>> {
    let start = json.len();
    push_member(json, key!("notification"), "{");
    let empty = json.len();
    let size = members(json)?;
    if json.len() == empty {
        json.truncate(start);
    } else {
        json.push(b'}');
    }
    Ok(size)
}

fn text(json: &mut Vec<u8>, name: &str, v1: Key, value: &str) -> Result<usize, Box<Refusal>> {
    let size = size_of_text(value).ok_or_else(|| wrong_type(&format!("notification.{name}"), "a string"))?;
    if name == "color" && !is_color(value.trim_matches('"')) {
        return Err(invalid_color());
    }
    push_member(json, v1, value);
    Ok(v1.len() + size)
}

/// `#rrggbb`, as it stands in JSON.
pub(super) fn is_color(text: &str) -> bool {
    text.len() == 7 && text.starts_with('#') && text[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn invalid_color() -> Box<Refusal> {
    refused("invalid-color", "InvalidColor", "notification.color must be #rrggbb")
}

/// Arguments of a localised text: a list, a text that holds a list (as the original's producers write it), or one text.
fn list(json: &mut Vec<u8>, name: &str, v1: Key, value: &str) -> Result<usize, Box<Refusal>> {
    let wrong = || wrong_type(&format!("notification.{name}"), "a list of strings, or a string");
    push_member(json, v1, "[");
    let size = if value.starts_with('[') {
        elements(json, value).ok_or_else(wrong)?
    } else {
        let Text(inner) = Text::of(value).ok_or_else(wrong)?;
        let start = json.len();
        let listed = inner.trim_start().starts_with('[').then(|| elements(json, &inner)).flatten();
        if let Some(size) = listed {
            size
        } else {
            json.truncate(start);
            push_text(json, &inner);
            inner.len()
        }
    };
    json.push(b']');
    Ok(name.len() + size)
}

/// Appends the elements of a list as texts: what is no text as its JSON text. Returns their size; `None` for what is no list of
/// valid texts.
fn elements(json: &mut Vec<u8>, list: &str) -> Option<usize> {
    let elements: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let mut size = 0;
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        let text =
            if element.get().starts_with('"') { Text::of(element.get())?.0 } else { Cow::Borrowed(element.get()) };
        push_text(json, &text);
        size += text.len();
    }
    Some(size)
}

/// The size of what a notification in Google's own form shows on the device: its texts with their names.
pub(super) fn size_of(members: &Members<'_>) -> usize {
    members.0.iter().filter_map(|(key, value)| Some(key.len() + size_of_text(value)?)).sum()
}
