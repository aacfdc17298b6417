//! Leading: records in, acknowledgements counted, the high watermark, clients answered.
//!
//! Invariants
//! - The high watermark is the Q-th largest synced matched end of C; while a change is pending, of both configurations.
//! - Q is the record's, never computed here.
//! - The own disk counts like any other: what Q others have synced is committed.
//! - A request is answered once.
//!
//! Not here: who is sent what (`peers`), configurations (`change`). Read `change` next.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use quipu_base::{BrokerId, Offset};
use quipu_env::{Instant, Probe};

use super::{Replica, Role, change::Pending, peers::Peer, writes::step};
use crate::{
    effect::{Effect, GiveUp, Reply, Source, Write},
    epochs::EpochTable,
    event::{Acks, BatchShape, RequestId},
    limits::{COMMIT_TIMEOUT, HIGH_WATERMARK_PUSH_DELAY, WAITING_REQUESTS_MAX},
    partition::{Configuration, Member},
    refusal::RequestError,
};

/// A produce request that waits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Produced {
    id: RequestId,
    base: Offset,
    end: Offset,
    acks: Acks,
    deadline: Instant,
}

/// A delete request that waits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Deleted {
    id: RequestId,
    before: Offset,
    deadline: Instant,
}

/// An active leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leader {
    pub(super) epoch_start: Offset,
    pub(super) peers: BTreeMap<BrokerId, Peer>,
    pub(super) pending: Option<Pending>,
    /// When lag is to be looked at again.
    pub(super) lag_check_at: Option<Instant>,
    /// When to ask again for another leader, because this one is to be removed.
    pub(super) move_at: Option<Instant>,
    produced: VecDeque<Produced>,
    deleted: VecDeque<Deleted>,
    /// No request's deadline is earlier.
    earliest_deadline: Option<Instant>,
    push_at: Option<Instant>,
    /// When not having committed is reason to give up.
    give_up_at: Option<Instant>,
}

impl Leader {
    pub(super) fn new(now: Instant, epoch_start: Offset) -> Self {
        Self {
            epoch_start,
            peers: BTreeMap::new(),
            pending: None,
            lag_check_at: None,
            move_at: None,
            produced: VecDeque::new(),
            deleted: VecDeque::new(),
            earliest_deadline: None,
            push_at: None,
            give_up_at: Some(now + COMMIT_TIMEOUT),
        }
    }

    pub(super) fn fail_all(&self, error: RequestError, effects: &mut Vec<Effect>) {
        let ids = self.produced.iter().map(|request| request.id).chain(self.deleted.iter().map(|request| request.id));
        effects.extend(ids.map(|id| Effect::Reply { id, reply: Reply::Failed(error) }));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let resend = self.peers.values().filter_map(|peer| peer.resend_at).min();
        let confirm = self.peers.values().filter_map(|peer| peer.confirm_at.map(|(at, _)| at)).min();
        let ask = self.pending.as_ref().map(|pending| pending.ask_at);
        let all = [
            self.earliest_deadline,
            self.push_at,
            self.give_up_at,
            self.lag_check_at,
            self.move_at,
            resend,
            confirm,
            ask,
        ];
        all.into_iter().flatten().min()
    }

    /// Whether the follower on `node` has the whole log, or had it within the lag bound.
    pub(super) fn is_within_lag<P>(&self, replica: &Replica<P>, node: BrokerId, now: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| {
            let has_all = peer.acknowledged().is_some_and(|(_, progress)| progress.end >= replica.log.log_end);
            has_all || now.since(peer.caught_up_at) < replica.settings.lag_time_max
        })
    }

    /// Reached by Q members of the configuration in force and, while a change is pending, by Q of the wanted one.
    fn reached<T: Ord + Copy>(
        &self,
        in_force: &Configuration,
        quorum: usize,
        is_joint: bool,
        reached: impl Fn(Member) -> Option<T>,
    ) -> Option<T> {
        let value = in_force.reached_by_quorum(quorum, &reached)?;
        match &self.pending {
            Some(pending) if is_joint => {
                let wanted = &pending.configuration;
                Some(value.min(wanted.reached_by_quorum(wanted.quorum, &reached)?))
            }
            _ => Some(value),
        }
    }

    fn note_deadline(&mut self, deadline: Instant) {
        self.earliest_deadline = Some(self.earliest_deadline.map_or(deadline, |earliest| earliest.min(deadline)));
    }
}

impl<P: Probe> Replica<P> {
    pub(super) fn on_produce(
        &mut self,
        now: Instant,
        id: RequestId,
        batches: &[BatchShape],
        acks: Acks,
        deadline: Instant,
    ) {
        let (base, end) = match self.check_produce(batches, acks) {
            Ok(range) => range,
            Err(error) => {
                if acks != Acks::None {
                    self.effects.push(Effect::Reply { id, reply: Reply::Failed(error) });
                }
                return;
            }
        };
        let resend_at = now + self.settings.resend_after;
        let Role::Leader(leader) = &mut self.role else { return };
        if acks != Acks::None {
            leader.produced.push_back(Produced { id, base, end, acks, deadline });
            leader.note_deadline(deadline);
        }
        let is_first = leader.give_up_at.is_none();
        if is_first {
            leader.give_up_at = Some(now + COMMIT_TIMEOUT);
        }
        for peer in leader.peers.values_mut() {
            peer.before_append(now, base, resend_at);
        }
        if leader.lag_check_at.is_none() {
            leader.lag_check_at = Some(now + self.settings.lag_time_max);
        }
        let mut epochs = EpochTable::default();
        epochs.assign(self.promised, base);
        self.write(Write { append: Some((Source::Request, base..end)), epochs, ..step() });
        self.send_to_all(now, false);
    }

    fn check_produce(&self, batches: &[BatchShape], acks: Acks) -> Result<(Offset, Offset), RequestError> {
        let Role::Leader(leader) = &self.role else { return Err(RequestError::NotLeader) };
        let Some(record) = &self.record else { return Err(RequestError::NotLeader) };
        if leader.produced.len() >= WAITING_REQUESTS_MAX || self.under_way.len() >= crate::limits::WRITES_IN_FLIGHT_MAX
        {
            return Err(RequestError::Overloaded);
        }
        let configuration = &record.configuration;
        let own = self.identity.member;
        let is_alive = |member: &&Member| **member == own || self.is_live(**member);
        let alive = configuration.members.iter().filter(is_alive).count();
        if acks == Acks::All && alive < configuration.quorum {
            return Err(RequestError::NotEnoughReplicas);
        }
        let base = self.log.log_end;
        let add =
            |end: Offset, batch: &BatchShape| end.checked_add(batch.record_count).filter(|_| batch.record_count > 0);
        let end = batches.iter().try_fold(base, add).filter(|end| *end > base).ok_or(RequestError::Invalid)?;
        Ok((base, end))
    }

    pub(super) fn on_delete_records(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        before: Option<Offset>,
        deadline: Instant,
    ) {
        let before = before.unwrap_or(self.high_watermark);
        let checked = match &self.role {
            Role::Leader(leader) if leader.deleted.len() >= WAITING_REQUESTS_MAX => Err(RequestError::Overloaded),
            Role::Leader(_) if before > self.high_watermark || before < Offset::ZERO => {
                Err(RequestError::OffsetOutOfRange)
            }
            Role::Leader(_) => Ok(()),
            _ => Err(RequestError::NotLeader),
        };
        if let Err(error) = checked {
            if let Some(id) = id {
                self.effects.push(Effect::Reply { id, reply: Reply::Failed(error) });
            }
            return;
        }
        if let Role::Leader(leader) = &mut self.role
            && let Some(id) = id
        {
            leader.deleted.push_back(Deleted { id, before, deadline });
            leader.note_deadline(deadline);
        }
        self.raise_log_start(now, before);
        self.answer_deleted();
    }

    /// Deletes below `to` here and everywhere. Also for what an earlier leader began to delete and this one hears of late: it was
    /// asked for, and replicas are to become equal.
    pub(super) fn raise_log_start(&mut self, now: Instant, to: Offset) {
        let leads = matches!(self.role, Role::Leader(_));
        if leads && to > self.log.log_start && to <= self.high_watermark {
            self.write(Write { log_start: Some(to), ..step() });
            self.send_to_all(now, true);
        }
    }

    pub(super) fn leader_on_synced(&mut self, now: Instant) {
        if matches!(self.role, Role::Leader(_)) {
            self.after_acknowledgement(now);
        }
    }

    /// Something was synced, here or there.
    pub(super) fn after_acknowledgement(&mut self, now: Instant) {
        self.advance_commit(now);
        self.answer_deleted();
        self.consider_change(now);
    }

    /// Moves the high watermark as far as Q members allow, and answers who waits for it.
    pub(super) fn advance_commit(&mut self, now: Instant) {
        let (own, mut synced) = (self.identity.member, self.synced);
        if self.probe.planted("replication.own-unsynced") {
            synced = self.as_written();
        }
        let Role::Leader(leader) = &self.role else { return };
        let Some(record) = &self.record else { return };
        let ends = |member: Member| {
            if member == own {
                return (synced.label == self.promised).then_some(synced.log_end);
            }
            leader.peers.get(&member.node)?.acknowledged_as(member).map(|progress| progress.end)
        };
        let is_joint = !self.probe.planted("replication.no-joint-quorum");
        let committed = leader.reached(&record.configuration, self.commit_quorum(), is_joint, ends);
        let before = self.high_watermark;
        if let Some(committed) = committed {
            self.raise_high_watermark(committed);
        }
        let (high_watermark, log_end, synced_end) = (self.high_watermark, self.log.log_end, synced.log_end);
        let Role::Leader(leader) = &mut self.role else { return };
        if high_watermark > before {
            leader.push_at.get_or_insert(now + HIGH_WATERMARK_PUSH_DELAY);
            leader.give_up_at = Some(now + COMMIT_TIMEOUT);
        }
        if high_watermark >= log_end {
            leader.give_up_at = None;
        }
        let is_kept = |request: &Produced| match request.acks {
            Acks::All => high_watermark >= request.end,
            Acks::Leader | Acks::None => synced_end >= request.end,
        };
        leader.produced.retain(|request| {
            let kept = is_kept(request);
            if kept {
                let reply = Reply::Produced { base_offset: request.base };
                self.effects.push(Effect::Reply { id: request.id, reply });
            }
            !kept
        });
    }

    /// Q as the record has it.
    fn commit_quorum(&self) -> usize {
        let Some(record) = &self.record else { return usize::MAX };
        if self.probe.planted("replication.commit-by-one") {
            return 1;
        }
        if self.probe.planted("replication.quorum-from-live-config") {
            let majority = record.configuration.members.len() / 2 + 1;
            return self.insync_replicas_min.min(record.replication_factor).max(majority);
        }
        record.configuration.quorum
    }

    /// Answers the delete requests whose log start is synced by Q members.
    fn answer_deleted(&mut self) {
        let (own, synced) = (self.identity.member, self.synced);
        let Role::Leader(leader) = &self.role else { return };
        if leader.deleted.is_empty() {
            return;
        }
        let Some(record) = &self.record else { return };
        let starts = |member: Member| {
            if member == own {
                return (synced.label == self.promised).then_some(synced.log_start);
            }
            leader.peers.get(&member.node)?.acknowledged_as(member).map(|progress| progress.log_start)
        };
        let is_joint = !self.probe.planted("replication.delete-without-joint-quorum");
        let reached = leader.reached(&record.configuration, self.commit_quorum(), is_joint, starts);
        let log_start = self.log.log_start;
        let Some(reached) = reached else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        leader.deleted.retain(|request| {
            let kept = reached >= request.before;
            if kept {
                self.effects.push(Effect::Reply { id: request.id, reply: Reply::Deleted { log_start } });
            }
            !kept
        });
    }

    pub(super) fn leader_on_deadline(&mut self, now: Instant) {
        self.time_out_requests(now);
        self.resend(now);
        self.confirm(now);
        let Role::Leader(leader) = &mut self.role else { return };
        let pushes = leader.push_at.take_if(|at| *at <= now).is_some();
        let checks_lag = leader.lag_check_at.take_if(|at| *at <= now).is_some();
        let gives_up = leader.give_up_at.take_if(|at| *at <= now).is_some();
        if pushes {
            self.push_high_watermark(now);
        }
        if gives_up {
            self.give_up_if_others_could(now);
        }
        self.ask_again(now);
        if checks_lag || self.is_moving_due(now) {
            self.consider_change(now);
        }
    }

    fn is_moving_due(&mut self, now: Instant) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        leader.move_at.take_if(|at| *at <= now).is_some()
    }

    /// Not able to commit, though the controller sees Q members alive.
    fn give_up_if_others_could(&mut self, now: Instant) {
        let again: Duration = self.settings.ask_again_after;
        let has_quorum = self.record.as_ref().is_some_and(|record| {
            let members = &record.configuration.members;
            members.iter().filter(|member| self.is_live(**member)).count() >= record.configuration.quorum
        });
        if let Role::Leader(leader) = &mut self.role {
            leader.give_up_at = Some(now + again);
        }
        if has_quorum {
            self.probe.sometimes("replication.cannot-commit");
            self.give_up(GiveUp::CannotCommit);
        }
    }

    fn time_out_requests(&mut self, now: Instant) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.earliest_deadline.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut timed_out = Vec::new();
        let mut waits = |id: RequestId, deadline: Instant| {
            if deadline <= now {
                timed_out.push(id);
            }
            deadline > now
        };
        leader.produced.retain(|request| waits(request.id, request.deadline));
        leader.deleted.retain(|request| waits(request.id, request.deadline));
        let left = leader.produced.iter().map(|request| request.deadline);
        leader.earliest_deadline = left.chain(leader.deleted.iter().map(|request| request.deadline)).min();
        let failed = |id| Effect::Reply { id, reply: Reply::Failed(RequestError::TimedOut) };
        self.effects.extend(timed_out.into_iter().map(failed));
    }
}
