//! What nodes ask of the active controller, and what it answers.

use quipu_controller::{AnyRequest, decode_answer, encode_answer};

use crate::{Outcome, memory, refuse};

/// Memory per byte of a message at most: an empty item of a list is a few bytes, and its place in the list some hundred; lists stand
/// in lists.
const MEMORY_PER_BYTE: usize = 512;

/// A request, and an answer.
pub fn controller_message(data: &[u8]) -> Outcome {
    let bytes_max = data.len() * MEMORY_PER_BYTE;
    let request = match memory::at_most(bytes_max, "decoding a request", || AnyRequest::decode(data)) {
        Ok(request) => {
            let encoded = request.encode().expect("it is no longer than it was");
            assert_eq!(AnyRequest::decode(&encoded), Ok(request));
            Outcome::Accepted
        }
        Err(error) => refuse(&error),
    };
    match memory::at_most(bytes_max, "decoding an answer", || decode_answer(data)) {
        Ok(answer) => {
            if let Err(error) = &answer {
                // Its text may be one that the other node chose: anything, or nothing.
                drop(error.to_string());
            }
            let encoded = encode_answer(&answer).expect("it is no longer than it was");
            assert_eq!(decode_answer(&encoded), Ok(answer));
            Outcome::Accepted
        }
        Err(error) => refuse(&error).or(request),
    }
}
