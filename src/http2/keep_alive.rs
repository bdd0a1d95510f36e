//! When to PING and when to call a peer dead. Pure: time is an argument.
//!
//! A connection can die without a word (a middlebox forgets it, a host vanishes); TCP would notice after many minutes.

use std::time::Duration;

use tokio::time::Instant;

/// What a tick asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Fine,
    /// Send a PING.
    Ping,
    /// Give the connection up: the peer has said nothing for this long although it should have.
    Dead(Duration),
}

/// What is known of one peer's signs of life.
#[derive(Debug)]
pub(super) struct KeepAlive {
    ping_after: Option<Duration>,
    dead_after: Duration,
    heard_at: Instant,
    heard_bytes: u64,
    ping_sent: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn new(ping_after: Option<Duration>, dead_after: Duration, now: Instant, read: u64) -> Self {
        KeepAlive { ping_after, dead_after, heard_at: now, heard_bytes: read, ping_sent: None }
    }

    /// Judges the peer: `read` bytes received so far, the oldest unanswered request begun at `oldest`.
    ///
    /// With pings, a request that waits in silence is followed by a PING after half of `dead_after`, so that a slow
    /// peer is told from a dead one and the dead one is still noticed within `dead_after`.
    pub(super) fn beat(&mut self, now: Instant, read: u64, oldest: Option<Instant>) -> Beat {
        if read != self.heard_bytes {
            self.heard_bytes = read;
            self.heard_at = now;
            self.ping_sent = None;
        }
        let silent = now.duration_since(self.heard_at);
        let waiting = oldest.map_or(Duration::ZERO, |begun| now.duration_since(begun.max(self.heard_at)));
        let Some(ping_after) = self.ping_after else {
            return if waiting >= self.dead_after { Beat::Dead(waiting) } else { Beat::Fine };
        };
        match self.ping_sent {
            Some(sent) => {
                let unanswered = now.duration_since(sent);
                let dead =
                    unanswered >= self.dead_after || (waiting >= self.dead_after && unanswered >= self.dead_after / 2);
                if dead { Beat::Dead(silent) } else { Beat::Fine }
            }
            None if silent >= ping_after || waiting >= self.dead_after / 2 => {
                self.ping_sent = Some(now);
                Beat::Ping
            }
            None => Beat::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_idle_peer_is_pinged_and_lives_by_its_answer() {
        let start = Instant::now();
        let mut peer = KeepAlive::new(Some(seconds(60)), seconds(15), start, 0);
        assert_eq!(peer.beat(start + seconds(59), 0, None), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(60), 0, None), Beat::Ping);
        assert_eq!(peer.beat(start + seconds(61), 0, None), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(62), 17, None), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(121), 17, None), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(122), 17, None), Beat::Ping);
    }

    #[test]
    fn an_unanswered_ping_means_death() {
        let start = Instant::now();
        let mut peer = KeepAlive::new(Some(seconds(60)), seconds(15), start, 0);
        assert_eq!(peer.beat(start + seconds(60), 0, None), Beat::Ping);
        assert_eq!(peer.beat(start + seconds(74), 0, None), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(75), 0, None), Beat::Dead(seconds(75)));
    }

    #[test]
    fn a_waiting_request_makes_death_known_within_the_bound() {
        let start = Instant::now();
        let mut peer = KeepAlive::new(Some(seconds(3600)), seconds(16), start, 0);
        let begun = Some(start + seconds(100));
        assert_eq!(peer.beat(start + seconds(107), 0, begun), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(108), 0, begun), Beat::Ping);
        assert_eq!(peer.beat(start + seconds(115), 0, begun), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(116), 0, begun), Beat::Dead(seconds(116)));
    }

    #[test]
    fn a_slow_peer_that_answers_pings_is_not_dead() {
        let start = Instant::now();
        let mut peer = KeepAlive::new(Some(seconds(3600)), seconds(10), start, 0);
        let begun = Some(start);
        let mut read = 0;
        for second in 1..100 {
            match peer.beat(start + seconds(second), read, begun) {
                Beat::Ping => read += 17,
                Beat::Fine => {}
                Beat::Dead(_) => panic!("called dead after {second} s"),
            }
        }
        assert!(read > 0);
    }

    #[test]
    fn without_pings_only_a_waiting_request_can_tell() {
        let start = Instant::now();
        let mut peer = KeepAlive::new(None, seconds(15), start, 0);
        assert_eq!(peer.beat(start + seconds(9999), 0, None), Beat::Fine);
        let begun = Some(start + seconds(10_000));
        assert_eq!(peer.beat(start + seconds(10_014), 0, begun), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(10_014), 5, begun), Beat::Fine, "other answers are signs of life");
        assert_eq!(peer.beat(start + seconds(10_028), 5, begun), Beat::Fine);
        assert_eq!(peer.beat(start + seconds(10_029), 5, begun), Beat::Dead(seconds(15)));
    }
}
