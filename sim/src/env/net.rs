//! Connections of a simulated process: handles over the network model.
//!
//! What is asked for by name, bound or connected to takes place at once, as system calls do; bytes take their time.

use core::{
    future::{Future, pending, poll_fn},
    pin::pin,
    task::{self, Poll},
    time::Duration,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::{Bytes, BytesMut};
use quipu_env::{Clock, ConnectError, Listener, Net, NetReader, NetWriter, Segment, WriteQueue};

use super::{
    Context, SimClock, SimFile,
    task::{BUDGET_NANOS, is_budget_spent},
};
use crate::net::EndpointId;

/// The network as one process sees it. The names of nodes resolve to their addresses, `localhost` to this node.
#[derive(Clone)]
pub struct SimNet {
    context: Context,
}

impl SimNet {
    pub(super) const fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Net for SimNet {
    type File = SimFile;
    type Listener = SimListener;
    type Reader = SimReader;
    type Writer = SimWriter;

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        self.context.while_alive().await;
        self.context.check_descriptors()?;
        let host = self.context.node.number;
        let (address, id) = self.context.world.with_net(|net| net.bind(host, address))?;
        Ok(SimListener { context: self.context.clone(), address, id })
    }

    async fn connect(&self, address: SocketAddr, timeout: Duration) -> Result<(SimReader, SimWriter), ConnectError> {
        self.context.while_alive().await;
        self.context.check_descriptors().map_err(ConnectError::Io)?;
        let Context { world, node, .. } = &self.context;
        let id = world.with_net(|net| net.connect(node.number, address)).map_err(ConnectError::Io)?;
        let attempt = Attempt { context: self.context.clone(), id: Some(id) };
        let mut limit = pin!(SimClock::new(self.context.clone()).sleep(timeout));
        let connected = poll_fn(|task| {
            if self.context.is_over() {
                return Poll::Pending;
            }
            if let Poll::Ready(connected) = world.with_net(|net| net.poll_connected(id, task.waker())) {
                return Poll::Ready(Some(connected));
            }
            limit.as_mut().poll(task).map(|()| None)
        });
        match connected.await {
            Some(Ok(())) => Ok(attempt.succeed()),
            None => Err(ConnectError::TimedOut),
            Some(Err(error)) => Err(match error.kind() {
                io::ErrorKind::ConnectionRefused => ConnectError::Refused,
                io::ErrorKind::TimedOut => ConnectError::TimedOut,
                _ => ConnectError::Io(error),
            }),
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.context.while_alive().await;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let ip = match bare.parse::<IpAddr>() {
            Ok(ip) => Some(ip),
            Err(_) if host == "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            Err(_) => self.context.world.address_of(host),
        };
        let ip = ip.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no node is called {host}")))?;
        Ok(vec![SocketAddr::new(ip, port)])
    }
}

impl Context {
    /// Goes on only while the process lives.
    async fn while_alive(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }

    /// There is a connection, but it can't be had. Who asks over and over again must let time pass.
    fn refuse_to_accept<T>(&self, task: &mut task::Context<'_>) -> Poll<io::Result<T>> {
        if is_budget_spent() {
            let waker = task.waker().clone();
            let world = &self.world;
            world.schedule(world.now() + BUDGET_NANOS, move |_| waker.wake());
            return Poll::Pending;
        }
        Poll::Ready(self.check_descriptors().and(Err(io::ErrorKind::Other.into())))
    }

    fn halves(&self, id: EndpointId) -> (SimReader, SimWriter) {
        (SimReader { context: self.clone(), id }, SimWriter { context: self.clone(), id })
    }
}

/// A connection that is not made yet; given up when dropped.
struct Attempt {
    context: Context,
    id: Option<EndpointId>,
}

impl Attempt {
    fn succeed(mut self) -> (SimReader, SimWriter) {
        let id = self.id.take().expect("taken only here and by the drop");
        self.context.halves(id)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(id) = self.id.take()
            && !self.context.is_over()
        {
            self.context.world.with_net(|net| net.give_up(id));
        }
    }
}

/// A listener of a simulated process.
pub struct SimListener {
    context: Context,
    address: SocketAddr,
    id: u64,
}

impl Listener for SimListener {
    type Reader = SimReader;
    type Writer = SimWriter;

    async fn accept(&mut self) -> io::Result<(SimReader, SimWriter, SocketAddr)> {
        let (context, address) = (&self.context, self.address);
        let (id, peer) = poll_fn(|task| {
            if context.is_over() {
                return Poll::Pending;
            }
            let number = context.node.number;
            if context.out_of_descriptors() && context.world.with_net(|net| net.has_ready(number, address)) {
                return context.refuse_to_accept(task);
            }
            context.world.with_net(|net| net.poll_accept(number, address, task.waker())).map(Ok)
        })
        .await?;
        let (reader, writer) = context.halves(id);
        Ok((reader, writer, peer))
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if !self.context.is_over() {
            let (host, address, id) = (self.context.node.number, self.address, self.id);
            self.context.world.with_net(|net| net.close_listener(host, address, id));
        }
    }
}

/// The receiving half of a simulated connection.
pub struct SimReader {
    context: Context,
    id: EndpointId,
}

impl NetReader for SimReader {
    async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|task| {
            if self.context.is_over() {
                return Poll::Pending;
            }
            self.context.world.with_net(|net| net.poll_read(self.id, task.waker(), buffer))
        })
        .await
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        if !self.context.is_over() {
            self.context.world.with_net(|net| net.drop_reader(self.id));
        }
    }
}

/// The sending half of a simulated connection.
pub struct SimWriter {
    context: Context,
    id: EndpointId,
}

impl NetWriter for SimWriter {
    type File = SimFile;

    async fn write(&mut self, queue: &mut WriteQueue<SimFile>) -> io::Result<usize> {
        poll_fn(|task| {
            if self.context.is_over() {
                return Poll::Pending;
            }
            if queue.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let world = &self.context.world;
            let room = world.with_net(|net| net.poll_room(self.id, task.waker(), queue.len()));
            room.map(|room| {
                let chunks = front(queue, room?)?;
                let count = chunks.iter().map(Bytes::len).sum();
                queue.advance(count);
                world.with_net(|net| net.send(self.id, chunks));
                Ok(count)
            })
        })
        .await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.context.while_alive().await;
        self.context.world.with_net(|net| net.finish(self.id))
    }

    fn reset(&mut self) {
        if !self.context.is_over() {
            self.context.world.with_net(|net| net.reset(self.id));
        }
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        if !self.context.is_over() {
            self.context.world.with_net(|net| net.drop_writer(self.id));
        }
    }
}

/// Up to `limit` bytes from the queue's front. Fewer where a file ends too soon; an error if that is right at the front.
fn front(queue: &WriteQueue<SimFile>, limit: usize) -> io::Result<Vec<Bytes>> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut left = limit;
    for segment in queue.segments() {
        let wanted = left.min(segment.len());
        let chunk = match segment {
            Segment::Bytes(bytes) => bytes.slice(..wanted),
            Segment::File { file, position, .. } => match file.read_for_sending(*position, wanted) {
                Err(error) if chunks.is_empty() => return Err(error),
                Err(_) => break,
                Ok(bytes) => bytes,
            },
        };
        let short = chunk.len() < wanted;
        left -= chunk.len();
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        if short || left == 0 {
            break;
        }
    }
    if chunks.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before what was to be sent"));
    }
    Ok(chunks)
}
