//! What the network does when links are cut, processes die and machines lose their power.

use core::{future::pending, time::Duration};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use quipu_env::{Clock, ConnectError, Env, Listener, Net, NetReader, NetWriter, Segment, WriteQueue};
use quipu_sim::{Latency, LinkSettings, Node, NodeConfig, Running, Sim, SimConfig, SimEnv, World};

const PORT: u16 = 9092;
const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().expect("not poisoned").push(what.into());
}

fn noted(log: &Log) -> Vec<String> {
    log.lock().expect("not poisoned").clone()
}

async fn send(writer: &mut impl NetWriter, bytes: Vec<u8>) -> io::Result<()> {
    let mut queue = WriteQueue::new();
    queue.push(Segment::Bytes(Bytes::from(bytes)));
    while !queue.is_empty() {
        writer.write(&mut queue).await?;
    }
    Ok(())
}

/// Listens, and logs what one connection brings until it ends.
async fn listen_once(env: SimEnv, log: Log) {
    let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
    let (mut reader, _writer, _) = listener.accept().await.expect("accept");
    note(&log, "accepted");
    let mut total = 0;
    loop {
        let mut buffer = BytesMut::new();
        match reader.read_buf(&mut buffer).await {
            Ok(0) => break note(&log, format!("end after {total}")),
            Ok(count) => total += count,
            Err(error) => break note(&log, format!("{:?} after {total}", error.kind())),
        }
    }
    pending::<()>().await;
}

/// Two machines; the process on the second listens.
fn two(world: &World) -> (Node, Node, Log, Running<()>) {
    let client = world.node("client", NodeConfig::default());
    let server = world.node("server", NodeConfig::default());
    let log = Log::default();
    let for_server = Arc::clone(&log);
    let process = server.start(|env| listen_once(env, for_server));
    (client, server, log, process)
}

async fn address(env: &SimEnv) -> SocketAddr {
    env.net().resolve("server", PORT).await.expect("a name")[0]
}

async fn connect(env: &SimEnv) -> (impl NetReader, impl NetWriter) {
    let address = address(env).await;
    env.net().connect(address, SECOND * 5).await.expect("connect")
}

fn run<F: Future<Output = ()>>(scenario: impl Fn(World) -> F + Send + Sync) {
    for seed in 0..5 {
        Sim::new(seed, SimConfig::default()).run(&scenario);
    }
}

/// How an attempt to connect ended, and after how long.
async fn attempt(env: SimEnv) -> (String, Duration) {
    let address = address(&env).await;
    let begun = env.clock().now();
    let outcome = match env.net().connect(address, SECOND * 2).await {
        Ok(_) => "connected".to_owned(),
        Err(ConnectError::Io(error)) => error.to_string(),
        Err(error) => format!("{error:?}"),
    };
    (outcome, env.clock().now() - begun)
}

#[test]
fn a_dead_process_refuses_and_a_dead_machine_is_silent() {
    run(|world| async move {
        let (client, server, _, _) = two(&world);
        world.sleep(SECOND).await;
        server.kill();
        let (outcome, took) = client.start(attempt).join().await.expect("it returns");
        assert!(outcome == "Refused" && took < SECOND / 10, "{outcome} after {took:?}");
        server.power_cut();
        let (outcome, took) = client.start(attempt).join().await.expect("it returns");
        assert!(outcome == "TimedOut" && took >= SECOND * 2, "{outcome} after {took:?}");
    });
}

#[test]
fn an_attempt_to_connect_outlasts_a_short_partition() {
    run(|world| async move {
        let (client, server, log, _) = two(&world);
        world.sleep(SECOND).await;
        world.partition(&[&client], &[&server]);
        let attempting = client.start(attempt);
        world.sleep(SECOND / 2).await;
        world.mend(&[&client], &[&server]);
        let (outcome, took) = attempting.join().await.expect("it returns");
        assert!(outcome == "connected" && took >= SECOND, "{outcome} after {took:?}");
        world.sleep(SECOND).await;
        assert_eq!(noted(&log)[0], "accepted");
    });
}

#[test]
fn bytes_cross_a_partition_when_it_heals() {
    run(|world| async move {
        let (client, server, log, _) = two(&world);
        drop(client.start(|env| async move {
            let (_reader, mut writer) = connect(&env).await;
            for _ in 0..40 {
                send(&mut writer, vec![1; 1000]).await.expect("send");
                env.clock().sleep(SECOND / 10).await;
            }
            writer.finish().await.expect("finish");
            pending::<()>().await;
        }));
        world.sleep(SECOND).await;
        world.partition(&[&client], &[&server]);
        world.sleep(SECOND * 10).await;
        assert_eq!(noted(&log), ["accepted"]);
        world.mend(&[&client], &[&server]);
        world.sleep(SECOND * 20).await;
        assert_eq!(noted(&log), ["accepted", "end after 40000"]);
    });
}

#[test]
fn a_partition_without_end_fails_the_sender_and_leaves_the_reader_waiting() {
    run(|world| async move {
        let (client, server, log, _) = two(&world);
        let process = client.start(|env| async move {
            let (_reader, mut writer) = connect(&env).await;
            env.clock().sleep(SECOND * 2).await;
            loop {
                if let Err(error) = send(&mut writer, vec![1; 10]).await {
                    return error.kind();
                }
                env.clock().sleep(SECOND).await;
            }
        });
        world.sleep(SECOND).await;
        world.partition(&[&client], &[&server]);
        assert_eq!(process.join().await, Ok(io::ErrorKind::TimedOut));
        assert_eq!(noted(&log), ["accepted"]);
    });
}

/// A client that connects, sends a little, and then tells how its connection ends.
async fn hold(env: SimEnv, log: Log) {
    let (mut reader, mut writer) = connect(&env).await;
    send(&mut writer, vec![1; 100]).await.expect("send");
    let mut buffer = BytesMut::new();
    match reader.read_buf(&mut buffer).await {
        Ok(count) => note(&log, format!("client: {count}")),
        Err(error) => note(&log, format!("client: {:?}", error.kind())),
    }
    pending::<()>().await;
}

#[test]
fn a_killed_process_has_its_connections_closed() {
    run(|world| async move {
        let (client, server, log, _) = two(&world);
        let for_client = Arc::clone(&log);
        drop(client.start(|env| hold(env, for_client)));
        world.sleep(SECOND).await;
        server.kill();
        world.sleep(SECOND).await;
        assert_eq!(noted(&log), ["accepted", "client: 0"], "everything was read, so it is an orderly end");
    });
}

#[test]
fn a_process_killed_before_it_has_read_everything_resets() {
    run(|world| async move {
        let client = world.node("client", NodeConfig::default());
        let server = world.node("server", NodeConfig::default());
        let log = Log::default();
        drop(server.start(|env| async move {
            let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
            let _held = listener.accept().await.expect("accept");
            pending::<()>().await;
        }));
        let for_client = Arc::clone(&log);
        drop(client.start(|env| hold(env, for_client)));
        world.sleep(SECOND).await;
        server.kill();
        world.sleep(SECOND).await;
        assert_eq!(noted(&log), ["client: ConnectionReset"]);
    });
}

#[test]
fn a_power_cut_leaves_the_peer_waiting_until_it_speaks_to_the_new_boot() {
    run(|world| async move {
        let (client, server, log, _) = two(&world);
        let for_client = Arc::clone(&log);
        let process = client.start(|env| async move {
            let (mut reader, mut writer) = connect(&env).await;
            let mut buffer = BytesMut::new();
            let mut limit = Box::pin(env.clock().sleep(SECOND * 10));
            let mut read = Box::pin(reader.read_buf(&mut buffer));
            let silent = core::future::poll_fn(|task| {
                assert!(read.as_mut().poll(task).is_pending(), "a machine without power spoke");
                limit.as_mut().poll(task)
            });
            silent.await;
            note(&for_client, "silence");
            send(&mut writer, vec![1; 10]).await.expect("the kernel takes it");
            read.await.expect_err("the new boot knows nothing of it").kind()
        });
        world.sleep(SECOND).await;
        server.power_cut();
        world.sleep(SECOND * 5).await;
        let for_server = Arc::clone(&log);
        drop(server.start(|env| listen_once(env, for_server)));
        assert_eq!(process.join().await, Ok(io::ErrorKind::ConnectionReset));
        assert_eq!(noted(&log), ["accepted", "silence"]);
    });
}

#[test]
fn bytes_sent_to_a_closed_peer_bring_a_reset_and_its_last_words_can_be_read() {
    run(|world| async move {
        let client = world.node("client", NodeConfig::default());
        let server = world.node("server", NodeConfig::default());
        drop(server.start(|env| async move {
            let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
            let (reader, mut writer, _) = listener.accept().await.expect("accept");
            send(&mut writer, b"bye".to_vec()).await.expect("send");
            drop((reader, writer));
            pending::<()>().await;
        }));
        let process = client.start(|env| async move {
            let (mut reader, mut writer) = connect(&env).await;
            env.clock().sleep(SECOND).await;
            send(&mut writer, vec![1; 10]).await.expect("the kernel takes it");
            env.clock().sleep(SECOND).await;
            let mut buffer = BytesMut::new();
            while reader.read_buf(&mut buffer).await.expect("last words, then the end") > 0 {}
            (buffer, send(&mut writer, vec![1]).await.expect_err("a reset came").kind())
        });
        let (words, kind) = process.join().await.expect("it returns");
        assert_eq!((&words[..], kind), (&b"bye"[..], io::ErrorKind::BrokenPipe));
    });
}

#[test]
fn a_link_is_as_slow_as_it_is_set() {
    let latencies = [
        Latency::Uniform { min: SECOND / 2, max: SECOND / 2 },
        Latency::Exponential { min: SECOND / 2, mean: SECOND / 100 },
        Latency::Bimodal { usual: SECOND / 2, slow: SECOND, one_in: 3 },
    ];
    for latency in latencies {
        let latency = &latency;
        run(|world| async move {
            let (client, server, _, _) = two(&world);
            world.set_link(&client, &server, LinkSettings { latency: latency.clone() });
            let (outcome, took) = client.start(attempt).join().await.expect("it returns");
            assert!(outcome == "connected" && took >= SECOND / 2 && took < SECOND * 3 / 2, "{outcome} after {took:?}");
        });
    }
}

#[test]
fn a_small_window_stops_the_sender() {
    let config = SimConfig { window_bytes: 1000, ..SimConfig::default() };
    let report = Sim::new(1, config).run(|world| async move {
        let client = world.node("client", NodeConfig::default());
        let server = world.node("server", NodeConfig::default());
        let log = Log::default();
        let (for_server, seen) = (Arc::clone(&log), Arc::clone(&log));
        drop(server.start(|env| async move {
            let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
            let (mut reader, _writer, _) = listener.accept().await.expect("accept");
            env.clock().sleep(SECOND).await;
            note(&for_server, "reads");
            let mut buffer = BytesMut::new();
            while reader.read_buf(&mut buffer).await.expect("read") > 0 {}
            note(&for_server, format!("read {}", buffer.len()));
            pending::<()>().await;
        }));
        let process = client.start(|env| async move {
            let (_reader, mut writer) = connect(&env).await;
            send(&mut writer, vec![1; 1000]).await.expect("send");
            note(&log, "sent a window");
            send(&mut writer, vec![1; 9000]).await.expect("send");
            note(&log, "sent the rest");
            writer.finish().await.expect("finish");
            env.clock().sleep(SECOND).await;
        });
        process.join().await.expect("it returns");
        noted(&seen)
    });
    assert_eq!(report.value, ["sent a window", "reads", "sent the rest", "read 10000"]);
}

#[test]
fn names_of_nodes_resolve_and_others_do_not() {
    run(|world| async move {
        let (client, server, _, _) = two(&world);
        let process = client.start(|env| async move {
            let unknown = env.net().resolve("nowhere", PORT).await.expect_err("no such node").kind();
            (address(&env).await, env.net().resolve("localhost", 1).await.expect("localhost"), unknown)
        });
        let (address, local, unknown) = process.join().await.expect("it returns");
        assert_eq!(address, SocketAddr::new(server.ip(), PORT));
        assert_eq!((local, unknown), (vec![([127, 0, 0, 1], 1).into()], io::ErrorKind::NotFound));
        let refused = client.start(|env| async move { env.net().bind(([10, 77, 0, 1], 1).into()).await.err() });
        let kind = refused.join().await.expect("it returns").map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::AddrNotAvailable));
    });
}
