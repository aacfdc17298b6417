//! The same seed is the same run.

use core::{future::poll_fn, pin::pin, task::Poll, time::Duration};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use quipu_env::{Clock, Disk, Env, File, Listener, Net, NetReader, NetWriter, OpenOptions, Probe, Segment, WriteQueue};
use quipu_sim::{NodeConfig, Report, Sim, SimConfig, SimEnv, World, run_seeds};
use rand::RngExt;

const PORT: u16 = 9092;

/// Acknowledges each byte once it is durable.
async fn serve(env: SimEnv) {
    let file = env.disk().open(Path::new("log"), OpenOptions::CREATE).await.expect("open");
    env.disk().sync_dir(Path::new("")).await.expect("sync of the directory");
    let mut listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.expect("bind");
    loop {
        let (mut reader, mut writer, _) = listener.accept().await.expect("accept");
        let (env, file) = (env.clone(), file.clone());
        let shard = env.current_shard();
        let connection = env.clone();
        drop(env.spawn(shard, "connection", async move {
            let mut buffer = BytesMut::new();
            while let Ok(count) = reader.read_buf(&mut buffer).await {
                if count == 0 {
                    break;
                }
                connection.probe().sometimes("bytes came");
                let position = file.size().await.expect("size");
                let bytes = buffer.split().freeze();
                file.write_sync(position, vec![bytes.clone()]).await.expect("write").expect("sync");
                let mut queue = WriteQueue::new();
                queue.push(Segment::Bytes(bytes));
                while !queue.is_empty() && writer.write(&mut queue).await.is_ok() {}
            }
        }));
    }
}

/// The future's value, none after a second.
async fn within<F: Future>(env: &SimEnv, future: F) -> Option<F::Output> {
    let (mut future, mut limit) = (pin!(future), pin!(env.clock().sleep(Duration::from_secs(1))));
    poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => limit.as_mut().poll(task).map(|()| None),
    })
    .await
}

/// Sends bytes until `count` were acknowledged; connects again when the connection ends.
async fn produce(env: SimEnv, count: usize) -> usize {
    let mut rng = env.rng("client");
    let (mut acknowledged, mut connections) = (0, 0);
    while acknowledged < count {
        let address = env.net().resolve("server", PORT).await.expect("a name")[0];
        let connected = env.net().connect(address, Duration::from_secs(2)).await;
        let Ok((mut reader, mut writer)) = connected else {
            env.clock().sleep(Duration::from_millis(rng.random_range(1..50))).await;
            continue;
        };
        connections += 1;
        while acknowledged < count {
            let mut queue = WriteQueue::new();
            queue.push(Segment::Bytes(Bytes::from(vec![7; rng.random_range(1..2000)])));
            let expected = queue.len();
            while !queue.is_empty() && writer.write(&mut queue).await.is_ok() {}
            let mut answer = BytesMut::new();
            // A machine that lost its power says nothing, so waiting needs a limit.
            while answer.len() < expected && matches!(within(&env, reader.read_buf(&mut answer)).await, Some(Ok(1..))) {
            }
            acknowledged += answer.len();
            if answer.len() < expected {
                break;
            }
        }
    }
    connections
}

/// Three machines, one of which loses its power twice.
async fn scenario(world: World) -> usize {
    let server = world.node("server", NodeConfig::default());
    let first = world.node("first", NodeConfig::default());
    let second = world.node("second", NodeConfig::default());
    drop(server.start(serve));
    let clients = [first.start(|env| produce(env, 200_000)), second.start(|env| produce(env, 100_000))];
    for _ in 0..2 {
        world.sleep(Duration::from_millis(world.rng("faults").random_range(5..30))).await;
        server.power_cut();
        world.sleep(Duration::from_millis(100)).await;
        drop(server.start(serve));
    }
    world.partition(&[&server], &[&first, &second]);
    world.sleep(Duration::from_millis(300)).await;
    world.mend(&[&server], &[&first, &second]);
    let mut connections = 0;
    for client in clients {
        connections += client.join().await.expect("clients are not killed");
    }
    connections
}

fn run(seed: u64) -> Report<usize> {
    Sim::new(seed, SimConfig { keep_trace: true, ..SimConfig::default() }).run(scenario)
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in [0, 1, 77] {
        let (once, again) = (run(seed), run(seed));
        let traces = (once.trace.expect("kept"), again.trace.expect("kept"));
        let difference = traces.0.iter().zip(&traces.1).position(|(left, right)| left != right);
        if let Some(at) = difference {
            panic!("seed {seed}: event {at} is {:?} once and {:?} another time", traces.0[at], traces.1[at]);
        }
        assert_eq!((once.hash, once.event_count, once.value), (again.hash, again.event_count, again.value));
        assert!(once.event_count > 1000 && once.value >= 4, "{} events, {}", once.event_count, once.value);
        assert_eq!(once.event_count, traces.0.len() as u64);
        assert!(once.marks["bytes came"] > 100);
    }
}

#[test]
fn different_seeds_are_different_runs() {
    assert_ne!(run(1).hash, run(2).hash);
}

#[test]
fn fifty_seeds_are_the_same_one_by_one_and_on_four_threads() {
    let seeds: Vec<u64> = (100..150).collect();
    let hashes = |threads| {
        let reports = run_seeds(&seeds, &SimConfig::default(), threads, scenario).expect("no run fails");
        reports.into_iter().map(|report| report.hash).collect::<Vec<_>>()
    };
    let one_by_one = hashes(1);
    assert_eq!(one_by_one, hashes(4));
    let mut distinct = one_by_one;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), seeds.len());
}
