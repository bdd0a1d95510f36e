//! Push types: what each asks of topic, priority and payload (Apple: Sending notification requests to APNs).

use http::HeaderValue;

use super::message;
use crate::outcome::Refusal;

/// Longest payload, bytes.
const ORDINARY: usize = 4096;
/// Longest payload of a `voip` push, bytes.
const VOIP: usize = 5120;

/// A push type.
pub(super) struct PushType {
    /// `apns-push-type`.
    pub(super) value: HeaderValue,
    /// What the topic ends with.
    pub(super) suffix: &'static str,
    /// Longest payload, bytes.
    pub(super) longest_payload: usize,
}

/// Name and topic suffix of every known type.
const KNOWN: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("complication", ".complication"),
    ("controls", ".push-type.controls"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("liveactivity", ".push-type.liveactivity"),
    ("location", ".location-query"),
    ("mdm", ""),
    ("pushtotalk", ".voip-ptt"),
    ("voip", ".voip"),
    ("widgets", ".push-type.widgets"),
];

impl PushType {
    /// The type of this name. One that we do not know goes to Apple as it is, which may know more than we do; `None` for
    /// what cannot be a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let longest_payload = if name == "voip" { VOIP } else { ORDINARY };
        if let Some((name, suffix)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Some(PushType { value: HeaderValue::from_static(name), suffix, longest_payload });
        }
        let plausible = !name.is_empty()
            && name.len() <= 32
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let value = HeaderValue::from_str(name).ok().filter(|_| plausible)?;
        Some(PushType { value, suffix: "", longest_payload })
    }
}

/// The type of a message that names none: `background` when `content-available` stands alone in `aps`, else `alert`.
pub(super) fn inferred(payload: &str) -> PushType {
    let name = if message::is_silent(payload) { "background" } else { "alert" };
    PushType { value: HeaderValue::from_static(name), suffix: "", longest_payload: ORDINARY }
}

/// `apns-priority`: the given one, 5 for `background`, else Apple's default.
pub(super) fn priority(push_type: &PushType, given: Option<i64>) -> Result<Option<&'static str>, Box<Refusal>> {
    let background = push_type.value == "background";
    match given {
        None if background => Ok(Some("5")),
        None => Ok(None),
        Some(10) if background => Err(message::refused(
            "bad-priority",
            "BadPriority",
            "priority 10 is an error for a background push (content-available alone makes it one): use 5 or none",
        )),
        Some(10) => Ok(Some("10")),
        Some(5) => Ok(Some("5")),
        Some(1) => Ok(Some("1")),
        Some(_) => Err(message::refused("bad-priority", "BadPriority", "priority must be 10, 5 or 1")),
    }
}

/// What a name that cannot be one is answered with.
pub(super) fn refusal() -> Box<Refusal> {
    message::refused(
        "invalid-push-type",
        "InvalidPushType",
        "push_type must be one of Apple's names, such as alert, background, voip or liveactivity",
    )
}
