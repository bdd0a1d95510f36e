//! What one attempt says about the provider, whoever it is.

use std::time::Duration;

use crate::outcome::{Attempt, Class, Outcome, Refusal, Source, Verdict};

/// Key of a stream that the peer did not want to begin.
const REFUSED_STREAM: &str = "stream-refused";

/// What one attempt says about the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Nothing: it was not asked.
    Nothing,
    /// It works and takes our credentials: it answered in order, be it with a refusal of the message or its token.
    Good,
    /// It refuses this one device for now.
    Device,
    /// It, the way to it or our credentials failed.
    Fault {
        /// Because it has too much to do (503, `REFUSED_STREAM`).
        overload: bool,
        /// Its wish for the next attempt.
        wait: Duration,
    },
    /// The project's quota is used up.
    Quota {
        /// Until when.
        wait: Duration,
    },
}

impl Signal {
    /// Of an attempt's end.
    pub fn of(attempt: &Attempt) -> Signal {
        match &attempt.verdict {
            Verdict::Retry(refusal) | Verdict::Hold(refusal) => Signal::of_refusal(refusal),
            Verdict::Resolved(Outcome::Delivered(_)) => Signal::Good,
            Verdict::Resolved(Outcome::Rejected(refusal)) if refusal.source != Source::Local => Signal::Good,
            Verdict::Resolved(_) | Verdict::Released => Signal::Nothing,
        }
    }

    /// Of an attempt that ended in this refusal.
    pub fn of_refusal(refusal: &Refusal) -> Signal {
        // The wish of one device or connection is not the provider's.
        let wait = refusal.retry_after.filter(|_| refusal.source == Source::Project);
        match (refusal.class, refusal.source, wait) {
            (Class::Configuration, ..) => Signal::Fault { overload: false, wait: wait.unwrap_or_default() },
            (_, Source::Local, _) => Signal::Nothing,
            (_, Source::Device, _) => Signal::Device,
            (_, Source::Project, Some(wait)) if refusal.status == 429 => Signal::Quota { wait },
            (_, Source::Project | Source::Network, _) => {
                let overload = refusal.status == 503 || refusal.key == REFUSED_STREAM;
                Signal::Fault { overload, wait: wait.unwrap_or_default() }
            }
        }
    }

    /// How long the provider asks to be left alone.
    pub fn wait(self) -> Duration {
        match self {
            Signal::Fault { wait, .. } | Signal::Quota { wait } => wait,
            Signal::Nothing | Signal::Good | Signal::Device => Duration::ZERO,
        }
    }

    /// Whether it is a failure of any kind.
    pub fn is_bad(self) -> bool {
        !matches!(self, Signal::Nothing | Signal::Good)
    }

    /// Whether it is a failure of what all messages of the app share.
    pub fn is_fault(self) -> bool {
        matches!(self, Signal::Fault { .. } | Signal::Quota { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Acceptance;

    fn refusal(class: Class, source: Source, status: u16, wait: Option<u64>) -> Refusal {
        let retry_after = wait.map(Duration::from_secs);
        Refusal { source, status, retry_after, ..Refusal::local(class, "key", "Reason", "") }
    }

    fn of(verdict: Verdict) -> Signal {
        Signal::of(&Attempt { verdict, requests: 1, round_trip: Duration::ZERO })
    }

    #[test]
    fn an_answer_in_order_is_good_whatever_it_says_about_the_message() {
        let acceptance = Acceptance { status: 200, provider_id: None };
        assert_eq!(of(Verdict::Resolved(Outcome::Delivered(acceptance))), Signal::Good);
        let gone = refusal(Class::Token, Source::Device, 410, None);
        assert_eq!(of(Verdict::Resolved(Outcome::Rejected(gone))), Signal::Good);
    }

    #[test]
    fn what_did_not_ask_the_provider_says_nothing_about_it() {
        let malformed = refusal(Class::Message, Source::Local, 0, None);
        assert_eq!(of(Verdict::Resolved(Outcome::Rejected(malformed.clone()))), Signal::Nothing);
        assert_eq!(of(Verdict::Resolved(Outcome::Failed(malformed))), Signal::Nothing);
        assert_eq!(of(Verdict::Resolved(Outcome::Expired(None))), Signal::Nothing);
        assert_eq!(of(Verdict::Released), Signal::Nothing);
    }

    #[test]
    fn failures_are_told_apart_by_whom_they_concern() {
        let second = Duration::from_secs(1);
        let device = refusal(Class::Provider, Source::Device, 429, Some(60));
        assert_eq!(of(Verdict::Retry(device)), Signal::Device);
        let quota = refusal(Class::Provider, Source::Project, 429, Some(1));
        assert_eq!(of(Verdict::Retry(quota)), Signal::Quota { wait: second });
        let busy = refusal(Class::Provider, Source::Project, 503, Some(1));
        assert_eq!(of(Verdict::Retry(busy)), Signal::Fault { overload: true, wait: second });
        let broken = refusal(Class::Provider, Source::Project, 500, None);
        assert_eq!(of(Verdict::Retry(broken)), Signal::Fault { overload: false, wait: Duration::ZERO });
        let lost = refusal(Class::Provider, Source::Network, 0, None);
        assert_eq!(of(Verdict::Retry(lost.clone())), Signal::Fault { overload: false, wait: Duration::ZERO });
        let refused = Refusal { key: REFUSED_STREAM, ..lost };
        assert_eq!(of(Verdict::Retry(refused)), Signal::Fault { overload: true, wait: Duration::ZERO });
        let revoked = refusal(Class::Configuration, Source::Project, 403, None);
        assert_eq!(of(Verdict::Hold(revoked)), Signal::Fault { overload: false, wait: Duration::ZERO });
    }
}
