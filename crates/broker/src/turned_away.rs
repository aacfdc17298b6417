//! Batches of idempotent producers that were refused for the moment, remembered by the connection they came on.
//!
//! A producer may have five batches under way. If the first is refused because there is no room just now, or because the partition
//! is not served yet, and all is well again when the second arrives, the second must not be taken: to a partition that does not
//! know the producer yet, any first sequence is right (KIP-360), and the first batch could never be appended any more.
//!
//! Invariant: once a batch was turned away, no later one of its producer, epoch and partition is taken from this connection
//! before that one has come again, or has come by another way: then the partition knows the producer.
//!
//! Not here: what partitions know of producers (`quipu-storage`); they see every gap but the one before a first batch.

use std::collections::BTreeMap;

use quipu_base::{ProducerEpoch, ProducerId, Sequence, TopicIdPartition};
use quipu_protocol::ErrorCode;
use quipu_records::BatchHeader;

use crate::{connection::Close, errors::Refusal};

/// Partitions and producers remembered for one connection. A client has one producer; more partitions than this in one
/// connection, all refused, come only from a client that tries to make us remember them.
const BATCHES_MAX: usize = 10_000;

/// What one connection's producers must send again first.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    first: BTreeMap<(TopicIdPartition, ProducerId), (ProducerEpoch, Sequence)>,
}

impl TurnedAway {
    /// Remembers a batch that is refused for the moment.
    ///
    /// Errors: there are too many.
    pub(crate) fn note(&mut self, partition: TopicIdPartition, header: &BatchHeader) -> Result<(), Close> {
        if header.base_sequence == Sequence::NONE {
            return Ok(());
        }
        self.first.insert((partition, header.producer_id), (header.producer_epoch, header.base_sequence));
        if self.first.len() > BATCHES_MAX {
            return Err(Close("too many of its batches were refused for the moment".into()));
        }
        Ok(())
    }

    /// Lets a batch pass, unless one before it has to come first. `knows` tells whether the partition knows its producer.
    ///
    /// Errors: what the batch is to be answered with.
    pub(crate) fn check(
        &mut self,
        partition: TopicIdPartition,
        header: &BatchHeader,
        knows: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        let key = (partition, header.producer_id);
        let Some((epoch, first)) = self.first.get(&key).copied() else { return Ok(()) };
        if epoch == header.producer_epoch && is_after(header.base_sequence, first) && !knows() {
            let message = format!("the batch with sequence {first} was refused for the moment and has to come first");
            return Err(Refusal::new(ErrorCode::OutOfOrderSequenceNumber, message));
        }
        // A batch from before it is a duplicate, which the partition knows.
        if epoch != header.producer_epoch || header.base_sequence == first || is_after(header.base_sequence, first) {
            self.first.remove(&key);
        }
        Ok(())
    }
}

/// Whether one sequence comes after another: they wrap from `i32::MAX` to 0, so the nearer half of all counts as after.
fn is_after(sequence: Sequence, other: Sequence) -> bool {
    let distance = sequence.get().wrapping_sub(other.get()) & i32::MAX;
    (1..=i32::MAX / 2).contains(&distance)
}

#[cfg(test)]
mod tests {
    use quipu_base::Timestamp;
    use quipu_records::{BatchBuilder, NewRecord};

    use super::*;

    fn header(producer: i64, epoch: i16, sequence: i32) -> BatchHeader {
        let mut builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), Sequence(sequence));
        let record = NewRecord { timestamp: Timestamp(0), key: None, value: None, headers: &[] };
        builder.push(&record).unwrap();
        *builder.build().unwrap().header()
    }

    #[test]
    fn what_was_turned_away_comes_first() {
        let partition = TopicIdPartition::METADATA;
        let mut turned_away = TurnedAway::default();
        let passes =
            |turned_away: &mut TurnedAway, header: &BatchHeader| turned_away.check(partition, header, || false).is_ok();
        assert!(passes(&mut turned_away, &header(1, 0, 5)));
        turned_away.note(partition, &header(1, 0, 5)).unwrap();
        assert!(!passes(&mut turned_away, &header(1, 0, 6)), "it comes later");
        assert!(passes(&mut turned_away, &header(1, 0, 4)), "a duplicate of one before");
        assert!(passes(&mut turned_away, &header(2, 0, 6)), "another producer");
        assert!(passes(&mut turned_away, &header(1, 0, 5)), "the one itself");
        assert!(passes(&mut turned_away, &header(1, 0, 6)), "it has come");
        turned_away.note(partition, &header(1, 0, 5)).unwrap();
        assert!(passes(&mut turned_away, &header(1, 1, 0)), "another epoch begins anew");
        assert!(passes(&mut turned_away, &header(1, 1, 7)));
        turned_away.note(partition, &header(1, 1, 8)).unwrap();
        assert!(turned_away.check(partition, &header(1, 1, 9), || true).is_ok(), "it came by another way");
        assert!(passes(&mut turned_away, &header(1, 1, 10)), "and is not asked for again");
    }

    #[test]
    fn sequences_wrap() {
        assert!(is_after(Sequence(0), Sequence(i32::MAX)) && !is_after(Sequence(i32::MAX), Sequence(0)));
        assert!(is_after(Sequence(7), Sequence(6)) && !is_after(Sequence(6), Sequence(6)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut turned_away = TurnedAway::default();
        let mut note = |producer| turned_away.note(TopicIdPartition::METADATA, &header(producer, 0, 0));
        let kept = i64::try_from(BATCHES_MAX).unwrap();
        assert!((0..kept).all(|producer| note(producer).is_ok()) && note(kept).is_err());
    }
}
