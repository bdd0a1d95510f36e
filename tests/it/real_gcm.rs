//! What `real_worker` shows for APNs, for FCM: the same worker on the same real Apache Kafka and PostgreSQL.

use pusher::simulator::fcm::Simulator;

use super::real_worker;
use crate::support::rig::Rig;

fn rig(stem: &str) -> Rig<Simulator> {
    Rig::with(stem, 4)
}

#[test]
fn a_hundred_thousand_pushes_have_one_outcome_each() {
    real_worker::a_hundred_thousand(rig("gcmcalm"));
}

#[test]
fn restarts_in_the_middle_lose_and_repeat_nothing() {
    real_worker::restarts(rig("gcmrestart"));
}

#[test]
fn kills_at_any_moment_lose_nothing_and_repeat_what_was_in_flight() {
    real_worker::kills(rig("gcmkill"));
}
