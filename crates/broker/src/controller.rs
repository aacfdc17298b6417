//! The controller on this node: requests in, records through the metadata log, image out.
//!
//! The metadata log is a partition like any other in the same storage engine; each of its records is one
//! [`MetadataRecord`], and the records of one round are one batch, so that they survive together or not at all. On one node
//! its voter set is one; the quorum of a cluster is put under this task, not beside it.
//!
//! Invariants
//! - One task decides, so every decision is made on the newest image.
//! - An image is published, and a reply sent, only when the records behind it are durable.
//! - A start reads the whole log before anything is served, and then registers: that raises the leader epoch of every
//!   partition that this broker leads.
//!
//! Not here: what is decided (`quipu-controller`), what records mean (`quipu-metadata`).

mod log;

use core::fmt;

use quipu_base::{BrokerId, TopicId, TopicIdPartition};
use quipu_controller::{Context, ControllerError, Decision, Doubts, Request, handle};
use quipu_env::{Env, Probe, Rng, watch};
use quipu_metadata::{ApplyError, Delta, Image, MetadataRecord, codec::DecodeError, config::StaticConfig};
use quipu_peer::Peers;
use quipu_storage::{AppendError, ReadError, Store, StoreFull};
use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use self::log::MetadataLog;
use crate::{
    shard::{Begun, Command},
    view::View,
};

/// Requests that may wait for the controller.
const REQUESTS_MAX: usize = 1024;
/// Requests decided in one round, which is one batch and one sync.
const REQUESTS_PER_ROUND: usize = 256;

/// Why records did not become part of the metadata log.
#[derive(Clone, Debug)]
pub(crate) enum CommitError {
    /// There is no room.
    Full(StoreFull),
    /// The log did not take them.
    Append(AppendError),
    /// One decision has more records than a batch can have.
    TooLarge,
    /// The broker is stopping.
    Stopping,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(error) => error.fmt(f),
            Self::Append(error) => write!(f, "the metadata log did not take it: {error}"),
            Self::TooLarge => f.write_str("the request changes too much at once: split it"),
            Self::Stopping => f.write_str("the broker is stopping"),
        }
    }
}

impl core::error::Error for CommitError {}

/// Why a request to the controller failed.
#[derive(Clone, Debug)]
pub(crate) enum AskError {
    /// It was declined.
    Declined(ControllerError),
    /// It was decided, but not made durable.
    Commit(CommitError),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AskError {}

/// Why the metadata log could not be read.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It can't be read.
    Read(ReadError),
    /// Its bytes are no batches.
    Batch(quipu_records::BatchError),
    /// A record is unknown: written by a newer release, or damaged.
    Record(DecodeError),
    /// Its records contradict each other.
    Apply(ApplyError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata log can't be used: ")?;
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Batch(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
        }
    }
}

/// One request, with its types put away.
trait Job: Send {
    fn decide(self: Box<Self>, image: &Image, context: &mut Context<'_>) -> Decided;
}

/// What was decided, and whom to tell once it is durable.
struct Decided {
    records: Vec<MetadataRecord>,
    release: Box<dyn FnOnce(Result<(), CommitError>) + Send>,
}

struct Ask<R: Request> {
    request: R,
    reply: oneshot::Sender<Result<R::Reply, AskError>>,
}

impl<R> Job for Ask<R>
where
    R: Request + Send,
    R::Reply: Send + 'static,
{
    fn decide(self: Box<Self>, image: &Image, context: &mut Context<'_>) -> Decided {
        let Self { request, reply } = *self;
        match handle(&request, image, context) {
            Ok(Decision { records, reply: answer }) => Decided {
                records,
                release: Box::new(move |committed| {
                    drop(reply.send(committed.map(|()| answer).map_err(AskError::Commit)));
                }),
            },
            Err(error) => Decided {
                records: Vec::new(),
                release: Box::new(move |_| drop(reply.send(Err(AskError::Declined(error))))),
            },
        }
    }
}

/// Asks the controller.
#[derive(Clone)]
pub(crate) struct ControllerHandle(mpsc::Sender<Box<dyn Job>>);

impl ControllerHandle {
    /// Has `request` decided and, if it changes anything, made durable and published.
    pub(crate) async fn ask<R>(&self, request: R) -> Result<R::Reply, AskError>
    where
        R: Request + Send + 'static,
        R::Reply: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let stopping = || AskError::Commit(CommitError::Stopping);
        self.0.send(Box::new(Ask { request, reply })).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// The image with everything that was committed when this was called.
    ///
    /// Errors: `Stopping`.
    pub(crate) async fn read(&self) -> Result<Image, AskError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || AskError::Commit(CommitError::Stopping);
        self.0.send(Box::new(Read(reply))).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// Ends when each of these partitions that this broker alone is to lead is active at its shard, or can't become so.
pub(crate) async fn when_active<E: Env>(
    view: &View<E>,
    shards: &[mpsc::Sender<Command<E>>],
    partitions: Vec<TopicIdPartition>,
) {
    let mut wanted = vec![Vec::new(); shards.len()];
    for partition in partitions.into_iter().filter_map(|id| view.to_be_led_alone(id)) {
        wanted[usize::from(partition.shard.0)].push(partition.id);
    }
    for (shard, partitions) in shards.iter().zip(wanted).filter(|(_, partitions)| !partitions.is_empty()) {
        let (reply, answer) = oneshot::channel();
        if shard.send(Command::WhenActive { partitions, reply }).await.is_ok() {
            // A shard that is gone makes nothing active.
            drop(answer.await);
        }
    }
}

/// Reads the newest image, and changes nothing.
struct Read(oneshot::Sender<Image>);

impl Job for Read {
    fn decide(self: Box<Self>, image: &Image, _: &mut Context<'_>) -> Decided {
        let image = image.clone();
        Decided {
            records: Vec::new(),
            release: Box::new(move |committed| {
                if committed.is_ok() {
                    // Who asked may be gone.
                    drop(self.0.send(image));
                }
            }),
        }
    }
}

/// The controller's task.
pub(crate) struct Controller<E: Env> {
    env: E,
    node_id: BrokerId,
    statics: StaticConfig,
    store: Store<E>,
    log: MetadataLog<E>,
    rng: Rng,
    shard_count: u16,
    view: View<E>,
    published: watch::Sender<View<E>>,
    requests: mpsc::Receiver<Box<dyn Job>>,
    /// The shards' queues, once the node is registered: before, they have nothing to do.
    shards: Vec<mpsc::Sender<Command<E>>>,
}

impl<E: Env> Controller<E> {
    /// Reads the metadata log. Nothing is served yet.
    pub(crate) async fn load(
        env: &E,
        store: &Store<E>,
        node_id: BrokerId,
        statics: StaticConfig,
    ) -> Result<(Self, ControllerHandle, watch::Receiver<View<E>>), LoadError> {
        let (log, image) = MetadataLog::load(env, store).await?;
        let view = View::new(image, node_id, &statics);
        let (published, views) = watch::channel(view.clone());
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let controller = Self {
            env: env.clone(),
            node_id,
            statics,
            store: store.clone(),
            log,
            rng: env.rng("controller"),
            shard_count: env.shard_count(),
            view,
            published,
            requests,
            shards: Vec::new(),
        };
        Ok((controller, ControllerHandle(sender), views))
    }

    pub(crate) fn image(&self) -> &Image {
        &self.view.image
    }

    /// Decides one request before the task runs.
    pub(crate) async fn decide<R: Request>(&mut self, request: &R) -> Result<R::Reply, AskError> {
        let image = self.view.image.clone();
        let decision = self.with_context(|context| handle(request, &image, context)).map_err(AskError::Declined)?;
        let mut delta = Delta::default();
        let mut next = image;
        self.apply(&mut next, &decision.records, &mut delta);
        self.commit(next, delta, decision.records).await.map_err(AskError::Commit)?;
        Ok(decision.reply)
    }

    /// The node is registered: the shards open everything that the image says this broker holds. Ends when its broker epoch may
    /// be made durable.
    ///
    /// Errors: a shard's task has ended.
    pub(crate) async fn begin(
        &mut self,
        begun: Begun,
        peers: Option<&Peers<E>>,
        shards: &[mpsc::Sender<Command<E>>],
    ) -> Result<(), CommitError> {
        self.shards = shards.to_vec();
        let updates = self.view.begin(&self.statics, &self.store, self.shard_count);
        let mut marked = Vec::new();
        for (shard, update) in self.shards.iter().zip(updates.0) {
            let (reply, answer) = oneshot::channel();
            let command = Command::Begin { begun, peers: peers.cloned(), update, marked: reply };
            shard.send(command).await.map_err(|_| CommitError::Stopping)?;
            marked.push(answer);
        }
        for answer in marked {
            answer.await.map_err(|_| CommitError::Stopping)?;
        }
        self.published.send_replace(self.view.clone());
        Ok(())
    }

    /// Ends when every partition that only this broker can lead is led by it, or can't be.
    pub(crate) async fn settle(&self) {
        let all = self.view.image.partitions().map(|(id, _)| id).collect();
        when_active(&self.view, &self.shards, all).await;
    }

    /// Runs until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let mut jobs = vec![first];
            while jobs.len() < REQUESTS_PER_ROUND
                && let Ok(job) = self.requests.try_recv()
            {
                jobs.push(job);
            }
            self.round(jobs).await;
        }
    }

    /// Decides requests one after the other, each on the image that the ones before it made, in as few batches as possible.
    async fn round(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut image = self.view.image.clone();
        let mut delta = Delta::default();
        let mut records = Vec::new();
        let mut releases = Vec::new();
        for job in jobs {
            let Decided { records: mut decided, release } = self.with_context(|context| job.decide(&image, context));
            if records.len() + decided.len() > log::BATCH_RECORDS_MAX && !records.is_empty() {
                let batch = core::mem::take(&mut records);
                let committed = self.commit(image.clone(), core::mem::take(&mut delta), batch).await;
                let failed = committed.is_err();
                core::mem::take(&mut releases).into_iter().for_each(|release: Box<dyn FnOnce(_) + Send>| {
                    release(committed.clone());
                });
                if failed {
                    // What follows was decided on an image that never came to be.
                    release(Err(CommitError::Stopping));
                    return;
                }
            }
            self.apply(&mut image, &decided, &mut delta);
            records.append(&mut decided);
            releases.push(release);
        }
        let committed = self.commit(image, delta, records).await;
        releases.into_iter().for_each(|release| release(committed.clone()));
    }

    fn with_context<T>(&mut self, decide: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let rng = &mut self.rng;
        let reuses = self.env.probe().planted("controller.topic-id-reused");
        let mut lowest = 0;
        let mut new_topic_id = || {
            if reuses {
                lowest += 1;
                return TopicId([lowest; 16]);
            }
            let mut id = [0; 16];
            rng.fill_bytes(&mut id);
            TopicId(id)
        };
        decide(&mut Context {
            node: self.node_id,
            statics: &self.statics,
            new_topic_id: &mut new_topic_id,
            doubts: &mut Doubts::new(),
        })
    }

    /// Applies what was decided to an image that is not published yet.
    fn apply(&self, image: &mut Image, records: &[MetadataRecord], delta: &mut Delta) {
        for record in records {
            let offset = image.next_offset();
            let applied = image.apply(offset, record, delta);
            assert!(applied.is_ok(), "the controller wrote a record that the image refuses: {applied:?}");
        }
    }

    /// Makes records durable, then publishes the image that they make.
    async fn commit(&mut self, image: Image, delta: Delta, records: Vec<MetadataRecord>) -> Result<(), CommitError> {
        if records.is_empty() {
            return Ok(());
        }
        let first = self.view.image.next_offset();
        self.log.append(&self.store, first, &records).await?;
        self.env.probe().crash_point("controller.committed");
        if self.shards.is_empty() {
            self.view.image = image;
        } else {
            let updates = self.view.advance(image, &delta, &self.statics, &self.store, self.shard_count);
            for (shard, update) in self.shards.iter().zip(updates.0).filter(|(_, update)| !update.is_empty()) {
                shard.send(Command::Update(update)).await.map_err(|_| CommitError::Stopping)?;
            }
        }
        self.published.send_replace(self.view.clone());
        Ok(())
    }
}
