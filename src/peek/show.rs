//! A message and what it would become, in words. Pure. No token of a device leaves whole.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::handlers::preview::{Preview, Previewed};
use crate::message::QueueMessage;
use crate::outcome::Outcome;

/// Characters of a token that are shown at each end.
const SHOWN: usize = 4;

/// For people.
pub(super) fn text(message: &QueueMessage, preview: &Preview, now_ms: i64) -> String {
    let mut out = String::new();
    let place = place(message);
    // Writing to a text takes everything, here and below.
    let _ = writeln!(out, "{place}  {}, {} bytes", produced(message, now_ms), message.payload.len());
    let _ = writeln!(out, "  pusherId  {}", message.identity());
    if let Some(of) = message.redrive_of {
        let _ = writeln!(out, "  redriven  of offset {of}, if that one has ended");
    }
    match preview {
        Preview::Request(request) => {
            let mask = Mask::of(request);
            let _ = writeln!(out, "  device    {}", request.device.as_deref().map_or("none".into(), masked));
            let _ = writeln!(out, "  expires   {}", request.expires_at_ms.map_or("never".into(), moment));
            let _ = writeln!(out, "  would be sent:\n    POST {}", mask.hide(&request.uri.to_string()));
            for (name, value) in &request.headers {
                let _ = writeln!(out, "    {name}: {}", mask.hide(&String::from_utf8_lossy(value.as_bytes())));
            }
            let _ = writeln!(out, "\n    {}", mask.hide(&String::from_utf8_lossy(&request.body)));
        }
        Preview::Ends(outcome) => {
            let _ = writeln!(out, "  would not be sent: {}", end(outcome));
        }
    }
    out
}

/// For scripts.
pub(super) fn line(message: &QueueMessage, preview: &Preview) -> String {
    let mut object = json!({
        "topic": &*message.origin.topic, "partition": message.origin.partition, "offset": message.offset,
        "timestamp": message.timestamp_ms, "bytes": message.payload.len(), "app": &*message.origin.app,
        "platform": message.origin.platform.0, "lane": message.origin.lane.as_str(),
        "pusherId": message.identity().to_string(), "redriveOf": message.redrive_of,
    });
    let more = match preview {
        Preview::Request(request) => {
            let mask = Mask::of(request);
            let headers = request.headers.iter().map(|(name, value)| {
                (name.to_string(), Value::from(mask.hide(&String::from_utf8_lossy(value.as_bytes()))))
            });
            let body = mask.hide(&String::from_utf8_lossy(&request.body));
            json!({
                "outcome": "sent", "device": request.device.as_deref().map(masked), "expiresAt": request.expires_at_ms,
                "request": {
                    "method": "POST", "uri": mask.hide(&request.uri.to_string()),
                    "headers": headers.collect::<serde_json::Map<_, _>>(), "body": body,
                },
            })
        }
        Preview::Ends(outcome) => {
            json!({ "outcome": name(outcome), "reason": outcome.key(), "description": why(outcome) })
        }
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object.to_string()
}

fn place(message: &QueueMessage) -> String {
    format!("{}/{}/{}", message.origin.topic, message.origin.partition, message.offset)
}

fn produced(message: &QueueMessage, now_ms: i64) -> String {
    match message.timestamp_ms {
        None => "without a time".into(),
        Some(ms) => format!("of {} ({} s ago)", moment(ms), (now_ms - ms).max(0) / 1000),
    }
}

fn moment(ms: i64) -> String {
    let time = u64::try_from(ms).ok().and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    // The format has four digits for the year.
    let time = time.filter(|_| ms < 253_402_300_800_000);
    time.map_or_else(|| format!("{ms} ms since 1970"), httpdate::fmt_http_date)
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered(_) => "delivered",
        Outcome::Rejected(_) => "rejected",
        Outcome::Expired(_) => "expired",
        Outcome::Limited(_) => "limited",
        Outcome::Deduplicated(_) => "deduplicated",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Failed(_) => "failed",
    }
}

fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rejected(why)
        | Outcome::Limited(why)
        | Outcome::Deduplicated(why)
        | Outcome::Cancelled(why)
        | Outcome::Failed(why) => &why.description,
        Outcome::Expired(_) => "its expiry has passed",
        Outcome::Delivered(_) => "",
    }
}

fn end(outcome: &Outcome) -> String {
    format!("{} ({}): {}", name(outcome), outcome.key().unwrap_or_default(), why(outcome))
}

/// The ends of a token, and how long it is; nothing of a short one.
fn masked(token: &str) -> String {
    let characters = token.chars().count();
    if characters < 4 * SHOWN {
        return format!("…({characters})");
    }
    let head: String = token.chars().take(SHOWN).collect();
    let tail: String = token.chars().skip(characters - SHOWN).collect();
    format!("{head}…{tail}({characters})")
}

/// Hides a token wherever it occurs.
struct Mask<'a> {
    /// As it is, and as JSON writes it.
    tokens: Vec<std::borrow::Cow<'a, str>>,
    masked: String,
}

impl<'a> Mask<'a> {
    fn of(request: &'a Previewed) -> Self {
        let token = request.device.as_deref().filter(|token| !token.is_empty());
        let written = token.map(|token| Value::from(token).to_string());
        let written = written.map(|text| text[1..text.len() - 1].to_owned().into());
        let tokens = token.map(Into::into).into_iter().chain(written).collect();
        Mask { tokens, masked: token.map(masked).unwrap_or_default() }
    }

    fn hide(&self, text: &str) -> String {
        self.tokens.iter().fold(text.to_owned(), |text, token| text.replace(&**token, &self.masked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_shows_its_ends_and_a_short_one_nothing() {
        assert_eq!(masked(&format!("00a1{}beef", "7".repeat(56))), "00a1…beef(64)");
        assert_eq!((masked("secret"), masked(""), masked("äöüß")), ("…(6)".into(), "…(0)".into(), "…(4)".into()));
    }

    #[test]
    fn moments_beyond_every_calendar_are_numbers() {
        assert_eq!(moment(1_700_000_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!((moment(-1), moment(i64::MAX)), ("-1 ms since 1970".into(), format!("{} ms since 1970", i64::MAX)));
    }
}
