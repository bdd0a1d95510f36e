//! Kafka, the feedback topic, PostgreSQL or StatsD is away. Nothing of it may repeat a push.

use std::time::Duration;

use crate::episode::Stage;

/// A name that no server may ever resolve (RFC 6761).
const NOWHERE: [(&str, &str); 1] = [("stats.statsd.host", "statsd.invalid:8125")];

/// What a worker logs when PostgreSQL is away.
const UNDELETED: &str = "dead tokens cannot be deleted";
/// Until a topic's new property counts.
const A_MOMENT: Duration = Duration::from_millis(500);

pub(super) fn kafka(stage: &mut Stage<'_>) {
    stage.neighbours.kafka.stop("TERM");
    stage.hold(stage.outage);
    stage.neighbours.kafka.start();
}

pub(super) fn feedback(stage: &mut Stage<'_>) {
    set_writable(stage, false);
    stage.hold(A_MOMENT);
    let kafka = &stage.neighbours.kafka;
    let before = stage.each(|side| kafka.end_offsets(&side.feedback));
    stage.hold(stage.outage);
    let now = stage.each(|side| kafka.end_offsets(&side.feedback));
    set_writable(stage, true);
    assert_eq!(before, now, "the feedback topics took records all the while");
}

/// A compacted topic takes no record without a key, and feedback records have none.
fn set_writable(stage: &mut Stage<'_>, writable: bool) {
    for side in &stage.sides {
        let policy = if writable { "delete" } else { "compact" };
        stage.neighbours.kafka.set_topic(&side.feedback, "cleanup.policy", policy);
    }
}

pub(super) fn postgres(stage: &mut Stage<'_>) {
    let before = stage.each_worker(|worker| worker.times_said(UNDELETED));
    stage.neighbours.postgres.stop("INT");
    stage.hold(stage.outage);
    stage.until("dead tokens cannot be deleted", |index, side| side.worker(0).times_said(UNDELETED) > before[index]);
    stage.neighbours.postgres.start();
}

pub(super) fn statsd(stage: &mut Stage<'_>) {
    replace(stage, &NOWHERE);
    stage.hold(stage.outage);
    stage.until("statsd is missed", |_, side| side.worker(0).has_said("statsd cannot be reached"));
    replace(stage, &[]);
}

/// Other settings need another worker.
fn replace(stage: &mut Stage<'_>, settings: &[(&str, &str)]) {
    for side in &mut stage.sides {
        side.stop(0);
        side.start_with(settings);
    }
    stage.until("the new worker has its partitions", |_, side| side.worker(0).has_said("partitions assigned"));
}

pub(super) fn together(stage: &mut Stage<'_>) {
    replace(stage, &NOWHERE);
    set_writable(stage, false);
    stage.neighbours.postgres.stop("INT");
    stage.hold(stage.outage / 2);
    stage.neighbours.kafka.stop("TERM");
    stage.hold(stage.outage / 2);
    stage.neighbours.kafka.start();
    set_writable(stage, true);
    // The workers stay, and what they know of partitions that the outage took from them; the next fault begins with others.
    stage.neighbours.postgres.start();
}
