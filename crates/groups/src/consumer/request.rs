//! What groups of the consumer protocol are asked and what they answer.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId};

use super::{error::ConsumerError, settings::ConsumerSettings, topics::Topics};
use crate::request::{Commit, Fetch, Fetched, Outcome};

/// Partitions by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;

/// A request of clients that know the consumer protocol.
#[derive(Clone, Debug)]
pub enum ConsumerRequest {
    /// Join, stay, or leave.
    Heartbeat(ConsumerHeartbeat),
    /// One group.
    Describe(Arc<str>),
    /// Commit offsets, by a client that knows member epochs (OffsetCommit 9 and above): to a group of either protocol.
    Commit(Commit),
    /// Committed offsets, for a client that knows member epochs (OffsetFetch 9 and above).
    Fetch(FetchAs),
    /// All topics, as they are from now on.
    Topics(Arc<Topics>),
    /// Settings, as they are from now on.
    Settings(Arc<ConsumerSettings>),
}

/// The answer to the request of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum ConsumerReply {
    /// To [`ConsumerRequest::Heartbeat`].
    Heartbeat(Result<ConsumerBeat, ConsumerError>),
    /// To [`ConsumerRequest::Describe`].
    Describe(Result<ConsumerDescribed, ConsumerError>),
    /// To [`ConsumerRequest::Commit`]: one for each offset, in order, unless all are refused.
    Commit(Result<Vec<Outcome>, ConsumerError>),
    /// To [`ConsumerRequest::Fetch`].
    Fetch(Result<Vec<Fetched>, ConsumerError>),
    /// To [`ConsumerRequest::Topics`] and [`ConsumerRequest::Settings`].
    Noted,
}

/// See [`ConsumerRequest::Heartbeat`]: fields that have not changed since the last heartbeat may be left out.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member. Clients of version 0 leave it empty at first.
    pub member_id: Arc<str>,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub member_epoch: i32,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// Where it is.
    pub rack_id: Option<Arc<str>>,
    /// So long may it take to give partitions up.
    pub rebalance_timeout: Option<Duration>,
    /// Topics that it wants by name.
    pub subscribed_names: Option<Vec<Arc<str>>>,
    /// Topics that it wants by a regular expression (RE2); empty for none.
    pub subscribed_regex: Option<Arc<str>>,
    /// The assignor that it asks for.
    pub assignor: Option<Arc<str>>,
    /// The partitions that it still reads.
    pub owned: Option<Partitions>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Whether the client has to make its id itself (version 1 and above).
    pub makes_id: bool,
}

/// See [`ConsumerReply::Heartbeat`].
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerBeat {
    /// The member.
    pub member_id: Arc<str>,
    /// Its epoch.
    pub member_epoch: i32,
    /// When to come again; zero for who leaves.
    pub interval: Duration,
    /// What it is to read from now on, if that has changed or it asked for it.
    pub assignment: Option<Partitions>,
}

/// See [`ConsumerRequest::Fetch`].
#[derive(Clone, Debug)]
pub struct FetchAs {
    /// Who; none from administrators.
    pub member_id: Option<Arc<str>>,
    /// The member's epoch; -1 from administrators.
    pub member_epoch: i32,
    /// What.
    pub fetch: Fetch,
}

/// See [`ConsumerReply::Describe`].
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerDescribed {
    /// Its state.
    pub state: &'static str,
    /// What the group epoch is.
    pub group_epoch: i32,
    /// The group epoch that the target assignment was made for.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<ConsumerDescribedMember>,
}

/// A member of a described group.
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerDescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// For static members.
    pub instance_id: Option<Arc<str>>,
    /// Where it is.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub member_epoch: i32,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Topics that it wants by name.
    pub subscribed_names: BTreeSet<Arc<str>>,
    /// Topics that it wants by a regular expression.
    pub subscribed_regex: Option<Arc<str>>,
    /// What it may read. Topics that are gone are left out.
    pub assignment: Vec<AssignedTopic>,
    /// What it is to read.
    pub target: Vec<AssignedTopic>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssignedTopic {
    /// The topic.
    pub topic_id: TopicId,
    /// Its name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}
