//! A group and its members, whichever protocol it speaks.

use std::{collections::BTreeSet, sync::Arc};

use quipu_base::{BrokerId, PartitionIndex};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Str,
    messages::{
        consumer_group_describe::{self as modern, ConsumerGroupDescribeRequest},
        describe_groups::{self as classic, DescribeGroupsRequest},
    },
};

use super::{Admin, GroupProtocolType, GroupState, Outcome, check, expect_reply};
use crate::{ClientError, CoordinatorKind, TopicPartition, group::wire};

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Who coordinates it.
    pub coordinator: BrokerId,
    /// What it speaks.
    pub protocol: GroupProtocolType,
    /// How far it is.
    pub state: GroupState,
    /// Who decides, or by what: an assignor of the members, or of the coordinator.
    pub assignor: String,
    /// The group's epoch, in the consumer protocol.
    pub epoch: Option<i32>,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its name, if it is a static one.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its epoch, in the consumer protocol.
    pub epoch: Option<i32>,
    /// The topics that it names.
    pub topics: BTreeSet<String>,
    /// The regular expression that it subscribes with, if it does.
    pub pattern: Option<String>,
    /// What it has.
    pub partitions: BTreeSet<TopicPartition>,
}

impl<E: Env> Admin<E> {
    /// Groups with their members.
    ///
    /// Errors of a group: GROUP_ID_NOT_FOUND if there is none, and others.
    pub async fn describe_groups(&self, groups: Vec<String>) -> Vec<(String, Outcome<GroupDescription>)> {
        let mut rounds = self.rounds("describe groups", groups);
        while let Some(open) = rounds.next().await {
            for (at, group) in open {
                let outcome = self.describe_group_once(&group).await;
                rounds.settle(at, outcome);
            }
        }
        rounds.finish()
    }

    /// As a group of the consumer protocol, or, if it is none, or the broker knows none, of the classic one.
    async fn describe_group_once(&self, group: &str) -> Outcome<GroupDescription> {
        let coordinator = self.coordinator_once(CoordinatorKind::Group, group).await?.id;
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
        let described = match self.ask_coordinator(group, request, 0..=i16::MAX).await {
            Ok(answer) => expect_reply!(answer, ConsumerGroupDescribe).groups.into_iter().next(),
            Err(ClientError::Version { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_other = |found: &modern::DescribedGroup| {
            let codes = [ErrorCode::GroupIdNotFound, ErrorCode::UnsupportedVersion];
            codes.iter().any(|code| code.code() == found.error_code)
        };
        match described.filter(|found| !is_other(found)) {
            Some(found) => {
                check(|| format!("describe group {group}"), found.error_code, found.error_message.as_deref())?;
                Ok(of_modern(coordinator, &found))
            }
            None => {
                let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
                let response = expect_reply!(self.ask_coordinator(group, request, 0..=i16::MAX).await?, DescribeGroups);
                let found = response.groups.into_iter().next().ok_or_else(super::left_out)?;
                check(|| format!("describe group {group}"), found.error_code, found.error_message.as_deref())?;
                // Before version 6 a group that is not there is dead.
                if &*found.group_state == "Dead" {
                    let code = ErrorCode::GroupIdNotFound.code();
                    return Err(ClientError::refused(format!("describe group {group}"), code, None));
                }
                Ok(of_classic(coordinator, &found))
            }
        }
    }
}

fn text(text: Option<&Str>) -> Option<String> {
    text.map(ToString::to_string).filter(|text| !text.is_empty())
}

fn of_modern(coordinator: BrokerId, found: &modern::DescribedGroup) -> GroupDescription {
    let member = |member: &modern::Member| GroupMember {
        id: member.member_id.to_string(),
        instance_id: text(member.instance_id.as_ref()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: Some(member.member_epoch),
        topics: member.subscribed_topic_names.iter().map(ToString::to_string).collect(),
        pattern: text(member.subscribed_topic_regex.as_ref()),
        partitions: member.assignment.topic_partitions.iter().flat_map(partitions).collect(),
    };
    let mut members: Vec<GroupMember> = found.members.iter().map(member).collect();
    members.sort_by(|one, other| one.id.cmp(&other.id));
    GroupDescription {
        group: found.group_id.to_string(),
        coordinator,
        protocol: GroupProtocolType::Consumer,
        state: GroupState::from_wire(&found.group_state),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        members,
    }
}

fn partitions(topic: &modern::TopicPartitions) -> impl Iterator<Item = TopicPartition> + use<> {
    let name: Arc<str> = (*topic.topic_name).into();
    let numbers = topic.partitions.clone().into_iter();
    numbers.map(move |number| TopicPartition::new(Arc::clone(&name), PartitionIndex(number)))
}

fn of_classic(coordinator: BrokerId, found: &classic::DescribedGroup) -> GroupDescription {
    let member = |member: &classic::DescribedGroupMember| {
        let subscription = wire::Subscription::decode(&member.member_metadata);
        GroupMember {
            id: member.member_id.to_string(),
            instance_id: text(member.group_instance_id.as_ref()),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            epoch: None,
            topics: subscription.iter().flat_map(|one| &one.topics).map(ToString::to_string).collect(),
            pattern: None,
            partitions: wire::decode_assignment(&member.member_assignment).unwrap_or_default(),
        }
    };
    let mut members: Vec<GroupMember> = found.members.iter().map(member).collect();
    members.sort_by(|one, other| one.id.cmp(&other.id));
    GroupDescription {
        group: found.group_id.to_string(),
        coordinator,
        protocol: GroupProtocolType::Classic,
        state: GroupState::from_wire(&found.group_state),
        assignor: found.protocol_data.to_string(),
        epoch: None,
        members,
    }
}
