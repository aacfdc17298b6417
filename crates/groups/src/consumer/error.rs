//! Why a group of the consumer protocol refuses.

use core::fmt;

use crate::error::GroupError;

/// Whose fault it is: all but [`Self::TopicsUnknown`] and [`GroupError::Full`] are the client's. Named as Kafka's error codes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerError {
    /// As in groups of the classic protocol.
    Group(GroupError),
    /// The request contradicts itself.
    InvalidRequest(&'static str),
    /// The expression can't be used, and why.
    InvalidRegularExpression(String),
    /// Nobody here knows the assignor; these are known.
    UnsupportedAssignor(String),
    /// The member's epoch is not the one that the coordinator knows.
    FencedMemberEpoch,
    /// A request beside the heartbeat bears an epoch that is not the member's.
    StaleMemberEpoch,
    /// Another member still bears the instance id.
    UnreleasedInstanceId,
    /// The coordinator has not been told of the topics yet (COORDINATOR_LOAD_IN_PROGRESS).
    TopicsUnknown,
}

impl From<GroupError> for ConsumerError {
    fn from(error: GroupError) -> Self {
        Self::Group(error)
    }
}

impl ConsumerError {
    /// The nearest error for a client that knows no epochs.
    pub(crate) fn classic(&self) -> GroupError {
        match self {
            Self::Group(error) => *error,
            Self::StaleMemberEpoch | Self::FencedMemberEpoch => GroupError::IllegalGeneration,
            _ => GroupError::UnknownMemberId,
        }
    }
}

impl fmt::Display for ConsumerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(error) => error.fmt(f),
            Self::InvalidRequest(why) => f.write_str(why),
            Self::InvalidRegularExpression(why) => {
                write!(f, "SubscribedTopicRegex is not a valid regular expression: {why}")
            }
            Self::UnsupportedAssignor(known) => {
                write!(f, "ServerAssignor is not supported. Supported assignors: {known}.")
            }
            Self::FencedMemberEpoch => {
                f.write_str("the member's epoch is not the one known: it must abandon all its partitions and rejoin")
            }
            Self::StaleMemberEpoch => {
                f.write_str("the member's epoch is out of date: wait for the next heartbeat's answer")
            }
            Self::UnreleasedInstanceId => {
                f.write_str("another member bears the instance id: stop it, or wait for its session to end")
            }
            Self::TopicsUnknown => f.write_str("the coordinator has not learned of the topics yet: ask again"),
        }
    }
}

impl core::error::Error for ConsumerError {}
