//! What the group has committed of a partition, or may have. Pure.
//!
//! A commit is an offset, and what identifies the log there is the time of the record at it. Whoever finds the same offset
//! committed, and a record of the same time at it, knows that nobody else has gone on in this log.

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The offset.
    pub(super) offset: i64,
    /// Timestamp of the record at it, ms since the epoch, -1 when the record has none; `None`: not read yet.
    pub(super) timestamp: Option<i64>,
}

/// The latest commit that was accepted, the one after it of which no acceptance is known, and what a commit can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchors {
    accepted: Anchor,
    asked: Option<Anchor>,
    /// The farthest record that was read.
    read: Option<Anchor>,
}

impl Anchors {
    /// A partition that begins at a committed offset.
    pub(super) fn new(offset: i64) -> Self {
        Anchors { accepted: Anchor { offset, timestamp: None }, asked: None, read: None }
    }

    /// A commit is on its way. One before it that was never answered was not accepted, or this one is newer.
    pub(super) fn ask(&mut self, anchor: Anchor) {
        self.asked = Some(anchor);
    }

    /// The commit on its way was answered. A refusal leaves it as possible: not all of them come from the group.
    pub(super) fn answered(&mut self, accepted: bool) {
        if let Some(asked) = self.asked.take_if(|_| accepted) {
            self.accepted = asked;
        }
    }

    /// A record was read.
    pub(super) fn read(&mut self, offset: i64, timestamp: i64) {
        for anchor in [Some(&mut self.accepted), self.asked.as_mut()].into_iter().flatten() {
            if anchor.offset == offset {
                anchor.timestamp = Some(timestamp);
            }
        }
        if self.read.is_none_or(|read| read.offset < offset) {
            self.read = Some(Anchor { offset, timestamp: Some(timestamp) });
        }
    }

    /// The farthest record that was read; with none, or one without a time, what is committed for sure.
    pub(super) fn farthest(&self) -> Anchor {
        self.read.filter(|read| read.timestamp >= Some(0)).unwrap_or(self.accepted)
    }

    /// What is committed for sure.
    pub(super) fn accepted(&self) -> Anchor {
        self.accepted
    }

    /// Timestamp of the record at `offset`, when that may be what is committed and the record was read.
    pub(super) fn timestamp_at(&self, offset: i64) -> Option<i64> {
        let mut anchors = [Some(self.accepted), self.asked].into_iter().flatten();
        anchors.find(|anchor| anchor.offset == offset).and_then(|anchor| anchor.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_committed_is_known_by_the_time_of_its_record() {
        let mut anchors = Anchors::new(5);
        assert_eq!(anchors.timestamp_at(5), None, "not read yet");
        anchors.read(4, 40);
        anchors.read(5, 50);
        assert_eq!((anchors.timestamp_at(5), anchors.timestamp_at(4)), (Some(50), None));
        anchors.ask(Anchor { offset: 9, timestamp: None });
        anchors.read(9, 90);
        assert_eq!((anchors.timestamp_at(5), anchors.timestamp_at(9)), (Some(50), Some(90)));
        anchors.answered(false);
        assert_eq!((anchors.accepted().offset, anchors.timestamp_at(9)), (5, Some(90)), "it may have been taken");
        anchors.ask(Anchor { offset: 12, timestamp: Some(120) });
        anchors.answered(true);
        assert_eq!(
            (anchors.accepted().offset, anchors.timestamp_at(5), anchors.timestamp_at(12)),
            (12, None, Some(120))
        );
        anchors.answered(true);
        assert_eq!(anchors.accepted().offset, 12, "an answer to nothing");
    }
}
