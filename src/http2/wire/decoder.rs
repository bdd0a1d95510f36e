//! The fields of an answer, read from HPACK (RFC 7541 6).
//!
//! All of a block has to be gone through, for it changes the table that later ones refer to; kept is what somebody reads of it: the
//! status, the length, and the fields that the pool's settings name.

use std::collections::VecDeque;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::frame::Broken;
use super::hpack::{OVERHEAD, STATIC, TABLE, read_number};
use super::huffman;

/// Longest list of fields that we take, in bytes as HPACK counts them: those of both providers have a few hundred.
pub(super) const MAX_LIST: usize = 64 << 10;

/// Reads answers' fields, and keeps the table that the peer refers to.
pub(super) struct Decoder {
    reads: Vec<HeaderName>,
    /// The newest first, as they are counted.
    table: VecDeque<Entry>,
    size: usize,
    max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What a field is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Status,
    Length,
    /// One of those that are read, by its place among them.
    Read(usize),
    Other,
    /// What no answer may have.
    Wrong,
}

/// A field by its name alone.
#[derive(Clone, Copy)]
struct Named {
    kind: Kind,
    /// Bytes of the name.
    len: usize,
}

/// An entry of the dynamic table.
struct Entry {
    named: Named,
    /// Bytes of the value.
    len: usize,
    /// The value, when somebody reads it.
    value: Box<[u8]>,
}

/// An answer's fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) status: Option<u16>,
    /// `content-length`.
    pub(super) length: Option<u64>,
    /// Those that are read.
    pub(super) headers: HeaderMap,
    /// Why they are no answer's (RFC 9113 8.1.1): the stream's end, and not the connection's.
    pub(super) wrong: Option<&'static str>,
    size: usize,
    /// Whether a field stood there that is no pseudo-header; none of these may follow.
    is_past_status: bool,
}

impl Decoder {
    pub(super) fn new(reads: &[&'static str]) -> Decoder {
        let reads = reads.iter().map(|name| HeaderName::from_static(name)).collect();
        Decoder { reads, table: VecDeque::new(), size: 0, max: TABLE, name: Vec::new(), value: Vec::new() }
    }

    /// Goes through one whole block.
    pub(super) fn decode(&mut self, mut block: &[u8]) -> Result<Fields, Broken> {
        let mut fields = Fields::default();
        let mut is_begun = false;
        while let Some(first) = block.first() {
            match first {
                0x80.. => {
                    let index = read_number(&mut block, 7)?;
                    self.indexed(index, &mut fields)?;
                }
                0x40.. => self.literal(&mut block, 6, &mut fields)?,
                0x20.. => {
                    let max = read_number(&mut block, 5)?;
                    if is_begun || max > TABLE {
                        return Err(Broken::compression("a size of the table that it may not have"));
                    }
                    self.max = max;
                    self.evict(0);
                    continue;
                }
                _ => self.literal(&mut block, 4, &mut fields)?,
            }
            is_begun = true;
        }
        Ok(fields)
    }

    fn indexed(&self, index: usize, fields: &mut Fields) -> Result<(), Broken> {
        if let Some(nth) = index.checked_sub(STATIC.len() + 1) {
            let entry = self.table.get(nth).ok_or(UNKNOWN)?;
            fields.take(entry.named, entry.len, &entry.value, &self.reads);
            return Ok(());
        }
        let (_, value) = STATIC.get(index.wrapping_sub(1)).ok_or(UNKNOWN)?;
        fields.take(self.named(index)?, value.len(), value.as_bytes(), &self.reads);
        Ok(())
    }

    fn literal(&mut self, block: &mut &[u8], prefix: u32, fields: &mut Fields) -> Result<(), Broken> {
        let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        let named = match read_number(block, prefix)? {
            0 => self.classify(text(block, &mut name)?),
            index => self.named(index)?,
        };
        let text = text(block, &mut value)?;
        fields.take(named, text.len(), text, &self.reads);
        if prefix == 6 {
            self.insert(named, text);
        }
        (self.name, self.value) = (name, value);
        Ok(())
    }

    /// The name of an entry.
    fn named(&self, index: usize) -> Result<Named, Broken> {
        if let Some(nth) = index.checked_sub(STATIC.len() + 1) {
            return self.table.get(nth).map(|entry| entry.named).ok_or(UNKNOWN);
        }
        let (name, _) = STATIC.get(index.wrapping_sub(1)).ok_or(UNKNOWN)?;
        Ok(self.classify(name.as_bytes()))
    }

    fn classify(&self, name: &[u8]) -> Named {
        let kind = match name {
            b":status" => Kind::Status,
            b"content-length" => Kind::Length,
            [] | [b':', ..] => Kind::Wrong,
            _ if name.iter().any(u8::is_ascii_uppercase) => Kind::Wrong,
            _ => self.reads.iter().position(|read| read.as_str().as_bytes() == name).map_or(Kind::Other, Kind::Read),
        };
        Named { kind, len: name.len() }
    }

    fn insert(&mut self, named: Named, value: &[u8]) {
        let len = value.len();
        let size = named.len + len + OVERHEAD;
        self.evict(size);
        if size <= self.max {
            let value = if named.kind == Kind::Other { Box::default() } else { value.into() };
            self.size += size;
            self.table.push_front(Entry { named, len, value });
        }
    }

    /// Makes room for so many bytes, the oldest first.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.max
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.named.len + oldest.len + OVERHEAD;
        }
    }
}

const UNKNOWN: Broken = Broken::compression("a field that is in no table");

impl Fields {
    fn take(&mut self, named: Named, len: usize, value: &[u8], reads: &[HeaderName]) {
        self.size += named.len + len + OVERHEAD;
        let is_status = named.kind == Kind::Status;
        let wrong = match named.kind {
            _ if self.size > MAX_LIST => Some("its headers are too large"),
            Kind::Status if self.is_past_status || self.status.is_some() => Some("its status is not where it belongs"),
            Kind::Status => {
                self.status = status(value);
                self.status.is_none().then_some("its status is no number of three digits")
            }
            Kind::Length => {
                self.length = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
                self.length.is_none().then_some("its content-length is no number")
            }
            Kind::Read(nth) => match HeaderValue::from_bytes(value) {
                Ok(value) => {
                    self.headers.append(&reads[nth], value);
                    None
                }
                Err(_) => Some("a header has a character that none may have"),
            },
            Kind::Other => None,
            Kind::Wrong => Some("a header has a name that none may have"),
        };
        self.is_past_status |= !is_status;
        self.wrong = self.wrong.or(wrong);
    }
}

fn status(value: &[u8]) -> Option<u16> {
    let digits: &[u8; 3] = value.try_into().ok()?;
    str::from_utf8(digits).ok()?.parse().ok().filter(|status| *status >= 100)
}

/// Takes a text off the block's beginning.
fn text<'r, 'b: 'r>(block: &mut &'b [u8], room: &'r mut Vec<u8>) -> Result<&'r [u8], Broken> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let len = read_number(block, 7)?;
    let (text, rest) = block.split_at_checked(len).ok_or(Broken::compression("a text that ends before its end"))?;
    *block = rest;
    if !is_coded {
        return Ok(text);
    }
    room.clear();
    huffman::decode(text, room)?;
    Ok(room)
}
