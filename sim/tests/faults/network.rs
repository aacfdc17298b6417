//! What goes wrong between machines.

use std::io::ErrorKind;

use quipu_env::{Clock, ConnectError, Env};
use quipu_sim::{
    NodeConfig, Report, World,
    fault::{Fault, Latency},
};

use crate::kit::{
    Log, MILLISECOND, SECOND, assert_bit, begin, bytes_of, connect, forever, names, on, read, read_all, run, send,
    serve, timed, try_connect, two,
};

/// Begins a fault once a client is connected to the server, and returns what the client then does.
fn connected<T, F>(
    fault: Fault,
    work: impl FnOnce(quipu_sim::SimEnv, quipu_sim::env::SimReader, quipu_sim::env::SimWriter) -> F + Send + 'static,
) -> (Report<T>, Log)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let log = Log::default();
    let seen = log.clone();
    let report = run(|world: World| async move {
        let client = world.node("client", NodeConfig::default());
        let server = world.node("server", NodeConfig::default());
        drop(server.start(|env| serve(env, seen)));
        let in_world = world.clone();
        on(&client, |env| async move {
            let (reader, writer) = connect(&env).await;
            env.clock().sleep(10 * MILLISECOND).await;
            begin(&in_world, fault);
            work(env, reader, writer).await
        })
        .await
    });
    (report, log)
}

fn sides() -> (Vec<String>, Vec<String>) {
    (names(&["client"]), names(&["server"]))
}

#[test]
fn latency() {
    let (from, to) = sides();
    let latency = Latency::Uniform { min: 300 * MILLISECOND, max: 300 * MILLISECOND };
    let fault = Fault::Latency { from, to, one_way: true, latency, lasts_ms: 1000 };
    let (report, _) = connected(fault, |env, mut reader, mut writer| async move {
        send(&mut writer, 1).await.expect("send");
        let slow = timed(&env, read_all(&mut reader, 1)).await.1;
        env.clock().sleep(SECOND).await;
        send(&mut writer, 1).await.expect("send");
        (slow, timed(&env, read_all(&mut reader, 1)).await.1)
    });
    let (slow, later) = report.value;
    assert!(slow >= 300 * MILLISECOND && slow < 302 * MILLISECOND, "{slow:?}");
    assert!(later < 2 * MILLISECOND, "{later:?}");
    assert_bit(&report, "latency");
}

#[test]
fn loss_delays_and_loses_nothing() {
    let (from, to) = sides();
    let fault = Fault::Loss { from, to, one_way: false, percent: 50, lasts_ms: 60_000 };
    let (report, log) = connected(fault, |env, mut reader, mut writer| async move {
        timed(&env, async {
            for _ in 0..20 {
                send(&mut writer, 100).await.expect("send");
                read_all(&mut reader, 100).await;
            }
        })
        .await
        .1
    });
    assert!(report.value > SECOND, "{:?}", report.value);
    assert_eq!(bytes_of(&log, 1), 2000);
    assert_bit(&report, "loss");
}

#[test]
fn everything_lost_for_long_fails_the_connection() {
    let (from, to) = sides();
    let fault = Fault::Loss { from, to, one_way: true, percent: 100, lasts_ms: 1_000_000 };
    let (report, log) = connected(fault, |env, mut reader, mut writer| async move {
        send(&mut writer, 1).await.expect("the kernel takes it");
        read(&env, &mut reader, 200 * SECOND).await
    });
    assert_eq!((report.value, log.lines()), (Some(Err(ErrorKind::TimedOut)), vec!["1 accepted".to_owned()]));
}

#[test]
fn a_partition_may_be_one_way_and_ends() {
    let (from, to) = sides();
    let fault = Fault::Partition { from: to, to: from, one_way: true, lasts_ms: 1000 };
    let (report, log) = connected(fault, |env, mut reader, mut writer| async move {
        send(&mut writer, 5).await.expect("send");
        let silent = read(&env, &mut reader, 900 * MILLISECOND).await;
        (silent, read(&env, &mut reader, SECOND * 2).await)
    });
    assert_eq!(report.value, (None, Some(Ok(5))));
    assert_eq!(bytes_of(&log, 1), 5, "the other way was open");
    assert_bit(&report, "partition");
}

#[test]
fn a_partition_need_not_be_transitive_and_can_be_healed_early() {
    run(|world| async move {
        let (client, _server, _) = two(&world);
        let third = world.node("third", NodeConfig::default());
        world.sleep(MILLISECOND).await;
        let (from, to) = sides();
        begin(&world, Fault::Partition { from, to, one_way: false, lasts_ms: 1_000_000 });
        assert!(on(&third, |env| async move { try_connect(&env).await.is_ok() }).await);
        let cut = on(&client, |env| async move { try_connect(&env).await.err() }).await;
        assert!(matches!(cut, Some(ConnectError::TimedOut)));
        world.heal();
        assert!(on(&client, |env| async move { try_connect(&env).await.is_ok() }).await);
    });
}

/// When 5,000 bytes that were sent into a clog of a second arrive.
fn through_clog(queue_bytes: u64) -> (Report<core::time::Duration>, Log) {
    let (from, to) = sides();
    let fault = Fault::Clog { from, to, one_way: true, queue_bytes, lasts_ms: 1000 };
    connected(fault, |env, mut reader, mut writer| async move {
        send(&mut writer, 5000).await.expect("send");
        timed(&env, read_all(&mut reader, 5000)).await.1
    })
}

#[test]
fn a_clog_lets_go_of_its_queue_at_once_and_of_the_rest_later() {
    let (report, log) = through_clog(1 << 20);
    assert!(report.value >= SECOND && report.value < SECOND + 5 * MILLISECOND, "{:?}", report.value);
    assert_eq!(bytes_of(&log, 1), 5000);
    assert_bit(&report, "clog");
    let (report, _) = through_clog(0);
    assert!(report.value > SECOND + 100 * MILLISECOND, "it was lost and sent again: {:?}", report.value);
}

#[test]
fn a_slow_link_is_as_fast_as_told() {
    let (from, to) = sides();
    let fault = Fault::SlowLink { from, to, one_way: true, bytes_per_second: 10_000, lasts_ms: 60_000 };
    let (report, _) = connected(fault, |env, mut reader, mut writer| async move {
        send(&mut writer, 20_000).await.expect("send");
        timed(&env, read_all(&mut reader, 20_000)).await.1
    });
    assert!(report.value >= 2 * SECOND && report.value < 2 * SECOND + 10 * MILLISECOND, "{:?}", report.value);
    assert_bit(&report, "slow-link");
}

#[test]
fn segments_may_be_single_bytes() {
    let (from, to) = sides();
    let fault = Fault::Segments { from, to, one_way: true, bytes_max: 1, lasts_ms: 1000 };
    let (report, log) = connected(fault, |_env, mut reader, mut writer| async move {
        send(&mut writer, 100).await.expect("send");
        read_all(&mut reader, 100).await;
    });
    let pieces = log.lines().len() - 1;
    assert!(pieces > 20, "{pieces} pieces");
    assert_eq!(bytes_of(&log, 1), 100);
    assert_bit(&report, "segments");
}

#[test]
fn a_shut_window_stops_the_sender_until_it_opens() {
    let (from, to) = sides();
    let fault = Fault::ZeroWindow { from, to, one_way: true, lasts_ms: 1000 };
    let (report, _) = connected(fault, |env, mut reader, mut writer| async move {
        let sent = timed(&env, send(&mut writer, 10)).await.1;
        read_all(&mut reader, 10).await;
        sent
    });
    assert!(report.value >= SECOND && report.value < SECOND + MILLISECOND, "{:?}", report.value);
    assert_bit(&report, "zero-window");
}

#[test]
fn a_reset_at_once_reaches_both_ends() {
    let (from, to) = sides();
    let (report, log) =
        connected(Fault::Reset { from, to, after_bytes: 0 }, |env, mut reader, mut writer| async move {
            (read(&env, &mut reader, SECOND).await, send(&mut writer, 1).await.map_err(|error| error.kind()))
        });
    assert_eq!(report.value, (Some(Err(ErrorKind::ConnectionReset)), Err(ErrorKind::ConnectionReset)));
    assert!(log.has("1 ConnectionReset"), "{:?}", log.lines());
    assert_bit(&report, "reset");
}

#[test]
fn a_reset_in_the_middle_of_a_frame_cuts_it() {
    let (from, to) = sides();
    let (report, log) =
        connected(Fault::Reset { from, to, after_bytes: 10 }, |env, mut reader, mut writer| async move {
            send(&mut writer, 100).await.expect("send");
            loop {
                let outcome = read(&env, &mut reader, SECOND).await;
                if !matches!(outcome, Some(Ok(1..))) {
                    return outcome;
                }
            }
        });
    assert_eq!(report.value, Some(Err(ErrorKind::ConnectionReset)));
    assert!(bytes_of(&log, 1) == 10 && log.has("1 ConnectionReset"), "{:?}", log.lines());
    assert_bit(&report, "reset");
}

#[test]
fn a_box_on_the_way_closes_connections_in_good_order() {
    let (from, to) = sides();
    let (report, log) = connected(Fault::Fin { from, to }, |env, mut reader, mut writer| async move {
        let end = read(&env, &mut reader, SECOND).await;
        send(&mut writer, 1).await.expect("the kernel takes it");
        env.clock().sleep(SECOND).await;
        (end, send(&mut writer, 1).await.map_err(|error| error.kind()))
    });
    assert_eq!(report.value, (Some(Ok(0)), Err(ErrorKind::BrokenPipe)));
    assert_eq!(log.lines(), ["1 accepted", "1 ended"]);
    assert_bit(&report, "fin");
}

#[test]
fn a_half_open_connection_shows_no_end_and_new_ones_work() {
    let (from, to) = sides();
    let (report, log) = connected(Fault::HalfOpen { from, to }, |env, mut reader, mut writer| async move {
        send(&mut writer, 10).await.expect("the kernel takes it");
        let (mut other, mut to_other) = connect(&env).await;
        send(&mut to_other, 3).await.expect("send");
        (read(&env, &mut other, SECOND).await, read(&env, &mut reader, 60 * SECOND).await)
    });
    assert_eq!(report.value, (Some(Ok(3)), None));
    assert_eq!(bytes_of(&log, 1), 0);
    assert!(!log.has("1 ended"), "{:?}", log.lines());
    assert_bit(&report, "half-open");
}

/// What a server sees of a client that sends 1 byte on a connection that is held back, gives it up, and sends 2 on another.
fn late(resets: bool) -> (Report<()>, Log) {
    let (from, to) = sides();
    let fault = Fault::LateSegments { from, to, one_way: true, delay_ms: 1000 };
    connected(fault, move |env, reader, mut writer| async move {
        send(&mut writer, 1).await.expect("send");
        if resets {
            quipu_env::NetWriter::reset(&mut writer);
        }
        drop((reader, writer));
        let (mut reader, mut writer) = connect(&env).await;
        send(&mut writer, 2).await.expect("send");
        read_all(&mut reader, 2).await;
        env.clock().sleep(5 * SECOND).await;
    })
}

#[test]
fn a_request_of_an_old_connection_comes_after_one_of_the_new() {
    let (report, log) = late(false);
    assert_eq!(log.lines()[..4], ["1 accepted", "2 accepted", "2 2", "1 1"]);
    assert_bit(&report, "late-segments");
    let (report, log) = late(true);
    assert_eq!(log.lines()[..4], ["1 accepted", "2 accepted", "2 2", "1 1"], "even if the old one was reset");
    assert!(log.has("1 ConnectionReset"), "{:?}", log.lines());
    assert_bit(&report, "late-segments");
}

#[test]
fn attempts_to_connect_are_ignored_or_refused_and_connections_live_on() {
    let silence = Fault::ConnectSilence { node: "server".to_owned(), lasts_ms: 5000 };
    let refusal = Fault::ConnectRefusal { node: "server".to_owned(), lasts_ms: 5000 };
    for fault in [silence, refusal] {
        let kind = fault.kind();
        let (report, _) = connected(fault, |env, mut reader, mut writer| async move {
            let (outcome, took) = timed(&env, try_connect(&env)).await;
            send(&mut writer, 1).await.expect("send");
            read_all(&mut reader, 1).await;
            env.clock().sleep(5 * SECOND).await;
            drop(connect(&env).await);
            (outcome.err().map(|error| format!("{error:?}")), took)
        });
        let (outcome, took) = report.value.clone();
        match kind {
            "connect-silence" => assert!(outcome.as_deref() == Some("TimedOut") && took >= 2 * SECOND, "{outcome:?}"),
            _ => assert!(outcome.as_deref() == Some("Refused") && took < SECOND / 10, "{outcome:?}"),
        }
        assert_bit(&report, kind);
    }
}

#[test]
fn faults_on_one_way_end_one_by_one() {
    run(|world| async move {
        let (client, _server, _) = two(&world);
        let (from, to) = sides();
        for lasts_ms in [1000, 3000] {
            let (from, to) = (from.clone(), to.clone());
            begin(&world, Fault::Partition { from, to, one_way: false, lasts_ms });
        }
        world.sleep(1500 * MILLISECOND).await;
        let still_cut = client.start(|env| async move { try_connect(&env).await.is_err() });
        world.sleep(SECOND).await;
        drop(still_cut);
        client.kill();
        world.sleep(SECOND).await;
        assert!(on(&client, |env| async move { try_connect(&env).await.is_ok() }).await);
        drop(client.start(|_| forever()));
    });
}
