//! A batch whose sequence does not follow the last one that the log has of its producer.
//!
//! OUT_OF_ORDER_SEQUENCE_NUMBER is final: it says that batches which were acknowledged are gone, and the producer begins anew. A
//! leader that was deposed and does not know it yet lacks what the new one has acknowledged. So, where there are others, the
//! metadata is read behind a barrier first: who leads then has all that was acknowledged before the batch came.
//!
//! Invariant: who can't be sure answers what is retriable, and the batch comes again.
//!
//! Not here: what a gap is (`quipu-storage`); batches behind one that was turned away ([`super::requests`]).

use quipu_base::{BrokerId, LeaderEpoch, Offset};
use quipu_env::{Clock, Env, Instant, Probe};
use quipu_records::BatchHeader;
use quipu_replication::{PartitionState, RequestError};
use quipu_storage::{AppendError, Ticket};
use tokio::sync::oneshot;

use super::{
    AppendOutcome, Hub, ProduceError, Report,
    hosted::{Hosted, has_others},
    requests::Place,
};
use crate::asks::Asked;

/// A batch that is behind a gap.
pub(super) struct Gap {
    header: BatchHeader,
    place: Place,
    /// In which this replica led when the batch came.
    epoch: LeaderEpoch,
}

impl Gap {
    /// The partition has gone meanwhile.
    pub(super) fn not_here<E: Env>(&self, hub: &mut Hub<E>) {
        let result = Err(ProduceError::Replica(RequestError::NotLeader));
        hub.requests.fill(&hub.env, self.place, Ticket::NONE, AppendOutcome { result, log_start: Offset(-1) });
    }
}

impl<E: Env> Hosted<E> {
    /// Answers a batch behind a gap: at once where nobody else can lead, or else when it is known who leads.
    pub(super) fn on_gap(
        &self,
        hub: &mut Hub<E>,
        (header, error): (&BatchHeader, AppendError),
        place: Place,
        deadline: Instant,
    ) {
        let epoch = self.partition.active_epoch().unwrap_or(LeaderEpoch::NONE);
        if !has_others(self.replica.record()) || hub.env.probe().planted("produce.gap-believed") {
            return self.refuse(hub, place, ProduceError::Log(error));
        }
        hub.env.probe().sometimes("produce.gap-asked");
        let gap = Gap { header: *header, place, epoch };
        let (env, asks, reports, partition) =
            (hub.env.clone(), hub.asks.clone(), hub.reports.clone(), self.partition.id);
        let _task = hub.env.spawn(hub.number, "produce-gap", async move {
            let (reply, answer) = oneshot::channel();
            let record = async {
                asks.send(Asked::Barrier { partition, reply }).await.ok()?;
                answer.await.ok().flatten()
            };
            let record = tokio::select! { biased;
                record = record => record,
                () = env.clock().sleep_until(deadline) => None,
            };
            drop(reports.send(Report::Gap { partition, gap, record }).await);
        });
    }

    /// The metadata was read for it, or could not be in time.
    pub(super) fn on_gap_answer(&self, hub: &mut Hub<E>, gap: &Gap, record: Option<&PartitionState>) {
        let Gap { header, place, epoch } = gap;
        let own = hub.begun.map(|begun| begun.identity.member.node);
        let leads =
            |record: &PartitionState| leads_in(record, own, *epoch) && self.partition.active_epoch() == Some(*epoch);
        let error = match record {
            Some(record) if leads(record) => match self.partition.log.check_append(header, hub.env.clock().wall()) {
                Err(error) => return self.refuse(hub, *place, ProduceError::Log(error)),
                // What was missing has come meanwhile.
                Ok(_) => RequestError::NotEnoughReplicas,
            },
            Some(_) => RequestError::NotLeader,
            None => RequestError::NotEnoughReplicas,
        };
        hub.env.probe().sometimes("produce.gap-not-believed");
        hub.requests.turn_away(self.partition.id, header, error);
        self.refuse(hub, *place, ProduceError::Replica(error));
    }

    fn refuse(&self, hub: &mut Hub<E>, place: Place, error: ProduceError) {
        let outcome = AppendOutcome { result: Err(error), log_start: self.partition.log.offsets().log_start };
        hub.requests.fill(&hub.env, place, Ticket::NONE, outcome);
    }
}

fn leads_in(record: &PartitionState, own: Option<BrokerId>, epoch: LeaderEpoch) -> bool {
    record.leader.is_some() && record.leader == own && record.leader_epoch == epoch
}
