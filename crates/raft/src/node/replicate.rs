//! The leader: sending entries, counting acknowledgements, being heard, and noticing that it is not.
//!
//! Invariants
//! - An entry is committed when a majority of the voters in force has it durable and it is of this epoch; everything before it
//!   is committed with it. The leader's own disk counts like any other.
//! - A leader that has not heard a majority for an election time-out, or whose disk has not answered for as long, steps down.
//! - What is sent to one peer and unanswered is bounded; so is what was taken and is not committed.
//!
//! Not here: how one peer is sent to (`progress`), reads (`read`), snapshots (`snapshot`).

use quipu_base::{LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use super::{Node, Role};
use crate::{
    effect::Effect,
    entry::{Data, Entry, LogPoint, Payload},
    error::ProposeError,
    limits::{
        APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, OBSERVER_SILENCE_TIMEOUTS, RETRY_INTERVALS, UNCOMMITTED_BYTES_MAX,
        UNCOMMITTED_ENTRIES_MAX,
    },
    message::{Body, MessageError},
    progress::Mode,
    voters::ReplicaKey,
};

/// Where proposed entries came to stand. They count once everything before `end` is committed while the epoch is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// The offset of the first record.
    pub start: Offset,
    /// The offset behind the last one.
    pub end: Offset,
}

/// What a leader does next for one peer.
enum Next {
    /// Send entries from a place on, perhaps none.
    Append(LogPoint, Vec<Entry>),
    /// Have entries read.
    Read {
        from: Offset,
        until: Offset,
    },
    /// Have a piece of the snapshot read.
    Snapshot,
    /// Tell the high watermark.
    Heartbeat,
    Nothing,
}

impl<P: Probe> Node<P> {
    /// Appends `entries`, one after the other, if this node leads.
    ///
    /// Errors: [`ProposeError`], and then none of them was taken.
    pub fn handle_proposal(&mut self, now: Instant, entries: Vec<Data>) -> Result<Proposed, ProposeError> {
        self.advance(now);
        let cost = entries.iter().map(|data| data.bytes.len()).sum::<usize>();
        self.check_proposal(entries.len(), cost)?;
        let records = entries.iter().map(|data| u64::from(data.records)).sum::<u64>();
        let room = Offset(i64::MAX).records_since(self.log.end().offset);
        if records > room || !entries.iter().all(Data::is_within_limits) {
            return Err(ProposeError::TooLarge);
        }
        let (epoch, start) = (self.hard.epoch, self.log.end().offset);
        for data in entries {
            self.append_counted(Entry { epoch, payload: Payload::Data(data) });
        }
        let end = self.log.end().offset;
        self.finish();
        Ok(Proposed { epoch, start, end })
    }

    fn check_proposal(&self, count: usize, cost: usize) -> Result<(), ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader });
        };
        if leader.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let waiting = leader.uncommitted.len() + count > UNCOMMITTED_ENTRIES_MAX
            || (leader.uncommitted_bytes > 0 && leader.uncommitted_bytes + cost > UNCOMMITTED_BYTES_MAX);
        if waiting || self.durable.is_full() { Err(ProposeError::Busy) } else { Ok(()) }
    }

    /// Appends an entry of the leader's, and counts it until it is committed.
    pub(super) fn append_counted(&mut self, entry: Entry) {
        let cost = entry.cost();
        self.append(entry);
        let end = self.log.end().offset;
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted.push_back((end, cost));
            leader.uncommitted_bytes += cost;
        }
    }

    /// Entries that were read for a peer; none if the log does not hold them any more.
    pub fn handle_entries_read(&mut self, now: Instant, read: u64, entries: Option<Vec<Entry>>) {
        self.advance(now);
        self.take_read(read, entries);
        self.finish();
    }

    fn take_read(&mut self, read: u64, entries: Option<Vec<Entry>>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some((peer, progress)) = leader.peers.iter_mut().find(|(_, progress)| progress.reading == Some(read))
        else {
            return;
        };
        let (peer, from) = (*peer, progress.next);
        progress.reading = None;
        let (Some(entries), Some(epoch)) = (entries, self.log.epoch_before(from)) else {
            // They went into a snapshot meanwhile, or cannot be read now: the retry finds out.
            progress.become_probe(from);
            progress.on_sent(from, 0, self.now);
            return;
        };
        let bytes = entries.iter().map(Entry::cost).sum();
        let end = entries.iter().try_fold(from, |end, entry| entry.end(end)).expect("they are from the log");
        assert!(end <= self.log.end().offset, "only what is in the log can be read from it");
        progress.on_sent(end, bytes, self.now);
        let high_watermark = self.high_watermark;
        self.send(peer, Body::Append { start: LogPoint { offset: from, epoch }, entries, high_watermark });
    }

    pub(super) fn on_leader_deadline(&mut self) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.transfer.as_ref().is_some_and(|transfer| now >= transfer.deadline) {
            leader.transfer = None;
        }
        if now >= leader.quorum_deadline {
            leader.quorum_deadline = now.after(self.config.election_timeout);
            if !self.is_alive() && !self.probe.planted("raft.no-check-quorum") {
                self.become_follower(self.hard.epoch, None);
                return;
            }
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if now >= leader.heartbeat_deadline {
            leader.heartbeat_deadline = now.after(self.config.heartbeat_interval);
            self.tend_peers();
            self.begin_round();
        }
    }

    /// Whether a majority was heard and the disk answers.
    fn is_alive(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let timeout = self.config.election_timeout;
        let heard = |voter: &ReplicaKey| {
            *voter == self.config.replica
                || leader.peers.get(voter).is_some_and(|progress| self.now.since(progress.heard) < timeout)
        };
        let stalls = self.durable.outstanding.front().is_some_and(|first| self.now.since(first.since) >= timeout);
        !stalls && self.voters().iter().filter(heard).count() >= self.voters().majority()
    }

    /// Sends again what may be lost, and forgets observers that are gone.
    fn tend_peers(&mut self) {
        let (now, silence) = (self.now, self.config.election_timeout * OBSERVER_SILENCE_TIMEOUTS);
        let retry = self.config.heartbeat_interval * RETRY_INTERVALS;
        let voters = self.log.voters();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.peers.retain(|peer, progress| voters.contains(*peer) || now.since(progress.heard) < silence);
        for progress in leader.peers.values_mut() {
            if progress.unanswered_since().is_some_and(|since| now.since(since) >= retry) {
                progress.on_lost();
            }
        }
    }

    /// Tells every peer that this leader lives, and asks whether it still does.
    pub(super) fn begin_round(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.round += 1;
        let peers: Vec<ReplicaKey> = leader.peers.keys().copied().collect();
        for peer in peers {
            self.send_heartbeat(peer);
        }
    }

    pub(super) fn send_heartbeat(&mut self, peer: ReplicaKey) {
        let clamp = !self.probe.planted("raft.commit-unclamped");
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        progress.told = self.high_watermark.min(progress.matched);
        let high_watermark = if clamp { progress.told } else { self.high_watermark };
        let round = leader.round;
        self.send(peer, Body::Heartbeat { round, high_watermark });
    }

    /// What a leader does at the end of every call.
    pub(super) fn lead(&mut self) {
        if !self.is_leader() {
            return;
        }
        self.advance_commit();
        self.advance_reads();
        let Role::Leader(leader) = &self.role else { return };
        let peers: Vec<ReplicaKey> = leader.peers.keys().copied().collect();
        for peer in peers {
            self.replicate(peer);
        }
        let is_removed = !self.is_voter() && self.log.voters_offset().is_none_or(|at| at < self.high_watermark);
        if is_removed {
            self.leave();
        }
    }

    fn advance_commit(&mut self) {
        let matched = self.quorum_matched();
        let is_own = self.log.epoch_before(matched) == Some(self.hard.epoch);
        if matched <= self.high_watermark || !(is_own || self.probe.planted("raft.commit-old-epoch")) {
            return;
        }
        self.high_watermark = matched;
        let Role::Leader(leader) = &mut self.role else { return };
        while leader.uncommitted.front().is_some_and(|(end, _)| *end <= matched) {
            leader.uncommitted_bytes -= leader.uncommitted.pop_front().map_or(0, |(_, cost)| cost);
        }
    }

    /// Up to where a majority of the voters has the log durable.
    fn quorum_matched(&self) -> Offset {
        let Role::Leader(leader) = &self.role else { return Offset::ZERO };
        let own = if self.probe.planted("raft.own-unpersisted") { self.log.end().offset } else { self.durable.end };
        let matched = |voter: ReplicaKey| {
            if voter == self.config.replica {
                return own;
            }
            let peers = leader.peers.iter().filter(|(peer, _)| self.is_same(**peer, voter));
            peers.map(|(_, progress)| progress.matched).max().unwrap_or(Offset::ZERO)
        };
        let mut all: Vec<Offset> = if self.probe.planted("raft.observer-counted") {
            leader.peers.values().map(|progress| progress.matched).chain([own]).collect()
        } else {
            self.voters().iter().map(matched).collect()
        };
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.get(self.voters().majority() - 1).copied().unwrap_or(Offset::ZERO)
    }

    /// Sends everything that may be sent to `peer` now.
    fn replicate(&mut self, peer: ReplicaKey) {
        loop {
            match self.next_for(peer) {
                Next::Append(start, entries) => self.send_append(peer, start, entries),
                Next::Read { from, until } => {
                    self.read_entries(peer, from, until);
                    return;
                }
                Next::Snapshot => {
                    self.send_snapshot(peer);
                    return;
                }
                Next::Heartbeat => {
                    self.send_heartbeat(peer);
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    fn next_for(&self, peer: ReplicaKey) -> Next {
        let Role::Leader(leader) = &self.role else { return Next::Nothing };
        let Some(progress) = leader.peers.get(&peer) else { return Next::Nothing };
        let durable = self.log.cache_start().min(self.durable.end);
        let told =
            if progress.told < self.high_watermark.min(progress.matched) { Next::Heartbeat } else { Next::Nothing };
        if matches!(progress.mode, Mode::Snapshot(_)) {
            return Next::Snapshot;
        }
        let Some(epoch) = self.log.epoch_before(progress.next) else { return Next::Snapshot };
        if progress.reading.is_some() || !progress.has_room() {
            return told;
        }
        let start = LogPoint { offset: progress.next, epoch };
        let is_probe = matches!(progress.mode, Mode::Probe { .. });
        match self.log.cached(progress.next, APPEND_BYTES_MAX, APPEND_ENTRIES_MAX) {
            Some(entries) => Next::Append(start, entries),
            None if is_probe => Next::Append(start, Vec::new()),
            // What is not in the cache is durable.
            None if progress.next < durable => Next::Read { from: progress.next, until: durable },
            None => told,
        }
    }

    fn send_append(&mut self, peer: ReplicaKey, start: LogPoint, entries: Vec<Entry>) {
        let bytes = entries.iter().map(Entry::cost).sum();
        let end = entries.iter().try_fold(start.offset, |end, entry| entry.end(end)).expect("they are from the log");
        let (now, high_watermark) = (self.now, self.high_watermark);
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.peers.get_mut(&peer)
        {
            progress.on_sent(end, bytes, now);
            progress.told = progress.told.max(high_watermark.min(end));
        }
        self.send(peer, Body::Append { start, entries, high_watermark });
    }

    fn read_entries(&mut self, peer: ReplicaKey, from: Offset, until: Offset) {
        self.last_read += 1;
        let read = self.last_read;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.peers.get_mut(&peer)
        {
            progress.reading = Some(read);
        }
        self.effects.push(Effect::ReadEntries { read, from, until, bytes_max: APPEND_BYTES_MAX });
    }

    pub(super) fn handle_appended(&mut self, from: ReplicaKey, matched: Offset) -> Result<(), MessageError> {
        let end = self.log.end().offset;
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        if matched > end {
            return Err(MessageError::OutOfLimits { field: "matched offset" });
        }
        if let Some(progress) = leader.peers.get_mut(&from) {
            progress.on_matched(matched);
            self.hand_over();
        }
        Ok(())
    }

    /// The peer's log does not hold what is before `at`; it may agree at `hint`.
    pub(super) fn handle_diverged(&mut self, from: ReplicaKey, at: Offset, hint: LogPoint) {
        let agreed = if hint.offset < self.log.start() { hint } else { self.log.last_before(hint) };
        let is_voter = self.voters().contains(from);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        let is_answer = match progress.mode {
            // Asked again at once, a voter that has lost what it had acknowledged would say the same for ever.
            Mode::Probe { .. } => at == progress.next && (at > progress.matched || !is_voter),
            Mode::Replicate { .. } => at > progress.matched,
            Mode::Snapshot(_) => false,
        };
        if is_answer && at > Offset::ZERO {
            // Always back by one at least, else two logs with nothing in common would be asked for ever.
            if !is_voter {
                // Its disk was put back to an older state: nothing was counted on it.
                progress.matched = progress.matched.min(agreed.offset);
            }
            progress.become_probe(agreed.offset.min(Offset(at.get() - 1)));
        }
    }

    pub(super) fn handle_heartbeat_reply(&mut self, from: ReplicaKey, round: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&from)
            && round <= leader.round
        {
            progress.round = progress.round.max(round);
        }
    }
}
