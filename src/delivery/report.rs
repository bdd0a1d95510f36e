//! What of a message's end must be confirmed by others: its feedback, the deletion of a dead token, its dead letter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::runtime::Handle;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Push;
use super::finish::report_and_resolve;
use crate::desk::Desk;
use crate::handlers::{MessageHandler, RecordForm};
use crate::message::{Origin, QueueMessage};
use crate::outcome::{Outcome, Refusal};
use crate::reporters::{DeadLetter, FeedbackFate, Owed, RecordSource};

/// Tells those who must confirm it, and waits until they have.
pub(super) async fn report(push: &Push, outcome: &Outcome, handler: &dyn MessageHandler, desk: &Desk) {
    let (message, origin) = (&push.message, &push.message.origin);
    let lane = push.receipt.lane();
    push.receipt.set_reporting(); // from here on it may wait for a broker
    let kept = async {
        if let Outcome::Failed(why) = outcome {
            let fate = desk.reporters.dead_letter(&dead_letter(push, why)).await;
            lane.dead_letter(fate == Some(FeedbackFate::Acknowledged));
        }
    };
    if desk.reporters.wants_feedback() {
        let record = Record { message, outcome, handler, metadata: desk.feedback.metadata };
        let deletion = async {
            if let Some(token) = outcome.invalid_token() {
                desk.reporters.invalid_token(origin, token).await;
            }
        };
        let (fate, (), ()) = tokio::join!(desk.reporters.feedback(origin, &record), deletion, kept);
        lane.feedback(fate == FeedbackFate::Acknowledged);
    } else {
        if let Some(token) = outcome.invalid_token() {
            desk.reporters.invalid_token(origin, token).await;
        }
        kept.await;
    }
}

/// What is kept of a message that was given up.
fn dead_letter<'a>(push: &'a Push, why: &'a Refusal) -> DeadLetter<'a> {
    let last = push.mark.as_ref().map_or(push.message.lent_at, |mark| mark.began);
    let wall = |moment: Instant| SystemTime::now().checked_sub(moment.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    DeadLetter {
        message: &push.message,
        reason: why.key,
        description: &why.description,
        status: why.status,
        attempts: push.attempts,
        first_attempt: wall(push.message.lent_at),
        last_attempt: wall(last),
    }
}

/// A message's end that waits for its feedback alone, and holds no task meanwhile.
pub(super) struct Debt {
    push: Push,
    outcome: Outcome,
    handler: Arc<dyn MessageHandler>,
    desk: Arc<Desk>,
    /// Where it is reported when it is refused.
    sender: Handle,
    /// The sender's end waits for it.
    under_way: TaskTrackerToken,
}

impl Debt {
    /// To be called on the sender.
    pub(super) fn of(push: Push, outcome: Outcome, handler: &Arc<dyn MessageHandler>, desk: &Arc<Desk>) -> Box<Self> {
        push.receipt.set_reporting();
        let (sender, under_way) = (Handle::current(), desk.tasks.token());
        Box::new(Debt { push, outcome, handler: handler.clone(), desk: desk.clone(), sender, under_way })
    }
}

impl RecordSource for Debt {
    fn record(&self, truncated: bool) -> Vec<u8> {
        let Debt { push, outcome, handler, desk, .. } = self;
        let (message, metadata) = (&push.message, desk.feedback.metadata);
        Record { message, outcome, handler: handler.as_ref(), metadata }.record(truncated)
    }
}

impl Owed for Debt {
    fn origin(&self) -> &Origin {
        &self.push.message.origin
    }

    fn acknowledged(self: Box<Self>) {
        self.push.receipt.lane().feedback(true);
        self.push.receipt.resolve_as(&self.outcome);
    }

    fn refused(self: Box<Self>) {
        let Debt { push, outcome, handler, desk, sender, under_way } = *self;
        let tasks = desk.tasks.clone();
        tasks.spawn_on(report_and_resolve(push, outcome, handler, desk), &sender);
        drop(under_way);
    }
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
            tracing::error!(alarm = true, app = %self.message.origin.app, reason = "internal", place, "a handler panicked over a feedback record; a bare one is written");
            let metadata = serde_json::json!({ "pusherId": self.message.identity() });
            serde_json::json!({ "Reason": self.outcome.key(), "truncated": true, "metadata": metadata }).to_string().into_bytes()
        })
    }
}
