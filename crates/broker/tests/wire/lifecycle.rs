//! Starting, stopping, crashing and starting again; bounds on what a peer may hold.

use std::time::Duration;

use crate::support::{Directory, Fixture, batch, fetch_request, idempotent, now, records_of, run, with_broker};
use quipu_base::{BrokerId, LeaderEpoch, TopicIdPartition};
use quipu_broker::{Broker, Config, HostPort, StartError};
use quipu_env::{Clock, Env};
use quipu_env_tokio::{Options, TokioEnv};
use quipu_metadata::codec::FORMAT_VERSION;
use quipu_protocol::{ErrorCode, Response, messages::api_versions::ApiVersionsRequest};
use quipu_records::{BatchBuilder, NewRecord};
use quipu_storage::{Class, Store, StoreOptions};

#[test]
fn everything_is_there_after_a_stop_and_a_start() {
    let directory = Directory::new();
    for start in 0..3_i32 {
        let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
        let config = directory.config(&[]);
        let env = runtime.env();
        run(&runtime, async move {
            let broker = Broker::start(config, env.clone()).await.unwrap();
            let mut client = Fixture { env, address: broker.address() }.client().await;
            if start == 0 {
                client.create_topic("t", 1, &[("max.message.bytes", "5000")]).await;
            }
            let data = client.fetch("t", 0).await;
            assert_eq!(records_of(&data).len(), usize::try_from(start).unwrap());
            let answer = client.produce("t", idempotent(5, 0, start, &["v"])).await;
            assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(start)));
            let again = client.produce("t", idempotent(5, 0, start, &["v"])).await;
            assert_eq!((again.error_code, again.base_offset), (0, i64::from(start)), "the producer state is there too");
            let large = "x".repeat(6000);
            let refused = client.produce("t", batch(&[&large])).await;
            assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code(), "and the configs");
            broker.shutdown().await.unwrap();
        });
        runtime.shutdown();
    }
}

#[test]
fn every_start_raises_the_leader_epoch() {
    let directory = Directory::new();
    let mut epochs = Vec::new();
    for start in 0..3 {
        let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
        let config = directory.config(&[]);
        let env = runtime.env();
        epochs.push(run(&runtime, async move {
            let broker = Broker::start(config, env.clone()).await.unwrap();
            let mut client = Fixture { env, address: broker.address() }.client().await;
            if start == 0 {
                client.create_topic("t", 1, &[]).await;
            }
            client.produce("t", batch(&["v"])).await;
            let data = client.fetch("t", start).await;
            let bytes = data.records.unwrap().into_bytes().unwrap();
            let header = *quipu_records::Batches::new(bytes).next().unwrap().unwrap().header();
            if start == 2 {
                // Epoch 0 wrote one record: who has read two under it has read another log (KIP-320).
                let mut request = fetch_request("t", 2, 0, 0);
                request.topics[0].partitions[0].last_fetched_epoch = 0;
                let Response::Fetch(response) = client.call(12, request).await else { panic!() };
                let diverging = &response.responses[0].partitions[0].diverging_epoch;
                assert_eq!((diverging.epoch, diverging.end_offset), (0, 1));
            }
            broker.shutdown().await.unwrap();
            header.leader_epoch.get()
        }));
        runtime.shutdown();
    }
    assert_eq!(epochs, [0, 1, 2]);
}

#[test]
fn a_directory_serves_one_broker_and_one_node() {
    let directory = Directory::new();
    let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
    let configs = [directory.config(&[]), directory.config(&[]), directory.config(&[])];
    let env = runtime.env();
    run(&runtime, async move {
        let [first, second, third] = configs;
        let broker = Broker::start(first, env.clone()).await.unwrap();
        let error = Broker::start(second, env.clone()).await.err().unwrap();
        assert_eq!(error.exit_status(), 69, "{error}");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        broker.shutdown().await.unwrap();
        let other = Config { node_id: BrokerId(7), ..third };
        let error = Broker::start(other, env).await.err().unwrap();
        assert_eq!(error.exit_status(), 78, "{error}");
    });
    runtime.shutdown();
}

#[test]
fn a_metadata_log_of_a_later_release_is_refused() {
    for (version, status) in [(FORMAT_VERSION + 1, 78), (0, 65)] {
        let directory = Directory::new();
        let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
        let config = directory.config(&[]);
        let env = runtime.env();
        run(&runtime, async move {
            let options = StoreOptions::new(config.data_dir.clone(), config.node_id);
            let (store, _) = Store::open(env.clone(), options).await.unwrap();
            let mut builder = BatchBuilder::new();
            let value: &[u8] = &[version, 200, 1];
            builder.push(&NewRecord { timestamp: now(), key: None, value: Some(value), headers: &[] }).unwrap();
            let batch = builder.build().unwrap();
            let reservation = store.reserve(batch.bytes().len(), Class::Reserve).await.unwrap();
            let log = store.log(TopicIdPartition::METADATA);
            let wall = env.clock().wall();
            let appended = log.append(reservation, LeaderEpoch(0), batch.bytes(), batch.header(), wall).unwrap();
            store.durable().wait_for(|ticket| *ticket >= appended.ticket).await.unwrap();
            store.close().await.unwrap();
            drop((store, log));
            let error = Broker::start(config, env).await.err().unwrap();
            assert_eq!(error.exit_status(), status, "{error}");
            assert!(error.to_string().contains("metadata log"), "{error}");
        });
        runtime.shutdown();
    }
}

#[test]
fn an_open_listener_must_be_meant() {
    let directory = Directory::new();
    let runtime = TokioEnv::start(Options { shards: 1 }).unwrap();
    let open = HostPort { host: "0.0.0.0".into(), port: 0 };
    let config = Config { listen: open, ..directory.config(&[]) };
    let env = runtime.env();
    run(&runtime, async move {
        let error = Broker::start(config.clone(), env.clone()).await.err().unwrap();
        assert!(matches!(error, StartError::Insecure(_)), "{error}");
        assert_eq!(error.exit_status(), 2);
        let meant = Config { insecure_listen: true, ..config };
        Broker::start(meant, env).await.unwrap().shutdown().await.unwrap();
    });
    runtime.shutdown();
}

#[test]
fn broken_frames_close_their_connection_and_nobody_elses() {
    with_broker(&[("socket.request.max.bytes", "100000")], |fixture| async move {
        let mut bystander = fixture.client().await;
        bystander.create_topic("t", 1, &[]).await;
        let frames: [&[u8]; 8] = [
            &[0xff, 0xff, 0xff, 0xff],                                            // length -1
            &[0x7f, 0xff, 0xff, 0xff, 0],                                         // length 2^31 - 1
            &[0, 1, 0x86, 0xa1],                                                  // one more than allowed
            &[0, 0, 0, 0],                                                        // length 0
            &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0, 0],                        // unknown key
            &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0, 0],                        // unknown version
            &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff], // 2^31 - 1 topics
            &[0, 0, 0, 10, 0, 3, 0, 9, 0, 0, 0, 1, 0x7f, 0xff],                   // client id beyond the end
        ];
        for bytes in frames {
            let mut client = fixture.client().await;
            client.send_bytes(bytes).await;
            assert_eq!(client.receive_frame().await, None, "{bytes:?}");
        }
        assert_eq!(bystander.produce("t", batch(&["fine"])).await.error_code, 0);
    });
}

#[test]
fn connections_are_bounded() {
    for bound in ["max.connections", "max.connections.per.ip"] {
        with_broker(&[(bound, "2")], |fixture| async move {
            let mut first = fixture.client().await;
            let mut second = fixture.client().await;
            first.call(0, ApiVersionsRequest::default()).await;
            second.call(0, ApiVersionsRequest::default()).await;
            assert!(!fixture.is_served().await);
            drop(second);
            // The place is free once the broker has seen the end of the second connection.
            while !fixture.is_served().await {}
            first.call(0, ApiVersionsRequest::default()).await;
        });
    }
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    with_broker(&[("connections.max.idle.ms", "1000")], |fixture| async move {
        let mut idle = fixture.client().await;
        let mut busy = fixture.client().await;
        idle.call(0, ApiVersionsRequest::default()).await;
        let begin = fixture.env.clock().now();
        // Half of a frame is no request.
        let mut half = fixture.client().await;
        half.send_bytes(&[0, 0, 0, 10, 0]).await;
        while fixture.env.clock().now().since(begin) < Duration::from_millis(2500) {
            busy.call(0, ApiVersionsRequest::default()).await;
            fixture.env.clock().sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(idle.receive_frame().await, None);
        assert_eq!(half.receive_frame().await, None);
        busy.call(0, ApiVersionsRequest::default()).await;
    });
}
