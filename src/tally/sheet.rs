//! The numbers of a lane: as they are kept, and as they are told when the worker ends.

use std::collections::BTreeMap;

use crate::histogram::Histogram;
use crate::outcome::Outcome;

/// `End field`, with what it means as doc comment. A line here is all that a new end needs besides its outcome.
macro_rules! ends {
    ($($(#[doc = $doc:literal])+ $end:ident $field:ident,)+) => {
        /// How a message can end for good.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum End {
            $($(#[doc = $doc])+ $end,)+
        }

        impl End {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [End] = &[$(End::$end,)+];

            /// Its word in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(End::$end => stringify!($field),)+ }
            }
        }

        /// A lane's counters at one moment, or the sum of several.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct Totals {
            /// Taken from the queue with a receipt.
            pub lent: u64,
            /// Passed over because they were resolved before, or are in flight already.
            pub skipped: u64,
            $($(#[doc = $doc])+ pub $field: u64,)+
            /// Given back unresolved.
            pub released: u64,
            /// Requests that left us: every attempt and every immediate resend.
            pub requests: u64,
            /// Waits for another attempt.
            pub retries: u64,
            /// Waits for the operator.
            pub holds: u64,
            /// Requests sent although an earlier one of the same message may have been accepted.
            pub possible_duplicates: u64,
            /// Feedback records acknowledged.
            pub feedback: u64,
            /// Feedback records lost by configuration.
            pub feedback_lost: u64,
            /// Dead letters acknowledged.
            pub dead_letters: u64,
            /// Everything that was not delivered, by reason key.
            pub reasons: BTreeMap<String, u64>,
            /// Median from lent to accepted, µs; of a sum, the largest of its parts.
            pub accepted_p50_us: u64,
            /// 99th percentile from lent to accepted, µs; of a sum, the largest of its parts.
            pub accepted_p99_us: u64,
        }

        impl Totals {
            /// Messages with a final outcome.
            pub fn resolved(&self) -> u64 {
                0 $(+ self.$field)+
            }

            fn set_ends(&mut self, sheet: &Sheet) {
                $(self.$field = sheet.of(End::$end);)+
            }

            fn add_ends(&mut self, other: &Totals) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

ends! {
    /// Accepted by the provider.
    Delivered delivered,
    /// Refused for good.
    Rejected rejected,
    /// Too old to be sent.
    Expired expired,
    /// Over the rate limit of their devices.
    Limited limited,
    /// Copies of what went to their devices already.
    Deduplicated deduplicated,
    /// Not sent, because their job was stopped.
    Cancelled cancelled,
    /// Given up.
    Failed failed,
    /// Done with, by a consumer whose messages are no pushes.
    Handled handled,
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered(_) => End::Delivered,
            Outcome::Rejected(_) => End::Rejected,
            Outcome::Expired(_) => End::Expired,
            Outcome::Limited(_) => End::Limited,
            Outcome::Deduplicated(_) => End::Deduplicated,
            Outcome::Cancelled(_) => End::Cancelled,
            Outcome::Failed(_) => End::Failed,
        }
    }
}

/// The numbers of one lane, all of the same moment.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Receipts made so far.
    pub lent: u64,
    /// Receipts that live.
    pub in_flight: u64,
    /// Messages passed over because they were resolved before.
    pub skipped: u64,
    /// Receipts that ended unresolved.
    pub released: u64,
    /// Those of them that a bug dropped.
    pub lost: u64,
    /// Requests that left us.
    pub requests: u64,
    /// Messages sent again although an earlier request may have been accepted.
    pub possible_duplicates: u64,
    /// Feedback records acknowledged.
    pub feedback: u64,
    /// From the producer's timestamp to the receipt.
    pub produced_to_lent: Histogram,
    /// From the producer's timestamp to the provider's acceptance.
    pub produced_to_accepted: Histogram,
    /// From the receipt to the provider's acceptance.
    pub lent_to_accepted: Histogram,
    /// From a request's first byte to its answer.
    pub round_trip: Histogram,
    pub(super) retries: u64,
    pub(super) holds: u64,
    pub(super) feedback_lost: u64,
    pub(super) dead_letters: u64,
    ends: [u64; End::ALL.len()],
    reasons: BTreeMap<(End, &'static str), u64>,
}

impl Sheet {
    /// One message came to its end.
    pub(super) fn end(&mut self, end: End, reason: Option<&'static str>) {
        self.in_flight -= 1;
        self.ends[end as usize] += 1;
        if let Some(reason) = reason {
            *self.reasons.entry((end, reason)).or_default() += 1;
        }
    }

    /// How many ended so.
    pub fn of(&self, end: End) -> u64 {
        self.ends[end as usize]
    }

    /// Those that ended for a reason, by it.
    pub fn reasons(&self) -> impl Iterator<Item = (End, &'static str, u64)> {
        self.reasons.iter().map(|((end, reason), n)| (*end, *reason, *n))
    }

    /// Everything that was read from Kafka for the lane.
    pub fn consumed(&self) -> u64 {
        self.lent + self.skipped
    }

    /// What of it is not in flight any more. The law: [`Sheet::consumed`] is this and [`Sheet::in_flight`].
    pub fn accounted(&self) -> u64 {
        self.ends.iter().sum::<u64>() + self.released + self.skipped
    }

    pub(super) fn totals(&self, accepted_p50_us: u64, accepted_p99_us: u64) -> Totals {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for ((_, key), n) in &self.reasons {
            *reasons.entry((*key).to_owned()).or_default() += n;
        }
        let mut totals = Totals {
            lent: self.lent,
            skipped: self.skipped,
            released: self.released,
            requests: self.requests,
            retries: self.retries,
            holds: self.holds,
            possible_duplicates: self.possible_duplicates,
            feedback: self.feedback,
            feedback_lost: self.feedback_lost,
            dead_letters: self.dead_letters,
            reasons,
            accepted_p50_us,
            accepted_p99_us,
            ..Totals::default()
        };
        totals.set_ends(self);
        totals
    }
}

impl Totals {
    /// Everything that was read from Kafka for a lane.
    pub fn consumed(&self) -> u64 {
        self.lent + self.skipped
    }

    /// What the law of conservation leaves in flight; 0 after a drain.
    pub fn unaccounted(&self) -> i64 {
        self.lent as i64 - (self.resolved() + self.released) as i64
    }

    /// Adds another lane's figures.
    pub fn add(&mut self, other: &Totals) {
        self.lent += other.lent;
        self.skipped += other.skipped;
        self.add_ends(other);
        self.released += other.released;
        self.requests += other.requests;
        self.retries += other.retries;
        self.holds += other.holds;
        self.possible_duplicates += other.possible_duplicates;
        self.feedback += other.feedback;
        self.feedback_lost += other.feedback_lost;
        self.dead_letters += other.dead_letters;
        for (key, n) in &other.reasons {
            *self.reasons.entry(key.clone()).or_default() += n;
        }
        self.accepted_p50_us = self.accepted_p50_us.max(other.accepted_p50_us);
        self.accepted_p99_us = self.accepted_p99_us.max(other.accepted_p99_us);
    }
}
