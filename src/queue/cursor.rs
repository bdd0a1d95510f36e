//! Where a partition is read. Pure.

use std::time::{Duration, Instant};

use super::offsets::Ledger;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// When the last record was read, and its offset.
    last: Option<(Instant, i64)>,
    is_moved: bool,
}

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
