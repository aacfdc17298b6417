//! Elections: asking without harm (pre-vote), voting, winning; and stepping down.
//!
//! Invariants
//! - A pre-vote changes nothing but the asker's role: a replica cut off from the others raises no epoch.
//! - A vote is asked for, given and counted, its own included, only once it is durable.
//! - A replica that hears a leader gives neither votes nor pre-votes, unless that leader asked for the election.
//! - Votes count by the voters in force at the candidate, by node and directory. Whoever is asked answers, voter or not: a
//!   replica may be a voter before it has the entry that says so.
//!
//! Not here: what a leader does then (`replicate`).

use core::mem;
use std::collections::{BTreeMap, VecDeque};

use quipu_base::LeaderEpoch;
use quipu_env::Probe;

use super::{Leader, Node, Role};
use crate::{
    effect::{Effect, HardState},
    entry::{Entry, LogPoint, Payload},
    limits::{EPOCH_MAX, OBSERVER_SILENCE_TIMEOUTS},
    message::Body,
    progress::Progress,
    voters::ReplicaKey,
};

impl<P: Probe> Node<P> {
    pub(super) fn on_election_deadline(&mut self) {
        self.leader = None;
        self.arm_election();
        self.role = Role::Follower;
        if self.can_campaign() {
            self.become_pre_candidate();
        }
    }

    /// Whether there may be an election at all: see the limits.
    fn can_campaign(&self) -> bool {
        let has_room = self.hard.epoch.get() < EPOCH_MAX && self.log.has_room_for_epoch();
        self.is_voter() && has_room && !self.durable.is_full()
    }

    fn become_pre_candidate(&mut self) {
        if self.probe.planted("raft.prevote-raises-epoch") {
            self.raise_epoch(self.hard.epoch.next(), None);
        }
        let me = self.config.replica;
        self.role = Role::PreCandidate { votes: BTreeMap::from([(me, true)]) };
        let body = Body::PreVote { next_epoch: self.hard.epoch.next(), log: self.log.end() };
        for voter in self.other_voters() {
            self.send(voter, body.clone());
        }
        self.count_pre_votes();
    }

    fn count_pre_votes(&mut self) {
        if let Role::PreCandidate { votes } = &self.role
            && self.is_majority(votes)
        {
            self.become_candidate(false);
        }
    }

    pub(super) fn become_candidate(&mut self, transfer: bool) {
        let me = self.config.replica;
        self.raise_epoch(self.hard.epoch.next(), Some(me));
        self.leader = None;
        self.arm_election();
        // Before it is durable nobody is asked: a candidate that forgot would campaign twice in one epoch.
        let hasty = self.probe.planted("raft.campaign-unpersisted");
        let number = if hasty { 0 } else { self.durable.barrier() };
        self.role = Role::Candidate { votes: BTreeMap::new(), number };
        let body = Body::Vote { log: self.log.end(), transfer };
        for voter in self.other_voters() {
            self.send_after(number, voter, body.clone());
        }
        if hasty {
            self.on_vote_persisted();
        }
    }

    /// Something has become durable: perhaps a candidate's vote for itself.
    pub(super) fn on_vote_persisted(&mut self) {
        let me = self.config.replica;
        if let Role::Candidate { votes, number } = &mut self.role
            && *number <= self.durable.number
        {
            votes.insert(me, true);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        if let Role::Candidate { votes, .. } = &self.role
            && self.is_majority(votes)
        {
            self.become_leader();
        }
    }

    fn is_majority(&self, votes: &BTreeMap<ReplicaKey, bool>) -> bool {
        let voted = |voter: &ReplicaKey| votes.iter().any(|(from, granted)| *granted && self.is_same(*from, *voter));
        self.voters().iter().filter(voted).count() >= self.voters().majority()
    }

    fn become_leader(&mut self) {
        assert!(matches!(self.role, Role::Candidate { .. }), "only a candidate is elected");
        let start = self.log.end().offset;
        let silence = self.config.election_timeout * OBSERVER_SILENCE_TIMEOUTS;
        let observers =
            self.observers.iter().filter(|(_, heard)| self.now.since(**heard) < silence).map(|(key, _)| *key);
        let peers = self.other_voters().into_iter().chain(observers);
        let peers = peers.map(|peer| (peer, Progress::new(start, self.now))).collect();
        self.role = Role::Leader(Box::new(Leader {
            start,
            peers,
            heartbeat_deadline: self.now,
            quorum_deadline: self.now.after(self.config.election_timeout),
            round: 0,
            reads: VecDeque::new(),
            transfer: None,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
        }));
        self.incoming = None;
        let (epoch, leader, voters) = (self.hard.epoch, self.config.replica, self.voters().clone());
        self.append(Entry { epoch, payload: Payload::LeaderChange { leader, voters: voters.clone() } });
        if self.log.lacks_founders() {
            // The founders stand in no entry yet: observers learn of them here.
            self.append(Entry { epoch, payload: Payload::Voters(voters) });
        }
        self.effects.push(Effect::BecameLeader { epoch, start });
        self.leader = Some(leader);
    }

    /// Follows `leader`, or nobody yet, in `epoch`, which is this replica's or a later one.
    pub(super) fn become_follower(&mut self, epoch: LeaderEpoch, leader: Option<ReplicaKey>) {
        assert!(epoch >= self.hard.epoch, "an epoch never falls");
        let led = self.hard.epoch;
        if let Role::Leader(leader) = mem::replace(&mut self.role, Role::Follower) {
            for read in leader.reads {
                self.fail_read(read);
            }
            self.effects.push(Effect::SteppedDown { epoch: led });
        }
        if epoch > self.hard.epoch {
            self.raise_epoch(epoch, None);
        }
        self.leader = leader;
        self.arm_election();
    }

    fn raise_epoch(&mut self, epoch: LeaderEpoch, vote: Option<ReplicaKey>) {
        self.hard = HardState { epoch, vote };
        self.durable.pending.hard_state = true;
    }

    pub(super) fn other_voters(&self) -> Vec<ReplicaKey> {
        self.voters().iter().filter(|voter| *voter != self.config.replica).collect()
    }

    /// The leader that this replica has heard within the time in which no other may be elected.
    pub(super) fn heard_leader(&self) -> Option<ReplicaKey> {
        let is_fresh = self.is_leader() || self.now.since(self.heard) < self.config.election_timeout;
        self.leader.filter(|_| is_fresh)
    }

    /// Whether a log that ends at `log` holds everything that may be committed, as far as this replica knows.
    fn is_up_to_date(&self, log: LogPoint) -> bool {
        log >= self.log.end() || self.probe.planted("raft.grant-any-log")
    }

    pub(super) fn handle_pre_vote(&mut self, from: ReplicaKey, next_epoch: LeaderEpoch, log: LogPoint) {
        let leader = self.heard_leader();
        let granted = next_epoch > self.hard.epoch && self.is_up_to_date(log) && leader.is_none();
        self.send(from, Body::PreVoteReply { next_epoch, granted, leader });
    }

    pub(super) fn handle_pre_vote_reply(
        &mut self,
        from: ReplicaKey,
        next_epoch: LeaderEpoch,
        granted: bool,
        leader: Option<ReplicaKey>,
    ) {
        let asked = next_epoch == self.hard.epoch.next();
        let is_voter = self.voters().iter().any(|voter| self.is_same(from, voter));
        if let Role::PreCandidate { votes } = &mut self.role
            && asked
            && is_voter
        {
            votes.insert(from, granted);
            self.count_pre_votes();
        }
        // The others have a leader that does not send to this replica: perhaps it does not know it.
        if let Some(leader) = leader.filter(|leader| self.leader.is_none() && *leader != self.config.replica) {
            self.send(leader, Body::Announce);
        }
    }

    /// A request to vote in this replica's epoch.
    pub(super) fn handle_vote(&mut self, from: ReplicaKey, log: LogPoint) {
        let free = self.hard.vote.is_none() || self.hard.vote == Some(from) || self.probe.planted("raft.vote-twice");
        let granted = free && self.leader.is_none() && self.is_up_to_date(log) && !self.durable.is_full();
        if granted && self.hard.vote != Some(from) {
            self.hard.vote = Some(from);
            self.durable.pending.hard_state = true;
            self.arm_election();
        }
        if granted && self.probe.planted("raft.vote-unpersisted") {
            self.send_after(0, from, Body::VoteReply { granted });
        } else {
            self.send(from, Body::VoteReply { granted });
        }
    }

    pub(super) fn handle_vote_reply(&mut self, from: ReplicaKey, granted: bool) {
        let is_voter = self.voters().iter().any(|voter| self.is_same(from, voter));
        if let Role::Candidate { votes, .. } = &mut self.role
            && is_voter
        {
            votes.insert(from, granted);
            self.count_votes();
        }
    }

    /// The leader wants this replica to lead.
    pub(super) fn handle_timeout_now(&mut self) {
        if self.can_campaign() {
            self.become_candidate(true);
        }
    }
}
