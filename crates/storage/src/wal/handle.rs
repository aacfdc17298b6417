//! The handles by which the rest of the engine uses the WAL.
//!
//! Read `writer` next.

use core::{fmt, num::NonZeroU64};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use quipu_base::limits::WAL_STEP_FRAMES_MAX;
use quipu_env::{Disk, Env, File, Probe, SyncError, Task, watch};

use super::{
    fill::{self, FillError},
    format::PAGE_BYTES,
    resume::Resume,
    shared::{FileOf, Shared, Stage, State, Submitted, WalOptions, file_path},
    space::{Space, frame_cost, step_cost},
    types::{Class, Frame, GroupSequence, Ticket, WalSink, WalSpace},
    writer::{Continuation, Writer},
};

/// Smallest `file_bytes`.
const FILE_BYTES_MIN: u64 = 64 * 1024;

/// Why a WAL could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The settings contradict each other.
    Options(String),
    /// A file or directory can't be made, opened or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed.
    Sync(SyncError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(what) => f.write_str(what),
            Self::Io { path, source } => write!(f, "cannot prepare the write-ahead log, {}: {source}", path.display()),
            Self::Sync(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Options(_) => None,
            Self::Io { source, .. } => Some(source),
            Self::Sync(error) => Some(error),
        }
    }
}

/// There is no WAL space for a frame, and none is to be expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalFull {
    /// The WAL can't grow and the checkpoint can't free any of it: the disk is full.
    DiskFull,
    /// The frame is longer than a WAL file can be.
    TooLong {
        /// Bytes of its payload.
        payload_bytes: usize,
    },
    /// The WAL has been closed.
    Closed,
}

impl fmt::Display for WalFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => f.write_str("the disk is full: delete topics or records, or make room on it"),
            Self::TooLong { payload_bytes } => {
                write!(f, "{payload_bytes} bytes at once do not fit a write-ahead log file: raise wal_file_bytes")
            }
            Self::Closed => f.write_str("the write-ahead log is closed"),
        }
    }
}

impl core::error::Error for WalFull {}

/// A running WAL. Clones are handles to the same one; when the last is dropped without [`Wal::close`], it stops where it is, as
/// in a crash.
pub struct Wal<E: Env>(Arc<Owner<E>>);

impl<E: Env> Clone for Wal<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> fmt::Debug for Wal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("options", &self.0.shared.options).finish_non_exhaustive()
    }
}

struct Owner<E: Env> {
    shared: Arc<Shared<E>>,
    fill: std::sync::Mutex<Option<E::Task>>,
}

impl<E: Env> Drop for Owner<E> {
    fn drop(&mut self) {
        self.shared.end(Stage::Abandoned);
    }
}

/// Space promised to one frame. Dropped after the frame has been submitted, or instead.
pub struct SpacePermit<E: Env> {
    shared: Arc<Shared<E>>,
    cost: u64,
}

impl<E: Env> SpacePermit<E> {
    /// Whether it is for a frame with that much payload.
    #[must_use]
    pub fn covers(&self, payload_bytes: usize) -> bool {
        self.cost >= frame_cost(payload_bytes)
    }
}

impl<E: Env> fmt::Debug for SpacePermit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpacePermit").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl<E: Env> Drop for SpacePermit<E> {
    fn drop(&mut self) {
        self.shared.lock().space.release(self.cost);
        self.shared.space_changed.notify_waiters();
    }
}

impl<E: Env> Wal<E> {
    /// Starts writing where `resume` says. Its generations must be in the superblock, durably, see [`Resume::enter`]. What
    /// becomes durable is told to `sink`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        env: E,
        options: WalOptions,
        resume: Resume,
        sink: Arc<dyn WalSink>,
    ) -> Result<Self, StartError> {
        check(&options)?;
        let (space, handles) = prepare(&env, &options, &resume).await?;
        let shared = Arc::new(Shared::new(env.clone(), options, space, handles));
        let start = Continuation {
            generation: resume.generation,
            next: resume.next,
            previous_hash: resume.previous_hash,
            touched: resume.touched,
            directory_tag: resume.directory_tag,
        };
        let shard = shared.options.shard;
        let writer = Writer::new(Arc::clone(&shared), sink, start);
        drop(env.spawn(shard, "wal-writer", writer.run()));
        let fill = env.spawn(shard, "wal-fill", fill::run(Arc::clone(&shared)));
        Ok(Self(Arc::new(Owner { shared, fill: std::sync::Mutex::new(Some(fill)) })))
    }

    /// Gives a frame to the log. The order of the log is the order of the calls. Never blocks, never fails: whoever calls holds a
    /// [`SpacePermit`] for the frame, or knows that it is small and must go through. After [`Self::close`] the frame is dropped,
    /// and its ticket never becomes durable.
    pub fn submit(&self, frame: Frame) -> Ticket {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let cost = frame_cost(frame.payload_bytes());
        push(&mut state, frame, NonZeroU64::new(cost), false);
        let ticket = state.last_ticket;
        let first = state.frames.len() == 1;
        drop(state);
        if first {
            shared.wake_writer.notify_one();
        }
        ticket
    }

    /// Gives frames to the log that go into one group, so that a crash leaves all of them or none. Otherwise like
    /// [`Self::submit`]. The ticket is the last one's.
    ///
    /// # Panics
    /// If there are more than [`WAL_STEP_FRAMES_MAX`]: the caller has refused them.
    pub fn submit_step(&self, frames: Vec<Frame>) -> Ticket {
        assert!(frames.len() <= WAL_STEP_FRAMES_MAX, "{} frames in one step", frames.len());
        let shared = &self.0.shared;
        let payload_bytes = frames.iter().map(Frame::payload_bytes).sum();
        let mut left = frames.len();
        let mut cost = NonZeroU64::new(step_cost(left, payload_bytes));
        let mut state = shared.lock();
        let first = state.frames.is_empty() && left > 0;
        for frame in frames {
            left -= 1;
            push(&mut state, frame, cost.take(), left > 0);
        }
        let ticket = state.last_ticket;
        drop(state);
        if first {
            shared.wake_writer.notify_one();
        }
        ticket
    }

    /// Every frame with a ticket up to this value is durable, and the sink has been told of it.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Ticket> {
        self.0.shared.durable.subscribe()
    }

    /// The ticket of the last frame submitted.
    #[must_use]
    pub fn last_ticket(&self) -> Ticket {
        self.0.shared.lock().last_ticket
    }

    /// Waits for WAL space for one frame with `payload_bytes`. Waits in turn, except for [`Class::Reserve`]. May be dropped at any
    /// await.
    ///
    /// # Errors
    /// [`WalFull`] when waiting is no use.
    pub async fn reserve_space(&self, payload_bytes: usize, class: Class) -> Result<SpacePermit<E>, WalFull> {
        let shared = &self.0.shared;
        let _turn = match class {
            Class::Normal => Some(shared.turn.lock().await),
            Class::Reserve => None,
        };
        let cost = frame_cost(payload_bytes);
        let mut waiting = Waiting { shared, active: false };
        loop {
            let changed = shared.space_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = shared.lock();
                if state.stage != Stage::Running {
                    return Err(WalFull::Closed);
                }
                if state.space.promise(cost, class) {
                    return Ok(SpacePermit { shared: Arc::clone(shared), cost });
                }
                if state.space.is_too_long(cost) {
                    return Err(WalFull::TooLong { payload_bytes });
                }
                if state.space.stuck && !state.space.can_grow() {
                    return Err(WalFull::DiskFull);
                }
                waiting.active = true;
                state.space.set_wanted(cost);
            }
            shared.wake_fill.notify_one();
            shared.pressure.notify_one();
            changed.await;
        }
    }

    /// Ends when somebody has begun to wait for WAL space since the last call: a checkpoint would help.
    pub async fn pressure(&self) {
        self.0.shared.pressure.notified().await;
    }

    /// Whether somebody waits for WAL space.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.shared.lock().space.is_wanted()
    }

    /// Groups below `group` are covered by a durable checkpoint: their space is used again.
    pub fn recycle_below(&self, group: GroupSequence) {
        let shared = &self.0.shared;
        if shared.lock().space.recycle_below(group) {
            shared.space_changed.notify_waiters();
            shared.wake_writer.notify_one();
        }
    }

    /// Says whether the checkpoint is stuck, because the disk is full: then nobody waits for space that only it can free.
    pub fn set_stuck(&self, stuck: bool) {
        let shared = &self.0.shared;
        shared.lock().space.stuck = stuck;
        shared.space_changed.notify_waiters();
    }

    /// How full the WAL is.
    #[must_use]
    pub fn space(&self) -> WalSpace {
        self.0.shared.lock().space.report()
    }

    /// A clean stop: ends when everything submitted is durable and no file is touched any more. Answers the last synced group;
    /// the superblock that says so ([`crate::superblock::Superblock::mark_clean`]) is its proof.
    pub async fn close(&self) -> GroupSequence {
        let shared = &self.0.shared;
        shared.end(Stage::Closing);
        let mut ended = shared.ended.subscribe();
        ended.wait_for(Option::is_some).await.expect("the sender lives in what this handle holds");
        let synced = ended.borrow().expect("waited for");
        shared.space_changed.notify_waiters();
        let fill = self.0.fill.lock().expect("nothing panics while it holds this").take();
        if let Some(fill) = fill {
            fill.join().await;
        }
        synced
    }
}

/// Puts a frame into the queue, if it is still served.
fn push<F>(state: &mut State<F>, frame: Frame, cost: Option<NonZeroU64>, is_joined: bool) {
    state.last_ticket.0 += 1;
    if state.stage == Stage::Running {
        if let Some(cost) = cost {
            state.space.promise_anyway(cost.get());
        }
        state.frames.push_back(Submitted { frame, cost, is_joined });
    }
}

/// Withdraws what is wanted when the wait ends, however it ends.
struct Waiting<'a, E: Env> {
    shared: &'a Shared<E>,
    active: bool,
}

impl<E: Env> Drop for Waiting<'_, E> {
    fn drop(&mut self) {
        if self.active {
            self.shared.lock().space.set_wanted(0);
        }
    }
}

fn check(options: &WalOptions) -> Result<(), StartError> {
    let page = PAGE_BYTES as u64;
    if options.file_bytes < FILE_BYTES_MIN || !options.file_bytes.is_multiple_of(page) {
        let what = format!(
            "wal_file_bytes is {}: it must be a multiple of {page} and at least {FILE_BYTES_MIN}",
            options.file_bytes
        );
        return Err(StartError::Options(what));
    }
    if options.total_bytes < options.file_bytes {
        let what = format!(
            "the write-ahead log's limit, {} bytes, is less than wal_file_bytes, {}",
            options.total_bytes, options.file_bytes
        );
        return Err(StartError::Options(what));
    }
    Ok(())
}

/// Opens the files, and makes the first one if there is none to write in.
async fn prepare<E: Env>(
    env: &E,
    options: &WalOptions,
    resume: &Resume,
) -> Result<(Space, BTreeMap<u32, FileOf<E>>), StartError> {
    let disk = env.disk();
    let wal_dir = options.wal_dir();
    let failed = |source| StartError::Io { path: wal_dir.clone(), source };
    let is_empty = disk.list(&wal_dir).await.is_ok_and(|names| names.is_empty());
    if is_empty && !env.probe().planted("wal.directory-name-trusted") {
        // From a start that ended before this directory's name was durable, perhaps by a sync that failed: then no later sync
        // brings the name to the device. Only a new one is sure to get there.
        disk.remove_dir(&wal_dir).await.map_err(failed)?;
    }
    disk.create_dir_all(&wal_dir).await.map_err(failed)?;
    disk.sync_dir(&options.dir).await.map_err(StartError::Sync)?;

    if !resume.files.is_empty() {
        // The process before this one may have ended between making a file and making its name durable.
        disk.sync_dir(&wal_dir).await.map_err(StartError::Sync)?;
    }
    let mut space = Space::new(options.limits());
    let mut handles: BTreeMap<u32, FileOf<E>> = BTreeMap::new();
    let mut is_behind_a_gap = false;
    for file in &resume.files {
        let path = file_path(&options.dir, file.number);
        if file.size == 0 {
            // The power went while it was made. Those before it may be removed, and no gap is to be among the numbers.
            disk.remove(&path).await.map_err(|source| StartError::Io { path, source })?;
            is_behind_a_gap = true;
            continue;
        }
        let opened = disk.open(&path, fill::writing(options)).await;
        let handle = opened.map_err(|source| StartError::Io { path: path.clone(), source })?;
        if !resume.was_clean && file.live.is_none() && (is_behind_a_gap || is_unused::<E>(&handle).await) {
            // Groups go only to files whose names are durable. That of this one may have been lost by a sync that failed, and then
            // no later sync brings it to the device. Files are used in the order of their numbers: what lies in one behind it is
            // what the power left of its making.
            is_behind_a_gap = true;
            disk.remove(&path).await.map_err(|source| StartError::Io { path, source })?;
            continue;
        }
        handles.insert(file.number, handle);
        match file.live {
            Some((groups, written)) => space.add_live(file.number, file.size, groups, written),
            None => space.add_free(file.number, file.size),
        }
    }
    if let Some((number, position)) = resume.place {
        space.resume(number, position);
    }
    space.recycle_below(resume.covered.next());
    if resume.place.is_some() {
        return Ok((space, handles));
    }
    let size = options.limits().start_bytes();
    if !space.roll(size) {
        let number = (0..).find(|number| !handles.contains_key(number)).expect("numbers do not run out");
        let made = fill::make_first(env, options, number, size).await;
        handles.insert(number, made.map_err(|error| start_error(options, number, error))?);
        space.add_free(number, size);
        assert!(space.roll(size), "the file was made for this");
    }
    Ok((space, handles))
}

/// Whether no group was ever written to a file: each file's first one begins it.
async fn is_unused<E: Env>(file: &FileOf<E>) -> bool {
    let first = file.read_at(0, PAGE_BYTES).await;
    first.is_ok_and(|page| page.iter().all(|byte| *byte == 0))
}

fn start_error(options: &WalOptions, number: u32, error: FillError) -> StartError {
    match error {
        FillError::Io(source) => StartError::Io { path: file_path(&options.dir, number), source },
        FillError::Sync(error) | FillError::Name(error) => StartError::Sync(error),
    }
}
