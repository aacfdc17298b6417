//! What a leader knows of each follower, and what it sends it.
//!
//! ```text
//! probing    one append at a time; the answer tells where to go on (activation, restarts, gaps, catch-up)
//! streaming  every record is sent as it is written; answers only count
//! ```
//!
//! Invariants
//! - An acknowledgement counts for the member (node and directory) that gave it, and only until its next incarnation is seen.
//! - Who has not acknowledged everything, the log start and the high watermark included, is sent something at least every
//!   `resend_after` while it lives.
//!
//! Not here: what acknowledgements add up to (`lead`).

use std::collections::BTreeMap;

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use super::{Replica, Role, lead::Leader};
use crate::{
    effect::Effect,
    epochs::LogShape,
    message::{Append, Message, Progress},
    partition::{Member, Sender},
    refusal::{Malformed, Refusal},
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Peer {
    incarnation: Option<BrokerEpoch>,
    /// What counts, and for whom.
    acknowledged: Option<(Member, Progress)>,
    /// How far its log is known to match, whether that counts or not.
    reached: Option<Offset>,
    /// Where the next append begins.
    next: Offset,
    /// The log end when the last append was sent: who has acknowledged so much keeps up.
    sent_end: Offset,
    is_streaming: bool,
    told_high_watermark: Offset,
    /// What it says that it knows.
    known_high_watermark: Offset,
    /// By when it is to have said that it knows so much: what it was told may have been lost.
    pub(super) confirm_at: Option<(Instant, Offset)>,
    pub(super) resend_at: Option<Instant>,
    /// When it last had the whole log, and the log end to reach for the next time, with the moment at which that was it.
    pub(super) caught_up_at: Instant,
    goal: (Offset, Instant),
}

impl Peer {
    fn new(now: Instant, next: Offset, incarnation: Option<BrokerEpoch>) -> Self {
        Self {
            incarnation,
            acknowledged: None,
            reached: None,
            next,
            sent_end: next,
            is_streaming: false,
            told_high_watermark: Offset::ZERO,
            known_high_watermark: Offset::ZERO,
            confirm_at: None,
            resend_at: None,
            caught_up_at: now,
            goal: (Offset(i64::MAX), now),
        }
    }

    /// What counts for this member.
    pub(super) fn acknowledged_as(&self, member: Member) -> Option<Progress> {
        self.acknowledged.filter(|(acknowledged, _)| *acknowledged == member).map(|(_, progress)| progress)
    }

    pub(super) fn acknowledged(&self) -> Option<(Member, Progress)> {
        self.acknowledged
    }

    fn has_all(&self, log: &LogShape) -> bool {
        self.acknowledged
            .is_some_and(|(_, progress)| progress.end >= log.log_end && progress.log_start >= log.log_start)
    }

    /// Sees a message of this sender. False if it is from an earlier life than one seen already.
    fn see(&mut self, sender: &Sender) -> bool {
        if self.incarnation.is_some_and(|known| known > sender.incarnation) {
            return false;
        }
        if self.incarnation != Some(sender.incarnation) {
            self.incarnation = Some(sender.incarnation);
            self.acknowledged = None;
            self.reached = None;
            self.known_high_watermark = Offset::ZERO;
            self.is_streaming = false;
        }
        true
    }

    /// It is being told the high watermark. While that moves all the time, its acknowledgements confirm it without being asked.
    fn tell(&mut self, high_watermark: Offset, confirm_at: Instant) {
        self.told_high_watermark = high_watermark;
        if self.known_high_watermark < high_watermark {
            self.confirm_at.get_or_insert((confirm_at, high_watermark));
        }
    }

    /// A record is about to be written at `end`: who has everything so far is caught up now.
    pub(super) fn before_append(&mut self, now: Instant, end: Offset, resend_at: Instant) {
        self.resend_at.get_or_insert(resend_at);
        if self.acknowledged.is_some_and(|(_, progress)| progress.end >= end) {
            self.caught_up_at = now;
            self.goal = (end, now);
        }
    }

    fn advance_goal(&mut self, now: Instant, end: Offset, log_end: Offset) {
        if end >= log_end {
            self.caught_up_at = now;
        } else if end >= self.goal.0 {
            self.caught_up_at = self.caught_up_at.max(self.goal.1);
        }
        self.goal = (log_end, now);
    }
}

impl<P: Probe> Replica<P> {
    /// Where the next append to a follower with this log begins.
    pub(super) fn next_for(&self, log: &LogShape) -> Offset {
        self.log.common_end(log).max(log.log_start).min(self.log.log_end).max(self.log.log_start)
    }

    /// Follows the list of replicas; new ones get an append, empty if need be.
    pub(super) fn follow_all(&mut self, now: Instant, known: &BTreeMap<BrokerId, (Option<BrokerEpoch>, Offset)>) {
        let own = self.identity.member.node;
        let log_end = self.log.log_end;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(record) = &self.record else { return };
        leader.peers.retain(|node, _| record.replicas.contains(node));
        let mut added = Vec::new();
        for node in record.replicas.iter().copied().filter(|node| *node != own) {
            if let std::collections::btree_map::Entry::Vacant(vacant) = leader.peers.entry(node) {
                let (incarnation, next) = known.get(&node).copied().unwrap_or((None, log_end));
                vacant.insert(Peer::new(now, next, incarnation));
                added.push(node);
            }
        }
        for node in added {
            self.send_append(now, node);
        }
    }

    /// Everything that `node` lacks, as one append.
    pub(super) fn send_append(&mut self, now: Instant, node: BrokerId) {
        let resend_at = now + self.settings.resend_after;
        let is_live = self.brokers.get(&node).is_some_and(|view| view.live);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.get_mut(&node) else { return };
        if !is_live {
            (peer.resend_at, peer.confirm_at) = (None, None);
            return;
        }
        let start = peer.next.max(self.log.log_start).min(self.log.log_end);
        peer.next = start;
        peer.sent_end = self.log.log_end;
        peer.resend_at = Some(resend_at);
        peer.tell(self.high_watermark, resend_at);
        let append = Append {
            epoch: self.promised,
            start,
            end: self.log.log_end,
            previous_epoch: self.log.epochs.epoch_before(start),
            epochs: self.log.epochs.between(start, self.log.log_end),
            epoch_start: leader.epoch_start,
            high_watermark: self.high_watermark,
            leader_log_start: self.log.log_start,
            leader_log_end: self.log.log_end,
            incarnation: peer.incarnation,
        };
        if peer.is_streaming {
            peer.next = self.log.log_end;
        }
        self.effects.push(Effect::Send { to: node, message: Message::Append(append) });
    }

    /// To all that take every record as it is written; with `also_probing` to the others, too.
    pub(super) fn send_to_all(&mut self, now: Instant, also_probing: bool) {
        let Role::Leader(leader) = &self.role else { return };
        let wanted = |(node, peer): (&BrokerId, &Peer)| (peer.is_streaming || also_probing).then_some(*node);
        let nodes: Vec<BrokerId> = leader.peers.iter().filter_map(wanted).collect();
        for node in nodes {
            self.send_append(now, node);
        }
    }

    pub(super) fn on_progress(
        &mut self,
        now: Instant,
        sender: Sender,
        progress: Progress,
        counts: bool,
    ) -> Result<(), Refusal> {
        let node = sender.member.node;
        let Some((leader, log)) = self.leading(progress.epoch) else { return Ok(()) };
        let Some(peer) = leader.peers.get_mut(&node) else { return Err(Refusal::UnknownMember(node)) };
        if progress.log_start < Offset::ZERO || progress.end < Offset::ZERO {
            return Err(Refusal::Malformed(Malformed::Offsets));
        }
        if progress.end > log.log_end || progress.log_start > log.log_end {
            return Err(Refusal::BeyondTheLog { node, end: progress.end.max(progress.log_start) });
        }
        if !peer.see(&sender) {
            return Ok(());
        }
        peer.known_high_watermark = peer.known_high_watermark.max(progress.high_watermark);
        if counts {
            let before = peer.acknowledged_as(sender.member);
            let merged = before.map_or(progress, |before| Progress {
                epoch: progress.epoch,
                end: before.end.max(progress.end),
                log_start: before.log_start.max(progress.log_start),
                high_watermark: progress.high_watermark,
            });
            peer.acknowledged = Some((sender.member, merged));
            peer.advance_goal(now, merged.end, log.log_end);
        }
        peer.reached = peer.reached.max(Some(progress.end));
        let mut sends_more = false;
        if !peer.is_streaming && progress.end >= peer.next {
            sends_more = progress.end < log.log_end;
            peer.next = progress.end;
            peer.is_streaming = counts && progress.end >= peer.sent_end;
        }
        if peer.has_all(log) {
            peer.resend_at = None;
        }
        if sends_more {
            self.send_append(now, node);
        }
        if counts {
            self.after_acknowledgement(now);
            self.raise_log_start(now, progress.log_start);
        }
        Ok(())
    }

    pub(super) fn on_mismatch(
        &mut self,
        now: Instant,
        sender: Sender,
        epoch: LeaderEpoch,
        start: Offset,
        log: &LogShape,
    ) -> Result<(), Refusal> {
        let node = sender.member.node;
        if !log.is_possible() {
            return Err(Refusal::Malformed(Malformed::Offsets));
        }
        let computed = self.next_for(log);
        let resend_at = now + self.settings.resend_after;
        let Some((leader, own)) = self.leading(epoch) else { return Ok(()) };
        let own_start = own.log_start;
        let Some(peer) = leader.peers.get_mut(&node) else { return Err(Refusal::UnknownMember(node)) };
        let is_late = !peer.is_streaming && start != peer.next;
        if !peer.see(&sender) || is_late {
            return Ok(());
        }
        peer.is_streaming = false;
        // What does not fit where it should is tried from the beginning; if that was it, later.
        let next = if computed == start { own_start } else { computed };
        peer.next = next;
        peer.resend_at = Some(resend_at);
        if next != start {
            self.send_append(now, node);
        }
        Ok(())
    }

    pub(super) fn on_hello(&mut self, now: Instant, sender: Sender, epoch: LeaderEpoch) {
        let node = sender.member.node;
        let Some((leader, _)) = self.leading(epoch) else { return };
        let Some(peer) = leader.peers.get_mut(&node) else { return };
        if peer.see(&sender) {
            peer.is_streaming = false;
            peer.next = peer.reached.unwrap_or(peer.next);
            self.send_append(now, node);
        }
    }

    /// The broker came, went or came back.
    pub(super) fn on_broker_changed(&mut self, now: Instant, node: BrokerId) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(peer) = leader.peers.get_mut(&node) {
            peer.is_streaming = false;
            peer.next = peer.reached.unwrap_or(peer.next);
            self.send_append(now, node);
        }
        self.consider_change(now);
    }

    /// Sends again what was not answered in time.
    pub(super) fn resend(&mut self, now: Instant) {
        let Role::Leader(leader) = &mut self.role else { return };
        let mut nodes = Vec::new();
        for (node, peer) in &mut leader.peers {
            if peer.resend_at.is_some_and(|at| at <= now) {
                peer.is_streaming = false;
                peer.next = peer.reached.unwrap_or(peer.next);
                nodes.push(*node);
            }
        }
        for node in nodes {
            self.send_append(now, node);
        }
    }

    /// Tells the high watermark again to those who have not said in time that they know it.
    pub(super) fn confirm(&mut self, now: Instant) {
        let again = now + self.settings.resend_after;
        let Role::Leader(leader) = &mut self.role else { return };
        let mut nodes = Vec::new();
        for (node, peer) in &mut leader.peers {
            let Some((_, wanted)) = peer.confirm_at.take_if(|(at, _)| *at <= now) else { continue };
            if peer.known_high_watermark < wanted && peer.resend_at.is_none() {
                nodes.push(*node);
            } else if peer.known_high_watermark < peer.told_high_watermark {
                peer.confirm_at = Some((again, peer.told_high_watermark));
            }
        }
        for node in nodes {
            self.probe.sometimes("replication.high-watermark-told-again");
            self.send_append(now, node);
        }
    }

    /// Tells the high watermark to those whom no append told it.
    pub(super) fn push_high_watermark(&mut self, now: Instant) {
        let confirm_at = now + self.settings.resend_after;
        let (epoch, high_watermark) = (self.promised, self.high_watermark);
        let Role::Leader(leader) = &mut self.role else { return };
        for (node, peer) in &mut leader.peers {
            if peer.told_high_watermark >= high_watermark {
                continue;
            }
            // Who has acknowledged nothing yet does not listen, and is to confirm it all the same.
            peer.tell(high_watermark, confirm_at);
            if peer.acknowledged.is_some() {
                let message = Message::HighWatermark { epoch, high_watermark };
                self.effects.push(Effect::Send { to: *node, message });
            }
        }
    }

    /// The leader's part of the state, if this replica leads in `epoch`, and its log.
    fn leading(&mut self, epoch: LeaderEpoch) -> Option<(&mut Leader, &LogShape)> {
        match &mut self.role {
            Role::Leader(leader) if epoch == self.promised => Some((leader, &self.log)),
            _ => None,
        }
    }
}
