//! This end of a link: what is queued for a node on a lane, and the task that gets it there.
//!
//! ```text
//!          something is queued           welcome
//! idle ----------------------> calling -----------> up
//!  ^                              | no answer, refused | closed, broken, silent
//!  +------ pause, or the node <---+--------------------+   what was queued is dropped
//!          calls by itself
//! ```
//!
//! Invariants
//! - Whoever pushes never waits; `queued_bytes` counts what is pushed and has not yet gone into the socket.
//! - A link that is up and has nothing under way waits without a timer.
//!
//! Not here: the other end (`incoming`), what is said first (`hello`).

use core::{
    mem,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use bytes::{Buf, BytesMut};
use quipu_base::BrokerId;
use quipu_env::{Clock, ConnectError, Env, Instant, Net, NetReader, NetWriter, Rng, Sleep, WriteQueue, watch};
use tokio::sync::Notify;

use crate::{
    backoff::{Backoff, jittered},
    events::PeerEvent,
    frame::{Bounds, Frame, take_head},
    hello::{self, Answer, Hello, Lane, Own, PeerIdentity, Refusal, RefusalCode, Welcome},
    limits,
    peers::{Dropped, FileOf, Settings, Shared, Target, lock},
};

/// What those who send and the link's task share.
pub(crate) struct Link<F> {
    frames: Mutex<VecDeque<Frame<F>>>,
    /// Of those and of what the task took and has not sent.
    bytes: AtomicUsize,
    pushed: Notify,
    nudged: Notify,
    is_up: AtomicBool,
}

impl<F> Link<F> {
    pub(crate) fn new() -> Self {
        Self {
            frames: Mutex::default(),
            bytes: AtomicUsize::new(0),
            pushed: Notify::new(),
            nudged: Notify::new(),
            is_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn push(&self, frame: Frame<F>, settings: &Settings) -> Result<(), Dropped> {
        let bytes = frame.wire_bytes();
        let mut frames = lock(&self.frames);
        let queued = self.bytes.load(Ordering::Relaxed);
        let fits = queued == 0 || queued.saturating_add(bytes) <= settings.queue_bytes;
        if !fits || frames.len() >= settings.queue_frames {
            return Err(Dropped::Full);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        frames.push_back(frame);
        drop(frames);
        self.pushed.notify_one();
        Ok(())
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The node is there: no need to wait before calling it.
    pub(crate) fn nudge(&self) {
        if !self.is_up.load(Ordering::Relaxed) {
            self.nudged.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        lock(&self.frames).is_empty()
    }

    /// Moves frames to what is written next, some at a time.
    fn take(&self, queue: &mut WriteQueue<F>) {
        if queue.len() >= limits::GATHER_BYTES {
            return;
        }
        let mut frames = lock(&self.frames);
        while queue.len() < limits::GATHER_BYTES
            && let Some(frame) = frames.pop_front()
        {
            frame.write_to(queue);
        }
    }

    fn sent(&self, count: usize) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
    }

    /// Drops what is queued.
    fn clear(&self) {
        let mut frames = lock(&self.frames);
        let dropped = mem::take(&mut *frames);
        self.bytes.store(0, Ordering::Relaxed);
        drop(frames);
        drop(dropped);
    }
}

/// Why there is no link, or no longer.
enum End {
    Refused(Refusal),
    Broken(String),
    /// Nobody listens at the address.
    Absent(String),
}

/// A connection on which the other side has said welcome.
struct Connection<E: Env> {
    peer: PeerIdentity,
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    buffer: BytesMut,
}

struct Task<E: Env> {
    shared: Arc<Shared<E>>,
    node: BrokerId,
    lane: Lane,
    link: Arc<Link<FileOf<E>>>,
    rng: Rng,
    backoff: Backoff,
    /// What was last refused, so that it is logged once.
    refused: Option<String>,
}

/// Keeps a link until its node is gone.
pub(crate) async fn run<E: Env>(
    shared: Arc<Shared<E>>,
    node: BrokerId,
    lane: Lane,
    link: Arc<Link<FileOf<E>>>,
    mut target: watch::Receiver<Target>,
) {
    let mut own = shared.own.clone();
    let mut task = Task {
        rng: shared.env.rng("peer.link"),
        backoff: Backoff::new(shared.settings.backoff, shared.settings.backoff_max),
        shared: Arc::clone(&shared),
        node,
        lane,
        link: Arc::clone(&link),
        refused: None,
    };
    loop {
        let (called_as, called_at) = (own.borrow_and_update().clone(), target.borrow_and_update().clone());
        {
            let mut life = pin!(task.live(&called_as, &called_at));
            loop {
                let goes_on = tokio::select! { biased;
                    changed = own.changed() => changed.is_ok(),
                    changed = target.changed() => changed.is_ok(),
                    never = &mut life => match never {},
                };
                if !goes_on {
                    return task_ends(&shared, node, lane, &link);
                }
                if is_outdated(lane, (&called_as, &own.borrow()), (&called_at, &target.borrow())) {
                    break;
                }
            }
        }
        task_ends(&shared, node, lane, &link);
    }
}

/// Whether a link must be made anew. The quorum's and control's don't hang on a registration or a directory.
fn is_outdated(lane: Lane, own: (&Own, &Own), target: (&Target, &Target)) -> bool {
    let is_moved = target.0.address != target.1.address;
    let is_other = own.0.broker_epoch != own.1.broker_epoch || target.0.directory() != target.1.directory();
    is_moved || (lane.is_data() && is_other)
}

fn task_ends<E: Env>(shared: &Shared<E>, node: BrokerId, lane: Lane, link: &Link<FileOf<E>>) {
    let had_something = link.is_up.swap(false, Ordering::Relaxed) || link.queued_bytes() > 0;
    link.clear();
    if had_something {
        shared.events.tell(&PeerEvent::Lost { node, lane, is_absent: false });
    }
}

impl<E: Env> Task<E> {
    /// Calls whenever there is something to send, and sends it.
    async fn live(&mut self, own: &Own, target: &Target) -> core::convert::Infallible {
        let link = Arc::clone(&self.link);
        loop {
            while link.is_empty() {
                link.pushed.notified().await;
            }
            let end = match Box::pin(self.call(own, target)).await {
                Ok(connection) => {
                    let why = self.serve(connection).await;
                    tracing::debug!(node = %self.node, lane = %self.lane, why, "a link to another node ended");
                    End::Broken(why)
                }
                Err(end) => end,
            };
            let pause = self.note(end, target);
            let mut timer = pin!(self.shared.env.clock().sleep(pause));
            tokio::select! { biased;
                () = link.nudged.notified() => {}
                () = timer.as_mut() => {}
            }
        }
    }

    /// Tells everybody, drops what is queued, and answers how long to wait.
    fn note(&mut self, end: End, target: &Target) -> Duration {
        let was_up = self.link.is_up.swap(false, Ordering::Relaxed);
        self.link.clear();
        let (node, lane) = (self.node, self.lane);
        match end {
            End::Refused(reason) => {
                if self.refused.as_ref() != Some(&reason.sentence) {
                    if reason.code.is_passing() && reason.code != RefusalCode::NodeIdInUse {
                        tracing::debug!(%node, %lane, address = %target.address, %reason, "a link was refused");
                    } else {
                        tracing::warn!(%node, %lane, address = %target.address, %reason, "a link was refused");
                    }
                    self.refused = Some(reason.sentence.clone());
                }
                let is_passing = reason.code.is_passing();
                self.shared.events.tell(&PeerEvent::Refused { node, lane, reason });
                if is_passing {
                    self.backoff.next(&mut self.rng)
                } else {
                    jittered(self.shared.settings.refused_pause, &mut self.rng)
                }
            }
            End::Broken(ref why) | End::Absent(ref why) => {
                if !was_up {
                    tracing::debug!(%node, %lane, address = %target.address, why, "a node can't be reached");
                }
                let is_absent = matches!(end, End::Absent(_));
                self.shared.events.tell(&PeerEvent::Lost { node, lane, is_absent });
                self.backoff.next(&mut self.rng)
            }
        }
    }

    async fn call(&mut self, own: &Own, target: &Target) -> Result<Connection<E>, End> {
        let (reader, mut writer) = self.connect(target).await?;
        let hello = Hello {
            versions: self.shared.settings.versions,
            cluster_id: own.cluster_id,
            from: own.identity(),
            called: self.node,
            lane: self.lane,
            release: hello::release().to_owned(),
            address: own.address.clone(),
        };
        let limit = self.shared.env.clock().sleep(self.shared.settings.connect_timeout);
        let (welcome, reader, buffer) = tokio::select! { biased;
            said = greet::<E>(reader, &mut writer, &hello) => said?,
            () = limit => return Err(End::Broken("no answer to the handshake in time".to_owned())),
        };
        hello::check_welcome(&welcome, own, &hello, target.directory()).map_err(End::Refused)?;
        let (peer, release) = (welcome.from, welcome.release);
        tracing::debug!(node = %self.node, lane = %self.lane, release, "linked to another node");
        self.backoff.reset();
        self.refused = None;
        self.link.is_up.store(true, Ordering::Relaxed);
        self.shared.events.tell(&PeerEvent::Connected(peer, self.lane));
        Ok(Connection { peer, reader, writer, buffer })
    }

    async fn connect(&self, target: &Target) -> Result<(<E::Net as Net>::Reader, <E::Net as Net>::Writer), End> {
        let env = &self.shared.env;
        let timeout = self.shared.settings.connect_timeout;
        let limit = env.clock().sleep(timeout);
        let found = tokio::select! { biased;
            found = env.net().resolve(&target.address.host, target.address.port) => found,
            () = limit => Err(io::ErrorKind::TimedOut.into()),
        };
        let found = found.map_err(|error| End::Broken(format!("its host name is not known ({error})")))?;
        let (mut last, mut is_absent) = ("its host has no address".to_owned(), !found.is_empty());
        for candidate in found {
            match env.net().connect(candidate, timeout).await {
                Ok(halves) => return Ok(halves),
                Err(error) => {
                    is_absent &= matches!(error, ConnectError::Refused);
                    last = error.to_string();
                }
            }
        }
        Err(if is_absent { End::Absent(last) } else { End::Broken(last) })
    }

    /// Sends what is queued until the connection ends, and says why it did.
    async fn serve(&mut self, connection: Connection<E>) -> String {
        let Connection { peer, mut reader, mut writer, mut buffer } = connection;
        let link = Arc::clone(&self.link);
        let clock = self.shared.env.clock().clone();
        let mut progress = Progress::new(self.shared.settings.silence, clock.now());
        let mut timer = pin!(clock.sleep_until(Instant::ZERO));
        let mut queue = WriteQueue::new();
        loop {
            link.take(&mut queue);
            progress.arm(!queue.is_empty(), clock.now(), timer.as_mut());
            tokio::select! { biased;
                read = reader.read_buf(&mut buffer) => match read {
                    Ok(1..) => {
                        if !progress.hear(&mut buffer, clock.now()) {
                            return format!("node {} says it received what was not sent", peer.node_id);
                        }
                    }
                    Ok(0) => return "the other side closed it".to_owned(),
                    Err(error) => return error.to_string(),
                },
                written = writer.write(&mut queue), if !queue.is_empty() => match written {
                    Ok(count) => {
                        link.sent(count);
                        progress.sent += count as u64;
                    }
                    Err(error) => return error.to_string(),
                },
                () = link.pushed.notified(), if queue.len() < limits::GATHER_BYTES => {}
                () = timer.as_mut(), if progress.is_armed => {
                    progress.is_armed = false;
                    if progress.is_late(clock.now()) {
                        writer.reset();
                        return "the other side is silent".to_owned();
                    }
                }
            }
        }
    }
}

/// Says hello and takes the answer.
async fn greet<E: Env>(
    mut reader: <E::Net as Net>::Reader,
    writer: &mut <E::Net as Net>::Writer,
    hello: &Hello,
) -> Result<(Welcome, <E::Net as Net>::Reader, BytesMut), End> {
    let broken = |error: io::Error| End::Broken(error.to_string());
    let mut queue = WriteQueue::new();
    Frame::new(hello::encode_hello(hello)).write_to(&mut queue);
    while !queue.is_empty() {
        writer.write(&mut queue).await.map_err(broken)?;
    }
    let mut buffer = BytesMut::new();
    loop {
        let taken = take_head(&mut buffer, Bounds::HELLO).map_err(|error| End::Refused(Refusal::malformed(error)))?;
        if let Some(head) = taken {
            let answer = hello::decode_answer(&head.header).map_err(|error| End::Refused(Refusal::malformed(error)))?;
            return match answer {
                Answer::Welcome(welcome) => Ok((welcome, reader, buffer)),
                Answer::Refused(refusal) => Err(End::Refused(refusal)),
            };
        }
        if reader.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return Err(End::Broken("the other side closed it during the handshake".to_owned()));
        }
    }
}

/// What was sent, what of it the other side has received, and when it last said so.
struct Progress {
    sent: u64,
    received: u64,
    /// Since when nothing was heard although something was under way.
    since: Instant,
    is_waiting: bool,
    is_armed: bool,
    silence: Duration,
}

impl Progress {
    fn new(silence: Duration, now: Instant) -> Self {
        Self { sent: 0, received: 0, since: now, is_waiting: false, is_armed: false, silence }
    }

    /// Sets the timer if something is under way and it is not set yet.
    fn arm<S: Sleep>(&mut self, has_more: bool, now: Instant, timer: Pin<&mut S>) {
        let is_waiting = has_more || self.sent > self.received;
        if is_waiting && !self.is_waiting {
            self.since = now;
        }
        self.is_waiting = is_waiting;
        if is_waiting && !self.is_armed {
            timer.reset(self.since + self.silence);
            self.is_armed = true;
        }
    }

    /// Takes what the other side said. False if it can't be.
    fn hear(&mut self, buffer: &mut BytesMut, now: Instant) -> bool {
        while buffer.len() >= 8 {
            self.received = buffer.get_u64_le();
            self.since = now;
        }
        self.received <= self.sent
    }

    fn is_late(&self, now: Instant) -> bool {
        self.is_waiting && now >= self.since + self.silence
    }
}
