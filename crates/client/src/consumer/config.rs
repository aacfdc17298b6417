//! How a consumer behaves.

use core::time::Duration;

use crate::ClientError;

/// Which records of transactions are read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Isolation {
    /// All, up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, up to the first one that is open.
    ReadCommitted,
}

impl Isolation {
    pub(crate) const fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// What to do when the position is not in the log: records were deleted from its beginning, or its end was truncated.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OffsetReset {
    /// Tell the caller, who seeks or gives up. Kafka's default is `End`, which skips records in silence.
    #[default]
    Error,
    /// Go on at the first record.
    Start,
    /// Go on with what comes next.
    End,
}

/// How a consumer behaves. The names and defaults are those of Kafka's Java consumer; what differs is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerConfig {
    /// Which records of transactions are read (`isolation.level`).
    pub isolation: Isolation,
    /// What to do when the position is not in the log (`auto.offset.reset`).
    pub offset_reset: OffsetReset,
    /// Bytes that a broker waits for before it answers (`fetch.min.bytes`). Of partitions that were added, resumed or read up
    /// while others wait, it answers at once with what there is.
    pub fetch_bytes_min: i32,
    /// Most bytes of one answer, but for a single larger batch (`fetch.max.bytes`). Two answers of each broker may be under way.
    pub fetch_bytes_max: i32,
    /// Most bytes of each partition in one answer, but for a single larger batch (`max.partition.fetch.bytes`).
    pub partition_bytes_max: i32,
    /// How long a broker waits for `fetch_bytes_min` (`fetch.max.wait.ms`).
    pub fetch_wait_max: Duration,
    /// Bytes of one partition that may lie here unread; then it is not fetched. 0 fetches only when there is nothing left.
    pub prefetch_bytes: usize,
    /// Most records that one [`crate::Consumer::poll`] answers with (`max.poll.records`).
    pub poll_records_max: usize,
    /// Whether the checksum of each batch is checked (`check.crcs`).
    pub check_crcs: bool,
    /// A batch may decompress to at most this many bytes.
    pub decompressed_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            isolation: Isolation::ReadUncommitted,
            offset_reset: OffsetReset::Error,
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            fetch_wait_max: Duration::from_millis(500),
            prefetch_bytes: 1024 * 1024,
            poll_records_max: 500,
            check_crcs: true,
            decompressed_bytes_max: quipu_base::limits::DECOMPRESSED_BYTES_MAX,
        }
    }
}

impl ConsumerConfig {
    /// Errors: [`ClientError::Config`] names the setting that can't be used.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let fault = if self.fetch_bytes_min < 1 || self.fetch_bytes_max < 1 || self.partition_bytes_max < 1 {
            "fetch_bytes_min, fetch_bytes_max and partition_bytes_max must be at least 1"
        } else if self.poll_records_max == 0 {
            "poll_records_max must be at least 1"
        } else if !(1..=i32::MAX.unsigned_abs().into()).contains(&self.fetch_wait_max.as_millis()) {
            "fetch_wait_max must be 1 ms to 24 days"
        } else if self.decompressed_bytes_max == 0 {
            "decompressed_bytes_max must be at least 1"
        } else {
            return Ok(());
        };
        Err(ClientError::Config(fault.to_owned()))
    }
}
