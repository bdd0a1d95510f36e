//! The little of HTTP/2 framing (RFC 9113) that is needed beside the `h2` crate: where frames begin, and how a SETTINGS and a
//! GOAWAY frame are written. Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a frame's header (RFC 9113, 4.1).
pub const HEADER: usize = 9;
/// What a client sends before its first frame (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// HEADERS.
pub const HEADERS: u8 = 1;
/// `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// SETTINGS.
pub const SETTINGS: u8 = 4;
/// PING.
pub const PING: u8 = 6;
/// GOAWAY.
pub const GOAWAY: u8 = 7;
/// The ACK flag of SETTINGS and PING.
pub const ACK: u8 = 1;

const MAX_CONCURRENT_STREAMS: u16 = 3;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes that follow the header.
    pub length: usize,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a header from the first nine bytes; `None` when there are fewer.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Some(Head {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    fn write(self, into: &mut BytesMut) {
        into.put_slice(&(self.length as u32).to_be_bytes()[1..]);
        into.put_u8(self.kind);
        into.put_u8(self.flags);
        into.put_u32(self.stream);
    }

    /// Whether this acknowledges SETTINGS.
    pub fn is_settings_ack(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK != 0
    }
}

/// A SETTINGS frame that sets `MAX_CONCURRENT_STREAMS` alone.
pub fn settings(max_concurrent_streams: u32) -> Bytes {
    settings_with(&[], max_concurrent_streams)
}

/// A SETTINGS frame with `others` (pairs as written by another encoder) and `MAX_CONCURRENT_STREAMS`.
pub fn settings_with(others: &[u8], max_concurrent_streams: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + others.len() + 6);
    Head { length: others.len() + 6, kind: SETTINGS, flags: 0, stream: 0 }.write(&mut frame);
    frame.put_slice(others);
    frame.put_u16(MAX_CONCURRENT_STREAMS);
    frame.put_u32(max_concurrent_streams);
    frame.freeze()
}

/// A GOAWAY frame.
pub fn goaway(last_stream: u32, code: u32, debug: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + 8 + debug.len());
    Head { length: 8 + debug.len(), kind: GOAWAY, flags: 0, stream: 0 }.write(&mut frame);
    frame.put_u32(last_stream & 0x7fff_ffff);
    frame.put_u32(code);
    frame.put_slice(debug);
    frame.freeze()
}

/// A PING frame.
pub fn ping(payload: [u8; 8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + 8);
    Head { length: 8, kind: PING, flags: 0, stream: 0 }.write(&mut frame);
    frame.put_slice(&payload);
    frame.freeze()
}

/// Follows a byte stream through its frames, told only how many bytes passed.
#[derive(Debug, Default)]
pub struct Borders {
    head: [u8; HEADER],
    have: usize,
    left: usize,
}

impl Borders {
    /// Whether the next byte begins a frame.
    pub fn at_border(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes note of bytes that passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (HEADER - self.have).min(bytes.len());
            self.head[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if let (HEADER, Some(head)) = (self.have, Head::read(&self.head)) {
                self.left = head.length;
                self.have = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_written_as_rfc_9113_draws_them() {
        assert_eq!(&settings(1)[..], [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1]);
        assert_eq!(&goaway(5, 2, b"x")[..], [0, 0, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, b'x']);
        assert_eq!(&ping(*b"12345678")[..], b"\0\0\x08\x06\0\0\0\0\x0012345678");
        let head = Head::read(&[0, 1, 2, 1, 5, 0x80, 0, 0, 7]).expect("nine bytes");
        assert_eq!(head, Head { length: 258, kind: HEADERS, flags: 5, stream: 7 });
        assert_eq!(Head::read(&[0; 8]), None);
    }

    proptest! {
        #[test]
        fn borders_do_not_depend_on_how_the_bytes_are_cut(lengths in prop::collection::vec(0usize..40, 1..8), cuts in prop::collection::vec(1usize..20, 1..50)) {
            let mut bytes = BytesMut::new();
            let mut ends = vec![0];
            for length in lengths {
                Head { length, kind: 0, flags: 0, stream: 1 }.write(&mut bytes);
                bytes.put_bytes(0xff, length);
                ends.push(bytes.len());
            }
            let mut borders = Borders::default();
            let (mut at, mut cut) = (0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let to = bytes.len().min(at + cut.next().unwrap_or(1));
                borders.pass(&bytes[at..to]);
                at = to;
                prop_assert_eq!(borders.at_border(), ends.contains(&at), "at {}", at);
            }
        }
    }
}
