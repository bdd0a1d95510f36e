//! What a feedback record says about a token. Pure; texts are borrowed from the record where they hold no escape.
//!
//! Both platforms' records, of the original from its version 4.5 on (and of earlier ones, whose fields are the same) and of
//! ours. What is not understood is not ours to judge: it is passed, never an error.
//!
//! A token is dead only by a reason that names the token itself. The original also asks for a deletion on `TopicDisallowed`,
//! which is the operator's mistake and says nothing about the device: that is not followed. Our own records say in
//! `metadata.deleteToken` whether the token is meant (a `DeviceTokenNotForTopic` for a topic that the message itself chose
//! is not), and are taken at their word.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::message::Platform;

/// Apple's reasons that name the token. The original's listener has the first three, and `TopicDisallowed`.
const APNS_DEAD: [&str; 4] = ["BadDeviceToken", "Unregistered", "DeviceTokenNotForTopic", "ExpiredToken"];
/// The original's keys for FCM's `UNREGISTERED`, and for a token that is none.
const GCM_DEAD: [&str; 2] = ["DEVICE_UNREGISTERED", "BAD_REGISTRATION"];
/// Longest token that is believed to be one, bytes: several times what providers make, and what a table can index.
const LONGEST: usize = 4096;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// This token is dead.
    Dead(Dead<'a>),
    /// Nothing about a dead token.
    Other,
    /// It is no record that we know.
    Unreadable,
}

/// A dead token.
#[derive(PartialEq, Eq)]
pub struct Dead<'a> {
    /// The token.
    pub token: Cow<'a, str>,
    /// Since when, ms since the epoch, if the provider said so.
    pub unregistered_at_ms: Option<i64>,
}

impl std::fmt::Debug for Dead<'_> {
    /// Tokens are personal data: they never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dead").field("unregistered_at_ms", &self.unregistered_at_ms).finish_non_exhaustive()
    }
}

/// Reads a record of a platform's feedback topic.
pub fn read(platform: Platform, record: &[u8]) -> Reading<'_> {
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(record) else { return Reading::Unreadable };
    let (reason, token, dead): (_, _, &[&str]) = match platform.0 {
        "apns" => (fields.reason, fields.device_token, &APNS_DEAD),
        "gcm" => (fields.error, fields.from, &GCM_DEAD),
        _ => return Reading::Other,
    };
    let is_dead = reason.and_then(text).is_some_and(|reason| dead.contains(&&*reason));
    if !is_dead || !Marks::of(fields.metadata).allow_deletion() {
        return Reading::Other;
    }
    match token.and_then(text).filter(|token| !token.is_empty() && token.len() <= LONGEST) {
        Some(token) => Reading::Dead(Dead { token, unregistered_at_ms: fields.unregistered_at.and_then(parsed) }),
        None => Reading::Other,
    }
}

/// The members of a record that matter, raw; of repeated ones the last, as Go reads them.
#[derive(Default)]
struct Fields<'a> {
    reason: Option<&'a RawValue>,
    device_token: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    from: Option<&'a RawValue>,
    unregistered_at: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
}

/// What `metadata` says about the deletion, and about who wrote the record.
#[derive(Default)]
struct Marks {
    delete_token: Option<bool>,
    is_ours: bool,
}

impl Marks {
    /// Marks that cannot be read may forbid it.
    fn of(metadata: Option<&RawValue>) -> Marks {
        let is_object = metadata.is_some_and(|raw| raw.get().starts_with('{'));
        let unreadable = Marks { delete_token: is_object.then_some(false), is_ours: false };
        metadata.and_then(parsed).unwrap_or(unreadable)
    }

    /// The original's records are understood by their reason, as its own listener does; where they say something, it counts.
    fn allow_deletion(&self) -> bool {
        self.delete_token.unwrap_or(!self.is_ours)
    }
}

/// A JSON string, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    parsed::<Text<'_>>(raw).map(|text| text.0)
}

fn parsed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(key)) = map.next_key()? {
                    let field = match &*key {
                        "Reason" => &mut fields.reason,
                        "DeviceToken" => &mut fields.device_token,
                        "error" => &mut fields.error,
                        "from" => &mut fields.from,
                        "unregisteredAt" => &mut fields.unregistered_at,
                        "metadata" => &mut fields.metadata,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = Some(map.next_value()?);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Marks;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Marks, A::Error> {
                let mut marks = Marks::default();
                while let Some(Text(key)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    match &*key {
                        "deleteToken" => marks.delete_token = parsed(value),
                        "pusherId" => marks.is_ours = true,
                        _ => {}
                    }
                }
                Ok(marks)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
