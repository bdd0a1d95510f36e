//! A message's end: counted, told to all who must confirm it, resolved.

use std::sync::Arc;
use std::time::Instant;

use super::Push;
use super::report::{Debt, report};
use crate::desk::Desk;
use crate::gate::settle;
use crate::handlers::{BoxFuture, MessageHandler};
use crate::outcome::Outcome;
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::Metric;

/// What of a message's end must be waited for. Most are deliveries that nobody must confirm.
pub(super) type Report = BoxFuture<'static, ()>;

/// A message's end: told to everybody, then resolved.
pub(super) fn finish(
    push: Push,
    outcome: Outcome,
    handler: &Arc<dyn MessageHandler>,
    desk: &Arc<Desk>,
) -> Option<Report> {
    let wants_report = wants_report(&outcome, desk);
    if wants_report && !push.receipt.may_report() {
        // Nobody has been told, and who takes the partition over will come to the same end.
        desk.give_back(push);
        return None;
    }
    count(&push, &outcome, desk);
    if wants_report {
        return match desk.reporters.post() {
            Some(post) if is_told_by_feedback_alone(&outcome) => {
                post.post(Debt::of(push, outcome, handler, desk));
                None
            }
            _ => Some(Box::pin(report_and_resolve(push, outcome, handler.clone(), desk.clone()))),
        };
    }
    push.receipt.resolve_as(&outcome);
    None
}

/// Waits for those who must confirm it.
pub(super) async fn report_and_resolve(
    push: Push,
    outcome: Outcome,
    handler: Arc<dyn MessageHandler>,
    desk: Arc<Desk>,
) {
    report(&push, &outcome, handler.as_ref(), &desk).await;
    push.receipt.resolve_as(&outcome);
}

/// Whether somebody must confirm that they know of it.
fn wants_report(outcome: &Outcome, desk: &Desk) -> bool {
    desk.feedback.success || !matches!(outcome, Outcome::Delivered(_))
}

/// Whether nobody but feedback must confirm it.
fn is_told_by_feedback_alone(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Failed(_)) && outcome.invalid_token().is_none()
}

/// Statistics of an outcome, true as of now.
fn count(push: &Push, outcome: &Outcome, desk: &Desk) {
    let origin = &push.message.origin;
    settle(push, outcome, desk);
    if let Some(job) = &push.job {
        job.ended(outcome.into(), outcome.key(), Instant::now());
    }
    match outcome.key() {
        None => desk.reporters.stats().success(origin),
        Some(reason) => desk.reporters.stats().failure(origin, reason),
    }
    if push.message.redrive_of.is_some() {
        desk.reporters.stats().count(Metric::Redriven, &[("platform", origin.platform.0), ("game", &*origin.app)], 1);
    }
    if let Outcome::Expired(_) = outcome {
        desk.reporters.stats().count(Metric::Expired, &[("platform", origin.platform.0), ("game", &*origin.app)], 1);
    }
    if push.sent {
        desk.reporters.observe(origin, outcome.invalid_token().is_some());
    }
}
