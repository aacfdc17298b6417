//! What the benchmarks of this crate measure and nobody else may use: the producer's way from a record to a sealed batch, and the
//! consumer's from fetched bytes to records, without network, clock and tasks.
//!
//! Not here: the benchmarks (`benches/paths.rs`).

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use quipu_env::{Instant, Rng};
use quipu_records::{Batch, BatchBuilder, Codec};
use rand::SeedableRng;

use crate::{
    ConsumerRecord, Partition, ProducerRecord, Topic, TopicPartition,
    consumer::{Rules, decode},
    producer::{Accumulator, Sizes},
};

/// A producer that sends nothing.
pub struct Gathering {
    accumulator: Accumulator,
    topic: Topic,
}

impl Gathering {
    /// A topic of so many partitions; batches of so many bytes.
    #[must_use]
    pub fn new(partition_count: i32, batch_bytes: usize, codec: Codec) -> Self {
        let sizes = Sizes { batch_bytes, linger: Duration::from_millis(5), codec, level: None };
        let partition = |index| Partition {
            index: PartitionIndex(index),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            replicas: Vec::new(),
            isr: Vec::new(),
            eligible: None,
            offline: Vec::new(),
            error: None,
        };
        let partitions = (0..partition_count).map(partition).collect();
        let topic = Topic { name: Arc::from("bench"), id: TopicId::ZERO, is_internal: false, partitions };
        Self { accumulator: Accumulator::new(sizes, Rng::seed_from_u64(1)), topic }
    }

    /// Takes a record, as [`crate::Producer::send`] does once it has memory and knows the topic.
    ///
    /// # Panics
    /// If the record can't be encoded.
    pub fn take(&mut self, record: &ProducerRecord) {
        let bytes = BatchBuilder::record_bytes_max(&record.view(Timestamp(1), &record.header_views()));
        let now = Instant::from_nanos(1);
        let taken = self.accumulator.append(now, Timestamp(1_700_000_000_000), &self.topic, record, bytes);
        drop(taken.expect("a record that fits"));
    }

    /// Seals everything that was taken, as the producer's task does, and answers with the batches and their number of records.
    ///
    /// # Panics
    /// If a batch can't be compressed.
    pub fn seal(&mut self) -> Vec<(Batch, u32)> {
        let slots: Vec<_> = self.accumulator.active().collect();
        let mut sealed = Vec::new();
        for slot in slots {
            while let Some(open) = self.accumulator.pop(slot) {
                let record_count = open.builder.record_count();
                sealed.push((open.builder.build().expect("it has records"), record_count));
                self.accumulator.settled(open.birth);
            }
        }
        sealed
    }
}

/// Decodes what a broker sent for a partition, as [`crate::Consumer::poll`] does: checksums, decompression, records.
///
/// # Panics
/// If a batch can't be read.
#[must_use]
pub fn read(bytes: Bytes, partition: &TopicPartition) -> Vec<ConsumerRecord> {
    let rules = Rules { check_crcs: true, decompressed_bytes_max: quipu_base::limits::DECOMPRESSED_BYTES_MAX };
    decode(bytes, Offset::ZERO, partition, rules).expect("batches that were built here")
}
