//! Whether the database serves: an outage and its end are logged once each, and who waits for the end is woken by whoever
//! finds it first.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::reporters::invalid_token::DeleteError;

/// First pause before a failed statement is tried again, and the longest; it doubles.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Shared by all statements.
#[derive(Debug, Default)]
pub(super) struct Health {
    away_since: Mutex<Option<Instant>>,
    back: Notify,
}

impl Health {
    /// A statement found the database away.
    pub(super) fn note_away(&self, error: &DeleteError) {
        let mut since = self.away_since.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::warn!(%error, "dead tokens cannot be deleted: their records wait, and the rest waits in Kafka");
        }
    }

    /// A statement was answered.
    pub(super) fn note_well(&self) {
        if let Some(since) = self.away_since.lock().take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "the database of tokens serves again");
            self.back.notify_waiters();
        }
    }

    /// Waits before the next try: the longer the more there were, and no longer than the outage. False at the end of the process.
    pub(super) async fn pause(&self, tries: u32, end: &CancellationToken) -> bool {
        let ceiling = (PAUSE.0 * 2u32.saturating_pow(tries.min(16))).min(PAUSE.1);
        let pause = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = sleep(pause) => true,
            () = self.back.notified() => true,
            () = end.cancelled() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_outage_wakes_who_waits() {
        let (health, end) = (Arc::new(Health::default()), CancellationToken::new());
        health.note_away(&DeleteError::Away("test".into()));
        let waiting = {
            let (health, end) = (health.clone(), end.clone());
            tokio::spawn(async move { health.pause(20, &end).await })
        };
        tokio::task::yield_now().await;
        let began = Instant::now();
        health.note_well();
        assert!(waiting.await.unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_end_with_the_process() {
        let (health, end) = (Health::default(), CancellationToken::new());
        for (tries, least, most) in [(0, 50, 100), (1, 100, 200), (3, 400, 800), (40, 2_500, 5_000)] {
            let began = Instant::now();
            assert!(health.pause(tries, &end).await);
            assert!((least..=most + 1).contains(&began.elapsed().as_millis()), "{tries}: {:?}", began.elapsed());
        }
        end.cancel();
        assert!(!health.pause(0, &end).await);
    }
}
