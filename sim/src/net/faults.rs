//! What goes wrong on the way between two machines, and with connections.
//!
//! Faults of a way have a number, by which they end; several may lie on one way. Faults of connections strike those that
//! exist at that moment.
//!
//! Not here: what the others do about it (`transfer`, `connect`).

use std::io;

use bytes::Bytes;
use rand::RngExt;

use super::{
    Latency, NetEvent, NetModel,
    endpoint::{EndpointId, Packet, State},
};

/// More segments than this are not made of one piece of data, however small they should be.
const SEGMENTS_MAX: usize = 256;

/// Nanoseconds between tiny segments.
const SEGMENT_GAPS: core::ops::Range<u64> = 1_000..20_000;

/// Something wrong with one way.
#[derive(Clone, Debug)]
pub(crate) enum LinkFault {
    Latency(Latency),
    Loss { percent: u64 },
    Cut,
    Clog { queue_bytes: u64 },
    Slow { bytes_per_second: u64 },
    Segments { bytes_max: u64 },
    ZeroWindow,
}

/// Something wrong with how a machine answers attempts to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DoorFault {
    Silence,
    Refusal,
}

/// Everything wrong with one way.
#[derive(Default)]
pub(super) struct Trouble {
    faults: Vec<(u64, LinkFault)>,
    clogged_bytes: u64,
    clogged: Vec<EndpointId>,
    /// Until when the slow link is busy with what was sent before.
    busy_until: u64,
}

/// What becomes of a packet whose time has come.
pub(super) enum Passage {
    Through,
    /// It must be sent again.
    Lost,
    /// It waits in the queue of a clog.
    Waits,
}

impl NetModel {
    pub(crate) fn begin_link_fault(&mut self, number: u64, from: usize, to: usize, fault: LinkFault) {
        self.troubles.entry((from, to)).or_default().faults.push((number, fault));
    }

    /// Ends what has that number, and lets go what has waited for it.
    pub(crate) fn end_faults(&mut self, number: u64) {
        let mut freed = Vec::new();
        let mut opened = Vec::new();
        for (way, trouble) in &mut self.troubles {
            let before = trouble.faults.len();
            trouble.faults.retain(|(other, _)| *other != number);
            if trouble.faults.len() == before {
                continue;
            }
            opened.push(*way);
            if !trouble.faults.iter().any(|(_, fault)| matches!(fault, LinkFault::Clog { .. })) {
                trouble.clogged_bytes = 0;
                freed.append(&mut trouble.clogged);
            }
        }
        self.troubles.retain(|_, trouble| !trouble.faults.is_empty());
        self.doors.retain(|(other, _, _)| *other != number);
        let now = self.now;
        self.effects.timers.extend(freed.into_iter().map(|id| (now, NetEvent::Transmit(id))));
        for endpoint in self.endpoints.values_mut() {
            if opened.iter().any(|(from, to)| endpoint.host == *from && endpoint.peer_host == Some(*to)) {
                self.effects.wakers.extend(endpoint.writer.take());
            }
        }
    }

    /// Joins everything that [`Self::set_cut`] has cut.
    pub(crate) fn join_all(&mut self) {
        self.cuts.clear();
    }

    fn find<T>(&self, from: usize, to: usize, of: impl Fn(&LinkFault) -> Option<T>) -> Option<T> {
        if self.troubles.is_empty() {
            return None;
        }
        self.troubles.get(&(from, to))?.faults.iter().rev().find_map(|(_, fault)| of(fault))
    }

    pub(super) fn happened(&mut self, kind: &'static str) {
        self.effects.faults.push(kind);
    }

    /// Whether the way is cut by a fault.
    pub(super) fn is_cut_by_fault(&mut self, from: usize, to: usize) -> bool {
        let is_cut = self.find(from, to, |fault| matches!(fault, LinkFault::Cut).then_some(())).is_some();
        if is_cut {
            self.happened("partition");
        }
        is_cut
    }

    /// Whether something sent once is lost.
    pub(super) fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let percent = self.find(from, to, |fault| match fault {
            LinkFault::Loss { percent } => Some(*percent),
            _ => None,
        });
        let is_lost = percent.is_some_and(|percent| self.fault_rng.random_range(0..100) < percent);
        if is_lost {
            self.happened("loss");
        }
        is_lost
    }

    /// Whether the first packet of an endpoint gets through now, as far as faults decide.
    pub(super) fn passage(&mut self, id: EndpointId, from: usize, to: usize, bytes: u64) -> Passage {
        if self.endpoints.get(&id).is_some_and(|endpoint| endpoint.is_dead) {
            self.happened("half-open");
            return Passage::Lost;
        }
        if self.troubles.is_empty() {
            return Passage::Through;
        }
        if self.is_cut_by_fault(from, to) || self.is_lost(from, to) {
            return Passage::Lost;
        }
        let queue_bytes = self.find(from, to, |fault| match fault {
            LinkFault::Clog { queue_bytes } => Some(*queue_bytes),
            _ => None,
        });
        let Some(queue_bytes) = queue_bytes else { return Passage::Through };
        self.happened("clog");
        let trouble = self.troubles.get_mut(&(from, to)).expect("a fault was found there");
        if trouble.clogged_bytes + bytes > queue_bytes {
            return Passage::Lost;
        }
        trouble.clogged_bytes += bytes;
        trouble.clogged.push(id);
        Passage::Waits
    }

    /// When what is sent now on a way arrives, if a fault decides.
    pub(super) fn troubled_arrival(&mut self, from: usize, to: usize, bytes: u64) -> Option<u64> {
        if self.troubles.is_empty() {
            return None;
        }
        let latency = self.find(from, to, |fault| match fault {
            LinkFault::Latency(latency) => Some(latency.clone()),
            _ => None,
        });
        let rate = self.find(from, to, |fault| match fault {
            LinkFault::Slow { bytes_per_second } => Some(*bytes_per_second),
            _ => None,
        });
        if latency.is_none() && rate.is_none() {
            return None;
        }
        let travels = match latency {
            Some(latency) => {
                self.happened("latency");
                latency.draw(&mut self.fault_rng)
            }
            None => self.latency(from, to),
        };
        let Some(rate) = rate.filter(|_| bytes > 0) else { return Some(self.now + travels) };
        self.happened("slow-link");
        let trouble = self.troubles.get_mut(&(from, to)).expect("a fault was found there");
        trouble.busy_until = trouble.busy_until.max(self.now) + bytes.saturating_mul(1_000_000_000) / rate;
        Some(trouble.busy_until.saturating_add(travels))
    }

    /// Cuts data in as tiny segments as a fault wants it. Nothing if none does.
    pub(super) fn tiny_segments(&mut self, id: EndpointId, whole: &mut Bytes) -> Vec<Bytes> {
        if self.troubles.is_empty() {
            return Vec::new();
        }
        let Some((from, Some(to))) = self.endpoints.get(&id).map(|end| (end.host, end.peer_host)) else {
            return Vec::new();
        };
        let bytes_max = self.find(from, to, |fault| match fault {
            LinkFault::Segments { bytes_max } => Some(*bytes_max),
            _ => None,
        });
        let Some(bytes_max) = bytes_max else { return Vec::new() };
        self.happened("segments");
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut segments = Vec::new();
        while !whole.is_empty() && segments.len() < SEGMENTS_MAX {
            let count = self.fault_rng.random_range(1..=bytes_max.min(whole.len()));
            segments.push(whole.split_to(count));
        }
        segments
    }

    /// What an endpoint sends next comes a little after what it has sent, so that a reader sees each by itself.
    pub(super) fn space_out(&mut self, id: EndpointId) {
        let gap = self.fault_rng.random_range(SEGMENT_GAPS);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.last_arrival = endpoint.last_arrival.max(self.now).saturating_add(gap);
        }
    }

    /// Whether the other side's window stays shut.
    pub(super) fn is_window_shut(&mut self, id: EndpointId) -> bool {
        if self.troubles.is_empty() {
            return false;
        }
        let Some((from, Some(to))) = self.endpoints.get(&id).map(|end| (end.host, end.peer_host)) else { return false };
        let is_shut = self.find(from, to, |fault| matches!(fault, LinkFault::ZeroWindow).then_some(())).is_some();
        if is_shut {
            self.happened("zero-window");
        }
        is_shut
    }

    pub(crate) fn begin_door_fault(&mut self, number: u64, host: usize, fault: DoorFault) {
        self.doors.push((number, host, fault));
    }

    /// How a machine (mis)treats an attempt to connect.
    pub(super) fn door_fault(&mut self, host: usize) -> Option<DoorFault> {
        let (_, _, fault) = *self.doors.iter().find(|(_, other, _)| *other == host)?;
        self.happened(match fault {
            DoorFault::Silence => "connect-silence",
            DoorFault::Refusal => "connect-refusal",
        });
        Some(fault)
    }

    /// Endpoints of connections between two sets of machines, both ends of each.
    fn between(&self, these: &[usize], those: &[usize]) -> Vec<EndpointId> {
        let is_between = |from: usize, to: usize| {
            (these.contains(&from) && those.contains(&to)) || (those.contains(&from) && these.contains(&to))
        };
        let endpoints =
            self.endpoints.iter().filter(|(_, end)| end.peer_host.is_some_and(|to| is_between(end.host, to)));
        endpoints.map(|(id, _)| *id).collect()
    }

    /// Resets connections, each after it has carried so many more bytes in one direction.
    pub(crate) fn reset_between(&mut self, these: &[usize], those: &[usize], after_bytes: u64) {
        for id in self.between(these, those) {
            if after_bytes == 0 {
                self.break_off(id);
            } else if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.reset_after = Some(after_bytes);
            }
        }
    }

    /// An end is told that the connection was reset, though the other has said nothing.
    pub(super) fn break_off(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id).filter(|endpoint| endpoint.failure.is_none()) else { return };
        let host = endpoint.host;
        self.happened("reset");
        self.effects.events.push((host, "broken off", id.0));
        self.fail(id, io::ErrorKind::ConnectionReset);
    }

    /// How much of a segment still passes before the connection is reset in the middle of it.
    pub(super) fn before_reset(&mut self, from: EndpointId, bytes: usize) -> Option<usize> {
        let endpoint = self.endpoints.get_mut(&from)?;
        let left = endpoint.reset_after?;
        if (bytes as u64) < left {
            endpoint.reset_after = Some(left - bytes as u64);
            return None;
        }
        Some(usize::try_from(left).expect("no more than the segment's length"))
    }

    /// Closes connections as if each end had; what is sent on them after that is answered with a reset.
    pub(crate) fn finish_between(&mut self, these: &[usize], those: &[usize]) {
        for id in self.between(these, those) {
            let open = self.endpoints.get(&id).is_some_and(|end| end.state == State::Open && end.failure.is_none());
            if !open {
                continue;
            }
            self.happened("fin");
            self.send_packet(id, Packet::Finish);
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.is_severed = true;
            }
        }
    }

    /// Whether somebody on the way has closed this end's connection: then a packet is not sent, and data are answered.
    pub(super) fn is_severed(&mut self, id: EndpointId, packet: &Packet) -> bool {
        let Some(endpoint) = self.endpoints.get(&id).filter(|endpoint| endpoint.is_severed) else { return false };
        if let (Packet::Data(_), Some(to)) = (packet, endpoint.peer_host) {
            let from_host = endpoint.host;
            let at = self.now + 2 * self.latency(from_host, to);
            self.effects.timers.push((at, NetEvent::Reset { from_host, to: id, refused: false, sent: self.now }));
        }
        true
    }

    /// Connections go dead: nothing of them passes any more.
    pub(crate) fn deaden_between(&mut self, these: &[usize], those: &[usize]) {
        for id in self.between(these, those) {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.is_dead = true;
            }
        }
    }

    /// What connections carry from one machine to another arrives no earlier than `until`, whatever becomes of the sender.
    pub(crate) fn hold_back(&mut self, from: usize, to: usize, until: u64) {
        for endpoint in self.endpoints.values_mut() {
            if endpoint.host != from || endpoint.peer_host != Some(to) {
                continue;
            }
            endpoint.held_until = endpoint.held_until.max(until);
            endpoint.last_arrival = endpoint.last_arrival.max(until);
            for sent in &mut endpoint.outbox {
                sent.due = sent.due.max(until);
            }
        }
    }

    /// Whether an endpoint's last words are held back; then a reset must queue up behind them.
    pub(super) fn holds_words_of(&self, id: EndpointId) -> bool {
        let now = self.now;
        self.endpoints.get(&id).is_some_and(|end| end.held_until > now && end.failure.is_none() && end.peer.is_some())
    }

    /// What a machine has open: listeners and accepted or made connections.
    pub(crate) fn descriptor_count(&self, host: usize) -> u64 {
        let listeners = &self.hosts[host].listeners;
        let waiting: usize = listeners.values().map(|queue| queue.ready.len()).sum();
        let ends =
            self.endpoints.values().filter(|end| end.host == host && end.state != State::Closed && !end.is_storm);
        (listeners.len() + ends.count()).saturating_sub(waiting) as u64
    }

    /// Ports at which a machine listens.
    pub(crate) fn ports(&self, host: usize) -> Vec<u16> {
        self.hosts[host].listeners.keys().map(std::net::SocketAddr::port).collect()
    }

    /// Begins a connection that belongs to no process.
    pub(crate) fn connect_for_storm(&mut self, host: usize, remote: std::net::SocketAddr) -> Option<EndpointId> {
        let id = self.connect(host, remote).ok()?;
        self.endpoints.get_mut(&id)?.is_storm = true;
        Some(id)
    }
}
