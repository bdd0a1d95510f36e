//! The stream limit as announced, acknowledged and broken. Pure.

use std::collections::VecDeque;

/// What to do with a stream that was just opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Within the limit.
    Serve,
    /// Above the present limit, but the peer had not acknowledged it yet: `REFUSED_STREAM`.
    Refuse,
    /// Above every limit that the peer may still believe in: it broke the protocol.
    Violation,
}

/// The limit on streams at once of one connection.
#[derive(Debug)]
pub struct Limits {
    current: u32,
    acknowledged: u32,
    unacknowledged: VecDeque<u32>,
}

impl Limits {
    /// Announced in the connection's first SETTINGS; until its acknowledgement the peer knows no limit (RFC 9113, 6.5.2).
    pub fn new(first: u32) -> Self {
        Limits { current: first, acknowledged: u32::MAX, unacknowledged: VecDeque::from([first]) }
    }

    /// The limit announced last.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// Another limit was announced.
    pub fn announce(&mut self, limit: u32) {
        self.current = limit;
        self.unacknowledged.push_back(limit);
    }

    /// SETTINGS were acknowledged: the oldest announced, as acknowledgements come in order (RFC 9113, 6.5.3).
    pub fn acknowledge(&mut self) {
        if let Some(limit) = self.unacknowledged.pop_front() {
            self.acknowledged = limit;
        }
    }

    /// Judges a new stream that makes `active` of them.
    pub fn judge(&self, active: usize) -> Judgement {
        let believed = self.unacknowledged.iter().copied().fold(self.acknowledged, u32::max);
        if active <= self.current as usize {
            Judgement::Serve
        } else if active <= believed as usize {
            Judgement::Refuse
        } else {
            Judgement::Violation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_binds_softly_until_acknowledged_and_hard_afterwards() {
        let mut limits = Limits::new(1);
        assert_eq!(limits.judge(1), Judgement::Serve);
        assert_eq!(limits.judge(2), Judgement::Refuse, "SETTINGS may still be on their way");
        limits.acknowledge();
        assert_eq!(limits.judge(2), Judgement::Violation);
        limits.announce(1000);
        assert_eq!(limits.judge(1000), Judgement::Serve, "a raised limit counts at once");
        limits.acknowledge();
        limits.announce(1);
        assert_eq!(limits.judge(2), Judgement::Refuse, "opened before the lowered limit was known");
        assert_eq!(limits.judge(1001), Judgement::Violation);
        limits.acknowledge();
        assert_eq!(limits.judge(2), Judgement::Violation);
    }
}
