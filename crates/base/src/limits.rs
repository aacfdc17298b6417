//! Every bound of the product, in one place, with the reason for its size and what grows with it.
//!
//! A bound is a constant where nobody needs another value, and the default of a setting otherwise (the setting's name stands
//! beside it). The relations between bounds are `const` asserts at the end.

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// Largest request frame (`socket.request.max.bytes`): Kafka's default. A frame is held whole in memory.
pub const REQUEST_BYTES_MAX: usize = 100 * MIB;
/// Largest record batch (`message.max.bytes`, `max.message.bytes`): Kafka's default, 1 MiB and a batch header.
pub const BATCH_BYTES_MAX: usize = MIB + 12;
/// Requests in flight, all connections together (`memory_requests_bytes`).
pub const MEMORY_REQUESTS_BYTES: usize = 128 * MIB;
/// Batches appended but not yet in a segment (`memory_tail_bytes`).
pub const MEMORY_TAIL_BYTES: usize = 128 * MIB;
/// Replies made but not yet taken by their clients (`memory_replies_bytes`).
pub const MEMORY_REPLIES_BYTES: usize = 64 * MIB;
/// The part of the tail that only metadata, log-start and delete frames may use, so that a full tail never blocks what
/// would free it.
pub const MEMORY_TAIL_RESERVE_BYTES: usize = 4 * MIB;

/// A batch decompresses to at most this: far above what an honest producer sends, far below what memory bears.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * MIB;
/// Memory in which compressed batches are checked and compressed anew, all at once. A batch that needs more than a part waits
/// until it has all of it.
pub const MEMORY_WORKSPACE_BYTES: usize = DECOMPRESSED_BYTES_MAX;
/// The part of the requests' memory that is kept free for the workspace, at most. With it, the workspace and what a broker needs
/// in any case stay within 64 MiB above the sum of the budgets.
pub const MEMORY_WORKSPACE_FROM_REQUESTS_BYTES: usize = 32 * MIB;
/// A batch that decompresses to more than this is not checked on a shard.
pub const DECOMPRESSED_INLINE_BYTES_MAX: usize = 256 * KIB;
/// A batch holds at most this many records per byte of record data: a record has at least 7 bytes.
pub const RECORD_BYTES_MIN: usize = 7;

/// Largest element count of any array in a request (Kafka 4.4 refuses more).
pub const ARRAY_LENGTH_MAX: usize = 1_000_000;
/// Largest number of tagged fields in one structure (Kafka 4.4 refuses more).
pub const TAGGED_FIELDS_MAX: usize = 10_000;

/// Jobs queued or running in one pool of threads (a disk lane, computations). Each is a closure of some hundred bytes beside
/// buffers that are budgeted elsewhere; whoever brings one more waits.
pub const POOL_JOBS_MAX: usize = 4096;
/// Connections that the kernel completes before they are accepted. More come only in storms; it then lets clients try again.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Open client connections (`max.connections`). Each costs a task and two buffers, about 16 KiB.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Requests of one connection that may be under way at once. Beyond it the connection is not read.
pub const CONNECTION_INFLIGHT_REQUESTS_MAX: usize = 128;
/// A connection without a request for this long is closed (`connections.max.idle.ms`): Kafka's default.
pub const CONNECTION_IDLE_MS: u64 = 600_000;
/// A connection that takes none of its replies for this long is closed.
pub const CONNECTION_STALLED_MS: u64 = 30_000;

/// Fetch sessions kept (`max.incremental.fetch.session.cache.slots`): Kafka's default.
pub const FETCH_SESSIONS_MAX: usize = 1000;
/// Partitions in all fetch sessions together, each of them some 300 bytes: 30 MiB. What finds no room is fetched without a
/// session.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 100_000;

/// Clients whose pushes of metrics (KIP-714) are remembered: Kafka's number. The one longest unused makes room, and is told to ask
/// anew.
pub const CLIENT_INSTANCES_MAX: usize = 16_384;
/// Names of client metrics that are counted each; the others are counted together.
pub const CLIENT_METRIC_NAMES_MAX: usize = 1000;
/// A push of client metrics decompresses to at most this.
pub const CLIENT_METRICS_DECOMPRESSED_BYTES_MAX: usize = 8 * MIB;

/// First size of the WAL's zero-filled space: small, because a first start must be fast.
pub const WAL_START_BYTES: u64 = 16 * MIB as u64;
/// Size of one WAL file (`wal_file_bytes`).
pub const WAL_FILE_BYTES: u64 = 256 * MIB as u64;
/// All WAL files together. Recovery reads at most this.
pub const WAL_TOTAL_BYTES: u64 = 1024 * MIB as u64;
/// The end of the WAL that is kept for metadata, log-start and delete frames.
pub const WAL_RESERVE_BYTES: u64 = 16 * MIB as u64;
/// Alignment of WAL groups and of direct I/O.
pub const WAL_ALIGN_BYTES: usize = 4096;
/// Payload of one WAL group at most, but for a single larger batch.
pub const WAL_GROUP_BYTES_MAX: usize = 4 * MIB;
/// Frames of one step, which have to lie in one group, at most: far more than the batches that one message between brokers brings
/// for one partition, and few enough that any group has room for them.
pub const WAL_STEP_FRAMES_MAX: usize = 1024;
/// Payload of one step at most, but for a single larger batch.
pub const WAL_STEP_BYTES_MAX: usize = WAL_GROUP_BYTES_MAX;
/// WAL groups being written at once.
pub const WAL_GROUPS_INFLIGHT_MAX: usize = 2;
/// Quiet time after which an empty group proves the last one durable.
pub const WAL_PROOF_DELAY_MS: u64 = 2;

/// Segment size (`log.segment.bytes`, `segment.bytes`): Kafka's default.
pub const SEGMENT_BYTES: u32 = 1024 * 1024 * 1024;
/// Segment age (`log.roll.ms`, `segment.ms`): Kafka's default, seven days.
pub const SEGMENT_MS: i64 = 7 * 24 * 3600 * 1000;
/// Bytes of log between two entries of a sparse index.
pub const INDEX_INTERVAL_BYTES: u32 = 8 * 1024;
/// Segment files held open at once; the least recently used is closed.
pub const OPEN_FILES_MAX: usize = 4096;

/// Batches remembered per producer id for recognising duplicates: Kafka's number, tied to five requests in flight.
pub const PRODUCER_BATCHES_MAX: usize = 5;
/// Producer ids kept per partition at most; the one longest unused makes room.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 100_000;
/// A producer id unused for this long is forgotten (`producer.id.expiration.ms`): Kafka's default, one day.
pub const PRODUCER_EXPIRATION_MS: i64 = 24 * 3600 * 1000;
/// Producer ids that the controller hands to a broker at a time.
pub const PRODUCER_ID_BLOCK_COUNT: u32 = 1000;

/// Memory for the keys of one pass of compaction (`log.cleaner.dedupe.buffer.size`): 1.2 million keys. More take several passes.
pub const CLEANER_BYTES: usize = 32 * MIB;
/// What compaction reads and writes in a second (`log.cleaner.io.max.bytes.per.second`): about a third of what a plain disk can,
/// so that those who wait for it hardly notice.
pub const CLEANER_BYTES_PER_SECOND: u64 = 256 * MIB as u64;
/// What a broker sends in a second to followers from its segments (`replica.catch.up.bytes.per.second`), besides twice what clients
/// write: a rebuilt replica takes its time, and those who write hardly notice.
pub const CATCH_UP_BYTES_PER_SECOND: u64 = 160 * MIB as u64;
/// What is read of segments in a second to find damage (`log.scrub.bytes.per.second`): a terabyte in three days.
pub const SCRUB_BYTES_PER_SECOND: u64 = 4 * MIB as u64;

/// Metadata log between two snapshots (`metadata_snapshot_bytes`): some 100,000 records, read in some 0.1 s at a start.
pub const METADATA_SNAPSHOT_BYTES: u64 = 8 * MIB as u64;

/// Longest topic name: with a partition number it must make a file name elsewhere in Kafka's world.
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;
/// Partitions that one request may create.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

const _: () = {
    assert!(MEMORY_REQUESTS_BYTES >= REQUEST_BYTES_MAX, "the largest frame must fit its budget");
    assert!(MEMORY_TAIL_BYTES >= MEMORY_TAIL_RESERVE_BYTES + WAL_GROUP_BYTES_MAX * WAL_GROUPS_INFLIGHT_MAX);
    assert!(REQUEST_BYTES_MAX > BATCH_BYTES_MAX, "the largest batch must fit a frame");
    assert!(WAL_START_BYTES <= WAL_FILE_BYTES && WAL_FILE_BYTES <= WAL_TOTAL_BYTES);
    assert!(WAL_RESERVE_BYTES <= WAL_FILE_BYTES, "the reserve lies in one file");
    assert!(WAL_GROUP_BYTES_MAX.is_multiple_of(WAL_ALIGN_BYTES));
    assert!(WAL_STEP_BYTES_MAX <= WAL_GROUP_BYTES_MAX, "a step is one group");
};
