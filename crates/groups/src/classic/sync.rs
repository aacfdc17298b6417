//! Assignments and heartbeats.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use quipu_coordinator::Token;

use super::{Classic, Desk, State};
use crate::{
    error::GroupError,
    limits,
    request::{MemberOf, Reply, Sync, Synced},
};

impl Classic {
    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn handle_sync(&mut self, desk: &mut Desk<'_>, from: Token, sync: Sync) {
        if let Err(error) = self.sync(desk, from, sync) {
            desk.turn.reply(from, Reply::Sync(Err(error)));
        }
    }

    fn sync(&mut self, desk: &mut Desk<'_>, from: Token, sync: Sync) -> Result<(), GroupError> {
        let Sync { member: of, protocol_type, protocol, assignments } = sync;
        self.check_current(&of)?;
        let differs = |said: &Option<String>, known: &Option<String>| said.is_some() && said != known;
        if differs(&protocol_type, &self.protocol_type) || differs(&protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                self.to_sync.remove(&of.member_id);
                let member = self.members.get_mut(&of.member_id).ok_or(GroupError::UnknownMemberId)?;
                let displaced = member.syncing.replace(from);
                desk.reply(displaced, Reply::Sync(Err(GroupError::RebalanceInProgress)));
                if self.is_leader(&of.member_id) || desk.planted.follower_assigns {
                    self.assign(desk, assignments);
                }
                self.clear_alarm_if_all_synced();
                Ok(())
            }
            State::Stable => {
                self.to_sync.remove(&of.member_id);
                self.clear_alarm_if_all_synced();
                let synced = self.synced(&of.member_id);
                self.touch(desk, &of.member_id, None);
                desk.turn.reply(from, Reply::Sync(Ok(synced)));
                Ok(())
            }
        }
    }

    fn clear_alarm_if_all_synced(&mut self) {
        if self.to_sync.is_empty() {
            self.sync_alarm.clear();
        }
    }

    /// The leader's assignments hold for this generation, unless they are more than can be kept.
    fn assign(&mut self, desk: &mut Desk<'_>, assignments: Vec<(Arc<str>, Bytes)>) {
        let assignments: BTreeMap<Arc<str>, Bytes> = assignments.into_iter().collect();
        let bytes: usize = assignments.values().map(Bytes::len).sum();
        if self.bytes + bytes > limits::GROUP_BYTES_MAX {
            tracing::warn!(group = %self.id, bytes, "the assignments are more than a record may hold");
            let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
            for member_id in &ids {
                let waits = self.members.get_mut(member_id).and_then(|member| member.syncing.take());
                if let Some(to) = waits {
                    desk.turn.reply(to, Reply::Sync(Err(GroupError::TooLarge)));
                    self.touch(desk, member_id, None);
                }
            }
            return self.rebalance_or_complete(desk);
        }
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in &ids {
            let assignment = assignments.get(member_id).cloned().unwrap_or_default();
            self.set_assignment(member_id, assignment);
        }
        self.become_state(desk, State::Stable);
        desk.turn.write(self.record());
        for member_id in &ids {
            let synced = self.synced(member_id);
            if let Some(member) = self.members.get_mut(member_id)
                && let Some(to) = member.syncing.take()
            {
                desk.turn.reply(to, Reply::Sync(Ok(synced)));
                self.touch(desk, member_id, None);
            }
        }
    }

    fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map_or_else(Bytes::new, |member| member.assignment.clone()),
        }
    }

    /// A sign of life.
    pub(crate) fn handle_heartbeat(&mut self, desk: &mut Desk<'_>, of: &MemberOf) -> Result<(), GroupError> {
        self.check_current(of)?;
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => {
                self.touch(desk, &of.member_id, None);
                Err(GroupError::RebalanceInProgress)
            }
            State::CompletingRebalance | State::Stable if desk.planted.session_not_extended => Ok(()),
            State::CompletingRebalance | State::Stable => {
                self.touch(desk, &of.member_id, None);
                Ok(())
            }
        }
    }

    /// A commit is a sign of life as well.
    pub(crate) fn note_commit(&mut self, desk: &mut Desk<'_>, of: &MemberOf) {
        if of.generation >= 0 && matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.touch(desk, &of.member_id, None);
        }
    }
}
