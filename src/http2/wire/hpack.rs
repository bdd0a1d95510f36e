//! What both directions of HPACK share (RFC 7541): the static table, and numbers.

use super::frame::Broken;

/// What an entry of a table counts for beyond its texts (RFC 7541 4.1).
pub(super) const OVERHEAD: usize = 32;
/// Bytes of a dynamic table: what a peer may use of ours, and the most that we use of its (RFC 9113 6.5.2).
pub(super) const TABLE: usize = 4096;

/// A field of a table.
type Field = (&'static str, &'static str);

/// RFC 7541 Appendix A; the first has index 1.
#[rustfmt::skip]
pub(super) const STATIC: [Field; 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Appends a number whose first byte has `prefix` bits for it, beside the bits of `first` (RFC 7541 5.1).
pub(super) fn write_number(into: &mut Vec<u8>, first: u8, prefix: u32, number: usize) {
    let most = (1 << prefix) - 1;
    if number < most {
        into.push(first | number as u8);
        return;
    }
    into.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        into.push(rest as u8 | 128);
        rest >>= 7;
    }
    into.push(rest as u8);
}

/// Takes a number off the block's beginning. None that means anything here has more than 28 bits beyond its prefix.
pub(super) fn read_number(block: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    const ENDS: Broken = Broken::compression("a number that ends before its end");
    let most = (1 << prefix) - 1;
    let mut number = usize::from(take(block).ok_or(ENDS)?) & most;
    if number < most {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take(block).ok_or(ENDS)?;
        number += usize::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(number);
        }
    }
    Err(Broken::compression("a number that is too large"))
}

fn take(block: &mut &[u8]) -> Option<u8> {
    let (first, rest) = block.split_first()?;
    *block = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_numbers_of_rfc_7541_appendix_c() {
        for (number, prefix, coded) in [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])] {
            let mut bytes = Vec::new();
            write_number(&mut bytes, 0, prefix, number);
            assert_eq!(bytes, coded);
        }
        assert!(read_number(&mut &[0x1f, 0x80][..], 5).is_err(), "no end");
        assert!(read_number(&mut &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x01][..], 5).is_err(), "too large");
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number in 0usize..1 << 28, prefix in 4u32..8) {
            let mut bytes = Vec::new();
            write_number(&mut bytes, 0, prefix, number);
            let mut rest = &bytes[..];
            prop_assert_eq!(read_number(&mut rest, prefix), Ok(number));
            prop_assert!(rest.is_empty());
        }
    }
}
