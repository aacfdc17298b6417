//! Handshakes, frames, and the quorum's messages.

use bytes::Bytes;
use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, Offset};
use quipu_peer::{
    Frame, Lane, PeerAddress, PeerIdentity,
    hello::{Answer, Hello, VERSIONS, Welcome, encode_answer, encode_hello},
};
use quipu_raft::{Body, Data, Entry, LogBase, LogPoint, Message, Payload, ReplicaKey, SnapshotMeta, VoterSet};

use crate::Seeds;

pub(crate) fn add(seeds: &mut Seeds) {
    add_peer(seeds);
    add_raft(seeds);
}

fn add_peer(seeds: &mut Seeds) {
    let from = PeerIdentity {
        node_id: BrokerId(1),
        directory_id: DirectoryId([1; 16]),
        start_id: [2; 16],
        broker_epoch: Some(BrokerEpoch(300)),
    };
    let cluster_id = Some(ClusterId([9; 16]));
    let release = "0.1.0".to_owned();
    let hello = Hello {
        versions: VERSIONS,
        cluster_id,
        from,
        called: BrokerId(2),
        lane: Lane::Tail(3),
        release: release.clone(),
        address: Some(PeerAddress { host: "host".to_owned(), port: 9192 }),
    };
    let welcome = Answer::Welcome(Welcome { version: 1, cluster_id: None, from, release });
    let answers = [("hello", encode_hello(&hello)), ("welcome", encode_answer(&welcome))];
    let mut stream = Vec::new();
    for (name, header) in answers {
        seeds.good("peer", name, header.to_vec());
        stream.extend_from_slice(&Frame::<()>::new(header).head());
    }
    seeds.good("peer", "frames", stream.clone());
    let mut with_body = Frame::<()>::new(Bytes::from_static(b"header"));
    with_body.body.push(quipu_env::Segment::Bytes(Bytes::from_static(b"batches")));
    stream.extend_from_slice(&with_body.head());
    stream.extend_from_slice(b"batches");
    seeds.good("peer", "frames-with-a-body", stream.clone());
    stream[5] ^= 1;
    seeds.bad("peer", "changed-checksum", stream);
    let mut refusal = encode_answer(&welcome)[..8].to_vec();
    refusal.extend_from_slice(b"\x01\x02\x03no!");
    seeds.good("peer", "refusal", refusal);
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("kafka", b"\0\0\0\x10\0\x12\0\0\0\0\0\x01\xff\xff"),
        ("short", b"\x07\0\0\0\0\0\0\0\0\0\0\0"),
        ("long", b"\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\x7f"),
        ("long-release", b"qpeer\r\n\0\x01\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\x0f"),
    ] {
        seeds.bad("peer", name, bytes.to_vec());
    }
}

fn add_raft(seeds: &mut Seeds) {
    let replica =
        |id: i32| ReplicaKey { id: BrokerId(id), directory: DirectoryId([u8::try_from(id).unwrap_or(0); 16]) };
    let voters = VoterSet::new([replica(1), replica(2), replica(3)]).expect("three voters");
    let epoch = LeaderEpoch(5);
    let point = LogPoint { offset: Offset(70), epoch: LeaderEpoch(4) };
    let snapshot =
        SnapshotMeta { base: LogBase { point, voters: voters.clone() }, size_bytes: 1000, checksum: 0x1234_5678 };
    let entry = |payload| Entry { epoch, payload };
    let entries = vec![
        entry(Payload::LeaderChange { leader: replica(1), voters: voters.clone() }),
        entry(Payload::Data(Data { records: 3, bytes: Bytes::from_static(b"a batch") })),
        entry(Payload::Voters(voters)),
    ];
    for (name, body) in [
        ("pre-vote", Body::PreVote { next_epoch: epoch, log: point }),
        ("pre-vote-reply", Body::PreVoteReply { next_epoch: epoch, granted: false, leader: Some(replica(2)) }),
        ("vote", Body::Vote { log: point, transfer: true }),
        ("vote-reply", Body::VoteReply { granted: true }),
        ("append", Body::Append { start: point, entries, high_watermark: Offset(69) }),
        ("appended", Body::Appended { matched: Offset(70) }),
        ("diverged", Body::Diverged { at: Offset(80), hint: point }),
        ("heartbeat", Body::Heartbeat { round: 7, high_watermark: Offset(70) }),
        ("chunk", Body::SnapshotChunk { snapshot, position: 10, bytes: Bytes::from_static(b"piece") }),
        ("announce", Body::Announce),
    ] {
        let message = Message { from: replica(1), to: replica(2), epoch, body };
        let encoded = quipu_raft::encode(&message);
        if name == "append" {
            seeds.bad("raft_message", "append-cut-off", encoded[..encoded.len() / 2].to_vec());
        }
        seeds.good("raft_message", name, encoded);
    }
    seeds.bad("raft_message", "empty", Vec::new());
    seeds.bad("raft_message", "newer", b"\x02\0".to_vec());
}
