//! One partition that this broker serves, as its shard and the handlers see it.
//!
//! Invariants
//! - The high watermark never goes back and never passes what is durable: the shard moves it, after the sync.
//! - Everything below the high watermark may be served; nothing above it ever is.
//!
//! Not here: the bytes (`quipu-storage`'s `Log`), appending ([`crate::shard`]).

use core::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use quipu_base::{LeaderEpoch, Offset, TopicIdPartition};
use quipu_env::{Env, ShardId};
use quipu_storage::Log;

use crate::waiters::Waiters;

/// A served partition.
pub(crate) struct Partition<E: Env> {
    /// Which one.
    pub(crate) id: TopicIdPartition,
    /// The shard that owns it.
    pub(crate) shard: ShardId,
    /// The epoch under which this broker leads it. Fixed for the life of this value.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Its records.
    pub(crate) log: Log<E>,
    /// Who waits for it to grow.
    pub(crate) waiters: Arc<Waiters>,
    high_watermark: Arc<AtomicI64>,
}

impl<E: Env> Partition<E> {
    /// A partition whose durable records are all committed: with one replica, durable is committed.
    pub(crate) fn new(id: TopicIdPartition, leader_epoch: LeaderEpoch, log: Log<E>, shard_count: u16) -> Self {
        let durable_end = log.offsets().durable_end;
        Self {
            shard: shard_of(id, shard_count),
            id,
            leader_epoch,
            log,
            waiters: Arc::default(),
            high_watermark: Arc::new(AtomicI64::new(durable_end.get())),
        }
    }

    /// Records below it are committed and may be served.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Takes what is durable as committed and wakes those who wait for it. Called by the owning shard only.
    pub(crate) fn advance_high_watermark(&self, durable_end: Offset) {
        let before = self.high_watermark.fetch_max(durable_end.get(), Ordering::AcqRel);
        if before < durable_end.get() {
            self.waiters.wake();
        }
    }
}

/// The shard that owns a partition: partitions of one topic are spread over neighbouring shards.
fn shard_of(id: TopicIdPartition, shard_count: u16) -> ShardId {
    let topic = u128::from_be_bytes(id.topic_id.0) % u128::from(shard_count);
    let place = topic + u128::from(id.partition.get().unsigned_abs());
    ShardId(u16::try_from(place % u128::from(shard_count)).expect("it is below the shard count"))
}

#[cfg(test)]
mod tests {
    use quipu_base::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn neighbours_live_on_different_shards() {
        let on = |partition| {
            shard_of(TopicIdPartition { topic_id: TopicId([0xff; 16]), partition: PartitionIndex(partition) }, 4)
        };
        let shards: Vec<u16> = (0..4).map(|partition| on(partition).0).collect();
        let mut sorted = shards.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3], "{shards:?}");
        assert_eq!(on(0), on(4));
    }
}
