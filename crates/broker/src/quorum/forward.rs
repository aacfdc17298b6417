//! Requests on their way to the active controller, wherever that is, and its answers on their way back.
//!
//! ```text
//! asked here -> this node leads: taken on      -> answered
//!            -> another leads: sent to it      -> answered, once what it changed is applied here
//!            -> nobody leads: waits
//! sent, and the receiver says that it does not lead: asked again soon
//! sent, and the link is lost: asked again if twice is as good as once, or else unknown
//! ```
//!
//! Invariants
//! - Every request is answered once, at its deadline at the latest.
//! - A request that may have been carried out is not sent again, unless doing it twice is as good as doing it once.
//!
//! Not here: deciding (`control`).

use core::time::Duration;
use std::collections::BTreeMap;

use quipu_base::{BrokerId, Offset};
use quipu_controller::{AnyRequest, Lost, decode_answer, encode_answer};
use quipu_env::{Clock, Env, Instant};
use quipu_peer::{Frame, Lane, Received};
use tokio::sync::oneshot;

use super::{
    Quorum,
    control::{Asker, Job, Work},
    handle::{AskError, CommitError, Outcome},
    messages::{self, Failure, Message},
};

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Requests of this node that may be under way.
const FORWARDED_MAX: usize = 4096;

/// Names a request at the node that asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ticket(pub(super) u64);

struct Forward {
    request: AnyRequest,
    reply: oneshot::Sender<Outcome>,
    deadline: Instant,
    place: Place,
}

enum Place {
    /// With nobody, until then.
    Here { retry_at: Instant },
    /// With a node, perhaps this one.
    Sent { to: BrokerId },
    /// Answered, and waiting until everything before the offset is applied here.
    Answered { offset: Offset, outcome: Outcome },
}

/// The requests of this node.
pub(super) struct Forwarded {
    last: u64,
    requests: BTreeMap<Ticket, Forward>,
}

impl Forwarded {
    /// `last` is drawn at random: an answer to an earlier start of the node must find nothing.
    pub(super) fn new(last: u64) -> Self {
        Self { last, requests: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, request: AnyRequest, reply: oneshot::Sender<Outcome>, deadline: Instant) {
        if self.requests.len() >= FORWARDED_MAX {
            let error = CommitError::NoController { leader: None };
            // Who asked may be gone, here and below.
            return drop(reply.send(Err(AskError::Commit(error))));
        }
        self.last = self.last.wrapping_add(1);
        let place = Place::Here { retry_at: Instant::ZERO };
        self.requests.insert(Ticket(self.last), Forward { request, reply, deadline, place });
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = |forward: &Forward| match forward.place {
            Place::Here { retry_at } => forward.deadline.min(retry_at),
            Place::Sent { .. } | Place::Answered { .. } => forward.deadline,
        };
        self.requests.values().map(due).min()
    }

    /// Somebody else leads: whoever waits may try.
    pub(super) fn retry(&mut self, now: Instant) {
        for forward in self.requests.values_mut() {
            if let Place::Here { retry_at } = &mut forward.place {
                *retry_at = now;
            }
        }
    }

    /// Everything before `applied` is applied: hands out the answers that waited for it.
    pub(super) fn release(&mut self, applied: Offset) {
        let is_ready =
            |forward: &mut Forward| matches!(forward.place, Place::Answered { offset, .. } if offset <= applied);
        let ready: Vec<_> = self.requests.extract_if(.., |_, forward| is_ready(forward)).collect();
        for (_, forward) in ready {
            if let Place::Answered { outcome, .. } = forward.place {
                drop(forward.reply.send(outcome));
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, from: BrokerId, offset: Offset, outcome: Outcome) {
        if let Some(forward) = self.requests.get_mut(&ticket)
            && matches!(forward.place, Place::Sent { to } if to == from)
        {
            forward.place = Place::Answered { offset, outcome };
        }
    }

    /// The request was not carried out: it is tried again.
    fn try_again(&mut self, ticket: Ticket, from: BrokerId, retry_at: Instant) {
        if let Some(forward) = self.requests.get_mut(&ticket)
            && matches!(forward.place, Place::Sent { to } if to == from)
        {
            forward.place = Place::Here { retry_at };
        }
    }

    /// What was sent to the node may have been lost on the way, or its answer.
    fn lose(&mut self, node: BrokerId, retry_at: Instant) {
        for forward in self.requests.values_mut() {
            if matches!(forward.place, Place::Sent { to } if to == node) {
                forward.place = if is_repeatable(&forward.request) {
                    Place::Here { retry_at }
                } else {
                    let outcome = Err(AskError::Commit(CommitError::Unknown));
                    Place::Answered { offset: Offset::ZERO, outcome }
                };
            }
        }
    }

    fn expire(&mut self, now: Instant, leader: Option<BrokerId>) {
        let expired: Vec<_> = self.requests.extract_if(.., |_, forward| forward.deadline <= now).collect();
        for (_, forward) in expired {
            let outcome = match forward.place {
                Place::Here { .. } => Err(AskError::Commit(CommitError::NoController { leader })),
                Place::Sent { .. } => Err(AskError::Commit(CommitError::Unknown)),
                // It was done, but this node has not heard of it.
                Place::Answered { outcome, .. } => outcome,
            };
            drop(forward.reply.send(outcome));
        }
    }
}

/// Whether doing it twice is as good as doing it once.
const fn is_repeatable(request: &AnyRequest) -> bool {
    match request {
        AnyRequest::RegisterBroker(_)
        | AnyRequest::UnfenceBroker(_)
        | AnyRequest::FenceBroker(_)
        | AnyRequest::ControlledShutdown(_)
        | AnyRequest::AllocateProducerIds(_)
        | AnyRequest::AskPartitions(_) => true,
        AnyRequest::UnregisterBroker(_)
        | AnyRequest::CreateTopics(_)
        | AnyRequest::CreatePartitions(_)
        | AnyRequest::DeleteTopics(_)
        | AnyRequest::AlterConfigs(_)
        | AnyRequest::ReplaceConfigs(_)
        | AnyRequest::ElectPreferred(_)
        | AnyRequest::ElectUnclean(_)
        | AnyRequest::UpdateFeatures(_)
        | AnyRequest::AlterPartitionReassignments(_) => false,
    }
}

impl<E: Env> Quorum<E> {
    /// Passes on what waits here.
    pub(super) fn route(&mut self, now: Instant) {
        let leader = self.leader.map(|leader| leader.id);
        self.forwarded.expire(now, leader);
        self.forwarded.release(self.applied);
        let is_due = |forward: &Forward| matches!(forward.place, Place::Here { retry_at } if retry_at <= now);
        let due: Vec<Ticket> =
            self.forwarded.requests.iter().filter(|(_, forward)| is_due(forward)).map(|(ticket, _)| *ticket).collect();
        for ticket in due {
            self.route_one(now, ticket, leader);
        }
    }

    fn route_one(&mut self, now: Instant, ticket: Ticket, leader: Option<BrokerId>) {
        let me = self.settings.me.id;
        let Some(forward) = self.forwarded.requests.get_mut(&ticket) else { return };
        forward.place = Place::Here { retry_at: now + RETRY_PAUSE };
        let Some(leader) = leader else { return };
        let request = forward.request.clone();
        if leader == me {
            let asker = Asker { node: me, ticket };
            if self.take_on(Job { work: Work::Asked(request), asker: Some(asker) }).is_ok() {
                self.set_place(ticket, Place::Sent { to: me });
            }
            return;
        }
        match request.encode() {
            Ok(bytes) => {
                if self.say(leader, &Message::Request { id: ticket.0, request: bytes.into() }) {
                    self.set_place(ticket, Place::Sent { to: leader });
                }
            }
            Err(error) => {
                let outcome = Err(AskError::Commit(CommitError::Forward(error)));
                self.set_place(ticket, Place::Answered { offset: Offset::ZERO, outcome });
                self.forwarded.release(self.applied);
            }
        }
    }

    fn set_place(&mut self, ticket: Ticket, place: Place) {
        if let Some(forward) = self.forwarded.requests.get_mut(&ticket) {
            forward.place = place;
        }
    }

    /// Queues a message for a node. Whether it was taken.
    pub(super) fn say(&self, node: BrokerId, message: &Message) -> bool {
        self.peers.send(node, Lane::Control, Frame::new(messages::encode(message))).is_ok()
    }

    /// Answers a request that this node decided. What it changed is before `offset`.
    pub(super) fn answer(&mut self, asker: Asker, offset: Offset, outcome: Outcome) {
        if asker.node == self.settings.me.id {
            self.forwarded.answer(asker.ticket, asker.node, offset, outcome);
            self.forwarded.release(self.applied);
            return;
        }
        let id = asker.ticket.0;
        let message = match outcome {
            Ok(reply) => answer_of(id, offset, &Ok(reply)),
            Err(AskError::Declined(error)) => answer_of(id, offset, &Err(error)),
            Err(AskError::Commit(error)) => Message::Failed { id, why: failure(&error) },
        };
        self.say(asker.node, &message);
    }

    /// This node can't take the request on: it was not carried out.
    pub(super) fn turn_away(&mut self, asker: Asker) {
        let now = self.env.clock().now();
        if asker.node == self.settings.me.id {
            self.forwarded.try_again(asker.ticket, asker.node, now + RETRY_PAUSE);
            return;
        }
        let why = Failure::NotController { leader: self.leader.map(|leader| leader.id) };
        self.say(asker.node, &Message::Failed { id: asker.ticket.0, why });
    }

    /// The link to a node was lost.
    pub(super) fn lose_control(&mut self, now: Instant, node: BrokerId) {
        self.forwarded.lose(node, now + RETRY_PAUSE);
        self.probe_session(now, node, Lost::Connection);
    }

    /// A message of another node.
    pub(super) fn on_control(&mut self, received: &Received) {
        let from = received.from.node_id;
        let Some(message) = messages::decode(&received.header) else {
            return tracing::warn!(node = %from, "a message of another node is not understood");
        };
        let now = self.env.clock().now();
        match message {
            Message::Founding(_) => {
                let voters = self.node.voters();
                if !voters.is_empty() {
                    self.say(from, &Message::Founded(voters.clone()));
                }
            }
            Message::Founded(_) | Message::Present | Message::Duplicate { .. } => {}
            Message::Heartbeat(heartbeat) => {
                if heartbeat.broker == from
                    && let Some(reply) = self.hear(now, &heartbeat)
                {
                    self.say(from, &Message::HeartbeatReply(reply));
                }
            }
            Message::HeartbeatReply(reply) => {
                if let Err(error) = reply {
                    tracing::warn!(%error, "the controller does not know this broker as it is");
                }
            }
            Message::Request { id, request } => self.on_request(from, Ticket(id), &request),
            Message::Answer { id, offset, answer } => {
                let outcome = match decode_answer(&answer) {
                    Ok(answer) => answer.map_err(AskError::Declined),
                    Err(error) => Err(AskError::Commit(CommitError::Forward(error))),
                };
                self.forwarded.answer(Ticket(id), from, offset, outcome);
                self.forwarded.release(self.applied);
            }
            Message::Failed { id, why } => self.on_failed(now, from, Ticket(id), why),
            Message::Lagging(lags) => self.serving.lagging().hear(now, from, lags),
            Message::AskReports { id, partitions } => self.ask_shards(from, id, partitions),
            Message::Reports { id, reports } => self.hear_reports(id, from, reports),
        }
    }

    fn on_request(&mut self, from: BrokerId, ticket: Ticket, bytes: &[u8]) {
        let asker = Asker { node: from, ticket };
        let job = match AnyRequest::decode(bytes) {
            Ok(request) => Job { work: Work::Asked(request), asker: Some(asker) },
            Err(error) => {
                tracing::warn!(node = %from, %error, "a request of another node is not understood");
                return self.answer(asker, Offset::ZERO, Err(AskError::Commit(CommitError::Forward(error))));
            }
        };
        if let Err(Some(asker)) = self.take_on(job) {
            self.turn_away(asker);
        }
    }

    fn on_failed(&mut self, now: Instant, from: BrokerId, ticket: Ticket, why: Failure) {
        let outcome = match why {
            Failure::NotController { .. } => return self.forwarded.try_again(ticket, from, now + RETRY_PAUSE),
            Failure::Full => CommitError::Full(quipu_storage::StoreFull),
            Failure::TooLarge => CommitError::TooLarge,
            Failure::Unknown => CommitError::Unknown,
        };
        self.forwarded.answer(ticket, from, Offset::ZERO, Err(AskError::Commit(outcome)));
        self.forwarded.release(self.applied);
    }
}

fn answer_of(id: u64, offset: Offset, answer: &quipu_controller::Answer) -> Message {
    match encode_answer(answer) {
        Ok(bytes) => Message::Answer { id, offset, answer: bytes.into() },
        Err(error) => {
            tracing::warn!(%error, "an answer is too large for another node");
            Message::Failed { id, why: Failure::Unknown }
        }
    }
}

const fn failure(error: &CommitError) -> Failure {
    match error {
        CommitError::Full(_) => Failure::Full,
        CommitError::TooLarge | CommitError::Forward(_) => Failure::TooLarge,
        CommitError::NoController { leader } => Failure::NotController { leader: *leader },
        CommitError::Stopping | CommitError::Unknown => Failure::Unknown,
    }
}
