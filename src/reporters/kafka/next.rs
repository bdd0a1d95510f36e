//! What follows from a refusal of a record. Pure.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What to do with a record that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same again after a pause.
    Again,
    /// The same again when the producer's queue has room.
    WhenRoom,
    /// The topic is missing, forbidden or takes no such records: the operator must act, the same again after a pause.
    AgainWithAlarm,
    /// In the next smaller form.
    Smaller,
    /// By another producer.
    Rebuild,
}

/// How a record is sent, from the largest request to the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In a batch with others, which may be what is too large.
    Together,
    /// By itself.
    Alone,
    /// By itself, without what makes it large.
    Truncated,
}

impl Form {
    /// What to try when this one was too large.
    pub(super) fn smaller(self) -> Option<Form> {
        match self {
            Form::Together => Some(Form::Alone),
            Form::Alone => Some(Form::Truncated),
            Form::Truncated => None,
        }
    }
}

impl Next {
    /// After a record was refused with `code`.
    pub(super) fn after(code: Option<Code>) -> Next {
        match code {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => Next::Smaller,
            Some(Code::QueueFull) => Next::WhenRoom,
            Some(Code::Fatal | Code::PurgeQueue | Code::PurgeInflight | Code::Fenced) => Next::Rebuild,
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Next::AgainWithAlarm,
            code if is_about_records(code) => Next::AgainWithAlarm,
            _ => Next::Again,
        }
    }
}

/// Whether a topic refuses records for what they are: a compacted one, for ours have no key; a policy of the cluster's; its rule
/// about times.
pub(super) fn is_about_records(code: Option<Code>) -> bool {
    matches!(code, Some(Code::InvalidRecord | Code::PolicyViolation | Code::InvalidTimestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_answer() {
        assert_eq!(Next::after(Some(Code::MessageSizeTooLarge)), Next::Smaller);
        assert_eq!(Next::after(Some(Code::QueueFull)), Next::WhenRoom);
        assert_eq!(Next::after(Some(Code::TopicAuthorizationFailed)), Next::AgainWithAlarm);
        assert_eq!(Next::after(Some(Code::UnknownTopic)), Next::AgainWithAlarm);
        assert_eq!(Next::after(Some(Code::InvalidRecord)), Next::AgainWithAlarm);
        assert_eq!(Next::after(Some(Code::PurgeQueue)), Next::Rebuild);
        assert_eq!(Next::after(Some(Code::MessageTimedOut)), Next::Again);
        assert_eq!(Next::after(None), Next::Again);
    }
}
