//! Clients' requests that wait for an answer: what a replica calls by a number, the shard answers on a channel.
//!
//! Invariants
//! - Every batch of a produce request gets one outcome, and the request's reply leaves with the last of them.
//! - A request that nobody waits for any more is answered all the same, into the void.
//!
//! Not here: deadlines (the replica's, and the handler's).

use std::collections::BTreeMap;

use quipu_base::{Offset, TopicIdPartition};
use quipu_env::{Env, Probe};
use quipu_records::BatchHeader;
use quipu_replication::{Reply, RequestError, RequestId};
use quipu_storage::Ticket;
use tokio::sync::oneshot;

use super::{AppendOutcome, ProduceError};
use crate::{partition::Partition, turned_away::TurnedAway};

/// The place of an outcome: the request, and the batch in it.
pub(super) type Place = (u64, usize);

/// Who waits for a replica.
pub(super) enum Waiting {
    /// A batch.
    Append {
        partition: TopicIdPartition,
        place: Place,
        header: BatchHeader,
        /// By which it is durable here, once it is submitted.
        ticket: Ticket,
    },
    /// A deletion.
    Delete { partition: TopicIdPartition, reply: oneshot::Sender<Result<Offset, RequestError>> },
}

/// A produce request, as far as this shard answers it.
struct Group {
    outcomes: Vec<Option<AppendOutcome>>,
    left: usize,
    /// The latest of its successes.
    ticket: Ticket,
    reply: oneshot::Sender<Vec<AppendOutcome>>,
}

/// All of a shard's.
#[derive(Default)]
pub(super) struct Requests {
    next: u64,
    groups: BTreeMap<u64, Group>,
    waiting: BTreeMap<RequestId, Waiting>,
    /// Batches that replicas here have refused for the moment.
    turned_away: TurnedAway<RequestError>,
}

impl Requests {
    /// A produce request of so many batches.
    pub(super) fn open(&mut self, batches: usize, reply: oneshot::Sender<Vec<AppendOutcome>>) -> u64 {
        self.next += 1;
        let outcomes = core::iter::repeat_with(|| None).take(batches).collect();
        self.groups.insert(self.next, Group { outcomes, left: batches, ticket: Ticket::NONE, reply });
        self.next
    }

    /// Names somebody who waits.
    pub(super) fn wait(&mut self, waiting: Waiting) -> RequestId {
        self.next += 1;
        let id = RequestId(self.next);
        self.waiting.insert(id, waiting);
        id
    }

    /// The last batch that began to wait is in the WAL's queue.
    pub(super) fn note_ticket(&mut self, ticket: Ticket) {
        if let Some(mut last) = self.waiting.last_entry()
            && let Waiting::Append { ticket: known, .. } = last.get_mut()
        {
            *known = ticket;
        }
    }

    /// Those who wait for a partition that is gone.
    pub(super) fn take_of(&mut self, id: TopicIdPartition) -> Vec<Waiting> {
        let is_of = |waiting: &Waiting| match waiting {
            Waiting::Append { partition, .. } | Waiting::Delete { partition, .. } => *partition == id,
        };
        let ids: Vec<RequestId> =
            self.waiting.iter().filter(|(_, waiting)| is_of(waiting)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.waiting.remove(&id)).collect()
    }

    /// Carries out a replica's reply.
    pub(super) fn answer<E: Env>(
        &mut self,
        env: &E,
        id: RequestId,
        reply: Reply,
        log_start: Offset,
        partition: &Partition<E>,
    ) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        match (waiting, reply) {
            (waiting, Reply::Failed(error)) => self.fail(env, waiting, error, log_start),
            (Waiting::Append { place, header, ticket, .. }, Reply::Produced { base_offset }) => {
                let record_count = i64::from(header.last_offset_delta) + 1;
                tell_committed(env, partition, Offset(base_offset.0 + record_count));
                let outcome = AppendOutcome { result: Ok(base_offset), log_start };
                self.fill(env, place, ticket, outcome);
            }
            (Waiting::Delete { reply, .. }, Reply::Deleted { log_start }) => drop(reply.send(Ok(log_start))),
            (Waiting::Append { .. }, Reply::Deleted { .. }) | (Waiting::Delete { .. }, Reply::Produced { .. }) => {
                unreachable!("a replica answers what it was asked")
            }
        }
    }

    pub(super) fn fail<E: Env>(&mut self, env: &E, waiting: Waiting, error: RequestError, log_start: Offset) {
        match waiting {
            Waiting::Append { partition, place, header, .. } => {
                self.turn_away(partition, &header, error);
                let outcome = AppendOutcome { result: Err(ProduceError::Replica(error)), log_start };
                self.fill(env, place, Ticket::NONE, outcome);
            }
            Waiting::Delete { reply, .. } => drop(reply.send(Err(error))),
        }
    }

    /// A batch is refused; what is behind it is not to be taken for out of order.
    pub(super) fn turn_away(&mut self, partition: TopicIdPartition, header: &BatchHeader, error: RequestError) {
        if is_for_the_moment(error) && self.turned_away.note(partition, header, error).is_err() {
            // Those that are still to come again are told a gap, as if nobody had remembered them.
            self.turned_away.clear();
        }
    }

    /// Why a batch that its log takes, or would but for a gap before it, is to wait for one that was turned away.
    pub(super) fn has_to_wait(
        &mut self,
        partition: TopicIdPartition,
        header: &BatchHeader,
        is_next: impl FnOnce() -> bool,
    ) -> Option<RequestError> {
        self.turned_away.check(partition, header, is_next).err()
    }

    /// One batch has its outcome.
    pub(super) fn fill<E: Env>(&mut self, env: &E, place: Place, ticket: Ticket, outcome: AppendOutcome) {
        let (group_id, index) = place;
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        group.ticket = group.ticket.max(ticket);
        if group.outcomes[index].replace(outcome).is_none() {
            group.left -= 1;
        }
        if group.left == 0
            && let Some(group) = self.groups.remove(&group_id)
        {
            env.probe().event("broker.released", &[("ticket", group.ticket.0.cast_signed())]);
            env.probe().sometimes("broker.shard.released");
            // A receiver that is gone has lost its connection: the records stay, nobody is told.
            drop(group.reply.send(group.outcomes.into_iter().flatten().collect()));
        }
    }
}

/// Whether the batch comes again as it is, and nothing was written of it.
const fn is_for_the_moment(error: RequestError) -> bool {
    match error {
        RequestError::NotLeader
        | RequestError::NotEnoughReplicas
        | RequestError::Storage
        | RequestError::Overloaded => true,
        RequestError::TimedOut
        | RequestError::OffsetOutOfRange
        | RequestError::OffsetNotAvailable
        | RequestError::Invalid => false,
    }
}

/// Tells the simulator's checkers up to where somebody is told that records are kept.
pub(super) fn tell_committed<E: Env>(env: &E, partition: &Partition<E>, told: Offset) {
    env.probe().event(
        "broker.committed",
        &[
            ("topic", partition.id.topic_id.low()),
            ("partition", i64::from(partition.id.partition.0)),
            ("high-watermark", partition.high_watermark().0),
            ("told", told.0),
        ],
    );
}
