//! Becoming leader: seal, adopt the greatest log, activate.
//!
//! ```text
//! elected in e        promise e, own log synced; Seal(e) to every other member
//! S sound reports     the greatest by (label, log end) is the log to adopt, own report included
//! own one             the last step: cut what lies beyond, label e, greatest log start
//! another's           pieces from there, under the old label; refused: its report is dropped, S counted again
//! last step synced    active: epoch start = log end
//! ```
//!
//! Invariants
//! - A faulty member's report, or one under another directory id, never counts.
//! - The own report is always the present state: pieces adopted change it.
//! - Nothing leads in an epoch that it had promised before it was elected in it.
//!
//! Not here: what an active leader does (`lead`).

use std::collections::BTreeMap;

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use super::{Replica, Role, lead::Leader, writes::step};
use crate::{
    effect::{Ask, Effect, GiveUp, Source, Write, WriteId},
    epochs::EpochTable,
    event::Verdict,
    limits::{ACTIVATION_TIMEOUT, ADOPTION_BYTES_MAX},
    message::{Message, Piece, Report},
    partition::{Member, PartitionState, Sender},
    refusal::{Refusal, RequestError},
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Reported {
    sender: Sender,
    report: Report,
    /// With a planted bug: the source has refused a piece and counts all the same.
    is_lost: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Waits for the own promise, and for reports.
    Sealing,
    /// Copies this member's log.
    Adopting { source: Member, next: Offset, end: Offset },
    /// Has asked for the best reporter to lead instead.
    Offering { source: Member },
    /// The last step is under way.
    Labelling { step: WriteId, high_watermark: Offset },
}

/// An elected replica that is not active yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Candidate {
    phase: Phase,
    reports: BTreeMap<BrokerId, Reported>,
    /// The controller wants this one all the same.
    has_offered: bool,
    pub(super) resend_at: Instant,
    pub(super) give_up_at: Instant,
}

/// A log's place in the order of logs, and whose it is.
type Rank = (LeaderEpoch, Offset);

impl<P: Probe> Replica<P> {
    /// Becomes a candidate if the metadata says so and nothing speaks against it.
    pub(super) fn consider_leading(&mut self, now: Instant) {
        let Some(record) = &self.record else { return };
        let own = self.identity.member;
        if record.leader != Some(own.node) || !self.is_serving || self.role_epoch() == Some(record.leader_epoch) {
            return;
        }
        let epoch = record.leader_epoch;
        let is_new =
            epoch > self.promised || (epoch == self.promised && self.probe.planted("replication.same-epoch-resume"));
        let counts = record.configuration.member_on(own.node) == Some(own) && !self.is_faulty();
        if epoch < self.promised {
            // The metadata will tell of the epoch promised.
            return;
        }
        if !is_new || !counts {
            return self.decline(now, GiveUp::CannotLead);
        }
        self.step_down(RequestError::NotLeader);
        self.role = Role::Candidate(Box::new(Candidate {
            phase: Phase::Sealing,
            reports: BTreeMap::new(),
            has_offered: false,
            resend_at: now + self.settings.resend_after,
            give_up_at: now + ACTIVATION_TIMEOUT,
        }));
        self.write(Write { promise: Some(epoch), ..step() });
        self.send_seals();
    }

    /// The metadata has it lead, and it cannot. Says so until the metadata has changed.
    pub(super) fn decline(&mut self, now: Instant, reason: GiveUp) {
        if self.decline_at.is_none_or(|at| at <= now) {
            self.decline_at = Some(now + self.settings.ask_again_after);
            self.probe.sometimes("replication.cannot-lead");
            self.give_up(reason);
        }
    }

    /// To the members that have not reported.
    fn send_seals(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let Some(record) = &self.record else { return };
        let own = self.identity.member.node;
        let epoch = self.promised;
        let missing = |member: &&Member| member.node != own && !candidate.reports.contains_key(&member.node);
        let to: Vec<BrokerId> = record.configuration.members.iter().filter(missing).map(|member| member.node).collect();
        for node in to {
            self.send(node, Message::Seal(epoch));
        }
    }

    pub(super) fn on_report(&mut self, now: Instant, sender: Sender, report: Report) -> Result<(), Refusal> {
        report.check().map_err(Refusal::Malformed)?;
        let epoch = self.promised;
        let Role::Candidate(candidate) = &mut self.role else { return Ok(()) };
        if report.epoch != epoch {
            return Ok(());
        }
        let known = candidate.reports.get(&sender.member.node);
        // A report of an earlier life says nothing of this one; that it is late is no fault of the peer.
        if known.is_some_and(|known| known.sender.incarnation > sender.incarnation) {
            return Ok(());
        }
        candidate.reports.insert(sender.member.node, Reported { sender, report, is_lost: false });
        self.advance_candidate(now);
        Ok(())
    }

    pub(super) fn candidate_on_synced(&mut self, now: Instant) {
        let Role::Candidate(candidate) = &self.role else { return };
        match candidate.phase {
            Phase::Labelling { step, high_watermark } if self.is_written(step) => self.activate(now, high_watermark),
            _ => self.advance_candidate(now),
        }
    }

    /// Goes on as far as the reports allow.
    fn advance_candidate(&mut self, now: Instant) {
        let Role::Candidate(candidate) = &self.role else { return };
        let Some(record) = self.record.clone() else { return };
        if self.synced.promised != self.promised || matches!(candidate.phase, Phase::Labelling { .. }) {
            return;
        }
        if self.probe.planted("replication.no-seal") {
            return self.take_label(now, self.log.log_end);
        }
        let counted = self.counted_reports(candidate, &record);
        // The own one is counted, too, and is the present state.
        let own_count = if self.probe.planted("replication.seal-counted-twice") { 2 } else { 1 };
        if counted.len() + own_count < record.configuration.seal_quorum() {
            return;
        }
        let own = self.rank(self.label, &self.log);
        let best = counted
            .iter()
            .filter(|reported| !reported.is_lost && !self.probe.planted("replication.adoption-skipped"))
            .max_by_key(|reported| self.rank(reported.report.label, &reported.report.log));
        let Some(best) = best.filter(|best| self.rank(best.report.label, &best.report.log) > own) else {
            return self.take_label(now, self.log.log_end);
        };
        let (source, log) = (best.sender.member, best.report.log.clone());
        match candidate.phase {
            Phase::Adopting { source: current, .. } | Phase::Offering { source: current } if current == source => {}
            _ => self.begin_adoption(now, source, &log),
        }
    }

    /// The sound reports of members.
    fn counted_reports(&self, candidate: &Candidate, record: &PartitionState) -> Vec<Reported> {
        let trusts_all = self.probe.planted("replication.wiped-counted");
        let counts = |reported: &&Reported| {
            let is_member = record.configuration.members.contains(&reported.sender.member);
            (is_member && !reported.report.is_faulty) || trusts_all
        };
        candidate.reports.values().filter(counts).cloned().collect()
    }

    fn rank(&self, label: LeaderEpoch, log: &crate::epochs::LogShape) -> Rank {
        if self.probe.planted("replication.compare-by-last-epoch") {
            (log.epochs.latest(), log.log_end)
        } else {
            (label, log.log_end)
        }
    }

    fn begin_adoption(&mut self, now: Instant, source: Member, log: &crate::epochs::LogShape) {
        let next = self.log.common_end(log).max(self.log.log_start);
        // What the source has deleted can't be had; what this one has deleted was committed.
        let is_below = self.log.log_end < log.log_start || next < log.log_start;
        let next = if is_below { log.log_start } else { next };
        if next > log.log_end || (next < self.high_watermark && !self.may_lose_committed()) {
            self.probe.sometimes("replication.committed-records-missing");
            return self.abandon(now);
        }
        self.probe.sometimes("replication.adoption");
        if is_below {
            self.write(Write { begin_anew: Some(next), ..step() });
        }
        let end = log.log_end;
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.phase = Phase::Adopting { source, next, end };
        }
        self.go_on_adopting(now);
    }

    fn go_on_adopting(&mut self, now: Instant) {
        let epoch = self.promised;
        let resend_at = now + self.settings.resend_after;
        let Role::Candidate(candidate) = &mut self.role else { return };
        let Phase::Adopting { source, next, end } = candidate.phase else { return };
        if next >= end {
            return self.take_label(now, end);
        }
        candidate.resend_at = resend_at;
        self.send(source.node, Message::PieceRequest { epoch, start: next, end });
    }

    pub(super) fn on_piece(&mut self, now: Instant, sender: Sender, piece: &Piece) -> Result<(), Refusal> {
        piece.check().map_err(Refusal::Malformed)?;
        if piece.epoch != self.promised {
            return Ok(());
        }
        match &self.role {
            Role::Follower => self.repair(piece),
            Role::Leader(_) => Ok(()),
            Role::Candidate(_) => self.adopt_piece(now, sender, piece),
        }
    }

    fn adopt_piece(&mut self, now: Instant, sender: Sender, piece: &Piece) -> Result<(), Refusal> {
        let Role::Candidate(candidate) = &mut self.role else { return Ok(()) };
        let Phase::Adopting { source, next, end } = candidate.phase else { return Ok(()) };
        if source != sender.member || piece.start != next || piece.end > end {
            return Ok(());
        }
        if piece.wanted_bytes > ADOPTION_BYTES_MAX && !candidate.has_offered {
            self.probe.sometimes("replication.better-leader");
            candidate.has_offered = true;
            candidate.phase = Phase::Offering { source };
            candidate.resend_at = now + self.settings.ask_again_after;
            let ask = Ask::Prefer { epoch: self.promised, reporter: source };
            self.effects.push(Effect::AskController(ask));
            return Ok(());
        }
        candidate.phase = Phase::Adopting { source, next: piece.end, end };
        // It is getting on: a long copy that the controller wants is no reason to give up.
        candidate.give_up_at = candidate.give_up_at.max(now + ACTIVATION_TIMEOUT);
        let truncate = (self.log.log_end > next).then_some(next);
        let epochs: EpochTable = piece.epochs.clone();
        self.write(Write { truncate, append: Some((Source::Message, next..piece.end)), epochs, ..step() });
        self.go_on_adopting(now);
        Ok(())
    }

    pub(super) fn on_piece_refused(&mut self, now: Instant, sender: Sender, epoch: LeaderEpoch) {
        if epoch != self.promised {
            return;
        }
        let counts_lost = self.probe.planted("replication.lost-source-counted");
        let Role::Candidate(candidate) = &mut self.role else { return };
        let adopts_it = matches!(candidate.phase, Phase::Adopting { source, .. } if source == sender.member);
        if !adopts_it {
            return;
        }
        self.probe.sometimes("replication.source-lost");
        candidate.phase = Phase::Sealing;
        if counts_lost {
            if let Some(reported) = candidate.reports.get_mut(&sender.member.node) {
                reported.is_lost = true;
            }
        } else {
            candidate.reports.remove(&sender.member.node);
        }
        self.advance_candidate(now);
    }

    /// The last step: the log ends at `end`, is labelled, and begins at the greatest log start reported.
    fn take_label(&mut self, now: Instant, end: Offset) {
        let Role::Candidate(candidate) = &self.role else { return };
        let Some(record) = &self.record else { return };
        let counted = self.counted_reports(candidate, record);
        let forgets = self.probe.planted("replication.delete-forgotten-by-seal");
        let starts = counted.iter().map(|reported| reported.report.log.log_start).filter(|_| !forgets);
        let log_start = starts.fold(self.log.log_start, Offset::max);
        let marks = counted.iter().map(|reported| reported.report.high_watermark);
        let high_watermark = marks.fold(self.high_watermark, Offset::max);
        if high_watermark.max(log_start) > end && !self.may_lose_committed() {
            self.probe.sometimes("replication.committed-records-missing");
            return self.abandon(now);
        }
        self.write(Write {
            truncate: (self.log.log_end > end).then_some(end),
            label: Some(self.promised),
            log_start: Some(log_start.min(end)).filter(|start| *start > self.log.log_start),
            ..step()
        });
        let step = self.last_write;
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.phase = Phase::Labelling { step, high_watermark: high_watermark.min(end) };
        }
    }

    /// An unclean election gives up what only the others have.
    fn may_lose_committed(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.unclean_epoch == record.leader_epoch)
    }

    fn abandon(&mut self, now: Instant) {
        self.step_down(RequestError::NotLeader);
        self.decline(now, GiveUp::CommittedRecordsMissing);
    }

    fn activate(&mut self, now: Instant, high_watermark: Offset) {
        let Role::Candidate(candidate) = &self.role else { return };
        let known: BTreeMap<BrokerId, (Option<BrokerEpoch>, Offset)> = candidate
            .reports
            .values()
            .map(|reported| {
                let incarnation = Some(reported.sender.incarnation);
                (reported.sender.member.node, (incarnation, self.next_for(&reported.report.log)))
            })
            .collect();
        let epoch_start = self.log.log_end;
        self.role = Role::Leader(Box::new(Leader::new(now, epoch_start)));
        self.effects.push(Effect::Activated { epoch: self.promised, epoch_start });
        self.raise_high_watermark(high_watermark);
        self.follow_all(now, &known);
        self.advance_commit(now);
    }

    pub(super) fn candidate_on_deadline(&mut self, now: Instant) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.give_up_at <= now {
            candidate.give_up_at = now + self.settings.ask_again_after;
            // Without S members nobody else could activate either.
            let can_another = self.record.as_ref().is_some_and(|record| {
                let members = &record.configuration.members;
                members.iter().filter(|member| self.is_live(**member)).count() >= record.configuration.seal_quorum()
            });
            if can_another {
                self.give_up(GiveUp::NotActive);
            }
        }
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.resend_at > now {
            return;
        }
        candidate.resend_at = now + self.settings.resend_after;
        match candidate.phase {
            Phase::Sealing => self.send_seals(),
            Phase::Adopting { .. } => self.go_on_adopting(now),
            Phase::Offering { source } => {
                let ask = Ask::Prefer { epoch: self.promised, reporter: source };
                self.effects.push(Effect::AskController(ask));
            }
            Phase::Labelling { .. } => {}
        }
    }

    /// The controller wants this one to lead, however long it copies.
    pub(super) fn candidate_on_answer(&mut self, now: Instant, verdict: Verdict) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        if matches!(candidate.phase, Phase::Offering { .. }) && verdict != Verdict::Unavailable {
            candidate.phase = Phase::Sealing;
            self.advance_candidate(now);
        }
    }

    /// A peer wants records: a candidate to adopt, a damaged replica to be repaired.
    pub(super) fn on_piece_request(&mut self, sender: Sender, epoch: LeaderEpoch, start: Offset, end: Offset) {
        let to = sender.member.node;
        let moved_on = epoch != self.promised && !self.probe.planted("replication.piece-from-moved-source");
        let has = self.log.log_start <= start && start < end && end <= self.synced.log_end.min(self.log.log_end);
        if moved_on || self.is_faulty() || !has {
            self.probe.sometimes("replication.piece-refused");
            return self.send(to, Message::PieceRefused { epoch });
        }
        let epochs = self.log.epochs.between(start, end);
        self.send(to, Message::Piece(Piece { epoch, start, end, epochs, wanted_bytes: 0 }));
    }
}
