//! What a refusal of a commit says: of what it is, and whether it is for good.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::commit::Reach;

/// Whether asking again before the partitions are gone is in vain: the group has gone on without this member, or somebody must mend something.
pub(super) fn is_in_vain(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedInstanceId, GroupAuthorizationFailed, IllegalGeneration, InvalidCommitOffsetSize, RebalanceInProgress,
        TopicAuthorizationFailed, UnknownMemberId, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            FencedInstanceId
                | GroupAuthorizationFailed
                | IllegalGeneration
                | InvalidCommitOffsetSize
                | RebalanceInProgress
                | TopicAuthorizationFailed
                | UnknownMemberId
                | UnknownTopicOrPartition
        )
    )
}

/// Of what a broker refuses a commit for this reason, while it may take the rest of it; `None`: of the whole.
pub(super) fn reach(error: &KafkaError) -> Option<Reach> {
    use RDKafkaErrorCode::{
        InvalidCommitOffsetSize, OffsetMetadataTooLarge, TopicAuthorizationFailed, UnknownTopicOrPartition,
    };
    match error.rdkafka_error_code()? {
        TopicAuthorizationFailed | UnknownTopicOrPartition => Some(Reach::Topic),
        // The latter of what is written together: it may be too much, and no one of them too long.
        OffsetMetadataTooLarge | InvalidCommitOffsetSize => Some(Reach::Partition),
        _ => None,
    }
}
