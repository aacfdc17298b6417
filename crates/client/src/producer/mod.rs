//! The producer: takes records, gathers them in batches, sends those to the partitions' leaders, and tells what became of each.
//!
//! ```text
//! send -> memory -> topic's partitions -> accumulator ..bell..> sender -> state -> broker
//!   `- Delivery <----------------------------------------------- settled --'
//! ```
//!
//! Invariants
//! - Records of one partition are written in the order in which they were taken; with idempotence also when they are sent again.
//! - With idempotence no record is written twice, whatever fails: where that cannot be promised, the record fails as
//!   [`Written::Unknown`].
//! - No more than `memory_bytes` of records are held; who brings more waits.
//! - Every delivery ends within `delivery_timeout`.
//!
//! Not here: transactions. Read `accumulator`, `state`, then `sender`.

mod accumulator;
mod answers;
mod config;
mod delivery;
mod partitioner;
mod record;
mod sealed;
mod sender;
mod split;
mod state;

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_env::{Clock, Env, Instant};
use quipu_protocol::ErrorCode;
use quipu_records::{BatchBuilder, HEADER_BYTES};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

pub(crate) use answers::{is_stale_code, is_stale_metadata};
pub use config::{Acks, ProducerConfig};
pub use delivery::Delivery;
pub use partitioner::{murmur2, partition_for_key};
pub use record::{Header, ProducerError, ProducerRecord, RecordMetadata, Written};

use crate::{Client, ClientError, Topic};
pub(crate) use accumulator::{Accumulator, Sizes};
use accumulator::{AppendError, Taken};

/// What the producer's handles and its task share.
struct Common {
    accumulator: Mutex<Accumulator>,
    /// Rung when the task should look.
    bell: Notify,
    /// Permits are bytes.
    memory: Semaphore,
    /// Who waits for memory.
    hungry: AtomicUsize,
    /// Rung when a batch is settled.
    settled: Notify,
    is_closing: AtomicBool,
    is_over: AtomicBool,
    closed: Mutex<Option<ClientError>>,
}

impl Common {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether batches should leave without having lingered.
    fn is_urgent(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) > 0 || self.is_closing.load(Ordering::Relaxed)
    }

    /// A batch is settled: gives its memory back and wakes who waits for a flush.
    fn settled(&self, birth: u64, reserved_bytes: usize) {
        self.lock().settled(birth);
        self.release(reserved_bytes);
    }

    fn release(&self, bytes: usize) {
        self.memory.add_permits(bytes);
        self.settled.notify_waiters();
    }

    /// Takes no more records, and fails those that have not left.
    fn close(&self, error: &ClientError) {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        self.memory.close();
        let mut accumulator = self.lock();
        accumulator.close();
        let slots: Vec<_> = accumulator.active().collect();
        for slot in slots {
            while let Some(open) = accumulator.pop(slot) {
                open.settler.failed(Written::No, error.clone());
                accumulator.settled(open.birth);
            }
        }
        drop(accumulator);
        self.settled.notify_waiters();
    }

    fn closed(&self) -> Option<ClientError> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends records. Cheap to clone; a clone is the same producer. See the [crate's example](crate).
///
/// When the last clone is dropped, records that are not acknowledged yet are given up: [`Producer::close`] first.
pub struct Producer<E: Env>(Arc<Inner<E>>);

impl<E: Env> Clone for Producer<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<E: Env> {
    client: Client<E>,
    config: ProducerConfig,
    common: Arc<Common>,
}

impl<E: Env> Drop for Inner<E> {
    fn drop(&mut self) {
        self.common.is_over.store(true, Ordering::Release);
        self.common.bell.notify_one();
    }
}

impl<E: Env> Producer<E> {
    pub(crate) fn new(client: &Client<E>, config: ProducerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let sizes = Sizes {
            batch_bytes: config.batch_bytes,
            linger: config.linger,
            codec: config.compression,
            level: config.compression_level,
        };
        let env = client.env();
        let common = Arc::new(Common {
            accumulator: Mutex::new(Accumulator::new(sizes, env.rng("client.producer.partitioner"))),
            bell: Notify::new(),
            memory: Semaphore::new(config.memory_bytes),
            hungry: AtomicUsize::new(0),
            settled: Notify::new(),
            is_closing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            closed: Mutex::new(None),
        });
        let sender = sender::Sender::new(client, &config, &common).run();
        drop(env.spawn(env.current_shard(), "client.producer", sender));
        Ok(Self(Arc::new(Inner { client: client.clone(), config, common })))
    }

    /// Takes a record: waits for memory and, the first time, for news of the topic, at most `send_timeout`. The [`Delivery`] tells
    /// what became of it; one that is dropped changes nothing. If this future is dropped, the record was not taken.
    ///
    /// Records of one partition keep the order in which this future ends.
    ///
    /// Errors: [`Written::No`], with a cause that says whose fault it is: a record that is too large, a partition that does not
    /// exist, a topic that does not exist (after `send_timeout`), no memory, a producer that was closed.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProducerError> {
        let outcome = self.take(&record).await;
        outcome.map_err(|cause| ProducerError {
            written: Written::No,
            topic: record.topic,
            partition: record.partition,
            cause,
        })
    }

    /// Sends a record and waits until it is acknowledged: [`Self::send`] and its [`Delivery`] in one. Slow if done one by one.
    ///
    /// Errors: those of both.
    pub async fn send_and_wait(&self, record: ProducerRecord) -> Result<RecordMetadata, ProducerError> {
        self.send(record).await?.await
    }

    /// Waits until everything taken so far is settled, one way or the other; its batches leave without lingering.
    pub async fn flush(&self) {
        let common = &self.0.common;
        let before = common.lock().flush();
        common.bell.notify_one();
        loop {
            let settled = common.settled.notified();
            if common.is_over.load(Ordering::Acquire) || common.lock().is_flushed(before) {
                return;
            }
            settled.await;
        }
    }

    /// Takes no more records, waits until all are settled, and ends the producer's task and connections. Other clones are closed
    /// as well.
    pub async fn close(&self) {
        let common = &self.0.common;
        common.is_closing.store(true, Ordering::Relaxed);
        self.flush().await;
        common.is_over.store(true, Ordering::Release);
        common.bell.notify_one();
    }

    async fn take(&self, record: &ProducerRecord) -> Result<Delivery, ClientError> {
        let Inner { client, config, common } = &*self.0;
        if common.is_closing.load(Ordering::Relaxed) {
            return Err(ClientError::Closed);
        }
        let bytes = self.size(record)?;
        let now = client.now();
        let deadline = now + config.send_timeout;
        let memory = self.reserve(bytes, deadline).await?;
        let mut has_asked = false;
        let taken = loop {
            let cluster = client.cluster();
            let Some(topic) = cluster.topic(&record.topic).filter(|topic| !topic.partitions.is_empty()) else {
                self.find(&record.topic, deadline).await?;
                continue;
            };
            match self.append(topic, record, bytes) {
                Ok(taken) => break taken,
                Err(AppendError::Build(error)) => return Err(ClientError::Config(error.to_string())),
                Err(AppendError::Closed) => return Err(common.closed().unwrap_or(ClientError::Closed)),
                Err(AppendError::NoPartition(_)) if !has_asked => {
                    // There may be more than there were.
                    self.find(&record.topic, deadline).await?;
                    has_asked = true;
                }
                Err(AppendError::NoPartition(partition)) => {
                    let count = topic.partitions.len();
                    let what = format!("topic {} has {count} partitions, and no partition {partition}", record.topic);
                    return Err(ClientError::Config(what));
                }
            }
        };
        // Given back when the batch is settled.
        memory.forget();
        if taken.wakes {
            common.bell.notify_one();
        }
        Ok(taken.delivery)
    }

    /// What the record takes at most.
    fn size(&self, record: &ProducerRecord) -> Result<usize, ClientError> {
        let config = &self.0.config;
        let headers = record.header_views();
        let bytes = BatchBuilder::record_bytes_max(&record.view(quipu_base::Timestamp::NONE, &headers));
        let (limit, name) = if config.memory_bytes < config.request_bytes_max {
            (config.memory_bytes, "memory_bytes")
        } else {
            (config.request_bytes_max, "request_bytes_max")
        };
        if bytes.saturating_add(HEADER_BYTES) > limit {
            let message = format!("the record takes up to {bytes} bytes, more than the producer's {name} ({limit})");
            let what = format!("send a record to {}", record.topic);
            return Err(ClientError::refused(what, ErrorCode::MessageTooLarge.code(), Some(&message)));
        }
        Ok(bytes)
    }

    async fn reserve(&self, bytes: usize, deadline: Instant) -> Result<SemaphorePermit<'_>, ClientError> {
        let Inner { client, config, common } = &*self.0;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(permit) = common.memory.try_acquire_many(permits) {
            return Ok(permit);
        }
        let _hungry = Hungry::new(common);
        common.bell.notify_one();
        tokio::select! { biased;
            permit = common.memory.acquire_many(permits) => {
                permit.map_err(|_| common.closed().unwrap_or(ClientError::Closed))
            }
            () = client.env().clock().sleep_until(deadline) => {
                let what = format!("waiting for {bytes} bytes of the producer's memory (memory_bytes {})", config.memory_bytes);
                Err(ClientError::TimedOut { what, after: config.send_timeout, last: None })
            }
        }
    }

    /// Asks once for a topic that is not known, or can't be used.
    async fn find(&self, topic: &Arc<str>, deadline: Instant) -> Result<(), ClientError> {
        let Inner { client, config, .. } = &*self.0;
        let topics = [Arc::clone(topic)];
        let asked = tokio::select! { biased;
            asked = client.refresh(&topics) => asked,
            () = client.env().clock().sleep_until(deadline) => Ok(()),
        };
        let code = client.cluster().topic_error(topic);
        let refused = code.map(|code| ClientError::refused(format!("find topic {topic}"), code.code(), None));
        match asked.err().or(refused) {
            Some(error) if !error.is_retriable() => Err(error),
            last if client.now() >= deadline => {
                let what = format!("finding topic {topic}");
                Err(ClientError::TimedOut { what, after: config.send_timeout, last: last.map(Box::new) })
            }
            _ => Ok(()),
        }
    }

    fn append(&self, topic: &Topic, record: &ProducerRecord, bytes: usize) -> Result<Taken, AppendError> {
        let clock = self.0.client.env().clock();
        self.0.common.lock().append(clock.now(), clock.wall(), topic, record, bytes)
    }
}

/// Counts one who waits for memory.
struct Hungry<'a>(&'a Common);

impl<'a> Hungry<'a> {
    fn new(common: &'a Common) -> Self {
        common.hungry.fetch_add(1, Ordering::Relaxed);
        Self(common)
    }
}

impl Drop for Hungry<'_> {
    fn drop(&mut self) {
        self.0.hungry.fetch_sub(1, Ordering::Relaxed);
    }
}
