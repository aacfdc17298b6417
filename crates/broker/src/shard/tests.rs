//! Three shards of three simulated nodes replicate one partition; what a controller would decide, the test decides.

use core::{future::pending, time::Duration};
use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use quipu_base::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
};
use quipu_env::{Clock, Env, File, Net, Segment, ShardId, watch};
use quipu_peer::{Lane, Own, PeerAddress, Peers, Settings};
use quipu_records::{Batch, BatchBuilder, Batches, NewRecord};
use quipu_replication::{
    Acks, Ask, BrokerView, Configuration, ConfigurationVersion, Identity, Member, PartitionState, RequestError, Verdict,
};
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, SimEnv, World};
use quipu_storage::{Class, Store, StoreOptions};
use rand::RngExt as _;
use tokio::sync::{mpsc, oneshot};

use super::{Append, Begun, COMMANDS_MAX, Command, FRAMES_MAX, Opened, Pace, ProduceError, Shard, Update};
use crate::{
    asks::{ASKS_MAX, Asked},
    partition::{Partition, shard_of},
};

const PORT: u16 = 9192;
const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);
const ID: TopicIdPartition = TopicIdPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(0) };

/// A node that runs.
#[derive(Clone)]
struct Up {
    env: SimEnv,
    shards: Vec<mpsc::Sender<Command<SimEnv>>>,
    partition: Arc<Partition<SimEnv>>,
    store: Store<SimEnv>,
    directory_id: DirectoryId,
}

/// What a node is told at its start.
struct Start {
    id: i32,
    broker_epoch: BrokerEpoch,
    last_unfenced: Option<BrokerEpoch>,
    brokers: Vec<(BrokerId, Option<BrokerView>)>,
    record: PartitionState,
    asks: mpsc::Sender<Asked>,
    nodes: i32,
    /// Another number is another disk.
    disk: u32,
}

struct Cluster {
    world: World,
    nodes: BTreeMap<i32, Node>,
    up: BTreeMap<i32, Up>,
    views: BTreeMap<BrokerId, BrokerView>,
    unfenced: BTreeMap<BrokerId, BrokerEpoch>,
    next_epoch: i64,
    record: PartitionState,
    asked: mpsc::Receiver<Asked>,
    asks: mpsc::Sender<Asked>,
    /// Values that were acknowledged, with their offsets.
    acknowledged: Vec<(Offset, String)>,
    produced: usize,
    disks: BTreeMap<i32, u32>,
}

async fn open(env: &SimEnv, id: i32, disk: u32) -> Store<SimEnv> {
    let directory = format!("data-{disk}");
    let options = StoreOptions { tail_bytes: 4 * 1024 * 1024, ..StoreOptions::new(directory, BrokerId(id)) };
    Store::open(env.clone(), options).await.unwrap().0
}

async fn run(env: SimEnv, start: Start, ready: oneshot::Sender<Up>) {
    let Start { id, broker_epoch, last_unfenced, brokers, record, asks, nodes, disk } = start;
    let node = BrokerId(id);
    let store = open(&env, id, disk).await;
    let stored = store.identity().await;
    let member = Member { node, directory_id: stored.directory_id };
    let shard_count = env.shard_count();
    let (siblings, frames): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mpsc::channel(FRAMES_MAX)).unzip();
    let own = Own {
        cluster_id: Some(ClusterId([1; 16])),
        node_id: node,
        directory_id: stored.directory_id,
        start_id: [0; 16],
        broker_epoch: Some(broker_epoch),
        address: None,
    };
    let (_own, watched) = watch::channel(own);
    let listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.unwrap();
    let inboxes = siblings.clone();
    let peers = Peers::start(env.clone(), watched, Some(listener), Settings::default(), move |_, lane| match lane {
        Lane::Tail(shard) | Lane::CatchUp(shard) => Some(inboxes[usize::from(shard % shard_count)].clone()),
        Lane::Quorum | Lane::Control => None,
    });
    for other in (1..=nodes).filter(|other| *other != id) {
        let address = PeerAddress { host: format!("n{other}"), port: PORT };
        peers.set_address(BrokerId(other), Some(address), None);
    }
    let log = store.log(ID);
    let lag_time_max = Duration::from_secs(30);
    let partition = Arc::new(Partition::new(ID, node, log, shard_count, Arc::default()));
    let mut shards = Vec::new();
    for (number, frames) in (0..).map(ShardId).zip(frames) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let inboxes = (siblings.clone(), frames);
        let pace = Arc::new(Pace::new(0));
        let shard = Shard::new(env.clone(), number, &store, asks.clone(), commands, inboxes, pace);
        let _task = env.spawn(number, "shard", shard.run());
        shards.push(sender);
    }
    let identity = Identity { member, stored_incarnation: stored.broker_epoch };
    let begun = Begun { identity, broker_epoch, last_unfenced };
    let mut all_marked = Vec::new();
    for (number, shard) in (0..).map(ShardId).zip(&shards) {
        let mut update = Update { brokers: brokers.clone(), ..Update::default() };
        if shard_of(ID, shard_count) == number {
            let partition = Arc::clone(&partition);
            update.opened.push(Opened { partition, record: record.clone(), insync_replicas_min: 2, lag_time_max });
        }
        let (marked, is_marked) = oneshot::channel();
        let command = Command::Begin { begun, peers: Some(peers.clone()), update, marked };
        assert!(shard.send(command).await.is_ok());
        all_marked.push(is_marked);
    }
    for marked in all_marked {
        marked.await.unwrap();
    }
    store.set_broker_epoch(broker_epoch).await.unwrap();
    assert!(ready.send(Up { env, shards, partition, store, directory_id: stored.directory_id }).is_ok());
    pending::<()>().await;
}

impl Cluster {
    /// So many nodes, all of them replicas; the first one leads.
    async fn new(world: World, nodes: i32) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let names: Vec<i32> = (1..=nodes).collect();
        let mut members = Vec::new();
        let mut made = BTreeMap::new();
        for id in &names {
            let node = world.node(&format!("n{id}"), NodeConfig::default());
            let formatted = node.start({
                let id = *id;
                move |env| async move {
                    let store = open(&env, id, 0).await;
                    let directory_id = store.identity().await.directory_id;
                    store.close().await.unwrap();
                    directory_id
                }
            });
            let directory_id = formatted.join().await.unwrap();
            members.push(Member { node: BrokerId(*id), directory_id });
            made.insert(*id, node);
        }
        let record = PartitionState {
            replicas: names.iter().copied().map(BrokerId).collect(),
            replication_factor: names.len(),
            adding: Vec::new(),
            removing: Vec::new(),
            configuration: Configuration::new(members, 2, names.len()).unwrap(),
            version: ConfigurationVersion(0),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            unclean_epoch: LeaderEpoch::NONE,
        };
        let mut cluster = Self {
            world,
            nodes: made,
            up: BTreeMap::new(),
            views: BTreeMap::new(),
            unfenced: BTreeMap::new(),
            next_epoch: 10,
            record,
            asked,
            asks,
            acknowledged: Vec::new(),
            produced: 0,
            disks: BTreeMap::new(),
        };
        for id in names {
            cluster.start(id).await;
        }
        cluster
    }

    async fn start(&mut self, id: i32) {
        let node = BrokerId(id);
        self.next_epoch += 1;
        let broker_epoch = BrokerEpoch(self.next_epoch);
        if self.record.leader == Some(node) && self.unfenced.contains_key(&node) {
            self.record.leader_epoch = self.record.leader_epoch.next();
            self.tell_record().await;
        }
        let (ready, is_ready) = oneshot::channel();
        let start = Start {
            id,
            broker_epoch,
            last_unfenced: self.unfenced.get(&node).copied(),
            brokers: self.views.iter().map(|(node, view)| (*node, Some(*view))).collect(),
            record: self.record.clone(),
            asks: self.asks.clone(),
            nodes: i32::try_from(self.nodes.len()).unwrap(),
            disk: self.disks.get(&id).copied().unwrap_or(0),
        };
        drop(self.nodes[&id].start(move |env| run(env, start, ready)));
        let up = is_ready.await.unwrap();
        let view = BrokerView { directory_id: up.directory_id, broker_epoch, live: true };
        self.up.insert(id, up);
        self.unfenced.insert(node, broker_epoch);
        self.views.insert(node, view);
        self.tell_broker(node).await;
        // What it missed since it was started.
        self.tell_record().await;
    }

    async fn tell(&self, update: impl Fn() -> Update<SimEnv>) {
        for up in self.up.values() {
            for shard in &up.shards {
                // A node that is down hears it when it starts.
                let _down = shard.send(Command::Update(update())).await.is_err();
            }
        }
    }

    async fn tell_record(&self) {
        self.tell(|| Update { records: vec![(ID, self.record.clone())], ..Update::default() }).await;
    }

    async fn tell_broker(&self, node: BrokerId) {
        let view = self.views.get(&node).copied();
        self.tell(|| Update { brokers: vec![(node, view)], ..Update::default() }).await;
    }

    /// The node is gone, and the controller has noticed.
    async fn lose(&mut self, id: i32) {
        self.up.remove(&id);
        let node = BrokerId(id);
        if let Some(view) = self.views.get_mut(&node) {
            view.live = false;
        }
        self.tell_broker(node).await;
        if self.record.leader == Some(node) {
            self.elect_any().await;
        }
    }

    async fn elect_any(&mut self) {
        let own = self.record.leader;
        let members = self.record.configuration.members.iter();
        let is_live = |member: &&Member| self.views.get(&member.node).is_some_and(|view| view.live);
        let mut live: Vec<BrokerId> = members.filter(is_live).map(|member| member.node).collect();
        // Another one, if there is one.
        live.sort_by_key(|node| Some(*node) == own);
        self.elect(live.first().copied()).await;
    }

    async fn elect(&mut self, leader: Option<BrokerId>) {
        self.record.leader = leader;
        self.record.leader_epoch = self.record.leader_epoch.next();
        self.tell_record().await;
    }

    /// Decides what replicas ask.
    async fn serve(&mut self) {
        while let Ok(asked) = self.asked.try_recv() {
            match asked {
                Asked::Barrier { reply, .. } => drop(reply.send(Some(self.record.clone()))),
                Asked::Ask { ask, reply, .. } => {
                    let verdict = self.decide(ask).await;
                    drop(reply.send((verdict, Some(self.record.clone()))));
                }
            }
        }
    }

    async fn decide(&mut self, ask: Ask) -> Verdict {
        match ask {
            Ask::Change { epoch, version, configuration } => {
                if epoch != self.record.leader_epoch || version != self.record.version {
                    return Verdict::Conflict;
                }
                self.record.configuration = configuration;
                self.record.version = ConfigurationVersion(version.0 + 1);
                self.tell_record().await;
                Verdict::Accepted
            }
            Ask::GiveUp { epoch, .. } | Ask::Prefer { epoch, .. } if epoch != self.record.leader_epoch => {
                Verdict::Conflict
            }
            Ask::GiveUp { .. } => {
                self.elect_any().await;
                Verdict::Accepted
            }
            Ask::Prefer { reporter, .. } => {
                self.elect(Some(reporter.node)).await;
                Verdict::Accepted
            }
        }
    }

    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = self.world.elapsed();
        while !holds(self) {
            assert!(self.world.elapsed() - begun < PATIENCE, "not in time: {what}; {:?}", self.record);
            self.serve().await;
            self.world.sleep(5 * MS).await;
        }
    }

    fn leader(&self) -> Option<&Up> {
        let leader = self.record.leader?;
        self.up.get(&leader.get()).filter(|up| up.partition.active_epoch() == Some(self.record.leader_epoch))
    }

    async fn until_led(&mut self) {
        self.until("a leader is active", |cluster| cluster.leader().is_some()).await;
    }

    /// Produces one record to whoever leads; `None` if nobody did, or the outcome is not known.
    async fn produce(&mut self, acks: Acks) -> Option<Result<Offset, ProduceError>> {
        self.produced += 1;
        let value = format!("value {}", self.produced);
        let result = self.send(batch(&value), acks).await?;
        if let Ok(offset) = &result
            && acks == Acks::All
        {
            self.acknowledged.push((*offset, value));
        }
        Some(result)
    }

    /// One batch, and what becomes of it.
    async fn send(&mut self, batch: Batch, acks: Acks) -> Option<Result<Offset, ProduceError>> {
        let up = self.leader()?.clone();
        let reservation = up.store.reserve(batch.bytes().len(), Class::Normal).await.ok()?;
        let (reply, mut outcome) = oneshot::channel();
        let partition = Arc::clone(&up.partition);
        let shard = usize::from(partition.shard.0);
        let append = Append { partition, batch, reservation, only_in: None };
        let deadline = up.env.clock().now() + Duration::from_secs(20);
        up.shards[shard].send(Command::Append { appends: vec![append], acks, deadline, reply }).await.ok()?;
        drop(up);
        loop {
            match outcome.try_recv() {
                Ok(outcomes) => {
                    let [outcome] = <[_; 1]>::try_from(outcomes).ok().unwrap();
                    return Some(outcome.result);
                }
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            self.serve().await;
            self.world.sleep(MS / 2).await;
        }
    }

    /// One batch of so many records, which nobody remembers.
    async fn produce_batch(&mut self, records: usize) {
        let up = self.leader().unwrap().clone();
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            let value = Some(&b"one of many"[..]);
            builder.push(&NewRecord { timestamp: quipu_base::Timestamp(1), key: None, value, headers: &[] }).unwrap();
        }
        let batch = builder.build().unwrap();
        let reservation = up.store.reserve(batch.bytes().len(), Class::Normal).await.unwrap();
        let (reply, outcome) = oneshot::channel();
        let (partition, shard) = (Arc::clone(&up.partition), usize::from(up.partition.shard.0));
        let appends = vec![Append { partition, batch, reservation, only_in: None }];
        let deadline = up.env.clock().now() + PATIENCE;
        let command = Command::Append { appends, acks: Acks::All, deadline, reply };
        assert!(up.shards[shard].send(command).await.is_ok());
        self.until("the batch is kept", |_| !outcome.is_empty()).await;
    }

    async fn produce_many(&mut self, count: usize) {
        for _ in 0..count {
            self.produce(Acks::All).await.unwrap().unwrap();
        }
    }

    /// Everybody has everything, and the same.
    async fn check_all(&mut self) {
        let names: Vec<i32> = self.nodes.keys().copied().collect();
        let all = names.len();
        self.until("all are members", |cluster| cluster.record.configuration.members.len() == all).await;
        self.until_led().await;
        while !matches!(self.produce(Acks::All).await, Some(Ok(_))) {
            self.until_led().await;
        }
        self.until("all know everything committed", |cluster| {
            let ends: Vec<Offset> = cluster.up.values().map(|up| up.partition.high_watermark()).collect();
            let end = cluster.leader().map(|up| up.partition.log.offsets().log_end);
            ends.len() == all && ends.iter().all(|known| Some(*known) == end)
        })
        .await;
        let mut copies = Vec::new();
        for up in self.up.values() {
            copies.push(bytes_of(&up.partition).await);
        }
        assert!(copies.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ");
        let kept = values(&copies[0]);
        for (offset, value) in &self.acknowledged {
            assert_eq!(kept.get(offset), Some(value), "acknowledged at {offset}");
        }
    }
}

fn batch(value: &str) -> Batch {
    let mut builder = BatchBuilder::new();
    let value = Some(value.as_bytes());
    builder.push(&NewRecord { timestamp: quipu_base::Timestamp(1), key: None, value, headers: &[] }).unwrap();
    builder.build().unwrap()
}

async fn bytes_of(partition: &Partition<SimEnv>) -> Vec<u8> {
    let mut all = BytesMut::new();
    let mut offset = partition.log.offsets().log_start;
    while offset < partition.high_watermark() {
        let read = partition.log.read(offset, partition.high_watermark(), 1 << 20, true).await.unwrap();
        for segment in read.segments {
            match segment {
                Segment::Bytes(bytes) => all.extend_from_slice(&bytes),
                Segment::File { file, position, length } => {
                    all.extend_from_slice(&file.read_at(position, length).await.unwrap());
                }
            }
        }
        offset = read.next_offset;
    }
    all.to_vec()
}

fn values(bytes: &[u8]) -> BTreeMap<Offset, String> {
    let mut values = BTreeMap::new();
    for batch in Batches::new(bytes.to_vec().into()) {
        let batch = batch.unwrap();
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            values.insert(record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

fn each_seed<F: Future<Output = ()>>(seeds: core::ops::Range<u64>, scenario: impl Fn(World) -> F + Send + Sync) {
    for seed in seeds {
        Sim::new(seed, SimConfig::default()).run(&scenario);
    }
}

#[test]
fn records_reach_all_replicas_and_survive_the_leader() {
    each_seed(0..5, |world| async move {
        let mut cluster = Cluster::new(world, 3).await;
        cluster.until_led().await;
        cluster.produce_many(30).await;
        cluster.nodes[&1].power_cut();
        cluster.lose(1).await;
        cluster.until_led().await;
        cluster.produce_many(30).await;
        cluster.start(1).await;
        cluster.check_all().await;
    });
}

#[test]
fn a_minority_acknowledges_nothing_and_says_why() {
    each_seed(0..3, |world| async move {
        let mut cluster = Cluster::new(world, 3).await;
        cluster.until_led().await;
        cluster.produce_many(5).await;
        for id in [2, 3] {
            cluster.nodes[&id].kill();
            cluster.lose(id).await;
        }
        let refused = cluster.produce(Acks::All).await.unwrap();
        assert!(matches!(refused, Err(ProduceError::Replica(RequestError::NotEnoughReplicas))), "{refused:?}");
        assert!(cluster.produce(Acks::Leader).await.unwrap().is_ok());
        cluster.start(2).await;
        cluster.start(3).await;
        cluster.check_all().await;
    });
}

/// A gap that comes of a refusal is not told as one: some clients then take a new producer epoch and write twice what was kept.
#[test]
fn what_is_behind_a_batch_that_was_refused_waits_for_it() {
    each_seed(0..3, |world| async move {
        let mut cluster = Cluster::new(world, 3).await;
        cluster.until_led().await;
        let numbered = |sequence: i32| {
            let mut builder = BatchBuilder::new().producer(
                quipu_base::ProducerId(7),
                quipu_base::ProducerEpoch(0),
                quipu_base::Sequence(sequence),
            );
            let value = Some(&b"numbered"[..]);
            builder.push(&NewRecord { timestamp: quipu_base::Timestamp(1), key: None, value, headers: &[] }).unwrap();
            builder.build().unwrap()
        };
        cluster.send(numbered(0), Acks::All).await.unwrap().unwrap();
        for id in [2, 3] {
            cluster.nodes[&id].kill();
            cluster.lose(id).await;
        }
        let is_refused = |outcome: Option<Result<Offset, ProduceError>>| {
            matches!(outcome, Some(Err(ProduceError::Replica(RequestError::NotEnoughReplicas))))
        };
        assert!(is_refused(cluster.send(numbered(1), Acks::All).await), "two of three are gone");
        // One that this leader would take now, but for the one before it.
        assert!(is_refused(cluster.send(numbered(2), Acks::Leader).await), "for the same reason");
        assert!(cluster.send(numbered(1), Acks::Leader).await.unwrap().is_ok(), "it has come again");
        assert!(cluster.send(numbered(2), Acks::Leader).await.unwrap().is_ok());
        let gap = cluster.send(numbered(4), Acks::Leader).await.unwrap();
        assert!(matches!(gap, Err(ProduceError::Log(_))), "nothing was refused before this one: {gap:?}");
    });
}

#[test]
fn nothing_acknowledged_is_lost_whoever_fails_when() {
    each_seed(0..20, |world| async move {
        let mut rng = world.rng("failures");
        let mut cluster = Cluster::new(world, 3).await;
        for _ in 0..12 {
            cluster.until_led().await;
            for _ in 0..rng.random_range(0..20) {
                // Whatever becomes of it.
                let _outcome = cluster.produce(Acks::All).await;
            }
            let id = rng.random_range(1..=3);
            if rng.random() {
                cluster.nodes[&id].power_cut();
            } else {
                cluster.nodes[&id].kill();
            }
            cluster.lose(id).await;
            for _ in 0..rng.random_range(0..10) {
                let _outcome = cluster.produce(Acks::All).await;
            }
            cluster.start(id).await;
        }
        cluster.check_all().await;
    });
}

#[test]
fn a_replica_is_rebuilt_from_a_log_that_begins_inside_a_batch() {
    each_seed(0..3, |world| async move {
        let mut cluster = Cluster::new(world, 3).await;
        cluster.until_led().await;
        cluster.produce_batch(10).await;
        cluster.produce_many(5).await;
        cluster.nodes[&2].power_cut();
        cluster.lose(2).await;
        cluster.disks.insert(2, 1);
        cluster.until_led().await;
        let up = cluster.leader().unwrap().clone();
        let (reply, answer) = oneshot::channel();
        let deadline = up.env.clock().now() + PATIENCE;
        let before = Some(Offset(4));
        let command = Command::DeleteRecords { partition: ID, before, deadline, reply };
        assert!(up.shards[usize::from(up.partition.shard.0)].send(command).await.is_ok());
        cluster.until("it is deleted", |_| !answer.is_empty()).await;
        cluster.start(2).await;
        cluster.acknowledged.retain(|(offset, _)| *offset >= Offset(4));
        cluster.check_all().await;
        assert!(cluster.up.values().all(|up| up.partition.log.offsets().log_start == Offset(4)));
    });
}

#[test]
fn a_wiped_replica_is_rebuilt_from_its_peers() {
    each_seed(0..5, |world| async move {
        let mut cluster = Cluster::new(world, 3).await;
        cluster.until_led().await;
        cluster.produce_many(30).await;
        cluster.nodes[&2].power_cut();
        cluster.lose(2).await;
        cluster.disks.insert(2, 1);
        cluster.produce_many(10).await;
        cluster.start(2).await;
        cluster.check_all().await;
    });
}
