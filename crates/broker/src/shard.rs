//! One shard: the task that owns the order of everything that changes its partitions' logs.
//!
//! Invariants
//! - Commands are carried out in the order in which they arrive; an append takes its offsets before the next command is
//!   looked at.
//! - A reply is released only when everything it tells of is durable. Tickets rise in the order of appends, so the parked
//!   replies form a queue.
//! - The high watermark moves before the reply leaves: who has the acknowledgement can read the record.
//!
//! Not here: validation of batches ([`crate::handlers`], before they come here), the log itself (`quipu-storage`).

use std::{collections::VecDeque, sync::Arc};

use quipu_base::{Offset, Timestamp};
use quipu_env::{Clock, Env, Fatal, Probe, watch};
use quipu_storage::{AppendError, Appended, ChangeError, Reservation, Store, Ticket};
use tokio::sync::{mpsc, oneshot};

use crate::partition::Partition;

/// Commands that may wait for one shard. Their bytes are bounded by the budgets, not here.
pub(crate) const COMMANDS_MAX: usize = 4096;
/// Commands carried out before completions are looked at again.
const COMMANDS_PER_ROUND: usize = 64;

/// A checked batch on its way into a partition.
pub(crate) struct Append<E: Env> {
    pub(crate) partition: Arc<Partition<E>>,
    pub(crate) batch: quipu_records::Batch,
    pub(crate) reservation: Reservation<E>,
}

/// What became of an [`Append`].
pub(crate) struct AppendOutcome {
    pub(crate) result: Result<Appended, AppendError>,
    pub(crate) log_start: Offset,
}

/// What a shard can be asked.
pub(crate) enum Command<E: Env> {
    /// Appends, and answers when all of it is durable.
    Append { appends: Vec<Append<E>>, reply: oneshot::Sender<Vec<AppendOutcome>> },
    /// Moves a partition's log start, and answers with the new one when it is durable.
    MoveLogStart {
        partition: Arc<Partition<E>>,
        to: Offset,
        reservation: Reservation<E>,
        reply: oneshot::Sender<Result<Offset, ChangeError>>,
    },
}

/// A reply that waits for its ticket.
struct Parked<E: Env> {
    ticket: Ticket,
    /// Partitions with the ends of what they are told to have.
    grown: Vec<(Arc<Partition<E>>, Offset)>,
    release: Release,
}

enum Release {
    Append(oneshot::Sender<Vec<AppendOutcome>>, Vec<AppendOutcome>),
    LogStart(oneshot::Sender<Result<Offset, ChangeError>>, Result<Offset, ChangeError>),
}

/// The state of one shard's task.
pub(crate) struct Shard<E: Env> {
    env: E,
    commands: mpsc::Receiver<Command<E>>,
    durable: watch::Receiver<Ticket>,
    parked: VecDeque<Parked<E>>,
}

impl<E: Env> Shard<E> {
    pub(crate) fn new(env: E, store: &Store<E>, commands: mpsc::Receiver<Command<E>>) -> Self {
        Self { env, commands, durable: store.durable(), parked: VecDeque::new() }
    }

    /// Runs until nobody can send commands any more and everything parked has been released.
    pub(crate) async fn run(mut self) {
        let mut open = true;
        while open || !self.parked.is_empty() {
            tokio::select! { biased;
                changed = self.durable.changed(), if !self.parked.is_empty() => match changed {
                    Ok(()) => self.release_durable(),
                    Err(_) => self.env.halt(Fatal::TaskLost, "the write-ahead log's task has ended"),
                },
                command = self.commands.recv(), if open => match command {
                    Some(command) => self.handle_round(command),
                    None => open = false,
                },
            }
        }
    }

    fn handle_round(&mut self, first: Command<E>) {
        self.handle(first);
        for _ in 1..COMMANDS_PER_ROUND {
            let Ok(command) = self.commands.try_recv() else { break };
            self.handle(command);
        }
        self.release_durable();
    }

    fn handle(&mut self, command: Command<E>) {
        match command {
            Command::Append { appends, reply } => self.handle_appends(appends, reply),
            Command::MoveLogStart { partition, to, reservation, reply } => {
                self.handle_move_log_start(&partition, to, reservation, reply);
            }
        }
    }

    fn handle_appends(&mut self, appends: Vec<Append<E>>, reply: oneshot::Sender<Vec<AppendOutcome>>) {
        let now = self.env.clock().wall();
        let mut last = None;
        let mut grown = Vec::with_capacity(appends.len());
        let outcomes = appends
            .into_iter()
            .map(|append| {
                let partition = Arc::clone(&append.partition);
                let result = append_one(append, now);
                if let Ok(appended) = &result {
                    last = last.max(Some(appended.ticket));
                    grown.push((Arc::clone(&partition), appended.last_offset.next()));
                }
                AppendOutcome { result, log_start: partition.log.offsets().log_start }
            })
            .collect();
        self.park(last, grown, Release::Append(reply, outcomes));
    }

    fn handle_move_log_start(
        &mut self,
        partition: &Arc<Partition<E>>,
        to: Offset,
        reservation: Reservation<E>,
        reply: oneshot::Sender<Result<Offset, ChangeError>>,
    ) {
        let moved = partition.log.set_log_start(reservation, to);
        let ticket = moved.as_ref().ok().copied();
        let result = moved.map(|_| partition.log.offsets().log_start);
        self.park(ticket, Vec::new(), Release::LogStart(reply, result));
    }

    /// Parks a reply until `ticket` is durable; without a ticket there is nothing to wait for.
    fn park(&mut self, ticket: Option<Ticket>, grown: Vec<(Arc<Partition<E>>, Offset)>, release: Release) {
        match ticket {
            Some(Ticket::NONE) if self.env.probe().planted("log.duplicate-answered-unsynced") => {
                self.parked.push_front(Parked { ticket: Ticket::NONE, grown, release });
            }
            Some(ticket) => self.parked.push_back(Parked { ticket, grown, release }),
            None => release.send(),
        }
    }

    fn release_durable(&mut self) {
        let mut durable = *self.durable.borrow_and_update();
        if self.env.probe().planted("broker.acknowledge-unsynced") {
            durable = Ticket(u64::MAX);
        }
        while self.parked.front().is_some_and(|parked| parked.ticket <= durable) {
            let parked = self.parked.pop_front().expect("it was just seen");
            for (partition, told) in &parked.grown {
                let mut end = partition.log.offsets().durable_end;
                if self.env.probe().planted("broker.high-watermark-ahead") {
                    end = partition.log.offsets().log_end;
                }
                partition.advance_high_watermark(end);
                self.env.probe().event(
                    "broker.committed",
                    &[
                        ("topic", partition.id.topic_id.low()),
                        ("partition", i64::from(partition.id.partition.0)),
                        ("high-watermark", partition.high_watermark().0),
                        ("told", told.0),
                    ],
                );
            }
            self.env.probe().event("broker.released", &[("ticket", parked.ticket.0.cast_signed())]);
            self.env.probe().sometimes("broker.shard.released");
            parked.release.send();
        }
    }
}

impl Release {
    /// A receiver that is gone has lost its connection: the records stay, nobody is told.
    fn send(self) {
        match self {
            Self::Append(reply, outcomes) => drop(reply.send(outcomes)),
            Self::LogStart(reply, result) => drop(reply.send(result)),
        }
    }
}

fn append_one<E: Env>(append: Append<E>, now: Timestamp) -> Result<Appended, AppendError> {
    let Append { partition, batch, reservation } = append;
    let header = *batch.header();
    partition.log.append(reservation, partition.leader_epoch, &batch.into_bytes(), &header, now)
}
