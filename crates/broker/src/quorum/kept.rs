//! What the metadata log's replica keeps beside its batches: one small value, which a step of the log replaces with what it belongs
//! to.
//!
//! ```text
//! byte 0      format version 1
//! byte 1..    in postcard: the epoch and the vote; where the log begins and who voted there; the newest snapshot, if there is one
//! ```
//!
//! The founders of a cluster stand here as those who voted where the log begins, at offset 0.
//!
//! Not here: the log itself, the snapshot's bytes (`snapshots`).

use core::fmt;

use bytes::Bytes;
use quipu_raft::{HardState, LogBase, LogPoint, SnapshotMeta, VoterSet};
use serde::{Deserialize, Serialize};

const FORMAT_VERSION: u8 = 1;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) hard: HardState,
    pub(super) base: LogBase,
    pub(super) snapshot: Option<SnapshotMeta>,
}

/// The value can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeptError {
    /// A later release wrote it.
    Newer {
        /// Its version.
        found: u8,
    },
    /// It makes no sense.
    Malformed,
}

impl fmt::Display for KeptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found } => write!(
                f,
                "what the metadata quorum keeps is in format version {found}, and this build knows version \
                 {FORMAT_VERSION}: a newer Quipu wrote it, and that or a later one must read it"
            ),
            Self::Malformed => f.write_str("what the metadata quorum keeps can't be read: it is damaged"),
        }
    }
}

impl core::error::Error for KeptError {}

impl Kept {
    /// Of a log that is empty, or that begins with these voters.
    pub(super) const fn new(hard: HardState, voters: VoterSet) -> Self {
        Self { hard, base: LogBase { point: LogPoint::START, voters }, snapshot: None }
    }

    pub(super) fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![FORMAT_VERSION]);
        bytes.expect("plain data, and a vector takes any of it").into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, KeptError> {
        match bytes.split_first() {
            Some((&FORMAT_VERSION, body)) => postcard::from_bytes(body).map_err(|_| KeptError::Malformed),
            Some((&found, _)) if found > FORMAT_VERSION => Err(KeptError::Newer { found }),
            _ => Err(KeptError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_base::{BrokerId, DirectoryId, LeaderEpoch, Offset};
    use quipu_raft::ReplicaKey;

    use super::*;

    #[test]
    fn it_comes_back_and_nothing_else_does() {
        let replica = ReplicaKey { id: BrokerId(1), directory: DirectoryId([1; 16]) };
        let voters = VoterSet::new([replica]).unwrap();
        let hard = HardState { epoch: LeaderEpoch(3), vote: Some(replica) };
        let mut kept = Kept::new(hard, voters.clone());
        let point = LogPoint { offset: Offset(7), epoch: LeaderEpoch(2) };
        kept.snapshot = Some(SnapshotMeta { base: LogBase { point, voters }, size_bytes: 9, checksum: 1 });
        let bytes = kept.encode();
        assert_eq!(Kept::decode(&bytes), Ok(kept));
        for cut in 0..bytes.len() {
            assert_eq!(Kept::decode(&bytes[..cut]), Err(KeptError::Malformed), "cut at {cut}");
        }
        assert_eq!(Kept::decode(b"\x02"), Err(KeptError::Newer { found: 2 }));
    }
}
