//! The parts of a map: which way of writing takes the fewest bytes where, writing and reading them.

use std::ops::Range;

/// Offsets from here on are refused; Kafka's never come near, and sums below cannot overflow.
const FARTHEST: i64 = 1 << 60;

/// Most ranges that can fit: even as bits, a range and what parts it from the next take two.
const MOST_RANGES: usize = super::CAPACITY * 4;

/// So many bits begin a part of bits: its varint, of three bytes at most for what fits at all.
const OPEN: u64 = 24;

/// So many bits are lost at most when a part of bits ends: it has whole bytes.
const CLOSE: u64 = 7;

/// A run of resolved offsets, maybe none, and the run behind it that is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    resolved: u64,
    /// At least 1. Behind the last range everything is unresolved: 1 stands for it.
    unresolved: u64,
}

impl Atom {
    /// What leads from offset `at` to the end of the ranges, adjacent ranges joined; `None` when they are not ascending,
    /// begin before it, or are too far or too many.
    pub(super) fn all(mut at: i64, ranges: &[Range<i64>]) -> Option<Vec<Atom>> {
        let mut atoms: Vec<Atom> = Vec::with_capacity(ranges.len().min(MOST_RANGES) + 1);
        for range in ranges.iter().filter(|range| range.start != range.end) {
            if range.start < at || range.start > range.end || range.end > FARTHEST || atoms.len() > MOST_RANGES {
                return None;
            }
            let (gap, length) = ((range.start - at) as u64, (range.end - range.start) as u64);
            at = range.end;
            match atoms.last_mut() {
                Some(last) if gap == 0 => last.resolved += length,
                Some(last) => {
                    last.unresolved = gap;
                    atoms.push(Atom { resolved: length, unresolved: 1 });
                }
                None => {
                    if gap > 0 {
                        atoms.push(Atom { resolved: 0, unresolved: gap });
                    }
                    atoms.push(Atom { resolved: length, unresolved: 1 });
                }
            }
        }
        Some(atoms)
    }

    /// Bytes as varints.
    fn bytes(self) -> u64 {
        let more = if self.unresolved > 1 { varint_len((self.unresolved - 1) << 2) } else { 0 };
        varint_len(self.resolved << 1) + more
    }

    /// Bits in a part of bits.
    fn bits(self) -> u64 {
        self.resolved + self.unresolved
    }
}

/// The cheapest way to write the atoms from one on, in bits.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Cost when no part of bits is open.
    cost: u64,
    /// Whether that begins with a part of bits.
    as_bits: bool,
    /// Cost when a part of bits is open and this atom is in it.
    cost_inside: u64,
    /// Whether the next atom then is in it as well.
    go_on: bool,
}

/// For each atom the cheapest way to write it and those behind it.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// From the end to the front: each step knows the best of those behind it.
    pub(super) fn of(atoms: &[Atom]) -> Self {
        let end = Step { cost: 0, as_bits: false, cost_inside: u64::MAX / 2, go_on: false };
        let mut steps = vec![end; atoms.len() + 1];
        for (index, atom) in atoms.iter().enumerate().rev() {
            let next = steps[index + 1];
            let (stay, leave) = (next.cost_inside, next.cost.saturating_add(CLOSE));
            let cost_inside = atom.bits().saturating_add(stay.min(leave)).min(u64::MAX / 2);
            let (varints, bits) = (next.cost.saturating_add(atom.bytes() * 8), cost_inside + OPEN);
            steps[index] = Step { cost: varints.min(bits), as_bits: bits < varints, cost_inside, go_on: stay < leave };
        }
        Plan { steps }
    }

    /// Bytes that all of it takes at most.
    pub(super) fn bytes(&self) -> u64 {
        self.steps[0].cost.div_ceil(8)
    }

    pub(super) fn write(&self, atoms: &[Atom], out: &mut Vec<u8>) {
        let mut index = 0;
        while let Some(atom) = atoms.get(index) {
            if self.steps[index].as_bits {
                let inside = self.steps[index..].iter().take_while(|step| step.go_on).count() + 1;
                write_bits(&atoms[index..index + inside], out);
                index += inside;
            } else {
                put_varint(atom.resolved << 1, out);
                if atom.unresolved > 1 {
                    put_varint((atom.unresolved - 1) << 2 | 0b11, out);
                }
                index += 1;
            }
        }
    }
}

fn write_bits(atoms: &[Atom], out: &mut Vec<u8>) {
    let bits: u64 = atoms.iter().map(|atom| atom.bits()).sum();
    put_varint(bits << 2 | 0b01, out);
    let first = out.len();
    out.resize(first + bits.div_ceil(8) as usize, 0);
    let mut at = 0;
    for atom in atoms {
        for bit in at..at + atom.resolved as usize {
            out[first + bit / 8] |= 1 << (bit % 8);
        }
        at += atom.bits() as usize;
    }
}

/// The resolved ranges that the parts name, counted on from offset `at`; `None` when they make no sense.
pub(super) fn read(at: i64, mut parts: &[u8]) -> Option<Vec<Range<i64>>> {
    let mut ranges = Ranges { at: Some(at).filter(|at| (0..=FARTHEST).contains(at))?, found: Vec::new() };
    while !parts.is_empty() {
        let part = take_varint(&mut parts)?;
        match part & 0b11 {
            0b11 => ranges.skip(part >> 2)?,
            0b01 => ranges.bits(part >> 2, &mut parts)?,
            _ => {
                ranges.resolved(part >> 1)?;
                ranges.skip(1)?;
            }
        }
    }
    Some(ranges.found)
}

/// Resolved ranges as they are found.
struct Ranges {
    at: i64,
    found: Vec<Range<i64>>,
}

impl Ranges {
    fn skip(&mut self, count: u64) -> Option<()> {
        // One beyond the farthest is the place behind the last range.
        self.at = self.at.checked_add_unsigned(count).filter(|at| *at <= FARTHEST + 1)?;
        Some(())
    }

    fn resolved(&mut self, count: u64) -> Option<()> {
        let start = self.at;
        self.skip(count)?;
        match self.found.last_mut() {
            _ if count == 0 => {}
            Some(last) if last.end == start => last.end = self.at,
            _ => self.found.push(start..self.at),
        }
        Some(())
    }

    fn bits(&mut self, count: u64, parts: &mut &[u8]) -> Option<()> {
        let (bits, rest) = parts.split_at_checked(usize::try_from(count.div_ceil(8)).ok()?)?;
        *parts = rest;
        for bit in 0..count as usize {
            if bits[bit / 8] >> (bit % 8) & 1 == 1 { self.resolved(1)? } else { self.skip(1)? }
        }
        Some(())
    }
}

/// For each of these ranges, the bytes that it and those behind it take in a map at most; one more entry, 0, ends the list.
/// The ranges are ascending and do not touch; for others the costs are those of what can never fit.
pub(in crate::queue) fn costs_from_each(ranges: &[Range<i64>]) -> Vec<usize> {
    let atoms = ranges.first().and_then(|first| Atom::all(first.start, ranges));
    match atoms.filter(|atoms| atoms.len() == ranges.len()) {
        Some(atoms) => Plan::of(&atoms).steps.iter().map(|step| step.cost.div_ceil(8) as usize).collect(),
        None if ranges.is_empty() => vec![0],
        None => (0..=ranges.len()).map(|index| if index < ranges.len() { usize::MAX / 2 } else { 0 }).collect(),
    }
}

/// Bytes of a number as a varint.
fn varint_len(number: u64) -> u64 {
    u64::from((u64::BITS - (number | 1).leading_zeros()).div_ceil(7))
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// `None` for one that is cut short or exceeds 63 bits.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
