//! Who takes part: replicas by node and directory, and the set of those that vote.
//!
//! Invariants
//! - A voter set holds each node id once, at most [`VOTERS_MAX`] of them, each with a directory id that is not zero.
//! - Majorities of two sets that differ by one voter intersect: that is why one is added or removed at a time.
//!
//! Not here: when a set is in force (`log`: from the moment it is appended). Read `entry` next.

use core::fmt;
use std::collections::BTreeMap;

use quipu_base::{BrokerId, DirectoryId};
use serde::{Deserialize, Serialize};

use crate::limits::VOTERS_MAX;

/// A replica of the metadata log: a node and its data directory (KIP-853). The same node with another directory is another
/// replica: it remembers neither votes nor entries of the old one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The node.
    pub id: BrokerId,
    /// The directory that holds its metadata log.
    pub directory: DirectoryId,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.directory)
    }
}

/// The replicas that vote. Empty only where none is known yet: in the log of a new observer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<ReplicaKey>", into = "Vec<ReplicaKey>")]
pub struct VoterSet(BTreeMap<BrokerId, DirectoryId>);

/// The replicas do not make a voter set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoterSetError {
    /// More than [`VOTERS_MAX`].
    TooMany {
        /// How many.
        count: usize,
    },
    /// A node stands in it twice.
    DuplicateId(BrokerId),
    /// A node has no directory id.
    NoDirectory(BrokerId),
}

impl fmt::Display for VoterSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { count } => write!(f, "{count} voters are too many: name at most {VOTERS_MAX}"),
            Self::DuplicateId(id) => write!(f, "node {id} is named twice among the voters: name it once"),
            Self::NoDirectory(id) => write!(f, "voter {id} has no directory id: format its data directory first"),
        }
    }
}

impl core::error::Error for VoterSetError {}

impl VoterSet {
    /// No voters: none is known.
    pub const EMPTY: Self = Self(BTreeMap::new());

    /// The set of these replicas, in any order.
    ///
    /// Errors: [`VoterSetError`].
    pub fn new(replicas: impl IntoIterator<Item = ReplicaKey>) -> Result<Self, VoterSetError> {
        let mut voters = BTreeMap::new();
        for ReplicaKey { id, directory } in replicas {
            if directory == DirectoryId::ZERO {
                return Err(VoterSetError::NoDirectory(id));
            }
            if voters.insert(id, directory).is_some() {
                return Err(VoterSetError::DuplicateId(id));
            }
        }
        if voters.len() > VOTERS_MAX {
            return Err(VoterSetError::TooMany { count: voters.len() });
        }
        Ok(Self(voters))
    }

    /// Whether this very replica votes: node and directory.
    #[must_use]
    pub fn contains(&self, replica: ReplicaKey) -> bool {
        self.0.get(&replica.id) == Some(&replica.directory)
    }

    /// The voter on node `id`, whatever its directory.
    #[must_use]
    pub fn get(&self, id: BrokerId) -> Option<ReplicaKey> {
        self.0.get(&id).map(|directory| ReplicaKey { id, directory: *directory })
    }

    /// The voters by node id.
    pub fn iter(&self) -> impl Iterator<Item = ReplicaKey> + '_ {
        self.0.iter().map(|(id, directory)| ReplicaKey { id: *id, directory: *directory })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many make a majority, at least 1.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// The set and `replica`, whose node is not in it.
    pub(crate) fn with(&self, replica: ReplicaKey) -> Result<Self, VoterSetError> {
        Self::new(self.iter().chain([replica]))
    }

    /// The set without `replica`.
    pub(crate) fn without(&self, replica: ReplicaKey) -> Self {
        Self(self.iter().filter(|voter| *voter != replica).map(|voter| (voter.id, voter.directory)).collect())
    }
}

impl TryFrom<Vec<ReplicaKey>> for VoterSet {
    type Error = VoterSetError;

    fn try_from(replicas: Vec<ReplicaKey>) -> Result<Self, VoterSetError> {
        Self::new(replicas)
    }
}

impl From<VoterSet> for Vec<ReplicaKey> {
    fn from(voters: VoterSet) -> Self {
        voters.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(id: i32, directory: u8) -> ReplicaKey {
        ReplicaKey { id: BrokerId(id), directory: DirectoryId([directory; 16]) }
    }

    #[test]
    fn a_voter_is_a_node_and_a_directory() {
        let voters = VoterSet::new([replica(1, 1), replica(2, 2)]).unwrap();
        assert!(voters.contains(replica(1, 1)));
        assert!(!voters.contains(replica(1, 9)), "a wiped node does not vote");
        assert_eq!(voters.with(replica(1, 9)), Err(VoterSetError::DuplicateId(BrokerId(1))));
        assert_eq!(voters.without(replica(1, 9)), voters, "another directory is another replica");
        assert_eq!(VoterSet::new([replica(1, 0)]), Err(VoterSetError::NoDirectory(BrokerId(1))));
        assert_eq!(VoterSet::new((0..8).map(|id| replica(id, 1))), Err(VoterSetError::TooMany { count: 8 }));
    }

    #[test]
    fn majorities() {
        let majority = |count| VoterSet::new((0..count).map(|id| replica(id, 1))).unwrap().majority();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(majority), [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn bytes_that_are_no_voter_set_are_refused() {
        let twice = postcard::to_stdvec(&vec![replica(1, 1), replica(1, 2)]).unwrap();
        assert!(postcard::from_bytes::<VoterSet>(&twice).is_err());
    }
}
