//! The whole worker in this process, between a mock Kafka and a provider's simulator: three sets of books that must agree.
//! What is special to FCM is in `flow_gcm`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pusher::generate::{Expected, Mix};
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::{AnswerFault, Faults};
use pusher::simulator::fcm;
use pusher::simulator::handle::Provider;
use pusher::worker::Summary;

use crate::support::far::Far;
use crate::support::flow::Ends as EndsOf;

type Ends = EndsOf<Simulator>;

#[test]
fn the_books_of_worker_simulator_and_feedback_agree() {
    books::<Simulator>(8);
}

#[test]
fn the_books_of_fcm_agree_as_well() {
    books::<fcm::Simulator>(7);
}

/// `kinds`: how many reasons the platform's generator has.
fn books<F: Far>(kinds: usize) {
    let mut ends = EndsOf::<F>::start(<F::Levers as Provider>::Faults::default());
    let pushes = EndsOf::<F>::generate("game", 1_500, 0, Mix([800, 40, 30, 30, 60, 20, 20]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let running = ends.worker();
    ends.settle();
    let Summary { totals, drained } = running.stop();
    let mut reasons = BTreeMap::<String, u64>::new();
    let keys = pushes.iter().filter_map(|push| push.expected.reason_key());
    keys.for_each(|key| *reasons.entry(key.into()).or_default() += 1);
    let refused: u64 = reasons.values().sum();
    let waited = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { after: Some(_) })).count();
    assert!(drained && reasons.len() == kinds && waited > 20, "{reasons:?} {waited}");
    assert_eq!((totals.lent, totals.unaccounted(), totals.released, totals.skipped), (1_500, 0, 0, 0));
    assert_eq!((totals.delivered, &totals.reasons), (1_500 - refused, &reasons));
    assert_eq!((totals.retries, totals.feedback, totals.feedback_lost), (waited as u64, refused, 0));
    let (seen, counts) = (ends.simulator.levers().ledger().sums(), ends.simulator.counts());
    assert_eq!((seen.accepted, seen.repeated, seen.identity_changes), (totals.delivered, 0, 0));
    assert_eq!((counts.requests, counts.protocol_errors), (totals.requests, 0));
    assert_eq!(ends.feedback().len() as u64, refused);
}

#[test]
fn a_stop_in_the_middle_loses_and_repeats_nothing() {
    let mut ends = Ends::start(Faults { processing_ms: 30, ..Faults::default() });
    ends.produce(Ends::calm(3_000));
    let first = ends.worker();
    first.until("a good part", |totals| totals.delivered >= 400);
    let first = first.stop();
    assert!(first.drained && first.totals.delivered < 3_000, "{:?}", first.totals);
    assert_eq!((first.totals.unaccounted(), first.totals.resolved()), (0, first.totals.delivered));
    assert_eq!(ends.simulator.stats().messages.accepted, first.totals.delivered);
    let second = ends.worker();
    ends.settle();
    let second = second.stop().totals;
    assert_eq!((second.lent, second.delivered), (3_000 - first.totals.delivered, second.lent));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.repeated, seen.identity_changes), (3_000, 0, 0));
}

#[test]
fn a_provider_that_refuses_everything_for_a_while_gets_everything_in_the_end() {
    let refusing = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    let mut ends = Ends::start(refusing);
    ends.produce(Ends::calm(300));
    let running = ends.worker();
    running.until("every message refused", |totals| totals.retries >= 300);
    assert_eq!(running.totals().resolved(), 0, "a provider's fault fails no message");
    ends.simulator
        .handle()
        .set_faults(Faults { break_every: 70, goaway_every: 40, ..Faults::default() })
        .expect("valid");
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.unaccounted()), (300, 0));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.identity_changes), (300, 0));
}

#[test]
fn a_message_that_expires_while_it_waits_says_why_it_was_not_delivered() {
    let mut ends = Ends::start(Faults::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    // Whole seconds: what is sent as `apns-expiration` has no more.
    let expiry = (now / 1000 + 3) * 1000;
    let line = format!(
        r#"{{"DeviceToken":"dead050300{:054}","Payload":{{"aps":{{"alert":"x"}}}},"push_expiry":{expiry}}}"#,
        0
    );
    ends.produce([line.as_str()]);
    let running = ends.worker();
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.expired, totals.lent, totals.unaccounted()), (1, 1, 0));
    assert!(
        totals.requests >= 1 && totals.retries == u64::from(u32::try_from(totals.requests).expect("few")),
        "{totals:?}"
    );
    let feedback = ends.feedback();
    let record = feedback.values().next().expect("one");
    assert!(record.to_string().contains("while it waited"), "{record}");
}

#[test]
fn a_kafka_that_is_away_for_a_while_costs_nothing() {
    let mut ends = Ends::start(Faults { processing_ms: 20, ..Faults::default() });
    let pushes = Ends::generate("game", 2_000, 0, Mix([90, 5, 5, 0, 0, 0, 0]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let running = ends.worker();
    running.until("a good part", |totals| totals.delivered >= 200);
    ends.mock.cluster().broker_down(1).expect("down");
    let refused = pushes.iter().filter(|push| push.expected.reason_key().is_some()).count() as u64;
    let before = running.totals().delivered;
    running.until("deliveries go on", |totals| totals.delivered > before + 50);
    crate::support::mock::broker_up(&ends.mock.cluster());
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.rejected, totals.unaccounted()), (2_000 - refused, refused, 0));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.repeated), (totals.delivered, 0));
    assert_eq!(ends.feedback().len() as u64, refused);
}
