//! The fields of a request, as HPACK writes them (RFC 7541 6).
//!
//! What is the same from push to push (host, topic, type, an FCM path) is said once on a connection and has a number from then on. What
//! is new each time is said as it is and put into no table, where it would push the others out; so is what must not be indexed.

use std::collections::VecDeque;

use http::header::{self, HeaderName};
use http::{Method, Uri, request};

use super::hpack::{OVERHEAD, TABLE, write_number};

/// Writes requests' fields, and keeps the table that the peer keeps as well.
pub(super) struct Encoder {
    /// The newest first, as they are counted.
    table: VecDeque<Known>,
    size: usize,
    max: usize,
    /// The smallest size that the peer has asked for since the last block, which the next one must tell of.
    smallest: Option<usize>,
    /// The last request's path: one that comes a second time will come again.
    path: Vec<u8>,
}

/// A field that the peer knows by a number.
struct Known {
    name: Name<HeaderName>,
    value: Box<[u8]>,
}

/// A field's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name<N> {
    Authority,
    Path,
    Header(N),
}

/// How a field is written (RFC 7541 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// For the table.
    Indexed,
    /// For no table.
    Literal,
    /// For no table, of anybody on the way either.
    Never,
}

/// Why a request cannot be said.
const NO_ADDRESS: &str = "its address has no scheme or no host";

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { table: VecDeque::new(), size: 0, max: TABLE, smallest: None, path: Vec::new() }
    }

    /// The peer keeps a table of so many bytes.
    pub(super) fn set_max(&mut self, max: usize) {
        let max = max.min(TABLE);
        if max != self.max {
            self.smallest = Some(self.smallest.map_or(max, |smallest| smallest.min(max)));
            self.max = max;
            self.evict(0);
        }
    }

    /// Appends the block of a request's fields, or leaves everything as it was.
    pub(super) fn encode(&mut self, head: &request::Parts, into: &mut Vec<u8>) -> Result<(), &'static str> {
        let (Some(scheme), Some(authority)) = (head.uri.scheme_str(), head.uri.authority()) else {
            return Err(NO_ADDRESS);
        };
        self.tell_size(into);
        if head.method == Method::POST {
            into.push(0x83);
        } else {
            literal(into, 2, head.method.as_str());
        }
        match scheme {
            "https" => into.push(0x87),
            other => literal(into, 6, other),
        }
        self.field(into, Name::Authority, authority.as_str().as_bytes(), Way::Indexed);
        self.path(&head.uri, into);
        for (name, value) in &head.headers {
            let way = if value.is_sensitive() { Way::Never } else { Way::Indexed };
            // Peers may take white space around a value for malformed (RFC 9113 8.2.1); it means nothing in HTTP.
            self.field(into, Name::Header(name), value.as_bytes().trim_ascii(), way);
        }
        Ok(())
    }

    /// Says that the table has another size (RFC 7541 4.2).
    fn tell_size(&mut self, into: &mut Vec<u8>) {
        if let Some(smallest) = self.smallest.take() {
            if smallest < self.max {
                write_number(into, 0x20, 5, smallest);
            }
            write_number(into, 0x20, 5, self.max);
        }
    }

    fn path(&mut self, uri: &Uri, into: &mut Vec<u8>) {
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes();
        let way = if self.path == path { Way::Indexed } else { Way::Literal };
        if way == Way::Literal {
            self.path.clear();
            self.path.extend_from_slice(path);
        }
        self.field(into, Name::Path, path, way);
    }

    fn field(&mut self, into: &mut Vec<u8>, name: Name<&HeaderName>, value: &[u8], way: Way) {
        let size = name.text().len() + value.len() + OVERHEAD;
        // One that takes half of the table is not worth what it pushes out.
        let way = if way == Way::Indexed && size > self.max / 2 { Way::Literal } else { way };
        let (first, prefix) = match way {
            Way::Indexed => {
                if let Some(nth) = self.table.iter().position(|known| known.is(name) && *known.value == *value) {
                    write_number(into, 0x80, 7, 62 + nth);
                    return;
                }
                (0x40, 6)
            }
            Way::Literal => (0x00, 4),
            Way::Never => (0x10, 4),
        };
        // No entry has the number 0: a name follows.
        let number = self.name(name);
        write_number(into, first, prefix, number.unwrap_or(0));
        if number.is_none() {
            text(into, name.text().as_bytes());
        }
        text(into, value);
        if way == Way::Indexed {
            self.evict(size);
            self.size += size;
            self.table.push_front(Known { name: name.owned(), value: value.into() });
        }
    }

    /// The number that stands for a name alone.
    fn name(&self, name: Name<&HeaderName>) -> Option<usize> {
        let known = || self.table.iter().position(|known| known.is(name)).map(|nth| 62 + nth);
        match name {
            Name::Authority => Some(1),
            Name::Path => Some(4),
            Name::Header(name) if *name == header::AUTHORIZATION => Some(23),
            Name::Header(name) if *name == header::CONTENT_TYPE => Some(31),
            Name::Header(_) => known(),
        }
    }

    /// Makes room for so many bytes, the oldest first.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.max
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.name.by_ref().text().len() + oldest.value.len() + OVERHEAD;
        }
    }
}

impl Known {
    fn is(&self, name: Name<&HeaderName>) -> bool {
        self.name.by_ref() == name
    }
}

impl Name<HeaderName> {
    fn by_ref(&self) -> Name<&HeaderName> {
        match self {
            Name::Authority => Name::Authority,
            Name::Path => Name::Path,
            Name::Header(name) => Name::Header(name),
        }
    }
}

impl<'a> Name<&'a HeaderName> {
    fn text(self) -> &'a str {
        match self {
            Name::Authority => ":authority",
            Name::Path => ":path",
            Name::Header(name) => name.as_str(),
        }
    }

    fn owned(self) -> Name<HeaderName> {
        match self {
            Name::Authority => Name::Authority,
            Name::Path => Name::Path,
            Name::Header(name) => Name::Header(name.clone()),
        }
    }
}

/// A field for no table, whose name has a number.
fn literal(into: &mut Vec<u8>, name: usize, value: &str) {
    write_number(into, 0, 4, name);
    text(into, value.as_bytes());
}

/// A text that is not coded.
fn text(into: &mut Vec<u8>, text: &[u8]) {
    write_number(into, 0, 7, text.len());
    into.extend_from_slice(text);
}
