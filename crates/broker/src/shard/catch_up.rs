//! Records that a follower lacks and that are in memory no more: read from segments for one message at a time, and no faster than
//! the node may.
//!
//! A replica whose disk was lost lacks everything. Read and sent as fast as it goes, that takes the disks of both nodes from those
//! who write meanwhile.
//!
//! Invariants
//! - Of one partition, one message to each follower waits at most: the newest. Followers take turns.
//! - While clients write, followers may get twice what is written and the bound besides: whoever lags comes nearer.
//! - What is read for the same follower a second time is checked again: it may have come with a wrong checksum, and nobody else says so.
//!
//! Not here: what a new leader copies before it leads (`hosted` reads that at once); what is sent again and when
//! (`quipu-replication`).

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use quipu_base::{BrokerId, Offset, TopicIdPartition};
use quipu_env::{Clock, Env, Instant, Probe};
use quipu_replication::Message;
use quipu_storage::Log;

use super::{Hub, Report, frames, outbox};

/// Of so many partitions and followers it is known where they were read for last. With more, damage is found later.
const READ_FOR_MAX: usize = 4096;

/// What a node's shards may send to followers from segments, all together.
pub(crate) struct Pace {
    /// 0: no bound.
    bytes_per_second: AtomicU64,
    /// What clients have written since this was last looked at.
    written: AtomicU64,
    sent: Mutex<Sent>,
}

/// Bytes that were sent and whose time has not passed, as of a moment.
struct Sent {
    bytes: u64,
    at: Instant,
}

impl Pace {
    /// At most so much in a second; 0 is no bound.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: AtomicU64::new(bytes_per_second),
            written: AtomicU64::new(0),
            sent: Mutex::new(Sent { bytes: 0, at: Instant::ZERO }),
        }
    }

    pub(crate) fn set_bytes_per_second(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// A client's batch was taken.
    pub(super) fn note_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn note_sent(&self, bytes: usize) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).bytes += bytes as u64;
    }

    /// How long nothing is to be sent, if nobody writes.
    fn pause(&self, now: Instant) -> Duration {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        let written = self.written.swap(0, Ordering::Relaxed);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.since(sent.at).as_nanos() * u128::from(rate) / 1_000_000_000;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        sent.bytes = sent.bytes.saturating_sub(passed).saturating_sub(2 * written);
        sent.at = now;
        if rate == 0 {
            sent.bytes = 0;
        }
        let nanos = u128::from(sent.bytes) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What waits in one shard.
pub(super) struct CatchUp<E: Env> {
    pace: Arc<Pace>,
    turns: VecDeque<(TopicIdPartition, BrokerId)>,
    waiting: BTreeMap<(TopicIdPartition, BrokerId), (Log<E>, Message)>,
    is_reading: bool,
    /// From where on was read last.
    read_for: BTreeMap<(TopicIdPartition, BrokerId), Offset>,
}

impl<E: Env> CatchUp<E> {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        Self { pace, turns: VecDeque::new(), waiting: BTreeMap::new(), is_reading: false, read_for: BTreeMap::new() }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    fn push(&mut self, place: (TopicIdPartition, BrokerId), log: Log<E>, message: Message) {
        if self.waiting.insert(place, (log, message)).is_none() {
            self.turns.push_back(place);
        }
    }

    fn next(&mut self) -> Option<(TopicIdPartition, BrokerId, Log<E>, Message)> {
        let (id, to) = self.turns.pop_front()?;
        let (log, message) = self.waiting.remove(&(id, to)).expect("what has a turn waits");
        Some((id, to, log, message))
    }

    /// Whether what this message names was read for its receiver just before.
    fn is_again(&mut self, place: (TopicIdPartition, BrokerId), message: &Message) -> bool {
        let Some((start, ..)) = frames::named(message) else { return false };
        if self.read_for.len() >= READ_FOR_MAX {
            self.read_for.clear();
        }
        self.read_for.insert(place, start) == Some(start)
    }
}

impl<E: Env> Hub<E> {
    /// A message whose records have to be read from a segment.
    pub(super) fn catch_up(&mut self, to: BrokerId, id: TopicIdPartition, log: Log<E>, message: Message) {
        self.catch_up.push((id, to), log, message);
        if !self.catch_up.is_reading {
            self.read_next();
        }
    }

    /// Records are about to be read for a peer. When they were read just before, what is known of them counts no more.
    pub(super) fn doubt_again(&mut self, to: BrokerId, id: TopicIdPartition, log: &Log<E>, message: &Message) {
        if self.catch_up.is_again((id, to), message)
            && let Some((start, end, _)) = frames::named(message)
        {
            self.env.probe().sometimes("replica.read-again");
            log.distrust(start..end);
        }
    }

    /// The last one was read. Whoever is next has its turn.
    pub(super) fn read_next(&mut self) {
        let next = self.catch_up.next();
        self.catch_up.is_reading = next.is_some();
        let Some((id, to, log, message)) = next else { return };
        self.doubt_again(to, id, &log, &message);
        let (env, pace, reports) = (self.env.clone(), Arc::clone(&self.catch_up.pace), self.reports.clone());
        let _task = self.env.spawn(self.number, "catch-up", async move {
            loop {
                let pause = pace.pause(env.clock().now());
                if pause.is_zero() {
                    break;
                }
                env.probe().sometimes("replica.catch-up-paused");
                env.clock().sleep(pause).await;
            }
            let item = outbox::load_cold(&log, id, message).await;
            pace.note_sent(item.as_ref().map_or(0, outbox::Item::size));
            // A shard that is gone sends nothing.
            drop(reports.send(Report::CaughtUp { partition: id, to, item }).await);
        });
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use quipu_env::Instant;

    use super::Pace;

    const MIB: usize = 1024 * 1024;

    fn at(milliseconds: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_was_sent_is_paused_for() {
        let pace = Pace::new(MIB as u64);
        assert_eq!(pace.pause(at(5000)), Duration::ZERO, "nothing was sent");
        pace.note_sent(2 * MIB);
        assert_eq!(pace.pause(at(5000)), Duration::from_secs(2));
        assert_eq!(pace.pause(at(6500)), Duration::from_millis(500));
        assert_eq!(pace.pause(at(7000)), Duration::ZERO);
        pace.note_sent(MIB);
        assert_eq!(pace.pause(at(7000)), Duration::from_secs(1), "time in which nothing was sent is not saved up");
    }

    #[test]
    fn who_lags_comes_nearer_however_much_is_written() {
        let pace = Pace::new(MIB as u64);
        pace.note_sent(3 * MIB);
        pace.note_written(MIB);
        assert_eq!(pace.pause(at(0)), Duration::from_secs(1));
        pace.note_written(4 * MIB);
        assert_eq!(pace.pause(at(0)), Duration::ZERO);
        pace.note_sent(MIB);
        assert_eq!(pace.pause(at(0)), Duration::from_secs(1), "nor is what was written");
    }

    #[test]
    fn no_bound_is_no_pause() {
        let pace = Pace::new(MIB as u64);
        pace.note_sent(MIB);
        pace.set_bytes_per_second(0);
        assert_eq!(pace.pause(at(0)), Duration::ZERO);
    }
}
