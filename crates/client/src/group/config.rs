//! How a member of a group behaves.

use core::time::Duration;

use super::Assignor;
use crate::{ClientError, ConsumerConfig};

/// How a group agrees on who reads what (`group.protocol`). A group can change from one to the other with its members, where its
/// brokers allow that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum GroupProtocol {
    /// The coordinator decides, and whoever keeps a partition goes on reading it (KIP-848). Kafka's default is still the other one;
    /// it is the default here because nobody stops for others and the coordinator of Quipu, and of Kafka from 4.0 on, serves it.
    #[default]
    Consumer,
    /// One of the members decides for all, by [`GroupConfig::assignors`]. Every broker serves it.
    Classic,
}

/// How a member of a group behaves. `GroupConfig { auto_commit: None, ..GroupConfig::new("workers") }`; names and defaults are those
/// of Kafka's Java consumer, and what differs is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// The group (`group.id`).
    pub group: String,
    /// The protocol (`group.protocol`).
    pub protocol: GroupProtocol,
    /// The name of a static member (`group.instance.id`): who comes back under it within the session time-out is given what it had,
    /// without a rebalance (KIP-345).
    pub instance_id: Option<String>,
    /// Where the member is (`client.rack`).
    pub rack: Option<String>,
    /// Classic: the assignors that this member knows, the one it likes best first (`partition.assignment.strategy`). Members keep
    /// what they read during a rebalance if all of them are cooperative.
    pub assignors: Vec<Assignor>,
    /// Consumer: the coordinator's assignor (`group.remote.assignor`); none is the coordinator's choice.
    pub remote_assignor: Option<String>,
    /// Classic: after so long without a sign of life a member is taken for dead (`session.timeout.ms`). In the consumer protocol the
    /// group's settings say it.
    pub session_timeout: Duration,
    /// Classic: between two signs of life (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// Longest time between two polls (`max.poll.interval.ms`). Who takes longer leaves the group, and joins again at the next poll.
    /// It is also how long others wait for this member in a rebalance.
    pub poll_interval_max: Duration,
    /// How often positions are committed by themselves (`auto.commit.interval.ms`): what a poll gave is committed after the next poll
    /// has begun, when a partition is given up, and at [`crate::GroupConsumer::close`]. None commits nothing by itself
    /// (`enable.auto.commit=false`).
    pub auto_commit: Option<Duration>,
    /// How partitions are read. [`ConsumerConfig::offset_reset`] is also where to begin without a committed offset
    /// (`auto.offset.reset`).
    pub consumer: ConsumerConfig,
}

impl GroupConfig {
    /// The defaults, for a member of this group.
    #[must_use]
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            protocol: GroupProtocol::default(),
            instance_id: None,
            rack: None,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            remote_assignor: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
            auto_commit: Some(Duration::from_secs(5)),
            consumer: ConsumerConfig::default(),
        }
    }

    /// Errors: [`ClientError::Config`] names the setting that can't be used.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        self.consumer.check()?;
        let is_ms = |time: Duration| (1..=i32::MAX.unsigned_abs().into()).contains(&time.as_millis());
        let fault = if self.group.is_empty() {
            "a group needs a name that is not empty"
        } else if self.instance_id.as_ref().is_some_and(String::is_empty) {
            "instance_id must not be empty; none makes a member that is not static"
        } else if self.assignors.is_empty() {
            "assignors must name at least one"
        } else if !is_ms(self.session_timeout) || !is_ms(self.poll_interval_max) {
            "session_timeout and poll_interval_max must be 1 ms to 24 days"
        } else if self.heartbeat_interval.is_zero() || self.heartbeat_interval >= self.session_timeout {
            "heartbeat_interval must be more than nothing and less than session_timeout"
        } else if self.auto_commit.is_some_and(|interval| interval.is_zero()) {
            "auto_commit must be more than nothing; none switches it off"
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
    fn what_cannot_work_is_named() {
        let good = GroupConfig::new("g");
        assert_eq!(good.check(), Ok(()));
        let long = Duration::from_secs(60);
        for (config, word) in [
            (GroupConfig::new(""), "name"),
            (GroupConfig { instance_id: Some(String::new()), ..good.clone() }, "instance_id"),
            (GroupConfig { assignors: vec![], ..good.clone() }, "assignors"),
            (GroupConfig { heartbeat_interval: long, ..good.clone() }, "heartbeat_interval"),
            (GroupConfig { poll_interval_max: Duration::ZERO, ..good.clone() }, "poll_interval_max"),
            (GroupConfig { auto_commit: Some(Duration::ZERO), ..good.clone() }, "auto_commit"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
