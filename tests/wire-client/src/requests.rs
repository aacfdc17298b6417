//! Requests as most tests want them, and the records of what they bring.

use bytes::Bytes;
use quipu_base::{ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};
use quipu_protocol::{
    Records,
    messages::{
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData},
        init_producer_id::InitProducerIdRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
};
use quipu_records::{Batch, BatchBuilder, BatchError, Batches, NewRecord};

/// Bytes that a batch may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A topic by its name and its id, for requests of any version: each takes the one it knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRef {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
}

/// Makes one topic, each partition on one replica.
#[must_use]
pub fn create_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) })
        .collect();
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

/// Asks for a producer id without transactions.
#[must_use]
pub fn init_producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() }
}

/// Appends to partitions of one topic: each a number and a batch.
#[must_use]
pub fn produce(topic: &TopicRef, acks: i16, timeout_ms: i32, batches: Vec<(i32, Bytes)>) -> ProduceRequest {
    let partition_data = batches
        .into_iter()
        .map(|(index, batch)| PartitionProduceData { index, records: Some(Records::from(batch)) })
        .collect();
    let topic = TopicProduceData { name: topic.name.as_str().into(), topic_id: topic.id, partition_data };
    ProduceRequest { acks, timeout_ms, topic_data: vec![topic], ..Default::default() }
}

/// How much to fetch, and how long to wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchBounds {
    /// Bytes to wait for.
    pub min_bytes: i32,
    /// Most bytes in all.
    pub max_bytes: i32,
    /// Most bytes of each partition.
    pub partition_max_bytes: i32,
    /// How long to wait, milliseconds.
    pub max_wait_ms: i32,
}

impl FetchBounds {
    /// What is there now, up to a mebibyte of each partition.
    pub const NOW: Self = Self { min_bytes: 0, max_bytes: i32::MAX, partition_max_bytes: 1 << 20, max_wait_ms: 0 };
}

/// Reads partitions of one topic: each a number and the first offset wanted.
#[must_use]
pub fn fetch(topic: &TopicRef, from: &[(i32, i64)], bounds: FetchBounds) -> FetchRequest {
    let FetchBounds { min_bytes, max_bytes, partition_max_bytes, max_wait_ms } = bounds;
    let partitions = from
        .iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes,
            ..Default::default()
        })
        .collect();
    let topic = FetchTopic { topic: topic.name.as_str().into(), topic_id: topic.id, partitions };
    FetchRequest { max_wait_ms, min_bytes, max_bytes, topics: vec![topic], ..Default::default() }
}

/// Asks partitions of one topic for an offset by time: -1 latest, -2 earliest, or milliseconds since 1970.
#[must_use]
pub fn list_offsets(topic: &TopicRef, partitions: impl IntoIterator<Item = i32>, timestamp: i64) -> ListOffsetsRequest {
    let partitions = partitions
        .into_iter()
        .map(|partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() })
        .collect();
    let topic = ListOffsetsTopic { name: topic.name.as_str().into(), partitions };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }
}

/// Who sends a batch, for an idempotent producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence number of the batch's first record.
    pub sequence: Sequence,
}

/// A batch of these values, without keys.
///
/// # Panics
/// If there are none, or more than a batch can have.
#[must_use]
pub fn batch<V: AsRef<[u8]>>(values: &[V], timestamp: Timestamp, producer: Option<Producer>) -> Batch {
    let mut builder = BatchBuilder::new();
    if let Some(Producer { id, epoch, sequence }) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for value in values {
        let record = NewRecord { timestamp, key: None, value: Some(value.as_ref()), headers: &[] };
        builder.push(&record).expect("a test's record fits");
    }
    builder.build().expect("a test's batch has records")
}

/// Offsets and values of what was fetched, from the first batch's base offset on. A batch may begin before the offset that
/// was wanted.
///
/// Errors: a batch is no batch, or its CRC is wrong.
///
/// # Panics
/// If the broker sent null for records, which clients don't expect, or a record without a value, which no test here makes.
pub fn records_of(data: &PartitionData) -> Result<Vec<(i64, Bytes)>, BatchError> {
    let records = data.records.clone().expect("records are empty, never null");
    let bytes = records.into_bytes().expect("what was received has no holes");
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch?;
        batch.check_crc()?;
        let records = batch.records(DECOMPRESSED_BYTES_MAX)?;
        for record in &records {
            let record = record?;
            let value = record.value.expect("no tombstones are written");
            found.push((record.offset.get(), Bytes::copy_from_slice(value)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_from_their_batch() {
        let producer = Producer { id: ProducerId(5), epoch: ProducerEpoch(0), sequence: Sequence(7) };
        let batch = batch(&["a", "bc"], Timestamp(1), Some(producer));
        let data = PartitionData { records: Some(Records::from(batch.into_bytes())), ..Default::default() };
        let found = records_of(&data).unwrap();
        assert_eq!(found, [(0, Bytes::from_static(b"a")), (1, Bytes::from_static(b"bc"))]);
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let mut bytes = batch(&["abc"], Timestamp(1), None).into_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let data = PartitionData { records: Some(Records::from(Bytes::from(bytes))), ..Default::default() };
        assert!(records_of(&data).is_err());
    }
}
