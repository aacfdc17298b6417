//! What replicas ask of the controller, and how its answers become theirs.
//!
//! Invariants
//! - What is asked at the same time goes as one request: a failover of thousands of partitions is a few.
//! - So many requests are under way at once, and so many questions wait, as the bounds say. A question that finds no place is asked
//!   again by its replica; a read of the metadata waits for a place.
//!
//! Not here: when replicas ask, and what they make of the answer (`quipu-replication`); what is decided (`quipu-controller`).

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{BrokerEpoch, BrokerId, TopicIdPartition};
use quipu_controller::{AskPartitions, GiveUpReason, PartitionAnswer, PartitionAsk, limits::ASKS_PER_REQUEST_MAX};
use quipu_env::{Clock, Env};
use quipu_metadata::{ConfigurationVersion, Member};
use quipu_replication::{Ask, GiveUp, PartitionState, Verdict};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    quorum::{AskError, CommitError, ControllerHandle},
    shard::partition_state,
};

/// Questions that wait for their turn.
pub(crate) const ASKS_MAX: usize = 16 * 1024;
/// Requests under way at once.
const UNDER_WAY_MAX: usize = 4;
/// Between two tries to read the metadata behind a barrier.
const BARRIER_PAUSE: Duration = Duration::from_millis(100);

/// A replica's question.
pub(crate) enum Asked {
    /// A change, or an election.
    Ask { partition: TopicIdPartition, ask: Ask, reply: oneshot::Sender<(Verdict, Option<PartitionState>)> },
    /// The partition's record, read with a barrier begun now; none if there is no such partition.
    Barrier { partition: TopicIdPartition, reply: oneshot::Sender<Option<PartitionState>> },
}

/// Questions that go together.
#[derive(Default)]
struct Together {
    asks: Vec<(TopicIdPartition, PartitionAsk)>,
    askers: Vec<oneshot::Sender<(Verdict, Option<PartitionState>)>>,
    barriers: Vec<(TopicIdPartition, oneshot::Sender<Option<PartitionState>>)>,
}

impl Together {
    fn add(&mut self, asked: Asked) {
        match asked {
            Asked::Ask { partition, ask, reply } => {
                self.asks.push((partition, partition_ask(ask)));
                self.askers.push(reply);
            }
            Asked::Barrier { partition, reply } => self.barriers.push((partition, reply)),
        }
    }

    fn is_full(&self) -> bool {
        self.asks.len() >= ASKS_PER_REQUEST_MAX || self.barriers.len() >= ASKS_PER_REQUEST_MAX
    }
}

/// Asks what the shards of this broker want to know, under this registration, until they are gone.
pub(crate) async fn run<E: Env>(
    env: E,
    controller: ControllerHandle,
    (broker, broker_epoch): (BrokerId, BrokerEpoch),
    mut asked: mpsc::Receiver<Asked>,
) {
    let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    while let Some(first) = asked.recv().await {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        let mut together = Together::default();
        together.add(first);
        while !together.is_full()
            && let Ok(next) = asked.try_recv()
        {
            together.add(next);
        }
        let Together { asks, askers, barriers } = together;
        let (controller, task_env) = (controller.clone(), env.clone());
        let _task = env.spawn(env.current_shard(), "ask", async move {
            // The barrier begins now, whatever becomes of the asks.
            if !barriers.is_empty() {
                read_behind_barrier(&task_env, &controller, barriers).await;
            }
            if !asks.is_empty() {
                answer(&controller, AskPartitions { broker, broker_epoch, asks }, askers).await;
            }
            drop(place);
        });
    }
}

async fn answer(
    controller: &ControllerHandle,
    request: AskPartitions,
    askers: Vec<oneshot::Sender<(Verdict, Option<PartitionState>)>>,
) {
    match controller.ask(request).await {
        Ok(answers) => {
            for (PartitionAnswer { verdict, state, .. }, reply) in answers.into_iter().zip(askers) {
                let verdict = match verdict {
                    quipu_controller::Verdict::Accepted => Verdict::Accepted,
                    quipu_controller::Verdict::Declined => Verdict::Declined,
                    quipu_controller::Verdict::Conflict => Verdict::Conflict,
                };
                // Whoever asked may be gone: then the replica is.
                drop(reply.send((verdict, state.as_ref().map(partition_state))));
            }
        }
        Err(error) => {
            tracing::debug!(%error, "the controller did not answer what replicas asked; they ask again");
            askers.into_iter().for_each(|reply| drop(reply.send((Verdict::Unavailable, None))));
        }
    }
}

async fn read_behind_barrier<E: Env>(
    env: &E,
    controller: &ControllerHandle,
    barriers: Vec<(TopicIdPartition, oneshot::Sender<Option<PartitionState>>)>,
) {
    let image = loop {
        match controller.read().await {
            Ok(image) => break image,
            Err(AskError::Commit(CommitError::Stopping)) => return,
            Err(_) => env.clock().sleep(BARRIER_PAUSE).await,
        }
    };
    for (partition, reply) in barriers {
        drop(reply.send(image.partition(partition).map(partition_state)));
    }
}

fn member(member: quipu_replication::Member) -> Member {
    Member { broker: member.node, directory_id: member.directory_id }
}

fn partition_ask(ask: Ask) -> PartitionAsk {
    match ask {
        Ask::Change { epoch, version, configuration } => PartitionAsk::ChangeConfiguration {
            leader_epoch: epoch,
            version: ConfigurationVersion(version.0),
            members: configuration.members.into_iter().map(member).collect(),
            quorum: u16::try_from(configuration.quorum).unwrap_or(u16::MAX),
        },
        Ask::GiveUp { epoch, reason } => {
            let reason = match reason {
                GiveUp::CannotLead => GiveUpReason::CannotLead,
                GiveUp::NotActive => GiveUpReason::NotActive,
                GiveUp::CannotCommit => GiveUpReason::CannotCommit,
                GiveUp::WriteFailed => GiveUpReason::WriteFailed,
                GiveUp::CommittedRecordsMissing => GiveUpReason::CommittedRecordsMissing,
                GiveUp::Removed => GiveUpReason::Removed,
            };
            PartitionAsk::GiveUpLeadership { leader_epoch: epoch, reason }
        }
        Ask::Prefer { epoch, reporter } => {
            PartitionAsk::PreferLeader { leader_epoch: epoch, reporter: member(reporter) }
        }
    }
}
