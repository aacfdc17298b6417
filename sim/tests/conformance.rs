//! The simulated world does what the real one does: the suite that both must pass, under several seeds.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use quipu_conformance::{World, find};
use quipu_sim::{
    Latency, LinkSettings, Node, NodeConfig, Sim, SimConfig, SimEnv,
    disk::{Fault, FaultRule},
};

const SEEDS: u64 = 8;

#[derive(Clone)]
struct SimWorld {
    env: SimEnv,
    node: Node,
    host: IpAddr,
}

impl World for SimWorld {
    type Env = SimEnv;

    fn env(&self) -> &SimEnv {
        &self.env
    }

    fn directory(&self) -> &Path {
        Path::new("/data")
    }

    fn host(&self) -> IpAddr {
        self.host
    }

    async fn silent_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([10, 255, 0, 1], 9092)))
    }

    fn fail_next_sync(&self, file: &Path) -> bool {
        self.node.inject(FaultRule::next(Fault::SyncFails).below(file));
        true
    }
}

fn run(name: &'static str) {
    for seed in 0..SEEDS {
        let config =
            SimConfig { window_bytes: if seed % 2 == 0 { 4 << 20 } else { 512 << 10 }, ..SimConfig::default() };
        Sim::new(seed, config).run(|world| async move {
            let node = world.node(
                "node",
                NodeConfig { shards: 1 + u16::try_from(seed % 3).expect("below 3"), ..NodeConfig::default() },
            );
            node.with_disk(|disk| disk.create_dir_all(Path::new("/data"))).expect("an empty disk");
            if seed % 4 == 3 {
                // As if the machine were far from itself.
                let latency = Latency::Exponential {
                    min: core::time::Duration::from_millis(1),
                    mean: core::time::Duration::from_millis(3),
                };
                world.set_link(&node, &node, LinkSettings { latency });
            }
            let host = if seed % 2 == 0 { node.ip() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
            let tested = node.clone();
            let process = node.start(|env| find(name).run(SimWorld { env, node: tested, host }));
            process.join().await.expect("the test returns");
        });
    }
}

quipu_conformance::conformance_tests!(crate::run);
