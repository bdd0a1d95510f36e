//! From what is decided about a message to what goes out. Pure but for the dice, which the caller holds.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason as H2Reason;
use http::{HeaderValue, Response};

use super::convention::Odd;
use super::faults::Faults;
use super::problem::Problem;
use crate::simulator::service::{Action, GoAway};

/// What becomes of one message.
#[derive(Debug)]
pub(super) enum Decision {
    Accept,
    Slow(Duration),
    Refuse(Box<Problem>),
    AnswerLost,
    Truncated,
    Stall,
    NoName,
    Other(Action),
}

impl Decision {
    pub(super) fn accepts(&self) -> bool {
        use Decision::{Accept, AnswerLost, Slow, Stall, Truncated};
        matches!(self, Accept | Slow(_) | AnswerLost | Truncated | Stall)
    }
}

impl From<Problem> for Decision {
    fn from(problem: Problem) -> Self {
        Decision::Refuse(Box::new(problem))
    }
}

/// The fault that the dice choose, if they do.
pub(super) fn drawn(random: &mut fastrand::Rng, faults: &Faults, project: &str) -> Option<Decision> {
    if faults.project.as_deref().is_some_and(|only| only != project) {
        return None;
    }
    let mut hit = |share: f64| share > 0.0 && random.f64() < share;
    if let Some(answer) = faults.answers.iter().find(|answer| hit(answer.share)) {
        let problem = Problem::numbered(answer.status, answer.variant, project)?;
        return Some(Decision::from(match answer.retry_after {
            Some(seconds) => problem.after(seconds),
            None => problem,
        }));
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
    match odd {
        Odd::Slow => Decision::Accept,
        Odd::Silence => Decision::Other(Action::Silence),
        Odd::Refused => Decision::Other(Action::Reset(H2Reason::REFUSED_STREAM)),
        Odd::Reset => Decision::Other(Action::Reset(H2Reason::INTERNAL_ERROR)),
        Odd::Break => Decision::Other(Action::Break),
        Odd::GoAway => Decision::Other(Action::Unprocessed(goaway("max_age"))),
        Odd::UnknownCode => Problem::unknown_code().into(),
        Odd::Truncated => Decision::Truncated,
        Odd::AnswerLost => Decision::AnswerLost,
        Odd::NoName => Decision::NoName,
        Odd::Stall => Decision::Stall,
    }
}

/// A GOAWAY with the code that goes with these words (bloomberg/pushiko docs/comparisons.md; firebase/firebase-admin-node
/// issue 2943).
pub(super) fn goaway(words: &str) -> GoAway {
    let code = match words {
        "exceeded_max_concurrent_streams" => H2Reason::PROTOCOL_ERROR,
        "too_many_pings" => H2Reason::ENHANCE_YOUR_CALM,
        _ => H2Reason::NO_ERROR,
    };
    GoAway { code: code.into(), debug: Bytes::copy_from_slice(words.as_bytes()) }
}

/// Writes a decision as an answer. `name`: the message's name, should it be accepted.
pub(super) fn action(decision: Decision, name: &str, now_ms: i64) -> Action {
    let accepted = || format!("{{\n  \"name\": \"{name}\"\n}}\n");
    let ok = |body: String| Action::Answer(success(), Bytes::from(body), Cow::Borrowed(""));
    match decision {
        Decision::Accept | Decision::Slow(_) => ok(accepted()),
        Decision::Truncated => ok(accepted()[..12].to_owned()),
        Decision::NoName => ok("{}\n".to_owned()),
        Decision::Stall => Action::Stall(success()),
        Decision::AnswerLost => Action::Reset(H2Reason::INTERNAL_ERROR),
        Decision::Other(action) => action,
        Decision::Refuse(problem) => {
            let (response, body) = problem.written(now_ms);
            Action::Answer(response, body, problem.name)
        }
    }
}

fn success() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json; charset=UTF-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_no_errors() {
        let say = |decision| match action(decision, "projects/p/messages/1", 0) {
            Action::Answer(response, body, _) => {
                format!("{} {}", response.status().as_u16(), String::from_utf8_lossy(&body))
            }
            other => format!("{other:?}"),
        };
        assert_eq!(say(Decision::Accept), "200 {\n  \"name\": \"projects/p/messages/1\"\n}\n");
        assert_eq!(say(strange(Odd::Truncated)), "200 {\n  \"name\": ");
        assert_eq!(say(strange(Odd::NoName)), "200 {}\n");
        assert!(say(strange(Odd::UnknownCode)).contains("UNHEARD_OF_CODE"));
        assert!(say(strange(Odd::Stall)).starts_with("Stall"));
    }

    #[test]
    fn goaway_has_the_code_of_its_words() {
        let codes = ["exceeded_max_concurrent_streams", "too_many_pings", "max_age", "session_timed_out"]
            .map(|words| goaway(words).code);
        assert_eq!(codes, [1, 0xb, 0, 0]);
    }
}
