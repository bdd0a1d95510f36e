//! Messages as producers write them, for the demo, the tests and the benchmark: one JSON object per line, ready for
//! `kafka-console-producer`, each with a serial and with what must become of it.
//!
//! The same settings give the same lines, on every machine: no clock, no global randomness. A platform is a [`Shape`];
//! [`apns`] and
//! [`gcm`] are two. Tokens steer the simulators' answers by their text (see `simulator::steering`).

pub mod apns;
pub mod gcm;
pub mod produce;

use fastrand::Rng;

/// What a message is made to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// In order.
    Delivered,
    /// To a token that is dead.
    Unregistered,
    /// To a token that the provider does not know.
    BadToken,
    /// Its `push_expiry` is past.
    Expired,
    /// Cannot be sent: not JSON, no token, and the like.
    Malformed,
    /// Refused once with 429, then delivered.
    LimitedOnce,
    /// Refused once with 503, then delivered.
    UnavailableOnce,
}

impl Kind {
    /// All kinds, in the order of [`Mix`]'s weights.
    pub const ALL: [Kind; 7] = [
        Kind::Delivered,
        Kind::Unregistered,
        Kind::BadToken,
        Kind::Expired,
        Kind::Malformed,
        Kind::LimitedOnce,
        Kind::UnavailableOnce,
    ];
}

/// Messages of one job (campaign), one after the other.
const JOB: u64 = 10_000;

/// The job of a message.
fn job(app: &str, serial: u64) -> String {
    format!("{app}-{:08}", serial / JOB)
}

/// What must become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expected {
    /// Accepted by the provider; `after` names the refusal that comes first, if one does.
    Delivered {
        /// The provider's word for the refusal that is met once.
        after: Option<&'static str>,
    },
    /// Refused by the provider, with this word.
    Rejected(&'static str),
    /// Dropped for its expiry, never sent.
    Expired,
    /// Refused before it is sent; the word says how it is broken.
    Malformed(&'static str),
}

impl Expected {
    /// The key with which the worker names what becomes of the message, in metrics, feedback and its ledger; `None`: it is
    /// delivered.
    pub fn reason_key(self) -> Option<&'static str> {
        Some(match self {
            Expected::Delivered { .. } => return None,
            Expected::Expired => "expired",
            Expected::Rejected("Unregistered") => "unregistered",
            Expected::Rejected("BadDeviceToken") => "bad-device-token",
            Expected::Rejected("UNREGISTERED") => "DEVICE_UNREGISTERED",
            Expected::Rejected("INVALID_ARGUMENT") => "BAD_REGISTRATION",
            Expected::Malformed("cut off" | "not json") => "malformed-json",
            Expected::Malformed("not an object") => "not-an-object",
            Expected::Malformed("no token" | "empty token") => "missing-device-token",
            Expected::Malformed("no target" | "empty target") => "missing-target",
            Expected::Malformed("token not a string" | "target not a string") => "wrong-type",
            Expected::Malformed("token cannot stand in a path") => "malformed-device-token",
            Expected::Rejected(other) | Expected::Malformed(other) => other,
        })
    }
}

/// A message with what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The record's value, without a line end.
    pub line: String,
    /// Its number; in the payload as a member named `serial`, except in malformed ones.
    pub serial: u64,
    /// What must become of it.
    pub expected: Expected,
}

/// How often each kind comes: weights, relative to their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(pub [u32; 7]);

impl Default for Mix {
    /// A realistic campaign: 1,000 messages hold some of everything.
    fn default() -> Self {
        Mix([900, 30, 10, 20, 10, 20, 10])
    }
}

impl Mix {
    /// Nothing but messages that are delivered at once.
    pub const CALM: Mix = Mix([1, 0, 0, 0, 0, 0, 0]);

    fn draw(self, rng: &mut Rng) -> Kind {
        let total: u64 = self.0.iter().map(|weight| u64::from(*weight)).sum();
        let mut ticket = rng.u64(0..total.max(1));
        for (kind, weight) in Kind::ALL.into_iter().zip(self.0) {
            match ticket.checked_sub(u64::from(weight)) {
                Some(rest) => ticket = rest,
                None => return kind,
            }
        }
        Kind::Delivered
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many messages.
    pub count: u64,
    /// Serial of the first one.
    pub first_serial: u64,
    /// What the dice start from.
    pub seed: u64,
    /// Bytes of a line, reached by a longer text; lines are never shorter than their fields need (about 400).
    pub size: usize,
    /// How often each kind comes.
    pub mix: Mix,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { count: 1_000, first_serial: 0, seed: 1, size: 420, mix: Mix::default() }
    }
}

/// How a platform writes a message.
pub trait Shape {
    /// Writes one message of a kind. Draws from `rng` alone.
    fn write(&self, rng: &mut Rng, serial: u64, kind: Kind, size: usize) -> (String, Expected);
}

/// The messages, one after the other.
#[derive(Debug)]
pub struct Generator<S> {
    shape: S,
    settings: Settings,
    next: u64,
}

impl<S: Shape> Generator<S> {
    /// Begins anew.
    pub fn new(shape: S, settings: Settings) -> Self {
        Generator { shape, settings, next: 0 }
    }
}

impl<S: Shape> Iterator for Generator<S> {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        if self.next == self.settings.count {
            return None;
        }
        let serial = self.settings.first_serial + self.next;
        self.next += 1;
        // Seeded per message: a serial's message does not depend on where generation began.
        let mut rng = Rng::with_seed(self.settings.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ serial);
        let kind = self.settings.mix.draw(&mut rng);
        let (line, expected) = self.shape.write(&mut rng, serial, kind, self.settings.size);
        Some(Generated { line, serial, expected })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.settings.count - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

/// A text of this length.
fn words(rng: &mut Rng, length: usize) -> String {
    const WORDS: [&str; 8] = ["your ", "heroes ", "wait ", "at ", "the ", "gate ", "of ", "dawn "];
    let mut text = String::with_capacity(length + 8);
    while text.len() < length {
        text.push_str(WORDS[rng.usize(..WORDS.len())]);
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_mix_is_kept_and_calm_is_calm() {
        let mut counts = HashMap::<Kind, u32>::new();
        let mut rng = Rng::with_seed(7);
        for _ in 0..100_000 {
            *counts.entry(Mix::default().draw(&mut rng)).or_default() += 1;
        }
        for (kind, weight) in Kind::ALL.into_iter().zip(Mix::default().0) {
            let expected = weight * 100;
            assert!(counts[&kind].abs_diff(expected) < expected / 5 + 200, "{kind:?}: {}", counts[&kind]);
        }
        assert!((0..1000).all(|_| Mix::CALM.draw(&mut rng) == Kind::Delivered));
        assert_eq!(Mix([0; 7]).draw(&mut rng), Kind::Delivered);
    }
}
