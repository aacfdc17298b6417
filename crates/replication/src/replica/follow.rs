//! Following a leader: promises, appends, the label, the high watermark.
//!
//! ```text
//! append of e                          what happens, as one durable step
//! below the promise                    Superseded
//! begins beyond the end, or the record before it differs: Mismatch; but at the leader's log start the log begins anew there
//! ends below this log start            Mismatch: it neither cuts nor labels
//! otherwise                            truncate where the epochs differ, append; the first one of e that reaches the epoch start also
//!                                      cuts everything beyond its end and sets the label
//! ```
//!
//! Invariants
//! - A sound replica is never cut below its high watermark.
//! - Records of epoch e are only in a log labelled e or later.
//! - `matched` never goes down within an epoch.
//!
//! Not here: the acknowledgement itself (`writes`), which waits for the sync. Read `elect` next.

use quipu_base::{LeaderEpoch, Offset};
use quipu_env::Probe;

use super::{
    Replica, Role,
    writes::{Matched, step},
};
use crate::{
    effect::{Effect, Source, Write},
    message::{Append, Message, Report},
    partition::Sender,
    refusal::{Refusal, RequestError},
};

/// How an append meets this log.
enum Fit {
    /// Not at all.
    No,
    /// The log lies wholly below, or differs: it begins anew at the append's start.
    Anew,
    /// Records from here on are to be replaced by the append's.
    From(Offset),
}

impl<P: Probe> Replica<P> {
    pub(super) fn on_seal(&mut self, sender: Sender, epoch: LeaderEpoch) -> Result<(), Refusal> {
        let from = sender.member.node;
        if epoch < self.promised {
            self.send(from, Message::Superseded { epoch, promised: self.promised });
            return Ok(());
        }
        self.check_leads(from, epoch)?;
        if epoch > self.promised {
            if self.probe.planted("replication.promise-and-report-apart") {
                let report = self.report(epoch);
                self.send(from, Message::Report(report));
                self.owed.promise = Some(epoch);
                return Ok(());
            }
            self.step_down(RequestError::NotLeader);
            self.write(Write { promise: Some(epoch), ..step() });
        }
        self.owed.report = Some((from, epoch));
        self.pay_owed();
        Ok(())
    }

    /// This log, as a sealed member tells it.
    pub(super) fn report(&self, epoch: LeaderEpoch) -> Report {
        Report {
            epoch,
            label: self.label,
            log: self.log.clone(),
            high_watermark: self.high_watermark.min(self.log.log_end),
            is_faulty: self.is_faulty() || self.synced.is_faulty,
        }
    }

    pub(super) fn on_append(&mut self, sender: Sender, append: &Append) -> Result<(), Refusal> {
        let from = sender.member.node;
        let epoch = append.epoch;
        append.check().map_err(Refusal::Malformed)?;
        if epoch < self.promised {
            self.send(from, Message::Superseded { epoch, promised: self.promised });
            return Ok(());
        }
        self.check_leads(from, epoch)?;
        let fit = self.fit(append);
        if let Fit::No = fit {
            let log = self.log.clone();
            self.send(from, Message::Mismatch { epoch, start: append.start, log });
            return Ok(());
        }
        if epoch > self.promised {
            self.step_down(RequestError::NotLeader);
        }
        let write = self.plan(append, &fit);
        self.check_keeps_committed(&write)?;
        self.follow(append, write);
        self.owed.progress = Some(from);
        // What is under way will be told when it is synced.
        if self.under_way.is_empty() || self.probe.planted("replication.acknowledge-before-sync") {
            self.pay_owed();
        }
        self.request_repair(from);
        Ok(())
    }

    fn fit(&self, append: &Append) -> Fit {
        let log = &self.log;
        let otherwise = if append.start == append.leader_log_start { Fit::Anew } else { Fit::No };
        if append.end < log.log_start {
            return Fit::No;
        }
        if append.start > log.log_end {
            return otherwise;
        }
        // What this log has deleted was committed, and so was what lies below its high watermark: it is the leader's, too.
        let known = if self.is_faulty() { log.log_start } else { self.high_watermark };
        let previous_fits = append.start <= known
            || log.epochs.epoch_before(append.start) == append.previous_epoch
            || self.probe.planted("replication.previous-epoch-unchecked");
        if !previous_fits {
            return otherwise;
        }
        let start = append.start.max(log.log_start);
        let common = append.end.min(log.log_end);
        Fit::From(log.epochs.first_difference(&append.epochs, start, common).unwrap_or(common.max(start)))
    }

    /// The step that an append that fits makes; without what it takes from earlier ones.
    fn plan(&self, append: &Append, fit: &Fit) -> Write {
        let mut write = step();
        let keep = match *fit {
            Fit::Anew => {
                self.probe.sometimes("replication.begun-anew");
                write.begin_anew = Some(append.start);
                append.start
            }
            Fit::From(at) => at,
            Fit::No => unreachable!("an append that does not fit is answered"),
        };
        let (log_start, log_end) =
            if write.begin_anew.is_some() { (keep, keep) } else { (self.log.log_start, self.log.log_end) };
        if keep < append.end {
            if keep < log_end {
                write.truncate = Some(keep);
            }
            write.append = Some((Source::Message, keep..append.end));
            write.epochs = append.epochs.between(keep, append.end);
        }
        if append.epoch > self.promised {
            write.promise = Some(append.epoch);
        }
        let reaches = append.end >= append.epoch_start && append.end >= log_start;
        if self.label < append.epoch && (reaches || self.probe.planted("replication.label-early")) {
            write.label = Some(append.epoch);
            let end = if write.append.is_some() { append.end } else { log_end };
            if end > append.end && !self.probe.planted("replication.tail-kept") {
                self.probe.sometimes("replication.tail-cut");
                write.truncate = Some(append.end);
            }
        }
        if append.leader_log_start > log_start && self.matched_by(append) >= append.leader_log_start {
            write.log_start = Some(append.leader_log_start);
        }
        if self.is_cleared_by(append, &write) {
            write.faulty = Some(false);
            if self.probe.planted("replication.cleared-below-log-start") {
                write.log_start = None;
            }
        }
        write
    }

    /// Up to where this log matches once `append` is in it.
    fn matched_by(&self, append: &Append) -> Offset {
        if self.matched.epoch == append.epoch { self.matched.end.max(append.end) } else { append.end }
    }

    fn is_cleared_by(&self, append: &Append, write: &Write) -> bool {
        let Some(suspicion) = &self.suspicion else { return false };
        let mut whole = suspicion.clone();
        whole.follow(write);
        let is_stamped = append.incarnation.is_some() && append.incarnation == self.incarnation;
        let log_start = write.log_start.or(write.begin_anew).unwrap_or(self.log.log_start);
        whole.is_whole()
            && (is_stamped || self.probe.planted("replication.cleared-without-stamp"))
            && append.end >= append.leader_log_end
            && log_start >= append.leader_log_start
            && write.label.unwrap_or(self.label) == append.epoch
    }

    /// Errors: the step would cut committed records off a sound replica.
    fn check_keeps_committed(&self, write: &Write) -> Result<(), Refusal> {
        match write.begin_anew.or(write.truncate) {
            Some(at) if at < self.high_watermark && !self.is_faulty() => {
                Err(Refusal::BelowHighWatermark { at, high_watermark: self.high_watermark })
            }
            _ => Ok(()),
        }
    }

    fn follow(&mut self, append: &Append, write: Write) {
        self.matched = Matched { epoch: append.epoch, end: self.matched_by(append) };
        let cut = write.begin_anew.or(write.truncate).filter(|_| self.is_faulty());
        if let Some(cut) = cut {
            self.high_watermark = self.high_watermark.min(cut).max(self.log.log_start.min(cut));
        }
        let clears = write.faulty == Some(false);
        if clears {
            self.suspicion = None;
            self.effects.push(Effect::BecameSound);
            self.probe.sometimes("replication.faulty-cleared");
        }
        let changes = Write { high_watermark: Offset::ZERO, ..write.clone() } != step();
        if changes {
            self.write(write);
        } else {
            self.note_matched();
        }
        self.follow_high_watermark(append.high_watermark);
    }

    /// The leader has told its high watermark.
    fn follow_high_watermark(&mut self, leaders: Offset) {
        let epoch = self.promised;
        let known = if self.told.epoch == epoch { self.told.end } else { leaders };
        self.told = Matched { epoch, end: known.max(leaders) };
        self.follow_told();
    }

    /// max(own, min(leader's, matched end that is synced)): what is known to be committed is never ahead of what a crash leaves here.
    pub(super) fn follow_told(&mut self) {
        let (epoch, synced) = (self.promised, &self.synced);
        if self.told.epoch != epoch || !matches!(self.role, Role::Follower) {
            return;
        }
        let bound = if self.probe.planted("replication.follower-high-watermark-unbounded") {
            self.log.log_end
        } else if synced.matched.epoch == epoch {
            synced.matched.end.min(synced.log_end).min(self.log.log_end)
        } else {
            return;
        };
        self.raise_high_watermark(self.told.end.min(bound));
    }

    pub(super) fn on_high_watermark(&mut self, epoch: LeaderEpoch, high_watermark: Offset) {
        if self.matched.epoch == epoch && self.promised == epoch && matches!(self.role, Role::Follower) {
            self.follow_high_watermark(high_watermark);
        }
    }

    /// Tells the leader, if there is one, that this replica can be served.
    pub(super) fn greet_leader(&mut self) {
        let Some(record) = &self.record else { return };
        let (leader, epoch) = (record.leader, record.leader_epoch);
        if let Some(leader) = leader
            && leader != self.identity.member.node
            && self.may_answer()
        {
            self.send(leader, Message::Hello { epoch });
        }
    }
}
