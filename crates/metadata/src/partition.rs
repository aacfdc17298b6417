//! One partition as the controller knows it: replicas, configuration C, quorum Q, leader.
//!
//! Invariants (checked by [`PartitionState::check`] whenever a record changes a partition)
//! - Replicas are distinct, and there is at least one and at most [`REPLICAS_MAX`]; those being added or removed are among them.
//! - The replication factor lies between 1 and the number of replicas; it is that number unless a reassignment is under way.
//! - Members of C are distinct replicas, and there is at least one.
//! - `floor(|C|/2) + 1 <= Q <= |C|`: any two quorums meet, and a quorum can be had.
//! - The leader, if any, is a member of C.
//! - No unclean election has a later epoch than the present leadership.
//!
//! Not here: how Q is chosen for a topic (`quipu-controller` calls [`Configuration::new`] with the topic's
//! `min.insync.replicas`), what the replicas do with it (`quipu-replication`).

use core::fmt;
use quipu_base::{BrokerId, DirectoryId, LeaderEpoch};
use serde::{Deserialize, Serialize};

/// Replicas that one partition may have, those being added and removed included. A message to all of them is small, and nobody keeps
/// more copies than a few.
pub const REPLICAS_MAX: usize = 64;

/// A replica that counts: a broker together with the data directory that holds the replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The broker.
    pub broker: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
}

/// Numbers the configurations of one partition, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ConfigurationVersion(pub u32);

impl ConfigurationVersion {
    /// The version of the next configuration.
    ///
    /// # Panics
    /// After four thousand million configurations of one partition.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a partition has had u32::MAX configurations"))
    }
}

/// Who counts for a commit (C), how many of them it takes (Q), and which of the partition's configurations this is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Configuration {
    /// C, by broker id. Those that were written before clusters are in the order of the replicas.
    pub members: Vec<Member>,
    /// Q. Stored, and used from here: never computed from a topic's config at hand.
    pub quorum: u16,
    /// Rises with every change of C or Q.
    pub version: ConfigurationVersion,
}

impl Configuration {
    /// The configuration of `members` for a partition of `replication_factor` replicas whose topic wants
    /// `insync_replicas_min`: `Q = max(min(insync_replicas_min, RF), floor(|C|/2) + 1)`.
    ///
    /// None if there are fewer members than `min(insync_replicas_min, RF)`, or none at all.
    #[must_use]
    pub fn new(
        mut members: Vec<Member>,
        insync_replicas_min: InsyncReplicasMin,
        replication_factor: u16,
        version: ConfigurationVersion,
    ) -> Option<Self> {
        let required = insync_replicas_min.required(replication_factor);
        if members.is_empty() || members.len() < required {
            return None;
        }
        members.sort_unstable();
        let quorum = u16::try_from(required.max(members.len() / 2 + 1)).ok()?;
        Some(Self { members, quorum, version })
    }

    /// How many members it takes to seal: any that many intersect any quorum.
    #[must_use]
    pub fn seal_quorum(&self) -> usize {
        let seal_quorum = self.members.len() + 1 - usize::from(self.quorum).min(self.members.len());
        assert!(seal_quorum >= 1, "a seal takes somebody");
        seal_quorum
    }

    /// The member on that broker, whatever its directory.
    #[must_use]
    pub fn member_on(&self, broker: BrokerId) -> Option<Member> {
        self.members.iter().copied().find(|member| member.broker == broker)
    }

    /// Whether the broker, with whatever directory, is a member.
    #[must_use]
    pub fn has_broker(&self, broker: BrokerId) -> bool {
        self.member_on(broker).is_some()
    }

    fn check(&self, replicas: &[BrokerId]) -> Result<(), PartitionDefect> {
        let brokers: Vec<BrokerId> = self.members.iter().map(|member| member.broker).collect();
        if brokers.is_empty() || !is_distinct(&brokers) || !is_subset(&brokers, replicas) {
            return Err(PartitionDefect::Members);
        }
        let quorum = usize::from(self.quorum);
        if quorum < brokers.len() / 2 + 1 || quorum > brokers.len() {
            return Err(PartitionDefect::Quorum);
        }
        Ok(())
    }
}

/// A topic's `min.insync.replicas`: at least 1; above the replication factor it counts as the replication factor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InsyncReplicasMin(pub u32);

impl InsyncReplicasMin {
    /// How many members a configuration must have, and how many acknowledgements a commit: `min(min.insync.replicas, RF)`.
    #[must_use]
    pub fn required(self, replication_factor: u16) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX).min(replication_factor.into())
    }
}

/// All that the controller knows of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionState {
    /// All replicas, the preferred leader first; those being added and removed included.
    pub replicas: Vec<BrokerId>,
    /// RF: how many replicas there are to be.
    pub replication_factor: u16,
    /// Replicas being added by a reassignment.
    pub adding: Vec<BrokerId>,
    /// Replicas being removed by a reassignment.
    pub removing: Vec<BrokerId>,
    /// Who counts, and how many it takes.
    pub configuration: Configuration,
    /// The leader; none while nobody can lead.
    pub leader: Option<BrokerId>,
    /// Counts the leaderships, from 0.
    pub leader_epoch: LeaderEpoch,
    /// The leader epoch of the last unclean election; [`LeaderEpoch::NONE`] if there was none. A replica that is not a member and
    /// was last brought up to date before it must be rebuilt.
    pub unclean_epoch: LeaderEpoch,
}

/// What makes a partition's state impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionDefect {
    /// No replicas, too many, one twice, or one being added or removed that is not among them.
    Replicas,
    /// The replication factor is 0, or more than there are replicas.
    ReplicationFactor,
    /// No members, one twice, or one that is no replica.
    Members,
    /// Q is less than a majority of C, or more than all of it.
    Quorum,
    /// The leader is not a member.
    Leader,
    /// The leader epoch is negative.
    LeaderEpoch,
    /// The unclean election is later than the present leadership.
    UncleanEpoch,
}

impl fmt::Display for PartitionDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replicas => "its replicas",
            Self::ReplicationFactor => "its replication factor",
            Self::Members => "the members of its configuration",
            Self::Quorum => "its quorum",
            Self::Leader => "its leader",
            Self::LeaderEpoch => "its leader epoch",
            Self::UncleanEpoch => "the epoch of its last unclean election",
        })
    }
}

impl PartitionState {
    /// Errors: the first invariant of this module that does not hold.
    pub fn check(&self) -> Result<(), PartitionDefect> {
        let replicas = &self.replicas;
        if replicas.is_empty()
            || replicas.len() > REPLICAS_MAX
            || !is_distinct(replicas)
            || !is_subset(&self.adding, replicas)
            || !is_subset(&self.removing, replicas)
        {
            return Err(PartitionDefect::Replicas);
        }
        if self.replication_factor == 0 || usize::from(self.replication_factor) > replicas.len() {
            return Err(PartitionDefect::ReplicationFactor);
        }
        self.configuration.check(replicas)?;
        if self.leader.is_some_and(|leader| !self.configuration.has_broker(leader)) {
            return Err(PartitionDefect::Leader);
        }
        if self.leader_epoch.get() < 0 {
            return Err(PartitionDefect::LeaderEpoch);
        }
        if self.unclean_epoch > self.leader_epoch {
            return Err(PartitionDefect::UncleanEpoch);
        }
        Ok(())
    }
}

/// Replicas are few: comparing each with each is quicker than any set.
fn is_distinct(brokers: &[BrokerId]) -> bool {
    brokers.iter().enumerate().all(|(index, broker)| !brokers[..index].contains(broker))
}

fn is_subset(part: &[BrokerId], whole: &[BrokerId]) -> bool {
    part.iter().all(|broker| whole.contains(broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(broker: i32) -> Member {
        Member { broker: BrokerId(broker), directory_id: DirectoryId([u8::try_from(broker).unwrap(); 16]) }
    }

    fn configuration(count: i32, insync_replicas_min: u32, replication_factor: u16) -> Option<Configuration> {
        let members = (1..=count).map(member).collect();
        let insync_replicas_min = InsyncReplicasMin(insync_replicas_min);
        Configuration::new(members, insync_replicas_min, replication_factor, ConfigurationVersion(0))
    }

    #[test]
    fn quorum_is_the_larger_of_the_minimum_and_a_majority() {
        // (|C|, min.insync.replicas, RF) -> (Q, S)
        for (count, min, factor, expected) in [
            (1, 1, 1, Some((1, 1))),
            (1, 7, 1, Some((1, 1))),
            (3, 1, 3, Some((2, 2))),
            (3, 2, 3, Some((2, 2))),
            (3, 3, 3, Some((3, 1))),
            (2, 2, 3, Some((2, 1))),
            (2, 1, 3, Some((2, 1))),
            (4, 2, 4, Some((3, 2))),
            (5, 4, 5, Some((4, 2))),
            (1, 2, 3, None),
            (0, 1, 3, None),
        ] {
            let found = configuration(count, min, factor).map(|c| (c.quorum, c.seal_quorum()));
            assert_eq!(found, expected, "|C| {count} min {min} RF {factor}");
        }
    }

    #[test]
    fn each_defect_is_found() {
        let sound = PartitionState {
            replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
            replication_factor: 2,
            adding: vec![BrokerId(3)],
            removing: vec![],
            configuration: configuration(3, 2, 3).unwrap(),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(3),
            unclean_epoch: LeaderEpoch(3),
        };
        assert_eq!(sound.check(), Ok(()));
        let broken = |change: &dyn Fn(&mut PartitionState)| {
            let mut state = sound.clone();
            change(&mut state);
            state.check().unwrap_err()
        };
        assert_eq!(broken(&|state| state.replicas.clear()), PartitionDefect::Replicas);
        assert_eq!(broken(&|state| state.replicas.push(BrokerId(1))), PartitionDefect::Replicas);
        assert_eq!(broken(&|state| state.adding.push(BrokerId(9))), PartitionDefect::Replicas);
        assert_eq!(broken(&|state| state.removing.push(BrokerId(9))), PartitionDefect::Replicas);
        assert_eq!(broken(&|state| state.replicas.extend((4..66).map(BrokerId))), PartitionDefect::Replicas);
        assert_eq!(broken(&|state| state.replication_factor = 0), PartitionDefect::ReplicationFactor);
        assert_eq!(broken(&|state| state.replication_factor = 4), PartitionDefect::ReplicationFactor);
        assert_eq!(broken(&|state| state.configuration.members.clear()), PartitionDefect::Members);
        assert_eq!(broken(&|state| state.configuration.members.push(member(2))), PartitionDefect::Members);
        assert_eq!(broken(&|state| state.configuration.members.push(member(9))), PartitionDefect::Members);
        assert_eq!(broken(&|state| state.configuration.quorum = 1), PartitionDefect::Quorum);
        assert_eq!(broken(&|state| state.configuration.quorum = 4), PartitionDefect::Quorum);
        assert_eq!(broken(&|state| state.leader = Some(BrokerId(9))), PartitionDefect::Leader);
        assert_eq!(broken(&|state| state.leader_epoch = LeaderEpoch(-1)), PartitionDefect::LeaderEpoch);
        assert_eq!(broken(&|state| state.unclean_epoch = LeaderEpoch(4)), PartitionDefect::UncleanEpoch);
    }
}
