//! The other end of a link: connections from other nodes, read frame by frame into inboxes.
//!
//! After the handshake, who accepted sends nothing but pulses: while something comes, every [`crate::Settings::pulse`], how many bytes have
//! come so far, as eight bytes, little-endian. A pulse also goes out while the inbox is full: who reads is slow then, not gone.
//!
//! Invariants
//! - Frames of a link reach the inbox in their order, none twice.
//! - A newer connection of the same node on the same lane ends the older one.
//! - What is read and not yet handled is bounded in bytes: a [`Received`] holds its part of the bound until it is dropped.
//!
//! Not here: what is done with frames.

use core::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use quipu_base::BrokerId;
use quipu_env::{Clock, Env, Listener, Net, NetReader, NetWriter, Segment, Sleep, WriteQueue, watch};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    frame::{Bounds, Frame, Head, take_head},
    hello::{self, Answer, Hello, Lane, Own, PeerIdentity, Refusal, RefusalCode, Welcome},
    limits,
    peers::{Shared, lock},
};

/// A frame that another node sent.
#[derive(Debug)]
pub struct Received {
    /// Who sent it.
    pub from: PeerIdentity,
    /// On which lane.
    pub lane: Lane,
    /// Its header.
    pub header: Bytes,
    /// Its body. It may outlive this.
    pub body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// A frame that came another way, without a part of any bound.
    #[must_use]
    pub const fn new(from: PeerIdentity, lane: Lane, header: Bytes, body: Bytes) -> Self {
        Self { from, lane, header, body, _room: None }
    }
}

/// Connections that are there.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<Places>);

#[derive(Default)]
struct Places {
    count: usize,
    last: u64,
    /// The newest of each node and lane, with its number.
    newest: BTreeMap<(BrokerId, Lane), (u64, Arc<Notify>)>,
}

/// One connection's place among them.
struct Place<E: Env>(Arc<Shared<E>>);

impl<E: Env> Place<E> {
    fn take(shared: &Arc<Shared<E>>) -> Option<Self> {
        let mut places = lock(&shared.incoming.0);
        if places.count >= limits::INCOMING_MAX {
            return None;
        }
        places.count += 1;
        Some(Self(Arc::clone(shared)))
    }
}

impl<E: Env> Drop for Place<E> {
    fn drop(&mut self) {
        lock(&self.0.incoming.0).count -= 1;
    }
}

/// The newest connection of its node and lane, until another one is.
struct Newest<E: Env> {
    shared: Arc<Shared<E>>,
    key: (BrokerId, Lane),
    number: u64,
    replaced: Arc<Notify>,
}

impl<E: Env> Newest<E> {
    fn become_newest(shared: &Arc<Shared<E>>, key: (BrokerId, Lane)) -> Self {
        let mut places = lock(&shared.incoming.0);
        places.last += 1;
        let (number, replaced) = (places.last, Arc::new(Notify::new()));
        if let Some((_, older)) = places.newest.insert(key, (number, Arc::clone(&replaced))) {
            older.notify_one();
        }
        Self { shared: Arc::clone(shared), key, number, replaced }
    }
}

impl<E: Env> Drop for Newest<E> {
    fn drop(&mut self) {
        let mut places = lock(&self.shared.incoming.0);
        if places.newest.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            places.newest.remove(&self.key);
        }
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept<E: Env>(shared: Arc<Shared<E>>, mut listener: <E::Net as Net>::Listener) {
    loop {
        match listener.accept().await {
            Ok((reader, mut writer, address)) => match Place::take(&shared) {
                Some(place) => {
                    let work = begin(Arc::clone(&shared), reader, writer, address, place);
                    shared.spawn(shared.env.current_shard(), "peer.handshake", work);
                }
                None => {
                    writer.reset();
                    tracing::warn!(%address, "a node's connection was closed: there are too many");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "accepting a node's connection failed; trying again soon");
                shared.env.clock().sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Does the handshake, and has the connection served where its lane belongs.
async fn begin<E: Env>(
    shared: Arc<Shared<E>>,
    mut reader: <E::Net as Net>::Reader,
    mut writer: <E::Net as Net>::Writer,
    address: core::net::SocketAddr,
    place: Place<E>,
) {
    let limit = shared.env.clock().sleep(shared.settings.connect_timeout);
    let own = shared.own.borrow().clone();
    let greeted = tokio::select! { biased;
        greeted = greet::<E>(&shared, &own, &mut reader, &mut writer) => greeted,
        () = limit => Err(Refusal::malformed("it did not come in time")),
    };
    let (hello, inbox, buffer) = match greeted {
        Ok(greeted) => greeted,
        Err(reason) if reason.code.is_passing() => return tracing::debug!(%address, %reason, "a link was refused"),
        Err(reason) => return tracing::warn!(%address, %reason, "a node's connection was refused"),
    };
    let (from, lane) = (hello.from, hello.lane);
    tracing::debug!(node = %from.node_id, %lane, %address, release = hello.release, "another node linked to this one");
    let newest = Newest::become_newest(&shared, (from.node_id, lane));
    if let Some(address) = hello.address {
        shared.learn(from.node_id, address);
    }
    shared.nudge(from.node_id);
    let receiving = Receiving {
        room: Arc::new(Semaphore::new(shared.settings.inbox_bytes.min(Semaphore::MAX_PERMITS))),
        progress: Progress::default(),
        from,
        lane,
        inbox,
        buffer,
    };
    let shard = shared.shard_of(lane);
    let work = serve(Arc::clone(&shared), own, receiving, reader, writer, newest, place);
    shared.spawn(shard, "peer.receiver", work);
}

type Greeted = (Hello, mpsc::Sender<Received>, BytesMut);

/// Hears a hello and answers it.
async fn greet<E: Env>(
    shared: &Shared<E>,
    own: &Own,
    reader: &mut <E::Net as Net>::Reader,
    writer: &mut <E::Net as Net>::Writer,
) -> Result<Greeted, Refusal> {
    let mut buffer = BytesMut::new();
    let heard = hear::<E>(reader, &mut buffer).await;
    let checked = heard.and_then(|hello| {
        let expected = shared.expected_of(hello.from.node_id);
        let version = hello::check_hello(&hello, own, shared.settings.versions, expected)?;
        let inbox = (shared.deliver)(&hello.from, hello.lane).ok_or_else(|| {
            let sentence = format!("node {} does not take {} frames yet", own.node_id, hello.lane);
            Refusal::new(RefusalCode::NotReady, sentence)
        })?;
        Ok((hello, inbox, version))
    });
    let answer = match &checked {
        Ok((_, _, version)) => Answer::Welcome(Welcome {
            version: *version,
            cluster_id: own.cluster_id,
            from: own.identity(),
            release: hello::release().to_owned(),
        }),
        Err(refusal) => Answer::Refused(refusal.clone()),
    };
    let mut queue = WriteQueue::new();
    Frame::new(hello::encode_answer(&answer)).write_to(&mut queue);
    while !queue.is_empty() {
        writer.write(&mut queue).await.map_err(|error| Refusal::malformed(format!("it broke: {error}")))?;
    }
    let (hello, inbox, _) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            // Who was refused may be gone already.
            drop(writer.finish().await);
            return Err(refusal);
        }
    };
    Ok((hello, inbox, buffer))
}

async fn hear<E: Env>(reader: &mut <E::Net as Net>::Reader, buffer: &mut BytesMut) -> Result<Hello, Refusal> {
    loop {
        if let Some(head) = take_head(buffer, Bounds::HELLO).map_err(Refusal::malformed)? {
            return hello::decode_hello(&head.header).map_err(Refusal::malformed);
        }
        match reader.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) => return Err(Refusal::malformed("it ended")),
            Err(error) => return Err(Refusal::malformed(format!("it broke: {error}"))),
        }
    }
}

/// What the reading and the telling side of a connection share.
#[derive(Default)]
struct Progress {
    received: AtomicU64,
    is_blocked: AtomicBool,
    moved: Notify,
}

struct Receiving {
    from: PeerIdentity,
    lane: Lane,
    inbox: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
    progress: Progress,
    buffer: BytesMut,
}

async fn serve<E: Env>(
    shared: Arc<Shared<E>>,
    own: Own,
    receiving: Receiving,
    mut reader: <E::Net as Net>::Reader,
    mut writer: <E::Net as Net>::Writer,
    newest: Newest<E>,
    place: Place<E>,
) {
    let Receiving { from, lane, inbox, room, progress, mut buffer } = receiving;
    progress.received.store(buffer.len() as u64, Ordering::Relaxed);
    let mut ours = shared.own.clone();
    let end = {
        let mut frames = Frames::<E> { reader: &mut reader, buffer: &mut buffer, progress: &progress };
        let reading = async {
            loop {
                let Some(head) = frames.next_head().await? else { return Ok(()) };
                let bytes = (head.header.len() + head.body_bytes).min(shared.settings.inbox_bytes);
                let permit = waiting(&progress, Arc::clone(&room).acquire_many_owned(to_permits(bytes))).await;
                let body = frames.body(head.body_bytes).await?;
                let received = Received { from, lane, header: head.header, body, _room: permit.ok() };
                if waiting(&progress, inbox.send(received)).await.is_err() {
                    return Err("nobody takes its frames any more".to_owned());
                }
            }
        };
        tokio::select! { biased;
            () = newest.replaced.notified() => Ok(()),
            () = is_outdated(lane, &own, &mut ours) => Err("this node's registration changed".to_owned()),
            end = reading => end,
            end = tell::<E>(&shared.env, &mut writer, &progress, shared.settings.pulse) => end,
        }
    };
    if let Err(why) = end {
        writer.reset();
        tracing::debug!(node = %from.node_id, %lane, why, "a link from another node ended");
    }
    drop((newest, place));
}

fn to_permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Waits for `future`; pulses go out meanwhile.
async fn waiting<T>(progress: &Progress, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let at_once = core::future::poll_fn(|context| {
        core::task::Poll::Ready(match future.as_mut().poll(context) {
            core::task::Poll::Ready(value) => Some(value),
            core::task::Poll::Pending => None,
        })
    });
    if let Some(value) = at_once.await {
        return value;
    }
    progress.is_blocked.store(true, Ordering::Relaxed);
    progress.moved.notify_one();
    let value = future.await;
    progress.is_blocked.store(false, Ordering::Relaxed);
    value
}

/// Ends when a data link is one of an earlier registration, or this node ends.
async fn is_outdated(lane: Lane, then: &Own, own: &mut watch::Receiver<Own>) {
    let is_other = |now: &Own| lane.is_data() && now.broker_epoch != then.broker_epoch;
    // Whether it has changed or nobody can change it any more: this link ends.
    let (Ok(()) | Err(watch::Closed)) = own.wait_for(is_other).await;
}

/// Cuts frames out of what comes.
struct Frames<'a, E: Env> {
    reader: &'a mut <E::Net as Net>::Reader,
    buffer: &'a mut BytesMut,
    progress: &'a Progress,
}

impl<E: Env> Frames<'_, E> {
    /// The next frame's beginning; none if the other side has finished.
    async fn next_head(&mut self) -> Result<Option<Head>, String> {
        loop {
            if let Some(head) = take_head(self.buffer, Bounds::FRAME).map_err(|error| error.to_string())? {
                return Ok(Some(head));
            }
            // A long header makes the buffer grow as it comes.
            self.buffer.reserve(limits::READ_BYTES.max(self.buffer.len().min(limits::FRAME_FIRST_BYTES)));
            let count = self.reader.read_buf(self.buffer).await.map_err(|error| error.to_string())?;
            if count == 0 {
                let whole = self.buffer.is_empty();
                return if whole { Ok(None) } else { Err("it ended inside a frame".to_owned()) };
            }
            self.note(count);
        }
    }

    /// The body that follows a head, in one buffer of its own.
    async fn body(&mut self, bytes: usize) -> Result<Bytes, String> {
        if self.buffer.len() >= bytes {
            return Ok(Bytes::copy_from_slice(&self.buffer.split_to(bytes)));
        }
        let mut body = BytesMut::with_capacity(bytes.min(limits::FRAME_FIRST_BYTES));
        body.extend_from_slice(&self.buffer.split());
        while body.len() < bytes {
            if body.len() == body.capacity() {
                body.reserve(body.len().min(bytes - body.len()));
            }
            let count = self.reader.read_buf(&mut body).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("it ended inside a frame".to_owned());
            }
            self.note(count);
        }
        // The memory may be larger than asked for: what was read beyond this frame begins the next one.
        self.buffer.extend_from_slice(&body[bytes..]);
        body.truncate(bytes);
        Ok(body.freeze())
    }

    fn note(&self, count: usize) {
        self.progress.received.fetch_add(count as u64, Ordering::Relaxed);
        self.progress.moved.notify_one();
    }
}

/// Says how much has come, as long as something comes.
async fn tell<E: Env>(
    env: &E,
    writer: &mut <E::Net as Net>::Writer,
    progress: &Progress,
    pulse: Duration,
) -> Result<(), String> {
    let mut timer = pin!(env.clock().sleep(pulse));
    let mut told = 0;
    let mut queue = WriteQueue::new();
    loop {
        if !progress.is_blocked.load(Ordering::Relaxed) {
            progress.moved.notified().await;
        }
        timer.as_mut().reset(env.clock().now() + pulse);
        timer.as_mut().await;
        let received = progress.received.load(Ordering::Relaxed);
        if received == told && !progress.is_blocked.load(Ordering::Relaxed) {
            continue;
        }
        told = received;
        queue.push(Segment::Bytes(Bytes::copy_from_slice(&received.to_le_bytes())));
        while !queue.is_empty() {
            writer.write(&mut queue).await.map_err(|error| error.to_string())?;
        }
    }
}
