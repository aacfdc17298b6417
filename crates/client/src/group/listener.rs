//! What an application can do when partitions come and go.

use std::collections::BTreeMap;

use quipu_base::{LeaderEpoch, Offset};

use crate::{Position, TopicPartition};

/// An offset to commit: that of the next record to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetToCommit {
    /// The offset after the last record that is done.
    pub offset: Offset,
    /// That record's leader epoch, if it is known: whoever reads on finds out if the log has lost it since (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Anything that the application wants to keep beside it; the broker bounds its length (`offset.metadata.max.bytes`).
    pub metadata: String,
}

impl OffsetToCommit {
    /// This offset, and nothing beside it.
    #[must_use]
    pub const fn new(offset: Offset) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }
}

/// Told of partitions that come and go, within [`crate::GroupConsumer::poll`] and [`crate::GroupConsumer::close`].
///
/// Each of them is told once: as assigned, then as revoked or as lost.
pub trait RebalanceListener: Send + Sync {
    /// These partitions are this member's now, beside those it has, and each is read from there on; the listener may change that.
    /// Where there is none, the group has no committed offset and nobody said what to do then.
    fn assigned(&mut self, places: &mut BTreeMap<TopicPartition, Option<Position>>) {
        let _ = places;
    }

    /// These are given up. What was given of them is done, or will be given to somebody else again: `commits`, which with automatic
    /// commits holds the positions, is committed before the next member begins.
    fn revoked(&mut self, partitions: &[TopicPartition], commits: &mut BTreeMap<TopicPartition, OffsetToCommit>) {
        let _ = (partitions, commits);
    }

    /// These were taken away: the member had been silent, or had not polled, for too long. They may be others' already, so nothing of
    /// them can be committed.
    fn lost(&mut self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }
}

/// Does nothing.
pub(crate) struct NoListener;

impl RebalanceListener for NoListener {}
