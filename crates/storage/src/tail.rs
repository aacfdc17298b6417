//! The tail: batches that are durable in the WAL and not yet in a segment, kept in memory, where readers find them.
//!
//! Invariants
//! - Entries of one partition are in offset order and do not overlap; there is no gap but in a faulty partition.
//! - A group's buffer counts whole against the budget for as long as anything of it is held, here or by a reader.
//! - Waiters are served in order. When the checkpoint is stuck nobody waits for it in vain.
//!
//! Not here: how the tail is emptied (`checkpoint`).

use core::ops::Range;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quipu_base::{Offset, Timestamp};
use quipu_records::BatchHeader;
use tokio::sync::{Notify, oneshot};

use crate::{StoreFull, lock, wal::Class};

/// Memory of one frame besides its group's buffer: its entry, and its part of allocations.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 160;

/// What a frame of that payload takes of the budget until its group is durable.
pub(crate) const fn frame_cost(payload_bytes: usize) -> usize {
    payload_bytes + FRAME_OVERHEAD_BYTES
}

/// The memory of all tails of a store.
pub(crate) struct TailBudget {
    limit: usize,
    /// The part of `limit` that only [`Class::Reserve`] may use.
    reserve: usize,
    state: Mutex<State>,
    /// Told when a checkpoint is due, and when somebody has to wait.
    pub(crate) pressure: Arc<Notify>,
}

#[derive(Default)]
struct State {
    used: usize,
    waiters: VecDeque<Waiter>,
    stuck: bool,
}

struct Waiter {
    bytes: usize,
    class: Class,
    granted: oneshot::Sender<Result<TailPermit, StoreFull>>,
}

/// A part of the budget, given back when dropped.
pub(crate) struct TailPermit {
    budget: Arc<TailBudget>,
    bytes: usize,
}

impl TailBudget {
    pub(crate) fn new(limit: usize, reserve: usize, pressure: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { limit, reserve, state: Mutex::new(State::default()), pressure })
    }

    pub(crate) fn used(&self) -> usize {
        lock(&self.state).used
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_short(&self) -> bool {
        !lock(&self.state).waiters.is_empty()
    }

    /// Takes `bytes`, waiting until there is room. More than there can ever be are given when nothing else is held.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize, class: Class) -> Result<TailPermit, StoreFull> {
        let wait = {
            let mut state = lock(&self.state);
            let first = state.waiters.is_empty() || class == Class::Reserve;
            if first && self.fits(&state, bytes, class) {
                state.used += bytes;
                return Ok(TailPermit { budget: Arc::clone(self), bytes });
            }
            if state.stuck {
                return Err(StoreFull);
            }
            let (granted, wait) = oneshot::channel();
            let waiter = Waiter { bytes, class, granted };
            match class {
                Class::Reserve => state.waiters.push_front(waiter),
                Class::Normal => state.waiters.push_back(waiter),
            }
            wait
        };
        self.pressure.notify_one();
        wait.await.unwrap_or(Err(StoreFull))
    }

    /// Takes `bytes` without asking.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> TailPermit {
        lock(&self.state).used += bytes;
        TailPermit { budget: Arc::clone(self), bytes }
    }

    /// Gives back what a [`TailPermit::into_frame`] has left behind.
    pub(crate) fn release(self: &Arc<Self>, bytes: usize) {
        drop(TailPermit { budget: Arc::clone(self), bytes });
    }

    /// Says whether the checkpoint is stuck: then nobody is left waiting for it.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        let failed = {
            let mut state = lock(&self.state);
            state.stuck = stuck;
            if stuck { std::mem::take(&mut state.waiters) } else { VecDeque::new() }
        };
        for waiter in failed {
            drop(waiter.granted.send(Err(StoreFull)));
        }
    }

    fn fits(&self, state: &State, bytes: usize, class: Class) -> bool {
        let limit = match class {
            Class::Normal => self.limit - self.reserve,
            Class::Reserve => self.limit,
        };
        state.used + bytes <= limit || state.used == 0
    }

    fn give_back(self: &Arc<Self>, bytes: usize) {
        let mut granted = Vec::new();
        {
            let mut state = lock(&self.state);
            state.used -= bytes;
            while state.waiters.front().is_some_and(|waiter| self.fits(&state, waiter.bytes, waiter.class)) {
                let waiter = state.waiters.pop_front().expect("there is a front");
                state.used += waiter.bytes;
                granted.push((waiter.granted, TailPermit { budget: Arc::clone(self), bytes: waiter.bytes }));
            }
        }
        for (waiter, permit) in granted {
            // If the waiter has gone, its permit comes back here and is dropped, outside the lock.
            drop(waiter.send(Ok(permit)));
        }
    }
}

impl TailPermit {
    /// Keeps `bytes` of it for a frame under way, to be given back by [`TailBudget::release`] once it is durable.
    pub(crate) fn into_frame(mut self, bytes: usize) {
        if bytes > self.bytes {
            lock(&self.budget.state).used += bytes - self.bytes;
            self.bytes = bytes;
        }
        self.bytes -= bytes;
    }

    /// A part of it.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }
}

impl Drop for TailPermit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

/// One batch in memory.
#[derive(Clone)]
pub(crate) struct TailEntry {
    pub(crate) base: Offset,
    /// Offset of its last record.
    pub(crate) last: Offset,
    pub(crate) max_timestamp: Timestamp,
    /// Bytes of the batches before it, counted from some moment on.
    position: u64,
    /// The batch, a slice of its group's buffer.
    payload: Bytes,
    group: Arc<TailPermit>,
}

/// What [`TailEntry::share`] hands out: keeps the group counted.
struct Shared {
    payload: Bytes,
    _group: Arc<TailPermit>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl TailEntry {
    pub(crate) fn new(header: &BatchHeader, payload: Bytes, group: Arc<TailPermit>) -> Self {
        Self {
            base: header.base_offset,
            last: header.last_offset(),
            max_timestamp: header.max_timestamp,
            position: 0,
            payload,
            group,
        }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.payload
    }

    const fn end_position(&self) -> u64 {
        self.position + self.payload.len() as u64
    }

    pub(crate) fn header(&self) -> BatchHeader {
        BatchHeader::parse(&self.payload).expect("a batch that was accepted, or read back with its checksum")
    }

    /// The batch for a reader, counted against the budget until it is dropped.
    pub(crate) fn share(&self) -> Bytes {
        Bytes::from_owner(Shared { payload: self.payload.clone(), _group: Arc::clone(&self.group) })
    }
}

/// The batches of one partition in memory.
#[derive(Default)]
pub(crate) struct Tail {
    entries: VecDeque<TailEntry>,
}

impl Tail {
    pub(crate) fn push(&mut self, mut entry: TailEntry) {
        assert!(self.entries.back().is_none_or(|last| last.last < entry.base), "batches come in order");
        entry.position = self.entries.back().map_or(0, TailEntry::end_position);
        self.entries.push_back(entry);
    }

    /// Puts a batch in the place of those that hold any of its offsets, which are moved to `dropped`. Answers what they held besides.
    pub(crate) fn replace(&mut self, entry: TailEntry, dropped: &mut VecDeque<TailEntry>) -> [Range<Offset>; 2] {
        let first = self.entries.partition_point(|known| known.last < entry.base);
        let behind = self.entries.partition_point(|known| known.base <= entry.last);
        let next = entry.last.next();
        let start =
            self.entries.get(first).filter(|_| first < behind).map_or(entry.base, |known| known.base.min(entry.base));
        let end = behind
            .checked_sub(1)
            .filter(|last| *last >= first)
            .map_or(next, |last| self.entries[last].last.next().max(next));
        let lost = [start..entry.base, next..end];
        dropped.extend(self.entries.drain(first..behind));
        self.entries.insert(first, entry);
        let mut position = first.checked_sub(1).map_or(0, |before| self.entries[before].end_position());
        for entry in self.entries.range_mut(first..) {
            entry.position = position;
            position = entry.end_position();
        }
        lost
    }

    /// Bytes of the batches that reach `offset` or lie behind it.
    pub(crate) fn bytes_from(&self, offset: Offset) -> u64 {
        let (first, last) = (self.from(offset).next(), self.entries.back());
        first.zip(last).map_or(0, |(first, last)| last.end_position() - first.position)
    }

    /// Where the batches end that reach `offset`, or lie behind it, and are no more than `bytes` together.
    pub(crate) fn end_within(&self, offset: Offset, bytes: u64) -> Option<Offset> {
        let limit = self.from(offset).next()?.position.saturating_add(bytes);
        let behind = self.entries.partition_point(|entry| entry.end_position() <= limit);
        let last = &self.entries[behind.checked_sub(1)?];
        (last.last >= offset).then(|| last.last.next())
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &TailEntry> {
        self.entries.iter()
    }

    /// Entries from the one on that holds `offset` or comes after it.
    pub(crate) fn from(&self, offset: Offset) -> impl Iterator<Item = &TailEntry> {
        let first = self.entries.partition_point(|entry| entry.last < offset);
        self.entries.range(first..)
    }

    /// Removes every batch that reaches `end`.
    pub(crate) fn truncate(&mut self, end: Offset) {
        let kept = self.entries.partition_point(|entry| entry.last < end);
        self.entries.truncate(kept);
    }

    /// Removes the batches below `offset`: they are in a segment. Answers them, so that they are dropped outside the log's lock.
    pub(crate) fn drop_below(&mut self, offset: Offset) -> VecDeque<TailEntry> {
        let dropped = self.entries.partition_point(|entry| entry.last < offset);
        let rest = self.entries.split_off(dropped);
        std::mem::replace(&mut self.entries, rest)
    }

    pub(crate) fn clear(&mut self) -> VecDeque<TailEntry> {
        std::mem::take(&mut self.entries)
    }
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::testing::batch_at;

    fn budget(limit: usize) -> Arc<TailBudget> {
        TailBudget::new(limit, 10, Arc::new(Notify::new()))
    }

    fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now(budget: &Arc<TailBudget>, bytes: usize, class: Class) -> Option<TailPermit> {
        match poll(pin!(budget.reserve(bytes, class))) {
            Poll::Ready(Ok(permit)) => Some(permit),
            _ => None,
        }
    }

    #[test]
    fn waiters_are_served_in_order() {
        let budget = budget(110);
        let held = now(&budget, 90, Class::Normal).expect("room");
        let mut first = pin!(budget.reserve(50, Class::Normal));
        let mut second = pin!(budget.reserve(5, Class::Normal));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending(), "it fits, but the first waits");
        drop(held);
        assert!(poll(second.as_mut()).is_ready());
        assert!(poll(first.as_mut()).is_ready());
    }

    #[test]
    fn a_waiter_that_goes_away_leaves_nothing_behind() {
        let budget = budget(110);
        let held = now(&budget, 100, Class::Normal).expect("room");
        {
            let mut granted = pin!(budget.reserve(50, Class::Normal));
            assert!(poll(granted.as_mut()).is_pending());
            drop(held);
        }
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_reserve_is_kept_and_the_stuck_are_told() {
        let budget = budget(110);
        let held = now(&budget, 100, Class::Normal).expect("room");
        let reserve = now(&budget, 10, Class::Reserve).expect("the reserve");
        let mut waiting = pin!(budget.reserve(1, Class::Normal));
        assert!(poll(waiting.as_mut()).is_pending());
        budget.set_stuck(true);
        assert!(matches!(poll(waiting), Poll::Ready(Err(StoreFull))));
        assert!(now(&budget, 1, Class::Normal).is_none());
        drop((held, reserve));
        assert!(now(&budget, 1, Class::Normal).is_some(), "there is room, stuck or not");
        assert!(now(&budget, 1000, Class::Normal).is_some(), "alone, even the largest goes");
    }

    #[test]
    fn bytes_are_counted_from_any_offset() {
        let budget = budget(100_000);
        let group = Arc::new(budget.take(1));
        let mut tail = Tail::default();
        let entry = |offset, bytes| {
            let batch = batch_at(offset, 1, bytes, 0);
            (batch.bytes().len() as u64, TailEntry::new(batch.header(), batch.bytes().clone(), Arc::clone(&group)))
        };
        let mut sizes = Vec::new();
        for offset in 0..10 {
            let (size, made) = entry(offset, 100 + usize::try_from(offset).expect("small"));
            sizes.push(size);
            tail.push(made);
        }
        drop(tail.drop_below(Offset(3)));
        let (size, made) = entry(5, 700);
        sizes[5] = size;
        tail.replace(made, &mut VecDeque::new());
        let from = |first: usize, count: usize| sizes[first..first + count].iter().sum::<u64>();
        assert_eq!(tail.bytes_from(Offset(0)), from(3, 7));
        assert_eq!(tail.bytes_from(Offset(6)), from(6, 4));
        assert_eq!(tail.bytes_from(Offset(10)), 0);
        assert_eq!(tail.end_within(Offset(4), from(4, 3)), Some(Offset(7)));
        assert_eq!(tail.end_within(Offset(4), from(4, 3) - 1), Some(Offset(6)));
        assert_eq!(tail.end_within(Offset(4), from(4, 1) - 1), None);
        assert_eq!(tail.end_within(Offset(4), u64::MAX), Some(Offset(10)));
        assert_eq!(tail.end_within(Offset(10), u64::MAX), None);
        tail.truncate(Offset(5));
        assert_eq!(tail.bytes_from(Offset(0)), from(3, 2));
    }

    #[test]
    fn a_group_counts_until_the_last_reader_lets_go() {
        let budget = budget(1000);
        now(&budget, 300, Class::Normal).expect("room").into_frame(200);
        assert_eq!(budget.used(), 200);
        let group = Arc::new(budget.take(500));
        budget.release(200);
        let batch = batch_at(0, 1, 10, 0);
        let mut tail = Tail::default();
        tail.push(TailEntry::new(batch.header(), batch.bytes().clone(), Arc::clone(&group)));
        drop(group);
        let read = tail.from(Offset(0)).next().expect("an entry").share();
        drop(tail.drop_below(Offset(1)));
        assert_eq!((budget.used(), &read), (500, batch.bytes()));
        drop(read);
        assert_eq!(budget.used(), 0);
    }
}
