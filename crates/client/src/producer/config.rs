//! How a producer behaves.

use core::time::Duration;

use quipu_records::Codec;

use crate::ClientError;

/// Who must have the records before the broker answers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Acks {
    /// Nobody: there is no answer, and a delivery tells only that the records have left this process. No offsets, no retries of
    /// what the broker refused, records may be lost.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

impl Acks {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer behaves. The names and defaults are those of Kafka's Java producer; what differs is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerConfig {
    /// Who must have the records (`acks`).
    pub acks: Acks,
    /// Whether brokers recognise what is sent twice, so that retries neither repeat nor reorder records (`enable.idempotence`).
    /// Needs [`Acks::All`] and `in_flight_max` of at most 5.
    pub idempotence: bool,
    /// Bytes of records, not compressed, that are gathered for one partition before they are sent (`batch.size`). A larger record
    /// goes alone.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more records (`linger.ms`).
    pub linger: Duration,
    /// How batches are compressed (`compression.type`).
    pub compression: Codec,
    /// The codec's level, see [`Codec::levels`]; none is its default (`compression.gzip.level`, `compression.zstd.level`).
    pub compression_level: Option<i32>,
    /// From the moment a record is taken until its delivery is told, one way or the other (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// How long the broker may take for one request; the client waits as long as [`crate::ClientConfig::request_timeout`].
    pub broker_timeout: Duration,
    /// How long [`crate::Producer::send`] waits for memory, or for news of the topic (`max.block.ms`).
    pub send_timeout: Duration,
    /// Bytes of records that were taken and not yet delivered (`buffer.memory`). Who brings more waits.
    pub memory_bytes: usize,
    /// Requests under way to each broker (`max.in.flight.requests.per.connection`). Without idempotence more than 1 lets a retry
    /// overtake.
    pub in_flight_max: usize,
    /// Largest request, and largest record, in bytes (`max.request.size`).
    pub request_bytes_max: usize,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            batch_bytes: 16 * 1024,
            linger: Duration::from_millis(5),
            compression: Codec::None,
            compression_level: None,
            delivery_timeout: Duration::from_secs(120),
            broker_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(60),
            memory_bytes: 32 * 1024 * 1024,
            in_flight_max: IN_FLIGHT_MAX,
            request_bytes_max: 1024 * 1024,
        }
    }
}

/// Batches per producer that brokers remember.
pub(crate) const IN_FLIGHT_MAX: usize = quipu_base::limits::PRODUCER_BATCHES_MAX;

impl ProducerConfig {
    /// Errors: [`ClientError::Config`] names the setting that can't be used.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let level = self.compression_level;
        let level_fits =
            level.is_none_or(|level| self.compression.levels().is_some_and(|known| known.contains(&level)));
        let fault = if self.idempotence && self.acks != Acks::All {
            "idempotence needs acks from all in-sync replicas: set acks to All, or idempotence to false"
        } else if self.in_flight_max == 0 || self.in_flight_max > IN_FLIGHT_MAX {
            "in_flight_max must be 1 to 5: brokers remember five batches of a producer"
        } else if self.memory_bytes == 0 || u32::try_from(self.memory_bytes).is_err() {
            "memory_bytes must be 1 byte to 4 GiB"
        } else if self.batch_bytes == 0 || self.batch_bytes > self.memory_bytes {
            "batch_bytes must be at least 1 and at most memory_bytes"
        } else if self.request_bytes_max < 128 || i32::try_from(self.request_bytes_max).is_err() {
            "request_bytes_max must be 128 bytes to 2 GiB"
        } else if self.delivery_timeout <= self.linger {
            "delivery_timeout must be longer than linger"
        } else if !level_fits {
            "compression_level is not one of the codec's levels"
        } else {
            return Ok(());
        };
        Err(ClientError::Config(fault.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_is_named() {
        assert_eq!(ProducerConfig::default().check(), Ok(()));
        let default = ProducerConfig::default;
        for (config, word) in [
            (ProducerConfig { acks: Acks::Leader, ..default() }, "acks"),
            (ProducerConfig { in_flight_max: 6, ..default() }, "in_flight_max"),
            (ProducerConfig { memory_bytes: 0, ..default() }, "memory_bytes"),
            (ProducerConfig { batch_bytes: 0, ..default() }, "batch_bytes"),
            (ProducerConfig { request_bytes_max: 1, ..default() }, "request_bytes_max"),
            (ProducerConfig { linger: Duration::from_secs(500), ..default() }, "delivery_timeout"),
            (ProducerConfig { compression_level: Some(3), ..default() }, "compression_level"),
        ] {
            assert!(config.check().unwrap_err().to_string().contains(word), "{word}");
        }
    }
}
