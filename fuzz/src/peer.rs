//! What nodes send to each other: frames, handshakes, and the messages of the metadata quorum.

use bytes::BytesMut;
use quipu_peer::{
    Frame,
    frame::{Bounds, PREFIX_BYTES, take_head},
    hello::{decode_answer, decode_hello, encode_answer, encode_hello},
};

use crate::{Outcome, memory, refuse};

/// Memory per byte of a message at most: an empty entry of an Append is some ten bytes, and its place in the list ten times that.
const MEMORY_PER_BYTE: usize = 64;

/// A stream of frames, and what a handshake's frame may hold.
pub fn peer(data: &[u8]) -> Outcome {
    stream(data, Bounds::FRAME).or(stream(data, Bounds::HELLO)).or(handshake(data))
}

fn stream(data: &[u8], bounds: Bounds) -> Outcome {
    let mut buffer = BytesMut::from(data);
    let mut outcome = Outcome::Refused;
    loop {
        let before = buffer.len();
        match memory::at_most(0, "taking a frame's head", || take_head(&mut buffer, bounds)) {
            Ok(None) => {
                assert_eq!(buffer.len(), before, "nothing is taken before all is there");
                return outcome;
            }
            Ok(Some(head)) => {
                assert!(head.header.len() <= bounds.header_bytes && head.body_bytes <= bounds.body_bytes);
                assert_eq!(before - buffer.len(), PREFIX_BYTES + head.header.len());
                outcome = outcome.or(handshake(&head.header)).or(Outcome::Accepted);
                if buffer.len() < head.body_bytes {
                    return outcome;
                }
                drop(buffer.split_to(head.body_bytes));
            }
            Err(error) => return refuse(&error).or(outcome),
        }
    }
}

fn handshake(header: &[u8]) -> Outcome {
    let bytes_max = header.len() * 8;
    let hello = match memory::at_most(bytes_max, "decoding a hello", || decode_hello(header)) {
        Ok(hello) => {
            let encoded = encode_hello(&hello);
            assert_eq!(decode_hello(&encoded), Ok(hello));
            assert!(Frame::<()>::new(encoded).is_within_limits());
            Outcome::Accepted
        }
        Err(error) => refuse(&error),
    };
    match memory::at_most(bytes_max, "decoding an answer", || decode_answer(header)) {
        Ok(answer) => {
            assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
            Outcome::Accepted
        }
        Err(error) => refuse(&error).or(hello),
    }
}

/// A message of the quorum.
pub fn raft_message(data: &[u8]) -> Outcome {
    let bytes_max = data.len() * MEMORY_PER_BYTE;
    let message = match memory::at_most(bytes_max, "decoding a quorum's message", || quipu_raft::decode(data)) {
        Ok(message) => message,
        Err(error) => return refuse(&error),
    };
    message.check().expect("what is decoded is checked");
    let encoded = quipu_raft::encode(&message);
    assert_eq!(quipu_raft::decode(&encoded).as_ref(), Ok(&message));
    assert_eq!(quipu_raft::encode(&message), encoded);
    Outcome::Accepted
}
