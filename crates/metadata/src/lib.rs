//! The cluster's metadata: what the log of it says, the image that the log adds up to, and the configs that hold.
//!
//! Invariants
//! - Pure: no I/O, no clock, no randomness. The image is a function of the records.
//! - Every record format is documented byte by byte in [`codec`], and carries a version.
//!
//! Not here: why a record is written (`quipu-controller`), where the log is stored (`quipu-storage`, under
//! `quipu-broker`), how controllers agree on it (`quipu-raft`). Read [`record`] next.

mod apply;
pub mod codec;
pub mod config;
mod delta;
mod image;
pub mod partition;
pub mod record;
#[cfg(test)]
mod samples;
mod snapshot;

pub use apply::ApplyError;
pub use delta::{DeletedTopic, Delta};
pub use image::{Configs, ControllerState, Image, ProducerIdsState, Topic};
pub use partition::{Configuration, ConfigurationVersion, InsyncReplicasMin, Member, PartitionState, REPLICAS_MAX};
pub use record::{ConfigResource, MetadataRecord};
pub use snapshot::bytes::{SnapshotError, SnapshotReader};
