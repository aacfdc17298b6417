//! One replica with its log: every event goes through [`Hosted::feed`], every effect is carried out here.
//!
//! Invariants
//! - Effects are carried out in their order, and all of them before the next event.
//! - What a shard shows of the replica ([`Partition`]) is never ahead of it: the epoch when it is active, the high watermark when it
//!   has moved.
//! - A batch is asked for by sequence before the replica hears of it: what the replica takes, the log takes.
//!
//! Not here: how steps reach the disk ([`super::steps`]), frames ([`super::outbox`]).

use core::time::Duration;
use std::{collections::VecDeque, sync::Arc};

use quipu_base::{BrokerId, Offset, ProducerId, TopicIdPartition};
use quipu_controller::LogReport;
use quipu_env::{Clock, Env, Instant, Probe};
use quipu_metadata::Member;
use quipu_records::Batch;
use quipu_replication::{
    Acks, Ask, BatchShape, BrokerView, DurableState, Effect, Event, GiveUp, Message, PartitionState, Replica, Reply,
    RequestError, RequestId, RoleKind, Sender, Settings, Write, WriteId,
};
use quipu_storage::{AppendError, Check, Log, Reservation, Ticket};
use tokio::sync::oneshot;

use super::{
    Append, AppendOutcome, Begun, Hub, Opened, ProduceError, Report,
    frames::InItem,
    outbox,
    requests::{Place, Waiting},
    state::{self, ReplicaState},
    steps::{Source, StepError, Steps},
};
use crate::{asks::Asked, partition::Partition};

/// Between two times that a leader without room asks for another one.
const GIVE_WAY_PAUSE: Duration = Duration::from_secs(1);

/// A duplicate whose original is not yet kept as `acks` wants.
struct Duplicate {
    place: Place,
    acks: Acks,
    base: Offset,
    end: Offset,
}

/// What an event brings with it, for the effects to use.
pub(super) enum Payload<E: Env> {
    None,
    /// A client's batch, and the room for it.
    Request(Box<(Batch, Reservation<E>)>),
    /// A peer's batches.
    Message(Vec<Batch>),
}

/// A replica, its log, and who waits for it.
pub(super) struct Hosted<E: Env> {
    pub(super) partition: Arc<Partition<E>>,
    /// Tells one hosting of a partition from a later one.
    pub(super) birth: u64,
    pub(super) replica: Replica<E::Probe>,
    pub(super) steps: Steps<E>,
    /// What the last step submitted says.
    pub(super) written: ReplicaState,
    duplicates: Vec<Duplicate>,
    timer_at: Option<Instant>,
    /// Whether members were told to lag.
    has_lagging: bool,
    /// Before then nobody else is asked to lead for lack of room.
    gives_way_at: Instant,
    /// More is committed than is durable here: the followers were faster.
    is_ahead_of_disk: bool,
    /// Bytes taken since retention was last looked at.
    pub(super) grown_bytes: u64,
    /// A step that had to wait, such as a cut, was submitted and is not known to be durable.
    was_cut: bool,
}

/// What the disk holds of a replica. With nobody to repair it from it goes on with what is sound, if the end of its log is known: who
/// reads what is not is told.
fn durable<E: Env>(log: &Log<E>, record: Option<&PartitionState>) -> DurableState {
    let mut state = state::durable_state(log);
    if !has_others(record) && log.fault().is_none() {
        state.damaged.clear();
    }
    state
}

/// Whether others may hold what this replica has lost.
pub(super) fn has_others(record: Option<&PartitionState>) -> bool {
    record.is_some_and(|record| record.configuration.members.len() > 1)
}

impl<E: Env> Hosted<E> {
    /// A replica as the disk has it, told of this start and of what the metadata says.
    pub(super) fn open(hub: &mut Hub<E>, opened: Opened<E>, begun: Begun, is_start: bool, birth: u64) -> Self {
        let Opened { partition, record, insync_replicas_min, lag_time_max } = opened;
        let durable = durable(&partition.log, Some(&record));
        let written = ReplicaState::of(&durable);
        let probe = hub.env.probe().clone();
        partition.show_high_watermark(durable.high_watermark);
        let [topic, number] = named(&partition);
        hub.env.probe().event("replica.opened", &[topic, number, ("high-watermark", durable.high_watermark.0)]);
        let settings = Settings { lag_time_max, ..Settings::default() };
        let replica = Replica::new(begun.identity, durable, insync_replicas_min, settings, probe);
        let mut hosted = Self {
            partition,
            birth,
            replica,
            steps: Steps::default(),
            written,
            duplicates: Vec::new(),
            timer_at: None,
            has_lagging: false,
            gives_way_at: Instant::ZERO,
            is_ahead_of_disk: false,
            grown_bytes: 0,
            was_cut: false,
        };
        // The disk of a partition that is created later has nothing to have forgotten.
        let last_unfenced = if is_start { begun.last_unfenced } else { None };
        hosted.feed(hub, Event::Registered { broker_epoch: begun.broker_epoch, last_unfenced });
        let brokers: Vec<(BrokerId, Option<BrokerView>)> =
            hub.brokers.iter().map(|(node, view)| (*node, Some(*view))).collect();
        for (node, view) in &brokers {
            hosted.feed(hub, Event::Broker { node: *node, view: *view });
        }
        hosted.feed(hub, Event::Metadata(record));
        hosted.unfence(hub, &brokers, begun);
        hosted
    }

    /// The partition is gone, or this node holds no replica of it any more. Its log is deleted.
    pub(super) fn close(mut self, hub: &mut Hub<E>) {
        let id = self.id();
        self.partition.deactivate();
        self.partition.lagging.set_own(id, self.replica.promised(), Vec::new());
        self.fail_duplicates(hub, RequestError::NotLeader);
        for waiting in hub.requests.take_of(id) {
            hub.requests.fail(&hub.env, waiting, RequestError::NotLeader, Offset(-1));
        }
        if let Some(at) = self.timer_at {
            hub.timers.remove(&(at, id));
        }
        hub.settle_awaiting(id);
    }

    fn id(&self) -> TopicIdPartition {
        self.partition.id
    }

    /// Whether its mark is durable, if it has to be: then the node's broker epoch may be.
    pub(super) fn is_marked(&self) -> bool {
        self.replica.is_marked()
    }

    /// Whether it is to lead and does not yet, but may soon.
    pub(super) fn may_become_active(&self) -> bool {
        let own = self.replica.record().and_then(|record| record.leader);
        own == Some(self.partition.node_id) && !self.partition.is_active() && !self.replica.is_faulty()
    }

    /// What it holds for sure; none before the node is registered.
    pub(super) fn report(&self, hub: &Hub<E>) -> Option<LogReport> {
        let Begun { identity, broker_epoch, .. } = hub.begun?;
        let member = Member { broker: identity.member.node, directory_id: identity.member.directory_id };
        Some(LogReport {
            member,
            broker_epoch,
            label: self.replica.label(),
            log_end: self.partition.log.offsets().durable_end,
            is_faulty: self.replica.is_faulty(),
            is_active: self.partition.is_active(),
        })
    }

    /// Brokers came, went, were fenced or unfenced; this one among them.
    pub(super) fn see_brokers(&mut self, hub: &mut Hub<E>, brokers: &[(BrokerId, Option<BrokerView>)], begun: Begun) {
        for (node, view) in brokers {
            self.feed(hub, Event::Broker { node: *node, view: *view });
        }
        self.unfence(hub, brokers, begun);
    }

    fn unfence(&mut self, hub: &mut Hub<E>, brokers: &[(BrokerId, Option<BrokerView>)], begun: Begun) {
        let own = |(node, view): &(BrokerId, Option<BrokerView>)| {
            *node == begun.identity.member.node
                && view.is_some_and(|view| view.live && view.broker_epoch == begun.broker_epoch)
        };
        if !self.replica.is_serving() && brokers.iter().any(own) {
            self.feed(hub, Event::Unfenced { broker_epoch: begun.broker_epoch });
        }
    }

    /// Takes in an event that brings nothing with it.
    pub(super) fn feed(&mut self, hub: &mut Hub<E>, event: Event) {
        self.feed_with(hub, event, Payload::None);
    }

    fn feed_with(&mut self, hub: &mut Hub<E>, event: Event, mut payload: Payload<E>) {
        let now = hub.env.clock().now();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.replica.handle(now, event) {
                self.carry_out(hub, effect, &mut payload);
            }
            payload = Payload::None;
            if self.steps.has_failed() {
                self.steps.begin_anew();
                let state = durable(&self.partition.log, self.replica.record());
                self.written = ReplicaState::of(&state);
                events.push_back(Event::WriteFailed { state });
            }
        }
        if self.has_lagging {
            self.tell_lagging(now);
        }
        self.schedule(hub);
    }

    /// Tells which members lag, as long as this replica leads. They begin to by time alone; anything may end it.
    fn tell_lagging(&mut self, now: Instant) {
        let lagging = self.lagging(now);
        self.has_lagging = !lagging.is_empty();
        self.partition.lagging.set_own(self.id(), self.replica.promised(), lagging);
    }

    fn lagging(&self, now: Instant) -> Vec<BrokerId> {
        let (Some(in_sync), Some(record)) = (self.replica.isr(now), self.replica.record()) else { return Vec::new() };
        let members = record.configuration.members.iter().map(|member| member.node);
        members.filter(|node| !in_sync.contains(node)).collect()
    }

    /// Sets the timer, but only to an earlier time than it has: most deadlines are gone before they come.
    fn schedule(&mut self, hub: &mut Hub<E>) {
        let Some(next) = self.replica.next_deadline() else { return };
        if self.timer_at.is_some_and(|at| at <= next) {
            return;
        }
        if let Some(at) = self.timer_at.replace(next) {
            hub.timers.remove(&(at, self.id()));
        }
        hub.timers.insert((next, self.id()));
    }

    pub(super) fn on_time(&mut self, hub: &mut Hub<E>, at: Instant) {
        if self.timer_at == Some(at) {
            self.timer_at = None;
        }
        let now = hub.env.clock().now();
        if self.replica.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.feed(hub, Event::Time);
            if self.has_lagging || !self.lagging(now).is_empty() {
                self.tell_lagging(now);
            }
        } else {
            self.schedule(hub);
        }
    }

    /// A client's batch.
    pub(super) fn produce(&mut self, hub: &mut Hub<E>, append: Append<E>, acks: Acks, deadline: Instant, place: Place) {
        let Append { batch, reservation, only_in, .. } = append;
        let refused = |error| AppendOutcome { result: Err(error), log_start: self.partition.log.offsets().log_start };
        let active = self.partition.active_epoch();
        if active.is_none() || only_in.is_some_and(|epoch| active != Some(epoch)) {
            hub.requests.turn_away(self.id(), batch.header(), RequestError::NotLeader);
            let outcome = refused(ProduceError::Replica(RequestError::NotLeader));
            return hub.requests.fill(&hub.env, place, Ticket::NONE, outcome);
        }
        let checked = self.partition.log.check_append(batch.header(), hub.env.clock().wall());
        if matches!(checked, Ok(_) | Err(AppendError::OutOfOrderSequence { .. }))
            && let Some(error) = hub.requests.has_to_wait(self.id(), batch.header(), || match checked {
                // A partition that does not know the producer takes any sequence for the next one.
                Ok(Check::Fresh) => self.knows(batch.header().producer_id),
                Ok(Check::Duplicate { .. }) => true,
                Err(_) => false,
            })
        {
            let outcome = refused(ProduceError::Replica(error));
            return hub.requests.fill(&hub.env, place, Ticket::NONE, outcome);
        }
        match checked {
            Err(error @ AppendError::OutOfOrderSequence { .. }) => {
                self.on_gap(hub, (batch.header(), error), place, deadline);
            }
            Err(error) => {
                let outcome = refused(ProduceError::Log(error));
                hub.requests.fill(&hub.env, place, Ticket::NONE, outcome);
            }
            Ok(Check::Duplicate { base_offset, last_offset, .. }) => {
                let end = last_offset.next();
                self.duplicates.push(Duplicate { place, acks, base: base_offset, end });
                if hub.env.probe().planted("log.duplicate-answered-unsynced") {
                    self.answer_duplicates(hub, Offset(i64::MAX));
                }
                self.answer_duplicates(hub, Offset::ZERO);
            }
            Ok(Check::Fresh) => {
                let header = batch.header();
                let record_count = u32::try_from(header.last_offset_delta).map_or(0, |delta| delta + 1);
                let size = header.total_bytes();
                let shape = BatchShape { record_count, bytes: u32::try_from(size).unwrap_or(u32::MAX) };
                let (partition, header) = (self.id(), *header);
                let waiting = Waiting::Append { partition, place, header, ticket: Ticket::NONE };
                let id = hub.requests.wait(waiting);
                let event = Event::Produce { id, batches: vec![shape], acks, deadline };
                self.feed_with(hub, event, Payload::Request(Box::new((batch, reservation))));
                hub.catch_up.pace().note_written(size);
                self.note_grown(hub, size);
            }
        }
    }

    fn knows(&self, producer: ProducerId) -> bool {
        self.partition.log.producers().iter().any(|state| state.producer_id == producer)
    }

    pub(super) fn delete_records(
        &mut self,
        hub: &mut Hub<E>,
        before: Option<Offset>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Offset, RequestError>>,
    ) {
        let id = hub.requests.wait(Waiting::Delete { partition: self.id(), reply });
        self.feed(hub, Event::DeleteRecords { id: Some(id), before, deadline });
    }

    /// A read has found damage. With other replicas to repair it from, this one does not count until that is done; alone, it goes on
    /// with what is sound.
    pub(super) fn on_damaged(&mut self, hub: &mut Hub<E>) {
        self.partition.waiters.wake();
        if has_others(self.replica.record()) {
            for range in self.partition.log.damage() {
                self.feed(hub, Event::Damage { range });
            }
        }
    }

    /// There is no room for a client's batch. Others may have some: one of them is to lead, if there is one. Alone it waits for room, and
    /// is read all the while.
    pub(super) fn on_full(&mut self, hub: &Hub<E>) {
        let now = hub.env.clock().now();
        let (own, epoch) = (self.partition.node_id, self.replica.promised());
        let is_other = |node: &BrokerId| *node != own && hub.brokers.get(node).is_some_and(|broker| broker.live);
        let members = self.replica.record().map(|record| &record.configuration.members);
        let has_others = members.is_some_and(|members| members.iter().any(|member| is_other(&member.node)));
        if !self.partition.is_active() || !has_others || now < self.gives_way_at {
            return;
        }
        self.gives_way_at = now + GIVE_WAY_PAUSE;
        tracing::warn!(partition = %self.id(), "there is no room for records here: another replica is to lead");
        let ask = Ask::GiveUp { epoch, reason: GiveUp::CannotCommit };
        // What comes of it the metadata tells; nobody waits for the answer. One that finds no place is asked again.
        let (reply, _) = oneshot::channel();
        if hub.asks.try_send(Asked::Ask { partition: self.id(), ask, reply }).is_err() {
            hub.env.probe().sometimes("replica.ask-dropped");
        }
    }

    /// A message of another replica.
    pub(super) fn on_peer(&mut self, hub: &mut Hub<E>, sender: Sender, item: InItem) {
        let InItem { message, batches, .. } = item;
        self.feed_with(hub, Event::Peer { sender, message }, Payload::Message(batches));
    }

    /// The step and all before it are durable.
    pub(super) fn on_durable(&mut self, hub: &mut Hub<E>, write: WriteId) {
        self.steps.on_durable();
        self.feed(hub, Event::Synced { id: write });
        if self.is_ahead_of_disk {
            // Readers are given what is durable here, too: those that were told of the high watermark wait for this.
            self.partition.waiters.wake();
            self.is_ahead_of_disk = self.partition.high_watermark() > self.partition.log.offsets().durable_end;
        }
        if self.steps.is_idle() {
            let [topic, number] = named(&self.partition);
            let high_watermark = self.partition.high_watermark().0;
            hub.env.probe().event("replica.durable", &[topic, number, ("high-watermark", high_watermark)]);
            if core::mem::take(&mut self.was_cut) && !self.partition.log.damage().is_empty() {
                self.on_damaged(hub);
            }
        }
        self.answer_duplicates(hub, Offset::ZERO);
    }

    /// A step that had to wait was submitted, or could not be.
    pub(super) fn on_submitted(&mut self, hub: &mut Hub<E>, write: WriteId, result: Result<Ticket, StepError>) {
        self.note_task_ended();
        self.note_submitted(hub, write, result);
        self.run_queued(hub);
        if self.steps.has_failed() {
            self.steps.begin_anew();
            let state = durable(&self.partition.log, self.replica.record());
            self.written = ReplicaState::of(&state);
            self.feed(hub, Event::WriteFailed { state });
        }
        // Where a log is cut it is read, and may be found damaged.
        self.was_cut = true;
    }

    fn carry_out(&mut self, hub: &mut Hub<E>, effect: Effect, payload: &mut Payload<E>) {
        match effect {
            Effect::Write(write) => self.write(hub, write, payload),
            Effect::Send { to, message } => self.send(hub, to, message),
            Effect::Reply { id, reply } => self.reply(hub, id, reply),
            Effect::HighWatermark(offset) => self.on_high_watermark(hub, offset),
            Effect::Activated { epoch, epoch_start } => {
                hub.env.probe().sometimes("replica.activated");
                let [topic, number] = named(&self.partition);
                let fields = [topic, number, ("epoch", i64::from(epoch.get())), ("start", epoch_start.0)];
                hub.env.probe().event("replica.activated", &fields);
                self.partition.activate(epoch, epoch_start);
                hub.settle_awaiting(self.id());
            }
            Effect::SteppedDown { epoch } => {
                tracing::debug!(partition = %self.id(), %epoch, "this replica leads no more");
                self.partition.deactivate();
                self.fail_duplicates(hub, RequestError::NotLeader);
                hub.settle_awaiting(self.id());
            }
            Effect::AskController(ask) => self.ask(hub, ask),
            Effect::ReadBarrier => self.read_barrier(hub),
            Effect::BecameFaulty => {
                hub.env.probe().event("replica.faulty", &named(&self.partition));
                tracing::warn!(partition = %self.id(), "this replica does not count until it is repaired from its leader");
                hub.settle_awaiting(self.id());
            }
            Effect::BecameSound => {
                let [topic, number] = named(&self.partition);
                let high_watermark = self.partition.high_watermark().0;
                hub.env.probe().event("replica.sound", &[topic, number, ("high-watermark", high_watermark)]);
                tracing::info!(partition = %self.id(), "this replica is sound again");
            }
            Effect::Refused(refusal) => {
                hub.env.probe().sometimes("replica.refused");
                tracing::warn!(partition = %self.id(), %refusal, "an event was refused");
            }
        }
    }

    fn write(&mut self, hub: &mut Hub<E>, write: Write, payload: &mut Payload<E>) {
        let source = match (&write.append, core::mem::replace(payload, Payload::None)) {
            (Some((quipu_replication::Source::Request, _)), Payload::Request(request)) => {
                let (batch, reservation) = *request;
                Source::Request { epoch: self.replica.promised(), batch, reservation }
            }
            (_, Payload::Message(batches)) => {
                let picked = batches.clone();
                // A message may lead to more than one step.
                *payload = Payload::Message(batches);
                Source::Message(picked)
            }
            (_, other) => {
                *payload = other;
                Source::Nothing
            }
        };
        self.submit(hub, write, source);
    }

    fn send(&mut self, hub: &mut Hub<E>, to: BrokerId, message: Message) {
        match outbox::load(&self.partition.log, self.id(), message) {
            outbox::Loaded::Ready(item) => hub.outbox.push(to, item),
            outbox::Loaded::Cold(message @ Message::Append(_)) => {
                hub.catch_up(to, self.id(), self.partition.log.clone(), message);
            }
            outbox::Loaded::Cold(message) => {
                hub.doubt_again(to, self.id(), &self.partition.log, &message);
                let (log, id, reports) = (self.partition.log.clone(), self.id(), hub.reports.clone());
                let _task = hub.env.spawn(hub.number, "replica-read", async move {
                    let report = match outbox::load_cold(&log, id, message).await {
                        Some(item) => Report::Read { to, item },
                        None => Report::Unreadable { partition: id },
                    };
                    // A shard that is gone sends nothing.
                    drop(reports.send(report).await);
                });
            }
            outbox::Loaded::Nothing => {}
        }
    }

    fn reply(&mut self, hub: &mut Hub<E>, id: RequestId, reply: Reply) {
        let log_start = self.partition.log.offsets().log_start;
        hub.requests.answer(&hub.env, id, reply, log_start, &self.partition);
    }

    fn on_high_watermark(&mut self, hub: &mut Hub<E>, offset: Offset) {
        let shown = if hub.env.probe().planted("broker.high-watermark-ahead") {
            self.partition.log.offsets().log_end
        } else {
            offset
        };
        self.tell_high_watermark(hub, offset);
        self.partition.log.note_high_watermark(offset);
        self.is_ahead_of_disk = offset > self.partition.log.offsets().durable_end;
        self.partition.advance_high_watermark(shown);
        self.answer_duplicates(hub, Offset::ZERO);
    }

    /// For whoever watches: what this replica knows to be committed, and by which quorum if it leads.
    fn tell_high_watermark(&self, hub: &Hub<E>, offset: Offset) {
        let (epoch, record) = (self.replica.promised(), self.replica.record());
        let leads = self.replica.role() == RoleKind::Leader;
        let quorum = record.map_or(0, |record| i64::try_from(record.configuration.quorum).unwrap_or(i64::MAX));
        let [topic, number] = named(&self.partition);
        let fields = [
            topic,
            number,
            ("epoch", i64::from(epoch.get())),
            ("leads", i64::from(leads)),
            ("quorum", quorum),
            ("high-watermark", offset.0),
            ("idle", i64::from(self.steps.is_idle())),
        ];
        hub.env.probe().event("replica.high-watermark", &fields);
    }

    /// Answers the duplicates whose originals are kept as their acks want, or that end at or below `told`.
    fn answer_duplicates(&mut self, hub: &mut Hub<E>, told: Offset) {
        if self.duplicates.is_empty() {
            return;
        }
        let offsets = self.partition.log.offsets();
        let committed = self.replica.high_watermark();
        let is_kept = |duplicate: &mut Duplicate| {
            let reached = match duplicate.acks {
                Acks::All => committed,
                Acks::Leader | Acks::None => offsets.durable_end,
            };
            duplicate.end <= reached.max(told)
        };
        for duplicate in self.duplicates.extract_if(.., is_kept) {
            let outcome = AppendOutcome { result: Ok(duplicate.base), log_start: offsets.log_start };
            super::requests::tell_committed(&hub.env, &self.partition, duplicate.end);
            hub.requests.fill(&hub.env, duplicate.place, Ticket::NONE, outcome);
        }
    }

    fn fail_duplicates(&mut self, hub: &mut Hub<E>, error: RequestError) {
        let log_start = self.partition.log.offsets().log_start;
        for duplicate in core::mem::take(&mut self.duplicates) {
            let outcome = AppendOutcome { result: Err(ProduceError::Replica(error)), log_start };
            hub.requests.fill(&hub.env, duplicate.place, Ticket::NONE, outcome);
        }
    }

    fn ask(&self, hub: &Hub<E>, ask: Ask) {
        let (reply, answer) = oneshot::channel();
        let partition = self.id();
        if hub.asks.try_send(Asked::Ask { partition, ask, reply }).is_err() {
            hub.env.probe().sometimes("replica.ask-dropped");
            return;
        }
        let reports = hub.reports.clone();
        let _task = hub.env.spawn(hub.number, "replica-ask", async move {
            // No answer means that nobody asks any more: the node stops.
            if let Ok((verdict, record)) = answer.await {
                drop(reports.send(Report::Answer { partition, verdict, record }).await);
            }
        });
    }

    fn read_barrier(&self, hub: &Hub<E>) {
        let (asks, reports, partition) = (hub.asks.clone(), hub.reports.clone(), self.id());
        let _task = hub.env.spawn(hub.number, "replica-barrier", async move {
            let (reply, answer) = oneshot::channel();
            if asks.send(Asked::Barrier { partition, reply }).await.is_ok()
                && let Ok(record) = answer.await
            {
                drop(reports.send(Report::Barrier { partition, record }).await);
            }
        });
    }
}

/// For whoever watches: which replica it is.
fn named<E: Env>(partition: &Partition<E>) -> [(&'static str, i64); 2] {
    [("topic", partition.id.topic_id.low()), ("partition", i64::from(partition.id.partition.0))]
}
