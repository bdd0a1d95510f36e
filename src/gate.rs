//! What stands between a message that a handler has understood and its stream: is it still ours to send,
//! does its app send now, is its job not stopped, and is it admitted.
//!
//! Joins [`crate::admission`] to a delivery: asks once per message and process, counts, and makes an outcome of a refusal.
//! Where nothing is limited and nothing compared it is one look at an empty place.

use std::sync::{LazyLock, OnceLock};

use crate::admission::content::ContentKey;
use crate::admission::{Admission, Decision, Names, Refused};
use crate::circuit::{Circuit, Pass};
use crate::delivery::Push;
use crate::desk::Desk;
use crate::handlers::{Admit, BoxFuture, Gate, Subject};
use crate::message::QueueMessage;
use crate::outcome::{Class, Outcome, Refusal};
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::Metric;

/// The gate of one attempt.
pub struct DeliveryGate<'a> {
    push: &'a Push,
    desk: &'a Desk,
    circuit: &'a Circuit,
    pass: Pass,
    /// `None`: nobody is asked, or has said yes before.
    admission: Option<&'a Admission>,
    admitted: OnceLock<Admitted>,
}

/// How a message was admitted; it is not asked about again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The content that it claims.
    pub claim: Option<ContentKey>,
}

impl<'a> DeliveryGate<'a> {
    /// For the next attempt of a message.
    pub fn new(push: &'a Push, desk: &'a Desk, circuit: &'a Circuit, pass: Pass) -> Self {
        let admission = desk.admission.as_ref().filter(|_| push.admitted.is_none());
        DeliveryGate { push, desk, circuit, pass, admission, admitted: OnceLock::new() }
    }

    /// How this attempt was admitted, if it asked and was.
    pub fn admitted(self) -> Option<Admitted> {
        self.admitted.into_inner()
    }
}

impl Gate for DeliveryGate<'_> {
    fn pass(&self) -> bool {
        let is_stopped = self.desk.jobs.is_stopped(self.push.job.as_deref());
        self.circuit.still(self.pass) && !is_stopped && self.push.receipt.may_send()
    }

    fn admission(&self) -> Option<&dyn Admit> {
        self.admission.map(|_| self as &dyn Admit)
    }
}

impl Admit for DeliveryGate<'_> {
    fn admit<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Option<Outcome>> {
        Box::pin(async move {
            let message = &self.push.message;
            let Subject { device, content } = subject;
            // A redriven message may claim its content again, and pays the limit again.
            let names = Names { message: message.identity(), record: message.record_identity() };
            let decision = self.admission?.decide(&message.origin.app, device, &content, names).await;
            count(self.desk, message, decision);
            if decision.refused.is_none() {
                let _ = self.admitted.set(Admitted { claim: decision.claim });
            }
            decision.refused.map(outcome)
        })
    }
}

fn count(desk: &Desk, message: &QueueMessage, decision: Decision) {
    static HOSTNAME: LazyLock<String> = LazyLock::new(|| gethostname::gethostname().to_string_lossy().into_owned());
    let (stats, origin) = (desk.reporters.stats(), &message.origin);
    let tags = [("platform", origin.platform.0), ("game", &*origin.app)];
    let with_host = [("hostname", HOSTNAME.as_str()), tags[1], tags[0]];
    if decision.limit_failed {
        stats.count(Metric::RateLimitFailed, &tags, 1);
    }
    if decision.dedup_failed {
        stats.count(Metric::DedupErrors, &with_host, 1);
    }
    match decision.refused {
        Some(Refused::Limited) => stats.count(Metric::RateLimitReached, &tags, 1),
        Some(Refused::Duplicate) => stats.count(Metric::DuplicatedMessages, &with_host, 1),
        None => {}
    }
}

fn outcome(refused: Refused) -> Outcome {
    match refused {
        Refused::Limited => Outcome::Limited(Refusal::local(
            Class::Message,
            "rate-limited",
            "RateLimited",
            "the device has had as many pushes in this minute as it may have: not sent",
        )),
        Refused::Duplicate => Outcome::Deduplicated(Refusal::local(
            Class::Message,
            "duplicate",
            "Duplicate",
            "another message brought the same content to this device within the last moments: not sent again",
        )),
    }
}

/// After a message's end: gives up its claim when it was certainly not delivered, so that a copy of it is not dropped.
pub fn settle(push: &Push, outcome: &Outcome, desk: &Desk) {
    let claim = push.admitted.and_then(|admitted| admitted.claim);
    if let (Some(admission), Some(_), false) = (&desk.admission, claim, push.maybe_delivered)
        && !matches!(outcome, Outcome::Delivered(_))
    {
        admission.give_up(claim, push.message.identity());
    }
}
