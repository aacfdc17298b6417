//! Cuts a batch in two that a broker refused as too large.
//!
//! Invariant: the parts hold the same records in the same order, byte for byte but for what depends on the batch.

use std::sync::Arc;

use quipu_base::{PartitionIndex, limits::DECOMPRESSED_BYTES_MAX};
use quipu_records::{Batch, BatchBuilder, BatchError, BuildError, Codec, NewRecord, RecordHeader};

use super::{delivery::Settler, sealed::Sealed};

/// Why a batch can't be cut: it can't be read, or its parts not be built. Neither happens to what was built here.
#[derive(Debug)]
pub(super) enum SplitError {
    Read(#[expect(dead_code, reason = "for whoever looks at it in a debugger")] BatchError),
    Build(#[expect(dead_code, reason = "for whoever looks at it in a debugger")] BuildError),
}

/// Two batches of about the same size, with the number of records of each. `reserved_bytes` are divided by records.
pub(super) fn split(
    batch: &Batch,
    (codec, level): (Codec, Option<i32>),
    topic: &Arc<str>,
    partition: PartitionIndex,
    reserved_bytes: usize,
    birth: u64,
) -> Result<Vec<(Sealed, u32)>, SplitError> {
    let records = batch.records(DECOMPRESSED_BYTES_MAX.max(reserved_bytes)).map_err(SplitError::Read)?;
    let half = records.bytes().len() / 2;
    let mut builders = [(); 2].map(|()| BatchBuilder::new().codec(codec, level));
    let mut taken_bytes = 0;
    let last = batch.header().last_offset_delta;
    for (number, record) in (0..).zip(&records) {
        let record = record.map_err(SplitError::Read)?;
        let headers: Vec<RecordHeader<'_>> = record.headers().collect();
        let new = NewRecord { timestamp: record.timestamp, key: record.key, value: record.value, headers: &headers };
        // Each part has at least one.
        let part = usize::from(number > 0 && (taken_bytes >= half || number == last));
        taken_bytes += BatchBuilder::record_bytes_max(&new);
        builders[part].push(&new).map_err(SplitError::Build)?;
    }
    let [first, second] = builders;
    let first_bytes = reserved_bytes / 2;
    let mut parts = Vec::new();
    for (builder, reserved_bytes) in [(first, first_bytes), (second, reserved_bytes - first_bytes)] {
        let record_count = builder.record_count();
        let settler = Settler::new(Arc::clone(topic), partition);
        let batch = builder.build().map_err(SplitError::Build)?;
        parts.push((Sealed { batch, settler, reserved_bytes, birth, last_error: None }, record_count));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use quipu_base::Timestamp;

    use super::*;

    fn batch(sizes: &[usize]) -> Batch {
        let mut builder = BatchBuilder::new().codec(Codec::Lz4, None);
        for (number, size) in sizes.iter().enumerate() {
            let value = vec![u8::try_from(number).unwrap(); *size];
            let headers = [RecordHeader { key: b"h", value: None }];
            let timestamp = Timestamp(100 + i64::try_from(number).unwrap());
            builder.push(&NewRecord { timestamp, key: None, value: Some(&value), headers: &headers }).unwrap();
        }
        builder.build().unwrap()
    }

    fn contents(batch: &Batch) -> Vec<(i64, Vec<u8>, usize)> {
        let records = batch.records(1 << 20).unwrap();
        let own = |record: Result<quipu_records::Record<'_>, BatchError>| {
            let record = record.unwrap();
            (record.timestamp.0, record.value.unwrap().to_vec(), record.headers().count())
        };
        records.iter().map(own).collect()
    }

    #[test]
    fn both_parts_together_are_the_whole() {
        for sizes in [&[10, 10][..], &[1000, 10, 10], &[10, 10, 1000], &[5; 101]] {
            let whole = batch(sizes);
            let parts = split(&whole, (Codec::Lz4, None), &"knots".into(), PartitionIndex(0), 1001, 3).unwrap();
            let [(first, first_count), (second, second_count)] = &parts[..] else { panic!("two parts") };
            assert!(*first_count > 0 && *second_count > 0);
            let together = [contents(&first.batch), contents(&second.batch)].concat();
            assert_eq!(together, contents(&whole));
            assert_eq!(first_count + second_count, u32::try_from(sizes.len()).unwrap());
            assert_eq!(first.reserved_bytes + second.reserved_bytes, 1001);
            assert_eq!(first.batch.header().codec(), Ok(Codec::Lz4));
        }
    }
}
