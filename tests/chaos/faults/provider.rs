//! The provider, the network to it or our credentials fail.

use pusher::simulator::counters::Counts;

use crate::episode::Stage;
use crate::provider::Ill;

/// The provider of each side is ill for the outage; `felt` says of its counters, before and now, that the worker has met it.
fn ill(stage: &mut Stage<'_>, ill: Ill, felt: impl Fn(&Counts, &Counts) -> bool) {
    let before = stage.each(|side| side.provider().counts());
    for side in &stage.sides {
        side.provider().set(Some(ill));
        if matches!(ill, Ill::Refused | Ill::TlsFails) {
            side.provider().close_connections();
        }
    }
    stage.hold(stage.outage);
    stage.until("the fault is felt", |index, side| felt(&before[index], &side.provider().counts()));
    for (side, before) in stage.sides.iter_mut().zip(before) {
        // What is on a connection that breaks may have been accepted.
        side.may_come_again(side.provider().counts().cut_off - before.cut_off);
        side.provider().set(None);
    }
}

fn answers(before: &Counts, now: &Counts, reasons: &[&str]) -> u64 {
    let of = |counts: &Counts| reasons.iter().filter_map(|reason| counts.answers.get(*reason)).sum::<u64>();
    of(now) - of(before)
}

pub(super) fn unavailable(stage: &mut Stage<'_>) {
    ill(stage, Ill::Unavailable, |before, now| answers(before, now, &["ServiceUnavailable", "UNAVAILABLE"]) > 0);
}

pub(super) fn refused(stage: &mut Stage<'_>) {
    // What the worker tries never reaches the simulator: that nothing is open any more is what shows.
    ill(stage, Ill::Refused, |_, now| now.open_connections == 0);
}

pub(super) fn silent(stage: &mut Stage<'_>) {
    ill(stage, Ill::Silent, |before, now| now.unanswered > before.unanswered);
}

pub(super) fn tls_fails(stage: &mut Stage<'_>) {
    ill(stage, Ill::TlsFails, |before, now| now.tls_failures > before.tls_failures);
}

pub(super) fn goaways(stage: &mut Stage<'_>) {
    // The short form's traffic would take minutes for a connection's 1,000 requests.
    let requests = stage.rate.min(1_000).into();
    ill(stage, Ill::GoAwayEvery(requests), |before, now| now.goaways > before.goaways);
}

pub(super) fn resets(stage: &mut Stage<'_>) {
    ill(stage, Ill::Resets, |before, now| now.resets > before.resets);
}

/// Each lost answer may be followed by one repeat.
pub(super) fn answers_lost(stage: &mut Stage<'_>) {
    let before = stage.each(|side| side.provider().counts().resets);
    ill(stage, Ill::AnswersLost(0.1), |before, now| now.resets > before.resets);
    for (side, before) in stage.sides.iter_mut().zip(before) {
        side.may_come_again(side.provider().counts().resets - before);
    }
}

fn limited_by(stage: &mut Stage<'_>, share: f64, retry_after: Option<u32>) {
    let reasons = ["TooManyRequests", "QUOTA_EXCEEDED"];
    ill(stage, Ill::Limited { share, retry_after }, |before, now| answers(before, now, &reasons) > 0);
}

pub(super) fn limited(stage: &mut Stage<'_>) {
    limited_by(stage, 0.2, Some(1));
}

pub(super) fn limited_all(stage: &mut Stage<'_>) {
    limited_by(stage, 1.0, None);
}

pub(super) fn limited_all_with_wish(stage: &mut Stage<'_>) {
    limited_by(stage, 1.0, Some(5));
}

pub(super) fn oauth_down(stage: &mut Stage<'_>) {
    ill(stage, Ill::OAuthDown, |before, now| answers(before, now, &["UNAUTHENTICATED"]) > 0);
}

/// What is open stays open; the provider's connections are closed, and no new one can be had.
pub(super) fn no_files(stage: &mut Stage<'_>) {
    let before = stage.each(|side| side.provider().counts().cut_off);
    // Not fewer: the system's `poll` refuses to look at more than may be open.
    let usual = stage.each_worker(|worker| worker.limit_files(3));
    stage.each(|side| side.provider().close_connections());
    stage.hold(stage.outage);
    stage.until("nothing is open", |_, side| side.provider().counts().open_connections == 0);
    for ((side, usual), before) in stage.sides.iter_mut().zip(usual).zip(before) {
        side.may_come_again(side.provider().counts().cut_off - before);
        side.worker(0).limit_files(usual);
    }
}

pub(super) fn revoked(stage: &mut Stage<'_>) {
    ill(stage, Ill::Revoked, |before, now| answers(before, now, &["InvalidProviderToken", "UNAUTHENTICATED"]) > 0);
}
