//! Batches of idempotent producers that were refused for the moment, remembered where the ones behind them come by.
//!
//! A producer may have five batches under way. If the first is refused because there is no room just now, because too few replicas live,
//! or because the partition is not served yet, and all is well again when the second arrives, the second must not be taken: to a
//! partition that does not know the producer yet, any first sequence is right (KIP-360), and the first batch could never be
//! appended any more. Nor is it out of order: that error tells a client that records were lost, upon which some give up their
//! producer epoch and send again what was kept. It is refused for the same reason as the first.
//!
//! Invariant: once a batch was turned away, no later one of its producer, epoch and partition is taken before that one has come again, or
//! has come by another way: then it is the next one that the partition waits for.
//!
//! A connection remembers what handlers refuse, a shard what its replicas do. Not here: what partitions know of producers
//! (`quipu-storage`).

use std::collections::BTreeMap;

use quipu_base::{ProducerEpoch, ProducerId, Sequence, TopicIdPartition};
use quipu_records::BatchHeader;

/// Partitions and producers remembered in one place. More than this, all refused, come only from clients that try to make us
/// remember them.
const BATCHES_MAX: usize = 10_000;

/// A batch that was refused for the moment.
#[derive(Debug)]
struct Refused<Why> {
    epoch: ProducerEpoch,
    sequence: Sequence,
    why: Why,
}

/// More batches were refused for the moment than anybody remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooMany;

/// What producers must send again first, and why it was refused.
#[derive(Debug)]
pub(crate) struct TurnedAway<Why> {
    first: BTreeMap<(TopicIdPartition, ProducerId), Refused<Why>>,
}

impl<Why> Default for TurnedAway<Why> {
    fn default() -> Self {
        Self { first: BTreeMap::new() }
    }
}

impl<Why: Clone> TurnedAway<Why> {
    /// Remembers a batch that is refused for the moment, unless it comes behind one that was.
    ///
    /// Errors: there are too many.
    pub(crate) fn note(&mut self, partition: TopicIdPartition, header: &BatchHeader, why: Why) -> Result<(), TooMany> {
        if header.base_sequence == Sequence::NONE {
            return Ok(());
        }
        let key = (partition, header.producer_id);
        let is_behind = |first: &Refused<Why>| {
            first.epoch == header.producer_epoch && is_after(header.base_sequence, first.sequence)
        };
        if self.first.get(&key).is_some_and(is_behind) {
            return Ok(());
        }
        if self.first.len() >= BATCHES_MAX && !self.first.contains_key(&key) {
            return Err(TooMany);
        }
        self.first.insert(key, Refused { epoch: header.producer_epoch, sequence: header.base_sequence, why });
        Ok(())
    }

    /// Lets a batch pass, unless one before it has to come first. `is_next` tells whether it is the one that the partition waits for.
    ///
    /// Errors: why that one was refused.
    pub(crate) fn check(
        &mut self,
        partition: TopicIdPartition,
        header: &BatchHeader,
        is_next: impl FnOnce() -> bool,
    ) -> Result<(), Why> {
        let key = (partition, header.producer_id);
        let Some(first) = self.first.get(&key) else { return Ok(()) };
        let is_same = first.epoch == header.producer_epoch;
        let is_behind = is_same && is_after(header.base_sequence, first.sequence);
        if is_behind && !is_next() {
            return Err(first.why.clone());
        }
        // A batch from before it is a duplicate, which the partition knows.
        if !is_same || is_behind || header.base_sequence == first.sequence {
            self.first.remove(&key);
        }
        Ok(())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.first.clear();
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
        let passes = |turned_away: &mut TurnedAway<u8>, header: &BatchHeader| {
            turned_away.check(partition, header, || false).is_ok()
        };
        assert!(passes(&mut turned_away, &header(1, 0, 5)));
        turned_away.note(partition, &header(1, 0, 5), 7).unwrap();
        turned_away.note(partition, &header(1, 0, 6), 8).unwrap();
        assert_eq!(turned_away.check(partition, &header(1, 0, 6), || false), Err(7), "it comes later");
        assert!(passes(&mut turned_away, &header(1, 0, 4)), "a duplicate of one before");
        assert!(passes(&mut turned_away, &header(2, 0, 6)), "another producer");
        assert!(passes(&mut turned_away, &header(1, 0, 5)), "the one itself");
        assert!(passes(&mut turned_away, &header(1, 0, 6)), "it has come");
        turned_away.note(partition, &header(1, 0, 5), 7).unwrap();
        assert!(passes(&mut turned_away, &header(1, 1, 0)), "another epoch begins anew");
        assert!(passes(&mut turned_away, &header(1, 1, 7)));
        turned_away.note(partition, &header(1, 1, 8), 7).unwrap();
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
        let mut note = |producer| turned_away.note(TopicIdPartition::METADATA, &header(producer, 0, 0), ());
        let kept = i64::try_from(BATCHES_MAX).unwrap();
        assert!((0..kept).all(|producer| note(producer).is_ok()) && note(kept).is_err());
    }
}
