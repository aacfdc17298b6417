//! How bytes travel.

use core::task::{Poll, Waker};
use std::{collections::VecDeque, io};

use bytes::{Buf, Bytes, BytesMut};
use rand::RngExt;

use super::{
    NetEvent, NetModel,
    endpoint::{Endpoint, EndpointId, Packet, Sent, State},
    faults::Passage,
};
use crate::seed::hash_of;

/// Longest piece of data that travels as one.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Room that a read makes in a buffer that has none.
const READ_BYTES: usize = 4096;
/// The first pause before a packet that did not get through is sent again; each later one is twice as long.
const RETRANSMIT_PAUSE: u64 = 200_000_000;
const RETRANSMIT_DOUBLINGS_MAX: u32 = 5;

impl NetModel {
    /// Takes bytes for `buffer`: 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        id: EndpointId,
        waker: &Waker,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if endpoint.inbox.is_empty() {
            if let Some(kind) = endpoint.read_failure() {
                return Poll::Ready(Err(kind.into()));
            }
            if endpoint.peer_finished {
                return Poll::Ready(Ok(0));
            }
            endpoint.reader = Some(waker.clone());
            return Poll::Pending;
        }
        if buffer.capacity() == buffer.len() {
            buffer.reserve(READ_BYTES);
        }
        let mut count = 0;
        while let Some(front) = endpoint.inbox.front_mut() {
            let room = buffer.capacity() - buffer.len();
            let taken = room.min(front.len());
            buffer.extend_from_slice(&front[..taken]);
            count += taken;
            if taken < front.len() {
                front.advance(taken);
                break;
            }
            endpoint.inbox.pop_front();
        }
        self.send_packet(id, Packet::Read(count));
        Poll::Ready(Ok(count))
    }

    /// How many bytes of `offered` the connection takes now: at least 1. Not always as many as it could.
    pub(crate) fn poll_room(&mut self, id: EndpointId, waker: &Waker, offered: usize) -> Poll<io::Result<usize>> {
        let is_shut = self.is_window_shut(id);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(kind) = endpoint.write_failure() {
            return Poll::Ready(Err(kind.into()));
        }
        if is_shut {
            endpoint.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let room = self.window_bytes.saturating_sub(endpoint.unread_bytes).min(offered);
        if room == 0 {
            endpoint.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let all = self.rng.random_range(0..4) > 0;
        Poll::Ready(Ok(if all { room } else { self.rng.random_range(1..=room) }))
    }

    /// Sends bytes for which there is room, in pieces cut anywhere.
    pub(crate) fn send(&mut self, id: EndpointId, chunks: Vec<Bytes>) {
        let mut whole = join(chunks);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.unread_bytes += whole.len();
        }
        for segment in self.tiny_segments(id, &mut whole) {
            self.send_packet(id, Packet::Data(segment));
            self.space_out(id);
        }
        while !whole.is_empty() {
            let most = whole.len().min(PACKET_BYTES_MAX);
            let count = if self.rng.random_range(0..3) == 0 { self.rng.random_range(1..=most) } else { most };
            self.send_packet(id, Packet::Data(whole.split_to(count)));
        }
    }

    /// Sends the end, unless it was sent.
    pub(crate) fn finish(&mut self, id: EndpointId) -> io::Result<()> {
        let endpoint = self.endpoints.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        if endpoint.reset_here {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if endpoint.failure.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !endpoint.finished {
            endpoint.finished = true;
            self.send_packet(id, Packet::Finish);
        }
        Ok(())
    }

    /// Puts a packet behind those before it.
    pub(super) fn send_packet(&mut self, id: EndpointId, packet: Packet) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let (Some(to), None) = (endpoint.peer_host, endpoint.failure) else { return };
        let host = endpoint.host;
        if self.is_severed(id, &packet) {
            return;
        }
        let arrival = match self.troubled_arrival(host, to, packet.len() as u64) {
            Some(arrival) => arrival,
            None => self.now + self.latency(host, to),
        };
        let endpoint = self.endpoints.get_mut(&id).expect("it was there just now");
        endpoint.last_arrival = endpoint.last_arrival.max(arrival);
        let due = endpoint.last_arrival;
        endpoint.outbox.push_back(Sent { at: self.now, due, packet });
        if !endpoint.transmit_scheduled {
            endpoint.transmit_scheduled = true;
            self.effects.timers.push((due, NetEvent::Transmit(id)));
        }
    }

    /// The first packet's time has come.
    pub(super) fn transmit(&mut self, id: EndpointId) {
        loop {
            let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
            let Some(first) = endpoint.outbox.front() else {
                endpoint.transmit_scheduled = false;
                return self.forget_if_done(id);
            };
            if first.due > self.now {
                let due = first.due;
                return self.effects.timers.push((due, NetEvent::Transmit(id)));
            }
            let bytes = first.packet.len() as u64;
            let (host, to) = (endpoint.host, endpoint.peer_host.expect("packets are sent to a known machine"));
            if !self.passes(host, to) {
                return self.retransmit_later(id);
            }
            match self.passage(id, host, to, bytes) {
                Passage::Through => {}
                Passage::Lost => return self.retransmit_later(id),
                Passage::Waits => return,
            }
            let endpoint = self.endpoints.get_mut(&id).expect("it was there just now");
            (endpoint.stuck_since, endpoint.attempts) = (None, 0);
            let sent = endpoint.outbox.pop_front().expect("there is a first one");
            let was_held = sent.at < endpoint.held_until && matches!(sent.packet, Packet::Data(_));
            let (peer, peer_boot) = (endpoint.peer, endpoint.peer_boot);
            let peer = peer.expect("packets are sent to a known endpoint");
            if was_held {
                self.happened("late-segments");
            }
            if self.hosts[to].boot == peer_boot {
                self.deliver(id, peer, to, sent);
            } else {
                self.send_reset(to, id, false);
            }
        }
    }

    fn retransmit_later(&mut self, id: EndpointId) {
        let (now, limit) = (self.now, self.retransmit_limit);
        let endpoint = self.endpoints.get_mut(&id).expect("the caller has it");
        let since = *endpoint.stuck_since.get_or_insert(now);
        if now - since >= limit {
            return self.fail(id, io::ErrorKind::TimedOut);
        }
        let pause = RETRANSMIT_PAUSE << endpoint.attempts.min(RETRANSMIT_DOUBLINGS_MAX);
        endpoint.attempts += 1;
        self.effects.timers.push((now + pause, NetEvent::Transmit(id)));
    }

    fn deliver(&mut self, from: EndpointId, to: EndpointId, to_host: usize, mut sent: Sent) {
        let cut = self.before_reset(from, sent.packet.len());
        if let (Some(cut), Packet::Data(bytes)) = (cut, &mut sent.packet) {
            bytes.truncate(cut);
        }
        if self.keeps_trace
            && let (Some(kind), Some(sender)) = (sent.packet.kind(), self.endpoints.get(&from))
        {
            self.tell_message(sender.connection, sender.host, to_host, kind, sent.packet.len(), sent.at);
        }
        let packet = sent.packet;
        let (what, detail) = match &packet {
            Packet::Accepted => ("accepted", 0),
            Packet::Data(bytes) => ("segment", hash_of(bytes)),
            Packet::Finish => ("finish", 0),
            Packet::Read(count) => ("window", *count as u64),
            Packet::Reset => ("reset", 0),
        };
        self.effects.events.push((to_host, what, detail ^ to.0.rotate_left(32)));
        let known = self.endpoints.get_mut(&to).filter(|peer| peer.failure.is_none());
        let Some(peer) = known else {
            // An orderly closed end still takes note of ends and windows.
            if matches!(packet, Packet::Accepted | Packet::Data(_)) {
                self.send_reset(to_host, from, false);
            }
            return;
        };
        match packet {
            Packet::Accepted => {
                peer.state = State::Open;
                if peer.is_storm {
                    self.effects.faults.push("connection-storm");
                }
            }
            Packet::Data(_) if peer.state == State::Closed => {
                self.send_reset(to_host, from, false);
                return self.forget(to);
            }
            Packet::Data(bytes) if bytes.is_empty() => {}
            Packet::Data(bytes) => peer.inbox.push_back(bytes),
            Packet::Finish => peer.peer_finished = true,
            Packet::Read(count) => peer.unread_bytes = peer.unread_bytes.saturating_sub(count),
            Packet::Reset => return self.fail(to, io::ErrorKind::ConnectionReset),
        }
        self.effects.wakers.extend(match what {
            "segment" | "finish" => peer.reader.take(),
            _ => peer.writer.take(),
        });
        if cut.is_some() {
            self.break_off(from);
            self.break_off(to);
        }
    }

    /// Nothing goes through this endpoint any more.
    pub(super) fn fail(&mut self, id: EndpointId, kind: io::ErrorKind) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if endpoint.state == State::Closed {
            return self.forget(id);
        }
        endpoint.failure.get_or_insert(kind);
        self.effects.wakers.extend(endpoint.take_wakers());
        if let Some(endpoint) = self.endpoints.remove(&id) {
            self.tell_undelivered(&endpoint);
            self.endpoints.insert(id, Endpoint { outbox: VecDeque::new(), ..endpoint });
        }
    }
}

/// One piece of memory.
fn join(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.remove(0);
    }
    chunks.concat().into()
}
