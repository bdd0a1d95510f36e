//! One message's life, top to bottom.
//!
//! lent → attempt → *resolved*: reported (statistics at once, feedback until the broker acknowledged it, a dead token until
//! it is deleted or deferred) → receipt resolved → the offset may move.
//!        └─────→ *retry* or *hold*: into the waiting room with the same receipt; holds no task and no stream there.
//!        └─────→ *released*: given back unresolved; whoever owns the partition next sends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::desk::{AppTools, Desk};
use crate::handlers::{Gate, MessageHandler, RecordForm};
use crate::message::QueueMessage;
use crate::outcome::{Attempt, Class, Outcome, Refusal, Source, Verdict};
use crate::queue::{Lent, Receipt};
use crate::reporters::stats::Metric;
use crate::reporters::{FeedbackFate, RecordSource, StatsReporter as _};

/// A message on its way, with what its earlier attempts left behind.
#[derive(Debug)]
pub struct Push {
    /// What came in.
    pub message: QueueMessage,
    /// The obligation that came with it.
    pub receipt: Receipt,
    /// Attempts made so far in this process.
    pub attempts: u32,
    /// Whether a request has left us for it: `sent` counts once per message.
    pub sent: bool,
    /// Whether an earlier attempt may have been accepted, its answer being lost: from then on every request may repeat it.
    pub maybe_delivered: bool,
    /// Why the last attempt did not deliver.
    pub last: Option<Box<Refusal>>,
}

impl From<Lent> for Push {
    fn from(lent: Lent) -> Self {
        Push {
            message: lent.message,
            receipt: lent.receipt,
            attempts: 0,
            sent: false,
            maybe_delivered: false,
            last: None,
        }
    }
}

impl Push {
    /// Notes the end of an attempt; whether its requests may have repeated what an earlier attempt delivered.
    fn attempted(&mut self, attempt: &Attempt) -> bool {
        let duplicate = self.maybe_delivered;
        if let Verdict::Retry(why) | Verdict::Hold(why) = &attempt.verdict {
            self.maybe_delivered |= why.maybe_delivered;
        }
        self.attempts += 1;
        duplicate
    }
}

/// One attempt of a message and what follows from it. Runs as the message's task on a sender's runtime.
pub async fn deliver(mut push: Push, desk: Arc<Desk>) {
    let Some(AppTools { handler, load }) = desk.app(&push.message.origin.app) else {
        // The queue lends only configured apps; a missing handler is a wiring bug and must not lose the message.
        tracing::error!(alarm = true, app = %push.message.origin.app, "no handler for a configured app");
        return desk.give_back(push);
    };
    let attempt = {
        let _under_way = load.enter();
        attempt(handler.as_ref(), &push).await
    };
    note(&mut push, &attempt, handler.as_ref(), &desk);
    match attempt.verdict {
        Verdict::Resolved(outcome) => {
            let outcome = with_history(outcome, push.last.as_deref());
            report(&push, &outcome, handler.as_ref(), &desk).await;
            push.receipt.resolve_as(&outcome);
        }
        Verdict::Retry(why) => desk.wait(push, why, handler.as_ref(), false),
        Verdict::Hold(why) => desk.wait(push, why, handler.as_ref(), true),
        Verdict::Released => desk.give_back(push),
    }
}

/// The handler's attempt; a panic in it ends this message with reason `internal`, and nothing else.
async fn attempt(handler: &dyn MessageHandler, push: &Push) -> Attempt {
    let gate = ReceiptGate(&push.receipt);
    let attempt = AssertUnwindSafe(handler.handle(&push.message, push.attempts, &gate)).catch_unwind();
    attempt.await.unwrap_or_else(|_| {
        let place = format!("{:?}", push.message);
        tracing::error!(alarm = true, app = %push.message.origin.app, message = %place, "a handler panicked; the message is failed");
        let description = "a bug in this program ended the attempt; the error log names the place";
        let refusal = Refusal {
            source: Source::Local,
            ..Refusal::local(Class::Message, "internal", "Internal", description)
        };
        Attempt::local(Verdict::Resolved(Outcome::Failed(refusal)))
    })
}

/// Statistics of one attempt, true as of now.
fn note(push: &mut Push, attempt: &Attempt, handler: &dyn MessageHandler, desk: &Desk) {
    let duplicate = push.attempted(attempt);
    let origin = &push.message.origin;
    push.receipt.lane().attempted(&push.message, attempt, duplicate);
    if attempt.requests == 0 {
        return;
    }
    let stats = desk.reporters.stats();
    let tags = [("platform", origin.platform.0), ("game", &*origin.app)];
    stats.count(Metric::Attempts, &tags, attempt.requests.into());
    if duplicate {
        stats.count(Metric::PossibleDuplicates, &tags, 1);
    }
    stats.latency(origin, handler.client(), attempt.round_trip);
    if let Some(metric) = handler.own_latency().and_then(Metric::named) {
        stats.time(metric, &[("game", &*origin.app)], attempt.round_trip);
    }
    if !push.sent {
        push.sent = true;
        stats.sent(origin);
    }
}

/// An expiry tells why the attempts before it failed.
fn with_history(outcome: Outcome, last: Option<&Refusal>) -> Outcome {
    match outcome {
        Outcome::Expired(None) => Outcome::Expired(last.cloned().map(Box::new)),
        other => other,
    }
}

/// Tells everybody who must know. Completes when the outcome is safe: only then may the offset move.
async fn report(push: &Push, outcome: &Outcome, handler: &dyn MessageHandler, desk: &Desk) {
    let (message, origin) = (&push.message, &push.message.origin);
    match outcome.key() {
        None => desk.reporters.stats().success(origin),
        Some(reason) => desk.reporters.stats().failure(origin, reason),
    }
    if let Outcome::Expired(_) = outcome {
        desk.reporters.stats().count(Metric::Expired, &[("platform", origin.platform.0), ("game", &*origin.app)], 1);
    }
    if push.sent {
        desk.reporters.observe(origin, outcome.invalid_token().is_some());
    }
    let wants_feedback = desk.feedback.success || !matches!(outcome, Outcome::Delivered(_));
    if wants_feedback && desk.reporters.wants_feedback() {
        let record = Record { message, outcome, handler, metadata: desk.feedback.metadata };
        let deletion = async {
            if let Some(token) = outcome.invalid_token() {
                desk.reporters.invalid_token(origin, token).await;
            }
        };
        let (fate, ()) = tokio::join!(desk.reporters.feedback(origin, &record), deletion);
        push.receipt.lane().feedback(fate == FeedbackFate::Acknowledged);
    } else if let Some(token) = outcome.invalid_token() {
        desk.reporters.invalid_token(origin, token).await;
    }
}

/// Which feedback is written.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackSwitches {
    /// For deliveries too (`feedback.success`).
    pub success: bool,
    /// With the producer's metadata (`feedback.metadata`).
    pub metadata: bool,
}

struct Record<'a> {
    message: &'a QueueMessage,
    outcome: &'a Outcome,
    handler: &'a dyn MessageHandler,
    metadata: bool,
}

impl RecordSource for Record<'_> {
    /// A panic in the provider's code would drop the receipt of a message that has been sent, and send it again for ever:
    /// the record then names the message and its reason, and nothing else.
    fn record(&self, truncated: bool) -> Vec<u8> {
        let form = RecordForm { metadata: self.metadata, truncated };
        catch_unwind(AssertUnwindSafe(|| self.handler.feedback(self.message, self.outcome, form))).unwrap_or_else(|_| {
            let place = format!("{:?}", self.message);
            tracing::error!(alarm = true, app = %self.message.origin.app, message = %place, "a handler panicked over a feedback record; a bare one is written");
            let metadata = serde_json::json!({ "pusherId": self.message.identity() });
            serde_json::json!({ "Reason": self.outcome.key(), "truncated": true, "metadata": metadata }).to_string().into_bytes()
        })
    }
}

struct ReceiptGate<'a>(&'a Receipt);

impl Gate for ReceiptGate<'_> {
    fn pass(&self) -> bool {
        self.0.may_send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lane, Origin, Platform};
    use crate::outcome::Acceptance;
    use crate::queue::memory::MemoryLog;
    use crate::queue::{InFlight, Queue as _};

    #[test]
    fn a_lost_answer_makes_every_later_request_a_possible_duplicate() {
        let platform = Platform("apns");
        let origin = Origin { topic: "t".into(), partition: 0, app: "game".into(), platform, lane: Lane::Single };
        let (log, mut lent) = (MemoryLog::new([origin]), Vec::new());
        log.push(0, "push");
        log.queue(&InFlight::new(1, 100)).lend(std::time::Duration::ZERO, &mut lent).expect("a message");
        let mut push = Push::from(lent.remove(0));
        let retry = |maybe| Attempt::local(Verdict::Retry(Refusal::network("key", "Reason", "", maybe)));
        let accepted = Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None }));
        let attempts = [retry(false), retry(true), retry(false), retry(false), Attempt::local(accepted)];
        assert_eq!(attempts.map(|attempt| push.attempted(&attempt)), [false, false, true, true, true]);
        assert_eq!(push.attempts, 5);
        push.receipt.resolve();
    }
}
