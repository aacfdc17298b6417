//! Heartbeats: members come, say what they want and have, are told what to read, and leave.
//!
//! Everything that can be refused is refused before anything changes.

use std::{collections::BTreeSet, sync::Arc};

use quipu_env::Instant;

use super::{
    AWAY, Consumer, ConsumerSettings, Hall, LEAVES, Member,
    assign::Assignor,
    error::ConsumerError,
    pattern::Pattern,
    reconcile::{Current, Goal, Held, MemberState},
    request::{ConsumerBeat, ConsumerHeartbeat, Partitions},
};
use crate::{
    codec::consumer as records,
    error::GroupError,
    limits,
    timers::{Owner, Ring},
};

/// Who comes.
pub(crate) enum Admission {
    /// A member.
    Stays,
    /// Somebody new.
    Joins,
    /// Somebody with the instance id of this member, which is away.
    Replaces(Arc<str>),
}

/// What a heartbeat has changed.
#[derive(Default)]
struct Changes {
    any: bool,
    subscription: bool,
    /// The expression before.
    regex: Option<Arc<str>>,
}

const fn invalid<T>(why: &'static str) -> Result<T, ConsumerError> {
    Err(ConsumerError::InvalidRequest(why))
}

/// Whether the request makes sense by itself. The texts are Kafka's.
pub(crate) fn check_request(settings: &ConsumerSettings, beat: &ConsumerHeartbeat) -> Result<(), ConsumerError> {
    let is_blank = |text: &str| text.trim().is_empty();
    let needs_id = beat.makes_id || beat.member_epoch > 0 || beat.member_epoch == LEAVES;
    if needs_id && is_blank(&beat.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&beat.group) {
        return invalid("GroupId can't be empty.");
    }
    if beat.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if beat.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    match beat.member_epoch {
        0 if beat.rebalance_timeout.is_none() => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if beat.subscribed_names.is_none() && beat.subscribed_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        AWAY if beat.instance_id.is_none() => return invalid("InstanceId can't be null."),
        epoch if epoch < AWAY => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    if beat.assignor.as_deref().is_some_and(|name| settings.assignor(name).is_none()) {
        let names: Vec<&str> = settings.assignors.iter().map(|assignor| assignor.name()).collect();
        return Err(ConsumerError::UnsupportedAssignor(names.join(", ")));
    }
    match beat.subscribed_regex.as_deref() {
        Some(regex) if !regex.is_empty() => Pattern::compile(regex).map(drop),
        _ => Ok(()),
    }
}

/// What a heartbeat brings for a member's record.
fn bytes_of(beat: &ConsumerHeartbeat) -> usize {
    let names: usize = beat.subscribed_names.iter().flatten().map(|name| name.len() + super::NAME_OVERHEAD_BYTES).sum();
    names + beat.client_id.len() + beat.client_host.len()
}

impl Member {
    /// Errors: the epoch is another, unless the last answer may have been lost.
    fn check_epoch(&self, epoch: i32, owned: Option<&Partitions>) -> Result<(), ConsumerError> {
        let Current { epoch: known, previous_epoch, assigned, .. } = &self.current;
        let has = |(topic, partitions): (_, &BTreeSet<_>)| {
            let held = assigned.get(topic);
            partitions.iter().all(|partition| held.is_some_and(|held| held.contains_key(partition)))
        };
        let is_subset = owned.is_some_and(|owned| owned.iter().all(has));
        if epoch == *known || (epoch < *known && epoch == *previous_epoch && is_subset) {
            Ok(())
        } else {
            Err(ConsumerError::FencedMemberEpoch)
        }
    }

    /// Takes over what the heartbeat says.
    fn update(&mut self, beat: &ConsumerHeartbeat) -> Changes {
        let mut changes = Changes::default();
        let mut any = false;
        if let Some(names) = &beat.subscribed_names {
            changes.subscription = replace(&mut self.names, names.iter().cloned().collect());
        }
        if let Some(regex) = &beat.subscribed_regex {
            let before = self.regex.clone();
            if replace(&mut self.regex, (!regex.is_empty()).then(|| Arc::clone(regex))) {
                changes.subscription = true;
                changes.regex = before;
            }
        }
        if beat.rack_id.is_some() {
            any |= replace(&mut self.rack, beat.rack_id.clone());
        }
        if let Some(timeout) = beat.rebalance_timeout {
            any |= replace(&mut self.rebalance_timeout, timeout);
        }
        if let Some(assignor) = beat.assignor.as_deref().and_then(Assignor::find) {
            any |= replace(&mut self.assignor, Some(assignor));
        }
        if beat.instance_id.is_some() {
            any |= replace(&mut self.instance_id, beat.instance_id.clone());
        }
        any |= self.classic.take().is_some();
        any |= replace(&mut self.client_id, beat.client_id.clone());
        any |= replace(&mut self.client_host, beat.client_host.clone());
        changes.any = any || changes.subscription;
        changes
    }
}

pub(super) fn replace<T: PartialEq>(slot: &mut T, value: T) -> bool {
    let differs = *slot != value;
    *slot = value;
    differs
}

impl Consumer {
    /// Whether the heartbeat is taken, and as whose.
    pub(crate) fn admit(&self, hall: &Hall<'_>, beat: &ConsumerHeartbeat) -> Result<Admission, ConsumerError> {
        let known = self.members.get(&beat.member_id);
        if known.is_none() && self.members.len() >= hall.settings.group_size_max {
            return Err(GroupError::GroupMaxSizeReached.into());
        }
        let is_more = known.is_none() || beat.subscribed_names.is_some();
        let in_group = self.member_bytes + bytes_of(beat);
        if bytes_of(beat) > limits::GROUP_BYTES_MAX || (is_more && in_group > limits::GROUP_MEMBER_BYTES_MAX) {
            return Err(GroupError::TooLarge.into());
        }
        if bytes_of(beat) > hall.room && is_more {
            return Err(GroupError::Full.into());
        }
        let joins = beat.member_epoch == 0;
        let holder = beat.instance_id.as_ref().map(|instance_id| self.statics.get(instance_id));
        match holder {
            Some(None) if !joins => return Err(GroupError::UnknownMemberId.into()),
            Some(Some(holder)) if joins => {
                let before = self.member(holder)?;
                let is_away = before.current.epoch == AWAY || before.classic.is_some();
                let is_other = known.is_some() && *holder != beat.member_id;
                return if is_away && !is_other {
                    Ok(Admission::Replaces(Arc::clone(holder)))
                } else {
                    Err(ConsumerError::UnreleasedInstanceId)
                };
            }
            Some(Some(holder)) if *holder != beat.member_id => return Err(GroupError::FencedInstanceId.into()),
            _ => {}
        }
        match known {
            None if joins => Ok(Admission::Joins),
            None => Err(GroupError::UnknownMemberId.into()),
            Some(member) => {
                member.check_epoch(beat.member_epoch, beat.owned.as_ref())?;
                let reads_nothing = beat.owned.as_ref().is_some_and(Partitions::is_empty);
                if member.current.state == MemberState::Unknown && !reads_nothing {
                    return Err(ConsumerError::FencedMemberEpoch);
                }
                Ok(Admission::Stays)
            }
        }
    }

    /// A heartbeat that was admitted.
    pub(crate) fn handle_heartbeat(
        &mut self,
        hall: &mut Hall<'_>,
        beat: &ConsumerHeartbeat,
        admission: Admission,
    ) -> ConsumerBeat {
        let id = &beat.member_id;
        let is_new = matches!(admission, Admission::Joins);
        match admission {
            Admission::Stays => {}
            Admission::Joins => {
                tracing::info!(group = %self.id, member = %id, "a member joins");
                self.insert(Member::new(Arc::clone(id)));
            }
            Admission::Replaces(old) => self.replace(hall, &old, id),
        }
        let assigned = self.members[id].current.assigned_partitions();
        let changes = self.update(hall, beat, is_new);
        self.refresh(hall, changes.subscription || self.epoch == 0);
        self.retarget(hall);
        self.reconcile(hall, id, beat.owned.as_ref(), changes.subscription);
        self.touch(hall, id);
        let current = &self.members[id].current;
        let is_full = beat.rebalance_timeout.is_some()
            && (beat.subscribed_names.is_some() || beat.subscribed_regex.is_some())
            && beat.owned.is_some();
        let now_assigned = current.assigned_partitions();
        let is_told = beat.member_epoch == 0 || is_full || now_assigned != assigned;
        ConsumerBeat {
            member_id: Arc::clone(id),
            member_epoch: current.epoch,
            interval: hall.settings.heartbeat_interval_of(&self.id),
            assignment: is_told.then_some(now_assigned),
        }
    }

    /// What the member says of itself, and the expressions that follow from it.
    fn update(&mut self, hall: &mut Hall<'_>, beat: &ConsumerHeartbeat, is_new: bool) -> Changes {
        let member = self.members.get_mut(&beat.member_id).expect("it was admitted");
        let (bytes, instance_id) = (member.bytes(), member.instance_id.clone());
        let changes = member.update(beat);
        self.member_bytes = self.member_bytes - bytes + member.bytes();
        if member.instance_id != instance_id {
            if let Some(instance_id) = &instance_id {
                self.statics.remove(instance_id);
            }
            if let Some(instance_id) = &member.instance_id {
                self.statics.insert(Arc::clone(instance_id), Arc::clone(&member.id));
            }
        }
        if changes.any || is_new {
            hall.turn.write(records::member(&self.id, &beat.member_id, Some(member)));
        }
        if let Some(before) = &changes.regex {
            self.forget_unused(hall, before);
        }
        if let Some(regex) = self.members[&beat.member_id].regex.clone() {
            self.resolve(hall, &regex);
        }
        changes
    }

    /// A static member comes back under another id, or the same.
    pub(super) fn replace(&mut self, hall: &mut Hall<'_>, old: &Arc<str>, new: &Arc<str>) {
        tracing::info!(group = %self.id, member = %new, before = %old, "a static member comes back");
        let Some(member) = self.remove(old) else { return };
        let target = self.targets.remove(old).unwrap_or_default();
        self.bury(hall, old);
        let current = Current { epoch: 0, previous_epoch: 0, ..member.current.clone() };
        let member = Member { id: Arc::clone(new), current, ..member };
        // The alarms are another owner's.
        let (session, revocation, step) = Default::default();
        let member = Member { session, revocation, step, ..member };
        hall.turn.write(records::member(&self.id, new, Some(&member)));
        hall.turn.write(records::target(&self.id, new, Some(&target)));
        hall.turn.write(records::current(&self.id, new, Some(&member.current)));
        self.targets.insert(Arc::clone(new), target);
        self.insert(member);
    }

    /// The records of a member that is gone.
    pub(super) fn bury(&self, hall: &mut Hall<'_>, member_id: &str) {
        hall.turn.write(records::current(&self.id, member_id, None));
        hall.turn.write(records::target(&self.id, member_id, None));
        hall.turn.write(records::member(&self.id, member_id, None));
    }

    pub(super) fn reconcile(
        &mut self,
        hall: &mut Hall<'_>,
        id: &Arc<str>,
        owned: Option<&Partitions>,
        wants_else: bool,
    ) {
        let none = Partitions::new();
        let member = &self.members[id];
        let has_all = member.current.state == MemberState::Stable && member.current.epoch == self.assignment_epoch;
        if has_all && !wants_else {
            return;
        }
        let wanted = self.wanted(member, hall.topics);
        let target = self.targets.get(id).unwrap_or(&none);
        let goal = Goal { epoch: self.assignment_epoch, target, wanted: &wanted, owned };
        let gives_early = hall.planted.given_before_released;
        let is_taken =
            |topic, partition| !gives_early && self.owners.get(&(topic, partition)).is_some_and(|owner| owner != id);
        let Some(mut next) = goal.next(&member.current, is_taken) else { return };
        if hall.planted.member_epoch_not_bumped && member.current.epoch > 0 {
            next.epoch = member.current.epoch;
        }
        if next == member.current {
            return;
        }
        hall.turn.write(records::current(&self.id, id, Some(&next)));
        let revokes = next.state == MemberState::UnrevokedPartitions && !hall.planted.revocation_unbounded;
        self.set_current(id, next);
        let Some(member) = self.members.get_mut(id) else { return };
        if revokes {
            let due = hall.context.now + member.rebalance_timeout;
            hall.timers.set(&mut member.revocation, &self.id, Owner::Revocation(Arc::clone(id)), due);
        } else {
            member.revocation.clear();
        }
    }

    /// A sign of life.
    pub(super) fn touch(&mut self, hall: &mut Hall<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let own = member.classic.as_ref().map(|side| side.session_timeout);
        let due = hall.context.now + own.unwrap_or_else(|| hall.settings.session_timeout_of(&self.id));
        hall.timers.set(&mut member.session, &self.id, Owner::ConsumerSession(Arc::clone(id)), due);
    }

    /// Everything is replayed: members have a session's time, and a rebalance's, from now on.
    pub(crate) fn handle_loaded(&mut self, hall: &mut Hall<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(hall, id);
            let Some(member) = self.members.get_mut(id) else { continue };
            if member.current.state == MemberState::UnrevokedPartitions {
                let due = hall.context.now + member.rebalance_timeout;
                hall.timers.set(&mut member.revocation, &self.id, Owner::Revocation(Arc::clone(id)), due);
            }
        }
    }

    /// A member leaves, for good or for a while.
    pub(crate) fn handle_leave(
        &mut self,
        hall: &mut Hall<'_>,
        beat: &ConsumerHeartbeat,
    ) -> Result<ConsumerBeat, ConsumerError> {
        let id = match &beat.instance_id {
            None => Arc::clone(&self.member(&beat.member_id)?.id),
            Some(instance_id) => match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId.into()),
                Some(holder) if *holder != beat.member_id => return Err(GroupError::FencedInstanceId.into()),
                Some(holder) => Arc::clone(holder),
            },
        };
        if beat.member_epoch == AWAY {
            self.become_away(hall, &id);
        } else {
            tracing::info!(group = %self.id, member = %id, "a member leaves");
            self.drop_member(hall, &id);
        }
        Ok(ConsumerBeat {
            member_id: id,
            member_epoch: beat.member_epoch,
            interval: core::time::Duration::ZERO,
            assignment: None,
        })
    }

    /// A static member will be back within its session; what it has stays its own.
    fn become_away(&mut self, hall: &mut Hall<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.revocation.clear();
        let current = Current { epoch: AWAY, revoking: Held::new(), ..member.current.clone() };
        hall.turn.write(records::current(&self.id, id, Some(&current)));
        self.set_current(id, current);
    }

    /// Takes a member out; what it had is free.
    pub(crate) fn drop_member(&mut self, hall: &mut Hall<'_>, id: &Arc<str>) {
        let Some(member) = self.remove(id) else { return };
        if let Some(target) = self.targets.remove(id) {
            self.target_count -= super::target::count(&target);
        }
        self.bury(hall, id);
        if let Some(regex) = &member.regex {
            self.forget_unused(hall, regex);
        }
        self.refresh(hall, true);
    }

    /// An entry of the timers' queue came up: a member's session.
    pub(crate) fn on_session_alarm(&mut self, hall: &mut Hall<'_>, at: Instant, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let entry = (at, &self.id, &Owner::ConsumerSession(Arc::clone(id)));
        if hall.timers.ring(&mut member.session, entry, hall.context.now) == Ring::Due {
            tracing::info!(group = %self.id, member = %id, "a member has given no sign of life in time");
            self.drop_member(hall, id);
        }
    }

    /// An entry of the timers' queue came up: a member has to have given up what it was told to.
    pub(crate) fn on_revocation_alarm(&mut self, hall: &mut Hall<'_>, at: Instant, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let entry = (at, &self.id, &Owner::Revocation(Arc::clone(id)));
        if hall.timers.ring(&mut member.revocation, entry, hall.context.now) == Ring::Due {
            tracing::info!(group = %self.id, member = %id, "a member has not given its partitions up in time");
            self.drop_member(hall, id);
        }
    }
}
