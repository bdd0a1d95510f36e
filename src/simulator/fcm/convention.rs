//! How the text of a target steers its answer, so that a producer needs no control call: [`Code`] says the form, `dead` +
//! variant + status + attempts + anything, `Problem::numbered` the errors; docs/simulator.md has the table.

use super::problem::CODES;
use crate::simulator::steering::Code;

/// What befalls the messages to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepted.
    Accept,
    /// An error answer for the first `attempts` (0: always).
    Refuse {
        /// HTTP status.
        status: u16,
        /// Which of the answers of this status.
        variant: u8,
        /// How many attempts meet it; 0: all.
        attempts: u8,
    },
    /// Something else for the first `attempts` (0: always).
    Odd {
        /// What.
        odd: Odd,
        /// How many attempts meet it; 0: all. For [`Odd::Slow`]: the delay in units of 10 ms.
        attempts: u8,
    },
}

/// Misbehaviour towards one target: `dead` + its number + `000`.
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
    /// `5`: GOAWAY (`max_age`) that leaves this stream out.
    GoAway,
    /// `6`: 400 with an error code that nobody knows.
    UnknownCode,
    /// `7`: 200 whose JSON ends in the middle; accepted.
    Truncated,
    /// `8`: accepted, and the stream is reset instead of answered: sent again it is a repeat.
    AnswerLost,
    /// `9`: 200 without a `name`; not accepted.
    NoName,
    /// `a`: the header of a 200 and never its body; accepted.
    Stall,
}

const ODD: [Odd; 11] = [
    Odd::Slow,
    Odd::Silence,
    Odd::Refused,
    Odd::Reset,
    Odd::Break,
    Odd::GoAway,
    Odd::UnknownCode,
    Odd::Truncated,
    Odd::AnswerLost,
    Odd::NoName,
    Odd::Stall,
];

/// Reads a target's text.
pub fn read(target: &str) -> Fate {
    let Some(Code { variant, status, attempts }) = Code::read(target) else { return Fate::Accept };
    if status == 0 {
        return ODD.get(usize::from(variant)).map_or(Fate::Accept, |&odd| Fate::Odd { odd, attempts });
    }
    if CODES.contains(&(status, variant)) { Fate::Refuse { status, variant, attempts } } else { Fate::Accept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!(read("dead040402x"), Fate::Refuse { status: 404, variant: 0, attempts: 2 });
        assert_eq!(read("dead5429"), Fate::Refuse { status: 429, variant: 5, attempts: 0 });
        assert_eq!(read("dead000014:APA91b"), Fate::Odd { odd: Odd::Slow, attempts: 20 });
        assert_eq!(read("DEADA000"), Fate::Odd { odd: Odd::Stall, attempts: 0 });
        for plain in ["cXyz:APA91b", "news", "dead0410", "deadf404", "deadb000", "dead"] {
            assert_eq!(read(plain), Fate::Accept, "{plain}");
        }
    }
}
