//! A hash for maps that are asked several times per push: keys come from our own topics and constants, never from an
//! attacker, so the standard hasher's protection would be paid for nothing.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`Quick`] hashers.
pub(super) type QuickHash = BuildHasherDefault<Quick>;

/// Eight bytes per step: rotate, mix in, multiply by an odd constant with well-spread bits (2^64 over the golden ratio).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quick(u64);

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(eight));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut eight = [0u8; 8];
            eight[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(eight));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        // The high bits are the well-mixed ones; maps look at both ends.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn close_keys_have_different_hashes() {
        let build = QuickHash::default();
        let hashes: HashSet<u64> = (0..10_000).map(|n| build.hash_one(format!("push-game{n}_apns-single"))).collect();
        assert_eq!(hashes.len(), 10_000);
        let low: HashSet<u64> = (0..128usize).map(|n| build.hash_one(0x7f00_0000 + n * 64) & 0x3ff).collect();
        assert!(low.len() > 100, "addresses spread over a small map: {}", low.len());
    }
}
