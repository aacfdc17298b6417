//! Kafka's error codes, as of 4.4.
//!
//! Not here: which of our errors becomes which code (`quipu-broker` has the one table).

use core::fmt;

macro_rules! error_codes {
    ($( $code:literal $name:ident $variant:ident $retriable:ident $message:literal; )*) => {
        /// What a response says of how it went. Fields carry [`ErrorCode::code`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ErrorCode {
            $( #[doc = concat!(stringify!($name), ": ", $message, ".")] $variant = $code, )*
        }

        impl ErrorCode {
            /// All codes, in order of number.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The code with this number.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// Kafka's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => stringify!($name), )*
                }
            }

            /// What it means, for a response's error message.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $( Self::$variant => $message, )*
                }
            }

            /// Whether clients try again by themselves.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self {
                    $( Self::$variant => error_codes!(@$retriable), )*
                }
            }
        }
    };
    (@retriable) => { true };
    (@fatal) => { false };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR UnknownServerError fatal "the broker met an error it has no code for; its log says more";
    0 NONE None fatal "no error";
    1 OFFSET_OUT_OF_RANGE OffsetOutOfRange fatal "the offset lies outside the partition's log";
    2 CORRUPT_MESSAGE CorruptMessage retriable "the batch is damaged: bad checksum, size or key";
    3 UNKNOWN_TOPIC_OR_PARTITION UnknownTopicOrPartition retriable "no such topic or partition on this broker";
    4 INVALID_FETCH_SIZE InvalidFetchSize fatal "the fetch size is not valid";
    5 LEADER_NOT_AVAILABLE LeaderNotAvailable retriable "the partition has no leader at the moment";
    6 NOT_LEADER_OR_FOLLOWER NotLeaderOrFollower retriable "this broker is not the leader, or not a replica, of the partition";
    7 REQUEST_TIMED_OUT RequestTimedOut retriable "the request was not completed in time";
    8 BROKER_NOT_AVAILABLE BrokerNotAvailable fatal "the broker is not available";
    9 REPLICA_NOT_AVAILABLE ReplicaNotAvailable retriable "the replica is not available";
    10 MESSAGE_TOO_LARGE MessageTooLarge fatal "the record batch is larger than the topic allows";
    11 STALE_CONTROLLER_EPOCH StaleControllerEpoch fatal "the request came from an earlier controller";
    12 OFFSET_METADATA_TOO_LARGE OffsetMetadataTooLarge fatal "the metadata of the committed offset is too long";
    13 NETWORK_EXCEPTION NetworkException retriable "the connection was lost before the answer came";
    14 COORDINATOR_LOAD_IN_PROGRESS CoordinatorLoadInProgress retriable "the coordinator is still loading its state";
    15 COORDINATOR_NOT_AVAILABLE CoordinatorNotAvailable retriable "there is no coordinator at the moment";
    16 NOT_COORDINATOR NotCoordinator retriable "this broker is not the coordinator";
    17 INVALID_TOPIC_EXCEPTION InvalidTopicException fatal "the topic name is not valid, or the topic may not be used this way";
    18 RECORD_LIST_TOO_LARGE RecordListTooLarge fatal "the record batch is larger than a segment";
    19 NOT_ENOUGH_REPLICAS NotEnoughReplicas retriable "too few replicas are in sync to accept the records";
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND NotEnoughReplicasAfterAppend retriable "the records were appended, but on too few replicas in sync";
    21 INVALID_REQUIRED_ACKS InvalidRequiredAcks fatal "acks must be 0, 1 or -1";
    22 ILLEGAL_GENERATION IllegalGeneration fatal "the generation is not the group's current one";
    23 INCONSISTENT_GROUP_PROTOCOL InconsistentGroupProtocol fatal "the member has no protocol in common with the group";
    24 INVALID_GROUP_ID InvalidGroupId fatal "the group id is not valid";
    25 UNKNOWN_MEMBER_ID UnknownMemberId fatal "the group does not know this member";
    26 INVALID_SESSION_TIMEOUT InvalidSessionTimeout fatal "the session timeout is outside the allowed range";
    27 REBALANCE_IN_PROGRESS RebalanceInProgress fatal "the group is rebalancing: join again";
    28 INVALID_COMMIT_OFFSET_SIZE InvalidCommitOffsetSize fatal "the offset commit is too large";
    29 TOPIC_AUTHORIZATION_FAILED TopicAuthorizationFailed fatal "not authorized for the topic";
    30 GROUP_AUTHORIZATION_FAILED GroupAuthorizationFailed fatal "not authorized for the group";
    31 CLUSTER_AUTHORIZATION_FAILED ClusterAuthorizationFailed fatal "not authorized for the cluster";
    32 INVALID_TIMESTAMP InvalidTimestamp fatal "a record's timestamp is outside the allowed range";
    33 UNSUPPORTED_SASL_MECHANISM UnsupportedSaslMechanism fatal "the SASL mechanism is not enabled";
    34 ILLEGAL_SASL_STATE IllegalSaslState fatal "the request does not fit the state of the authentication";
    35 UNSUPPORTED_VERSION UnsupportedVersion fatal "this version of the API is not served";
    36 TOPIC_ALREADY_EXISTS TopicAlreadyExists fatal "a topic of this name exists already";
    37 INVALID_PARTITIONS InvalidPartitions fatal "the number of partitions is not valid";
    38 INVALID_REPLICATION_FACTOR InvalidReplicationFactor fatal "the replication factor is below 1 or above the number of brokers";
    39 INVALID_REPLICA_ASSIGNMENT InvalidReplicaAssignment fatal "the replica assignment is not valid";
    40 INVALID_CONFIG InvalidConfig fatal "a setting is unknown or its value is not valid";
    41 NOT_CONTROLLER NotController retriable "this node is not the active controller";
    42 INVALID_REQUEST InvalidRequest fatal "the request does not make sense";
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT UnsupportedForMessageFormat fatal "the broker's message format cannot do this";
    44 POLICY_VIOLATION PolicyViolation fatal "a policy of the cluster forbids it";
    45 OUT_OF_ORDER_SEQUENCE_NUMBER OutOfOrderSequenceNumber fatal "the producer's sequence has a gap";
    46 DUPLICATE_SEQUENCE_NUMBER DuplicateSequenceNumber fatal "the producer's sequence was seen before";
    47 INVALID_PRODUCER_EPOCH InvalidProducerEpoch fatal "the producer's epoch is out of date";
    48 INVALID_TXN_STATE InvalidTxnState fatal "the producer's transaction is not in a state that allows it";
    49 INVALID_PRODUCER_ID_MAPPING InvalidProducerIdMapping fatal "the producer id does not belong to this transactional id";
    50 INVALID_TRANSACTION_TIMEOUT InvalidTransactionTimeout fatal "the transaction timeout is longer than the broker allows";
    51 CONCURRENT_TRANSACTIONS ConcurrentTransactions retriable "another operation on the same transaction is under way";
    52 TRANSACTION_COORDINATOR_FENCED TransactionCoordinatorFenced fatal "a newer transaction coordinator exists";
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED TransactionalIdAuthorizationFailed fatal "not authorized for the transactional id";
    54 SECURITY_DISABLED SecurityDisabled fatal "security is not enabled on the cluster";
    55 OPERATION_NOT_ATTEMPTED OperationNotAttempted fatal "this part of the request was not attempted because another failed";
    56 KAFKA_STORAGE_ERROR KafkaStorageError retriable "the broker could not read or write its disk";
    57 LOG_DIR_NOT_FOUND LogDirNotFound fatal "no such log directory on this broker";
    58 SASL_AUTHENTICATION_FAILED SaslAuthenticationFailed fatal "authentication failed";
    59 UNKNOWN_PRODUCER_ID UnknownProducerId fatal "the broker no longer knows this producer id";
    60 REASSIGNMENT_IN_PROGRESS ReassignmentInProgress fatal "the partition is being reassigned";
    61 DELEGATION_TOKEN_AUTH_DISABLED DelegationTokenAuthDisabled fatal "delegation tokens are not enabled";
    62 DELEGATION_TOKEN_NOT_FOUND DelegationTokenNotFound fatal "no such delegation token";
    63 DELEGATION_TOKEN_OWNER_MISMATCH DelegationTokenOwnerMismatch fatal "the caller neither owns the delegation token nor may renew it";
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED DelegationTokenRequestNotAllowed fatal "delegation tokens cannot be managed over this kind of connection";
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED DelegationTokenAuthorizationFailed fatal "not authorized for the delegation token";
    66 DELEGATION_TOKEN_EXPIRED DelegationTokenExpired fatal "the delegation token has expired";
    67 INVALID_PRINCIPAL_TYPE InvalidPrincipalType fatal "this type of principal is not supported";
    68 NON_EMPTY_GROUP NonEmptyGroup fatal "the group still has members";
    69 GROUP_ID_NOT_FOUND GroupIdNotFound fatal "no such group";
    70 FETCH_SESSION_ID_NOT_FOUND FetchSessionIdNotFound retriable "no such fetch session on this broker";
    71 INVALID_FETCH_SESSION_EPOCH InvalidFetchSessionEpoch retriable "the fetch session's epoch is not the one expected";
    72 LISTENER_NOT_FOUND ListenerNotFound retriable "the leader has no listener of the name the client uses";
    73 TOPIC_DELETION_DISABLED TopicDeletionDisabled fatal "topics may not be deleted on this cluster";
    74 FENCED_LEADER_EPOCH FencedLeaderEpoch retriable "the client's leader epoch is out of date";
    75 UNKNOWN_LEADER_EPOCH UnknownLeaderEpoch retriable "the client's leader epoch is newer than the broker's";
    76 UNSUPPORTED_COMPRESSION_TYPE UnsupportedCompressionType fatal "the client cannot read the partition's compression";
    77 STALE_BROKER_EPOCH StaleBrokerEpoch fatal "the broker's registration is out of date";
    78 OFFSET_NOT_AVAILABLE OffsetNotAvailable retriable "the new leader does not know the high watermark yet";
    79 MEMBER_ID_REQUIRED MemberIdRequired fatal "join again with the member id given";
    80 PREFERRED_LEADER_NOT_AVAILABLE PreferredLeaderNotAvailable retriable "the preferred leader is not available";
    81 GROUP_MAX_SIZE_REACHED GroupMaxSizeReached fatal "the group is full";
    82 FENCED_INSTANCE_ID FencedInstanceId fatal "another consumer uses the same group instance id";
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE EligibleLeadersNotAvailable retriable "no eligible leader is available";
    84 ELECTION_NOT_NEEDED ElectionNotNeeded retriable "the partition has the wanted leader already";
    85 NO_REASSIGNMENT_IN_PROGRESS NoReassignmentInProgress fatal "no reassignment of the partition is under way";
    86 GROUP_SUBSCRIBED_TO_TOPIC GroupSubscribedToTopic fatal "the group is subscribed to the topic";
    87 INVALID_RECORD InvalidRecord fatal "a record was refused by validation";
    88 UNSTABLE_OFFSET_COMMIT UnstableOffsetCommit retriable "a transaction that commits these offsets is still open";
    89 THROTTLING_QUOTA_EXCEEDED ThrottlingQuotaExceeded retriable "the quota for such changes is used up for now";
    90 PRODUCER_FENCED ProducerFenced fatal "a newer producer with the same transactional id exists";
    91 RESOURCE_NOT_FOUND ResourceNotFound fatal "no such resource";
    92 DUPLICATE_RESOURCE DuplicateResource fatal "the request names the same thing twice";
    93 UNACCEPTABLE_CREDENTIAL UnacceptableCredential fatal "the credential does not meet the rules";
    94 INCONSISTENT_VOTER_SET InconsistentVoterSet fatal "the voters that the sender knows are not those of this node";
    95 INVALID_UPDATE_VERSION InvalidUpdateVersion fatal "the feature's new level is not valid";
    96 FEATURE_UPDATE_FAILED FeatureUpdateFailed fatal "the feature levels could not be changed";
    97 PRINCIPAL_DESERIALIZATION_FAILURE PrincipalDeserializationFailure fatal "the forwarded principal could not be read";
    98 SNAPSHOT_NOT_FOUND SnapshotNotFound fatal "no such snapshot";
    99 POSITION_OUT_OF_RANGE PositionOutOfRange fatal "the position lies outside the snapshot";
    100 UNKNOWN_TOPIC_ID UnknownTopicId retriable "no topic with this id on this broker";
    101 DUPLICATE_BROKER_REGISTRATION DuplicateBrokerRegistration fatal "another broker with this node id is registered and alive";
    102 BROKER_ID_NOT_REGISTERED BrokerIdNotRegistered fatal "no broker with this node id is registered";
    103 INCONSISTENT_TOPIC_ID InconsistentTopicId retriable "the topic's id is another one in the log than in the request";
    104 INCONSISTENT_CLUSTER_ID InconsistentClusterId fatal "the cluster id is not this cluster's";
    105 TRANSACTIONAL_ID_NOT_FOUND TransactionalIdNotFound fatal "no such transactional id";
    106 FETCH_SESSION_TOPIC_ID_ERROR FetchSessionTopicIdError retriable "the fetch session mixes topic names and topic ids";
    107 INELIGIBLE_REPLICA IneligibleReplica fatal "the new ISR has a replica that may not be in it";
    108 NEW_LEADER_ELECTED NewLeaderElected fatal "the change was made, but another replica leads now";
    109 OFFSET_MOVED_TO_TIERED_STORAGE OffsetMovedToTieredStorage fatal "the offset has moved to remote storage";
    110 FENCED_MEMBER_EPOCH FencedMemberEpoch fatal "the member's epoch is out of date: give up all partitions and join again";
    111 UNRELEASED_INSTANCE_ID UnreleasedInstanceId fatal "another member still holds the instance id";
    112 UNSUPPORTED_ASSIGNOR UnsupportedAssignor fatal "the group does not support the assignor";
    113 STALE_MEMBER_EPOCH StaleMemberEpoch fatal "the member's epoch is out of date: wait for the next heartbeat's answer";
    114 MISMATCHED_ENDPOINT_TYPE MismatchedEndpointType fatal "the request went to the wrong kind of node";
    115 UNSUPPORTED_ENDPOINT_TYPE UnsupportedEndpointType fatal "this kind of endpoint is not supported";
    116 UNKNOWN_CONTROLLER_ID UnknownControllerId fatal "no controller with this id";
    117 UNKNOWN_SUBSCRIPTION_ID UnknownSubscriptionId fatal "the telemetry subscription is unknown or out of date";
    118 TELEMETRY_TOO_LARGE TelemetryTooLarge fatal "the telemetry is too large";
    119 INVALID_REGISTRATION InvalidRegistration fatal "the controller refused the broker's registration";
    120 TRANSACTION_ABORTABLE TransactionAbortable fatal "the transaction failed: abort it to go on";
    121 INVALID_RECORD_STATE InvalidRecordState fatal "the record is not in a state that can be acknowledged";
    122 SHARE_SESSION_NOT_FOUND ShareSessionNotFound retriable "no such share session";
    123 INVALID_SHARE_SESSION_EPOCH InvalidShareSessionEpoch retriable "the share session's epoch is not the one expected";
    124 FENCED_STATE_EPOCH FencedStateEpoch fatal "the state epoch is not the coordinator's";
    125 INVALID_VOTER_KEY InvalidVoterKey fatal "the voter's key is not that of the replica";
    126 DUPLICATE_VOTER DuplicateVoter fatal "the node is a voter already";
    127 VOTER_NOT_FOUND VoterNotFound fatal "the node is not a voter";
    128 INVALID_REGULAR_EXPRESSION InvalidRegularExpression fatal "the regular expression is not valid";
    129 REBOOTSTRAP_REQUIRED RebootstrapRequired fatal "the client's view of the cluster is stale: bootstrap again";
    130 STREAMS_INVALID_TOPOLOGY StreamsInvalidTopology fatal "the streams topology is not valid";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH StreamsInvalidTopologyEpoch fatal "the streams topology's epoch is not valid";
    132 STREAMS_TOPOLOGY_FENCED StreamsTopologyFenced fatal "the streams topology's epoch is out of date";
    133 SHARE_SESSION_LIMIT_REACHED ShareSessionLimitReached retriable "no more share sessions are possible for now";
    134 GROUP_DELETION_FAILED GroupDeletionFailed fatal "the group could not be deleted; its own message says why";
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED StreamsTopologyDescriptionUpdateFailed fatal "the topology description could not be stored; its own message says why";
    136 CONTROLLER_ID_NOT_REGISTERED ControllerIdNotRegistered fatal "no controller with this node id is registered";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether it is an error at all.
    #[must_use]
    pub const fn is_error(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl fmt::Display for ErrorCode {
    /// Its name and what it means.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.message())
    }
}

impl core::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_come_back() {
        assert_eq!(ErrorCode::ALL.len(), 138);
        for (code, error) in (-1_i16..).zip(ErrorCode::ALL) {
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(ErrorCode::from_code(code), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(137), None);
        assert_eq!(ErrorCode::from_code(-2), None);
    }

    #[test]
    fn names_and_retriability_are_kafkas() {
        assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(!ErrorCode::MessageTooLarge.is_retriable());
        assert_eq!(ErrorCode::ALL.iter().filter(|error| error.is_retriable()).count(), 32);
    }
}
