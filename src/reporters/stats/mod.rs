//! Statistics.

/// A metric's name, written once. The variant's doc lists its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// A message's first request left us: platform, game, topic.
    Sent,
}
