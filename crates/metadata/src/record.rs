//! What the metadata log says: one [`MetadataRecord`] is one fact about the cluster.
//!
//! Invariants
//! - A record is a decision already taken. Applying it needs nothing but the image before it: no clock, no configuration
//!   of the node that reads it.
//! - The records that one decision gives are written as one batch and applied together, or not at all.
//! - The order of the variants, and of the fields in each, is the format (see [`codec`](crate::codec)): a new kind goes to
//!   the end and comes with a new format version.
//!
//! Not here: how a record is encoded (`codec`), what it does to the image (`apply`), why it is written
//! (`quipu-controller`). Read `image` next.

use core::fmt;
use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition,
};
use serde::{Deserialize, Serialize};

use crate::partition::{Configuration, PartitionState};

/// One fact about the cluster, in the order of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// A controller begins to lead. First of all that it writes under its epoch.
    EpochStart {
        /// Rises with every leadership.
        controller_epoch: ControllerEpoch,
        /// The node that leads.
        controller: BrokerId,
        /// The voters of the metadata quorum at that moment.
        voters: Vec<Voter>,
    },
    /// The cluster's identity. Written once, when the cluster is made.
    Cluster {
        /// The identity.
        cluster_id: ClusterId,
    },
    /// A feature's finalized level; 0 takes the feature away.
    Feature {
        /// The feature, for example `metadata.version`.
        name: String,
        /// Its level.
        level: i16,
    },
    /// A broker process started and asks to serve. Its broker epoch is the offset of this record. It is fenced until a
    /// [`MetadataRecord::UnfenceBroker`], and the leader epoch of every partition that it leads rises by one.
    RegisterBroker {
        /// The broker.
        broker: BrokerId,
        /// What it says of itself.
        registration: Registration,
    },
    /// A registered broker may lead and count again.
    UnfenceBroker {
        /// The broker.
        broker: BrokerId,
        /// The registration meant: it must be the current one.
        broker_epoch: BrokerEpoch,
    },
    /// A registered broker stopped answering: it neither leads nor counts. Its partitions change by records of their own.
    FenceBroker {
        /// The broker.
        broker: BrokerId,
        /// The registration meant: it must be the current one.
        broker_epoch: BrokerEpoch,
    },
    /// A broker has left for good.
    UnregisterBroker {
        /// The broker.
        broker: BrokerId,
        /// The registration meant: it must be the current one.
        broker_epoch: BrokerEpoch,
    },
    /// A topic is created, without partitions yet.
    Topic {
        /// Its name, which no living topic has.
        name: String,
        /// Its identity, which no topic ever had.
        topic_id: TopicId,
    },
    /// A partition is created. Partitions of a topic come in order, from 0, without gaps.
    Partition {
        /// The topic.
        topic_id: TopicId,
        /// The number of partitions that the topic has so far.
        partition: PartitionIndex,
        /// All about it.
        state: PartitionState,
    },
    /// A partition has another leader, another configuration, other replicas, or several of these at once.
    PartitionChange {
        /// The partition.
        partition: TopicIdPartition,
        /// A new leader epoch, and who leads in it.
        election: Option<Election>,
        /// A new configuration, of a higher version than the one before it.
        configuration: Option<Configuration>,
        /// A new assignment of replicas.
        assignment: Option<Assignment>,
    },
    /// A topic is deleted: with its partitions and its configs.
    RemoveTopic {
        /// The topic.
        topic_id: TopicId,
    },
    /// A dynamic config is set, or taken away.
    Config {
        /// What it configures.
        resource: ConfigResource,
        /// The config's name.
        key: String,
        /// Its value; none takes it away.
        value: Option<String>,
    },
    /// A block of producer ids went to a broker.
    ProducerIds {
        /// The broker that may give them out.
        broker: BrokerId,
        /// The first id that nobody has.
        next_producer_id: ProducerId,
    },
    /// All about a broker. Only in snapshots, where the offset of its registration is no longer at hand.
    Broker {
        /// The broker.
        broker: BrokerId,
        /// All about it.
        state: BrokerState,
    },
    /// A registered broker is about to stop: it is elected no more. Ends when it is fenced, or registers anew.
    BrokerShutdown {
        /// The broker.
        broker: BrokerId,
        /// The registration meant: it must be the current one.
        broker_epoch: BrokerEpoch,
    },
}

/// A member of the metadata quorum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Voter {
    /// The node.
    pub node: BrokerId,
    /// The data directory that holds its metadata log.
    pub directory_id: DirectoryId,
}

/// Names one process start: drawn at random, so that a registration that arrives twice is known as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct StartId(pub [u8; 16]);

impl fmt::Debug for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a broker says of itself when it registers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The identity of its data directory.
    pub directory_id: DirectoryId,
    /// The process start that registers.
    pub start_id: StartId,
    /// Where it can be reached.
    pub listeners: Vec<Listener>,
    /// Where it stands, if it says (`broker.rack`).
    pub rack: Option<String>,
    /// The feature levels that it can work with.
    pub features: Vec<FeatureRange>,
}

impl Registration {
    /// The listener of that name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

/// An address of a broker, as others should use it (the advertised one).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// The listener's name, unique in its broker.
    pub name: String,
    /// A host name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// The levels of one feature that a broker can work with, both ends included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeatureRange {
    /// The feature, for example `metadata.version`.
    pub name: String,
    /// The lowest level.
    pub level_min: i16,
    /// The highest level.
    pub level_max: i16,
}

/// All that the cluster knows of a registered broker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerState {
    /// The current registration: the offset of its record.
    pub broker_epoch: BrokerEpoch,
    /// What the broker said when it registered.
    pub registration: Registration,
    /// Whether it is kept from leading and counting.
    pub fenced: bool,
    /// The last registration under which it was unfenced, kept across registrations: a disk that knows only an older one
    /// is not the disk that served.
    pub unfenced_epoch: Option<BrokerEpoch>,
    /// Whether it is about to stop, and so is elected no more. Never of a fenced broker.
    pub in_controlled_shutdown: bool,
}

impl BrokerState {
    /// Whether it may be elected, and be given replicas.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// Who leads a partition from a leader epoch on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Election {
    /// The leader, a member of the configuration; none while nobody can lead.
    pub leader: Option<BrokerId>,
    /// Higher than any leader epoch before it.
    pub leader_epoch: LeaderEpoch,
    /// Whether committed records may be missing from the leader: an operator's choice. The partition's
    /// [`unclean_epoch`](PartitionState::unclean_epoch) becomes the leader epoch.
    pub unclean: bool,
}

/// The replicas of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// All replicas, the preferred leader first; those being added or removed included.
    pub replicas: Vec<BrokerId>,
    /// Those of them being added.
    pub adding: Vec<BrokerId>,
    /// Those of them being removed.
    pub removing: Vec<BrokerId>,
    /// How many there are to be.
    pub replication_factor: u16,
}

/// What a dynamic config configures.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// Every broker that has no value of its own.
    BrokerDefault,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics(String),
    /// A group.
    Group(String),
}

impl ConfigResource {
    /// Kafka's code and name of the resource; the broker without a name stands for all brokers.
    #[must_use]
    pub fn to_kafka(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::BrokerDefault => (4, String::new()),
            Self::ClientMetrics(name) => (16, name.clone()),
            Self::Group(name) => (32, name.clone()),
        }
    }

    /// The resource that Kafka's code and name stand for. None for a code that is not known, for broker loggers (8), which we
    /// do not have, and for a broker whose name is no number.
    #[must_use]
    pub fn from_kafka(code: i8, name: &str) -> Option<Self> {
        match code {
            2 => Some(Self::Topic(name.to_owned())),
            4 if name.is_empty() => Some(Self::BrokerDefault),
            4 => name.parse().ok().map(BrokerId).map(Self::Broker),
            16 => Some(Self::ClientMetrics(name.to_owned())),
            32 => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::BrokerDefault => f.write_str("all brokers"),
            Self::ClientMetrics(name) => write!(f, "client metrics subscription {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}
