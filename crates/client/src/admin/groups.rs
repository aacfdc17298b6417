//! Groups: which there are, and away with them.

use core::fmt;
use std::collections::BTreeMap;

use quipu_base::BrokerId;
use quipu_env::Env;
use quipu_protocol::messages::{delete_groups::DeleteGroupsRequest, list_groups::ListGroupsRequest};

use super::{Admin, Outcome, check, expect_reply};
use crate::{ClientError, pool::Target};

/// How far a group is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members; it may have committed offsets.
    Empty,
    /// Classic: members join.
    PreparingRebalance,
    /// Classic: members wait for what they are given.
    CompletingRebalance,
    /// Consumer: the coordinator decides.
    Assigning,
    /// Consumer: members give up and take over.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
    /// There is no such group.
    Dead,
    /// One that this client does not know, in the broker's word.
    Other(String),
}

impl GroupState {
    pub(super) fn from_wire(text: &str) -> Self {
        match text {
            "Empty" => Self::Empty,
            "PreparingRebalance" => Self::PreparingRebalance,
            "CompletingRebalance" => Self::CompletingRebalance,
            "Assigning" => Self::Assigning,
            "Reconciling" => Self::Reconciling,
            "Stable" => Self::Stable,
            "Dead" => Self::Dead,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
            Self::Other(word) => word,
        })
    }
}

/// What a group speaks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum GroupProtocolType {
    /// The classic protocol.
    Classic,
    /// The consumer protocol (KIP-848).
    Consumer,
    /// Another one, in the broker's word; empty from brokers that do not tell.
    Other(String),
}

impl GroupProtocolType {
    fn from_wire(text: &str) -> Self {
        match text {
            "classic" => Self::Classic,
            "consumer" => Self::Consumer,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for GroupProtocolType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Other(word) => word,
        })
    }
}

/// A group as a broker lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    /// Its name.
    pub group: String,
    /// What it speaks.
    pub protocol: GroupProtocolType,
    /// What its members are: `consumer`, `connect`; empty if it has never had any.
    pub protocol_type: String,
    /// How far it is.
    pub state: GroupState,
}

impl<E: Env> Admin<E> {
    /// All groups, by name.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`]: every broker has to answer.
    pub async fn list_groups(&self) -> Outcome<Vec<GroupListing>> {
        let mut retry = self.client.retry("list groups");
        loop {
            match self.list_groups_once().await {
                Ok(groups) => return Ok(groups.into_values().collect()),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// Each broker knows the groups that it coordinates.
    async fn list_groups_once(&self) -> Outcome<BTreeMap<String, GroupListing>> {
        self.client.refresh(&[]).await?;
        let brokers: Vec<BrokerId> = self.client.cluster().brokers.keys().copied().collect();
        let post =
            |id: BrokerId| (id, self.client.post(Target::Broker(id), ListGroupsRequest::default(), 0..=i16::MAX));
        let pending: Vec<_> = brokers.into_iter().map(post).collect();
        let mut groups = BTreeMap::new();
        for (id, call) in pending {
            let response = expect_reply!(call.wait(self.client.shared()).await?, ListGroups);
            check(|| format!("list groups of broker {id}"), response.error_code, None)?;
            for found in response.groups {
                let listing = GroupListing {
                    group: found.group_id.to_string(),
                    protocol: GroupProtocolType::from_wire(&found.group_type),
                    protocol_type: found.protocol_type.to_string(),
                    state: GroupState::from_wire(&found.group_state),
                };
                groups.insert(listing.group.clone(), listing);
            }
        }
        Ok(groups)
    }

    /// Deletes groups without members, with their committed offsets.
    ///
    /// Errors of a group: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND and others.
    pub async fn delete_groups(&self, groups: Vec<String>) -> Vec<(String, Outcome<()>)> {
        let mut rounds = self.rounds("delete groups", groups);
        while let Some(open) = rounds.next().await {
            for (at, group) in open {
                let outcome = self.delete_group_once(&group).await;
                rounds.settle(at, outcome);
            }
        }
        rounds.finish()
    }

    async fn delete_group_once(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.into()] };
        let response = expect_reply!(self.ask_coordinator(group, request, 0..=i16::MAX).await?, DeleteGroups);
        let found = response.results.first().ok_or_else(super::left_out)?;
        check(|| format!("delete group {group}"), found.error_code, found.error_message.as_deref())
    }
}
