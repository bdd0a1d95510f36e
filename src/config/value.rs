//! Values as written and how they are read.

use std::time::Duration;

/// A value as written: a scalar's text or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A scalar, in the text of the file or environment.
    Scalar(String),
    /// A YAML list.
    List(Vec<String>),
}

impl Value {
    /// The value in one line, as it is shown to people.
    pub fn text(&self) -> String {
        match self {
            Value::Scalar(text) => text.clone(),
            Value::List(items) => items.join(", "),
        }
    }

    /// Nothing is written: stands for "unset", even where there is a default. (An empty list is a value.)
    pub(super) fn is_blank(&self) -> bool {
        matches!(self, Value::Scalar(text) if text.trim().is_empty())
    }
}

/// A type that a key's value can be read as. The error is the rule, worded to follow the quoted value: "must be …".
pub trait FromValue: Sized {
    /// Reads the value.
    fn from_value(value: &Value) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Scalar(text) => Ok(text.clone()),
            Value::List(_) => Err("must be one value, not a list".into()),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, String> {
        match String::from_value(value)?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Result<Self, String> {
                String::from_value(value)?
                    .trim()
                    .parse()
                    .map_err(|_| format!("must be a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }
        }
    )*};
}
whole_numbers!(u16, u32, u64, usize, i64);

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, String> {
        match String::from_value(value)?.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err("must be a number".into()),
        }
    }
}

/// Lists: YAML lists, or text separated by commas or white space. A comma within brackets separates nothing: the original
/// splits variables at white space alone, and a regular expression (`^push-[a-z]{2,9}_apns`) must come through.
impl FromValue for Vec<String> {
    fn from_value(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::List(items) => return Ok(items.clone()),
            Value::Scalar(text) => text,
        };
        let mut depth = 0_usize;
        let separates = |c: char| {
            match c {
                '[' | '{' | '(' => depth += 1,
                ']' | '}' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c.is_whitespace() || (c == ',' && depth == 0)
        };
        Ok(text.split(separates).filter(|item| !item.is_empty()).map(Into::into).collect())
    }
}

/// Kafka's brokers: `host` or `host:port`, each perhaps after a protocol (`SASL_SSL://`), separated like lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers(
    /// As librdkafka takes them.
    pub String,
);

impl FromValue for Brokers {
    fn from_value(value: &Value) -> Result<Self, String> {
        let brokers = Vec::<String>::from_value(value)?;
        match brokers.iter().find(|broker| !is_broker(broker)) {
            Some(wrong) => Err(format!("must hold brokers as host:port, separated by commas, unlike {wrong:?}")),
            None if brokers.is_empty() => Err("must name at least one broker as host:port".into()),
            None => Ok(Brokers(brokers.join(","))),
        }
    }
}

fn is_broker(text: &str) -> bool {
    let address = match text.split_once("://") {
        Some(("PLAINTEXT" | "SSL" | "SASL_PLAINTEXT" | "SASL_SSL", address)) => address,
        Some(_) => return false,
        None => text,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-[]:%".contains(c);
    !host.is_empty()
        && host.chars().all(plain)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Durations with a unit: `250ms`, `1s`, `50m`, `1h`. A bare number is refused unless the key is read with
/// [`Config::millis`](super::Config::millis) or [`Config::seconds`](super::Config::seconds), which is how the original's unit-less keys are read.
impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        parse_duration(text.trim()).ok_or_else(|| "must be a duration such as 250ms, 5s, 10m or 1h".into())
    }
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromValue>(text: &str) -> Result<T, String> {
        T::from_value(&Value::Scalar(text.into()))
    }

    #[test]
    fn scalars() {
        assert_eq!(read::<bool>("Yes"), Ok(true));
        assert_eq!(read::<bool>("off "), Ok(false));
        assert_eq!(read::<bool>("2"), Err("must be true or false".into()));
        assert_eq!(read::<u16>("70000"), Err("must be a whole number from 0 to 65535".into()));
        assert_eq!(read::<f64>("0.3"), Ok(0.3));
        assert_eq!(read::<f64>("NaN"), Err("must be a number".into()));
        assert_eq!(bool::from_value(&Value::List(vec![])), Err("must be one value, not a list".into()));
    }

    #[test]
    fn lists_by_comma_or_white_space() {
        let expected: Vec<String> = ["a", "b", "c"].map(Into::into).into();
        for text in ["a,b,c", "a b\tc", " a , b\n c ,", "a\r\nb,,c"] {
            assert_eq!(read::<Vec<String>>(text), Ok(expected.clone()), "{text:?}");
        }
    }

    #[test]
    fn a_regular_expression_with_commas_stays_whole() {
        let topics = read::<Vec<String>>("^push-[a-z,]{2,9}_(apns|gcm) push-game_apns,push-other_apns").unwrap();
        assert_eq!(topics, ["^push-[a-z,]{2,9}_(apns|gcm)", "push-game_apns", "push-other_apns"]);
    }

    #[test]
    fn brokers_are_addresses() {
        for good in
            ["kafka", "kafka:9092", "a:1, b:2 c:3", "SASL_SSL://kafka:9093", "[::1]:9092", "kafka-0.kafka.svc:9092"]
        {
            assert!(read::<Brokers>(good).is_ok(), "{good}");
        }
        for wrong in ["http://kafka:9092", "kafka:port", "kafka:0", ":9092", "kafka:9092/path", "ka;fka"] {
            let error = read::<Brokers>(wrong).unwrap_err();
            assert!(error.contains("host:port") && error.contains(wrong), "{error}");
        }
        assert_eq!(read::<Brokers>(" , "), Err("must name at least one broker as host:port".into()));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(read::<Duration>("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read::<Duration>("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["5", "ms", "-1s", "1.5s", "99999999999999999999h", "18446744073709551615h"] {
            assert!(read::<Duration>(wrong).is_err(), "{wrong}");
        }
    }
}
