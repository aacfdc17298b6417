//! Damage, and disks that are not what they were: a replica that does not count until it is rebuilt.
//!
//! ```text
//! sound -> faulty   at the start: the mark on the disk; a directory that is not the one in C, with a log that was never labelled
//!                   there; a stored broker epoch older than the last unfenced one; damaged ranges. While running: damage; an unclean election it had no part in.
//! faulty -> sound   every damaged range fetched again and synced, and an append stamped with this incarnation has brought the log
//!                   to the leader's end and log start (`follow`)
//! ```
//!
//! A replica that starts faulty answers nobody before it has read the metadata with a barrier begun after its registration, and
//! has promised the leader epoch read: it may have lost a promise. A faulty replica promises, but neither acknowledges nor counts
//! towards a seal.
//!
//! Invariants
//! - The mark is synced before the node's new broker epoch is stored ([`Replica::is_marked`]), so that a second start is not taken in.
//! - Damaged ranges lie within the log.
//!
//! Not here: finding damage, which storage does. Read `elect` next.

use core::ops::Range;

use quipu_base::{BrokerEpoch, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use super::{Replica, writes::step};
use crate::{
    effect::{Effect, GiveUp, Write, WriteId},
    limits::DAMAGED_RANGES_MAX,
    message::{Message, Piece},
    partition::PartitionState,
    refusal::{Malformed, Refusal, RequestError},
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Barrier {
    /// It became faulty while running: its promise is what it was.
    NotNeeded,
    Wanted,
    /// Passed once this step is synced.
    Promising(WriteId),
}

/// Why and how far a replica is not to be counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Suspicion {
    barrier: Barrier,
    damaged: Vec<Range<Offset>>,
    /// When the leader is asked again for what is missing: it may believe that nothing is.
    greet_at: Instant,
    /// When the mark and the barrier are tried again, after the disk refused a write.
    again_at: Option<Instant>,
}

impl Suspicion {
    pub(super) fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// The log was changed by `write`: what is gone is not damaged any more.
    pub(super) fn follow(&mut self, write: &Write) {
        if write.begin_anew.is_some() {
            self.damaged.clear();
        }
        let end = write.truncate.unwrap_or(Offset(i64::MAX));
        let start = write.log_start.unwrap_or(Offset::ZERO);
        for range in &mut self.damaged {
            *range = range.start.max(start)..range.end.min(end);
        }
        self.damaged.retain(|range| !range.is_empty());
    }

    fn add(&mut self, range: Range<Offset>) {
        if range.is_empty() || self.damaged.contains(&range) {
            return;
        }
        self.damaged.push(range);
        self.damaged.sort_unstable_by_key(|range| range.start);
        if self.damaged.len() > DAMAGED_RANGES_MAX {
            let start = self.damaged[0].start;
            let end = self.damaged.iter().map(|range| range.end).max().unwrap_or(start);
            self.damaged = Vec::from([start..end]);
        }
    }

    fn remove(&mut self, repaired: &Range<Offset>) {
        let parts = |range: &Range<Offset>| {
            let before = range.start..range.end.min(repaired.start);
            let after = range.start.max(repaired.end)..range.end;
            if range.end <= repaired.start || repaired.end <= range.start {
                [range.clone(), range.end..range.end]
            } else {
                [before, after]
            }
        };
        self.damaged = self.damaged.iter().flat_map(parts).filter(|range| !range.is_empty()).collect();
    }
}

impl<P: Probe> Replica<P> {
    pub(super) fn on_registered(&mut self, broker_epoch: BrokerEpoch, last_unfenced: Option<BrokerEpoch>) {
        if self.incarnation.is_some() {
            return;
        }
        let stored = self.identity.stored_incarnation;
        self.incarnation = Some(if self.probe.planted("replication.incarnation-from-disk") {
            stored.map_or(BrokerEpoch(0), |stored| BrokerEpoch(stored.0.saturating_add(1)))
        } else {
            broker_epoch
        });
        let is_stale = last_unfenced.is_some_and(|unfenced| stored.is_none_or(|stored| stored < unfenced));
        if is_stale && !self.probe.planted("replication.restored-trusted") {
            self.probe.sometimes("replication.stale-disk");
            self.suspect_at_start();
        }
        if self.suspicion.as_ref().is_some_and(|suspicion| suspicion.barrier == Barrier::Wanted) {
            self.effects.push(Effect::ReadBarrier);
        }
        if self.high_watermark < self.log.log_end
            && !self.is_faulty()
            && self.probe.planted("replication.truncated-to-high-watermark")
        {
            self.write(Write { truncate: Some(self.high_watermark), ..step() });
        }
    }

    pub(super) fn on_barrier(&mut self, now: Instant, record: PartitionState) -> Result<(), Refusal> {
        let is_wanted = self.suspicion.as_ref().is_some_and(|suspicion| suspicion.barrier == Barrier::Wanted);
        if self.incarnation.is_none() || !is_wanted {
            return Ok(());
        }
        record.check().map_err(Refusal::Record)?;
        let raises = !self.probe.planted("replication.damaged-promise-kept");
        let promise = if raises { self.promised.max(record.leader_epoch) } else { self.promised };
        if promise > self.promised {
            self.probe.sometimes("replication.lost-promise-raised");
        }
        self.write(Write { promise: Some(promise), faulty: Some(true), ..step() });
        let promising = self.last_write;
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.barrier = Barrier::Promising(promising);
        }
        self.on_record(now, record)
    }

    /// Whether a barrier, if one is needed, is passed.
    pub(super) fn is_behind_barrier(&self) -> bool {
        match self.suspicion.as_ref().map(|suspicion| suspicion.barrier) {
            None | Some(Barrier::NotNeeded) => true,
            Some(Barrier::Wanted) => false,
            Some(Barrier::Promising(id)) => self.is_written(id),
        }
    }

    /// A replica that starts faulty.
    pub(super) fn suspect_at_start(&mut self) {
        let is_new = self.suspicion.is_none();
        self.suspect(Barrier::Wanted);
        if is_new && self.incarnation.is_some() {
            self.effects.push(Effect::ReadBarrier);
        }
    }

    pub(super) fn suspect_running(&mut self) {
        self.suspect(Barrier::NotNeeded);
    }

    fn suspect(&mut self, barrier: Barrier) {
        if self.suspicion.is_some() {
            return;
        }
        self.suspicion = Some(Suspicion { barrier, damaged: Vec::new(), greet_at: Instant::ZERO, again_at: None });
        self.effects.push(Effect::BecameFaulty);
        if !self.synced.is_faulty {
            self.write(Write { faulty: Some(true), ..step() });
        }
    }

    /// Whether the record counts this node with another directory.
    fn counts_other_disk(&self, record: &PartitionState) -> bool {
        let own = self.identity.member;
        record.configuration.member_on(own.node).is_some_and(|member| member.directory_id != own.directory_id)
    }

    /// What the partition's record says about this disk.
    pub(super) fn suspect_record(&mut self) {
        let Some(record) = &self.record else { return };
        let own = self.identity.member;
        let counted = record.configuration.member_on(own.node);
        // A log that was labelled on this disk was made whole there: the leader only has not taken the directory in yet, or the record
        // is older than that.
        if !self.is_serving && self.label == LeaderEpoch::NONE && self.counts_other_disk(record) {
            self.probe.sometimes("replication.other-directory");
            self.suspect_at_start();
        } else if self.label < record.unclean_epoch && counted != Some(own) {
            self.probe.sometimes("replication.left-out-of-unclean-election");
            self.suspect_running();
        }
    }

    pub(super) fn find_damage_at_start(&mut self, range: Range<Offset>) {
        if self.probe.planted("replication.damage-truncated") {
            return self.truncate_damage(&range);
        }
        self.suspect_at_start();
        self.note_damage(range);
    }

    pub(super) fn on_damage(&mut self, now: Instant, range: Range<Offset>) {
        if self.probe.planted("replication.damage-truncated") {
            return self.truncate_damage(&range);
        }
        if range.end <= self.log.log_start {
            return;
        }
        self.probe.sometimes("replication.damage-found");
        let had_role = self.role_epoch().is_some();
        self.step_down(RequestError::Storage);
        self.suspect_running();
        self.note_damage(range);
        if had_role {
            self.decline(now, GiveUp::CannotLead);
        }
        self.consider_leading(now);
    }

    fn note_damage(&mut self, range: Range<Offset>) {
        let inside = range.start.max(self.log.log_start)..range.end.min(self.log.log_end);
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.add(inside);
        }
    }

    /// The planted bug: damage is cut off as if it had never been there.
    fn truncate_damage(&mut self, range: &Range<Offset>) {
        self.step_down(RequestError::Storage);
        let end = range.start.max(self.log.log_start);
        if end < self.log.log_end {
            self.high_watermark = self.high_watermark.min(end);
            self.matched.end = self.matched.end.min(end);
            self.write(Write { truncate: Some(end), ..step() });
        }
    }

    /// When a suspect replica has something to try again.
    pub(super) fn next_greeting(&self) -> Option<Instant> {
        let suspicion = self.suspicion.as_ref()?;
        let greet_at = self.may_answer().then_some(suspicion.greet_at);
        greet_at.into_iter().chain(suspicion.again_at).min()
    }

    /// The disk has refused the mark or the promise, perhaps.
    pub(super) fn suspect_again_later(&mut self, now: Instant) {
        let again = now + self.settings.ask_again_after;
        if let Some(suspicion) = &mut self.suspicion {
            if matches!(suspicion.barrier, Barrier::Promising(_)) {
                suspicion.barrier = Barrier::Wanted;
            }
            suspicion.again_at = Some(again);
        }
    }

    fn suspect_again(&mut self, now: Instant) {
        let Some(suspicion) = &mut self.suspicion else { return };
        if suspicion.again_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let wants_barrier = suspicion.barrier == Barrier::Wanted;
        if !self.synced.is_faulty && self.under_way.is_empty() {
            self.write(Write { faulty: Some(true), ..step() });
        }
        if wants_barrier && self.incarnation.is_some() {
            self.effects.push(Effect::ReadBarrier);
        }
    }

    /// A faulty replica does not rest before it is whole.
    pub(super) fn greet_again(&mut self, now: Instant) {
        self.suspect_again(now);
        let again = now + self.settings.resend_after;
        let is_due = self.may_answer() && self.suspicion.as_ref().is_some_and(|suspicion| suspicion.greet_at <= now);
        if let Some(suspicion) = &mut self.suspicion
            && is_due
        {
            suspicion.greet_at = again;
            self.greet_leader();
        }
    }

    /// Asks the leader for the first damaged range that is proven to be the leader's.
    pub(super) fn request_repair(&mut self, leader: quipu_base::BrokerId) {
        let Some(suspicion) = &self.suspicion else { return };
        let end = self.matched.end;
        let Some(range) = suspicion.damaged.iter().find(|range| range.start < end) else { return };
        let message = Message::PieceRequest { epoch: self.matched.epoch, start: range.start, end: range.end.min(end) };
        self.send(leader, message);
    }

    pub(super) fn repair(&mut self, piece: &Piece) -> Result<(), Refusal> {
        let Some(suspicion) = &self.suspicion else { return Ok(()) };
        let is_wanted = suspicion.damaged.iter().any(|range| range.start <= piece.start && piece.end <= range.end);
        if !is_wanted || self.matched.epoch != piece.epoch || self.matched.end < piece.end {
            return Ok(());
        }
        if self.log.epochs.first_difference(&piece.epochs, piece.start, piece.end).is_some() {
            return Err(Refusal::Malformed(Malformed::Epochs));
        }
        self.write(Write { repair: Some(piece.start..piece.end), ..step() });
        Ok(())
    }

    pub(super) fn on_repaired(&mut self, range: &Range<Offset>) {
        let Some(suspicion) = &mut self.suspicion else { return };
        suspicion.remove(range);
        self.probe.sometimes("replication.range-repaired");
        // Goes on with the next range, or wants the append that clears it.
        self.greet_leader();
    }
}
