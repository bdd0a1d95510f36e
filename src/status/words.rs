//! Numbers and times as people read them in a terminal.

/// A time that has passed, in its two largest units.
pub fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// A count with its thousands apart; a dash for one that is not known.
pub fn count(n: impl Into<Option<u64>>) -> String {
    let Some(n) = n.into() else { return "-".into() };
    let digits = n.to_string();
    let mut apart = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A rate or a latency: three digits are enough.
pub fn figure(value: impl Into<Option<f64>>) -> String {
    match value.into() {
        None => "-".into(),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => count(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let said = [5_000, 65_000, 3_900_000, 90_000_000, -5].map(age);
        assert_eq!(said, ["5 s", "1 min 5 s", "1 h 5 min", "1 d 1 h", "0 s"]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(count), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!((count(None), figure(None)), ("-".into(), "-".into()));
        assert_eq!([0.0, 9.96, 1234.4].map(figure), ["0.0", "10.0", "1,234"]);
    }
}
