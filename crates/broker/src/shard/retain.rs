//! Retention: a leader moves the log start over what is past, as if a client had asked for it, so that its followers do as well.
//!
//! When: from time to time ([`super::Command::Retain`]), and whenever a partition with a bound on its size has grown by half a
//! segment, so that it is never larger than the bound and two segments.
//!
//! Not here: what is past ([`Log::retention_start`](quipu_storage::Log::retention_start)).

use quipu_base::limits::MIB;
use quipu_env::{Clock, Env, Probe};
use quipu_replication::Event;

use super::{Hub, hosted::Hosted};

/// No segment is smaller, so none has to be looked at more often.
const GROWN_BYTES_MIN: u64 = MIB as u64 / 2;

impl<E: Env> Hosted<E> {
    /// Lets go what is past.
    pub(super) fn retain(&mut self, hub: &mut Hub<E>) {
        self.grown_bytes = 0;
        if !self.partition.is_active() {
            return;
        }
        let (wall, now) = (hub.env.clock().wall(), hub.env.clock().now());
        if let Some(before) = self.partition.log.retention_start(wall, self.replica.high_watermark()) {
            hub.env.probe().sometimes("replica.retention");
            self.feed(hub, Event::DeleteRecords { id: None, before: Some(before), deadline: now });
        }
    }

    /// A batch of so many bytes was taken.
    pub(super) fn note_grown(&mut self, hub: &mut Hub<E>, bytes: usize) {
        self.grown_bytes += bytes as u64;
        if self.grown_bytes < GROWN_BYTES_MIN {
            return;
        }
        let options = self.partition.log.options();
        if options.retention.bytes.is_some() && self.grown_bytes >= u64::from(options.segment_bytes) / 2 {
            self.retain(hub);
        }
    }
}
