//! The pure parts of this provider, from bytes to what they mean, without a network: for fuzzing. What a record leads to is
//! [`super::request_body`].

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::feedback;
use super::fields::Fields;
use super::response::{self, Answered};
use crate::handlers::RecordForm;
use crate::handlers::record::About;
use crate::outcome::{Outcome, Verdict};

/// The verdict on an answer to a push to `token`.
pub fn verdict(status: StatusCode, headers: &HeaderMap, body: &[u8], token: &str) -> Verdict {
    let now = || SystemTime::UNIX_EPOCH;
    response::understand(&Answered { status, headers, body, token: Some(token), now, mostly_limited: false })
}

/// The feedback record of an outcome.
pub fn record(message: &[u8], outcome: &Outcome, identity: Uuid, form: RecordForm) -> Vec<u8> {
    let about = About { app: "game", hostname: "host", pusher_id: identity, redriven: false, consumed_at_s: 0, form };
    feedback::record(&Fields::read(message).unwrap_or_default(), outcome, &about)
}
