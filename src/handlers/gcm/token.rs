//! The access token of one credential: fetched by one task for all who need it, well before the old one expires.
//!
//! - *Single flight.* Only [`keep_fresh`] fetches; whoever needs a token that is not there waits for it, and not long.
//! - *Early.* A token is replaced five minutes before its end (a short-lived one after three quarters of its life).
//! - *The old one is kept* while a refresh fails, to its end.
//! - *Another source* (new credentials) comes with its first token; what the old one may still give is not looked at.
//! - A token that FCM refuses before its time is replaced once; a young one that was never accepted is not, for another
//!   would fare no better.
//!
//! Fetching itself is the business of a [`Source`]; time is tokio's, so that tests can pass it.

mod fresh;
mod pace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

pub(super) use self::fresh::keep_fresh;
use self::pace::{pause_after, replace_after};
use crate::handlers::BoxFuture;
use crate::outcome::{Class, Refusal, Source as Where, Verdict};

/// Longest wait of a push for a token that is being fetched; then it waits without a task.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while one that FCM refused is being replaced: a fetch that fails leaves the old one in use.
const PATIENCE_WITH_FETCH: Duration = FETCH_TIMEOUT.saturating_add(SHORTEST_PAUSE).saturating_add(SHORTEST_PAUSE);
/// Longest wait for the source's answer.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest pause between two fetches.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Age from which a token that was never accepted is worth replacing when it is refused.
const OLD_ENOUGH: Duration = Duration::from_mins(1);

/// A fetched token.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// `Bearer <token>`, marked sensitive.
    pub(super) authorization: HeaderValue,
    /// How long it is good for, from when it was asked for.
    pub(super) lifetime: Duration,
}

/// Why no token was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchError {
    /// `Configuration` when the credentials are refused, `Provider` when the endpoint fails.
    pub(super) class: Class,
    /// For people; holds no secret.
    pub(super) detail: String,
    /// The endpoint's wish.
    pub(super) retry_after: Option<Duration>,
}

/// What tokens are fetched from.
pub(super) trait Source: Send + Sync {
    /// Asks once.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>>;
}

/// A token in use.
#[derive(Debug)]
pub(super) struct Token {
    /// `Bearer <token>`.
    pub(super) authorization: HeaderValue,
    born: Instant,
    expires: Instant,
    accepted: AtomicBool,
}

impl Token {
    /// FCM took it.
    pub(super) fn accepted(&self) {
        // Looked at first: one cache line is shared by all senders, and written once.
        if !self.accepted.load(Relaxed) {
            self.accepted.store(true, Relaxed);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Why the last fetch failed, and when the next one begins.
    trouble: Option<(Arc<FetchError>, Instant)>,
    /// Fetches that ended so far.
    fetches: u64,
    /// FCM refused the token: it is being replaced.
    refused: bool,
    /// Sources so far, but for the first.
    replaced: u64,
}

impl State {
    fn valid(&self, now: Instant) -> Option<&Arc<Token>> {
        self.token.as_ref().filter(|token| token.expires > now)
    }

    /// The token to send now; an error when there is none and waiting would not help, `None` when it may.
    fn ready(&self, now: Instant) -> Option<Result<Arc<Token>, Refusal>> {
        match (self.valid(now), &self.trouble) {
            (Some(token), _) if !self.refused => Some(Ok(token.clone())),
            (None, Some((error, next))) if !self.refused => Some(Err(no_token(error, next.duration_since(now)))),
            _ => None,
        }
    }
}

/// The token of one credential, shared by all threads.
pub(super) struct AccessToken {
    state: watch::Sender<State>,
    wanted: Notify,
    /// What tokens are fetched from; `None`: what [`keep_fresh`] began with.
    installed: watch::Sender<Option<Installed>>,
}

/// Another source, and when to ask it.
#[derive(Clone)]
struct Installed {
    source: Arc<dyn Source>,
    due: Instant,
    /// [`State::replaced`] since then.
    number: u64,
}

impl AccessToken {
    /// No token yet.
    pub(super) fn new() -> Self {
        AccessToken { state: watch::Sender::default(), wanted: Notify::new(), installed: watch::Sender::default() }
    }

    /// Whether there is a token to send with.
    pub(super) fn is_in_hand(&self) -> bool {
        self.state.borrow().valid(Instant::now()).is_some()
    }

    /// The token to send now. Waits a little for one that is being fetched.
    pub(super) async fn current(&self) -> Result<Arc<Token>, Refusal> {
        if let Some(ready) = self.state.borrow().ready(Instant::now()) {
            return ready;
        }
        // Rare and large: not to be a part of every push.
        Box::pin(self.settled(|state| state.ready(Instant::now()).is_some())).await
    }

    /// The token to send now, if there is one; waits for nothing.
    pub(super) fn at_hand(&self) -> Option<Arc<Token>> {
        self.state.borrow().ready(Instant::now())?.ok()
    }

    /// What to send instead of `refused`, which FCM does not take: `Ok(None)` when another would fare no better.
    pub(super) async fn instead_of(&self, refused: &Arc<Token>) -> Result<Option<Arc<Token>>, Refusal> {
        let before = self.state.borrow().fetches;
        let same = |state: &State| state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused));
        if same(&self.state.borrow()) {
            if !refused.accepted.load(Relaxed) && refused.born.elapsed() < OLD_ENOUGH {
                return Ok(None);
            }
            self.state.send_if_modified(|state| same(state) && !std::mem::replace(&mut state.refused, true));
            self.wanted.notify_one();
            let new = Box::pin(self.settled(|state| !same(state) || state.fetches > before)).await?;
            if Arc::ptr_eq(&new, refused) {
                return Err(self.trouble(Instant::now()));
            }
            return Ok(Some(new));
        }
        self.current().await.map(Some)
    }

    /// Waits until `done`, not long; then the token there is.
    async fn settled(&self, mut done: impl FnMut(&State) -> bool) -> Result<Arc<Token>, Refusal> {
        let mut state = self.state.subscribe();
        let is_replaced = state.borrow().refused && state.borrow().trouble.is_none();
        let patience = if is_replaced { PATIENCE_WITH_FETCH } else { PATIENCE };
        // An error here is a lapse of patience, or the end of the process: the token that is there decides.
        let _ = timeout(patience, state.wait_for(|state| done(state))).await;
        let now = Instant::now();
        // One that FCM refuses is no better for having been waited with.
        let token = Some(state.borrow()).filter(|state| !state.refused).and_then(|state| state.valid(now).cloned());
        token.ok_or_else(|| self.trouble(now))
    }

    fn trouble(&self, now: Instant) -> Refusal {
        match &self.state.borrow().trouble {
            Some((error, next)) => no_token(error, next.duration_since(now)),
            None => no_token(&FetchError::slow(), Duration::ZERO),
        }
    }

    /// Tokens come from `source` from now on, the first of which is this one.
    pub(super) fn install(&self, source: Arc<dyn Source>, fetched: Fetched, begun: Instant) {
        let due = begun + replace_after(fetched.lifetime, fastrand::u64(..));
        let mut number = 0;
        self.state.send_modify(|state| {
            state.replaced += 1;
            number = state.replaced;
            state.fetched(Ok(fetched), begun, due);
        });
        self.installed.send_replace(Some(Installed { source, due, number }));
    }

    /// Takes over what a fetch that began at `begun` came to, from source number `of`. Returns when the next one is due.
    fn take(&self, came: Result<Fetched, FetchError>, begun: Instant, failures: u32, of: u64) -> Instant {
        let (now, random) = (Instant::now(), fastrand::u64(..));
        let next = match &came {
            Ok(fetched) => begun + replace_after(fetched.lifetime, random),
            Err(error) => now + pause_after(error, failures, random),
        };
        let next = next.max(begun + SHORTEST_PAUSE);
        self.state.send_if_modified(|state| {
            let is_current = state.replaced == of;
            if is_current {
                state.fetched(came, begun, next);
            }
            is_current
        });
        next
    }
}

impl State {
    /// A fetch that began at `begun` came to this; the next one is due at `next`.
    fn fetched(&mut self, came: Result<Fetched, FetchError>, begun: Instant, next: Instant) {
        self.fetches += 1;
        self.refused = false;
        match came {
            Ok(Fetched { authorization, lifetime }) => {
                let (born, expires) = (Instant::now(), begun + lifetime);
                self.token = Some(Arc::new(Token { authorization, born, expires, accepted: AtomicBool::default() }));
                self.trouble = None;
            }
            Err(error) => self.trouble = Some((Arc::new(error), next)),
        }
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl FetchError {
    /// The endpoint fails.
    pub(super) fn endpoint(detail: impl Into<String>) -> Self {
        FetchError { class: Class::Provider, detail: detail.into(), retry_after: None }
    }

    /// The credentials are refused.
    pub(super) fn credentials(detail: impl Into<String>) -> Self {
        FetchError { class: Class::Configuration, detail: detail.into(), retry_after: None }
    }

    fn slow() -> Self {
        FetchError::endpoint("the token endpoint has not answered yet")
    }
}

/// A push without a token: it is nobody's fault but the endpoint's or the operator's, and costs no request.
fn no_token(error: &FetchError, next: Duration) -> Refusal {
    let (key, reason) = match error.class {
        Class::Configuration => ("credentials-refused", "CredentialsRefused"),
        _ => ("no-access-token", "NoAccessToken"),
    };
    Refusal {
        source: Where::Project,
        retry_after: Some(next),
        ..Refusal::local(error.class, key, reason, error.detail.clone())
    }
}

/// The verdict on a push without a token.
pub(super) fn verdict(refusal: Refusal) -> Verdict {
    match refusal.class {
        Class::Configuration => Verdict::Hold(refusal),
        _ => Verdict::Retry(refusal),
    }
}

#[cfg(test)]
mod tests;
