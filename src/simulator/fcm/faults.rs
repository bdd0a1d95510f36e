//! What can be switched: the JSON of `PUT /faults`, and the same as Rust values.

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::simulator::levers::Levers;

/// How the simulator misbehaves. The default is a faithful, healthy FCM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Provider-blind levers: connections, TLS, windows, round trip time, PINGs, age.
    pub connection: Levers,
    /// The only project that meets what `answers` and the shares say; unset: all do.
    pub project: Option<String>,
    /// Answers given to a share of the messages that are authorized, tried one after the other.
    pub answers: Vec<AnswerFault>,
    /// Share whose stream is reset with `INTERNAL_ERROR`, not accepted (0 to 1).
    pub reset_share: f64,
    /// Share reset with `REFUSED_STREAM` (0 to 1).
    pub refuse_share: f64,
    /// Share taken in and never answered, not accepted (0 to 1).
    pub silent_share: f64,
    /// Share accepted whose answer is lost: the stream is reset (0 to 1).
    pub answer_lost_share: f64,
    /// GOAWAY (`max_age`) after every so many requests of a connection; 0: never.
    pub goaway_every: u64,
    /// The connection breaks at every so many requests of it, that one unanswered; 0: never.
    pub break_every: u64,
    /// Stream limit from the next request on; 0: as the connection began.
    pub streams: u32,
    /// Time from a request to its answer, ms.
    pub processing_ms: u64,
    /// Messages a minute that each project may send; 0: any.
    pub quota_per_minute: u64,
    /// The token endpoint.
    pub oauth: OAuthFaults,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            connection: levers(),
            project: None,
            answers: Vec::new(),
            reset_share: 0.0,
            refuse_share: 0.0,
            silent_share: 0.0,
            answer_lost_share: 0.0,
            goaway_every: 0,
            break_every: 0,
            streams: 0,
            processing_ms: 0,
            quota_per_minute: 600_000,
            oauth: OAuthFaults::default(),
        }
    }
}

/// Connections as FCM's are (observed by bloomberg/pushiko, docs/comparisons.md): 100 streams, a PING after each answer, an
/// empty last DATA frame, GOAWAY after an hour, after four idle minutes and at the third PING without a request.
fn levers() -> Levers {
    Levers {
        initial_streams: 100,
        stream_window: 1 << 20,
        connection_window: 1 << 20,
        ping_after_answer: true,
        empty_last_frame: true,
        max_age_ms: 3_600_000,
        idle_ms: 240_000,
        most_pings: 3,
        ..Levers::default()
    }
}

/// An answer given on request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFault {
    /// HTTP status.
    pub status: u16,
    /// Which of the answers of this status, as device tokens call them.
    #[serde(default)]
    pub variant: u8,
    /// Share of the messages that get it (0 to 1).
    #[serde(default = "all")]
    pub share: f64,
    /// `retry-after`, s, in place of the answer's own.
    #[serde(default)]
    pub retry_after: Option<u32>,
}

impl AnswerFault {
    /// This answer for all messages.
    pub fn all(status: u16, variant: u8) -> Self {
        AnswerFault { status, variant, share: 1.0, retry_after: None }
    }
}

/// How the token endpoint misbehaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuthFaults {
    /// Nobody listens there; connections that are open already get no answer.
    pub refuse_connections: bool,
    /// What it answers in place of a token.
    pub answer: Option<OAuthAnswer>,
    /// To how many requests, counted from when the faults were set; 0: all.
    pub times: u32,
    /// Time to an answer, ms.
    pub delay_ms: u64,
    /// The life of a token as told, s.
    pub expires_in_s: u32,
    /// Its life in truth, s; 0: as told.
    pub lifetime_s: u32,
    /// How far the endpoint's clock is ahead of ours, s.
    pub clock_ahead_s: i64,
}

impl Default for OAuthFaults {
    fn default() -> Self {
        OAuthFaults {
            refuse_connections: false,
            answer: None,
            times: 0,
            delay_ms: 0,
            expires_in_s: 3599,
            lifetime_s: 0,
            clock_ahead_s: 0,
        }
    }
}

/// Answers of the token endpoint that are no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OAuthAnswer {
    /// 400 `invalid_grant`.
    InvalidGrant,
    /// 400 `invalid_scope`.
    InvalidScope,
    /// 401 `invalid_client`.
    InvalidClient,
    /// 401 `unauthorized_client`.
    UnauthorizedClient,
    /// 401 `disabled_client`.
    DisabledClient,
    /// 500 `internal_failure`.
    Internal,
    /// 503 `temporarily_unavailable`.
    Unavailable,
    /// 502 with HTML.
    Html,
    /// 200 without an access token.
    NoToken,
    /// Never an answer.
    Silence,
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
        let wrong = shares.into_iter().chain(of_answers).find(|(_, share)| !(0.0..=1.0).contains(share));
        if let Some((name, share)) = wrong {
            return Err(format!("{name}: {share} must be from 0 to 1"));
        }
        let unknown = |answer: &&AnswerFault| Problem::numbered(answer.status, answer.variant, "").is_none();
        match self.answers.iter().find(unknown) {
            Some(AnswerFault { status, variant, .. }) => {
                Err(format!("answers: there is no variant {variant} of status {status}; docs/simulator.md lists them"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::control::over_defaults;
    use serde_json::json;

    #[test]
    fn json_names_only_what_differs() {
        let faults: Faults = over_defaults(json!({
            "connection": { "rtt_ms": 30 },
            "answers": [{ "status": 429, "variant": 1, "share": 0.5 }],
            "oauth": { "answer": "invalid_grant", "times": 2 },
        }))
        .expect("faults");
        assert_eq!((faults.connection.rtt_ms, faults.connection.initial_streams), (30, 100), "FCM's limit, not APNs's");
        assert_eq!((faults.oauth.answer, faults.oauth.expires_in_s), (Some(OAuthAnswer::InvalidGrant), 3599));
        assert_eq!(faults.validate(), Ok(()));
        assert!(over_defaults::<Faults>(json!({ "connection": { "rtt": 30 } })).is_err());
    }

    #[test]
    fn values_are_checked() {
        let wrong = Faults { silent_share: -0.5, ..Faults::default() };
        assert_eq!(wrong.validate(), Err("silent_share: -0.5 must be from 0 to 1".into()));
        let wrong = Faults { answers: vec![AnswerFault::all(410, 0)], ..Faults::default() };
        let rule = "answers: there is no variant 0 of status 410; docs/simulator.md lists them";
        assert_eq!(wrong.validate(), Err(rule.into()));
    }
}
