//! Workers are killed, restarted, joined and stopped.

use std::time::Duration;

use crate::episode::{SESSION, Stage};
use crate::provider::Ill;
use crate::side::Side;

/// Time for a group to settle, when nothing shows that it has.
const A_WHILE: Duration = Duration::from_secs(3);
/// What a worker logs when it is given partitions, and when they are taken from it.
const ASSIGNED: &str = "partitions assigned";
const REVOKED: &str = "partitions revoked";

/// One more worker on each side, which has its share when this returns.
fn join(stage: &mut Stage<'_>) {
    stage.sides.iter_mut().for_each(|side| {
        side.start();
    });
    stage.until("the new worker has its share", |_, side| {
        let last = side.workers() - 1;
        side.worker(last).has_said(ASSIGNED)
    });
    hand_over(stage);
}

/// What is on a stream when partitions change hands may be repeated, if it does not end within the short wait for it.
fn hand_over(stage: &mut Stage<'_>) {
    stage.sides.iter_mut().for_each(|side| side.count_hand_over());
}

/// In order: one that has just been started knows no signal yet.
fn stop_first(stage: &mut Stage<'_>) {
    stage.until("it has started", |_, side| side.worker(0).has_said("started"));
    for side in &mut stage.sides {
        side.stop(0);
        side.count_hand_over();
    }
}

pub(crate) fn kill_at_start(stage: &mut Stage<'_>) {
    stop_first(stage);
    stage.sides.iter_mut().for_each(|side| {
        side.start();
    });
    let before = stage.each(Side::accepted);
    stage.until("the first deliveries", |index, side| side.accepted() > before[index]);
    for side in &mut stage.sides {
        side.kill(0);
        side.start();
    }
}

pub(crate) fn kill_in_rebalance(stage: &mut Stage<'_>) {
    let before = stage.each_worker(|worker| worker.times_said(REVOKED));
    stage.sides.iter_mut().for_each(|side| {
        side.start();
    });
    // Not with every membership does the first lose something first.
    stage.until("the group shares anew", |index, side| {
        side.worker(0).times_said(REVOKED) > before[index] || side.worker(1).has_said(ASSIGNED)
    });
    stage.moment(Duration::from_millis(300));
    for side in 0..stage.sides.len() {
        let victim = stage.rng.usize(..2);
        stage.sides[side].kill(victim);
    }
    stage.hold(A_WHILE);
}

pub(crate) fn kill_with_retries(stage: &mut Stage<'_>) {
    let limited = Ill::Limited { share: 0.3, retry_after: Some(3) };
    stage.sides.iter().for_each(|side| side.provider().set(Some(limited)));
    stage.hold(Duration::from_secs(2));
    stage.moment(Duration::from_secs(1));
    for side in &mut stage.sides {
        side.kill(0);
        side.provider().set(None);
        side.start();
    }
}

/// At any moment.
pub(crate) fn kill_now(stage: &mut Stage<'_>) {
    for side in &mut stage.sides {
        side.kill(0);
        side.start();
    }
}

pub(super) fn restart(stage: &mut Stage<'_>) {
    for _ in 0..2 {
        for side in &mut stage.sides {
            side.stop(0);
            side.start();
        }
        stage.moment(Duration::from_secs(2));
    }
}

pub(super) fn join_leave(stage: &mut Stage<'_>) {
    for _ in 0..2 {
        join(stage);
        stage.moment(A_WHILE);
    }
    for _ in 0..2 {
        stop_first(stage);
        stage.moment(A_WHILE);
    }
}

/// Freezes the first of two workers, which has lost its partitions when it goes on.
pub(super) fn freeze(stage: &mut Stage<'_>) {
    join(stage);
    for side in &mut stage.sides {
        side.worker(0).freeze();
        side.count_at_stake();
    }
    stage.hold(SESSION + A_WHILE);
    stage.sides.iter_mut().for_each(|side| side.worker(0).thaw());
    stage.hold(A_WHILE);
    hand_over(stage);
}

/// Something of it all, again and again, with one to three workers.
pub(super) fn churn(stage: &mut Stage<'_>) {
    for _ in 0..4 + stage.outage.as_secs() / 6 {
        let (workers, dice) = (stage.sides[0].workers(), stage.rng.u8(..4));
        match (dice, workers) {
            (0, 1..3) => join(stage),
            (1, 2..) => stop_first(stage),
            (2, 2..) => stage.sides.iter_mut().for_each(|side| side.kill(0)),
            _ => stand_still(stage),
        }
        stage.moment(SESSION);
    }
}

/// The youngest worker stops for up to twice the session timeout.
fn stand_still(stage: &mut Stage<'_>) {
    let last = stage.sides[0].workers() - 1;
    for side in &mut stage.sides {
        side.worker(last).freeze();
        side.count_at_stake();
    }
    stage.moment(2 * SESSION);
    stage.sides.iter_mut().for_each(|side| side.worker(last).thaw());
    hand_over(stage);
}
