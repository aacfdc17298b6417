//! Raft's effects on the disk: steps of the log, entries and snapshots read for others, snapshots received.
//!
//! Invariants
//! - A persist is one step, or, if it has more batches than a step takes, several in order, the first of which has everything but
//!   the later batches: a crash between two leaves what a crash of the leader in the midst of sending would.
//! - Reads and snapshots go on beside the task; they report back.
//!
//! Not here: what is done with what is committed (`apply`).

use core::time::Duration;

use bytes::Bytes;
use quipu_base::Offset;
use quipu_env::{Clock, Env, Probe, ShardId};
use quipu_raft::{Entry, LogPoint, Persist, SnapshotMeta};
use quipu_storage::{ChangeError, Class, Log, Reservation, StateKind, Step, Store, Ticket};

use super::{Quorum, Report, StartError, entries::to_batch, kept::Kept, load::read_entries, snapshots};

/// Batches of one step at most.
const STEP_BATCHES_MAX: usize = 256;
/// Between two tries when there is no room for what Raft must not forget.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// Before Raft hears that something could not be read or written: it would ask for it again at once.
const FAILED_PAUSE: Duration = Duration::from_millis(50);
/// Longest that encoding a snapshot keeps a processor busy, about; for the simulator.
const ENCODE_TIME: Duration = Duration::from_millis(5);

/// Makes what stands beside the log durable, before there is a task.
pub(super) async fn keep<E: Env>(store: &Store<E>, log: &Log<E>, kept: &Kept) -> Result<(), StartError> {
    let failed = |error: &dyn core::fmt::Display| {
        StartError::Store(format!("what the metadata quorum must not forget can't be stored: {error}"))
    };
    let step = Step { states: vec![(StateKind::RaftHardState, kept.encode())], ..Step::default() };
    let room = store.reserve(step.reservation_bytes(), Class::Reserve).await.map_err(|error| failed(&error))?;
    let ticket = log.try_step(room, step).map_err(|error| failed(&error))?;
    let mut durable = store.durable();
    durable.wait_for(|reached| *reached >= ticket).await.map_err(|error| failed(&error))
}

impl<E: Env> Quorum<E> {
    /// Whether these entries would fit the disk. What does not fit is as good as lost on the way.
    pub(super) async fn has_room(&self, entries: &[Entry]) -> bool {
        let bytes = entries.iter().map(Entry::cost).sum();
        self.store.reserve(bytes, Class::Reserve).await.is_ok()
    }

    /// Whether an entry of this node's log begins at the offset. What can't be read is taken for no: whoever sent it sends it again.
    pub(super) async fn is_boundary(&self, offset: Offset) -> bool {
        if self.tail.front().is_some_and(|(base, _)| *base <= offset) {
            return self.tail.iter().any(|(base, _)| *base == offset);
        }
        // Up to the end: an entry is read whole or not at all.
        read_entries(&self.log, offset, self.log_end().offset, 1).await.is_ok()
    }

    /// Hands a persist to the log.
    pub(super) async fn persist(&mut self, persist: Persist) {
        let Persist { number, hard_state, install, truncate, start, entries } = persist;
        let is_changed = hard_state.is_some() || install.is_some() || !self.is_kept;
        if let Some(hard) = hard_state {
            self.kept.hard = hard;
        }
        if let Some(meta) = &install {
            self.kept.base = meta.base.clone();
            self.kept.snapshot = Some(meta.clone());
            self.tail.clear();
        }
        if let Some(truncate) = truncate {
            while self.tail.back().is_some_and(|(base, _)| *base >= truncate) {
                self.tail.pop_back();
            }
        }
        let states = if is_changed { vec![(StateKind::RaftHardState, self.kept.encode())] } else { Vec::new() };
        self.is_kept = true;
        let mut batches = Vec::with_capacity(entries.len());
        let mut base = start;
        for entry in entries {
            batches.push(to_batch(&entry, base));
            let end = entry.end(base).expect("Raft has counted its offsets");
            self.tail.push_back((base, entry));
            base = end;
        }
        let mut batches = batches.into_iter();
        let first = Step {
            begin_anew: install.as_ref().map(|meta| meta.base.point.offset),
            truncate,
            append: batches.by_ref().take(STEP_BATCHES_MAX).collect(),
            states,
            ..Step::default()
        };
        let mut ticket = self.step(first).await;
        while batches.len() > 0 {
            let append = batches.by_ref().take(STEP_BATCHES_MAX).collect();
            ticket = self.step(Step { append, ..Step::default() }).await;
        }
        self.persists.push_back((ticket, number));
        if let Some(meta) = install {
            self.install(&meta).await;
        }
    }

    async fn step(&self, step: Step) -> Ticket {
        let room = self.room(step.reservation_bytes()).await;
        let stepped: Result<Ticket, ChangeError> = self.log.step(room, step).await;
        stepped.unwrap_or_else(|error| self.give_up("the metadata log takes no more", &error))
    }

    /// Room for what can't be refused any more. While there is none this replica stands still, and is none for the others.
    async fn room(&self, bytes: usize) -> Reservation<E> {
        loop {
            match self.store.reserve(bytes, Class::Reserve).await {
                Ok(room) => return room,
                Err(error) => {
                    tracing::warn!(%error, "the metadata log has to wait");
                    self.env.clock().sleep(FULL_PAUSE).await;
                }
            }
        }
    }

    pub(super) fn on_durable(&mut self) {
        let durable = *self.durable.borrow_and_update();
        let mut reached = None;
        while let Some((_, number)) = self.persists.pop_front_if(|(ticket, _)| *ticket <= durable) {
            reached = Some(number);
        }
        if let Some(number) = reached {
            self.node.handle_persisted(self.env.clock().now(), number);
        }
    }

    /// The snapshot is the state from here on.
    async fn install(&mut self, meta: &SnapshotMeta) {
        let image = match self.snapshots.read(meta).await {
            Ok(image) => image,
            Err(error) => self.give_up("a metadata snapshot that was received can't be read", &error),
        };
        self.env.probe().crash_point("snapshot.installing");
        tracing::info!(offset = %meta.base.point.offset, "took over a snapshot of the metadata");
        self.env.probe().sometimes("quorum.snapshot-installed");
        self.applied = meta.base.point.offset;
        self.committed = self.committed.max(self.applied);
        self.applied_bytes = 0;
        self.serving.replace(image).await;
        self.follow_image();
        self.after_apply();
    }

    pub(super) fn read_entries(&self, read: u64, from: Offset, until: Offset, bytes_max: usize) {
        let (env, log, reporter) = (self.env.clone(), self.log.clone(), self.reporter.clone());
        self.aside(async move {
            let entries = match read_entries(&log, from, until, bytes_max).await {
                Ok(entries) => Some(entries),
                Err(error) => {
                    tracing::warn!(%error, "metadata entries can't be read for another node");
                    env.clock().sleep(FAILED_PAUSE).await;
                    None
                }
            };
            // A task that is gone wants nothing, here and below.
            drop(reporter.send(Report::Entries { read, entries }).await);
        });
    }

    pub(super) fn read_snapshot(&self, read: u64, snapshot: LogPoint, position: u64, length: usize) {
        let (env, snapshots, reporter) = (self.env.clone(), self.snapshots.clone(), self.reporter.clone());
        self.aside(async move {
            let bytes = snapshots.read_piece(snapshot, position, length).await;
            if bytes.is_none() {
                env.clock().sleep(FAILED_PAUSE).await;
            }
            drop(reporter.send(Report::SnapshotRead { read, bytes }).await);
        });
    }

    pub(super) fn write_chunk(&self, snapshot: SnapshotMeta, position: u64, bytes: Bytes) {
        let (env, snapshots, reporter) = (self.env.clone(), self.snapshots.clone(), self.reporter.clone());
        self.aside(async move {
            let end = position + bytes.len() as u64;
            let ok = match snapshots.write_piece(&snapshot, position, bytes).await {
                Ok(ok) => ok,
                Err(error) => {
                    tracing::warn!(%error, "a metadata snapshot can't be received");
                    env.clock().sleep(FAILED_PAUSE).await;
                    false
                }
            };
            drop(reporter.send(Report::ChunkWritten { snapshot, position: end, ok }).await);
        });
    }

    /// Begins to take a snapshot, if it is time.
    pub(super) fn take_snapshot(&mut self) {
        let is_due = self.is_wanted || self.applied_bytes >= self.settings.snapshot_bytes;
        if !is_due || self.is_taking || self.applied == Offset::ZERO {
            return;
        }
        let Some(base) = self.node.base_at(self.applied) else { return };
        self.is_taking = true;
        self.applied_bytes = 0;
        let (env, snapshots, reporter) = (self.env.clone(), self.snapshots.clone(), self.reporter.clone());
        let image = self.serving.image().clone();
        self.aside(async move {
            let pieces = env.offload(ENCODE_TIME, move || snapshots::encode(&image)).await;
            let meta = match snapshots.write(base.point, pieces).await {
                Ok((size_bytes, checksum)) => Some(SnapshotMeta { base, size_bytes, checksum }),
                Err(error) => {
                    tracing::warn!(%error, "no snapshot of the metadata could be taken; it is tried again later");
                    None
                }
            };
            drop(reporter.send(Report::SnapshotTaken { meta }).await);
        });
    }

    pub(super) async fn on_report(&mut self, report: Report) {
        let now = self.env.clock().now();
        match report {
            Report::Entries { read, entries } => self.node.handle_entries_read(now, read, entries),
            Report::SnapshotRead { read, bytes } => self.node.handle_snapshot_read(now, read, bytes),
            Report::ChunkWritten { snapshot, position, ok } => {
                self.node.handle_chunk_written(now, &snapshot, position, ok);
            }
            Report::Replicas { to, id, reports } => self.on_replicas(to, id, reports),
            Report::SnapshotTaken { meta } => {
                self.is_taking = false;
                if let Some(meta) = meta {
                    self.adopt_snapshot(meta).await;
                }
            }
        }
    }

    /// A snapshot was taken: the log's beginning may go. What lies between the last two snapshots stays, for those that are a little
    /// behind.
    async fn adopt_snapshot(&mut self, meta: SnapshotMeta) {
        let end = meta.base.point.offset;
        let last = self.kept.snapshot.as_ref().map(|last| last.base.point.offset);
        let start = self.kept.base.point.offset;
        let keep_from = if self.is_wanted { end } else { last.unwrap_or(start).max(start) };
        if let Err(error) = self.node.handle_snapshot_taken(self.env.clock().now(), meta.clone(), keep_from) {
            return tracing::debug!(%error, "a snapshot of the metadata came too late");
        }
        self.is_wanted = false;
        if let Some(base) = self.node.base_at(keep_from) {
            self.kept.base = base;
        }
        self.kept.snapshot = Some(meta.clone());
        let states = vec![(StateKind::RaftHardState, self.kept.encode())];
        let ticket = self.step(Step { log_start: Some(keep_from), states, ..Step::default() }).await;
        self.env.probe().crash_point("snapshot.adopted");
        tracing::info!(offset = %end, bytes = meta.size_bytes, log_start = %keep_from, "took a snapshot of the metadata");
        let (snapshots, mut durable) = (self.snapshots.clone(), self.store.durable());
        self.aside(async move {
            if durable.wait_for(|reached| *reached >= ticket).await.is_ok() {
                snapshots.clean(&meta).await;
            }
        });
    }

    /// Beside the task.
    pub(super) fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        // It goes on by itself, and reports.
        let _task = self.env.spawn(ShardId(0), "quorum.aside", work);
    }
}
