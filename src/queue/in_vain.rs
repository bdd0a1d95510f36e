//! After which refusals a last commit is not asked for again.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

/// Whether asking again before the partitions are gone is in vain: the group has gone on without this member, or somebody must mend something.
pub(super) fn is_in_vain(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedInstanceId, GroupAuthorizationFailed, IllegalGeneration, RebalanceInProgress, TopicAuthorizationFailed,
        UnknownMemberId, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            FencedInstanceId
                | GroupAuthorizationFailed
                | IllegalGeneration
                | RebalanceInProgress
                | TopicAuthorizationFailed
                | UnknownMemberId
                | UnknownTopicOrPartition
        )
    )
}
