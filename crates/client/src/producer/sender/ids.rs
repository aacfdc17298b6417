//! The producer id, which idempotence needs, and what becomes of partitions that need another epoch.
//!
//! Invariants
//! - One question for an id is under way. As long as there is none, nothing is sent.
//! - An id is used until a partition has had all its epochs; then all partitions that need another epoch go on under the next id.
//!
//! Not here: when an epoch must begin (`state`).

use quipu_base::{BrokerId, ProducerEpoch, ProducerId};
use quipu_env::{Env, Instant};
use quipu_protocol::{ErrorCode, Response, messages::init_producer_id::InitProducerIdRequest};

use super::{
    super::state::{Expired, Identity},
    Event, Sender, refused,
};
use crate::{
    ClientError,
    connection::{Answer, Call, ReplyTo},
    pool::Target,
    producer::Written,
};

/// Whether there is a producer id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IdState {
    /// Without idempotence.
    None,
    Wanted {
        not_before: Instant,
        failures: u32,
    },
    Asked {
        failures: u32,
    },
    Has(Identity),
}

impl<E: Env> Sender<E> {
    pub(super) fn begin_epochs(&mut self) {
        let mut failed = Vec::new();
        let mut needs_id = false;
        for pipeline in self.pipelines.values_mut().filter(|pipeline| pipeline.is_epoch_due()) {
            match pipeline.begin_next_epoch() {
                Ok(doubtful) => failed.extend(doubtful),
                Err(_) => match self.id {
                    // The id that others of its partitions still use, or a new one that was brought for this.
                    IdState::Has(identity) if !pipeline.has_used(identity.id) => {
                        failed.extend(pipeline.begin(identity));
                    }
                    _ => needs_id = true,
                },
            }
        }
        if needs_id && matches!(self.id, IdState::Has(_)) {
            self.id = IdState::Wanted { not_before: Instant::ZERO, failures: 0 };
        }
        for mut sealed in failed {
            let last = sealed.last_error.take();
            let error = last.unwrap_or_else(|| refused("produce", ErrorCode::OutOfOrderSequenceNumber));
            self.fail(sealed, Written::Unknown, error);
        }
    }

    pub(super) fn ask_for_id(&mut self, now: Instant) {
        let IdState::Wanted { not_before, failures } = self.id else { return };
        if not_before > now {
            return;
        }
        let cluster = self.client.cluster();
        let brokers: Vec<BrokerId> = cluster.brokers.keys().copied().collect();
        let Some(turn) = usize::try_from(failures).unwrap_or(0).checked_rem(brokers.len()) else {
            return;
        };
        self.id = IdState::Asked { failures };
        let post = self.post.clone();
        // An error means that the task is gone.
        let reply = ReplyTo::new(move |outcome| drop(post.send(Event::ProducerId(outcome))));
        let request =
            InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX, ..Default::default() };
        let patience = self.client.config().request_timeout;
        let call = Call { request: request.into(), versions: 0..=i16::MAX, patience, has_reply: true, reply };
        self.pool.call(Target::Broker(brokers[turn]), call);
    }

    pub(super) fn handle_producer_id(&mut self, now: Instant, outcome: Result<Option<Answer>, ClientError>) {
        let IdState::Asked { failures } = self.id else { return };
        let error = match outcome {
            Ok(Some(Answer { response: Response::InitProducerId(response), .. })) if response.error_code == 0 => {
                let id = ProducerId(response.producer_id);
                self.id = IdState::Has(Identity { id, epoch: ProducerEpoch(response.producer_epoch) });
                return;
            }
            Ok(Some(Answer { response: Response::InitProducerId(response), .. })) => {
                ClientError::refused("ask for a producer id", response.error_code, None)
            }
            Ok(_) => unreachable!("a request has a reply of its own kind"),
            Err(error) => error,
        };
        let failures = failures.saturating_add(1);
        let pause = self.client.shared().backoff().pause(failures, &mut self.rng);
        self.id = IdState::Wanted { not_before: now + pause, failures };
        if !error.is_retriable() {
            self.fatal = Some(error);
        }
    }

    /// Once no producer id can be had, nothing can be sent any more.
    pub(super) fn fail_if_fatal(&mut self) {
        let Some(error) = self.fatal.clone() else { return };
        let mut told = Vec::new();
        for pipeline in self.pipelines.values_mut() {
            while let Some(expired) = pipeline.expire(Instant::from_nanos(u64::MAX)) {
                match expired {
                    // Settled when its answer comes: whoever waits for a flush waits for that.
                    Expired::UnderWay(sealed) => sealed.settler.failed(Written::Unknown, error.clone()),
                    Expired::Gone(sealed, written) => told.push((sealed, written)),
                }
            }
        }
        for (sealed, written) in told {
            self.fail(sealed, written, error.clone());
        }
        self.common.close(&error);
    }
}
