//! What a leader knows of one peer, and how it sends to it.
//!
//! ```text
//!           Appended                        below the log's start
//! Probe -----------------> Replicate      Probe, Replicate --------> Snapshot
//!   ^  one Append at a time    |            ^                            |
//!   |                          |            +----------------------------+
//!   +--------------------------+              Appended at its end, or gone
//!    Diverged, no answer, connection lost
//! ```
//!
//! Invariants
//! - `matched <= next`; of a voter, `matched` never falls while the leader leads. An observer's disk may be put back to an older state.
//! - Replicate: the Appends in flight lie between `matched` and `next`, in order, within the limits in flight.
//!
//! Not here: what is sent (`node::replicate`), and whether the peer votes (the voter set says so).

use std::collections::VecDeque;

use quipu_base::Offset;

use crate::{
    entry::SnapshotMeta,
    limits::{INFLIGHT_APPENDS_MAX, INFLIGHT_BYTES_MAX},
    time::When,
};

#[derive(Clone, Hash, Debug)]
pub(crate) struct Progress {
    /// The peer's durable log matches ours before this.
    pub(crate) matched: Offset,
    /// What to send next.
    pub(crate) next: Offset,
    pub(crate) mode: Mode,
    /// The entries from `next` on are being read from the log: the request's number.
    pub(crate) reading: Option<u64>,
    /// The last round of heartbeats that it answered.
    pub(crate) round: u64,
    /// The high watermark that it was last told.
    pub(crate) told: Offset,
    pub(crate) heard: When,
}

#[derive(Clone, Hash, Debug)]
pub(crate) enum Mode {
    /// It is not known whether the logs match at `next`.
    Probe {
        /// When it was asked.
        asked: Option<When>,
    },
    /// They do: Appends are sent without waiting for answers.
    Replicate { inflight: VecDeque<Inflight>, bytes: usize },
    /// It needs what the log holds no more.
    Snapshot(Box<Sending>),
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Inflight {
    pub(crate) end: Offset,
    pub(crate) bytes: usize,
    pub(crate) sent: When,
}

#[derive(Clone, Hash, Debug)]
pub(crate) struct Sending {
    pub(crate) meta: SnapshotMeta,
    /// The next byte to send.
    pub(crate) position: u64,
    /// The number of the read under way.
    pub(crate) reading: Option<u64>,
    /// When the piece at `position` was sent.
    pub(crate) sent: Option<When>,
}

impl Progress {
    /// Of a peer of which nothing is known: it is asked at `next`.
    pub(crate) fn new(next: Offset, now: When) -> Self {
        let mode = Mode::Probe { asked: None };
        Self { matched: Offset::ZERO, next, mode, reading: None, round: 0, told: Offset::ZERO, heard: now }
    }

    /// Asks anew at `next`.
    pub(crate) fn become_probe(&mut self, next: Offset) {
        self.next = next.max(self.matched);
        self.mode = Mode::Probe { asked: None };
        self.reading = None;
    }

    /// The peer's log matches before `matched`.
    pub(crate) fn on_matched(&mut self, matched: Offset) {
        self.matched = self.matched.max(matched);
        match &mut self.mode {
            Mode::Replicate { inflight, bytes } => {
                while inflight.front().is_some_and(|first| first.end <= matched) {
                    *bytes -= inflight.pop_front().map_or(0, |first| first.bytes);
                }
                self.next = self.next.max(matched);
            }
            Mode::Snapshot(sending) if matched < sending.meta.base.point.offset => {}
            Mode::Probe { .. } | Mode::Snapshot(_) => {
                self.next = self.matched;
                self.reading = None;
                self.mode = Mode::Replicate { inflight: VecDeque::new(), bytes: 0 };
            }
        }
    }

    /// Whether another Append may be sent at `now`.
    pub(crate) fn has_room(&self) -> bool {
        match &self.mode {
            Mode::Probe { asked } => asked.is_none(),
            Mode::Replicate { inflight, bytes } => inflight.len() < INFLIGHT_APPENDS_MAX && *bytes < INFLIGHT_BYTES_MAX,
            Mode::Snapshot(_) => false,
        }
    }

    /// Entries up to `end` were sent.
    pub(crate) fn on_sent(&mut self, end: Offset, bytes: usize, now: When) {
        match &mut self.mode {
            Mode::Probe { asked } => *asked = Some(now),
            Mode::Replicate { inflight, bytes: all } => {
                inflight.push_back(Inflight { end, bytes, sent: now });
                *all += bytes;
                self.next = end;
            }
            Mode::Snapshot(_) => {}
        }
    }

    /// Since when the oldest of what was sent is unanswered.
    pub(crate) fn unanswered_since(&self) -> Option<When> {
        match &self.mode {
            Mode::Probe { asked } => *asked,
            Mode::Replicate { inflight, .. } => inflight.front().map(|first| first.sent),
            Mode::Snapshot(sending) => sending.sent,
        }
    }

    /// What was sent may be lost: sends it again. A snapshot goes on where it was.
    pub(crate) fn on_lost(&mut self) {
        match &mut self.mode {
            Mode::Probe { asked } => *asked = None,
            Mode::Replicate { .. } => self.become_probe(self.matched),
            Mode::Snapshot(sending) => sending.sent = None,
        }
    }
}
