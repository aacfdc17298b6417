//! A simulated cluster, and a client that asks one node at a time.

use core::{future::pending, time::Duration};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
};

use quipu_base::{BrokerId, Timestamp};
use quipu_broker::{Broker, Config, HostPort};
use quipu_env::{Env, Net};
use quipu_protocol::{
    ErrorCode, Request, Response,
    messages::{
        create_topics::CreatableReplicaAssignment,
        describe_cluster::DescribeClusterRequest,
        metadata::{MetadataRequest, MetadataResponse, MetadataResponsePartition},
    },
};
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, SimEnv, World};
use quipu_wire_client::{
    Connection,
    requests::{self, FetchBounds, Producer, TopicRef},
};
use tokio::sync::oneshot;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a start: the broker, or status and sentence.
pub(crate) type Outcome = Result<(), (u8, String)>;

type Slot = Arc<Mutex<Option<Result<Arc<Broker<SimEnv>>, (u8, String)>>>>;

pub(crate) fn run<F: Future<Output = ()>>(seeds: Range<u64>, scenario: impl Fn(World) -> F + Send + Sync) {
    for seed in seeds {
        Sim::new(seed, SimConfig::default()).run(&scenario);
    }
}

pub(crate) struct Cluster {
    world: World,
    client: Node,
    nodes: BTreeMap<i32, Node>,
    configs: BTreeMap<i32, Config>,
    slots: BTreeMap<i32, Slot>,
    stops: BTreeMap<i32, oneshot::Sender<()>>,
}

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

impl Cluster {
    pub(crate) fn new(world: &World, count: i32) -> Self {
        let names: Vec<(i32, String)> = (1..=count).map(|id| (id, format!("n{id}"))).collect();
        let voters: BTreeMap<_, _> = names.iter().map(|(id, name)| (BrokerId(*id), at(name, 9192))).collect();
        let config = |id: i32, name: &str| Config {
            node_id: BrokerId(id),
            data_dir: "data".into(),
            listen: at("0.0.0.0", 9092),
            advertise: Some(at(name, 9092)),
            peer_listen: Some(at("0.0.0.0", 9192)),
            peer_advertise: Some(at(name, 9192)),
            voters: voters.clone(),
            insecure_listen: true,
            wal_file_bytes: 16 * 1024 * 1024,
            ..Config::default()
        };
        Self {
            world: world.clone(),
            client: world.node("client", NodeConfig::default()),
            nodes: names.iter().map(|(id, name)| (*id, world.node(name, NodeConfig::default()))).collect(),
            configs: names.iter().map(|(id, name)| (*id, config(*id, name))).collect(),
            slots: BTreeMap::new(),
            stops: BTreeMap::new(),
        }
    }

    pub(crate) fn change(&mut self, change: impl Fn(&mut Config)) {
        self.configs.values_mut().for_each(change);
    }

    pub(crate) fn config(&self, id: i32) -> Config {
        self.configs[&id].clone()
    }

    pub(crate) fn node(&self, id: i32) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn broker(&self, id: i32) -> Arc<Broker<SimEnv>> {
        let slot = self.slots[&id].lock().unwrap();
        Arc::clone(slot.as_ref().unwrap().as_ref().unwrap())
    }

    /// Starts a process that runs the broker until it is killed.
    pub(crate) fn begin(&mut self, id: i32) -> Slot {
        self.begin_with(id, self.config(id))
    }

    fn begin_with(&mut self, id: i32, config: Config) -> Slot {
        let slot = Slot::default();
        self.slots.insert(id, Arc::clone(&slot));
        let filled = Arc::clone(&slot);
        let (stop, stopped) = oneshot::channel();
        self.stops.insert(id, stop);
        drop(self.nodes[&id].start(|env| async move {
            let started = Broker::start(config, env).await;
            let failed = started.is_err();
            let started = started.map(Arc::new).map_err(|error| (error.exit_status(), error.to_string()));
            *filled.lock().unwrap() = Some(started);
            if failed {
                return;
            }
            if stopped.await.is_err() {
                pending::<()>().await;
            }
            let broker = filled.lock().unwrap().take().unwrap().unwrap();
            Arc::into_inner(broker).expect("nobody looks at it now").shutdown().await.unwrap();
        }));
        slot
    }

    /// Stops a node as a signal does, and waits for its end.
    pub(crate) async fn stop(&mut self, id: i32) {
        self.stops.remove(&id).unwrap().send(()).unwrap();
        self.nodes[&id].wait_down().await;
    }

    pub(crate) async fn outcome(&self, slot: Slot) -> Outcome {
        let begun = self.world.elapsed();
        loop {
            if let Some(outcome) = slot.lock().unwrap().as_ref() {
                return outcome.as_ref().map(|_| ()).map_err(Clone::clone);
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "a start takes too long");
            self.world.sleep(MS).await;
        }
    }

    pub(crate) async fn start_with(&mut self, id: i32, config: Config) -> Outcome {
        let slot = self.begin_with(id, config);
        self.outcome(slot).await
    }

    pub(crate) async fn start(&mut self, id: i32) {
        let slot = self.begin(id);
        self.outcome(slot).await.unwrap();
    }

    pub(crate) async fn start_all(&mut self) {
        let ids: Vec<i32> = self.nodes.keys().copied().collect();
        let slots: Vec<Slot> = ids.into_iter().map(|id| self.begin(id)).collect();
        for slot in slots {
            self.outcome(slot).await.unwrap();
        }
    }

    pub(crate) async fn status(&self, id: i32) -> quipu_raft::Status {
        self.broker(id).quorum_status().await.unwrap()
    }

    /// The leader of the quorum, once all nodes that are up agree on it.
    pub(crate) async fn one_leader(&self) -> i32 {
        let up: Vec<i32> = self.nodes.iter().filter(|(_, node)| node.is_up()).map(|(id, _)| *id).collect();
        self.one_leader_of(&up).await
    }

    pub(crate) async fn one_leader_of(&self, ids: &[i32]) -> i32 {
        let begun = self.world.elapsed();
        loop {
            let mut seen = Vec::new();
            for id in ids {
                let status = self.status(*id).await;
                seen.push((status.epoch, status.leader.map(|leader| leader.id.0)));
            }
            if let Some((_, Some(leader))) = seen.first().copied()
                && seen.iter().all(|other| *other == seen[0])
                && self.nodes[&leader].is_up()
            {
                return leader;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "no leader: {seen:?}");
            self.world.sleep(10 * MS).await;
        }
    }

    /// Asks one node.
    pub(crate) async fn call(&self, id: i32, version: i16, request: impl Into<Request>) -> Result<Response, String> {
        let (host, request) = (format!("n{id}"), request.into());
        let asking = self.client.start(move |env| async move {
            let address = env.net().resolve(&host, 9092).await.unwrap()[0];
            let failed = |error: quipu_wire_client::CallError| error.to_string();
            let mut connection = Connection::connect(&env, address, PATIENCE).await.map_err(failed)?;
            connection.call(version, request).await.map_err(failed)
        });
        asking.join().await.unwrap()
    }

    /// Creates a topic, of as many partitions as `configs` says under that name.
    pub(crate) async fn try_create_topic(&self, id: i32, name: &str, configs: &[(&str, &str)]) -> Result<(), String> {
        let partitions = configs.iter().find(|(name, _)| *name == "partitions");
        let partitions = partitions.map_or(1, |(_, count)| count.parse().unwrap());
        let request = requests::create_topic(name, partitions, &[]);
        let Response::CreateTopics(response) = self.call(id, 7, request).await? else { panic!("another answer") };
        match ErrorCode::from_code(response.topics[0].error_code) {
            Some(ErrorCode::None) => Ok(()),
            code => Err(format!("{code:?}: {:?}", response.topics[0].error_message)),
        }
    }

    /// Creates a topic, as a client does that tries again.
    pub(crate) async fn create_topic(&self, id: i32, name: &str, configs: &[(&str, &str)]) {
        let begun = self.world.elapsed();
        loop {
            match self.try_create_topic(id, name, configs).await {
                Ok(()) => return,
                Err(why) if why.contains("TopicAlreadyExists") => return,
                Err(why) => assert!(self.world.elapsed() - begun < PATIENCE, "{name}: {why}"),
            }
            self.world.sleep(50 * MS).await;
        }
    }

    pub(crate) async fn metadata(&self, id: i32) -> MetadataResponse {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let Response::Metadata(response) = self.call(id, 12, request).await.unwrap() else { panic!("another answer") };
        response
    }

    pub(crate) async fn topics(&self, id: i32) -> Vec<String> {
        let response = self.metadata(id).await;
        response.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect()
    }

    pub(crate) async fn wait_for_topics(&self, id: i32, names: &[&str]) {
        let begun = self.world.elapsed();
        loop {
            let topics = self.topics(id).await;
            if names.iter().all(|name| topics.iter().any(|topic| topic == name)) {
                return;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "node {id} has only {topics:?}");
            self.world.sleep(10 * MS).await;
        }
    }

    /// Creates a topic whose partition 0 is held by these.
    pub(crate) async fn create_on(&self, id: i32, name: &str, replicas: &[i32], configs: &[(&str, &str)]) {
        let mut request = requests::create_topic(name, -1, configs);
        let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.to_vec() };
        request.topics[0].replication_factor = -1;
        request.topics[0].assignments = vec![assignment];
        let begun = self.world.elapsed();
        loop {
            let asked = self.call(id, 7, request.clone()).await;
            let code = match &asked {
                Ok(Response::CreateTopics(response)) => ErrorCode::from_code(response.topics[0].error_code),
                _ => None,
            };
            if matches!(code, Some(ErrorCode::None | ErrorCode::TopicAlreadyExists)) {
                return;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "{name}: {asked:?}");
            self.world.sleep(50 * MS).await;
        }
    }

    /// Partition 0 of a topic as a node tells of it.
    pub(crate) async fn partition(&self, id: i32, topic: &str) -> MetadataResponsePartition {
        let response = self.metadata(id).await;
        let topic = response.topics.into_iter().find(|known| known.name.as_deref() == Some(topic)).unwrap();
        topic.partitions.into_iter().find(|partition| partition.partition_index == 0).unwrap()
    }

    /// Waits until a node tells of partition 0 of a topic what is wanted.
    pub(crate) async fn wait_for_partition(
        &self,
        id: i32,
        topic: &str,
        is_wanted: impl Fn(&MetadataResponsePartition) -> bool,
    ) -> MetadataResponsePartition {
        let begun = self.world.elapsed();
        loop {
            let partition = self.partition(id, topic).await;
            if is_wanted(&partition) {
                return partition;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "node {id}, {topic}: {partition:?}");
            self.world.sleep(50 * MS).await;
        }
    }

    async fn topic_ref(&self, id: i32, topic: &str) -> TopicRef {
        let response = self.metadata(id).await;
        let known = response.topics.into_iter().find(|known| known.name.as_deref() == Some(topic)).unwrap();
        TopicRef { name: topic.to_owned(), id: known.topic_id }
    }

    /// Sends one record to partition 0 through its leader. The error, if it is not acknowledged within the time.
    pub(crate) async fn try_produce(
        &self,
        leader: i32,
        topic: &str,
        value: &str,
        limit: Duration,
    ) -> Result<i64, String> {
        self.try_produce_as(leader, topic, value, limit, None).await
    }

    async fn try_produce_as(
        &self,
        leader: i32,
        topic: &str,
        value: &str,
        limit: Duration,
        producer: Option<Producer>,
    ) -> Result<i64, String> {
        let topic = self.topic_ref(leader, topic).await;
        let batch = requests::batch(&[value], Timestamp(1), producer).into_bytes();
        let limit = i32::try_from(limit.as_millis()).unwrap();
        let request = requests::produce(&topic, -1, limit, vec![(0, batch)]);
        let Response::Produce(response) = self.call(leader, 13, request).await? else { panic!("another answer") };
        let partition = &response.responses[0].partition_responses[0];
        match ErrorCode::from_code(partition.error_code) {
            Some(ErrorCode::None) => Ok(partition.base_offset),
            code => Err(format!("{code:?}: {:?}", partition.error_message)),
        }
    }

    /// Sends one record, as a client does that tries again, asking `id` who leads.
    pub(crate) async fn produce(&self, id: i32, topic: &str, value: &str) -> i64 {
        self.produce_as(id, topic, value, None).await
    }

    /// The same, as an idempotent producer.
    pub(crate) async fn produce_as(&self, id: i32, topic: &str, value: &str, producer: Option<Producer>) -> i64 {
        let begun = self.world.elapsed();
        loop {
            let leader = self.partition(id, topic).await.leader_id;
            let asked = if leader < 0 {
                Err("nobody leads".to_owned())
            } else {
                self.try_produce_as(leader, topic, value, 5 * SECOND, producer).await
            };
            match asked {
                Ok(offset) => return offset,
                Err(why) => assert!(self.world.elapsed() - begun < PATIENCE, "{topic}: {why}"),
            }
            self.world.sleep(50 * MS).await;
        }
    }

    /// What a node serves of partition 0, from its beginning; the error's code, if it says that it can't.
    pub(crate) async fn try_fetch(&self, id: i32, topic: &str) -> Result<Vec<(i64, String)>, i16> {
        let named = self.topic_ref(id, topic).await;
        let request = requests::fetch(&named, &[(0, 0)], FetchBounds::NOW);
        let Ok(Response::Fetch(response)) = self.call(id, 16, request).await else { panic!("another answer") };
        let data = &response.responses[0].partitions[0];
        if data.error_code != 0 {
            return Err(data.error_code);
        }
        let records = requests::records_of(data).unwrap().into_iter();
        Ok(records.map(|(offset, value)| (offset, String::from_utf8(value.to_vec()).unwrap())).collect())
    }

    /// Everything in partition 0 that its leader serves.
    pub(crate) async fn stored(&self, id: i32, topic: &str) -> Vec<(i64, String)> {
        let begun = self.world.elapsed();
        loop {
            let leader = self.partition(id, topic).await.leader_id;
            if leader >= 0
                && let Ok(stored) = self.try_fetch(leader, topic).await
            {
                return stored;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "{topic} is not served");
            self.world.sleep(50 * MS).await;
        }
    }

    /// The brokers that are not fenced, as a node sees it. (Metadata lists a lost one for a while.)
    async fn serving(&self, id: i32) -> Vec<i32> {
        let request = DescribeClusterRequest { include_fenced_brokers: true, ..Default::default() };
        let Response::DescribeCluster(response) = self.call(id, 2, request).await.unwrap() else {
            panic!("another answer")
        };
        response.brokers.iter().filter(|broker| !broker.is_fenced).map(|broker| broker.broker_id).collect()
    }

    /// The brokers that clients are told of.
    pub(crate) async fn listed_brokers(&self, id: i32) -> Vec<i32> {
        let mut brokers: Vec<i32> = self.metadata(id).await.brokers.iter().map(|broker| broker.node_id).collect();
        brokers.sort_unstable();
        brokers
    }

    /// Waits until these and no others are alive, as a node sees it.
    pub(crate) async fn wait_for_brokers(&self, id: i32, expected: &[i32]) {
        let begun = self.world.elapsed();
        loop {
            let mut brokers = self.serving(id).await;
            brokers.sort_unstable();
            if brokers == expected {
                return;
            }
            assert!(self.world.elapsed() - begun < PATIENCE, "node {id} sees {brokers:?}");
            self.world.sleep(10 * MS).await;
        }
    }
}
