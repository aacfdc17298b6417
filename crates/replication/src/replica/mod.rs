//! One replica: what every role shares, and which event goes where.
//!
//! ```text
//! Follower  -> Candidate   the metadata names it leader of an epoch higher than any promised (elect)
//! Candidate -> Leader      S members sealed, the greatest log adopted, label synced (elect)
//! Candidate, Leader -> Follower   a higher epoch in the metadata, in a Seal, an Append or an answer; damage; a failed write
//! ```
//!
//! A replica answers other replicas only while it is `serving` (unfenced under its incarnation) and, if it started faulty, behind its
//! barrier. `log`, `promised`, `label`, ... are as written; `synced` is what a crash leaves at least.
//!
//! Invariants
//! - `promised` never goes down; `label <= promised`.
//! - `log_start <= high_watermark <= log_end` on a replica that is not faulty.
//! - A role other than Follower has the promised epoch.
//!
//! Not here: `writes` (steps under way), `follow` (appends from a leader), `elect` (seal and adoption), `lead` (produce,
//! acknowledgements, high watermark), `change` (configurations), `suspect` (damage, faulty). Read `writes`, then `follow`.

mod change;
mod elect;
mod follow;
mod lead;
mod peers;
mod suspect;
mod writes;

use core::mem;
use std::collections::{BTreeMap, VecDeque};

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use quipu_env::{Instant, Probe};

use crate::{
    effect::{Ask, Effect, GiveUp, WriteId},
    epochs::{EpochTable, LogShape},
    event::{DurableState, Event, Identity},
    limits::WRITES_IN_FLIGHT_MAX,
    message::Message,
    partition::{BrokerView, Member, PartitionState, Sender, Settings},
    refusal::{Refusal, RequestError},
};
use elect::Candidate;
use lead::Leader;
use suspect::Suspicion;
use writes::{Matched, Synced, UnderWay};

/// What a replica is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoleKind {
    /// Follows whoever leads, or waits.
    Follower,
    /// Elected, not active yet.
    Candidate,
    /// Active leader.
    Leader,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Follower,
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
}

/// What is owed to another node once the steps under way are synced.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Owed {
    /// A report of the log under this promise.
    report: Option<(BrokerId, LeaderEpoch)>,
    /// With a planted bug: a promise that is made too late.
    promise: Option<LeaderEpoch>,
    /// Word of how far this log matches.
    progress: Option<BrokerId>,
}

/// One replica of one partition. See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica<P> {
    identity: Identity,
    settings: Settings,
    probe: P,
    incarnation: Option<BrokerEpoch>,
    is_serving: bool,
    record: Option<PartitionState>,
    insync_replicas_min: usize,
    brokers: BTreeMap<BrokerId, BrokerView>,
    log: LogShape,
    promised: LeaderEpoch,
    label: LeaderEpoch,
    high_watermark: Offset,
    /// The highest that the shell was told.
    shown: Offset,
    matched: Matched,
    /// The high watermark as the leader of an epoch told it: it counts here as far as this log has it synced.
    told: Matched,
    suspicion: Option<Suspicion>,
    synced: Synced,
    under_way: VecDeque<UnderWay>,
    last_write: WriteId,
    owed: Owed,
    role: Role,
    /// When to say again that it cannot lead, while the metadata has it lead.
    decline_at: Option<Instant>,
    effects: Vec<Effect>,
}

impl<P: Probe> Replica<P> {
    /// A replica as a start finds it. It says nothing before it is registered and unfenced.
    ///
    /// `insync_replicas_min` is the topic's `min.insync.replicas` at this moment.
    #[must_use]
    pub fn new(
        identity: Identity,
        state: DurableState,
        insync_replicas_min: usize,
        settings: Settings,
        probe: P,
    ) -> Self {
        let mut replica = Self {
            identity,
            settings,
            probe,
            incarnation: None,
            is_serving: false,
            record: None,
            insync_replicas_min,
            brokers: BTreeMap::new(),
            log: LogShape::default(),
            promised: LeaderEpoch::NONE,
            label: LeaderEpoch::NONE,
            high_watermark: Offset::ZERO,
            shown: Offset::ZERO,
            matched: Matched::default(),
            told: Matched::default(),
            suspicion: None,
            synced: Synced::default(),
            under_way: VecDeque::new(),
            last_write: WriteId(0),
            owed: Owed::default(),
            role: Role::Follower,
            decline_at: None,
            effects: Vec::new(),
        };
        let damaged = state.damaged.clone();
        let was_faulty = state.is_faulty;
        replica.adopt_durable(state);
        replica.shown = replica.high_watermark;
        if was_faulty {
            replica.suspect_at_start();
        }
        for range in damaged {
            replica.find_damage_at_start(range);
        }
        replica
    }

    /// Takes in one event. The effects are to be carried out in their order; a message's or a request's bytes must be at hand
    /// meanwhile.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        if let Err(refusal) = self.dispatch(now, event) {
            self.effects.push(Effect::Refused(refusal));
        }
        self.assert_invariants();
        mem::take(&mut self.effects)
    }

    fn dispatch(&mut self, now: Instant, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Registered { broker_epoch, last_unfenced } => self.on_registered(broker_epoch, last_unfenced),
            Event::Barrier(record) => return self.on_barrier(now, record),
            Event::Unfenced { broker_epoch } => self.on_unfenced(now, broker_epoch),
            Event::Metadata(record) => return self.on_record(now, record),
            Event::Broker { node, view } => self.on_broker(now, node, view),
            Event::InsyncReplicasMin(count) => {
                self.insync_replicas_min = count;
                self.consider_change(now);
            }
            Event::Peer { sender, message } => return self.on_peer(now, sender, message),
            Event::Synced { id } => return self.on_synced(now, id),
            Event::WriteFailed { state } => return self.on_write_failed(now, state),
            Event::Produce { id, batches, acks, deadline } => self.on_produce(now, id, &batches, acks, deadline),
            Event::DeleteRecords { id, before, deadline } => self.on_delete_records(now, id, before, deadline),
            Event::Damage { range } => self.on_damage(now, range),
            Event::Answer { verdict, record } => return self.on_answer(now, verdict, record),
            Event::Time => self.on_deadline(now),
        }
        Ok(())
    }

    /// When [`Event::Time`] is due; none if nothing is waited for. A time that has passed means at once.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Follower => self.decline_at.into_iter().chain(self.next_greeting()).min(),
            Role::Candidate(candidate) => Some(candidate.resend_at.min(candidate.give_up_at)),
            Role::Leader(leader) => leader.next_deadline(),
        }
    }

    fn on_deadline(&mut self, now: Instant) {
        match self.role {
            Role::Follower => {
                self.greet_again(now);
                // Whatever keeps it from declining once more, this time is over: else it would be due for ever.
                self.decline_at.take_if(|at| *at <= now);
                self.consider_leading(now);
            }
            Role::Candidate(_) => self.candidate_on_deadline(now),
            Role::Leader(_) => self.leader_on_deadline(now),
        }
    }

    fn on_unfenced(&mut self, now: Instant, broker_epoch: BrokerEpoch) {
        // With the bug, the incarnation is not the controller's; it is unfenced all the same.
        let is_current =
            self.incarnation == Some(broker_epoch) || self.probe.planted("replication.incarnation-from-disk");
        if !is_current || self.is_serving {
            return;
        }
        self.is_serving = true;
        self.greet_leader();
        self.consider_leading(now);
    }

    /// Takes in a partition record. An older one than is known changes nothing.
    fn on_record(&mut self, now: Instant, record: PartitionState) -> Result<(), Refusal> {
        record.check().map_err(Refusal::Record)?;
        let known = self.record.as_ref().map(PartitionState::order);
        if known.is_some_and(|known| record.order() < known) {
            return Ok(());
        }
        let is_new_epoch = known.is_none_or(|(epoch, _)| record.leader_epoch > epoch);
        let version = record.version;
        let epoch = record.leader_epoch;
        self.record = Some(record);
        self.suspect_record();
        if is_new_epoch {
            if self.role_epoch().is_some_and(|own| own < epoch) {
                self.step_down(RequestError::NotLeader);
            }
            self.decline_at = None;
            self.greet_leader();
            self.consider_leading(now);
        } else {
            self.on_configuration(now, version);
        }
        Ok(())
    }

    fn on_broker(&mut self, now: Instant, node: BrokerId, view: Option<BrokerView>) {
        let before = match view {
            Some(view) => self.brokers.insert(node, view),
            None => self.brokers.remove(&node),
        };
        if view != before {
            self.on_broker_changed(now, node);
        }
    }

    /// The leader's epoch, or the candidate's.
    fn role_epoch(&self) -> Option<LeaderEpoch> {
        (!matches!(self.role, Role::Follower)).then_some(self.promised)
    }

    /// Whether other replicas get answers.
    fn may_answer(&self) -> bool {
        let is_serving = self.is_serving || self.probe.planted("replication.answers-before-unfenced");
        is_serving && self.is_behind_barrier()
    }

    fn on_peer(&mut self, now: Instant, sender: Sender, message: Message) -> Result<(), Refusal> {
        if !self.may_answer() {
            return Ok(());
        }
        self.check_sender(&sender)?;
        match message {
            Message::Seal(epoch) => self.on_seal(sender, epoch),
            Message::Report(report) => self.on_report(now, sender, report),
            Message::Superseded { promised, .. } => {
                if self.role_epoch().is_some_and(|own| own < promised) {
                    self.step_down(RequestError::NotLeader);
                }
                Ok(())
            }
            Message::PieceRequest { epoch, start, end } => {
                self.on_piece_request(sender, epoch, start, end);
                Ok(())
            }
            Message::Piece(piece) => self.on_piece(now, sender, &piece),
            Message::PieceRefused { epoch } => {
                self.on_piece_refused(now, sender, epoch);
                Ok(())
            }
            Message::Append(append) => self.on_append(sender, &append),
            Message::Acknowledged(progress) => self.on_progress(now, sender, progress, true),
            Message::Copied(progress) => self.on_progress(now, sender, progress, false),
            Message::Mismatch { epoch, start, log } => self.on_mismatch(now, sender, epoch, start, &log),
            Message::HighWatermark { epoch, high_watermark } => {
                self.on_high_watermark(epoch, high_watermark);
                Ok(())
            }
            Message::Hello { epoch } => {
                self.on_hello(now, sender, epoch);
                Ok(())
            }
        }
    }

    fn check_sender(&self, sender: &Sender) -> Result<(), Refusal> {
        let node = sender.member.node;
        let is_known = self.record.as_ref().is_none_or(|record| record.replicas.contains(&node));
        if node == self.identity.member.node || !is_known {
            return Err(Refusal::UnknownMember(node));
        }
        if self.under_way.len() >= WRITES_IN_FLIGHT_MAX {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// A message that only the leader of `epoch` sends.
    fn check_leads(&self, node: BrokerId, epoch: LeaderEpoch) -> Result<(), Refusal> {
        let known = self.record.as_ref().filter(|record| record.leader_epoch == epoch);
        let other = known.is_some_and(|record| record.leader != Some(node));
        if other || self.role_epoch() == Some(epoch) || epoch < LeaderEpoch(0) {
            return Err(Refusal::NotTheLeader { node, epoch });
        }
        Ok(())
    }

    /// Ends a leadership or a candidacy, if there is one: whoever waits gets `error`.
    fn step_down(&mut self, error: RequestError) {
        match mem::replace(&mut self.role, Role::Follower) {
            Role::Follower => return,
            Role::Candidate(_) => {}
            Role::Leader(leader) => leader.fail_all(error, &mut self.effects),
        }
        self.effects.push(Effect::SteppedDown { epoch: self.promised });
    }

    fn give_up(&mut self, reason: GiveUp) {
        if let Some(record) = &self.record {
            let epoch = record.leader_epoch;
            self.effects.push(Effect::AskController(Ask::GiveUp { epoch, reason }));
        }
    }

    fn send(&mut self, to: BrokerId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn raise_high_watermark(&mut self, to: Offset) {
        self.high_watermark = self.high_watermark.max(to);
        let is_unbounded =
            matches!(self.role, Role::Leader(_)) || self.probe.planted("replication.follower-high-watermark-unbounded");
        let sure = if is_unbounded { self.high_watermark } else { self.high_watermark.min(self.synced.log_end) };
        if sure > self.shown {
            self.shown = sure;
            self.effects.push(Effect::HighWatermark(self.shown));
        }
    }

    /// Whether a member is registered with its directory, and unfenced.
    fn is_live(&self, member: Member) -> bool {
        self.brokers.get(&member.node).is_some_and(|view| view.live && view.directory_id == member.directory_id)
    }

    fn assert_invariants(&self) {
        assert!(self.label <= self.promised, "a label is a promise kept");
        assert!(self.log.log_start <= self.log.log_end, "a log does not end before it begins");
        assert!(self.log.log_start <= self.high_watermark, "what is deleted was committed");
        assert!(
            self.high_watermark <= self.log.log_end || self.is_faulty(),
            "a sound replica has what it knows committed"
        );
    }
}

/// What the shell, the handlers and the tests may ask.
impl<P: Probe> Replica<P> {
    /// What the replica is.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        match self.role {
            Role::Follower => RoleKind::Follower,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The highest epoch promised, synced or not.
    #[must_use]
    pub fn promised(&self) -> LeaderEpoch {
        self.promised
    }

    /// The epoch whose leader's log is fully adopted, synced or not.
    #[must_use]
    pub fn label(&self) -> LeaderEpoch {
        self.label
    }

    /// Everything below is committed: consumers may read up to it, here as at the leader.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The log as written.
    #[must_use]
    pub fn log(&self) -> &LogShape {
        &self.log
    }

    /// The epochs of the log, for OffsetForLeaderEpoch.
    #[must_use]
    pub fn epochs(&self) -> &EpochTable {
        &self.log.epochs
    }

    /// Whether it counts for nothing until it is repaired.
    #[must_use]
    pub fn is_faulty(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Whether it is unfenced under its incarnation.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// The broker epoch of this start, once registered.
    #[must_use]
    pub fn incarnation(&self) -> Option<BrokerEpoch> {
        self.incarnation
    }

    /// The partition's record, once known.
    #[must_use]
    pub fn record(&self) -> Option<&PartitionState> {
        self.record.as_ref()
    }

    /// Whether the node's broker epoch may be stored in its superblock as far as this replica is concerned: a replica that is
    /// suspect because of the old one has its mark on the disk. Before it is registered there is nothing to store.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.incarnation.is_some() && self.is_faulty() == self.synced.is_faulty
    }

    /// The offset that ListOffsets answers as the latest one, and the bound of reads at the leader.
    ///
    /// Errors: `NotLeader`; `OffsetNotAvailable` until the high watermark has reached the epoch's start.
    pub fn latest_offset(&self) -> Result<Offset, RequestError> {
        let Role::Leader(leader) = &self.role else { return Err(RequestError::NotLeader) };
        if self.high_watermark < leader.epoch_start {
            return Err(RequestError::OffsetNotAvailable);
        }
        Ok(self.high_watermark)
    }

    /// The ISR as the leader reports it: members of C that live and are within the lag bound. None elsewhere.
    #[must_use]
    pub fn isr(&self, now: Instant) -> Option<Vec<BrokerId>> {
        let Role::Leader(leader) = &self.role else { return None };
        let members = &self.record.as_ref()?.configuration.members;
        let own = self.identity.member;
        let in_sync = |member: &&Member| {
            **member == own || (self.is_live(**member) && leader.is_within_lag(self, member.node, now))
        };
        Some(members.iter().filter(in_sync).map(|member| member.node).collect())
    }
}
