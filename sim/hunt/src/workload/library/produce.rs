//! Records given to the library's producer, and its word on each.
//!
//! Invariants
//! - Each record is an operation of its own: how they are gathered in batches is the producer's business.
//! - A record that the producer calls not written fails: nobody may see it then. One whose fate it does not know may be there.

use core::time::Duration;
use std::sync::Arc;

use quipu_client::{
    Acks, ClientError, Delivery, ErrorKind, Producer, ProducerConfig, ProducerError, ProducerRecord, RecordMetadata,
    Written,
};
use quipu_env::{Env, Task};
use quipu_protocol::{ApiKey, ErrorCode};
use quipu_sim::SimEnv;

use super::{super::record, Library, code_of, is_refusal};
use crate::{
    history::{OpIndex, Outcome, Value, What},
    plan::{self, operation::BatchSpec},
    workload::Scene,
};

type Told = Result<RecordMetadata, ProducerError>;

fn config(spec: &plan::Client) -> ProducerConfig {
    let acks = match spec.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    ProducerConfig {
        acks,
        idempotence: is_idempotent(spec),
        batch_bytes: spec.client_batch_bytes,
        linger: Duration::from_millis(spec.client_linger_ms),
        compression: spec.codec.parse().expect("the plan was checked"),
        delivery_timeout: Duration::from_millis(spec.client_delivery_ms),
        broker_timeout: Duration::from_millis(u64::try_from(spec.timeout_ms).unwrap_or(0)),
        send_timeout: Duration::from_millis(spec.client_send_ms),
        memory_bytes: spec.client_memory_bytes,
        in_flight_max: spec.pipelined,
        request_bytes_max: spec.client_request_bytes,
        ..ProducerConfig::default()
    }
}

fn is_idempotent(spec: &plan::Client) -> bool {
    spec.idempotent && spec.acks == -1
}

impl Library {
    fn own_producer(&mut self) -> Producer<SimEnv> {
        if self.producer.is_none() {
            if !is_idempotent(&self.spec) {
                self.scene.recorder.loose(self.number);
            }
            let producer = self.client.producer(config(&self.spec)).expect("the plan was checked");
            self.producer = Some(producer);
        }
        self.producer.clone().expect("it has just been made")
    }

    pub(super) async fn produce(&mut self, topic: &str, batches: &[BatchSpec]) {
        let Some(known) = self.find(topic).await.filter(|_| !self.lost.contains(topic)) else { return };
        let count = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX).max(1);
        let producer = self.own_producer();
        let mut taken: Vec<(OpIndex, Delivery)> = Vec::new();
        for spec in batches {
            let partition = spec.partition.rem_euclid(count);
            let log = self.log(&known, partition);
            for _ in 0..spec.count {
                let value = Value { client: self.number, number: self.records };
                self.records += 1;
                let bytes = record::encode(value, topic, partition, spec.bytes as usize);
                let place = quipu_client::PartitionIndex(partition);
                let sent = ProducerRecord {
                    key: record::key(value),
                    ..ProducerRecord::new(Arc::clone(&known.name), bytes).with_partition(place)
                };
                let what = What::Send { log, values: vec![value], base_offset: None };
                let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
                match producer.send(sent).await {
                    Ok(delivery) => taken.push((op, delivery)),
                    Err(error) => self.refused(topic, op, error),
                }
            }
        }
        let (scene, number) = (self.scene.clone(), self.number);
        let wait = async move {
            for (op, delivery) in taken {
                told(&scene, number, op, delivery.await);
            }
        };
        let task = self.env.spawn(self.env.current_shard(), "workload.deliveries", wait);
        self.waiting.push(task);
    }

    /// The producer has not taken a record.
    fn refused(&mut self, topic: &str, op: OpIndex, error: ProducerError) {
        let is_closed = matches!(error.cause, ClientError::Closed);
        if self.loses() && code_of(&error.cause) == Some(ErrorCode::UnknownTopicOrPartition) {
            self.lost.insert(topic.to_owned());
        }
        told(&self.scene, self.number, op, Err(error));
        if is_closed {
            // What it has taken before is told by whoever waits.
            self.producer = None;
        }
    }

    /// Waits until the fate of every record is told.
    pub(super) async fn finish(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.close().await;
        }
        for task in self.waiting.drain(..) {
            task.join().await;
        }
    }
}

/// Notes the producer's word on a record.
fn told(scene: &Scene, number: u32, op: OpIndex, told: Told) {
    let (outcome, offset) = match told {
        Ok(metadata) => {
            scene.reached(ApiKey::Produce);
            // Where one replica of several has it, a later leader may not.
            let is_one = scene.plan.config.is_cluster() && scene.plan.workload.clients[number as usize].acks != -1;
            let place = metadata.offset.filter(|_| !is_one);
            place.map_or((Outcome::Info, None), |offset| (Outcome::Ok, Some(offset.0)))
        }
        Err(error) => {
            judge(scene, number, &error);
            (if error.written == Written::No { Outcome::Fail } else { Outcome::Info }, None)
        }
    };
    scene.recorder.complete(op, scene.now(), outcome, |what| {
        if let What::Send { base_offset, .. } = what {
            *base_offset = offset;
        }
    });
    scene.done.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
}

fn judge(scene: &Scene, number: u32, error: &ProducerError) {
    let loss = scene.plan.budget.loss;
    let code = code_of(&error.cause);
    code.into_iter().for_each(|code| scene.met(code));
    let is_expected = match (&error.cause, code) {
        (_, Some(code)) => scene.is_passing(code) || is_refusal(code, loss) || error.kind() == ErrorKind::Retriable,
        // A producer that was closed has told why by another record.
        (cause, None) => cause.is_retriable() || matches!(cause, ClientError::Closed),
    };
    if !is_expected {
        scene.strange(number, "unexpected-error", error.to_string());
    }
}
