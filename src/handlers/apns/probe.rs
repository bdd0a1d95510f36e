//! The pure parts of this provider, from bytes to what they mean, without a network or a clock: for fuzzing.

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use uuid::Uuid;

use super::feedback;
use super::fields::Fields;
use super::message::{self, NotSent};
use super::request::{self, Target};
use super::response::{self, Answered};
use crate::handlers::RecordForm;
use crate::handlers::record::About;
use crate::outcome::{Outcome, Refusal, Verdict};

/// The request that a record leads to at `now_ms` (ms since the epoch) for an app of this topic, or why it is not sent;
/// `None`: its expiry has passed.
pub fn request(
    record: &Bytes,
    now_ms: i64,
    topic: &str,
    identity: Uuid,
) -> Result<Request<Bytes>, Option<Box<Refusal>>> {
    let fields = Fields::read(record).map_err(Some)?;
    let push = message::parse(record, &fields, now_ms, topic, || identity).map_err(|not_sent| match not_sent {
        NotSent::Refused(refusal) => Some(refusal),
        NotSent::Expired => None,
    })?;
    let topic = HeaderValue::from_str(topic).expect("the caller's topic can stand in a header");
    let target = Target { authority: Authority::from_static("localhost"), topic };
    let request = request::build(&push, &target, HeaderValue::from_static("bearer"));
    Ok(request.map(|()| push.parts.body.clone()))
}

/// The verdict on an answer to a push to `token`.
pub fn verdict(status: StatusCode, headers: &HeaderMap, body: &[u8], token: &str) -> Verdict {
    response::understand(&Answered { status, headers, body, token, own_topic: false })
}

/// The feedback record of an outcome.
pub fn record(message: &[u8], outcome: &Outcome, identity: Uuid, form: RecordForm) -> Vec<u8> {
    let about = About { app: "game", hostname: "host", pusher_id: identity, redriven: false, consumed_at_s: 0, form };
    feedback::record(&Fields::read(message).unwrap_or_default(), outcome, &about)
}
