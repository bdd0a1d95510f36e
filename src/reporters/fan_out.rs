//! All reporters of a process, as delivery and the wiring use them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::stats::{Metric, Stats};
use super::{
    Backlog, CheckError, DeadLetter, DeadLetterReporter, Deletion, FeedbackFate, FeedbackReporter, InvalidTokenHandler,
    Post, RecordSource, StatsReporter, dead_letter, feedback, invalid_token,
};
use crate::config::{Config, ConfigError};
use crate::control::Control;
use crate::message::{Origin, Platform};
use crate::outcome::InvalidToken;
use crate::proof::{Proof, State};

/// Everybody who is told what happened. An empty kind costs nothing and is always satisfied.
#[derive(Clone, Default)]
pub struct Reporters {
    stats: Stats,
    feedback: Arc<[Arc<dyn FeedbackReporter>]>,
    tokens: Arc<[Arc<dyn InvalidTokenHandler>]>,
    dead_letters: Arc<[Arc<dyn DeadLetterReporter>]>,
}

impl std::fmt::Debug for Reporters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (feedback, tokens, dead_letters) = (self.feedback.len(), self.tokens.len(), self.dead_letters.len());
        f.debug_struct("Reporters")
            .field("stats", &self.stats)
            .field("feedback", &feedback)
            .field("tokens", &tokens)
            .field("dead_letters", &dead_letters)
            .finish()
    }
}

impl Reporters {
    /// These reporters.
    pub fn new(
        stats: Stats,
        feedback: impl IntoIterator<Item = Arc<dyn FeedbackReporter>>,
        tokens: impl IntoIterator<Item = Arc<dyn InvalidTokenHandler>>,
    ) -> Self {
        let (feedback, tokens) = (feedback.into_iter().collect(), tokens.into_iter().collect());
        Reporters { stats, feedback, tokens, dead_letters: Arc::default() }
    }

    /// The same, and these for what is given up.
    #[must_use]
    pub fn with_dead_letters(self, reporters: impl IntoIterator<Item = Arc<dyn DeadLetterReporter>>) -> Self {
        Reporters { dead_letters: reporters.into_iter().collect(), ..self }
    }

    /// The reporters that the configuration names under `stats.reporters`, `feedback.reporters` and
    /// `invalidToken.handlers`, and dead letters unless they are switched off. `housekeeping` runs the deletion of tokens, and
    /// `control` keeps the state of their valves.
    pub fn from_config(config: &Config, housekeeping: &Handle, control: &Control) -> Result<Self, ConfigError> {
        let stats = Stats::from_config(config)?;
        let settings = feedback::Settings::from_config(config)?;
        let feedback: Result<Vec<_>, _> = feedback::REPORTERS
            .chosen(config)?
            .into_iter()
            .map(|(_, build)| build(config, &settings, stats.clone()))
            .collect();
        let tokens: Result<Vec<_>, _> = invalid_token::HANDLERS
            .chosen(config)?
            .into_iter()
            .map(|(_, build)| build(config, housekeeping, stats.clone(), control))
            .collect();
        let dead_letters = dead_letter::from_config(config, &stats)?;
        Ok(Reporters::new(stats, feedback?, tokens?).with_dead_letters(dead_letters))
    }

    /// Statistics, told to all.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether anybody wants feedback records: else they need not be built.
    pub fn wants_feedback(&self) -> bool {
        !self.feedback.is_empty()
    }

    /// At start: whether feedback of these apps can be written. Who does not answer is named in the log and waited for later.
    ///
    /// # Errors
    /// Feedback topics that are missing or forbidden, each with the line that mends it: stop with exit code 2.
    pub async fn check(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Result<(), CheckError> {
        let feedback = join_all(self.feedback.iter().map(|reporter| reporter.inspect(apps, deadline))).await.concat();
        for finding in feedback.iter().filter(|finding| finding.state == State::Away) {
            tracing::warn!(reason = %finding, "feedback is not checked: offsets wait until records are acknowledged");
        }
        let wrong = feedback.iter().filter(|finding| finding.state == State::Wrong);
        let lines: Vec<_> = wrong.map(|finding| format!("{}: {finding}", finding.subject)).collect();
        if lines.is_empty() { Ok(()) } else { Err(CheckError(lines.join("; "))) }
    }

    /// Looks for the topics of dead letters of these apps, and names in the log what must be mended. It stops nothing: whoever
    /// comes from the original has none and must be able to start, and what is given up waits for its topic.
    pub async fn look_for_dead_letters(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) {
        let letters =
            join_all(self.dead_letters.iter().map(|reporter| reporter.inspect(apps, deadline))).await.concat();
        for finding in letters.iter().filter(|finding| matches!(finding.state, State::Wrong | State::Away)) {
            tracing::warn!(reason = %finding, "dead letters cannot be kept: the offset of a message that is given up waits until they can");
        }
    }

    /// What can be proved about all neighbours of these apps; each look at one may take `deadline`.
    pub fn proofs(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Vec<Proof> {
        let feedback = self.feedback.iter().map(|reporter| {
            let (reporter, apps) = (Arc::clone(reporter), apps.to_vec());
            Proof::new("feedback topic", async move { reporter.inspect(&apps, deadline).await })
        });
        let letters = self.dead_letters.iter().map(|reporter| {
            let (reporter, apps) = (Arc::clone(reporter), apps.to_vec());
            Proof::new("dead-letter topic", async move { reporter.inspect(&apps, deadline).await })
        });
        let tokens = self.tokens.iter().flat_map(|handler| handler.proofs(apps));
        feedback.chain(letters).chain(tokens).chain(self.stats.proofs()).collect()
    }

    /// A message that was given up, to all who keep such; `None` when nobody does.
    pub async fn dead_letter(&self, letter: &DeadLetter<'_>) -> Option<FeedbackFate> {
        let origin = &letter.message.origin;
        let fates = join_all(self.dead_letters.iter().map(|reporter| reporter.send_dead_letter(letter))).await;
        let worst = fates.into_iter().max_by_key(|fate| *fate == FeedbackFate::Lost)?;
        if worst == FeedbackFate::Acknowledged {
            let tags = [("platform", origin.platform.0), ("game", &*origin.app), ("reason", letter.reason)];
            self.stats.count(Metric::DeadLetters, &tags, 1);
        }
        Some(worst)
    }

    /// One record to all feedback reporters, side by side. Acknowledged when all have.
    pub async fn feedback(&self, origin: &Origin, record: &dyn RecordSource) -> FeedbackFate {
        match &*self.feedback {
            [] => FeedbackFate::Acknowledged,
            [only] => only.send_feedback(origin, record).await,
            all => {
                let fates = join_all(all.iter().map(|reporter| reporter.send_feedback(origin, record))).await;
                fates.into_iter().find(|fate| *fate == FeedbackFate::Lost).unwrap_or(FeedbackFate::Acknowledged)
            }
        }
    }

    /// The way for records that are not waited for; `None` when there is none, or more than one reporter.
    pub fn post(&self) -> Option<&dyn Post> {
        match &*self.feedback {
            [only] => only.post(),
            _ => None,
        }
    }

    /// Every final answer of a provider, before [`Reporters::invalid_token`]: the valves watch the share of dead tokens.
    pub fn observe(&self, origin: &Origin, invalid: bool) {
        self.tokens.iter().for_each(|handler| handler.observe(origin, invalid));
    }

    /// One dead token to all handlers, side by side; the least of what they could do, `None` when there is no handler.
    pub async fn invalid_token(&self, origin: &Origin, token: &InvalidToken) -> Option<Deletion> {
        let ends = join_all(self.tokens.iter().map(|handler| handler.handle_token(origin, token))).await;
        let rank = |deletion: &Deletion| match deletion {
            Deletion::Done => 0,
            Deletion::Deferred => 1,
            Deletion::Withheld => 2,
        };
        ends.into_iter().max_by_key(rank)
    }

    /// What of feedback is not acknowledged, of all reporters.
    pub fn backlog(&self) -> Backlog {
        self.feedback.iter().map(|reporter| reporter.backlog()).sum()
    }

    /// Tells statistics the gauges of this room; to be called on the housekeeping clock, about once a second.
    pub fn publish(&self) {
        if self.wants_feedback() {
            let backlog = self.backlog();
            self.stats.gauge(Metric::FeedbackWaiting, &[], backlog.waiting as f64);
            self.stats.gauge(Metric::FeedbackStalledSeconds, &[], backlog.stalled_for.as_secs_f64());
        }
        if !self.dead_letters.is_empty() {
            let backlog: Backlog = self.dead_letters.iter().map(|reporter| reporter.backlog()).sum();
            self.stats.gauge(Metric::DeadLettersWaiting, &[], backlog.waiting as f64);
            self.stats.gauge(Metric::DeadLettersStalledSeconds, &[], backlog.stalled_for.as_secs_f64());
            self.stats.gauge(Metric::DeadLettersRefusedTopics, &[], backlog.refused_topics as f64);
        }
        self.tokens.iter().for_each(|handler| handler.publish());
    }

    /// Before the last commit: waits until all feedback and all dead letters are acknowledged, at most `deadline`.
    pub async fn flush(&self, deadline: Duration) {
        let feedback = join_all(self.feedback.iter().map(|reporter| reporter.flush(deadline)));
        let letters = join_all(self.dead_letters.iter().map(|reporter| reporter.flush(deadline)));
        tokio::join!(feedback, letters);
    }

    /// After it: deletes what is collected and closes, within `deadline`. Statistics go on, so that the end can be counted
    /// too: [`StatsReporter::close`] of [`Reporters::stats`] comes last.
    pub async fn close(&self, deadline: Duration) {
        join_all(self.tokens.iter().map(|handler| handler.close(deadline))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_configured_is_nothing_to_wait_for() {
        struct Unbuilt;
        impl RecordSource for Unbuilt {
            fn record(&self, _: bool) -> Vec<u8> {
                unreachable!("nobody wants it")
            }
        }
        let reporters = Reporters::from_config(&Config::default(), &Handle::current(), &Control::in_memory()).unwrap();
        let origin = Origin {
            topic: "push-game_apns".into(),
            partition: 0,
            app: "game".into(),
            platform: Platform("apns"),
            lane: crate::message::Lane::Single,
        };
        assert!(!reporters.wants_feedback());
        assert_eq!(reporters.feedback(&origin, &Unbuilt).await, FeedbackFate::Acknowledged);
        let token = InvalidToken { token: "t".into(), unregistered_at_ms: None };
        assert_eq!(reporters.invalid_token(&origin, &token).await, None);
        reporters.flush(Duration::ZERO).await;
        reporters.close(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn an_unknown_name_lists_the_known() {
        let wrong = |key, value| {
            Reporters::from_config(&Config::from_pairs([(key, value)]), &Handle::current(), &Control::in_memory())
                .unwrap_err()
        };
        insta::assert_snapshot!(wrong("stats.reporters", "statd"), @r#"stats.reporters: "statd" is not known; known are: statsd"#);
        insta::assert_snapshot!(wrong("feedback.reporters", "rabbit"), @r#"feedback.reporters: "rabbit" is not known; known are: kafka"#);
        insta::assert_snapshot!(wrong("invalidToken.handlers", "redis"), @r#"invalidToken.handlers: "redis" is not known; known are: pg"#);
    }

    #[tokio::test]
    async fn an_option_unknown_to_the_client_library_is_a_configuration_error() {
        let pairs = [("feedback.reporters", "kafka"), ("feedback.kafka.options.no.such.thing", "1")];
        let error =
            Reporters::from_config(&Config::from_pairs(pairs), &Handle::current(), &Control::in_memory()).unwrap_err();
        assert_eq!(error.key, "feedback.kafka.options.no.such.thing");
    }
}
