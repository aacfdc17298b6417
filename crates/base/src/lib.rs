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

/// Whether this build stands for the next release: it does what this one does, with higher versions of the peer protocol and of metadata
/// records, so that a test can have two releases in one cluster. Set by `QUIPU_NEXT_RELEASE` when it is compiled; never in a release.
pub const NEXT_RELEASE: bool = option_env!("QUIPU_NEXT_RELEASE").is_some();

pub use ids::{ClientInstanceId, ClusterId, DirectoryId, IdParseError, TopicId, TopicIdPartition};
pub use numbers::{
    BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Timestamp,
};
