//! Links between simulated nodes: order, refusals, flow control, what is told when they break, and hostile bytes.

#![expect(clippy::unwrap_used, reason = "a test")]

use core::{future::pending, time::Duration};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, limits::MIB};
use quipu_env::{Clock, Disk, Env, File, Net, NetReader, NetWriter, OpenOptions, Segment, WriteQueue, watch};
use quipu_peer::{
    Dropped, Events, Expected, Frame, Lane, Own, PeerAddress, PeerEvent, PeerIdentity, Peers, Received, RefusalCode,
    Settings,
    frame::{Bounds, take_head},
    hello::{Answer, Hello, VERSIONS, decode_answer, encode_hello},
};
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, SimEnv, World};
use rand::Rng;
use tokio::sync::mpsc;

const PORT: u16 = 9192;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const A: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);

type SimFrame = Frame<quipu_peer::FileOf<SimEnv>>;

/// One node's end of things.
struct End {
    env: SimEnv,
    peers: Peers<SimEnv>,
    own: watch::Sender<Own>,
    inbox: mpsc::Receiver<Received>,
    events: Events,
}

fn own(id: BrokerId) -> Own {
    Own {
        cluster_id: Some(ClusterId([9; 16])),
        node_id: id,
        directory_id: DirectoryId([u8::try_from(id.0).unwrap(); 16]),
        start_id: [1; 16],
        broker_epoch: Some(BrokerEpoch(5)),
        address: None,
    }
}

fn at(host: &str) -> Option<PeerAddress> {
    Some(PeerAddress { host: host.to_owned(), port: PORT })
}

async fn end_with(env: SimEnv, own: Own, settings: Settings, inbox_frames: usize) -> End {
    let listener = env.net().bind(([0, 0, 0, 0], PORT).into()).await.unwrap();
    let (own, watched) = watch::channel(own);
    let (sender, inbox) = mpsc::channel(inbox_frames);
    let deliver = move |_: &PeerIdentity, lane: Lane| (lane != Lane::CatchUp(9)).then(|| sender.clone());
    let peers = Peers::start(env.clone(), watched, Some(listener), settings, deliver);
    let events = peers.events();
    End { env, peers, own, inbox, events }
}

/// Both nodes know where the other is.
async fn end(env: SimEnv, id: BrokerId) -> End {
    let end = end_with(env, own(id), Settings::default(), 1000).await;
    end.peers.set_address(A, at("a"), None);
    end.peers.set_address(B, at("b"), None);
    end
}

fn frame(header: impl Into<Bytes>) -> SimFrame {
    Frame::new(header.into())
}

fn with_body(header: &str, body: Bytes) -> SimFrame {
    Frame { header: Bytes::copy_from_slice(header.as_bytes()), body: vec![Segment::Bytes(body)] }
}

fn nodes(world: &World) -> (Node, Node) {
    (world.node("a", NodeConfig::default()), world.node("b", NodeConfig::default()))
}

fn run<F: Future<Output = ()>>(scenario: impl Fn(World) -> F + Send + Sync) {
    for seed in 0..5 {
        Sim::new(seed, SimConfig::default()).run(&scenario);
    }
}

fn text(received: &Received) -> String {
    String::from_utf8(received.header.to_vec()).unwrap()
}

/// Starts B, which keeps the headers of what it gets.
fn start_noting(node: &Node) -> Arc<Mutex<Vec<String>>> {
    let noted = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&noted);
    drop(node.start(|env| async move {
        let mut end = end(env, B).await;
        while let Some(received) = end.inbox.recv().await {
            notes.lock().unwrap().push(text(&received));
        }
    }));
    noted
}

#[test]
fn frames_of_a_lane_arrive_in_order_and_whole() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let receiving = b.start(|env| async move {
            let mut end = end(env, B).await;
            let mut tails = Vec::new();
            while tails.len() < 100 {
                let received = end.inbox.recv().await.unwrap();
                assert_eq!(received.from, own(A).identity());
                let number: usize = text(&received).parse().unwrap();
                assert_eq!(received.body.len(), number * 100_003 % (3 * MIB));
                assert!(received.body.iter().all(|byte| usize::from(*byte) == number % 256));
                match received.lane {
                    Lane::Tail(1) => tails.push(number),
                    lane => assert_eq!(lane, Lane::Quorum),
                }
            }
            assert_eq!(tails, (0..100).collect::<Vec<_>>());
            end.env.clock().sleep(SECOND).await;
            end.peers.stop().await;
        });
        drop(a.start(|env| async move {
            let end = end(env, A).await;
            for number in 0..100_usize {
                let body = Bytes::from(vec![u8::try_from(number % 256).unwrap(); number * 100_003 % (3 * MIB)]);
                while end.peers.send(B, Lane::Tail(1), with_body(&number.to_string(), body.clone())).is_err() {
                    end.env.clock().sleep(MS).await;
                }
                end.peers.send(B, Lane::Quorum, frame("0")).unwrap();
            }
            pending::<()>().await;
        }));
        receiving.join().await.unwrap();
    });
}

#[test]
fn a_body_may_come_from_a_file() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let receiving = b.start(|env| async move { end(env, B).await.inbox.recv().await.unwrap().body });
        drop(a.start(|env| async move {
            let file = env.disk().open(Path::new("f"), OpenOptions::CREATE).await.unwrap();
            file.write_at(0, vec![Bytes::from_static(b"a record: quipu, and more")]).await.unwrap();
            let end = end(env, A).await;
            let body = vec![
                Segment::Bytes(Bytes::from_static(b"<")),
                Segment::File { file, position: 10, length: 5 },
                Segment::Bytes(Bytes::from_static(b">")),
            ];
            end.peers.send(B, Lane::CatchUp(0), Frame { header: Bytes::new(), body }).unwrap();
            pending::<()>().await;
        }));
        assert_eq!(receiving.join().await.unwrap()[..], *b"<quipu>");
    });
}

/// What A is told when it calls B.
fn outcome(of: Own, called: BrokerId, lane: Lane, settings: Settings, expected: Option<DirectoryId>) -> PeerEvent {
    let report = Sim::new(1, SimConfig::default()).run(|world| async move {
        let (a, b) = nodes(&world);
        let _noted = start_noting(&b);
        let calling = a.start(move |env| async move {
            let mut end = end_with(env, of, settings, 10).await;
            let expected = expected.map(|directory| Expected { directory, is_serving: false });
            end.peers.set_address(called, at("b"), expected);
            end.env.clock().sleep(SECOND).await;
            end.peers.send(called, lane, frame("x")).unwrap();
            let event = end.events.next().await;
            end.env.clock().sleep(SECOND).await;
            assert_eq!(end.peers.queued_bytes(called, lane), 0, "it was sent or dropped");
            event
        });
        calling.join().await.unwrap()
    });
    report.value
}

#[test]
fn who_has_no_business_here_is_told_so() {
    let code = |of, called, lane, settings, expected| match outcome(of, called, lane, settings, expected) {
        PeerEvent::Refused { reason, .. } => Err(reason.code),
        PeerEvent::Connected(peer, _) => Ok(peer),
        PeerEvent::Lost { .. } => panic!("it is there"),
    };
    let usual = Settings::default;
    let tail = Lane::Tail(0);
    assert_eq!(code(own(A), B, tail, usual(), None), Ok(own(B).identity()));
    let other = Own { cluster_id: Some(ClusterId([8; 16])), ..own(A) };
    assert_eq!(code(other, B, Lane::Quorum, usual(), None), Err(RefusalCode::OtherCluster));
    assert_eq!(code(own(A), BrokerId(3), Lane::Quorum, usual(), None), Err(RefusalCode::OtherNode));
    assert_eq!(code(own(B), BrokerId(3), Lane::Quorum, usual(), None), Err(RefusalCode::DuplicateNodeId));
    let unregistered = Own { broker_epoch: None, ..own(A) };
    assert_eq!(code(unregistered.clone(), B, tail, usual(), None), Err(RefusalCode::NotRegistered));
    assert_eq!(code(unregistered, B, Lane::Control, usual(), None), Ok(own(B).identity()));
    let later = Settings { versions: (VERSIONS.1 + 1, VERSIONS.1 + 1), ..usual() };
    assert_eq!(code(own(A), B, Lane::Quorum, later, None), Err(RefusalCode::NoCommonVersion));
    let bumped = Settings { versions: (VERSIONS.0, VERSIONS.1 + 1), ..usual() };
    assert_eq!(code(own(A), B, Lane::Quorum, bumped, None), Ok(own(B).identity()));
    assert_eq!(code(own(A), B, tail, usual(), Some(DirectoryId([7; 16]))), Err(RefusalCode::OtherDirectory));
    assert_eq!(code(own(A), B, Lane::CatchUp(9), usual(), None), Err(RefusalCode::NotReady));
}

#[test]
fn sends_that_cannot_be_are_refused() {
    run(|world| async move {
        let (a, _b) = nodes(&world);
        let trying = a.start(|env| async move {
            let end =
                end_with(env, own(A), Settings { queue_frames: 3, queue_bytes: 1000, ..Settings::default() }, 10).await;
            let send = |bytes: usize| end.peers.send(B, Lane::Control, frame(vec![0; bytes]));
            assert_eq!(send(1), Err(Dropped::NoAddress));
            end.peers.set_address(B, at("b"), None);
            assert_eq!(send(21 * MIB), Err(Dropped::TooLarge));
            assert_eq!(send(2000), Ok(()), "a large one goes alone");
            assert_eq!(send(1), Err(Dropped::Full));
            end.env.clock().sleep(SECOND).await;
            assert_eq!(end.peers.queued_bytes(B, Lane::Control), 0, "nobody is there");
            let sent: Vec<_> = (0..4).map(|_| send(1)).collect();
            assert_eq!(sent, [Ok(()), Ok(()), Ok(()), Err(Dropped::Full)]);
            end.peers.set_address(B, None, None);
            assert_eq!(send(1), Err(Dropped::NoAddress));
        });
        trying.join().await.unwrap();
    });
}

fn lost(lane: Lane, is_absent: bool) -> PeerEvent {
    PeerEvent::Lost { node: B, lane, is_absent }
}

#[test]
fn a_killed_node_is_told_at_once_and_linked_to_when_it_is_back() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let first = start_noting(&b);
        let killed_at = Arc::<Mutex<Option<Duration>>>::default();
        let (watching, watched) = (world.clone(), Arc::clone(&killed_at));
        drop(a.start(|env| async move {
            let mut end = end(env, A).await;
            end.env.clock().sleep(SECOND).await;
            end.peers.send(B, Lane::Quorum, frame("one")).unwrap();
            assert!(matches!(end.events.next().await, PeerEvent::Connected(..)));
            assert_eq!(end.events.next().await, lost(Lane::Quorum, false));
            let after = watching.elapsed() - watched.lock().unwrap().unwrap();
            assert!(after < 10 * MS, "told after {after:?}");
            end.peers.send(B, Lane::Quorum, frame("two")).unwrap();
            assert_eq!(end.events.next().await, lost(Lane::Quorum, true), "its process has ended");
            loop {
                end.peers.send(B, Lane::Quorum, frame("two")).unwrap();
                match end.events.next().await {
                    PeerEvent::Connected(..) => break,
                    PeerEvent::Lost { .. } => {}
                    event @ PeerEvent::Refused { .. } => panic!("{event:?}"),
                }
            }
            pending::<()>().await;
        }));
        world.sleep(3 * SECOND).await;
        assert_eq!(*first.lock().unwrap(), ["one"]);
        *killed_at.lock().unwrap() = Some(world.elapsed());
        b.kill();
        world.sleep(2 * SECOND).await;
        let second = start_noting(&b);
        world.sleep(SECOND).await;
        assert_eq!(*second.lock().unwrap(), ["two"]);
        assert!(a.is_up());
    });
}

#[test]
fn a_full_inbox_stops_the_sender_and_not_the_link() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let slow = b.start(|env| async move {
            let settings = Settings { inbox_bytes: MIB + 100, ..Settings::default() };
            let mut end = end_with(env, own(B), settings, 1000).await;
            let held = end.inbox.recv().await.unwrap();
            end.env.clock().sleep(20 * SECOND).await;
            assert_eq!(end.inbox.len(), 1, "half a mebibyte each, and the bound is little more than one");
            drop(held);
            let mut count = 1;
            while count < 40 {
                assert_eq!(end.inbox.recv().await.unwrap().body.len(), MIB / 2);
                count += 1;
            }
        });
        drop(a.start(|env| async move {
            let mut end = end(env, A).await;
            end.env.clock().sleep(SECOND).await;
            let body = Bytes::from(vec![7; MIB / 2]);
            let mut count = 0;
            while end.peers.send(B, Lane::Tail(0), with_body("x", body.clone())).is_ok() {
                count += 1;
            }
            assert_eq!(count, 31, "sixteen mebibytes, but for the headers");
            while count < 40 {
                end.env.clock().sleep(SECOND).await;
                while count < 40 && end.peers.send(B, Lane::Tail(0), with_body("x", body.clone())).is_ok() {
                    count += 1;
                }
                assert!(end.peers.queued_bytes(B, Lane::Tail(0)) <= 16 * MIB);
            }
            assert!(matches!(end.events.next().await, PeerEvent::Connected(..)));
            end.env.clock().sleep(60 * SECOND).await;
            assert_eq!((end.events.try_next(), end.peers.queued_bytes(B, Lane::Tail(0))), (None, 0));
            pending::<()>().await;
        }));
        slow.join().await.unwrap();
        assert!(a.is_up());
    });
}

#[test]
fn a_partition_is_noticed_by_whoever_sends_and_mends() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let noted = start_noting(&b);
        let events = Arc::<Mutex<Vec<(Duration, bool)>>>::default();
        let (seen, watching) = (Arc::clone(&events), world.clone());
        drop(a.start(|env| async move {
            let mut end = end(env, A).await;
            let mut count = 0;
            loop {
                end.env.clock().sleep(50 * MS).await;
                count += 1;
                end.peers.send(B, Lane::Quorum, frame(count.to_string())).unwrap();
                while let Some(event) = end.events.try_next() {
                    seen.lock().unwrap().push((watching.elapsed(), matches!(event, PeerEvent::Connected(..))));
                }
            }
        }));
        world.sleep(10 * SECOND).await;
        assert!(events.lock().unwrap().last().unwrap().1);
        let before = noted.lock().unwrap().len();
        world.partition(&[&a], &[&b]);
        world.sleep(5 * SECOND).await;
        assert_eq!(noted.lock().unwrap().len(), before);
        let lost = events.lock().unwrap().iter().find(|(at, is_up)| *at > 10 * SECOND && !is_up).unwrap().0;
        assert!(lost < 13 * SECOND, "after two seconds of silence: {lost:?}");
        world.mend(&[&a], &[&b]);
        world.sleep(2 * SECOND).await;
        assert!(noted.lock().unwrap().len() > before && events.lock().unwrap().last().unwrap().1);
        let numbers: Vec<u64> = noted.lock().unwrap().iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "in order, none twice: {numbers:?}");
    });
}

#[test]
fn an_idle_link_costs_nothing() {
    let events_of = |idle: Duration| {
        let report = Sim::new(3, SimConfig::default()).run(|world| async move {
            let (a, b) = nodes(&world);
            let noted = start_noting(&b);
            drop(a.start(|env| async move {
                let end = end(env, A).await;
                end.env.clock().sleep(SECOND).await;
                end.peers.send(B, Lane::Quorum, frame("only")).unwrap();
                pending::<()>().await;
            }));
            world.sleep(5 * SECOND).await;
            assert_eq!(*noted.lock().unwrap(), ["only"]);
            world.sleep(idle).await;
        });
        report.event_count
    };
    assert_eq!(events_of(SECOND), events_of(3000 * SECOND));
}

#[test]
fn a_new_registration_makes_data_links_anew() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        drop(b.start(|env| async move {
            let end = end(env, B).await;
            end.env.clock().sleep(5 * SECOND).await;
            end.own.send_modify(|own| own.broker_epoch = Some(BrokerEpoch(6)));
            pending::<()>().await;
        }));
        let calling = a.start(|env| async move {
            let mut end = end(env, A).await;
            end.env.clock().sleep(SECOND).await;
            for lane in [Lane::Quorum, Lane::Tail(0)] {
                end.peers.send(B, lane, frame("x")).unwrap();
                assert_eq!(end.events.next().await, PeerEvent::Connected(own(B).identity(), lane));
            }
            let lost = lost(Lane::Tail(0), false);
            assert_eq!(end.events.next().await, lost, "B's registration changed");
            end.peers.send(B, Lane::Tail(0), frame("y")).unwrap();
            let PeerEvent::Connected(peer, Lane::Tail(0)) = end.events.next().await else { panic!("it is there") };
            assert_eq!(peer.broker_epoch, Some(BrokerEpoch(6)));
            end.own.send_modify(|own| own.broker_epoch = Some(BrokerEpoch(9)));
            assert_eq!(end.events.next().await, lost, "A's did");
            end.env.clock().sleep(SECOND).await;
            assert_eq!(end.events.try_next(), None, "the quorum's link stays");
        });
        calling.join().await.unwrap();
    });
}

/// Connects without `Peers`, and sends bytes.
async fn raw(env: &SimEnv, bytes: &[u8]) -> (impl NetReader + use<>, impl NetWriter + use<>) {
    let address: SocketAddr = env.net().resolve("b", PORT).await.unwrap()[0];
    let (reader, mut writer) = env.net().connect(address, SECOND).await.unwrap();
    send(&mut writer, bytes).await;
    (reader, writer)
}

/// Sends as long as somebody takes it.
async fn send(writer: &mut impl NetWriter, bytes: &[u8]) {
    let mut queue = WriteQueue::new();
    queue.push(Segment::Bytes(Bytes::copy_from_slice(bytes)));
    while !queue.is_empty() && writer.write(&mut queue).await.is_ok() {}
}

/// Everything until the connection ends.
async fn rest(mut reader: impl NetReader) -> BytesMut {
    let mut bytes = BytesMut::new();
    while matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {}
    bytes
}

fn hello(lane: Lane) -> Bytes {
    let hello = Hello {
        versions: VERSIONS,
        cluster_id: None,
        from: own(A).identity(),
        called: B,
        lane,
        release: String::new(),
        address: None,
    };
    SimFrame::new(encode_hello(&hello)).head()
}

#[test]
fn hostile_bytes_end_their_connection_and_nothing_else() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let noted = start_noting(&b);
        let mut rng = world.rng("bytes");
        let attacking = a.start(move |env| async move {
            env.clock().sleep(SECOND).await;
            for _ in 0..50 {
                let mut bytes = vec![0; 40];
                rng.fill_bytes(&mut bytes);
                let (reader, _writer) = raw(&env, &bytes).await;
                let _answer = rest(reader).await;
            }
            // A request to Kafka, and an end in the middle.
            let (reader, _writer) = raw(&env, b"\0\0\0\x10\0\x12\0\0\0\0\0\x01\xff\xffGET /").await;
            let mut answer = rest(reader).await;
            let head = take_head(&mut answer, Bounds::HELLO).unwrap().unwrap();
            let Ok(Answer::Refused(refusal)) = decode_answer(&head.header) else { panic!("it was welcomed") };
            assert_eq!(refusal.code, RefusalCode::Malformed);
            let greeting = hello(Lane::Quorum);
            let good = frame("good").head();
            for cut in 0..greeting.len() + good.len() {
                let bytes = [&greeting[..], &good[..]].concat();
                drop(raw(&env, &bytes[..cut]).await);
            }
            // A frame that claims to be long, and a header that was changed on the way.
            let long = [0xff; 12];
            let mut changed = good.to_vec();
            changed[13] ^= 1;
            for bad in [&long[..], &changed[..]] {
                let (mut reader, mut writer) = raw(&env, &greeting).await;
                let mut answer = BytesMut::new();
                while take_head(&mut answer, Bounds::HELLO).unwrap().is_none() {
                    assert!(reader.read_buf(&mut answer).await.unwrap() > 0);
                }
                send(&mut writer, bad).await;
                assert!(rest(reader).await.is_empty());
            }
            let (_reader, _writer) = raw(&env, &[&greeting[..], &good[..]].concat()).await;
            env.clock().sleep(SECOND).await;
        });
        attacking.join().await.unwrap();
        assert_eq!(*noted.lock().unwrap(), ["good"]);
    });
}

#[test]
fn a_newer_connection_takes_the_place_of_an_older_one() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let noted = start_noting(&b);
        let calling = a.start(|env| async move {
            env.clock().sleep(SECOND).await;
            let (reader, _older) = raw(&env, &[&hello(Lane::Quorum)[..], &frame("one").head()].concat()).await;
            env.clock().sleep(SECOND).await;
            let (_control, _stays) = raw(&env, &hello(Lane::Control)).await;
            let (_newer, _writer) = raw(&env, &[&hello(Lane::Quorum)[..], &frame("two").head()].concat()).await;
            let _answer_and_pulse = rest(reader).await;
            env.clock().sleep(SECOND).await;
        });
        calling.join().await.unwrap();
        assert_eq!(*noted.lock().unwrap(), ["one", "two"]);
    });
}

#[test]
fn who_is_not_named_is_answered_where_it_says_it_is() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        drop(b.start(|env| async move {
            let mut end = end_with(env, own(B), Settings::default(), 10).await;
            let received = end.inbox.recv().await.unwrap();
            end.peers.send(received.from.node_id, Lane::Quorum, frame("answer")).unwrap();
            pending::<()>().await;
        }));
        let asking = a.start(|env| async move {
            let own = Own { address: at("a"), ..own(A) };
            let mut end = end_with(env, own, Settings::default(), 10).await;
            end.peers.set_address(B, at("b"), None);
            end.env.clock().sleep(SECOND).await;
            end.peers.send(B, Lane::Control, frame("question")).unwrap();
            text(&end.inbox.recv().await.unwrap())
        });
        assert_eq!(asking.join().await.unwrap(), "answer");
    });
}

#[test]
fn who_has_moved_is_answered_where_it_says_it_is() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        drop(b.start(|env| async move {
            let mut end = end_with(env, own(B), Settings::default(), 10).await;
            for _ in 0..2 {
                end.peers.set_address(A, at("where-it-was"), None);
                let received = end.inbox.recv().await.unwrap();
                end.peers.set_address(A, at("where-it-was"), None);
                end.peers.send(received.from.node_id, Lane::Quorum, frame("answer")).unwrap();
            }
            // What is under way to another address is lost.
            end.env.clock().sleep(SECOND / 4).await;
            end.peers.set_address(A, at("b"), None);
            end.peers.send(A, Lane::Quorum, frame("not for it")).unwrap();
            pending::<()>().await;
        }));
        let asking = a.start(|env| async move {
            let own = Own { address: at("a"), ..own(A) };
            let mut end = end_with(env, own, Settings::default(), 10).await;
            end.peers.set_address(B, at("b"), None);
            end.env.clock().sleep(SECOND).await;
            for _ in 0..2 {
                end.peers.send(B, Lane::Control, frame("question")).unwrap();
                assert_eq!(text(&end.inbox.recv().await.unwrap()), "answer");
            }
            let more = tokio::select! { biased;
                more = end.inbox.recv() => more.map(|received| text(&received)),
                () = end.env.clock().sleep(SECOND) => None,
            };
            assert_eq!(more, None, "what is told later counts");
        });
        asking.join().await.unwrap();
    });
}

#[test]
fn stopping_frees_the_port() {
    run(|world| async move {
        let (a, b) = nodes(&world);
        let _noted = start_noting(&b);
        let stopping = a.start(|env| async move {
            let first = end(env.clone(), A).await;
            first.env.clock().sleep(SECOND).await;
            first.peers.send(B, Lane::Quorum, frame("x")).unwrap();
            first.env.clock().sleep(SECOND).await;
            first.peers.stop().await;
            assert_eq!(first.peers.send(B, Lane::Quorum, frame("x")), Err(Dropped::NoAddress));
            let second = end(env, A).await;
            second.peers.stop().await;
        });
        stopping.join().await.unwrap();
    });
}
