//! How the text of a device token steers its answer, so that a producer needs no control call.
//!
//! `dead` + one digit + three digits + two hex digits + anything: the three digits are a status, the first one numbers its
//! reasons from 0 in the order of [`Reason::ALL`], and the two hex digits say for how many attempts (`00` or absent: for ever;
//! then 200). `dead0410…` is unregistered; `dead042901…` is refused once with 429. Status `000` stands for what is no answer
//! at all: see [`Fate`]. Any other token of hex digits, of any even length, is accepted. docs/simulator.md has the table.

use super::reason::Reason;
use crate::simulator::steering::Code;

/// What befalls the pushes to one device token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepted.
    Accept,
    /// An error answer for the first `attempts` (0: always).
    Refuse {
        /// The answer.
        reason: Reason,
        /// How many attempts meet it; 0: all.
        attempts: u8,
        /// Whether it carries `retry-after: 1`.
        retry_after: bool,
    },
    /// Something else for the first `attempts` (0: always).
    Odd {
        /// What.
        odd: Odd,
        /// How many attempts meet it; 0: all. For [`Odd::Slow`]: the delay in units of 10 ms.
        attempts: u8,
    },
}

/// Misbehaviour towards one token: `dead` + its number + `000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// `0`: accepted, the answer comes later by the two hex digits times 10 ms.
    Slow,
    /// `1`: never answered, not accepted.
    Silence,
    /// `2`: `RST_STREAM` `REFUSED_STREAM`, not processed.
    Refused,
    /// `3`: `RST_STREAM` `INTERNAL_ERROR`, not accepted.
    Reset,
    /// `4`: the connection breaks, not accepted.
    Break,
    /// `5`: GOAWAY (`Shutdown`) that leaves this stream out.
    GoAway,
    /// `6`: 500 without a body.
    NoBody,
    /// `7`: 503 with HTML.
    Html,
    /// `8`: accepted, and the stream is reset instead of answered: sent again it is a repeat.
    AnswerLost,
    /// `9`: 400 with a reason that nobody knows.
    UnknownReason,
}

const ODD: [Odd; 10] = [
    Odd::Slow,
    Odd::Silence,
    Odd::Refused,
    Odd::Reset,
    Odd::Break,
    Odd::GoAway,
    Odd::NoBody,
    Odd::Html,
    Odd::AnswerLost,
    Odd::UnknownReason,
];

/// Statuses with a variant beyond their reasons: the first reason with `retry-after: 1`.
const WITH_RETRY_AFTER: [u16; 2] = [429, 503];

/// Reads a device token; `None` when it is not hex digits of an even number. Case does not matter.
pub fn read(token: &str) -> Option<Fate> {
    let bytes = token.as_bytes();
    if bytes.is_empty() || bytes.len() % 2 == 1 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(Code::read(token).and_then(fate).unwrap_or(Fate::Accept))
}

fn fate(Code { variant, status, attempts }: Code) -> Option<Fate> {
    let variant = usize::from(variant);
    if status == 0 {
        return ODD.get(variant).map(|&odd| Fate::Odd { odd, attempts });
    }
    if let Some(reason) = Reason::numbered(status, variant) {
        return Some(Fate::Refuse { reason, attempts, retry_after: false });
    }
    let reason = Reason::numbered(status, 0).filter(|_| variant == 2 && WITH_RETRY_AFTER.contains(&status))?;
    Some(Fate::Refuse { reason, attempts, retry_after: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_token_and_ordinary_tokens_are_accepted() {
        for reason in Reason::ALL {
            let variant = Reason::ALL.iter().filter(|r| r.status == reason.status).position(|r| r == reason);
            let token = format!("DEAD{:x}{:03}0201", variant.expect("listed"), reason.status);
            let expected = Fate::Refuse { reason: *reason, attempts: 2, retry_after: false };
            assert_eq!(read(&token), Some(expected), "{token}");
        }
        for plain in ["00", "deadbeef", &"ab".repeat(32), &"de".repeat(100), "dead", "deadf410", "dead0999"] {
            assert_eq!(read(plain), Some(Fate::Accept), "{plain}");
        }
        for bad in ["", "0", "xyz1", "dead0410g0", "ab cd1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn attempts_odd_fates_and_retry_after() {
        let once = Fate::Refuse { reason: Reason::TooManyRequests, attempts: 1, retry_after: false };
        assert_eq!(read("dead042901ff"), Some(once));
        let patient = Fate::Refuse { reason: Reason::ServiceUnavailable, attempts: 0, retry_after: true };
        assert_eq!(read("dead2503"), Some(patient));
        assert_eq!(read("dead800003"), Some(Fate::Odd { odd: Odd::AnswerLost, attempts: 3 }));
        assert_eq!(read("deada000"), Some(Fate::Accept), "no such misbehaviour");
    }
}
