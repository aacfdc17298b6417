//! Who counts: the leader asks the controller for another configuration when members leave or return, or the topic's
//! `min.insync.replicas` has changed.
//!
//! ```text
//! none    -> pending   something is to change, and every member of the new C has what it takes
//! pending -> none      a record of a higher version, or a higher epoch; nothing else
//! ```
//!
//! While a change is pending it is asked for again and again, word for word: the request may be carried out at any time, whatever has
//! been answered, so commits take both quorums until a record tells.
//!
//! Invariants
//! - Every member of a wanted C, the leader included, is labelled with this epoch, synced up to the epoch start and the high watermark, and
//!   at the leader's log start.
//! - At most one change is pending.
//!
//! Not here: counting with two configurations (`lead`).

use std::collections::BTreeMap;

use quipu_base::Offset;
use quipu_env::{Instant, Probe};

use super::{Replica, Role, lead::Leader};
use crate::{
    effect::{Ask, Effect, GiveUp},
    event::Verdict,
    partition::{Configuration, ConfigurationVersion, Member, PartitionState},
    refusal::Refusal,
};

/// A change asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pending {
    pub(super) configuration: Configuration,
    version: ConfigurationVersion,
    pub(super) ask_at: Instant,
}

impl<P: Probe> Replica<P> {
    /// A record of the present epoch has come.
    pub(super) fn on_configuration(&mut self, now: Instant, version: ConfigurationVersion) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.pending.take_if(|pending| version > pending.version);
        self.follow_all(now, &BTreeMap::new());
        self.after_acknowledgement(now);
    }

    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        verdict: Verdict,
        record: Option<PartitionState>,
    ) -> Result<(), Refusal> {
        let drops = match verdict {
            Verdict::Unavailable => self.probe.planted("replication.pending-dropped-on-refusal"),
            Verdict::Conflict => self.probe.planted("replication.pending-dropped-on-conflict"),
            Verdict::Accepted | Verdict::Declined => false,
        };
        if let Role::Leader(leader) = &mut self.role
            && drops
        {
            leader.pending = None;
        }
        if let Some(record) = record {
            self.on_record(now, record)?;
        }
        self.candidate_on_answer(now, verdict);
        Ok(())
    }

    /// Asks for what is pending again.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let again = now + self.settings.ask_again_after;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(pending) = &mut leader.pending else { return };
        if pending.ask_at > now {
            return;
        }
        if self.probe.planted("replication.pending-dropped-on-time-out") {
            leader.pending = None;
            return;
        }
        pending.ask_at = again;
        let ask = Ask::Change {
            epoch: self.promised,
            version: pending.version,
            configuration: pending.configuration.clone(),
        };
        self.effects.push(Effect::AskController(ask));
    }

    /// Asks for another configuration, if one is due and possible.
    pub(super) fn consider_change(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(record) = &self.record else { return };
        let lag_check_at = self.next_lag_check(leader, record, now);
        let wanted = if leader.pending.is_some() { None } else { self.wanted(leader, record, now) };
        let version = record.version;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.lag_check_at = lag_check_at;
        let Some(configuration) = wanted else { return self.consider_moving(now) };
        let ask_at = now + self.settings.ask_again_after;
        leader.pending = Some(Pending { configuration: configuration.clone(), version, ask_at });
        self.effects.push(Effect::AskController(Ask::Change { epoch: self.promised, version, configuration }));
    }

    /// The configuration to ask for, if it is another one and its members have what it takes.
    fn wanted(&self, leader: &Leader, record: &PartitionState, now: Instant) -> Option<Configuration> {
        let own = self.identity.member;
        let in_force = &record.configuration;
        let stays =
            |member: &Member| *member == own || (self.is_live(*member) && leader.is_within_lag(self, member.node, now));
        let mut members: Vec<Member> = in_force.members.iter().copied().filter(stays).collect();
        for (node, peer) in &leader.peers {
            let ready = peer
                .acknowledged()
                .filter(|(_, progress)| progress.end >= self.log.log_end && progress.log_start >= self.log.log_start);
            let expands_early = self.probe.planted("replication.expand-without-catch-up");
            let registered = self
                .brokers
                .get(node)
                .filter(|_| expands_early)
                .map(|view| Member { node: *node, directory_id: view.directory_id });
            let Some(member) = ready.map(|(member, _)| member).or(registered) else { continue };
            if self.is_live(member)
                && !record.removing.contains(node)
                && members.iter().all(|known| known.node != *node)
            {
                members.push(member);
            }
        }
        self.remove_replaced(record, &mut members);
        let factor = record.replication_factor;
        let shrinks_below = self.probe.planted("replication.shrinks-below-minimum");
        let least = if shrinks_below { 1 } else { self.insync_replicas_min };
        let configuration = Configuration::new(members, least, factor)
            // Too few are left: who is gone stays a member. Q alone may still change.
            .or_else(|| Configuration::new(in_force.members.clone(), self.insync_replicas_min, factor))?;
        let is_other = configuration != sorted(in_force);
        (is_other && self.all_have_what_it_takes(leader, &configuration, in_force)).then_some(configuration)
    }

    /// Replicas being removed leave when all that are to stay are members. The leader moves first.
    fn remove_replaced(&self, record: &PartitionState, members: &mut Vec<Member>) {
        let staying = members.iter().filter(|member| !record.removing.contains(&member.node)).count();
        if staying >= record.replication_factor {
            let own = self.identity.member;
            members.retain(|member| *member == own || !record.removing.contains(&member.node));
        }
    }

    fn all_have_what_it_takes(&self, leader: &Leader, wanted: &Configuration, in_force: &Configuration) -> bool {
        let forgets_deleted = self.probe.planted("replication.delete-forgotten-by-change");
        let synced_to = leader.epoch_start.max(self.high_watermark);
        let has =
            |end: Offset, log_start: Offset| end >= synced_to && (log_start >= self.log.log_start || forgets_deleted);
        wanted.members.iter().all(|member| {
            if *member == self.identity.member {
                let synced = &self.synced;
                return self.probe.planted("replication.leader-not-checked")
                    || (synced.label == self.promised && has(synced.log_end, synced.log_start));
            }
            let was_member = in_force.members.contains(member);
            let is_trusted = if was_member {
                self.probe.planted("replication.shrink-without-catch-up")
            } else {
                self.probe.planted("replication.expand-without-catch-up")
            };
            let acknowledged = leader.peers.get(&member.node).and_then(|peer| peer.acknowledged_as(*member));
            is_trusted || acknowledged.is_some_and(|progress| has(progress.end, progress.log_start))
        })
    }

    /// When the first member that lags will have lagged too long.
    fn next_lag_check(&self, leader: &Leader, record: &PartitionState, now: Instant) -> Option<Instant> {
        let due = |member: &Member| {
            let peer = leader.peers.get(&member.node)?;
            let has_all = peer.acknowledged().is_some_and(|(_, progress)| progress.end >= self.log.log_end);
            (!has_all).then_some(peer.caught_up_at + self.settings.lag_time_max)
        };
        record.configuration.members.iter().filter_map(due).filter(|at| *at > now).min()
    }

    /// The leader is to be removed, and all that are to stay are members: another one is to lead first.
    fn consider_moving(&mut self, now: Instant) {
        let again = now + self.settings.ask_again_after;
        let own = self.identity.member.node;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(record) = &self.record else { return };
        let staying = record.configuration.members.iter().filter(|member| !record.removing.contains(&member.node));
        let is_due = record.removing.contains(&own)
            && staying.count() >= record.replication_factor
            && leader.move_at.is_none_or(|at| at <= now);
        if is_due {
            leader.move_at = Some(again);
            self.probe.sometimes("replication.leader-to-be-removed");
            self.give_up(GiveUp::Removed);
        }
    }
}

fn sorted(configuration: &Configuration) -> Configuration {
    let mut sorted = configuration.clone();
    sorted.members.sort_unstable();
    sorted
}
