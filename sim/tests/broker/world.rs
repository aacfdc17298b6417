//! One world: a broker on its machine, producers and readers on theirs, and who cares for the broker meanwhile.

use core::{future::Future, time::Duration};
use std::sync::{Arc, atomic::Ordering};

use quipu_env::{Env, ShardId, Task};
use quipu_sim::{Latency, LinkSettings, Node, NodeConfig, SimEnv, World, env::SimTask};
use quipu_storage::{Store, StoreOptions};
use quipu_wire_client::requests::TopicRef;
use tokio::sync::oneshot;

use crate::{
    clients::{Scene, audit, create_topic, follow, produce},
    server::{End, Server},
    setup::{DATA_DIR, Setup, show_log},
};

/// An empty group, which proves the last one durable, may follow the last checkpoint.
const PROOF_BYTES: u64 = 4096;

/// All that is in a world.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) scene: Scene,
    pub(crate) server: Server,
    pub(crate) clients: Node,
}

/// What the producers have sent, and where to.
#[derive(Clone)]
pub(crate) struct Sent {
    topic: TopicRef,
    /// By producer, then by partition: records.
    counts: Vec<Vec<u32>>,
}

impl Stage {
    /// Machines on which nothing runs yet.
    pub(crate) fn new(world: &World, setup: Setup) -> Self {
        show_log();
        let setup = Arc::new(setup);
        let server = Server::new(world, &setup);
        let clients = world.node("clients", NodeConfig::default());
        Self { world: world.clone(), scene: Scene::new(&setup), server, clients }
    }

    /// Makes the network so fast that a client has its answer at the moment at which the broker gives it.
    pub(crate) fn without_latency(&self) {
        let link = || LinkSettings { latency: Latency::Uniform { min: Duration::ZERO, max: Duration::ZERO } };
        self.world.set_link(&self.server.node, &self.clients, link());
        self.world.set_link(&self.clients, &self.server.node, link());
    }

    /// Lets producers and readers run to their end and looks at everything then, while `care` keeps the broker up.
    pub(crate) async fn play(&self, care: impl Future<Output = ()>) -> Sent {
        tokio::select! { biased;
            sent = self.run_clients() => sent,
            () = care => panic!("who cares for the broker has left"),
        }
    }

    async fn run_clients(&self) -> Sent {
        let scene = self.scene.clone();
        let work = |env: SimEnv| async move {
            let topic = create_topic(env.clone(), Arc::clone(&scene.setup)).await;
            let readers: Vec<SimTask> = (0..scene.setup.readers)
                .map(|_| env.spawn(ShardId(1), "reader", follow(env.clone(), scene.clone(), topic.clone())))
                .collect();
            let counts = run_producers(&env, &scene, &topic).await;
            scene.over.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().await;
            }
            let sent = Sent { topic, counts };
            audit(env, scene, sent.topic.clone(), sent.counts.clone()).await;
            sent
        };
        self.clients.start(work).join().await.expect("nobody ends the clients")
    }

    /// Looks at everything again.
    pub(crate) async fn audit(&self, sent: &Sent) {
        let (scene, sent) = (self.scene.clone(), sent.clone());
        let audited = self.clients.start(|env| audit(env, scene, sent.topic, sent.counts));
        audited.join().await.expect("nobody ends the clients");
    }

    /// Starts the broker if need be, and stops it as one should. Then the data directory needs no recovery, and a broker on it
    /// has everything.
    pub(crate) async fn stop_and_look_again(&self, sent: &Sent) {
        self.server.node.kill();
        self.server.node.forget_crash_points();
        self.server.node.with_disk(|disk| disk.set_crash_plan(None));
        let process = self.server.start();
        self.server.ready().await;
        self.server.stop();
        let end = process.ended().await;
        assert!(matches!(end, End::Stopped), "the broker was asked to stop: {end}");
        let options = StoreOptions::new(DATA_DIR, quipu_base::BrokerId(1));
        let opened = self.server.node.start(|env| async move {
            let (store, report) = Store::open(env, options).await.expect("the directory is fine");
            store.close().await.expect("nothing fails");
            report
        });
        let report = opened.join().await.expect("nothing ends it");
        let clean = report.cut.is_empty() && report.damage.is_empty() && report.recovered_bytes <= PROOF_BYTES;
        assert!(clean, "after a clean stop: {report:?}");
        let process = self.server.start();
        self.audit(sent).await;
        self.server.stop();
        let end = process.ended().await;
        assert!(matches!(end, End::Stopped), "the broker was asked to stop: {end}");
    }
}

async fn run_producers(env: &SimEnv, scene: &Scene, topic: &TopicRef) -> Vec<Vec<u32>> {
    let start = |number| {
        let (done, counts) = oneshot::channel();
        let producer = produce(env.clone(), scene.clone(), topic.clone(), number);
        let _task = env.spawn(ShardId(0), "producer", async move {
            assert!(done.send(producer.await).is_ok(), "somebody waits for it");
        });
        counts
    };
    let producers: Vec<_> = (0..scene.setup.producers).map(start).collect();
    let mut counts = Vec::new();
    for producer in producers {
        counts.push(producer.await.expect("a producer never gives up"));
    }
    counts
}
