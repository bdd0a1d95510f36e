//! What must hold for any bytes from outside, by the kind of bytes. A fuzz target calls one of these with what it invents, and
//! an ordinary test (`tests/it/fuzz_corpus.rs`) calls them with the inputs that were worth keeping, in `corpus`.
#![allow(dead_code, unreachable_pub, reason = "each target uses one of them")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use pusher::feedback_listener::record::{Reading, read};
use pusher::handlers::{RecordForm, apns, gcm};
use pusher::http2::wire::Session;
use pusher::message::Platform;
use pusher::outcome::{Acceptance, Class, Outcome, Refusal, Verdict};
use pusher::queue::{map, topic as names};
use pusher::simulator::apns::check::check;
use pusher::simulator::apns::reason::Reason;
use pusher::simulator::fcm::json::Json;
use pusher::simulator::fcm::{form, rules, schema};
use serde_json::value::RawValue;
use uuid::Uuid;

/// An ordinary moment, ms since the epoch.
const NOW_MS: i64 = 1_800_000_000_000;
const TOPIC: &str = "com.example.game";
const ID: Uuid = Uuid::from_u128(0x7c1e_4c1b_6f3a_5d0e_9b52_8a4f_3c6d_21e7);
const FORMS: [RecordForm; 4] = [
    RecordForm { metadata: true, truncated: false },
    RecordForm { metadata: false, truncated: false },
    RecordForm { metadata: true, truncated: true },
    RecordForm { metadata: false, truncated: true },
];
/// The reasons that name a token, of both platforms.
const DEADLY: [&str; 6] = [
    "BadDeviceToken",
    "Unregistered",
    "DeviceTokenNotForTopic",
    "ExpiredToken",
    "DEVICE_UNREGISTERED",
    "BAD_REGISTRATION",
];
/// Most bytes of a record that goes without the notification: far below what any broker takes.
const TRUNCATED: usize = 128 * 1024;

/// A name that is read can be written again from what was read; others' topics are never read.
pub fn topic(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let platforms = [Platform("apns"), Platform("gcm")];
    let Some(parsed) = names::parse(name, &platforms) else { return };
    let tails = [String::new(), format!("-{}", parsed.lane.as_str()), format!("_{}", parsed.lane.as_str())];
    let written = ["-", "_"].iter().flat_map(|separator| {
        let base = format!("push-{}{separator}{}", parsed.app, parsed.platform);
        tails.iter().map(move |tail| format!("{base}{tail}"))
    });
    assert!(written.into_iter().any(|written| written == name), "{name:?} is not {parsed:?}");
    assert!(!parsed.app.is_empty() && !name.ends_with("feedbacks") && !name.starts_with("deadletters"));
}

/// What is sent costs no error answer that we could have foreseen; what is not sent has a reason; both have a record.
pub fn apns_message(data: &[u8]) {
    let record = Bytes::copy_from_slice(data);
    let refusal = match apns::probe::request(&record, NOW_MS, TOPIC, ID) {
        Ok(request) => {
            let (parts, body) = request.into_parts();
            match check(&parts, Ok(()), &body, &[]) {
                // Left to Apple: the token's form, what the payload holds, and a type of push that is newer than we are.
                Ok(_) | Err(Reason { word: "BadDeviceToken" | "InvalidPushType", .. }) => {}
                Err(reason) => panic!("APNs would say {reason:?}"),
            }
            None
        }
        Err(refusal) => refusal,
    };
    for outcome in outcomes(refusal) {
        for form in FORMS {
            judge_record(&apns::probe::record(&record, &outcome, ID, form), form);
        }
    }
}

/// The same for FCM, whose form and rules are known better: what is sent breaks none but that of the token.
pub fn gcm_message(data: &[u8]) {
    let refusal = match gcm::request_body(data, NOW_MS) {
        Ok(body) => {
            let body: Json = serde_json::from_slice(&body).expect("the body is JSON");
            // A field that is not known passes as it is: Google may have added it.
            let is_known = |wrong: &form::Violation| !wrong.description.contains("Cannot find field");
            assert!(!form::violations(&body, &schema::REQUEST).iter().any(is_known), "{body:?}");
            let message = body.get("message").expect("a message");
            match rules::check(message) {
                Ok(_) | Err(rules::Breach::Token) => {}
                // What else Google takes for a condition than its documents show is not known: none is refused here that may pass.
                Err(rules::Breach::Field(wrong)) if wrong.field == "message.condition" => {}
                Err(breach) => panic!("FCM would say {breach:?}"),
            }
            None
        }
        Err(refusal) => refusal,
    };
    for outcome in outcomes(refusal) {
        for form in FORMS {
            judge_record(&gcm::probe::record(data, &outcome, ID, form), form);
        }
    }
}

/// What can become of a message with this reason not to be sent.
fn outcomes(refusal: Option<Box<Refusal>>) -> Vec<Outcome> {
    let mut all = vec![Outcome::Delivered(Acceptance { status: 200, provider_id: None }), Outcome::Expired(None)];
    if let Some(refusal) = refusal {
        assert!(!refusal.key.is_empty() && !refusal.reason.is_empty() && !refusal.description.is_empty());
        assert!(matches!(refusal.class, Class::Message | Class::Token), "{refusal:?}");
        assert_eq!((refusal.status, &refusal.invalid_token), (0, &None));
        all.push(Outcome::Rejected(*refusal));
    }
    all
}

type Members = BTreeMap<String, Box<RawValue>>;

fn judge_record(record: &[u8], form: RecordForm) {
    // Member by member: what producers nest more deeply than this reader goes is passed on as it is.
    let value: Members = serde_json::from_slice(record).expect("a record is JSON");
    let metadata: Members = serde_json::from_str(value["metadata"].get()).expect("metadata is an object");
    assert_eq!(metadata["pusherId"].get(), format!("\"{ID}\""));
    assert_eq!(value.contains_key("truncated"), form.truncated);
    assert!(!form.truncated || record.len() <= TRUNCATED, "{} bytes", record.len());
}

/// An answer as text, so that people can write one: the status, a space and Retry-After if there is one, a line end, the body.
fn answer(data: &[u8]) -> Option<(StatusCode, HeaderMap, Cow<'_, [u8]>)> {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let head = std::str::from_utf8(&data[..end]).ok()?;
    let (status, wish) = head.split_once(' ').unwrap_or((head, ""));
    let status = StatusCode::from_u16(status.parse().ok()?).ok()?;
    let mut headers = HeaderMap::new();
    if let Some(wish) = HeaderValue::from_str(wish).ok().filter(|wish| !wish.is_empty()) {
        headers.insert(http::header::RETRY_AFTER, wish);
    }
    Some((status, headers, Cow::Borrowed(data.get(end + 1..).unwrap_or_default())))
}

pub fn apns_answer(data: &[u8]) {
    let Some((status, headers, body)) = answer(data) else { return };
    judge_verdict(status, &apns::probe::verdict(status, &headers, &body, "00ff"), &[400, 410]);
    assert_eq!(status == 200, is_delivery(&apns::probe::verdict(status, &headers, &body, "00ff")));
}

pub fn gcm_answer(data: &[u8]) {
    let Some((status, headers, body)) = answer(data) else { return };
    let verdict = gcm::probe::verdict(status, &headers, &body, "cXyz");
    judge_verdict(status, &verdict, &[400, 404]);
    assert!(status.is_success() || !is_delivery(&verdict));
}

fn is_delivery(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Resolved(Outcome::Delivered(_)))
}

/// Whatever an answer says: a token dies only by an answer that can say so, and what is a server's fault, or ours, is no
/// message's end.
fn judge_verdict(status: StatusCode, verdict: &Verdict, deadly: &[u16]) {
    let (Verdict::Resolved(Outcome::Rejected(refusal)) | Verdict::Retry(refusal) | Verdict::Hold(refusal)) = verdict
    else {
        assert!(is_delivery(verdict), "{verdict:?}");
        return;
    };
    assert_eq!(refusal.status, status.as_u16());
    assert!(!refusal.key.is_empty() && !refusal.reason.is_empty() && !refusal.description.is_empty());
    let is_final = matches!(verdict, Verdict::Resolved(_));
    assert!(!(is_final && status.is_server_error()), "{verdict:?}");
    if refusal.invalid_token.is_some() {
        assert!(is_final && deadly.contains(&status.as_u16()), "{verdict:?}");
    }
}

/// Metadata of anybody is refused or makes sense, and what makes sense is written as it was read.
pub fn offset_map(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(Some(read)) = map::decode(text) else { return };
    assert!(read.resolved.iter().all(|range| read.base <= range.start && range.start < range.end), "{read:?}");
    assert!(read.resolved.windows(2).all(|pair| pair[0].end < pair[1].start), "{read:?}");
    if let Some(written) = map::encode(&read).filter(|written| !written.is_empty()) {
        assert_eq!(map::decode(&written), Ok(Some(read)));
    }
}

/// A token dies only by a record that names it in so many words and does not forbid it; no platform reads another's record so.
pub fn feedback_record(data: &[u8]) {
    let members = serde_json::from_slice::<Members>(data).ok();
    for (platform, reason, token) in [("apns", "Reason", "DeviceToken"), ("gcm", "error", "from"), ("web", "", "")] {
        let dead = match read(Platform(platform), data) {
            Reading::Dead(dead) => dead,
            Reading::Other => continue,
            Reading::Unreadable => {
                assert!(members.is_none(), "JSON objects are read");
                continue;
            }
        };
        assert!(!dead.token.is_empty() && dead.token.len() <= 4096);
        // What the record has besides may be no JSON that this reader takes.
        let Some(members) = &members else { continue };
        let text = |name: &str| serde_json::from_str::<String>(members[name].get()).expect("a text");
        assert_eq!(text(token), dead.token);
        assert!(DEADLY.contains(&text(reason).as_str()), "{}", text(reason));
        let marks = members.get("metadata").filter(|raw| raw.get().starts_with('{'));
        let marks = marks.map(|raw| serde_json::from_str::<Members>(raw.get()).expect("what may forbid it is read"));
        let says = |word: &str| marks.iter().flatten().any(|(name, raw)| name == "deleteToken" && raw.get() == word);
        let is_ours = marks.as_ref().is_some_and(|marks| marks.contains_key("pusherId"));
        assert!(!says("false") && (!is_ours || says("true")), "{marks:?}");
    }
}

/// Whatever a peer says ends in the same way wherever it is cut, and is answered with no more than its bound.
pub fn http2_frames(data: &[u8]) {
    const READS: &[&str] = &["apns-id", "retry-after"];
    let begun = || {
        let mut session = Session::new(READS);
        let keys = [0, 100, 20_000].map(|len| {
            let request = Request::post("https://localhost/3/device/abc").body(()).expect("a request");
            session.begin(tokio::time::Instant::now(), request, vec![b'x'; len].into()).expect("nothing forbids it yet")
        });
        (session, keys)
    };
    let ends = |(mut session, keys): (Session, [usize; 3])| {
        let ends = keys.map(|key| match session.poll_end(key, &Context::from_waker(Waker::noop())) {
            Poll::Ready(end) => format!("{end:?}"),
            Poll::Pending => "none yet".to_owned(),
        });
        let left = session.take_out(Vec::new());
        (ends, left, session.limit(), session.window(), session.goaway())
    };
    let (mut whole, mut cut) = (begun(), begun());
    let all = whole.0.receive(data);
    let middle = data.len() / 2;
    let parts = cut.0.receive(&data[..middle]).and_then(|taken| {
        assert!(taken <= middle);
        cut.0.receive(&data[taken..]).map(|more| taken + more)
    });
    assert_eq!(all, parts);
    let (all, parts) = (ends(whole), ends(cut));
    assert_eq!(all, parts);
    // The preface, the requests, and no more than a frame of 17 bytes for each of the peer's, of nine at least.
    assert!(all.1.len() < 21_000 + 2 * data.len());
}
