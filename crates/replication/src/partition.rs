//! What the metadata says of a partition and of brokers, as far as a replica needs it, and who a replica is.
//!
//! Invariant of [`PartitionState`] (checked on entry by [`PartitionState::check`]): members of C are distinct replicas' nodes,
//! `floor(|C|/2) + 1 <= Q <= |C|`, the leader is a member.
//!
//! Not here: the metadata log's own types (`quipu-metadata`); the shell translates.

use core::{fmt, time::Duration};

use quipu_base::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch};
use serde::{Deserialize, Serialize};

use crate::limits::REPLICAS_MAX;

/// A replica that may count: a node together with the data directory that holds the replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
}

/// A member under one registration: who sent a message. The shell fills it in from the connection's handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// Node and directory.
    pub member: Member,
    /// Its incarnation: the broker epoch of its registration.
    pub incarnation: BrokerEpoch,
}

/// Numbers the configurations of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ConfigurationVersion(pub u32);

/// Who counts for a commit (C) and how many of them it takes (Q).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Configuration {
    /// C, sorted.
    pub members: Vec<Member>,
    /// Q. Stored, and used from here: never computed from a topic's config at hand.
    pub quorum: usize,
}

impl Configuration {
    /// `Q = max(min(min.insync.replicas, RF), floor(|C|/2) + 1)`.
    ///
    /// None if there are fewer members than `min(min.insync.replicas, RF)`, or none at all.
    #[must_use]
    pub fn new(mut members: Vec<Member>, insync_replicas_min: usize, replication_factor: usize) -> Option<Self> {
        let required = insync_replicas_min.min(replication_factor);
        if members.is_empty() || members.len() < required {
            return None;
        }
        members.sort_unstable();
        let quorum = required.max(members.len() / 2 + 1);
        Some(Self { members, quorum })
    }

    /// `S = |C| - Q + 1`: any that many members intersect any quorum.
    #[must_use]
    pub fn seal_quorum(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.quorum).max(1)
    }

    /// The member on `node`, whatever its directory.
    #[must_use]
    pub fn member_on(&self, node: BrokerId) -> Option<Member> {
        self.members.iter().copied().find(|member| member.node == node)
    }

    /// The largest value that at least Q members have reached, where `reached` tells a member's value; none if fewer than Q have
    /// any.
    pub(crate) fn reached_by_quorum<T: Ord + Copy>(
        &self,
        quorum: usize,
        reached: impl Fn(Member) -> Option<T>,
    ) -> Option<T> {
        let mut values: Vec<T> = self.members.iter().filter_map(|member| reached(*member)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(quorum.checked_sub(1)?).copied()
    }
}

/// The controller's record of a partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PartitionState {
    /// All replicas, those being added and removed included.
    pub replicas: Vec<BrokerId>,
    /// RF: how many replicas there are to be.
    pub replication_factor: usize,
    /// Replicas being added.
    pub adding: Vec<BrokerId>,
    /// Replicas being removed.
    pub removing: Vec<BrokerId>,
    /// C and Q.
    pub configuration: Configuration,
    /// Rises with every change of C or Q, and when a requested change is declined.
    pub version: ConfigurationVersion,
    /// The leader; none while nobody can lead.
    pub leader: Option<BrokerId>,
    /// Counts the leaderships.
    pub leader_epoch: LeaderEpoch,
    /// The leader epoch of the last unclean election; [`LeaderEpoch::NONE`] if there was none. Who is not a member and was
    /// labelled before it must be rebuilt.
    pub unclean_epoch: LeaderEpoch,
}

/// What makes a partition's record impossible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PartitionDefect {
    /// Too many replicas, or members that are not distinct replicas, or none.
    Members,
    /// Q is no majority of C, or more than all of it.
    Quorum,
    /// The leader is no member.
    Leader,
    /// The leader epoch is negative.
    LeaderEpoch,
}

impl fmt::Display for PartitionDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Members => "its members are not distinct replicas, or are none, or too many",
            Self::Quorum => "its quorum is no majority of the members, or more than all of them",
            Self::Leader => "its leader is no member",
            Self::LeaderEpoch => "its leader epoch is negative",
        })
    }
}

impl PartitionState {
    /// Errors: the first thing that is impossible about the record.
    pub fn check(&self) -> Result<(), PartitionDefect> {
        let members = &self.configuration.members;
        let is_distinct =
            members.iter().enumerate().all(|(index, member)| members[..index].iter().all(|m| m.node != member.node));
        let are_replicas = members.iter().all(|member| self.replicas.contains(&member.node));
        if members.is_empty() || self.replicas.len() > REPLICAS_MAX || !is_distinct || !are_replicas {
            return Err(PartitionDefect::Members);
        }
        let quorum = self.configuration.quorum;
        if quorum < members.len() / 2 + 1 || quorum > members.len() {
            return Err(PartitionDefect::Quorum);
        }
        if self.leader.is_some_and(|leader| self.configuration.member_on(leader).is_none()) {
            return Err(PartitionDefect::Leader);
        }
        if self.leader_epoch < LeaderEpoch(0) {
            return Err(PartitionDefect::LeaderEpoch);
        }
        Ok(())
    }

    /// Orders records of one partition: a later one has a higher leader epoch, or the same and a higher version.
    pub(crate) const fn order(&self) -> (LeaderEpoch, ConfigurationVersion) {
        (self.leader_epoch, self.version)
    }
}

/// What the metadata says of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BrokerView {
    /// The directory of its registration.
    pub directory_id: DirectoryId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
    /// Whether it is unfenced under it.
    pub live: bool,
}

/// Settings of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// What was sent and not answered is sent again after this time.
    pub resend_after: Duration,
    /// What was asked of the controller and not answered is asked again after this time.
    pub ask_again_after: Duration,
}

impl Default for Settings {
    /// Kafka's lag bound of 30 s; a peer is asked again after 200 ms, the controller after 500 ms.
    fn default() -> Self {
        Self {
            lag_time_max: Duration::from_secs(30),
            resend_after: Duration::from_millis(200),
            ask_again_after: Duration::from_millis(500),
        }
    }
}
