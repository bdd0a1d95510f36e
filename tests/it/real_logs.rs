//! Logs on Apache Kafka that are not the ones they were: whatever is committed, nothing is skipped that was not sent.

use std::time::Duration;

use pusher::message::Lane;
use pusher::queue::Lent;
use pusher::queue::map::{self, OffsetMap};

use crate::support::place::{Place, create, delete, made_before};
use crate::support::reader::{Reader, offsets, resolve};

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn of_a_topic_that_was_made_anew_nothing_is_skipped() {
    let place = Place::new(1);
    place.produce(0, 100);
    let mut reader = place.reader(&[], 1_000);
    let (stragglers, done): (Vec<_>, Vec<_>) =
        reader.read(100).into_iter().partition(|lent| [3, 50].contains(&lent.message.offset));
    resolve(done);
    reader.close();
    drop(stragglers);
    let (offset, metadata) = place.committed();
    delete(&place.topic);
    create(&place.topic, 1);
    place.produce(0, 100);
    // Kafka forgets the commits of a deleted topic, but not in every version, nor for one that a mirror makes anew.
    place.commit(offset.expect("a commit"), &metadata);
    let mut reader = place.reader(&[], 1_000);
    let lent = reader.read(100);
    assert_eq!(offsets(&lent), (0..100).collect::<Vec<_>>(), "what lies below the committed offset was never sent");
    assert_eq!(reader.told().maps_dropped, ["of another log"]);
    resolve(lent);
    reader.until("its commit", |_, _| place.committed() == (Some(100), String::new()));
    reader.close();
}

/// While it is being read: the deletion is not waited for, the topic is there again at once.
#[test]
fn a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_beginning() {
    let place = Place::new(1);
    place.produce(0, 100);
    let mut reader = place.reader(&[], 1_000);
    resolve(reader.read(100));
    reader.until("its commit", |_, _| place.committed().0 == Some(100));
    delete(&place.topic);
    create(&place.topic, 1);
    place.produce(0, 20);
    let lent = reader.read(20);
    assert_eq!(offsets(&lent), (0..20).collect::<Vec<_>>());
    resolve(lent);
    reader.until("its commit", |_, _| place.committed().0 == Some(20));
    reader.close();
}

/// A commit of another log, with a map that says when its base was written.
fn beyond_the_end(age_of_base: Option<Duration>) -> (Reader, Vec<i64>) {
    let place = Place::new(1);
    place.produce_old(&place.topic, 0, 10, HOUR);
    place.produce(0, 10);
    let metadata = age_of_base.map_or(String::new(), |age| {
        let resolved = std::iter::once(501..900).collect();
        map::encode(&OffsetMap { base: 500, base_timestamp_ms: made_before(age), cluster: 1, resolved })
            .expect("a small map")
    });
    place.commit(500, &metadata);
    let mut reader = place.reader(&[], 1_000);
    let lent = reader.until("the end of the log", |_, lent| lent.last().is_some_and(|last| last.message.offset == 19));
    let read = offsets(&lent);
    resolve(lent);
    reader.until("its commit", |_, _| place.committed() == (Some(20), String::new()));
    (reader, read)
}

#[test]
fn behind_a_commit_beyond_the_end_everything_is_read() {
    let (reader, read) = beyond_the_end(None);
    assert_eq!(read, (0..20).collect::<Vec<_>>());
    reader.close();
}

#[test]
fn behind_a_commit_beyond_the_end_what_is_older_than_its_base_is_not_repeated() {
    let (reader, read) = beyond_the_end(Some(HOUR / 2));
    assert_eq!(read, (10..20).collect::<Vec<_>>());
    reader.close();
}

/// The reader's group shares anew, for a second topic of its app is there; nothing is read before.
fn share_anew(place: &Place, reader: &mut Reader) {
    reader.in_flight.hold_back(vec![(place.app.clone(), Lane::Single)]);
    create(&format!("push-{}_apns-massive", place.app), 1);
    let none = reader.until("both topics", |reader, _| reader.told().assigned == 2);
    assert!(none.is_empty(), "{:?}", offsets(&none));
    reader.in_flight.hold_back(Vec::new());
}

/// A reader that has its partition, and looks for topics often.
fn watchful(place: &Place, strategy: &str) -> Reader {
    let mut reader = place.reader(&[("queue.offsetResetStrategy", strategy), ("queue.topicInterval", "1s")], 1_000);
    reader.until("its partition", |reader, _| reader.told().assigned == 1);
    reader
}

/// With `latest`, when so many were read before, and Kafka has forgotten what was committed of them.
fn made_anew_before_the_group_shared_anew(read: usize) {
    let place = Place::new(1);
    let mut reader = watchful(&place, "latest");
    place.produce(0, read);
    resolve(reader.read(read));
    reader.until("its commit", |_, _| place.committed().0 == Some(read as i64));
    reader.in_flight.hold_back(vec![(place.app.clone(), Lane::Single)]);
    delete(&place.topic);
    create(&place.topic, 1);
    place.produce(0, 20);
    share_anew(&place, &mut reader);
    let lent = reader.read(20);
    assert_eq!(offsets(&lent), (0..20).collect::<Vec<_>>());
    resolve(lent);
    reader.until("its commit", |_, _| place.committed().0 == Some(20));
    reader.close();
}

#[test]
fn a_topic_that_was_made_anew_before_the_group_shared_anew_is_read_from_its_beginning() {
    made_anew_before_the_group_shared_anew(100);
}

#[test]
fn so_is_one_of_which_nothing_had_been_read() {
    made_anew_before_the_group_shared_anew(0);
}

/// A hundred records are read, of which these two stay in flight; then the log is cut off behind the first of them, by making it
/// anew with the same first records, and goes on with others to a length of so many. The group shares anew, with what is committed.
fn cut_off(held: [i64; 2], length: i64) -> (Reader, Vec<Lent>) {
    let place = Place::new(1);
    let (mut reader, began) = (watchful(&place, "earliest"), made_before(Duration::ZERO));
    place.produce_at(0, (0..100).map(|offset| began + offset));
    let (mut held, done): (Vec<_>, Vec<_>) =
        reader.read(100).into_iter().partition(|lent| held.contains(&lent.message.offset));
    resolve(done);
    let at = held[0].message.offset;
    reader.until("its commit", |_, _| place.committed().0 == Some(at) && !place.committed().1.is_empty());
    reader.in_flight.hold_back(vec![(place.app.clone(), Lane::Single)]);
    delete(&place.topic);
    create(&place.topic, 1);
    place.produce_at(0, (0..length).map(|offset| if offset <= at { began + offset } else { began + 1_000 + offset }));
    // Kafka has forgotten what was committed of the other topic: it is committed again.
    resolve(held.pop());
    reader.until("its next commit", |_, _| place.committed().0 == Some(at));
    share_anew(&place, &mut reader);
    (reader, held)
}

#[test]
fn what_was_cut_off_and_written_anew_is_read() {
    let (mut reader, _held) = cut_off([3, 50], 20);
    let lent = reader.read(20);
    assert_eq!(offsets(&lent), (0..20).collect::<Vec<_>>(), "the straggler is of that time, and is sent as well");
    reader.close();
}

#[test]
fn what_was_cut_off_and_has_grown_longer_than_it_was_is_read() {
    let (mut reader, _held) = cut_off([3, 50], 120);
    let lent = reader.read(120);
    assert_eq!(offsets(&lent), (0..120).collect::<Vec<_>>());
    reader.close();
}

#[test]
fn behind_our_own_commit_beyond_the_end_what_is_older_than_what_we_read_is_not_repeated() {
    let place = Place::new(1);
    let mut reader = watchful(&place, "earliest");
    place.produce(0, 100);
    let mut lent = reader.read(100);
    let last = lent.pop();
    resolve(lent);
    reader.until("its commit", |_, _| place.committed().0 == Some(99));
    reader.in_flight.hold_back(vec![(place.app.clone(), Lane::Single)]);
    delete(&place.topic);
    create(&place.topic, 1);
    place.produce_old(&place.topic, 0, 10, HOUR);
    place.produce(0, 10);
    resolve(last);
    reader.until("its next commit", |_, _| place.committed().0 == Some(100));
    share_anew(&place, &mut reader);
    let lent = reader.read(10);
    assert_eq!(offsets(&lent), (10..20).collect::<Vec<_>>());
    reader.close();
}

#[test]
fn behind_the_mark_of_a_transaction_what_is_in_flight_is_known_again() {
    let place = Place::new(1);
    let mut reader = watchful(&place, "earliest");
    place.produce_at_once(0, 5);
    resolve(reader.read(5));
    reader.until("a commit on the mark", |_, _| place.committed().0 == Some(5));
    place.produce_at_once(0, 5);
    let held = reader.read(5);
    assert_eq!(offsets(&held), (6..11).collect::<Vec<_>>());
    share_anew(&place, &mut reader);
    place.produce(0, 1);
    assert_eq!(offsets(&reader.read(1)), [12]);
    assert!(held.iter().all(|lent| !lent.receipt.is_over()), "they are still ours");
    reader.close();
}

/// With `latest`, of a topic that the first list of topics missed: it may have been there, so what is old is not sent.
#[test]
fn of_a_topic_that_one_list_missed_what_is_new_is_read() {
    let place = Place::new(1);
    let late = format!("push-{}_apns-massive", place.app);
    let options = [("queue.offsetResetStrategy", "latest"), ("queue.topicInterval", "3s")];
    let mut reader = place.reader(&options, 1_000);
    reader.until("the first look", |reader, _| reader.told().looks == 1);
    create(&late, 1);
    place.produce_old(&late, 0, 5, HOUR);
    place.produce_to(&late, 0, 5);
    let lent = reader.read(5);
    assert!(lent.iter().all(|lent| *lent.message.origin.topic == *late));
    assert_eq!(offsets(&lent), (5..10).collect::<Vec<_>>());
    resolve(lent);
    reader.close();
}
