//! From what a member has to what it is to have: what it must not keep is revoked first, what nobody has is given then.
//!
//! | state | becomes | when |
//! |---|---|---|
//! | any | UnrevokedPartitions | it has partitions that are not its target's and still reads them; its epoch stays |
//! | UnrevokedPartitions | the below | it reads them no more: its epoch is the target's |
//! | any | UnreleasedPartitions | partitions of its target are still with others |
//! | any | Stable | it has its target |
//!
//! Invariants
//! - What a member has or has to give up is nobody else's.
//! - A member that does not say what it reads is taken to read everything that it has.
//!
//! Not here: targets (`assign`), time-outs and records (`heartbeat`).

use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{PartitionIndex, TopicId};

use super::request::Partitions;

/// Partitions and the epochs in which they were assigned.
pub(crate) type Held = BTreeMap<TopicId, BTreeMap<PartitionIndex, i32>>;

/// See the module. The numbers are the records'.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum MemberState {
    #[default]
    Stable,
    UnrevokedPartitions,
    UnreleasedPartitions,
    /// A later release's.
    Unknown,
}

impl MemberState {
    pub(crate) const fn number(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::UnrevokedPartitions => 2,
            Self::UnreleasedPartitions => 3,
            Self::Unknown => 127,
        }
    }

    pub(crate) const fn from_number(number: i8) -> Self {
        match number {
            1 => Self::Stable,
            2 => Self::UnrevokedPartitions,
            3 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// What a member has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Current {
    pub(crate) state: MemberState,
    pub(crate) epoch: i32,
    /// The epoch before, in case the answer that told of this one was lost.
    pub(crate) previous_epoch: i32,
    pub(crate) assigned: Held,
    /// What it has to give up.
    pub(crate) revoking: Held,
}

impl Current {
    /// What it may read.
    pub(crate) fn assigned_partitions(&self) -> Partitions {
        self.assigned.iter().map(|(topic, held)| (*topic, held.keys().copied().collect())).collect()
    }

    fn with(&self, state: MemberState, epoch: i32, assigned: Held, revoking: Held) -> Self {
        Self { state, epoch, previous_epoch: self.epoch, assigned, revoking }
    }
}

/// What there is to reconcile a member with.
pub(crate) struct Goal<'a> {
    /// The epoch of the target.
    pub(crate) epoch: i32,
    pub(crate) target: &'a Partitions,
    /// Topics that the member wants.
    pub(crate) wanted: &'a BTreeSet<TopicId>,
    /// What the member says that it reads.
    pub(crate) owned: Option<&'a Partitions>,
}

fn contains(held: &Held, topic: TopicId, partition: PartitionIndex) -> bool {
    held.get(&topic).is_some_and(|held| held.contains_key(&partition))
}

fn put(held: &mut Held, topic: TopicId, partition: PartitionIndex, epoch: i32) {
    held.entry(topic).or_default().insert(partition, epoch);
}

impl Goal<'_> {
    fn still_reads(&self, revoking: &Held) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| partitions.iter().any(|at| contains(revoking, *topic, *at)))
    }

    /// What the member has next. `is_taken`: whether another member has the partition. None: a later release's state, and the member
    /// still reads something; it has to come back without.
    pub(crate) fn next(
        &self,
        current: &Current,
        is_taken: impl Fn(TopicId, PartitionIndex) -> bool,
    ) -> Option<Current> {
        match current.state {
            MemberState::Stable if current.epoch == self.epoch && self.wants_all(current) => Some(current.clone()),
            MemberState::UnrevokedPartitions if self.still_reads(&current.revoking) => Some(self.shrink(current)),
            MemberState::Unknown if self.owned.is_none_or(|owned| !owned.is_empty()) => None,
            _ => Some(self.step(current, is_taken)),
        }
    }

    fn wants_all(&self, current: &Current) -> bool {
        current.assigned.keys().all(|topic| self.wanted.contains(topic))
    }

    /// What it wants no more it has to give up as well.
    fn shrink(&self, current: &Current) -> Current {
        if self.wants_all(current) {
            return current.clone();
        }
        let (assigned, unwanted): (Held, Held) =
            current.assigned.clone().into_iter().partition(|(topic, _)| self.wanted.contains(topic));
        let mut revoking = current.revoking.clone();
        for (topic, held) in unwanted {
            revoking.entry(topic).or_default().extend(held);
        }
        current.with(MemberState::UnrevokedPartitions, current.epoch, assigned, revoking)
    }

    fn step(&self, current: &Current, is_taken: impl Fn(TopicId, PartitionIndex) -> bool) -> Current {
        let none = BTreeSet::new();
        let target =
            |topic| if self.wanted.contains(&topic) { self.target.get(&topic).unwrap_or(&none) } else { &none };
        let (mut assigned, mut revoking) = (Held::new(), Held::new());
        for (topic, held) in &current.assigned {
            for (partition, epoch) in held {
                let to = if target(*topic).contains(partition) { &mut assigned } else { &mut revoking };
                put(to, *topic, *partition, *epoch);
            }
        }
        if self.still_reads(&revoking) && !revoking.is_empty() {
            return current.with(MemberState::UnrevokedPartitions, current.epoch, assigned, revoking);
        }
        let mut waits = false;
        for topic in self.target.keys() {
            for partition in target(*topic) {
                if contains(&assigned, *topic, *partition) {
                    continue;
                }
                if is_taken(*topic, *partition) {
                    waits = true;
                } else {
                    put(&mut assigned, *topic, *partition, self.epoch);
                }
            }
        }
        let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        current.with(state, self.epoch, assigned, Held::new())
    }
}
