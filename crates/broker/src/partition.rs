//! One partition of which this broker holds a replica, as handlers see it.
//!
//! Invariants
//! - The high watermark never goes back, but for what a rebuilt replica shows of itself.
//! - Everything below the high watermark may be served; nothing above it ever is.
//! - Only its shard changes it, and never shows more than the replica has.
//!
//! Not here: the replica and everything that changes it ([`crate::shard`]), the bytes (`quipu-storage`'s `Log`).

use core::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::Arc;

use quipu_base::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use quipu_env::{Env, ShardId};
use quipu_storage::Log;

use crate::{lagging::Lagging, waiters::Waiters};

/// A partition of which this broker holds a replica.
pub(crate) struct Partition<E: Env> {
    /// Which one.
    pub(crate) id: TopicIdPartition,
    /// This broker.
    pub(crate) node_id: BrokerId,
    /// The shard that owns it.
    pub(crate) shard: ShardId,
    /// Its records.
    pub(crate) log: Log<E>,
    /// Who waits for it to grow, or to be led by somebody else.
    pub(crate) waiters: Arc<Waiters>,
    /// Where its leader tells which members lag.
    pub(crate) lagging: Arc<Lagging>,
    high_watermark: AtomicI64,
    /// The epoch in which this broker leads it, active; [`LeaderEpoch::NONE`] if it doesn't.
    active: AtomicI32,
    /// Where that epoch begins.
    epoch_start: AtomicI64,
}

impl<E: Env> Partition<E> {
    /// A replica that its shard has not opened yet.
    pub(crate) fn new(
        id: TopicIdPartition,
        node_id: BrokerId,
        log: Log<E>,
        shard_count: u16,
        lagging: Arc<Lagging>,
    ) -> Self {
        Self {
            shard: shard_of(id, shard_count),
            id,
            node_id,
            log,
            waiters: Arc::default(),
            lagging,
            high_watermark: AtomicI64::new(0),
            active: AtomicI32::new(LeaderEpoch::NONE.get()),
            epoch_start: AtomicI64::new(0),
        }
    }

    /// Records below it are committed and may be served.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The epoch in which this broker leads the partition, if it does, and is active.
    pub(crate) fn active_epoch(&self) -> Option<LeaderEpoch> {
        let epoch = LeaderEpoch(self.active.load(Ordering::Acquire));
        (epoch != LeaderEpoch::NONE).then_some(epoch)
    }

    /// Whether this broker leads the partition, and is active.
    pub(crate) fn is_active(&self) -> bool {
        self.active_epoch().is_some()
    }

    /// Whether everything that was committed under earlier leaders is known to be: the latest offset can be told.
    pub(crate) fn knows_high_watermark(&self) -> bool {
        self.high_watermark() >= Offset(self.epoch_start.load(Ordering::Acquire))
    }

    /// Up to where consumers may have read: a new leader knows only later how far its predecessors have committed, but all of it
    /// lies below its epoch.
    pub(crate) fn readable_elsewhere(&self) -> Offset {
        self.high_watermark().max(Offset(self.epoch_start.load(Ordering::Acquire)))
    }

    /// Where `epoch` ends in this log, which is read up to `upper`: see [`Log::epoch_end`]. The leader's own epoch begins where its log
    /// ended when it began to lead, though the log has no batch of it yet.
    pub(crate) fn epoch_end(&self, epoch: LeaderEpoch, upper: Offset) -> (LeaderEpoch, Offset) {
        let latest = self.log.latest_epoch();
        let is_before_own = epoch > LeaderEpoch::NONE && self.active_epoch().is_some_and(|own| epoch < own);
        if is_before_own && latest < epoch {
            return (if latest == LeaderEpoch::NONE { epoch } else { latest }, upper);
        }
        self.log.epoch_end(epoch, upper)
    }

    /// Shows how far records are committed, and wakes those who wait for more.
    pub(crate) fn advance_high_watermark(&self, to: Offset) {
        let before = self.high_watermark.fetch_max(to.get(), Ordering::AcqRel);
        if before < to.get() {
            self.waiters.wake();
        }
    }

    /// Shows what the disk knows of the high watermark, at the start of a replica.
    pub(crate) fn show_high_watermark(&self, to: Offset) {
        self.high_watermark.store(to.get(), Ordering::Release);
    }

    /// This broker leads it from here on.
    pub(crate) fn activate(&self, epoch: LeaderEpoch, epoch_start: Offset) {
        self.epoch_start.store(epoch_start.get(), Ordering::Release);
        self.active.store(epoch.get(), Ordering::Release);
        self.waiters.wake();
    }

    /// This broker leads it no more.
    pub(crate) fn deactivate(&self) {
        self.active.store(LeaderEpoch::NONE.get(), Ordering::Release);
        self.waiters.wake();
    }
}

/// The shard that owns a partition: partitions of one topic are spread over neighbouring shards.
pub(crate) fn shard_of(id: TopicIdPartition, shard_count: u16) -> ShardId {
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
