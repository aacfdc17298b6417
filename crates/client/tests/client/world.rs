//! The simulated world: the whole broker under the client, killed, cut off from power, paused and out of reach, while producers
//! send and a consumer follows.
//!
//! What must hold for every seed
//! - A record that was acknowledged is in the log once, where it was said to be; one that failed as not written is not there; no
//!   record is there twice; each producer's records are in order.
//! - The consumer is given every record once, in order of offset.
//! - The same seed is the same run.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use quipu_broker::{Broker, Config, HostPort, Origin};
use quipu_client::*;
use quipu_env::{Clock, Rng, ShardId};
use quipu_sim::{Down, Node, NodeConfig, PowerCut, Report, Running, SimConfig, SimEnv, World, run_seeds};
use rand::RngExt;
use tokio::sync::oneshot;

use crate::{groups, suite};

const PORT: u16 = 9092;
const TOPIC: &str = "knots";
const PRODUCERS: u32 = 2;

/// What a run came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally {
    acknowledged: u64,
    not_written: u64,
    unknown: u64,
    read: u64,
    crashes: u64,
}

/// What became of each record, by its value.
#[derive(Clone, Default)]
struct History(Arc<Mutex<BTreeMap<String, Result<RecordMetadata, Written>>>>);

impl History {
    fn add(&self, value: String, outcome: Result<RecordMetadata, Written>) {
        assert!(self.0.lock().unwrap().insert(value, outcome).is_none(), "a record is told once");
    }
}

fn broker_config(rng: &mut Rng) -> Config {
    let mut config = Config {
        data_dir: "/var/quipu".into(),
        listen: HostPort { host: "0.0.0.0".into(), port: PORT },
        advertise: Some(HostPort { host: "broker".into(), port: PORT }),
        insecure_listen: true,
        wal_file_bytes: 4096 * rng.random_range(32..=128),
        memory_tail_bytes: 1024 * rng.random_range(128..=512),
        memory_requests_bytes: 256 * 1024,
        memory_replies_bytes: 256 * 1024,
        ..Config::default()
    };
    for (name, value) in [("socket.request.max.bytes", "131072"), ("log.roll.ms", "100")] {
        config.apply_default(name, value, Origin::Flag(name.to_owned())).expect("Kafka has the property");
    }
    config
}

fn client_config() -> ClientConfig {
    ClientConfig {
        bootstrap: vec![BrokerAddress::new("broker", PORT)],
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        retry_backoff: Duration::from_millis(20),
        retry_backoff_max: Duration::from_millis(200),
        ..Default::default()
    }
}

fn producer_config(rng: &mut Rng, delivery_timeout: Duration) -> ProducerConfig {
    ProducerConfig {
        batch_bytes: [1, 100, 1000, 16_384][rng.random_range(0..4)],
        linger: Duration::from_millis(rng.random_range(0..20)),
        compression: Codec::ALL[rng.random_range(0..Codec::ALL.len())],
        in_flight_max: rng.random_range(1..=5),
        memory_bytes: 1 << rng.random_range(15..20),
        broker_timeout: Duration::from_millis(1500),
        delivery_timeout,
        ..Default::default()
    }
}

/// Starts the broker whenever it is down.
async fn keep_up(world: &World, node: &Node, crashes: &Mutex<u64>) {
    let mut rng = world.rng("operator");
    let config = broker_config(&mut rng);
    loop {
        let config = config.clone();
        let process = node.start(|env| async move {
            let _broker = Broker::start(config, env).await.unwrap_or_else(|error| panic!("{error}"));
            core::future::pending::<()>().await;
        });
        let Err(down) = process.join().await else { panic!("the broker ended by itself") };
        assert!(matches!(down, Down::Killed | Down::PowerCut), "{down}");
        *crashes.lock().unwrap() += 1;
        world.sleep(Duration::from_millis(rng.random_range(0..300))).await;
    }
}

async fn trouble(world: &World, broker: &Node, clients: &Node) {
    let mut rng = world.rng("trouble");
    for _ in 0..rng.random_range(2..=6) {
        world.sleep(Duration::from_millis(rng.random_range(0..150))).await;
        match rng.random_range(0..6) {
            0 => broker.kill(),
            1 | 2 => broker.power_cut(),
            3 => {
                broker.pause();
                world.sleep(Duration::from_millis(rng.random_range(1..4000))).await;
                broker.resume();
            }
            _ => {
                world.partition(&[broker], &[clients]);
                world.sleep(Duration::from_millis(rng.random_range(1..4000))).await;
                world.mend(&[broker], &[clients]);
            }
        }
    }
    core::future::pending::<()>().await;
}

/// Sends records, and notes what became of each.
async fn produce(
    client: Client<SimEnv>,
    config: ProducerConfig,
    number: u32,
    history: History,
    done: oneshot::Sender<()>,
) {
    let mut rng = client.env().rng("workload");
    let env = client.env().clone();
    let producer = client.producer(config).unwrap();
    let mut deliveries = Vec::new();
    for count in 0..rng.random_range(50..150) {
        let partition = rng.random_range(0..2);
        let value = format!("{number}.{partition}.{count:04}");
        let filler = "-".repeat(rng.random_range(0..200));
        let record = ProducerRecord::new(TOPIC, format!("{value}:{filler}")).with_partition(PartitionIndex(partition));
        match producer.send(record).await {
            Ok(delivery) => deliveries.push((value, delivery)),
            Err(error) => history.add(value, Err(error.written)),
        }
        if rng.random_range(0..10) == 0 {
            env.clock().sleep(Duration::from_millis(rng.random_range(0..40))).await;
        }
    }
    for (value, delivery) in deliveries {
        history.add(value, delivery.await.map_err(|error| error.written));
    }
    producer.close().await;
    done.send(()).expect("somebody waits");
}

/// Follows both partitions, and checks order as records come.
async fn follow(client: Client<SimEnv>, over: Arc<AtomicBool>, done: oneshot::Sender<u64>) {
    let mut consumer = client.consumer(ConsumerConfig { poll_records_max: 20, ..Default::default() }).unwrap();
    consumer.assign((0..2).map(|index| (suite::partition(TOPIC, index), Position::Start)));
    let mut next = [Offset(0); 2];
    let mut read = 0;
    while !over.load(Ordering::Relaxed) {
        for record in consumer.poll(Duration::from_millis(300)).await.unwrap_or_else(|error| panic!("{error}")) {
            let next = &mut next[usize::try_from(record.partition.0).unwrap()];
            assert_eq!(record.offset, *next, "{}-{}: a gap, or a record twice", record.topic, record.partition);
            *next = record.offset.next();
            read += 1;
        }
    }
    done.send(read).expect("somebody waits");
}

/// Compares the whole log with what was told.
async fn audit(client: &Client<SimEnv>, history: &History) {
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    let partitions = [suite::partition(TOPIC, 0), suite::partition(TOPIC, 1)];
    let ends = consumer.end_offsets(&partitions).await.unwrap();
    consumer.assign(partitions.clone().map(|partition| (partition, Position::Start)));
    // A record of unknown fate may still appear behind those.
    let is_behind = |consumer: &Consumer<SimEnv>| {
        let mut both = partitions.iter().zip(&ends);
        both.any(|(partition, end)| consumer.position(partition).unwrap().is_none_or(|position| position < *end))
    };
    let mut log = Vec::new();
    while is_behind(&consumer) {
        log.extend(consumer.poll(Duration::from_secs(30)).await.unwrap_or_else(|error| panic!("{error}")));
    }
    let mut found: BTreeMap<String, (PartitionIndex, Offset)> = BTreeMap::new();
    let mut last: BTreeMap<(PartitionIndex, String), String> = BTreeMap::new();
    for record in log {
        let value = String::from_utf8(record.value.unwrap_or_else(Bytes::new).to_vec()).unwrap();
        let value = value.split(':').next().unwrap().to_owned();
        assert!(found.insert(value.clone(), (record.partition, record.offset)).is_none(), "{value} is there twice");
        let producer = value.split('.').next().unwrap().to_owned();
        let before = last.insert((record.partition, producer), value.clone());
        assert!(before.as_ref().is_none_or(|before| *before < value), "{value} behind {before:?}");
    }
    let history = history.0.lock().unwrap();
    for (value, outcome) in &*history {
        match outcome {
            Ok(told) => assert_eq!(found.get(value), Some(&(told.partition, told.offset.unwrap())), "{value} is lost"),
            Err(Written::No) => assert!(!found.contains_key(value), "{value} was not to be written"),
            Err(Written::Unknown) => {}
        }
    }
    let told: BTreeSet<&String> = history.keys().collect();
    assert!(found.keys().all(|value| told.contains(value)), "a record that nobody sent");
}

async fn turbulence(world: World, delivery_timeout: Duration) -> Tally {
    let power_cut = if world.rng("setup").random() { PowerCut::LoseAll } else { PowerCut::Random };
    let broker = world.node("broker", NodeConfig { shards: 2, power_cut, ..NodeConfig::default() });
    let clients = world.node("clients", NodeConfig::default());
    let crashes = Mutex::new(0);
    let work = clients.start(move |env| async move {
        let history = History::default();
        let config = ClientConfig { api_timeout: Duration::from_secs(600), ..client_config() };
        let client = Client::new(env.clone(), config).unwrap();
        let created = client.admin().create_topics(vec![NewTopic::new(TOPIC, 2)], false).await.remove(0).1;
        // The reply to the one that made it may have been lost.
        assert!(
            created.as_ref().err().is_none_or(|error| error.code() == Some(ErrorCode::TopicAlreadyExists)),
            "{created:?}"
        );
        let over = Arc::new(AtomicBool::new(false));
        let (read, followed) = oneshot::channel();
        drop(env.spawn(ShardId(0), "follower", follow(client.clone(), Arc::clone(&over), read)));
        let mut rng = env.rng("settings");
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let (done, ended) = oneshot::channel();
                let config = producer_config(&mut rng, delivery_timeout);
                let producer = produce(client.clone(), config, number, history.clone(), done);
                drop(env.spawn(ShardId(0), "producer", producer));
                ended
            })
            .collect();
        for producer in producers {
            producer.await.expect("a producer ends");
        }
        over.store(true, Ordering::Relaxed);
        let read = followed.await.expect("the follower ends");
        audit(&client, &history).await;
        let history = history.0.lock().unwrap();
        let count = |is: fn(&Result<RecordMetadata, Written>) -> bool| {
            u64::try_from(history.values().filter(|outcome| is(outcome)).count()).unwrap()
        };
        Tally {
            acknowledged: count(Result::is_ok),
            not_written: count(|outcome| *outcome == Err(Written::No)),
            unknown: count(|outcome| *outcome == Err(Written::Unknown)),
            read,
            crashes: 0,
        }
    });
    let tally = tokio::select! { biased;
        tally = work.join() => tally.expect("nobody ends the clients"),
        () = keep_up(&world, &broker, &crashes) => unreachable!("it goes on for ever"),
        () = trouble(&world, &broker, &clients) => unreachable!("it goes on for ever"),
    };
    Tally { crashes: *crashes.lock().unwrap(), ..tally }
}

/// The seeds to run: these, or what the environment variable `SIM_SEED` says: a number, or a range such as `5000..6000`.
fn seeds(all: core::ops::Range<u64>) -> Vec<u64> {
    let Ok(wanted) = std::env::var("SIM_SEED") else { return all.collect() };
    let number = |text: &str| -> u64 { text.parse().expect("SIM_SEED is a number or a range") };
    match wanted.split_once("..") {
        Some((from, to)) => (number(from)..number(to)).collect(),
        None => vec![number(&wanted)],
    }
}

/// Sums must be as large as said only for the seeds that a test has by itself.
fn is_enough(enough: bool) -> bool {
    enough || std::env::var("SIM_SEED").is_ok()
}

fn run(seeds: &[u64], threads: usize, delivery_timeout: Duration) -> Vec<Report<Tally>> {
    let scenario = move |world| turbulence(world, delivery_timeout);
    run_seeds(seeds, &SimConfig::default(), threads, scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

fn sum(reports: &[Report<Tally>]) -> Tally {
    reports.iter().map(|report| report.value).fold(Tally::default(), |sum, one| Tally {
        acknowledged: sum.acknowledged + one.acknowledged,
        not_written: sum.not_written + one.not_written,
        unknown: sum.unknown + one.unknown,
        read: sum.read + one.read,
        crashes: sum.crashes + one.crashes,
    })
}

#[test]
fn with_time_enough_everything_is_acknowledged_once_and_in_order() {
    let reports = run(&seeds(1..80), 2, Duration::from_secs(600));
    let tally = sum(&reports);
    assert_eq!((tally.not_written, tally.unknown), (0, 0), "{tally:?}");
    assert!(is_enough(tally.acknowledged > 5000 && tally.read > 2000 && tally.crashes > 40), "{tally:?}");
}

#[test]
fn with_little_time_what_is_told_is_true() {
    let reports = run(&seeds(1000..1080), 2, Duration::from_millis(400));
    let tally = sum(&reports);
    let enough = tally.not_written > 100 && tally.unknown > 100 && tally.acknowledged > 1000;
    assert!(is_enough(enough), "{tally:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let seeds = seeds(2000..2010);
    let hashes = |threads| -> Vec<_> {
        run(&seeds, threads, Duration::from_secs(5)).iter().map(|report| (report.hash, report.value)).collect()
    };
    assert_eq!(hashes(1), hashes(2));
}

/// A broker with nothing special about it.
fn start_broker(node: &Node) -> Running<()> {
    let listen = HostPort { host: "0.0.0.0".into(), port: PORT };
    let advertise = Some(HostPort { host: "broker".into(), port: PORT });
    let mut config =
        Config { data_dir: "/var/quipu".into(), listen, advertise, insecure_listen: true, ..Config::default() };
    for (name, value) in suite::GROUP_SETTINGS {
        config.apply_default(name, value, Origin::Flag(name.to_owned())).expect("Kafka has the property");
    }
    node.start(|env| async move {
        let _broker = Broker::start(config, env).await.unwrap_or_else(|error| panic!("{error}"));
        core::future::pending::<()>().await;
    })
}

/// A broker that is down for a minute, or out of reach without a word: what was sent meanwhile arrives soon after it is back, and
/// is read.
#[test]
fn a_broker_may_be_away_for_a_minute() {
    const AWAY: Duration = Duration::from_secs(60);
    let scenario = |world: World| async move {
        let is_killed = world.rng("setup").random();
        let broker = world.node("broker", NodeConfig { shards: 2, ..NodeConfig::default() });
        let clients = world.node("clients", NodeConfig::default());
        let first = start_broker(&broker);
        let (is_away, gone) = oneshot::channel();
        let (sent, is_sent) = oneshot::channel();
        let work = clients.start(move |env| async move {
            let client = Client::new(env.clone(), client_config()).unwrap();
            suite::create(&client, NewTopic::new(TOPIC, 1)).await;
            let producer = client.producer(ProducerConfig::default()).unwrap();
            let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
            consumer.assign([(suite::partition(TOPIC, 0), Position::Start)]);
            producer.send_and_wait(ProducerRecord::new(TOPIC, "before")).await.unwrap();
            suite::read(&mut consumer, 1).await;
            is_away.send(()).expect("somebody waits");
            is_sent.await.expect("it is told");
            let begun_at = env.clock().now();
            let mut deliveries = Vec::new();
            for number in 0..10 {
                deliveries.push(producer.send(ProducerRecord::new(TOPIC, format!("{number}"))).await.unwrap());
                assert_eq!(consumer.poll(Duration::from_secs(1)).await, Ok(vec![]));
            }
            for (offset, delivery) in (1..).zip(deliveries) {
                assert_eq!(delivery.await.unwrap().offset, Some(Offset(offset)));
            }
            suite::read(&mut consumer, 10).await;
            let taken = env.clock().now().since(begun_at);
            assert!((AWAY..AWAY + Duration::from_secs(5)).contains(&taken), "{taken:?}");
            producer.close().await;
        });
        gone.await.expect("the clients tell");
        if is_killed {
            broker.kill();
            drop(first.join().await);
        } else {
            world.partition(&[&broker], &[&clients]);
        }
        sent.send(()).expect("the clients wait");
        world.sleep(AWAY).await;
        let _broker = is_killed.then(|| start_broker(&broker));
        world.mend(&[&broker], &[&clients]);
        work.join().await.expect("nobody ends the clients");
    };
    run_seeds(&seeds(1..9), &SimConfig::default(), 2, scenario).unwrap_or_else(|failure| panic!("{failure}"));
}

/// In a calm world the common scenarios hold as well.
#[test]
fn the_suite_holds_in_a_calm_world() {
    let calm = |world: World| async move {
        let broker = world.node("broker", NodeConfig { shards: 2, ..NodeConfig::default() });
        let clients = world.node("clients", NodeConfig::default());
        let _broker = start_broker(&broker);
        let work = clients.start(|env| async move {
            let client = Client::new(env, client_config()).unwrap();
            suite::all(&client, false).await;
        });
        work.join().await.expect("nobody ends the clients");
    };
    run_seeds(&seeds(1..4), &SimConfig::default(), 2, calm).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Groups do as well, of both protocols.
#[test]
fn groups_hold_in_a_calm_world() {
    let calm = |world: World| async move {
        let broker = world.node("broker", NodeConfig { shards: 2, ..NodeConfig::default() });
        let clients = world.node("clients", NodeConfig::default());
        let _broker = start_broker(&broker);
        let work = clients.start(|env| async move {
            let config = ClientConfig { metadata_max_age: Duration::from_millis(300), ..client_config() };
            let client = Client::new(env, config).unwrap();
            for protocol in groups::PROTOCOLS {
                groups::all(&client, protocol).await;
            }
        });
        work.join().await.expect("nobody ends the clients");
    };
    run_seeds(&seeds(1..4), &SimConfig::default(), 2, calm).unwrap_or_else(|failure| panic!("{failure}"));
}
