//! What compaction leaves of a batch: some of its records, none but what its producer needs, or a gap.
//!
//! ```text
//! some records   the same header but for their number, the max timestamp and the codec's bytes; records keep their offsets
//! no record      the same header with the offsets and sequences that the batch had: its producer's state can be read off it
//! gap            no record, no producer: stands for offsets whose records, and maybe whole batches, are gone
//! ```
//!
//! With gaps no offset is left out between two batches: whoever follows a log batch by batch needs no other rule for a compacted
//! one. Kafka's clients pass over batches without records, which its own compaction leaves as well.
//!
//! A batch that keeps a tombstone bears a delete horizon (KIP-534): its base timestamp is when its tombstones may go.
//!
//! Invariant: base offset, last offset and leader epoch of a batch stay; those of a gap may be cut anywhere.
//!
//! Not here: which records go (`quipu-storage`).

use core::ops::Range;

use quipu_base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{
    Attributes, Batch, BatchError, BatchHeader, Codec, HEADER_BYTES, Record, RecordFault, TimestampType,
    compression::compress_into,
    cursor::{Cursor, put_varlong, varlong_bytes},
    record::parse_raw,
    rewrite::{RecompressError, seal},
};

/// Offsets that one gap can stand for.
pub const GAP_OFFSETS_MAX: u64 = i32::MAX as u64;

/// What is left of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retained {
    /// All of it, as it is.
    All,
    /// This.
    Some(Batch),
    /// No record.
    None,
}

impl BatchHeader {
    /// Whether it is that of a gap: a batch without records and without a producer.
    #[must_use]
    pub const fn is_gap(&self) -> bool {
        self.record_count == 0 && !self.has_producer_id() && !self.is_control()
    }

    /// The part of a gap that lies in `offsets`; none if nothing of it does, or if this is no gap.
    #[must_use]
    pub fn gap_within(&self, offsets: &Range<Offset>) -> Option<Batch> {
        let part = self.base_offset.max(offsets.start)..self.next_offset().min(offsets.end);
        (self.is_gap() && part.start < part.end).then(|| gap(&part, self.leader_epoch))
    }
}

/// A gap.
///
/// # Panics
/// If `offsets` is empty, or more than [`GAP_OFFSETS_MAX`].
#[must_use]
pub fn gap(offsets: &Range<Offset>, leader_epoch: LeaderEpoch) -> Batch {
    let count = offsets.end.0.checked_sub(offsets.start.0).and_then(|count| i32::try_from(count).ok());
    let last = count.and_then(|count| count.checked_sub(1)).filter(|last| *last >= 0);
    empty(BatchHeader {
        base_offset: offsets.start,
        batch_length: 0,
        leader_epoch,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: last.expect("a gap has offsets, and so many as a batch can count"),
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: 0,
    })
}

/// The batch without its records: what its producer's state can be read off.
#[must_use]
pub fn without_records(batch: &Batch) -> Batch {
    let attributes = batch.header().attributes.with_codec(Codec::None).with_delete_horizon(false);
    let (base_timestamp, max_timestamp) = (Timestamp::NONE, Timestamp::NONE);
    empty(BatchHeader { attributes, base_timestamp, max_timestamp, record_count: 0, ..*batch.header() })
}

fn empty(header: BatchHeader) -> Batch {
    seal(header, vec![0; HEADER_BYTES]).expect("a header alone is not too large")
}

/// The batch with those records for which `keep` answers true. If it keeps a tombstone and has no delete horizon yet, it gets
/// `delete_horizon`. `decompressed_bytes_max` bounds its records in memory.
///
/// Errors: `Batch` if the batch is bad; `Compress`, `TooLarge` if what is left can't be compressed as the batch was.
pub fn retain(
    batch: &Batch,
    decompressed_bytes_max: usize,
    delete_horizon: Option<Timestamp>,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Retained, RecompressError> {
    let header = batch.header();
    let records = batch.records(decompressed_bytes_max).map_err(RecompressError::Batch)?;
    let mut kept = Vec::new();
    let (mut record_count, mut has_tombstone, mut max_timestamp) = (0_i32, false, Timestamp::NONE);
    for record in &records {
        let record = record.map_err(RecompressError::Batch)?;
        let is_kept = keep(&record);
        if is_kept {
            record_count = record_count.saturating_add(1);
            has_tombstone |= record.value.is_none();
            max_timestamp = max_timestamp.max(record.timestamp);
        }
        kept.push(is_kept);
    }
    let horizon = delete_horizon.filter(|_| has_tombstone && header.delete_horizon().is_none());
    if record_count == 0 {
        return Ok(Retained::None);
    }
    if record_count == header.record_count && horizon.is_none() {
        return Ok(Retained::All);
    }
    let mut left = BatchHeader { record_count, ..*header };
    if header.timestamp_type() == TimestampType::CreateTime {
        left.max_timestamp = max_timestamp;
    }
    if let Some(horizon) = horizon {
        left.base_timestamp = horizon;
        left.attributes = left.attributes.with_delete_horizon(true);
    }
    let plain = copied(records.bytes(), &kept, header.base_timestamp, left.base_timestamp)?;
    let codec = header.codec().map_err(RecompressError::Batch)?;
    let mut bytes = vec![0; HEADER_BYTES];
    match codec {
        Codec::None => bytes.extend_from_slice(&plain),
        codec => compress_into(codec, None, &plain, &mut bytes).map_err(RecompressError::Compress)?,
    }
    seal(left, bytes).map(Retained::Some).map_err(|batch_bytes| RecompressError::TooLarge { batch_bytes })
}

/// The bytes of the records that are kept, their timestamps counted from another base.
fn copied(body: &[u8], kept: &[bool], from: Timestamp, to: Timestamp) -> Result<Vec<u8>, RecompressError> {
    let mut plain = Vec::with_capacity(body.len());
    let mut cursor = Cursor::new(body);
    for (record_index, is_kept) in (0..).zip(kept) {
        let bad = |fault| RecompressError::Batch(BatchError::Record { record_index, fault });
        let before = cursor.rest();
        let raw = parse_raw(&mut cursor).map_err(bad)?;
        let length = before.len().saturating_sub(cursor.rest().len());
        let bytes = before.get(..length).unwrap_or_default();
        if !is_kept {
            continue;
        }
        if from == to {
            plain.extend_from_slice(bytes);
            continue;
        }
        let delta_ms = from.0.checked_sub(to.0).and_then(|shift| raw.timestamp_delta.checked_add(shift));
        let fault = RecordFault::TimestampDelta { base_timestamp: from, delta_ms: raw.timestamp_delta };
        put_record(&mut plain, bytes, delta_ms.ok_or_else(|| bad(fault))?).map_err(bad)?;
    }
    Ok(plain)
}

/// A record with another timestamp delta.
fn put_record(out: &mut Vec<u8>, bytes: &[u8], delta_ms: i64) -> Result<(), RecordFault> {
    let mut fields = Cursor::new(bytes);
    fields.varint()?;
    let attributes = fields.byte()?;
    fields.varlong()?;
    let rest = fields.rest();
    let size = rest.len().saturating_add(1).saturating_add(varlong_bytes(delta_ms));
    put_varlong(out, i64::try_from(size).unwrap_or(i64::MAX));
    out.push(attributes);
    put_varlong(out, delta_ms);
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, NewRecord, rewrite::with_log_append_time};

    const MAX: usize = 1 << 20;

    /// Five records at offsets 100 to 104, the third a tombstone.
    fn batch(codec: Codec) -> Batch {
        let producer = (ProducerId(7), ProducerEpoch(1), Sequence(40));
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(100))
            .leader_epoch(LeaderEpoch(3))
            .codec(codec, None)
            .producer(producer.0, producer.1, producer.2);
        for index in 0..5_u8 {
            let (key, value) = ([b'k', index], vec![index; 50]);
            let value = (index != 2).then_some(value.as_slice());
            let timestamp = Timestamp(1000 + i64::from(index) * 10);
            let headers = [crate::record::RecordHeader { key: b"h", value: None }];
            builder.push(&NewRecord { timestamp, key: Some(&key), value, headers: &headers }).expect("a small record");
        }
        builder.build().expect("a batch")
    }

    type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, u32);

    fn seen(batch: &Batch) -> Vec<Seen> {
        batch.check_crc().expect("its checksum is right");
        let records = batch.records(MAX).expect("it decompresses");
        let one = |record: Result<Record<'_>, BatchError>| {
            let record = record.expect("it is whole");
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            (record.offset.0, record.timestamp.0, key, value, record.header_count())
        };
        records.iter().map(one).collect()
    }

    #[test]
    fn what_is_kept_stays_as_it_was() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let whole = batch(codec);
            let all = seen(&whole);
            for mask in 0..32_i64 {
                let is_kept = |offset: i64| mask & (1 << (offset - 100)) != 0;
                let expected: Vec<Seen> = all.iter().filter(|record| is_kept(record.0)).cloned().collect();
                let left = retain(&whole, MAX, None, |record| is_kept(record.offset.0)).expect("a good batch");
                let left = match left {
                    Retained::All => {
                        assert_eq!(mask, 31);
                        continue;
                    }
                    Retained::None => {
                        assert_eq!(mask, 0);
                        continue;
                    }
                    Retained::Some(left) => left,
                };
                assert_eq!(seen(&left), expected);
                let (before, after) = (whole.header(), left.header());
                assert_eq!((after.base_offset, after.last_offset()), (before.base_offset, before.last_offset()));
                assert_eq!(
                    (after.base_sequence, after.last_sequence()),
                    (before.base_sequence, before.last_sequence())
                );
                assert_eq!((after.leader_epoch, after.codec()), (before.leader_epoch, before.codec()));
                assert_eq!(after.max_timestamp.0, expected.iter().map(|record| record.1).max().expect("some are kept"));
            }
        }
    }

    #[test]
    fn a_tombstone_gets_a_horizon_once() {
        for codec in [Codec::None, Codec::Lz4] {
            let whole = batch(codec);
            for horizon in [0, 5000, i64::MAX] {
                let Ok(Retained::Some(left)) = retain(&whole, MAX, Some(Timestamp(horizon)), |_| true) else {
                    panic!("it keeps a tombstone")
                };
                assert_eq!(left.header().delete_horizon(), Some(Timestamp(horizon)));
                assert_eq!(seen(&left), seen(&whole), "offsets and timestamps are the same");
                assert_eq!(left.header().max_timestamp, whole.header().max_timestamp);
                let again = retain(&left, MAX, Some(Timestamp(1)), |record| record.offset != Offset(100));
                let Ok(Retained::Some(again)) = again else { panic!("one record goes") };
                assert_eq!(again.header().delete_horizon(), Some(Timestamp(horizon)), "the first one counts");
                assert_eq!(seen(&again), seen(&whole)[1..]);
            }
            let none = retain(&whole, MAX, Some(Timestamp(9)), |record| record.value.is_some());
            let Ok(Retained::Some(none)) = none else { panic!("one record goes") };
            assert_eq!(none.header().delete_horizon(), None);
        }
        let stamped = with_log_append_time(&batch(Codec::None), Timestamp(7777));
        let left = retain(&stamped, MAX, Some(Timestamp(5)), |record| record.offset != Offset(104));
        let Ok(Retained::Some(left)) = left else { panic!("one record goes") };
        assert_eq!(left.header().max_timestamp, Timestamp(7777));
        assert!(seen(&left).iter().all(|record| record.1 == 7777));
    }

    #[test]
    fn without_records_the_producer_is_left() {
        let whole = batch(Codec::Zstd);
        let left = without_records(&whole);
        assert_eq!(left.bytes().len(), HEADER_BYTES);
        assert_eq!(seen(&left), []);
        let (before, after) = (whole.header(), left.header());
        assert_eq!((after.base_offset, after.last_offset()), (before.base_offset, before.last_offset()));
        assert_eq!((after.producer_id, after.last_sequence()), (before.producer_id, before.last_sequence()));
        assert!(!after.is_gap() && after.gap_within(&(Offset(0)..Offset(1000))).is_none());
    }

    #[test]
    fn gaps_are_cut_anywhere() {
        let whole = gap(&(Offset(10)..Offset(20)), LeaderEpoch(4));
        assert_eq!(seen(&whole), []);
        let header = whole.header();
        assert!(header.is_gap() && header.max_timestamp == Timestamp::NONE);
        assert_eq!(
            (header.base_offset, header.next_offset(), header.leader_epoch),
            (Offset(10), Offset(20), LeaderEpoch(4))
        );
        for (from, to, expected) in
            [(0, 99, Some((10, 20))), (15, 99, Some((15, 20))), (12, 13, Some((12, 13))), (20, 30, None)]
        {
            let part = header.gap_within(&(Offset(from)..Offset(to)));
            let range = part.map(|part| (part.header().base_offset.0, part.header().next_offset().0));
            assert_eq!(range, expected);
        }
    }

    #[test]
    fn a_bad_batch_is_an_error() {
        let whole = batch(Codec::None);
        let mut bytes = whole.bytes().to_vec();
        bytes[HEADER_BYTES] = 0xff;
        let bad = Batch::parse(bytes.into()).expect("the header is whole");
        assert!(matches!(retain(&bad, MAX, None, |_| true), Err(RecompressError::Batch(_))));
    }
}
