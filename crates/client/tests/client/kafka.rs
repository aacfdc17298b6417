//! Apache Kafka from its Maven artifacts. Without Java, outside CI, it is skipped and says so.

use quipu_client::{Client, ClientConfig};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_testkit::{
    clients::Client as Tool,
    kafka::{Jars, Kafka},
    scratch::Scratch,
};

use crate::suite;

#[test]
fn apache_kafka_serves_this_client() {
    if !Tool::Java.check("apache_kafka_serves_this_client") {
        return;
    }
    let scratch = Scratch::new("client-kafka").unwrap();
    let settings = ["auto.create.topics.enable=false"];
    let mut kafka = Kafka::start(&Jars::fetch().unwrap(), &scratch.path().join("kafka"), &settings).unwrap();
    let runtime = TokioEnv::start(Options { shards: 2 }).unwrap();
    let (env, bootstrap) = (runtime.env(), kafka.address().to_string());
    runtime.block_on(async move {
        let client = Client::connect(env, ClientConfig::bootstrap(&bootstrap).unwrap()).await.unwrap();
        suite::all(&client, true).await;
    });
    kafka.stop().unwrap();
}
