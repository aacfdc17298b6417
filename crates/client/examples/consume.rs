//! Prints what is in a topic, from its beginning to its present end:
//! `cargo run -p quipu-client --example consume -- 127.0.0.1:9092 orders`.

use core::time::Duration;
use std::{
    env::args,
    error::Error,
    io::{Write, stdout},
};

use quipu_client::{Client, ClientConfig, ConsumerConfig, Position, TopicPartition};
use quipu_env_tokio::{Options, TokioEnv};

fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args().nth(2).unwrap_or_else(|| "orders".to_owned());
    let runtime = TokioEnv::start(Options { shards: 1 })?;
    let env = runtime.env();
    let work = async move { consume(env, &bootstrap, &topic, &mut stdout()).await.map_err(|error| error.to_string()) };
    runtime.block_on(work)?;
    Ok(())
}

/// Prints to `out`.
pub(crate) async fn consume(
    env: TokioEnv,
    bootstrap: &str,
    topic: &str,
    out: &mut (impl Write + Send),
) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(env, ClientConfig::bootstrap(bootstrap)?).await?;
    let described = client.admin().describe_topics(vec![topic.to_owned()]).await.remove(0).1?;
    let own = |partition: &quipu_client::Partition| TopicPartition::new(topic, partition.index);
    let partitions: Vec<TopicPartition> = described.partitions.iter().map(own).collect();
    let mut consumer = client.consumer(ConsumerConfig::default())?;
    let ends = consumer.end_offsets(&partitions).await?;
    consumer.assign(partitions.iter().map(|partition| (partition.clone(), Position::Start)));
    let is_behind = |consumer: &quipu_client::Consumer<TokioEnv>| {
        let mut both = partitions.iter().zip(&ends);
        both.any(|(partition, end)| consumer.position(partition).ok().flatten().is_none_or(|position| position < *end))
    };
    while is_behind(&consumer) {
        for record in consumer.poll(Duration::from_millis(500)).await? {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
            writeln!(out, "{}-{} offset {}: {value}", record.topic, record.partition, record.offset)?;
        }
    }
    Ok(())
}
