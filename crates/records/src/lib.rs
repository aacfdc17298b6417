//! Kafka's record batch v2, the unit that a producer sends, a broker stores and a consumer fetches: parse, validate, build,
//! compress. Pure functions over bytes.
//!
//! ```text
//!  byte  0        8         12        16     17     21       23       27       35       43       51    53     57      61
//!        +--------+---------+---------+------+------+--------+--------+--------+--------+--------+-----+------+-------+---------
//!        | base   | batch   | leader  |magic | CRC- | attri- | last   | base   | max    |producer|prod.| base | record| records
//!        | offset | length  | epoch   | = 2  | 32C  | butes  | offset | time-  | time-  | id     |epoch| seq- | count | (com-
//!        |        |         |         |      |      |        | delta  | stamp  | stamp  |        |     | uence|       | pressed)
//!        +--------+---------+---------+------+------+--------+--------+--------+--------+--------+-----+------+-------+---------
//!                           |<- batch length counts from here            CRC covers from byte 21 to the end ->
//! ```
//!
//! All integers are big-endian; inside records they are zigzag varints. The CRC leaves out base offset, batch length, leader
//! epoch and magic, so that a broker may assign offsets without recomputing it ([`rewrite::patched_header`]).
//!
//! Invariants
//! - Whatever a peer sends ends in a typed error: no panic, no allocation beyond the caller's bound.
//! - A batch that [`validate()`] accepted can be iterated, recompressed and served without another check.
//!
//! Not here: message formats 0 and 1 (refused), sequence checks against a producer's earlier batches (`quipu-storage`),
//! mapping errors to Kafka's codes (`quipu-broker`). Read [`header`] next, then [`validate()`].
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod batch;
pub mod builder;
pub mod compact;
pub mod compression;
mod cursor;
pub mod error;
pub mod header;
pub mod record;
pub mod rewrite;
pub mod validate;

pub use batch::{Batch, BatchSlices, Batches};
pub use builder::{BatchBuilder, BuildError, NewRecord};
pub use compression::Codec;
pub use error::{BatchError, CompressError, DecompressError, Fault, RecordFault};
pub use header::{Attributes, BatchHeader, HEADER_BYTES, TimestampType};
pub use record::{HeaderIter, Record, RecordHeader, RecordIter, Records};
pub use validate::{ValidBatch, ValidateLimits, validate};
