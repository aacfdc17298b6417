//! The broker's settings for groups of the consumer protocol, under Kafka's names, and those of single groups.

use core::time::Duration;
use std::sync::Arc;

use imbl::OrdMap;

use super::assign::Assignor;

/// See Kafka's documentation of each.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `group.consumer.max.size`.
    pub group_size_max: usize,
    /// `group.consumer.assignors`: the first is for members that ask for none. At least one.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration: Migration,
    /// What is set on single groups.
    pub groups: OrdMap<Arc<str>, GroupSettings>,
}

/// Which groups change their protocol while they have members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Migration {
    /// A group of the classic protocol, when a member of the consumer protocol joins it.
    pub upgrades: bool,
    /// A group of the consumer protocol, when its last member of that protocol leaves it to members of the classic one.
    pub downgrades: bool,
}

/// What is set on one group, and holds in place of the broker's setting.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`.
    pub session_timeout: Option<Duration>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Option<Duration>,
}

impl ConsumerSettings {
    /// Without a sign of life for this long a member of the group is out.
    pub(crate) fn session_timeout_of(&self, group: &str) -> Duration {
        self.groups.get(group).and_then(|own| own.session_timeout).unwrap_or(self.session_timeout)
    }

    /// How often a member of the group has to come.
    pub(crate) fn heartbeat_interval_of(&self, group: &str) -> Duration {
        self.groups.get(group).and_then(|own| own.heartbeat_interval).unwrap_or(self.heartbeat_interval)
    }

    /// The assignor of that name, if it may be asked for.
    pub(crate) fn assignor(&self, name: &str) -> Option<Assignor> {
        self.assignors.iter().copied().find(|assignor| assignor.name() == name)
    }
}

impl Default for ConsumerSettings {
    /// Kafka's.
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            group_size_max: usize::try_from(i32::MAX).unwrap_or(usize::MAX),
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: Migration { upgrades: true, downgrades: true },
            groups: OrdMap::new(),
        }
    }
}
