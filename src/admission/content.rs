//! Which content is the same, and of which devices it is looked at. Pure.
//!
//! The hash is FNV-1a of 64 bits, as in the original; the sampling of devices is the original's to the bit, so that a share
//! means the same devices in both.

use std::fmt;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
struct Fnv1a(u64);

impl Fnv1a {
    const START: Fnv1a = Fnv1a(0xcbf2_9ce4_8422_2325);

    fn with(self, bytes: &[u8]) -> Self {
        Fnv1a(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
    }
}

/// A device and what goes to it, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey(pub u64);

impl ContentKey {
    /// Of the device's token and the parts of the content, each after a zero byte, which occurs in none of them.
    pub fn of(device: &str, content: &[&str]) -> Self {
        let start = Fnv1a::START.with(device.as_bytes());
        ContentKey(content.iter().fold(start, |hash, part| hash.with(&[0]).with(part.as_bytes())).0)
    }
}

impl fmt::Display for ContentKey {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Of how many of an app's devices content is compared, in per cent. Apps are compared without case, as keys are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(Vec<(String, u8)>);

impl Shares {
    /// These apps and shares; a share of 0 is none.
    pub fn new(shares: impl IntoIterator<Item = (String, u8)>) -> Self {
        Shares(shares.into_iter().filter(|(_, percent)| *percent > 0).collect())
    }

    /// Whether no device of any app is looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this device of this app is looked at.
    pub fn includes(&self, app: &str, device: &str) -> bool {
        let percent = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(app)).map_or(0, |(_, percent)| *percent);
        is_sampled(device, percent)
    }
}

/// Whether a device belongs to a share: the top 16 bits of its hash, modulo 100, are below it.
pub fn is_sampled(device: &str, percent: u8) -> bool {
    percent > 0 && (percent >= 100 || (Fnv1a::START.with(device.as_bytes()).0 >> 48) % 100 < u64::from(percent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test vectors of the hash's authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        let of = |text: &str| Fnv1a::START.with(text.as_bytes()).0;
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(of("chongo was here!\n"), 0x4681_0940_eff5_f915);
    }

    #[test]
    fn a_share_takes_the_originals_devices() {
        // 0xaf63 % 100 = 99, 0x8594 % 100 = 96, 0xcbf2 % 100 = 10.
        let taken = |device: &str| (0..=100).find(|percent| is_sampled(device, *percent));
        assert_eq!((taken("a"), taken("foobar"), taken("")), (Some(100), Some(97), Some(11)));
    }

    #[test]
    fn shares_are_found_in_any_case_and_absent_ones_are_none() {
        let shares = Shares::new([("Game".to_owned(), 100), ("other".to_owned(), 0)]);
        assert!(shares.includes("game", "d") && !shares.includes("other", "d") && !shares.includes("third", "d"));
        assert!(Shares::new([("other".to_owned(), 0)]).is_empty());
    }

    #[test]
    fn a_key_says_device_and_content_apart() {
        let keys = [
            ContentKey::of("ab", &["c", ""]),
            ContentKey::of("a", &["bc", ""]),
            ContentKey::of("ab", &["", "c"]),
            ContentKey::of("ab", &["c"]),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{at}");
        }
        assert_eq!(ContentKey::of("", &[]).to_string(), "cbf29ce484222325");
    }

    proptest! {
        #[test]
        fn a_larger_share_keeps_the_devices_of_a_smaller_one(device in ".{0,20}", a in 0u8..=100, b in 0u8..=100) {
            prop_assert!(!is_sampled(&device, a.min(b)) || is_sampled(&device, a.max(b)));
            prop_assert!(is_sampled(&device, 100) && !is_sampled(&device, 0));
        }
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let devices: Vec<_> =
            (0..10_000).map(|_| format!("{:032x}{:032x}", random.u128(..), random.u128(..))).collect();
        for percent in (0..=100).step_by(10) {
            let taken = devices.iter().filter(|device| is_sampled(device, percent)).count() as i64;
            assert!((taken - 100 * i64::from(percent)).abs() < 200, "{taken} of 10000 for {percent} %");
        }
    }
}
