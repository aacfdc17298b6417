//! What groups are asked and what they answer.

use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::{
    consumer::{ConsumerReply, ConsumerRequest},
    error::GroupError,
};

/// A request to the groups of one shard.
#[derive(Clone, Debug)]
pub enum Request {
    /// Become or stay a member.
    Join(Join),
    /// Bring and get assignments.
    Sync(Sync),
    /// A sign of life.
    Heartbeat(MemberOf),
    /// Leave.
    Leave(Leave),
    /// Commit offsets.
    Commit(Commit),
    /// Committed offsets.
    Fetch(Fetch),
    /// Forget offsets.
    DeleteOffsets(DeleteOffsets),
    /// All groups.
    List(List),
    /// One group.
    Describe(Arc<str>),
    /// Delete one group.
    Delete(Arc<str>),
    /// These topics are gone, and their offsets with them.
    TopicsDeleted(Vec<Arc<str>>),
    /// A request of clients that know the consumer protocol.
    Consumer(ConsumerRequest),
}

/// What became of one member or one offset.
pub type Outcome = Result<(), GroupError>;

/// The answer to the request of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// To [`Request::Join`].
    Join(Joined),
    /// To [`Request::Sync`].
    Sync(Result<Synced, GroupError>),
    /// To [`Request::Heartbeat`].
    Heartbeat(Outcome),
    /// To [`Request::Leave`]: one for each member, in order.
    Leave(Result<Vec<(Leaver, Outcome)>, GroupError>),
    /// To [`Request::Commit`]: one for each offset, in order. An error of all is an error of each.
    Commit(Vec<Outcome>),
    /// To [`Request::Fetch`]: in order.
    Fetch(Vec<Fetched>),
    /// To [`Request::DeleteOffsets`]: one for each, in order.
    DeleteOffsets(Result<Vec<Outcome>, GroupError>),
    /// To [`Request::List`].
    List(Vec<Listed>),
    /// To [`Request::Describe`].
    Describe(Result<Described, GroupError>),
    /// To [`Request::Delete`].
    Delete(Outcome),
    /// To [`Request::TopicsDeleted`].
    TopicsDeleted,
    /// To [`Request::Consumer`].
    Consumer(ConsumerReply),
}

/// One protocol that a member can follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// The assignor's name.
    pub name: String,
    /// The member's subscription.
    pub metadata: Bytes,
}

/// See [`Request::Join`].
#[derive(Clone, Debug)]
pub struct Join {
    /// The group.
    pub group: Arc<str>,
    /// Empty at first.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Without a sign of life for this long it is out.
    pub session_timeout: Duration,
    /// A rebalance waits for it so long.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// Best first.
    pub protocols: Vec<Protocol>,
    /// Why.
    pub reason: Option<String>,
    /// Whether it can come again with the id that it is given (KIP-394).
    pub takes_member_id: bool,
    /// Whether it understands that it is not to assign (KIP-814).
    pub skips_assignment: bool,
}

/// See [`Reply::Join`].
#[derive(Clone, PartialEq, Debug)]
pub struct Joined {
    /// Why not.
    pub error: Option<GroupError>,
    /// -1 with an error.
    pub generation: i32,
    /// What the group is for.
    pub protocol_type: Option<String>,
    /// What all have in common.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: Arc<str>,
    /// Whether the leader is not to assign.
    pub skip_assignment: bool,
    /// The member itself.
    pub member_id: Arc<str>,
    /// For the leader: everybody.
    pub members: Vec<JoinedMember>,
}

impl Joined {
    pub(crate) fn refused(error: GroupError, member_id: Arc<str>) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// A member, as the leader is told of it.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// Its subscription.
    pub metadata: Bytes,
}

/// A member that says which generation it is of.
#[derive(Clone, Debug)]
pub struct MemberOf {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// The generation; below 0 from whoever is no member.
    pub generation: i32,
}

/// See [`Request::Sync`].
#[derive(Clone, Debug)]
pub struct Sync {
    /// Who.
    pub member: MemberOf,
    /// What it believes the group is for.
    pub protocol_type: Option<String>,
    /// What it believes all have in common.
    pub protocol: Option<String>,
    /// The leader's.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// See [`Reply::Sync`].
#[derive(Clone, PartialEq, Debug)]
pub struct Synced {
    /// What the group is for.
    pub protocol_type: Option<String>,
    /// What all have in common.
    pub protocol: Option<String>,
    /// The member's own.
    pub assignment: Bytes,
}

/// One that leaves: a static one may be named by its instance id alone.
#[derive(Clone, PartialEq, Debug)]
pub struct Leaver {
    /// The member, or empty.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// Why.
    pub reason: Option<String>,
}

/// See [`Request::Leave`].
#[derive(Clone, Debug)]
pub struct Leave {
    /// The group.
    pub group: Arc<str>,
    /// Those that leave.
    pub members: Vec<Leaver>,
}

/// A partition by its topic's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
}

/// One committed offset.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, if known.
    pub leader_epoch: LeaderEpoch,
    /// The client's own.
    pub metadata: String,
    /// The topic's id; zero if unknown.
    pub topic_id: TopicId,
}

/// See [`Request::Commit`].
#[derive(Clone, Debug)]
pub struct Commit {
    /// Who.
    pub member: MemberOf,
    /// How long to keep them, if the client says so.
    pub retention: Option<Duration>,
    /// What.
    pub offsets: Vec<(TopicPartition, Committed)>,
}

/// See [`Request::Fetch`].
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The group.
    pub group: Arc<str>,
    /// None for all.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// See [`Reply::Fetch`].
#[derive(Clone, PartialEq, Debug)]
pub struct Fetched {
    /// Which.
    pub partition: TopicPartition,
    /// None if nothing was committed.
    pub committed: Option<Committed>,
}

/// See [`Request::DeleteOffsets`].
#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    /// The group.
    pub group: Arc<str>,
    /// Which.
    pub partitions: Vec<TopicPartition>,
}

/// See [`Request::List`].
#[derive(Clone, Default, Debug)]
pub struct List {
    /// Names of states, in lower case; empty for all.
    pub states: BTreeSet<String>,
    /// Names of types, in lower case; empty for all.
    pub types: BTreeSet<String>,
}

/// One group of a list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    /// The group.
    pub group: Arc<str>,
    /// What it is for.
    pub protocol_type: String,
    /// Its state.
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub kind: &'static str,
}

/// See [`Reply::Describe`].
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    /// Its state.
    pub state: &'static str,
    /// What it is for.
    pub protocol_type: String,
    /// What all have in common.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a described group.
#[derive(Clone, PartialEq, Debug)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Its subscription.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}
