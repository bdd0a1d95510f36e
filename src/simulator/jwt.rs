//! The little about bearer tokens that providers agree on.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// The token in an `authorization` header; `None`: another scheme, or no token.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// One part of a JWT. Either alphabet, padded or not: real clients send all of these and the providers take them.
pub fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE.decode(part).or_else(|_| STANDARD.decode(part)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_either_case() {
        assert_eq!(bearer(b"bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Bearer  abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"basic abc"), None);
        assert_eq!(bearer(b"bearer "), None);
    }

    #[test]
    fn base64_of_either_alphabet_padded_or_not() {
        for text in ["-_8", "-_8=", "+/8", "+/8="] {
            assert_eq!(decode(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(decode("ä"), None);
    }
}
