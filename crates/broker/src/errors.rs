//! The one place where inner errors become Kafka's error codes, each by one exhaustive match.
//!
//! Invariant: a new inner error does not compile until it has a code here.

use std::borrow::Cow;

use quipu_base::LeaderEpoch;
use quipu_controller::ControllerError;
use quipu_env::{Env, Probe};
use quipu_groups::{GroupError, consumer::ConsumerError};
use quipu_protocol::{ErrorCode, Str};
use quipu_records::{BatchError, CompressError, Fault, rewrite::RecompressError};
use quipu_replication::RequestError;
use quipu_storage::{AppendError, Log, ReadError, StoreFull};

use crate::{
    groups::CoordinatorError,
    partition::Partition,
    quorum::{AskError, CommitError},
    shard::ProduceError,
};

/// What a client is told when something is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// Kafka's code.
    pub(crate) code: ErrorCode,
    /// What happened and what to do.
    pub(crate) message: Cow<'static, str>,
    /// The record at fault, counted from 0, if it is one record's fault.
    pub(crate) record: Option<i32>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), record: None }
    }

    /// The code with its own text.
    pub(crate) fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }

    /// The message as it goes on the wire.
    pub(crate) fn text(&self) -> Option<Str> {
        Some(Str::from(self.message.as_ref()))
    }
}

/// A topic that isn't there, asked for by name or by id.
pub(crate) fn unknown_topic(by_id: bool) -> Refusal {
    Refusal::plain(if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition })
}

/// A batch that can't be accepted.
pub(crate) fn batch(error: &BatchError) -> Refusal {
    let code = match error.fault() {
        Fault::Corrupt => ErrorCode::CorruptMessage,
        Fault::Invalid | Fault::UnsupportedFormat => ErrorCode::InvalidRecord,
        Fault::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        Fault::TooLarge => ErrorCode::MessageTooLarge,
        Fault::UnknownCodec => ErrorCode::UnsupportedCompressionType,
    };
    let record = error.record_index().and_then(|index| i32::try_from(index).ok());
    Refusal { record, ..Refusal::new(code, error.to_string()) }
}

/// A batch that can't be compressed as its topic wants it.
pub(crate) fn recompress(error: &RecompressError) -> Refusal {
    match error {
        RecompressError::Batch(error) => batch(error),
        RecompressError::Compress(error @ CompressError::TooLarge { .. }) => {
            Refusal::new(ErrorCode::MessageTooLarge, format!("compressed anew as the topic wants it: {error}"))
        }
        RecompressError::Compress(error) => Refusal::new(ErrorCode::UnknownServerError, error.to_string()),
        RecompressError::TooLarge { .. } => Refusal::new(ErrorCode::MessageTooLarge, error.to_string()),
    }
}

/// There is no room, and waiting would not make any.
pub(crate) fn store_full(error: &StoreFull) -> Refusal {
    Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
}

/// A batch that its partition did not take.
pub(crate) fn append(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::Faulty(_) => ErrorCode::KafkaStorageError,
        AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
        AppendError::OffsetOverflow => ErrorCode::PolicyViolation,
        AppendError::NotOneBatch => ErrorCode::CorruptMessage,
    };
    Refusal::new(code, error.to_string())
}

/// A batch that was not kept, or not in time.
pub(crate) fn produce(error: &ProduceError) -> Refusal {
    match error {
        ProduceError::Log(error) => append(error),
        ProduceError::Replica(error) => replica(*error),
    }
}

/// A request that a replica did not carry out.
pub(crate) fn replica(error: RequestError) -> Refusal {
    let code = match error {
        RequestError::NotLeader => ErrorCode::NotLeaderOrFollower,
        // Clients try either again, and know that nothing was kept. What is too much for a partition is what its replicas can't follow.
        RequestError::NotEnoughReplicas | RequestError::Overloaded => ErrorCode::NotEnoughReplicas,
        RequestError::TimedOut => ErrorCode::RequestTimedOut,
        RequestError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        RequestError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        RequestError::Invalid => ErrorCode::InvalidRequest,
        RequestError::Storage => ErrorCode::KafkaStorageError,
    };
    Refusal::new(code, error.to_string())
}

/// Records that can't be read.
pub(crate) fn read(error: &ReadError) -> Refusal {
    let code = match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Deleted => ErrorCode::UnknownTopicOrPartition,
        ReadError::Damaged { .. }
        | ReadError::Missing { .. }
        | ReadError::Faulty(_)
        | ReadError::Io { .. }
        | ReadError::BadBatch { .. } => ErrorCode::KafkaStorageError,
    };
    Refusal::new(code, error.to_string())
}

/// Whether a log's offsets mean anything. Those of a damaged one end before the damage: told without the error, they would send
/// a consumer back, or past what was acknowledged, without a word.
pub(crate) fn check_sound<E: Env>(log: &Log<E>) -> Result<(), Refusal> {
    let is_hidden = log.env().probe().planted("partition.damage-hidden");
    log.fault().filter(|_| !is_hidden).map_or(Ok(()), |fault| Err(read(&ReadError::Faulty(fault))))
}

/// The epoch in which this broker leads a partition. Errors: it does not, or not yet; the client's idea of the epoch (KIP-320; -1
/// is no idea) is another.
pub(crate) fn check_leader_epoch<E: Env>(current: i32, partition: &Partition<E>) -> Result<LeaderEpoch, Refusal> {
    let Some(ours) = partition.active_epoch() else { return Err(Refusal::plain(ErrorCode::NotLeaderOrFollower)) };
    if current < 0 || current == ours.get() {
        Ok(ours)
    } else if current < ours.get() {
        Err(Refusal::plain(ErrorCode::FencedLeaderEpoch))
    } else {
        Err(Refusal::plain(ErrorCode::UnknownLeaderEpoch))
    }
}

/// A request to the controller that failed.
pub(crate) fn ask(error: &AskError) -> Refusal {
    match error {
        AskError::Declined(error) => controller(error),
        AskError::Commit(error) => {
            let code = match error {
                CommitError::Full(_) => ErrorCode::KafkaStorageError,
                CommitError::TooLarge | CommitError::Forward(_) => ErrorCode::PolicyViolation,
                CommitError::NoController { .. } => ErrorCode::NotController,
                CommitError::Unknown => ErrorCode::RequestTimedOut,
                CommitError::Stopping => ErrorCode::CoordinatorNotAvailable,
            };
            Refusal::new(code, error.to_string())
        }
    }
}

/// A request, or one item of it, that the controller declined.
pub(crate) fn controller(error: &ControllerError) -> Refusal {
    let code = match error {
        ControllerError::InvalidTopicName(_) | ControllerError::TopicNameCollides { .. } => {
            ErrorCode::InvalidTopicException
        }
        ControllerError::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        ControllerError::UnknownTopic { .. } | ControllerError::UnknownPartition { .. } => {
            ErrorCode::UnknownTopicOrPartition
        }
        ControllerError::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
        ControllerError::InvalidRequest(_) | ControllerError::BrokerServing { .. } => ErrorCode::InvalidRequest,
        ControllerError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        ControllerError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        ControllerError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        ControllerError::InvalidConfig(_) | ControllerError::InvalidConfigOperation(_) => ErrorCode::InvalidConfig,
        ControllerError::TooManyPartitions => ErrorCode::PolicyViolation,
        ControllerError::BrokerNotRegistered { .. } => ErrorCode::BrokerIdNotRegistered,
        ControllerError::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
        ControllerError::DuplicateBroker { .. } => ErrorCode::DuplicateBrokerRegistration,
        ControllerError::OtherCluster { .. } => ErrorCode::InconsistentClusterId,
        ControllerError::UnsupportedFeature { .. } | ControllerError::NeedsMetadataVersion { .. } => {
            ErrorCode::UnsupportedVersion
        }
        ControllerError::InvalidFeatureUpdate(_) => ErrorCode::InvalidUpdateVersion,
        ControllerError::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
        ControllerError::PreferredLeaderNotAvailable { .. } => ErrorCode::PreferredLeaderNotAvailable,
        ControllerError::NoEligibleLeader(_) => ErrorCode::EligibleLeadersNotAvailable,
        ControllerError::StaleLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        ControllerError::NoReassignment => ErrorCode::NoReassignmentInProgress,
        ControllerError::NotAVoter { .. } | ControllerError::StaleControllerEpoch { .. } => ErrorCode::NotController,
        ControllerError::NoCluster | ControllerError::ClusterExists { .. } | ControllerError::ProducerIdsExhausted => {
            ErrorCode::UnknownServerError
        }
    };
    Refusal::new(code, error.to_string())
}

/// What a coordinator that does not answer is to its clients.
pub(crate) const fn coordinator(error: CoordinatorError) -> ErrorCode {
    match error {
        CoordinatorError::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        CoordinatorError::NotCoordinator => ErrorCode::NotCoordinator,
        CoordinatorError::Loading => ErrorCode::CoordinatorLoadInProgress,
    }
}

/// What a group refuses.
pub(crate) const fn group(error: GroupError) -> ErrorCode {
    match error {
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::TooLarge => ErrorCode::UnknownServerError,
        GroupError::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        GroupError::Full => ErrorCode::CoordinatorNotAvailable,
    }
}

/// What a group of the consumer protocol refuses.
pub(crate) const fn consumer_group(error: &ConsumerError) -> ErrorCode {
    match error {
        ConsumerError::Group(error) => group(*error),
        ConsumerError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        ConsumerError::InvalidRegularExpression(_) => ErrorCode::InvalidRegularExpression,
        ConsumerError::UnsupportedAssignor(_) => ErrorCode::UnsupportedAssignor,
        ConsumerError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        ConsumerError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        ConsumerError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
        ConsumerError::TopicsUnknown => ErrorCode::CoordinatorLoadInProgress,
    }
}
