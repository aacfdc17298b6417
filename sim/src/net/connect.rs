//! How connections begin and end.

use core::task::{Poll, Waker};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use super::{
    BACKLOG_MAX, DoorFault, FIRST_EPHEMERAL_PORT, ListenQueue, NetEvent, NetModel,
    endpoint::{Endpoint, EndpointId, Packet, State},
};
use crate::trace::MessageKind;

/// The first pause before an attempt to connect is repeated; each later one is twice as long.
const SYN_PAUSE: u64 = 1_000_000_000;
const SYN_ATTEMPTS_MAX: u32 = 6;

impl NetModel {
    /// Listens. Port 0 picks one. Returns the address and the listener's number.
    pub(crate) fn bind(&mut self, host: usize, address: SocketAddr) -> io::Result<(SocketAddr, u64)> {
        let own = self.hosts[host].ip;
        if !(address.ip().is_unspecified() || address.ip().is_loopback() || address.ip() == own) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if address.port() == 0 { self.pick_port(host)? } else { address.port() };
        let address = SocketAddr::new(address.ip(), port);
        if self.hosts[host].listeners.keys().any(|taken| overlap(*taken, address)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.next_id += 1;
        let queue = ListenQueue { id: self.next_id, ..ListenQueue::default() };
        self.hosts[host].listeners.insert(address, queue);
        Ok((address, self.next_id))
    }

    /// A port that nobody listens on or connects from.
    fn pick_port(&mut self, host: usize) -> io::Result<u16> {
        let host = &mut self.hosts[host];
        for _ in FIRST_EPHEMERAL_PORT..=u16::MAX {
            let port = host.next_port;
            host.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            let listens = host.listeners.keys().any(|address| address.port() == port);
            if !listens && !host.ports_in_use.contains(&port) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// Whether a connection waits to be accepted.
    pub(crate) fn has_ready(&self, host: usize, address: SocketAddr) -> bool {
        let queue = self.hosts[host].listeners.get(&address);
        queue.is_some_and(|queue| queue.ready.iter().any(|id| self.endpoints.contains_key(id)))
    }

    /// The next connection: its endpoint and the peer's address.
    pub(crate) fn poll_accept(
        &mut self,
        host: usize,
        address: SocketAddr,
        waker: &Waker,
    ) -> Poll<(EndpointId, SocketAddr)> {
        let queue = self.hosts[host].listeners.get_mut(&address).expect("it listens until its handle is dropped");
        while let Some(id) = queue.ready.pop_front() {
            if let Some(endpoint) = self.endpoints.get(&id) {
                return Poll::Ready((id, endpoint.remote));
            }
        }
        queue.waker = Some(waker.clone());
        Poll::Pending
    }

    /// The listener's handle was dropped.
    pub(crate) fn close_listener(&mut self, host: usize, address: SocketAddr, id: u64) {
        if self.hosts[host].listeners.get(&address).is_some_and(|queue| queue.id == id) {
            self.close_listener_at(host, address);
        }
    }

    pub(super) fn close_listener_at(&mut self, host: usize, address: SocketAddr) {
        if let Some(queue) = self.hosts[host].listeners.remove(&address) {
            for id in queue.ready {
                self.abort(id);
            }
        }
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, host: usize, remote: SocketAddr) -> io::Result<EndpointId> {
        let port = self.pick_port(host)?;
        let own = if remote.ip().is_loopback() { remote.ip() } else { self.hosts[host].ip };
        let id = self.new_id();
        let mut endpoint = Endpoint::new(id.0, host, SocketAddr::new(own, port), remote, State::Connecting);
        endpoint.owns_port = true;
        self.hosts[host].ports_in_use.insert(port);
        self.endpoints.insert(id, endpoint);
        let at = self.now + self.syn_latency(host, remote.ip());
        self.effects.timers.push((at, NetEvent::Syn { from: id, attempt: 0, sent: self.now }));
        Ok(id)
    }

    fn new_id(&mut self) -> EndpointId {
        self.next_id += 1;
        EndpointId(self.next_id)
    }

    fn syn_latency(&mut self, host: usize, ip: IpAddr) -> u64 {
        match self.host_at(host, ip) {
            Some(to) => self.latency(host, to),
            None => 0,
        }
    }

    /// The machine with that address, as seen from another.
    fn host_at(&self, from: usize, ip: IpAddr) -> Option<usize> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        self.hosts.iter().position(|host| host.ip == ip)
    }

    /// Whether the connection is made.
    pub(crate) fn poll_connected(&mut self, id: EndpointId, waker: &Waker) -> Poll<io::Result<()>> {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        match (endpoint.state, endpoint.failure) {
            (_, Some(kind)) => Poll::Ready(Err(kind.into())),
            (State::Connecting, None) => {
                endpoint.writer = Some(waker.clone());
                Poll::Pending
            }
            (State::Open | State::Closed, None) => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn handle_syn(&mut self, from: EndpointId, attempt: u32, sent: u64) {
        let Some(endpoint) = self.endpoints.get(&from) else { return };
        if endpoint.state != State::Connecting || endpoint.peer.is_some() || endpoint.failure.is_some() {
            return;
        }
        let (host, local, remote) = (endpoint.host, endpoint.local, endpoint.remote);
        let target = self.host_at(host, remote.ip()).filter(|to| self.passes(host, *to));
        let Some(to) = target else { return self.repeat_syn(from, attempt) };
        if self.is_cut_by_fault(host, to) || self.is_lost(host, to) {
            return self.repeat_syn(from, attempt);
        }
        match self.door_fault(to) {
            Some(DoorFault::Silence) => return self.repeat_syn(from, attempt),
            Some(DoorFault::Refusal) => return self.send_reset(to, from, true),
            None => {}
        }
        self.tell_message(from.0, host, to, MessageKind::Connect, 0, sent);
        let listening = self.hosts[to].listeners.keys().find(|address| accepts(**address, remote)).copied();
        let Some(address) = listening else { return self.send_reset(to, from, true) };
        if self.hosts[to].listeners[&address].ready.len() >= BACKLOG_MAX {
            return self.repeat_syn(from, attempt);
        }
        self.effects.events.push((to, "connection", from.0));
        let id = self.new_id();
        let mut server = Endpoint::new(from.0, to, remote, local, State::Open);
        server.peer = Some(from);
        server.peer_host = Some(host);
        server.peer_boot = self.hosts[host].boot;
        self.endpoints.insert(id, server);
        let client = self.endpoints.get_mut(&from).expect("it was there just now");
        client.peer = Some(id);
        client.peer_host = Some(to);
        client.peer_boot = self.hosts[to].boot;
        let queue = self.hosts[to].listeners.get_mut(&address).expect("it was found just now");
        queue.ready.push_back(id);
        self.effects.wakers.extend(queue.waker.take());
        self.send_packet(id, Packet::Accepted);
    }

    fn repeat_syn(&mut self, from: EndpointId, attempt: u32) {
        if attempt < SYN_ATTEMPTS_MAX {
            let at = self.now + (SYN_PAUSE << attempt);
            self.effects.timers.push((at, NetEvent::Syn { from, attempt: attempt + 1, sent: self.now }));
        } else {
            self.fail(from, io::ErrorKind::TimedOut);
        }
    }

    /// Whoever wanted to connect has given up.
    pub(crate) fn give_up(&mut self, id: EndpointId) {
        self.abort(id);
    }

    /// Ends the connection with a reset, which the caller's own halves see as well.
    pub(crate) fn reset(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        if endpoint.failure.is_none() {
            let (host, peer) = (endpoint.host, endpoint.peer);
            if let Some(peer) = peer {
                if self.holds_words_of(id) {
                    self.send_last_words(id);
                } else {
                    self.send_reset(host, peer, false);
                }
            }
            self.fail(id, io::ErrorKind::ConnectionReset);
        }
        let endpoint = self.endpoints.get_mut(&id).expect("an endpoint with a handle is kept");
        endpoint.reset_here = true;
        endpoint.inbox.clear();
    }

    /// Removes an endpoint and tells its peer by a reset.
    pub(super) fn abort(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let (host, peer, failed) = (endpoint.host, endpoint.peer, endpoint.failure.is_some());
        if self.holds_words_of(id) {
            self.send_last_words(id);
            return self.forget(id);
        }
        if let (Some(peer), false) = (peer, failed) {
            self.send_reset(host, peer, false);
        }
        self.forget(id);
    }

    /// An endpoint is gone, but what it sent, and a reset behind that, is still on its way: somebody else carries it from now
    /// on.
    fn send_last_words(&mut self, id: EndpointId) {
        self.send_packet(id, Packet::Reset);
        let carrier = self.new_id();
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let mut words =
            Endpoint::new(endpoint.connection, endpoint.host, endpoint.local, endpoint.remote, State::Closed);
        words.peer = endpoint.peer;
        words.peer_host = endpoint.peer_host;
        words.peer_boot = endpoint.peer_boot;
        words.held_until = endpoint.held_until;
        words.outbox = core::mem::take(&mut endpoint.outbox);
        words.transmit_scheduled = true;
        let due = words.outbox.front().map_or(self.now, |sent| sent.due);
        self.endpoints.insert(carrier, words);
        self.effects.timers.push((due, NetEvent::Transmit(carrier)));
    }

    pub(crate) fn drop_reader(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.reader_dropped = true;
            if endpoint.writer_dropped {
                self.close(id);
            }
        }
    }

    pub(crate) fn drop_writer(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.writer_dropped = true;
            if endpoint.reader_dropped {
                self.close(id);
            }
        }
    }

    /// Nobody holds the endpoint any more.
    pub(super) fn close(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        if endpoint.state != State::Open || endpoint.failure.is_some() || !endpoint.inbox.is_empty() {
            return self.abort(id);
        }
        endpoint.state = State::Closed;
        if !endpoint.finished {
            endpoint.finished = true;
            self.send_packet(id, Packet::Finish);
        }
        self.forget_if_done(id);
    }

    /// A closed endpoint that has sent everything is gone.
    pub(super) fn forget_if_done(&mut self, id: EndpointId) {
        if self.endpoints.get(&id).is_some_and(|end| end.state == State::Closed && end.outbox.is_empty()) {
            self.forget(id);
        }
    }
}

/// Whether two listeners can't both be.
fn overlap(taken: SocketAddr, wanted: SocketAddr) -> bool {
    taken.port() == wanted.port()
        && (taken.ip() == wanted.ip() || taken.ip().is_unspecified() || wanted.ip().is_unspecified())
}

/// Whether a listener at `address` gets an attempt to connect to `wanted`.
fn accepts(address: SocketAddr, wanted: SocketAddr) -> bool {
    address.port() == wanted.port() && (address.ip() == wanted.ip() || address.ip().is_unspecified())
}
