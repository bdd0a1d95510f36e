//! Frames as bytes (RFC 9113 4 and 6), and what a peer is told that breaks their rules.

/// The client's preface (RFC 9113 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Longest payload that we take, and the longest that every peer must take (RFC 9113 6.5.2).
pub(super) const MAX_FRAME: usize = 16_384;
/// The largest window, the largest stream id.
pub(super) const MAX_31: u32 = 0x7fff_ffff;

/// Types (RFC 9113 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// An error code (RFC 9113 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Nothing is wrong.
    pub const NO_ERROR: Code = Code(0);
    pub(super) const PROTOCOL_ERROR: Code = Code(1);
    pub(super) const FLOW_CONTROL_ERROR: Code = Code(3);
    pub(super) const FRAME_SIZE_ERROR: Code = Code(6);
    /// The stream was not processed.
    pub const REFUSED_STREAM: Code = Code(7);
    pub(super) const CANCEL: Code = Code(8);
    pub(super) const COMPRESSION_ERROR: Code = Code(9);
    pub(super) const ENHANCE_YOUR_CALM: Code = Code(11);
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

/// The peer broke a rule on which the whole connection stands (RFC 9113 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub(super) code: Code,
    pub(super) why: &'static str,
}

impl Broken {
    pub(super) const fn protocol(why: &'static str) -> Broken {
        Broken { code: Code::PROTOCOL_ERROR, why }
    }

    pub(super) const fn compression(why: &'static str) -> Broken {
        Broken { code: Code::COMPRESSION_ERROR, why }
    }

    pub(super) const fn size(why: &'static str) -> Broken {
        Broken { code: Code::FRAME_SIZE_ERROR, why }
    }

    pub(super) const fn flow(why: &'static str) -> Broken {
        Broken { code: Code::FLOW_CONTROL_ERROR, why }
    }

    pub(super) const fn flood(why: &'static str) -> Broken {
        Broken { code: Code::ENHANCE_YOUR_CALM, why }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the peer broke the rules of HTTP/2 with {} ({})", self.why, self.code)
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the payload.
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// Of the bytes that begin with one.
    pub(super) fn read(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Head { len, kind, flags, stream: u32::from_be_bytes(stream) & MAX_31 })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends the head.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let mut head = [0; HEAD];
        head[..3].copy_from_slice(&(self.len as u32).to_be_bytes()[1..]);
        (head[3], head[4]) = (self.kind, self.flags);
        head[5..].copy_from_slice(&self.stream.to_be_bytes());
        into.extend_from_slice(&head);
    }
}

/// Appends a whole frame.
pub(super) fn write(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    Head { len: payload.len(), kind, flags, stream }.write(into);
    into.extend_from_slice(payload);
}

/// A payload without its padding (RFC 9113 6.1).
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Broken> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let Some((padding, rest)) = payload.split_first() else {
        return Err(Broken::size("a padded frame without a length"));
    };
    let end = rest.len().checked_sub(usize::from(*padding));
    end.map(|end| &rest[..end]).ok_or(Broken::protocol("a padding that is longer than its frame"))
}

/// The four bytes of a payload that must have just these.
pub(super) fn number(payload: &[u8], too: &'static str) -> Result<u32, Broken> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| Broken::size(too))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_the_reserved_bit_is_nothing() {
        let head = Head { len: 0x0001_0203, kind: HEADERS, flags: END_HEADERS, stream: MAX_31 };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        bytes[5] |= 0x80;
        assert_eq!(Head::read(&bytes), Some(head));
        assert_eq!(Head::read(&bytes[..8]), None);
    }

    #[test]
    fn paddings_are_taken_off() {
        let head = |flags| Head { len: 0, kind: DATA, flags, stream: 1 };
        assert_eq!(unpadded(head(0), &[2, 1, 0, 0]), Ok(&[2, 1, 0, 0][..]));
        assert_eq!(unpadded(head(PADDED), &[2, 1, 0, 0]), Ok(&[1][..]));
        assert_eq!(unpadded(head(PADDED), &[3, 0, 0, 0]), Ok(&[][..]));
        assert_eq!(unpadded(head(PADDED), &[4, 0, 0, 0]).unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(unpadded(head(PADDED), &[]).unwrap_err().code, Code::FRAME_SIZE_ERROR);
    }
}
