//! Which batches a log still has, when frames behind them in the WAL cut it back, move its start or delete it.

use std::collections::BTreeMap;

use quipu_base::{Offset, TopicIdPartition};
use quipu_env::Env;
use quipu_records::BatchHeader;

use super::{directory::Directory, group::WalReader, report::VerifyError, wal::is_applied};
use crate::wal::{FrameKind, GroupSequence};

/// A frame's place in the WAL. What is in a segment comes before all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Place {
    pub(super) group: GroupSequence,
    pub(super) index: usize,
}

/// What becomes of logs. Memory is bounded by the number of truncations and of partitions.
#[derive(Default)]
pub(super) struct Changes {
    logs: BTreeMap<TopicIdPartition, LogChanges>,
}

#[derive(Default)]
struct LogChanges {
    log_start: Offset,
    /// Each with the offset that the log then ended at.
    truncations: Vec<(Place, Offset)>,
    deleted: Option<Place>,
}

impl Changes {
    /// Those that the manifest has, and those of the WAL.
    pub(super) async fn read<E: Env>(directory: &Directory<E>) -> Result<Self, VerifyError> {
        let mut changes = Self::default();
        let Some(manifest) = &directory.manifest else { return Ok(changes) };
        for (partition, state) in &manifest.partitions {
            changes.logs.entry(*partition).or_default().log_start = state.log_start;
        }
        let Some(mut reader) = WalReader::open(directory).await? else { return Ok(changes) };
        while let Some(group) = reader.next().await? {
            for (index, frame) in group.frames.iter().enumerate() {
                let entry = &frame.entry;
                if frame.payload.is_none() || is_applied(manifest, entry.partition, group.sequence) {
                    continue;
                }
                let place = Place { group: group.sequence, index };
                changes.take(entry.partition, entry.kind, place, entry.base_offset);
            }
        }
        Ok(changes)
    }

    fn take(&mut self, partition: TopicIdPartition, kind: FrameKind, place: Place, offset: Offset) {
        match kind {
            FrameKind::Truncate => self.logs.entry(partition).or_default().truncations.push((place, offset)),
            FrameKind::LogStart => {
                let log = self.logs.entry(partition).or_default();
                log.log_start = log.log_start.max(offset);
            }
            FrameKind::BeginAnew => {
                let deleted = Some(place);
                self.logs.insert(partition, LogChanges { deleted, log_start: offset, ..LogChanges::default() });
            }
            FrameKind::PartitionDelete => {
                let deleted = Some(place);
                self.logs.insert(partition, LogChanges { deleted, ..LogChanges::default() });
            }
            _ => {}
        }
    }

    /// Whether the log still has the batch that was appended at `place`.
    pub(super) fn has(&self, partition: TopicIdPartition, place: Place, header: &BatchHeader) -> bool {
        let Some(log) = self.logs.get(&partition) else { return true };
        log.deleted.is_none_or(|deleted| place > deleted)
            && header.last_offset() >= log.log_start
            && log.truncations.iter().all(|(cut, to)| place > *cut || header.base_offset < *to)
    }
}
