//! From one generation to the next: who has to join again, how long that is waited for, and what each member is told.

use core::{mem, time::Duration};
use std::sync::Arc;

use quipu_env::Instant;

use super::{Classic, Desk, Member, State};
use crate::{
    error::GroupError,
    request::{Joined, Reply},
    timers::{Owner, Ring},
};

/// What the join alarm means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum JoinTimer {
    /// The first members gather: with a newcomer since the alarm was set, wait again, for so long at most.
    Gather { left: Duration },
    /// The time for members to join again is up.
    Rejoin,
}

impl Classic {
    /// Somebody joined, left, was lost or wants something else.
    pub(super) fn rebalance_or_complete(&mut self, desk: &mut Desk<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.become_preparing(desk),
            State::PreparingRebalance => self.complete_if_all_joined(desk),
        }
    }

    fn become_preparing(&mut self, desk: &mut Desk<'_>) {
        if self.state == State::CompletingRebalance {
            // Nobody gets an assignment of this generation any more. Whoever waited for one has a session's time from now on: while it
            // waited its session may have ended.
            let mut waited = Vec::new();
            for member in self.members.values_mut() {
                self.bytes -= member.assignment.len();
                member.assignment = bytes::Bytes::new();
                if let Some(to) = member.syncing.take() {
                    desk.turn.reply(to, Reply::Sync(Err(GroupError::RebalanceInProgress)));
                    waited.push(Arc::clone(&member.id));
                }
            }
            for member_id in &waited {
                self.touch(desk, member_id, None);
            }
        }
        self.sync_alarm.clear();
        self.to_sync.clear();
        let is_first = self.state == State::Empty;
        self.become_state(desk, State::PreparingRebalance);
        if is_first {
            let delay = desk.settings.initial_rebalance_delay;
            self.has_newcomer = false;
            self.gather(desk, delay, self.rebalance_timeout().saturating_sub(delay));
        } else if self.has_all_joined() {
            self.complete_join(desk);
        } else {
            self.wait_for_rejoins(desk);
        }
    }

    fn gather(&mut self, desk: &mut Desk<'_>, delay: Duration, left: Duration) {
        if delay.is_zero() {
            return self.complete_join(desk);
        }
        self.join_timer = JoinTimer::Gather { left };
        desk.timers.set(&mut self.join_alarm, &self.id, Owner::Join, desk.context.now + delay);
    }

    fn wait_for_rejoins(&mut self, desk: &mut Desk<'_>) {
        self.join_timer = JoinTimer::Rejoin;
        if desk.planted.rebalance_unbounded {
            return;
        }
        let due = desk.context.now + self.rebalance_timeout();
        desk.timers.set(&mut self.join_alarm, &self.id, Owner::Join, due);
    }

    /// The longest that any member asks for.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.joining_count == self.members.len()
    }

    pub(super) fn complete_if_all_joined(&mut self, desk: &mut Desk<'_>) {
        let gathers = self.previous == State::Empty;
        if self.state == State::PreparingRebalance && !gathers && self.has_all_joined() {
            self.complete_join(desk);
        }
    }

    /// An entry of the timers' queue came up.
    pub(crate) fn on_join_alarm(&mut self, desk: &mut Desk<'_>, at: Instant) {
        let entry = (at, &self.id, &Owner::Join);
        if desk.timers.ring(&mut self.join_alarm, entry, desk.context.now) != Ring::Due
            || self.state != State::PreparingRebalance
        {
            return;
        }
        match self.join_timer {
            JoinTimer::Gather { left } if mem::take(&mut self.has_newcomer) && !left.is_zero() => {
                let delay = desk.settings.initial_rebalance_delay.min(left);
                self.gather(desk, delay, left.saturating_sub(delay));
            }
            JoinTimer::Gather { .. } | JoinTimer::Rejoin => self.complete_join(desk),
        }
    }

    /// The time for joins is over: a new generation of those who have come. Static members stay without coming.
    fn complete_join(&mut self, desk: &mut Desk<'_>) {
        self.join_alarm.clear();
        let is_gone = |member: &&Member| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<Arc<str>> = self.members.values().filter(is_gone).map(|member| Arc::clone(&member.id)).collect();
        for member_id in gone {
            tracing::debug!(group = %self.id, member = %member_id, "a member has not joined again");
            self.remove(&member_id);
        }
        if self.members.is_empty() {
            return self.become_empty(desk);
        }
        if !self.elect_leader() {
            // Only static members that are not there: they have until their sessions end.
            return self.wait_for_rejoins(desk);
        }
        self.become_completing(desk);
    }

    /// The leader has to be there, to assign. Whether there is one.
    fn elect_leader(&mut self) -> bool {
        let is_there = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(is_there) {
            return true;
        }
        let next = self.members.values().find(|member| member.joining.is_some());
        match next.map(|member| Arc::clone(&member.id)) {
            Some(leader) => {
                self.leader = Some(leader);
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self, desk: &mut Desk<'_>) {
        self.generation += 1;
        self.protocol = None;
        self.leader = None;
        self.subscribed = None;
        self.become_state(desk, State::Empty);
        desk.turn.write(self.record());
    }

    fn become_completing(&mut self, desk: &mut Desk<'_>) {
        if !desk.planted.generation_not_bumped {
            self.generation += 1;
        }
        self.protocol = self.select_protocol();
        self.resolve_subscribed();
        self.become_state(desk, State::CompletingRebalance);
        self.to_sync = self.members.keys().cloned().collect();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for member_id in &ids {
            let joined = self.joined(member_id, self.is_leader(member_id));
            let joining = self.set_joining(member_id, None);
            desk.reply(joining, Reply::Join(joined));
            if let Some(member) = self.members.get_mut(member_id) {
                member.is_new = false;
            }
            self.touch(desk, member_id, None);
        }
        tracing::info!(
            group = %self.id,
            generation = self.generation,
            members = self.members.len(),
            protocol = self.protocol,
            "a group has a new generation"
        );
        let due = desk.context.now + self.rebalance_timeout();
        desk.timers.set(&mut self.sync_alarm, &self.id, Owner::Sync, due);
    }

    /// An entry of the timers' queue came up: whoever has not asked for its assignment by now is gone.
    pub(crate) fn on_sync_alarm(&mut self, desk: &mut Desk<'_>, at: Instant) {
        let entry = (at, &self.id, &Owner::Sync);
        let is_due = desk.timers.ring(&mut self.sync_alarm, entry, desk.context.now) == Ring::Due;
        if !is_due || !matches!(self.state, State::CompletingRebalance | State::Stable) || self.to_sync.is_empty() {
            return;
        }
        for member_id in mem::take(&mut self.to_sync) {
            tracing::debug!(group = %self.id, member = %member_id, "a member has not asked for its assignment");
            self.drop_member(desk, &member_id, GroupError::UnknownMemberId);
        }
        self.rebalance_or_complete(desk);
    }

    /// An entry of the timers' queue came up: a member's session.
    pub(crate) fn on_session_alarm(&mut self, desk: &mut Desk<'_>, at: Instant, member_id: &Arc<str>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let owner = Owner::Session(Arc::clone(member_id));
        if desk.timers.ring(&mut member.session, (at, &self.id, &owner), desk.context.now) != Ring::Due {
            return;
        }
        // Who waits for us can send no heartbeat, unless nobody knows whether it still waits.
        if !member.is_new && (member.joining.is_some() || member.syncing.is_some()) {
            return;
        }
        tracing::info!(group = %self.id, member = %member_id, "a member has given no sign of life in time");
        self.drop_member(desk, member_id, GroupError::UnknownMemberId);
        self.rebalance_or_complete(desk);
    }

    /// An entry of the timers' queue came up: an id was given and has not come back.
    pub(crate) fn on_pending_alarm(&mut self, desk: &mut Desk<'_>, at: Instant, member_id: &Arc<str>) {
        let Some(alarm) = self.pending.get_mut(member_id) else { return };
        let owner = Owner::Pending(Arc::clone(member_id));
        if desk.timers.ring(alarm, (at, &self.id, &owner), desk.context.now) == Ring::Due {
            self.pending.remove(member_id);
            self.complete_if_all_joined(desk);
        }
    }

    /// Takes a member out, and tells whoever waits for its answers.
    pub(super) fn drop_member(&mut self, desk: &mut Desk<'_>, member_id: &str, why: GroupError) {
        if let Some(member) = self.remove(member_id) {
            let refused = Joined::refused(why, Arc::clone(&member.id));
            desk.reply(member.joining, Reply::Join(refused));
            desk.reply(member.syncing, Reply::Sync(Err(why)));
        }
    }
}
