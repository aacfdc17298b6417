//! Not enough descriptors, and too many connections.

use quipu_env::{Clock, ConnectError, Env, Net};
use quipu_sim::{NodeConfig, fault::Fault};

use crate::kit::{
    MILLISECOND, SECOND, assert_bit, begin, bytes_of, connect, counts, forever, on, open, read_all, run, send, two,
};

/// The system's number for "too many open files".
const EMFILE: Option<i32> = Some(24);

#[test]
fn whoever_opens_too_much_is_told_so_until_something_is_closed() {
    let report = run(|world| async move {
        let (client, _server, _) = two(&world);
        world.sleep(SECOND).await;
        let in_world = world.clone();
        on(&client, |env| async move {
            let first = open(&env, "/1").await.expect("open");
            begin(&in_world, Fault::FewDescriptors { node: "client".to_owned(), spare: 1, lasts_ms: 1000 });
            let _second = open(&env, "/2").await.expect("one more is allowed");
            let third = open(&env, "/3").await.map(drop).map_err(|error| error.raw_os_error());
            let address = env.net().resolve("server", 9092).await.expect("a name")[0];
            let connected = match env.net().connect(address, SECOND).await {
                Err(ConnectError::Io(error)) => Err(error.raw_os_error()),
                other => Ok(other.is_ok()),
            };
            let listened =
                env.net().bind(([0, 0, 0, 0], 1).into()).await.map(drop).map_err(|error| error.raw_os_error());
            assert_eq!((third, connected, listened), (Err(EMFILE), Err(EMFILE), Err(EMFILE)));
            drop(first);
            let _third = open(&env, "/3").await.expect("one was closed");
            env.clock().sleep(SECOND).await;
            let _fourth = open(&env, "/4").await.expect("the fault is over");
        })
        .await;
    });
    assert_eq!(counts(&report, "few-descriptors"), (1, 3));
}

#[test]
fn a_server_without_descriptors_accepts_later() {
    let report = run(|world| async move {
        let (client, _server, log) = two(&world);
        world.sleep(SECOND).await;
        begin(&world, Fault::FewDescriptors { node: "server".to_owned(), spare: 0, lasts_ms: 1000 });
        on(&client, |env| async move {
            let (mut reader, mut writer) = connect(&env).await;
            send(&mut writer, 5).await.expect("the kernel takes it");
            read_all(&mut reader, 5).await;
        })
        .await;
        log.lines()
    });
    assert_eq!(report.value[0], "not accepted: Some(24)");
    assert_eq!(report.value.last().map(String::as_str), Some("1 5"));
    assert_bit(&report, "few-descriptors");
}

#[test]
fn a_storm_of_connections_passes() {
    let report = run(|world| async move {
        let (client, _server, log) = two(&world);
        world.sleep(SECOND).await;
        let (from, to) = ("client".to_owned(), "server".to_owned());
        begin(&world, Fault::ConnectionStorm { from, to, count: 50, pause_us: 100, hold_ms: 200 });
        world.sleep(100 * MILLISECOND).await;
        assert_eq!(log.lines().len(), 50, "all are accepted");
        on(&client, |env| async move {
            let (mut reader, mut writer) = connect(&env).await;
            send(&mut writer, 5).await.expect("send");
            read_all(&mut reader, 5).await;
        })
        .await;
        world.sleep(SECOND).await;
        assert_eq!(bytes_of(&log, 51), 5);
        let ended = log.lines().iter().filter(|line| line.ends_with("ended")).count();
        assert_eq!(ended, 51, "{:?}", log.lines());
    });
    assert_eq!(counts(&report, "connection-storm"), (1, 50));
}

#[test]
fn a_storm_without_a_listener_is_refused_and_harmless() {
    let report = run(|world| async move {
        let machine = world.node("a", NodeConfig::default());
        drop(machine.start(|_| forever()));
        let (from, to) = ("a".to_owned(), "a".to_owned());
        begin(&world, Fault::ConnectionStorm { from, to, count: 5, pause_us: 1, hold_ms: 1 });
        world.sleep(SECOND).await;
    });
    assert_eq!(counts(&report, "connection-storm"), (1, 0));
}
