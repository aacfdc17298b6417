//! The planted bugs, each with the failure that it copies, and where the hunt looks for it.

use crate::schedule::Profile;

/// How to look for a bug.
pub(crate) enum Hunt {
    /// By random schedules.
    Schedule(Profile),
}

pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) story: &'static str,
    pub(crate) hunt: Hunt,
}

/// Crashes while votes and entries are on their way to slow disks.
const CRASHY: Profile = Profile { crash: 25, observers: 0, sync_ms: 60, ..Profile::MIXED };
/// A network that loses, doubles and delays, and is cut often.
const LOSSY: Profile = Profile { loss: 80, doubled: 80, late: 80, cut: 12, ..Profile::MIXED };
/// Voters come and go.
const CHANGING: Profile = Profile { change: 60, cut: 15, ..Profile::MIXED };
/// Voters come and go, and who was away needs a snapshot.
const SNAPSHOTS: Profile = Profile { change: 40, cut: 20, snapshot: 60, crash: 10, ..Profile::MIXED };
/// One directory is lost.
const WIPING: Profile = Profile { wipe: 4, cut: 20, change: 0, crash: 12, observers: 0, ..Profile::MIXED };
/// Leaders change again and again before they have committed anything.
const UNSTEADY: Profile = Profile { loss: 250, crash: 25, cut: 25, late: 100, sync_ms: 40, observers: 0, founders: 5, change: 0, ..Profile::MIXED };

pub(crate) const PROFILES: &[Profile] = &[Profile::MIXED, CRASHY, LOSSY, CHANGING, SNAPSHOTS, WIPING, UNSTEADY];

pub(crate) const BUGS: &[Bug] = &[
    Bug { name: "raft-vote-unpersisted", story: "a vote is told before it is durable", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-vote-forgotten", story: "the vote is not read back", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-vote-twice", story: "a second candidate gets a vote, too", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-grant-any-log", story: "a vote for a log that lacks entries", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-epoch-regresses", story: "the epoch is taken from the log's end", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-campaign-unpersisted", story: "votes are asked for before the own one is durable", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-commit-old-epoch", story: "an entry of an earlier epoch is committed by count", hunt: Hunt::Schedule(UNSTEADY) },
    Bug { name: "raft-ack-unpersisted", story: "entries are acknowledged before they are durable", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-ack-own-end", story: "a follower acknowledges its own log end", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-own-unpersisted", story: "the leader counts what it has not synced", hunt: Hunt::Schedule(CRASHY) },
    Bug { name: "raft-truncate-short-append", story: "a late, short Append cuts off what was acknowledged", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-conflict-ignored", story: "an entry of another epoch is taken for the leader's", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-commit-unclamped", story: "a follower commits beyond what matches", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-snapshot-no-voters", story: "the voter set is not in the snapshot", hunt: Hunt::Schedule(SNAPSHOTS) },
    Bug { name: "raft-voters-kept", story: "a voter set that was cut off stays in force", hunt: Hunt::Schedule(CHANGING) },
    Bug { name: "raft-two-voter-changes", story: "a second change before the first is committed", hunt: Hunt::Schedule(CHANGING) },
    Bug { name: "raft-voters-before-own-entry", story: "a change before an own entry is committed", hunt: Hunt::Schedule(CHANGING) },
    Bug { name: "raft-observer-counted", story: "observers count towards the majority", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-directory-ignored", story: "a wiped node votes for its old self", hunt: Hunt::Schedule(WIPING) },
    Bug { name: "raft-read-no-barrier", story: "a deposed leader answers reads", hunt: Hunt::Schedule(LOSSY) },
    Bug { name: "raft-read-before-own-entry", story: "a new leader reads before it knows what is committed", hunt: Hunt::Schedule(LOSSY) },
];
