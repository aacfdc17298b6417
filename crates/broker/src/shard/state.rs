//! What a replica keeps on the disk besides its log.
//!
//! ```text
//! byte 0     format version: 1
//! byte 1..   postcard: promised epoch, label epoch, faulty
//! ```
//!
//! Version history: 1, the first. A log without this state is one that never had another replica: nothing is promised.
//!
//! Not here: high watermark, damage and epochs, which storage keeps.

use core::fmt;

use bytes::Bytes;
use quipu_base::LeaderEpoch;
use quipu_env::Env;
use quipu_replication::{DurableState, EpochStart, EpochTable, LogShape};
use quipu_storage::{Log, StateKind};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// Promise, label and mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ReplicaState {
    pub(super) promised: LeaderEpoch,
    pub(super) label: LeaderEpoch,
    pub(super) is_faulty: bool,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self { promised: LeaderEpoch::NONE, label: LeaderEpoch::NONE, is_faulty: false }
    }
}

/// Bytes that are no such state.
#[derive(Debug)]
pub(super) struct BadState;

impl fmt::Display for BadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the replica promised can't be read: it was written by a later release, or is damaged")
    }
}

impl ReplicaState {
    pub(super) fn of(state: &DurableState) -> Self {
        Self { promised: state.promised, label: state.label, is_faulty: state.is_faulty }
    }

    pub(super) fn encode(self) -> Bytes {
        let bytes = postcard::to_extend(&self, vec![VERSION]);
        bytes.expect("three small values are encoded into memory").into()
    }

    /// Errors: not of this version, or no such state at all.
    fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| BadState),
            _ => Err(BadState),
        }
    }
}

/// What the disk holds of a replica.
pub(super) fn durable_state<E: Env>(log: &Log<E>) -> DurableState {
    let offsets = log.offsets();
    let stored = log.durable_state(StateKind::Replica).map(|bytes| ReplicaState::decode(&bytes));
    let state = match stored {
        None => ReplicaState::default(),
        Some(Ok(state)) => state,
        Some(Err(error)) => {
            tracing::error!(partition = %log.partition(), %error, "the replica is rebuilt from its peers");
            ReplicaState { is_faulty: true, ..ReplicaState::default() }
        }
    };
    let entries = log.epochs().into_iter();
    let entries = entries.map(|entry| EpochStart { epoch: entry.epoch, start: entry.start });
    DurableState {
        log: LogShape {
            log_start: offsets.log_start,
            log_end: offsets.log_end,
            epochs: EpochTable::new(entries.collect()).unwrap_or_default(),
        },
        promised: state.promised,
        label: state.label,
        high_watermark: log.stored_high_watermark().min(offsets.log_end).max(offsets.log_start),
        is_faulty: state.is_faulty,
        damaged: log.damage(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = ReplicaState { promised: LeaderEpoch(7), label: LeaderEpoch(5), is_faulty: true };
        let bytes = state.encode();
        assert_eq!(ReplicaState::decode(&bytes).unwrap(), state);
        assert!(ReplicaState::decode(&[]).is_err() && ReplicaState::decode(&bytes[..1]).is_err());
        assert!(ReplicaState::decode(&[2, 0, 0, 0]).is_err(), "a later version");
    }
}
