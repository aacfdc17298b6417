//! Opening a data directory: lock, superblock, manifest, WAL, and off it goes.
//!
//! ```text
//! new directory    seg/ -> superblock -> manifest -> WAL
//! every start      lock -> superblock -> manifest (synced, then read) -> scan of the WAL -> superblock with the new
//!                  generation -> WAL runs -> checkpoints run
//! ```
//!
//! Invariants
//! - A directory without a superblock is new; one with a superblock that names WAL generations has a manifest.
//! - Nothing is changed in a directory of a newer format, of another node, with files of another directory, or that somebody
//!   else holds.
//!
//! Not here: which cluster it must belong to (`quipu-broker` asks [`super::Store::identity`]).

use core::{fmt, time::Duration};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use quipu_base::{BrokerId, DirectoryId, Offset, TopicIdPartition};
use quipu_env::{Clock, Disk, Env, LockError, Probe, SyncError, watch};
use rand::RngExt;

use super::{Catalog, Owner, Shared, Store, StoreOptions, new_tail, recovery::recover};
use crate::{
    ManifestError,
    checkpoint::{self, Checkpointer, Covering, Requests, is_full},
    error::{CheckpointError, Mixed},
    lock,
    log::LogShared,
    manifest::{self, Loaded, Manifest, Purpose},
    producers::Producers,
    segment::{SegmentFiles, segments_dir},
    superblock::{self, Superblock, SuperblockError},
    wal::{CutReport, Damage, GroupSequence, ScanError, StartError, Wal, WalOptions, WalSink},
};

/// The lock file's name in the data directory.
pub(crate) const LOCK_FILE_NAME: &str = "lock";
/// With so many WAL generations in the superblock, a start covers the WAL first, so that they are needed no more.
const GENERATIONS_MANY: usize = superblock::GENERATIONS_MAX / 2;

/// What a start has found.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Bytes of WAL groups that had to be read again.
    pub recovered_bytes: u64,
    /// What was cut from the WAL's end; none of it had been acknowledged.
    pub cut: Vec<CutReport>,
    /// Damage in the WAL. The partitions concerned are faulty.
    pub damage: Vec<Damage>,
    /// How long the start took.
    pub duration: Duration,
}

/// Why a data directory was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it.
    Held {
        /// The directory.
        directory: PathBuf,
        /// That process.
        pid: Option<u32>,
    },
    /// It belongs to another node.
    OtherNode {
        /// The directory.
        directory: PathBuf,
        /// That node.
        stored: BrokerId,
        /// This one.
        given: BrokerId,
    },
    /// It holds a file of another data directory.
    Mixed {
        /// The file.
        path: PathBuf,
    },
    /// Something that nothing can be started without is damaged.
    Damaged {
        /// The file, or the directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The superblock can't be used.
    Superblock(SuperblockError),
    /// The manifest can't be used.
    Manifest(ManifestError),
    /// The WAL can't be read.
    Scan(ScanError),
    /// The WAL can't be started.
    Wal(StartError),
    /// The system refused something.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A sync failed.
    Sync(SyncError),
}

impl OpenError {
    /// The exit status of a process that can't go on without the directory (`sysexits.h`).
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Damaged { .. }
            | Self::Superblock(SuperblockError::Damaged { .. })
            | Self::Manifest(ManifestError::Damaged { .. }) => 65,
            Self::Held { .. } => 69,
            Self::OtherNode { .. }
            | Self::Mixed { .. }
            | Self::Superblock(SuperblockError::Newer { .. })
            | Self::Manifest(ManifestError::Newer { .. })
            | Self::Scan(ScanError::Newer { .. } | ScanError::OtherDirectory { .. }) => 78,
            Self::Superblock(_)
            | Self::Manifest(_)
            | Self::Scan(_)
            | Self::Wal(_)
            | Self::Io { .. }
            | Self::Sync(_) => 1,
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { directory, pid: Some(pid) } => {
                write!(f, "{} is in use by process {pid}: stop it, or use another directory", directory.display())
            }
            Self::Held { directory, pid: None } => {
                write!(f, "{} is in use by another process: stop it, or use another directory", directory.display())
            }
            Self::OtherNode { directory, stored, given } => write!(
                f,
                "{} belongs to node {stored}, this is node {given}: use another directory, or set node_id to {stored}",
                directory.display()
            ),
            Self::Mixed { path } => Mixed(path).fmt(f),
            Self::Damaged { path, why } => {
                write!(f, "{} is damaged: {why}; restore the directory from a replica or a backup", path.display())
            }
            Self::Superblock(error) => error.fmt(f),
            Self::Manifest(error) => error.fmt(f),
            Self::Scan(error) => error.fmt(f),
            Self::Wal(error) => error.fmt(f),
            Self::Io { path, source } => write!(f, "cannot use {}: {source}", path.display()),
            Self::Sync(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Held { .. } | Self::OtherNode { .. } | Self::Mixed { .. } | Self::Damaged { .. } => None,
            Self::Superblock(error) => Some(error),
            Self::Manifest(error) => Some(error),
            Self::Scan(error) => Some(error),
            Self::Wal(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Sync(error) => Some(error),
        }
    }
}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for OpenError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(Superblock(SuperblockError), Manifest(ManifestError), Scan(ScanError), Wal(StartError), Sync(SyncError));

impl From<CheckpointError> for OpenError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io { file, error } => Self::Io { path: file, source: error },
            CheckpointError::Sync(error) => Self::Sync(error),
            CheckpointError::Read(error) => Self::Damaged { path: PathBuf::new(), why: error.to_string() },
        }
    }
}

impl<E: Env> Store<E> {
    /// Opens the data directory, making it if there is none, and recovers what a crash has left.
    ///
    /// Partitions whose data is damaged are faulty afterwards; damage to the metadata partition is an error.
    ///
    /// Errors: see [`OpenError`]; its exit status tells the kinds apart.
    pub async fn open(env: E, options: StoreOptions) -> Result<(Self, OpenReport), OpenError> {
        let started = env.clock().now();
        let dir = options.directory.clone();
        make_dir(&env, &dir).await?;
        let held = hold(&env, &dir).await?;
        let (superblock, origin) = read_or_format(&env, &options).await?;
        let loaded = load_manifest(&env, &dir, &superblock).await?;
        let trusts_names = env.probe().planted("open.lost-names-trusted");
        if origin == Origin::Found && superblock.wal_generations.is_empty() && !trusts_names {
            // A first start was cut off, perhaps by a sync that failed: the names that it made may be lost, and no later sync brings
            // them to the device. Only new ones are sure to get there. That of the manifest is renewed below.
            env.probe().sometimes("open.first-start-again");
            make_segments_dir(&env, &dir).await?;
            superblock::create(env.disk(), &dir, &superblock).await?;
        }
        env.probe().crash_point("open.loaded");

        let tail = new_tail(&options);
        let catalog = Arc::new(Catalog::new(tail, options.due_bytes()));
        let segments = SegmentFiles::new(env.clone(), &dir, options.open_files_max);
        let shared = Arc::new(Shared {
            env: env.clone(),
            options,
            catalog,
            segments,
            wal: OnceLock::new(),
            rounds: watch::Sender::new(0),
            requests: Requests::default(),
            superblock: tokio::sync::Mutex::new(superblock),
            stuck: Mutex::new(false),
            _lock: held,
        });
        let may_be_old = loaded.is_some();
        let mut checkpointer = checkpointer(&shared, loaded).await?;
        let report = bring_up(&mut checkpointer, may_be_old).await?;
        check_metadata(&shared).await?;
        let shard = shared.options.shard;
        let task = checkpoint::run(checkpointer);
        let checkpoints = Mutex::new(Some(env.spawn(shard, "checkpoint", task)));
        let duration = env.clock().now().since(started);
        Ok((Self(Arc::new(Owner { shared, checkpoints })), OpenReport { duration, ..report }))
    }
}

/// Keeps every other process out of the directory.
pub(super) async fn hold<E: Env>(env: &E, dir: &Path) -> Result<<E::Disk as Disk>::Lock, OpenError> {
    let lock_path = dir.join(LOCK_FILE_NAME);
    env.disk().lock(&lock_path).await.map_err(|error| match error {
        LockError::Held { pid } => OpenError::Held { directory: dir.to_owned(), pid },
        LockError::Io(source) => OpenError::Io { path: lock_path, source },
    })
}

/// Makes the directory if need be, and, if nothing is in it, its name and those of all levels above it durable: who made them may
/// have been ended before.
async fn make_dir<E: Env>(env: &E, dir: &Path) -> Result<(), OpenError> {
    if env.disk().list(dir).await.is_ok_and(|names| !names.is_empty()) {
        return Ok(());
    }
    env.disk().create_dir_all(dir).await.map_err(OpenError::io(dir))?;
    let mut level = dir;
    while parent_of(level) != level {
        level = parent_of(level);
        match env.disk().sync_dir(level).await {
            // Nobody makes a directory in one that he may not read or that can't be synced: it is older than all this.
            Err(SyncError {
                kind: io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem,
                path,
            }) => {
                tracing::debug!(path = %path.display(), "a directory above the data directory was not synced");
            }
            synced => synced?,
        }
    }
    Ok(())
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => dir,
    }
}

/// Where a superblock comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Made,
}

/// The directory's superblock; of a new directory, one that has just been written.
async fn read_or_format<E: Env>(env: &E, options: &StoreOptions) -> Result<(Superblock, Origin), OpenError> {
    let dir = &options.directory;
    if let Some(superblock) = superblock::read(env.disk(), dir).await? {
        if superblock.node_id != options.node_id {
            return Err(OpenError::OtherNode {
                directory: dir.clone(),
                stored: superblock.node_id,
                given: options.node_id,
            });
        }
        return Ok((superblock, Origin::Found));
    }
    let names = env.disk().list(dir).await.map_err(OpenError::io(dir))?;
    if let Some(name) = names.iter().find(|name| [manifest::FILE_NAME, "wal"].contains(&name.as_str())) {
        let why = format!("it has a {name}, but no superblock");
        return Err(OpenError::Damaged { path: dir.clone(), why });
    }
    make_segments_dir(env, dir).await?;
    let directory_id = DirectoryId(env.rng("storage.directory").random());
    let mut superblock = Superblock::new(options.node_id, directory_id);
    superblock::write(env.disk(), dir, &mut superblock).await?;
    env.probe().crash_point("open.formatted");
    Ok((superblock, Origin::Made))
}

/// A new directory for segments, durable. An empty one that a first start has left is made anew.
async fn make_segments_dir<E: Env>(env: &E, dir: &Path) -> Result<(), OpenError> {
    let seg = segments_dir(dir);
    match env.disk().remove_dir(&seg).await {
        // Segments without a log that they belong to are nobody's to remove.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(&seg)(error)),
        _ => {}
    }
    env.disk().create_dir_all(&seg).await.map_err(OpenError::io(&seg))?;
    env.disk().sync_dir(dir).await?;
    Ok(())
}

async fn load_manifest<E: Env>(env: &E, dir: &Path, superblock: &Superblock) -> Result<Option<Loaded>, OpenError> {
    let loaded = manifest::load(env.disk(), dir, Purpose::Open).await?;
    if loaded.is_none() && !superblock.wal_generations.is_empty() {
        let why = "it is missing, although the directory has been in use".to_owned();
        return Err(OpenError::Damaged { path: dir.join(manifest::FILE_NAME), why });
    }
    if loaded.as_ref().is_some_and(|loaded| !loaded.belongs_to(superblock.files_id)) {
        return Err(OpenError::Mixed { path: dir.join(manifest::FILE_NAME) });
    }
    Ok(loaded)
}

/// Puts what the manifest says into the catalog.
async fn checkpointer<E: Env>(shared: &Arc<Shared<E>>, loaded: Option<Loaded>) -> Result<Checkpointer<E>, OpenError> {
    let (env, dir) = (shared.env.clone(), &shared.options.directory);
    let store = Arc::clone(shared);
    let directory_id = shared.superblock.lock().await.files_id;
    let Some(mut loaded) = loaded else {
        env.probe().sometimes("open.new");
        let mut manifest = Manifest::new(env, dir, directory_id);
        let (covered, tombstones, removals) = (GroupSequence::NONE, BTreeMap::new(), Vec::new());
        manifest
            .replace(&manifest::Contents { covered, tombstones: &tombstones, partitions: &BTreeMap::new() })
            .await?;
        return Ok(Checkpointer { store, manifest, covered, tombstones, removals, later: Vec::new() });
    };
    let manifest = Manifest::resume(env, dir, directory_id, &loaded).await?;
    let covered = loaded.covered;
    lock(&shared.catalog.apply).group = covered;
    for (partition, mut state) in std::mem::take(&mut loaded.partitions) {
        if shared.env.probe().planted("open.producers-not-restored") {
            state.producers = Producers::default();
        }
        if shared.env.probe().planted("open.end-from-segments") {
            state.end = state.segments.last().map_or(Offset::ZERO, |last| last.end);
        }
        let is_left = state.segments.first().is_some_and(|first| first.end <= state.log_start);
        shared.catalog.insert(LogShared::new(partition, Arc::new(state)));
        if is_left {
            // The process before had no time to drop them all.
            Catalog::mark_dirty(&mut lock(&shared.catalog.apply), &shared.catalog.log(partition));
        }
    }
    let (tombstones, removals, later) = (loaded.tombstones, Vec::new(), Vec::new());
    Ok(Checkpointer { store, manifest, covered, tombstones, removals, later })
}

/// Puts a new file in the manifest's place: the sync of the one that was found may have failed, and then a power cut would bring
/// back the one before it, long after the log that only that one needs was used again. On a full disk the old one has to do.
async fn renew<E: Env>(checkpointer: &mut Checkpointer<E>) -> Result<(), OpenError> {
    let Checkpointer { store, manifest, covered, tombstones, .. } = checkpointer;
    let partitions = store.catalog.committed();
    match manifest.replace(&manifest::Contents { covered: *covered, tombstones, partitions: &partitions }).await {
        Err(error) if is_full(&error) && manifest.can_append() => {
            tracing::warn!(%error, "the disk has no room for a new manifest; the old one is used");
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Recovers, and starts the WAL. `may_be_old`: a manifest was found.
async fn bring_up<E: Env>(checkpointer: &mut Checkpointer<E>, may_be_old: bool) -> Result<OpenReport, OpenError> {
    let shared = Arc::clone(&checkpointer.store);
    let mut superblock = shared.superblock.lock().await;
    // A new one calls itself clean: there is nothing to recover yet.
    let was_clean = superblock.clean && !superblock.wal_generations.is_empty();
    let mut end = recover(checkpointer, &superblock).await?;
    let report = OpenReport {
        recovered_bytes: end.uncovered_bytes,
        cut: std::mem::take(&mut end.cut),
        damage: std::mem::take(&mut end.damage),
        duration: Duration::ZERO,
    };
    if !report.damage.is_empty() {
        shared.env.probe().sometimes("open.damaged");
    }
    check_metadata_fault(&shared, &report.damage)?;
    // A checkpoint of this recovery that failed may have left more in the manifest than is known here.
    let is_manifest_known = was_clean && checkpointer.manifest.can_append();
    if is_manifest_known {
        shared.env.probe().sometimes("open.clean");
    } else if may_be_old && !shared.env.probe().planted("open.lost-names-trusted") {
        // Only now, since a directory that is refused is left as it is.
        shared.env.probe().sometimes("open.manifest-renewed");
        renew(checkpointer).await?;
    }
    if superblock.wal_generations.len() >= GENERATIONS_MANY {
        // The second scan finds every group covered.
        shared.env.probe().sometimes("open.second-scan");
        checkpointer.round(Covering::Groups).await?;
        end = recover(checkpointer, &superblock).await?;
    }
    shared.env.probe().crash_point("open.recovered");
    let mut next = superblock.clone();
    end.resume.enter(&mut next);
    if shared.env.probe().planted("open.still-clean") {
        next.clean = superblock.clean;
    }
    superblock::write(shared.env.disk(), &shared.options.directory, &mut next).await?;
    *superblock = next;
    shared.env.probe().crash_point("open.entered");
    let options = WalOptions {
        dir: shared.options.directory.clone(),
        file_bytes: shared.options.wal_file_bytes,
        total_bytes: shared.options.wal_total_bytes,
        direct: shared.options.direct,
        shard: shared.options.shard,
    };
    let sink: Arc<dyn WalSink> = Arc::clone(&shared.catalog) as _;
    let wal = Wal::start(shared.env.clone(), options, end.resume, sink).await?;
    wal.recycle_below(checkpointer.covered.next());
    assert!(shared.wal.set(wal).is_ok(), "a store is brought up once");
    Ok(report)
}

/// Before anything is changed: a log that has been entered anew does not know its earlier groups any more.
fn check_metadata_fault<E: Env>(shared: &Shared<E>, damage: &[Damage]) -> Result<(), OpenError> {
    let Some(log) = shared.catalog.find(TopicIdPartition::METADATA) else {
        // All that there was of it may be what is damaged.
        return match damage.iter().find(|damage| damage.affected.concerns(&TopicIdPartition::METADATA)) {
            Some(Damage { file, why, .. }) => Err(OpenError::Damaged { path: file.clone(), why: why.clone() }),
            None => Ok(()),
        };
    };
    match lock(&log.state).fault.clone() {
        Some(fault) => {
            let why = format!("metadata from offset {} on cannot be read ({})", fault.offset, fault.why);
            Err(OpenError::Damaged { path: fault.file, why })
        }
        None => Ok(()),
    }
}

/// Reads the metadata partition's segments whole: without all of it nothing can be served.
async fn check_metadata<E: Env>(shared: &Shared<E>) -> Result<(), OpenError> {
    let Some(log) = shared.catalog.find(TopicIdPartition::METADATA) else { return Ok(()) };
    let base = Arc::clone(&lock(&log.state).base);
    for meta in &base.segments {
        let path = shared.segments.path(log.partition, meta.id);
        let checked = match shared.segments.get(log.partition, meta.id).await {
            Ok(segment) => segment.check_all(&shared.env, meta, shared.options.index_interval_bytes).await,
            Err(error) => Err(error),
        };
        checked.map_err(|error| OpenError::Damaged { path, why: format!("metadata cannot be read: {error}") })?;
    }
    Ok(())
}
