use std::time::{Duration, Instant};

use super::*;
use crate::message::{Lane, Origin, Platform};
use crate::outcome::{Class, Outcome, Refusal};
use crate::queue::offsets::{Ledger, Lend};
use crate::tally::{End, LaneTally};

const SESSION: Duration = Duration::from_secs(10);

fn lane_of(tally: &Tally) -> Arc<LaneTally> {
    let platform = Platform("apns");
    tally.lane(&Origin { topic: "t".into(), partition: 0, app: "a".into(), platform, lane: Lane::Single })
}

fn lane() -> Arc<LaneTally> {
    lane_of(&Tally::default())
}

struct Partition {
    assignment: Arc<Assignment>,
    last_poll: Arc<LastPoll>,
}

impl Partition {
    fn new() -> Self {
        Self::of(lane())
    }

    fn of(lane: Arc<LaneTally>) -> Self {
        let last_poll = LastPoll::new(SESSION, Instant::now());
        Partition { assignment: Assignment::new(Ledger::new(0, vec![]), Arc::clone(&last_poll), lane), last_poll }
    }

    fn lend(&self, share: &Arc<Share>, bytes: usize) -> Receipt {
        let mut ledger = self.assignment.ledger.lock();
        let offset = ledger.next();
        assert_eq!(ledger.lend(offset, -1, Instant::now()), Lend::New);
        lend(&self.assignment, share, offset, None, bytes)
    }

    fn position(&self) -> i64 {
        self.assignment.ledger.lock().position()
    }

    fn in_flight(&self) -> usize {
        self.assignment.ledger.lock().in_flight()
    }
}

fn used(messages: usize, bytes: usize, waiting: usize) -> Usage {
    Usage { messages, bytes, waiting, reporting: 0 }
}

#[test]
fn a_receipt_counts_until_it_ends() {
    let all = InFlight::new(10, 1000);
    all.set_apps(&["a".into(), "b".into()]);
    let partition = Partition::new();
    let first = partition.lend(&all.share("a"), 100);
    let second = partition.lend(&all.share("b"), 50);
    assert_eq!((all.usage("a"), all.usage("b"), all.total()), (used(1, 100, 0), used(1, 50, 0), used(2, 150, 0)));
    first.set_waiting(true);
    first.set_waiting(true);
    assert_eq!((all.usage("a"), all.total()), (used(1, 100, 1), used(2, 150, 1)));
    first.resolve();
    second.release();
    assert_eq!((all.usage("a"), all.usage("b"), all.total(), all.usage("c")), <_>::default());
    assert_eq!(all.lost(), 0);
}

#[test]
fn resolving_moves_the_offset_and_asks_for_a_commit() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let (first, second) = (partition.lend(&all.share("a"), 1), partition.lend(&all.share("a"), 1));
    assert!(!partition.assignment.dirty().load(Ordering::Acquire));
    second.resolve();
    assert!(partition.assignment.dirty().swap(false, Ordering::AcqRel));
    assert_eq!(partition.position(), 0);
    first.resolve();
    assert_eq!(partition.position(), 2);
}

#[test]
fn several_apps_hold_half_of_each_bound_at_most() {
    let all = InFlight::new(20, 1000);
    let alone = all.share("a");
    let partition = Partition::new();
    let mut held: Vec<_> = (0..10).map(|_| partition.lend(&alone, 1)).collect();
    assert!(alone.has_room(Lane::Single), "a single app may hold everything");
    let other = all.share("b");
    assert!(!alone.has_room(Lane::Single) && other.has_room(Lane::Single));
    held.pop().unwrap().resolve();
    assert!(alone.has_room(Lane::Single), "a tenth below");
    let big = partition.lend(&other, 500);
    assert!(!other.has_room(Lane::Single), "half of the bytes");
    big.resolve();
    held.clear();
    assert!(other.has_room(Lane::Single));
}

#[test]
fn campaigns_leave_a_quarter_to_what_is_urgent() {
    let (all, platform) = (InFlight::new(8, 1000), Platform("apns"));
    let massive = Origin { topic: "t".into(), partition: 0, app: "a".into(), platform, lane: Lane::Massive };
    let (campaign, urgent) = (Partition::of(Tally::default().lane(&massive)), Partition::new());
    let share = all.share("a");
    let mut held: Vec<_> = (0..6).map(|_| campaign.lend(&share, 1)).collect();
    assert!(!share.has_room(Lane::Massive) && share.has_room(Lane::Single));
    let urgent: Vec<_> = (0..2).map(|_| urgent.lend(&share, 1)).collect();
    assert!(!share.has_room(Lane::Single));
    urgent.into_iter().for_each(Receipt::resolve);
    assert!(share.has_room(Lane::Single) && !share.has_room(Lane::Massive), "they have given back their own places");
    held.pop().unwrap().resolve();
    assert!(share.has_room(Lane::Massive));
    let big = campaign.lend(&share, 745);
    assert!(!share.has_room(Lane::Massive) && share.has_room(Lane::Single), "bytes are kept too");
    held.into_iter().chain([big]).for_each(Receipt::release);
    assert!(share.has_room(Lane::Massive));
}

#[test]
fn room_returns_a_tenth_below_the_bound() {
    let all = InFlight::new(100, 1_000_000);
    let share = all.share("a");
    let partition = Partition::new();
    let mut held: Vec<_> = (0..100).map(|_| partition.lend(&share, 1)).collect();
    for _ in 0..10 {
        assert!(!share.has_room(Lane::Single));
        held.pop().unwrap().resolve();
    }
    assert!(share.has_room(Lane::Single));
    held.push(partition.lend(&share, 1));
    assert!(share.has_room(Lane::Single), "until it is full again");
    held.into_iter().for_each(Receipt::resolve);
}

#[test]
fn a_full_process_has_no_room_for_anybody() {
    let all = InFlight::new(10, 1000);
    all.set_apps(&["a".into(), "b".into(), "c".into()]);
    let partition = Partition::new();
    let held: Vec<_> = ["a", "b"]
        .iter()
        .flat_map(|app| (0..5).map(|_| partition.lend(&all.share(app), 1)).collect::<Vec<_>>())
        .collect();
    assert!(!all.share("c").has_room(Lane::Single));
    held.into_iter().for_each(Receipt::resolve);
    assert!(all.share("c").has_room(Lane::Single));
}

#[test]
fn waiters_leave_half_of_the_share_to_what_can_be_sent() {
    let all = InFlight::new(10, 1000);
    let share = all.share("a");
    let partition = Partition::new();
    let held: Vec<_> = (0..5).map(|_| partition.lend(&share, 1)).collect();
    for receipt in &held {
        receipt.set_waiting(true);
    }
    assert!(!share.has_room(Lane::Single));
    held[0].set_waiting(false);
    assert!(share.has_room(Lane::Single));
    held.into_iter().for_each(Receipt::resolve);
    assert_eq!(all.total(), Usage::default());
}

#[test]
fn the_waiters_of_a_campaign_keep_nothing_urgent_from_being_lent() {
    let all = InFlight::new(12, 1000);
    let (share, platform) = (all.share("a"), Platform("apns"));
    let massive = Origin { topic: "t".into(), partition: 0, app: "a".into(), platform, lane: Lane::Massive };
    let (campaign, urgent) = (Partition::of(Tally::default().lane(&massive)), Partition::new());
    let mut held: Vec<_> = (0..6).map(|_| campaign.lend(&share, 1)).collect();
    for receipt in &held {
        receipt.set_waiting(true);
    }
    assert!(!share.has_room(Lane::Massive) && share.has_room(Lane::Single));
    held.extend((0..5).map(|_| urgent.lend(&share, 1)));
    for receipt in &held {
        receipt.set_waiting(true);
    }
    assert!(share.has_room(Lane::Single), "its own waiters are fewer than half");
    held.into_iter().for_each(Receipt::resolve);
    assert_eq!(all.total(), Usage::default());
}

#[test]
fn an_allowance_bounds_what_is_on_its_way_and_nothing_else() {
    let all = InFlight::new(100, 10_000);
    let (share, partition) = (all.share("a"), Partition::new());
    let held: Vec<_> = (0..5).map(|_| partition.lend(&share, 1)).collect();
    share.set_allowance(5);
    assert!(!share.has_room(Lane::Single) && !share.is_allowed() && !share.is_paused());
    held[0].set_waiting(true);
    assert!(share.has_room(Lane::Single));
    held[0].set_waiting(false);
    held[1].set_reporting();
    assert!(share.has_room(Lane::Single) && share.usage().on_way() == 4);
    held[1].set_reporting();
    share.set_allowance(0);
    assert!(!share.has_room(Lane::Single) && share.is_paused() && all.share("b").has_room(Lane::Single));
    held.into_iter().for_each(Receipt::resolve);
    assert!(!share.has_room(Lane::Single), "paused although nothing is held");
    share.set_allowance(usize::MAX);
    assert!(share.has_room(Lane::Single));
    assert_eq!(all.total(), Usage::default());
}

/// Two of three apps whose records nobody takes: what each holds for that leaves the third its part of the process.
#[test]
fn reports_that_wait_leave_room_for_other_apps() {
    let all = InFlight::new(100, 100_000);
    all.set_apps(&["a".into(), "b".into(), "c".into()]);
    let (partition, mut held) = (Partition::new(), Vec::new());
    for app in ["a", "b"] {
        let share = all.share(app);
        while share.has_room(Lane::Single) {
            held.push(partition.lend(&share, 1));
            held[held.len() - 1].set_reporting();
        }
    }
    assert_eq!(held.len(), 2 * 25);
    let share = all.share("c");
    let more = std::iter::from_fn(|| share.has_room(Lane::Single).then(|| partition.lend(&share, 1)));
    held.extend(more.take(1_000));
    assert_eq!(held.len(), 2 * 25 + 50, "all of its share");
    held.into_iter().for_each(Receipt::resolve);
    let alone = InFlight::new(100, 100_000);
    let held: Vec<_> = (0..99).map(|_| partition.lend(&alone.share("a"), 1)).collect();
    held.iter().for_each(Receipt::set_reporting);
    assert!(alone.share("a").has_room(Lane::Single), "there is nobody to leave room for");
    held.into_iter().for_each(Receipt::resolve);
}

#[test]
fn the_smallest_bound_still_lets_one_through() {
    let all = InFlight::new(1, 1);
    all.set_apps(&["a".into(), "b".into()]);
    let (share, partition) = (all.share("a"), Partition::new());
    assert!(share.has_room(Lane::Single));
    let receipt = partition.lend(&share, 5000);
    assert!(!share.has_room(Lane::Single) && !all.share("b").has_room(Lane::Single));
    receipt.resolve();
    assert!(share.has_room(Lane::Single));
}

#[test]
fn a_dropped_receipt_is_counted_and_lent_again() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let receipts: Vec<_> = (0..3).map(|_| partition.lend(&all.share("a"), 1)).collect();
    assert!(receipts[2].may_send());
    receipts.into_iter().rev().for_each(drop);
    assert_eq!((all.lost(), all.total(), partition.assignment.on_stream()), (3, Usage::default(), 0));
    assert_eq!((partition.position(), partition.in_flight()), (0, 0));
    assert!(partition.assignment.has_lost());
    assert_eq!(partition.assignment.take_lost(), [0, 1, 2]);
    assert!(!partition.assignment.has_lost() && partition.assignment.take_lost().is_empty(), "told once");
    assert_eq!(partition.assignment.ledger.lock().lend(1, -1, Instant::now()), Lend::New);
}

#[test]
fn a_release_while_the_partition_stays_is_lent_again_without_alarm() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    partition.lend(&all.share("a"), 1).release();
    assert_eq!((all.lost(), partition.assignment.take_lost()), (0, vec![0]));
}

#[test]
fn after_the_stop_a_drop_is_a_release_and_a_resolution_still_counts() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let (first, second, third) =
        (partition.lend(&all.share("a"), 1), partition.lend(&all.share("a"), 1), partition.lend(&all.share("a"), 1));
    assert!(
        first.may_send()
            && !{
                partition.assignment.stop_sending();
                second.may_send()
            }
    );
    assert_eq!(partition.assignment.on_stream(), 1);
    first.resolve();
    drop(second);
    third.release();
    assert_eq!((partition.assignment.on_stream(), partition.position(), all.lost()), (0, 1, 0));
    assert!(partition.assignment.take_lost().is_empty());
    assert_eq!(partition.in_flight(), 0);
}

#[test]
fn after_the_end_receipts_change_nothing_but_the_counts() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let (first, second, third) =
        (partition.lend(&all.share("a"), 1), partition.lend(&all.share("a"), 1), partition.lend(&all.share("a"), 1));
    partition.assignment.end();
    partition.assignment.stop_sending();
    assert!(!first.may_send());
    first.resolve();
    drop(second);
    third.release();
    assert!(!partition.assignment.dirty().load(Ordering::Acquire));
    assert_eq!((partition.position(), all.lost(), all.total()), (0, 0, Usage::default()));
    assert!(partition.assignment.take_lost().is_empty());
}

#[test]
fn a_receipt_is_on_a_stream_once_however_often_it_asks() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let receipt = partition.lend(&all.share("a"), 1);
    assert!(receipt.may_send() && receipt.may_send());
    assert_eq!(partition.assignment.on_stream(), 1);
    receipt.off_stream();
    receipt.off_stream();
    assert_eq!(partition.assignment.on_stream(), 0);
    assert!(receipt.may_send());
    receipt.resolve();
    assert_eq!(partition.assignment.on_stream(), 0);
}

#[test]
fn what_is_being_reported_is_waited_for_and_no_report_begins_after_the_stop() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let [refused, answered, late] = [(); 3].map(|()| partition.lend(&all.share("a"), 1));
    assert!(refused.may_report() && answered.may_send() && refused.may_report());
    assert_eq!(partition.assignment.on_stream(), 2);
    partition.assignment.stop_sending();
    assert!(answered.may_report() && !late.may_report(), "an answer is told, what nobody asked about is not");
    assert_eq!(partition.assignment.on_stream(), 2);
    refused.resolve();
    answered.resolve();
    late.release();
    assert_eq!((partition.assignment.on_stream(), partition.position()), (0, 2));
}

#[test]
fn nothing_is_sent_without_a_recent_poll_or_in_doubt() {
    let all = InFlight::new(10, 1000);
    let now = Instant::now();
    let start = now.checked_sub(SESSION).expect("the machine is older");
    // A session of no length is always over; one of an hour was over at its first poll in the past.
    for last_poll in [LastPoll::new(Duration::ZERO, now), LastPoll::new(SESSION, start)] {
        let assignment = Assignment::new(Ledger::new(0, vec![]), Arc::clone(&last_poll), lane());
        let partition = Partition { assignment, last_poll };
        let receipt = partition.lend(&all.share("a"), 1);
        assert!(!receipt.may_send());
        partition.last_poll.touch(Instant::now());
        assert!(!receipt.may_send(), "polled, and not proven");
        assert!(!receipt.may_report(), "what passed its expiry meanwhile may have been sent by another");
        assert_eq!(partition.assignment.on_stream(), 0);
        receipt.release();
    }
    let last_poll = LastPoll::new(SESSION, start);
    let partition =
        Partition { assignment: Assignment::new(Ledger::new(0, vec![]), Arc::clone(&last_poll), lane()), last_poll };
    let receipt = partition.lend(&all.share("a"), 1);
    partition.last_poll.touch(Instant::now());
    assert!(partition.last_poll.vouch(Instant::now()) && receipt.may_send());
    receipt.resolve();
}

#[test]
fn what_ends_while_the_partition_is_away_is_known_when_it_comes_back() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let mut held: Vec<_> = (0..4).map(|_| partition.lend(&all.share("a"), 1)).collect();
    partition.assignment.stop_sending();
    partition.assignment.suspend();
    assert!(held.iter().all(|receipt| receipt.is_over() && !receipt.may_send()));
    held.remove(1).resolve();
    held.remove(0).release();
    drop(held.remove(0));
    assert_eq!((all.lost(), partition.assignment.take_lost()), (0, vec![]), "a drop is a release while it is away");
    partition.assignment.revive();
    assert!(partition.assignment.dirty().load(Ordering::Acquire));
    let last = held.remove(0);
    assert!(!last.is_over() && last.may_send());
    last.resolve();
    let now = Instant::now();
    let again = [0, 1, 2, 3].map(|offset| partition.assignment.ledger.lock().lend(offset, -1, now) == Lend::New);
    assert_eq!(again, [true, false, true, false], "what was given back is lent again, and nothing else");
}

#[test]
fn an_end_is_final() {
    let all = InFlight::new(10, 1000);
    let partition = Partition::new();
    let receipt = partition.lend(&all.share("a"), 1);
    partition.assignment.suspend();
    partition.assignment.end();
    partition.assignment.suspend();
    partition.assignment.revive();
    assert!(receipt.is_over());
    receipt.resolve();
    assert_eq!((partition.position(), partition.in_flight()), (0, 1));
}

/// Whoever stops and then sees nobody on a stream must be right about it.
#[test]
fn a_stop_and_a_send_at_once_never_miss_each_other() {
    for _ in 0..200 {
        let all = InFlight::new(10, 1000);
        let partition = Partition::new();
        let receipt = partition.lend(&all.share("a"), 1);
        let assignment = Arc::clone(&partition.assignment);
        let (sent, seen) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| receipt.may_send());
            assignment.stop_sending();
            let seen = assignment.on_stream();
            (sender.join().unwrap(), seen)
        });
        assert!(!sent || seen == 1, "sent although the stop saw nobody");
        receipt.release();
    }
}

#[test]
fn a_receipt_is_in_the_books_from_its_beginning_to_its_end() {
    let (all, last_poll) = (InFlight::new(10, 1000), LastPoll::new(SESSION, Instant::now()));
    let assignment = Assignment::new(Ledger::new(0, vec![]), Arc::clone(&last_poll), lane_of(all.tally()));
    let partition = Partition { assignment, last_poll };
    let mut receipts: Vec<_> = (0..6).map(|_| partition.lend(&all.share("a"), 1)).collect();
    let sheet = || all.tally().sheets().remove(0).1;
    let mut end = |how: fn(Receipt)| how(receipts.pop().unwrap());
    end(|receipt| receipt.resolve_as(&Outcome::Expired(None)));
    end(|receipt| receipt.resolve_as(&Outcome::Rejected(Refusal::local(Class::Message, "bad", "Bad", ""))));
    end(Receipt::resolve);
    end(Receipt::release);
    end(drop);
    assert_eq!((sheet().lent, sheet().in_flight, sheet().released, sheet().lost), (6, 1, 2, 1));
    assert_eq!([End::Expired, End::Rejected, End::Handled, End::Delivered].map(|end| sheet().of(end)), [1, 1, 1, 0]);
    partition.assignment.stop_sending();
    end(drop);
    assert_eq!((sheet().in_flight, sheet().released, sheet().lost), (0, 3, 1), "given up with its partition");
    assert_eq!(sheet().consumed(), sheet().accounted());
}
