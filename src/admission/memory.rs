//! Both stores in this process alone: for one worker without a Redis, and for tests. Bounded: what does not fit is not known.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::content::ContentKey;
use super::{Answer, Dedup, RateLimiter};

/// Most devices of a minute and most contents that are remembered, some 60 MB of each.
const MOST: usize = 500_000;

/// Pushes per device in the present minute.
#[derive(Debug)]
pub struct Minutes {
    rpm: usize,
    present: Mutex<Minute>,
}

/// Devices, and halves of the identities that were counted: a message may be lent again, and has paid.
#[derive(Debug, Default)]
struct Minute {
    number: u64,
    devices: HashMap<ContentKey, Vec<u64>>,
}

impl Minutes {
    /// At most `rpm` per device.
    pub fn new(rpm: u32) -> Self {
        Minutes { rpm: rpm as usize, present: Mutex::default() }
    }

    fn allow_at(&self, device: &str, identity: Uuid, minute: u64) -> Answer {
        let identity = identity.as_u64_pair().1;
        let mut present = self.present.lock();
        if present.number != minute {
            *present = Minute { number: minute, devices: HashMap::new() };
        }
        let (device, is_full) = (ContentKey::of(device, &[]), present.devices.len() >= MOST);
        match present.devices.get_mut(&device) {
            Some(paid) if paid.contains(&identity) => Answer::Yes,
            Some(paid) if paid.len() >= self.rpm => Answer::No,
            Some(paid) => {
                paid.push(identity);
                Answer::Yes
            }
            None if is_full => Answer::Unknown,
            None => {
                present.devices.insert(device, vec![identity]);
                Answer::Yes
            }
        }
    }
}

#[async_trait]
impl RateLimiter for Minutes {
    async fn allow(&self, device: &str, identity: Uuid) -> Answer {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.allow_at(device, identity, since.as_secs() / 60)
    }
}

/// Contents and who claims them.
#[derive(Debug)]
pub struct Contents {
    ttl: Duration,
    claims: Mutex<Claims>,
}

#[derive(Debug, Default)]
struct Claims {
    owners: HashMap<ContentKey, (Uuid, Instant)>,
    /// In the order of their ends, since all live equally long.
    ends: VecDeque<(Instant, ContentKey)>,
}

impl Contents {
    /// Each remembered for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Contents { ttl, claims: Mutex::default() }
    }

    fn claim_at(&self, key: ContentKey, identity: Uuid, now: Instant) -> Answer {
        let mut claims = self.claims.lock();
        claims.drop_until(now);
        match claims.owners.get(&key) {
            Some((owner, _)) if *owner == identity => Answer::Yes,
            Some(_) => Answer::No,
            None if claims.ends.len() >= MOST => Answer::Unknown,
            None => {
                let end = now + self.ttl;
                claims.owners.insert(key, (identity, end));
                claims.ends.push_back((end, key));
                Answer::Yes
            }
        }
    }
}

impl Claims {
    fn drop_until(&mut self, now: Instant) {
        while let Some((end, key)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            // Given up and claimed again, it has a later end by now.
            if self.owners.get(&key).is_some_and(|(_, its)| *its == end) {
                self.owners.remove(&key);
            }
        }
    }
}

#[async_trait]
impl Dedup for Contents {
    async fn is_unique(&self, key: ContentKey, identity: Uuid) -> Answer {
        self.claim_at(key, identity, Instant::now())
    }

    fn forget(&self, key: ContentKey, identity: Uuid) {
        let mut claims = self.claims.lock();
        if claims.owners.get(&key).is_some_and(|(owner, _)| *owner == identity) {
            claims.owners.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_pushes_of_each_minute() {
        let minutes = Minutes::new(2);
        let asked = |device, identity, minute| minutes.allow_at(device, Uuid::from_u128(identity), minute);
        assert_eq!([1, 2, 3].map(|n| asked("a", n, 7)), [Answer::Yes, Answer::Yes, Answer::No]);
        assert_eq!([1, 2, 1].map(|n| asked("a", n, 7)), [Answer::Yes; 3], "they have paid");
        assert_eq!((asked("b", 3, 7), asked("a", 3, 8)), (Answer::Yes, Answer::Yes));
    }

    #[test]
    fn what_does_not_fit_is_not_known_and_known_devices_go_on() {
        let minutes = Minutes::new(2);
        let asked = |device: &str, identity, minute| minutes.allow_at(device, Uuid::from_u128(identity), minute);
        for device in 0..MOST {
            assert_eq!(asked(&device.to_string(), 1, 1), Answer::Yes);
        }
        assert_eq!(asked("one more", 1, 1), Answer::Unknown);
        assert_eq!([2, 3].map(|n| asked("7", n, 1)), [Answer::Yes, Answer::No]);
        assert_eq!(asked("one more", 1, 2), Answer::Yes);
    }

    #[test]
    fn a_content_is_claimed_by_one_message_for_a_while() {
        let contents = Contents::new(Duration::from_mins(1));
        let (start, key) = (Instant::now(), ContentKey(1));
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(contents.claim_at(key, a, start), Answer::Yes);
        assert_eq!(contents.claim_at(key, b, after(30)), Answer::No);
        assert_eq!(contents.claim_at(key, a, after(59)), Answer::Yes, "its own claim");
        assert_eq!(contents.claim_at(key, b, after(60)), Answer::Yes, "a claim is not prolonged by asking");
        assert_eq!(contents.claim_at(ContentKey(2), a, after(60)), Answer::Yes);
    }

    #[test]
    fn a_claim_is_given_up_by_its_owner_alone_and_the_next_one_lives_as_long() {
        let contents = Contents::new(Duration::from_mins(1));
        let (start, key) = (Instant::now(), ContentKey(1));
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let after = |seconds| start + Duration::from_secs(seconds);
        contents.claim_at(key, a, start);
        contents.forget(key, b);
        assert_eq!(contents.claim_at(key, b, after(1)), Answer::No);
        contents.forget(key, a);
        assert_eq!(contents.claim_at(key, b, after(30)), Answer::Yes);
        assert_eq!(contents.claim_at(key, a, after(61)), Answer::No, "the first claim's end does not end the second");
        assert_eq!(contents.claim_at(key, a, after(90)), Answer::Yes);
    }
}
