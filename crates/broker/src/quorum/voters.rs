//! A voter whose directory was lost gets its vote back, with its new directory. See decision 0004.
//!
//! ```text
//! voter N@old is silent, N@new observes and has caught up, the settings name N -> old is removed -> committed -> new is added
//! ```
//!
//! Invariants
//! - One voter is removed or added at a time (`quipu-raft`), and the old directory is removed before the new one is added: the two
//!   never vote together.
//! - It begins only while a majority of the voters that are left is heard of, and the new directory lacks nothing much: the quorum
//!   can lose no more voters on the way than it could before.
//! - Nobody becomes a voter whom this node's settings don't name.
//!
//! Not here: founding (`found`), the change itself (`quipu-raft`).

use core::time::Duration;
use std::collections::BTreeMap;

use quipu_base::BrokerId;
use quipu_env::{Clock, Env};
use quipu_raft::{ReplicaKey, Status};

use super::{ELECTION_TIMEOUT, Quorum};

/// A voter that was not heard of for this long may have lost its directory, if another one of its node is there.
const SILENCE: Duration = Duration::from_secs(3);
/// Whoever was heard of within this time is there.
const PRESENCE: Duration = ELECTION_TIMEOUT;

/// The next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Remove(ReplicaKey),
    Add(ReplicaKey),
}

impl<E: Env> Quorum<E> {
    /// Does the next step, if this node leads and there is one.
    pub(super) fn mend_voters(&mut self) {
        let status = self.node.status();
        let named = |id: BrokerId| self.settings.voters.contains_key(&id);
        let image = self.serving.image();
        // A node that is a broker has the directory that it is registered with, whatever somebody says who uses its id.
        let is_its = |replica: ReplicaKey| {
            image.broker(replica.id).is_none_or(|broker| broker.registration.directory_id == replica.directory)
        };
        let Some(change) = next_change(&status, |replica| named(replica.id) && is_its(replica)) else { return };
        let now = self.env.clock().now();
        let changed = match change {
            Change::Remove(voter) => self.node.handle_remove_voter(now, voter),
            Change::Add(voter) => self.node.handle_add_voter(now, voter),
        };
        match (changed, change) {
            (Ok(_), Change::Remove(voter)) => {
                tracing::warn!(%voter, "this voter's directory is gone: its node is to vote with the one that it has now");
            }
            (Ok(_), Change::Add(voter)) => tracing::info!(%voter, "this replica votes from now on"),
            (Err(error), _) => tracing::debug!(?change, %error, "the voters can't be changed now"),
        }
    }
}

/// What to do about the voters, if anything, by what the leader knows. `may_vote` says of an observer whether its node is to vote with
/// this directory.
fn next_change(status: &Status, may_vote: impl Fn(ReplicaKey) -> bool) -> Option<Change> {
    let heard: BTreeMap<ReplicaKey, Duration> = status.peers.iter().map(|(peer, _, since)| (*peer, *since)).collect();
    let is_present =
        |replica: ReplicaKey| replica == status.replica || heard.get(&replica).is_some_and(|since| *since < PRESENCE);
    let candidates = status.peers.iter().filter(|(peer, matched, _)| {
        let has_all = *matched >= status.high_watermark;
        !status.voters.contains(*peer) && is_present(*peer) && has_all && may_vote(*peer)
    });
    for (candidate, ..) in candidates {
        let Some(old) = status.voters.get(candidate.id) else { return Some(Change::Add(*candidate)) };
        let is_silent = heard.get(&old).is_none_or(|since| *since >= SILENCE) && old != status.replica;
        let left = status.voters.len() - 1;
        let present = status.voters.iter().filter(|voter| *voter != old && is_present(*voter)).count();
        if is_silent && present > left / 2 {
            return Some(Change::Remove(old));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use quipu_base::{DirectoryId, LeaderEpoch, Offset};
    use quipu_raft::{LogPoint, VoterSet};

    use super::*;

    fn replica(id: i32, directory: u8) -> ReplicaKey {
        ReplicaKey { id: BrokerId(id), directory: DirectoryId([directory; 16]) }
    }

    /// Replica 1 leads; each peer with what it has and how long ago it was heard, in milliseconds.
    fn status(voters: &[ReplicaKey], peers: &[(ReplicaKey, i64, u64)]) -> Status {
        let peers = peers.iter().map(|(peer, matched, since)| (*peer, Offset(*matched), Duration::from_millis(*since)));
        Status {
            replica: replica(1, 1),
            epoch: LeaderEpoch(1),
            leader: Some(replica(1, 1)),
            log_start: Offset(0),
            log_end: LogPoint { offset: Offset(10), epoch: LeaderEpoch(1) },
            high_watermark: Offset(10),
            durable_end: Offset(10),
            voters: VoterSet::new(voters.iter().copied()).unwrap(),
            peers: peers.collect(),
        }
    }

    #[test]
    fn a_lost_directory_is_replaced_step_by_step() {
        let all = [replica(1, 1), replica(2, 2), replica(3, 3)];
        let healthy = [(replica(2, 2), 10, 50), (replica(3, 3), 10, 50)];
        assert_eq!(next_change(&status(&all, &healthy), |_| true), None);
        let wiped =
            |matched, since| [(replica(2, 2), 10, 50), (replica(3, 3), 10, since), (replica(3, 9), matched, 50)];
        let remove = Some(Change::Remove(replica(3, 3)));
        assert_eq!(next_change(&status(&all, &wiped(10, 5000)), |_| true), remove);
        assert_eq!(next_change(&status(&all, &wiped(10, 5000)), |_| false), None, "nobody named it");
        assert_eq!(next_change(&status(&all, &wiped(9, 5000)), |_| true), None, "it lacks something");
        assert_eq!(next_change(&status(&all, &wiped(10, 1000)), |_| true), None, "the old one was there a moment ago");
        let left = [replica(1, 1), replica(2, 2)];
        let add = Some(Change::Add(replica(3, 9)));
        assert_eq!(next_change(&status(&left, &wiped(10, 5000)), |_| true), add);
    }

    #[test]
    fn nothing_changes_without_a_majority_of_the_others() {
        let all = [replica(1, 1), replica(2, 2), replica(3, 3)];
        let peers = [(replica(2, 2), 10, 900), (replica(3, 3), 10, 5000), (replica(3, 9), 10, 50)];
        assert_eq!(next_change(&status(&all, &peers), |_| true), None);
        let alone = [(replica(2, 2), 10, 5000), (replica(2, 9), 10, 50)];
        assert_eq!(
            next_change(&status(&[replica(1, 1), replica(2, 2)], &alone), |_| true),
            Some(Change::Remove(replica(2, 2))),
            "the one that is left is its own majority"
        );
    }
}
