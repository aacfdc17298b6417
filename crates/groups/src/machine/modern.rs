//! Requests of the consumer protocol to the group that they are about; a group without members changes its protocol here.

use std::sync::Arc;

use quipu_coordinator::{Context, Turn};
use quipu_env::Instant;

use super::{Group, Groups};
use crate::{
    classic::Classic,
    codec::{self, consumer::SaidOf},
    consumer::{
        AWAY, Consumer, ConsumerError, ConsumerReply, ConsumerRequest, Hall, LEAVES, Topics, check_request,
        request::{ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, FetchAs},
    },
    error::GroupError,
    limits,
    request::{Commit, Fetched, Leaver, Outcome, Reply},
    timers::Owner,
};

impl Groups {
    pub(super) fn handle_modern(
        &mut self,
        context: &Context,
        request: ConsumerRequest,
        turn: &mut Turn<Reply>,
    ) -> ConsumerReply {
        match request {
            ConsumerRequest::Heartbeat(beat) => ConsumerReply::Heartbeat(self.consumer_heartbeat(context, beat, turn)),
            ConsumerRequest::Describe(id) => ConsumerReply::Describe(self.consumer_describe(&id)),
            ConsumerRequest::Commit(commit) => ConsumerReply::Commit(self.commit_as(context, commit, turn)),
            ConsumerRequest::Fetch(fetch) => ConsumerReply::Fetch(self.fetch_as(fetch)),
            ConsumerRequest::Topics(topics) => {
                self.topics = Some(topics);
                ConsumerReply::Topics
            }
        }
    }

    /// Has a group of the consumer protocol do something; afterwards the counts are right.
    pub(super) fn with_modern<R>(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        id: &Arc<str>,
        act: impl FnOnce(&mut Consumer, &mut Hall<'_>) -> R,
    ) -> Option<R> {
        let none = Topics::default();
        let topics = self.topics.as_deref().unwrap_or(&none);
        let group = self.groups.get_mut(id)?;
        let before = (group.size(), group.bytes());
        let room = limits::MEMBER_BYTES_MAX.saturating_sub(self.member_bytes);
        let settings = &self.consumer_settings;
        let mut hall = Hall { context, settings, timers: &mut self.timers, turn, topics, room };
        let result = act(group.consumer.as_mut()?, &mut hall);
        self.member_count = self.member_count - before.0 + group.size();
        self.member_bytes = self.member_bytes - before.1 + group.bytes();
        Some(result)
    }

    fn consumer_heartbeat(
        &mut self,
        context: &Context,
        mut beat: ConsumerHeartbeat,
        turn: &mut Turn<Reply>,
    ) -> Result<ConsumerBeat, ConsumerError> {
        check_request(&beat)?;
        if self.topics.is_none() {
            return Err(ConsumerError::TopicsUnknown);
        }
        let id = Arc::clone(&beat.group);
        let leaves = matches!(beat.member_epoch, LEAVES | AWAY);
        let not_found = || ConsumerError::Group(GroupError::GroupIdNotFound);
        if leaves {
            let left = self.with_modern(context, turn, &id, |group, hall| group.handle_leave(hall, &beat));
            return left.unwrap_or_else(|| Err(not_found()));
        }
        if beat.member_id.is_empty() {
            beat.member_id = quipu_base::TopicId(context.fresh).to_string().into();
        }
        if self.groups.get(&id).is_none_or(|group| group.consumer.is_none()) {
            return self.begin(context, &beat, turn);
        }
        if beat.member_epoch == 0 && self.member_count >= limits::MEMBERS_MAX {
            return Err(GroupError::Full.into());
        }
        let done = self.with_modern(context, turn, &id, |group, hall| {
            let admission = group.admit(hall, &beat)?;
            Ok(group.handle_heartbeat(hall, &beat, admission))
        });
        done.unwrap_or_else(|| Err(not_found()))
    }

    /// The first member of a group that does not exist, or that is of the classic protocol and has no members.
    fn begin(
        &mut self,
        context: &Context,
        beat: &ConsumerHeartbeat,
        turn: &mut Turn<Reply>,
    ) -> Result<ConsumerBeat, ConsumerError> {
        let id = &beat.group;
        let is_free = self.groups.get(id).is_none_or(|group| group.classic.is_idle());
        if beat.member_epoch != 0 || !is_free {
            return Err(GroupError::GroupIdNotFound.into());
        }
        if self.member_count >= limits::MEMBERS_MAX {
            return Err(GroupError::Full.into());
        }
        self.ensure(context, id)?;
        let group = self.groups.get_mut(id).expect("it was just made");
        group.consumer = Some(Consumer::new(Arc::clone(id)));
        let was_written = group.classic.generation > 0;
        let mut records = Turn::default();
        let begun = self.with_modern(context, &mut records, id, |group, hall| {
            let admission = group.admit(hall, beat)?;
            Ok(group.handle_heartbeat(hall, beat, admission))
        });
        let begun = begun.unwrap_or(Err(GroupError::GroupIdNotFound.into()));
        let group = self.groups.get_mut(id).expect("it was just made");
        if begun.is_ok() {
            if was_written {
                turn.write(codec::group(id, None));
            }
            group.classic = Classic::new(Arc::clone(id), context.wall.get());
            turn.records.append(&mut records.records);
        } else {
            group.consumer = None;
            self.drop_if_nothing(id);
        }
        begun
    }

    /// A group of the consumer protocol without members becomes one of the classic protocol. Errors: it has members.
    pub(super) fn downgrade(&mut self, id: &Arc<str>, turn: &mut Turn<Reply>) -> Result<(), GroupError> {
        let Some(group) = self.groups.get_mut(id) else { return Ok(()) };
        let Some(consumer) = &group.consumer else { return Ok(()) };
        if consumer.size() > 0 {
            return Err(GroupError::InconsistentProtocol);
        }
        consumer.erase(turn);
        self.member_bytes -= consumer.bytes();
        group.consumer = None;
        Ok(())
    }

    /// LeaveGroup, by which administrators take static members out of a group of the consumer protocol.
    pub(super) fn leave_modern(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        id: &Arc<str>,
        members: Vec<Leaver>,
    ) -> Vec<(Leaver, Outcome)> {
        let left = self.with_modern(context, turn, id, |group, hall| {
            let leave = |leaver: Leaver| {
                let by_name = leaver.instance_id.as_deref().filter(|_| leaver.member_id.is_empty());
                let outcome = match by_name.and_then(|instance_id| group.static_member(instance_id)) {
                    Some(member_id) => {
                        group.drop_member(hall, &member_id);
                        Ok(())
                    }
                    None => Err(GroupError::UnknownMemberId),
                };
                (leaver, outcome)
            };
            members.into_iter().map(leave).collect()
        });
        left.unwrap_or_default()
    }

    fn consumer_describe(&self, id: &Arc<str>) -> Result<ConsumerDescribed, ConsumerError> {
        let none = Topics::default();
        let topics = self.topics.as_deref().unwrap_or(&none);
        let consumer = self.groups.get(id).and_then(|group| group.consumer.as_ref());
        consumer.map(|consumer| consumer.describe(topics)).ok_or(ConsumerError::Group(GroupError::GroupIdNotFound))
    }

    fn commit_as(
        &mut self,
        context: &Context,
        commit: Commit,
        turn: &mut Turn<Reply>,
    ) -> Result<Vec<Outcome>, ConsumerError> {
        let member = &commit.member;
        match self.groups.get(&member.group).and_then(|group| group.consumer.as_ref()) {
            Some(consumer) => {
                let none = Topics::default();
                let topics = self.topics.as_deref().unwrap_or(&none);
                let partitions = commit.offsets.iter().map(|(partition, _)| partition);
                consumer.check_commit((&member.member_id, member.generation), true, topics, partitions)?;
            }
            None => self.check_commit(context, turn, member)?,
        }
        Ok(self.commit_checked(context, commit, turn))
    }

    fn fetch_as(&self, fetch: FetchAs) -> Result<Vec<Fetched>, ConsumerError> {
        let FetchAs { member_id, member_epoch, fetch } = fetch;
        if let Some(consumer) = self.groups.get(&fetch.group).and_then(|group| group.consumer.as_ref()) {
            consumer.check_fetch(member_id.as_deref(), member_epoch)?;
        }
        Ok(self.fetch(fetch))
    }

    pub(super) fn ring_modern(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        (at, id, owner): (Instant, &Arc<str>, &Owner),
        member_id: &Arc<str>,
    ) {
        self.with_modern(context, turn, id, |group, hall| match owner {
            Owner::Revocation(_) => group.on_revocation_alarm(hall, at, member_id),
            _ => group.on_session_alarm(hall, at, member_id),
        });
    }

    pub(super) fn replay_modern(&mut self, id: &Arc<str>, said: SaidOf) {
        if matches!(said, SaidOf::Group(None)) {
            if let Some(group) = self.groups.get_mut(id) {
                group.consumer = None;
            }
            return self.drop_if_nothing(id);
        }
        let is_end = said.is_end();
        if is_end && self.groups.get(id).is_none_or(|group| group.consumer.is_none()) {
            return;
        }
        let group = self.groups.entry(Arc::clone(id)).or_insert_with(|| Group::new(id, -1));
        if group.consumer.is_none() {
            // A group has one protocol.
            group.classic = Classic::new(Arc::clone(id), -1);
        }
        group.consumer.get_or_insert_with(|| Consumer::new(Arc::clone(id))).replay(said);
    }
}
