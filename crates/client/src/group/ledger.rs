//! What a member reads, and what is to change about it: the protocol decides, the application carries it out when it polls.
//!
//! ```text
//! protocol: move_to, lose -> queue of changes -> take -> application -> done
//! ```
//!
//! Invariants
//! - `planned` is what the member holds once every change is carried out; `held` what it holds now.
//! - Changes are carried out one after the other, in the order in which they were decided.

use std::collections::{BTreeSet, VecDeque};

use quipu_protocol::{ErrorCode, Request, Str};

use super::GroupError;
use crate::TopicPartition;

/// A set of partitions.
pub(crate) type Partitions = BTreeSet<TopicPartition>;

/// Something for the application to carry out.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Change {
    /// To be given up first.
    pub(crate) revoked: Partitions,
    /// Then to be read as well.
    pub(crate) assigned: Partitions,
    /// What is revoked may be somebody else's already.
    pub(crate) is_lost: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    held: Partitions,
    planned: Partitions,
    waiting: VecDeque<Change>,
    undone: VecDeque<Change>,
}

impl Ledger {
    /// Decides what the member holds. Whether it gives up anything.
    pub(crate) fn move_to(&mut self, target: Partitions) -> bool {
        let revoked: Partitions = self.planned.difference(&target).cloned().collect();
        let assigned: Partitions = target.difference(&self.planned).cloned().collect();
        let gives_up = !revoked.is_empty();
        if gives_up || !assigned.is_empty() {
            self.waiting.push_back(Change { revoked, assigned, is_lost: false });
        }
        self.planned = target;
        gives_up
    }

    /// Everything was taken away.
    pub(crate) fn lose(&mut self) {
        let revoked = core::mem::take(&mut self.planned);
        if !revoked.is_empty() {
            self.waiting.push_back(Change { revoked, assigned: Partitions::new(), is_lost: true });
        }
    }

    /// The next change to carry out.
    pub(crate) fn take(&mut self) -> Option<Change> {
        let change = self.waiting.pop_front()?;
        self.undone.push_back(change.clone());
        Some(change)
    }

    /// The first change that was taken is carried out.
    pub(crate) fn done(&mut self) {
        if let Some(change) = self.undone.pop_front() {
            self.held.retain(|partition| !change.revoked.contains(partition));
            self.held.extend(change.assigned);
        }
    }

    /// Whether everything decided is carried out.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.undone.is_empty()
    }

    pub(crate) const fn held(&self) -> &Partitions {
        &self.held
    }
}

/// Who a member is, as commits say it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Membership {
    pub(crate) member_id: Str,
    /// The generation, or the member's epoch; none of those who are not in the group.
    pub(crate) generation: Option<i32>,
    /// Another one each time that all was lost: what one held is not the other's.
    pub(crate) incarnation: u64,
}

/// What a reply came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Fine,
    /// The coordinator is somebody else.
    Elsewhere,
    /// The member can't go on.
    Failed(GroupError),
}

/// What is to be asked next.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) versions: core::ops::RangeInclusive<i16>,
    /// The coordinator may keep the reply until the rebalance is over.
    pub(crate) is_long: bool,
}

/// Whether somebody else, or nobody, coordinates the group.
pub(crate) const fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
}

#[cfg(test)]
mod tests {
    use quipu_base::PartitionIndex;

    use super::*;

    fn partitions(all: &[i32]) -> Partitions {
        all.iter().map(|number| TopicPartition::new("knots", PartitionIndex(*number))).collect()
    }

    #[test]
    fn changes_are_what_differs_and_come_in_order() {
        let mut ledger = Ledger::default();
        assert!(!ledger.move_to(partitions(&[0, 1])));
        assert!(ledger.move_to(partitions(&[1, 2])));
        ledger.lose();
        let changes: Vec<Change> = core::iter::from_fn(|| ledger.take()).collect();
        let change = |revoked, assigned, is_lost| Change {
            revoked: partitions(revoked),
            assigned: partitions(assigned),
            is_lost,
        };
        assert_eq!(changes, [change(&[], &[0, 1], false), change(&[0], &[2], false), change(&[1, 2], &[], true)]);
        let mut held = Vec::new();
        while !ledger.is_settled() {
            ledger.done();
            held.push(ledger.held().clone());
        }
        assert_eq!(held, [partitions(&[0, 1]), partitions(&[1, 2]), partitions(&[])]);
        assert!(!ledger.move_to(partitions(&[])) && ledger.is_settled());
    }
}
