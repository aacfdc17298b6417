//! Why a request, or one item of it, is declined. Each variant names the Kafka error that it stands for.

use core::fmt;
use std::borrow::Cow;

use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, PartitionIndex, TopicId, limits,
};
use quipu_metadata::config::ConfigError;
use serde::{Deserialize, Serialize};

use crate::topic_name::TopicNameError;

/// Why the controller declines. The text goes to the client, where the protocol carries one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControllerError {
    /// `INVALID_TOPIC_EXCEPTION`: no topic can have that name.
    InvalidTopicName(TopicNameError),
    /// `INVALID_TOPIC_EXCEPTION`: the names differ only in dots and underscores, which metrics cannot tell apart.
    TopicNameCollides {
        /// The name asked for.
        name: String,
        /// The topic that exists.
        existing: String,
    },
    /// `TOPIC_ALREADY_EXISTS`.
    TopicExists {
        /// The name asked for.
        name: String,
    },
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    UnknownTopic {
        /// The name asked for.
        name: String,
    },
    /// `UNKNOWN_TOPIC_ID`.
    UnknownTopicId {
        /// The id asked for.
        topic_id: TopicId,
    },
    /// `INVALID_REQUEST`, with the reason.
    InvalidRequest(String),
    /// `INVALID_PARTITIONS`, with the reason.
    InvalidPartitions(String),
    /// `INVALID_REPLICATION_FACTOR`, with the reason.
    InvalidReplicationFactor(String),
    /// `INVALID_REPLICA_ASSIGNMENT`, with the reason.
    InvalidReplicaAssignment(String),
    /// `INVALID_CONFIG`.
    InvalidConfig(ConfigError),
    /// `INVALID_CONFIG`: an operation that the config does not have, or one without a value.
    InvalidConfigOperation(String),
    /// `POLICY_VIOLATION`: the whole request asks for more partitions than one request may.
    TooManyPartitions,
    /// `BROKER_ID_NOT_REGISTERED`.
    BrokerNotRegistered {
        /// The broker.
        broker: BrokerId,
    },
    /// `STALE_BROKER_EPOCH`: the broker has registered anew since.
    StaleBrokerEpoch {
        /// The broker.
        broker: BrokerId,
        /// The current registration.
        current: BrokerEpoch,
        /// The one in the request.
        found: BrokerEpoch,
    },
    /// `DUPLICATE_BROKER_REGISTRATION`: another data directory serves under that id.
    DuplicateBroker {
        /// The broker.
        broker: BrokerId,
        /// The data directory that serves.
        serving: DirectoryId,
    },
    /// `INCONSISTENT_CLUSTER_ID`.
    OtherCluster {
        /// Ours.
        known: ClusterId,
        /// The one in the request.
        found: ClusterId,
    },
    /// `UNSUPPORTED_VERSION`: the broker cannot work with a feature level that the cluster is at.
    UnsupportedFeature {
        /// The feature.
        name: String,
        /// The cluster's level.
        level: i16,
    },
    /// `UNKNOWN_SERVER_ERROR`: there is no cluster yet.
    NoCluster,
    /// `UNKNOWN_SERVER_ERROR`: the metadata log already describes a cluster.
    ClusterExists {
        /// Which one.
        cluster_id: ClusterId,
    },
    /// `NOT_CONTROLLER`: the node has no vote, so it cannot lead the quorum.
    NotAVoter {
        /// The node.
        node: BrokerId,
        /// Its data directory.
        directory_id: DirectoryId,
    },
    /// `NOT_CONTROLLER`: another leadership of the quorum came later.
    StaleControllerEpoch {
        /// The latest.
        current: ControllerEpoch,
        /// The one in the request.
        found: ControllerEpoch,
    },
    /// `UNKNOWN_SERVER_ERROR`: all producer ids are used up.
    ProducerIdsExhausted,
    /// `UNKNOWN_TOPIC_OR_PARTITION`: the topic is there, the partition is not.
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// `INVALID_REQUEST`: only a broker that is fenced can be unregistered.
    BrokerServing {
        /// The broker.
        broker: BrokerId,
    },
    /// `UNSUPPORTED_VERSION`: the cluster is at a level of `metadata.version` that cannot say it.
    NeedsMetadataVersion {
        /// What was asked for: a noun.
        what: Cow<'static, str>,
        /// The level that it takes.
        level: i16,
        /// The level at which the cluster is.
        current: i16,
    },
    /// `INVALID_UPDATE_VERSION`, with the reason.
    InvalidFeatureUpdate(String),
    /// `ELECTION_NOT_NEEDED`: the partition has the leader that it should have.
    ElectionNotNeeded,
    /// `PREFERRED_LEADER_NOT_AVAILABLE`.
    PreferredLeaderNotAvailable {
        /// The preferred leader.
        broker: Option<BrokerId>,
    },
    /// `ELIGIBLE_LEADERS_NOT_AVAILABLE`, with the reason.
    NoEligibleLeader(String),
    /// `FENCED_LEADER_EPOCH`: the partition had another election since.
    StaleLeaderEpoch {
        /// The latest.
        current: LeaderEpoch,
        /// The one in the request.
        found: LeaderEpoch,
    },
    /// `NO_REASSIGNMENT_IN_PROGRESS`.
    NoReassignment,
}

impl fmt::Display for ControllerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTopicName(error) => error.fmt(f),
            Self::TopicNameCollides { name, existing } => write!(
                f,
                "Topic {name:?} collides with the existing topic {existing:?}: the names differ only in dots and underscores."
            ),
            Self::TopicExists { name } => write!(f, "Topic {name:?} already exists."),
            Self::UnknownTopic { name } => write!(f, "There is no topic {name:?}."),
            Self::UnknownTopicId { topic_id } => write!(f, "No topic has the id {topic_id}."),
            Self::InvalidRequest(why)
            | Self::InvalidPartitions(why)
            | Self::InvalidReplicationFactor(why)
            | Self::InvalidReplicaAssignment(why)
            | Self::InvalidConfigOperation(why) => f.write_str(why),
            Self::InvalidConfig(error) => error.fmt(f),
            Self::TooManyPartitions => write!(
                f,
                "The request asks for more than {} new partitions: split it.",
                limits::PARTITIONS_PER_REQUEST_MAX
            ),
            Self::BrokerNotRegistered { broker } => write!(f, "Broker {broker} is not registered."),
            Self::StaleBrokerEpoch { broker, current, found } => write!(
                f,
                "Broker {broker} is registered under broker epoch {current}, and the request has broker epoch {found}."
            ),
            Self::DuplicateBroker { broker, serving } => write!(
                f,
                "Broker {broker} is already serving from the data directory {serving}: give this node another node_id, or \
                 stop the other one."
            ),
            Self::OtherCluster { known, found } => {
                write!(f, "This is cluster {known}, and the request is for cluster {found}.")
            }
            Self::UnsupportedFeature { name, level } => write!(
                f,
                "The cluster is at level {level} of the feature {name}, which this broker does not know: use another release."
            ),
            Self::NoCluster => f.write_str("The metadata log is empty: no cluster has been made yet."),
            Self::ClusterExists { cluster_id } => {
                write!(f, "The metadata log already describes cluster {cluster_id}.")
            }
            Self::NotAVoter { node, directory_id } => {
                write!(f, "Node {node} with the data directory {directory_id} is not a voter of the metadata quorum.")
            }
            Self::StaleControllerEpoch { current, found } => {
                write!(f, "Controller epoch {found} is not later than controller epoch {current}.")
            }
            Self::ProducerIdsExhausted => f.write_str("All producer ids have been given out."),
            Self::UnknownPartition { topic, partition } => {
                write!(f, "The topic {topic:?} has no partition {partition}.")
            }
            Self::BrokerServing { broker } => {
                write!(f, "Broker {broker} is serving: stop it before it is unregistered.")
            }
            Self::NeedsMetadataVersion { what, level, current } => write!(
                f,
                "The cluster is at level {current} of the feature metadata.version, and {what} needs level {level}: raise it \
                 once all nodes run a release that knows it."
            ),
            Self::InvalidFeatureUpdate(why) | Self::NoEligibleLeader(why) => f.write_str(why),
            Self::ElectionNotNeeded => f.write_str("The partition has the leader that it should have."),
            Self::PreferredLeaderNotAvailable { broker: Some(broker) } => {
                write!(f, "The preferred leader, broker {broker}, does not serve, or does not count.")
            }
            Self::PreferredLeaderNotAvailable { broker: None } => f.write_str("The partition has no preferred leader."),
            Self::StaleLeaderEpoch { current, found } => {
                write!(f, "The partition is at leader epoch {current}, and the request has leader epoch {found}.")
            }
            Self::NoReassignment => f.write_str("No reassignment of the partition is under way."),
        }
    }
}

impl core::error::Error for ControllerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::InvalidTopicName(error) => Some(error),
            Self::InvalidConfig(error) => Some(error),
            _ => None,
        }
    }
}
