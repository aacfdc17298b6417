//! A group to its record and back.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_coordinator::Record;
use quipu_protocol::group_records::{GroupMetadataValue, MemberMetadata};

use super::{Classic, Desk, Member, State};
use crate::{
    codec::{self, text},
    consumer::{self, ClassicSide},
    error::GroupError,
    request::{Joined, Protocol, Reply},
    timers::Alarm,
};

impl Classic {
    /// The generation with its members and assignments, as it is written.
    pub(crate) fn record(&self) -> Record {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let member = |member: &Member| MemberMetadata {
            member_id: text(&member.id),
            group_instance_id: member.instance_id.as_deref().map(text),
            client_id: text(&member.client_id),
            client_host: text(&member.client_host),
            rebalance_timeout: millis(member.rebalance_timeout),
            session_timeout: millis(member.session_timeout),
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        };
        let value = GroupMetadataValue {
            protocol_type: text(self.protocol_type.as_deref().unwrap_or_default()),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(text),
            leader: self.leader.as_deref().map(text),
            current_state_timestamp: self.state_since_ms,
            members: self.members.values().map(member).collect(),
        };
        codec::group(&self.id, Some(&value))
    }

    /// The group that a record tells of. Its members' sessions begin with [`Self::handle_loaded`].
    pub(crate) fn restore(id: Arc<str>, value: &GroupMetadataValue) -> Self {
        let mut group = Self::new(id, value.current_state_timestamp);
        group.generation = value.generation;
        group.protocol = value.protocol.as_deref().map(str::to_owned);
        for member in &value.members {
            group.insert(restored(member, group.protocol.as_deref()), &value.protocol_type);
        }
        group.protocol_type = (!value.protocol_type.is_empty()).then(|| value.protocol_type.to_string());
        group.leader = value.leader.as_deref().filter(|leader| group.members.contains_key(*leader)).map(Arc::from);
        if group.leader.is_none() {
            group.leader = group.members.keys().next().cloned();
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.previous = group.state;
        group.resolve_subscribed();
        group
    }

    /// A group whose members spoke the classic protocol in a group of the other: they have the generation of its epoch, and join again.
    pub(crate) fn adopt(id: Arc<str>, now_ms: i64, generation: i32, members: Vec<Member>) -> Self {
        let mut group = Self::new(id, now_ms);
        group.generation = generation;
        for member in members {
            group.insert(member, "consumer");
        }
        group.protocol = group.select_protocol();
        group.state = State::Stable;
        group.previous = State::Stable;
        group.resolve_subscribed();
        group
    }

    /// Its members join again, now that one of them assigns.
    pub(crate) fn handle_adopted(&mut self, desk: &mut Desk<'_>) {
        desk.turn.write(self.record());
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in &ids {
            self.touch(desk, member_id, None);
        }
        self.rebalance_or_complete(desk);
    }

    /// The group is of the other protocol from now on: whoever waits joins again.
    pub(crate) fn refuse_all(&mut self, desk: &mut Desk<'_>) {
        for member in self.members.values_mut() {
            let refused = Joined::refused(GroupError::RebalanceInProgress, Arc::clone(&member.id));
            desk.reply(member.joining.take(), Reply::Join(refused));
            desk.reply(member.syncing.take(), Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
    }

    /// Everything is replayed: members have a session's time from now on to be heard of.
    pub(crate) fn handle_loaded(&mut self, desk: &mut Desk<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in &ids {
            self.touch(desk, member_id, None);
        }
        if self.members.len() > desk.settings.group_size_max {
            tracing::warn!(group = %self.id, members = self.members.len(), "a group has more members than group.max.size");
            self.rebalance_or_complete(desk);
        }
    }
}

impl Member {
    /// One that spoke the classic protocol in a group of the other.
    pub(crate) fn adopted(member: &consumer::Member, side: ClassicSide, assignment: Bytes) -> Self {
        Self {
            id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout: side.session_timeout,
            rebalance_timeout: member.rebalance_timeout,
            protocols: side.protocols,
            assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session: Alarm::default(),
        }
    }
}

fn restored(member: &MemberMetadata, protocol: Option<&str>) -> Member {
    let duration = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session_timeout = duration(member.session_timeout);
    let is_told = member.rebalance_timeout >= 0;
    Member {
        id: (&*member.member_id).into(),
        instance_id: member.group_instance_id.as_deref().map(Arc::from),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        session_timeout,
        rebalance_timeout: if is_told { duration(member.rebalance_timeout) } else { session_timeout },
        protocols: protocol
            .map(|name| Protocol { name: name.to_owned(), metadata: copied(&member.subscription) })
            .into_iter()
            .collect(),
        assignment: copied(&member.assignment),
        joining: None,
        syncing: None,
        is_new: false,
        session: Alarm::default(),
    }
}

/// A copy: a slice would keep the whole batch in memory.
fn copied(bytes: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}
