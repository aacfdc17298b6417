//! Which replicas lag, as their leaders say: members of C that live, and have not had the leader's log end for longer than
//! `replica.lag.time.max.ms`. Most leave C; one without which C would be too small stays, and is told apart here.
//!
//! ```text
//! shards -> set_own -> own -> said to every broker with each heartbeat while it is not empty -> hear -> of (Metadata)
//! ```
//!
//! Invariants
//! - Only what the present leader says of its present epoch counts.
//! - What is not said again for [`HEARD_TIME`] is forgotten: a leader has no need to say that nothing lags any more.
//!
//! Not here: when a replica lags (`quipu-replication`), how brokers tell each other ([`crate::quorum`]).

use core::time::Duration;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use quipu_base::{BrokerId, LeaderEpoch, TopicIdPartition};
use quipu_env::Instant;
use serde::{Deserialize, Serialize};

/// Partitions of one broker of which it tells others. Beyond it, the first ones are told.
const TOLD_MAX: usize = 4096;
/// What a leader does not say again for this long is forgotten.
const HEARD_TIME: Duration = Duration::from_secs(1);

/// The members of a partition's configuration that lag.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Lags {
    pub(crate) partition: TopicIdPartition,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) replicas: Vec<BrokerId>,
}

type ByPartition = BTreeMap<TopicIdPartition, (LeaderEpoch, Vec<BrokerId>)>;

#[derive(Default)]
struct Inner {
    own: ByPartition,
    others: BTreeMap<BrokerId, (Instant, ByPartition)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Lagging(Mutex<Inner>);

impl Lagging {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This broker leads the partition, and these lag.
    pub(crate) fn set_own(&self, partition: TopicIdPartition, leader_epoch: LeaderEpoch, replicas: Vec<BrokerId>) {
        let mut inner = self.inner();
        if replicas.is_empty() {
            inner.own.remove(&partition);
        } else {
            inner.own.insert(partition, (leader_epoch, replicas));
        }
    }

    /// What this broker has to tell others.
    pub(crate) fn own(&self) -> Vec<Lags> {
        let inner = self.inner();
        let all = inner.own.iter().take(TOLD_MAX);
        all.map(|(partition, (leader_epoch, replicas))| Lags {
            partition: *partition,
            leader_epoch: *leader_epoch,
            replicas: replicas.clone(),
        })
        .collect()
    }

    /// What another broker tells of the partitions that it leads: all of it.
    pub(crate) fn hear(&self, now: Instant, from: BrokerId, lags: Vec<Lags>) {
        let lags = lags.into_iter().map(|lags| (lags.partition, (lags.leader_epoch, lags.replicas)));
        self.inner().others.insert(from, (now + HEARD_TIME, lags.collect()));
    }

    /// Forgets what was not said again.
    pub(crate) fn forget(&self, now: Instant) {
        self.inner().others.retain(|_, (until, _)| *until > now);
    }

    /// The members that lag, as the leader of that epoch says.
    pub(crate) fn of(&self, partition: TopicIdPartition, leader: BrokerId, leader_epoch: LeaderEpoch) -> Vec<BrokerId> {
        let inner = self.inner();
        let heard = inner.others.get(&leader).and_then(|(_, lags)| lags.get(&partition));
        let said = inner.own.get(&partition).into_iter().chain(heard).find(|(epoch, _)| *epoch == leader_epoch);
        said.map_or_else(Vec::new, |(_, replicas)| replicas.clone())
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn only_the_present_leader_counts_and_only_while_it_says_so() {
        let lagging = Lagging::default();
        let partition = TopicIdPartition { topic_id: TopicId([1; 16]), partition: PartitionIndex(0) };
        let (now, leader_epoch, replicas) = (Instant::ZERO, LeaderEpoch(3), vec![BrokerId(2)]);
        lagging.hear(now, BrokerId(1), vec![Lags { partition, leader_epoch, replicas: replicas.clone() }]);
        assert_eq!(lagging.of(partition, BrokerId(1), leader_epoch), replicas);
        assert_eq!(lagging.of(partition, BrokerId(1), LeaderEpoch(4)), [], "another epoch");
        assert_eq!(lagging.of(partition, BrokerId(3), leader_epoch), [], "another leader");
        lagging.forget(now + HEARD_TIME / 2);
        assert_eq!(lagging.of(partition, BrokerId(1), leader_epoch), replicas);
        lagging.forget(now + HEARD_TIME);
        assert_eq!(lagging.of(partition, BrokerId(1), leader_epoch), []);
        lagging.set_own(partition, leader_epoch, replicas.clone());
        assert_eq!((lagging.of(partition, BrokerId(5), leader_epoch), lagging.own().len()), (replicas, 1));
        lagging.set_own(partition, leader_epoch, Vec::new());
        assert_eq!(lagging.of(partition, BrokerId(5), leader_epoch), []);
    }
}
