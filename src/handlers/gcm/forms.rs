//! Forms of texts that protobuf's JSON prescribes, and what its parsers refuse in any text.

use super::message::LONGEST_TTL;

/// Deepest nesting that protobuf's JSON parsers follow is 100; the body around a message takes some of it.
const DEEPEST: usize = 90;

/// `3.5s`: seconds with up to nine digits of a fraction, of either sign.
pub(super) fn is_duration(text: &str) -> bool {
    seconds(text.strip_prefix('-').unwrap_or(text)).is_some()
}

/// The same, from nothing to four weeks.
pub(super) fn is_ttl(text: &str) -> bool {
    seconds(text).is_some_and(|(whole, rest)| whole < LONGEST_TTL || (whole == LONGEST_TTL && !rest))
}

/// Whole seconds of a duration without a sign, and whether there is more than these.
fn seconds(text: &str) -> Option<(i64, bool)> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    // 315,576,000,000 s is protobuf's longest duration.
    let whole = whole.parse().ok().filter(|s| digits(whole, 12) && *s < 315_576_000_000_i64)?;
    digits(fraction, 9).then(|| (whole, fraction.bytes().any(|byte| byte != b'0')))
}

/// `2026-01-31T08:00:00.5Z`, or with an offset.
pub(super) fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u32>().ok()
    };
    let within = |from, to, low, high| number(from, to).is_some_and(|n| (low..=high).contains(&n));
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let date = within(0, 4, 1, 9999) && within(5, 7, 1, 12) && within(8, 10, 1, days(number(0, 4), number(5, 7)));
    let time = within(11, 13, 0, 23) && within(14, 16, 0, 59) && within(17, 19, 0, 59);
    date && time && marks.iter().all(|(at, mark)| bytes[*at] == *mark) && text.get(19..).is_some_and(is_rest_of_time)
}

fn days(year: Option<u32>, month: Option<u32>) -> u32 {
    let leap = year.is_some_and(|y| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0);
    match month {
        Some(4 | 6 | 9 | 11) => 30,
        Some(2) if leap => 29,
        Some(2) => 28,
        _ => 31,
    }
}

/// A fraction, if any, and the zone.
fn is_rest_of_time(rest: &str) -> bool {
    let zone = match rest.strip_prefix('.') {
        Some(more) => {
            let digits = more.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &more[digits..]
        }
        None => rest,
    };
    let offset = zone.strip_prefix(['+', '-']).and_then(|rest| rest.split_once(':'));
    let two = |part: &str, most: u8| part.len() == 2 && part.parse::<u8>().is_ok_and(|n| n <= most);
    zone == "Z" || offset.is_some_and(|(hours, minutes)| two(hours, 23) && two(minutes, 59))
}

/// An analytics label.
pub(super) fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    (1..=50).contains(&text.len()) && text.bytes().all(fits)
}

/// A web push's link: an https URL, or the empty text, which is protobuf's way to say that a field is not set.
pub(super) fn is_link(text: &str) -> bool {
    let scheme = "https://";
    text.is_empty() || text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Whether JSON that is well-formed is also JSON to protobuf: nested no deeper than it follows, and all escapes of its texts
/// Unicode (no half of a surrogate pair, which most JSON parsers let pass).
pub(super) fn is_sound(json: &str) -> bool {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut quoted) = (0, 0_usize, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => quoted = !quoted,
            b'\\' => match escape(&bytes[at..]) {
                Some(length) => at += length - 1,
                None => return false,
            },
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > DEEPEST {
                    return false;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    true
}

/// The length of the escape that `bytes` begin with, both halves of a pair together; `None` for a half alone.
fn escape(bytes: &[u8]) -> Option<usize> {
    let unit = |bytes: &[u8]| {
        let digits = bytes.strip_prefix(b"\\u").and_then(|rest| rest.get(..4))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match unit(bytes) {
        None => Some(2),
        Some(0xd800..=0xdbff) => {
            bytes.get(6..).and_then(unit).filter(|low| (0xdc00..=0xdfff).contains(low)).map(|_| 12)
        }
        Some(0xdc00..=0xdfff) => None,
        Some(_) => Some(6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, duration, ttl) in [
            ("0s", true, true),
            ("3.5s", true, true),
            ("2419200s", true, true),
            ("2419200.000s", true, true),
            ("2419200.1s", true, false),
            ("2419201s", true, false),
            ("-1s", true, false),
            ("1", false, false),
            ("s", false, false),
            (".5s", false, false),
            ("1.s", false, false),
            ("1.0123456789s", false, false),
            ("+1s", false, false),
            ("1e3s", false, false),
            ("999999999999999999999s", false, false),
        ] {
            assert_eq!((is_duration(text), is_ttl(text)), (duration, ttl), "{text}");
        }
    }

    #[test]
    fn timestamps() {
        for text in ["2026-01-31T08:00:00Z", "2024-02-29T23:59:59.123456789Z", "2026-01-31T08:00:00.5+05:30"] {
            assert!(is_timestamp(text), "{text}");
        }
        for text in [
            "",
            "2026-01-31",
            "2026-02-29T08:00:00Z",
            "2026-01-31 08:00:00Z",
            "2026-01-31T08:00:00",
            "2026-01-31T24:00:00Z",
            "2026-01-31T08:00:00.Z",
            "2026-01-31T08:00:00+0530",
            "2026-13-01T08:00:00Z",
            "2026-01-3éT08:00:00Z",
            "+026-01-31T08:00:00Z",
            "2026-01-31T08:00:00ZZ",
        ] {
            assert!(!is_timestamp(text), "{text}");
        }
    }

    #[test]
    fn links() {
        for (text, link) in [
            ("https://a/b", true),
            ("HTTPS://a", true),
            ("", true),
            ("http://a", false),
            ("a", false),
            ("https:/é", false),
        ] {
            assert_eq!(is_link(text), link, "{text}");
        }
    }

    #[test]
    fn texts_are_sound_when_their_escapes_are_unicode_and_their_nesting_is_followed() {
        for (json, sound) in [
            (r#"{"a":"\ud83d\ude00 \\ud800 \u00e9"}"#, true),
            (r#"{"a":"\ud800"}"#, false),
            (r#"{"a":"\ud800\u0041"}"#, false),
            (r#"{"a":"\ude00"}"#, false),
            (r#"{"a":"[[[["}"#, true),
        ] {
            assert_eq!(is_sound(json), sound, "{json}");
        }
        assert!(is_sound(&"[".repeat(90)) && !is_sound(&"[".repeat(91)));
    }
}
