//! What happened to a message: the worker's vocabulary for answers and failures. Depends on nothing of ours.
//!
//! Two levels. A *verdict* is what one attempt came to; an [`Outcome`] is what the message came to, and there is exactly
//! one of it per message. Providers translate their answers into a [`Refusal`] and its [`Class`]; everything after that
//! (retry, metrics, feedback, token deletion) works on these words and knows no provider.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Whose fault a refusal is, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The message itself cannot be sent. Resolved at once.
    Message,
    /// The device token cannot be sent to. Resolved at once.
    Token,
    /// The provider or the way to it failed. Retried until the message expires, or its budget is spent while others pass.
    Provider,
    /// Our credentials or configuration are refused: the operator's fault, which must not burn the backlog. Held.
    Configuration,
}

/// Where a refusal was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// By us, before a stream was spent.
    Local,
    /// On the way: connect, TLS, a lost connection, a timeout.
    Network,
    /// By the provider's answer about this one message or device.
    Device,
    /// By the provider's answer about the whole project, key or service (5xx, quota, credentials).
    Project,
}

/// A device token that the provider called dead.
#[derive(Clone, PartialEq, Eq)]
pub struct InvalidToken {
    /// The token as the producer wrote it.
    pub token: String,
    /// Since when it is dead, ms since the epoch, when the provider said so (APNs 410).
    pub unregistered_at_ms: Option<i64>,
}

impl fmt::Debug for InvalidToken {
    /// Tokens are personal data: they never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidToken").field("unregistered_at_ms", &self.unregistered_at_ms).finish_non_exhaustive()
    }
}

/// Why an attempt did not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is.
    pub class: Class,
    /// Who noticed.
    pub source: Source,
    /// HTTP status of the answer; 0 when there was none.
    pub status: u16,
    /// The provider's word, verbatim (`Unregistered`); ours for local and network failures (`ConnectionLost`).
    pub reason: Cow<'static, str>,
    /// Short key for metric tags and feedback, from a closed set (`unregistered`).
    pub key: &'static str,
    /// For people: what it means and, for a fault of ours, what to do. Holds no token and no payload.
    pub description: Cow<'static, str>,
    /// The provider's wish for the next attempt (Retry-After); a floor, never a ceiling.
    pub retry_after: Option<Duration>,
    /// The request may have been accepted although no answer came: sending again may show the push twice.
    pub maybe_delivered: bool,
    /// The token to delete, when the answer names it as dead.
    pub invalid_token: Option<InvalidToken>,
    /// The identity under which the provider knows the request (`apns-id`), when there is one.
    pub provider_id: Option<String>,
}

impl Refusal {
    /// A refusal made by us before anything was sent.
    pub fn local(
        class: Class,
        key: &'static str,
        reason: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Refusal {
            class,
            source: Source::Local,
            status: 0,
            reason: Cow::Borrowed(reason),
            key,
            description: description.into(),
            retry_after: None,
            maybe_delivered: false,
            invalid_token: None,
            provider_id: None,
        }
    }

    /// A failure on the way to the provider; `maybe_delivered` when the request had left us and no answer came.
    pub fn network(
        key: &'static str,
        reason: &'static str,
        description: impl Into<Cow<'static, str>>,
        maybe_delivered: bool,
    ) -> Self {
        Refusal {
            source: Source::Network,
            maybe_delivered,
            ..Refusal::local(Class::Provider, key, reason, description)
        }
    }
}

/// The provider took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// HTTP status, 200.
    pub status: u16,
    /// The identity that the provider answered with (`apns-id`, FCM's message name).
    pub provider_id: Option<String>,
}

/// The one final thing that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted by the provider.
    Delivered(Acceptance),
    /// Refused for good, by the provider or by our own checks: class `Message` or `Token`.
    Rejected(Refusal),
    /// Its expiry passed before it could be delivered. Holds the last refusal when it had been tried.
    Expired(Option<Box<Refusal>>),
    /// Its device has had its pushes of this minute: not sent, on purpose.
    Limited(Refusal),
    /// Another message with the same content went to the same device lately: not sent, on purpose.
    Deduplicated(Refusal),
    /// Its job was stopped by order: not sent any more, on purpose.
    Cancelled(Refusal),
    /// Given up: a bug of ours (`internal`) or an exhausted budget.
    Failed(Refusal),
}

impl Outcome {
    /// The end of a message whose job is stopped.
    pub fn cancelled() -> Self {
        let description = "its job was stopped by order (pusher job stop): not sent, or not again";
        Outcome::Cancelled(Refusal::local(Class::Message, "cancelled", "Cancelled", description))
    }

    /// The reason's key, the `reason` tag of `failed`; `None` for a delivery.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Outcome::Delivered(_) => None,
            Outcome::Rejected(refusal)
            | Outcome::Limited(refusal)
            | Outcome::Deduplicated(refusal)
            | Outcome::Cancelled(refusal)
            | Outcome::Failed(refusal) => Some(refusal.key),
            Outcome::Expired(_) => Some("expired"),
        }
    }

    /// The token that this outcome calls dead, if it does.
    pub fn invalid_token(&self) -> Option<&InvalidToken> {
        match self {
            Outcome::Rejected(refusal) => refusal.invalid_token.as_ref(),
            _ => None,
        }
    }
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Final.
    Resolved(Outcome),
    /// The provider's or the network's fault: again later, the same message under the same identity.
    Retry(Refusal),
    /// The operator's fault: again when it is mended; slowly, and charged only while others of its app pass.
    Hold(Refusal),
    /// Not sent because the worker may not send it any more (shutdown, revoked partition): not resolved, not committed.
    Released,
}

/// One attempt's verdict with what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What it came to.
    pub verdict: Verdict,
    /// Requests that left us in this attempt: 0 for a local refusal, 2 when one was resent at once.
    pub requests: u32,
    /// From the last request's first byte to its answer.
    pub round_trip: Duration,
}

impl Attempt {
    /// An attempt that ended before a request left us.
    pub fn local(verdict: Verdict) -> Self {
        Attempt { verdict, requests: 0, round_trip: Duration::ZERO }
    }
}
