//! Steps handed to the shell and not yet synced, and what a crash leaves at least.
//!
//! Invariant: `synced` is the state after the last step that was reported synced; a step's state includes those of all steps before
//! it, since they become durable in order.
//!
//! Not here: what the steps are for. Read `follow` next.

use quipu_base::{LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use super::{Owed, Replica};
use crate::{
    effect::{Effect, GiveUp, Write, WriteId},
    epochs::EpochTable,
    event::DurableState,
    message::{Message, Progress},
    refusal::{Refusal, RequestError},
};

/// Up to where this log is proven to match the log of `epoch`'s leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Matched {
    pub(super) epoch: LeaderEpoch,
    pub(super) end: Offset,
}

impl Default for Matched {
    fn default() -> Self {
        Self { epoch: LeaderEpoch::NONE, end: Offset::ZERO }
    }
}

/// The state after a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Synced {
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) promised: LeaderEpoch,
    pub(super) label: LeaderEpoch,
    pub(super) is_faulty: bool,
    pub(super) matched: Matched,
}

impl Default for Synced {
    fn default() -> Self {
        Self {
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            promised: LeaderEpoch::NONE,
            label: LeaderEpoch::NONE,
            is_faulty: false,
            matched: Matched::default(),
        }
    }
}

/// A step under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct UnderWay {
    id: WriteId,
    after: Synced,
    repair: Option<core::ops::Range<Offset>>,
}

/// A step that changes nothing, to be filled in.
pub(super) fn step() -> Write {
    Write {
        id: WriteId(0),
        begin_anew: None,
        truncate: None,
        append: None,
        repair: None,
        epochs: EpochTable::default(),
        log_start: None,
        promise: None,
        label: None,
        faulty: None,
        high_watermark: Offset::ZERO,
    }
}

impl<P: Probe> Replica<P> {
    /// Takes over what the disk holds.
    pub(super) fn adopt_durable(&mut self, state: DurableState) {
        self.log = state.log;
        self.promised = state.promised.max(state.label);
        self.label = state.label;
        self.high_watermark = state.high_watermark.min(self.log.log_end).max(self.log.log_start);
        self.matched = Matched::default();
        self.told = Matched::default();
        self.under_way.clear();
        self.owed = Owed::default();
        self.synced = self.as_written();
        self.synced.is_faulty = state.is_faulty;
    }

    pub(super) fn as_written(&self) -> Synced {
        Synced {
            log_start: self.log.log_start,
            log_end: self.log.log_end,
            promised: self.promised,
            label: self.label,
            is_faulty: self.is_faulty(),
            matched: self.matched,
        }
    }

    /// Carries out a step on the state as written, and hands it to the shell. `self.matched`, the suspicion and the high watermark
    /// have been brought up to date before.
    pub(super) fn write(&mut self, mut write: Write) {
        if let Some(at) = write.begin_anew {
            self.log.begin_anew(at);
        }
        if let Some(end) = write.truncate {
            let epochs = self.log.epochs.clone();
            self.log.truncate(end);
            if self.probe.planted("replication.epochs-not-truncated") {
                self.log.epochs = epochs;
            }
        }
        if let Some((_, range)) = &write.append {
            assert_eq!(range.start, self.log.log_end, "records are appended at the log's end");
            self.log.append(range.end, &write.epochs);
        }
        if let Some(log_start) = write.log_start {
            self.log.raise_log_start(log_start);
        }
        self.promised = write.promise.unwrap_or(self.promised);
        self.label = write.label.unwrap_or(self.label);
        self.high_watermark = self.high_watermark.max(self.log.log_start);
        if self.is_faulty() || write.faulty == Some(false) {
            self.high_watermark = self.high_watermark.min(self.log.log_end);
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.follow(&write);
        }
        self.last_write = WriteId(self.last_write.0 + 1);
        write.id = self.last_write;
        write.high_watermark = self.high_watermark.min(self.log.log_end);
        let mut after = self.as_written();
        // The mark goes only with a step that says so.
        let before = self.under_way.back().map_or(self.synced.is_faulty, |last| last.after.is_faulty);
        after.is_faulty = write.faulty.unwrap_or(before);
        self.under_way.push_back(UnderWay { id: write.id, after, repair: write.repair.clone() });
        self.effects.push(Effect::Write(write));
    }

    /// `self.matched` has risen over records that were written before.
    pub(super) fn note_matched(&mut self) {
        let matched = self.matched;
        match self.under_way.back_mut() {
            Some(last) => last.after.matched = matched,
            None => self.synced.matched = matched,
        }
    }

    pub(super) fn on_synced(&mut self, now: Instant, id: WriteId) -> Result<(), Refusal> {
        if id > self.last_write {
            return Err(Refusal::UnknownWrite);
        }
        let mut repaired = Vec::new();
        while let Some(first) = self.under_way.pop_front_if(|first| first.id <= id) {
            self.synced = first.after;
            repaired.extend(first.repair);
        }
        for range in repaired {
            self.on_repaired(&range);
        }
        self.follow_told();
        // A log start that was taken over has moved it, too.
        self.raise_high_watermark(self.high_watermark);
        self.pay_owed();
        if let Some(late) = self.owed.promise.take()
            && late > self.promised
        {
            self.step_down(RequestError::NotLeader);
            self.write(Write { promise: Some(late), ..step() });
        }
        self.candidate_on_synced(now);
        self.leader_on_synced(now);
        self.consider_leading(now);
        Ok(())
    }

    /// Sends what waited for a sync, as far as it may be sent now.
    pub(super) fn pay_owed(&mut self) {
        if !self.may_answer() {
            return;
        }
        if let Some((to, epoch)) = self.owed.report
            && self.synced.promised >= epoch
        {
            self.owed.report = None;
            if self.promised == epoch {
                let report = self.report(epoch);
                self.send(to, Message::Report(report));
            }
        }
        if let Some(to) = self.owed.progress {
            let was_sent = self.send_progress(to);
            if was_sent && self.under_way.is_empty() {
                self.owed.progress = None;
            }
        }
    }

    /// Tells the leader how far this log matches. It counts only if synced, labelled and sound; false if there is nothing to tell yet.
    fn send_progress(&mut self, to: quipu_base::BrokerId) -> bool {
        let written = self.as_written();
        let state = if self.probe.planted("replication.acknowledge-before-sync") { written } else { self.synced };
        let epoch = self.promised;
        if state.promised != epoch || state.matched.epoch != epoch {
            return false;
        }
        let is_labelled = state.label == epoch || self.probe.planted("replication.acknowledge-without-label");
        let is_sound = !self.is_faulty() && !state.is_faulty;
        let end = if self.probe.planted("replication.acknowledge-log-end") {
            state.log_end
        } else {
            state.matched.end.min(state.log_end)
        };
        let progress = Progress { epoch, end, log_start: state.log_start, high_watermark: self.high_watermark };
        let message = if is_labelled && is_sound {
            Message::Acknowledged(progress)
        } else {
            self.probe.sometimes("replication.copied-without-counting");
            Message::Copied(progress)
        };
        self.send(to, message);
        true
    }

    /// Goes back to what the disk holds: nothing else was told to anybody. An epoch that was led is over, since its promise was
    /// synced before.
    pub(super) fn on_write_failed(&mut self, now: Instant, state: DurableState) -> Result<(), Refusal> {
        if !state.log.is_possible() {
            return Err(Refusal::UnknownWrite);
        }
        self.probe.sometimes("replication.write-failed");
        let had_role = self.role_epoch().is_some();
        self.step_down(RequestError::Storage);
        let (damaged, was_faulty) = (state.damaged.clone(), state.is_faulty);
        let committed = self.high_watermark;
        self.adopt_durable(state);
        if !self.is_faulty() {
            // What was known to be committed is so still, as far as it is left.
            self.high_watermark = self.high_watermark.max(committed.min(self.log.log_end));
        }
        if was_faulty && !self.is_faulty() {
            self.suspect_running();
        }
        self.suspect_again_later(now);
        for range in damaged {
            self.on_damage(now, range);
        }
        if had_role {
            self.decline(now, GiveUp::WriteFailed);
        }
        Ok(())
    }

    /// Whether the step is synced.
    pub(super) fn is_written(&self, id: WriteId) -> bool {
        self.under_way.front().is_none_or(|first| first.id > id)
    }
}
