//! While an app is paused: when one of its pushes may find out whether it must be.

use std::time::{Duration, Instant};

use super::{LONGEST_WISH, Settings};

/// Probes without an answer at once, at most.
pub(super) const MOST_PROBES: usize = 8;
/// So long the leave is kept for a push that has not been a probe yet, which Kafka may have or not.
const FOR_A_NEW_ONE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Probing {
    /// When another probe may be sent.
    next: Instant,
    /// Until when the provider asked to be left alone.
    not_before: Instant,
    /// Probes that failed.
    tries: u32,
    /// Since when a probe may be taken, if one may now.
    leave: Option<Instant>,
    /// Probes on their way.
    out: usize,
    /// The allowance after a good one.
    pub(super) resume: usize,
}

impl Probing {
    /// The app is paused from `now` on; its provider wishes to be left alone for `wait`.
    pub(super) fn new(wait: Duration, resume: usize, settings: &Settings, now: Instant) -> Self {
        let not_before = now + wait.min(LONGEST_WISH);
        let next = not_before.max(now + settings.pause(0));
        Probing { next, not_before, tries: 0, leave: None, out: 0, resume }
    }

    /// Whether a probe may be taken now.
    pub(super) fn may_probe(&self) -> bool {
        self.leave.is_some()
    }

    /// Whether one may be taken that nobody wanted for a while.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.leave.is_some_and(|since| now.saturating_duration_since(since) >= FOR_A_NEW_ONE)
    }

    /// Takes it.
    pub(super) fn take(&mut self) -> bool {
        let taken = self.leave.take().is_some();
        self.out += usize::from(taken);
        taken
    }

    /// A probe has ended.
    pub(super) fn ended(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// It asked nobody: another one may, at once.
    pub(super) fn asked_nobody(&mut self, now: Instant) {
        if now >= self.not_before {
            self.leave.get_or_insert(now);
        }
    }

    /// It failed, and the provider wishes to be left alone for `wait`: whoever hears nothing of that does not shorten it.
    pub(super) fn failed(&mut self, wait: Duration, settings: &Settings, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.not_before = self.not_before.max(now + wait.min(LONGEST_WISH));
        self.next = self.not_before.max(now + settings.pause(self.tries));
        self.leave = self.leave.filter(|_| now >= self.not_before);
    }

    /// What failed may be mended: one finds out at once.
    pub(super) fn retry_now(&mut self, settings: &Settings, now: Instant) {
        let leave = (self.out < MOST_PROBES).then_some(now);
        *self = Probing { next: now + settings.pause(0), not_before: now, tries: 0, leave, ..*self };
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self, settings: &Settings, now: Instant) {
        if now >= self.next && self.leave.is_none() && self.out < MOST_PROBES {
            self.leave = Some(now);
            self.next = now + settings.pause(self.tries.saturating_add(self.out as u32));
        }
    }
}
