//! Taking in what the WAL has and the manifest does not.
//!
//! ```text
//! frame of a group at or below the partition's applied group, or its tombstone    skipped: the manifest has it
//! append at the log's end                                                         taken in
//! append beyond it, or a complete log's end                                       the partition is faulty: damaged is what lies between
//! append below it                                                                 the partition is faulty: damaged is all from there on
//! bad frame                                                                       the partition is faulty: damaged is all behind its end
//! log start beyond the log's end                                                  the same, and its log start stays
//! truncate, begin anew, repair, log start, delete, states, damaged                carried out
//! ```
//!
//! What follows a fault is taken in as well, behind a hole: nothing that can be read is thrown away.
//!
//! Invariants
//! - Frames are carried out in the order of the WAL, so the same WAL and manifest give the same logs; a crash anywhere in here,
//!   checkpoints included, leads there again.
//! - No group is covered before the scan has ended and all damage is known, and faults stand in the manifest before the WAL
//!   that shows them is used again.
//!
//! Not here: what of the WAL is torn or damaged (`wal::scan`).

use core::ops::Range;
use std::{path::Path, sync::Arc};

use quipu_base::{Offset, TopicIdPartition};
use quipu_env::{Clock, Env, Probe};
use quipu_records::BatchHeader;

use super::{Shared, catalog::Catalog, open::OpenError, repair::repair};
use crate::{
    Fault,
    checkpoint::{Checkpointer, Covering},
    damage::OPEN_END,
    lock,
    log::{Cut, CutState, LogShared, LogState, cut_state, fresh_state},
    superblock::Superblock,
    tail::{FRAME_OVERHEAD_BYTES, TailEntry, TailPermit},
    wal::{
        Affected, Damage, FrameKind, GroupSequence, ScanEnd, ScanMode, ScanOptions, ScannedFrame, ScannedGroup, Scanner,
    },
};

/// Reads the WAL and takes in what counts.
pub(super) async fn recover<E: Env>(
    checkpointer: &mut Checkpointer<E>,
    superblock: &Superblock,
) -> Result<ScanEnd, OpenError> {
    let store = Arc::clone(&checkpointer.store);
    let options =
        ScanOptions { dir: store.options.directory.clone(), direct: store.options.direct, mode: ScanMode::Recover };
    let mut scanner = Scanner::open(store.env.clone(), options, superblock, checkpointer.covered).await?;
    while let Some(group) = scanner.next_group().await? {
        take_in(checkpointer, group).await;
        if store.catalog.is_due() {
            store.env.probe().sometimes("recovery.checkpoint");
            // A full disk does not keep a store from opening: what can't be moved stays in memory.
            if let Err(error) = checkpointer.round(Covering::LogsOnly).await {
                store.env.probe().sometimes("recovery.checkpoint-failed");
                tracing::warn!(%error, "no checkpoint during recovery");
            }
        }
    }
    let end = scanner.finish().await?;
    for damage in &end.damage {
        store.env.probe().sometimes("recovery.damage-spread");
        spread(&store.catalog, damage, checkpointer.covered);
    }
    suspect_states(&store.catalog);
    Ok(end)
}

/// Takes the partitions offline of which a state was lost, and not said again.
fn suspect_states(catalog: &Catalog) {
    for log in catalog.all() {
        let mut state = lock(&log.state);
        let lost = std::mem::take(&mut state.lost_states);
        let Some((_, fault)) = lost.into_iter().next() else { continue };
        let missing = state.log_end..OPEN_END;
        add_fault(&mut state, log.partition, fault, missing);
        drop(state);
        Catalog::mark_dirty(&mut lock(&catalog.apply), &log);
    }
}

async fn take_in<E: Env>(checkpointer: &Checkpointer<E>, group: ScannedGroup) {
    let store = &checkpointer.store;
    let catalog = &store.catalog;
    let memory =
        usize::try_from(group.length).expect("a group fits memory") + group.frames.len() * FRAME_OVERHEAD_BYTES;
    let buffer = Arc::new(catalog.tail.take(memory));
    for frame in group.frames {
        if checkpointer.tombstones.get(&frame.partition).is_some_and(|deleted| *deleted >= group.sequence) {
            store.env.probe().sometimes("recovery.frame-of-deleted");
            continue;
        }
        let log = catalog.log(frame.partition);
        let place = FramePlace { file: &group.file, position: group.position, group: group.sequence };
        if lock(&log.state).committed.applied >= group.sequence.0 {
            store.env.probe().sometimes("recovery.frame-known");
            continue;
        }
        if frame.kind == FrameKind::PartitionDelete && !frame.bad {
            store.env.probe().sometimes("recovery.delete");
            lock(&log.state).gone = true;
            catalog.finish_delete(&mut lock(&catalog.apply), &log, group.sequence);
            continue;
        }
        match frame.kind {
            FrameKind::Truncate if !frame.bad => truncate(store, &log, frame.base_offset, &place).await,
            FrameKind::Repair if !frame.bad => repair(store, &log, frame.payload, &place, &buffer).await,
            _ => carry_out(store, &log, frame, &place, &buffer),
        }
        lock(&log.state).applied = group.sequence;
        Catalog::mark_dirty(&mut lock(&catalog.apply), &log);
    }
    let mut applied = lock(&catalog.apply);
    applied.group = group.sequence;
    applied.bytes += memory;
}

/// Where a frame stands.
pub(super) struct FramePlace<'a> {
    file: &'a Path,
    position: u64,
    group: GroupSequence,
}

impl FramePlace<'_> {
    pub(super) fn fault(&self, offset: Offset, length: usize, why: String) -> Fault {
        Fault { file: self.file.to_owned(), position: self.position, length: length as u64, offset, why }
    }
}

fn carry_out<E: Env>(
    store: &Shared<E>,
    log: &LogShared,
    frame: ScannedFrame,
    place: &FramePlace<'_>,
    buffer: &Arc<TailPermit>,
) {
    let probe = store.env.probe();
    let mut state = lock(&log.state);
    if frame.bad {
        probe.sometimes("recovery.bad-frame");
        let why = format!("a frame of write-ahead log group {} does not match its checksum", place.group);
        let fault = place.fault(state.log_end, 0, why);
        if is_state(frame.kind) {
            // Unless a later one says it again.
            state.lost_states.entry(frame.kind as u8).or_insert(fault);
            return;
        }
        // What a frame about the middle of the log was to say of it is as bad as not known.
        let concerned = if frame.kind == FrameKind::Damaged { frame.base_offset } else { state.log_end };
        return add_fault(&mut state, log.partition, fault, concerned..OPEN_END);
    }
    match frame.kind {
        FrameKind::LogStart if probe.planted("recovery.log-start-lost") => {}
        FrameKind::Append => append(store, &mut state, log.partition, frame, place, buffer),
        FrameKind::LogStart if frame.base_offset > state.log_end => {
            probe.sometimes("recovery.log-start-beyond-end");
            let why = format!("the log start moves to {}, behind the log's end {}", frame.base_offset, state.log_end);
            let fault = place.fault(state.log_end, 0, why);
            let missing = state.log_end..OPEN_END;
            add_fault(&mut state, log.partition, fault, missing);
        }
        FrameKind::LogStart => {
            probe.sometimes("recovery.log-start");
            let to = state.log_start.max(frame.base_offset);
            state.move_log_start(to);
            state.durable_log_start = to;
            state.damaged.trim(to);
            state.clear_fault();
        }
        FrameKind::BeginAnew => begin_anew(&mut state, frame.base_offset),
        FrameKind::Damaged => {
            probe.sometimes("recovery.damaged-range");
            let end = frame.payload.first_chunk().map_or(OPEN_END, |bytes| Offset(i64::from_le_bytes(*bytes)));
            // What has been cut since it was found is not damaged any more.
            state.damaged.add(frame.base_offset..end);
        }
        FrameKind::Complete => complete(&mut state, log.partition, frame.base_offset, place),
        FrameKind::Promise | FrameKind::Label | FrameKind::RaftHardState | FrameKind::Replica => {
            probe.sometimes("recovery.state");
            state.lost_states.remove(&(frame.kind as u8));
            state.states.insert(frame.kind as u8, frame.payload.to_vec());
        }
        FrameKind::ProducerSnapshot | FrameKind::Truncate | FrameKind::PartitionDelete | FrameKind::Repair => {
            probe.sometimes("recovery.misplaced-frame");
            let why = format!("group {} has a frame ({:?}) that has no place there", place.group, frame.kind);
            let fault = place.fault(state.log_end, frame.payload.len(), why);
            let missing = state.log_end..OPEN_END;
            add_fault(&mut state, log.partition, fault, missing);
        }
    }
}

/// Whether frames of the kind each say all of something about the partition besides its log.
const fn is_state(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Promise | FrameKind::Label | FrameKind::RaftHardState | FrameKind::Replica)
}

fn begin_anew(state: &mut LogState, at: Offset) {
    let base = Arc::new(fresh_state(&state.base, at));
    drop(state.begin_durable(at, base));
    state.log_start = at;
    state.log_end = at;
    state.epochs = Default::default();
    state.producers = Default::default();
    state.high_watermark = at;
}

/// The log ended at `end`, and nothing was missing behind it.
fn complete(state: &mut LogState, partition: TopicIdPartition, end: Offset, place: &FramePlace<'_>) {
    state.damaged.close(end);
    if end > state.log_end {
        let why = format!("the log was said to end at offset {end}, not {}", state.log_end);
        let missing = state.log_end..end;
        let fault = place.fault(state.log_end, 0, why);
        add_fault(state, partition, fault, missing);
        state.log_end = end;
        state.durable_end = end;
    }
    state.clear_fault();
}

fn append<E: Env>(
    store: &Shared<E>,
    state: &mut LogState,
    partition: TopicIdPartition,
    frame: ScannedFrame,
    place: &FramePlace<'_>,
    buffer: &Arc<TailPermit>,
) {
    let bytes = frame.payload.len();
    let header = match BatchHeader::parse(&frame.payload) {
        Ok(header) if is_append(&header, &frame) => header,
        _ => {
            store.env.probe().sometimes("recovery.not-a-batch");
            let fault = place.fault(state.log_end, bytes, "an append that is not one batch".to_owned());
            let missing = state.log_end..OPEN_END;
            return add_fault(state, partition, fault, missing);
        }
    };
    if header.base_offset != state.log_end {
        let why = format!("the batch at offset {} does not follow offset {}", header.base_offset, state.log_end);
        let fault = place.fault(state.log_end, bytes, why);
        if header.base_offset < state.log_end {
            store.env.probe().sometimes("recovery.batch-below-end");
            return add_fault(state, partition, fault, header.base_offset..OPEN_END);
        }
        let missing = state.log_end..header.base_offset;
        add_fault(state, partition, fault, missing);
        store.env.probe().sometimes("recovery.hole");
    }
    if !state.damaged.is_empty() {
        state.damaged.close(header.base_offset);
        state.clear_fault();
    }
    let known = store.env.probe().planted("recovery.producers-not-replayed").then(|| state.producers.clone());
    state.record_batch(&header, store.env.clock().wall());
    if let Some(known) = known {
        state.producers = known;
    }
    state.durable_end = state.log_end;
    state.tail.push(TailEntry::new(&header, frame.payload, Arc::clone(buffer)));
}

/// Whether the header is that of a batch that an append may have written in this frame.
fn is_append(header: &BatchHeader, frame: &ScannedFrame) -> bool {
    header.total_bytes() == frame.payload.len()
        && header.base_offset == frame.base_offset
        && header.last_offset_delta >= 0
        && header.last_offset() < Offset(i64::MAX)
}

async fn truncate<E: Env>(store: &Shared<E>, log: &LogShared, to: Offset, place: &FramePlace<'_>) {
    let (base, log_end) = {
        let state = lock(&log.state);
        (Arc::clone(&state.base), state.log_end)
    };
    if to >= log_end {
        store.env.probe().sometimes("recovery.truncate-nothing");
        return;
    }
    store.env.probe().sometimes("recovery.truncate");
    let now = store.env.clock().wall();
    let cut = if to < base.end { Some(cut_state(store, log.partition, &base, to, now).await) } else { None };
    let mut state = lock(&log.state);
    match cut {
        Some(Ok(CutState { state: cut, boundary, lost })) => {
            store.env.probe().sometimes("recovery.truncate-segments");
            state.producers = cut.producers.clone();
            state.epochs.truncate(boundary);
            state.cut_durable(&Cut { to, base: Some(Arc::new(cut)), lost });
        }
        Some(Err(error)) => {
            store.env.probe().sometimes("recovery.truncate-failed");
            let fault = place.fault(to, 0, format!("a truncation to offset {to} cannot be repeated: {error}"));
            return add_fault(&mut state, log.partition, fault, to..OPEN_END);
        }
        None => {
            store.env.probe().sometimes("recovery.truncate-tail");
            let boundary = state.tail_boundary(to);
            state.producers = state.producers_at(boundary, now);
            state.epochs.truncate(boundary);
            state.cut_durable(&Cut { to, base: None, lost: None });
        }
    }
    state.log_end = to;
}

/// Takes a partition offline, unless it is, and notes what is damaged.
pub(super) fn add_fault(state: &mut LogState, partition: TopicIdPartition, fault: Fault, damaged: Range<Offset>) {
    state.damaged.add(damaged);
    if state.fault.is_none() {
        tracing::error!(%partition, %fault, "a partition is damaged");
        state.fault = Some(fault);
    }
}

/// Takes the partitions offline that damage in the WAL concerns.
fn spread(catalog: &Catalog, damage: &Damage, covered: GroupSequence) {
    for log in catalog.all() {
        let mut state = lock(&log.state);
        // The manifest has it all, up to a group behind the damage.
        let is_safe = state.committed.applied >= damage.last.0 || covered >= damage.last;
        // If it is known which frames were bad, it is known what they took.
        let is_told = matches!(damage.affected, Affected::Only(_));
        if is_safe || is_told || !damage.affected.concerns(&log.partition) {
            continue;
        }
        let fault = Fault {
            file: damage.file.clone(),
            position: damage.position,
            length: damage.length,
            offset: state.log_end,
            why: damage.why.clone(),
        };
        // Whatever was lost cut nothing that was committed.
        let first = state.high_watermark.min(state.log_end).max(state.log_start);
        add_fault(&mut state, log.partition, fault, first..OPEN_END);
        drop(state);
        Catalog::mark_dirty(&mut lock(&catalog.apply), &log);
    }
}
