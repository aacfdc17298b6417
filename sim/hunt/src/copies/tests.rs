//! Hand-made logs: what agrees passes, each disagreement is told.

use quipu_base::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_records::{BatchBuilder, NewRecord};
use quipu_storage::ProducerBatch;

use super::*;

/// One record of a producer, at that offset.
fn header(offset: i64, producer: i64, sequence: i32, epoch: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new().base_offset(Offset(offset)).producer(
        ProducerId(producer),
        ProducerEpoch(0),
        Sequence(sequence),
    );
    builder.push(&NewRecord { timestamp: Timestamp(1), key: None, value: None, headers: &[] }).unwrap();
    BatchHeader { leader_epoch: LeaderEpoch(epoch), ..*builder.build().unwrap().header() }
}

fn remembered(producer: i64, batches: &[(i64, i32)]) -> ProducerState {
    let batch = |(offset, sequence): &(i64, i32)| ProducerBatch {
        first_sequence: Sequence(*sequence),
        last_sequence: Sequence(*sequence),
        base_offset: Offset(*offset),
        last_offset: Offset(*offset),
        timestamp: Timestamp(1),
    };
    ProducerState {
        producer_id: ProducerId(producer),
        epoch: ProducerEpoch(0),
        last_used: Timestamp(1),
        batches: batches.iter().map(batch).collect(),
    }
}

fn log(count: i64) -> Vec<BatchHeader> {
    (0..count).map(|offset| header(offset, 7, i32::try_from(offset).unwrap(), 0)).collect()
}

#[test]
fn logs_are_dense_from_start_to_end() {
    assert_eq!(dense(&[], 4, 4), None);
    assert!(dense(&[], 0, 4).is_some());
    assert_eq!(dense(&log(4), 0, 4), None);
    assert_eq!(dense(&log(4), 2, 4), None, "a batch may begin below the start");
    assert!(dense(&log(4)[1..], 0, 4).is_some());
    assert!(dense(&log(4), 0, 5).is_some());
    let mut gap = log(4);
    gap.remove(2);
    assert!(dense(&gap, 0, 4).is_some());
}

#[test]
fn producers_are_what_their_batches_say() {
    let all: Vec<(i64, i32)> = (0..7).map(|offset| (offset, i32::try_from(offset).unwrap())).collect();
    let judge = |headers: &[BatchHeader], batches: &[(i64, i32)]| {
        producers_disagree(headers, &[remembered(7, batches)], Offset(7), false)
    };
    assert_eq!(judge(&log(7), &all[2..]), None);
    assert_eq!(judge(&log(7)[5..], &all[2..]), None, "what was deleted is remembered");
    assert!(judge(&log(7), &all[1..6]).is_some(), "the newest is unknown");
    assert!(judge(&log(7), &[(7, 7)]).is_some(), "it is ahead of the log");
    assert!(producers_disagree(&log(7), &[], Offset(7), false).is_some(), "it is forgotten");
    assert_eq!(producers_disagree(&log(7), &[], Offset(7), true), None);
}

#[test]
fn epochs_are_what_batches_say() {
    let headers = [header(0, -1, -1, 1), header(1, -1, -1, 1), header(2, -1, -1, 3)];
    let at = |offset: Offset| LeaderEpoch(if offset.0 < 2 { 1 } else { 3 });
    let ends = |epoch: LeaderEpoch, _: Offset| (epoch, Offset(if epoch.0 == 1 { 2 } else { 3 }));
    assert_eq!(epochs_disagree(&headers, at, ends, Offset(3)), None);
    let late = |offset: Offset| LeaderEpoch(if offset.0 < 1 { 1 } else { 3 });
    assert!(epochs_disagree(&headers, late, ends, Offset(3)).is_some());
    let early = |epoch: LeaderEpoch, _: Offset| (epoch, Offset(if epoch.0 == 1 { 1 } else { 3 }));
    assert!(epochs_disagree(&headers, at, early, Offset(3)).is_some());
}

#[test]
fn what_was_served_is_what_is_stored() {
    let batch = |offset: i64, value: &'static [u8]| {
        let mut builder = BatchBuilder::new().base_offset(Offset(offset));
        builder.push(&NewRecord { timestamp: Timestamp(1), key: None, value: Some(value), headers: &[] }).unwrap();
        builder.build().unwrap()
    };
    let stored = [batch(4, b"a"), batch(5, b"b")];
    let judge = |served: Batch, start: i64| {
        let served = [(served.header().base_offset.0, Given::of(&served))];
        served_disagree(&stored, served.into_iter(), start)
    };
    assert_eq!(judge(batch(4, b"a"), 4), None);
    assert!(judge(batch(4, b"x"), 4).is_some(), "other bytes");
    assert!(judge(batch(6, b"c"), 4).is_some(), "it is gone, or never was");
    assert!(judge(batch(3, b"z"), 3).is_some(), "it is gone from the beginning");
    assert_eq!(judge(batch(3, b"z"), 4), None, "it was deleted");
}
