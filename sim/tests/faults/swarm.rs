//! Every kind of fault, drawn, in a small world of one server with a disk and two clients: it bites, nothing panics, the world
//! goes on once it is healed, and the same seed is the same run.

use core::time::Duration;

use bytes::BytesMut;
use quipu_env::{Clock, Disk, Env, File, Listener, Net, NetReader, OpenOptions, Probe};
use quipu_sim::{
    Down, Node, NodeConfig, Report, Sim, SimConfig, SimEnv, World,
    fault::{Fault, Targets},
};
use rand::RngExt;

use crate::kit::{MILLISECOND, PORT, SECOND, begin, counts, names, read, send, try_connect, within};

const RUNS_MAX: u64 = 30;

/// Keeps what comes, in a log and in segments, and answers when it is synced. Gives up at the first trouble of its disk.
async fn serve(env: SimEnv) {
    let Ok(file) = prepare(&env).await else { return };
    loop {
        let Ok(mut listener) = env.net().bind(([0, 0, 0, 0], PORT).into()).await else {
            env.clock().sleep(SECOND / 10).await;
            continue;
        };
        loop {
            let Ok((mut reader, mut writer, _)) = listener.accept().await else {
                env.clock().sleep(SECOND / 10).await;
                continue;
            };
            let (connection, file) = (env.clone(), file.clone());
            drop(env.spawn(env.current_shard(), "connection", async move {
                let mut buffer = BytesMut::new();
                while matches!(reader.read_buf(&mut buffer).await, Ok(1..)) {
                    let bytes = buffer.split().freeze();
                    let count = bytes.len();
                    connection.clock().wall();
                    if keep(&connection, &file, bytes).await.is_none() || send(&mut writer, count).await.is_err() {
                        return;
                    }
                }
            }));
        }
    }
}

async fn prepare(env: &SimEnv) -> Result<quipu_sim::env::SimFile, ()> {
    for directory in ["/data/wal", "/data/seg"] {
        env.disk().create_dir_all(directory.as_ref()).await.map_err(drop)?;
        for above in ["/", "/data"] {
            env.disk().sync_dir(above.as_ref()).await.map_err(drop)?;
        }
    }
    env.probe().crash_point("prepared");
    let file = env.disk().open("/data/wal/1".as_ref(), OpenOptions::CREATE).await.map_err(drop)?;
    env.disk().sync_dir("/data/wal".as_ref()).await.map_err(drop)?;
    Ok(file)
}

async fn keep(env: &SimEnv, file: &quipu_sim::env::SimFile, bytes: bytes::Bytes) -> Option<()> {
    let position = file.size().await.ok()?;
    env.probe().crash_point("sized");
    file.write_sync(position, vec![bytes.clone()]).await.ok()?.ok()?;
    env.probe().crash_point("kept");
    let segment = env.disk().open("/data/seg/1".as_ref(), OpenOptions::CREATE).await.ok()?;
    segment.write_at(position, vec![bytes]).await.ok()?;
    segment.sync_data().await.ok()?;
    let before = position.saturating_sub(4096);
    file.read_at(before, 4096).await.ok()?;
    segment.read_at(before, 4096).await.ok().map(drop)
}

/// Sends for ever, on new connections when old ones end or stay silent. Marks each answer.
async fn ask(env: SimEnv) {
    let mut rng = env.rng("client");
    loop {
        if let Ok((mut reader, mut writer)) = try_connect(&env).await {
            for _ in 0..50 {
                let sent = within(&env, SECOND, send(&mut writer, rng.random_range(1..3000))).await;
                if !matches!(sent, Some(Ok(()))) {
                    break;
                }
                match read(&env, &mut reader, SECOND).await {
                    Some(Ok(1..)) => env.probe().event("answer", &[]),
                    _ => break,
                }
                env.clock().sleep(Duration::from_millis(rng.random_range(5..40))).await;
            }
        }
        env.clock().sleep(Duration::from_millis(rng.random_range(1..50))).await;
    }
}

/// Starts the server again whenever it is down.
async fn keep_up(server: Node, world: World) {
    loop {
        let _: Down = server.wait_down().await;
        world.sleep(50 * MILLISECOND).await;
        drop(server.start(serve));
    }
}

async fn scenario(world: World, kinds: Vec<&'static str>) {
    let server = world.node("server", NodeConfig::default());
    drop(server.start(serve));
    for name in ["one", "two"] {
        drop(world.node(name, NodeConfig::default()).start(ask));
    }
    let targets =
        Targets { servers: names(&["server"]), clients: names(&["one", "two"]), data_dir: "/data".to_owned() };
    let mut rng = world.rng("faults");
    let faults = async {
        for kind in kinds {
            world.sleep(Duration::from_millis(rng.random_range(1..500))).await;
            begin(&world, Fault::draw(kind, &mut rng, &targets));
            world.sleep(Duration::from_millis(rng.random_range(1..4000))).await;
        }
        world.heal();
        world.sleep(20 * SECOND).await;
    };
    tokio::select! { biased;
        () = faults => {}
        () = keep_up(server, world.clone()) => {}
    }
}

fn play(seed: u64, kinds: &[&'static str], keep_trace: bool) -> Report<()> {
    let config = SimConfig { keep_trace, ..SimConfig::default() };
    let report = Sim::new(seed, config).run(|world| scenario(world, kinds.to_vec()));
    let last_second = u64::try_from((report.virtual_time - SECOND).as_nanos()).expect("a short run");
    let answers = report.probe_events.iter().filter(|event| event.name == "answer" && event.at > last_second).count();
    assert!(answers > 0, "seed {seed}, {kinds:?}: nobody is answered in the end");
    report
}

#[test]
fn every_kind_of_fault_bites_sooner_or_later_and_the_world_goes_on() {
    // What is the scenario's to do only that can count.
    for kind in Fault::KINDS.iter().filter(|kind| !["stop", "twin"].contains(kind)) {
        let bites = (0..RUNS_MAX).any(|seed| {
            let report = play(seed, &[kind], false);
            assert_eq!(counts(&report, kind).0, 1);
            counts(&report, kind).1 > 0
        });
        assert!(bites, "{kind} did nothing in {RUNS_MAX} runs");
    }
}

#[test]
fn the_same_seed_with_many_faults_is_the_same_run() {
    for seed in 100..104 {
        let kinds: Vec<&'static str> = {
            let mut kinds = Fault::KINDS.to_vec();
            kinds.rotate_left(usize::try_from(seed - 100).expect("small") * 7);
            kinds.truncate(10);
            kinds
        };
        let (once, again) = (play(seed, &kinds, true), play(seed, &kinds, true));
        let traces = (once.trace.expect("kept"), again.trace.expect("kept"));
        let differs = traces.0.iter().zip(&traces.1).position(|(left, right)| left != right);
        assert_eq!(differs.map(|at| (traces.0[at], traces.1[at])), None, "seed {seed}");
        assert_eq!((once.hash, once.happenings), (again.hash, again.happenings));
    }
}
