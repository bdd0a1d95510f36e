//! From what is decided about a push to what goes out. Pure but for the dice, which the caller holds.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason as H2Reason;
use http::{HeaderValue, Response};

use super::convention::Odd;
use super::faults::{AnswerFault, BodyKind, Faults};
use crate::simulator::service::{Action, GoAway};

/// What becomes of one push.
#[derive(Debug)]
pub(super) enum Decision {
    Accept,
    Slow(Duration),
    /// An answer, and the time that a 410 gives as the token's end.
    Error(AnswerFault, i64),
    AnswerLost,
    Other(Action),
}

/// The fault that the dice choose, if they do, for a push to this topic.
pub(super) fn drawn(random: &mut fastrand::Rng, faults: &Faults, topic: &str, now_ms: i64) -> Option<Decision> {
    if faults.topic.as_deref().is_some_and(|only| only != topic) {
        return None;
    }
    let mut hit = |share: f64| share > 0.0 && random.f64() < share;
    if let Some(answer) = faults.answers.iter().find(|answer| hit(answer.share)) {
        return Some(Decision::Error(answer.clone(), now_ms));
    }
    if hit(faults.reset_share) {
        Some(Decision::Other(Action::Reset(H2Reason::INTERNAL_ERROR)))
    } else if hit(faults.refuse_share) {
        Some(Decision::Other(Action::Reset(H2Reason::REFUSED_STREAM)))
    } else if hit(faults.silent_share) {
        Some(Decision::Other(Action::Silence))
    } else if hit(faults.answer_lost_share) {
        Some(Decision::AnswerLost)
    } else {
        None
    }
}

pub(super) fn strange(odd: Odd) -> Decision {
    let answer = |status, reason, body| Decision::Error(AnswerFault { body, ..AnswerFault::all(status, reason) }, 0);
    match odd {
        Odd::Slow => Decision::Accept,
        Odd::Silence => Decision::Other(Action::Silence),
        Odd::Refused => Decision::Other(Action::Reset(H2Reason::REFUSED_STREAM)),
        Odd::Reset => Decision::Other(Action::Reset(H2Reason::INTERNAL_ERROR)),
        Odd::Break => Decision::Other(Action::Break),
        Odd::GoAway => Decision::Other(Action::Unprocessed(goaway("Shutdown"))),
        Odd::NoBody => answer(500, "", BodyKind::Empty),
        Odd::Html => answer(503, "", BodyKind::Html),
        Odd::AnswerLost => Decision::AnswerLost,
        Odd::UnknownReason => answer(400, "UnheardOfReason", BodyKind::Json),
    }
}

/// A GOAWAY with `NO_ERROR` and the reason as JSON, as APNs sends it (jchambers/pushy issue 865, sideshow/apns2 issue 93).
pub(super) fn goaway(reason: &str) -> GoAway {
    GoAway { code: 0, debug: Bytes::from(serde_json::json!({ "reason": reason }).to_string()) }
}

/// Writes a decision as an answer under the request's `apns-id`.
pub(super) fn action(decision: Decision, id: Option<&HeaderValue>) -> Action {
    match decision {
        Decision::Accept | Decision::Slow(_) => {
            Action::Answer(response(200, id, None), Bytes::new(), Cow::Borrowed(""))
        }
        Decision::Error(answer, ended_at) => {
            let body = error_body(&answer, ended_at);
            let mut response = response(answer.status, id, answer.retry_after);
            let kind = match answer.body {
                BodyKind::Json => Some("application/json; charset=utf-8"),
                BodyKind::Html => Some("text/html"),
                BodyKind::Empty => None,
            };
            if let Some(kind) = kind {
                response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
            }
            Action::Answer(response, body, answer.reason)
        }
        Decision::AnswerLost => Action::Reset(H2Reason::INTERNAL_ERROR),
        Decision::Other(action) => action,
    }
}

fn error_body(answer: &AnswerFault, ended_at: i64) -> Bytes {
    match answer.body {
        BodyKind::Empty => Bytes::new(),
        BodyKind::Html => Bytes::from_static(b"<html><body><h1>503 Service Unavailable</h1></body></html>"),
        BodyKind::Json if answer.status == 410 => {
            Bytes::from(serde_json::json!({ "reason": answer.reason, "timestamp": ended_at }).to_string())
        }
        BodyKind::Json => Bytes::from(serde_json::json!({ "reason": answer.reason }).to_string()),
    }
}

fn response(status: u16, id: Option<&HeaderValue>, retry_after: Option<u32>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let id = id.cloned().or_else(|| HeaderValue::try_from(uuid::Uuid::new_v4().to_string()).ok());
    if let Some(id) = id {
        response.headers_mut().insert("apns-id", id);
    }
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::apns::reason::Reason;
    use std::fmt::Write as _;

    #[test]
    fn every_answer_as_it_goes_out() {
        let id = HeaderValue::from_static("0f5d1e3b-1111-2222-3333-444455556666");
        let errors = Reason::ALL.iter().map(|reason| AnswerFault::all(reason.status, reason.word));
        let odd = [Odd::NoBody, Odd::Html, Odd::UnknownReason].into_iter().map(strange);
        let limited = AnswerFault { retry_after: Some(7), ..AnswerFault::all(429, "TooManyRequests") };
        let decisions = [Decision::Accept, Decision::Error(limited, 0)].into_iter();
        let mut seen = String::new();
        for decision in decisions.chain(errors.map(|error| Decision::Error(error, 1_700_000_000_000))).chain(odd) {
            let Action::Answer(response, body, _) = action(decision, Some(&id)) else { panic!("an answer") };
            assert_eq!(response.headers()["apns-id"], id);
            let mut headers = response.headers().clone();
            headers.remove("apns-id");
            let body = String::from_utf8_lossy(&body);
            writeln!(seen, "{} {headers:?} {body}", response.status().as_u16()).expect("a string");
        }
        insta::assert_snapshot!(seen);
    }
}
