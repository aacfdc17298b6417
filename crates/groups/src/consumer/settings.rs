//! The broker's settings for groups of the consumer protocol, under Kafka's names.

use core::time::Duration;

/// See Kafka's documentation of each.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `group.consumer.max.size`.
    pub group_size_max: usize,
}

impl Default for ConsumerSettings {
    /// Kafka's.
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            group_size_max: usize::try_from(i32::MAX).unwrap_or(usize::MAX),
        }
    }
}
