//! What is told of groups to whoever asks.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    classic::{Member, State},
    error::GroupError,
    machine::Group,
    request::{Described, DescribedMember, List, Listed},
};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

/// The groups that fit the filters.
pub(crate) fn list(groups: &BTreeMap<Arc<str>, Group>, list: &List) -> Vec<Listed> {
    let fits = |filter: &std::collections::BTreeSet<String>, name: &str| {
        filter.is_empty() || filter.contains(&name.to_lowercase())
    };
    let listed = groups.iter().map(|(id, group)| {
        let (protocol_type, state, kind) = match &group.consumer {
            Some(consumer) => (CONSUMER.to_owned(), consumer.state(), CONSUMER),
            None => (group.classic.protocol_type.clone().unwrap_or_default(), group.classic.state().name(), CLASSIC),
        };
        Listed { group: Arc::clone(id), protocol_type, state, kind }
    });
    listed.filter(|listed| fits(&list.types, listed.kind) && fits(&list.states, listed.state)).collect()
}

/// One group of the classic protocol. Errors: there is none.
pub(crate) fn describe(group: Option<&Group>) -> Result<Described, GroupError> {
    let group = group.filter(|group| group.consumer.is_none());
    let classic = &group.ok_or(GroupError::GroupIdNotFound)?.classic;
    // Only a stable group has a protocol and assignments that hold.
    let protocol = classic.protocol.as_deref().filter(|_| classic.state() == State::Stable).unwrap_or_default();
    let member = |member: &Member| DescribedMember {
        member_id: Arc::clone(&member.id),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: member.metadata(protocol),
        assignment: if protocol.is_empty() { Bytes::new() } else { member.assignment.clone() },
    };
    Ok(Described {
        state: classic.state().name(),
        protocol_type: classic.protocol_type.clone().unwrap_or_default(),
        protocol: protocol.to_owned(),
        members: classic.members().map(member).collect(),
    })
}
