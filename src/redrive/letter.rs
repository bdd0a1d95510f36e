//! A dead letter as it lies in its topic, and whether it may be redriven. Pure.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::message::{self, Platform, identity};
use crate::queue::topic;

/// A record of a dead-letter topic.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// ms since the epoch, -1 without one.
    pub(super) timestamp_ms: i64,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Bytes,
}

impl Raw {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }
}

/// A letter that can be redriven.
#[derive(Debug)]
pub(super) struct Letter {
    /// The push topic that it came from, and goes back to.
    pub(super) topic: String,
    /// The partition there: a worker believes a redrive in the partition alone where its message came first.
    pub(super) partition: i32,
    /// The offset there under which the message came first.
    pub(super) first: i64,
    /// The record that became this letter: a second letter of it repeats the first.
    pub(super) record: Uuid,
    /// Why it was given up.
    pub(super) reason: String,
    /// The message as it was consumed.
    pub(super) payload: Bytes,
}

/// Why a letter can never be redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It was too large to be kept.
    Truncated,
    /// Its headers do not say where it came from, or contradict each other.
    Malformed,
    /// It came from a topic that is not one of the app's push topics on this platform.
    Elsewhere,
}

impl Unfit {
    pub(super) fn words(self) -> &'static str {
        match self {
            Unfit::Truncated => "kept without its payload, which was too large",
            Unfit::Malformed => "its headers do not tell where it came from",
            Unfit::Elsewhere => "it did not come from a push topic of this app and platform",
        }
    }
}

/// Whose letters are redriven.
#[derive(Debug)]
pub(super) struct Owner<'a> {
    pub(super) app: &'a str,
    pub(super) platform: Platform,
    /// All platforms, which the names of topics are read with.
    pub(super) known: &'a [Platform],
}

impl Letter {
    /// Reads a record. What is not as a worker of ours writes it must not lead to a push.
    pub(super) fn read(raw: &Raw, owner: &Owner<'_>) -> Result<Letter, Unfit> {
        let header = |name| raw.header(name).ok_or(Unfit::Malformed);
        let topic = header("topic")?;
        let (Some(partition), Some(offset)) = (raw.number::<i32>("partition"), raw.number::<i64>("offset")) else {
            return Err(Unfit::Malformed);
        };
        let first = raw.header("redriveOf").map_or(Some(offset), |of| of.parse().ok()).ok_or(Unfit::Malformed)?;
        let said = Uuid::try_parse(header("pusherId")?).ok();
        if said != Some(identity(topic, partition, first)) || partition < 0 || !(0..=offset).contains(&first) {
            return Err(Unfit::Malformed);
        }
        let is_its =
            |parsed: topic::Parsed<'_>| parsed.platform == owner.platform && parsed.app.eq_ignore_ascii_case(owner.app);
        if !topic::parse(topic, owner.known).is_some_and(is_its) {
            return Err(Unfit::Elsewhere);
        }
        if raw.header("truncated").is_some() {
            return Err(Unfit::Truncated);
        }
        let (record, reason) = (identity(topic, partition, offset), header("reason")?.to_owned());
        Ok(Letter { topic: topic.to_owned(), partition, first, record, reason, payload: raw.payload.clone() })
    }

    /// The header that tells workers whose redrive this is.
    pub(super) fn redrive_of(&self) -> String {
        message::redrive_of(&self.topic, self.partition, self.first)
    }
}

/// Which letters are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Any of these; empty: whatever it is.
    pub(super) reasons: Vec<String>,
    /// Written at or after this, ms since the epoch.
    pub(super) from_ms: Option<i64>,
}

impl Filter {
    /// Those of the last `since`, seen from `now_ms`.
    pub(super) fn new(reasons: &[String], since: Option<Duration>, now_ms: i64) -> Self {
        Filter {
            reasons: reasons.to_vec(),
            from_ms: since.map(|since| now_ms.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))),
        }
    }

    pub(super) fn wants(&self, letter: &Letter, timestamp_ms: i64) -> bool {
        let reason = self.reasons.is_empty() || self.reasons.iter().any(|one| one.eq_ignore_ascii_case(&letter.reason));
        reason && self.from_ms.is_none_or(|from| timestamp_ms >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APNS: Platform = Platform("apns");
    const OWNER: Owner<'static> = Owner { app: "game", platform: APNS, known: &[APNS, Platform("gcm")] };

    fn raw(topic: &str, more: &[(&str, &str)]) -> Raw {
        let id = identity(topic, 3, 42).to_string();
        let own = [("pusherId", id.as_str()), ("reason", "timeout"), ("topic", topic), ("partition", "3")];
        let mut headers: Vec<(String, String)> = more.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        let own = own.into_iter().chain([("offset", "42")]);
        headers.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Raw { partition: 0, offset: 7, timestamp_ms: 1_000, headers, payload: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_letter_goes_back_to_where_its_message_came_first() {
        let letter = Letter::read(&raw("push-game_apns-single", &[]), &OWNER).expect("a letter");
        assert_eq!(letter.redrive_of(), "push-game_apns-single/3/42");
        let first = identity("push-game_apns-single", 3, 5).to_string();
        let again = raw("push-game_apns-single", &[("redriveOf", "5"), ("pusherId", &first)]);
        let again = Letter::read(&again, &OWNER).expect("a letter of a redriven message");
        assert_eq!((again.redrive_of().as_str(), again.record), ("push-game_apns-single/3/5", letter.record));
    }

    #[test]
    fn what_no_worker_wrote_leads_to_no_push() {
        let read = |topic: &str, more: &[(&str, &str)]| Letter::read(&raw(topic, more), &OWNER).map(|_| ());
        let ours = "push-game_apns-single";
        assert_eq!(read(ours, &[("truncated", "true")]), Err(Unfit::Truncated));
        for topic in ["push-game_gcm-single", "push-other_apns-single", "orders"] {
            assert_eq!(read(topic, &[]), Err(Unfit::Elsewhere), "{topic}");
        }
        let wrong = [
            ("pusherId", "7"),
            ("pusherId", &*identity(ours, 3, 41).to_string()),
            ("offset", "x"),
            ("redriveOf", "99"),
        ];
        for header in wrong {
            assert_eq!(read(ours, &[header]), Err(Unfit::Malformed), "{header:?}");
        }
    }

    #[test]
    fn filters_join_reason_and_time() {
        let letter = Letter::read(&raw("push-game_apns-single", &[]), &OWNER).expect("a letter");
        let filter = |reasons: &[&str], since| {
            let reasons: Vec<_> = reasons.iter().map(|one| (*one).to_owned()).collect();
            Filter::new(&reasons, since, 10_000).wants(&letter, 1_000)
        };
        assert!(filter(&[], None) && filter(&["x", "Timeout"], Some(Duration::from_secs(9))));
        assert!(!filter(&["x"], None) && !filter(&[], Some(Duration::from_secs(8))));
    }
}
