//! One client connection: frames in, replies out, in request order.
//!
//! Invariants
//! - Replies leave in the order of their requests. The first part of a request (everything that must happen in arrival order:
//!   validation, appending) runs before the next frame is read; the rest is a [`Finish`] that the sending side awaits.
//! - No allocation is sized by the peer: a frame's memory grows as its bytes arrive and is taken from the requests budget.
//! - Everything a peer can do to hold resources ends: idle time, unfinished frames while others wait for memory, replies
//!   that are never read.
//!
//! Not here: what requests mean ([`crate::handlers`]), accepting and counting connections ([`crate::listener`]).

use core::{future::Future, net::SocketAddr, pin::Pin, time::Duration};
use std::{borrow::Cow, io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use quipu_base::limits;
use quipu_env::{Clock, Disk, Env, File, Net, NetReader, NetWriter, Probe, Segment, Sleep, WriteQueue};
use tokio::sync::mpsc;

use crate::{
    errors::Refusal,
    fetch_sessions::{self, Keeper},
    handlers, memory,
    node::Node,
    turned_away::TurnedAway,
};

/// What a request is answered with.
pub(crate) enum Reply<F> {
    /// A whole frame, length prefix included, with the memory that its records take from the replies budget.
    Frame(Vec<Segment<F>>, Option<memory::Permit>),
    /// Nothing: a produce with acks=0.
    Nothing,
}

/// Why a connection is closed from our side; becomes one log line.
#[derive(Debug)]
pub(crate) struct Close(pub(crate) Cow<'static, str>);

/// The files of a world.
pub(crate) type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// The second part of a request, after which it is answered.
pub(crate) type Finish<E> = Pin<Box<dyn Future<Output = Result<Reply<FileOf<E>>, Close>> + Send>>;

/// First bytes of a connection's read buffer; requests that fit are copied out of it.
const READ_BUFFER_BYTES: usize = 4 * limits::KIB;
/// A frame up to this size gets its memory at once, a larger one as its bytes arrive.
const FRAME_FIRST_BYTES: usize = limits::MIB;
/// While others wait for memory, a frame must arrive within this time plus its length at 10 MiB/s.
const FRAME_CONTENDED_TIME: Duration = Duration::from_secs(1);
/// What is left to send when the peer has finished sending, or a frame was bad, must leave within this time.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Replies up to this size are gathered into one write.
const GATHER_BYTES: usize = 256 * limits::KIB;
/// A reply that has not left after this time stops pinning the tail: what is left of it is copied.
const DETACH_TIME: Duration = Duration::from_millis(200);

/// What the broker knows of a connection.
pub(crate) struct Session<E: Env> {
    /// Where it comes from, as Kafka writes addresses.
    pub(crate) client_host: String,
    /// The port that it comes from.
    pub(crate) client_port: u16,
    /// The library that the client says it uses, and its version.
    pub(crate) software: (String, String),
    /// The id that the client last gave.
    pub(crate) client_id: Option<String>,
    /// Batches that its producers must send again first.
    pub(crate) turned_away: TurnedAway<Refusal>,
    /// Its fetch session, if it has one.
    pub(crate) fetch: Keeper<fetch_sessions::session::Session<E>>,
}

/// Serves one connection until it ends.
pub(crate) async fn serve<E: Env>(
    node: Arc<Node<E>>,
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    peer: SocketAddr,
) {
    let (finishes, queue) = mpsc::channel(limits::CONNECTION_INFLIGHT_REQUESTS_MAX);
    let mut incoming = Incoming::<E> {
        timer: Box::pin(node.env.clock().sleep(node.bounds.connection_idle)),
        session: Session {
            client_host: format!("/{}", peer.ip()),
            client_port: peer.port(),
            software: (String::new(), String::new()),
            client_id: None,
            turned_away: TurnedAway::default(),
            fetch: Keeper::default(),
        },
        node: Arc::clone(&node),
        reader,
        buffer: BytesMut::with_capacity(READ_BUFFER_BYTES),
    };
    let mut outgoing = Outgoing::<E> {
        timer: Box::pin(node.env.clock().sleep(Duration::from_millis(limits::CONNECTION_STALLED_MS))),
        node: Arc::clone(&node),
        writer,
        queue: WriteQueue::new(),
        permits: Vec::new(),
    };
    let end = {
        let mut sending = core::pin::pin!(outgoing.run(queue));
        let receiving = core::pin::pin!(incoming.run(finishes));
        tokio::select! { biased;
            sent = &mut sending => sent,
            received = receiving => {
                let deadline = node.env.clock().sleep(DRAIN_TIME);
                let drained = tokio::select! { biased;
                    sent = sending => sent,
                    () = deadline => Err(Close("its last replies were not taken in time".into())),
                };
                received.and(drained)
            }
        }
    };
    match end {
        Ok(()) => {
            // The peer may be gone already: then there is nobody to tell.
            if let Err(error) = outgoing.writer.finish().await {
                tracing::trace!(%peer, %error, "finishing a connection failed");
            }
            tracing::debug!(%peer, "connection ended");
        }
        Err(Close(reason)) => {
            outgoing.writer.reset();
            tracing::info!(%peer, client_id = incoming.session.client_id, %reason, "connection closed");
        }
    }
}

struct Incoming<E: Env> {
    node: Arc<Node<E>>,
    session: Session<E>,
    reader: <E::Net as Net>::Reader,
    buffer: BytesMut,
    timer: Pin<Box<<E::Clock as Clock>::Sleep>>,
}

impl<E: Env> Incoming<E> {
    /// Reads and starts requests until the peer finishes sending, the broker stops, or a frame is bad.
    async fn run(&mut self, finishes: mpsc::Sender<Finish<E>>) -> Result<(), Close> {
        while let Some(frame) = self.read_frame().await? {
            let finish = handlers::start(&self.node, &mut self.session, frame).await?;
            if finishes.send(finish).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn read_frame(&mut self) -> Result<Option<Bytes>, Close> {
        let clock = self.node.env.clock();
        self.timer.as_mut().reset(clock.now() + self.node.bounds.connection_idle);
        while self.buffer.len() < 4 {
            self.buffer.reserve(READ_BUFFER_BYTES - self.buffer.len());
            let read = tokio::select! { biased;
                read = self.reader.read_buf(&mut self.buffer) => read.map_err(|error| broken(&error))?,
                () = self.node.stopping.reached() => return Ok(None),
                () = self.timer.as_mut() => return Err(Close("it was idle for too long (connections.max.idle.ms)".into())),
            };
            if read == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut_short()) };
            }
        }
        let length = self.buffer.get_i32();
        match usize::try_from(length) {
            Ok(length) if length <= self.node.bounds.request_bytes_max && length >= FRAME_BYTES_MIN => {
                self.read_body(length).await.map(Some)
            }
            _ => Err(Close(
                format!(
                    "its frame length {length} is outside {FRAME_BYTES_MIN}..={} (socket.request.max.bytes)",
                    self.node.bounds.request_bytes_max
                )
                .into(),
            )),
        }
    }

    async fn read_body(&mut self, length: usize) -> Result<Bytes, Close> {
        if self.buffer.len() < length {
            // Nothing is taken from the budget for a mere promise of bytes.
            self.fill_buffer(length.min(READ_BUFFER_BYTES)).await?;
        }
        let permit = self.node.requests.take(length).await;
        if self.buffer.len() >= length {
            let frame = memory::with_permit(self.buffer.split_to(length).to_vec(), permit);
            return Ok(frame);
        }
        let mut body = BytesMut::with_capacity(length.min(FRAME_FIRST_BYTES));
        body.extend_from_slice(&self.buffer.split());
        let allowed = FRAME_CONTENDED_TIME + Duration::from_micros(length as u64 / 10);
        let deadline = self.node.env.clock().now() + allowed;
        while body.len() < length {
            if body.len() == body.capacity() {
                body.reserve(body.len().min(length - body.len()));
            }
            self.read_piece(&mut body, deadline, allowed).await?;
        }
        // The memory's capacity may be larger than asked for: what was read beyond this frame begins the next one.
        self.buffer.extend_from_slice(&body[length..]);
        body.truncate(length);
        Ok(memory::with_permit(body, permit))
    }

    async fn fill_buffer(&mut self, length: usize) -> Result<(), Close> {
        while self.buffer.len() < length {
            self.buffer.reserve(READ_BUFFER_BYTES - self.buffer.len());
            let read = tokio::select! { biased;
                read = self.reader.read_buf(&mut self.buffer) => read.map_err(|error| broken(&error))?,
                () = self.timer.as_mut() => return Err(Close("a frame did not end within the idle time".into())),
            };
            if read == 0 {
                return Err(cut_short());
            }
        }
        Ok(())
    }

    /// Reads some of a body. The timer rings at `deadline`: from then on the frame may only go on while nobody waits for memory.
    async fn read_piece(
        &mut self,
        body: &mut BytesMut,
        deadline: quipu_env::Instant,
        allowed: Duration,
    ) -> Result<(), Close> {
        let clock = self.node.env.clock();
        let limit = deadline + self.node.bounds.connection_idle;
        loop {
            self.timer.as_mut().reset(deadline.max(clock.now() + FRAME_CONTENDED_TIME));
            let read = tokio::select! { biased;
                read = self.reader.read_buf(body) => Some(read.map_err(|error| broken(&error))?),
                () = self.timer.as_mut() => None,
            };
            match read {
                Some(0) => return Err(cut_short()),
                Some(_) => return Ok(()),
                None if clock.now() >= limit => return Err(Close("a frame did not end within the idle time".into())),
                None if self.node.requests.is_contended() => {
                    let reason = format!("a frame took longer than {allowed:?} while others waited for memory");
                    return Err(Close(reason.into()));
                }
                None => {}
            }
        }
    }
}

/// The smallest request: header v0 (api key, version, correlation id) without a client id.
const FRAME_BYTES_MIN: usize = 8;

fn cut_short() -> Close {
    Close("it ended inside a frame".into())
}

fn broken(error: &io::Error) -> Close {
    Close(format!("the connection broke: {error}").into())
}

struct Outgoing<E: Env> {
    node: Arc<Node<E>>,
    writer: <E::Net as Net>::Writer,
    queue: WriteQueue<FileOf<E>>,
    /// For what is in the queue; given back when all of it has left.
    permits: Vec<memory::Permit>,
    timer: Pin<Box<<E::Clock as Clock>::Sleep>>,
}

impl<E: Env> Outgoing<E> {
    /// Sends replies in order until there are no more requests.
    async fn run(&mut self, mut finishes: mpsc::Receiver<Finish<E>>) -> Result<(), Close> {
        let mut waiting: Option<Finish<E>> = None;
        loop {
            let mut finish = match waiting.take() {
                Some(finish) => finish,
                None => match finishes.recv().await {
                    Some(finish) => finish,
                    None => return Ok(()),
                },
            };
            if self.node.env.probe().planted("connection.reply-overtakes")
                && let Ok(next) = finishes.try_recv()
            {
                waiting = Some(core::mem::replace(&mut finish, next));
            }
            self.enqueue(finish.as_mut().await?);
            // Whatever else is answered by now leaves in the same write.
            while self.queue.len() < GATHER_BYTES && waiting.is_none() {
                let Ok(mut next) = finishes.try_recv() else { break };
                match poll_once(next.as_mut()).await {
                    Some(reply) => self.enqueue(reply?),
                    None => {
                        waiting = Some(next);
                        break;
                    }
                }
            }
            self.flush().await?;
        }
    }

    fn enqueue(&mut self, reply: Reply<FileOf<E>>) {
        match reply {
            Reply::Frame(segments, permit) => {
                segments.into_iter().for_each(|segment| self.queue.push(segment));
                self.permits.extend(permit);
            }
            Reply::Nothing => {}
        }
    }

    async fn flush(&mut self) -> Result<(), Close> {
        let clock = self.node.env.clock().clone();
        let mut detached = false;
        while !self.queue.is_empty() {
            let stalled = clock.now() + Duration::from_millis(limits::CONNECTION_STALLED_MS);
            let mut timer_armed_for_detach = !detached;
            self.timer.as_mut().reset(if detached { stalled } else { clock.now() + DETACH_TIME });
            loop {
                tokio::select! { biased;
                    written = self.writer.write(&mut self.queue) => {
                        written.map_err(|error| self.broken(&error))?;
                        if self.node.env.probe().planted("connection.partial-write-ignored") {
                            self.queue = WriteQueue::new();
                        }
                        break;
                    }
                    () = self.timer.as_mut() => {}
                }
                if !timer_armed_for_detach {
                    return Err(Close("it took none of its replies for too long".into()));
                }
                timer_armed_for_detach = false;
                detached = true;
                self.queue = detach(core::mem::take(&mut self.queue));
                self.timer.as_mut().reset(stalled);
            }
        }
        if self.node.env.probe().planted("connection.room-not-given-back") {
            self.permits.drain(..).for_each(memory::Permit::lose);
        }
        self.permits.clear();
        Ok(())
    }

    /// A write failed. A file that can't be read any more counts as checked no more: whoever asks again is told what is wrong with it.
    fn broken(&self, error: &io::Error) -> Close {
        let is_of_the_peer = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::NotConnected
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::TimedOut
        );
        if let Some(Segment::File { file, position, .. }) = self.queue.segments().next().filter(|_| !is_of_the_peer) {
            let path = file.path();
            tracing::error!(file = %path.display(), position, %error, "what was to be sent can't be read");
            self.node.env.probe().sometimes("connection.file-unreadable");
            self.node.store.distrust(path);
        }
        broken(error)
    }
}

/// Copies what is to be sent from memory, so that a reader that is slow doesn't pin the buffers of others. The copy is covered
/// by the permits that the originals had.
fn detach<F: Clone>(queue: WriteQueue<F>) -> WriteQueue<F> {
    let mut detached = WriteQueue::new();
    for segment in queue.segments() {
        detached.push(match segment {
            Segment::Bytes(bytes) => Segment::Bytes(Bytes::copy_from_slice(bytes)),
            file @ Segment::File { .. } => file.clone(),
        });
    }
    detached
}

/// The future's output if it is ready now.
async fn poll_once<T>(mut future: Pin<&mut (dyn Future<Output = T> + Send)>) -> Option<T> {
    core::future::poll_fn(|context| {
        core::task::Poll::Ready(match future.as_mut().poll(context) {
            core::task::Poll::Ready(output) => Some(output),
            core::task::Poll::Pending => None,
        })
    })
    .await
}
