//! Members that speak the classic protocol in a group of the consumer protocol: the group changes its protocol while it has members.
//!
//! ```text
//! JoinGroup  what it wants and still reads -> as a heartbeat; answered at once, its epoch is its generation
//! SyncGroup  what it may read, as the assignment of a leader
//! Heartbeat  REBALANCE_IN_PROGRESS if it has to join again: to learn of a newer epoch, to give up, or because something is free
//! ```
//!
//! Each of them has to follow within its rebalance time-out, or the member is out.
//!
//! Not here: when groups change their protocol (`machine`). Source: how Kafka 4.4 does it (KIP-848, "online migration").

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use quipu_base::{PartitionIndex, TopicId};
use quipu_env::Instant;

use super::{
    ClassicSide, Consumer, Hall, Member,
    heartbeat::replace,
    reconcile::{Current, Held, MemberState},
    request::Partitions,
    topics::Topics,
};
use crate::{
    classic::{self, Classic},
    codec::consumer as records,
    error::GroupError,
    limits,
    request::{Join, Joined, MemberOf, Sync, Synced},
    subscription::{self, Named, Subscription},
    timers::{Owner, Ring},
};

/// The only kind of classic group that can be of the consumer protocol.
const CONSUMER: &str = "consumer";

fn by_id(named: &Named, topics: &Topics) -> Partitions {
    let mut partitions = Partitions::new();
    for (name, indexes) in named {
        if let Some(topic) = topics.get(name) {
            partitions.entry(topic.id).or_default().extend(indexes.iter().copied().map(PartitionIndex));
        }
    }
    partitions
}

fn by_name(partitions: &Partitions, topics: &Topics) -> Named {
    let named = partitions.iter().filter_map(|(topic_id, partitions)| {
        Some((topics.name(*topic_id)?.to_string(), partitions.iter().map(|partition| partition.get()).collect()))
    });
    named.collect()
}

impl Member {
    fn take_over(&mut self, join: &Join, wants: &Subscription) -> (bool, bool) {
        let shared = |text: &String| -> Arc<str> { text.as_str().into() };
        let wants_else = replace(&mut self.names, wants.topics.iter().map(shared).collect());
        let side = ClassicSide { session_timeout: join.session_timeout, protocols: join.protocols.clone() };
        let mut any = wants_else | replace(&mut self.classic, Some(side));
        any |= self.regex.take().is_some();
        any |= replace(&mut self.rack, wants.rack.as_ref().map(shared));
        any |= replace(&mut self.rebalance_timeout, join.rebalance_timeout);
        any |= replace(&mut self.client_id, join.client_id.clone());
        any |= replace(&mut self.client_host, join.client_host.clone());
        any |= replace(&mut self.instance_id, join.instance_id.clone());
        (any, wants_else)
    }

    fn version(&self) -> i16 {
        let metadata = self.classic.as_ref().and_then(|side| side.protocols.first()).map(|first| &first.metadata);
        metadata.and_then(|metadata| subscription::parse(metadata)).map_or(0, |subscription| subscription.version)
    }
}

impl Consumer {
    /// Whether a member of the classic protocol can be in the group, and what it wants.
    fn check_join(&self, hall: &Hall<'_>, join: &Join) -> Result<Subscription, GroupError> {
        let is_known = self.members.contains_key(&join.member_id)
            || join.instance_id.as_ref().is_some_and(|instance_id| self.statics.contains_key(instance_id));
        if !is_known && self.members.len() >= hall.settings.group_size_max {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let bytes = classic::bytes_of(&join.protocols);
        if join.protocols.len() > limits::PROTOCOLS_MAX
            || self.member_bytes + 2 * bytes > limits::GROUP_MEMBER_BYTES_MAX
        {
            return Err(GroupError::TooLarge);
        }
        if 2 * bytes > hall.room {
            return Err(GroupError::Full);
        }
        let others = self.members.values().filter(|member| member.id != join.member_id);
        let mut others = others.filter_map(|member| member.classic.as_ref());
        let shares =
            |side: &ClassicSide| side.protocols.iter().any(|own| join.protocols.iter().any(|its| its.name == own.name));
        if join.protocol_type != CONSUMER || !others.all(shares) {
            return Err(GroupError::InconsistentProtocol);
        }
        let first = join.protocols.first().ok_or(GroupError::InconsistentProtocol)?;
        subscription::parse(&first.metadata).ok_or(GroupError::InconsistentProtocol)
    }

    /// The id under which it is known from now on: its own, or one that was made for it. Errors: with the id to come again with.
    fn admit_classic(&self, join: &Join, fresh: Arc<str>) -> Result<Arc<str>, (GroupError, Arc<str>)> {
        let is_new = join.member_id.is_empty();
        let refused = |error| Err((error, Arc::clone(&join.member_id)));
        match join.instance_id.as_ref().map(|instance_id| self.statics.get(instance_id)) {
            None if is_new && join.takes_member_id => Err((GroupError::MemberIdRequired, fresh)),
            Some(Some(holder)) if !is_new && *holder != join.member_id => refused(GroupError::FencedInstanceId),
            Some(None) if !is_new => refused(GroupError::UnknownMemberId),
            _ if is_new => Ok(fresh),
            _ => Ok(Arc::clone(&join.member_id)),
        }
    }

    /// A member of the classic protocol joins, or joins again. `fresh`: an id, if it has none.
    pub(crate) fn handle_classic_join(&mut self, hall: &mut Hall<'_>, join: &Join, fresh: Arc<str>) -> Joined {
        let checked = self.check_join(hall, join).map_err(|error| (error, Arc::clone(&join.member_id)));
        let admitted = checked.and_then(|wants| Ok((wants, self.admit_classic(join, fresh)?)));
        let (wants, id) = match admitted {
            Ok(admitted) => admitted,
            Err((error, member_id)) => return Joined::refused(error, member_id),
        };
        let holder = join.instance_id.as_ref().and_then(|instance_id| self.statics.get(instance_id)).cloned();
        match holder {
            Some(holder) if holder != id => self.replace(hall, &holder, &id),
            _ if !self.members.contains_key(&id) => {
                tracing::info!(group = %self.id, member = %id, "a member of the classic protocol joins");
                self.insert(Member::new(Arc::clone(&id)));
            }
            _ => {}
        }
        let wants_else = self.take_over(hall, &id, join, &wants);
        self.refresh(hall, wants_else || self.epoch == 0);
        self.retarget(hall);
        let owned = by_id(&wants.owned, hall.topics);
        self.reconcile(hall, &id, Some(&owned), wants_else);
        self.touch(hall, &id);
        self.expect_step(hall, &id, true);
        let protocol = join.protocols.first().map(|protocol| protocol.name.clone());
        Joined {
            error: None,
            generation: self.members[&id].current.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            leader: "".into(),
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        }
    }

    fn take_over(&mut self, hall: &mut Hall<'_>, id: &Arc<str>, join: &Join, wants: &Subscription) -> bool {
        let member = self.members.get_mut(id).expect("it was admitted");
        let (bytes, regex, instance_id) = (member.bytes(), member.regex.clone(), member.instance_id.clone());
        let is_new = member.classic.is_none();
        let (any, wants_else) = member.take_over(join, wants);
        self.member_bytes = self.member_bytes - bytes + member.bytes();
        if any || is_new {
            hall.turn.write(records::member(&self.id, id, Some(member)));
        }
        if instance_id != join.instance_id {
            if let Some(before) = instance_id {
                self.statics.remove(&before);
            }
            if let Some(instance_id) = &join.instance_id {
                self.statics.insert(Arc::clone(instance_id), Arc::clone(id));
            }
        }
        if let Some(regex) = regex {
            self.forget_unused(hall, &regex);
        }
        wants_else || is_new
    }

    /// The member has to take its next step within its rebalance time-out: from now on, or since it was told first.
    fn expect_step(&mut self, hall: &mut Hall<'_>, id: &Arc<str>, anew: bool) {
        let Some(member) = self.members.get_mut(id) else { return };
        if anew || !member.step.is_set() {
            let due = hall.context.now + member.rebalance_timeout;
            hall.timers.set(&mut member.step, &self.id, Owner::Step(Arc::clone(id)), due);
        }
    }

    /// The member of the classic protocol that says it is this one, of the current generation.
    fn check_classic(&self, of: &MemberOf) -> Result<&Member, GroupError> {
        if let Some(instance_id) = &of.instance_id {
            match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if *holder != of.member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        let known = self.members.get(&of.member_id).filter(|member| member.classic.is_some());
        let member = known.ok_or(GroupError::UnknownMemberId)?;
        if member.current.epoch == of.generation { Ok(member) } else { Err(GroupError::IllegalGeneration) }
    }

    /// What a member of the classic protocol may read.
    pub(crate) fn handle_classic_sync(&mut self, hall: &mut Hall<'_>, sync: &Sync) -> Result<Synced, GroupError> {
        let member = self.check_classic(&sync.member)?;
        let first = member.classic.as_ref().and_then(|side| side.protocols.first()).map(|first| &first.name);
        let is_other_type = sync.protocol_type.as_deref().is_some_and(|kind| kind != CONSUMER);
        if is_other_type || sync.protocol.as_ref().is_some_and(|name| Some(name) != first) {
            return Err(GroupError::InconsistentProtocol);
        }
        let id = Arc::clone(&member.id);
        if self.epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            self.expect_step(hall, &id, false);
            return Err(GroupError::RebalanceInProgress);
        }
        let (protocol, assignment) = (first.cloned(), self.classic_assignment(member, hall.topics));
        self.touch(hall, &id);
        if let Some(member) = self.members.get_mut(&id) {
            member.step.clear();
        }
        Ok(Synced { protocol_type: Some(CONSUMER.to_owned()), protocol, assignment })
    }

    fn classic_assignment(&self, member: &Member, topics: &Topics) -> Bytes {
        subscription::assignment(member.version(), &by_name(&member.current.assigned_partitions(), topics))
    }

    /// A sign of life of a member of the classic protocol, and whether it has to join again.
    pub(crate) fn handle_classic_heartbeat(&mut self, hall: &mut Hall<'_>, of: &MemberOf) -> Result<(), GroupError> {
        let member = self.check_classic(of)?;
        let has_to_join = member.current.epoch < self.epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        let id = Arc::clone(&member.id);
        self.touch(hall, &id);
        if !has_to_join {
            return Ok(());
        }
        self.expect_step(hall, &id, false);
        Err(GroupError::RebalanceInProgress)
    }

    /// Whether something of its target is still with another member.
    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.id).into_iter().flatten();
        let mut pieces = target.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)));
        pieces.any(|piece| self.owners.get(&piece).is_some_and(|owner| *owner != member.id))
    }

    /// The member of the classic protocol that leaves. Errors: there is none.
    pub(crate) fn classic_leaver(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, GroupError> {
        let member = match instance_id {
            Some(instance_id) => {
                let holder = self.statics.get(instance_id).ok_or(GroupError::UnknownMemberId)?;
                if member_id.is_empty() {
                    // An administrator takes it out, whatever it speaks.
                    return Ok(Arc::clone(holder));
                }
                if **holder != *member_id {
                    return Err(GroupError::FencedInstanceId);
                }
                self.members.get(holder)
            }
            None => self.members.get(member_id),
        };
        let member = member.filter(|member| member.classic.is_some()).ok_or(GroupError::UnknownMemberId)?;
        Ok(Arc::clone(&member.id))
    }

    /// An entry of the timers' queue came up: a member of the classic protocol has to have taken its next step.
    pub(crate) fn on_step_alarm(&mut self, hall: &mut Hall<'_>, at: Instant, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let entry = (at, &self.id, &Owner::Step(Arc::clone(id)));
        if hall.timers.ring(&mut member.step, entry, hall.context.now) == Ring::Due {
            tracing::info!(group = %self.id, member = %id, "a member of the classic protocol has not joined again in time");
            self.drop_member(hall, id);
        }
    }

    /// Whether all members speak the classic protocol, and there are some.
    pub(crate) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    /// A group of the classic protocol as one of this protocol, in the same generation. None: its members are no consumers.
    pub(crate) fn from_classic(group: &Classic, topics: &Topics) -> Option<Self> {
        if group.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut consumer = Self::new(Arc::clone(&group.id));
        (consumer.epoch, consumer.assignment_epoch) = (group.generation, group.generation);
        for classic in group.members() {
            let wants = subscription::parse(&classic.protocols.first()?.metadata)?;
            let mut member = Member::new(Arc::clone(&classic.id));
            let join = Join {
                group: Arc::clone(&group.id),
                member_id: Arc::clone(&classic.id),
                instance_id: classic.instance_id.clone(),
                client_id: classic.client_id.clone(),
                client_host: classic.client_host.clone(),
                session_timeout: classic.session_timeout,
                rebalance_timeout: classic.rebalance_timeout,
                protocol_type: CONSUMER.to_owned(),
                protocols: classic.protocols.clone(),
                reason: None,
                takes_member_id: true,
                skips_assignment: true,
            };
            member.take_over(&join, &wants);
            let target = consumer.free(by_id(&subscription::assigned(&classic.assignment), topics));
            let epoch = group.generation;
            let held = |partitions: &BTreeSet<PartitionIndex>| partitions.iter().map(|at| (*at, epoch)).collect();
            let assigned: Held = target.iter().map(|(topic, partitions)| (*topic, held(partitions))).collect();
            member.current = Current { epoch, previous_epoch: epoch, assigned, ..Current::default() };
            consumer.target_count += super::target::count(&target);
            consumer.targets.insert(Arc::clone(&classic.id), target);
            consumer.insert(member);
        }
        Some(consumer)
    }

    /// What nobody has of it: a client's assignor may have given something twice.
    fn free(&self, partitions: Partitions) -> Partitions {
        let of = |topic: TopicId, partitions: BTreeSet<PartitionIndex>| -> BTreeSet<PartitionIndex> {
            partitions.into_iter().filter(|partition| !self.owners.contains_key(&(topic, *partition))).collect()
        };
        partitions.into_iter().map(|(topic, partitions)| (topic, of(topic, partitions))).collect()
    }

    /// All records of a group that became one of this protocol.
    pub(crate) fn write_all(&self, hall: &mut Hall<'_>) {
        let turn = &mut *hall.turn;
        turn.write(records::group(&self.id, Some((self.epoch, self.metadata_hash))));
        for (id, member) in &self.members {
            turn.write(records::member(&self.id, id, Some(member)));
            turn.write(records::target(&self.id, id, self.targets.get(id)));
            turn.write(records::current(&self.id, id, Some(&member.current)));
        }
        turn.write(records::target_epoch(&self.id, Some((self.assignment_epoch, hall.context.wall.get()))));
    }

    /// The members as those of a group of the classic protocol, in the generation of the group's epoch, and the records that end this group.
    pub(crate) fn to_classic(&self, hall: &mut Hall<'_>) -> Vec<classic::Member> {
        let members = self.members.values().map(|member| {
            let side = member.classic.clone().expect("all members speak the classic protocol");
            classic::Member::adopted(member, side, self.classic_assignment(member, hall.topics))
        });
        let members = members.collect();
        for id in self.members.keys() {
            self.bury(hall, id);
        }
        self.erase(hall.turn);
        members
    }
}
