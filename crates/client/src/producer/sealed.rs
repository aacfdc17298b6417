//! From a batch that takes records to one that is on its way.
//!
//! Not here: where it is built (`sender`), what becomes of it (`state`, `delivery`).

use core::time::Duration;

use quipu_base::Sequence;
use quipu_env::Instant;
use quipu_records::{Batch, BuildError, Codec};

use super::{accumulator::OpenBatch, delivery::Settler, state::Identity};
use crate::ClientError;

/// A batch of more than this is compressed where that keeps nobody from work.
const INLINE_BYTES_MAX: usize = 32 * 1024;
/// What compressing a byte is thought to cost.
const BYTE_NANOS: u64 = 4;

/// A batch on its way.
pub(super) struct Sealed {
    pub(super) batch: Batch,
    pub(super) settler: Settler,
    pub(super) reserved_bytes: usize,
    pub(super) birth: u64,
    /// Why it was last refused.
    pub(super) last_error: Option<ClientError>,
}

/// A batch that has been built, or could not be.
pub(super) struct Built {
    pub(super) batch: Result<Batch, BuildError>,
    pub(super) record_count: u32,
    pub(super) settler: Settler,
    pub(super) created_at: Instant,
    pub(super) reserved_bytes: usize,
    pub(super) birth: u64,
}

impl Built {
    /// How long that will take, if it is so long that it is better done elsewhere.
    pub(super) fn cost(open: &OpenBatch, codec: Codec) -> Option<Duration> {
        let bytes = open.builder.size_bytes();
        let takes_long = codec != Codec::None && bytes > INLINE_BYTES_MAX;
        takes_long.then(|| Duration::from_nanos(u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(BYTE_NANOS)))
    }

    /// Compresses the batch; with an identity, it is sent by that one.
    pub(super) fn new(open: OpenBatch, (identity, sequence): (Option<Identity>, Sequence)) -> Self {
        let OpenBatch { mut builder, settler, created_at, reserved_bytes, birth } = open;
        let record_count = builder.record_count();
        if let Some(Identity { id, epoch }) = identity {
            builder = builder.producer(id, epoch, sequence);
        }
        Self { batch: builder.build(), record_count, settler, created_at, reserved_bytes, birth }
    }
}
