//! Durable steps of one replica on their way to the log.
//!
//! ```text
//! Write -> Step -> submitted at once, if there is room and nothing has to be read
//!               -> in a task of its own otherwise; what comes behind it waits in the queue
//! ```
//!
//! Invariants
//! - Steps of one replica reach the log in the order of their ids.
//! - When one can't be submitted, none behind it is; once those before it are durable, the replica is told what the disk holds.
//!
//! Not here: durability itself (tickets, [`super::Shard`]).

use core::{
    fmt,
    future::Future,
    ops::Range,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::collections::VecDeque;

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset};
use quipu_env::{Clock, Env, Probe};
use quipu_records::Batch;
use quipu_replication::{Write, WriteId};
use quipu_storage::{AppendError, ChangeError, Class, Log, Reservation, StateKind, Step, Store, StoreFull, Ticket};

use super::{Hub, Report, Submitted, hosted::Hosted};

/// Why a step was not submitted.
#[derive(Debug)]
pub(super) enum StepError {
    /// There is no room.
    Full(StoreFull),
    /// The log did not take it.
    Change(ChangeError),
    /// The log did not take a batch that it had been asked about.
    Append(AppendError),
    /// The batches at hand are not the records that were named.
    OtherRecords,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
            Self::Append(error) => error.fmt(f),
            Self::OtherRecords => f.write_str("the batches at hand are not the records that were to be written"),
        }
    }
}

impl core::error::Error for StepError {}

/// Where a step's records come from.
pub(super) enum Source<E: Env> {
    Nothing,
    /// A client's batch, to be placed at the log's end in this epoch.
    Request {
        epoch: LeaderEpoch,
        batch: Batch,
        reservation: Reservation<E>,
    },
    /// A peer's batches, placed already.
    Message(Vec<Batch>),
}

/// What is to be submitted.
enum Job<E: Env> {
    Append { epoch: LeaderEpoch, batch: Batch, reservation: Reservation<E>, at: Offset },
    Step { step: Step, has_to_wait: bool, class: Class, clears_damage: bool },
}

/// The steps of one replica that are not durable yet.
pub(super) struct Steps<E: Env> {
    queue: VecDeque<(WriteId, Job<E>)>,
    /// A task is busy with one.
    is_running: bool,
    /// Submitted, not durable.
    under_way: usize,
    has_failed: bool,
}

impl<E: Env> Default for Steps<E> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), is_running: false, under_way: 0, has_failed: false }
    }
}

impl<E: Env> Steps<E> {
    /// One submitted before is durable.
    pub(super) fn on_durable(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether everything that was asked of the log is durable.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_failed && self.queue.is_empty() && !self.is_running && self.under_way == 0
    }

    /// Whether one failed, and all before it are durable.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed && self.under_way == 0 && !self.is_running
    }

    /// The replica is told.
    pub(super) fn begin_anew(&mut self) {
        self.has_failed = false;
        self.queue.clear();
    }
}

/// For the simulator's planted bugs.
fn forget_state(probe: &impl Probe, write: &mut Write) {
    if probe.planted("step.label-not-written") {
        write.label = None;
    }
    if probe.planted("step.log-start-not-written") {
        write.log_start = None;
    }
}

impl<E: Env> Hosted<E> {
    /// Has a step submitted, now or in its turn.
    pub(super) fn submit(&mut self, hub: &mut Hub<E>, mut write: Write, source: Source<E>) {
        if self.steps.has_failed {
            return;
        }
        forget_state(hub.env.probe(), &mut write);
        let id = write.id;
        match self.job(write, source) {
            Ok(job) => {
                self.steps.queue.push_back((id, job));
                self.run_queued(hub);
            }
            Err(error) => self.note_submitted(hub, id, Err(error)),
        }
    }

    fn job(&mut self, write: Write, source: Source<E>) -> Result<Job<E>, StepError> {
        if let (Some((_, range)), Source::Request { .. }) = (&write.append, &source) {
            let at = range.start;
            let Source::Request { epoch, batch, reservation } = source else { unreachable!("it was just seen") };
            return Ok(Job::Append { epoch, batch, reservation, at });
        }
        let batches = match source {
            Source::Message(batches) => batches,
            Source::Nothing | Source::Request { .. } => Vec::new(),
        };
        // The leader's log may begin inside a batch. What is appended to a log that is empty may then begin before the log does.
        let log_start = self.replica.log().log_start;
        let begins = |range: &Range<Offset>| write.begin_anew.is_some() || range.start == log_start;
        let append = write.append.as_ref();
        let append = append.map_or(Ok(Vec::new()), |(_, range)| records(&batches, range, begins(range)))?;
        let inside = write.append.as_ref().and_then(|(_, range)| begun_inside(&batches, range));
        let repair = write.repair.as_ref().map_or(Ok(Vec::new()), |range| records(&batches, range, false))?;
        let mut states = Vec::new();
        if write.promise.is_some() || write.label.is_some() || write.faulty.is_some() {
            self.written.promised = write.promise.unwrap_or(self.written.promised);
            self.written.label = write.label.unwrap_or(self.written.label);
            self.written.is_faulty = write.faulty.unwrap_or(self.written.is_faulty);
            states.push((StateKind::Replica, self.written.encode()));
        }
        let clears_damage = write.faulty == Some(false);
        let has_to_wait = inside.is_some()
            || write.begin_anew.is_some()
            || write.truncate.is_some()
            || write.repair.is_some()
            || clears_damage;
        let class = if append.is_empty() && repair.is_empty() { Class::Reserve } else { Class::Normal };
        let Write { mut begin_anew, mut truncate, mut log_start, .. } = write;
        // Here it begins with that batch, and what is before its start is not shown.
        if let Some((base, at)) = inside {
            (begin_anew, truncate) = (Some(base), None);
            log_start = log_start.max(Some(at));
        }
        let step = Step { begin_anew, truncate, append, repair, log_start, states };
        Ok(Job::Step { step, has_to_wait, class, clears_damage })
    }

    /// Submits what is queued, as far as nothing has to wait.
    pub(super) fn run_queued(&mut self, hub: &mut Hub<E>) {
        while !self.steps.is_running
            && !self.steps.has_failed
            && let Some((id, job)) = self.steps.queue.pop_front()
        {
            match job {
                Job::Append { epoch, batch, reservation, at } => {
                    let result = self.append(hub, epoch, batch, reservation, at);
                    self.note_submitted(hub, id, result);
                }
                Job::Step { step, has_to_wait: false, class, .. } => {
                    match at_once(hub.store.reserve(step.reservation_bytes(), class)) {
                        Some(Ok(reservation)) => {
                            let moves_start = step.log_start.is_some();
                            let result = self.partition.log.try_step(reservation, step).map_err(StepError::Change);
                            if moves_start {
                                self.partition.waiters.wake();
                            }
                            self.note_submitted(hub, id, result);
                        }
                        Some(Err(error)) => self.note_submitted(hub, id, Err(StepError::Full(error))),
                        None => self.run_in_task(hub, id, step, class, false),
                    }
                }
                Job::Step { step, has_to_wait: true, class, clears_damage } => {
                    self.run_in_task(hub, id, step, class, clears_damage);
                }
            }
        }
    }

    fn append(
        &self,
        hub: &mut Hub<E>,
        epoch: LeaderEpoch,
        batch: Batch,
        reservation: Reservation<E>,
        at: Offset,
    ) -> Result<Ticket, StepError> {
        let header = *batch.header();
        let now = hub.env.clock().wall();
        let appended = self.partition.log.append(reservation, epoch, &batch.into_bytes(), &header, now);
        let appended = appended.map_err(StepError::Append)?;
        assert_eq!(appended.base_offset, at, "replica and log agree on where the log ends");
        hub.requests.note_ticket(appended.ticket);
        Ok(appended.ticket)
    }

    fn run_in_task(&mut self, hub: &Hub<E>, write: WriteId, step: Step, class: Class, clears_damage: bool) {
        self.steps.is_running = true;
        let (log, store, reports) = (self.partition.log.clone(), hub.store.clone(), hub.reports.clone());
        let (partition, birth) = (self.partition.id, self.birth);
        let _task = hub.env.spawn(hub.number, "replica-step", async move {
            let result = submit(&log, &store, step, class, clears_damage).await;
            // A shard that is gone has nobody to tell.
            drop(reports.send(Report::Submitted { partition, birth, write, result }).await);
        });
    }

    /// A step is in the WAL's queue, or isn't.
    pub(super) fn note_submitted(&mut self, hub: &mut Hub<E>, write: WriteId, result: Result<Ticket, StepError>) {
        match result {
            Ok(ticket) => {
                self.steps.under_way += 1;
                let submitted = Submitted { partition: self.partition.id, birth: self.birth, write };
                hub.under_way.entry(ticket).or_default().push(submitted);
            }
            Err(error) => {
                tracing::warn!(partition = %self.partition.id, %error, "a replica's write failed");
                self.steps.has_failed = true;
                self.steps.queue.clear();
            }
        }
    }

    /// The task that was busy with a step has ended.
    pub(super) fn note_task_ended(&mut self) {
        self.steps.is_running = false;
        self.partition.waiters.wake();
    }
}

/// Submits a step, however long it has to wait. A replica that becomes sound knows that nothing is missing behind its log's end.
async fn submit<E: Env>(
    log: &Log<E>,
    store: &Store<E>,
    step: Step,
    class: Class,
    clears_damage: bool,
) -> Result<Ticket, StepError> {
    if clears_damage && !log.damage().is_empty() {
        let reservation = store.reserve(0, class).await.map_err(StepError::Full)?;
        log.clear_damage(reservation).map_err(StepError::Change)?;
    }
    let reservation = store.reserve(step.reservation_bytes(), class).await.map_err(StepError::Full)?;
    log.step(reservation, step).await.map_err(StepError::Change)
}

/// The bytes of exactly these records; if the log begins with them, the first batch may begin before.
fn records(batches: &[Batch], range: &Range<Offset>, may_begin_before: bool) -> Result<Vec<Bytes>, StepError> {
    let mut at = range.start;
    let mut picked = Vec::new();
    for batch in batches {
        let header = batch.header();
        if header.next_offset() <= range.start || header.base_offset >= range.end {
            continue;
        }
        // A gap stands for any of its offsets.
        if (header.base_offset < at || header.next_offset() > range.end)
            && let Some(part) = header.gap_within(&(at..range.end))
        {
            at = part.header().next_offset();
            picked.push(part.into_bytes());
            continue;
        }
        let begins_before = may_begin_before && at == range.start && header.base_offset < at;
        if (header.base_offset != at && !begins_before) || header.next_offset() > range.end {
            return Err(StepError::OtherRecords);
        }
        at = header.next_offset();
        picked.push(batch.bytes().clone());
    }
    if at == range.end { Ok(picked) } else { Err(StepError::OtherRecords) }
}

/// Where the batch begins that these records begin inside, and where they do.
fn begun_inside(batches: &[Batch], range: &Range<Offset>) -> Option<(Offset, Offset)> {
    let first = batches.iter().map(Batch::header).find(|header| header.next_offset() > range.start)?;
    (first.base_offset < range.start && !first.is_gap()).then_some((first.base_offset, range.start))
}

/// What a future gives without waiting.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use quipu_records::{BatchBuilder, NewRecord, compact::gap};

    use super::*;

    fn batch(base: i64) -> Batch {
        let mut builder = BatchBuilder::new().base_offset(Offset(base));
        let record = NewRecord { timestamp: quipu_base::Timestamp(1), key: None, value: Some(b"v"), headers: &[] };
        builder.push(&record).expect("a small record");
        builder.build().expect("a batch")
    }

    fn picked(batches: &[Batch], from: i64, to: i64) -> Option<Vec<(i64, i64)>> {
        let picked = records(batches, &(Offset(from)..Offset(to)), false).ok()?;
        let range = |bytes| {
            let batch = Batch::parse_checked(bytes).expect("a whole batch");
            (batch.header().base_offset.0, batch.header().next_offset().0)
        };
        Some(picked.into_iter().map(range).collect())
    }

    #[test]
    fn a_gap_is_cut_to_what_is_wanted() {
        let batches = [batch(2), gap(&(Offset(3)..Offset(9)), LeaderEpoch(0)), batch(9)];
        assert_eq!(picked(&batches, 2, 10), Some(vec![(2, 3), (3, 9), (9, 10)]));
        assert_eq!(
            picked(&batches, 5, 10),
            Some(vec![(5, 9), (9, 10)]),
            "a follower that ends inside it takes the rest"
        );
        assert_eq!(picked(&batches, 4, 7), Some(vec![(4, 7)]));
        assert_eq!(picked(&batches, 2, 12), None);
        assert_eq!(begun_inside(&batches, &(Offset(5)..Offset(10))), None, "no log has to begin before it does");
    }
}
