//! A broker inside somebody's own test: on a port of its own, in a directory of its own, gone afterwards.
//!
//! Run it with `cargo run -p quipu-broker --example embedded`. Any Kafka client could stand where the raw request stands.

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::{Buf, BytesMut};
use quipu_broker::{Broker, Config, HostPort};
use quipu_env::{Env, Net, NetReader, NetWriter, Segment, WriteQueue};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_protocol::{ApiKey, Chunk, Request, RequestHeader, Response, frame, messages::ApiVersionsRequest};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("quipu-embedded-{}", std::process::id()));
    let runtime = TokioEnv::start(Options { shards: 1 })?;
    let config = Config {
        data_dir: directory.clone(),
        listen: HostPort { host: "127.0.0.1".into(), port: 0 },
        ..Config::default()
    };
    let env = runtime.env();
    let apis = runtime.block_on(async move {
        let broker = Broker::start(config, env.clone()).await.map_err(|error| error.to_string())?;
        let apis = count_apis(&env, broker.address()).await.map_err(|error| error.to_string())?;
        broker.shutdown().await.map_err(|error| error.to_string())?;
        Ok::<usize, String>(apis)
    })?;
    std::fs::remove_dir_all(directory)?;
    println!("the embedded broker serves {apis} APIs");
    Ok(())
}

/// What somebody's test would do with a Kafka client.
async fn count_apis(env: &TokioEnv, broker: SocketAddr) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let (mut reader, mut writer) = env.net().connect(broker, Duration::from_secs(5)).await?;
    let header = RequestHeader { api: ApiKey::ApiVersions, version: 0, correlation_id: 7, client_id: None };
    let mut queue = WriteQueue::new();
    let request = Request::from(ApiVersionsRequest::default());
    for chunk in frame::encode_request(&mut BytesMut::new(), &header, &request)? {
        let Chunk::Bytes(bytes) = chunk else { return Err("a request without records has no file ranges".into()) };
        queue.push(Segment::Bytes(bytes));
    }
    while !queue.is_empty() {
        writer.write(&mut queue).await?;
    }
    let mut buffer = BytesMut::new();
    loop {
        if let Some(length) = buffer.first_chunk::<4>().map(|prefix| u32::from_be_bytes(*prefix))
            && buffer.len() - 4 >= usize::try_from(length)?
        {
            buffer.advance(4);
            let (_, response) = frame::decode_response(buffer.freeze(), ApiKey::ApiVersions, 0)?;
            let Response::ApiVersions(response) = response else { return Err("another response".into()) };
            return Ok(response.api_keys.len());
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Err("the broker closed the connection".into());
        }
    }
}
