//! The read barrier: from which offset on does a read see everything that was committed when it was asked?
//!
//! ```text
//! asked at the leader: offset = its high watermark, and a round of heartbeats that begins later
//! answered:            a majority answered that round, and an entry of the leader's own epoch is committed
//! ```
//!
//! A leader of an earlier epoch gets no such majority; one that just began does not know the high watermark until an entry of
//! its own is committed. No clock is trusted.
//!
//! Invariants
//! - Reads wait in the order in which they were asked; their rounds don't fall. One round serves all that were asked before it.
//!
//! Not here: applying up to the offset, which the shell waits for.

use quipu_base::Offset;
use quipu_env::{Instant, Probe};

use super::{Leader, Node, Role};
use crate::{effect::Effect, error::ReadError, limits::READS_MAX, message::Body, voters::ReplicaKey};

#[derive(Clone, Hash)]
pub(super) struct PendingRead {
    context: u64,
    /// Who asked; none: this node's shell.
    from: Option<ReplicaKey>,
    /// The first round that proves it.
    round: u64,
    offset: Offset,
}

impl<P: Probe> Node<P> {
    /// Asks for a barrier. `context` comes back in [`Effect::ReadReady`] or [`Effect::ReadFailed`], or never, if the leader
    /// asked is lost: the shell has a time-out, and never uses a context twice. On a follower or an observer, the leader is
    /// asked.
    ///
    /// Errors: [`ReadError`].
    pub fn handle_read_index(&mut self, now: Instant, context: u64) -> Result<(), ReadError> {
        self.advance(now);
        let leader = self.leader.ok_or(ReadError::NoLeader)?;
        if !self.is_leader() {
            self.send(leader, Body::Read { context });
        } else if !self.add_read(None, context) {
            return Err(ReadError::TooMany);
        }
        self.finish();
        Ok(())
    }

    pub(super) fn handle_read(&mut self, from: ReplicaKey, context: u64) {
        if !self.is_leader() || !self.add_read(Some(from), context) {
            self.send(from, Body::ReadReply { context, offset: None });
        }
    }

    pub(super) fn handle_read_reply(&mut self, context: u64, offset: Option<Offset>) {
        self.effects.push(match offset {
            Some(offset) => Effect::ReadReady { context, offset },
            None => Effect::ReadFailed { context },
        });
    }

    fn add_read(&mut self, from: Option<ReplicaKey>, context: u64) -> bool {
        let offset = self.high_watermark;
        let Role::Leader(leader) = &mut self.role else { return false };
        if leader.reads.len() >= READS_MAX {
            return false;
        }
        let round = leader.round + 1;
        leader.reads.push_back(PendingRead { context, from, round, offset });
        true
    }

    /// Answers the reads whose barrier is reached, and begins the round that the others wait for.
    pub(super) fn advance_reads(&mut self) {
        self.answer_reads();
        let proven = self.proven_round();
        let Role::Leader(leader) = &self.role else { return };
        // One round at a time: the reads that come meanwhile share the next one.
        if leader.reads.back().is_some_and(|last| last.round > leader.round) && proven == leader.round {
            self.begin_round();
            self.answer_reads();
        }
    }

    fn answer_reads(&mut self) {
        let proven = if self.probe.planted("raft.read-no-barrier") { u64::MAX } else { self.proven_round() };
        let Role::Leader(leader) = &mut self.role else { return };
        let high_watermark = self.high_watermark;
        if high_watermark <= leader.start && !self.probe.planted("raft.read-before-own-entry") {
            return;
        }
        let ready = leader.reads.iter().take_while(|read| read.round <= proven).count();
        let ready: Vec<PendingRead> = leader.reads.drain(..ready).collect();
        // One that was asked before the leader knew the high watermark is answered with what it knows now.
        let first = if self.probe.planted("raft.read-before-own-entry") { Offset::ZERO } else { leader.start.next() };
        for PendingRead { context, from, offset, .. } in ready {
            let offset = offset.max(first.min(high_watermark));
            match from {
                None => self.effects.push(Effect::ReadReady { context, offset }),
                Some(from) => self.send(from, Body::ReadReply { context, offset: Some(offset) }),
            }
        }
    }

    /// The last round that a majority of the voters answered.
    fn proven_round(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        let mut rounds: Vec<u64> = self.voters().iter().map(|voter| self.round_of(leader, voter)).collect();
        rounds.sort_unstable_by(|one, other| other.cmp(one));
        rounds.get(self.voters().majority() - 1).copied().unwrap_or(0)
    }

    fn round_of(&self, leader: &Leader, voter: ReplicaKey) -> u64 {
        if voter == self.config.replica {
            return leader.round;
        }
        leader.peers.get(&voter).map_or(0, |progress| progress.round)
    }

    pub(super) fn fail_read(&mut self, read: PendingRead) {
        let context = read.context;
        match read.from {
            None => self.effects.push(Effect::ReadFailed { context }),
            Some(from) => self.send(from, Body::ReadReply { context, offset: None }),
        }
    }
}
