//! A producer: batches under way together, sent again in order until they are acknowledged if they carry sequence numbers, and
//! once if they don't.
//!
//! Invariants
//! - Batches of one partition are sent in order, always with the same sequence numbers.
//! - A batch is noted as failed only if it was sent once and refused: nobody may see it then.
//! - After a batch that was refused for good, the client takes another producer id: the broker would refuse all that follow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quipu_base::{ProducerEpoch, ProducerId, Sequence};
use quipu_env::{Clock, Env};
use quipu_protocol::{ErrorCode, Response, messages::produce::PartitionProduceResponse};
use quipu_records::{BatchBuilder, Codec, NewRecord};
use quipu_wire_client::{
    CallError,
    requests::{self, TopicRef},
};

use super::{
    client::{Client, text},
    echo::Last,
    record, topics,
};
use crate::{
    history::{LogIndex, OpIndex, Outcome, Value, What},
    plan::{
        Loss,
        operation::{BatchSpec, Operation},
    },
};

/// Versions of InitProducerId.
const INIT_VERSION: i16 = 4;

/// A batch on its way.
struct Part {
    log: LogIndex,
    partition: i32,
    bytes: Bytes,
    op: OpIndex,
    attempts: u32,
    done: bool,
}

/// A request with its batches.
struct Pending {
    topic: TopicRef,
    parts: Vec<Part>,
}

/// Who it is to the broker.
#[derive(Clone, Copy)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
}

/// See the module.
#[derive(Default)]
pub(super) struct Producer {
    identity: Option<Identity>,
    /// By log: the next sequence number.
    sequences: BTreeMap<LogIndex, i32>,
    pending: VecDeque<Pending>,
    /// No more batches under this identity.
    is_spoilt: bool,
}

impl Producer {
    /// Produces all of it.
    pub(super) async fn run(&mut self, client: &mut Client, operations: &[Operation]) {
        let mut left = operations.iter();
        loop {
            let taken = self.fill(client, &mut left).await;
            if self.pending.is_empty() && left.len() == 0 {
                return;
            }
            if let Err(error) = self.round(client).await {
                self.end_of_connection(client);
                client.failed(&error).await;
            }
            self.drop_done();
            for _ in 0..taken {
                client.rest().await;
            }
        }
    }

    /// Takes operations until as many are under way as may be. Answers how many it took.
    async fn fill(&mut self, client: &mut Client, left: &mut core::slice::Iter<'_, Operation>) -> usize {
        let mut taken = 0;
        if self.pending.is_empty() && self.is_spoilt {
            (self.identity, self.is_spoilt) = (None, false);
            self.sequences.clear();
        }
        while self.pending.len() < client.spec.pipelined && !self.is_spoilt {
            let Some(Operation::Produce { topic, batches }) = left.next() else { break };
            taken += 1;
            self.take(client, topic, batches).await;
        }
        taken
    }

    async fn take(&mut self, client: &mut Client, topic: &str, batches: &[BatchSpec]) {
        let Some(known) = topics::find(client, topic).await else { return };
        let identity = self.identify(client).await;
        let mut parts: Vec<Part> = Vec::new();
        for spec in batches {
            let partition = spec.partition.rem_euclid(known.partitions.max(1));
            if parts.iter().any(|part| part.partition == partition) {
                continue;
            }
            let log = client.log(&known, partition);
            let first = client.records;
            client.records += spec.count;
            let values: Vec<Value> =
                (first..client.records).map(|number| Value { client: client.number, number }).collect();
            let producer = identity.map(|Identity { id, epoch }| {
                let next = self.sequences.entry(log).or_insert(0);
                let sequence = Sequence(*next);
                *next += i32::try_from(spec.count).unwrap_or(0);
                requests::Producer { id, epoch, sequence }
            });
            let bytes = batch(client, topic, partition, &values, spec, producer);
            let what = What::Send { log, values, base_offset: None };
            let op = client.scene.recorder.invoke(client.number, client.scene.now(), what);
            parts.push(Part { log, partition, bytes, op, attempts: 0, done: false });
        }
        self.pending.push_back(Pending { topic: known.topic, parts });
    }

    /// Who the client is to the broker; none if its batches carry no sequence numbers.
    async fn identify(&mut self, client: &mut Client) -> Option<Identity> {
        if !is_idempotent(client) {
            return None;
        }
        while self.identity.is_none() {
            let Response::InitProducerId(response) = client.call(INIT_VERSION, requests::init_producer_id()).await
            else {
                continue;
            };
            match client.code(response.error_code) {
                ErrorCode::None => {
                    let (id, epoch) = (ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch));
                    self.identity = Some(Identity { id, epoch });
                }
                code => {
                    if !client.scene.is_passing(code) {
                        client.unexpected("InitProducerId", code, None);
                    }
                    client.pause().await;
                }
            }
        }
        self.identity
    }

    /// Sends what is not done, one request after the other, then takes in the replies.
    async fn round(&mut self, client: &mut Client) -> Result<(), CallError> {
        let (acks, timeout_ms) = (client.spec.acks, client.spec.timeout_ms);
        let mut sent = Vec::new();
        // What was to go first goes first: nothing is sent to a broker behind what could not be.
        let mut out_of_reach = BTreeSet::new();
        for (index, pending) in self.pending.iter_mut().enumerate() {
            let version = client.version_for(&pending.topic.name, client.spec.produce_version, 13);
            for (leader, batches) in pending.by_leader(client) {
                let partitions: Vec<i32> = batches.iter().map(|(partition, _)| *partition).collect();
                let request = requests::produce(&pending.topic, acks, timeout_ms, batches);
                let connection = match client.connection_to(leader).await {
                    Some(connection) if !out_of_reach.contains(&leader) => connection,
                    _ => {
                        out_of_reach.insert(leader);
                        continue;
                    }
                };
                let is_sent = |part: &&mut Part| !part.done && partitions.contains(&part.partition);
                pending.parts.iter_mut().filter(is_sent).for_each(|part| part.attempts += 1);
                connection.send(version, request).await?;
                if acks == 0 {
                    connection.expect_no_reply();
                } else {
                    sent.push((index, leader));
                }
            }
        }
        if acks == 0 {
            self.end_of_connection(client);
        }
        let mut is_misled = false;
        for (index, leader) in sent {
            let Some(connection) = client.connection_to(leader).await else { return Err(CallError::Closed) };
            let response = connection.receive().await?;
            client.scene.answered(&response);
            let Response::Produce(response) = response else { continue };
            let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let found: Vec<&PartitionProduceResponse> = answers.collect();
            for answer in found {
                is_misled |= answer.error_code == ErrorCode::NotLeaderOrFollower.code();
                self.take_in(client, index, answer);
            }
        }
        if is_misled || self.pending.iter().flat_map(|pending| &pending.parts).any(|part| !part.done) {
            client.pause().await;
            topics::refresh(client).await;
        }
        Ok(())
    }

    /// No answers will come to what is sent only once.
    fn end_of_connection(&mut self, client: &Client) {
        if is_idempotent(client) {
            return;
        }
        for part in self.pending.iter_mut().flat_map(|pending| &mut pending.parts) {
            if !part.done && part.attempts > 0 {
                part.end(client, Outcome::Info, None);
            }
        }
    }

    fn drop_done(&mut self) {
        while self.pending.front().is_some_and(|first| first.parts.iter().all(|part| part.done)) {
            self.pending.pop_front();
        }
    }

    fn take_in(&mut self, client: &Client, index: usize, answer: &PartitionProduceResponse) {
        let asked = |part: &Part| part.partition == answer.index && !part.done;
        let Some(place) = self.pending[index].parts.iter().position(asked) else { return };
        let log = self.pending[index].parts[place].log;
        let is_first = !self.pending.iter().take(index).flat_map(|p| &p.parts).any(|p| p.log == log && !p.done);
        let Pending { topic, parts } = &mut self.pending[index];
        let part = &mut parts[place];
        let code = client.code(answer.error_code);
        let is_cluster = client.scene.plan.config.is_cluster();
        match code {
            // One replica has it: a later leader may not.
            ErrorCode::None if is_cluster && client.spec.acks != -1 => part.end(client, Outcome::Info, None),
            ErrorCode::None => {
                part.end(client, Outcome::Ok, Some(answer.base_offset));
                if is_idempotent(client) {
                    let (partition, bytes) = (part.partition, part.bytes.clone());
                    let last = Last { topic: topic.clone(), partition, bytes, base_offset: answer.base_offset };
                    client.scene.note_last(client.number, log, last);
                }
            }
            // It is in the log, or it may be.
            ErrorCode::RequestTimedOut if is_idempotent(client) => {}
            ErrorCode::RequestTimedOut => part.end(client, Outcome::Info, None),
            ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower if is_idempotent(client) => {}
            // Others may have it.
            ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower if is_cluster => {
                part.end(client, Outcome::Info, None);
            }
            ErrorCode::NotEnoughReplicas if is_cluster && is_idempotent(client) => {}
            // What failed before it left a gap.
            ErrorCode::OutOfOrderSequenceNumber if is_idempotent(client) && !is_first => {}
            _ => {
                if !is_refusal(code, client.scene.plan.budget.loss) && !client.scene.is_passing(code) {
                    client.unexpected("Produce", code, text(answer.error_message.as_ref()).as_deref());
                }
                let outcome = if part.attempts == 1 { Outcome::Fail } else { Outcome::Info };
                part.end(client, outcome, None);
                self.spoil(client, log);
            }
        }
    }

    /// After a batch that will never be there, those behind it in the same log won't be either, or nobody knows.
    fn spoil(&mut self, client: &Client, log: LogIndex) {
        if !is_idempotent(client) {
            return;
        }
        self.is_spoilt = true;
        for part in self.pending.iter_mut().flat_map(|pending| &mut pending.parts) {
            if part.log == log && !part.done {
                part.end(client, Outcome::Info, None);
            }
        }
    }
}

impl Pending {
    /// What is not done, by who leads its partition.
    fn by_leader(&self, client: &Client) -> BTreeMap<u32, Vec<(i32, Bytes)>> {
        let mut batches: BTreeMap<u32, Vec<(i32, Bytes)>> = BTreeMap::new();
        let known = client.known.get(&self.topic.name).filter(|known| known.topic == self.topic);
        for part in self.parts.iter().filter(|part| !part.done) {
            let leader = known.map_or(client.home(), |known| client.leader(known, part.partition));
            batches.entry(leader).or_default().push((part.partition, part.bytes.clone()));
        }
        batches
    }
}

impl Part {
    fn end(&mut self, client: &Client, outcome: Outcome, offset: Option<i64>) {
        self.done = true;
        let now = client.scene.now();
        client.scene.recorder.complete(self.op, now, outcome, |what| {
            if let What::Send { base_offset, .. } = what {
                *base_offset = offset;
            }
        });
        client.scene.done.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }
}

fn is_idempotent(client: &Client) -> bool {
    client.spec.idempotent && client.spec.acks == -1
}

/// Trouble that passes.
pub(super) const fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::KafkaStorageError
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::RequestTimedOut
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::NotController
    )
}

/// Reasons for which a broker may refuse a batch for good.
pub(super) fn is_refusal(code: ErrorCode, loss: Loss) -> bool {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::MessageTooLarge
        | ErrorCode::InvalidTimestamp
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::KafkaStorageError
        | ErrorCode::NotLeaderOrFollower => true,
        // The broker has lost what it knew of the producer.
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch | ErrorCode::UnknownProducerId => {
            loss > Loss::None
        }
        _ => false,
    }
}

fn batch(
    client: &Client,
    topic: &str,
    partition: i32,
    values: &[Value],
    spec: &BatchSpec,
    producer: Option<requests::Producer>,
) -> Bytes {
    let codec: Codec = client.spec.codec.parse().expect("the plan was checked");
    let mut builder = BatchBuilder::new().codec(codec, None);
    if let Some(requests::Producer { id, epoch, sequence }) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    let timestamp = client.env.clock().wall();
    for value in values {
        let value = record::encode(*value, topic, partition, spec.bytes as usize);
        let record = NewRecord { timestamp, key: None, value: Some(&value), headers: &[] };
        builder.push(&record).expect("a plan's record fits a batch");
    }
    builder.build().expect("a plan's batch has records").into_bytes()
}
