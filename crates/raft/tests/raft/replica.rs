//! One node and its disk: what a shell does, without time and chance. Schedules, scripts and the model checker drive it.
//!
//! Invariants
//! - The disk changes only by whole persists, in order. A crash keeps what is durable and a prefix of what was on its way.
//! - The state machine is the list of everything applied; a snapshot holds that list, padded to several chunks.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use quipu_base::{BrokerId, DirectoryId, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};
use quipu_raft::{
    Config, Data, Effect, Entry, HardState, LogBase, LogPoint, LogSummary, Message, Node, Payload, Persist, ReplicaKey,
    SnapshotMeta, StartError, Stored, VoterSet,
    limits::{APPEND_BYTES_MAX, SNAPSHOT_CHUNK_BYTES},
};

/// The probe of a run: at most one planted bug is on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Planted(pub(crate) Option<&'static str>);

impl Probe for Planted {
    fn event(&self, _name: &'static str, _fields: &[(&'static str, i64)]) {}
    fn sometimes(&self, _name: &'static str) {}
    fn buggify(&self, _name: &'static str) -> bool {
        false
    }
    fn planted(&self, name: &'static str) -> bool {
        self.0 == Some(name)
    }
    fn crash_point(&self, _name: &'static str) {}
}

pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(200);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(40);
/// A snapshot has so many chunks.
const CHUNKS: usize = 3;

pub(crate) fn key(id: i32) -> ReplicaKey {
    keyed(id, 1)
}

/// Node `id` with its `life`th directory.
pub(crate) fn keyed(id: i32, life: u8) -> ReplicaKey {
    let mut directory = [life; 16];
    directory[0] = u8::try_from(id).unwrap();
    ReplicaKey { id: BrokerId(id), directory: DirectoryId(directory) }
}

pub(crate) fn voters(ids: &[i32]) -> VoterSet {
    VoterSet::new(ids.iter().map(|id| key(*id))).unwrap()
}

/// Records that say `text`; a text that begins with `BIG` fills an Append.
pub(crate) fn data(text: &str, records: u32) -> Data {
    let mut bytes = text.as_bytes().to_vec();
    if text.starts_with("BIG") {
        bytes.resize(APPEND_BYTES_MAX, b'.');
    }
    Data { records, bytes: bytes.into() }
}

/// A snapshot and the history that it stands for.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) history: Vec<(Offset, Entry)>,
}

/// What is durable, or would be if everything on its way were.
#[derive(Clone, Hash)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    pub(crate) base: LogBase,
    pub(crate) entries: Vec<(Offset, Entry)>,
    pub(crate) snapshot: Option<Snapshot>,
    /// A snapshot that arrives: bytes so far.
    pub(crate) incoming: Option<(SnapshotMeta, Vec<Bytes>)>,
}

impl Disk {
    pub(crate) fn new(voters: VoterSet) -> Self {
        let base = LogBase { point: LogPoint::START, voters };
        Self { hard: HardState::NEW, base, entries: Vec::new(), snapshot: None, incoming: None }
    }

    pub(crate) fn end(&self) -> Offset {
        self.entries.last().map_or(self.base.point.offset, |(base, entry)| entry.end(*base).unwrap())
    }

    pub(crate) fn summary(&self) -> LogSummary {
        let mut summary = LogSummary::from_base(self.base.clone());
        for (_, entry) in &self.entries {
            summary.push(entry).unwrap();
        }
        summary
    }

    fn apply(&mut self, persist: &Persist, installed: Option<&Snapshot>) {
        if let Some(hard) = persist.hard_state {
            self.hard = hard;
        }
        if persist.install.is_some() {
            let snapshot = installed.unwrap().clone();
            self.base = snapshot.meta.base.clone();
            self.entries.clear();
            self.snapshot = Some(snapshot);
        }
        if let Some(offset) = persist.truncate {
            self.entries.retain(|(base, _)| *base < offset);
            // Only a hostile leader's entries begin where none of ours does. A real shell ends there; the node's own state stays
            // possible, and that is looked at here.
            if let Some((base, entry)) = self.entries.last_mut()
                && entry.end(*base).unwrap() > offset
                && let Payload::Data(data) = &mut entry.payload
            {
                data.records = u32::try_from(offset.0 - base.0).unwrap();
            }
        }
        let mut at = self.end();
        assert!(persist.entries.is_empty() || persist.start == at, "entries are appended at the end of the log");
        for entry in &persist.entries {
            self.entries.push((at, entry.clone()));
            at = entry.end(at).unwrap();
        }
    }

    pub(crate) fn between(&self, from: Offset, until: Offset) -> Vec<(Offset, Entry)> {
        self.entries.iter().filter(|(base, _)| (from..until).contains(base)).cloned().collect()
    }
}

/// What leaves a replica, for whoever drives it.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Send(Message),
    /// One more persist is on its way to the disk.
    Persisting,
    Committed {
        from: Offset,
        until: Offset,
    },
    ReadReady {
        context: u64,
        offset: Offset,
    },
    ReadFailed(u64),
    BecameLeader {
        epoch: LeaderEpoch,
        start: Offset,
    },
    /// Everything else, as text: for scripts.
    Told(String),
}

#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) key: ReplicaKey,
    pub(crate) contacts: Vec<BrokerId>,
    planted: Planted,
    /// None while it is down.
    pub(crate) node: Option<Node<Planted>>,
    pub(crate) disk: Disk,
    /// The log as the node sees it: the disk and everything on its way.
    pub(crate) memory: Disk,
    pub(crate) queue: VecDeque<(Persist, Option<Snapshot>)>,
    /// Everything applied.
    pub(crate) history: Vec<(Offset, Entry)>,
    pub(crate) now: Instant,
    starts: u64,
    /// Whether what arrives as a snapshot is taken for damaged.
    pub(crate) refuses_snapshots: bool,
    /// How often entries were read back for a peer.
    pub(crate) read_back: u64,
    /// How many snapshots were installed.
    pub(crate) installed: u64,
}

impl Hash for Replica {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.key, &self.node, &self.disk, &self.queue, &self.history).hash(state);
    }
}

impl Replica {
    pub(crate) fn new(key: ReplicaKey, disk: Disk, contacts: &[i32], planted: Planted) -> Self {
        let contacts = contacts.iter().map(|id| BrokerId(*id)).collect();
        let memory = disk.clone();
        let (queue, history) = (VecDeque::new(), Vec::new());
        Self {
            key,
            contacts,
            planted,
            node: None,
            disk,
            memory,
            queue,
            history,
            now: Instant::ZERO,
            starts: 0,
            refuses_snapshots: false,
            read_back: 0,
            installed: 0,
        }
    }

    pub(crate) fn start(&mut self, seed: u64) -> Result<(), StartError> {
        self.starts += 1;
        self.memory = self.disk.clone();
        self.history = self.disk.snapshot.as_ref().map(|snapshot| snapshot.history.clone()).unwrap_or_default();
        let config = Config {
            replica: self.key,
            contacts: self.contacts.clone(),
            election_timeout: ELECTION_TIMEOUT,
            heartbeat_interval: HEARTBEAT,
        };
        let stored = Stored {
            hard_state: self.disk.hard,
            log: self.disk.summary(),
            snapshot: self.disk.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()),
            damage: None,
        };
        let id = u64::try_from(self.key.id.get()).unwrap();
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(id * 1000 + self.starts);
        self.node = Some(Node::new(config, stored, self.now, seed, self.planted)?);
        Ok(())
    }

    /// Power is lost; the first `kept` persists on their way had made it.
    pub(crate) fn crash(&mut self, kept: usize) {
        for (persist, snapshot) in self.queue.drain(..).take(kept) {
            self.disk.apply(&persist, snapshot.as_ref());
        }
        self.disk.incoming = None;
        self.node = None;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.as_ref().is_some_and(Node::is_leader)
    }

    pub(crate) fn node(&mut self) -> &mut Node<Planted> {
        self.node.as_mut().unwrap()
    }

    /// The oldest persist on its way is durable.
    pub(crate) fn persist_one(&mut self) -> Vec<Output> {
        let Some((persist, snapshot)) = self.queue.pop_front() else { return Vec::new() };
        self.disk.apply(&persist, snapshot.as_ref());
        let now = self.now;
        self.node().handle_persisted(now, persist.number);
        self.take()
    }

    /// Carries out what the node asks for, but for what takes time.
    pub(crate) fn take(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        loop {
            let effects = self.node().take_effects();
            if effects.is_empty() {
                return out;
            }
            for effect in effects {
                self.carry_out(effect, &mut out);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<Output>) {
        match effect {
            Effect::Persist(persist) => {
                let installed = persist.install.as_ref().map(|meta| self.received(meta));
                if let Some(snapshot) = &installed {
                    self.history.clone_from(&snapshot.history);
                    self.installed += 1;
                }
                self.memory.apply(&persist, installed.as_ref());
                self.queue.push_back((persist, installed));
                out.push(Output::Persisting);
            }
            Effect::Send(message) => out.push(Output::Send(message)),
            Effect::Commit { high_watermark } => {
                let applied = self.applied();
                assert!(self.disk.end() >= high_watermark, "what is told committed is durable");
                self.history.extend(self.memory.between(applied, high_watermark));
                out.push(Output::Committed { from: applied, until: high_watermark });
            }
            Effect::ReadReady { context, offset } => out.push(Output::ReadReady { context, offset }),
            Effect::ReadFailed { context } => out.push(Output::ReadFailed(context)),
            Effect::BecameLeader { epoch, start } => out.push(Output::BecameLeader { epoch, start }),
            Effect::ReadEntries { read, from, until, bytes_max } => self.read_entries(read, from, until, bytes_max),
            Effect::ReadSnapshot { read, snapshot, position, bytes } => {
                let found = self.disk.snapshot.as_ref().filter(|found| found.meta.base.point == snapshot);
                let chunk = found.map(|found| chunk(found, position, bytes));
                let now = self.now;
                self.node().handle_snapshot_read(now, read, chunk);
            }
            Effect::WriteChunk { snapshot, position, bytes } => self.write_chunk(snapshot, position, bytes),
            Effect::SteppedDown { epoch } => out.push(Output::Told(format!("steps down from {epoch}"))),
            Effect::LeaderChanged { epoch, leader } => {
                let leader = leader.map_or("nobody".to_owned(), |leader| leader.id.to_string());
                out.push(Output::Told(format!("follows {leader} in epoch {epoch}")));
            }
            Effect::VotersChanged(voters) => {
                let voters: Vec<String> = voters.iter().map(|voter| voter.id.to_string()).collect();
                out.push(Output::Told(format!("voters are {}", voters.join(" "))));
            }
            Effect::SnapshotWanted => out.push(Output::Told("wants a snapshot".to_owned())),
        }
    }

    fn read_entries(&mut self, read: u64, from: Offset, until: Offset, bytes_max: usize) {
        self.read_back += 1;
        assert!(until <= self.disk.end(), "only what is durable is read back");
        let found = self.disk.between(from, until);
        let mut bytes = 0;
        let fits = |(_, entry): &(Offset, Entry)| {
            bytes += entry.cost();
            bytes == entry.cost() || bytes <= bytes_max
        };
        let is_there = found.first().is_some_and(|(base, _)| *base == from);
        let entries: Vec<Entry> = found.into_iter().take_while(fits).map(|(_, entry)| entry).collect();
        let now = self.now;
        self.node().handle_entries_read(now, read, is_there.then_some(entries));
    }

    fn write_chunk(&mut self, meta: SnapshotMeta, position: u64, bytes: Bytes) {
        if position == 0 {
            self.memory.incoming = Some((meta.clone(), Vec::new()));
        }
        let (_, chunks) = self.memory.incoming.as_mut().unwrap();
        let end = position + u64::try_from(bytes.len()).unwrap();
        chunks.push(bytes);
        let is_whole = end == meta.size_bytes;
        let is_sound =
            !self.refuses_snapshots && (!is_whole || checksum(&self.received(&meta).history) == meta.checksum);
        let now = self.now;
        self.node().handle_chunk_written(now, &meta, end, is_sound);
    }

    /// The snapshot that has arrived.
    fn received(&self, meta: &SnapshotMeta) -> Snapshot {
        let (_, chunks) = self.memory.incoming.as_ref().unwrap();
        let bytes = chunks.concat();
        assert_eq!(bytes.len(), usize::try_from(meta.size_bytes).unwrap(), "every piece arrives once, in order");
        let (history, _) = postcard::take_from_bytes(&bytes).unwrap();
        Snapshot { meta: meta.clone(), history }
    }

    /// Up to where everything is applied.
    pub(crate) fn applied(&self) -> Offset {
        self.history.last().map_or(Offset::ZERO, |(base, entry)| entry.end(*base).unwrap())
    }

    /// Takes a snapshot of what is applied, and keeps the log from the previous one's end on, or none of it.
    pub(crate) fn take_snapshot(&mut self, keep: bool) -> bool {
        if self.queue.iter().any(|(persist, _)| persist.install.is_some()) {
            return false;
        }
        let (applied, now) = (self.applied(), self.now);
        let last = self.disk.snapshot.as_ref().map_or(Offset::ZERO, |last| last.meta.base.point.offset);
        let Some(base) = self.node().base_at(applied).filter(|_| applied > last) else { return false };
        let history = self.history.clone();
        let size_bytes = u64::try_from(SNAPSHOT_CHUNK_BYTES * (CHUNKS - 1) + 1000).unwrap();
        let meta = SnapshotMeta { base, size_bytes, checksum: checksum(&history) };
        let keep_from = if keep { last.max(self.disk.base.point.offset) } else { applied };
        let new_base = self.node().base_at(keep_from).unwrap();
        self.disk.snapshot = Some(Snapshot { meta: meta.clone(), history });
        self.node().handle_snapshot_taken(now, meta, keep_from).unwrap();
        for disk in [&mut self.disk, &mut self.memory] {
            disk.entries.retain(|(offset, _)| *offset >= keep_from);
            disk.base = new_base.clone();
        }
        true
    }
}

fn checksum(history: &[(Offset, Entry)]) -> u32 {
    quipu_base::checksum::crc32c(&postcard::to_stdvec(history).unwrap())
}

/// The history and zeros behind it.
fn chunk(snapshot: &Snapshot, position: u64, length: usize) -> Bytes {
    let mut bytes = postcard::to_stdvec(&snapshot.history).unwrap();
    bytes.resize(usize::try_from(snapshot.meta.size_bytes).unwrap(), 0);
    let from = usize::try_from(position).unwrap();
    Bytes::from(bytes).slice(from..from + length)
}

/// What an entry says, for people.
pub(crate) fn tell(entry: &Entry) -> String {
    let epoch = entry.epoch;
    match &entry.payload {
        Payload::Data(data) => format!("{epoch}:{}", String::from_utf8_lossy(&data.bytes[..data.bytes.len().min(8)])),
        Payload::LeaderChange { leader, .. } => format!("{epoch}:leader={}", leader.id),
        Payload::Voters(voters) => {
            let ids: Vec<String> = voters.iter().map(|voter| voter.id.to_string()).collect();
            format!("{epoch}:voters={}", ids.join(","))
        }
    }
}
