//! `data`: the producer's, with metadata merged in, all values as texts.
//!
//! Texts are copied as they are; what is no text is sent as its JSON text (FCM takes texts alone), never dropped. Of a
//! repeated key the last one counts. Metadata is added under the keys that `data` does not have.

use std::borrow::Cow;
use std::collections::HashSet;

use super::fields::{refused, wrong_type};
use super::message::object;
use crate::handlers::json::{Members, Text, key, push_entry, push_member, push_text};
use crate::outcome::Refusal;

/// Keys that are compared faster one by one than by their hashes.
const FEW: usize = 16;

/// Writes the member `data`, when there is something in it. Returns its size: bytes of keys and values.
pub(super) fn write(json: &mut Vec<u8>, data: Option<&str>, metadata: Option<&str>) -> Result<usize, Box<Refusal>> {
    let data = data.map(|raw| object(raw, "data")).transpose()?;
    let metadata = metadata.map(|raw| object(raw, "metadata")).transpose()?;
    let (data, metadata) = (members(data.as_ref()), members(metadata.as_ref()));
    if data.is_empty() && metadata.is_empty() {
        return Ok(0);
    }
    let mut size = 0;
    push_member(json, key!("data"), "{");
    if data.len() + metadata.len() <= FEW {
        let is_last = |all: &[Entry<'_>], at: usize| !all[at + 1..].iter().any(|(other, _)| *other == all[at].0);
        let own = (0..data.len()).filter(|at| is_last(data, *at)).map(|at| &data[at]);
        let added = (0..metadata.len()).filter(|at| is_last(metadata, *at)).map(|at| &metadata[at]);
        let added = added.filter(|(key, _)| !data.iter().any(|(other, _)| other == key));
        size += entries(json, own.chain(added))?;
    } else {
        size += entries(json, counting(data, metadata).into_iter())?;
    }
    json.push(b'}');
    Ok(size)
}

type Entry<'a> = (Cow<'a, str>, &'a str);

/// The entries that count, in their order: of a key the last one of `data`, else the last one of metadata.
fn counting<'m, 'a>(data: &'m [Entry<'a>], metadata: &'m [Entry<'a>]) -> Vec<&'m Entry<'a>> {
    let mut known = HashSet::with_capacity(data.len() + metadata.len());
    let mut last = |entries: &'m [Entry<'a>]| {
        let mut counting: Vec<_> = entries.iter().rev().filter(|(key, _)| known.insert(key.as_ref())).collect();
        counting.reverse();
        counting
    };
    let own = last(data);
    [own, last(metadata)].concat()
}

fn members<'m, 'a>(object: Option<&'m Members<'a>>) -> &'m [Entry<'a>] {
    object.map_or(&[], |members| &members.0)
}

/// Writes entries. Returns their size.
fn entries<'m, 'a: 'm>(
    json: &mut Vec<u8>,
    entries: impl Iterator<Item = &'m Entry<'a>>,
) -> Result<usize, Box<Refusal>> {
    let mut size = 0;
    for (key, value) in entries {
        check_key(key)?;
        size += key.len() + entry(json, key, value)?;
    }
    Ok(size)
}

/// Writes one entry. Returns its value's size.
#[expect(clippy::ptr_arg, reason = "see push_entry")]
fn entry(json: &mut Vec<u8>, key: &Cow<'_, str>, value: &str) -> Result<usize, Box<Refusal>> {
    if !value.starts_with('"') {
        push_entry(json, key, "");
        push_text(json, value);
        return Ok(value.len());
    }
    push_entry(json, key, value);
    size_of_text(value).ok_or_else(|| wrong_type("a value of data", "valid text (an escape in it is not Unicode)"))
}

/// Bytes of a text as the device gets it; `None` for what is no text.
pub(super) fn size_of_text(value: &str) -> Option<usize> {
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
