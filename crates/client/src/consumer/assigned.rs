//! A partition that is read: what of it was fetched and not yet given out.
//!
//! ```text
//! fetched batches: buffer -> (decoded elsewhere, if that takes long) -> records of one batch -> caller
//! ```
//!
//! Invariants
//! - Everything is given out in the order in which it was fetched; the position follows.
//! - At most one batch is decoded elsewhere, and nothing behind it is looked at before it is back.
//!
//! Not here: what to fetch (`position`, `ask`), who decodes (`mod`), how (`fetched`).

use std::collections::VecDeque;

use quipu_base::{LeaderEpoch, Offset, TopicId};

use super::{
    ConsumerError,
    fetched::{Decoded, Fetched, Rules},
    position::{Cursor, Generation},
    record::ConsumerRecord,
};
use crate::TopicPartition;

/// See the module.
pub(super) struct Assigned {
    /// Another one each time that a partition is assigned, so that answers of an earlier time don't count.
    pub(super) id: u64,
    pub(super) cursor: Cursor,
    /// Which topic it was when it was first found; zero as long as that is not known.
    pub(super) topic_id: TopicId,
    buffer: VecDeque<Fetched>,
    buffered_bytes: usize,
    /// The batch in front of `buffer` that is decoded elsewhere, by the number of that work.
    decoding: Option<u64>,
    /// It is back.
    decoded: Option<Decoded>,
    /// Records of the first batch, which none of the above has any more.
    records: VecDeque<ConsumerRecord>,
    /// Where the batch of `records` ends.
    records_end: Option<(Offset, LeaderEpoch)>,
    /// What follows can't be had. That is looked at again, and told, when everything before it was given out.
    is_at_end: bool,
    pub(super) is_paused: bool,
    /// A question about it is under way.
    pub(super) is_asked: bool,
    /// In which generation a fetch of it is under way.
    pub(super) fetching: Option<Generation>,
    /// In which generation the last fetch found nothing new, so that the next one may wait.
    pub(super) found_nothing: Option<Generation>,
    /// End of what may be read, as last heard.
    pub(super) readable_end: Option<Offset>,
    pub(super) error: Option<ConsumerError>,
    pub(super) is_told: bool,
}

impl Assigned {
    pub(super) fn new(id: u64, cursor: Cursor) -> Self {
        Self {
            id,
            cursor,
            topic_id: TopicId::ZERO,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            decoding: None,
            decoded: None,
            records: VecDeque::new(),
            records_end: None,
            is_at_end: false,
            is_paused: false,
            is_asked: false,
            fetching: None,
            found_nothing: None,
            readable_end: None,
            error: None,
            is_told: false,
        }
    }

    /// Forgets what was fetched.
    pub(super) fn discard(&mut self) {
        self.buffer.clear();
        self.buffered_bytes = 0;
        self.decoding = None;
        self.decoded = None;
        self.records.clear();
        self.records_end = None;
        self.is_at_end = false;
    }

    pub(super) fn stop(&mut self, error: ConsumerError) {
        self.cursor.stop();
        self.error = Some(error);
        self.is_told = false;
    }

    /// A batch was fetched.
    pub(super) fn push(&mut self, fetched: Fetched) {
        self.is_at_end = false;
        self.cursor.handle_fetched(fetched.next_offset, fetched.epoch);
        self.buffered_bytes += fetched.bytes;
        self.buffer.push_back(fetched);
    }

    /// The offset behind everything fetched is not in the log.
    pub(super) fn handle_out_of_range(&mut self) {
        if self.is_empty() {
            self.cursor.handle_out_of_range();
        } else {
            self.is_at_end = true;
        }
    }

    /// Whether everything that was fetched was given out.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.decoding.is_none() && self.decoded.is_none() && self.records.is_empty()
    }

    /// Whether more is to be fetched.
    pub(super) fn has_room(&self, prefetch_bytes: usize) -> bool {
        self.is_empty() || !self.is_at_end && !self.is_paused && self.buffered_bytes < prefetch_bytes
    }

    /// The next batch, if it is one that takes long to decode, to be handed back under this number.
    pub(super) fn take_heavy(&mut self, number: u64) -> Option<Fetched> {
        if self.decoding.is_some() || self.decoded.is_some() || !self.buffer.front().is_some_and(Fetched::is_heavy) {
            return None;
        }
        self.decoding = Some(number);
        self.pop()
    }

    /// A batch was decoded elsewhere.
    pub(super) fn handle_decoded(&mut self, number: u64, decoded: Decoded) {
        if self.decoding == Some(number) {
            self.decoding = None;
            self.decoded = Some(decoded);
        }
    }

    fn pop(&mut self) -> Option<Fetched> {
        let next = self.buffer.pop_front()?;
        self.buffered_bytes -= next.bytes;
        Some(next)
    }

    /// Moves records to `out` until it has `limit`, or nothing is left that is decoded or can be at once.
    pub(super) fn take(
        &mut self,
        partition: &TopicPartition,
        limit: usize,
        rules: Rules,
        out: &mut Vec<ConsumerRecord>,
    ) {
        loop {
            self.give(limit, out);
            if out.len() >= limit {
                return;
            }
            let Some(decoded) = self.next_decoded(partition, rules) else { return };
            let position = self.cursor.position().unwrap_or(Offset::ZERO);
            match decoded.records {
                Ok(mut records) => {
                    let before = records.iter().take_while(|record| record.offset < position).count();
                    drop(records.drain(..before));
                    self.records = records;
                    self.records_end = Some((decoded.next_offset, decoded.epoch));
                }
                Err(error) => {
                    self.discard();
                    let cause = error.to_string();
                    return self.stop(ConsumerError::Corrupt { partition: partition.clone(), position, cause });
                }
            }
        }
    }

    /// Moves records of the first batch.
    fn give(&mut self, limit: usize, out: &mut Vec<ConsumerRecord>) {
        let count = self.records.len().min(limit - out.len());
        if let Some(last) = count.checked_sub(1).and_then(|last| self.records.get(last)) {
            let epoch = last.leader_epoch.unwrap_or(LeaderEpoch::NONE);
            self.cursor.handle_consumed(last.offset.next(), epoch);
            out.extend(self.records.drain(..count));
        }
        if self.records.is_empty()
            && let Some((end, epoch)) = self.records_end.take()
        {
            self.cursor.handle_consumed(end, epoch);
        }
    }

    fn next_decoded(&mut self, partition: &TopicPartition, rules: Rules) -> Option<Decoded> {
        if self.decoding.is_some() {
            return None;
        }
        if let Some(decoded) = self.decoded.take() {
            return Some(decoded);
        }
        // A heavy one stays in front, for `take_heavy`.
        let decoded = self.buffer.front_mut()?.decode_at_once(partition, rules)?;
        self.pop();
        Some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{PartitionIndex, Timestamp};
    use quipu_records::{BatchBuilder, Codec, NewRecord};

    use super::{
        super::{OffsetReset, Position, fetched::batches, position::Stop},
        *,
    };

    const RULES: Rules = Rules { check_crcs: true, decompressed_bytes_max: 1 << 20 };

    fn partition() -> TopicPartition {
        TopicPartition::new("knots", PartitionIndex(0))
    }

    /// Reading from `position`, with batches of these records fetched: base offset, values.
    fn assigned(position: i64, fetched: &[(i64, &[&[u8]])]) -> Assigned {
        let mut assigned = Assigned::new(0, Cursor::new(Position::Offset(Offset(position)), OffsetReset::Error));
        for (base_offset, values) in fetched {
            let mut builder = BatchBuilder::new().codec(Codec::Lz4, None).base_offset(Offset(*base_offset));
            for value in *values {
                let record = NewRecord { timestamp: Timestamp(9), key: None, value: Some(value), headers: &[] };
                builder.push(&record).unwrap();
            }
            let bytes = builder.build().unwrap().into_bytes();
            batches(bytes, Offset(position), None, RULES).0.into_iter().for_each(|one| assigned.push(one));
        }
        assigned
    }

    fn take(assigned: &mut Assigned, limit: usize) -> Vec<i64> {
        let mut out = Vec::new();
        assigned.take(&partition(), limit, RULES, &mut out);
        out.into_iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn records_are_given_from_the_position_on_and_it_follows() {
        let mut assigned = assigned(11, &[(10, &[b"a", b"b", b"c"]), (13, &[b"d"])]);
        assert_eq!(take(&mut assigned, 1), [11]);
        assert_eq!((assigned.cursor.position(), assigned.is_empty()), (Some(Offset(12)), false));
        assert_eq!(take(&mut assigned, 5), [12, 13]);
        assert_eq!((assigned.cursor.position(), assigned.is_empty()), (Some(Offset(14)), true));
    }

    #[test]
    fn what_is_decoded_elsewhere_keeps_its_place() {
        let zeroes = vec![0; 400_000];
        let mut assigned = assigned(0, &[(0, &[b"a"]), (1, &[&zeroes]), (2, &[b"c"])]);
        assert!(assigned.take_heavy(1).is_none(), "it does not know yet");
        assert_eq!(take(&mut assigned, 5), [0]);
        let heavy = assigned.take_heavy(2).unwrap();
        assert!(assigned.take_heavy(3).is_none(), "one at a time");
        assert_eq!((take(&mut assigned, 5), assigned.is_empty()), (vec![], false));
        assigned.handle_decoded(1, heavy.decode(&partition(), RULES));
        assert_eq!(take(&mut assigned, 5), [], "that was another one");
        assigned.handle_decoded(2, heavy.decode(&partition(), RULES));
        assert_eq!((take(&mut assigned, 5), assigned.is_empty()), (vec![1, 2], true));
        assert_eq!(assigned.cursor.position(), Some(Offset(3)));
    }

    #[test]
    fn the_end_of_the_log_comes_behind_what_was_fetched() {
        let mut assigned = assigned(0, &[(0, &[b"a", b"b"])]);
        assert_eq!((take(&mut assigned, 1), assigned.has_room(1000)), (vec![0], true));
        assigned.handle_out_of_range();
        assert_eq!((assigned.cursor.stopped(), assigned.has_room(1000)), (None, false));
        assert_eq!((take(&mut assigned, 5), assigned.has_room(1000)), (vec![1], true));
        assigned.handle_out_of_range();
        assert_eq!(assigned.cursor.stopped(), Some(Stop::OutOfRange));
    }

    #[test]
    fn the_position_does_not_leave_for_the_start_before_what_was_fetched_is_given() {
        let mut assigned = assigned(0, &[(0, &[b"a", b"b"])]);
        assigned.cursor = Cursor::new(Position::Offset(Offset(0)), OffsetReset::Start);
        assert_eq!(take(&mut assigned, 1), [0]);
        assigned.handle_out_of_range();
        assigned.cursor.handle_listed(Offset(9));
        assert_eq!(assigned.cursor.position(), Some(Offset(1)));
        assert_eq!(take(&mut assigned, 5), [1]);
        assigned.handle_out_of_range();
        assert_eq!(assigned.cursor.position(), None);
        assigned.cursor.handle_listed(Offset(9));
        assert_eq!(assigned.cursor.position(), Some(Offset(9)));
    }

    #[test]
    fn what_is_discarded_does_not_come_back() {
        let mut assigned = assigned(0, &[(0, &[&vec![0; 400_000]])]);
        assert_eq!(take(&mut assigned, 5), []);
        let heavy = assigned.take_heavy(1).unwrap();
        assigned.discard();
        assigned.handle_decoded(1, heavy.decode(&partition(), RULES));
        assert!(assigned.is_empty() && take(&mut assigned, 5).is_empty());
    }
}
