//! Sends numbered records to a topic, and says where each went:
//! `cargo run -p quipu-client --example produce -- 127.0.0.1:9092 orders 10`.

use std::{
    env::args,
    error::Error,
    io::{Write, stdout},
};

use quipu_client::{Client, ClientConfig, ErrorCode, NewTopic, ProducerConfig, ProducerRecord};
use quipu_env_tokio::{Options, TokioEnv};

fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args().nth(2).unwrap_or_else(|| "orders".to_owned());
    let count: u32 = args().nth(3).map_or(Ok(10), |count| count.parse())?;
    let runtime = TokioEnv::start(Options { shards: 1 })?;
    let env = runtime.env();
    let work =
        async move { produce(env, &bootstrap, &topic, count, &mut stdout()).await.map_err(|error| error.to_string()) };
    runtime.block_on(work)?;
    Ok(())
}

/// Prints to `out`.
pub(crate) async fn produce(
    env: TokioEnv,
    bootstrap: &str,
    topic: &str,
    count: u32,
    out: &mut (impl Write + Send),
) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(env, ClientConfig::bootstrap(bootstrap)?).await?;
    let created = client.admin().create_topics(vec![NewTopic::new(topic, 3)], false).await.remove(0).1;
    match created {
        Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error.into()),
        _ => {}
    }
    let producer = client.producer(ProducerConfig::default())?;
    let mut deliveries = Vec::new();
    for number in 0..count {
        let key = format!("customer {}", number % 7);
        // Waits only when the producer's memory is full.
        deliveries.push(producer.send(ProducerRecord::new(topic, format!("order {number}")).with_key(key)).await?);
    }
    for delivery in deliveries {
        let landed = delivery.await?;
        let offset = landed.offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
        writeln!(out, "{}-{} offset {offset}", landed.topic, landed.partition)?;
    }
    producer.close().await;
    Ok(())
}
