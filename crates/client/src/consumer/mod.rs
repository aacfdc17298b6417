//! The consumer: reads assigned partitions from their leaders, ahead of the caller.
//!
//! ```text
//! assign, seek -> cursor.need --+-- ListOffsets --------------> where to begin
//!                               +-- OffsetForLeaderEpoch -----> is the log still the same (KIP-320)
//!                               `-- Fetch, two per broker ----> buffer -> poll -> caller
//! ```
//!
//! Invariants
//! - Records of a partition are given in order of offset, each once, unless the caller seeks.
//! - A record is given only if the log was found to be the one that was read so far, under each leader epoch that was seen.
//! - A partition that may have something new is asked for it at once, whatever others wait for (`ask`).
//! - There is no task: everything happens in [`Consumer::poll`], but for the connections, which go on receiving between two polls,
//!   and large batches, which are decompressed elsewhere.
//!
//! Not here: groups and committed offsets (`group`); fetch sessions; reading from followers. Read
//! `position`, then `fetched`.

mod ask;
mod assigned;
mod config;
mod fetched;
mod position;
mod record;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{BrokerId, LeaderEpoch, Offset};
use quipu_env::{Clock, Env, Instant, Rng};
use tokio::sync::mpsc;

pub use config::{ConsumerConfig, Isolation, OffsetReset};
pub use record::{ConsumerError, ConsumerRecord, Position};

use crate::{Client, ClientError, Cluster, OffsetSpec, TopicPartition, connection::Answer, pool::Pool};
use ask::{Asked, Lane};
use assigned::Assigned;
use fetched::Decoded;
pub(crate) use fetched::{Rules, decode};
use position::{Cursor, Stop};

/// The outcome of something that was asked.
enum Event {
    Answer(u64, Result<Option<Answer>, ClientError>),
    Refreshed,
    /// A batch of this partition, under the number that it was taken with.
    Decoded(TopicPartition, u64, Decoded),
}

/// Reads records. See the [crate's example](crate).
///
/// Dropping it ends its connections.
pub struct Consumer<E: Env> {
    client: Client<E>,
    config: ConsumerConfig,
    /// For fetches that wait at the broker, and for those that don't.
    patient_pool: Pool<E>,
    quick_pool: Pool<E>,
    rng: Rng,
    events: mpsc::UnboundedReceiver<Event>,
    /// As many events as questions under way: one for each partition, two fetches for each broker, one refresh; and one batch of
    /// each partition that is decoded elsewhere.
    post: mpsc::UnboundedSender<Event>,
    partitions: BTreeMap<TopicPartition, Assigned>,
    asked: BTreeMap<u64, Asked>,
    next_question: u64,
    next_assignment: u64,
    fetching: BTreeSet<(BrokerId, Lane)>,
    cluster: Arc<Cluster>,
    /// Whether leaders are to be looked up in `cluster` again.
    is_changed: bool,
    is_stale: bool,
    is_refreshing: bool,
    refresh_after: Instant,
    /// Partitions take turns.
    turn: usize,
}

impl<E: Env> Consumer<E> {
    pub(crate) fn new(client: &Client<E>, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let (post, events) = mpsc::unbounded_channel();
        Ok(Self {
            client: client.clone(),
            config,
            patient_pool: client.own_pool(),
            quick_pool: client.own_pool(),
            rng: client.env().rng("client.consumer"),
            events,
            post,
            partitions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_question: 0,
            next_assignment: 0,
            fetching: BTreeSet::new(),
            cluster: client.cluster(),
            is_changed: true,
            is_stale: false,
            is_refreshing: false,
            refresh_after: Instant::ZERO,
            turn: 0,
        })
    }

    /// Reads these partitions, each from there on, and no others. One that was assigned before begins anew.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        self.partitions.clear();
        for (partition, position) in partitions {
            self.add(partition, position);
        }
    }

    /// Reads one more partition, from there on.
    pub fn add(&mut self, partition: TopicPartition, position: Position) {
        let cursor = Cursor::new(position, self.config.offset_reset);
        self.partitions.insert(partition, Assigned::new(self.next_assignment, cursor));
        self.next_assignment += 1;
        self.is_changed = true;
    }

    /// No longer reads a partition. Whether it was assigned.
    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.partitions.remove(partition).is_some()
    }

    /// The partitions that are read, in order.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// Goes on there. Ends a truncation, an offset out of range, a damaged batch.
    ///
    /// Errors: [`ConsumerError::NotAssigned`].
    pub fn seek(&mut self, partition: &TopicPartition, position: Position) -> Result<(), ConsumerError> {
        let assigned = self.assigned_mut(partition)?;
        assigned.cursor.seek(position);
        assigned.discard();
        assigned.error = None;
        Ok(())
    }

    /// The offset of the next record to come; none until it is known where to begin, which a poll finds out.
    ///
    /// Errors: [`ConsumerError::NotAssigned`].
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<Offset>, ConsumerError> {
        Ok(self.assigned(partition)?.cursor.position())
    }

    /// The position with the leader epoch of the record before it.
    pub(crate) fn place(&self, partition: &TopicPartition) -> Option<(Offset, Option<LeaderEpoch>)> {
        let cursor = &self.partitions.get(partition)?.cursor;
        Some((cursor.position()?, cursor.epoch()))
    }

    /// How many offsets lie between the position and the end of what may be read, as of the last fetch; none before the first.
    ///
    /// Errors: [`ConsumerError::NotAssigned`].
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<u64>, ConsumerError> {
        let assigned = self.assigned(partition)?;
        let (position, end) = (assigned.cursor.position(), assigned.readable_end);
        Ok(position.zip(end).map(|(position, end)| end.records_since(position)))
    }

    /// Gives no more records of a partition until it is resumed. What was fetched is kept.
    ///
    /// Errors: [`ConsumerError::NotAssigned`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), ConsumerError> {
        self.assigned_mut(partition)?.is_paused = true;
        Ok(())
    }

    /// Gives records of a partition again.
    ///
    /// Errors: [`ConsumerError::NotAssigned`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), ConsumerError> {
        let assigned = self.assigned_mut(partition)?;
        assigned.is_paused = false;
        assigned.found_nothing = None;
        Ok(())
    }

    /// First offsets of partitions, assigned or not, in the order asked for.
    ///
    /// Errors: the first partition's whose offset can't be had within [`crate::ClientConfig::api_timeout`].
    pub async fn beginning_offsets(&self, partitions: &[TopicPartition]) -> Result<Vec<Offset>, ConsumerError> {
        self.ends(partitions, OffsetSpec::Earliest).await
    }

    /// Ends of what this consumer may read of partitions, assigned or not: the offset of the next record to come.
    ///
    /// Errors: as of [`Self::beginning_offsets`].
    pub async fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<Vec<Offset>, ConsumerError> {
        self.ends(partitions, OffsetSpec::Latest).await
    }

    async fn ends(&self, partitions: &[TopicPartition], spec: OffsetSpec) -> Result<Vec<Offset>, ConsumerError> {
        let wanted = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let found = self.offsets(wanted).await?;
        Ok(found.into_iter().map(|found| found.unwrap_or(Offset::ZERO)).collect())
    }

    /// The first offset at or after a time, for each partition; none where no record is that young.
    ///
    /// Errors: as of [`Self::beginning_offsets`].
    pub async fn offsets_for_times(
        &self,
        wanted: &[(TopicPartition, quipu_base::Timestamp)],
    ) -> Result<Vec<Option<Offset>>, ConsumerError> {
        let spec = |(partition, time): &(TopicPartition, _)| (partition.clone(), OffsetSpec::Timestamp(*time));
        self.offsets(wanted.iter().map(spec).collect()).await
    }

    async fn offsets(&self, wanted: Vec<(TopicPartition, OffsetSpec)>) -> Result<Vec<Option<Offset>>, ConsumerError> {
        let listed = self.client.admin().list_offsets(wanted, self.config.isolation).await;
        let own = |(partition, outcome): (TopicPartition, Result<crate::ListedOffset, ClientError>)| {
            let failed = |cause| ConsumerError::Client { partition: Some(partition), cause };
            outcome.map(|listed| listed.offset).map_err(failed)
        };
        listed.into_iter().map(own).collect()
    }

    /// Records that follow, at most [`ConsumerConfig::poll_records_max`] of them. Waits at most `wait_max` for the first; none then
    /// is no error. If this future is dropped, no record is lost.
    ///
    /// Errors: one partition's trouble, see [`ConsumerError`]. Others go on at the next poll; that partition once its trouble is
    /// over, and until then it is told again when there is nothing else to tell.
    pub async fn poll(&mut self, wait_max: Duration) -> Result<Vec<ConsumerRecord>, ConsumerError> {
        let clock = self.client.env().clock().clone();
        let deadline = clock.now() + wait_max;
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.handle(event);
            }
            let now = clock.now();
            self.look_for_leaders();
            self.ask(now);
            if let Some(error) = self.take_error(false) {
                return Err(error);
            }
            let records = self.take_records();
            self.decode_ahead();
            if !records.is_empty() {
                // What follows comes while the caller works.
                self.ask(now);
                return Ok(records);
            }
            if now >= deadline {
                return self.take_error(true).map_or(Ok(Vec::new()), Err);
            }
            let wake_at = self.next_deadline(now).map_or(deadline, |next| next.min(deadline));
            let event = tokio::select! { biased;
                event = self.events.recv() => event,
                () = clock.sleep_until(wake_at) => None,
            };
            event.into_iter().for_each(|event| self.handle(event));
        }
    }

    fn assigned(&self, partition: &TopicPartition) -> Result<&Assigned, ConsumerError> {
        self.partitions.get(partition).ok_or_else(|| ConsumerError::NotAssigned(partition.clone()))
    }

    fn assigned_mut(&mut self, partition: &TopicPartition) -> Result<&mut Assigned, ConsumerError> {
        self.partitions.get_mut(partition).ok_or_else(|| ConsumerError::NotAssigned(partition.clone()))
    }

    /// A partition's trouble that was not told yet, or, `again`, any.
    fn take_error(&mut self, again: bool) -> Option<ConsumerError> {
        for (partition, assigned) in &mut self.partitions {
            if let Some(stop) = assigned.cursor.stopped()
                && assigned.error.is_none()
            {
                assigned.error = error_of(partition, &assigned.cursor, stop);
                assigned.is_told = false;
                assigned.discard();
            }
            // What was fetched before the trouble comes first.
            let is_next = assigned.is_empty();
            if let Some(error) = assigned.error.as_ref().filter(|_| is_next && (again || !assigned.is_told)) {
                assigned.is_told = true;
                return Some(error.clone());
            }
        }
        None
    }

    /// Records that lie here, of one partition after the other; another one is the first each time.
    fn take_records(&mut self) -> Vec<ConsumerRecord> {
        let mut out = Vec::new();
        let first = self.turn.checked_rem(self.partitions.len()).unwrap_or(0);
        self.turn = self.turn.wrapping_add(1);
        let (rules, limit) = (self.rules(), self.config.poll_records_max);
        for is_second_half in [true, false] {
            for (place, (partition, assigned)) in self.partitions.iter_mut().enumerate() {
                if (place >= first) == is_second_half && !assigned.is_paused && out.len() < limit {
                    assigned.take(partition, limit, rules, &mut out);
                }
            }
        }
        out
    }

    /// Has large batches decompressed where that keeps nobody from work, while the caller looks at those before them.
    fn decode_ahead(&mut self) {
        let (env, rules) = (self.client.env(), self.rules());
        for (partition, assigned) in &mut self.partitions {
            let Some(fetched) = assigned.take_heavy(self.next_question) else { continue };
            let (number, partition) = (self.next_question, partition.clone());
            self.next_question += 1;
            let (own_env, post) = (env.clone(), self.post.clone());
            let decode = async move {
                let (cost, of) = (fetched.cost(), partition.clone());
                let decoded = own_env.offload(cost, move || fetched.decode(&of, rules)).await;
                // An error means that the consumer is gone.
                drop(post.send(Event::Decoded(partition, number, decoded)));
            };
            drop(env.spawn(env.current_shard(), "client.decode", decode));
        }
    }

    fn rules(&self) -> Rules {
        Rules { check_crcs: self.config.check_crcs, decompressed_bytes_max: self.config.decompressed_bytes_max }
    }
}

fn error_of(partition: &TopicPartition, cursor: &Cursor, stop: Stop) -> Option<ConsumerError> {
    let position = cursor.position().unwrap_or(Offset::ZERO);
    let partition = partition.clone();
    match stop {
        Stop::Truncated { diverging } => Some(ConsumerError::TruncationDetected { partition, position, diverging }),
        Stop::OutOfRange => Some(ConsumerError::OffsetOutOfRange { partition, position }),
        Stop::Other => None,
    }
}
