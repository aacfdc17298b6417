//! Stories of one partition's position.

use core::time::Duration;

use quipu_base::Timestamp;

use super::*;

const NONE: LeaderEpoch = LeaderEpoch::NONE;

fn led(cursor: &mut Cursor, broker: i32, epoch: i32) -> bool {
    cursor.handle_leader(Some((BrokerId(broker), LeaderEpoch(epoch))))
}

fn records(offset: i64, last_epoch: i32) -> Option<Need> {
    Some(Need::Records { offset: Offset(offset), last_epoch: LeaderEpoch(last_epoch) })
}

/// At offset 10, all of which was appended under epoch 3, with up to 20 fetched; led under epoch 3.
fn reading(policy: OffsetReset) -> Cursor {
    let mut cursor = Cursor::new(Position::Offset(Offset(5)), policy);
    led(&mut cursor, 1, 3);
    cursor.handle_fetched(Offset(20), LeaderEpoch(3));
    cursor.handle_consumed(Offset(10), LeaderEpoch(3));
    cursor
}

#[test]
fn it_finds_out_where_to_begin() {
    for (position, timestamp) in [(Position::Start, -2), (Position::End, -1), (Position::Timestamp(Timestamp(7)), 7)] {
        let mut cursor = Cursor::new(position, OffsetReset::Error);
        assert_eq!((cursor.need(), cursor.position()), (Some(Need::List { timestamp }), None));
        cursor.handle_listed(Offset(4));
        assert_eq!((cursor.need(), cursor.position()), (records(4, -1), Some(Offset(4))));
    }
}

#[test]
fn a_time_after_the_last_record_is_the_end() {
    let mut cursor = Cursor::new(Position::Timestamp(Timestamp(7)), OffsetReset::Error);
    cursor.handle_listed(Offset(-1));
    assert_eq!(cursor.need(), Some(Need::List { timestamp: -1 }));
}

#[test]
fn it_reads_ahead_of_the_caller() {
    let mut cursor = reading(OffsetReset::Error);
    assert_eq!((cursor.need(), cursor.position()), (records(20, 3), Some(Offset(10))));
    cursor.handle_consumed(Offset(8), LeaderEpoch(2));
    assert_eq!(cursor.position(), Some(Offset(10)), "never back");
}

#[test]
fn a_new_leader_is_asked_whether_the_log_is_the_same() {
    let mut cursor = reading(OffsetReset::Error);
    let generation = cursor.generation();
    assert!(led(&mut cursor, 2, 4));
    assert_ne!(cursor.generation(), generation);
    assert_eq!(cursor.need(), Some(Need::EpochEnd { epoch: LeaderEpoch(3) }));
    cursor.handle_epoch_end(LeaderEpoch(3), Offset(10));
    assert_eq!((cursor.need(), cursor.leader()), (records(10, 3), Some((BrokerId(2), LeaderEpoch(4)))));
}

#[test]
fn the_same_leader_or_an_older_one_changes_nothing() {
    let mut cursor = reading(OffsetReset::Error);
    let generation = cursor.generation();
    assert!(!led(&mut cursor, 1, 3) && !led(&mut cursor, 7, 2));
    assert_eq!((cursor.generation(), cursor.leader()), (generation, Some((BrokerId(1), LeaderEpoch(3)))));
    assert!(!cursor.handle_leader(None));
    assert_eq!(cursor.leader(), None);
    assert!(!led(&mut cursor, 7, 2), "the epoch does not go back while there is no leader");
    assert_eq!(cursor.leader(), None);
}

#[test]
fn before_anything_was_read_there_is_nothing_to_compare() {
    let mut cursor = Cursor::new(Position::Offset(Offset(5)), OffsetReset::Error);
    assert!(!led(&mut cursor, 1, 3) && !led(&mut cursor, 2, 4));
    assert_eq!(cursor.need(), records(5, NONE.0));
}

#[test]
fn truncation_is_told_or_followed() {
    for (epoch, end, diverging) in [(3, 7, Some(Offset(7))), (2, 10, Some(Offset(10))), (-1, -1, None)] {
        let mut cursor = reading(OffsetReset::Error);
        led(&mut cursor, 2, 4);
        cursor.handle_epoch_end(LeaderEpoch(epoch), Offset(end));
        assert_eq!((cursor.stopped(), cursor.need()), (Some(Stop::Truncated { diverging }), None));
        assert_eq!(cursor.position(), Some(Offset(10)));
        cursor.seek(Position::Offset(Offset(7)));
        assert_eq!((cursor.stopped(), cursor.need()), (None, records(7, -1)));
    }
    let mut cursor = reading(OffsetReset::Start);
    led(&mut cursor, 2, 4);
    cursor.handle_epoch_end(LeaderEpoch(3), Offset(7));
    assert_eq!((cursor.need(), cursor.position()), (records(7, 3), Some(Offset(7))));
    let mut cursor = reading(OffsetReset::End);
    led(&mut cursor, 2, 4);
    cursor.handle_epoch_end(NONE, Offset(-1));
    assert_eq!(cursor.need(), Some(Need::List { timestamp: -1 }));
}

#[test]
fn a_fetch_that_parts_only_from_what_was_read_ahead_begins_anew() {
    let mut cursor = reading(OffsetReset::Error);
    cursor.handle_epoch_end(LeaderEpoch(3), Offset(15));
    assert_eq!((cursor.stopped(), cursor.need()), (None, records(10, 3)));
}

#[test]
fn out_of_range_follows_the_policy() {
    for (policy, need) in [
        (OffsetReset::Error, None),
        (OffsetReset::Start, Some(Need::List { timestamp: -2 })),
        (OffsetReset::End, Some(Need::List { timestamp: -1 })),
    ] {
        let mut cursor = reading(policy);
        cursor.handle_out_of_range();
        assert_eq!(cursor.need(), need);
        assert_eq!(cursor.stopped(), need.is_none().then_some(Stop::OutOfRange));
    }
}

#[test]
fn a_topic_that_was_made_again_is_another_log() {
    let mut cursor = reading(OffsetReset::Error);
    assert!(cursor.handle_new_topic());
    assert_eq!(cursor.stopped(), Some(Stop::Truncated { diverging: Some(Offset::ZERO) }));
    let mut cursor = reading(OffsetReset::Start);
    assert!(cursor.handle_new_topic() && !led(&mut cursor, 1, 0));
    assert_eq!(cursor.need(), Some(Need::List { timestamp: -2 }));
    assert_eq!(cursor.leader(), Some((BrokerId(1), LeaderEpoch(0))));
    let mut cursor = Cursor::new(Position::Offset(Offset(0)), OffsetReset::Error);
    assert!(cursor.handle_new_topic());
    assert_eq!(cursor.need(), records(0, -1));
}

#[test]
fn trouble_pauses_and_a_seek_ends_the_pause() {
    let mut cursor = reading(OffsetReset::Error);
    let again_at = Instant::ZERO + Duration::from_secs(3);
    cursor.handle_trouble(again_at);
    assert_eq!((cursor.failures, cursor.not_before()), (1, again_at));
    cursor.seek(Position::Start);
    assert_eq!((cursor.failures, cursor.not_before()), (0, Instant::ZERO));
}

#[test]
fn a_position_that_was_kept_with_its_epoch_is_compared_first() {
    let kept = Position::OffsetAndEpoch(Offset(10), LeaderEpoch(3));
    let mut cursor = Cursor::new(kept, OffsetReset::Error);
    assert_eq!(cursor.need(), Some(Need::EpochEnd { epoch: LeaderEpoch(3) }));
    led(&mut cursor, 1, 5);
    assert_eq!((cursor.need(), cursor.position()), (Some(Need::EpochEnd { epoch: LeaderEpoch(3) }), Some(Offset(10))));
    cursor.handle_epoch_end(LeaderEpoch(3), Offset(12));
    assert_eq!(cursor.need(), records(10, 3));
    let mut cursor = Cursor::new(kept, OffsetReset::Error);
    cursor.handle_epoch_end(LeaderEpoch(3), Offset(9));
    assert_eq!(cursor.stopped(), Some(Stop::Truncated { diverging: Some(Offset(9)) }));
    let cursor = Cursor::new(Position::OffsetAndEpoch(Offset(10), NONE), OffsetReset::Error);
    assert_eq!(cursor.need(), records(10, -1));
}
