//! The one task that writes the WAL: collects frames, forms groups, keeps up to two of them in flight, releases what is synced.
//!
//! ```text
//! frames -> pending -> group formed -> in flight -> written and synced -> all before it synced -> released
//!                        |                                                                          |
//!                        only when at most one is in flight                  sink told, then the durable ticket moves
//! ```
//!
//! Invariants
//! - Group N is formed only when group N-2 is synced, so synced-up-to of group N is at least N-2.
//! - Groups are released in order, and only the contiguous synced prefix.
//! - A step's frames lie in one group: recovery takes a group whole or not at all, unless it is damaged.
//! - Nothing lingers: when nothing is in flight, a frame leaves at once; while groups are in flight, the next one collects.
//! - No group is longer than the `reach` of the two before it. A longer one is announced by two empty groups. So recovery knows
//!   how far the two groups that a crash may have torn can stretch.
//! - A failed write or sync of a group ends the process. It is never tried again.
//!
//! Not here: waiting for space (`Wal::reserve_space`); making files (`fill`).

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use quipu_base::{
    TopicIdPartition,
    limits::{WAL_GROUP_BYTES_MAX, WAL_GROUPS_INFLIGHT_MAX, WAL_PROOF_DELAY_MS},
};
use quipu_env::{Clock, Env, Fatal, File, Probe, Sleep, SyncError};

use super::{
    format::{GROUP_FRAMES_MAX, GroupPlan, PAGE_BYTES, encode_group, group_bytes},
    shared::{FileOf, Shared, Stage, Submitted, file_path},
    space::REACH_BYTES,
    types::{Class, DurableFrame, GroupSequence, Ticket, WalSink},
};

const PROOF_DELAY: Duration = Duration::from_millis(WAL_PROOF_DELAY_MS);
/// Partitions remembered before those that are covered are dropped.
const TOUCHED_MIN: usize = 1024;

type Write = Pin<Box<dyn Future<Output = io::Result<Result<(), SyncError>>> + Send>>;

struct InFlight {
    sequence: GroupSequence,
    synced_up_to: GroupSequence,
    file: u32,
    position: u64,
    length: usize,
    frames: Vec<DurableFrame>,
    /// None once it is synced.
    write: Option<Write>,
}

/// Which group held each partition's previous frame.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    groups: BTreeMap<TopicIdPartition, GroupSequence>,
    /// For partitions that are not in the map: a group that may have held any.
    pub(crate) floor: GroupSequence,
    prune_at: usize,
}

impl Touched {
    pub(crate) fn get(&self, partition: &TopicIdPartition) -> GroupSequence {
        self.groups.get(partition).map_or(self.floor, |group| self.floor.max(*group))
    }

    /// Notes that `group` holds a frame of `partition`; answers which one held the one before it.
    pub(crate) fn touch(&mut self, partition: TopicIdPartition, group: GroupSequence) -> GroupSequence {
        let previous = self.get(&partition);
        self.groups.insert(partition, group);
        previous
    }

    fn prune(&mut self, recycled: GroupSequence) {
        if self.groups.len() >= self.prune_at.max(TOUCHED_MIN) {
            self.groups.retain(|_, group| *group >= recycled);
            self.prune_at = 2 * self.groups.len();
        }
    }
}

/// Where and how the log goes on.
pub(crate) struct Continuation {
    pub(crate) generation: u64,
    pub(crate) next: GroupSequence,
    pub(crate) previous_hash: Option<u32>,
    pub(crate) touched: Touched,
    pub(crate) directory_tag: u64,
}

pub(crate) struct Writer<E: Env> {
    shared: Arc<Shared<E>>,
    sink: Arc<dyn WalSink>,
    generation: u64,
    directory_tag: u64,
    next: GroupSequence,
    previous_hash: Option<u32>,
    /// What the last two groups said of those after them.
    reach: [u64; WAL_GROUPS_INFLIGHT_MAX],
    touched: Touched,
    pending: VecDeque<(Submitted, Ticket)>,
    taken: Ticket,
    inflight: VecDeque<InFlight>,
    synced: GroupSequence,
    /// Every group up to this one is proven synced by a later one that is synced itself.
    proven: GroupSequence,
    /// The last group with frames.
    last_data: GroupSequence,
    proof_timer: Pin<Box<<E::Clock as Clock>::Sleep>>,
}

enum Event {
    Synced,
    Woken,
    ProofDue,
}

impl<E: Env> Writer<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>, sink: Arc<dyn WalSink>, start: Continuation) -> Self {
        let clock = shared.env.clock();
        let proof_timer = Box::pin(clock.sleep_until(clock.now()));
        let synced = start.next.previous();
        Self {
            sink,
            generation: start.generation,
            directory_tag: start.directory_tag,
            next: start.next,
            previous_hash: start.previous_hash,
            reach: [REACH_BYTES; WAL_GROUPS_INFLIGHT_MAX],
            touched: start.touched,
            pending: VecDeque::new(),
            taken: Ticket::NONE,
            inflight: VecDeque::new(),
            synced,
            proven: synced,
            last_data: GroupSequence::NONE,
            proof_timer,
            shared,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let stage = self.take_submitted();
            if stage == Stage::Abandoned {
                return;
            }
            self.form_groups();
            if stage == Stage::Closing && self.pending.is_empty() && self.inflight.is_empty() {
                break;
            }
            match self.next_event().await {
                Event::Synced => self.release(),
                Event::ProofDue => self.form_proof(),
                Event::Woken => {}
            }
        }
        self.shared.ended.send_replace(Some(self.synced));
    }

    /// Moves what was submitted into `pending`.
    fn take_submitted(&mut self) -> Stage {
        let mut state = self.shared.lock();
        let frames = core::mem::take(&mut state.frames);
        let stage = state.stage;
        let recycled = state.space.recycled();
        drop(state);
        for frame in frames {
            self.taken.0 += 1;
            self.pending.push_back((frame, self.taken));
        }
        self.touched.prune(recycled);
        stage
    }

    fn may_form(&self) -> bool {
        self.inflight.len() < WAL_GROUPS_INFLIGHT_MAX
    }

    fn form_groups(&mut self) {
        while self.may_form() && !self.pending.is_empty() {
            if !self.form_group() {
                // No room. Whoever makes some wakes this task.
                return;
            }
        }
    }

    /// Forms a group of what is pending, or one that announces it. False if there is no room for it.
    fn form_group(&mut self) -> bool {
        let least = self.least_bytes();
        let mut state = self.shared.lock();
        if state.space.room() < least && !state.space.roll(least) {
            drop(state);
            self.shared.env.probe().sometimes("wal.no-room");
            self.shared.wake_fill.notify_one();
            return false;
        }
        let room = state.space.room();
        drop(state);
        let reach = self.reach[0].min(self.reach[1]);
        if least > reach {
            self.shared.env.probe().sometimes("wal.announced");
            return self.form_announcement(least);
        }
        let count = self.frames_that_fit(usize::try_from(room.min(reach)).unwrap_or(usize::MAX));
        let frames: Vec<(Submitted, Ticket)> = self.pending.drain(..count).collect();
        self.launch(frames, REACH_BYTES);
        true
    }

    /// Bytes of a group of the first frame that is pending, with all that have to be in the same group.
    fn least_bytes(&self) -> u64 {
        let (mut count, mut payload) = (0, 0);
        for (submitted, _) in &self.pending {
            count += 1;
            payload += submitted.frame.payload_bytes();
            if !self.is_joined(submitted) {
                break;
            }
        }
        assert!(count > 0, "there is something pending");
        group_bytes(count, payload) as u64
    }

    /// How many pending frames make one group of at most `room` bytes; at least one step, and only whole ones.
    fn frames_that_fit(&self, room: usize) -> usize {
        let (mut fitting, mut payload) = (0, 0);
        for (index, (submitted, _)) in self.pending.iter().take(GROUP_FRAMES_MAX).enumerate() {
            payload += submitted.frame.payload_bytes();
            let fits = payload <= WAL_GROUP_BYTES_MAX && group_bytes(index + 1, payload) <= room;
            if fitting > 0 && !fits {
                break;
            }
            if !self.is_joined(submitted) {
                fitting = index + 1;
                if submitted.is_joined {
                    break;
                }
            }
        }
        fitting
    }

    /// Whether the frame and the one behind it have to be in one group.
    fn is_joined(&self, submitted: &Submitted) -> bool {
        submitted.is_joined && !self.shared.env.probe().planted("wal.step-torn")
    }

    /// Writes an empty group that says how long the next two may be. False if there is no room for it.
    fn form_announcement(&mut self, reach: u64) -> bool {
        let page = PAGE_BYTES as u64;
        let placed = {
            let mut state = self.shared.lock();
            state.space.room() >= page || state.space.roll(page)
        };
        if placed {
            self.launch(Vec::new(), reach);
        }
        placed
    }

    /// Writes an empty group that proves the last one, unless its space is promised to frames: they will prove as well.
    fn form_proof(&mut self) {
        let page = PAGE_BYTES as u64;
        let promised = self.shared.lock().space.promise(page, Class::Reserve);
        if promised && self.form_announcement(REACH_BYTES) {
            self.shared.env.probe().sometimes("wal.proved");
        } else {
            self.last_data = GroupSequence::NONE;
        }
        if promised {
            self.shared.lock().space.release(page);
        }
    }

    fn launch(&mut self, frames: Vec<(Submitted, Ticket)>, reach: u64) {
        let sequence = self.next;
        let payload: usize = frames.iter().map(|(submitted, _)| submitted.frame.payload_bytes()).sum();
        let length = group_bytes(frames.len(), payload);
        let (file, position, handle) = self.place(sequence, length as u64, &frames);
        let plan = GroupPlan {
            generation: self.generation,
            directory_tag: self.directory_tag,
            sequence,
            synced_up_to: self.synced,
            file,
            position,
            previous_hash: self.previous_hash,
            reach,
        };
        let mut tickets = Vec::with_capacity(frames.len());
        let mut linked = Vec::with_capacity(frames.len());
        for (Submitted { frame, .. }, ticket) in frames {
            let previous = self.touched.touch(frame.partition, sequence);
            tickets.push(ticket);
            linked.push((frame, previous));
        }
        let encoded = encode_group(&plan, &linked);
        let frames: Vec<DurableFrame> = linked
            .into_iter()
            .zip(tickets)
            .zip(encoded.payloads)
            .map(|(((frame, _), ticket), payload)| DurableFrame {
                partition: frame.partition,
                kind: frame.kind,
                leader_epoch: frame.leader_epoch,
                base_offset: frame.base_offset,
                payload: encoded.bytes.slice(payload),
                ticket,
                group: sequence,
            })
            .collect();
        if !frames.is_empty() {
            self.last_data = sequence;
        }
        self.next = sequence.next();
        self.previous_hash = Some(encoded.hash);
        self.reach = [self.reach[1], reach];
        let chunks = vec![encoded.bytes];
        let retries = self.shared.env.probe().planted("wal.sync-retried");
        let write: Write = Box::pin(async move {
            match handle.write_sync(position, chunks).await {
                Ok(Err(_)) if retries => Ok(handle.sync_data().await),
                done => done,
            }
        });
        let synced_up_to = self.synced;
        if !self.inflight.is_empty() {
            self.shared.env.probe().sometimes("wal.two-in-flight");
        }
        self.inflight.push_back(InFlight {
            sequence,
            synced_up_to,
            file,
            position,
            length,
            frames,
            write: Some(write),
        });
    }

    fn place(&self, sequence: GroupSequence, length: u64, frames: &[(Submitted, Ticket)]) -> (u32, u64, FileOf<E>) {
        let mut state = self.shared.lock();
        let (file, position) = state.space.place(sequence, length);
        for (submitted, _) in frames {
            if let Some(cost) = submitted.cost {
                state.space.release(cost.get());
            }
        }
        let handle = state.handles[&file].clone();
        let short = state.space.next_file().is_some();
        drop(state);
        if short {
            self.shared.wake_fill.notify_one();
        }
        (file, position, handle)
    }

    async fn next_event(&mut self) -> Event {
        let idle = self.inflight.is_empty();
        let collecting = self.may_form();
        let prove = idle && self.pending.is_empty() && self.last_data > self.proven;
        if prove {
            let deadline = self.shared.env.clock().now() + PROOF_DELAY;
            self.proof_timer.as_mut().reset(deadline);
        }
        let shared = Arc::clone(&self.shared);
        let inflight = &mut self.inflight;
        tokio::select! {
            biased;
            () = poll_fn(|context| poll_writes(inflight, &shared, context)), if !idle => Event::Synced,
            () = shared.wake_writer.notified(), if collecting => Event::Woken,
            () = self.proof_timer.as_mut(), if prove => Event::ProofDue,
        }
    }

    /// Releases the contiguous synced prefix.
    fn release(&mut self) {
        while self.inflight.front().is_some_and(|group| group.write.is_none()) {
            let group = self.inflight.pop_front().expect("there is a front");
            assert_eq!(group.sequence, self.synced.next(), "groups are released in order");
            self.synced = group.sequence;
            self.proven = self.proven.max(group.synced_up_to);
            let last = group.frames.last().map(|frame| frame.ticket);
            self.shared.env.probe().event(
                "wal.durable",
                &[
                    ("ticket", last.map_or(0, |ticket| ticket.0.cast_signed())),
                    ("file", i64::from(group.file)),
                    ("position", group.position.cast_signed()),
                    ("length", i64::try_from(group.length).unwrap_or(i64::MAX)),
                ],
            );
            self.sink.on_durable(group.sequence, group.length, group.frames);
            if let Some(ticket) = last {
                self.shared.durable.send_replace(ticket);
            }
            self.shared.env.probe().crash_point("wal.synced");
        }
    }
}

/// Polls every write in flight. Ready when at least one more is synced.
fn poll_writes<E: Env>(inflight: &mut VecDeque<InFlight>, shared: &Shared<E>, context: &mut Context<'_>) -> Poll<()> {
    let mut progress = false;
    for group in inflight.iter_mut() {
        let Some(write) = &mut group.write else { continue };
        let Poll::Ready(outcome) = write.as_mut().poll(context) else { continue };
        let what = match outcome {
            Ok(Ok(())) => {
                group.write = None;
                progress = true;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("write failed: {error}"),
        };
        let path = file_path(&shared.options.dir, group.file);
        let message = format!(
            "write-ahead log {}, group {} at position {}, {} bytes: {what}. Nothing of it was acknowledged. Check the device, \
             then start again: the log is read back from the device",
            path.display(),
            group.sequence,
            group.position,
            group.length
        );
        shared.env.halt(Fatal::WalSync, &message);
    }
    if progress { Poll::Ready(()) } else { Poll::Pending }
}
