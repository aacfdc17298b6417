//! Produce (KIP-98, KIP-467, KIP-516): checks batches in arrival order and hands them to the shards that own the partitions.
//!
//! Invariants
//! - A batch is handed on only when all of it has been checked; what fails is answered with its own error and leaves no trace.
//! - Batches of one connection reach a partition in the order of their arrival: everything up to the shard's queue happens
//!   before the next frame is read, recompression included.
//! - A batch that is refused for lack of room, or because this broker is only about to lead, keeps those behind it out until it comes again ([`crate::turned_away`]).
//! - Memory for the whole request is reserved at once, so that two requests never hold a part each and wait for the other.
//!
//! Not here: sequence numbers and offsets (`quipu-storage`), durability ([`crate::shard`]).

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{PartitionIndex, Timestamp, TopicIdPartition, limits};
use quipu_controller::is_internal_topic;
use quipu_env::{Clock, Env, Instant, Probe, ShardId};
use quipu_metadata::config::{Compression, TimestampType, TopicConfig};
use quipu_protocol::{
    ErrorCode, Response,
    messages::produce::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse,
        ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
    },
};
use quipu_records::{
    Batch, BatchError, BatchHeader, Codec, DecompressError, TimestampType as Stamp, ValidBatch, ValidateLimits,
    rewrite::{recompress, with_log_append_time},
    validate,
};
use quipu_replication::Acks;
use quipu_storage::{AppendError, Class, Reservation, StoreFull};
use tokio::sync::oneshot;

use super::{Call, leaders::Leaders};
use crate::{
    connection::{Close, Finish, Reply},
    errors::{self, Refusal},
    node::{Node, View},
    partition::Partition,
    shard::{Append, AppendOutcome, Command},
    turned_away::{TooMany, TurnedAway},
};

/// Batches that are compressed, or that must be compressed anew, keep a processor busy: above this size they go to the pool.
const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Who wants no more than the leader's own sync waits for it as long as it takes; a disk that needs longer is broken.
const SYNC_TIME_MAX: Duration = Duration::from_hours(1);

/// How much larger most batches are when decompressed.
const RATIO_GUESS: usize = 8;

/// Where an answer goes in the response.
#[derive(Clone, Copy)]
struct Slot {
    topic_index: usize,
    partition_index: usize,
}

/// A checked batch, not yet on its way.
struct Checked<E: Env> {
    partition: Arc<Partition<E>>,
    batch: Batch,
    slot: Slot,
}

/// The part of a request that one shard answers.
struct Pending {
    slots: Vec<Slot>,
    log_append_times: Vec<i64>,
    reply: oneshot::Receiver<Vec<AppendOutcome>>,
}

pub(super) async fn start<E: Env>(
    call: Call<E>,
    request: ProduceRequest,
    turned_away: &mut TurnedAway<Refusal>,
) -> Result<Finish<E>, Close> {
    let node = Arc::clone(&call.node);
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let (mut response, checked) = check(&node, call.version(), request, turned_away).await?;
    let deadline = node.env.clock().now() + if acks == -1 { timeout } else { SYNC_TIME_MAX };
    // Also with acks=0 a failure has to be known: it closes the connection.
    let wanted = if acks == -1 { Acks::All } else { Acks::Leader };
    let pending = dispatch(&node, &mut response, checked, turned_away, (wanted, deadline)).await?;
    if acks == 0 {
        return Ok(Box::pin(async move {
            let failed = finish(&node, &mut response, pending, None).await;
            if failed { Err(Close("a produce with acks=0 was refused".into())) } else { Ok(Reply::Nothing) }
        }));
    }
    let deadline = (acks == -1).then_some(deadline);
    Ok(Box::pin(async move {
        finish(&node, &mut response, pending, deadline).await;
        name_leaders(&node.view(), call.version(), &mut response);
        call.reply(&Response::Produce(response))
    }))
}

/// Checks every batch. The response has a place for each partition; those that failed have their error already.
async fn check<E: Env>(
    node: &Arc<Node<E>>,
    version: i16,
    request: ProduceRequest,
    turned_away: &mut TurnedAway<Refusal>,
) -> Result<(ProduceResponse, Vec<Checked<E>>), Close> {
    let refused = match (&request.transactional_id, request.acks) {
        (Some(_), _) => Some(Refusal::new(ErrorCode::InvalidTxnState, "transactions are not supported yet")),
        (None, -1..=1) => None,
        (None, _) => Some(Refusal::new(ErrorCode::InvalidRequiredAcks, "acks is neither 0, 1 nor -1")),
    };
    let view = node.view();
    let mut checked = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (topic_index, topic) in request.topic_data.into_iter().enumerate() {
        let TopicProduceData { name, topic_id, partition_data } = topic;
        let known = if version >= 13 { view.image.topic_by_id(topic_id) } else { view.image.topic(&name) };
        let mut partition_responses = Vec::with_capacity(partition_data.len());
        for (partition_index, data) in partition_data.into_iter().enumerate() {
            let index = data.index;
            let result = match (&refused, known) {
                (Some(refusal), _) => Err(refusal.clone()),
                (None, None) => Err(errors::unknown_topic(version >= 13)),
                (None, Some(topic)) if is_internal_topic(topic.name()) => {
                    Err(Refusal::new(ErrorCode::InvalidTopicException, "only the coordinator writes to this topic"))
                }
                (None, Some(topic)) => {
                    let id = TopicIdPartition { topic_id: topic.topic_id(), partition: PartitionIndex(index) };
                    if view.is_about_to_lead(id) {
                        note_turned_away(turned_away, id, &data)?;
                    }
                    check_partition(node, &view, version, id, data).await
                }
            };
            partition_responses.push(match result {
                Ok((partition, batch)) => {
                    checked.push(Checked { partition, batch, slot: Slot { topic_index, partition_index } });
                    PartitionProduceResponse { index, ..Default::default() }
                }
                Err(refusal) => refused_partition(index, &refusal),
            });
        }
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    Ok((ProduceResponse { responses, ..Default::default() }, checked))
}

/// The client will come back here with the batch; what is behind it on this connection may meet a partition that is served.
fn note_turned_away(
    turned_away: &mut TurnedAway<Refusal>,
    id: TopicIdPartition,
    data: &PartitionProduceData,
) -> Result<(), Close> {
    let records = data.records.clone().and_then(quipu_protocol::Records::into_bytes).unwrap_or_default();
    // What is no batch is refused for that.
    let Ok(header) = BatchHeader::parse(&records) else { return Ok(()) };
    let refusal = Refusal::plain(ErrorCode::NotLeaderOrFollower);
    turned_away.note(id, &header, refusal).map_err(too_many_turned_away)
}

fn too_many_turned_away(_: TooMany) -> Close {
    Close("too many of its batches were refused for the moment".into())
}

async fn check_partition<E: Env>(
    node: &Arc<Node<E>>,
    view: &View<E>,
    version: i16,
    id: TopicIdPartition,
    data: PartitionProduceData,
) -> Result<(Arc<Partition<E>>, Batch), Refusal> {
    let partition = view.partition(id)?;
    let config = view.topic_config(id.topic_id)?;
    let bytes = data.records.and_then(quipu_protocol::Records::into_bytes).unwrap_or_default();
    let now = node.env.clock().wall();
    if is_cheap(&bytes, &config) {
        let batch = check_batch(bytes, &config, version, now, limits::DECOMPRESSED_BYTES_MAX)?;
        return Ok((partition, batch));
    }
    Ok((partition, check_elsewhere(node, bytes, config, version, now).await?))
}

/// Whether a batch can be checked without keeping the shard from other work.
fn is_cheap(bytes: &Bytes, config: &TopicConfig) -> bool {
    !is_compressed(bytes) && (config.compression == Compression::Producer || bytes.len() <= INLINE_BYTES_MAX)
}

/// Checks a batch that must be decompressed or compressed anew. What that takes is taken from the workspace first. A small batch
/// that turns out small is done with at once; others go to the pool, at first with the memory that most batches need.
async fn check_elsewhere<E: Env>(
    node: &Arc<Node<E>>,
    bytes: Bytes,
    config: Arc<TopicConfig>,
    version: i16,
    now: Timestamp,
) -> Result<Batch, Refusal> {
    if bytes.len() <= INLINE_BYTES_MAX {
        let checked = check_batch(bytes.clone(), &config, version, now, limits::DECOMPRESSED_INLINE_BYTES_MAX);
        if !matches!(checked, Err(Unchecked::NeedsMore(_))) {
            return Ok(checked?);
        }
    }
    let most = limits::DECOMPRESSED_BYTES_MAX;
    let guess = (bytes.len() * RATIO_GUESS).clamp(limits::DECOMPRESSED_INLINE_BYTES_MAX, most);
    match check_in_pool(node, &bytes, &config, version, now, guess).await {
        Err(Unchecked::NeedsMore(_)) if guess < most => {
            Ok(check_in_pool(node, &bytes, &config, version, now, most).await?)
        }
        checked => Ok(checked?),
    }
}

async fn check_in_pool<E: Env>(
    node: &Arc<Node<E>>,
    bytes: &Bytes,
    config: &Arc<TopicConfig>,
    version: i16,
    now: Timestamp,
    decompressed_bytes_max: usize,
) -> Result<Batch, Unchecked> {
    let (bytes, config) = (bytes.clone(), Arc::clone(config));
    let permit = node.workspace.take(decompressed_bytes_max).await;
    let cost = Duration::from_nanos(bytes.len() as u64 * 4);
    let work = move || {
        let checked = check_batch(bytes, &config, version, now, decompressed_bytes_max);
        // Given back also when nobody waits for the answer any more, but not before.
        drop(permit);
        checked
    };
    node.env.offload(cost, work).await
}

/// Why a batch has not been checked, or not been accepted.
enum Unchecked {
    Refused(Refusal),
    /// It needs more memory than it was given. If there is no more to be had, this is its answer.
    NeedsMore(Refusal),
}

impl From<Refusal> for Unchecked {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unchecked> for Refusal {
    fn from(unchecked: Unchecked) -> Self {
        match unchecked {
            Unchecked::Refused(refusal) | Unchecked::NeedsMore(refusal) => refusal,
        }
    }
}

/// Whether the batch says so; one that is broken is found broken soon after.
fn is_compressed(bytes: &Bytes) -> bool {
    BatchHeader::parse(bytes).is_ok_and(|header| header.codec() != Ok(Codec::None))
}

/// Everything that depends on the bytes and the topic's settings alone.
fn check_batch(
    bytes: Bytes,
    config: &TopicConfig,
    version: i16,
    now: Timestamp,
    decompressed_bytes_max: usize,
) -> Result<Batch, Unchecked> {
    let limits = ValidateLimits { batch_bytes_max: config.message_bytes_max, decompressed_bytes_max };
    let batch = validate(bytes, &limits).map_err(|error| match &error {
        BatchError::Decompress(DecompressError::TooLarge { .. }) => Unchecked::NeedsMore(errors::batch(&error)),
        _ => Unchecked::Refused(errors::batch(&error)),
    })?;
    let header = batch.batch.header();
    if header.is_transactional() {
        return Err(Refusal::new(ErrorCode::InvalidTxnState, "transactions are not supported yet").into());
    }
    if version < 7 && header.codec() == Ok(Codec::Zstd) {
        let message = "zstd needs Produce version 7 or later";
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message).into());
    }
    check_timestamps(&batch, config, now)?;
    if let Some(record) = batch.first_null_key.filter(|_| config.cleanup.compacts) {
        let message = format!("record {record} of the batch has no key, and the topic is compacted by key");
        return Err(Refusal::new(ErrorCode::InvalidRecord, message).into());
    }
    Ok(rewritten(batch, config, now, decompressed_bytes_max)?)
}

fn check_timestamps(batch: &ValidBatch, config: &TopicConfig, now: Timestamp) -> Result<(), Refusal> {
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let too_old = now.get().saturating_sub(batch.min_timestamp.get()) > config.timestamp_before_max_ms;
    let too_new = batch.max_timestamp.get().saturating_sub(now.get()) > config.timestamp_after_max_ms;
    if !too_old && !too_new {
        return Ok(());
    }
    let (which, found) = if too_old {
        ("message.timestamp.before.max.ms", batch.min_timestamp)
    } else {
        ("message.timestamp.after.max.ms", batch.max_timestamp)
    };
    Err(Refusal::new(
        ErrorCode::InvalidTimestamp,
        format!("a record's timestamp {found} is further from the broker's clock {now} than {which} allows"),
    ))
}

/// The batch as the topic wants it stored: in its codec, and with the broker's time if that counts.
fn rewritten(
    batch: ValidBatch,
    config: &TopicConfig,
    now: Timestamp,
    decompressed_bytes_max: usize,
) -> Result<Batch, Refusal> {
    let ValidBatch { batch, .. } = batch;
    let batch = match codec_of(config.compression) {
        None => batch,
        Some((codec, level)) => {
            let batch = recompress(&batch, codec, level, decompressed_bytes_max, config.message_bytes_max);
            batch.map_err(|error| errors::recompress(&error))?
        }
    };
    if batch.bytes().len() > config.message_bytes_max {
        let message = format!(
            "compressed anew the batch has {} bytes, max.message.bytes is {}",
            batch.bytes().len(),
            config.message_bytes_max
        );
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
    }
    Ok(match config.timestamp_type {
        TimestampType::LogAppendTime => with_log_append_time(&batch, now),
        TimestampType::CreateTime => batch,
    })
}

/// The codec that a topic wants, with its level; none if it takes what comes.
fn codec_of(compression: Compression) -> Option<(Codec, Option<i32>)> {
    match compression {
        Compression::Producer => None,
        Compression::Uncompressed => Some((Codec::None, None)),
        Compression::Gzip { level } => Some((Codec::Gzip, level)),
        Compression::Snappy => Some((Codec::Snappy, None)),
        Compression::Lz4 => Some((Codec::Lz4, None)),
        Compression::Zstd { level } => Some((Codec::Zstd, Some(level))),
    }
}

/// Reserves memory for all batches and sends each shard its own.
async fn dispatch<E: Env>(
    node: &Arc<Node<E>>,
    response: &mut ProduceResponse,
    mut checked: Vec<Checked<E>>,
    turned_away: &mut TurnedAway<Refusal>,
    wanted: Wanted,
) -> Result<Vec<Pending>, Close> {
    let now = node.env.clock().wall();
    let is_next = |one: &Checked<E>| {
        let (header, log) = (one.batch.header(), &one.partition.log);
        let knows = log.producers().iter().any(|state| state.producer_id == header.producer_id);
        knows && !matches!(log.check_append(header, now), Err(AppendError::OutOfOrderSequence { .. }))
    };
    checked.retain(|one| match turned_away.check(one.partition.id, one.batch.header(), || is_next(one)) {
        Ok(()) => true,
        Err(refusal) => {
            refuse(response, one.slot, &refusal);
            false
        }
    });
    if checked.is_empty() {
        return Ok(Vec::new());
    }
    let sizes: Vec<usize> = checked.iter().map(|one| one.batch.bytes().len()).collect();
    let reserved = if node.env.probe().planted("produce.room-taken-in-parts") {
        reserve_in_parts(node, &sizes).await
    } else {
        node.store.reserve_many(&sizes, Class::Normal).await
    };
    let reservations = match reserved {
        Ok(reservations) => reservations,
        Err(error) => {
            let refusal = errors::store_full(&error);
            for one in checked {
                node.tell_full(&one.partition);
                if !node.env.probe().planted("produce.turned-away-forgotten") {
                    let noted = turned_away.note(one.partition.id, one.batch.header(), refusal.clone());
                    noted.map_err(too_many_turned_away)?;
                }
                refuse(response, one.slot, &refusal);
            }
            return Ok(Vec::new());
        }
    };
    let mut pending = Vec::new();
    for (shard, ours) in by_shard(checked.into_iter().zip(reservations)) {
        pending.push(send(node, shard, ours, wanted).await?);
    }
    Ok(pending)
}

/// Holds room for one batch while it waits for the next one's: only in simulations.
async fn reserve_in_parts<E: Env>(node: &Arc<Node<E>>, sizes: &[usize]) -> Result<Vec<Reservation<E>>, StoreFull> {
    let mut reservations = Vec::with_capacity(sizes.len());
    for bytes in sizes {
        reservations.push(node.store.reserve(*bytes, Class::Normal).await?);
    }
    Ok(reservations)
}

/// When to answer, and until when to try.
type Wanted = (Acks, Instant);

/// A batch with the room that is reserved for it.
type Reserved<E> = (Checked<E>, Reservation<E>);

fn by_shard<E: Env>(batches: impl Iterator<Item = Reserved<E>>) -> Vec<(ShardId, Vec<Reserved<E>>)> {
    let mut groups: Vec<(ShardId, Vec<Reserved<E>>)> = Vec::new();
    for one in batches {
        let shard = one.0.partition.shard;
        match groups.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, group)) => group.push(one),
            None => groups.push((shard, vec![one])),
        }
    }
    groups
}

async fn send<E: Env>(
    node: &Arc<Node<E>>,
    shard: ShardId,
    batches: Vec<Reserved<E>>,
    (acks, deadline): Wanted,
) -> Result<Pending, Close> {
    let (reply, receiver) = oneshot::channel();
    let slots = batches.iter().map(|(one, _)| one.slot).collect();
    let log_append_times = batches.iter().map(|(one, _)| log_append_time(&one.batch)).collect();
    let appends = batches
        .into_iter()
        .map(|(Checked { partition, batch, .. }, reservation)| Append { partition, batch, reservation, only_in: None })
        .collect();
    node.send(shard, Command::Append { appends, acks, deadline, reply }).await?;
    Ok(Pending { slots, log_append_times, reply: receiver })
}

/// The time that the broker put on the batch, -1 if the producer's counts.
fn log_append_time(batch: &Batch) -> i64 {
    match batch.header().timestamp_type() {
        Stamp::LogAppendTime => batch.header().max_timestamp.get(),
        Stamp::CreateTime => -1,
    }
}

/// Waits for the shards, until `deadline` if there is one. Returns whether any partition failed.
async fn finish<E: Env>(
    node: &Arc<Node<E>>,
    response: &mut ProduceResponse,
    pending: Vec<Pending>,
    deadline: Option<Instant>,
) -> bool {
    let mut timer = deadline.map(|deadline| Box::pin(node.env.clock().sleep_until(deadline)));
    for Pending { slots, log_append_times, reply } in pending {
        let outcomes = match &mut timer {
            None => reply.await.ok(),
            Some(timer) => tokio::select! { biased;
                outcomes = reply => outcomes.ok(),
                () = timer.as_mut() => None,
            },
        };
        match outcomes {
            Some(outcomes) => {
                for ((slot, log_append_time), outcome) in slots.into_iter().zip(log_append_times).zip(outcomes) {
                    fill(response, slot, log_append_time, outcome);
                }
            }
            None => {
                let mut refusal = Refusal::new(ErrorCode::RequestTimedOut, "not durable on enough replicas in time");
                if node.env.probe().planted("produce.timeout-told-as-refusal") {
                    refusal.code = ErrorCode::NotLeaderOrFollower;
                }
                slots.into_iter().for_each(|slot| refuse(response, slot, &refusal));
            }
        }
    }
    let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    answers.any(|answer| answer.error_code != ErrorCode::None.code())
}

/// Tells who leads the partitions that this broker does not.
fn name_leaders<E: Env>(view: &View<E>, version: i16, response: &mut ProduceResponse) {
    if version < 10 {
        return;
    }
    let mut leaders = Leaders::default();
    for answers in &mut response.responses {
        let by_id = || view.image.topic_by_id(answers.topic_id);
        let topic = if version >= 13 { by_id() } else { view.image.topic(&answers.name) };
        for answer in &mut answers.partition_responses {
            if let Some((leader, epoch)) = leaders.name(view, topic, answer.index, answer.error_code) {
                answer.current_leader = LeaderIdAndEpoch { leader_id: leader.get(), leader_epoch: epoch.get() };
            }
        }
    }
    response.node_endpoints =
        leaders.endpoints(view, |node_id, host, port, rack| NodeEndpoint { node_id, host, port, rack });
}

fn fill(response: &mut ProduceResponse, slot: Slot, log_append_time: i64, outcome: AppendOutcome) {
    match outcome.result {
        Ok(base_offset) => {
            let answer = &mut response.responses[slot.topic_index].partition_responses[slot.partition_index];
            answer.base_offset = base_offset.get();
            answer.log_append_time_ms = log_append_time;
            answer.log_start_offset = outcome.log_start.get();
        }
        Err(error) => refuse(response, slot, &errors::produce(&error)),
    }
}

fn refuse(response: &mut ProduceResponse, slot: Slot, refusal: &Refusal) {
    let answer = &mut response.responses[slot.topic_index].partition_responses[slot.partition_index];
    *answer = refused_partition(answer.index, refusal);
}

fn refused_partition(index: i32, refusal: &Refusal) -> PartitionProduceResponse {
    let record_errors = refusal
        .record
        .map(|batch_index| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(refusal.message.as_ref().into()),
        })
        .into_iter()
        .collect();
    PartitionProduceResponse {
        index,
        error_code: refusal.code.code(),
        base_offset: -1,
        record_errors,
        error_message: Some(refusal.message.as_ref().into()),
        ..Default::default()
    }
}
