//! Why a group refuses.

use core::fmt;

/// Whose fault it is: all but [`Self::Full`] are the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupError {
    /// The group's id is empty.
    InvalidGroupId,
    /// No such group.
    GroupIdNotFound,
    /// The member is not, or no longer, in the group.
    UnknownMemberId,
    /// The generation is not the current one.
    IllegalGeneration,
    /// The member has to join again.
    RebalanceInProgress,
    /// The member shares no protocol with the others.
    InconsistentProtocol,
    /// The session's time-out is out of bounds.
    InvalidSessionTimeout,
    /// The member has to come again with the id that it is told.
    MemberIdRequired,
    /// Another member bears the same instance id.
    FencedInstanceId,
    /// The group has as many members as it may have.
    GroupMaxSizeReached,
    /// The group still has members.
    NonEmptyGroup,
    /// The group still reads the topic.
    SubscribedToTopic,
    /// The metadata of an offset is too long.
    OffsetMetadataTooLarge,
    /// Subscriptions or assignments are too long to be kept.
    TooLarge,
    /// The request's version can't carry a member's epoch.
    UnsupportedVersion,
    /// The coordinator keeps as much as it may.
    Full,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidGroupId => "the group id is empty: name the group",
            Self::GroupIdNotFound => "there is no such group",
            Self::UnknownMemberId => "the member is not in the group: join again without a member id",
            Self::IllegalGeneration => "the generation is not the group's current one: join again",
            Self::RebalanceInProgress => "the group is rebalancing: join again",
            Self::InconsistentProtocol => "the member has no protocol in common with all others of the group",
            Self::InvalidSessionTimeout => {
                "the session time-out is outside group.min.session.timeout.ms to group.max.session.timeout.ms"
            }
            Self::MemberIdRequired => "join again with the member id given",
            Self::FencedInstanceId => "another consumer has joined with the same group instance id",
            Self::GroupMaxSizeReached => "the group has as many members as group.max.size allows",
            Self::NonEmptyGroup => "the group still has members: stop them first",
            Self::SubscribedToTopic => "the group's members are subscribed to the topic",
            Self::OffsetMetadataTooLarge => "the metadata is longer than offset.metadata.max.bytes",
            Self::TooLarge => "subscriptions or assignments are longer than a record of the group may be",
            Self::UnsupportedVersion => {
                "OffsetCommit version 9 or above must be used by members using the modern group protocol"
            }
            Self::Full => "the coordinator keeps as many groups, members or offsets as it may: delete some, or use more partitions",
        })
    }
}

impl core::error::Error for GroupError {}
