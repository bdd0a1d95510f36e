//! Whatever a producer writes, what leaves is a request that FCM's HTTP v1 interface takes, or nothing leaves and there is a
//! reason. Judged twice: by rules written down here from Google's reference, and by Google's own discovery document.

use std::process::Command;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use pusher::handlers::gcm::request_body;
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::support::root;

const NOW: i64 = 1_700_000_000_000;

/// Google's description of the interface, pinned.
static TOPIC: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9-_.~%]+$").expect("a pattern"));
static COLOR: LazyLock<Regex> = LazyLock::new(|| Regex::new("^#[0-9a-fA-F]{6}$").expect("a pattern"));
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let fetch = root().join("tools/fcm-schema-fetch");
    let output = Command::new(&fetch).output().expect("the script can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "no schema of FCM: run tools/fcm-schema-fetch with a network; it said: {said}");
    let file = String::from_utf8(output.stdout).expect("a path");
    serde_json::from_slice(&std::fs::read(file.trim()).expect("the schema's file")).expect("JSON")
});

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + &part[..1].to_uppercase() + &part[1..])
}

/// Checks a value against a schema of the discovery document, as Google's JSON parser would.
fn conforms(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{path}: {what}, not {value}"));
    if let Some(name) = schema["$ref"].as_str() {
        return conforms(&DOCUMENT["schemas"][name], value, path);
    }
    let text = value.as_str().unwrap_or_default();
    match schema["type"].as_str().unwrap_or_default() {
        "string" if !value.is_string() => wrong("a string"),
        "string" => match schema["format"].as_str() {
            Some("google-duration") if !duration(text) => wrong("a duration"),
            Some("google-datetime") if !moment(text) => wrong("a moment"),
            _ if schema["enum"].is_array() => {
                let words = schema["enum"].as_array().expect("checked above");
                if words.iter().any(|word| word.as_str() == Some(&text.to_uppercase())) {
                    Ok(())
                } else {
                    wrong("one of the words")
                }
            }
            _ => Ok(()),
        },
        "boolean" if !value.is_boolean() => wrong("a truth value"),
        "integer" if value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) => wrong("a whole number"),
        "number" if !value.is_number() => wrong("a number"),
        "any" | "boolean" | "integer" | "number" => Ok(()),
        "array" => {
            let Some(items) = value.as_array() else { return wrong("a list") };
            items.iter().try_for_each(|item| conforms(&schema["items"], item, path))
        }
        "object" => {
            let Some(members) = value.as_object() else { return wrong("an object") };
            members.iter().try_for_each(|(key, value)| match &schema["additionalProperties"] {
                Value::Null => match &schema["properties"][camel(key)] {
                    Value::Null => Err(format!("{path}: no field {key}")),
                    _ if value.is_null() => Ok(()),
                    field => conforms(field, value, &format!("{path}.{key}")),
                },
                any => conforms(any, value, &format!("{path}.{key}")),
            })
        }
        other => panic!("a type that this checker does not know: {other}"),
    }
}

fn duration(text: &str) -> bool {
    static FORM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^-?\d{1,12}(\.\d{1,9})?s$").expect("a pattern"));
    FORM.is_match(text)
}

fn moment(text: &str) -> bool {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$").expect("a pattern")
    });
    FORM.is_match(text)
}

/// What no schema says: Google's reference in words.
fn obeys(body: &Value) -> Result<(), String> {
    let message = &body["message"];
    let given = |name: &str| !message[name].is_null();
    let targets = ["token", "topic", "condition"].into_iter().filter(|name| given(name)).count();
    if targets != 1 {
        return Err(format!("{targets} targets"));
    }
    if message["topic"].as_str().is_some_and(|topic| !TOPIC.is_match(topic)) {
        return Err(format!("topic {}", message["topic"]));
    }
    let either =
        |snake: &str, of: &Value| if of[snake].is_null() { of[camel(snake)].clone() } else { of[snake].clone() };
    let android = &message["android"];
    let ttl = android["ttl"].as_str().map(|ttl| ttl.trim_end_matches('s').parse::<f64>().expect("seconds"));
    if ttl.is_some_and(|ttl| !(0.0..=2_419_200.0).contains(&ttl)) {
        return Err(format!("ttl {ttl:?}"));
    }
    for data in [&message["data"], &android["data"]].into_iter().filter_map(Value::as_object) {
        let reserved = |key: &str| {
            ["from", "message_type"].contains(&key)
                || ["google.", "gcm.notification."].iter().any(|start| key.starts_with(start))
        };
        if let Some(key) = data.keys().find(|key| reserved(key)) {
            return Err(format!("reserved key {key}"));
        }
        let size: usize = data.iter().map(|(key, value)| key.len() + value.as_str().expect("a text").len()).sum();
        if size > if given("token") { 4096 } else { 2048 }
            && (android["data"].is_null() || data.len() == android["data"].as_object().map_or(0, Map::len))
        {
            return Err(format!("{size} bytes"));
        }
    }
    let color = either("color", &android["notification"]);
    if color.as_str().is_some_and(|color| !COLOR.is_match(color)) {
        return Err(format!("color {color}"));
    }
    Ok(())
}

/// The body that a record leads to; the reasons of those that are not sent are the room's own tests'.
fn sent(record: &str) -> Option<String> {
    match request_body(record.as_bytes(), NOW) {
        Ok(body) => Some(String::from_utf8(body.to_vec()).expect("UTF-8")),
        Err(Some(refusal)) => {
            assert!(!refusal.key.is_empty() && !refusal.description.is_empty());
            None
        }
        Err(None) => None,
    }
}

fn judge(record: &str) -> Result<bool, TestCaseError> {
    let Some(body) = sent(record) else { return Ok(false) };
    let value: Value = serde_json::from_str(&body).map_err(|error| TestCaseError::fail(format!("{error}: {body}")))?;
    let schema = &DOCUMENT["schemas"]["SendMessageRequest"];
    let judged = conforms(schema, &value, "").and_then(|()| obeys(&value));
    prop_assert!(judged.is_ok(), "{}\n{record}\n{body}", judged.unwrap_err());
    Ok(true)
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zé \"\\\\\n]{0,12}",
        Just("#a1B2c3".to_owned()),
        Just("3.5s".into()),
        Just("high".into()),
        Just("PRIVATE".into()),
        Just("2026-01-31T08:00:00Z".into()),
        "x{2000,4200}"
    ]
}

/// Any value, texts most often: what a producer may write anywhere.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => texts().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0i64..3_000_000).prop_map(Value::from),
        1 => any::<f32>().prop_map(|n| json!(n)),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z_.é\"]{1,8}", 1 => Just("from".to_owned()), 1 => Just("google.x".into()), 1 => Just("gcm.notification.title".into())]
}

/// An object with some of these members, each of its own kind.
fn members(kinds: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let each: Vec<_> =
        kinds.into_iter().map(|(name, kind)| proptest::option::of(kind.prop_map(move |v| (name, v)))).collect();
    each.prop_map(|members| Value::Object(members.into_iter().flatten().map(|(k, v)| (k.to_owned(), v)).collect()))
}

/// Nine times in ten what belongs there, else anything.
fn mostly(kind: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![9 => kind, 1 => values()].boxed()
}

fn text() -> BoxedStrategy<Value> {
    mostly(texts().prop_map(Value::from))
}

fn data() -> BoxedStrategy<Value> {
    let texts_only = proptest::collection::btree_map(keys(), texts(), 0..5).prop_map(|map| json!(map));
    let anything = proptest::collection::btree_map(keys(), values(), 0..5).prop_map(|map| json!(map));
    mostly(prop_oneof![texts_only, anything])
}

fn originals() -> impl Strategy<Value = Value> {
    let notification = [
        "title",
        "body",
        "sound",
        "click_action",
        "body_loc_key",
        "body_loc_args",
        "title_loc_key",
        "title_loc_args",
        "image_url",
        "icon",
        "tag",
        "badge",
        "android_channel_id",
        "Color",
    ];
    let notification = members(notification.map(|name| (name, text())).to_vec());
    let color = "#[0-9a-f]{6}".prop_map(|color| json!({"color": color, "title": "t"}));
    members(vec![
        ("to", mostly(Just(json!("fcm-token:APA91b")))),
        ("topic", prop_oneof![9 => Just(Value::Null), 1 => "[a-z/é]{1,5}".prop_map(Value::from)].boxed()),
        ("COLLAPSE_KEY", text()),
        ("priority", mostly(prop_oneof![Just(json!("high")), Just(json!("Normal"))])),
        ("time_to_live", mostly((0i64..2_500_000).prop_map(Value::from))),
        ("push_expiry", mostly((1_600_000_000i64..1_900_000_000).prop_map(Value::from))),
        ("dry_run", mostly(any::<bool>().prop_map(Value::from))),
        ("data", data()),
        ("notification", mostly(prop_oneof![notification, color])),
        ("metadata", data()),
    ])
}

/// A value of the type that a schema of the discovery document asks for, mostly.
fn of_schema(schema: &'static Value) -> BoxedStrategy<Value> {
    if let Some(name) = schema["$ref"].as_str() {
        return of_schema(&DOCUMENT["schemas"][name]);
    }
    let right = match schema["type"].as_str().unwrap_or_default() {
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => any::<i32>().prop_map(Value::from).boxed(),
        "number" => (0.0f32..1.0).prop_map(|n| json!(n)).boxed(),
        "array" => proptest::collection::vec(of_schema(&schema["items"]), 0..3).prop_map(Value::from).boxed(),
        "object" if schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().expect("checked above");
            members(fields.iter().map(|(name, field)| (name.as_str(), of_schema(field))).collect()).boxed()
        }
        "object" if schema["additionalProperties"]["type"] == "string" => data(),
        "object" => proptest::collection::btree_map(keys(), values(), 0..3).prop_map(|map| json!(map)).boxed(),
        _ => match (schema["enum"].as_array(), schema["format"].as_str()) {
            (Some(words), _) => proptest::sample::select(words.clone()).boxed(),
            (_, Some("google-duration")) => (0..3_000_000).prop_map(|n: i32| json!(format!("{n}s"))).boxed(),
            (_, Some("google-datetime")) => Just(json!("2026-01-31T08:00:00.5Z")).boxed(),
            _ => prop_oneof!["[a-z#]{0,8}", Just("#a1B2c3".to_owned())].prop_map(Value::from).boxed(),
        },
    };
    // No object of unknown fields: those are Google's to judge, and pass.
    let wrong = values().prop_map(|value| if value.is_object() { json!([value]) } else { value });
    prop_oneof![60 => right, 1 => wrong].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_message_of_the_original_is_sent_as_valid_v1_or_refused(record in originals()) {
        judge(&record.to_string())?;
    }

    #[test]
    fn no_bytes_lead_to_anything_else(record in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request_body(&record, NOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_native_message_is_sent_as_it_is_and_is_valid_v1_or_refused(
        mut message in of_schema(&DOCUMENT["schemas"]["Message"]), beside in proptest::option::of("[a-z:]{1,9}"), dry in any::<bool>(),
    ) {
        if let Some(members) = message.as_object_mut() {
            // Else nearly all would have several targets.
            ["topic", "condition", "token"].iter().skip(usize::from(beside.is_none())).for_each(|name| { members.remove(*name); });
        }
        judge(&json!({"message": message, "to": beside, "dry_run": dry}).to_string())?;
    }
}

/// A property that nothing gets as far as would show nothing.
#[test]
fn a_fair_part_of_what_is_generated_is_sent() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut share = |strategy: &dyn Fn(&mut proptest::test_runner::TestRunner) -> Value| {
        (0..300).filter(|_| judge(&strategy(&mut runner).to_string()).expect("valid")).count()
    };
    let plain = originals();
    let of_originals = share(&|runner| plain.new_tree(runner).expect("a value").current());
    let schema = of_schema(&DOCUMENT["schemas"]["Message"]);
    let of_natives = share(&|runner| {
        let mut message = schema.new_tree(runner).expect("a value").current();
        if let Some(members) = message.as_object_mut() {
            for name in ["topic", "condition"] {
                members.remove(name);
            }
            members.insert("token".into(), json!("t1"));
        }
        json!({"message": message})
    });
    assert!(of_originals > 20 && of_natives > 20, "{of_originals} and {of_natives} of 300");
}

/// The checker itself refuses what Google does.
#[test]
fn the_checker_is_strict() {
    let schema = &DOCUMENT["schemas"]["SendMessageRequest"];
    for wrong in [
        json!({"message": {"token": "t", "data": {"a": 1}}}),
        json!({"message": {"token": "t", "tokens": []}}),
        json!({"message": {"token": "t", "android": {"ttl": "60"}}}),
        json!({"message": {"token": "t", "android": {"priority": "urgent"}}}),
        json!({"validate_only": "true", "message": {"token": "t"}}),
        json!({"message": {"token": "t", "topic": "u"}}),
        json!({"message": {"token": "t", "data": {"from": "x"}}}),
        json!({"message": {"topic": "a b"}}),
        json!({"message": {"token": "t", "data": {"a": "x".repeat(4096)}}}),
        json!({"message": {"token": "t", "android": {"ttl": "2419201s"}}}),
    ] {
        assert!(conforms(schema, &wrong, "").and_then(|()| obeys(&wrong)).is_err(), "{wrong}");
    }
    let right = json!({"validateOnly": true, "message": {"token": "t", "data": {"a": "1"}, "android": {"ttl": "3.5s", "priority": "high"}}});
    assert_eq!(conforms(schema, &right, "").and_then(|()| obeys(&right)), Ok(()));
}

/// Each example of the manual, and what it says that leaves.
#[test]
fn the_manuals_examples_leave_as_it_says() {
    let page = std::fs::read_to_string(root().join("docs/gcm-message.md")).expect("the page").replace('\u{2026}', "x");
    let pair = Regex::new("(?s)```json\n([^`]*)```\n+leaves as\n+```json\n([^`]*)```").expect("a pattern");
    let pairs: Vec<_> = pair.captures_iter(&page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    assert_eq!(pairs.len(), page.matches("leaves as\n").count());
    assert!(pairs.len() >= 5);
    for (written, leaves) in pairs {
        // As a producer would: on one line.
        let body =
            request_body(written.replace('\n', "").as_bytes(), NOW).unwrap_or_else(|why| panic!("{written}: {why:?}"));
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, serde_json::from_str::<Value>(&leaves).expect("JSON"), "{written}");
        conforms(&DOCUMENT["schemas"]["SendMessageRequest"], &body, "")
            .unwrap_or_else(|why| panic!("{written}: {why}"));
    }
}
