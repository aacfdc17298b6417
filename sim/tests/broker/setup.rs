//! What one world is made of, drawn from its seed: sizes so small that everything that happens seldom happens often.

use quipu_broker::{Config, HostPort, Origin};
use quipu_env::Rng;
use quipu_sim::{NodeConfig, PowerCut, World};
use rand::{Rng as _, RngExt};

/// The port of the broker.
pub(crate) const PORT: u16 = 9092;
/// The broker's host name.
pub(crate) const BROKER: &str = "broker";
/// The topic.
pub(crate) const TOPIC: &str = "knots";
/// The broker's data directory.
pub(crate) const DATA_DIR: &str = "/var/quipu";

/// The sizes of a world.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) shards: u16,
    pub(crate) power_cut: PowerCut,
    pub(crate) wal_file_bytes: u64,
    pub(crate) memory_tail_bytes: usize,
    pub(crate) segment_ms: u32,
    pub(crate) partitions: i32,
    pub(crate) producers: u32,
    pub(crate) readers: u32,
    /// Batches that each producer sends to each partition.
    pub(crate) batches: u32,
    /// Records of a batch at most.
    pub(crate) records_max: u32,
    /// Bytes of a record's value at most, beside its label.
    pub(crate) value_bytes_max: usize,
    /// Requests of a producer under way at once: no more than producer state remembers.
    pub(crate) pipelined: usize,
    pub(crate) produce_version: i16,
    pub(crate) fetch_version: i16,
}

impl Setup {
    /// From the world's seed.
    pub(crate) fn draw(world: &World) -> Self {
        let mut rng = world.rng("setup");
        let value_bytes_max = *pick(&mut rng, &[20, 200, 2000]);
        Self {
            shards: rng.random_range(1..=3),
            power_cut: *pick(&mut rng, &[PowerCut::LoseAll, PowerCut::Random, PowerCut::Random, PowerCut::KeepAll]),
            wal_file_bytes: 4096 * rng.random_range(16..=128),
            memory_tail_bytes: 1024 * rng.random_range(64..=512),
            segment_ms: *pick(&mut rng, &[1, 20, 100, 1_000_000]),
            partitions: rng.random_range(1..=4),
            producers: rng.random_range(1..=3),
            readers: rng.random_range(1..=2),
            batches: rng.random_range(10..=30),
            records_max: rng.random_range(1..=8),
            value_bytes_max,
            pipelined: rng.random_range(1..=5),
            produce_version: rng.random_range(3..=13),
            fetch_version: rng.random_range(4..=18),
        }
    }

    pub(crate) fn node(&self) -> NodeConfig {
        NodeConfig { shards: self.shards, power_cut: self.power_cut, ..NodeConfig::default() }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            data_dir: DATA_DIR.into(),
            listen: HostPort { host: "0.0.0.0".into(), port: PORT },
            insecure_listen: true,
            wal_file_bytes: self.wal_file_bytes,
            memory_tail_bytes: self.memory_tail_bytes,
            memory_requests_bytes: 256 * 1024,
            memory_replies_bytes: 256 * 1024,
            ..Config::default()
        };
        let request_bytes_max = (128 * 1024).to_string();
        let defaults = [("socket.request.max.bytes", request_bytes_max), ("log.roll.ms", self.segment_ms.to_string())];
        for (name, value) in defaults {
            config.apply_default(name, &value, Origin::Flag(name.to_owned())).expect("Kafka has the property");
        }
        config
    }
}

/// The seeds to run: these, or, if the environment variable `SIM_SEED` is set, that one alone.
pub(crate) fn seeds(all: core::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => all.collect(),
    }
}

/// Shows what the broker logs, if the environment variable `SIM_LOG` names a level.
pub(crate) fn show_log() {
    if let Ok(level) = std::env::var("SIM_LOG") {
        let level: tracing_subscriber::filter::LevelFilter = level.parse().expect("SIM_LOG is a level, such as debug");
        // Another run of this process may have begun to show it.
        drop(tracing_subscriber::fmt().with_max_level(level).without_time().with_test_writer().try_init());
    }
}

/// One of several.
pub(crate) fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    let index = rng.next_u64() % choices.len() as u64;
    &choices[usize::try_from(index).expect("an index")]
}
