//! From fetched bytes to records: checksums, transactions that were aborted, records before the position.
//!
//! Invariants
//! - Batches are given in order; one that is skipped still moves the position.
//! - No batch's checksum covers its base offset: one that stands before the end of its predecessor is bad.
//!
//! Not here: positions (`position`), what is decoded where (`assigned`), the fetch itself (`ask`).

use core::{fmt, time::Duration};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, ProducerId, limits::DECOMPRESSED_INLINE_BYTES_MAX};
use quipu_protocol::messages::fetch::AbortedTransaction;
use quipu_records::{Batch, BatchError, Batches, Codec, DecompressError, Record};

use super::record::ConsumerRecord;
use crate::{Header, TopicPartition};

/// A compressed batch larger than this is decompressed elsewhere, as is one that then has more than
/// [`DECOMPRESSED_INLINE_BYTES_MAX`]: whoever polls has other work to do, and so has their thread.
const INLINE_BYTES_MAX: usize = 16 * 1024;
/// What a byte of a compressed batch is thought to cost.
const BYTE_NANOS: u64 = 4;

/// The type of a control record that ends an aborted transaction, in its key behind a version.
const ABORT: [u8; 2] = [0, 0];

/// A batch, whole; `None` in place of one whose records nobody is to see.
#[derive(Debug)]
pub(crate) struct Fetched {
    batch: Option<Batch>,
    pub(crate) next_offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) bytes: usize,
    is_heavy: bool,
}

/// The records of a batch.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) records: Result<VecDeque<ConsumerRecord>, BatchError>,
    pub(crate) next_offset: Offset,
    pub(crate) epoch: LeaderEpoch,
}

/// A batch that can't be read.
#[derive(Debug)]
pub(crate) struct BadBatch {
    pub(crate) at: Offset,
    pub(crate) error: Fault,
}

/// What is wrong with a batch.
#[derive(Debug)]
pub(crate) enum Fault {
    Batch(BatchError),
    /// It says that it begins before its predecessor ends.
    Place {
        base: Offset,
        end_before: Offset,
    },
}

impl From<BatchError> for Fault {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(error) => error.fmt(f),
            Self::Place { base, end_before } => {
                write!(f, "a batch that begins at offset {base} follows one that ends at {end_before}")
            }
        }
    }
}

/// How batches are checked and filtered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) check_crcs: bool,
    pub(crate) decompressed_bytes_max: usize,
}

/// The batches in what a broker sent for a partition from `wanted` on. `aborted`: what it says of transactions, for a reader of
/// committed records.
pub(crate) fn batches(
    bytes: Bytes,
    wanted: Offset,
    aborted: Option<&[AbortedTransaction]>,
    rules: Rules,
) -> (Vec<Fetched>, Option<BadBatch>) {
    let mut found = Vec::new();
    let mut next = wanted;
    // The first may begin before what is wanted.
    let mut end_before = Offset::ZERO;
    let mut filter = aborted.map(Filter::new);
    for batch in Batches::new(bytes) {
        let checked =
            batch.and_then(|batch| if rules.check_crcs { batch.check_crc().map(|()| batch) } else { Ok(batch) });
        let batch = match checked {
            Ok(batch) => batch,
            Err(error) => return (found, Some(BadBatch { at: next, error: error.into() })),
        };
        let (next_offset, epoch) = (batch.header().next_offset(), batch.header().leader_epoch);
        let base = batch.header().base_offset;
        if base < end_before {
            return (found, Some(BadBatch { at: next, error: Fault::Place { base, end_before } }));
        }
        end_before = next_offset;
        let is_hidden = match &mut filter {
            Some(filter) => match filter.hides(&batch, rules) {
                Ok(hidden) => hidden,
                Err(error) => return (found, Some(BadBatch { at: next, error: error.into() })),
            },
            None => batch.header().is_control(),
        };
        if next_offset > next {
            let bytes = batch.bytes().len();
            let is_heavy = !is_hidden && is_compressed(&batch) && bytes > INLINE_BYTES_MAX;
            found.push(Fetched { batch: (!is_hidden).then_some(batch), next_offset, epoch, bytes, is_heavy });
            next = next_offset;
        }
    }
    (found, None)
}

/// All records of what a broker sent, decoded at once.
pub(crate) fn decode(
    bytes: Bytes,
    wanted: Offset,
    partition: &TopicPartition,
    rules: Rules,
) -> Result<Vec<ConsumerRecord>, Fault> {
    let (found, bad) = batches(bytes, wanted, None, rules);
    let mut out = Vec::new();
    for one in found {
        out.extend(one.records(partition, rules)?);
    }
    bad.map_or(Ok(out), |bad| Err(bad.error))
}

fn is_compressed(batch: &Batch) -> bool {
    batch.header().codec() != Ok(Codec::None)
}

/// Tells batches of aborted transactions from others, in order of offset.
struct Filter {
    /// By first offset.
    to_come: VecDeque<(i64, ProducerId)>,
    /// Transactions that have begun and are to be aborted.
    open: BTreeSet<ProducerId>,
}

impl Filter {
    fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut to_come: Vec<_> = aborted.iter().map(|one| (one.first_offset, ProducerId(one.producer_id))).collect();
        to_come.sort_unstable();
        Self { to_come: to_come.into(), open: BTreeSet::new() }
    }

    fn hides(&mut self, batch: &Batch, rules: Rules) -> Result<bool, BatchError> {
        let header = batch.header();
        while self.to_come.front().is_some_and(|(first, _)| *first <= header.last_offset().0) {
            self.open.extend(self.to_come.pop_front().map(|(_, producer)| producer));
        }
        if header.is_control() {
            let records = batch.records(rules.decompressed_bytes_max)?;
            let first: Option<Record<'_>> = records.iter().next().transpose()?;
            let kind = first.and_then(|record| record.key).and_then(|key| key.get(2..4));
            if kind == Some(&ABORT[..]) {
                self.open.remove(&header.producer_id);
            }
            return Ok(true);
        }
        Ok(header.is_transactional() && self.open.contains(&header.producer_id))
    }
}

impl Fetched {
    /// Whether it takes so long to decode that it is better done elsewhere.
    pub(crate) const fn is_heavy(&self) -> bool {
        self.is_heavy
    }

    /// How long decoding takes, more or less.
    pub(crate) fn cost(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.bytes).unwrap_or(u64::MAX).saturating_mul(BYTE_NANOS))
    }

    /// Its records; none if it turns out heavy.
    pub(crate) fn decode_at_once(&mut self, partition: &TopicPartition, rules: Rules) -> Option<Decoded> {
        if self.is_heavy {
            return None;
        }
        let bytes_max = rules.decompressed_bytes_max.min(DECOMPRESSED_INLINE_BYTES_MAX);
        let decoded = self.decode(partition, Rules { decompressed_bytes_max: bytes_max, ..rules });
        let is_larger = matches!(decoded.records, Err(BatchError::Decompress(DecompressError::TooLarge { .. })));
        self.is_heavy = is_larger && bytes_max < rules.decompressed_bytes_max;
        (!self.is_heavy).then_some(decoded)
    }

    /// Its records.
    pub(crate) fn decode(&self, partition: &TopicPartition, rules: Rules) -> Decoded {
        Decoded { records: self.records(partition, rules), next_offset: self.next_offset, epoch: self.epoch }
    }

    fn records(
        &self,
        TopicPartition { topic, partition }: &TopicPartition,
        rules: Rules,
    ) -> Result<VecDeque<ConsumerRecord>, BatchError> {
        let Some(batch) = &self.batch else { return Ok(VecDeque::new()) };
        let header = *batch.header();
        let records = batch.records(rules.decompressed_bytes_max)?;
        let capacity = usize::try_from(header.record_count).unwrap_or(0).min(records.bytes().len());
        let mut out = VecDeque::with_capacity(capacity);
        for record in &records {
            let record = record?;
            let share = |part: &[u8]| records.share(part);
            let headers = record
                .headers()
                .map(|header| Header { key: share(header.key), value: header.value.map(share) })
                .collect();
            out.push_back(ConsumerRecord {
                topic: Arc::clone(topic),
                partition: *partition,
                offset: record.offset,
                leader_epoch: Some(header.leader_epoch).filter(|epoch| *epoch != LeaderEpoch::NONE),
                timestamp: record.timestamp,
                timestamp_type: header.timestamp_type(),
                key: record.key.map(share),
                value: record.value.map(share),
                headers,
            });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{PartitionIndex, ProducerEpoch, Sequence, Timestamp};
    use quipu_records::{BatchBuilder, NewRecord};
    use rand::{RngExt, SeedableRng};

    use super::*;

    const RULES: Rules = Rules { check_crcs: true, decompressed_bytes_max: 1 << 20 };

    fn batch(base: i64, producer: i64, transactional: bool, control: Option<u8>, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new().base_offset(Offset(base)).leader_epoch(LeaderEpoch(4));
        if producer >= 0 {
            builder = builder.producer(ProducerId(producer), ProducerEpoch(0), Sequence(0));
        }
        if transactional {
            builder = builder.transactional();
        }
        let key = control.map(|kind| {
            builder = core::mem::take(&mut builder).control();
            [0, 0, 0, kind]
        });
        let headers = [quipu_records::RecordHeader { key: b"h", value: Some(b"v") }];
        for value in values {
            let key = key.as_ref().map(|key| &key[..]);
            let value = Some(value.as_bytes());
            builder.push(&NewRecord { timestamp: Timestamp(9), key, value, headers: &headers }).unwrap();
        }
        builder.build().unwrap().into_bytes()
    }

    fn seen(found: &[Fetched]) -> Vec<(i64, String)> {
        let own = TopicPartition::new("knots", PartitionIndex(0));
        let records = |one: &Fetched| one.decode(&own, RULES).records.unwrap();
        let own =
            |record: ConsumerRecord| (record.offset.0, String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        found.iter().flat_map(records).map(own).collect()
    }

    fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
        AbortedTransaction { producer_id, first_offset }
    }

    #[test]
    fn a_batch_where_none_can_be_is_bad_and_those_before_it_count() {
        let at = |offset| batch(offset, -1, false, None, &["a", "b"]);
        for offsets in [[0, 1], [18, 0], [4, 4]] {
            let (found, bad) = batches(offsets.map(at).concat().into(), Offset(0), None, RULES);
            assert_eq!(found.len(), 1, "{offsets:?}");
            assert!(matches!(bad.unwrap().error, Fault::Place { .. }), "{offsets:?}");
        }
        // What compaction has taken away leaves room between batches.
        assert!(batches([2, 18].map(at).concat().into(), Offset(3), None, RULES).1.is_none());
    }

    #[test]
    fn records_come_as_they_were_sent() {
        let bytes = [batch(10, -1, false, None, &["a", "b", "c"]), batch(13, -1, false, None, &["d"])].concat();
        let (found, bad) = batches(bytes.into(), Offset(11), None, RULES);
        assert!(bad.is_none());
        let expected = [(10, "a".into()), (11, "b".into()), (12, "c".into()), (13, "d".into())];
        assert_eq!(seen(&found), expected);
        assert_eq!((found[1].next_offset, found[1].epoch), (Offset(14), LeaderEpoch(4)));
        let own = TopicPartition::new("knots", PartitionIndex(0));
        let record = &found[0].decode(&own, RULES).records.unwrap()[0];
        assert_eq!(record.headers, [Header::new("h", "v")]);
        assert_eq!((record.leader_epoch, record.timestamp), (Some(LeaderEpoch(4)), Timestamp(9)));
    }

    #[test]
    fn aborted_transactions_are_hidden_from_their_first_record_to_their_end() {
        let parts = [
            batch(0, 7, true, None, &["committed"]),
            batch(1, 7, true, Some(1), &[""]),
            batch(2, 7, true, None, &["aborted"]),
            batch(3, 8, true, None, &["of another"]),
            batch(4, 7, true, Some(0), &[""]),
            batch(5, 7, true, None, &["later"]),
            batch(6, -1, false, None, &["plain"]),
            batch(7, 8, true, Some(1), &[""]),
        ];
        let bytes = Bytes::from(parts.concat());
        let (found, bad) = batches(bytes.clone(), Offset(0), Some(&[aborted(7, 2)]), RULES);
        assert!(bad.is_none());
        let committed = ["committed", "of another", "later", "plain"].map(str::to_owned);
        assert!(seen(&found).into_iter().map(|(_, value)| value).eq(committed));
        assert_eq!(found.last().map(|last| last.next_offset), Some(Offset(8)));
        let (all, _) = batches(bytes, Offset(0), None, RULES);
        assert_eq!(seen(&all).len(), 5);
    }

    #[test]
    fn a_damaged_batch_is_told_with_its_place_and_those_before_it_count() {
        let mut bytes = [batch(0, -1, false, None, &["a"]), batch(1, -1, false, None, &["b"])].concat();
        *bytes.last_mut().unwrap() ^= 1;
        let (found, bad) = batches(bytes.clone().into(), Offset(0), None, RULES);
        let bad = bad.unwrap();
        assert!(matches!((bad.at, bad.error), (Offset(1), Fault::Batch(BatchError::Crc { .. }))));
        assert_eq!(seen(&found), [(0, "a".into())]);
        let (found, bad) = batches(bytes.into(), Offset(0), None, Rules { check_crcs: false, ..RULES });
        assert_eq!((found.len(), bad.is_none()), (2, true));
    }

    #[test]
    fn a_batch_that_is_cut_off_is_no_error() {
        let bytes = batch(0, -1, false, None, &["a"]);
        let (found, bad) = batches(bytes.slice(..bytes.len() - 1), Offset(0), None, RULES);
        assert!(found.is_empty() && bad.is_none());
    }

    /// As a broker would send it: compressed.
    fn compressed(value: &[u8]) -> Fetched {
        let mut builder = BatchBuilder::new().codec(Codec::Lz4, None);
        builder.push(&NewRecord { timestamp: Timestamp(9), key: None, value: Some(value), headers: &[] }).unwrap();
        let bytes = builder.build().unwrap().into_bytes();
        batches(bytes, Offset(0), None, RULES).0.remove(0)
    }

    #[test]
    fn what_takes_long_is_not_decoded_at_once() {
        let own = TopicPartition::new("knots", PartitionIndex(0));
        let mut rng = quipu_env::Rng::seed_from_u64(1);
        let noise: Vec<u8> = (0..20_000).map(|_| rng.random()).collect();
        let rules = |bytes| Rules { decompressed_bytes_max: bytes, ..RULES };
        let mut small = compressed(b"value");
        assert!(!small.is_heavy() && small.decode_at_once(&own, RULES).unwrap().records.is_ok());
        let mut large = compressed(&noise);
        assert!(large.is_heavy() && large.decode_at_once(&own, RULES).is_none());
        assert_eq!(large.decode(&own, RULES).records.unwrap()[0].value.as_deref(), Some(&noise[..]));
        // Small, until one looks into it.
        let mut zeroes = compressed(&[0; 300_000]);
        assert!(!zeroes.is_heavy());
        assert!(zeroes.decode_at_once(&own, RULES).is_none() && zeroes.is_heavy());
        assert_eq!(zeroes.decode(&own, RULES).records.unwrap().len(), 1);
        // Too large for anybody: told at once.
        let mut zeroes = compressed(&[0; 300_000]);
        assert!(zeroes.decode_at_once(&own, rules(1000)).unwrap().records.is_err());
    }
}
