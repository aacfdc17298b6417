//! One shard: the task that owns the replicas of its partitions and the order of everything that changes their logs.
//!
//! ```text
//! commands (clients), updates (metadata), frames (peers), tickets (WAL), time -> Replica::handle
//!   -> effects: storage steps, frames to peers, replies, requests to the controller
//! ```
//!
//! | what | module |
//! |---|---|
//! | one replica with its log: events in, effects carried out | `hosted` |
//! | durable steps: to the log at once, or in turn when they have to wait | `steps` |
//! | batches whose sequence does not follow | `gap` |
//! | what retention lets go | `retain` |
//! | what followers lack and memory has no more | `catch_up` |
//! | clients' requests that wait for an answer | `requests` |
//! | what a replica keeps besides its log | `state` |
//! | what the metadata tells the shard | `update` |
//! | frames to and from other brokers' shards | `frames`, `outbox` |
//!
//! Invariants
//! - Commands are carried out in the order in which they arrive; an append takes its offsets before the next command is
//!   looked at.
//! - A reply that tells of a change is released only when the replica says that it is kept as `acks` wants.
//! - The high watermark moves before the reply leaves: who has the acknowledgement can read the record.
//! - The task waits for nothing but the next event: what has to wait (room, cold reads, the controller) waits in tasks of its own
//!   that report back.
//!
//! Not here: validation of batches ([`crate::handlers`], before they come here), the log itself (`quipu-storage`), the rules
//! (`quipu-replication`). Read `hosted` next.

mod catch_up;
mod frames;
mod gap;
mod hosted;
mod outbox;
mod requests;
mod retain;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod update;

use core::pin::Pin;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use quipu_controller::LogReport;
use quipu_env::{Clock, Env, Fatal, Instant, Probe, ShardId, Sleep, watch};
use quipu_peer::{Peers, Received};
use quipu_replication::{Acks, BrokerView, Event, Identity, PartitionState, RequestError, Verdict, WriteId};
use quipu_storage::{AppendError, Reservation, Store, Ticket};
use tokio::sync::{mpsc, oneshot};

use self::{catch_up::CatchUp, gap::Gap, hosted::Hosted, outbox::Outbox, requests::Requests, steps::StepError};
use crate::{
    asks::Asked,
    partition::{Partition, shard_of},
};

pub(crate) use catch_up::Pace;
pub(crate) use update::{Opened, Update, broker_view, partition_state};

/// Commands that may wait for one shard. Their bytes are bounded by the budgets, not here.
pub(crate) const COMMANDS_MAX: usize = 4096;
/// Commands carried out before completions are looked at again.
const COMMANDS_PER_ROUND: usize = 64;
/// Frames of other nodes that may wait for one shard; their links hold the rest.
pub(crate) const FRAMES_MAX: usize = 64;
/// Reports of a shard's own tasks that may wait for it; the tasks wait beyond it.
const REPORTS_MAX: usize = 1024;

/// A checked batch on its way into a partition.
pub(crate) struct Append<E: Env> {
    pub(crate) partition: Arc<Partition<E>>,
    pub(crate) batch: quipu_records::Batch,
    pub(crate) reservation: Reservation<E>,
    /// The epoch in which it is to be appended, if it may be in no other.
    pub(crate) only_in: Option<LeaderEpoch>,
}

/// Why a batch was not kept, or not in time.
#[derive(Clone, Debug)]
pub(crate) enum ProduceError {
    /// The log did not take it.
    Log(AppendError),
    /// The replica did not, or could not commit it.
    Replica(RequestError),
}

/// What became of an [`Append`].
pub(crate) struct AppendOutcome {
    /// The offset of its first record.
    pub(crate) result: Result<Offset, ProduceError>,
    pub(crate) log_start: Offset,
}

/// This start of the node, as the controller registered it.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) identity: Identity,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) last_unfenced: Option<BrokerEpoch>,
}

/// What a shard can be asked.
pub(crate) enum Command<E: Env> {
    /// Appends, and answers when all of it is kept as `acks` wants.
    Append { appends: Vec<Append<E>>, acks: Acks, deadline: Instant, reply: oneshot::Sender<Vec<AppendOutcome>> },
    /// Moves a partition's log start (none: to the high watermark), and answers with the new one when Q members have it.
    DeleteRecords {
        partition: TopicIdPartition,
        before: Option<Offset>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Offset, RequestError>>,
    },
    /// Lets go what a partition's retention has passed, if it is led here.
    Retain(TopicIdPartition),
    /// The node is registered. Comes once, before any update; answers when its broker epoch may be made durable.
    Begin { begun: Begun, peers: Option<Peers<E>>, update: Update<E>, marked: oneshot::Sender<()> },
    /// A read has found damage in a partition's log.
    Damaged(TopicIdPartition),
    /// There was no room on the disk for a client's batch.
    Full(TopicIdPartition),
    /// The metadata moved on.
    Update(Update<E>),
    /// Answers with what the replicas of these partitions hold, as far as they are here.
    Report { partitions: Vec<TopicIdPartition>, reply: oneshot::Sender<Vec<(TopicIdPartition, LogReport)>> },
    /// Answers when every one of these partitions is led here and active, or cannot be.
    WhenActive { partitions: Vec<TopicIdPartition>, reply: oneshot::Sender<()> },
}

/// What a task of the shard's own has to tell it.
enum Report<E: Env> {
    /// A step that had to wait was submitted, or could not be.
    Submitted { partition: TopicIdPartition, birth: u64, write: WriteId, result: Result<Ticket, StepError> },
    /// Records for a peer could not be read.
    Unreadable { partition: TopicIdPartition },
    /// Records for a peer were read from a segment.
    Read { to: BrokerId, item: outbox::Item<E> },
    /// The same for a follower that lags; none if they could not be read.
    CaughtUp { partition: TopicIdPartition, to: BrokerId, item: Option<outbox::Item<E>> },
    /// The controller has answered.
    Answer { partition: TopicIdPartition, verdict: Verdict, record: Option<PartitionState> },
    /// The metadata was read behind a barrier.
    Barrier { partition: TopicIdPartition, record: Option<PartitionState> },
    /// The same for a batch behind a gap; no record if it could not be read in time.
    Gap { partition: TopicIdPartition, gap: Gap, record: Option<PartitionState> },
}

/// A step that is in the WAL's queue.
struct Submitted {
    partition: TopicIdPartition,
    birth: u64,
    write: WriteId,
}

/// Somebody who waits for partitions to become active.
struct Awaiting {
    partitions: BTreeSet<TopicIdPartition>,
    reply: oneshot::Sender<()>,
}

/// The state of one shard's task.
pub(crate) struct Shard<E: Env> {
    commands: mpsc::Receiver<Command<E>>,
    frames: mpsc::Receiver<Received>,
    reports: mpsc::Receiver<Report<E>>,
    durable: watch::Receiver<Ticket>,
    timer: Pin<Box<<E::Clock as Clock>::Sleep>>,
    timer_at: Option<Instant>,
    hosted: BTreeMap<TopicIdPartition, Hosted<E>>,
    marked: Option<oneshot::Sender<()>>,
    births: u64,
    hub: Hub<E>,
}

/// What all replicas of a shard share.
struct Hub<E: Env> {
    env: E,
    number: ShardId,
    store: Store<E>,
    asks: mpsc::Sender<Asked>,
    reports: mpsc::Sender<Report<E>>,
    begun: Option<Begun>,
    brokers: BTreeMap<BrokerId, BrokerView>,
    under_way: BTreeMap<Ticket, Vec<Submitted>>,
    timers: BTreeSet<(Instant, TopicIdPartition)>,
    requests: Requests,
    awaiting: Vec<Awaiting>,
    outbox: Outbox<E>,
    catch_up: CatchUp<E>,
    /// Where each shard of this node takes frames: another node may spread its partitions over more or fewer.
    siblings: Vec<mpsc::Sender<Received>>,
}

impl<E: Env> Shard<E> {
    pub(crate) fn new(
        env: E,
        number: ShardId,
        store: &Store<E>,
        asks: mpsc::Sender<Asked>,
        commands: mpsc::Receiver<Command<E>>,
        (siblings, frames): (Vec<mpsc::Sender<Received>>, mpsc::Receiver<Received>),
        pace: Arc<Pace>,
    ) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let hub = Hub {
            env: env.clone(),
            number,
            store: store.clone(),
            asks,
            reports: sender,
            begun: None,
            brokers: BTreeMap::new(),
            under_way: BTreeMap::new(),
            timers: BTreeSet::new(),
            requests: Requests::default(),
            awaiting: Vec::new(),
            outbox: Outbox::new(number),
            catch_up: CatchUp::new(pace),
            siblings,
        };
        Self {
            commands,
            frames,
            reports,
            durable: store.durable(),
            timer: Box::pin(env.clock().sleep_until(Instant::ZERO)),
            timer_at: None,
            hosted: BTreeMap::new(),
            marked: None,
            births: 0,
            hub,
        }
    }

    /// Runs until nobody can send commands any more.
    pub(crate) async fn run(mut self) {
        let mut has_peers = true;
        loop {
            self.set_timer();
            tokio::select! { biased;
                changed = self.durable.changed(), if !self.hub.under_way.is_empty() => match changed {
                    Ok(()) => self.take_durable(),
                    Err(_) => self.hub.env.halt(Fatal::TaskLost, "the write-ahead log's task has ended"),
                },
                report = self.reports.recv() => report.into_iter().for_each(|report| self.on_report(report)),
                () = self.timer.as_mut(), if self.timer_at.is_some() => self.on_time(),
                received = self.frames.recv(), if has_peers => match received {
                    Some(received) => self.on_frame(&received),
                    None => has_peers = false,
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_round(command),
                    None => return,
                },
            }
            if !self.hub.under_way.is_empty() {
                self.take_durable();
            }
            self.hub.outbox.flush();
            self.tell_marked();
        }
    }

    /// The timer is only moved to an earlier time: one that comes too early finds nothing to do.
    fn set_timer(&mut self) {
        let Some((first, _)) = self.hub.timers.first().copied() else { return };
        if self.timer_at.is_none_or(|at| first < at) {
            self.timer_at = Some(first);
            self.timer.as_mut().reset(first);
        }
    }

    fn handle_round(&mut self, first: Command<E>) {
        self.handle(first);
        for _ in 1..COMMANDS_PER_ROUND {
            let Ok(command) = self.commands.try_recv() else { break };
            self.handle(command);
        }
    }

    fn handle(&mut self, command: Command<E>) {
        match command {
            Command::Append { appends, acks, deadline, reply } => {
                let group = self.hub.requests.open(appends.len(), reply);
                for (index, append) in appends.into_iter().enumerate() {
                    let id = append.partition.id;
                    match self.hosted.get_mut(&id) {
                        Some(hosted) => hosted.produce(&mut self.hub, append, acks, deadline, (group, index)),
                        None => {
                            let outcome = AppendOutcome {
                                result: Err(ProduceError::Replica(RequestError::NotLeader)),
                                log_start: Offset(-1),
                            };
                            self.hub.requests.fill(&self.hub.env, (group, index), Ticket::NONE, outcome);
                        }
                    }
                }
            }
            Command::DeleteRecords { partition, before, deadline, reply } => match self.hosted.get_mut(&partition) {
                Some(hosted) => hosted.delete_records(&mut self.hub, before, deadline, reply),
                None => drop(reply.send(Err(RequestError::NotLeader))),
            },
            Command::Retain(partition) => {
                if let Some(hosted) = self.hosted.get_mut(&partition) {
                    hosted.retain(&mut self.hub);
                }
            }
            Command::Begin { begun, peers, update, marked } => {
                self.hub.begun = Some(begun);
                self.hub.outbox.connect(peers);
                self.update(update);
                self.marked = Some(marked);
            }
            Command::Damaged(partition) => self.on_damaged(partition),
            Command::Full(partition) => {
                if let Some(hosted) = self.hosted.get_mut(&partition) {
                    hosted.on_full(&self.hub);
                }
            }
            Command::Update(update) => self.update(update),
            Command::Report { partitions, reply } => {
                let held = partitions.into_iter().filter_map(|id| Some((id, self.hosted.get(&id)?.report(&self.hub)?)));
                // Who asked may be gone.
                drop(reply.send(held.collect()));
            }
            Command::WhenActive { partitions, reply } => self.await_active(partitions, reply),
        }
    }

    fn await_active(&mut self, partitions: Vec<TopicIdPartition>, reply: oneshot::Sender<()>) {
        let is_awaited = |id: &TopicIdPartition| self.hosted.get(id).is_some_and(Hosted::may_become_active);
        let partitions: BTreeSet<_> = partitions.into_iter().filter(is_awaited).collect();
        if partitions.is_empty() {
            // Who asked may be gone.
            let _gone = reply.send(());
        } else {
            self.hub.awaiting.push(Awaiting { partitions, reply });
        }
    }

    /// Takes in what the metadata says: partitions that come and go, records, brokers.
    fn update(&mut self, update: Update<E>) {
        let Update { opened, closed, records, insync_replicas_min, brokers } = update;
        for id in closed {
            if let Some(hosted) = self.hosted.remove(&id) {
                hosted.close(&mut self.hub);
            }
        }
        for (node, view) in &brokers {
            match view {
                Some(view) => drop(self.hub.brokers.insert(*node, *view)),
                None => drop(self.hub.brokers.remove(node)),
            }
        }
        let begun = self.hub.begun.expect("nothing is opened before the node is registered");
        for hosted in self.hosted.values_mut() {
            hosted.see_brokers(&mut self.hub, &brokers, begun);
        }
        for (id, count) in insync_replicas_min {
            self.feed(id, Event::InsyncReplicasMin(count));
        }
        for (id, record) in records {
            self.feed(id, Event::Metadata(record));
        }
        let is_start = self.marked.is_none() && self.hosted.is_empty();
        for opened in opened {
            self.births += 1;
            let id = opened.partition.id;
            let hosted = Hosted::open(&mut self.hub, opened, begun, is_start, self.births);
            self.hosted.insert(id, hosted);
        }
    }

    fn on_damaged(&mut self, id: TopicIdPartition) {
        if let Some(hosted) = self.hosted.get_mut(&id) {
            hosted.on_damaged(&mut self.hub);
        }
    }

    fn feed(&mut self, id: TopicIdPartition, event: Event) {
        if let Some(hosted) = self.hosted.get_mut(&id) {
            hosted.feed(&mut self.hub, event);
        }
    }

    /// Tells replicas which of their steps are durable now.
    fn take_durable(&mut self) {
        let mut durable = *self.durable.borrow_and_update();
        if self.hub.env.probe().planted("broker.acknowledge-unsynced") {
            durable = Ticket(u64::MAX);
        }
        while let Some(entry) = self.hub.under_way.first_entry()
            && *entry.key() <= durable
        {
            for Submitted { partition, birth, write } in entry.remove() {
                if let Some(hosted) = self.hosted.get_mut(&partition).filter(|hosted| hosted.birth == birth) {
                    hosted.on_durable(&mut self.hub, write);
                }
            }
        }
    }

    fn on_report(&mut self, report: Report<E>) {
        match report {
            Report::Submitted { partition, birth, write, result } => {
                if let Some(hosted) = self.hosted.get_mut(&partition).filter(|hosted| hosted.birth == birth) {
                    hosted.on_submitted(&mut self.hub, write, result);
                }
            }
            Report::Unreadable { partition } => self.on_damaged(partition),
            Report::Read { to, item } => self.hub.outbox.push_cold(to, item),
            Report::CaughtUp { partition, to, item } => {
                match item {
                    Some(item) => self.hub.outbox.push_cold(to, item),
                    None => self.on_damaged(partition),
                }
                self.hub.read_next();
            }
            Report::Answer { partition, verdict, record } => self.feed(partition, Event::Answer { verdict, record }),
            Report::Barrier { partition, record } => match record {
                Some(record) => self.feed(partition, Event::Barrier(record)),
                None => tracing::debug!(%partition, "the partition was gone behind the barrier"),
            },
            Report::Gap { partition, gap, record } => match self.hosted.get(&partition) {
                Some(hosted) => hosted.on_gap_answer(&mut self.hub, &gap, record.as_ref()),
                None => gap.not_here(&mut self.hub),
            },
        }
    }

    fn on_time(&mut self) {
        self.timer_at = None;
        let now = self.hub.env.clock().now();
        while let Some((at, id)) = self.hub.timers.first().copied()
            && at <= now
        {
            self.hub.timers.pop_first();
            if let Some(hosted) = self.hosted.get_mut(&id) {
                hosted.on_time(&mut self.hub, at);
            }
        }
    }

    /// A frame of another broker's shard: one event for each of its messages.
    fn on_frame(&mut self, received: &Received) {
        let Some(sender) = frames::sender(&received.from) else { return };
        let items = match frames::decode(received) {
            Ok(items) => items,
            Err(error) => {
                tracing::warn!(from = %received.from.node_id, %error, "a frame that is none was dropped");
                return;
            }
        };
        let shard_count = self.hub.env.shard_count();
        let mut others: BTreeMap<ShardId, Vec<frames::InItem>> = BTreeMap::new();
        for item in items {
            let shard = shard_of(item.partition, shard_count);
            if shard != self.hub.number {
                others.entry(shard).or_default().push(item);
            } else if let Some(hosted) = self.hosted.get_mut(&item.partition) {
                hosted.on_peer(&mut self.hub, sender, item);
            }
        }
        for (shard, items) in others {
            // What a shard has no room for is said again.
            drop(self.hub.siblings[usize::from(shard.0)].try_send(frames::again(received, items)));
        }
    }

    fn tell_marked(&mut self) {
        if self.marked.is_some() && self.hosted.values().all(Hosted::is_marked) {
            // The start may have been given up.
            let _gone = self.marked.take().map(|marked| marked.send(()));
        }
    }
}

impl<E: Env> Hub<E> {
    /// A partition became active, or can't any more.
    fn settle_awaiting(&mut self, id: TopicIdPartition) {
        for awaiting in &mut self.awaiting {
            awaiting.partitions.remove(&id);
        }
        for done in self.awaiting.extract_if(.., |awaiting| awaiting.partitions.is_empty()) {
            let _gone = done.reply.send(());
        }
    }
}
