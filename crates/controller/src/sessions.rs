//! Which brokers are heard of: heartbeats in, brokers to fence out. In the memory of the active controller only.
//!
//! ```text
//! (none)  -> alive     a heartbeat under the current broker epoch, or the broker is unfenced in the image
//! alive   -> alive     each further heartbeat: the deadline moves
//! alive   -> due       the deadline passed: the shell has a FenceBroker decided; asked again after another timeout if that failed
//! any     -> (none)    the broker registered anew, or is gone
//! ```
//!
//! Invariants
//! - A broker that is unfenced in the newest image has a session, and so a deadline, once [`Sessions::follow`] has seen the image.
//! - A new active controller begins with full sessions: nobody is fenced because another controller was slow.
//! - Nothing here is needed for safety: a broker fenced too early or too late costs time.
//!
//! Not here: what fencing does (`fencing`). Read `doubts` next.

use core::time::Duration;
use std::collections::BTreeMap;

use quipu_base::{BrokerEpoch, BrokerId, Offset};
use quipu_env::Instant;
use quipu_metadata::Image;
use serde::{Deserialize, Serialize};

use crate::{
    ControlledShutdown, ControllerError, Doubts, FenceBroker, UnfenceBroker,
    brokers::check_broker_epoch,
    limits::{PROBE_HEARTBEATS, SILENT_HEARTBEATS},
};

/// How long is how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionSettings {
    /// `broker.session.timeout.ms`: a broker not heard of for this long is fenced.
    pub timeout: Duration,
    /// `broker.heartbeat.interval.ms`: how often brokers say that they live.
    pub heartbeat_interval: Duration,
}

/// What is known of a broker whose connection was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Nothing more.
    Connection,
    /// Nobody listens at its address.
    Process,
}

/// A broker says that it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
    /// The offset after the last metadata record that it has applied.
    pub metadata_offset: Offset,
    /// What it wants.
    pub wants: Wants,
}

/// What a broker wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wants {
    /// To stay fenced for now: it isn't ready.
    Wait,
    /// To serve.
    Serve,
    /// To stop.
    ShutDown,
}

/// What the broker is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Whether the controller keeps it from serving. A request to change that may be under way.
    pub is_fenced: bool,
    /// Whether it has applied what it must have applied to serve.
    pub is_caught_up: bool,
    /// Whether it may stop now.
    pub may_stop: bool,
}

/// A heartbeat taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// What to answer.
    pub reply: HeartbeatReply,
    /// What to decide because of it.
    pub decide: Option<HeartbeatDecision>,
}

/// What a heartbeat asks to be decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeartbeatDecision {
    /// Nobody waits for the outcome: the next heartbeat tells.
    Unfence(UnfenceBroker),
    /// The broker may stop if its progress has nothing left.
    ShutDown(ControlledShutdown),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    broker_epoch: BrokerEpoch,
    last_seen: Instant,
    deadline: Instant,
    metadata_offset: Offset,
    /// What it must have applied before it is unfenced; none while it is not fenced.
    catch_up_to: Option<Offset>,
}

/// The sessions of all brokers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sessions {
    settings: SessionSettings,
    brokers: BTreeMap<BrokerId, Session>,
    doubts: Doubts,
}

impl Sessions {
    /// The sessions of a controller that becomes active `now`: all of them fresh.
    #[must_use]
    pub fn new(now: Instant, image: &Image, settings: SessionSettings) -> Self {
        let mut sessions = Self { settings, brokers: BTreeMap::new(), doubts: Doubts::new() };
        sessions.follow(now, image);
        sessions
    }

    /// Takes in the newest image: to be called whenever brokers changed in it.
    pub fn follow(&mut self, now: Instant, image: &Image) {
        let is_current = |broker: BrokerId, session: &Session| {
            image.broker(broker).is_some_and(|state| state.broker_epoch == session.broker_epoch)
        };
        self.brokers.retain(|broker, session| is_current(*broker, session));
        for (broker, state) in image.brokers().filter(|(_, state)| !state.fenced) {
            let fresh = self.fresh(now, state.broker_epoch);
            self.brokers.entry(broker).or_insert(fresh).catch_up_to = None;
        }
    }

    /// Takes in a heartbeat. `image` is the newest.
    ///
    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`]: the broker has to register (again).
    pub fn handle_heartbeat(
        &mut self,
        now: Instant,
        image: &Image,
        heartbeat: &Heartbeat,
    ) -> Result<Heard, ControllerError> {
        let Heartbeat { broker, broker_epoch, metadata_offset, wants } = *heartbeat;
        let state = check_broker_epoch(image, broker, broker_epoch)?;
        let fresh = self.fresh(now, broker_epoch);
        let session = self.brokers.entry(broker).or_insert_with(|| fresh.clone());
        if session.broker_epoch != broker_epoch {
            *session = fresh;
        }
        session.last_seen = now;
        session.deadline = now + self.settings.timeout;
        session.metadata_offset = session.metadata_offset.max(metadata_offset);
        let catch_up_to =
            if state.fenced { *session.catch_up_to.get_or_insert(image.next_offset()) } else { Offset::ZERO };
        let is_caught_up = metadata_offset >= catch_up_to;
        let decide = match wants {
            Wants::Serve if state.fenced && is_caught_up => {
                Some(HeartbeatDecision::Unfence(UnfenceBroker { broker, broker_epoch }))
            }
            Wants::ShutDown if !state.fenced => {
                Some(HeartbeatDecision::ShutDown(ControlledShutdown { broker, broker_epoch }))
            }
            _ => None,
        };
        let may_stop = wants == Wants::ShutDown && state.fenced;
        Ok(Heard { reply: HeartbeatReply { is_fenced: state.fenced, is_caught_up, may_stop }, decide })
    }

    /// A connection to the broker was lost: it has to be heard of soon, or its session ends early. If its process seems to have ended,
    /// its next heartbeat has to be there in time.
    pub fn handle_disconnect(&mut self, now: Instant, broker: BrokerId, lost: Lost) {
        let interval = self.settings.heartbeat_interval;
        if let Some(session) = self.brokers.get_mut(&broker) {
            let probe_until = match lost {
                Lost::Connection => now + interval * PROBE_HEARTBEATS,
                Lost::Process => session.last_seen + interval,
            };
            session.deadline = session.deadline.min(probe_until);
        }
    }

    /// When [`Sessions::due`] is to be asked next; none while no broker serves.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let serving = self.brokers.values().filter(|session| session.catch_up_to.is_none());
        serving.map(|session| session.deadline).min()
    }

    /// The brokers to be fenced: those that serve in the newest image and were not heard of in time. Each is told once, and again
    /// after another timeout if it serves still.
    #[must_use]
    pub fn due(&mut self, now: Instant, image: &Image) -> Vec<FenceBroker> {
        self.follow(now, image);
        let mut due = Vec::new();
        for (broker, session) in &mut self.brokers {
            let is_serving = image.broker(*broker).is_some_and(|state| !state.fenced);
            if is_serving && session.deadline <= now {
                session.deadline = now + self.settings.timeout;
                due.push(FenceBroker { broker: *broker, broker_epoch: session.broker_epoch });
            } else if !is_serving && session.catch_up_to.is_none() {
                session.catch_up_to = Some(image.next_offset());
            }
        }
        due
    }

    /// Who is better not elected at this moment: for [`crate::Context`].
    pub fn doubts(&mut self, now: Instant) -> &mut Doubts {
        let patience = self.settings.heartbeat_interval * SILENT_HEARTBEATS;
        let is_silent = |session: &&Session| now - session.last_seen > patience;
        let silent = self.brokers.iter().filter(|(_, session)| is_silent(session)).map(|(broker, _)| *broker).collect();
        self.doubts.refresh(now, silent);
        &mut self.doubts
    }

    /// When the broker was last heard of, or its session began.
    #[must_use]
    pub fn last_seen(&self, broker: BrokerId) -> Option<Instant> {
        self.brokers.get(&broker).map(|session| session.last_seen)
    }

    /// How far the broker has applied the metadata, as it last said.
    #[must_use]
    pub fn metadata_offset(&self, broker: BrokerId) -> Option<Offset> {
        self.brokers.get(&broker).map(|session| session.metadata_offset)
    }

    fn fresh(&self, now: Instant, broker_epoch: BrokerEpoch) -> Session {
        let deadline = now + self.settings.timeout;
        Session { broker_epoch, last_seen: now, deadline, metadata_offset: Offset::ZERO, catch_up_to: None }
    }
}

#[cfg(test)]
mod tests;
