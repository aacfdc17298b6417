//! Joining: new members, members that come back, static members that come back under another id.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_coordinator::Token;

use super::{Classic, Desk, Member, State, bytes_of};
use crate::{
    error::GroupError,
    limits,
    request::{Join, Joined, Reply},
    timers::{Alarm, Owner},
};

/// A member that was never told of its generation can't send heartbeats, and may be gone: it is, if it does not ask again in this time.
/// Kafka's number.
const NEW_MEMBER_TIME: Duration = Duration::from_mins(5);

impl Classic {
    /// A join. `room`: how much more members may take in this shard.
    pub(crate) fn handle_join(&mut self, desk: &mut Desk<'_>, from: Token, join: Join, room: usize) {
        let result = if self.has_room_for(desk, &join) {
            self.join(desk, from, join, room)
        } else {
            self.drop_member(desk, &join.member_id, GroupError::GroupMaxSizeReached);
            Err((GroupError::GroupMaxSizeReached, "".into()))
        };
        if let Err((error, member_id)) = result {
            desk.turn.reply(from, Reply::Join(Joined::refused(error, member_id)));
        }
    }

    /// Whether the group is not full, or the member counts already.
    fn has_room_for(&self, desk: &Desk<'_>, join: &Join) -> bool {
        let size_max = desk.settings.group_size_max;
        let known = self.members.get(&join.member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.joining.is_some()) || self.joining_count < size_max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < size_max || self.is_static_return(join)
            }
        }
    }

    /// A static member that comes back takes the place that it had.
    fn is_static_return(&self, join: &Join) -> bool {
        join.instance_id.as_ref().is_some_and(|instance_id| self.statics.contains_key(instance_id))
    }

    fn join(
        &mut self,
        desk: &mut Desk<'_>,
        from: Token,
        join: Join,
        room: usize,
    ) -> Result<(), (GroupError, Arc<str>)> {
        let refused = |error| (error, Arc::clone(&join.member_id));
        let bytes = bytes_of(&join.protocols);
        if join.protocols.len() > limits::PROTOCOLS_MAX || self.bytes + bytes > limits::GROUP_BYTES_MAX {
            return Err(refused(GroupError::TooLarge));
        }
        if bytes > room {
            return Err(refused(GroupError::Full));
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return Err(refused(GroupError::InconsistentProtocol));
        }
        if join.member_id.is_empty() {
            return self.join_new(desk, from, join);
        }
        if self.pending.contains_key(&join.member_id) && join.instance_id.is_none() {
            let member_id = Arc::clone(&join.member_id);
            self.add(desk, from, join, member_id);
            return Ok(());
        }
        self.check_member(&join.member_id, join.instance_id.as_deref()).map_err(refused)?;
        self.join_again(desk, from, join);
        Ok(())
    }

    fn join_new(&mut self, desk: &mut Desk<'_>, from: Token, join: Join) -> Result<(), (GroupError, Arc<str>)> {
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let member_id: Arc<str> = format!("{prefix}-{}", uuid(desk.context.fresh)).into();
        let Some(instance_id) = &join.instance_id else {
            if !join.takes_member_id {
                self.add(desk, from, join, member_id);
                return Ok(());
            }
            let mut alarm = Alarm::default();
            let owner = Owner::Pending(Arc::clone(&member_id));
            desk.timers.set(&mut alarm, &self.id, owner, desk.context.now + join.session_timeout);
            self.pending.insert(Arc::clone(&member_id), alarm);
            return Err((GroupError::MemberIdRequired, member_id));
        };
        match self.statics.get(instance_id).cloned() {
            Some(old) => self.replace_static(desk, from, join, &old, member_id),
            None => self.add(desk, from, join, member_id),
        }
        Ok(())
    }

    /// A member that the group knows: it wants a new generation, or missed the last answer.
    fn join_again(&mut self, desk: &mut Desk<'_>, from: Token, join: Join) {
        let is_same = self.members.get(&join.member_id).is_some_and(|member| member.protocols == join.protocols);
        let is_leader = self.is_leader(&join.member_id);
        match self.state {
            State::CompletingRebalance if is_same => self.tell_generation(desk, from, &join.member_id, is_leader),
            // A follower of a stable group that asks for nothing new.
            State::Stable if is_same && !is_leader => self.tell_generation(desk, from, &join.member_id, false),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(desk, from, &join);
                self.rebalance_or_complete(desk);
            }
            State::Empty => {
                let refused = Joined::refused(GroupError::UnknownMemberId, join.member_id);
                desk.turn.reply(from, Reply::Join(refused));
            }
        }
    }

    /// Who asked gives a sign of life with it.
    fn tell_generation(&mut self, desk: &mut Desk<'_>, from: Token, member_id: &Arc<str>, with_members: bool) {
        self.touch(desk, member_id, None);
        desk.turn.reply(from, Reply::Join(self.joined(member_id, with_members)));
    }

    /// The current generation, as a member is told of it.
    pub(super) fn joined(&self, member_id: &Arc<str>, with_members: bool) -> Joined {
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members: if with_members { self.described_members() } else { Vec::new() },
        }
    }

    /// A new member.
    fn add(&mut self, desk: &mut Desk<'_>, from: Token, join: Join, member_id: Arc<str>) {
        self.pending.remove(&member_id);
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.has_newcomer = true;
        }
        let member = Member {
            id: Arc::clone(&member_id),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(from),
            syncing: None,
            is_new: true,
            session: Alarm::default(),
        };
        tracing::debug!(group = %self.id, member = %member_id, reason = join.reason, "a member joins");
        self.insert(member, &join.protocol_type);
        self.touch(desk, &member_id, Some(NEW_MEMBER_TIME));
        self.rebalance_or_complete(desk);
    }

    /// What a known member says of itself now.
    fn update(&mut self, desk: &mut Desk<'_>, from: Token, join: &Join) {
        let Some(member) = self.members.get_mut(&join.member_id) else { return };
        self.bytes -= member.bytes();
        let before = core::mem::replace(&mut member.protocols, join.protocols.clone());
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        self.bytes += member.bytes();
        let syncing = member.syncing.take();
        if before != join.protocols {
            self.count_protocols(&before, false);
            self.count_protocols(&join.protocols, true);
        }
        let displaced = self.set_joining(&join.member_id, Some(from));
        let refused = Joined::refused(GroupError::RebalanceInProgress, Arc::clone(&join.member_id));
        desk.reply(displaced, Reply::Join(refused));
        desk.reply(syncing, Reply::Sync(Err(GroupError::RebalanceInProgress)));
    }

    /// A static member is back under a new id: whoever had the old one is fenced. If nothing else changes, the group stays as it is.
    fn replace_static(&mut self, desk: &mut Desk<'_>, from: Token, join: Join, old: &Arc<str>, new: Arc<str>) {
        let (was_leader, old_leader) = (self.is_leader(old), self.leader.clone());
        let Some(mut member) = self.remove(old) else { return };
        let fenced = Joined::refused(GroupError::FencedInstanceId, Arc::clone(old));
        desk.reply(member.joining.take(), Reply::Join(fenced));
        desk.reply(member.syncing.take(), Reply::Sync(Err(GroupError::FencedInstanceId)));
        member.id = Arc::clone(&new);
        member.session = Alarm::default();
        if was_leader {
            self.leader = Some(Arc::clone(&new));
        }
        self.insert(member, &join.protocol_type);
        if desk.planted.static_fenced_wrongly
            && let Some(instance_id) = &join.instance_id
        {
            self.statics.insert(Arc::clone(instance_id), Arc::clone(old));
        }
        let join = Join { member_id: Arc::clone(&new), ..join };
        self.update(desk, from, &join);
        self.touch(desk, &new, None);
        let is_unchanged = self.state == State::Stable && self.select_protocol() == self.protocol;
        if !is_unchanged {
            return self.rebalance_or_complete(desk);
        }
        self.set_joining(&new, None);
        if let Some(member) = self.members.get_mut(&new) {
            member.client_id = join.client_id;
            member.client_host = join.client_host;
        }
        self.resolve_subscribed();
        desk.turn.write(self.record());
        let mut joined = self.joined(&new, was_leader && join.skips_assignment);
        if join.skips_assignment {
            joined.skip_assignment = was_leader;
        } else {
            // It must not take itself for the leader, or it would assign anew.
            joined.leader = old_leader.unwrap_or_else(|| "".into());
        }
        desk.turn.reply(from, Reply::Join(joined));
    }

    /// A member has given a sign of life, or has so long from now on.
    pub(super) fn touch(&mut self, desk: &mut Desk<'_>, member_id: &str, time: Option<Duration>) {
        if let Some(member) = self.members.get_mut(member_id) {
            let due = desk.context.now + time.unwrap_or(member.session_timeout);
            desk.timers.set(&mut member.session, &self.id, Owner::Session(Arc::clone(&member.id)), due);
        }
    }
}

/// A random UUID's text.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
