//! Which errors of the Kafka client are news. Pure: a moment is an argument.
//!
//! The client reports one failure several times, by several ways and in different words, and again with each attempt to
//! reconnect. What makes an error known is its code.

use std::time::{Duration, Instant};

/// So long after the last error the brokers are called well again, if they answer. One broker of several that is down
/// goes on failing while the others answer.
const QUIET: Duration = Duration::from_secs(10);

/// Errors that were told since the brokers were well.
#[derive(Debug)]
pub(super) struct Complaints<Code> {
    known: Vec<Code>,
    last: Option<Instant>,
}

impl<Code> Default for Complaints<Code> {
    fn default() -> Self {
        Complaints { known: Vec::new(), last: None }
    }
}

impl<Code: PartialEq> Complaints<Code> {
    /// Notes an error; whether it is news.
    pub(super) fn is_news(&mut self, code: Code, now: Instant) -> bool {
        self.last = Some(now);
        let is_news = !self.known.contains(&code);
        if is_news {
            self.known.push(code);
        }
        is_news
    }

    /// The brokers answered; whether that is news. What fails from then on is news again.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        let quiet = self.last.is_some_and(|last| now.saturating_duration_since(last) >= QUIET);
        if quiet {
            self.known.clear();
            self.last = None;
        }
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_until_the_brokers_have_been_well_for_a_while() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!complaints.answered(at(0)), "nothing was wrong");
        assert!(complaints.is_news("transport", at(0)));
        assert!(!complaints.is_news("transport", at(0)), "the same in other words");
        assert!(complaints.is_news("all down", at(1)));
        assert!(!complaints.is_news("transport", at(2)));
        assert!(!complaints.answered(at(3)), "another broker, perhaps");
        assert!(!complaints.is_news("transport", at(12)));
        assert!(!complaints.answered(at(21)) && complaints.answered(at(22)));
        assert!(!complaints.answered(at(40)), "told once");
        assert!(complaints.is_news("transport", at(41)));
    }
}
