//! One partition of `__consumer_offsets`: not led here, being loaded, or served.
//!
//! | from | to | when |
//! |---|---|---|
//! | not led | loading | the partition is active here: an epoch begins |
//! | loading | serving | everything that the log held then is committed and replayed |
//! | serving | loading | a write failed: what it has changed is not to be trusted |
//! | loading, serving | not led | the epoch is over |
//!
//! Invariants
//! - Writes carry the epoch of the state that they were decided on, and are appended in no other.
//! - Before the log is replayed again, every write that was under way has its outcome and is committed or cut: nothing that was
//!   forgotten is found later.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use quipu_base::{LeaderEpoch, Offset, Timestamp};
use quipu_coordinator::{Context, Effect, Record, Shard, Token, Unanswered, WriteId};
use quipu_env::{Clock, Env, Instant, Probe, Rng, Sleep, watch};
use quipu_groups::{Groups, Reply, Request, Settings, consumer::ConsumerRequest};
use quipu_records::{Batch, BatchBuilder, NewRecord};
use quipu_replication::Acks;
use quipu_storage::Class;
use rand::Rng as _;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Answer, Asked, CoordinatorError, Told, load};
use crate::{
    node::Node,
    partition::Partition,
    shard::{Append, AppendOutcome, Command},
};

/// Between two tries to load.
const LOAD_PAUSE: Duration = Duration::from_secs(1);
/// Writes have no deadline of their own: they are kept, or the partition is led elsewhere.
const WRITE_TIME: Duration = Duration::from_hours(1);

/// See the module.
pub(super) async fn run<E: Env>(
    node: Arc<Node<E>>,
    partition: Arc<Partition<E>>,
    asks: mpsc::Receiver<Asked>,
    told: watch::Receiver<Option<Told>>,
) {
    let stopping = node.stopping.clone();
    let notify = Arc::new(Notify::new());
    let _registration = partition.waiters.register(&notify);
    let rng = node.env.rng("groups");
    let (node, partition) = (Arc::clone(&node), Arc::clone(&partition));
    let mut host = Host { node, partition, asks, notify: Arc::clone(&notify), told, rng };
    tokio::select! { biased;
        () = stopping.reached() => {}
        () = host.run() => {}
    }
}

struct Host<E: Env> {
    node: Arc<Node<E>>,
    partition: Arc<Partition<E>>,
    asks: mpsc::Receiver<Asked>,
    /// Told of every change of the partition's.
    notify: Arc<Notify>,
    /// What coordinators are told of the cluster.
    told: watch::Receiver<Option<Told>>,
    rng: Rng,
}

/// Nobody asks any more.
struct Gone;

impl<E: Env> Host<E> {
    async fn run(&mut self) {
        loop {
            let Some(epoch) = self.partition.active_epoch() else {
                let notify = Arc::clone(&self.notify);
                match self.refuse_until(notify.notified(), CoordinatorError::NotCoordinator).await {
                    Ok(()) => continue,
                    Err(Gone) => return,
                }
            };
            let shard = match self.load(epoch).await {
                Ok(Some(shard)) => shard,
                Ok(None) => continue,
                Err(Gone) => return,
            };
            tracing::debug!(partition = %self.partition.id, %epoch, "groups are served");
            self.node.env.probe().sometimes("groups.serving");
            let serving =
                Serving { epoch, shard, timer_at: None, tokens: BTreeMap::new(), next: 0, writes: VecDeque::new() };
            if self.serve(serving).await.is_err() {
                return;
            }
        }
    }

    /// Answers everybody with this error until the future ends.
    async fn refuse_until<T>(&mut self, until: impl Future<Output = T>, error: CoordinatorError) -> Result<T, Gone> {
        let mut until = core::pin::pin!(until);
        loop {
            tokio::select! { biased;
                output = until.as_mut() => return Ok(output),
                asked = self.asks.recv() => match asked {
                    // Who asked may be gone.
                    Some(Asked { reply, .. }) => drop(reply.send(Err(error))),
                    None => return Err(Gone),
                },
            }
        }
    }

    /// The state of all groups, once everything that the log holds is committed. None: the epoch is over.
    async fn load(&mut self, epoch: LeaderEpoch) -> Result<Option<Shard<Groups<E::Probe>>>, Gone> {
        let end = self.partition.log.offsets().log_end;
        while self.is_led(epoch) && self.partition.high_watermark() < end {
            let notify = Arc::clone(&self.notify);
            self.refuse_until(notify.notified(), CoordinatorError::Loading).await?;
        }
        while self.is_led(epoch) {
            let mut groups = Groups::with_probe(settings(&self.node), self.node.env.probe().clone());
            let partition = Arc::clone(&self.partition);
            let replay = load::replay(&partition, end, &mut groups);
            match self.refuse_until(replay, CoordinatorError::Loading).await? {
                Ok(()) => {
                    tracing::debug!(partition = %self.partition.id, %epoch, groups = groups.len(), "groups are loaded");
                    let context = self.context();
                    let mut shard = Shard::new(groups, &context);
                    self.tell(&mut shard);
                    return Ok(self.is_led(epoch).then_some(shard));
                }
                Err(error) => {
                    tracing::error!(partition = %self.partition.id, %error, "groups can't be loaded: trying again soon");
                    self.node.tell_damage(&self.partition);
                }
            }
            let pause = self.node.env.clock().sleep(LOAD_PAUSE);
            self.refuse_until(pause, CoordinatorError::Loading).await?;
        }
        Ok(None)
    }

    /// What is new of the cluster, or all of it to a new shard.
    fn tell(&mut self, shard: &mut Shard<Groups<E::Probe>>) {
        let Some(Told { topics, settings }) = self.told.borrow_and_update().clone() else { return };
        let context = self.context();
        for news in [ConsumerRequest::Topics(topics), ConsumerRequest::Settings(settings)] {
            shard.tell(&context, Request::Consumer(news));
        }
    }

    fn is_led(&self, epoch: LeaderEpoch) -> bool {
        self.partition.active_epoch() == Some(epoch)
    }

    fn context(&mut self) -> Context {
        let mut fresh = [0; 16];
        self.rng.fill_bytes(&mut fresh);
        let clock = self.node.env.clock();
        Context { now: clock.now(), wall: clock.wall(), fresh }
    }

    /// Serves until the epoch is over or a write fails. What waits then is answered by being dropped.
    async fn serve(&mut self, mut serving: Serving<E::Probe>) -> Result<(), Gone> {
        let mut timer = Box::pin(self.node.env.clock().sleep_until(Instant::ZERO));
        let notify = Arc::clone(&self.notify);
        loop {
            self.carry_out(&mut serving).await;
            if serving.shard.is_failed() || !self.is_led(serving.epoch) {
                break;
            }
            let deadline = serving.shard.next_deadline();
            if deadline != serving.timer_at
                && let Some(at) = deadline
            {
                timer.as_mut().reset(at);
            }
            serving.timer_at = deadline;
            tokio::select! { biased;
                outcome = serving.written() => {
                    let (id, is_committed) = outcome;
                    serving.shard.handle_written(id, is_committed);
                }
                () = timer.as_mut(), if serving.timer_at.is_some() => {
                    serving.timer_at = None;
                    let context = self.context();
                    serving.shard.on_deadline(&context);
                }
                () = notify.notified() => {}
                changed = self.told.changed() => match changed {
                    Ok(()) => self.tell(&mut serving.shard),
                    Err(_) => return Err(Gone),
                },
                asked = self.asks.recv() => match asked {
                    Some(asked) => {
                        let context = self.context();
                        serving.handle(&context, asked);
                    }
                    None => return Err(Gone),
                },
            }
        }
        serving.refuse_all();
        // Whatever was under way is in the log, or never will be, once all of it has its outcome.
        while !serving.writes.is_empty() {
            self.refuse_until(serving.written(), CoordinatorError::Loading).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, serving: &mut Serving<E::Probe>) {
        for effect in serving.shard.take_effects() {
            match effect {
                Effect::Reply { to, reply } => serving.reply(to, reply),
                Effect::Write { id, records } => {
                    let outcome = self.write(serving.epoch, &records).await;
                    serving.writes.push_back((id, outcome));
                }
            }
        }
    }

    /// Hands a write to the partition's shard. None: it was not taken.
    async fn write(&self, epoch: LeaderEpoch, records: &[Record]) -> Option<oneshot::Receiver<Vec<AppendOutcome>>> {
        let clock = self.node.env.clock();
        let batch = batch_of(records, clock.wall())?;
        let reservation = match self.node.store.reserve(batch.bytes().len(), Class::Normal).await {
            Ok(reservation) => reservation,
            Err(error) => {
                tracing::warn!(partition = %self.partition.id, %error, "records of groups could not be written");
                return None;
            }
        };
        let partition = Arc::clone(&self.partition);
        let appends = vec![Append { partition, batch, reservation, only_in: Some(epoch) }];
        let (reply, outcome) = oneshot::channel();
        let deadline = clock.now() + WRITE_TIME;
        let command = Command::Append { appends, acks: Acks::All, deadline, reply };
        self.node.send(self.partition.shard, command).await.ok()?;
        Some(outcome)
    }
}

/// One epoch's state.
struct Serving<P: Probe> {
    epoch: LeaderEpoch,
    shard: Shard<Groups<P>>,
    timer_at: Option<Instant>,
    tokens: BTreeMap<Token, oneshot::Sender<Answer>>,
    next: u64,
    /// In order. None: it was not taken.
    writes: VecDeque<(WriteId, Option<oneshot::Receiver<Vec<AppendOutcome>>>)>,
}

impl<P: Probe> Serving<P> {
    fn handle(&mut self, context: &Context, asked: Asked) {
        let Asked { request, reply } = asked;
        self.next += 1;
        let token = Token(self.next);
        self.tokens.insert(token, reply);
        self.shard.handle(context, token, request);
    }

    fn reply(&mut self, to: Token, reply: Result<Reply, Unanswered>) {
        let answer = reply.map_err(|error| match error {
            Unanswered::Failed => CoordinatorError::NotCoordinator,
            Unanswered::Full => CoordinatorError::Loading,
            Unanswered::TimedOut => CoordinatorError::NotAvailable,
        });
        if let Some(waiting) = self.tokens.remove(&to) {
            // Who asked may be gone.
            drop(waiting.send(answer));
        }
    }

    /// The outcome of the first write under way; never, if there is none.
    async fn written(&mut self) -> (WriteId, bool) {
        let Some((id, outcome)) = self.writes.front_mut() else { return core::future::pending().await };
        let id = *id;
        let is_committed = match outcome {
            Some(outcome) => match outcome.await {
                Ok(outcomes) => outcomes.iter().all(|outcome| outcome.result.is_ok()),
                Err(_) => false,
            },
            None => false,
        };
        self.writes.pop_front();
        (id, is_committed)
    }

    fn refuse_all(&mut self) {
        for (_, waiting) in core::mem::take(&mut self.tokens) {
            drop(waiting.send(Err(CoordinatorError::NotCoordinator)));
        }
    }
}

/// The records as one batch. None: they are more than a batch can hold, which the machine's limits exclude.
fn batch_of(records: &[Record], now: Timestamp) -> Option<Batch> {
    let mut builder = BatchBuilder::new().base_offset(Offset::ZERO);
    for record in records {
        let record = NewRecord { timestamp: now, key: Some(&record.key), value: record.value.as_deref(), headers: &[] };
        builder.push(&record).ok()?;
    }
    builder.build().ok()
}

fn settings<E: Env>(node: &Node<E>) -> Settings {
    let config = node.broker_config();
    let millis = Duration::from_millis;
    Settings {
        session_timeout_min: millis(config.group_session_timeout_min_ms),
        session_timeout_max: millis(config.group_session_timeout_max_ms),
        initial_rebalance_delay: millis(config.group_initial_rebalance_delay_ms),
        group_size_max: config.group_size_max,
        offset_metadata_bytes_max: config.offset_metadata_bytes_max,
        offsets_retention: Duration::from_secs(60 * config.offsets_retention_minutes),
        offsets_retention_check: millis(config.offsets_retention_check_ms),
    }
}
