//! Replay: a partition's log into a [`Groups`].
//!
//! Not here: when to do so (`task`).

use core::fmt;

use bytes::{Bytes, BytesMut};
use quipu_base::{Offset, limits};
use quipu_coordinator::{Machine as _, Record};
use quipu_env::{Env, File, Probe, Segment};
use quipu_groups::Groups;
use quipu_records::{BatchError, Batches};
use quipu_storage::{ReadError, ReadResult};

use crate::partition::Partition;

/// Bytes of the log read at a time.
const READ_BYTES: usize = limits::MIB;

/// Why a log can't be replayed.
#[derive(Debug)]
pub(super) enum LoadError {
    Read(ReadError),
    Batch(BatchError),
    /// The log gives nothing where it should.
    Gap(Offset),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Batch(error) => error.fmt(f),
            Self::Gap(offset) => write!(f, "the log has nothing at offset {offset}, below its high watermark"),
        }
    }
}

impl core::error::Error for LoadError {}

/// Replays everything below `end`, which is below the high watermark.
pub(super) async fn replay<E: Env>(
    partition: &Partition<E>,
    end: Offset,
    groups: &mut Groups<E::Probe>,
) -> Result<(), LoadError> {
    let mut at = partition.log.offsets().log_start;
    while at < end {
        let read = partition.log.read(at, end, READ_BYTES, true).await.map_err(LoadError::Read)?;
        let next = read.next_offset;
        if next <= at {
            return Err(LoadError::Gap(at));
        }
        replay_batches(bytes_of(read).await?, at, groups)?;
        at = next;
        quipu_env::yield_now().await;
    }
    Ok(())
}

fn replay_batches<P: Probe>(bytes: Bytes, from: Offset, groups: &mut Groups<P>) -> Result<(), LoadError> {
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(LoadError::Batch)?;
        if batch.header().is_control() {
            continue;
        }
        let records = batch.records(limits::DECOMPRESSED_BYTES_MAX).map_err(LoadError::Batch)?;
        for record in &records {
            let record = record.map_err(LoadError::Batch)?;
            let Some(key) = record.key.filter(|_| record.offset >= from) else { continue };
            let value = record.value.map(Bytes::copy_from_slice);
            groups.replay(&Record { key: Bytes::copy_from_slice(key), value });
        }
    }
    Ok(())
}

async fn bytes_of<E: Env>(read: ReadResult<E>) -> Result<Bytes, LoadError> {
    let mut bytes = BytesMut::new();
    for segment in read.segments {
        match segment {
            Segment::Bytes(piece) => bytes.extend_from_slice(&piece),
            Segment::File { file, position, length } => {
                let piece = file.read_at(position, length).await.map_err(|error| {
                    LoadError::Read(ReadError::Io { file: file.path().to_owned(), kind: error.kind() })
                })?;
                bytes.extend_from_slice(&piece);
            }
        }
    }
    Ok(bytes.freeze())
}
