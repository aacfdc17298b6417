//! What is answered when a limit is reached, and to a start that must not be.

use std::time::Duration;

use bytes::Bytes;
use quipu_base::{BrokerId, LeaderEpoch, Offset};
use quipu_env::Instant;
use quipu_raft::{
    Body, Config, Data, Effect, Entry, HardState, LogBase, LogPoint, LogSummary, Message, Node, Payload, ProposeError,
    ReadError, SnapshotMeta, StartError, Stored, VoterSet, limits,
};

use crate::replica::{ELECTION_TIMEOUT, HEARTBEAT, Planted, data, key, voters};

fn config(id: i32) -> Config {
    Config { replica: key(id), contacts: Vec::new(), election_timeout: ELECTION_TIMEOUT, heartbeat_interval: HEARTBEAT }
}

fn stored(voters: VoterSet) -> Stored {
    Stored { hard_state: HardState::NEW, log: LogSummary::empty(voters), snapshot: None, damage: None }
}

fn start(stored: Stored) -> Result<Node<Planted>, StartError> {
    Node::new(config(1), stored, Instant::ZERO, 1, Planted::default())
}

/// Makes everything durable at once.
fn settle(node: &mut Node<Planted>, now: Instant) -> Vec<Effect> {
    let mut all = Vec::new();
    loop {
        let effects = node.take_effects();
        if effects.is_empty() {
            return all;
        }
        for effect in &effects {
            if let Effect::Persist(persist) = effect {
                node.handle_persisted(now, persist.number);
            }
        }
        all.extend(effects);
    }
}

fn message(from: i32, epoch: i32, body: Body) -> Message {
    Message { from: key(from), to: key(1), epoch: LeaderEpoch(epoch), body }
}

/// A leader of two voters in epoch 1, whose peer never answers.
fn leader() -> (Node<Planted>, Instant) {
    let mut node = start(stored(voters(&[1, 2]))).unwrap();
    let now = node.next_deadline();
    node.on_deadline(now);
    let granted = Body::PreVoteReply { next_epoch: LeaderEpoch(1), granted: true, leader: None };
    node.handle_message(now, BrokerId(2), message(2, 0, granted)).unwrap();
    settle(&mut node, now);
    node.handle_message(now, BrokerId(2), message(2, 1, Body::VoteReply { granted: true })).unwrap();
    settle(&mut node, now);
    assert!(node.is_leader());
    (node, now)
}

fn sized(bytes: usize) -> Data {
    Data { records: 1, bytes: Bytes::from(vec![0; bytes]) }
}

#[test]
fn a_lone_voter_leads_at_once() {
    let mut node = start(stored(voters(&[1]))).unwrap();
    assert_eq!(node.next_deadline(), Instant::ZERO);
    node.on_deadline(Instant::ZERO);
    settle(&mut node, Instant::ZERO);
    let proposed = node.handle_proposal(Instant::ZERO, vec![data("a", 2)]).unwrap();
    node.handle_read_index(Instant::ZERO, 5).unwrap();
    let effects = settle(&mut node, Instant::ZERO);
    assert!(effects.contains(&Effect::Commit { high_watermark: proposed.end }), "{effects:?}");
    assert!(effects.contains(&Effect::ReadReady { context: 5, offset: proposed.start }), "{effects:?}");
}

#[test]
fn too_large_or_too_much() {
    let (mut node, now) = leader();
    let end = node.status().log_end.offset;
    for bad in [sized(limits::ENTRY_BYTES_MAX + 1), data("none", 0), data("many", limits::ENTRY_RECORDS_MAX + 1)] {
        assert_eq!(node.handle_proposal(now, vec![data("good", 1), bad]), Err(ProposeError::TooLarge));
    }
    assert_eq!(node.status().log_end.offset, end, "nothing of it was taken");
    let half = limits::UNCOMMITTED_BYTES_MAX / 2 - 1000;
    node.handle_proposal(now, vec![sized(half.min(limits::ENTRY_BYTES_MAX))]).unwrap();
    settle(&mut node, now);
    node.handle_proposal(now, vec![sized(limits::ENTRY_BYTES_MAX - 10_000)]).unwrap();
    settle(&mut node, now);
    assert_eq!(node.handle_proposal(now, vec![sized(20_000)]), Err(ProposeError::Busy), "nothing is committed");
}

#[test]
fn too_many_uncommitted() {
    let (mut node, now) = leader();
    let many = (0..limits::UNCOMMITTED_ENTRIES_MAX).map(|_| data("x", 1)).collect();
    node.handle_proposal(now, many).unwrap();
    settle(&mut node, now);
    assert_eq!(node.handle_proposal(now, vec![data("x", 1)]), Err(ProposeError::Busy));
}

#[test]
fn a_disk_that_does_not_answer() {
    let (mut node, mut now) = leader();
    let taken = (0..).find(|_| node.handle_proposal(now, vec![data("x", 1)]).is_err()).unwrap();
    assert_eq!(taken, limits::PERSISTS_MAX);
    assert_eq!(node.handle_proposal(now, vec![data("x", 1)]), Err(ProposeError::Busy));
    drop(node.take_effects());
    // The peer answers everything, and still: a leader whose disk stalls steps down.
    let until = now + ELECTION_TIMEOUT * 3;
    while node.is_leader() {
        now = node.next_deadline();
        assert!(now < until, "it leads on");
        node.on_deadline(now);
        drop(node.take_effects());
        if node.is_leader() {
            node.handle_message(now, BrokerId(2), message(2, 1, Body::HeartbeatReply { round: 1 })).unwrap();
        }
    }
}

#[test]
fn a_follower_s_disk_that_does_not_answer() {
    let mut node = start(stored(voters(&[1, 2]))).unwrap();
    let mut start = LogPoint::START;
    for count in 0..limits::PERSISTS_MAX + 10 {
        let entry = Entry { epoch: LeaderEpoch(1), payload: Payload::Data(data("x", 1)) };
        let body = Body::Append { start, entries: vec![entry], high_watermark: Offset::ZERO };
        node.handle_message(Instant::ZERO, BrokerId(2), message(2, 1, body)).unwrap();
        start = LogPoint { offset: Offset(i64::try_from(count).unwrap() + 1), epoch: LeaderEpoch(1) };
    }
    let taken = node.status().log_end.offset;
    assert_eq!(
        taken,
        Offset(i64::try_from(limits::PERSISTS_MAX).unwrap()),
        "the rest is dropped, and sent again later"
    );
}

#[test]
fn too_many_reads() {
    let (mut node, now) = leader();
    for context in 0..u64::try_from(limits::READS_MAX).unwrap() {
        node.handle_read_index(now, context).unwrap();
    }
    assert_eq!(node.handle_read_index(now, u64::MAX), Err(ReadError::TooMany));
    drop(node.take_effects());
    node.handle_message(now, BrokerId(2), message(2, 1, Body::Read { context: 7 })).unwrap();
    let answer = message_of(&node.take_effects());
    assert_eq!(answer, Some(Body::ReadReply { context: 7, offset: None }));
}

fn message_of(effects: &[Effect]) -> Option<Body> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Send(message) => Some(message.body.clone()),
        _ => None,
    })
}

#[test]
fn too_many_observers() {
    let (mut node, now) = leader();
    let most = i32::try_from(limits::OBSERVERS_MAX).unwrap();
    let key = |id: i32| {
        let mut replica = crate::replica::key(1);
        replica.id = BrokerId(id);
        replica
    };
    for id in 100..100 + most {
        let from = key(id);
        node.handle_message(now, from.id, Message { from, ..message(2, 0, Body::Announce) }).unwrap();
    }
    settle(&mut node, now);
    let from = key(50);
    node.handle_message(now, from.id, Message { from, ..message(2, 0, Body::Announce) }).unwrap();
    assert_eq!(message_of(&node.take_effects()), Some(Body::ObserverRefused));
    assert_eq!(node.status().peers.len(), limits::OBSERVERS_MAX + 1, "and a voter");
}

#[test]
fn the_last_epoch() {
    let hard_state = HardState { epoch: LeaderEpoch(limits::EPOCH_MAX), vote: None };
    let mut node = start(Stored { hard_state, ..stored(voters(&[1])) }).unwrap();
    settle(&mut node, Instant::ZERO);
    for _ in 0..5 {
        let now = node.next_deadline();
        node.on_deadline(now);
        assert!(settle(&mut node, now).is_empty(), "nobody campaigns beyond it");
    }
    let beyond = message(2, i32::MAX, Body::Stale);
    assert!(node.handle_message(Instant::ZERO, BrokerId(2), beyond).is_err());
}

#[test]
fn what_must_not_start_does_not() {
    let good = || stored(voters(&[1, 2, 3]));
    let damaged = Stored { damage: Some("a bad checksum".to_owned()), ..good() };
    assert_eq!(start(damaged).err(), Some(StartError::Damaged { what: "a bad checksum".to_owned() }));

    let mut log = LogSummary::empty(voters(&[1]));
    log.push(&Entry { epoch: LeaderEpoch(4), payload: Payload::Data(data("a", 1)) }).unwrap();
    let regressed = StartError::EpochRegressed { stored: LeaderEpoch(0), log: LeaderEpoch(4) };
    assert_eq!(start(Stored { log, ..good() }).err(), Some(regressed));

    let base = LogBase { point: LogPoint { offset: Offset(9), epoch: LeaderEpoch(2) }, voters: voters(&[1]) };
    let hard_state = HardState { epoch: LeaderEpoch(2), vote: None };
    let cut = Stored { hard_state, log: LogSummary::from_base(base.clone()), ..good() };
    assert!(matches!(start(cut.clone()), Err(StartError::BadLog { .. })), "what is before it is nowhere");
    let snapshot = Some(SnapshotMeta { base: base.clone(), size_bytes: 1, checksum: 0 });
    assert!(start(Stored { snapshot, ..cut.clone() }).is_ok());
    let older = LogBase { point: LogPoint { offset: Offset(8), epoch: LeaderEpoch(2) }, ..base };
    let snapshot = Some(SnapshotMeta { base: older, size_bytes: 1, checksum: 0 });
    assert!(matches!(start(Stored { snapshot, ..cut }), Err(StartError::BadLog { .. })), "there is a gap behind it");

    for (election_timeout, heartbeat_interval) in [
        (ELECTION_TIMEOUT, ELECTION_TIMEOUT),
        (ELECTION_TIMEOUT, Duration::ZERO),
        (Duration::from_secs(3600), HEARTBEAT),
    ] {
        let config = Config { election_timeout, heartbeat_interval, ..config(1) };
        let node = Node::new(config, good(), Instant::ZERO, 1, Planted::default());
        assert!(matches!(node, Err(StartError::BadTimeouts { .. })));
    }
}
