//! A plan: everything that a run is, as data that can be printed, edited, saved and run again.
//!
//! ```toml
//! format = 1
//! seed = 7                     # chance beneath the plan: how long things take, what a power cut keeps
//! heal_ms = 500                # until then nothing heals
//! [config]                     # the broker and its machine
//! [config.kafka]               # Kafka's properties of the broker
//! [budget]                     # what is promised under these faults
//! [[workload.topics]]          # made before anything else
//! [[workload.clients]]         # each on a machine of its own, each with its operations
//! [[faults]]                   # what goes wrong when
//! ```
//!
//! Invariants
//! - A plan means the same for ever. Every choice stands in it, or is drawn from its seed by a stream with a name. Defaults of
//!   fields that are left out are a part of the format.
//! - What is printed is read back as the same plan.
//!
//! Not here: how plans come from seeds ([`crate::swarm`]), what they do ([`mod@crate::run`]). Read [`operation`] next.

pub mod operation;
mod text;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use quipu_sim::{PowerCut, fault::Fault};
use serde::{Deserialize, Serialize};

use self::operation::Operation;
pub use self::text::PlanError;

/// The only format there is so far.
pub const FORMAT: i64 = 1;
/// The machine of the broker; in a cluster, of node 1.
pub const BROKER: &str = "broker";
/// Nodes of a cluster at most.
pub const NODES_MAX: u32 = 7;
/// Voters of a cluster at most, where nodes are both.
const VOTERS_MAX: u32 = 5;
/// Where the broker keeps everything.
pub const DATA_DIR: &str = "/var/quipu";

/// When a broker forgets a producer that is not heard of, unless it is told otherwise.
const PRODUCER_EXPIRATION_MS: i64 = 24 * 3600 * 1000;
/// What a run takes, and drift adds, at most, where that counts.
const CLOCK_SLACK_MS: i64 = 3600 * 1000;

/// See the module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: i64,
    /// For everything that is not in the plan.
    #[serde(default)]
    pub seed: u64,
    /// Nothing heals before this moment, though all faults have begun: what waits for its place has time to come to it.
    /// Milliseconds since the run began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub heal_ms: u64,
    /// The broker and its machine.
    #[serde(default)]
    pub config: Config,
    /// What is promised.
    #[serde(default)]
    pub budget: Budget,
    /// What clients do.
    #[serde(default)]
    pub workload: Workload,
    /// What goes wrong, in the order of time.
    #[serde(default)]
    pub faults: Vec<TimedFault>,
}

/// The broker and its machine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Nodes, of 1 to [`NODES_MAX`]: their machines are called "broker" (node 1), "broker-2", "broker-3", ...
    pub nodes: u32,
    /// How many of them, the last ones, only vote in the metadata quorum, and nobody else does: their machines are called
    /// "controller-N". 0: the first ones do both, as many as are an odd number of up to 5.
    pub controllers: u32,
    /// Racks, which nodes are in by turns; none if there are none.
    pub racks: Vec<String>,
    /// Shards.
    pub shards: u16,
    /// What its disk keeps when the power goes, unless a fault says otherwise.
    pub power_cut: PowerCut,
    /// Whether a power cut may stop inside a sector.
    pub torn_sectors: bool,
    /// Whether a file's unwritten end may hold old bytes of the device.
    pub garbage_tails: bool,
    /// Whether the disk takes direct I/O.
    pub direct_io: bool,
    /// How long a sync takes, about, microseconds.
    pub sync_us: u64,
    /// One disk operation in so many takes ten times as long; 0: none.
    pub late_disk_one_in: u32,
    /// How long a packet takes at least, microseconds.
    pub latency_min_us: u64,
    /// And at most.
    pub latency_max_us: u64,
    /// Bytes of a connection that may be under way.
    pub window_bytes: usize,
    /// Bytes of a file of the write-ahead log.
    pub wal_file_bytes: u64,
    /// Bytes of metadata log between two snapshots.
    pub metadata_snapshot_bytes: u64,
    /// Bytes of batches that are in no segment yet.
    pub memory_tail_bytes: usize,
    /// Bytes of requests.
    pub memory_requests_bytes: usize,
    /// Bytes of replies.
    pub memory_replies_bytes: usize,
    /// Whether the broker does legal but unusual things on purpose.
    pub buggify: bool,
    /// Kafka's properties of the broker.
    pub kafka: BTreeMap<String, String>,
}

impl Default for Config {
    /// Part of the format: these never change.
    fn default() -> Self {
        Self {
            nodes: 1,
            controllers: 0,
            racks: Vec::new(),
            shards: 1,
            power_cut: PowerCut::Random,
            torn_sectors: true,
            garbage_tails: true,
            direct_io: true,
            sync_us: 80,
            late_disk_one_in: 100,
            latency_min_us: 50,
            latency_max_us: 500,
            window_bytes: 256 * 1024,
            wal_file_bytes: 1 << 20,
            metadata_snapshot_bytes: 8 << 20,
            memory_tail_bytes: 1 << 20,
            memory_requests_bytes: 4 << 20,
            memory_replies_bytes: 4 << 20,
            buggify: false,
            kafka: BTreeMap::from([("socket.request.max.bytes".to_owned(), "2097152".to_owned())]),
        }
    }
}

impl Config {
    /// Whether there is more than one node.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        self.nodes > 1
    }

    /// The numbers of all nodes.
    pub fn all_nodes(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.nodes
    }

    /// The numbers of the nodes that serve clients.
    pub fn brokers(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.nodes.saturating_sub(self.controllers)
    }

    /// The numbers of the nodes that vote in the metadata quorum.
    pub fn voters(&self) -> impl Iterator<Item = u32> + use<> {
        let both = self.nodes.min(VOTERS_MAX);
        let (first, last) = match self.controllers {
            0 => (1, both - u32::from(both.is_multiple_of(2))),
            controllers => (self.nodes - controllers + 1, self.nodes),
        };
        first..=last
    }

    /// The name of a node's machine.
    #[must_use]
    pub fn machine(&self, node: u32) -> String {
        if node == 1 {
            BROKER.to_owned()
        } else if node + self.controllers > self.nodes {
            format!("controller-{node}")
        } else {
            format!("broker-{node}")
        }
    }
}

/// What may become of what was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Nothing: it is there, once, in order.
    #[default]
    None,
    /// It may be lost where the broker says so.
    Reported,
    /// It may be lost without a word. What is there is still what somebody sent.
    Silent,
}

/// What is promised under a plan's faults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// What may be lost.
    pub loss: Loss,
    /// When nothing is wrong any more, everything finishes within this time, milliseconds.
    pub liveness_ms: u64,
}

impl Default for Budget {
    /// Part of the format: these never change.
    fn default() -> Self {
        Self { loss: Loss::None, liveness_ms: 120_000 }
    }
}

/// What clients do.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Topics that are made first.
    pub topics: Vec<Topic>,
    /// The clients.
    pub clients: Vec<Client>,
}

/// A topic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    #[serde(default = "one")]
    pub partitions: i32,
    /// Its properties.
    #[serde(default)]
    pub kafka: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

const fn one() -> i32 {
    1
}

/// How a client speaks with the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Request by request: versions and sequences of requests that no library sends.
    Wire,
    /// By the Rust client, as applications do. Topics that somebody deletes are left to the wire, which asks for them by id.
    Client,
}

/// Where a consumer of the Rust client begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// At offset 0, which may be gone.
    Zero,
    /// At the first record.
    Start,
    /// With what comes next.
    End,
    /// At the first record from the moment on at which it begins.
    Now,
}

/// How the members of a group agree on who reads what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The coordinator decides (KIP-848).
    Consumer,
    /// One of them decides; all give up everything first.
    Eager,
    /// One of them decides; who keeps a partition reads on.
    Cooperative,
}

/// When a member commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Commits {
    /// After polls, and it waits.
    Sync,
    /// After polls, and it does not wait.
    Async,
    /// The library does by itself.
    Auto,
}

/// A client. What begins with `client_` or `group_` only those of the kind "client" heed; the versions, only those of the wire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The name of its machine.
    pub name: String,
    /// How it speaks with the broker.
    pub kind: Kind,
    /// Whether its batches carry sequence numbers. It then sends them until they are acknowledged; else once.
    pub idempotent: bool,
    /// -1 (all), 1 or 0.
    pub acks: i16,
    /// none, gzip, snappy, lz4 or zstd.
    pub codec: String,
    /// Produce requests under way at once.
    pub pipelined: usize,
    /// The version of its Produce requests.
    pub produce_version: i16,
    /// The version of its Fetch requests.
    pub fetch_version: i16,
    /// What a produce request gives the broker, milliseconds.
    pub timeout_ms: i32,
    /// How long it waits for any answer, milliseconds.
    pub patience_ms: u64,
    /// How long it rests after each operation, milliseconds.
    pub pace_ms: u64,
    /// Whether it fetches committed records only.
    pub read_committed: bool,
    /// Bytes that a fetch waits for.
    pub fetch_min_bytes: i32,
    /// Bytes of a fetch at most.
    pub fetch_max_bytes: i32,
    /// Bytes of a fetch of each partition at most.
    pub partition_max_bytes: i32,
    /// How long a fetch waits, milliseconds.
    pub fetch_wait_ms: i32,
    /// How long a batch waits for more records, milliseconds.
    pub client_linger_ms: u64,
    /// Bytes of records that make a full batch.
    pub client_batch_bytes: usize,
    /// Largest Produce request, and largest record, bytes.
    pub client_request_bytes: usize,
    /// Bytes of records that are not delivered; who brings more waits.
    pub client_memory_bytes: usize,
    /// How long a record waits to be taken, milliseconds.
    pub client_send_ms: u64,
    /// How long it takes until a record's fate is told, milliseconds.
    pub client_delivery_ms: u64,
    /// How old what is known of topics and leaders may be, milliseconds.
    pub client_metadata_ms: u64,
    /// Where its consumers begin.
    pub client_from: From,
    /// Whether a consumer whose offset is gone goes on at the first record by itself; else it is told, and seeks.
    pub client_resets: bool,
    /// Bytes of each partition that are fetched ahead.
    pub client_prefetch_bytes: usize,
    /// Records of one poll.
    pub client_poll_records: usize,
    /// Whether a consumer pauses partitions now and then.
    pub client_pauses: bool,
    /// As a member of a group: how members agree.
    pub group_protocol: Protocol,
    /// When it commits.
    pub group_commits: Commits,
    /// Polls between two commits, which are made if there is something new, or, if it is 1, now and then without; how long between those that the library does by itself, tenths of a second.
    pub group_commit_every: u32,
    /// Whether it comes back under its name.
    pub group_static: bool,
    /// How long the group waits for a sign of life, where members say it, milliseconds.
    pub group_session_ms: u64,
    /// Between two signs of life, milliseconds.
    pub group_heartbeat_ms: u64,
    /// Longest time between two polls, milliseconds.
    pub group_poll_ms: u64,
    /// What it does.
    pub operations: Vec<Operation>,
}

impl Default for Client {
    /// Part of the format: these never change.
    fn default() -> Self {
        Self {
            name: "client".to_owned(),
            kind: Kind::Wire,
            idempotent: true,
            acks: -1,
            codec: "none".to_owned(),
            pipelined: 1,
            produce_version: 13,
            fetch_version: 17,
            timeout_ms: 1500,
            patience_ms: 2000,
            pace_ms: 0,
            read_committed: false,
            fetch_min_bytes: 1,
            fetch_max_bytes: 1 << 20,
            partition_max_bytes: 1 << 20,
            fetch_wait_ms: 500,
            client_linger_ms: 0,
            client_batch_bytes: 16 * 1024,
            client_request_bytes: 64 * 1024,
            client_memory_bytes: 1 << 20,
            client_send_ms: 2000,
            client_delivery_ms: 20_000,
            client_metadata_ms: 300_000,
            client_from: From::Start,
            client_resets: false,
            client_prefetch_bytes: 64 * 1024,
            client_poll_records: 500,
            client_pauses: false,
            group_protocol: Protocol::Consumer,
            group_commits: Commits::Sync,
            group_commit_every: 1,
            group_static: false,
            group_session_ms: 2000,
            group_heartbeat_ms: 300,
            group_poll_ms: 3000,
            operations: Vec::new(),
        }
    }
}

/// A fault and when it begins.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedFault {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// What goes wrong.
    pub fault: Fault,
}

impl Plan {
    /// Operations of all clients.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.workload.clients.iter().map(|client| client.operations.len()).sum()
    }

    /// The longest time that a client does nothing, as its plan has it.
    #[must_use]
    pub fn rest(&self) -> Duration {
        let rests = |client: &Client| {
            let paces = client.pace_ms.saturating_mul(client.operations.len() as u64);
            let sleeps = client.operations.iter().map(|operation| match operation {
                Operation::Sleep { ms } | Operation::Crash { ms } => *ms,
                _ => 0,
            });
            paces.saturating_add(sleeps.sum())
        };
        Duration::from_millis(self.workload.clients.iter().map(rests).max().unwrap_or(0))
    }

    /// Whether a broker's wall clock may be put so far ahead that it rightly forgets producers: then a batch sent again is new. The end
    /// of a skew is a step, too.
    #[must_use]
    pub fn may_forget_producers(&self) -> bool {
        let expiration = self.config.kafka.get("producer.id.expiration.ms").and_then(|text| text.parse().ok());
        let is_broker = |node: &str| self.config.all_nodes().any(|number| self.config.machine(number) == node);
        let ahead = self.faults.iter().map(|timed| match &timed.fault {
            Fault::ClockStep { node, by_ms } if is_broker(node) => (*by_ms).max(0),
            Fault::ClockSkew { node, by_ms, .. } if is_broker(node) => by_ms.saturating_abs(),
            _ => 0,
        });
        ahead.fold(CLOCK_SLACK_MS, i64::saturating_add) >= expiration.unwrap_or(PRODUCER_EXPIRATION_MS)
    }

    /// Whether what a disk holds rots. Segments are checked when a process first reads them, and may be served for a while as they are
    /// if they rot later.
    #[must_use]
    pub fn rots(&self) -> bool {
        self.faults.iter().any(|timed| ["bit-rot", "unreadable"].contains(&timed.fault.kind()))
    }

    /// Whether any client deletes this topic, or records of it.
    #[must_use]
    pub fn is_shortened(&self, topic: &str) -> bool {
        let shortens = |operation: &Operation| match operation {
            Operation::Delete { topic: name } | Operation::DeleteRecords { topic: name, .. } => name == topic,
            _ => false,
        };
        self.workload.clients.iter().flat_map(|client| &client.operations).any(shortens)
    }

    /// Whether any client is a member of a group.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        let joins = |operation: &Operation| matches!(operation, Operation::Join { .. });
        self.workload.clients.iter().flat_map(|client| &client.operations).any(joins)
    }

    /// Whether that client's process may end and be followed by another one.
    #[must_use]
    pub fn crashes(&self, client: usize) -> bool {
        let operations = &self.workload.clients[client].operations;
        operations.iter().any(|operation| matches!(operation, Operation::Crash { .. }))
    }

    /// Topics that any client deletes.
    #[must_use]
    pub fn deleted(&self) -> BTreeSet<String> {
        let deleted = |operation: &Operation| match operation {
            Operation::Delete { topic } => Some(topic.clone()),
            _ => None,
        };
        self.workload.clients.iter().flat_map(|client| &client.operations).filter_map(deleted).collect()
    }
}
