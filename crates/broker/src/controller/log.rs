//! The metadata log on this node: reading it at the start, appending to it.
//!
//! Invariants
//! - One decision is one batch: a crash leaves all of it or nothing.
//! - The offset of a record in the log is the offset at which it is applied.

use bytes::{Bytes, BytesMut};
use quipu_base::{ControllerEpoch, LeaderEpoch, Offset, TopicIdPartition, limits};
use quipu_env::{Clock, Env, File, Segment};
use quipu_metadata::{Delta, Image, MetadataRecord, codec};
use quipu_records::{Batch, BatchBuilder, Batches, NewRecord};
use quipu_storage::{Class, Log, ReadError, ReadResult, Store};

use super::{CommitError, LoadError};

/// Records of one batch at most: 10,000 partitions and their topics are created by one request.
pub(super) const BATCH_RECORDS_MAX: usize = 32 * 1024;
/// Bytes read at a time at the start.
const READ_BYTES: usize = 8 * limits::MIB;

/// The metadata log.
pub(super) struct MetadataLog<E: Env> {
    env: E,
    log: Log<E>,
    epoch: LeaderEpoch,
}

impl<E: Env> MetadataLog<E> {
    /// Reads all of it.
    pub(super) async fn load(env: &E, store: &Store<E>) -> Result<(Self, Image), LoadError> {
        let log = store.log(TopicIdPartition::METADATA);
        let mut image = Image::new();
        let mut offset = log.offsets().log_start;
        while offset < log.offsets().durable_end {
            let read = log.read(offset, log.offsets().durable_end, READ_BYTES, true).await.map_err(LoadError::Read)?;
            let next = read.next_offset;
            assert!(next > offset, "a read of at least one batch moves on");
            replay(gather(read).await.map_err(LoadError::Read)?, &mut image)?;
            offset = next;
        }
        let epoch = image.controller().map_or(ControllerEpoch(0), |controller| controller.controller_epoch);
        Ok((Self { env: env.clone(), log, epoch: LeaderEpoch(epoch.get()) }, image))
    }

    /// Appends one batch and waits until it is durable. `first` is the offset that its first record must get.
    pub(super) async fn append(
        &mut self,
        store: &Store<E>,
        first: Offset,
        records: &[MetadataRecord],
    ) -> Result<(), CommitError> {
        self.epoch = epoch_of(records).unwrap_or(self.epoch);
        let batch = self.build(records)?;
        let reservation = store.reserve(batch.len(), Class::Reserve).await.map_err(CommitError::Full)?;
        let header = quipu_records::BatchHeader::parse(&batch).expect("it was just built");
        let now = self.env.clock().wall();
        let appended = self.log.append(reservation, self.epoch, &batch, &header, now).map_err(CommitError::Append)?;
        assert_eq!(appended.base_offset, first, "a record is applied at the offset that it has in the log");
        let mut durable = store.durable();
        let reached = durable.wait_for(|ticket| *ticket >= appended.ticket).await;
        reached.map_err(|_| CommitError::Stopping)
    }

    fn build(&self, records: &[MetadataRecord]) -> Result<Bytes, CommitError> {
        let now = self.env.clock().wall();
        let mut builder = BatchBuilder::new();
        for record in records {
            let value = codec::encode(record);
            let record = NewRecord { timestamp: now, key: None, value: Some(&value), headers: &[] };
            builder.push(&record).map_err(|_| CommitError::TooLarge)?;
        }
        builder.build().map(Batch::into_bytes).map_err(|_| CommitError::TooLarge)
    }
}

/// The metadata log's leader epoch is the controller epoch.
fn epoch_of(records: &[MetadataRecord]) -> Option<LeaderEpoch> {
    records.iter().find_map(|record| match record {
        MetadataRecord::EpochStart { controller_epoch, .. } => Some(LeaderEpoch(controller_epoch.get())),
        _ => None,
    })
}

fn replay(bytes: Bytes, image: &mut Image) -> Result<(), LoadError> {
    // The log is read, not changed: there is nobody to tell yet.
    let mut delta = Delta::default();
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(LoadError::Batch)?;
        batch.check_crc().map_err(LoadError::Batch)?;
        let records = batch.records(limits::DECOMPRESSED_BYTES_MAX).map_err(LoadError::Batch)?;
        for record in records.iter() {
            let record = record.map_err(LoadError::Batch)?;
            let decoded = codec::decode(record.value.unwrap_or_default()).map_err(LoadError::Record)?;
            image.apply(record.offset, &decoded, &mut delta).map_err(LoadError::Apply)?;
        }
    }
    Ok(())
}

/// All bytes of a read in one piece.
async fn gather<E: Env>(read: ReadResult<E>) -> Result<Bytes, ReadError> {
    let mut bytes = BytesMut::with_capacity(read.bytes);
    for segment in read.segments {
        match segment {
            Segment::Bytes(piece) => bytes.extend_from_slice(&piece),
            Segment::File { file, position, length } => {
                let piece = file.read_at(position, length).await;
                let piece =
                    piece.map_err(|error| ReadError::Io { file: file.path().to_owned(), kind: error.kind() })?;
                bytes.extend_from_slice(&piece);
            }
        }
    }
    Ok(bytes.freeze())
}
