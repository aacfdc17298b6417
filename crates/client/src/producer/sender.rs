//! The producer's task: takes batches that are ready, sends them to their leaders, and does with the answers what `state` says.
//!
//! ```text
//! answers, a bell from `send`, a timer -> settle -> late? -> new epochs -> fill requests -> wait again
//!                                                                             `- large batches: compressed elsewhere first
//! ```
//!
//! Invariants
//! - At most `in_flight_max` requests are under way to each broker; a request has at most one batch of each partition.
//! - The task never waits for anything but those three: a broker that is slow delays its own partitions alone.
//! - Of each partition one batch is compressed at a time, and none behind it is taken before it is done.
//! - It ends when the last producer handle is gone; what is not settled then is settled as closed.
//!
//! Not here: taking records (`mod`), gathering them (`accumulator`), the producer id (`ids`). Read `state` first.

mod ids;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use quipu_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use quipu_env::{Clock, Env, Instant, Rng, Sleep};
use quipu_protocol::{
    ErrorCode, Records, Response,
    messages::produce::{
        PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    },
};
use quipu_records::{Batch, rewrite::with_producer};
use tokio::sync::mpsc;

use super::{
    Common,
    accumulator::{OpenBatch, Slot},
    answers::{failure_of, is_stale_metadata},
    config::{Acks, ProducerConfig},
    delivery::Landed,
    record::Written,
    sealed::{Built, Sealed},
    split::split,
    state::{BatchNumber, Due, Expired, Failure, Identity, Pipeline, Verdict},
};
use crate::{
    BrokerAddress, Client, ClientError, Cluster,
    cluster::LeaderHint,
    connection::{Answer, Call, ReplyTo},
    pool::{Pool, Target},
};
use ids::IdState;

enum Event {
    /// An answer to the request with this number.
    Answer(u64, Result<Option<Answer>, ClientError>),
    ProducerId(Result<Option<Answer>, ClientError>),
    Refreshed,
    Built(Slot, Box<Built>),
}

/// A request under way.
struct Sent {
    broker: BrokerId,
    batches: Vec<(Slot, BatchNumber)>,
}

pub(super) struct Sender<E: Env> {
    client: Client<E>,
    config: ProducerConfig,
    common: Arc<Common>,
    pool: Pool<E>,
    rng: Rng,
    events: mpsc::UnboundedReceiver<Event>,
    /// As many events as requests under way and partitions whose next batch is being compressed, and one refresh.
    post: mpsc::UnboundedSender<Event>,
    id: IdState,
    pipelines: BTreeMap<Slot, Pipeline<Sealed>>,
    /// Partitions whose next batch is being compressed.
    building: BTreeSet<Slot>,
    /// As of the last look, and the ids of topics that were sent to, by their place in the accumulator's list.
    cluster: Arc<Cluster>,
    topic_ids: BTreeMap<usize, TopicId>,
    sent: BTreeMap<u64, Sent>,
    in_flight: BTreeMap<BrokerId, usize>,
    next_request: u64,
    /// Topics of which the leaders must be learnt anew.
    stale: BTreeSet<Arc<str>>,
    is_refreshing: bool,
    /// A pause after refreshes that helped nothing.
    refresh_after: Instant,
    fatal: Option<ClientError>,
    /// Partitions take turns when a request is full.
    turn: usize,
}

impl<E: Env> Sender<E> {
    pub(super) fn new(client: &Client<E>, config: &ProducerConfig, common: &Arc<Common>) -> Self {
        let (post, events) = mpsc::unbounded_channel();
        let id =
            if config.idempotence { IdState::Wanted { not_before: Instant::ZERO, failures: 0 } } else { IdState::None };
        Self {
            client: client.clone(),
            config: config.clone(),
            common: Arc::clone(common),
            pool: client.own_pool(),
            rng: client.env().rng("client.producer.sender"),
            events,
            post,
            id,
            pipelines: BTreeMap::new(),
            building: BTreeSet::new(),
            cluster: client.cluster(),
            topic_ids: BTreeMap::new(),
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next_request: 0,
            stale: BTreeSet::new(),
            is_refreshing: false,
            refresh_after: Instant::ZERO,
            fatal: None,
            turn: 0,
        }
    }

    /// Runs until the producer is gone.
    pub(super) async fn run(mut self) {
        let env = self.client.env().clone();
        let common = Arc::clone(&self.common);
        let mut timer = Box::pin(env.clock().sleep_until(Instant::ZERO));
        while !common.is_over.load(Ordering::Acquire) {
            let now = env.clock().now();
            self.expire(now);
            self.begin_epochs();
            self.fill(now);
            self.refresh(now);
            let next = self.next_deadline(now);
            if let Some(next) = next {
                timer.as_mut().reset(next);
            }
            let event = tokio::select! { biased;
                event = self.events.recv() => event,
                () = common.bell.notified() => None,
                () = timer.as_mut(), if next.is_some() => None,
            };
            event.into_iter().for_each(|event| self.handle(event));
            while let Ok(event) = self.events.try_recv() {
                self.handle(event);
            }
        }
        self.pipelines.clear();
        self.common.close(&ClientError::Closed);
    }

    fn handle(&mut self, event: Event) {
        let now = self.client.now();
        match event {
            Event::Answer(request, outcome) => self.handle_answer(now, request, outcome),
            Event::ProducerId(outcome) => self.handle_producer_id(now, outcome),
            Event::Built(slot, built) => {
                self.building.remove(&slot);
                self.take_built(slot, *built);
            }
            Event::Refreshed => {
                self.is_refreshing = false;
                self.refresh_after = now + self.client.shared().backoff().pause(1, &mut self.rng);
            }
        }
    }

    // ---- what is late ----

    fn expire(&mut self, now: Instant) {
        let mut told = Vec::new();
        for pipeline in self.pipelines.values_mut() {
            while let Some(expired) = pipeline.expire(now) {
                match expired {
                    Expired::UnderWay(sealed) => {
                        sealed.settler.failed(Written::Unknown, late(&self.config, sealed.last_error.take()));
                    }
                    Expired::Gone(mut sealed, written) => {
                        let error = late(&self.config, sealed.last_error.take());
                        told.push((sealed, written, error));
                    }
                }
            }
        }
        for (sealed, written, error) in told {
            self.fail(sealed, written, error);
        }
        let delivery_timeout = self.config.delivery_timeout;
        let cluster = self.client.cluster();
        let mut accumulator = self.common.lock();
        let slots: Vec<Slot> = accumulator.active().collect();
        for slot in slots {
            while accumulator.first_created_at(slot).is_some_and(|created| created + delivery_timeout <= now) {
                let Some(open) = accumulator.pop(slot) else { break };
                let topic = accumulator.topic_name(slot.topic_index);
                let last = cluster.topic_error(topic).map(|code| {
                    ClientError::refused(format!("find the leader of {topic}-{}", slot.partition()), code.code(), None)
                });
                open.settler.failed(Written::No, late(&self.config, last));
                accumulator.settled(open.birth);
                self.common.release(open.reserved_bytes);
            }
        }
    }

    // ---- sending ----

    /// Fills requests until nothing is ready, or each broker has its fill.
    fn fill(&mut self, now: Instant) {
        self.ask_for_id(now);
        if matches!(self.id, IdState::Wanted { .. } | IdState::Asked { .. }) || self.fatal.is_some() {
            return self.fail_if_fatal();
        }
        let cluster = self.client.cluster();
        self.look_for_new_topics(&cluster);
        loop {
            let by_leader = self.ready(now, &cluster);
            let mut has_sent = false;
            for (broker, slots) in by_leader {
                if self.in_flight.get(&broker).copied().unwrap_or(0) < self.config.in_flight_max {
                    has_sent |= self.send_to(now, broker, slots, &cluster);
                }
            }
            if !has_sent {
                return;
            }
        }
    }

    /// Finds out which topics were deleted and made again.
    fn look_for_new_topics(&mut self, cluster: &Arc<Cluster>) {
        if Arc::ptr_eq(cluster, &self.cluster) {
            return;
        }
        self.cluster = Arc::clone(cluster);
        let accumulator = self.common.lock();
        for (slot, pipeline) in &mut self.pipelines {
            let topic = cluster.topic(accumulator.topic_name(slot.topic_index));
            let id = topic.map(|topic| topic.id).unwrap_or_default();
            if id != TopicId::ZERO && self.topic_ids.get(&slot.topic_index).is_some_and(|known| *known != id) {
                pipeline.handle_new_log();
            }
        }
        for (topic_index, known) in &mut self.topic_ids {
            let topic = cluster.topic(accumulator.topic_name(*topic_index));
            *known = topic.map(|topic| topic.id).filter(|id| *id != TopicId::ZERO).unwrap_or(*known);
        }
    }

    /// Partitions that have something to send, by leader.
    fn ready(&mut self, now: Instant, cluster: &Cluster) -> BTreeMap<BrokerId, Vec<Slot>> {
        let is_urgent = self.common.is_urgent();
        let mut slots: BTreeSet<Slot> = BTreeSet::new();
        slots.extend(self.pipelines.iter().filter(|(_, pipeline)| pipeline.due(now).is_some()).map(|(slot, _)| *slot));
        let accumulator = self.common.lock();
        for slot in accumulator.active() {
            if self.has_room(slot) && accumulator.ready_at(slot, is_urgent).is_some_and(|at| at <= now) {
                slots.insert(slot);
            }
        }
        let mut by_leader: BTreeMap<BrokerId, Vec<Slot>> = BTreeMap::new();
        for slot in slots {
            let topic = accumulator.topic_name(slot.topic_index);
            match cluster.leader(topic, slot.partition()) {
                Some((leader, _)) => by_leader.entry(leader).or_default().push(slot),
                None => {
                    self.stale.insert(Arc::clone(topic));
                }
            }
        }
        by_leader
    }

    /// Whether a partition's next batch may be taken.
    fn has_room(&self, slot: Slot) -> bool {
        self.pipelines.get(&slot).is_none_or(Pipeline::has_room) && !self.building.contains(&slot)
    }

    /// Sends one request with a batch of each of these partitions, as many as fit. Whether there was any.
    fn send_to(&mut self, now: Instant, broker: BrokerId, mut slots: Vec<Slot>, cluster: &Cluster) -> bool {
        let turn = self.turn % slots.len().max(1);
        slots.rotate_left(turn);
        self.turn = self.turn.wrapping_add(1);
        let mut bytes = 0;
        let mut chosen: BTreeMap<usize, Vec<PartitionProduceData>> = BTreeMap::new();
        let mut batches = Vec::new();
        for slot in slots {
            let Some((due, batch)) = self.next_batch(now, slot) else { continue };
            if bytes > 0 && bytes + batch.bytes().len() > self.config.request_bytes_max {
                break;
            }
            bytes += batch.bytes().len();
            let pipeline = self.pipelines.get_mut(&slot).expect("it has the batch");
            pipeline.mark_sent(due.number);
            let records = Some(Records::from(batch.into_bytes()));
            let data = PartitionProduceData { index: slot.partition().0, records };
            chosen.entry(slot.topic_index).or_default().push(data);
            batches.push((slot, due.number));
        }
        if batches.is_empty() {
            return false;
        }
        let (topic_data, has_ids) = self.topic_data(chosen, cluster);
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.config.acks.to_wire(),
            timeout_ms: i32::try_from(self.config.broker_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data,
        };
        self.post_request(broker, request, if has_ids { i16::MAX } else { 12 }, batches);
        true
    }

    fn topic_data(
        &mut self,
        chosen: BTreeMap<usize, Vec<PartitionProduceData>>,
        cluster: &Cluster,
    ) -> (Vec<TopicProduceData>, bool) {
        let (accumulator, known) = (self.common.lock(), &mut self.topic_ids);
        let mut has_ids = true;
        let data = chosen.into_iter().map(|(topic_index, partition_data)| {
            let name = accumulator.topic_name(topic_index);
            let topic_id = cluster.topic(name).map(|topic| topic.id).unwrap_or_default();
            if topic_id == TopicId::ZERO {
                has_ids = false;
            } else {
                known.entry(topic_index).or_insert(topic_id);
            }
            TopicProduceData { name: (**name).into(), topic_id, partition_data }
        });
        let data = data.collect();
        (data, has_ids)
    }

    fn post_request(
        &mut self,
        broker: BrokerId,
        request: ProduceRequest,
        version_max: i16,
        batches: Vec<(Slot, BatchNumber)>,
    ) {
        let number = self.next_request;
        self.next_request += 1;
        *self.in_flight.entry(broker).or_insert(0) += 1;
        self.sent.insert(number, Sent { broker, batches });
        let post = self.post.clone();
        // An error means that the task is gone: nobody waits for the answer.
        let reply = ReplyTo::new(move |outcome| drop(post.send(Event::Answer(number, outcome))));
        let call = Call {
            request: request.into(),
            versions: 3..=version_max,
            patience: self.client.config().request_timeout,
            has_reply: self.config.acks != Acks::None,
            reply,
        };
        self.pool.call(Target::Broker(broker), call);
    }

    /// The partition's next batch with the header that it is sent with: one that is under way already, or the next one that is
    /// ready.
    fn next_batch(&mut self, now: Instant, slot: Slot) -> Option<(Due, Batch)> {
        let identity = match self.id {
            IdState::Has(identity) => Some(identity),
            _ => None,
        };
        let batches_max = self.config.in_flight_max;
        self.pipelines.entry(slot).or_insert_with(|| Pipeline::new(identity, batches_max));
        while self.pipelines[&slot].due(now).is_none() && self.has_room(slot) {
            let is_urgent = self.common.is_urgent();
            let open = {
                let mut accumulator = self.common.lock();
                let is_ready = accumulator.ready_at(slot, is_urgent).is_some_and(|at| at <= now);
                if is_ready { accumulator.pop(slot) } else { None }
            };
            self.seal(slot, open?);
        }
        let pipeline = self.pipelines.get_mut(&slot)?;
        let due = pipeline.due(now)?;
        let sealed = pipeline.batch_mut(due.number)?;
        if let Some(Identity { id, epoch }) = due.identity {
            let header = sealed.batch.header();
            if (header.producer_id, header.producer_epoch, header.base_sequence) != (id, epoch, due.base_sequence) {
                sealed.batch = with_producer(&sealed.batch, id, epoch, due.base_sequence);
            }
        }
        sealed.settler.note_sent();
        Some((due, sealed.batch.clone()))
    }

    /// Builds a batch, at once or elsewhere.
    fn seal(&mut self, slot: Slot, open: OpenBatch) {
        let upcoming = self.pipelines.get(&slot).map(Pipeline::upcoming).expect("made by the caller");
        let Some(cost) = Built::cost(&open, self.config.compression) else {
            return self.take_built(slot, Built::new(open, upcoming));
        };
        self.building.insert(slot);
        let (env, post) = (self.client.env().clone(), self.post.clone());
        let shard = env.current_shard();
        let own_env = env.clone();
        let work = async move {
            let built = own_env.offload(cost, move || Box::new(Built::new(open, upcoming))).await;
            // An error means that the task is gone, and with it who waits.
            drop(post.send(Event::Built(slot, built)));
        };
        drop(env.spawn(shard, "client.compress", work));
    }

    fn take_built(&mut self, slot: Slot, built: Built) {
        let Built { batch, record_count, settler, created_at, reserved_bytes, birth } = built;
        let Some(pipeline) = self.pipelines.get_mut(&slot) else { return };
        match batch {
            Ok(batch) => {
                let deadline = created_at + self.config.delivery_timeout;
                let sealed = Sealed { batch, settler, reserved_bytes, birth, last_error: None };
                pipeline.push(sealed, record_count, deadline);
            }
            Err(error) => {
                settler.failed(Written::No, ClientError::Config(format!("the batch cannot be built: {error}")));
                self.common.settled(birth, reserved_bytes);
            }
        }
    }

    // ---- answers ----

    fn handle_answer(&mut self, now: Instant, request: u64, outcome: Result<Option<Answer>, ClientError>) {
        let Some(Sent { broker, batches }) = self.sent.remove(&request) else { return };
        if let Some(count) = self.in_flight.get_mut(&broker) {
            *count -= 1;
        }
        match outcome {
            Ok(None) => {
                for (slot, number) in batches {
                    self.acknowledge(slot, number, Landed { base_offset: None, append_time: None });
                }
            }
            Ok(Some(Answer { response: Response::Produce(response), version })) => {
                self.take_response(now, &batches, &response, version);
            }
            Ok(Some(answer)) => unreachable!("a {} reply to a produce request", answer.response.api()),
            Err(error) => {
                for (slot, number) in batches {
                    self.refuse(now, slot, number, error.clone());
                }
            }
        }
    }

    fn take_response(
        &mut self,
        now: Instant,
        batches: &[(Slot, BatchNumber)],
        response: &ProduceResponse,
        version: i16,
    ) {
        let cluster = self.client.cluster();
        for (slot, number) in batches {
            let name = Arc::clone(self.common.lock().topic_name(slot.topic_index));
            let id = cluster.topic(&name).map(|topic| topic.id);
            let topic = response.responses.iter().find(|topic| {
                // The id may have changed since; a request with one topic needs none to be sure.
                if version >= 13 {
                    Some(topic.topic_id) == id || response.responses.len() == 1
                } else {
                    topic.name == *name
                }
            });
            let index = slot.partition().0;
            let found = topic.and_then(|topic| topic.partition_responses.iter().find(|answer| answer.index == index));
            match found {
                Some(answer) => self.take_partition(now, *slot, *number, &name, answer, response),
                None => {
                    let message = Some("the reply leaves it out");
                    let what = format!("produce to {name}-{index}");
                    let error = ClientError::refused(what, ErrorCode::UnknownServerError.code(), message);
                    self.refuse(now, *slot, *number, error);
                }
            }
        }
    }

    fn take_partition(
        &mut self,
        now: Instant,
        slot: Slot,
        number: BatchNumber,
        name: &Arc<str>,
        answer: &PartitionProduceResponse,
        response: &ProduceResponse,
    ) {
        let code = ErrorCode::from_code(answer.error_code);
        if matches!(code, Some(ErrorCode::None | ErrorCode::DuplicateSequenceNumber)) {
            let base_offset = Some(Offset(answer.base_offset)).filter(|offset| offset.0 >= 0);
            let append_time = Some(Timestamp(answer.log_append_time_ms)).filter(|time| time.0 >= 0);
            return self.acknowledge(slot, number, Landed { base_offset, append_time });
        }
        self.take_hint(name, slot.partition(), answer, response);
        let words = answer.record_errors.iter().find_map(|error| error.batch_index_error_message.as_deref());
        let message = words.or(answer.error_message.as_deref());
        let what = format!("produce to {name}-{}", slot.partition());
        self.refuse(now, slot, number, ClientError::refused(what, answer.error_code, message));
    }

    fn take_hint(
        &self,
        name: &str,
        partition: PartitionIndex,
        answer: &PartitionProduceResponse,
        response: &ProduceResponse,
    ) {
        let leader = &answer.current_leader;
        let endpoint = response.node_endpoints.iter().find(|node| node.node_id == leader.leader_id);
        let address = endpoint.and_then(|node| Some(BrokerAddress::new(&node.host, u16::try_from(node.port).ok()?)));
        let hint = LeaderHint {
            partition,
            leader: BrokerId(leader.leader_id),
            leader_epoch: LeaderEpoch(leader.leader_epoch),
            address,
        };
        self.client.shared().update_cluster(|cluster| cluster.apply_hint(name, &hint));
    }

    fn acknowledge(&mut self, slot: Slot, number: BatchNumber, landed: Landed) {
        let Some(pipeline) = self.pipelines.get_mut(&slot) else { return };
        if let Some(sealed) = pipeline.handle_success(number) {
            sealed.settler.landed(landed);
            self.common.settled(sealed.birth, sealed.reserved_bytes);
        }
    }

    fn refuse(&mut self, now: Instant, slot: Slot, number: BatchNumber, error: ClientError) {
        if is_stale_metadata(&error) {
            let name = Arc::clone(self.common.lock().topic_name(slot.topic_index));
            self.stale.insert(name);
        }
        let Some(pipeline) = self.pipelines.get_mut(&slot) else { return };
        let failure = if self.config.acks == Acks::None { Failure::Rejected } else { failure_of(&error) };
        let pause = self.client.shared().backoff().pause(pipeline.attempts(number), &mut self.rng);
        if let Some(sealed) = pipeline.batch_mut(number) {
            // That a sequence does not fit says less than why nobody knows whether the batch is there.
            let says_less = matches!(failure, Failure::OutOfOrder | Failure::InvalidEpoch);
            if !says_less || sealed.last_error.is_none() {
                sealed.last_error = Some(error.clone());
            }
        }
        match pipeline.handle_failure(number, failure, now + pause) {
            None | Some(Verdict::Again) => {}
            Some(Verdict::Split) => self.split(slot, number, error),
            Some(Verdict::Failed(sealed, written)) => {
                let acks_none = self.config.acks == Acks::None && failure_of(&error) == Failure::Lost;
                self.fail(sealed, if acks_none { Written::Unknown } else { written }, error);
            }
            Some(Verdict::Gone(sealed)) => self.common.settled(sealed.birth, sealed.reserved_bytes),
        }
    }

    /// Cuts a batch that was refused as too large in two.
    fn split(&mut self, slot: Slot, number: BatchNumber, error: ClientError) {
        let Some(pipeline) = self.pipelines.get_mut(&slot) else { return };
        let Some(sealed) = pipeline.batch_mut(number) else { return };
        let name = Arc::clone(self.common.lock().topic_name(slot.topic_index));
        let codec = (self.config.compression, self.config.compression_level);
        match split(&sealed.batch, codec, &name, slot.partition(), sealed.reserved_bytes, sealed.birth) {
            Ok(parts) => {
                let firsts = parts.iter().scan(0, |first, (_, count)| {
                    let this = *first;
                    *first += count;
                    Some(this)
                });
                let settlers: Vec<_> = firsts.zip(parts.iter().map(|(part, _)| &part.settler)).collect();
                sealed.settler.split(&settlers);
                let birth = sealed.birth;
                let mut accumulator = self.common.lock();
                (1..parts.len()).for_each(|_| accumulator.add_part(birth));
                drop(pipeline.replace(number, parts));
            }
            Err(_) => {
                // It was built here: it can be read. Should it not, it is refused like any other.
                if let Some((sealed, written)) = pipeline.reject(number) {
                    self.fail(sealed, written, error);
                }
            }
        }
    }

    fn fail(&mut self, sealed: Sealed, written: Written, error: ClientError) {
        sealed.settler.failed(written, error);
        self.common.settled(sealed.birth, sealed.reserved_bytes);
    }

    // ---- leaders ----

    fn refresh(&mut self, now: Instant) {
        if !self.wants_refresh() || self.refresh_after > now {
            return;
        }
        self.is_refreshing = true;
        let topics = core::mem::take(&mut self.stale).into_iter().collect();
        let post = self.post.clone();
        // An error means that the task is gone.
        self.client.refresh_then(topics, move |_| drop(post.send(Event::Refreshed)));
    }

    /// Whether a leader is not known, or nobody whom to ask for a producer id.
    fn wants_refresh(&self) -> bool {
        let knows_nobody = || matches!(self.id, IdState::Wanted { .. }) && self.client.cluster().brokers.is_empty();
        !self.is_refreshing && (!self.stale.is_empty() || knows_nobody())
    }

    /// When to look again without being told to: moments after `now`, for which everything was done that can be.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let has_id = matches!(self.id, IdState::Has(_) | IdState::None);
        let pipelines = self.pipelines.iter();
        let under_way = pipelines.filter_map(|(_, pipeline)| pipeline.next_deadline(now)).min();
        let is_urgent = self.common.is_urgent();
        let accumulator = self.common.lock();
        let taken = accumulator.active().filter_map(|slot| {
            let late = accumulator.first_created_at(slot)? + self.config.delivery_timeout;
            let has_room = has_id && self.has_room(slot);
            let ready = accumulator.ready_at(slot, is_urgent).filter(|_| has_room);
            Some(ready.filter(|ready| *ready > now).map_or(late, |ready| ready.min(late)))
        });
        let taken = taken.min();
        let id = match self.id {
            IdState::Wanted { not_before, .. } => Some(not_before),
            _ => None,
        };
        let refresh = self.wants_refresh().then_some(self.refresh_after);
        let all = under_way.into_iter().chain(taken).chain(id).chain(refresh);
        // What was due and was not sent waits for an answer, a leader or memory, not for the time.
        all.filter(|at| *at > now).min()
    }
}

fn late(config: &ProducerConfig, last: Option<ClientError>) -> ClientError {
    ClientError::TimedOut {
        what: "delivery of the record".to_owned(),
        after: config.delivery_timeout,
        last: last.map(Box::new),
    }
}

fn refused(what: &str, code: ErrorCode) -> ClientError {
    ClientError::refused(what, code.code(), None)
}
