//! What only Apache Kafka can tell the admin server: a backlog on real brokers, and the topic's retention.

use pusher::generate::{Mix, Settings};
use pusher::simulator::apns::faults::Faults;

use crate::support::eventually;
use crate::support::rig::{PATIENCE, Rig};
use crate::support::scrape::Scrape;

/// Kafka's default, seven days.
const RETENTION_S: f64 = 604_800.0;

#[test]
fn real_backlog_its_age_and_the_topics_retention_are_on_the_page() {
    let mut rig = Rig::new("admin", 3);
    let slow = Faults { processing_ms: 500, ..Faults::default() };
    rig.simulator.handle().set_faults(slow).expect("valid faults");
    let pushes = rig.generate(Settings { count: 1_500, mix: Mix::CALM, ..Settings::default() });
    rig.produce(&pushes, None);
    let mut worker = rig.worker(&[("MAXINFLIGHT", "20")]);
    let admin = eventually("the admin server", PATIENCE, || worker.admin());
    let topic = [("topic", rig.topic.as_str())];
    worker.until("backlog and retention", PATIENCE, || {
        let scrape = Scrape::of(admin);
        scrape.assert_balance();
        let backlog = scrape.sum("pusher_backlog_messages", &topic);
        let retention = scrape.value("pusher_topic_retention_seconds", &topic);
        let age = scrape.value("pusher_backlog_age_seconds", &topic);
        (backlog > 0 && backlog < 1_500 && age > Some(0.0) && retention == Some(RETENTION_S)).then_some(())
    });
    rig.simulator.handle().set_faults(Faults::default()).expect("valid faults");
    rig.settle(&mut worker, PATIENCE);
    worker.until("no backlog", PATIENCE, || {
        let scrape = Scrape::of(admin);
        scrape.assert_balance();
        let (backlog, age) =
            (scrape.sum("pusher_backlog_messages", &topic), scrape.value("pusher_backlog_age_seconds", &topic));
        (backlog == 0 && age == Some(0.0)).then_some(())
    });
    let totals = worker.stop();
    assert_eq!(totals.delivered, 1_500);
    rig.assert_nothing_lost(&rig.placed());
}
