//! What can be switched: the JSON of `PUT /faults`, and the same as Rust values.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::simulator::levers::Levers;

/// How the simulator misbehaves. The default is a faithful, healthy APNs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Provider-blind levers: connections, TLS, windows, round trip time.
    pub connection: Levers,
    /// The only topic (bundle id) whose pushes meet what `answers` and the shares say; unset: all do.
    pub topic: Option<String>,
    /// Answers given to a share of the pushes that are in order, tried one after the other.
    pub answers: Vec<AnswerFault>,
    /// Share of the pushes in order whose stream is reset with `INTERNAL_ERROR`, not accepted (0 to 1).
    pub reset_share: f64,
    /// Share reset with `REFUSED_STREAM` (0 to 1).
    pub refuse_share: f64,
    /// Share taken in and never answered, not accepted (0 to 1).
    pub silent_share: f64,
    /// Share accepted whose answer is lost: the stream is reset (0 to 1).
    pub answer_lost_share: f64,
    /// GOAWAY (`Shutdown`) after every so many requests of a connection; 0: never.
    pub goaway_every: u64,
    /// The connection breaks at every so many requests of it, that one unanswered; 0: never.
    pub break_every: u64,
    /// Key ids that are revoked; `*`: all. Their pushes get 403 `InvalidProviderToken`.
    pub rejected_keys: Vec<String>,
    /// Stream limit after the first valid provider token; 0: not raised.
    pub streams: u32,
    /// Time from a request to its answer, ms; costs the client no window and no SETTINGS.
    pub processing_ms: u64,
    /// Oldest `iat` of a provider token, s.
    pub token_max_age_s: i64,
    /// Two provider tokens on one connection must be this far apart, s; 0: no limit.
    pub token_update_interval_s: i64,
    /// An expired provider token wedges its connection: limit 1, other streams `REFUSED_STREAM`, until a valid one comes.
    pub wedge_on_expired: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            connection: Levers::default(),
            topic: None,
            answers: Vec::new(),
            reset_share: 0.0,
            refuse_share: 0.0,
            silent_share: 0.0,
            answer_lost_share: 0.0,
            goaway_every: 0,
            break_every: 0,
            rejected_keys: Vec::new(),
            streams: 1000,
            processing_ms: 0,
            token_max_age_s: 3600,
            token_update_interval_s: 20 * 60,
            wedge_on_expired: true,
        }
    }
}

/// An answer given on request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFault {
    /// Status, 400 to 599.
    pub status: u16,
    /// The reason's word; anything goes.
    #[serde(default)]
    pub reason: Cow<'static, str>,
    /// Share of the pushes that get it (0 to 1).
    #[serde(default = "all")]
    pub share: f64,
    /// `retry-after`, s.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// What the body is.
    #[serde(default)]
    pub body: BodyKind,
}

impl AnswerFault {
    /// This answer for all pushes.
    pub fn all(status: u16, reason: &'static str) -> Self {
        AnswerFault { status, reason: Cow::Borrowed(reason), share: 1.0, retry_after: None, body: BodyKind::Json }
    }
}

/// The body of an error answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyKind {
    /// `{"reason": …}`, as APNs does.
    #[default]
    Json,
    /// None.
    Empty,
    /// HTML, as a proxy on the way does.
    Html,
}

fn all() -> f64 {
    1.0
}

impl Faults {
    /// What is wrong with the values, named for people.
    pub fn validate(&self) -> Result<(), String> {
        let shares = [
            ("reset_share", self.reset_share),
            ("refuse_share", self.refuse_share),
            ("silent_share", self.silent_share),
            ("answer_lost_share", self.answer_lost_share),
        ];
        let of_answers = self.answers.iter().map(|answer| ("answers.share", answer.share));
        if let Some((name, share)) =
            shares.into_iter().chain(of_answers).find(|(_, share)| !(0.0..=1.0).contains(share))
        {
            return Err(format!("{name}: {share} must be from 0 to 1"));
        }
        match self.answers.iter().find(|answer| !(400..600).contains(&answer.status)) {
            Some(answer) => Err(format!("answers.status: {} must be from 400 to 599", answer.status)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_only_what_differs() {
        let text = r#"{"answers":[{"status":429,"reason":"TooManyRequests","share":0.5,"retry_after":2}],"connection":{"rtt_ms":30}}"#;
        let faults: Faults = serde_json::from_str(text).expect("faults");
        assert_eq!(faults.answers[0].retry_after, Some(2));
        assert_eq!(faults.connection.rtt_ms, 30);
        assert_eq!(faults.streams, 1000, "the rest is as by default");
        assert_eq!(faults.validate(), Ok(()));
        assert!(serde_json::from_str::<Faults>(r#"{"anwsers":[]}"#).is_err());
        let wrong = Faults { reset_share: 1.5, ..Faults::default() };
        assert_eq!(wrong.validate(), Err("reset_share: 1.5 must be from 0 to 1".into()));
        let wrong = Faults { answers: vec![AnswerFault::all(200, "")], ..Faults::default() };
        assert!(wrong.validate().is_err());
    }
}
