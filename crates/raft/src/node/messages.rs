//! Sorting messages: whose they are, of which epoch, and who handles them.
//!
//! Invariants
//! - A later epoch is adopted before the message is handled, but not because of a question that promises nothing
//!   (`PreVote`, `Announce`, `Read` and answers to them), nor of a candidate that would depose a leader who is heard.
//! - A leader of an earlier epoch is told so: else it would not learn it from a replica that is ahead.
//!
//! Not here: what each kind does (`election`, `follow`, `replicate`, `snapshot`, `membership`, `read`).

use quipu_base::{BrokerId, DirectoryId, LeaderEpoch};
use quipu_env::{Instant, Probe};

use super::{Node, Role};
use crate::{
    message::{Body, Message, MessageError},
    voters::ReplicaKey,
};

/// Who says such things.
enum Kind {
    /// The leader of its epoch.
    Leader,
    /// Members of an epoch to each other.
    Member,
    /// Anybody, at any time.
    Outside,
}

fn kind(body: &Body) -> Kind {
    match body {
        Body::Append { .. } | Body::Heartbeat { .. } | Body::SnapshotChunk { .. } | Body::TimeoutNow => Kind::Leader,
        Body::PreVoteReply { granted: false, .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::Appended { .. }
        | Body::Diverged { .. }
        | Body::HeartbeatReply { .. }
        | Body::Stale
        | Body::SnapshotProgress { .. } => Kind::Member,
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Announce
        | Body::Leader { .. }
        | Body::ObserverRefused
        | Body::Read { .. }
        | Body::ReadReply { .. } => Kind::Outside,
    }
}

impl<P: Probe> Node<P> {
    /// A message came over the connection of node `from`.
    ///
    /// Errors: [`MessageError`], and then the message had no effect; the shell tells people, and may close the connection.
    pub fn handle_message(&mut self, now: Instant, from: BrokerId, message: Message) -> Result<(), MessageError> {
        self.advance(now);
        self.check_addresses(from, &message)?;
        message.check()?;
        let result = self.sort(message);
        self.finish();
        result
    }

    fn check_addresses(&self, from: BrokerId, message: &Message) -> Result<(), MessageError> {
        if message.from.id != from || message.from.id == self.config.replica.id {
            return Err(MessageError::WrongSender(message.from));
        }
        let to = message.to;
        let is_open = message.body == Body::Announce && to.directory == DirectoryId::ZERO;
        if self.is_same(to, self.config.replica) || (is_open && to.id == self.config.replica.id) {
            return Ok(());
        }
        Err(MessageError::WrongReceiver(to))
    }

    fn sort(&mut self, message: Message) -> Result<(), MessageError> {
        let Message { from, epoch, body, .. } = message;
        match kind(&body) {
            Kind::Outside => {
                self.handle_outside(from, body);
                return Ok(());
            }
            Kind::Leader if epoch < self.hard.epoch => {
                self.send(from, Body::Stale);
                return Ok(());
            }
            Kind::Leader => self.follow(from, epoch)?,
            Kind::Member if epoch < self.hard.epoch => {
                if matches!(body, Body::Vote { .. }) {
                    self.send(from, Body::VoteReply { granted: false });
                }
                return Ok(());
            }
            Kind::Member if epoch > self.hard.epoch => {
                if matches!(body, Body::Vote { transfer: false, .. }) && self.heard_leader().is_some() {
                    return Ok(());
                }
                self.become_follower(epoch, None);
            }
            Kind::Member => {}
        }
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.peers.get_mut(&from)
        {
            progress.heard = self.now;
        }
        self.handle_inside(from, body)
    }

    /// Takes `leader` for the leader of `epoch`, which is not an earlier one.
    fn follow(&mut self, leader: ReplicaKey, epoch: LeaderEpoch) -> Result<(), MessageError> {
        if epoch == self.hard.epoch
            && let Some(known) = self.leader.filter(|known| *known != leader)
        {
            return Err(MessageError::TwoLeaders { epoch, known, other: leader });
        }
        self.become_follower(epoch, Some(leader));
        self.heard = self.now;
        Ok(())
    }

    fn handle_outside(&mut self, from: ReplicaKey, body: Body) {
        match body {
            Body::PreVote { next_epoch, log } => self.handle_pre_vote(from, next_epoch, log),
            Body::PreVoteReply { next_epoch, granted, leader } => {
                self.handle_pre_vote_reply(from, next_epoch, granted, leader);
            }
            Body::Announce => self.handle_announce(from),
            Body::Leader { leader } => self.handle_leader_told(leader),
            Body::Read { context } => self.handle_read(from, context),
            Body::ReadReply { context, offset } => self.handle_read_reply(context, offset),
            // An observer asks again in any case.
            _ => {}
        }
    }

    fn handle_inside(&mut self, from: ReplicaKey, body: Body) -> Result<(), MessageError> {
        match body {
            Body::PreVoteReply { next_epoch, granted, leader } => {
                self.handle_pre_vote_reply(from, next_epoch, granted, leader);
            }
            Body::Vote { log, .. } => self.handle_vote(from, log),
            Body::VoteReply { granted } => self.handle_vote_reply(from, granted),
            Body::Append { start, entries, high_watermark } => {
                self.handle_append(from, start, entries, high_watermark)?;
            }
            Body::Heartbeat { round, high_watermark } => self.handle_heartbeat(from, round, high_watermark),
            Body::SnapshotChunk { snapshot, position, bytes } => self.handle_chunk(from, snapshot, position, bytes),
            Body::TimeoutNow => self.handle_timeout_now(),
            Body::Appended { matched } => self.handle_appended(from, matched)?,
            Body::Diverged { at, hint } => self.handle_diverged(from, at, hint),
            Body::HeartbeatReply { round } => self.handle_heartbeat_reply(from, round),
            Body::SnapshotProgress { snapshot, position } => self.handle_snapshot_progress(from, snapshot, position),
            // A later epoch than this replica's was all that it could say.
            _ => {}
        }
        Ok(())
    }
}
