//! Connections are made, carry bytes, and end in the ways that TCP knows.

use std::{io, net::SocketAddr, pin::pin, task::Poll, time::Duration};

use bytes::BytesMut;
use quipu_env::{Clock, ConnectError, Env, Listener, Net, NetReader, NetWriter, ShardId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    World,
    support::{
        A_WHILE, Pair, ReaderOf, WriterOf, accept, assert_pattern, bind, connect, finish, join_all, pair, pattern,
        poll_once, queue, receive, receive_all, send, soon, spawn, within,
    },
};

/// Sends back what it reads, until the peer finishes.
async fn echo<W: World>(world: W, mut reader: ReaderOf<W>, mut writer: WriterOf<W>) {
    loop {
        let mut buffer = BytesMut::new();
        let count = soon(&world, "something to echo", reader.read_buf(&mut buffer)).await;
        if count.unwrap_or_else(|error| panic!("echo: {error}")) == 0 {
            break;
        }
        send(&world, &mut writer, buffer).await;
    }
    finish(&world, &mut writer).await;
}

pub(crate) async fn what_is_written_is_read<W: World>(world: W) {
    let Pair { mut client_reader, mut client_writer, server_reader, server_writer, .. } = pair(&world).await;
    let task = spawn(&world, echo(world.clone(), server_reader, server_writer));
    let mut position = 0;
    for length in [1, 2, 100, 4096, 70_001, 300_000] {
        send(&world, &mut client_writer, pattern(position, length)).await;
        assert_pattern(position, &receive(&world, &mut client_reader, length).await);
        position += length;
    }
    finish(&world, &mut client_writer).await;
    assert!(receive_all(&world, &mut client_reader).await.is_empty(), "more came back than was sent");
    join_all(&world, vec![task]).await;
}

pub(crate) async fn a_finished_writer_leaves_the_other_way_open<W: World>(world: W) {
    let mut pair = pair(&world).await;
    send(&world, &mut pair.client_writer, &b"question"[..]).await;
    finish(&world, &mut pair.client_writer).await;
    assert_eq!(receive_all(&world, &mut pair.server_reader).await, &b"question"[..]);
    for _ in 0..2 {
        let mut buffer = BytesMut::new();
        let again = soon(&world, "the end again", pair.server_reader.read_buf(&mut buffer)).await;
        assert_eq!(again.expect("the end is no error"), 0, "bytes after the end");
    }
    send(&world, &mut pair.server_writer, pattern(0, 200_000)).await;
    assert_pattern(0, &receive(&world, &mut pair.client_reader, 200_000).await);
    finish(&world, &mut pair.server_writer).await;
    assert!(receive_all(&world, &mut pair.client_reader).await.is_empty());
}

pub(crate) async fn a_finished_writer_takes_no_more<W: World>(world: W) {
    let mut pair = pair(&world).await;
    finish(&world, &mut pair.client_writer).await;
    let mut queue = queue::<W>(&b"late"[..]);
    let error = soon(&world, "a write after finish", pair.client_writer.write(&mut queue)).await;
    assert_eq!(error.expect_err("it was written").kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(queue.len(), 4, "a failed write took bytes");
}

pub(crate) async fn dropping_one_half_leaves_the_other<W: World>(world: W) {
    let Pair { client_reader, mut client_writer, mut server_reader, server_writer, .. } = pair(&world).await;
    drop(client_reader);
    drop(server_writer);
    send(&world, &mut client_writer, pattern(0, 100_000)).await;
    assert_pattern(0, &receive(&world, &mut server_reader, 100_000).await);
    let mut buffer = BytesMut::new();
    assert!(
        within(&world, A_WHILE, server_reader.read_buf(&mut buffer)).await.is_none(),
        "the connection ended though each side still holds a half"
    );
    finish(&world, &mut client_writer).await;
    assert!(receive_all(&world, &mut server_reader).await.is_empty());
}

pub(crate) async fn dropping_both_halves_closes<W: World>(world: W) {
    let Pair { client_reader, client_writer, mut server_reader, server_writer: _writer, .. } = pair(&world).await;
    drop(client_writer);
    drop(client_reader);
    assert!(receive_all(&world, &mut server_reader).await.is_empty(), "bytes that nobody sent");
}

pub(crate) async fn a_closed_peer_is_noticed_by_the_writer<W: World>(world: W) {
    let Pair { client_reader, client_writer, server_reader: _reader, mut server_writer, .. } = pair(&world).await;
    drop((client_writer, client_reader));
    let writes = async {
        loop {
            // The first bytes still go out; what comes back tells that nobody wants them.
            if let Err(error) = server_writer.write(&mut queue::<W>(pattern(0, 1000))).await {
                return error;
            }
            world.env().clock().sleep(Duration::from_millis(5)).await;
        }
    };
    let error = soon(&world, "an error from writing to a closed peer", writes).await;
    assert!(is_gone(&error), "writing to a closed peer: {error}");
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

pub(crate) async fn a_reset_is_seen_by_the_peer<W: World>(world: W) {
    let mut pair = pair(&world).await;
    send(&world, &mut pair.client_writer, &b"hello"[..]).await;
    receive(&world, &mut pair.server_reader, 5).await;
    pair.client_writer.reset();
    let read = soon(&world, "the reset", pair.server_reader.read_buf(&mut BytesMut::new())).await;
    assert_eq!(read.expect_err("a reset is no orderly end").kind(), io::ErrorKind::ConnectionReset);
    let mut queue = queue::<W>(&b"anyone there?"[..]);
    let written = soon(&world, "a write after the reset", pair.server_writer.write(&mut queue)).await;
    assert!(is_gone(&written.expect_err("it was written")), "a write after a reset fails in another way");
}

pub(crate) async fn a_reset_ends_both_own_halves<W: World>(world: W) {
    let Pair { mut client_reader, mut client_writer, server_reader: _reader, server_writer: _writer, .. } =
        pair(&world).await;
    let (sender, ended) = oneshot::channel();
    let (polled, was_polled) = oneshot::channel();
    let task = spawn(&world, async move {
        let mut buffer = BytesMut::new();
        let first = {
            let mut read = pin!(client_reader.read_buf(&mut buffer));
            assert!(poll_once(read.as_mut()).await.is_pending(), "bytes that nobody sent");
            polled.send(()).unwrap_or_else(|()| panic!("the test waits for this"));
            read.await
        };
        let again = client_reader.read_buf(&mut buffer).await;
        sender.send([first, again]).unwrap_or_else(|_| panic!("the test waits for this"));
    });
    soon(&world, "the reader's wait", was_polled).await.expect("the task sends");
    client_writer.reset();
    for read in soon(&world, "the waiting reader", ended).await.expect("the task sends") {
        assert_eq!(read.expect_err("a reset is no orderly end").kind(), io::ErrorKind::ConnectionReset);
    }
    for _ in 0..2 {
        let mut queue = queue::<W>(&b"more"[..]);
        let written = soon(&world, "a write after the own reset", client_writer.write(&mut queue)).await;
        assert!(is_gone(&written.expect_err("it was written")), "a write after the own reset fails in another way");
    }
    client_writer.reset();
    let finished = soon(&world, "finish after the own reset", client_writer.finish()).await;
    assert!(
        is_gone(&finished.expect_err("nothing is left to finish")),
        "finish after the own reset fails in another way"
    );
    join_all(&world, vec![task]).await;
}

pub(crate) async fn nobody_listening_is_refused<W: World>(world: W) {
    let (listener, address) = bind(&world).await;
    drop(listener);
    let refused = world.env().net().connect(address, Duration::from_secs(10)).await;
    assert!(matches!(refused, Err(ConnectError::Refused)), "{:?}", refused.err());
}

pub(crate) async fn no_answer_times_out<W: World>(world: W) {
    let Some(address) = world.silent_address().await else { return };
    let begun = world.env().clock().now();
    let limit = Duration::from_millis(300);
    let answer = world.env().net().connect(address, limit).await;
    assert!(matches!(answer, Err(ConnectError::TimedOut)), "{:?}", answer.err());
    let took = world.env().clock().now() - begun;
    assert!(took >= limit, "gave up after {took:?}, before the {limit:?} allowed");
}

pub(crate) async fn port_zero_picks_a_free_port<W: World>(world: W) {
    let (_first, first_address) = bind(&world).await;
    let (_second, second_address) = bind(&world).await;
    for address in [first_address, second_address] {
        assert_eq!(address.ip(), world.host());
        assert_ne!(address.port(), 0, "the address does not tell the port that was picked");
    }
    assert_ne!(first_address.port(), second_address.port(), "one port was picked twice");
}

pub(crate) async fn an_address_in_use_is_refused<W: World>(world: W) {
    let (mut listener, address) = bind(&world).await;
    let again = world.env().net().bind(address).await;
    assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    let _client = connect(&world, address).await;
    accept(&world, &mut listener).await;
}

pub(crate) async fn a_port_can_be_bound_again_at_once<W: World>(world: W) {
    let Pair { listener, address, mut client_reader, server_reader, server_writer, .. } = pair(&world).await;
    drop(listener);
    // Closed from this side first, which leaves the port's old connection to linger.
    drop((server_reader, server_writer));
    assert!(receive_all(&world, &mut client_reader).await.is_empty());
    let again = world.env().net().bind(address).await;
    let mut listener = again.unwrap_or_else(|error| panic!("a port that was just left cannot be bound: {error}"));
    let _client = connect(&world, address).await;
    accept(&world, &mut listener).await;
}

pub(crate) async fn a_connection_is_made_before_it_is_accepted<W: World>(world: W) {
    let (mut listener, address) = bind(&world).await;
    let (_reader, mut writer) = connect(&world, address).await;
    send(&world, &mut writer, &b"early"[..]).await;
    finish(&world, &mut writer).await;
    let accepted = soon(&world, "the connection", listener.accept()).await;
    let (mut reader, _writer, peer) = accepted.unwrap_or_else(|error| panic!("accept: {error}"));
    assert_eq!(peer.ip(), world.host());
    assert!(peer.port() != 0 && peer.port() != address.port(), "{peer} is not the client's address");
    assert_eq!(receive_all(&world, &mut reader).await, &b"early"[..]);
}

pub(crate) async fn a_connection_outlives_its_listener<W: World>(world: W) {
    let Pair { listener, address, mut client_writer, mut server_reader, .. } = pair(&world).await;
    drop(listener);
    let refused = world.env().net().connect(address, Duration::from_secs(10)).await;
    assert!(matches!(refused, Err(ConnectError::Refused)), "{:?}", refused.err());
    send(&world, &mut client_writer, &b"still here"[..]).await;
    assert_eq!(receive(&world, &mut server_reader, 10).await, &b"still here"[..]);
}

pub(crate) async fn an_accept_given_up_loses_no_connection<W: World>(world: W) {
    let (mut listener, address) = bind(&world).await;
    for round in 0..5_u8 {
        {
            let mut accepting = pin!(listener.accept());
            assert!(matches!(poll_once(accepting.as_mut()).await, Poll::Pending), "a connection from nobody");
        }
        let (_reader, mut writer) = connect(&world, address).await;
        let (mut reader, _writer) = accept(&world, &mut listener).await;
        send(&world, &mut writer, vec![round]).await;
        assert_eq!(receive(&world, &mut reader, 1).await[0], round, "another connection than the last was accepted");
    }
}

pub(crate) async fn many_connections_at_once<W: World>(world: W) {
    const COUNT: usize = 100;
    let (mut listener, address) = bind(&world).await;
    let server_world = world.clone();
    let server = spawn(&world, async move {
        let mut tasks = Vec::new();
        for _ in 0..COUNT {
            let (reader, writer) = accept(&server_world, &mut listener).await;
            tasks.push(spawn(&server_world, echo(server_world.clone(), reader, writer)));
        }
        join_all(&server_world, tasks).await;
    });
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut tasks = vec![server];
    for number in 0..COUNT {
        let (world_of_client, sender) = (world.clone(), sender.clone());
        tasks.push(spawn(&world, async move {
            let (mut reader, mut writer) = connect(&world_of_client, address).await;
            send(&world_of_client, &mut writer, pattern(number * 1000, 10_000)).await;
            finish(&world_of_client, &mut writer).await;
            let echoed = receive_all(&world_of_client, &mut reader).await;
            sender.send((number, echoed)).unwrap_or_else(|_| panic!("the test waits for this"));
        }));
    }
    drop(sender);
    let mut answers = 0;
    while let Some((number, echoed)) = soon(&world, "an answer", receiver.recv()).await {
        assert_eq!(echoed.len(), 10_000);
        assert_pattern(number * 1000, &echoed);
        answers += 1;
    }
    assert_eq!(answers, COUNT);
    join_all(&world, tasks).await;
}

pub(crate) async fn halves_work_on_other_shards<W: World>(world: W) {
    const LENGTH: usize = 500_000;
    let Pair { client_reader: _reader, mut client_writer, mut server_reader, server_writer: _writer, .. } =
        pair(&world).await;
    let last = ShardId(world.env().shard_count() - 1);
    let sending_world = world.clone();
    let sending = world.env().spawn(last, "sender", async move {
        send(&sending_world, &mut client_writer, pattern(0, LENGTH)).await;
        finish(&sending_world, &mut client_writer).await;
    });
    let (sender, received) = oneshot::channel();
    let receiving_world = world.clone();
    let receiving = world.env().spawn(ShardId(0), "receiver", async move {
        let bytes = receive_all(&receiving_world, &mut server_reader).await;
        sender.send(bytes).unwrap_or_else(|_| panic!("the test waits for this"));
    });
    let bytes = soon(&world, "the bytes", received).await.expect("the receiver sends");
    assert_eq!(bytes.len(), LENGTH);
    assert_pattern(0, &bytes);
    join_all(&world, vec![sending, receiving]).await;
}

pub(crate) async fn addresses_resolve_to_themselves<W: World>(world: W) {
    let address = SocketAddr::new(world.host(), 4711);
    let resolved = world.env().net().resolve(&world.host().to_string(), 4711).await;
    assert_eq!(resolved.unwrap_or_else(|error| panic!("resolve {}: {error}", world.host())), [address]);
}
