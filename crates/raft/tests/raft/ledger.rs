//! The judge: sees what replicas do, knows nothing of how or of planted bugs, and names the first invariant that is broken.
//!
//! | invariant | what is compared |
//! |---|---|
//! | election safety | leaders of one epoch, and how often one begins it |
//! | one vote | for whom a replica's durable or sent votes of one epoch are |
//! | log matching | every entry that any log ever held at an offset in an epoch, and what was before it |
//! | leader completeness | what was committed before a later leader began, with its log |
//! | state machine safety | what replicas apply at one offset |
//! | durability | what a majority of the voters has on its disks, with what is committed |
//! | reads | a barrier's offset, with what was known to be committed when it was asked |

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use quipu_base::{LeaderEpoch, Offset};
use quipu_raft::{Body, Entry, Message, ReplicaKey};

use crate::replica::{Disk, Replica};

/// What was found, for people.
pub(crate) type Verdict = Result<(), String>;

#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// Who leads an epoch, and where it began.
    leaders: BTreeMap<LeaderEpoch, (ReplicaKey, Offset)>,
    /// Votes given.
    votes: BTreeMap<(ReplicaKey, LeaderEpoch), ReplicaKey>,
    /// What any log held, and the epoch before it.
    entries: BTreeMap<(Offset, LeaderEpoch), (Entry, LeaderEpoch)>,
    /// What was committed, and the first epoch in which anybody knew.
    committed: BTreeMap<Offset, (Entry, LeaderEpoch)>,
    /// Reads under way, and what was known to be committed when they began.
    reads: BTreeMap<u64, Offset>,
    /// The installations that were looked at.
    seen: BTreeMap<ReplicaKey, u64>,
    pub(crate) reads_ready: u64,
}

impl Hash for Ledger {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.leaders, &self.votes, &self.committed, &self.reads).hash(state);
    }
}

impl Ledger {
    pub(crate) fn committed_end(&self) -> Offset {
        self.committed.last_key_value().map_or(Offset::ZERO, |(base, (entry, _))| entry.end(*base).unwrap())
    }

    pub(crate) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn on_send(&mut self, message: &Message) -> Verdict {
        let (voter, candidate) = match message.body {
            Body::VoteReply { granted: true } => (message.from, message.to),
            Body::Vote { .. } => (message.from, message.from),
            _ => return Ok(()),
        };
        let known = *self.votes.entry((voter, message.epoch)).or_insert(candidate);
        if known == candidate {
            return Ok(());
        }
        Err(format!("one vote: {voter} voted for {known} and for {candidate} in epoch {}", message.epoch))
    }

    pub(crate) fn on_leader(&mut self, replica: &Replica, epoch: LeaderEpoch, start: Offset) -> Verdict {
        let me = replica.key;
        if let Some((other, _)) = self.leaders.insert(epoch, (me, start)) {
            return Err(format!("election safety: {other} and then {me} began to lead epoch {epoch}"));
        }
        let before = replica.memory.base.point.offset;
        for (base, (entry, known)) in self.committed.range(before..) {
            let has = replica.memory.entries.iter().any(|(at, own)| at == base && own == entry);
            if *known < epoch && !has {
                return Err(format!(
                    "leader completeness: {me} leads epoch {epoch} without what was committed at {base}"
                ));
            }
        }
        Ok(())
    }

    /// A log has changed.
    pub(crate) fn on_log(&mut self, disk: &Disk) -> Verdict {
        let mut before = disk.base.point.epoch;
        for (base, entry) in &disk.entries {
            let held = (entry.clone(), before);
            let known = self.entries.entry((*base, entry.epoch)).or_insert_with(|| held.clone());
            if *known != held {
                return Err(format!("log matching: at {base} in epoch {}, {known:?} and {held:?}", entry.epoch));
            }
            before = entry.epoch;
        }
        Ok(())
    }

    /// A replica has applied what is between `from` and `until`.
    pub(crate) fn on_commit(&mut self, replica: &Replica, epoch: LeaderEpoch, from: Offset, until: Offset) -> Verdict {
        let news = replica.history.iter().filter(|(base, _)| (from..until).contains(base));
        let mut at = from;
        for (base, entry) in news {
            if *base != at {
                return Err(format!("state machine safety: {} applies {base} after {at}", replica.key));
            }
            at = entry.end(*base).unwrap();
            let (known, _) = self.committed.entry(*base).or_insert_with(|| (entry.clone(), epoch));
            if known != entry {
                return Err(format!("state machine safety: at {base}, {known:?} and {entry:?} are applied"));
            }
        }
        if at == until { Ok(()) } else { Err(format!("state machine safety: {} applies only up to {at}", replica.key)) }
    }

    /// A replica has installed a snapshot, or starts from one.
    pub(crate) fn on_history(&mut self, replica: &Replica) -> Verdict {
        for (base, entry) in &replica.history {
            match self.committed.get(base) {
                Some((known, _)) if known == entry => {}
                _ => return Err(format!("state machine safety: {} has {entry:?} at {base}", replica.key)),
            }
        }
        Ok(())
    }

    /// What a replica has applied as a whole, when that came as a whole.
    pub(crate) fn on_history_of(&mut self, replica: &Replica) -> Verdict {
        let is_new = self.seen.insert(replica.key, replica.installed) != Some(replica.installed);
        if is_new { self.on_history(replica) } else { Ok(()) }
    }

    pub(crate) fn on_read(&mut self, context: u64) {
        self.reads.insert(context, self.committed_end());
    }

    pub(crate) fn on_read_ready(&mut self, context: u64, offset: Offset) -> Verdict {
        let Some(known) = self.reads.remove(&context) else { return Ok(()) };
        self.reads_ready += 1;
        if offset >= known {
            return Ok(());
        }
        Err(format!("reads: {known} was committed when read {context} was asked, and its barrier is {offset}"))
    }
}
