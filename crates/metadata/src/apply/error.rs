//! Why a record cannot follow those before it.

use core::fmt;
use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, LeaderEpoch, Offset, ProducerId, TopicId, TopicIdPartition,
};

use crate::partition::{ConfigurationVersion, PartitionDefect};

/// A record that cannot follow those before it. The metadata log is damaged, or what wrote it was at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// The record was applied before.
    OffsetBehind {
        /// Of the record.
        offset: Offset,
        /// The lowest that may come.
        next_offset: Offset,
    },
    /// A record kind of snapshots stands in the log.
    OnlyInSnapshots,
    /// A record kind of the log stands in a snapshot.
    NotInSnapshots,
    /// The controller epoch does not rise.
    ControllerEpochBehind {
        /// In the image.
        known: ControllerEpoch,
        /// In the record.
        found: ControllerEpoch,
    },
    /// A metadata quorum without voters.
    NoVoters,
    /// The log has records of two clusters.
    OtherCluster {
        /// In the image.
        known: ClusterId,
        /// In the record.
        found: ClusterId,
    },
    /// The broker is not registered.
    UnknownBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// The broker is registered under another broker epoch.
    OtherBrokerEpoch {
        /// The broker.
        broker: BrokerId,
        /// In the image.
        known: BrokerEpoch,
        /// In the record.
        found: BrokerEpoch,
    },
    /// A topic of that name exists.
    TopicNameTaken {
        /// The name.
        name: String,
    },
    /// A topic of that id exists.
    TopicIdTaken {
        /// The id.
        topic_id: TopicId,
    },
    /// No topic has that id.
    UnknownTopic {
        /// The id.
        topic_id: TopicId,
    },
    /// No topic has that name.
    UnknownTopicName {
        /// The name.
        name: String,
    },
    /// The partition exists already, or one before it is missing.
    PartitionOutOfOrder {
        /// The partition.
        partition: TopicIdPartition,
        /// How many the topic has.
        partition_count: usize,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The partition.
        partition: TopicIdPartition,
    },
    /// The partition would break one of its invariants.
    ImpossiblePartition {
        /// The partition.
        partition: TopicIdPartition,
        /// Which one.
        defect: PartitionDefect,
    },
    /// The leader epoch does not rise.
    LeaderEpochBehind {
        /// The partition.
        partition: TopicIdPartition,
        /// In the image.
        known: LeaderEpoch,
        /// In the record.
        found: LeaderEpoch,
    },
    /// The configuration's version does not rise.
    ConfigurationBehind {
        /// The partition.
        partition: TopicIdPartition,
        /// In the image.
        known: ConfigurationVersion,
        /// In the record.
        found: ConfigurationVersion,
    },
    /// A block of producer ids that somebody has already.
    ProducerIdsBehind {
        /// In the image.
        known: ProducerId,
        /// In the record.
        found: ProducerId,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata log contradicts itself: ")?;
        match self {
            Self::OffsetBehind { offset, next_offset } => {
                write!(f, "offset {offset} comes again after {next_offset} was reached")
            }
            Self::OnlyInSnapshots => f.write_str("a record that belongs into a snapshot stands in the log"),
            Self::NotInSnapshots => f.write_str("a record that belongs into the log stands in a snapshot"),
            Self::ControllerEpochBehind { known, found } => {
                write!(f, "controller epoch {found} starts after controller epoch {known}")
            }
            Self::NoVoters => f.write_str("a controller epoch starts without voters"),
            Self::OtherCluster { known, found } => write!(f, "cluster {known} becomes cluster {found}"),
            Self::UnknownBroker { broker } => write!(f, "broker {broker} is not registered"),
            Self::OtherBrokerEpoch { broker, known, found } => {
                write!(f, "broker {broker} is registered under broker epoch {known}, not {found}")
            }
            Self::TopicNameTaken { name } => write!(f, "topic {name} is created twice"),
            Self::TopicIdTaken { topic_id } => write!(f, "the topic with id {topic_id} is created twice"),
            Self::UnknownTopic { topic_id } => write!(f, "no topic has the id {topic_id}"),
            Self::UnknownTopicName { name } => write!(f, "there is no topic {name}"),
            Self::PartitionOutOfOrder { partition, partition_count } => {
                write!(f, "partition {partition} is created when its topic has {partition_count} partitions")
            }
            Self::UnknownPartition { partition } => write!(f, "there is no partition {partition}"),
            Self::ImpossiblePartition { partition, defect } => {
                write!(f, "partition {partition} gets impossible values ({defect})")
            }
            Self::LeaderEpochBehind { partition, known, found } => {
                write!(f, "leader epoch {found} of partition {partition} comes after {known}")
            }
            Self::ConfigurationBehind { partition, known, found } => {
                write!(f, "configuration {} of partition {partition} comes after {}", found.0, known.0)
            }
            Self::ProducerIdsBehind { known, found } => {
                write!(f, "producer ids up to {found} are given out after those up to {known}")
            }
        }
    }
}

impl core::error::Error for ApplyError {}
