//! One attempt: a place on a connection, the gate, the request, what the answer means.
//!
//! Sent again at once, under the same `apns-id`, is only what was certainly not processed (above GOAWAY's last stream,
//! `REFUSED_STREAM`), a few times; what was answered with `ExpiredProviderToken`, once, with a new token; and what was
//! refused for a key that another has replaced meanwhile. Everything else is for the retry policy: it waits without holding a
//! stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;

use super::message::Push;
use super::request::{self, Target};
use super::response::{self, Answered};
use super::token::{Now, ProviderToken, Signed};
use crate::handlers::Gate;
use crate::handlers::not_sent::kept_back;
use crate::handlers::unanswered::{failed, was_turned_away};
use crate::http2::{Answer, Pool, Slot};
use crate::outcome::{Attempt, Verdict};

/// Requests of one attempt. A GOAWAY and a refused stream in a row are ordinary; more are for the retry policy.
const MOST_REQUESTS: u32 = 4;
/// Held pushes ask again on new connections, for Apple binds a connection to the topics that the key had at its first push
/// (Apple: Establishing a token-based connection to APNs). Not more often, since other apps share them.
const RENEW_CONNECTIONS_EVERY: Duration = Duration::from_mins(10);

/// Sends the pushes of one app over the connections of its key.
pub(super) struct Client {
    pub(super) pool: Pool,
    pub(super) token: Arc<ProviderToken>,
    pub(super) target: Target,
    /// The clocks that tokens age by.
    pub(super) clock: fn() -> Now,
    /// When the connections were last retired for a held push; shared by the apps of the pool.
    pub(super) renewed: Arc<Mutex<Option<Instant>>>,
}

/// What comes after one request.
#[derive(Debug)]
enum Next {
    /// The attempt is over.
    Done(Verdict),
    /// It was not processed: again at once.
    Again,
    /// The token was refused as expired: again with a new one.
    Renewed,
}

impl Client {
    /// One attempt.
    pub(super) async fn send(&self, push: &Push<'_>, gate: &dyn Gate) -> Attempt {
        let (mut requests, mut round_trip) = (0, Duration::ZERO);
        let mut renewed = false;
        loop {
            let slot = match self.pool.acquire().await {
                Ok(slot) => slot,
                Err(error) => return Attempt { verdict: failed(&error), requests, round_trip },
            };
            let Some(authorization) = self.authorization(&slot) else { continue };
            if let Some(verdict) = kept_back(gate, push.expires_at_ms) {
                return Attempt { verdict, requests, round_trip };
            }
            let request = request::build(push, &self.target, authorization.clone());
            requests += 1;
            let result = slot.send(request, push.parts.body.clone()).await;
            round_trip = result.as_ref().map_or_else(|error| error.after, |answer| answer.round_trip);
            let may_resend = requests < MOST_REQUESTS;
            let next = match &result {
                Ok(answer) => self.answered(answer, push, &authorization, !renewed, may_resend),
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

    /// What to send on this connection; `None`: it is for a key that another has replaced, and no more pushes go there.
    fn authorization(&self, slot: &Slot) -> Option<HeaderValue> {
        let Signed { authorization, generation, .. } = self.token.current((self.clock)());
        if slot.generation() < generation {
            // Apple ties a connection to the key that it began with.
            self.pool.renew(generation);
            return None;
        }
        Some(authorization)
    }

    fn answered(
        &self,
        answer: &Answer,
        push: &Push<'_>,
        sent_with: &HeaderValue,
        may_renew: bool,
        may_resend: bool,
    ) -> Next {
        if may_renew && response::is_expired_provider_token(answer.status, &answer.body) {
            answer.connection.retire();
            if self.token.after_expired(sent_with, (self.clock)()) {
                return Next::Renewed;
            }
        }
        if may_resend && answer.status == StatusCode::FORBIDDEN && self.token.is_replaced(sent_with) {
            return Next::Again;
        }
        let verdict = response::understand(&Answered {
            status: answer.status,
            headers: &answer.headers,
            body: &answer.body,
            token: &push.token,
            own_topic: push.topic.is_some(),
        });
        self.mind_connections(answer, &verdict);
        Next::Done(verdict)
    }

    fn mind_connections(&self, answer: &Answer, verdict: &Verdict) {
        match verdict {
            Verdict::Retry(refusal) if response::spoils_connection(refusal) => answer.connection.retire(),
            Verdict::Hold(_) => {
                let mut renewed = self.renewed.lock();
                if renewed.is_none_or(|last| last.elapsed() >= RENEW_CONNECTIONS_EVERY) {
                    *renewed = Some(Instant::now());
                    drop(renewed);
                    self.pool.retire_all();
                }
            }
            _ => {}
        }
    }
}
