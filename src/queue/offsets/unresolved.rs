//! The unresolved offsets of a ledger, in chunks of neighbours: constant time for what is lent in order and resolved in
//! any order, and memory for what is unresolved only. Also bounds, in constant time, what they cost in the map.

use std::collections::BTreeMap;
use std::time::Instant;

/// Offsets of a chunk, as a power of two.
const CHUNK_BITS: u32 = 10;

/// Most bytes that a chunk takes in the map: its offsets as bits, and what begins, ends and leaves that part.
const CHUNK_BYTES: usize = (1 << CHUNK_BITS) / 8 + 8;

/// Offsets of a block, as a power of two: a chunk has as many as a word has bits. A run of resolved ones that takes two bytes in
/// the map (64 of them or more) covers a whole block.
const BLOCK_BITS: u32 = 5;
const BLOCKS: usize = 1 << (CHUNK_BITS - BLOCK_BITS);

const _: () = assert!(BLOCKS == u32::BITS as usize);

/// Below so many entries a chunk is not worth tidying up.
const SMALL: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) lent_at: Instant,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    InFlight,
    /// To be lent again.
    GivenBack,
    /// A hole that is tidied up later.
    Resolved,
}

#[derive(Debug)]
struct Chunk {
    /// Ascending by offset.
    entries: Vec<Entry>,
    /// The first that is not resolved.
    head: usize,
    /// How many are not resolved; never 0.
    open: usize,
    /// How many of them are in each block.
    in_block: [u8; BLOCKS],
    /// The blocks that have some, the first is the lowest bit.
    blocks: u32,
}

impl Chunk {
    fn new(entries: Vec<Entry>) -> Self {
        Chunk { entries, head: 0, open: 0, in_block: [0; BLOCKS], blocks: 0 }
    }

    /// One more that is not resolved.
    fn opens(&mut self, offset: i64) {
        let block = block(offset);
        self.open += 1;
        self.in_block[block] += 1;
        self.blocks |= 1 << block;
    }

    /// One of them less.
    fn closes(&mut self, offset: i64) {
        let block = block(offset);
        self.open -= 1;
        self.in_block[block] -= 1;
        if self.in_block[block] == 0 {
            self.blocks &= !(1 << block);
        }
    }

    /// Without compaction the offsets are consecutive and the first guess is right.
    fn find(&self, offset: i64) -> Option<usize> {
        let guess = usize::try_from(offset - self.entries.first()?.offset).ok()?;
        let found = match self.entries.get(guess) {
            Some(entry) if entry.offset == offset => guess,
            _ => self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?,
        };
        (self.entries[found].state != State::Resolved).then_some(found)
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries[self.head..].iter().filter(|entry| entry.state != State::Resolved)
    }

    /// Moves the head on, and frees a chunk of a few stragglers of its holes.
    fn tidy(&mut self) {
        while self.entries.get(self.head).is_some_and(|entry| entry.state == State::Resolved) {
            self.head += 1;
        }
        if self.entries.len() > SMALL && self.open < self.entries.len() / 4 {
            self.entries.retain(|entry| entry.state != State::Resolved);
            self.entries.shrink_to(SMALL);
            self.head = 0;
        }
    }

    /// Most bytes in the map: each offset but the first ends a run of resolved ones, which takes one, or two when it is long:
    /// not more of them than there are gaps between its blocks.
    fn bytes(&self) -> usize {
        let others = self.open.saturating_sub(1);
        let stretches = (self.blocks & !(self.blocks << 1)).count_ones() as usize;
        (others + others.min(stretches.saturating_sub(1))).min(CHUNK_BYTES)
    }
}

/// Which block of its chunk an offset is in.
fn block(offset: i64) -> usize {
    (offset >> BLOCK_BITS) as usize % BLOCKS
}

#[derive(Debug, Default)]
pub(super) struct Unresolved {
    chunks: BTreeMap<i64, Chunk>,
    /// Sum of what the chunks take in the map beyond their firsts.
    bytes: usize,
    /// The memory of the chunk that ended last.
    spare: Vec<Entry>,
}

impl Unresolved {
    /// Adds one that lies behind all that were ever added.
    pub(super) fn push(&mut self, entry: Entry) {
        let new = || Chunk::new(std::mem::take(&mut self.spare));
        let chunk = self.chunks.entry(entry.offset >> CHUNK_BITS).or_insert_with(new);
        self.bytes -= chunk.bytes();
        chunk.opens(entry.offset);
        self.bytes += chunk.bytes();
        chunk.entries.push(entry);
    }

    pub(super) fn get(&self, offset: i64) -> Option<&Entry> {
        let chunk = self.chunks.get(&(offset >> CHUNK_BITS))?;
        chunk.entries.get(chunk.find(offset)?)
    }

    pub(super) fn get_mut(&mut self, offset: i64) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(&(offset >> CHUNK_BITS))?;
        let found = chunk.find(offset)?;
        chunk.entries.get_mut(found)
    }

    /// Ends the one in flight at `offset`; false when there is none.
    pub(super) fn resolve(&mut self, offset: i64) -> bool {
        let key = offset >> CHUNK_BITS;
        let Some(chunk) = self.chunks.get_mut(&key) else { return false };
        let Some(found) = chunk.find(offset).filter(|found| chunk.entries[*found].state == State::InFlight) else {
            return false;
        };
        chunk.entries[found].state = State::Resolved;
        self.bytes -= chunk.bytes();
        chunk.closes(offset);
        self.bytes += chunk.bytes();
        if chunk.open == 0 {
            let entries = self.chunks.remove(&key).map(|chunk| chunk.entries);
            self.spare = entries.unwrap_or_default();
            self.spare.clear();
        } else {
            chunk.tidy();
        }
        true
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.chunks.first_key_value().and_then(|(_, chunk)| chunk.entries.get(chunk.head))
    }

    /// How many there are; in the time of as many chunks.
    pub(super) fn len(&self) -> usize {
        self.chunks.values().map(|chunk| chunk.open).sum()
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.values().flat_map(Chunk::iter)
    }

    /// Most bytes that they take in a map of `span` offsets. The first of each chunk parts a run of any length from it,
    /// but a span has only so many long ones. A window that is dense all over is cheaper as bits.
    pub(super) fn map_bytes(&self, span: u64) -> usize {
        let firsts = self.chunks.len() as u64;
        let longer = |bits: u32| firsts.min(span >> bits);
        let parted = self.bytes as u64 + firsts + longer(6) + longer(13) + longer(20) + longer(27) + longer(34);
        parted.min(span / 8 + 4) as usize + 4
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.chunks.values().map(|chunk| chunk.entries.capacity()).sum()
    }
}
