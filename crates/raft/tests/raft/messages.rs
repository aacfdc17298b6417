//! Bytes of messages: round trips, truncation, hostile bytes, and hostile messages to nodes in every role.

use std::time::Duration;

use bytes::Bytes;
use proptest::{collection, option, prelude::*};
use quipu_base::{BrokerId, DirectoryId, LeaderEpoch, Offset};
use quipu_raft::{
    Body, Data, Entry, LogBase, LogPoint, Message, MessageError, Payload, ReplicaKey, SnapshotMeta, VoterSet, decode,
    encode, limits,
};

use crate::replica::{Disk, Output, Planted, Replica, data, key, voters};

fn replicas() -> impl Strategy<Value = ReplicaKey> {
    (prop_oneof![0..5_i32, any::<i32>()], prop_oneof![Just(1_u8), any::<u8>()]).prop_map(|(id, life)| {
        let mut directory = [life; 16];
        directory[0] = u8::try_from(id.rem_euclid(256)).unwrap();
        ReplicaKey { id: BrokerId(id), directory: DirectoryId(directory) }
    })
}

fn epochs() -> impl Strategy<Value = LeaderEpoch> {
    prop_oneof![8 => -1..5_i32, 1 => any::<i32>(), 1 => Just(limits::EPOCH_MAX)].prop_map(LeaderEpoch)
}

fn offsets() -> impl Strategy<Value = Offset> {
    prop_oneof![8 => -1..12_i64, 1 => any::<i64>(), 1 => Just(i64::MAX)].prop_map(Offset)
}

fn points() -> impl Strategy<Value = LogPoint> {
    prop_oneof![(offsets(), epochs()).prop_map(|(offset, epoch)| LogPoint { offset, epoch }), Just(LogPoint::START)]
}

fn voter_sets() -> impl Strategy<Value = VoterSet> {
    collection::btree_map(0..9_i32, 1..4_u8, 0..5).prop_map(|all| {
        let make = |(id, life): (i32, u8)| ReplicaKey { id: BrokerId(id), directory: DirectoryId([life; 16]) };
        VoterSet::new(all.into_iter().map(make)).unwrap()
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn entries() -> impl Strategy<Value = Entry> {
    let records = prop_oneof![8 => 0..4_u32, 1 => any::<u32>()];
    let payload = prop_oneof![
        4 => (records, bytes()).prop_map(|(records, bytes)| Payload::Data(Data { records, bytes })),
        1 => (replicas(), voter_sets()).prop_map(|(leader, voters)| Payload::LeaderChange { leader, voters }),
        1 => voter_sets().prop_map(Payload::Voters),
    ];
    (epochs(), payload).prop_map(|(epoch, payload)| Entry { epoch, payload })
}

fn snapshots() -> impl Strategy<Value = SnapshotMeta> {
    (points(), voter_sets(), prop_oneof![1..40_u64, any::<u64>()], any::<u32>()).prop_map(
        |(point, voters, size_bytes, checksum)| SnapshotMeta { base: LogBase { point, voters }, size_bytes, checksum },
    )
}

fn bodies() -> impl Strategy<Value = Body> {
    let leader = || option::of(replicas());
    prop_oneof![
        (epochs(), points()).prop_map(|(next_epoch, log)| Body::PreVote { next_epoch, log }),
        (epochs(), any::<bool>(), leader()).prop_map(|(next_epoch, granted, leader)| Body::PreVoteReply {
            next_epoch,
            granted,
            leader
        }),
        (points(), any::<bool>()).prop_map(|(log, transfer)| Body::Vote { log, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        (points(), collection::vec(entries(), 0..4), offsets())
            .prop_map(|(start, entries, high_watermark)| Body::Append { start, entries, high_watermark }),
        offsets().prop_map(|matched| Body::Appended { matched }),
        (offsets(), points()).prop_map(|(at, hint)| Body::Diverged { at, hint }),
        (any::<u64>(), offsets()).prop_map(|(round, high_watermark)| Body::Heartbeat { round, high_watermark }),
        any::<u64>().prop_map(|round| Body::HeartbeatReply { round }),
        Just(Body::Stale),
        (snapshots(), 0..40_u64, bytes()).prop_map(|(snapshot, position, bytes)| Body::SnapshotChunk {
            snapshot,
            position,
            bytes
        }),
        (points(), any::<u64>()).prop_map(|(snapshot, position)| Body::SnapshotProgress { snapshot, position }),
        Just(Body::TimeoutNow),
        Just(Body::Announce),
        leader().prop_map(|leader| Body::Leader { leader }),
        Just(Body::ObserverRefused),
        any::<u64>().prop_map(|context| Body::Read { context }),
        (any::<u64>(), option::of(offsets())).prop_map(|(context, offset)| Body::ReadReply { context, offset }),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let to = prop_oneof![4 => Just(key(1)), 1 => replicas()];
    (replicas(), to, epochs(), bodies()).prop_map(|(from, to, epoch, body)| Message { from, to, epoch, body })
}

/// Node 1 of three, with a few entries: a follower, a candidate, or a leader.
fn node(role: u8) -> Replica {
    let mut replica = Replica::new(key(1), Disk::new(voters(&[1, 2, 3])), &[], Planted::default());
    replica.start(1).unwrap();
    drop(replica.take());
    if role == 0 {
        return replica;
    }
    replica.now = replica.node().next_deadline();
    let now = replica.now;
    replica.node().on_deadline(now);
    let epoch = LeaderEpoch(1);
    let reply = |body, epoch| Message { from: key(2), to: key(1), epoch, body };
    let granted = Body::PreVoteReply { next_epoch: epoch, granted: true, leader: None };
    replica.node().handle_message(now, BrokerId(2), reply(granted, LeaderEpoch(0))).unwrap();
    settle(&mut replica);
    if role == 1 {
        return replica;
    }
    replica.node().handle_message(now, BrokerId(2), reply(Body::VoteReply { granted: true }, epoch)).unwrap();
    replica.node().handle_proposal(now, vec![data("a", 3), data("b", 1)]).unwrap();
    settle(&mut replica);
    assert!(replica.is_leader());
    replica
}

fn settle(replica: &mut Replica) -> Vec<Output> {
    let mut outputs = replica.take();
    while !replica.queue.is_empty() {
        outputs.extend(replica.persist_one());
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sound_survives_and_what_is_not_is_refused(message in messages()) {
        let decoded = decode(&encode(&message));
        match message.check() {
            Ok(()) => prop_assert_eq!(decoded, Ok(message)),
            Err(error) => prop_assert_eq!(decoded, Err(error)),
        }
    }

    #[test]
    fn cut_bytes_are_refused(message in messages()) {
        let bytes = encode(&message);
        for length in 0..bytes.len() {
            prop_assert!(decode(&bytes[..length]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn hostile_bytes_are_no_message_or_a_sound_one(
        message in messages(),
        changes in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = encode(&message);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert_eq!(message.check(), Ok(()));
        }
    }

    /// Whoever speaks as a member may break consensus, but not the process: what a node says and persists stays possible.
    #[test]
    fn hostile_messages_never_end_a_node(role in 0..3_u8, hostile in collection::vec(messages(), 1..25), wait in any::<bool>()) {
        let mut replica = node(role);
        for message in hostile {
            let (now, from) = (replica.now, message.from.id);
            let before = replica.node().epoch();
            // A node that refuses says why, and goes on.
            let _refused: Option<MessageError> = replica.node().handle_message(now, from, message).err();
            prop_assert!(replica.node().epoch() >= before);
            for output in settle_hostile(&mut replica) {
                if let Output::Send(message) = output {
                    prop_assert_eq!(message.check(), Ok(()));
                }
            }
            if wait {
                replica.now = replica.now.max(replica.node().next_deadline()) + Duration::from_millis(1);
                let now = replica.now;
                replica.node().on_deadline(now);
            }
        }
    }
}

/// As [`settle`], for a shell that is told of snapshots which are none: it refuses them.
fn settle_hostile(replica: &mut Replica) -> Vec<Output> {
    replica.refuses_snapshots = true;
    settle(replica)
}

#[test]
fn other_versions_are_refused_by_name() {
    let message = Message { from: key(1), to: key(2), epoch: LeaderEpoch(3), body: Body::Stale };
    let mut bytes = encode(&message);
    bytes[0] = 2;
    assert_eq!(decode(&bytes), Err(MessageError::UnknownVersion { found: 2 }));
    assert_eq!(decode(&[]), Err(MessageError::BadLength { bytes: 0 }));
    let long = vec![1; limits::MESSAGE_BYTES_MAX + 1];
    assert_eq!(decode(&long), Err(MessageError::BadLength { bytes: long.len() }));
}

/// The format is what it was: another release must read it.
#[test]
fn golden_bytes() {
    let body = Body::Append {
        start: LogPoint { offset: Offset(7), epoch: LeaderEpoch(2) },
        entries: vec![Entry { epoch: LeaderEpoch(3), payload: Payload::Data(data("ab", 2)) }],
        high_watermark: Offset(6),
    };
    let message = Message { from: key(1), to: key(2), epoch: LeaderEpoch(3), body };
    let mut expected = vec![1];
    expected.extend([2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    expected.extend([4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    expected.extend([6, 4, 14, 4, 1, 6, 0, 2, 2, b'a', b'b', 12]);
    assert_eq!(encode(&message), expected);
}
