//! The part of a target's text that steers its answer: `dead` + variant + status + attempts + anything.

/// What a steering text says. What it means is each provider's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// One hex digit that tells answers of the same status apart.
    pub variant: u8,
    /// Three digits; 0: no plain answer.
    pub status: u16,
    /// Two hex digits: for how many attempts; 0 or absent: for ever.
    pub attempts: u8,
}

impl Code {
    /// Reads a target; `None` when it does not steer. Case does not matter.
    pub fn read(target: &str) -> Option<Code> {
        let (magic, rest) = target.as_bytes().split_at_checked(4)?;
        if !magic.eq_ignore_ascii_case(b"dead") {
            return None;
        }
        let code = std::str::from_utf8(rest.get(..4)?).ok()?;
        let variant = char::from(rest[0]).to_digit(16)? as u8;
        let status = code[1..].bytes().all(|digit| digit.is_ascii_digit()).then(|| code[1..].parse().ok())??;
        let two = rest.get(4..6).and_then(|two| std::str::from_utf8(two).ok());
        let two = two.filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let attempts = two.and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or(0);
        Some(Code { variant, status, attempts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn magic_variant_status_attempts() {
        let code = |variant, status, attempts| Some(Code { variant, status, attempts });
        assert_eq!(Code::read("dead0410"), code(0, 410, 0));
        assert_eq!(Code::read("DEADA4290Fxyz"), code(10, 429, 15));
        assert_eq!(Code::read("dead2503-x"), code(2, 503, 0), "no attempts: for ever");
        for plain in ["", "dead", "dead041", "deadbeef", "deadx404", "dead0+04", "ead0404", "de\u{e4}d0404"] {
            assert_eq!(Code::read(plain), None, "{plain}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(dead)?.{0,12}") {
            let _ = Code::read(&text);
        }
    }
}
