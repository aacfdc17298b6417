//! What 10,000 partitions cost the controller and whoever follows the metadata log: to create, to read back, to raise at a
//! start, to resolve configs for.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use quipu_base::{BrokerId, ClusterId, ControllerEpoch, DirectoryId, TopicId};
use quipu_controller::{Bootstrap, Context, CreateTopics, NewTopic, RegisterBroker, Request, UnfenceBroker, handle};
use quipu_metadata::{
    Delta, Image, codec,
    config::{ConfigLayers, StaticConfig},
    record::{Listener, Registration, StartId, Voter},
};

const NODE: BrokerId = BrokerId(1);
const CLUSTER: ClusterId = ClusterId([1; 16]);
const PARTITION_COUNT: u32 = 10_000;

/// A controller with its log.
struct World {
    image: Image,
    log: Vec<bytes::Bytes>,
    topic_count: u128,
}

impl World {
    fn new() -> Self {
        let mut world = Self { image: Image::new(), log: Vec::new(), topic_count: 0 };
        let directory_id = DirectoryId([1; 16]);
        let voters = vec![Voter { node: NODE, directory_id }];
        let controller_epoch = ControllerEpoch(1);
        world.decide(&Bootstrap { cluster_id: CLUSTER, node: NODE, directory_id, controller_epoch, voters });
        world.decide(&start(1));
        let broker_epoch = world.image.broker(NODE).expect("registered").broker_epoch;
        world.decide(&UnfenceBroker { broker: NODE, broker_epoch });
        world
    }

    /// `topics` topics that have [`PARTITION_COUNT`] partitions together.
    fn with_topics(topics: u32) -> Self {
        let mut world = Self::new();
        for number in 0..topics {
            world.decide(&create(number, PARTITION_COUNT / topics));
        }
        world
    }

    fn decide<R: Request>(&mut self, request: &R) {
        let statics = StaticConfig::new();
        let mut new_topic_id = || {
            self.topic_count += 1;
            // As spread as random ids are, and the same in every run.
            TopicId(self.topic_count.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
        };
        let mut context = Context { node: NODE, statics: &statics, new_topic_id: &mut new_topic_id };
        let decision = handle(request, &self.image, &mut context).expect("a request that is accepted");
        let mut delta = Delta::default();
        for record in &decision.records {
            self.log.push(codec::encode(record));
            self.image.apply(self.image.next_offset(), record, &mut delta).expect("a record that fits");
        }
    }
}

fn start(number: u8) -> RegisterBroker {
    RegisterBroker {
        cluster_id: CLUSTER,
        broker: NODE,
        registration: Registration {
            directory_id: DirectoryId([1; 16]),
            start_id: StartId([number; 16]),
            listeners: vec![Listener { name: "PLAIN".into(), host: "127.0.0.1".into(), port: 9092 }],
            rack: None,
            features: Bootstrap::supported_features(),
        },
    }
}

fn create(number: u32, partition_count: u32) -> CreateTopics {
    let mut topic = NewTopic::with_defaults(&format!("topic-{number}"));
    topic.partition_count = i32::try_from(partition_count).expect("few");
    CreateTopics { topics: vec![topic], validate_only: false }
}

fn many_partitions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10000 partitions");
    group.sample_size(10);
    for topics in [1, 1_000, 10_000] {
        let name = |what: &str| format!("{what}, {topics} topic(s)");
        if topics == 1 {
            group.bench_function(name("create"), |bench| {
                bench.iter_batched_ref(
                    World::new,
                    |world| world.decide(&create(0, PARTITION_COUNT)),
                    BatchSize::LargeInput,
                );
            });
        }
        let world = World::with_topics(topics);
        group.bench_function(name("read the log"), |bench| {
            bench.iter(|| {
                let (mut image, mut delta) = (Image::new(), Delta::default());
                for bytes in &world.log {
                    let record = codec::decode(bytes).expect("encoded above");
                    image.apply(image.next_offset(), &record, &mut delta).expect("it was applied before");
                }
                black_box(image)
            });
        });
        group.bench_function(name("start: decide and raise"), |bench| {
            let clone = || World { image: world.image.clone(), log: Vec::new(), topic_count: 0 };
            bench.iter_batched_ref(clone, |world| world.decide(&start(2)), BatchSize::LargeInput);
        });
        group.bench_function(name("resolve configs"), |bench| {
            let statics = StaticConfig::new();
            bench.iter(|| {
                let layers = ConfigLayers::new(&world.image, &statics, NODE);
                for topic in world.image.topics() {
                    black_box(layers.topic_with(topic.configs()));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, many_partitions);
criterion_main!(benches);
