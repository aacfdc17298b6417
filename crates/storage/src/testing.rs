//! Batches for the tests of this crate.

use quipu_base::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{Batch, BatchBuilder, NewRecord};

/// A batch of `count` records at `base_offset`, the values together about `bytes` long, all with `timestamp`.
pub(crate) fn batch_at(base_offset: i64, count: usize, bytes: usize, timestamp: i64) -> Batch {
    fill(BatchBuilder::new().base_offset(Offset(base_offset)), count, bytes, timestamp)
}

/// A batch as a producer with an id sends it.
pub(crate) fn produced(id: i64, sequence: i32, count: usize, bytes: usize) -> Batch {
    let builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    fill(builder, count, bytes, 1)
}

fn fill(mut builder: BatchBuilder, count: usize, bytes: usize, timestamp: i64) -> Batch {
    let value = vec![b'v'; bytes / count.max(1)];
    for _ in 0..count {
        let timestamp = Timestamp(timestamp);
        builder.push(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] }).expect("a small record");
    }
    builder.build().expect("a batch")
}
