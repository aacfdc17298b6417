//! Requests of the consumer protocol to the group that they are about, and of the classic protocol to groups of the consumer
//! protocol. Groups change their protocol here, with their members or without.

use std::sync::Arc;

use quipu_coordinator::{Context, Turn};
use quipu_env::{Instant, Probe};

use super::{Group, Groups};
use crate::{
    classic::{Classic, Desk},
    codec::{self, consumer::SaidOf},
    consumer::{
        AWAY, Consumer, ConsumerError, ConsumerReply, ConsumerRequest, Hall, LEAVES, Migration, Topics, check_request,
        request::{ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, FetchAs},
    },
    error::GroupError,
    limits,
    planted::Planted,
    request::{Commit, Fetched, Join, Joined, Leaver, Outcome, Reply},
    timers::Owner,
};

impl<P: Probe> Groups<P> {
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
                ConsumerReply::Noted
            }
            ConsumerRequest::Settings(settings) => {
                self.consumer_settings = settings;
                ConsumerReply::Noted
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
        let settings = &*self.consumer_settings;
        let planted = Planted::of(&self.probe);
        let mut hall = Hall { context, settings, timers: &mut self.timers, turn, topics, room, planted };
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
        check_request(&self.consumer_settings, &beat)?;
        if self.topics.is_none() {
            return Err(ConsumerError::TopicsUnknown);
        }
        let id = Arc::clone(&beat.group);
        let leaves = matches!(beat.member_epoch, LEAVES | AWAY);
        let not_found = || ConsumerError::Group(GroupError::GroupIdNotFound);
        if leaves {
            let left = self.with_modern(context, turn, &id, |group, hall| group.handle_leave(hall, &beat));
            self.downgrade(context, &id, turn);
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

    /// The first member of the consumer protocol of a group that does not exist, or that is of the classic protocol: if that has members,
    /// they go on in this group.
    fn begin(
        &mut self,
        context: &Context,
        beat: &ConsumerHeartbeat,
        turn: &mut Turn<Reply>,
    ) -> Result<ConsumerBeat, ConsumerError> {
        let id = &beat.group;
        if beat.member_epoch != 0 {
            return Err(GroupError::GroupIdNotFound.into());
        }
        if self.member_count >= limits::MEMBERS_MAX {
            return Err(GroupError::Full.into());
        }
        let consumer = self.to_begin_with(id)?;
        let is_upgrade = consumer.size() > 0;
        self.ensure(context, id)?;
        let group = self.groups.get_mut(id).expect("it was just made");
        let before = (consumer.size(), consumer.bytes());
        group.consumer = Some(consumer);
        (self.member_count, self.member_bytes) = (self.member_count + before.0, self.member_bytes + before.1);
        let mut records = Turn::default();
        let begun = self.with_modern(context, &mut records, id, |group, hall| {
            let admission = group.admit(hall, beat)?;
            if is_upgrade {
                group.write_all(hall);
                group.handle_loaded(hall);
            }
            Ok(group.handle_heartbeat(hall, beat, admission))
        });
        let begun = begun.unwrap_or(Err(GroupError::GroupIdNotFound.into()));
        if begun.is_err() {
            self.groups.get_mut(id).expect("it was just made").consumer = None;
            (self.member_count, self.member_bytes) = (self.member_count - before.0, self.member_bytes - before.1);
            self.drop_if_nothing(id);
            return begun;
        }
        self.leave_classic(context, id, turn);
        turn.records.append(&mut records.records);
        begun
    }

    /// The group as one of the consumer protocol. Errors: its members can't go on in such a group, or may not.
    fn to_begin_with(&self, id: &Arc<str>) -> Result<Consumer, GroupError> {
        // Ids that were given and have not come back are nobody yet.
        let has_members = |classic: &&Classic| classic.members().next().is_some();
        let classic = self.groups.get(id).map(|group| &group.classic).filter(has_members);
        let Some(classic) = classic else { return Ok(Consumer::new(Arc::clone(id))) };
        let settings = &self.consumer_settings;
        let none = Topics::default();
        let consumer = Consumer::from_classic(classic, self.topics.as_deref().unwrap_or(&none));
        let may = settings.migration.upgrades && classic.size() <= settings.group_size_max;
        let consumer = consumer.filter(|_| may).ok_or(GroupError::GroupIdNotFound)?;
        tracing::info!(group = %id, members = classic.size(), "a group changes to the consumer protocol");
        Ok(consumer)
    }

    /// The group is of the classic protocol no more.
    fn leave_classic(&mut self, context: &Context, id: &Arc<str>, turn: &mut Turn<Reply>) {
        let group = self.groups.get_mut(id).expect("it has just changed");
        let mut classic = core::mem::replace(&mut group.classic, Classic::new(Arc::clone(id), context.wall.get()));
        self.member_count -= classic.size();
        self.member_bytes -= classic.bytes();
        let planted = Planted::of(&self.probe);
        let mut desk = Desk { context, settings: &self.settings, timers: &mut self.timers, turn, planted };
        classic.refuse_all(&mut desk);
        if classic.generation > 0 {
            turn.write(codec::group(id, None));
        }
    }

    /// Whether the group is of the consumer protocol, and has members.
    pub(super) fn is_modern(&self, id: &Arc<str>) -> bool {
        self.groups.get(id).and_then(|group| group.consumer.as_ref()).is_some_and(|consumer| consumer.size() > 0)
    }

    /// A group of the consumer protocol without members is of no protocol any more.
    pub(super) fn end_modern(&mut self, id: &Arc<str>, turn: &mut Turn<Reply>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        if let Some(consumer) = group.consumer.take() {
            consumer.erase(turn);
            self.member_bytes -= consumer.bytes();
        }
    }

    /// A member of the classic protocol joins a group of the consumer protocol that has members.
    pub(super) fn join_modern(&mut self, context: &Context, join: &Join, turn: &mut Turn<Reply>) -> Joined {
        let Migration { upgrades, downgrades } = self.consumer_settings.migration;
        let error = match &self.topics {
            None => Some(GroupError::RebalanceInProgress),
            Some(_) if !upgrades && !downgrades => Some(GroupError::InconsistentProtocol),
            Some(_) => None,
        };
        if let Some(error) = error {
            return Joined::refused(error, Arc::clone(&join.member_id));
        }
        let fresh = quipu_base::TopicId(context.fresh).to_string().into();
        let id = &join.group;
        let joined = self.with_modern(context, turn, id, |group, hall| group.handle_classic_join(hall, join, fresh));
        self.downgrade(context, id, turn);
        joined.unwrap_or_else(|| Joined::refused(GroupError::UnknownMemberId, Arc::clone(&join.member_id)))
    }

    /// A group whose members all speak the classic protocol is of that protocol from now on, if it may be.
    fn downgrade(&mut self, context: &Context, id: &Arc<str>, turn: &mut Turn<Reply>) {
        let consumer = self.groups.get(id).and_then(|group| group.consumer.as_ref());
        let is_due = consumer.is_some_and(|consumer| {
            let may = self.consumer_settings.migration.downgrades && consumer.size() <= self.settings.group_size_max;
            may && consumer.is_all_classic()
        });
        if !is_due {
            return;
        }
        let members = self.with_modern(context, turn, id, |group, hall| group.to_classic(hall)).unwrap_or_default();
        let group = self.groups.get_mut(id).expect("it was just seen");
        let Some(consumer) = group.consumer.take() else { return };
        tracing::info!(group = %id, members = members.len(), "a group changes to the classic protocol");
        group.classic = Classic::adopt(Arc::clone(id), context.wall.get(), consumer.epoch, members);
        self.member_count = self.member_count - consumer.size() + group.classic.size();
        self.member_bytes = self.member_bytes - consumer.bytes() + group.classic.bytes();
        self.with(context, turn, id, Classic::handle_adopted);
    }

    /// LeaveGroup, by which members of the classic protocol leave, and administrators take static members out.
    pub(super) fn leave_modern(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        id: &Arc<str>,
        members: Vec<Leaver>,
    ) -> Vec<(Leaver, Outcome)> {
        let left = self.with_modern(context, turn, id, |group, hall| {
            let leave = |leaver: Leaver| {
                let found = group.classic_leaver(&leaver.member_id, leaver.instance_id.as_deref());
                let outcome = found.map(|member_id| group.drop_member(hall, &member_id));
                (leaver, outcome)
            };
            members.into_iter().map(leave).collect()
        });
        self.downgrade(context, id, turn);
        left.unwrap_or_default()
    }

    fn consumer_describe(&self, id: &Arc<str>) -> Result<ConsumerDescribed, ConsumerError> {
        let none = Topics::default();
        let topics = self.topics.as_deref().unwrap_or(&none);
        let consumer = self.groups.get(id).and_then(|group| group.consumer.as_ref());
        consumer
            .map(|consumer| consumer.describe(&self.consumer_settings, topics))
            .ok_or(ConsumerError::Group(GroupError::GroupIdNotFound))
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
                if !self.probe.planted("groups.stale-epoch-commits") {
                    consumer.check_commit((&member.member_id, member.generation), true, topics, partitions)?;
                }
            }
            None if member.generation >= 0 && !self.groups.contains_key(&member.group) => {
                return Err(GroupError::GroupIdNotFound.into());
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
            Owner::Step(_) => group.on_step_alarm(hall, at, member_id),
            _ => group.on_session_alarm(hall, at, member_id),
        });
        self.downgrade(context, id, turn);
    }

    pub(super) fn replay_modern(&mut self, id: &Arc<str>, said: SaidOf) {
        if matches!(said, SaidOf::Group(None)) {
            if let Some(group) = self.groups.get_mut(id) {
                group.consumer = None;
            }
            return self.drop_if_nothing(id);
        }
        if matches!(said, SaidOf::Group(_)) && self.probe.planted("groups.epoch-forgotten") {
            return;
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
