//! What becomes of this node's links, for those who send over them.
//!
//! Invariant: a listener that is slow hears the last event of each link, so that what waits is bounded by the number of links. A
//! [`PeerEvent::Connected`] therefore also means that what was sent before it may be lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use quipu_base::BrokerId;
use tokio::sync::Notify;

use crate::{
    hello::{Lane, PeerIdentity, Refusal},
    peers::lock,
};

/// Something happened to a link that this node makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerEvent {
    /// It is up. What was sent before may be lost.
    Connected(PeerIdentity, Lane),
    /// It broke or could not be made. What was queued is lost.
    Lost {
        /// The other node.
        node: BrokerId,
        /// Which link.
        lane: Lane,
        /// Nobody listens at the node's address: the process that did has ended.
        is_absent: bool,
    },
    /// It was refused. What was queued is lost.
    Refused {
        /// The node that was called.
        node: BrokerId,
        /// Which link.
        lane: Lane,
        /// Why.
        reason: Refusal,
    },
}

impl PeerEvent {
    fn link(&self) -> (BrokerId, Lane) {
        match self {
            Self::Connected(peer, lane) => (peer.node_id, *lane),
            Self::Lost { node, lane, .. } | Self::Refused { node, lane, .. } => (*node, *lane),
        }
    }
}

#[derive(Default)]
struct Pending {
    events: Mutex<VecDeque<PeerEvent>>,
    wake: Notify,
}

/// Events from the moment on at which this was made.
pub struct Events(Arc<Pending>);

impl Events {
    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> PeerEvent {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.0.wake.notified().await;
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<PeerEvent> {
        lock(&self.0.events).pop_front()
    }
}

/// Tells all who listen.
#[derive(Default)]
pub(crate) struct Teller(Mutex<Vec<Weak<Pending>>>);

impl Teller {
    pub(crate) fn listen(&self) -> Events {
        let pending = Arc::<Pending>::default();
        lock(&self.0).push(Arc::downgrade(&pending));
        Events(pending)
    }

    pub(crate) fn tell(&self, event: &PeerEvent) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let Some(pending) = listener.upgrade() else { return false };
            let mut events = lock(&pending.events);
            events.retain(|earlier| earlier.link() != event.link());
            events.push_back(event.clone());
            drop(events);
            pending.wake.notify_one();
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_hears_the_last_event_of_each_link() {
        let teller = Teller::default();
        let mut slow = teller.listen();
        let lost = |node, lane| PeerEvent::Lost { node: BrokerId(node), lane, is_absent: false };
        drop(teller.listen());
        let peer = PeerIdentity {
            node_id: BrokerId(1),
            directory_id: quipu_base::DirectoryId::ZERO,
            start_id: [0; 16],
            broker_epoch: None,
        };
        teller.tell(&lost(1, Lane::Quorum));
        teller.tell(&lost(1, Lane::Control));
        teller.tell(&lost(2, Lane::Quorum));
        teller.tell(&PeerEvent::Connected(peer, Lane::Quorum));
        let expected = [lost(1, Lane::Control), lost(2, Lane::Quorum), PeerEvent::Connected(peer, Lane::Quorum)];
        for event in expected {
            assert_eq!(slow.try_next(), Some(event));
        }
        assert_eq!(slow.try_next(), None);
        assert_eq!(lock(&teller.0).len(), 1, "who went is forgotten");
    }
}
