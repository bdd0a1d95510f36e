//! What can be proved about a neighbour before anything is consumed: by a start, which stops at what somebody must mend, and
//! by `pusher check`, which says all of it. Plain data and the work that finds it out. Depends on nothing of ours.

use std::future::Future;
use std::pin::Pin;

/// How a proof came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Proved,
    /// It does not, and a restart would not help: somebody must mend it.
    Wrong,
    /// The neighbour did not answer, or not well: it may come back by itself.
    Away,
    /// Neither: there is nothing to prove, or no way to.
    Unproved,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two: `feedback topic`.
    pub subject: String,
    /// How it came out.
    pub state: State,
    /// What was seen. Holds no secret.
    pub said: String,
    /// What mends it, when it is known.
    pub fix: Option<String>,
}

impl Finding {
    /// It holds.
    pub fn proved(subject: &str, said: impl Into<String>) -> Self {
        Finding::new(subject, State::Proved, said)
    }

    /// Somebody must mend it.
    pub fn wrong(subject: &str, said: impl Into<String>) -> Self {
        Finding::new(subject, State::Wrong, said)
    }

    /// No answer, or not a good one.
    pub fn away(subject: &str, said: impl Into<String>) -> Self {
        Finding::new(subject, State::Away, said)
    }

    /// Nothing to prove, or no way to.
    pub fn unproved(subject: &str, said: impl Into<String>) -> Self {
        Finding::new(subject, State::Unproved, said)
    }

    fn new(subject: &str, state: State, said: impl Into<String>) -> Self {
        Finding { subject: subject.to_owned(), state, said: said.into(), fix: None }
    }

    /// The same, with what mends it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Finding { fix: Some(fix.into()), ..self }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)?;
        self.fix.iter().try_for_each(|fix| write!(f, "; {fix}"))
    }
}

/// Something to be proved, and the work of it. The work bounds itself; who runs it bounds it once more.
pub struct Proof {
    /// Named when the work does not end.
    pub subject: String,
    /// The work. Runs inside a tokio runtime.
    pub work: Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>,
}

impl Proof {
    /// A proof by this work.
    pub fn new(subject: impl Into<String>, work: impl Future<Output = Vec<Finding>> + Send + 'static) -> Self {
        Proof { subject: subject.into(), work: Box::pin(work) }
    }

    /// A proof by work that blocks.
    pub fn blocking(subject: &str, work: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Self {
        let name = subject.to_owned();
        Proof::new(subject, async move {
            let ended = tokio::task::spawn_blocking(work).await;
            ended.unwrap_or_else(|error| vec![Finding::away(&name, format!("the probe itself failed: {error}"))])
        })
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").field("subject", &self.subject).finish_non_exhaustive()
    }
}
