//! The trace for people.

use quipu_env::{Clock, Env, File, Probe};
use quipu_sim::{Happening, MessageKind, NodeConfig, PowerCut, Sim, SimConfig, World, fault::Fault};

use crate::kit::{Log, MILLISECOND, SECOND, begin, connect, durable, forever, names, read_all, send, serve};

async fn scenario(world: World) {
    let client = world.node("client", NodeConfig::default());
    let server = world.node("server", NodeConfig::default());
    drop(server.start(|env| serve(env, Log::default())));
    let process = client.start(|env| async move {
        let (mut reader, mut writer) = connect(&env).await;
        send(&mut writer, 100).await.expect("send");
        read_all(&mut reader, 100).await;
        let file = durable(&env, "/f", vec![1; 10]).await;
        env.probe().event("kept", &[("bytes", 10)]);
        env.probe().sometimes("kept");
        env.probe().crash_point("kept");
        file.read_at(0, 10).await.expect_err("the fault says so");
        drop((reader, writer));
        env.clock().sleep(10 * MILLISECOND).await;
    });
    let (node, below) = ("client".to_owned(), "/f".to_owned());
    begin(&world, Fault::ReadFails { node, below, skip: 0, times: 1 });
    process.join().await.expect("it returns");
    begin(&world, Fault::Pause { node: "server".to_owned(), lasts_ms: 10 });
    world.sleep(SECOND).await;
    world.note("checker", "all is well");
    begin(
        &world,
        Fault::Partition { from: names(&["client"]), to: names(&["server"]), one_way: true, lasts_ms: 1 << 20 },
    );
    drop(client.start(|env| async move {
        drop(connect(&env).await);
        forever().await;
    }));
    world.heal();
    let (keep, torn_sectors, garbage_tails) = (PowerCut::Random, true, true);
    begin(&world, Fault::PowerCut { node: "server".to_owned(), down_ms: 1, keep, torn_sectors, garbage_tails });
}

fn play(keep_trace: bool) -> (u64, Option<Vec<Happening>>) {
    let report = Sim::new(1, SimConfig { keep_trace, ..SimConfig::default() }).run(scenario);
    (report.hash, report.happenings)
}

#[test]
fn it_tells_what_happened_and_when() {
    let happenings = play(true).1.expect("kept");
    let count =
        |is_meant: &dyn Fn(&Happening) -> bool| happenings.iter().filter(|happening| is_meant(happening)).count();
    let machines = count(&|h| matches!(h, Happening::Machine { name, .. } if name == "client" || name == "server"));
    assert_eq!(machines, 2);
    assert_eq!(count(&|h| matches!(h, Happening::Start { node: 0, .. })), 2);
    assert_eq!(count(&|h| matches!(h, Happening::End { node: 1, how, .. } if how == "the power went")), 1);
    let mut connection = None;
    let mut carried = [0, 0];
    for happening in &happenings {
        let Happening::Message { connection: number, from, to, kind: MessageKind::Data, bytes, sent, delivered } =
            happening
        else {
            continue;
        };
        assert!(delivered.is_some_and(|delivered| delivered > *sent && *from != *to), "{happening:?}");
        assert_eq!(connection.get_or_insert(*number), number, "both directions are one connection");
        carried[usize::from(*from == 1)] += bytes;
    }
    assert_eq!(carried, [100, 100]);
    for kind in [MessageKind::Connect, MessageKind::Accepted, MessageKind::Finish] {
        assert!(count(&|h| matches!(h, Happening::Message { kind: told, .. } if *told == kind)) > 0, "{kind:?}");
    }
    for wanted in ["open", "write_at", "sync_data", "sync_dir"] {
        let done = |h: &Happening| {
            matches!(h, Happening::Disk { operation, begun, ended, failure: None, path, .. }
                if *operation == wanted && ended > begun && path.starts_with('/'))
        };
        assert!(count(&done) > 0, "{wanted}");
    }
    let failed = |h: &Happening| matches!(h, Happening::Disk { operation: "read_at", bytes: 10, failure: Some(why), .. } if why.contains("read"));
    assert_eq!(count(&failed), 1);
    assert_eq!(count(&|h| matches!(h, Happening::Fault { .. })), 4);
    assert_eq!(count(&|h| matches!(h, Happening::FaultOver { .. })), 1, "the pause");
    assert_eq!(count(&|h| matches!(h, Happening::FaultHappened { kind: "read-fails", .. })), 1);
    assert_eq!(count(&|h| matches!(h, Happening::Heal { .. })), 1);
    assert_eq!(count(&|h| matches!(h, Happening::Probe { node: 0, name: "kept", .. })), 1);
    assert_eq!(
        count(&|h| matches!(h, Happening::Mark { name: "kept", .. } | Happening::CrashPoint { name: "kept", .. })),
        2
    );
    assert_eq!(count(&|h| matches!(h, Happening::Note { lane, .. } if lane == "checker")), 1);
}

#[test]
fn it_can_be_written_as_json_and_costs_nothing_when_not_kept() {
    let (hash, happenings) = play(true);
    let json = serde_json::to_value(happenings.expect("kept")).expect("it can be written");
    let first = &json.as_array().expect("a list")[0];
    assert_eq!((first["what"].as_str(), first["name"].as_str()), (Some("machine"), Some("client")));
    assert_eq!(play(false), (hash, None));
}
