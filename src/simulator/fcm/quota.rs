//! A project's quota: so many messages, refilled wholly a minute after the first one was taken (Google: throttling and quotas). Pure.

/// Length of a window, ms.
const WINDOW: i64 = 60_000;

/// What is left of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    used: u64,
    refilled_at: i64,
}

impl Bucket {
    /// Takes one of `per_minute` (0: no limit). An error says in how many seconds there is more.
    pub fn take(&mut self, per_minute: u64, now_ms: i64) -> Result<(), u32> {
        if per_minute == 0 {
            return Ok(());
        }
        if now_ms >= self.refilled_at + WINDOW {
            *self = Bucket { used: 0, refilled_at: now_ms };
        }
        if self.used < per_minute {
            self.used += 1;
            return Ok(());
        }
        let left_ms = self.refilled_at + WINDOW - now_ms;
        Err(u32::try_from(left_ms.unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_after_the_first_all_is_there_again() {
        let mut bucket = Bucket::default();
        let now = 1_700_000_000_000;
        assert_eq!((bucket.take(2, now), bucket.take(2, now + 500)), (Ok(()), Ok(())));
        assert_eq!(bucket.take(2, now + 1_000), Err(59));
        assert_eq!(bucket.take(2, now + 59_999), Err(1));
        assert_eq!(bucket.take(2, now + 60_000), Ok(()));
        assert!((0..1_000).all(|_| bucket.take(0, now) == Ok(())), "no limit");
    }
}
