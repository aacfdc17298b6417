//! Appending a batch: sequence check, offsets, the WAL.
//!
//! Invariants
//! - A refused batch leaves no trace.
//! - The order of a log's frames in the WAL is the order of its offsets: both are settled under the log's lock.
//!
//! Not here: whether the batch is well formed and allowed (`quipu-records`, `quipu-broker`).

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, Timestamp};
use quipu_env::{Env, Probe};
use quipu_records::{BatchHeader, HEADER_BYTES};

use super::{Appended, Log, LogState, Reservation, check_appendable, state::Unsynced};
use crate::{
    AppendError,
    producers::{ProducerBatch, Verdict},
    tail::frame_cost,
    wal::{Frame, FrameKind, Ticket},
};

impl<E: Env> Log<E> {
    /// Appends one valid batch. `header` describes it as it is to be stored, but for base offset and leader epoch, which are set
    /// here; `batch` is the whole batch, of which the bytes behind the header are taken. `now` is the wall clock.
    ///
    /// A duplicate of one of its producer's last five batches is not appended: the answer tells where the original is and by which
    /// ticket it is durable.
    ///
    /// Errors: see [`AppendError`]; nothing has changed then.
    pub fn append(
        &self,
        reservation: Reservation<E>,
        leader_epoch: LeaderEpoch,
        batch: &Bytes,
        header: &BatchHeader,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        if header.total_bytes() != batch.len() || header.last_offset_delta < 0 {
            return Err(AppendError::NotOneBatch);
        }
        let mut state = self.state();
        check_appendable(&state)?;
        if let Verdict::Duplicate(original) =
            state.producers.check(header, now, self.store.options.producer_expiration_ms)?
        {
            let mut answer = duplicate(&state, &original);
            if self.store.env.probe().planted("log.duplicate-answered-unsynced") {
                answer.ticket = Ticket::NONE;
            }
            return Ok(answer);
        }
        let base_offset = state.log_end;
        // The last offset itself must leave room for a log end behind it.
        let end = base_offset.0.checked_add(i64::from(header.last_offset_delta)).and_then(|last| last.checked_add(1));
        let Some(end) = end else { return Err(AppendError::OffsetOverflow) };
        let placed = BatchHeader { base_offset, leader_epoch, ..*header };
        state.record_batch(&placed, now);
        let encoded = placed.encode();
        let frame = Frame {
            partition: self.log.partition,
            kind: FrameKind::Append,
            leader_epoch,
            base_offset,
            head: Bytes::copy_from_slice(&encoded),
            body: batch.slice(HEADER_BYTES..),
        };
        state.unsynced.push_back(Unsynced::patched(&placed, encoded, &frame.body));
        reservation.tail.into_frame(frame_cost(batch.len()));
        let ticket = self.store.wal().submit(frame);
        state.last_ticket = ticket;
        self.tell_appended(base_offset, Offset(end), ticket);
        drop(state);
        // Promised space is given back only now that the frame itself counts.
        drop(reservation.wal);
        Ok(Appended {
            base_offset,
            last_offset: Offset(end - 1),
            timestamp: placed.max_timestamp,
            duplicate: false,
            ticket,
        })
    }

    /// For whoever watches: a batch was given its place.
    pub(super) fn tell_appended(&self, base: Offset, end: Offset, ticket: Ticket) {
        self.store.env.probe().event(
            "log.appended",
            &[
                ("topic", self.log.partition.topic_id.low()),
                ("partition", i64::from(self.log.partition.partition.0)),
                ("base", base.0),
                ("end", end.0),
                ("ticket", ticket.0.cast_signed()),
            ],
        );
    }
}

fn duplicate(state: &LogState, original: &ProducerBatch) -> Appended {
    let is_durable = original.last_offset < state.readable_end();
    Appended {
        base_offset: original.base_offset,
        last_offset: original.last_offset,
        timestamp: original.timestamp,
        duplicate: true,
        // The log's last frame comes after the original.
        ticket: if is_durable { Ticket::NONE } else { state.last_ticket },
    }
}
