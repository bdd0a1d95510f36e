//! What ends a [`Connection`] from the simulator's side: age, idleness, too many PINGs.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Connection;
use crate::simulator::service::{Farewell, Service};

impl<S: Service, IO: AsyncRead + AsyncWrite + Unpin> Connection<S, IO> {
    /// Counts PINGs. Returns whether they were the ones too many, so that GOAWAY leaves at once.
    pub(super) fn note_pings(&mut self) -> bool {
        self.counters.pings.fetch_add(self.wire.take_pings(), Relaxed);
        self.counters.pings_answered.fetch_add(self.wire.take_pings_answered(), Relaxed);
        let most = self.levers.most_pings;
        let too_many = most > 0 && !self.going_away && self.wire.most_pings_in_a_row() >= most;
        if too_many {
            self.go_away(&self.service.farewell(Farewell::TooManyPings));
        }
        too_many
    }

    /// When this connection ends by itself, and why.
    pub(super) fn farewell_at(&self) -> Option<(Instant, Farewell)> {
        if self.going_away {
            return None;
        }
        let at = |from: Instant, ms: u64, why| (ms > 0).then(|| (from + Duration::from_millis(ms), why));
        let old = at(self.opened, self.levers.max_age_ms, Farewell::MaxAge);
        let idle = at(self.quiet_since, self.levers.idle_ms, Farewell::Idle).filter(|_| self.active == 0);
        old.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }

    pub(super) fn part_if_due(&mut self) {
        let now = Instant::now();
        if let Some((_, why)) = self.farewell_at().filter(|(at, _)| *at <= now) {
            self.go_away(&self.service.farewell(why));
        }
    }
}
