//! Who gets a place, who loses it, and what is left behind.

use core::time::Duration;

use rand::SeedableRng;

use super::*;

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn sessions(slots: usize) -> FetchSessions<&'static str> {
    FetchSessions::new(slots, Rng::seed_from_u64(7))
}

fn open(sessions: &FetchSessions<&'static str>, now: u64, size: usize) -> (Keeper<&'static str>, Option<i32>) {
    let keeper = Keeper::default();
    let id = sessions.create(at(now), size, &keeper, || Some("session"));
    (keeper, id)
}

/// Uses a session as a request does. False if it is gone.
fn is_there(sessions: &FetchSessions<&'static str>, keeper: &Keeper<&'static str>, now: u64, size: usize) -> bool {
    keeper.take_any().is_some_and(|held| sessions.keep(at(now), size, keeper, held))
}

fn count(sessions: &FetchSessions<&'static str>) -> (usize, usize) {
    let inner = sessions.lock();
    assert_eq!(inner.by_use.len(), inner.entries.len());
    assert_eq!(inner.partitions, inner.entries.values().map(|entry| entry.size).sum::<usize>());
    (inner.entries.len(), inner.partitions)
}

#[test]
fn the_young_keep_their_place_and_the_unused_lose_it() {
    let sessions = sessions(2);
    let (first, id) = open(&sessions, 0, 10);
    assert!(id.is_some_and(|id| id > 0));
    let (second, _) = open(&sessions, 1, 10);
    assert_eq!(open(&sessions, 100, 1000).1, None, "both had less than two minutes");
    assert!(is_there(&sessions, &second, 100, 10));
    let (third, id) = open(&sessions, 121, 1);
    assert!(id.is_some(), "the first was unused for two minutes");
    assert!(!is_there(&sessions, &first, 121, 10));
    assert!(is_there(&sessions, &second, 121, 10) && is_there(&sessions, &third, 121, 1));
}

#[test]
fn of_the_old_the_smallest_gives_way_to_what_is_no_smaller() {
    let sessions = sessions(2);
    let (large, _) = open(&sessions, 0, 10);
    let (small, _) = open(&sessions, 0, 5);
    assert!(is_there(&sessions, &large, 125, 10) && is_there(&sessions, &small, 125, 5));
    assert_eq!(open(&sessions, 126, 4).1, None);
    let (newest, id) = open(&sessions, 126, 5);
    assert!(id.is_some() && !is_there(&sessions, &small, 126, 5));
    assert!(is_there(&sessions, &large, 126, 10) && is_there(&sessions, &newest, 126, 5));
}

#[test]
fn a_session_that_is_evicted_while_a_request_is_at_it_does_not_come_back() {
    let sessions = sessions(1);
    let (first, _) = open(&sessions, 0, 1);
    let held = first.take_any().expect("it was just made");
    let (_second, id) = open(&sessions, 200, 1);
    assert!(id.is_some());
    assert!(!sessions.keep(at(200), 1, &first, held));
    assert!(first.take_any().is_none());
    assert_eq!(count(&sessions), (1, 1));
}

#[test]
fn all_partitions_together_are_bounded() {
    let half = limits::FETCH_SESSION_PARTITIONS_MAX / 2;
    let sessions = sessions(1000);
    let (first, _) = open(&sessions, 0, half);
    let (second, _) = open(&sessions, 0, half);
    assert_eq!(open(&sessions, 1, 1).1, None);
    assert_eq!(open(&sessions, 1, usize::MAX).1, None);
    assert!(!is_there(&sessions, &second, 1, half + 1), "it grows beyond what there is");
    assert!(is_there(&sessions, &first, 1, half + 1), "the other has left room");
    assert_eq!(count(&sessions), (1, half + 1));
}

#[test]
fn a_connection_has_one_session_and_leaves_nothing_behind() {
    let sessions = sessions(10);
    let (keeper, first) = open(&sessions, 0, 3);
    let second = sessions.create(at(0), 4, &keeper, || Some("again"));
    assert!(second.is_some() && second != first);
    assert_eq!(count(&sessions), (1, 4));
    drop(keeper);
    assert_eq!(count(&sessions), (0, 0));
    assert_eq!(sessions.create(at(0), 4, &Keeper::default(), || None), None);
    assert_eq!(count(&sessions), (0, 0));
    let none = FetchSessions::<()>::new(0, Rng::seed_from_u64(1));
    assert_eq!(none.create(at(0), 1, &Keeper::default(), || Some(())), None);
}
