//! APNs as a [`Service`]: the provider token of a connection, the checks, the faults, the token's fate, in this order.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use parking_lot::{Mutex, RwLock};

use super::Stats;
use super::answer::{Decision, action, drawn, goaway, strange};
use super::check::{Passed, check};
use super::convention::{Fate, Odd};
use super::faults::{AnswerFault, Faults};
use super::provider_token::{Keys, Verified, verify};
use super::reason::Reason;
use crate::simulator::attempts::Attempts;
use crate::simulator::counters::Counts;
use crate::simulator::handle::Provider;
use crate::simulator::jwt::bearer;
use crate::simulator::ledger::{Ledger, serial_of};
use crate::simulator::levers::Levers;
use crate::simulator::service::{Action, Farewell, GoAway, Reply, Service};

/// Provider tokens remembered per connection.
const CACHED: usize = 64;
/// Provider tokens remembered by their hashes.
const REMEMBERED: usize = 1 << 20;

/// The stand-in for APNs.
#[derive(Debug)]
pub struct Apns {
    keys: Keys,
    topics: Vec<String>,
    seed: u64,
    faults: RwLock<Arc<Faults>>,
    ledger: Ledger,
    attempts: Attempts,
    /// Hashes of the provider tokens seen.
    provider_tokens: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// What APNs remembers per connection.
#[derive(Debug)]
pub struct Session {
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
    pub(super) fn new(keys: Keys, topics: Vec<String>, seed: u64, faults: Faults) -> Self {
        Apns {
            keys,
            topics,
            seed,
            faults: RwLock::new(Arc::new(faults)),
            ledger: Ledger::default(),
            attempts: Attempts::default(),
            provider_tokens: Mutex::default(),
            hasher: RandomState::new(),
        }
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
        let mut seen = self.provider_tokens.lock();
        if seen.len() < REMEMBERED {
            seen.insert(self.hasher.hash_one(token));
        }
        drop(seen);
        let verified = verify(token, &self.keys);
        if session.verified.len() >= CACHED {
            session.verified.clear();
        }
        session.verified.insert(Bytes::copy_from_slice(token), verified.clone());
        verified
    }

    /// What becomes of a request whose form and provider token are in order: the faults, the token's fate, the body.
    fn decide(&self, session: &mut Session, passed: Passed<'_>, faults: &Faults, now_ms: i64) -> Decision {
        if let Some(fault) = drawn(&mut session.random, faults, passed.topic, now_ms) {
            return fault;
        }
        let body = passed.body;
        match passed.fate {
            Fate::Refuse { reason, attempts, retry_after } if self.attempts.still(passed.device, attempts) => {
                let retry_after = retry_after.then_some(1);
                Decision::Error(AnswerFault { retry_after, ..AnswerFault::all(reason.status, reason.word) }, now_ms)
            }
            Fate::Odd { odd: Odd::Slow, attempts } if body.is_ok() => {
                Decision::Slow(Duration::from_millis(u64::from(attempts) * 10))
            }
            Fate::Odd { odd, attempts } if odd != Odd::Slow && self.attempts.still(passed.device, attempts) => {
                strange(odd)
            }
            _ => match body {
                Ok(()) => Decision::Accept,
                Err(reason) => Decision::Error(AnswerFault::all(reason.status, reason.word), now_ms),
            },
        }
    }
}

impl Service for Apns {
    type Session = Session;
    const BODY_READ: usize = 8 * 1024;
    const NEEDS_ALPN: bool = false;

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
        let every = |n: u64| n > 0 && session.requests.is_multiple_of(n);
        let (breaks, goes_away) = (every(faults.break_every), every(faults.goaway_every));
        // One whose connection breaks over it was processed, or was not.
        let is_processed = !breaks || session.random.bool();
        let accepted = is_processed && matches!(decision, Decision::Accept | Decision::Slow(_) | Decision::AnswerLost);
        let (id, serial) = (request.headers.get("apns-id"), serial_of(body));
        self.ledger.note(serial, id.map_or(&[][..], HeaderValue::as_bytes), accepted);

        let mut reply = Reply::new(Action::Silence);
        reply.accepted = serial.filter(|_| accepted);
        reply.after = Duration::from_millis(faults.processing_ms);
        if let Decision::Slow(more) = decision {
            reply.after += more;
        }
        reply.action = action(decision, id);
        if breaks {
            reply.action = Action::Break;
        } else if goes_away {
            reply.goaway = Some(goaway("Shutdown"));
        }
        steer_limit(session, &mut reply, authorized, &faults);
        reply
    }

    fn take_back(&self, serial: u64) {
        self.ledger.take_back(serial);
    }

    /// Words: jchambers/pushy issue 356 for the streams, Apple's table of reasons for the rest.
    fn farewell(&self, why: Farewell) -> GoAway {
        match why {
            Farewell::TooManyStreams => goaway("Maximum active streams violated for this endpoint"),
            Farewell::Idle => goaway("IdleTimeout"),
            Farewell::MaxAge | Farewell::TooManyPings => goaway("Shutdown"),
        }
    }
}

impl Provider for Apns {
    type Faults = Faults;
    type Stats = Stats;

    fn faults(&self) -> &RwLock<Arc<Faults>> {
        &self.faults
    }

    fn validate(faults: &Faults) -> Result<(), String> {
        faults.validate()
    }

    fn levers(faults: &Faults) -> Levers {
        faults.connection
    }

    fn goaway(reason: Option<&str>) -> GoAway {
        goaway(reason.unwrap_or("Shutdown"))
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn stats(&self, counts: Counts) -> Stats {
        let provider_tokens = self.provider_tokens.lock().len() as u64;
        Stats { counts, messages: self.ledger.sums(), provider_tokens }
    }

    fn forget(&self) {
        self.attempts.forget();
        self.provider_tokens.lock().clear();
        self.ledger.reset();
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
