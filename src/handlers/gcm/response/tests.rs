//! The whole table of answers, one line for each.

use serde_json::{Value, json};

use super::*;

const FCM: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const APNS: &str = "type.googleapis.com/google.firebase.fcm.v1.ApnsError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const QUOTA: &str = "type.googleapis.com/google.rpc.QuotaFailure";

fn verdict(status: u16, body: &str, headers: &[(&'static str, &str)], token: Option<&str>) -> Verdict {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let now = || httpdate::parse_http_date("Sun, 22 Nov 2026 08:00:00 GMT").unwrap();
    let status = StatusCode::from_u16(status).unwrap();
    understand(&Answered { status, headers: &headers, body: body.as_bytes(), token, mostly_limited: false, now })
}

fn line(status: u16, body: &str, headers: &[(&'static str, &str)], token: Option<&str>) -> String {
    let verdict = verdict(status, body, headers, token);
    let (word, refusal) = match &verdict {
        Verdict::Resolved(Outcome::Delivered(accepted)) => return format!("delivered {:?}", accepted.provider_id),
        Verdict::Resolved(Outcome::Rejected(refusal)) => ("rejected", refusal),
        Verdict::Retry(refusal) => ("retry", refusal),
        Verdict::Hold(refusal) => ("hold", refusal),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal.status, status);
    assert!(!refusal.description.contains("s3cret"), "{}", refusal.description);
    let deletes = refusal.invalid_token.as_ref().map_or("", |dead| {
        assert_eq!(Some(dead.token.as_str()), token);
        " deletes"
    });
    let maybe = if refusal.maybe_delivered { " maybe-delivered" } else { "" };
    let after = refusal.retry_after.map_or(String::new(), |wish| format!(" after({wish:?})"));
    let (class, source, key, reason) = (refusal.class, refusal.source, refusal.key, &refusal.reason);
    format!("{word} {class:?}/{source:?} {key} {reason}{deletes}{maybe}{after}: {}", refusal.description)
}

fn error(status: &str, message: &str, details: &Value) -> String {
    json!({"error": {"code": 400, "message": message, "status": status, "details": details}}).to_string()
}

fn coded(status: &str, code: &str) -> String {
    error(status, "", &json!([{"@type": FCM, "errorCode": code}]))
}

fn snapshot(cases: &[(&str, u16, String)]) -> String {
    let lines = cases
        .iter()
        .map(|(what, status, body)| format!("{status} {what}\n  = {}", line(*status, body, &[], Some("the-token"))));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_error_code_of_googles_table() {
    let cases = [
        ("INVALID_ARGUMENT", 400, "INVALID_ARGUMENT"),
        ("UNREGISTERED", 404, "NOT_FOUND"),
        ("SENDER_ID_MISMATCH", 403, "PERMISSION_DENIED"),
        ("QUOTA_EXCEEDED", 429, "RESOURCE_EXHAUSTED"),
        ("UNAVAILABLE", 503, "UNAVAILABLE"),
        ("INTERNAL", 500, "INTERNAL"),
        ("THIRD_PARTY_AUTH_ERROR", 401, "UNAUTHENTICATED"),
        ("APNS_AUTH_ERROR", 401, "UNAUTHENTICATED"),
        ("UNSPECIFIED_ERROR", 400, "INVALID_ARGUMENT"),
        ("UNSPECIFIED_ERROR", 404, "NOT_FOUND"),
        ("UNSPECIFIED_ERROR", 503, "UNAVAILABLE"),
        ("SOMETHING_NEW", 403, "PERMISSION_DENIED"),
        ("SOMETHING_NEW", 409, "ABORTED"),
        ("UNREGISTERED", 500, "INTERNAL"),
        ("INVALID_ARGUMENT", 503, "UNAVAILABLE"),
    ];
    insta::assert_snapshot!(snapshot(&cases.map(|(code, status, word)| (code, status, coded(word, code)))));
}

#[test]
fn one_status_with_different_meanings() {
    let named =
        |field: &str| json!({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "s3cret"}]});
    let code = |code: &str| json!({"@type": FCM, "errorCode": code});
    let apns = |status: u16, reason: &str| json!({"@type": APNS, "statusCode": status, "reason": reason});
    let quota = |subject: &str, what: &str| {
        error(
            "RESOURCE_EXHAUSTED",
            "",
            &json!([{"@type": QUOTA, "violations": [{"subject": subject, "description": what}]}, code("QUOTA_EXCEEDED")]),
        )
    };
    let invalid = |message: &str, details: Value| error("INVALID_ARGUMENT", message, &details);
    let cases = [
        ("too large: no details at all", 400, json!({"error": {"code": 400, "message": "Request contains an invalid argument.", "status": "INVALID_ARGUMENT"}}).to_string()),
        ("a data value that is no text", 400, invalid("Invalid value at 'message.data[0].value' (TYPE_STRING), s3cret", json!([named("message.data[0].value")]))),
        ("the token, by its field", 400, invalid("Invalid registration token", json!([named("message.token"), code("INVALID_ARGUMENT")]))),
        ("the token, by its field, other order, no code", 400, invalid("", json!([named("message.token")]))),
        ("the token, by the message", 400, invalid("The registration token is not a valid FCM registration token", json!([code("INVALID_ARGUMENT")]))),
        ("no target", 400, invalid("Recipient of the message is not set.", json!([named("message"), code("INVALID_ARGUMENT")]))),
        ("a field that quotes", 400, invalid("", json!([named("message.data['s3cret']")]))),
        ("APNs says gone", 400, invalid("APNs device token is disabled.", json!([code("INVALID_ARGUMENT"), apns(410, "Unregistered")]))),
        ("APNs says gone, no code", 400, invalid("", json!([apns(410, "Unregistered")]))),
        ("APNs says bad topic", 400, invalid("", json!([apns(400, "BadTopic"), code("INVALID_ARGUMENT")]))),
        ("UNREGISTERED by APNs", 404, error("NOT_FOUND", "", &json!([apns(410, "Unregistered"), code("UNREGISTERED")]))),
        ("no FcmError", 404, error("NOT_FOUND", "Requested entity was not found.", &json!([]))),
        ("a page", 400, "<html>Bad request</html>".into()),
        ("nothing", 421, String::new()),
        ("an array", 400, json!([{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}]).to_string()),
        ("an error without a status", 400, json!({"error": {"code": "BadRequest", "message": ""}}).to_string()),
        ("another form of JSON", 451, json!({"error": "blocked"}).to_string()),
        ("a page", 404, "<html>Not found</html>".into()),
        ("nothing", 404, String::new()),
        ("a wrong APNs key", 401, error("UNAUTHENTICATED", "Request is missing required authentication credential.", &json!([apns(403, "InvalidProviderToken"), code("THIRD_PARTY_AUTH_ERROR")]))),
        ("our token", 401, error("UNAUTHENTICATED", "Request had invalid authentication credentials.", &json!([]))),
        ("a page", 401, "<html>".into()),
        ("IAM", 403, error("PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied", &json!([{"@type": ERROR_INFO, "reason": "IAM_PERMISSION_DENIED"}]))),
        ("API not enabled", 403, error("PERMISSION_DENIED", "Firebase Cloud Messaging API has not been used in project 1 before", &json!([]))),
        ("the project's quota", 429, quota("project:123", "Project message rate exceeded")),
        ("the project's quota, by its words", 429, quota("", "quota of this Project")),
        ("the project's quota, by Google's front end", 429, error("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Send requests'", &json!([{"@type": ERROR_INFO, "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com", "metadata": {"consumer": "projects/1", "quota_metric": "fcm.googleapis.com/send_requests"}}]))),
        ("another reason of Google's front end", 429, error("RESOURCE_EXHAUSTED", "", &json!([{"@type": ERROR_INFO, "reason": "RESOURCE_TEMPORARILY_SHORT"}]))),
        ("a device's quota", 429, quota("device", "Device message rate exceeded")),
        ("no details", 429, String::new()),
        ("a front end's page", 502, "<html>try again in 30 seconds</html>".into()),
        ("a page", 500, "<html>".into()),
        ("a page", 503, "<html>".into()),
    ];
    insta::assert_snapshot!(snapshot(&cases));
}

#[test]
fn success_is_a_name_and_nothing_else() {
    let cases = [
        ("", 200, r#"{"name":"projects/my-game/messages/0:123"}"#),
        ("", 200, r#"{"name":"projects/my-game/messages/fake_message_id"}"#),
        ("", 200, r#"{"name":""}"#),
        ("", 200, "{}"),
        ("", 200, r#"{"name":"projects/my-ga"#),
        ("", 200, "<html>502</html>"),
        ("", 204, ""),
    ];
    insta::assert_snapshot!(
        cases.map(|(_, status, body)| format!("{status} {body}\n  = {}", line(status, body, &[], None))).join("\n")
    );
}

#[test]
fn statuses_that_fcm_does_not_document() {
    let lines = [301, 405, 407, 408, 409, 413, 418, 504, 599, 700]
        .map(|status| format!("{status} = {}", line(status, "", &[], None)));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_device_has_too_many_until_most_of_the_project_have() {
    let body = coded("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED");
    let source = |body: &str, mostly_limited| {
        let (headers, status, now) = (HeaderMap::new(), StatusCode::TOO_MANY_REQUESTS, || SystemTime::UNIX_EPOCH);
        let answered = Answered { status, headers: &headers, body: body.as_bytes(), token: None, mostly_limited, now };
        let Verdict::Retry(refusal) = understand(&answered) else { panic!("not sent again") };
        assert_eq!(refusal.retry_after, Some(AFTER_QUOTA));
        refusal.source
    };
    assert_eq!([source(&body, false), source(&body, true)], [Source::Device, Source::Project]);
    assert_eq!(source("", true), Source::Project);
}

#[test]
fn a_topic_has_no_token_to_delete() {
    for (status, code) in [(404, "UNREGISTERED"), (400, "INVALID_ARGUMENT")] {
        let body = error(
            "",
            "The registration token is not a valid FCM registration token",
            &json!([{"@type": FCM, "errorCode": code}]),
        );
        assert!(!line(status, &body, &[], None).contains("deletes"));
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_replaces_our_own_floor() {
    let after =
        |status: u16, code: &str, value: &str| match verdict(status, &coded("", code), &[("retry-after", value)], None)
        {
            Verdict::Retry(refusal) | Verdict::Hold(refusal) => refusal.retry_after.map(|wish| wish.as_secs()),
            other => panic!("{other:?}"),
        };
    assert_eq!(after(429, "QUOTA_EXCEEDED", "7"), Some(7));
    assert_eq!(after(429, "QUOTA_EXCEEDED", "Sun, 22 Nov 2026 08:01:30 GMT"), Some(90));
    assert_eq!(after(429, "QUOTA_EXCEEDED", "Sun, 22 Nov 2026 07:00:00 GMT"), Some(0));
    assert_eq!(after(429, "QUOTA_EXCEEDED", "soon"), Some(60));
    assert_eq!(after(503, "UNAVAILABLE", "120"), Some(120));
    assert_eq!(after(503, "UNAVAILABLE", "-5"), Some(10));
}

#[test]
fn strange_details_hide_no_others_and_nothing_panics() {
    let odd = json!([7, null, "x", {"@type": 5}, {"@type": BAD_REQUEST, "fieldViolations": "s3cret"}, {"@type": FCM, "errorCode": "UNREGISTERED"}]);
    assert!(line(404, &error("NOT_FOUND", "", &odd), &[], Some("t")).contains("deletes"));
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"error":"x"}"#,
        r#"{"error":{"details":{}}}"#,
        r#"{"error":{"details":[{"@type":7}]}}"#,
    ] {
        assert!(line(404, body, &[], Some("t")).starts_with("hold"), "{body}");
    }
    let deep = "[".repeat(60_000);
    assert!(line(404, &deep, &[], Some("t")).starts_with("hold"));
    let evil = coded("s3cret with spaces", "s3cret\n");
    assert!(
        line(403, &evil, &[], Some("t")).starts_with("hold Configuration/Project permission-denied PERMISSION_DENIED")
    );
}

#[test]
fn only_answers_about_our_token_are_unauthenticated() {
    let is = |body: &str| is_unauthenticated(StatusCode::UNAUTHORIZED, body.as_bytes());
    assert!(is("") && is("<html>") && is(&error("UNAUTHENTICATED", "", &json!([]))));
    assert!(!is(&coded("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")));
    assert!(!is(&error("", "", &json!([{"@type": APNS, "statusCode": 403}]))));
    assert!(!is_unauthenticated(StatusCode::FORBIDDEN, b""));
}
