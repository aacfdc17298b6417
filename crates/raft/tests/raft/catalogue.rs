//! The planted bugs, each with the failure that it copies, and where the hunt looks for it.

use crate::{
    ledger::Verdict,
    model::{Bounds, FOLLOWER_LOST, VOTES},
    schedule::{Profile, comes_back, is_cut_off},
};

/// How to look for a bug.
#[derive(Clone, Copy)]
pub(crate) enum Hunt {
    /// By random schedules.
    Schedule(Profile),
    /// By a script, which leads to where it shows.
    Script(&'static str),
    /// By a check, for a seed.
    Check(fn(u64, Option<&'static str>) -> Verdict),
    /// By exhaustive search among few nodes.
    Model(Bounds),
}

pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// What goes wrong, and who has had it.
    pub(crate) story: &'static str,
    /// Each of them finds it.
    pub(crate) hunts: &'static [Hunt],
}

const fn bug(name: &'static str, story: &'static str, hunts: &'static [Hunt]) -> Bug {
    Bug { name, story, hunts }
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
const UNSTEADY: Profile = Profile {
    loss: 250,
    crash: 25,
    cut: 25,
    late: 100,
    sync_ms: 40,
    observers: 0,
    founders: 5,
    change: 0,
    ..Profile::MIXED
};

pub(crate) const PROFILES: &[Profile] = &[Profile::MIXED, CRASHY, LOSSY, CHANGING, SNAPSHOTS, WIPING, UNSTEADY];

use Hunt::{Check, Model, Schedule, Script};

pub(crate) const BUGS: &[Bug] = &[
    bug("raft.vote-unpersisted", "a vote is told before it is durable", &[Schedule(CRASHY), Model(VOTES)]),
    bug("raft.vote-forgotten", "the vote is not read back", &[Schedule(CRASHY), Model(VOTES)]),
    bug("raft.vote-twice", "a second candidate gets a vote, too", &[Schedule(LOSSY), Model(VOTES)]),
    bug("raft.grant-any-log", "a vote for a log that lacks entries", &[Schedule(LOSSY)]),
    bug(
        "raft.epoch-regresses",
        "the epoch is taken from the log's end at a restart",
        &[Schedule(CRASHY), Model(VOTES)],
    ),
    bug(
        "raft.campaign-unpersisted",
        "votes are asked for before the own one is durable",
        &[Schedule(CRASHY), Model(VOTES)],
    ),
    bug("raft.prevote-raises-epoch", "a replica that was cut off deposes the leader", &[Check(comes_back)]),
    bug("raft.no-check-quorum", "a leader without followers never notices", &[Check(is_cut_off)]),
    bug("raft.commit-old-epoch", "an earlier epoch's entry is committed by count", &[Script("earlier_epoch")]),
    bug(
        "raft.ack-unpersisted",
        "entries are acknowledged before they are durable",
        &[Schedule(CRASHY), Model(FOLLOWER_LOST)],
    ),
    bug("raft.ack-own-end", "a follower acknowledges its log end", &[Schedule(LOSSY)]),
    bug("raft.own-unpersisted", "the leader counts what it has not synced", &[Schedule(CRASHY)]),
    bug("raft.truncate-short-append", "a late Append cuts off what was acknowledged", &[Schedule(LOSSY)]),
    bug("raft.conflict-ignored", "another epoch's entry is taken for the leader's", &[Schedule(LOSSY)]),
    bug("raft.commit-unclamped", "a follower commits beyond what matches", &[Schedule(LOSSY)]),
    bug("raft.snapshot-no-voters", "the voter set is not in the snapshot", &[Script("snapshot_voters")]),
    bug("raft.voters-kept", "a voter set that was cut off stays in force", &[Script("voters_cut_off")]),
    bug("raft.two-voter-changes", "a change before the last one is committed", &[Schedule(CHANGING)]),
    bug(
        "raft.voters-before-own-entry",
        "a change before an own entry is committed",
        &[Script("voters_by_two_leaders")],
    ),
    bug("raft.observer-counted", "observers count towards the majority", &[Schedule(LOSSY)]),
    bug("raft.directory-ignored", "a wiped node votes for its old self", &[Schedule(WIPING)]),
    bug("raft.read-no-barrier", "a deposed leader answers reads", &[Schedule(LOSSY)]),
    bug("raft.read-before-own-entry", "a new leader reads what it does not know yet", &[Schedule(LOSSY)]),
];
