//! Real sockets, real files: Quipu's broker in the same process.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use core::{future::Future, time::Duration};

use quipu_broker::{Broker, Config, HostPort, Origin};
use quipu_client::*;
use quipu_env_tokio::{Options, TokioEnv};

use crate::{groups, suite};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// A directory that goes away with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("quipu-client-{}-{number}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn start(env: &TokioEnv, scratch: &Scratch, port: u16) -> Broker<TokioEnv> {
    let listen = HostPort { host: "127.0.0.1".into(), port };
    let mut config = Config { data_dir: scratch.0.clone(), listen, ..Config::default() };
    for (name, value) in suite::GROUP_SETTINGS {
        config.apply_default(name, value, Origin::Flag(name.to_owned())).expect("Kafka has the property");
    }
    Broker::start(config, env.clone()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `work` with a broker of its own, of which it is told the address.
pub(crate) fn with_own_broker<F, W>(work: W)
where
    W: FnOnce(TokioEnv, String) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let scratch = Scratch::new();
    let runtime = TokioEnv::start(Options { shards: 2 }).unwrap();
    let env = runtime.env();
    runtime.block_on(async move {
        let broker = start(&env, &scratch, 0).await;
        work(env, broker.address().to_string()).await;
        broker.shutdown().await.unwrap_or_else(|error| panic!("{error}"));
    });
}

fn with_broker<F, W>(work: W)
where
    W: FnOnce(Client<TokioEnv>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    with_own_broker(|env, bootstrap| async move {
        let config = ClientConfig::bootstrap(&bootstrap).unwrap();
        work(Client::connect(env, config).await.unwrap()).await;
    });
}

#[test]
fn every_codec() {
    with_broker(|client| async move { suite::every_codec(&client).await });
}

#[test]
fn every_acks() {
    with_broker(|client| async move { suite::every_acks(&client).await });
}

#[test]
fn positions() {
    with_broker(|client| async move { suite::positions(&client).await });
}

#[test]
fn nobody_waits_for_another() {
    with_broker(|client| async move { suite::nobody_waits_for_another(&client).await });
}

#[test]
fn callers_faults() {
    with_broker(|client| async move { suite::callers_faults(&client).await });
}

#[test]
fn large_batches() {
    with_broker(|client| async move { suite::large_batches(&client).await });
}

#[test]
fn compressed_elsewhere() {
    with_broker(|client| async move { suite::compressed_elsewhere(&client).await });
}

#[test]
fn made_anew() {
    with_broker(|client| async move { suite::made_anew(&client).await });
}

#[test]
fn deleted_records() {
    with_broker(|client| async move { suite::deleted_records(&client).await });
}

#[test]
fn little_memory() {
    with_broker(|client| async move { suite::little_memory(&client).await });
}

#[test]
fn admin() {
    with_broker(|client| async move { suite::admin(&client, false).await });
}

#[test]
fn nobody_listens() {
    let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
    let env = runtime.env();
    let error = runtime.block_on(async move {
        let config = ClientConfig::bootstrap("127.0.0.1:1").unwrap();
        Client::connect(env, config).await.err().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Retriable);
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("check the bootstrap addresses"), "{text}");
}

/// A broker that goes away and comes back with a higher leader epoch (KIP-320): the producer sends again, the consumer looks
/// whether the log is the same, and both go on.
#[test]
fn a_restart_is_survived() {
    let scratch = Scratch::new();
    let runtime = TokioEnv::start(Options { shards: 2 }).unwrap();
    let env = runtime.env();
    runtime.block_on(async move {
        let broker = start(&env, &scratch, 0).await;
        let port = broker.address().port();
        let config = ClientConfig::bootstrap(&broker.address().to_string()).unwrap();
        let client = Client::connect(env.clone(), config).await.unwrap();
        suite::create(&client, NewTopic::new("restart", 1)).await;
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
        consumer.assign([(suite::partition("restart", 0), Position::Start)]);
        producer.send_and_wait(ProducerRecord::new("restart", "before")).await.unwrap();
        let before = suite::read(&mut consumer, 1).await.remove(0);
        broker.shutdown().await.unwrap_or_else(|error| panic!("{error}"));
        let delivery = producer.send(ProducerRecord::new("restart", "after")).await.unwrap();
        let broker = start(&env, &scratch, port).await;
        assert_eq!(delivery.await.unwrap().offset, Some(Offset(1)));
        let after = suite::read(&mut consumer, 1).await.remove(0);
        assert_eq!((after.offset, after.value), (Offset(1), Some("after".into())));
        assert!(after.leader_epoch > before.leader_epoch);
        assert_eq!(consumer.poll(Duration::from_millis(10)).await, Ok(vec![]));
        producer.close().await;
        broker.shutdown().await.unwrap_or_else(|error| panic!("{error}"));
    });
}

fn with_group_broker(protocol: GroupProtocol) {
    with_own_broker(move |env, bootstrap| async move {
        let bootstrap = ClientConfig::bootstrap(&bootstrap).unwrap();
        // Patterns look at the topics that often.
        let config = ClientConfig { metadata_max_age: Duration::from_millis(300), ..bootstrap };
        groups::all(&Client::connect(env, config).await.unwrap(), protocol).await;
    });
}

#[test]
fn groups_of_the_classic_protocol() {
    with_group_broker(GroupProtocol::Classic);
}

#[test]
fn groups_of_the_consumer_protocol() {
    with_group_broker(GroupProtocol::Consumer);
}
