//! What a broker's answer, or the lack of one, means for a batch.
//!
//! Not here: what follows from it (`state`).

use quipu_protocol::ErrorCode;

use super::state::Failure;
use crate::ClientError;

/// Which failure an error is. `Lost` unless it is certain that the batch is not, and will not be, in the log.
pub(crate) fn failure_of(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused { code, .. } => failure_of_code(*code),
        ClientError::Disconnected { sent: true, .. } | ClientError::TimedOut { .. } | ClientError::Malformed { .. } => {
            Failure::Lost
        }
        ClientError::Disconnected { sent: false, .. }
        | ClientError::Connect { .. }
        | ClientError::NoBroker { .. }
        | ClientError::Busy { .. } => Failure::NotSent,
        ClientError::Version { .. } | ClientError::Unencodable { .. } | ClientError::Config(_) => Failure::Rejected,
        ClientError::Closed => Failure::Lost,
    }
}

fn failure_of_code(code: ErrorCode) -> Failure {
    use ErrorCode as Code;
    match code {
        Code::OutOfOrderSequenceNumber | Code::UnknownProducerId => Failure::OutOfOrder,
        Code::InvalidProducerEpoch => Failure::InvalidEpoch,
        Code::MessageTooLarge => Failure::TooLarge,
        // Answers given before anything is appended.
        Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::LeaderNotAvailable
        | Code::NotEnoughReplicas
        | Code::CorruptMessage
        | Code::ThrottlingQuotaExceeded => Failure::Refused,
        // A leader that loses its office while followers catch up answers so, too (NOT_LEADER_OR_FOLLOWER), and the new one
        // may have the batch; a failed disk may have it after the next start.
        code if code.is_retriable() => Failure::Lost,
        Code::UnknownServerError => Failure::Lost,
        _ => Failure::Rejected,
    }
}

/// Whether the error says that the partition is led by somebody else, or not at all.
pub(crate) fn is_stale_metadata(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { code, .. } => is_stale_code(*code),
        ClientError::Connect { .. } | ClientError::Disconnected { .. } | ClientError::TimedOut { .. } => true,
        _ => false,
    }
}

pub(crate) fn is_stale_code(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::BrokerNotAvailable
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::KafkaStorageError
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::ListenerNotFound
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::NetworkException
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BrokerAddress;

    #[test]
    fn only_what_is_certain_is_no_doubt() {
        let address = BrokerAddress::new("b", 1);
        let gone = |sent| ClientError::Disconnected { address: address.clone(), sent };
        assert_eq!(failure_of(&gone(true)), Failure::Lost);
        assert_eq!(failure_of(&gone(false)), Failure::NotSent);
        for (code, failure) in [
            (ErrorCode::NotLeaderOrFollower, Failure::Lost),
            (ErrorCode::RequestTimedOut, Failure::Lost),
            (ErrorCode::NotEnoughReplicasAfterAppend, Failure::Lost),
            (ErrorCode::NotEnoughReplicas, Failure::Refused),
            (ErrorCode::UnknownTopicId, Failure::Refused),
            (ErrorCode::OutOfOrderSequenceNumber, Failure::OutOfOrder),
            (ErrorCode::MessageTooLarge, Failure::TooLarge),
            (ErrorCode::InvalidRecord, Failure::Rejected),
            (ErrorCode::TopicAuthorizationFailed, Failure::Rejected),
        ] {
            assert_eq!(failure_of(&ClientError::refused("produce", code.code(), None)), failure, "{code}");
        }
    }

    #[test]
    fn leaders_that_moved_are_looked_for() {
        assert!(is_stale_code(ErrorCode::NotLeaderOrFollower) && !is_stale_code(ErrorCode::NotEnoughReplicas));
    }
}
