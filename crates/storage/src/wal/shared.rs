//! What the WAL's tasks and its handles share: the queue of frames submitted and the space promised, under one short lock.
//!
//! Not here: the tasks (`writer`, `fill`).

use core::num::NonZeroU64;
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use quipu_env::{Disk, Env, ShardId, watch};
use tokio::sync::Notify;

use super::{
    space::{Space, SpaceLimits},
    types::{Frame, GroupSequence, Ticket},
};

/// An open file of this world.
pub(crate) type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Settings of a WAL.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// The data directory: files lie in its `wal`.
    pub dir: PathBuf,
    /// Largest size of one file, bytes; a multiple of 4 KiB, at least 64 KiB.
    pub file_bytes: u64,
    /// Largest size of all files together, bytes; at least that of one.
    pub total_bytes: u64,
    /// Whether to bypass the page cache where the file system can.
    pub direct: bool,
    /// The shard on which the WAL's tasks run.
    pub shard: ShardId,
}

impl WalOptions {
    pub(crate) const fn limits(&self) -> SpaceLimits {
        SpaceLimits { file_bytes: self.file_bytes, total_bytes: self.total_bytes }
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }
}

/// The path of WAL file `number` in the data directory `dir`.
pub(crate) fn file_path(dir: &std::path::Path, number: u32) -> PathBuf {
    dir.join("wal").join(format!("{number:04}"))
}

/// How far the WAL's end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    Running,
    /// `close` was called: write what was submitted, then end.
    Closing,
    /// Every handle is gone: end now.
    Abandoned,
}

/// A frame in the queue.
pub(crate) struct Submitted {
    pub(crate) frame: Frame,
    /// WAL space promised to it; the first frame of a step holds what is promised to all of them.
    pub(crate) cost: Option<NonZeroU64>,
    /// The next frame goes into the same group: both are of one step.
    pub(crate) is_joined: bool,
}

pub(crate) struct State<F> {
    /// Submitted, not yet taken by the writer. A step's frames are here all or none.
    pub(crate) frames: VecDeque<Submitted>,
    /// The last of them.
    pub(crate) last_ticket: Ticket,
    pub(crate) space: Space,
    pub(crate) handles: BTreeMap<u32, F>,
    pub(crate) stage: Stage,
}

pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) options: WalOptions,
    state: Mutex<State<FileOf<E>>>,
    /// For the writer: frames, space, the end.
    pub(crate) wake_writer: Notify,
    /// For the fill task: space is short, the end.
    pub(crate) wake_fill: Notify,
    /// For those who wait for space.
    pub(crate) space_changed: Notify,
    /// For the checkpoint: somebody waits for space.
    pub(crate) pressure: Notify,
    /// Who waits for space waits in turn, but for the reserve.
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) durable: watch::Sender<Ticket>,
    /// The last synced group, once the writer has ended.
    pub(crate) ended: watch::Sender<Option<GroupSequence>>,
}

impl<E: Env> Shared<E> {
    pub(crate) fn new(env: E, options: WalOptions, space: Space, handles: BTreeMap<u32, FileOf<E>>) -> Self {
        let state = State { frames: VecDeque::new(), last_ticket: Ticket::NONE, space, handles, stage: Stage::Running };
        Self {
            env,
            options,
            state: Mutex::new(state),
            wake_writer: Notify::new(),
            wake_fill: Notify::new(),
            space_changed: Notify::new(),
            pressure: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            durable: watch::Sender::new(Ticket::NONE),
            ended: watch::Sender::new(None),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<FileOf<E>>> {
        self.state.lock().expect("nothing panics while it holds the WAL's lock")
    }

    pub(crate) fn end(&self, stage: Stage) {
        let mut state = self.lock();
        state.stage = state.stage.max(stage);
        drop(state);
        self.wake_writer.notify_one();
        self.wake_fill.notify_one();
    }
}
