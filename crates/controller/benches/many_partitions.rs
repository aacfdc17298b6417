//! What 10,000 partitions cost the controller and whoever follows the metadata log: to create, to read back, to raise at a
//! start, to fail over, to resolve configs for.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use quipu_base::{BrokerId, ClusterId, ControllerEpoch, DirectoryId, PartitionIndex, TopicId};
use quipu_controller::{
    Bootstrap, Context, CreateTopics, Doubts, FenceBroker, NewTopic, RegisterBroker, Request, UnfenceBroker, handle,
};
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
        world.serve(NODE);
        world
    }

    /// The broker registers, and is unfenced.
    fn serve(&mut self, broker: BrokerId) {
        self.decide(&RegisterBroker { broker, ..start(1) });
        let broker_epoch = self.image.broker(broker).expect("registered").broker_epoch;
        self.decide(&UnfenceBroker { broker, broker_epoch });
    }

    /// Three brokers, of which the first leads every partition of one topic.
    fn led_by_one_of_three() -> Self {
        let mut world = Self::new();
        let brokers = [NODE, BrokerId(2), BrokerId(3)];
        brokers[1..].iter().for_each(|broker| world.serve(*broker));
        let mut topic = NewTopic::with_defaults("topic");
        let indexes = (0..).map(PartitionIndex).take(usize::try_from(PARTITION_COUNT).expect("few"));
        topic.assignments = indexes.map(|index| (index, brokers.to_vec())).collect();
        world.decide(&CreateTopics { topics: vec![topic], validate_only: false });
        world
    }

    fn copy(&self) -> Self {
        Self { image: self.image.clone(), log: Vec::new(), topic_count: 0 }
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
        let mut doubts = Doubts::new();
        let (new_topic_id, doubts) = (&mut new_topic_id, &mut doubts);
        let mut context = Context { node: NODE, statics: &statics, new_topic_id, doubts };
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
            bench.iter_batched_ref(|| world.copy(), |world| world.decide(&start(2)), BatchSize::LargeInput);
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
    let world = World::led_by_one_of_three();
    let broker_epoch = world.image.broker(NODE).expect("registered").broker_epoch;
    let fence = FenceBroker { broker: NODE, broker_epoch };
    group.bench_function("fail over: decide, encode, apply", |bench| {
        bench.iter_batched_ref(|| world.copy(), |world| world.decide(&fence), BatchSize::LargeInput);
    });
    let mut failed_over = world.copy();
    failed_over.decide(&fence);
    let bytes: usize = failed_over.log.iter().map(bytes::Bytes::len).sum();
    assert_eq!(failed_over.image.partitions_led_by(NODE).count(), 0);
    assert_eq!(failed_over.log.len(), 10_001, "one batch, of {bytes} bytes");
    group.finish();
}

criterion_group!(benches, many_partitions);
criterion_main!(benches);
