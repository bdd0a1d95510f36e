//! The shape of a v1 message, as far as it can be judged without Google: types, forms and ranges of its fields.
//!
//! Source: Google, FCM `projects.messages` reference. A field that is not in these tables passes as it is, so that what
//! Google adds can be used at once; one that is must have its type, for Google refuses the whole request otherwise.

use serde_json::value::RawValue;

use super::data::{check_key, size_of_text};
use super::fields::{refused, wrong_type};
use super::forms;
use super::message::check_topic;
use super::notification::{invalid_color, is_color};
use crate::handlers::json::{Members, Text};
use crate::outcome::Refusal;

/// What a field may hold.
pub(super) enum Kind {
    /// A text.
    Text,
    /// A text of this form, which the words describe.
    Form(fn(&str) -> bool, &'static str),
    /// `#rrggbb`.
    Color,
    /// A topic's name.
    Topic,
    /// `true` or `false`.
    Flag,
    /// A whole number of 32 bits.
    Whole,
    /// A number.
    Number,
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// An object of texts.
    Texts,
    /// The same as the message's data: some keys are Google's.
    Data,
    /// Any object: another platform's format.
    Any,
    /// A list.
    List(&'static Kind),
    /// An object with these fields.
    Fields(&'static [(&'static str, Kind)]),
    /// The same, and none may be missing.
    AllFields(&'static [(&'static str, Kind)]),
}

use Kind::{AllFields, Any, Color, Data, Fields, Flag, Form, List, Number, Text as Plain, Texts, Topic, Whole, Word};

const DURATION: Kind = Form(forms::is_duration, "a duration in seconds such as \"3.5s\"");
const TTL: Kind = Form(forms::is_ttl, "a duration from \"0s\" to \"2419200s\"");
const TIME: Kind = Form(forms::is_timestamp, "a moment in RFC 3339 such as \"2026-01-31T08:00:00Z\"");
const LINK: Kind = Form(forms::is_link, "an https URL");
const LABEL: Kind = Form(forms::is_label, "1 to 50 of letters, digits and -_.~%");

/// The fields of a message, in Google's snake case; its camel case is understood as well.
pub(super) const MESSAGE: &[(&str, Kind)] = &[
    ("name", Plain),
    ("token", Plain),
    ("fid", Plain),
    ("topic", Topic),
    ("condition", Plain),
    ("data", Data),
    ("notification", Fields(&[("title", Plain), ("body", Plain), ("image", Plain)])),
    ("android", Fields(ANDROID)),
    ("apns", Fields(APNS)),
    ("webpush", Fields(WEBPUSH)),
    ("fcm_options", Fields(OPTIONS)),
];
const OPTIONS: &[(&str, Kind)] = &[("analytics_label", LABEL)];
const ANDROID: &[(&str, Kind)] = &[
    ("collapse_key", Plain),
    ("priority", Word(&["NORMAL", "HIGH"])),
    ("ttl", TTL),
    ("restricted_package_name", Plain),
    ("data", Data),
    ("notification", Fields(ANDROID_NOTIFICATION)),
    ("fcm_options", Fields(OPTIONS)),
    ("direct_boot_ok", Flag),
    ("bandwidth_constrained_ok", Flag),
    ("restricted_satellite_ok", Flag),
];
const ANDROID_NOTIFICATION: &[(&str, Kind)] = &[
    ("title", Plain),
    ("body", Plain),
    ("icon", Plain),
    ("color", Color),
    ("sound", Plain),
    ("tag", Plain),
    ("click_action", Plain),
    ("body_loc_key", Plain),
    ("body_loc_args", List(&Plain)),
    ("title_loc_key", Plain),
    ("title_loc_args", List(&Plain)),
    ("channel_id", Plain),
    ("ticker", Plain),
    ("sticky", Flag),
    ("event_time", TIME),
    ("local_only", Flag),
    (
        "notification_priority",
        Word(&[
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ]),
    ),
    ("default_sound", Flag),
    ("default_vibrate_timings", Flag),
    ("default_light_settings", Flag),
    ("vibrate_timings", List(&DURATION)),
    ("visibility", Word(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"])),
    ("notification_count", Whole),
    (
        "light_settings",
        AllFields(&[
            ("color", Fields(&[("red", Number), ("green", Number), ("blue", Number), ("alpha", Number)])),
            ("light_on_duration", DURATION),
            ("light_off_duration", DURATION),
        ]),
    ),
    ("image", Plain),
    ("bypass_proxy_notification", Flag),
    ("proxy", Word(&["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"])),
];
const APNS: &[(&str, Kind)] = &[
    ("headers", Texts),
    ("payload", Any),
    ("fcm_options", Fields(&[("analytics_label", LABEL), ("image", Plain)])),
    ("live_activity_token", Plain),
];
const WEBPUSH: &[(&str, Kind)] = &[
    ("headers", Texts),
    ("data", Texts),
    ("notification", Any),
    ("fcm_options", Fields(&[("link", LINK), ("analytics_label", LABEL)])),
];

/// Whether `key` names the field `snake`, in snake or camel case.
pub(super) fn is_named(key: &str, snake: &str) -> bool {
    if key == snake {
        return true;
    }
    let (mut key, mut capital) = (key.bytes(), false);
    for byte in snake.bytes() {
        if byte == b'_' {
            capital = true;
        } else if key.next() == Some(if capital { byte.to_ascii_uppercase() } else { byte }) {
            capital = false;
        } else {
            return false;
        }
    }
    key.next().is_none()
}

/// Refuses what Google would refuse. `path` is where `raw` is, for the description: it holds names of fields alone.
pub(super) fn check(raw: &str, kind: &Kind, path: &str) -> Result<(), Box<Refusal>> {
    let text = || Text::of(raw).map(|Text(text)| text);
    let judged = |fits: bool, what: &str| if fits { Ok(()) } else { Err(wrong_type(path, what)) };
    match kind {
        Plain => judged(text().is_some(), "a string"),
        Form(fits, what) => judged(text().is_some_and(|text| fits(&text)), what),
        Color => text().filter(|text| is_color(text)).map(|_| ()).ok_or_else(invalid_color),
        Topic => check_topic(&text().ok_or_else(|| wrong_type(path, "a string"))?),
        Flag => judged(matches!(raw, "true" | "false"), "true or false"),
        Whole => judged(raw.parse::<i32>().is_ok(), "a whole number"),
        Number => judged(raw.parse::<f32>().is_ok_and(f32::is_finite), "a number"),
        Word(words) => {
            let known = text().is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(&text)));
            judged(known, &format!("one of {}", words.join(", ")))
        }
        Any => judged(raw.starts_with('{'), "an object"),
        Texts | Data => check_texts(raw, path, matches!(kind, Data)),
        List(of) => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong_type(path, "a list"))?;
            elements.into_iter().try_for_each(|element| check(element.get(), of, path))
        }
        Fields(fields) => check_fields(raw, fields, path).map(|_| ()),
        AllFields(fields) => {
            let given = check_fields(raw, fields, path)?;
            let missing = fields.iter().enumerate().find(|(at, _)| given & (1 << at) == 0);
            missing.map_or(Ok(()), |(_, (name, _))| Err(wrong_type(path, &format!("complete: {name} is missing"))))
        }
    }
}

fn check_texts(raw: &str, path: &str, some_are_googles: bool) -> Result<(), Box<Refusal>> {
    let members = Members::of(raw).ok_or_else(|| wrong_type(path, "an object"))?;
    let mut keys: Vec<&str> = members.0.iter().map(|(key, _)| key.as_ref()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(repeated(path));
    }
    for (key, value) in &members.0 {
        size_of_text(value).ok_or_else(|| wrong_type(path, "an object whose values are strings"))?;
        if some_are_googles {
            check_key(key)?;
        }
    }
    Ok(())
}

/// Returns which of the fields are given, bit by bit.
fn check_fields(raw: &str, fields: &[(&str, Kind)], path: &str) -> Result<u64, Box<Refusal>> {
    let members = Members::of(raw).ok_or_else(|| wrong_type(path, "an object"))?;
    let (mut given, mut set) = (0_u64, 0_u64);
    for (key, value) in &members.0 {
        let Some(at) = fields.iter().position(|(name, _)| is_named(key, name)) else { continue };
        let path = format!("{path}.{}", fields[at].0);
        if given & (1 << at) != 0 {
            return Err(repeated(&path));
        }
        given |= 1 << at;
        if *value != "null" {
            check(value, &fields[at].1, &path)?;
            set |= 1 << at;
        }
    }
    Ok(set)
}

fn repeated(path: &str) -> Box<Refusal> {
    refused("repeated-field", "RepeatedField", format!("{path} is given twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_googles_spellings_are_understood_and_no_other() {
        for (key, fits) in [("bodyLocKey", true), ("body_loc_key", true), ("body_locKey", false), ("BodyLocKey", false)]
        {
            assert_eq!(is_named(key, "body_loc_key"), fits, "{key}");
        }
        assert!(is_named("fid", "fid"));
    }

    #[test]
    fn no_table_is_longer_than_the_bits_that_count_its_fields() {
        for table in [MESSAGE, ANDROID, ANDROID_NOTIFICATION, APNS, WEBPUSH] {
            assert!(table.len() <= 64);
        }
    }
}
