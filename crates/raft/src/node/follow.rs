//! What a follower does with its leader's entries.
//!
//! Invariants
//! - Nothing committed is ever cut off; a leader that would is refused.
//! - The log is cut off only where an entry of another epoch comes: a short or late Append takes nothing away.
//! - What is acknowledged is durable, and proven to match this leader's log: never the log's own end.
//!
//! Not here: snapshots (`snapshot`).

use quipu_base::Offset;
use quipu_env::Probe;

use super::Node;
use crate::{
    entry::{Entry, LogPoint, Payload},
    message::{Body, MessageError},
    voters::ReplicaKey,
};

/// What to do with one entry of an Append.
enum Step {
    Skip,
    Append,
    /// An entry of another epoch is in its place.
    Replace,
    /// The log holds as many epochs or voter sets as it can.
    Stop,
}

impl<P: Probe> Node<P> {
    /// Where an Append of these entries would cut off this log, if anywhere. An entry begins there, or its sender keeps no rules: only
    /// the shell, which has the log, can tell.
    #[must_use]
    pub fn cut_by(&self, start: LogPoint, entries: &[Entry]) -> Option<Offset> {
        if start.offset < self.high_watermark || !self.log.contains(start) {
            return None;
        }
        let mut at = start.offset;
        for entry in entries {
            if self.log.epoch_at(at)? != entry.epoch {
                return Some(at);
            }
            at = entry.end(at)?;
        }
        None
    }

    pub(super) fn handle_append(
        &mut self,
        from: ReplicaKey,
        start: LogPoint,
        entries: Vec<Entry>,
        high_watermark: Offset,
    ) -> Result<(), MessageError> {
        if start.offset < self.high_watermark {
            // All of that is committed, so it matches; the leader goes on behind it.
            self.send_durable(from, Body::Appended { matched: self.high_watermark });
            return Ok(());
        }
        if !self.log.contains(start) {
            let hint = self.log.last_before(start);
            self.send(from, Body::Diverged { at: start.offset, hint });
            return Ok(());
        }
        if self.durable.is_full() {
            return Ok(());
        }
        let mut matched = self.take_entries(start.offset, entries)?;
        if matched < self.log.end().offset && self.probe.planted("raft.truncate-short-append") {
            self.truncate(matched);
        }
        self.commit(high_watermark.min(matched));
        if self.probe.planted("raft.ack-own-end") {
            matched = self.log.end().offset;
        }
        if self.probe.planted("raft.ack-unpersisted") {
            self.send_after(0, from, Body::Appended { matched });
        } else {
            self.send_durable(from, Body::Appended { matched });
        }
        Ok(())
    }

    /// Brings the log in line with `entries`, which begin at `at`. Up to where it matches the leader's then.
    fn take_entries(&mut self, mut at: Offset, entries: Vec<Entry>) -> Result<Offset, MessageError> {
        for entry in entries {
            let end = entry.end(at).expect("a checked message ends at an offset that exists");
            match self.step(at, end, &entry)? {
                Step::Skip => {}
                Step::Append => self.append(entry),
                Step::Replace => {
                    self.truncate(at);
                    self.append(entry);
                }
                Step::Stop => return Ok(at),
            }
            at = end;
        }
        Ok(at)
    }

    fn step(&self, at: Offset, end: Offset, entry: &Entry) -> Result<Step, MessageError> {
        let step = match self.log.epoch_at(at) {
            None => Step::Append,
            Some(epoch) if epoch == entry.epoch || self.probe.planted("raft.conflict-ignored") => Step::Skip,
            Some(_) => Step::Replace,
        };
        match step {
            Step::Skip if end > self.log.end().offset => Err(MessageError::ContradictsCommitted { at }),
            Step::Replace if at < self.high_watermark => Err(MessageError::ContradictsCommitted { at }),
            Step::Append | Step::Replace if !self.has_room_for(entry) => Ok(Step::Stop),
            step => Ok(step),
        }
    }

    fn has_room_for(&self, entry: &Entry) -> bool {
        let has_room_for_voters = !matches!(entry.payload, Payload::Voters(_)) || self.log.has_room_for_voters();
        (entry.epoch == self.log.end().epoch || self.log.has_room_for_epoch()) && has_room_for_voters
    }

    fn truncate(&mut self, offset: Offset) {
        assert!(self.durable.pending.entries.is_empty(), "behind an entry of this call there is nothing to cut off");
        self.durable.pending.truncate = Some(offset);
        self.log.truncate(offset, self.probe.planted("raft.voters-kept"));
        self.durable.on_truncated(offset);
    }

    /// The leader says that everything before `offset`, which matches, is committed.
    pub(super) fn commit(&mut self, offset: Offset) {
        self.high_watermark = self.high_watermark.max(offset.min(self.log.end().offset));
    }

    pub(super) fn handle_heartbeat(&mut self, from: ReplicaKey, round: u64, high_watermark: Offset) {
        self.commit(high_watermark);
        self.send(from, Body::HeartbeatReply { round });
    }
}
