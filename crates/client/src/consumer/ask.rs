//! What the consumer asks the brokers, and what it makes of the answers.
//!
//! A broker answers the requests of one connection in order, and a fetch waits there until one of its partitions has something
//! new. What is to be read meanwhile (a partition that was added, resumed, sought, or whose records were all given out) is asked
//! for over another connection, by a fetch that does not wait. If that finds nothing, the partition waits with the others, from the
//! next fetch on.
//!
//! Invariants
//! - Two fetches are under way to each broker: one that waits, one that does not. A partition is in one of them, as of one
//!   generation. One other question is under way about each partition.
//! - An answer about a partition counts only if its cursor's generation is still the one that asked.
//!
//! Not here: what the answers mean (`position`, `fetched`).

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{BrokerId, LeaderEpoch, Offset, TopicId};
use quipu_env::{Env, Instant};
use quipu_protocol::{
    ErrorCode, Request, Response,
    messages::{
        fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData},
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
};

use super::{
    Consumer, ConsumerError, Event, Isolation,
    assigned::Assigned,
    fetched::batches,
    position::{Generation, Need},
};
use crate::{
    BrokerAddress, ClientError, ErrorKind, TopicPartition,
    cluster::LeaderHint,
    connection::{Answer, Call, ReplyTo},
    pool::Target,
    producer::{is_stale_code, is_stale_metadata},
};

/// How often a fetch of a batch that the broker itself finds damaged is tried: it may have been the read, or the replica.
const CORRUPT_TRIES: u32 = 5;

/// A partition in a question.
pub(super) struct About {
    partition: TopicPartition,
    /// Which time it was assigned.
    assignment: u64,
    generation: Generation,
    /// Where a fetch begins.
    offset: Offset,
}

/// A partition that is to be fetched.
type Wanted = (About, TopicId, FetchPartition);

/// Of the two fetches to a broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Lane {
    /// Waits at the broker until there is something new.
    Patient,
    /// Is answered at once.
    Quick,
}

/// A question under way.
pub(super) enum Asked {
    Fetch { broker: BrokerId, lane: Lane, about: Vec<(About, TopicId)> },
    Other(About),
}

impl<E: Env> Consumer<E> {
    /// Looks up the leaders of all partitions, if anything may have changed.
    pub(super) fn look_for_leaders(&mut self) {
        let cluster = self.client.cluster();
        if Arc::ptr_eq(&cluster, &self.cluster) && !self.is_changed {
            return;
        }
        self.is_changed = false;
        for (partition, assigned) in &mut self.partitions {
            let topic_id = cluster.topic(&partition.topic).map(|topic| topic.id).unwrap_or_default();
            let is_other =
                topic_id != TopicId::ZERO && assigned.topic_id != TopicId::ZERO && topic_id != assigned.topic_id;
            if topic_id != TopicId::ZERO {
                assigned.topic_id = topic_id;
            }
            if is_other && assigned.cursor.handle_new_topic() {
                assigned.discard();
            }
            let leader = cluster.leader(&partition.topic, partition.partition);
            self.is_stale |= leader.is_none();
            if assigned.cursor.handle_leader(leader) {
                assigned.discard();
            }
        }
        self.cluster = cluster;
    }

    /// Asks everything that can be asked now.
    pub(super) fn ask(&mut self, now: Instant) {
        self.refresh(now);
        let mut fetches: BTreeMap<(BrokerId, Lane), Vec<Wanted>> = BTreeMap::new();
        let mut others = Vec::new();
        for (partition, assigned) in &mut self.partitions {
            let Some((leader, leader_epoch)) = assigned.cursor.leader() else { continue };
            let Some(need) = assigned.cursor.need().filter(|_| assigned.cursor.not_before() <= now) else { continue };
            let generation = assigned.cursor.generation();
            let assignment = assigned.id;
            let about = |offset| About { partition: partition.clone(), assignment, generation, offset };
            match need {
                Need::Records { offset, last_epoch } => {
                    let is_wanted =
                        assigned.has_room(self.config.prefetch_bytes) && assigned.fetching != Some(generation);
                    let may_be_quick = assigned.found_nothing != Some(generation);
                    let lane = [(Lane::Patient, true), (Lane::Quick, may_be_quick)]
                        .into_iter()
                        .find(|(lane, may)| is_wanted && *may && !self.fetching.contains(&(leader, *lane)));
                    if let Some((lane, _)) = lane {
                        assigned.fetching = Some(generation);
                        let wanted = FetchPartition {
                            partition: partition.partition.0,
                            current_leader_epoch: leader_epoch.0,
                            fetch_offset: offset.0,
                            last_fetched_epoch: last_epoch.0,
                            partition_max_bytes: self.config.partition_bytes_max,
                            ..Default::default()
                        };
                        fetches.entry((leader, lane)).or_default().push((about(offset), assigned.topic_id, wanted));
                    }
                }
                _ if assigned.is_asked => {}
                Need::List { timestamp } => {
                    assigned.is_asked = true;
                    others.push((
                        leader,
                        about(Offset::ZERO),
                        list_request(partition, leader_epoch, timestamp, self.config.isolation),
                    ));
                }
                Need::EpochEnd { epoch } => {
                    assigned.is_asked = true;
                    others.push((leader, about(Offset::ZERO), epoch_request(partition, leader_epoch, epoch)));
                }
            }
        }
        for (leader, about, request) in others {
            self.post_question(leader, request, i16::MAX, Asked::Other(about));
        }
        for ((broker, lane), wanted) in fetches {
            self.fetch(broker, lane, wanted);
        }
    }

    fn fetch(&mut self, broker: BrokerId, lane: Lane, mut wanted: Vec<Wanted>) {
        // The first partition of a fetch is served first: they take turns.
        let first = self.turn % wanted.len().max(1);
        wanted.rotate_left(first);
        let has_ids = wanted.iter().all(|(_, topic_id, _)| *topic_id != TopicId::ZERO);
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut about = Vec::with_capacity(wanted.len());
        for (one, topic_id, partition) in wanted {
            let name = &one.partition.topic;
            match topics.iter_mut().find(|topic| topic.topic == **name) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic { topic: (**name).into(), topic_id, partitions: vec![partition] }),
            }
            about.push((one, topic_id));
        }
        let (wait, min_bytes) = match lane {
            Lane::Patient => (self.config.fetch_wait_max, self.config.fetch_bytes_min),
            Lane::Quick => (Duration::ZERO, 0),
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes,
            max_bytes: self.config.fetch_bytes_max,
            isolation_level: self.config.isolation.to_wire(),
            topics,
            ..Default::default()
        };
        self.fetching.insert((broker, lane));
        let version_max = if has_ids { i16::MAX } else { 12 };
        self.post_question(broker, request, version_max, Asked::Fetch { broker, lane, about });
    }

    /// Hands a question over: a fetch on one of the consumer's own connections, of which one is for those that may wait for
    /// records; any other on the client's.
    fn post_question(&mut self, broker: BrokerId, request: impl Into<Request>, version_max: i16, asked: Asked) {
        let number = self.next_question;
        self.next_question += 1;
        let lane = if let Asked::Fetch { lane, .. } = &asked { Some(*lane) } else { None };
        self.asked.insert(number, asked);
        let post = self.post.clone();
        // An error means that the consumer is gone.
        let reply = ReplyTo::new(move |outcome| drop(post.send(Event::Answer(number, outcome))));
        let wait = if lane == Some(Lane::Patient) { self.config.fetch_wait_max } else { Duration::ZERO };
        let patience = self.client.config().request_timeout + wait;
        let call = Call { request: request.into(), versions: 0..=version_max, patience, has_reply: true, reply };
        match lane {
            Some(Lane::Patient) => self.patient_pool.call(Target::Broker(broker), call),
            Some(Lane::Quick) => self.quick_pool.call(Target::Broker(broker), call),
            None => self.client.hand_over(Target::Broker(broker), call),
        }
    }

    fn refresh(&mut self, now: Instant) {
        if !self.is_stale || self.is_refreshing || self.refresh_after > now || self.partitions.is_empty() {
            return;
        }
        self.is_stale = false;
        self.is_refreshing = true;
        let mut topics: Vec<Arc<str>> = self.partitions.keys().map(|partition| Arc::clone(&partition.topic)).collect();
        topics.dedup();
        let post = self.post.clone();
        // An error means that the consumer is gone.
        self.client.refresh_then(topics, move |_| drop(post.send(Event::Refreshed)));
    }

    /// The earliest moment after `now` at which something can be asked that can't be now.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.partitions.values().map(|assigned| assigned.cursor.not_before());
        let refresh = (self.is_stale && !self.is_refreshing).then_some(self.refresh_after);
        waiting.chain(refresh).filter(|at| *at > now).min()
    }

    // ---- answers ----

    pub(super) fn handle(&mut self, event: Event) {
        let now = self.client.now();
        match event {
            Event::Refreshed => {
                self.is_refreshing = false;
                self.is_changed = true;
                self.refresh_after = now + self.client.shared().backoff().pause(1, &mut self.rng);
            }
            Event::Decoded(partition, number, decoded) => {
                if let Some(assigned) = self.partitions.get_mut(&partition) {
                    assigned.handle_decoded(number, decoded);
                }
            }
            Event::Answer(number, outcome) => match (self.asked.remove(&number), outcome) {
                (None, _) => {}
                (Some(Asked::Fetch { broker, lane, about }), outcome) => {
                    self.fetching.remove(&(broker, lane));
                    for (about, _) in &about {
                        if let Some(assigned) = self.asker(about) {
                            assigned.fetching = None;
                        }
                    }
                    self.handle_fetch(now, about, outcome);
                }
                (Some(Asked::Other(about)), outcome) => {
                    let assigned = self.partitions.get_mut(&about.partition);
                    if let Some(assigned) = assigned.filter(|assigned| assigned.id == about.assignment) {
                        assigned.is_asked = false;
                    }
                    self.handle_other(now, &about, outcome);
                }
            },
        }
    }

    /// The partition that a question was about, if the answer still counts.
    fn asker(&mut self, about: &About) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(&about.partition)?;
        let counts = assigned.id == about.assignment && assigned.cursor.generation() == about.generation;
        counts.then_some(assigned)
    }

    fn handle_other(&mut self, now: Instant, about: &About, outcome: Result<Option<Answer>, ClientError>) {
        let response = match outcome {
            Ok(Some(answer)) => answer.response,
            Ok(None) => return,
            Err(error) => return self.trouble(now, about, error),
        };
        match response {
            Response::ListOffsets(response) => {
                let found = response.topics.iter().flat_map(|topic| &topic.partitions).next();
                let (code, offset) = found.map_or((-1, -1), |found| (found.error_code, found.offset));
                if code != 0 {
                    return self.refused(now, about, "find an offset of", code);
                }
                if let Some(assigned) = self.asker(about) {
                    assigned.cursor.handle_listed(Offset(offset));
                }
            }
            Response::OffsetForLeaderEpoch(response) => {
                let found = response.topics.iter().flat_map(|topic| &topic.partitions).next();
                let (code, epoch, end) =
                    found.map_or((-1, -1, -1), |found| (found.error_code, found.leader_epoch, found.end_offset));
                if code != 0 {
                    return self.refused(now, about, "look for truncation of", code);
                }
                if let Some(assigned) = self.asker(about) {
                    assigned.cursor.handle_epoch_end(LeaderEpoch(epoch), Offset(end));
                }
            }
            other => unreachable!("a {} reply to another request", other.api()),
        }
    }

    fn handle_fetch(
        &mut self,
        now: Instant,
        about: Vec<(About, TopicId)>,
        outcome: Result<Option<Answer>, ClientError>,
    ) {
        let (response, version) = match outcome {
            Ok(Some(Answer { response: Response::Fetch(response), version })) => (response, version),
            Ok(Some(answer)) => unreachable!("a {} reply to a fetch", answer.response.api()),
            Ok(None) => return,
            Err(error) => {
                for (about, _) in about {
                    self.trouble(now, &about, error.clone());
                }
                return;
            }
        };
        for (about, topic_id) in about {
            let topic = response.responses.iter().find(|topic| {
                if version >= 13 { topic.topic_id == topic_id } else { topic.topic == *about.partition.topic }
            });
            let index = about.partition.partition.0;
            let data = topic.and_then(|topic| topic.partitions.iter().find(|data| data.partition_index == index));
            match data {
                _ if response.error_code != 0 => self.refused(now, &about, "fetch", response.error_code),
                Some(data) => self.handle_data(now, &about, data, &response),
                // Nothing is said of a partition of which there is nothing new.
                None => {
                    if let Some(assigned) = self.asker(&about) {
                        assigned.found_nothing = Some(about.generation);
                    }
                }
            }
        }
    }

    fn handle_data(&mut self, now: Instant, about: &About, data: &PartitionData, response: &FetchResponse) {
        if data.error_code != 0 {
            self.take_hint(about, data, response);
            return self.refused(now, about, "fetch", data.error_code);
        }
        let (rules, isolation) = (self.rules(), self.config.isolation);
        let Some(assigned) = self.asker(about) else { return };
        let end = if isolation == Isolation::ReadCommitted { data.last_stable_offset } else { data.high_watermark };
        if end >= 0 {
            assigned.readable_end = Some(Offset(end));
        }
        let parting = &data.diverging_epoch;
        if parting.epoch >= 0 || parting.end_offset >= 0 {
            assigned.discard();
            return assigned.cursor.handle_epoch_end(LeaderEpoch(parting.epoch), Offset(parting.end_offset));
        }
        let bytes = data.records.clone().and_then(quipu_protocol::Records::into_bytes).unwrap_or_default();
        let aborted = match isolation {
            Isolation::ReadCommitted => Some(data.aborted_transactions.as_deref().unwrap_or_default()),
            Isolation::ReadUncommitted => None,
        };
        let (found, bad) = batches(bytes, about.offset, aborted, rules);
        assigned.found_nothing = found.is_empty().then_some(about.generation);
        found.into_iter().for_each(|one| assigned.push(one));
        if let Some(bad) = bad {
            let (partition, cause) = (about.partition.clone(), bad.error.to_string());
            assigned.stop(ConsumerError::Corrupt { partition, position: bad.at, cause });
        }
    }

    fn take_hint(&mut self, about: &About, data: &PartitionData, response: &FetchResponse) {
        let leader = &data.current_leader;
        let endpoint = response.node_endpoints.iter().find(|node| node.node_id == leader.leader_id);
        let address = endpoint.and_then(|node| Some(BrokerAddress::new(&node.host, u16::try_from(node.port).ok()?)));
        let hint = LeaderHint {
            partition: about.partition.partition,
            leader: BrokerId(leader.leader_id),
            leader_epoch: LeaderEpoch(leader.leader_epoch),
            address,
        };
        self.client.shared().update_cluster(|cluster| cluster.apply_hint(&about.partition.topic, &hint));
    }

    fn refused(&mut self, now: Instant, about: &About, doing: &str, code: i16) {
        let known = ErrorCode::from_code(code);
        if known == Some(ErrorCode::OffsetOutOfRange) {
            if let Some(assigned) = self.asker(about) {
                assigned.handle_out_of_range();
            }
            return;
        }
        self.is_stale |= known.is_some_and(is_stale_code);
        self.trouble(now, about, ClientError::refused(format!("{doing} {}", about.partition), code, None));
    }

    /// A question failed: it is asked again after a pause, or the partition stops.
    fn trouble(&mut self, now: Instant, about: &About, error: ClientError) {
        self.is_stale |= is_stale_metadata(&error);
        let failures = self.asker(about).map_or(0, |assigned| assigned.cursor.failures);
        let pause = self.client.shared().backoff().pause(failures.saturating_add(1), &mut self.rng);
        let Some(assigned) = self.asker(about) else { return };
        let passes = error.kind() == ErrorKind::Retriable || error.code() == Some(ErrorCode::UnknownServerError);
        let is_corrupt = error.code() == Some(ErrorCode::CorruptMessage);
        if is_corrupt && failures.saturating_add(1) >= CORRUPT_TRIES {
            let (partition, cause) = (about.partition.clone(), error.to_string());
            assigned.stop(ConsumerError::Corrupt { partition, position: about.offset, cause });
        } else if passes {
            assigned.cursor.handle_trouble(now + pause);
        } else {
            assigned.stop(ConsumerError::Client { partition: Some(about.partition.clone()), cause: error });
        }
    }
}

fn list_request(
    partition: &TopicPartition,
    leader_epoch: LeaderEpoch,
    timestamp: i64,
    isolation: Isolation,
) -> Request {
    let wanted = ListOffsetsPartition {
        partition_index: partition.partition.0,
        current_leader_epoch: leader_epoch.0,
        timestamp,
    };
    let topic = ListOffsetsTopic { name: (*partition.topic).into(), partitions: vec![wanted] };
    let isolation_level = isolation.to_wire();
    ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], timeout_ms: 30_000 }.into()
}

fn epoch_request(partition: &TopicPartition, leader_epoch: LeaderEpoch, epoch: LeaderEpoch) -> Request {
    let wanted = OffsetForLeaderPartition {
        partition: partition.partition.0,
        current_leader_epoch: leader_epoch.0,
        leader_epoch: epoch.0,
    };
    let topic = OffsetForLeaderTopic { topic: (*partition.topic).into(), partitions: vec![wanted] };
    OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] }.into()
}
