//! Where a partition is read. Pure.

use std::time::{Duration, Instant};

use super::offsets::Ledger;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// When the last record was read, and its offset.
    last: Option<(Instant, i64)>,
    is_moved: bool,
    /// Up to where it had been read at a moment.
    noted: Option<(Instant, i64)>,
    /// Looks in a row by which its log was shorter than that.
    short: u32,
}

/// So many looks are believed: a broker that is no leader any more may answer one.
const LOOKS: u32 = 2;

impl Cursor {
    /// A record was read.
    pub(super) fn read(&mut self, now: Instant, offset: i64) {
        (self.last, self.is_moved) = (Some((now, offset)), false);
    }

    /// Its place is changed, to where its ledger says that it must be read.
    pub(super) fn moved(&mut self) {
        self.is_moved = true;
    }

    /// Whether its place was changed and nothing has been read there yet.
    pub(super) fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// What is before `offset` is not read any more.
    pub(super) fn goes_on_at(&mut self, offset: i64) {
        self.last = self.last.map(|(at, _)| (at, offset - 1));
        (self.noted, self.short) = (None, 0);
    }

    /// Whether its log is shorter than what was read of it, up to `next` by now: it was cut off. `end`: where it ends by the last
    /// look at it, and when that began; only what had been read by then is compared.
    pub(super) fn is_cut_off(&mut self, next: i64, end: (i64, Instant), now: Instant) -> bool {
        let (end, asked) = end;
        match self.noted {
            Some((at, _)) if asked <= at => return false,
            Some((_, read)) => self.short = if end < read { self.short + 1 } else { 0 },
            None => {}
        }
        self.noted = Some((now, next));
        self.short >= LOOKS
    }

    /// How long ago something was read last; `None`: nothing was.
    pub(super) fn ago(&self, now: Instant) -> Option<Duration> {
        self.last.map(|(at, _)| now.saturating_duration_since(at))
    }

    /// The offset that is read now: the one after the last, or one before it that was given back.
    pub(super) fn at(&self, ledger: &Ledger) -> i64 {
        let from = ledger.read_from();
        self.last.map_or(from, |(_, last)| from.min(last + 1))
    }

    /// Whether what comes next was read before.
    pub(super) fn is_behind(&self, ledger: &Ledger) -> bool {
        let is_last = |(_, last): (Instant, i64)| last + 1 < ledger.next();
        self.last.is_some_and(is_last) || self.is_moved && ledger.read_from() < ledger.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_off_when_two_looks_find_it_shorter_than_what_was_read_before_them() {
        let (mut cursor, start) = (Cursor::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        // Noted at even seconds, asked at odd ones.
        assert!(!cursor.is_cut_off(100, (50, at(1)), at(2)), "nothing was noted before it was asked");
        assert!(!cursor.is_cut_off(120, (110, at(3)), at(4)), "what was read since does not count");
        assert!(!cursor.is_cut_off(120, (110, at(3)), at(6)), "the same look once more");
        assert!(!cursor.is_cut_off(120, (110, at(7)), at(8)));
        assert!(cursor.is_cut_off(120, (119, at(9)), at(10)));
        cursor.goes_on_at(90);
        assert!(!cursor.is_cut_off(90, (119, at(11)), at(12)));
        assert!(!cursor.is_cut_off(119, (119, at(13)), at(14)));
        assert!(!cursor.is_cut_off(119, (118, at(15)), at(16)));
        assert!(!cursor.is_cut_off(119, (119, at(17)), at(18)));
        assert!(!cursor.is_cut_off(119, (118, at(19)), at(20)), "not in a row");
    }

    #[test]
    fn what_was_given_back_is_read_again_once_the_place_is_changed() {
        let (mut cursor, mut ledger, now) = (Cursor::default(), Ledger::new(5, Vec::new()), Instant::now());
        let read = |cursor: &mut Cursor, ledger: &mut Ledger, offset| {
            cursor.read(now, offset);
            ledger.lend(offset, offset, now);
        };
        assert_eq!((cursor.at(&ledger), cursor.is_behind(&ledger), cursor.ago(now)), (5, false, None));
        (5..9).for_each(|offset| read(&mut cursor, &mut ledger, offset));
        assert_eq!((cursor.at(&ledger), cursor.is_behind(&ledger)), (9, false));
        assert!(ledger.forget(6));
        assert_eq!((cursor.at(&ledger), cursor.is_behind(&ledger)), (6, false), "the client reads at 9 still");
        cursor.moved();
        assert!(cursor.is_behind(&ledger));
        read(&mut cursor, &mut ledger, 6);
        assert_eq!((cursor.at(&ledger), cursor.is_behind(&ledger), cursor.is_moved()), (7, true, false));
        (7..9).for_each(|offset| read(&mut cursor, &mut ledger, offset));
        assert_eq!((cursor.at(&ledger), cursor.is_behind(&ledger)), (9, false));
        cursor.moved();
        assert!(!cursor.is_behind(&ledger), "what comes next is new");
    }
}
