//! `data`: the producer's, with metadata merged in, all values as texts.
//!
//! Texts are copied as they are; what is no text is sent as its JSON text (FCM takes texts alone), never dropped. Of a
//! repeated key the last one counts. Metadata is added under the keys that `data` does not have.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::fields::{refused, wrong_type};
use super::message::object;
use crate::handlers::json::{Members, Text, push_member, push_text};
use crate::outcome::Refusal;

/// Keys that are compared faster one by one than by their hashes.
const FEW: usize = 16;

/// Writes the member `data`, when there is something in it. Returns its size: bytes of keys and values.
pub(super) fn write(
    json: &mut Vec<u8>,
    data: Option<&RawValue>,
    metadata: Option<&RawValue>,
) -> Result<usize, Box<Refusal>> {
    let data = data.map(|raw| object(raw, "data")).transpose()?;
    let metadata = metadata.map(|raw| object(raw, "metadata")).transpose()?;
    let (data, metadata) = (members(data.as_ref()), members(metadata.as_ref()));
    if data.is_empty() && metadata.is_empty() {
        return Ok(0);
    }
    let entries: Vec<_> =
        data.iter().map(|entry| (entry, true)).chain(metadata.iter().map(|entry| (entry, false))).collect();
    let counts = counting(&entries.iter().map(|((key, _), own)| (key.as_ref(), *own)));
    let mut size = 0;
    push_member(json, "data", "{");
    for ((key, value), _) in entries.into_iter().zip(counts).filter(|(_, counts)| *counts).map(|(entry, _)| entry) {
        check_key(key)?;
        size += key.len() + entry(json, key, value)?;
    }
    json.push(b'}');
    Ok(size)
}

/// Which entries count: of a key the last one of `data` (`true`), else the last one of metadata.
fn counting<'k>(keys: &(impl DoubleEndedIterator<Item = (&'k str, bool)> + ExactSizeIterator + Clone)) -> Vec<bool> {
    let mut counts = vec![false; keys.len()];
    if keys.len() <= FEW {
        for (index, (key, own)) in keys.clone().enumerate() {
            let outdone = |(at, (other, of))| other == key && if of == own { at > index } else { of };
            counts[index] = !keys.clone().enumerate().any(outdone);
        }
        return counts;
    }
    let mut known = HashSet::with_capacity(keys.len());
    for own in [true, false] {
        for (index, (key, _)) in keys.clone().enumerate().rev().filter(|(_, (_, of))| *of == own) {
            counts[index] = known.insert(key);
        }
    }
    counts
}

fn members<'m, 'a>(object: Option<&'m Members<'a>>) -> &'m [(Cow<'a, str>, &'a RawValue)] {
    object.map_or(&[], |members| &members.0)
}

/// Writes one entry. Returns its value's size.
fn entry(json: &mut Vec<u8>, key: &str, value: &RawValue) -> Result<usize, Box<Refusal>> {
    if !value.get().starts_with('"') {
        push_member(json, key, "");
        push_text(json, value.get());
        return Ok(value.get().len());
    }
    push_member(json, key, value.get());
    size_of_text(value).ok_or_else(|| wrong_type("a value of data", "valid text (an escape in it is not Unicode)"))
}

/// Bytes of a text as the device gets it; `None` for what is no text.
pub(super) fn size_of_text(value: &RawValue) -> Option<usize> {
    Text::of(value).map(|Text(text)| text.len())
}

/// Refuses keys that FCM keeps for itself (Google: Message.data), no more than these.
pub(super) fn check_key(key: &str) -> Result<(), Box<Refusal>> {
    let reserved =
        matches!(key, "from" | "message_type") || key.starts_with("google.") || key.starts_with("gcm.notification.");
    if !reserved {
        return Ok(());
    }
    let what = "data (or metadata, which is merged into it) has a key that FCM keeps for itself: from, message_type, \
                google.* or gcm.notification.*";
    Err(refused("reserved-data-key", "ReservedDataKey", what))
}
