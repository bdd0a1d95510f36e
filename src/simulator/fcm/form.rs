//! Whether a body has the form that the fields prescribe, and what Google says when it has not. Pure.
//!
//! The words are those of Google's JSON transcoder, as seen in the trackers of its clients, for Pub/Sub and FCM alike. That a
//! member given twice is refused is ours: Google takes the last one, and no client means to send two.

use std::sync::LazyLock;

use regex::Regex;

use super::json::{Json, is_field};
use super::schema::{Kind, Schema};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where; empty: the body itself.
    pub field: String,
    /// What.
    pub description: String,
}

impl Violation {
    /// A violation of this field.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Violation { field: field.into(), description: description.into() }
    }
}

/// All that is wrong with `body`, in its order.
pub fn violations(body: &Json, schema: &'static Schema) -> Vec<Violation> {
    let mut found = Vec::new();
    part(body, schema, "", &mut found);
    found
}

fn part(value: &Json, schema: &'static Schema, path: &str, found: &mut Vec<Violation>) {
    let Json::Object(members) = value else {
        found.push(mismatch(path, &format!("type.googleapis.com/google.firebase.fcm.v1.{}", schema.name), value));
        return;
    };
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in members {
        let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
        let Some((field, kind)) = schema.fields.iter().find(|(field, _)| is_field(name, field)) else {
            let text = format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
            found.push(Violation::new(path, text));
            continue;
        };
        if *value == Json::Null {
            continue;
        }
        if seen.contains(field) {
            let text = format!("Invalid JSON payload received. Name \"{name}\"{place} is given twice.");
            found.push(Violation::new(path, text));
            continue;
        }
        if let Some((choice, fields)) = schema.one_of
            && fields.contains(field)
            && seen.iter().any(|other| fields.contains(other))
        {
            let text = format!("oneof field '{choice}' is already set. Cannot set '{field}'");
            found.push(Violation::new(path, format!("Invalid value{place} (oneof), {text}")));
        }
        seen.push(field);
        let path = if path.is_empty() { (*field).to_owned() } else { format!("{path}.{field}") };
        held(value, *kind, &path, found);
    }
}

fn held(value: &Json, kind: Kind, path: &str, found: &mut Vec<Violation>) {
    match (kind, value) {
        (Kind::Part(schema), _) => part(value, schema, path, found),
        (Kind::List(inner), Json::List(items)) => {
            for (at, item) in items.iter().enumerate() {
                held(item, *inner, &format!("{path}[{at}]"), found);
            }
        }
        (Kind::TextMap, Json::Object(entries)) => text_map(entries, path, found),
        (Kind::Duration, Json::Text(text)) if duration(text).is_none() => found.push(illegal_duration(path)),
        _ if fits(kind, value) => {}
        _ => found.push(mismatch(path, &type_name(kind), value)),
    }
}

/// Whether a field without parts may hold a value. Numbers may come as text, as in all protocol buffers' JSON.
fn fits(kind: Kind, value: &Json) -> bool {
    match (kind, value) {
        (Kind::Text | Kind::Duration, Json::Text(_))
        | (Kind::Flag, Json::Bool(_))
        | (Kind::Free, Json::Object(_))
        | (Kind::Number, Json::Number(_)) => true,
        (Kind::Number, Json::Text(text)) => text.parse::<f64>().is_ok(),
        (Kind::Whole, Json::Number(number)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        (Kind::Whole, Json::Text(text)) => text.parse::<i32>().is_ok(),
        (Kind::Choice(_, words), Json::Text(text)) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
        (Kind::Timestamp, Json::Text(text)) => is_timestamp(text),
        _ => false,
    }
}

fn text_map(entries: &[(String, Json)], path: &str, found: &mut Vec<Violation>) {
    for (at, (name, value)) in entries.iter().enumerate() {
        if !matches!(value, Json::Text(_)) {
            found.push(mismatch(&format!("{path}[{at}].value"), "TYPE_STRING", value));
        }
        if entries[..at].iter().any(|(other, _)| other == name) {
            let text = format!("Invalid JSON payload received. Name \"{name}\" at '{path}' is given twice.");
            found.push(Violation::new(path, text));
        }
    }
}

fn mismatch(path: &str, kind: &str, value: &Json) -> Violation {
    if path.is_empty() {
        let text = "Invalid JSON payload received. Unknown name \"\": Root element must be a message.";
        return Violation::new("", text);
    }
    Violation::new(path, format!("Invalid value at '{path}' ({kind}), {value}"))
}

fn illegal_duration(path: &str) -> Violation {
    let field = path.rsplit('.').next().unwrap_or(path);
    let text = format!(
        "Invalid value at '{path}' (type.googleapis.com/google.protobuf.Duration), \
         Field '{field}', Illegal duration format; duration must end with 's'"
    );
    Violation::new(path, text)
}

fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::TextMap => "TYPE_STRING".into(),
        Kind::Flag => "TYPE_BOOL".into(),
        Kind::Whole => "TYPE_INT32".into(),
        Kind::Number => "TYPE_FLOAT".into(),
        Kind::Duration => "type.googleapis.com/google.protobuf.Duration".into(),
        Kind::Timestamp => "type.googleapis.com/google.protobuf.Timestamp".into(),
        Kind::Free => "type.googleapis.com/google.protobuf.Struct".into(),
        Kind::Choice(name, _) => format!("type.googleapis.com/google.firebase.fcm.v1.{name}"),
        Kind::Part(schema) => format!("type.googleapis.com/google.firebase.fcm.v1.{}", schema.name),
        Kind::List(inner) => type_name(*inner),
    }
}

/// Whole seconds of a duration in protocol buffers' JSON (`3.5s`), rounded down; `None`: not one.
pub fn duration(text: &str) -> Option<i64> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| constant(r"^(-?\d{1,12})(\.\d{1,9})?s$"));
    FORM.captures(text)?.get(1)?.as_str().parse().ok()
}

fn is_timestamp(text: &str) -> bool {
    static FORM: LazyLock<Regex> =
        LazyLock::new(|| constant(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$"));
    FORM.is_match(text)
}

/// A pattern of ours, which is known to be well formed.
pub(super) fn constant(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::schema::REQUEST;
    use super::*;
    use std::fmt::Write as _;

    fn seen(bodies: &[&str]) -> String {
        let mut seen = String::new();
        for body in bodies {
            writeln!(seen, "{body}").expect("a string");
            for Violation { field, description } in violations(&serde_json::from_str(body).expect("json"), &REQUEST) {
                writeln!(seen, "    {field}: {description}").expect("a string");
            }
        }
        seen
    }

    #[test]
    fn every_field_in_either_spelling_is_in_order() {
        let whole = r#"{"validateOnly":true,"message":{"token":"t","data":{"a":"1"},"notification":{"title":"t","body":"b","image":"i"},
            "android":{"collapseKey":"k","priority":"high","ttl":"3.5s","restricted_package_name":"p","data":{},"direct_boot_ok":true,
                "notification":{"icon":"i","titleLocArgs":["a"],"event_time":"2026-01-01T00:00:00.5Z","notification_priority":"PRIORITY_MAX","vibrate_timings":["1s"],
                    "visibility":"secret","notification_count":"3","light_settings":{"color":{"red":0.5,"green":"1","blue":0,"alpha":1},"light_on_duration":"1s","light_off_duration":"2s"},"proxy":"DENY"},
                "fcm_options":{"analytics_label":"l"}},
            "apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"any":[1]}},"fcmOptions":{"image":"i"},"live_activity_token":"x"},
            "webpush":{"headers":{},"data":{},"notification":{"any":{}},"fcm_options":{"link":"https://a"}},"fcm_options":{"analytics_label":"l"},"topic":null}}"#;
        assert_eq!(violations(&serde_json::from_str(whole).expect("json"), &REQUEST), []);
    }

    #[test]
    fn what_is_wrong_and_where() {
        insta::assert_snapshot!(seen(&[
            r#"{"massage":{},"message":{"token":"a"}}"#,
            r#"{"message":{"token":"a","priority":"high","android":{"Priority":"high"}}}"#,
            r#"{"message":{"token":"a","data":{"a":"1","b":2,"c":null,"d":{"e":1}}}}"#,
            r#"{"message":{"token":"a","topic":"b"}}"#,
            r#"{"message":{"token":"a","token":"b"}}"#,
            r#"{"message":{"token":"a","data":{"a":"1","a":"2"}}}"#,
            r#"{"message":{"token":7}}"#,
            r#"{"message":"hello"}"#,
            r#"["message"]"#,
            r#"{"validate_only":"yes","message":{}}"#,
            r#"{"message":{"android":{"priority":"urgent","ttl":"7","notification":{"title_loc_args":"a"}}}}"#,
            r#"{"message":{"android":{"ttl":7,"notification":{"notification_count":1.5,"vibrate_timings":["1"],"event_time":"soon"}}}}"#,
            r#"{"message":{"apns":{"payload":"{}","headers":{"apns-priority":5}}}}"#,
        ]));
    }
}
