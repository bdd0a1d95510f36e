//! APNs as a [`Service`]: the provider token of a connection, the checks, the faults, the token's fate, in this order.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use parking_lot::{Mutex, RwLock};

use super::answer::{Decision, action, drawn, goaway, strange};
use super::check::{Passed, check};
use super::convention::{Fate, Odd};
use super::faults::{AnswerFault, Faults};
use super::provider_token::{Keys, Verified, bearer, verify};
use super::reason::Reason;
use crate::simulator::ledger::{Ledger, serial_of};
use crate::simulator::service::{Action, Reply, Service};

/// Provider tokens remembered per connection.
const CACHED: usize = 64;
/// Device tokens and provider tokens remembered by their hashes.
const REMEMBERED: usize = 1 << 20;

/// The stand-in for APNs.
#[derive(Debug)]
pub(crate) struct Apns {
    pub(crate) keys: Keys,
    pub(crate) topics: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) faults: RwLock<Arc<Faults>>,
    pub(crate) ledger: Ledger,
    seen: Mutex<Seen>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Seen {
    /// Attempts so far, of device tokens that count them.
    attempts: HashMap<u64, u8>,
    provider_tokens: HashSet<u64>,
}

/// What APNs remembers per connection.
#[derive(Debug)]
pub(crate) struct Session {
    random: fastrand::Rng,
    requests: u64,
    verified: HashMap<Bytes, Option<Verified>>,
    team: Option<String>,
    /// The provider token in use and since when, s.
    current: Option<(HeaderValue, i64)>,
    /// Whether the stream limit has been raised.
    raised: bool,
}

impl Apns {
    pub(crate) fn new(keys: Keys, topics: Vec<String>, seed: u64, faults: Faults) -> Self {
        Apns {
            keys,
            topics,
            seed,
            faults: RwLock::new(Arc::new(faults)),
            ledger: Ledger::default(),
            seen: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Different provider tokens seen, valid or not.
    pub(crate) fn provider_tokens(&self) -> u64 {
        self.seen.lock().provider_tokens.len() as u64
    }

    pub(crate) fn forget(&self) {
        *self.seen.lock() = Seen::default();
        self.ledger.reset();
    }

    /// Judges the provider token of a request.
    fn authorize(&self, session: &mut Session, request: &Parts, faults: &Faults, now_s: i64) -> Result<(), Reason> {
        let header = request.headers.get("authorization").ok_or(Reason::MissingProviderToken)?;
        let token = bearer(header.as_bytes()).ok_or(Reason::MissingProviderToken)?;
        let verified = self.verified(session, token).ok_or(Reason::InvalidProviderToken)?;
        if faults.rejected_keys.iter().any(|key| key == "*" || *key == verified.key_id) {
            return Err(Reason::InvalidProviderToken);
        }
        if session.team.as_ref().is_some_and(|team| *team != verified.team_id) {
            return Err(Reason::InvalidProviderToken);
        }
        verified.age(now_s, faults.token_max_age_s)?;
        match &session.current {
            Some((current, _)) if current == header => {}
            Some((_, since)) if now_s - since < faults.token_update_interval_s => {
                return Err(Reason::TooManyProviderTokenUpdates);
            }
            _ => session.current = Some((header.clone(), now_s)),
        }
        if session.team.is_none() {
            session.team = Some(verified.team_id);
        }
        Ok(())
    }

    /// The token's contents, verified once per connection.
    fn verified(&self, session: &mut Session, token: &[u8]) -> Option<Verified> {
        if let Some(known) = session.verified.get(token) {
            return known.clone();
        }
        let mut seen = self.seen.lock();
        if seen.provider_tokens.len() < REMEMBERED {
            seen.provider_tokens.insert(self.hasher.hash_one(token));
        }
        drop(seen);
        let verified = verify(token, &self.keys);
        if session.verified.len() >= CACHED {
            session.verified.clear();
        }
        session.verified.insert(Bytes::copy_from_slice(token), verified.clone());
        verified
    }

    /// Whether this attempt is among the first `attempts` to a device token (0: it always is).
    fn still(&self, device: &str, attempts: u8) -> bool {
        if attempts == 0 {
            return true;
        }
        let mut seen = self.seen.lock();
        let key = self.hasher.hash_one(device.as_bytes());
        if seen.attempts.len() >= REMEMBERED && !seen.attempts.contains_key(&key) {
            return false;
        }
        let so_far = seen.attempts.entry(key).or_default();
        let still = *so_far < attempts;
        *so_far += u8::from(still);
        still
    }

    /// What becomes of a request whose form and provider token are in order: the faults, the token's fate, the body.
    fn decide(&self, session: &mut Session, passed: Passed<'_>, faults: &Faults, now_ms: i64) -> Decision {
        if let Some(fault) = drawn(&mut session.random, faults, now_ms) {
            return fault;
        }
        let body = passed.body;
        match passed.fate {
            Fate::Refuse { reason, attempts, retry_after } if self.still(passed.device, attempts) => {
                let retry_after = retry_after.then_some(1);
                Decision::Error(AnswerFault { retry_after, ..AnswerFault::all(reason.status, reason.word) }, now_ms)
            }
            Fate::Odd { odd: Odd::Slow, attempts } if body.is_ok() => {
                Decision::Slow(Duration::from_millis(u64::from(attempts) * 10))
            }
            Fate::Odd { odd, attempts } if odd != Odd::Slow && self.still(passed.device, attempts) => strange(odd),
            _ => match body {
                Ok(()) => Decision::Accept,
                Err(reason) => Decision::Error(AnswerFault::all(reason.status, reason.word), now_ms),
            },
        }
    }
}

impl Service for Apns {
    type Session = Session;

    fn open(&self, number: u64) -> Session {
        Session {
            random: fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            requests: 0,
            verified: HashMap::new(),
            team: None,
            current: None,
            raised: false,
        }
    }

    fn serve(&self, session: &mut Session, request: &Parts, body: &[u8], now_ms: i64) -> Reply {
        let faults = Arc::clone(&self.faults.read());
        session.requests += 1;
        let authorized = self.authorize(session, request, &faults, now_ms / 1000);
        let decision = match check(request, authorized, body, &self.topics) {
            Ok(passed) => self.decide(session, passed, &faults, now_ms),
            Err(reason) => Decision::Error(AnswerFault::all(reason.status, reason.word), now_ms),
        };
        let id = request.headers.get("apns-id");
        let accepted = matches!(decision, Decision::Accept | Decision::Slow(_) | Decision::AnswerLost);
        self.ledger.note(serial_of(body), id.map_or(&[][..], HeaderValue::as_bytes), accepted);

        let mut reply = Reply::new(Action::Silence);
        reply.after = Duration::from_millis(faults.processing_ms);
        if let Decision::Slow(more) = decision {
            reply.after += more;
        }
        reply.action = action(decision, id);
        let every = |n: u64| n > 0 && session.requests.is_multiple_of(n);
        if every(faults.break_every) {
            reply.action = Action::Break;
        } else if every(faults.goaway_every) {
            reply.goaway = Some(goaway("Shutdown"));
        }
        steer_limit(session, &mut reply, authorized, &faults);
        reply
    }

    /// jchambers/pushy issue 356.
    fn too_many_streams(&self) -> Bytes {
        Bytes::from_static(b"{\"reason\":\"Maximum active streams violated for this endpoint\"}")
    }
}

/// One stream until the first valid provider token (Apple), and again after an expired one (jchambers/pushy issue 476).
fn steer_limit(session: &mut Session, reply: &mut Reply, authorized: Result<(), Reason>, faults: &Faults) {
    match authorized {
        Ok(()) if !session.raised => {
            session.raised = true;
            reply.limit = (faults.streams > 0).then_some(faults.streams);
        }
        Err(Reason::ExpiredProviderToken) if faults.wedge_on_expired => {
            session.raised = false;
            reply.limit = Some(1);
            reply.refuse_others = true;
        }
        _ => {}
    }
}
