//! One attempt: an access token, a place on a connection, the gate, the request, what the answer means.
//!
//! Sent again at once is only what was certainly not processed (above GOAWAY's last stream, `REFUSED_STREAM`), a few times,
//! and what was refused for our access token, once, with a new one. Everything else is for the retry policy: it waits without
//! holding a stream. FCM has no identity for a request: what may have been processed and is sent again can show twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;

use super::message::Push;
use super::quota::LimitedShare;
use super::request::{self, Target};
use super::response::{self, Answered};
use super::token::{self, AccessToken, Token};
use crate::clock;
use crate::handlers::Gate;
use crate::handlers::not_sent::kept_back;
use crate::handlers::unanswered::{failed, was_turned_away};
use crate::http2::{Answer, Pool};
use crate::outcome::{Attempt, Outcome, Refusal, Verdict};

/// Requests of one attempt. A GOAWAY and a refused stream in a row are ordinary; more are for the retry policy.
const MOST_REQUESTS: u32 = 4;
/// An alarm about the project's keys for other services is repeated after this long.
const ALARM_AGAIN: Duration = Duration::from_hours(1);

/// Sends the pushes of one app over the connections of its project.
pub(super) struct Client {
    pub(super) app: Arc<str>,
    pub(super) pool: Pool,
    pub(super) token: Arc<AccessToken>,
    pub(super) target: Target,
    /// How much of what the project sends is too much; shared by all senders and by the project's apps.
    pub(super) limited: Arc<LimitedShare>,
    /// When the last alarm about the project's keys was raised; shared by all senders.
    pub(super) alarmed: Arc<Mutex<Option<Instant>>>,
}

/// What comes after one request.
enum Next {
    /// The attempt is over.
    Done(Verdict),
    /// It was not processed: again at once.
    Again,
    /// The access token was refused and replaced: again with the new one.
    Renewed,
}

impl Client {
    /// One attempt.
    pub(super) async fn send(&self, push: &Push<'_>, gate: &dyn Gate) -> Attempt {
        let (mut requests, mut round_trip) = (0, Duration::ZERO);
        let mut renewed = false;
        loop {
            if let Err(refusal) = self.token.current().await {
                return Attempt { verdict: token::verdict(refusal), requests, round_trip };
            }
            let slot = match self.pool.acquire().await {
                Ok(slot) => slot,
                Err(error) => return Attempt { verdict: failed(&error), requests, round_trip },
            };
            // A place can be waited for longer than a token lives, and a token must not be waited for on a place.
            let Some(token) = self.token.at_hand() else { continue };
            if let Some(verdict) = kept_back(gate, push.expires_at_ms) {
                return Attempt { verdict, requests, round_trip };
            }
            let request = request::build(&self.target, token.authorization.clone());
            requests += 1;
            let result = slot.send(request, push.body.clone()).await;
            round_trip = result.as_ref().map_or_else(|error| error.after, |answer| answer.round_trip);
            let may_resend = requests < MOST_REQUESTS;
            let next = match &result {
                Ok(answer) => self.answered(answer, push, &token, !renewed).await,
                Err(error) if may_resend && was_turned_away(error) => Next::Again,
                Err(error) => Next::Done(failed(error)),
            };
            match next {
                Next::Done(verdict) => return Attempt { verdict, requests, round_trip },
                Next::Again => {}
                Next::Renewed => renewed = true,
            }
        }
    }

    async fn answered(&self, answer: &Answer, push: &Push<'_>, sent_with: &Arc<Token>, may_renew: bool) -> Next {
        if !response::is_unauthenticated(answer.status, &answer.body) {
            sent_with.accepted();
        } else if may_renew {
            match self.token.instead_of(sent_with).await {
                Ok(Some(_)) => return Next::Renewed,
                Ok(None) => {}
                Err(refusal) => return Next::Done(token::verdict(Refusal { status: 401, ..refusal })),
            }
        }
        let verdict = response::understand(&Answered {
            status: answer.status,
            headers: &answer.headers,
            body: &answer.body,
            token: push.token.as_deref(),
            mostly_limited: self.limited.note(answer.status == StatusCode::TOO_MANY_REQUESTS),
            now: clock::now,
        });
        if response::is_third_party(&verdict) {
            self.alarm(&verdict);
        }
        Next::Done(verdict)
    }

    /// Pushes to iOS or browsers fail until a person acts, and nothing waits for that person.
    fn alarm(&self, verdict: &Verdict) {
        let mut alarmed = self.alarmed.lock();
        if alarmed.is_some_and(|last| last.elapsed() < ALARM_AGAIN) {
            return;
        }
        *alarmed = Some(Instant::now());
        if let Verdict::Resolved(Outcome::Rejected(refusal)) = verdict {
            tracing::error!(alarm = true, app = %self.app, reason = %refusal.description, "Firebase cannot push to another service for this project; Android goes on");
        }
    }
}
