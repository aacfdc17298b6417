//! Kafka's wire protocol: frames, and messages declared once each with all their versions.
//!
//! Invariants
//! - Nothing that a peer sends makes this crate panic, or allocate more than [`reader::allowance`] says; every count and
//!   length is bounded by the bytes that remain.
//! - Record bytes are never copied: decoding gives slices of the frame, encoding gives a list of chunks.
//! - What is encoded at a version is decoded at that version to the same value.
//!
//! Not here: what a message means (`quipu-broker`'s handlers), what is inside record batches (`quipu-records`), sockets.
//! Read [`messages::produce`] for what a declaration looks like, [`frame`] for how a request becomes one of them.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod error_code;
pub mod frame;
#[macro_use]
mod message;
pub mod group_records;
pub mod messages;
pub mod reader;
mod records;
pub mod schema;
mod str;
mod wire;
pub mod writer;

pub use error_code::ErrorCode;
pub use frame::{ApiKey, Request, RequestError, RequestHeader, Response};
pub use message::Message;
pub use reader::{DecodeError, DecodeFault};
pub use records::{Piece, Records};
pub use str::Str;
pub use writer::{Chunk, EncodeError};
