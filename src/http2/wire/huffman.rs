//! Huffman's code for the texts of header fields (RFC 7541 5.2 and Appendix B), in the one direction that is needed: what we
//! send is not coded. A push's own texts are short, and coding them would cost more than the bytes that it saves.

use super::frame::Broken;

/// Bits of each byte's code. The code is canonical: of one length, codes follow each other as their bytes do, and a longer one begins
/// behind the last shorter one; so the lengths are the whole table.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;
/// Codes of up to this many bits are found by one look.
const SHORT: u32 = 8;

struct Table {
    /// By the next [`SHORT`] bits: the byte, and the length of its code; 0 for the beginning of a longer one.
    short: [(u8, u8); 1 << SHORT],
    /// Bytes in the order of their codes.
    bytes: [u8; 256],
    /// By length: the first code, how many there are, and where their bytes begin.
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    from: [u32; LONGEST + 1],
}

static TABLE: Table = Table::new();

impl Table {
    const fn new() -> Table {
        let (first, count, from) = ([0; LONGEST + 1], [0; LONGEST + 1], [0; LONGEST + 1]);
        let mut table = Table { short: [(0, 0); 1 << SHORT], bytes: [0; 256], first, count, from };
        let (mut length, mut code, mut place) = (1, 0u32, 0);
        while length <= LONGEST {
            code <<= 1;
            (table.first[length], table.from[length]) = (code, place);
            let mut byte = 0;
            while byte < 256 {
                if LENGTHS[byte] as usize == length {
                    table.bytes[place as usize] = byte as u8;
                    table.shorten(byte as u8, code, length as u32);
                    (code, place) = (code + 1, place + 1);
                }
                byte += 1;
            }
            table.count[length] = code - table.first[length];
            length += 1;
        }
        table
    }

    /// Enters a code in the table of short ones, once for each of the bits that may follow it.
    const fn shorten(&mut self, byte: u8, code: u32, length: u32) {
        if length > SHORT {
            return;
        }
        let (mut at, end) = (code << (SHORT - length), (code + 1) << (SHORT - length));
        while at < end {
            self.short[at as usize] = (byte, length as u8);
            at += 1;
        }
    }

    /// The byte whose code the bits begin with, and that code's length.
    fn look(&self, bits: u64) -> Option<(u8, u32)> {
        let (byte, length) = self.short[(bits >> (64 - SHORT)) as usize];
        if length > 0 {
            return Some((byte, u32::from(length)));
        }
        (SHORT as usize + 1..=LONGEST).find_map(|length| {
            let nth = ((bits >> (64 - length)) as u32).checked_sub(self.first[length])?;
            (nth < self.count[length]).then(|| (self.bytes[(self.from[length] + nth) as usize], length as u32))
        })
    }
}

/// Appends the decoded text. Fails on what is no code, on the code of "end of string", and on a padding that is not the beginning of it or
/// is longer than seven bits.
pub(super) fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Broken> {
    let (mut bits, mut have) = (0u64, 0u32);
    let mut coded = coded.iter();
    loop {
        while have <= 56
            && let Some(byte) = coded.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        match TABLE.look(bits).filter(|(_, length)| *length <= have) {
            Some((byte, length)) => {
                into.push(byte);
                bits <<= length;
                have -= length;
            }
            None if have < 8 && bits.count_ones() == have => return Ok(()),
            None => return Err(Broken::compression("a text that is not in Huffman's code")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other direction, by the definition.
    pub(in crate::http2::wire) fn encode(text: &[u8]) -> Vec<u8> {
        let code = |byte: &u8| {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let nth = TABLE.bytes.iter().position(|found| found == byte).unwrap() as u32 - TABLE.from[length];
            format!("{:0length$b}", TABLE.first[length] + nth)
        };
        let mut bits = text.iter().map(code).collect::<Vec<_>>().concat();
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes().chunks(8).map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).ok().map(|()| text)
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_texts_of_rfc_7541_appendix_c() {
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(decoded(&hex(coded)).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), hex(coded));
        }
    }

    #[test]
    fn the_longest_codes_are_those_of_the_appendix() {
        // Of 10, 13 and 22, the three of 30 bits.
        for (byte, code) in [(10, 0x3fff_fffc_u32), (13, 0x3fff_fffd), (22, 0x3fff_fffe)] {
            assert_eq!(encode(&[byte]), (code << 2 | 3).to_be_bytes());
        }
    }

    #[test]
    fn a_padding_is_short_and_all_ones_and_the_end_is_never_coded() {
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Some(&b"a"[..]), "five bits, and three of padding");
        assert_eq!(decoded(&[0b0001_1110]), None, "a padding with a zero");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), None, "a byte of padding");
        assert_eq!(decoded(&[0xff; 4]), None, "the end of a string");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn what_can_be_decoded_is_the_code_of_that(coded in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
