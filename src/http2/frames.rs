//! Follows the frames in one direction of a connection, as far as flow control and the judgement of its peer need it. Pure.
//!
//! `h2` shows a stream's share of the peer's window only after it has opened the stream, which is too late to choose
//! another connection. So the window is counted here: DATA that leaves, `WINDOW_UPDATEs` that come (RFC 9113 6.9). And
//! whether a peer has answered is known here as soon as its HEADERS are read, not when a request's task comes to look; whether
//! it has said GOAWAY, also when the connection broke in the same moment.

/// The client's preface, which stands before its first frame.
pub(super) const PREFACE: usize = 24;
const HEAD: usize = 9;
const WINDOW_UPDATE: usize = HEAD + 4;
/// Types of frames (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

/// The place in a stream of frames, at any byte.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that are of no interest before the next frame's head.
    skip: usize,
    head: [u8; WINDOW_UPDATE],
    have: usize,
}

/// What the bytes changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Payload bytes of DATA frames that began.
    pub(super) data: u64,
    /// Bytes granted to the connection.
    pub(super) granted: u64,
    /// HEADERS frames that began: from a server, answers (and their trailers).
    pub(super) headers: u64,
    /// GOAWAY frames that began.
    pub(super) goaways: u64,
}

impl Frames {
    /// Begins after `skip` bytes.
    pub(super) fn new(skip: usize) -> Self {
        Frames { skip, head: [0; WINDOW_UPDATE], have: 0 }
    }

    /// Goes over the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Flow {
        let mut flow = Flow::default();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return flow;
            }
            let taken = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.wanted() {
                self.end_of_head(&mut flow);
            }
        }
    }

    fn len(&self) -> usize {
        u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize
    }

    /// Whether the frame's head, of which nine bytes are there, grants window to the connection.
    fn is_grant(&self) -> bool {
        self.have >= HEAD && self.head[3] == 8 && self.len() == 4 && self.head[5..HEAD] == [0; 4]
    }

    fn wanted(&self) -> usize {
        if self.is_grant() { WINDOW_UPDATE } else { HEAD }
    }

    fn end_of_head(&mut self, flow: &mut Flow) {
        if self.is_grant() {
            let [.., a, b, c, d] = self.head;
            flow.granted += u64::from(u32::from_be_bytes([a & 0x7f, b, c, d]));
        } else {
            self.skip = self.len();
            match self.head[3] {
                DATA => flow.data += self.len() as u64,
                HEADERS => flow.headers += 1,
                GOAWAY => flow.goaways += 1,
                _ => {}
            }
        }
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_counted_wherever_the_bytes_are_cut(
            frames in prop::collection::vec((0u8..10, 0u32..3, 0usize..200, 1u32..0x7fff_ffff), 0..30),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let mut bytes = vec![0xff; PREFACE];
            let mut expected = Flow::default();
            for (kind, stream, len, increment) in frames {
                if kind == 8 {
                    bytes.extend(frame(8, stream, &increment.to_be_bytes()));
                    expected.granted += if stream == 0 { u64::from(increment) } else { 0 };
                } else {
                    bytes.extend(frame(kind, stream, &vec![8; len]));
                    expected.data += if kind == DATA { len as u64 } else { 0 };
                    expected.headers += u64::from(kind == HEADERS);
                    expected.goaways += u64::from(kind == GOAWAY);
                }
            }
            let mut frames = Frames::new(PREFACE);
            let (mut seen, mut rest, mut cuts) = (Flow::default(), &bytes[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                let flow = frames.follow(part);
                seen.data += flow.data;
                seen.granted += flow.granted;
                seen.headers += flow.headers;
                seen.goaways += flow.goaways;
                rest = after;
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
