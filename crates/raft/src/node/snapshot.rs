//! Snapshots: taken by the shell, sent in pieces to a peer that lacks what the log holds no more, installed there.
//!
//! ```text
//! leader                     shell            peer                       shell
//!   ReadSnapshot ------------->
//!   <------------ handle_snapshot_read
//!   SnapshotChunk(position) ------------------>  WriteChunk ------------->
//!                                                <------ handle_chunk_written
//!   <------------- SnapshotProgress(next position)          ... until the last piece:
//!                                                Persist(install) ------->
//!   <------------- Appended(the snapshot's end)  <------ handle_persisted
//! ```
//!
//! Invariants
//! - The voters in force at a snapshot's end are in it: who installs it takes them over.
//! - Pieces are of one snapshot, told by its whole meta; a transfer goes on where it was, also under another leader that has
//!   the same snapshot.
//! - A snapshot is installed only if it is ahead of what is committed here and the log does not hold its end.
//!
//! Not here: the format of a snapshot, and its file.

use bytes::Bytes;
use quipu_base::Offset;
use quipu_env::{Instant, Probe};

use super::{Node, Role};
use crate::{
    effect::Effect,
    entry::{LogBase, LogPoint, SnapshotMeta},
    error::SnapshotError,
    limits::{SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES},
    message::Body,
    progress::{Mode, Sending},
    voters::ReplicaKey,
};

/// A snapshot that is being received.
#[derive(Clone, Hash)]
pub(super) struct Incoming {
    meta: SnapshotMeta,
    /// The next byte wanted.
    position: u64,
    /// Whether the shell is writing a piece.
    writing: bool,
}

impl<P: Probe> Node<P> {
    /// The shell has a durable snapshot, and wants to keep the log from `keep_from` on, which is at most the snapshot's end
    /// and where an entry begins. When this returns, the log before it may be deleted, once [`Node::base_at`] of it is stored.
    ///
    /// Errors: [`SnapshotError`], and then nothing has changed.
    pub fn handle_snapshot_taken(
        &mut self,
        now: Instant,
        meta: SnapshotMeta,
        keep_from: Offset,
    ) -> Result<(), SnapshotError> {
        self.advance(now);
        let end = meta.base.point.offset;
        let fits = self.base_at(end).is_some_and(|base| base == meta.base) && end > Offset::ZERO;
        let is_newer = self.snapshot.as_ref().is_none_or(|last| last.base.point.offset <= end);
        let keeps = (self.log.start()..=end).contains(&keep_from);
        if !fits || !is_newer || !keeps || !(1..=SNAPSHOT_BYTES_MAX).contains(&meta.size_bytes) {
            return Err(SnapshotError::NotOfThisLog);
        }
        self.snapshot = Some(meta);
        if keep_from > self.log.start() {
            self.log.trim(keep_from);
        }
        self.finish();
        Ok(())
    }

    /// Bytes of a snapshot that were read for a peer; none if it is not there any more.
    pub fn handle_snapshot_read(&mut self, now: Instant, read: u64, bytes: Option<Bytes>) {
        self.advance(now);
        self.take_snapshot_read(read, bytes);
        self.finish();
    }

    fn take_snapshot_read(&mut self, read: u64, bytes: Option<Bytes>) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        for (peer, progress) in &mut leader.peers {
            let Mode::Snapshot(sending) = &mut progress.mode else { continue };
            if sending.reading != Some(read) {
                continue;
            }
            sending.reading = None;
            let Some(bytes) = bytes else {
                // A newer one has taken its place.
                let next = progress.next;
                progress.become_probe(next);
                return;
            };
            sending.sent = Some(now);
            let (peer, snapshot, position) = (*peer, sending.meta.clone(), sending.position);
            self.send(peer, Body::SnapshotChunk { snapshot, position, bytes });
            return;
        }
    }

    /// Has the next piece read for a peer that needs one, if it is not under way.
    pub(super) fn send_snapshot(&mut self, peer: ReplicaKey) {
        let read = self.last_read + 1;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        if !matches!(progress.mode, Mode::Snapshot(_)) {
            let Some(meta) = self.snapshot.clone() else { return };
            progress.reading = None;
            progress.mode = Mode::Snapshot(Box::new(Sending { meta, position: 0, reading: None, sent: None }));
        }
        let Mode::Snapshot(sending) = &mut progress.mode else { return };
        if sending.sent.is_some() || sending.reading.is_some() {
            return;
        }
        let left = sending.meta.size_bytes.saturating_sub(sending.position);
        if left == 0 {
            // All of it arrived; a repeated last piece makes the peer say what became of it.
            sending.position -= last_piece(sending.meta.size_bytes);
        }
        let left = sending.meta.size_bytes - sending.position;
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_BYTES);
        sending.reading = Some(read);
        self.last_read = read;
        let (snapshot, position) = (sending.meta.base.point, sending.position);
        self.effects.push(Effect::ReadSnapshot { read, snapshot, position, bytes });
    }

    pub(super) fn handle_snapshot_progress(&mut self, from: ReplicaKey, snapshot: LogPoint, position: u64) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        let Mode::Snapshot(sending) = &mut progress.mode else { return };
        let is_answer = sending.meta.base.point == snapshot && position <= sending.meta.size_bytes;
        if is_answer && sending.reading.is_none() && position != sending.position {
            sending.position = position;
            // The whole of it: the peer installs it, and says so.
            let is_whole = position == sending.meta.size_bytes;
            sending.sent = is_whole.then_some(now);
        }
    }

    pub(super) fn handle_chunk(&mut self, from: ReplicaKey, meta: SnapshotMeta, position: u64, bytes: Bytes) {
        let end = meta.base.point;
        if !self.needs(end) {
            self.commit(end.offset);
            let matched = self.high_watermark;
            self.send_durable(from, Body::Appended { matched });
            return;
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.meta != meta) {
            // The old one's piece may still be on its way to the disk: its answer is told by its place.
            self.incoming = Some(Incoming { meta: meta.clone(), position: 0, writing: false });
        }
        let incoming = self.incoming.as_mut().expect("it was just made");
        if incoming.writing {
            return;
        }
        if position != incoming.position {
            let position = incoming.position;
            self.send(from, Body::SnapshotProgress { snapshot: end, position });
            return;
        }
        incoming.writing = true;
        self.effects.push(Effect::WriteChunk { snapshot: meta, position, bytes });
    }

    /// Whether the snapshot that ends at `end` holds what this replica lacks.
    fn needs(&self, end: LogPoint) -> bool {
        end.offset > self.high_watermark && !self.log.contains(end)
    }

    /// The piece of `snapshot` up to `position` is written; or, if not `ok`, the whole must be sent again: its checksum is
    /// wrong.
    pub fn handle_chunk_written(&mut self, now: Instant, snapshot: &SnapshotMeta, position: u64, ok: bool) {
        self.advance(now);
        self.take_chunk_written(snapshot, position, ok);
        self.finish();
    }

    fn take_chunk_written(&mut self, snapshot: &SnapshotMeta, position: u64, ok: bool) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.meta == *snapshot && incoming.writing)
        else {
            return;
        };
        incoming.position = if ok { position } else { 0 };
        incoming.writing = false;
        let (position, end) = (incoming.position, snapshot.base.point);
        if position == snapshot.size_bytes {
            self.incoming = None;
            if self.needs(end) {
                self.install(snapshot.clone());
            } else {
                self.commit(end.offset);
            }
            if let Some(leader) = self.leader {
                let matched = self.high_watermark;
                self.send_durable(leader, Body::Appended { matched });
            }
        } else if let Some(leader) = self.leader {
            self.send(leader, Body::SnapshotProgress { snapshot: end, position });
        }
    }

    fn install(&mut self, meta: SnapshotMeta) {
        assert!(self.durable.pending.is_empty(), "an installation is a step of its own");
        let end = meta.base.point.offset;
        let voters = if self.probe.planted("raft.snapshot-no-voters") {
            self.voters().clone()
        } else {
            meta.base.voters.clone()
        };
        self.log.reset(LogBase { point: meta.base.point, voters });
        self.durable.on_truncated(Offset::ZERO);
        self.high_watermark = end;
        self.committed_told = end;
        self.snapshot = Some(meta.clone());
        self.durable.pending.install = Some(meta);
    }
}

/// How long the last piece of so many bytes is.
fn last_piece(size_bytes: u64) -> u64 {
    let piece = u64::try_from(SNAPSHOT_CHUNK_BYTES).expect("a small constant");
    match size_bytes % piece {
        0 => piece,
        rest => rest,
    }
}
