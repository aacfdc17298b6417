//! The ground floor: newtypes for everything that has a number in Kafka, named limits, checksums.
//!
//! Invariants
//! - No arithmetic between different kinds of number: an [`Offset`] is never added to a position or a count by accident.
//! - Every queue, frame, wait and retry in the product takes its bound from [`limits`].
//!
//! Not here: I/O, clocks, randomness (`quipu-env`), Kafka's wire formats (`quipu-protocol`, `quipu-records`).
//! Read `quipu-env` next.

pub mod checksum;
mod ids;
pub mod limits;
mod numbers;

pub use ids::{ClusterId, DirectoryId, IdParseError, TopicId, TopicIdPartition};
pub use numbers::{
    BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Timestamp,
};
