//! Who belongs to the quorum: observers announce themselves, voters are added and removed one at a time, leadership moves.
//!
//! Invariants
//! - Two voter sets that may both decide differ by one voter: a change waits until the one before is committed, and until an
//!   entry of the leader's own epoch is (else a change of an earlier leader might be pending unseen).
//! - A voter set is in force from its entry on, committed or not, and out of force when that is cut off.
//! - A leader that is not in the voters counts itself for nothing, and leaves once that is committed.
//!
//! Not here: formatting directories and giving them ids.

use quipu_base::{BrokerId, DirectoryId, Offset};
use quipu_env::{Instant, Probe};

use super::{Node, Role, Transfer};
use crate::{
    effect::Effect,
    entry::{Entry, Payload},
    error::{TransferError, VoterChangeError},
    limits::{OBSERVER_SILENCE_TIMEOUTS, OBSERVERS_MAX, PROMOTION_LAG_RECORDS_MAX, VOTERS_MAX},
    message::{Body, Message},
    progress::{Mode, Progress},
    voters::{ReplicaKey, VoterSet},
};

impl<P: Probe> Node<P> {
    /// Makes an observer that has caught up a voter. Returns the offset of the entry; done once it is committed.
    ///
    /// Errors: [`VoterChangeError`].
    pub fn handle_add_voter(&mut self, now: Instant, voter: ReplicaKey) -> Result<Offset, VoterChangeError> {
        self.advance(now);
        self.check_voter_change()?;
        if let Some(known) = self.voters().get(voter.id) {
            return Err(VoterChangeError::AlreadyVoter(known));
        }
        if self.voters().len() >= VOTERS_MAX {
            return Err(VoterChangeError::TooManyVoters);
        }
        self.check_caught_up(voter)?;
        let voters = self.voters().with(voter).map_err(|_| VoterChangeError::UnknownObserver(voter))?;
        Ok(self.change_voters(voters))
    }

    /// Takes a voter's vote. Returns the offset of the entry; done once it is committed. A leader may remove itself; it leads
    /// until then.
    ///
    /// Errors: [`VoterChangeError`].
    pub fn handle_remove_voter(&mut self, now: Instant, voter: ReplicaKey) -> Result<Offset, VoterChangeError> {
        self.advance(now);
        self.check_voter_change()?;
        if !self.voters().contains(voter) {
            return Err(VoterChangeError::NotVoter(voter));
        }
        if self.voters().len() == 1 {
            return Err(VoterChangeError::LastVoter);
        }
        let voters = self.voters().without(voter);
        Ok(self.change_voters(voters))
    }

    fn check_voter_change(&self) -> Result<(), VoterChangeError> {
        let Role::Leader(leader) = &self.role else { return Err(VoterChangeError::NotLeader) };
        if leader.transfer.is_some() {
            return Err(VoterChangeError::Transferring);
        }
        let is_settled = self.log.voters_offset().is_none_or(|at| at < self.high_watermark);
        let is_own = self.high_watermark > leader.start;
        let two_at_once = self.probe.planted("raft.two-voter-changes");
        let before_own = self.probe.planted("raft.voters-before-own-entry");
        if !(is_settled || two_at_once) || !(is_own || before_own || two_at_once) || self.durable.is_full() {
            return Err(VoterChangeError::Pending);
        }
        if self.log.has_room_for_voters() { Ok(()) } else { Err(VoterChangeError::LogFull) }
    }

    fn check_caught_up(&self, observer: ReplicaKey) -> Result<(), VoterChangeError> {
        let Role::Leader(leader) = &self.role else { return Err(VoterChangeError::NotLeader) };
        let is_heard = |progress: &&Progress| self.now.since(progress.heard) < self.config.election_timeout;
        let progress = leader.peers.get(&observer).filter(is_heard);
        let progress = progress.ok_or(VoterChangeError::UnknownObserver(observer))?;
        let (matched, log_end) = (progress.matched, self.log.end().offset);
        let follows = matches!(progress.mode, Mode::Replicate { .. });
        if follows && log_end.records_since(matched) <= PROMOTION_LAG_RECORDS_MAX {
            return Ok(());
        }
        Err(VoterChangeError::NotCaughtUp { matched, log_end })
    }

    fn change_voters(&mut self, voters: VoterSet) -> Offset {
        let offset = self.log.end().offset;
        self.append_counted(Entry { epoch: self.hard.epoch, payload: Payload::Voters(voters) });
        self.finish();
        offset
    }

    /// Hands leadership to another voter: it is caught up first, and meanwhile nothing is proposed. Given up after an election
    /// time-out. Done when a [`Effect::LeaderChanged`] says so.
    ///
    /// Errors: [`TransferError`].
    pub fn handle_transfer(&mut self, now: Instant, to: ReplicaKey) -> Result<(), TransferError> {
        self.advance(now);
        let deadline = self.now.after(self.config.election_timeout);
        let is_voter = self.voters().contains(to);
        let Role::Leader(leader) = &mut self.role else { return Err(TransferError::NotLeader) };
        if !is_voter {
            return Err(TransferError::NotVoter(to));
        }
        if to == self.config.replica {
            return Err(TransferError::IsLeader);
        }
        if leader.transfer.is_some() {
            return Err(TransferError::Transferring);
        }
        leader.transfer = Some(Transfer { to, deadline, asked: false });
        self.hand_over();
        self.finish();
        Ok(())
    }

    /// Asks the next leader to campaign, once it has the whole log.
    pub(super) fn hand_over(&mut self) {
        let end = self.log.end().offset;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let has_all = leader.peers.get(&transfer.to).is_some_and(|progress| progress.matched == end);
        if has_all && !transfer.asked {
            transfer.asked = true;
            let to = transfer.to;
            self.send(to, Body::TimeoutNow);
        }
    }

    /// This leader was removed: lets the voter that has most of the log campaign, and follows.
    pub(super) fn leave(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let voters = leader.peers.iter().filter(|(peer, _)| self.voters().contains(**peer));
        let best = voters.max_by_key(|(_, progress)| progress.matched).map(|(peer, _)| *peer);
        if let Some(best) = best {
            self.send(best, Body::TimeoutNow);
        }
        self.become_follower(self.hard.epoch, None);
    }

    /// An observer tells the voters of itself: whoever leads, now or later, sends it the log.
    pub(super) fn announce(&mut self) {
        self.announce_deadline = self.now.after(self.config.election_timeout);
        let me = self.config.replica;
        let unknown = |id: &BrokerId| *id != me.id && self.voters().get(*id).is_none();
        let contacts = self.config.contacts.iter().copied().filter(unknown);
        let contacts = contacts.map(|id| ReplicaKey { id, directory: DirectoryId::ZERO });
        let voters = self.other_voters().into_iter().filter(|voter| voter.id != me.id);
        for to in voters.chain(contacts).collect::<Vec<_>>() {
            self.effects.push(Effect::Send(Message { from: me, to, epoch: self.hard.epoch, body: Body::Announce }));
        }
    }

    pub(super) fn handle_announce(&mut self, from: ReplicaKey) {
        let now = self.now;
        self.remember_observer(from);
        let end = self.log.end().offset;
        let peers_max = OBSERVERS_MAX + self.other_voters().len();
        let voters = self.log.voters();
        let Role::Leader(leader) = &mut self.role else {
            let leader = self.leader;
            self.send(from, Body::Leader { leader });
            return;
        };
        if let Some(progress) = leader.peers.get_mut(&from) {
            progress.heard = now;
            self.send_heartbeat(from);
            return;
        }
        // Its node was formatted anew: the old directory's observer is gone.
        leader.peers.retain(|peer, _| peer.id != from.id || voters.contains(*peer));
        if leader.peers.len() >= peers_max {
            self.send(from, Body::ObserverRefused);
            return;
        }
        leader.peers.insert(from, Progress::new(end, now));
    }

    /// So that a voter that comes to lead serves the observers at once.
    fn remember_observer(&mut self, observer: ReplicaKey) {
        let silence = self.config.election_timeout * OBSERVER_SILENCE_TIMEOUTS;
        let now = self.now;
        if self.observers.len() >= OBSERVERS_MAX {
            self.observers.retain(|_, heard| now.since(*heard) < silence);
        }
        let is_voter = self.voters().contains(observer);
        if let Some(heard) = self.observers.get_mut(&observer) {
            *heard = now;
            return;
        }
        // Its node was formatted anew.
        self.observers.retain(|known, _| known.id != observer.id);
        if !is_voter && self.observers.len() < OBSERVERS_MAX {
            self.observers.insert(observer, now);
        }
    }

    /// Somebody knows who leads: asks there, if this replica does not know.
    pub(super) fn handle_leader_told(&mut self, leader: Option<ReplicaKey>) {
        let leader = leader.filter(|leader| self.leader.is_none() && leader.id != self.config.replica.id);
        if let Some(leader) = leader {
            self.send(leader, Body::Announce);
        }
    }
}
