use bytes::Bytes;
use proptest::prelude::*;
use quipu_records::{BatchBuilder, NewRecord};

use super::*;

const DAY: i64 = 86_400_000;

fn header(id: i64, epoch: i16, sequence: i32, count: u32, base: i64) -> BatchHeader {
    let mut builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    for _ in 0..count {
        let record = NewRecord { timestamp: Timestamp(1), key: None, value: Some(b"v"), headers: &[] };
        builder.push(&record).expect("a small record");
    }
    let batch: Bytes = builder.base_offset(Offset(base)).build().expect("a batch").into_bytes();
    BatchHeader::parse(&batch).expect("a header")
}

/// A producer table with a log end, so that tests append as a log does.
#[derive(Default)]
struct Script {
    producers: Producers,
    end: i64,
}

impl Script {
    fn append(&mut self, id: i64, epoch: i16, sequence: i32, count: u32) -> Result<Verdict, AppendError> {
        let header = header(id, epoch, sequence, count, self.end);
        let verdict = self.producers.check(&header, Timestamp(0), DAY)?;
        if verdict == Verdict::New {
            self.producers.record(&header, Timestamp(0));
            self.end += i64::from(count);
        }
        Ok(verdict)
    }
}

#[test]
fn the_last_five_batches_are_recognised() {
    let mut script = Script::default();
    for index in 0..7 {
        assert_eq!(script.append(1, 0, index * 2, 2), Ok(Verdict::New));
    }
    for index in 2..7 {
        let verdict = script.append(1, 0, index * 2, 2);
        assert!(
            matches!(verdict, Ok(Verdict::Duplicate(batch)) if batch.base_offset == Offset(i64::from(index) * 2)),
            "batch {index}: {verdict:?}"
        );
    }
    assert!(matches!(script.append(1, 0, 2, 2), Err(AppendError::OutOfOrderSequence { .. })));
    assert!(matches!(script.append(1, 0, 12, 1), Err(AppendError::OutOfOrderSequence { .. })), "not the same batch");
    assert!(matches!(script.append(1, 0, 15, 1), Err(AppendError::OutOfOrderSequence { .. })));
    assert_eq!(script.append(1, 0, 14, 1), Ok(Verdict::New));
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let mut script = Script::default();
    assert_eq!(script.append(1, 3, 500, 1), Ok(Verdict::New), "an unknown producer begins anywhere");
    assert!(matches!(script.append(1, 2, 501, 1), Err(AppendError::InvalidProducerEpoch { .. })));
    assert!(matches!(script.append(1, 4, 501, 1), Err(AppendError::OutOfOrderSequence { .. })));
    assert_eq!(script.append(1, 4, 0, 1), Ok(Verdict::New));
    assert!(matches!(script.append(1, 3, 501, 1), Err(AppendError::InvalidProducerEpoch { .. })));
}

#[test]
fn sequences_wrap() {
    let mut script = Script::default();
    assert_eq!(script.append(1, 0, i32::MAX - 1, 3), Ok(Verdict::New));
    assert_eq!(script.append(1, 0, 1, 1), Ok(Verdict::New));
    assert!(matches!(script.append(1, 0, i32::MAX - 1, 3), Ok(Verdict::Duplicate(_))));
}

#[test]
fn an_expired_producer_is_unknown() {
    let mut script = Script::default();
    assert_eq!(script.append(1, 0, 0, 1), Ok(Verdict::New));
    let late = header(1, 0, 77, 1, 1);
    assert!(script.producers.check(&late, Timestamp(DAY - 1), DAY).is_err());
    assert_eq!(script.producers.check(&late, Timestamp(DAY), DAY), Ok(Verdict::New));
    script.producers.record(&late, Timestamp(DAY));
    let state = script.producers.find(ProducerId(1)).expect("remembered");
    assert_eq!(state.batches.len(), 1, "the history began anew");
    assert!(!script.producers.expire(Timestamp(DAY), DAY));
    assert!(script.producers.expire(Timestamp(2 * DAY), DAY));
    assert_eq!(script.producers.states().len(), 0);
}

#[test]
fn batches_without_a_sequence_leave_no_trace() {
    let mut producers = Producers::default();
    producers.record(&header(-1, -1, -1, 1, 0), Timestamp(0));
    producers.record(&header(5, 0, -1, 1, 0), Timestamp(0));
    assert_eq!(producers.states().len(), 0);
}

proptest! {
    #[test]
    fn a_delta_leads_from_one_state_to_the_other(
        steps in proptest::collection::vec((0_i64..6, 0_i32..3, any::<bool>()), 1..60),
        cut in 0_usize..60,
    ) {
        let mut producers = Producers::default();
        let mut before = Producers::default();
        for (index, (id, sequence, expire)) in steps.into_iter().enumerate() {
            if index == cut {
                before = producers.clone();
            }
            let now = Timestamp(i64::try_from(index).expect("small"));
            producers.record(&header(id, 0, sequence, 1, now.0), now);
            if expire {
                producers.expire(now, 5);
            }
        }
        let delta = before.delta_to(&producers);
        prop_assert_eq!(delta == ProducersDelta::default(), before == producers);
        before.apply(delta);
        prop_assert_eq!(before, producers);
    }
}
