//! What nodes say to each other about the cluster, on the lane of control: founding, heartbeats, requests and their answers, replicas
//! that lag, what replicas hold.
//!
//! ```text
//! byte 0      format version 1
//! byte 1..    the message in postcard: the number of the kind (the order of [`Message`]), its fields
//! ```
//!
//! A kind that a node does not know is dropped: a new one goes to the end.
//!
//! All of it is a frame's header, which has a checksum.
//!
//! Not here: Raft's messages, which have a lane of their own; what requests mean (`quipu-controller`).

use bytes::Bytes;
use quipu_base::{BrokerId, DirectoryId, Offset, TopicIdPartition};
use quipu_controller::{ControllerError, Heartbeat, HeartbeatReply, LogReport};
use quipu_raft::{ReplicaKey, VoterSet};
use serde::{Deserialize, Serialize};

use crate::lagging::Lags;

const FORMAT_VERSION: u8 = 1;

/// One message. May be lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The sender belongs to no quorum yet.
    Founding(Founding),
    /// The quorum was founded; these vote.
    Founded(VoterSet),
    /// The sender is there, and wants to know whether it belongs to the receiver's cluster: the link alone tells.
    Present,
    /// The sender lives: to the active controller.
    Heartbeat(Heartbeat),
    /// Answer to it.
    HeartbeatReply(Result<HeartbeatReply, ControllerError>),
    /// A request to the active controller: an [`quipu_controller::AnyRequest`].
    Request {
        /// For the answer.
        id: u64,
        /// The request's bytes.
        request: Vec<u8>,
    },
    /// What became of a request.
    Answer {
        /// As asked.
        id: u64,
        /// Everything that the request changed is before this offset.
        offset: Offset,
        /// The answer's bytes: a [`quipu_controller::Answer`].
        answer: Vec<u8>,
    },
    /// A request was not carried out, or nobody knows.
    Failed {
        /// As asked.
        id: u64,
        /// Why.
        why: Failure,
    },
    /// Two directories have said in turn that they are the receiver's node: two nodes have its id.
    Duplicate {
        /// One of them.
        first: DirectoryId,
        /// The other.
        second: DirectoryId,
    },
    /// The sender leads these partitions, of which members lag.
    Lagging(Vec<Lags>),
    /// What do the receiver's replicas of these partitions hold?
    AskReports {
        /// For the answer.
        id: u64,
        /// Which partitions.
        partitions: Vec<TopicIdPartition>,
    },
    /// Answer to it.
    Reports {
        /// As asked.
        id: u64,
        /// Of the replicas that the sender has.
        reports: Vec<(TopicIdPartition, LogReport)>,
    },
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The receiver is not the active controller. The request was not carried out.
    NotController {
        /// Who may be, as far as it knows.
        leader: Option<BrokerId>,
    },
    /// There is no room for it.
    Full,
    /// It changes more than fits a batch.
    TooLarge,
    /// The controller was replaced in the midst of it.
    Unknown,
}

/// What a founder knows. See `found`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Founding {
    /// The nodes that are to vote, by its settings, in order.
    pub(super) voters: Vec<BrokerId>,
    /// Those of them that it has heard of, itself included, with their directories, in order.
    pub(super) known: Vec<ReplicaKey>,
}

/// The bytes of a message.
pub(super) fn encode(message: &Message) -> Bytes {
    let bytes = postcard::to_extend(message, vec![FORMAT_VERSION]);
    bytes.expect("plain data, and a vector takes any of it").into()
}

/// The message that `bytes` spell; none if they are of a later release, or nonsense.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Some(message),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_nonsense_does_not() {
        let founding = Founding { voters: vec![BrokerId(1), BrokerId(2)], known: Vec::new() };
        for message in [
            Message::Founding(founding),
            Message::Request { id: 7, request: vec![1, 2, 3] },
            Message::Answer { id: 7, offset: Offset(9), answer: vec![4] },
            Message::Failed { id: 7, why: Failure::NotController { leader: Some(BrokerId(3)) } },
            Message::AskReports { id: 8, partitions: vec![TopicIdPartition::METADATA] },
        ] {
            let bytes = encode(&message);
            assert_eq!(decode(&bytes), Some(message));
            assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
            }
        }
        assert_eq!(decode(&[2, 0]), None);
    }
}
