//! What became of a batch, for all who wait for one of its records.
//!
//! Invariants
//! - A batch is settled exactly once; a [`Settler`] that is dropped settles it as closed.
//! - Whoever waits is woken in the order in which they began to wait.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_base::{Offset, PartitionIndex, Timestamp};

use super::record::{ProducerError, RecordMetadata, Written};
use crate::ClientError;

/// Where a batch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Landed {
    /// Offset of the first record, if it is known.
    pub(crate) base_offset: Option<Offset>,
    /// The broker's time for all records, if that counts.
    pub(crate) append_time: Option<Timestamp>,
}

enum State {
    Pending(Vec<Option<Waker>>),
    Done(Result<Landed, (Written, ClientError)>),
    /// Cut into smaller ones: the number of the first record of each.
    Split(Vec<(u32, Arc<Ticket>)>),
}

/// One batch's fate.
pub(crate) struct Ticket {
    topic: Arc<str>,
    partition: PartitionIndex,
    state: Mutex<State>,
}

impl Ticket {
    fn settle(&self, settled: State) {
        let wakers = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *state {
                State::Pending(wakers) => {
                    let wakers = core::mem::take(wakers);
                    *state = settled;
                    wakers
                }
                State::Done(_) | State::Split(_) => return,
            }
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// The one who settles a batch.
pub(crate) struct Settler {
    ticket: Arc<Ticket>,
    /// Whether any of it was ever sent.
    written: Written,
}

impl Settler {
    pub(crate) fn new(topic: Arc<str>, partition: PartitionIndex) -> Self {
        let ticket = Ticket { topic, partition, state: Mutex::new(State::Pending(Vec::new())) };
        Self { ticket: Arc::new(ticket), written: Written::No }
    }

    /// For who waits for the record with this number.
    pub(crate) fn delivery(&self, index: u32, timestamp: Timestamp) -> Delivery {
        Delivery { ticket: Arc::clone(&self.ticket), index, timestamp, waker: None }
    }

    /// From now on nobody can tell whether it is in the log, should this be dropped.
    pub(crate) fn note_sent(&mut self) {
        self.written = Written::Unknown;
    }

    pub(crate) fn landed(&self, landed: Landed) {
        self.ticket.settle(State::Done(Ok(landed)));
    }

    pub(crate) fn failed(&self, written: Written, cause: ClientError) {
        self.ticket.settle(State::Done(Err((written, cause))));
    }

    /// Its records are now those of other batches: the number of the first record of each, from 0 and ascending.
    pub(crate) fn split(&self, parts: &[(u32, &Self)]) {
        let parts = parts.iter().map(|(first, part)| (*first, Arc::clone(&part.ticket))).collect();
        self.ticket.settle(State::Split(parts));
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.ticket.settle(State::Done(Err((self.written, ClientError::Closed))));
    }
}

/// Ends when a record was acknowledged, or when it is given up. May be dropped: the record is sent all the same.
#[must_use = "a delivery tells whether the record was written"]
pub struct Delivery {
    ticket: Arc<Ticket>,
    index: u32,
    timestamp: Timestamp,
    /// The place of its waker.
    waker: Option<usize>,
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProducerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let moved = {
                let mut state = this.ticket.state.lock().unwrap_or_else(PoisonError::into_inner);
                match &mut *state {
                    State::Done(outcome) => {
                        return Poll::Ready(told(&this.ticket, this.index, this.timestamp, outcome));
                    }
                    State::Split(parts) => {
                        let part = parts.iter().rposition(|(first, _)| *first <= this.index).unwrap_or(0);
                        (this.index - parts[part].0, Arc::clone(&parts[part].1))
                    }
                    State::Pending(wakers) => {
                        let waker = context.waker().clone();
                        match this.waker {
                            Some(place) => wakers[place] = Some(waker),
                            None => {
                                this.waker = Some(wakers.len());
                                wakers.push(Some(waker));
                            }
                        }
                        return Poll::Pending;
                    }
                }
            };
            (this.index, this.ticket) = moved;
            this.waker = None;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(place) = self.waker
            && let State::Pending(wakers) = &mut *self.ticket.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            wakers[place] = None;
        }
    }
}

fn told(
    ticket: &Ticket,
    index: u32,
    timestamp: Timestamp,
    outcome: &Result<Landed, (Written, ClientError)>,
) -> Result<RecordMetadata, ProducerError> {
    let (topic, partition) = (Arc::clone(&ticket.topic), ticket.partition);
    match outcome {
        Ok(Landed { base_offset, append_time }) => Ok(RecordMetadata {
            topic,
            partition,
            offset: base_offset.and_then(|base| base.checked_add(index)),
            timestamp: append_time.unwrap_or(timestamp),
        }),
        Err((written, cause)) => {
            Err(ProducerError { written: *written, topic, partition: Some(partition), cause: cause.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use core::pin::pin;

    use super::*;

    fn settler() -> Settler {
        Settler::new("knots".into(), PartitionIndex(3))
    }

    fn poll(delivery: &mut Delivery) -> Poll<Result<RecordMetadata, ProducerError>> {
        pin!(delivery).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn offset(delivery: &mut Delivery) -> Option<Offset> {
        let Poll::Ready(Ok(metadata)) = poll(delivery) else { panic!("not delivered") };
        metadata.offset
    }

    fn landed(offset: i64) -> Landed {
        Landed { base_offset: Some(Offset(offset)), append_time: None }
    }

    #[test]
    fn each_record_has_its_own_offset() {
        let settler = settler();
        let [mut first, mut third] = [0, 2].map(|index| settler.delivery(index, Timestamp(5)));
        assert!(poll(&mut first).is_pending() && poll(&mut first).is_pending());
        settler.landed(landed(40));
        settler.failed(Written::No, ClientError::Closed);
        assert_eq!((offset(&mut first), offset(&mut third)), (Some(Offset(40)), Some(Offset(42))));
    }

    #[test]
    fn who_waits_follows_a_split_twice() {
        let whole = settler();
        let mut deliveries: Vec<_> = (0..4).map(|index| whole.delivery(index, Timestamp(5))).collect();
        assert!(poll(&mut deliveries[3]).is_pending());
        let (left, right) = (settler(), settler());
        whole.split(&[(0, &left), (1, &right)]);
        assert!(poll(&mut deliveries[3]).is_pending());
        let (middle, end) = (settler(), settler());
        right.split(&[(0, &middle), (2, &end)]);
        for (settler, base) in [(left, 10), (middle, 20), (end, 30)] {
            settler.landed(landed(base));
        }
        let offsets: Vec<_> = deliveries.iter_mut().map(|delivery| offset(delivery).unwrap().0).collect();
        assert_eq!(offsets, [10, 20, 21, 30]);
    }

    #[test]
    fn what_is_dropped_says_whether_it_was_sent() {
        for (sent, expected) in [(false, Written::No), (true, Written::Unknown)] {
            let mut settler = settler();
            let mut delivery = settler.delivery(0, Timestamp(5));
            if sent {
                settler.note_sent();
            }
            drop(settler);
            let Poll::Ready(Err(error)) = poll(&mut delivery) else { panic!("it is settled") };
            assert_eq!((error.written, error.cause), (expected, ClientError::Closed));
        }
    }
}
