//! The network: TCP as its users see it, between the nodes of a run.
//!
//! A pure machine: calls of processes and events whose time has come go in, and wakers, timers and events for the trace come
//! out ([`Effects`]).
//!
//! - A connection is two endpoints. What each sends is an ordered queue of packets; a packet arrives after the link's
//!   latency, or, while the link is cut or the other machine is off, is tried again with growing pauses. After
//!   `retransmit_limit` of that the connection fails with `TimedOut`.
//! - At most a window of bytes is sent and not yet read: who doesn't read stops the sender.
//! - A machine that is on answers an attempt to connect where nobody listens with a refusal, and data for a connection that
//!   it doesn't know (any more) with a reset. A machine that is off, a cut link and an address that nobody has answer nothing.
//! - A process that ends has its connections closed by its kernel: with a reset if something was left unread, else in good
//!   order.
//! - Resets are sent once and can be lost.
//!
//! Not here: what a link is like (`link`), what goes wrong with it (`faults`), handles and futures (`env::net`).

mod connect;
mod endpoint;
mod faults;
mod link;
mod transfer;

use core::task::Waker;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

pub(crate) use endpoint::EndpointId;
use endpoint::{Endpoint, State};
use faults::Trouble;
pub(crate) use faults::{DoorFault, LinkFault};
pub use link::{Latency, LinkSettings};
use quipu_env::Rng;

use crate::{
    config::SimConfig,
    seed::stream,
    trace::{Happening, MessageKind},
};

/// Connections that wait to be accepted, at most. Attempts beyond it get no answer for now.
const BACKLOG_MAX: usize = 1024;
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Something whose time has come.
pub(crate) enum NetEvent {
    /// An endpoint's next packet is due.
    Transmit(EndpointId),
    /// An attempt to connect arrives, or is to be repeated.
    Syn { from: EndpointId, attempt: u32, sent: u64 },
    /// A reset or a refusal arrives.
    Reset { from_host: usize, to: EndpointId, refused: bool, sent: u64 },
}

/// What follows from a call.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) timers: Vec<(u64, NetEvent)>,
    /// For the trace: host, what, detail.
    pub(crate) events: Vec<(usize, &'static str, u64)>,
    /// Kinds of faults that have happened.
    pub(crate) faults: Vec<&'static str>,
    /// For the trace of people, if one is kept.
    pub(crate) happenings: Vec<Happening>,
}

struct Host {
    ip: IpAddr,
    is_on: bool,
    /// Counts the times it was switched on.
    boot: u64,
    listeners: BTreeMap<SocketAddr, ListenQueue>,
    ports_in_use: BTreeSet<u16>,
    next_port: u16,
}

#[derive(Default)]
struct ListenQueue {
    id: u64,
    ready: VecDeque<EndpointId>,
    waker: Option<Waker>,
}

pub(crate) struct NetModel {
    hosts: Vec<Host>,
    links: BTreeMap<(usize, usize), LinkSettings>,
    default_link: LinkSettings,
    cuts: BTreeSet<(usize, usize)>,
    troubles: BTreeMap<(usize, usize), Trouble>,
    /// A fault's number, the machine, what is wrong.
    doors: Vec<(u64, usize, DoorFault)>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    next_id: u64,
    window_bytes: usize,
    retransmit_limit: u64,
    rng: Rng,
    /// For what faults draw.
    fault_rng: Rng,
    now: u64,
    keeps_trace: bool,
    effects: Effects,
}

impl NetModel {
    pub(crate) fn new(seed: u64, config: &SimConfig) -> Self {
        Self {
            hosts: Vec::new(),
            links: BTreeMap::new(),
            default_link: config.link.clone(),
            cuts: BTreeSet::new(),
            troubles: BTreeMap::new(),
            doors: Vec::new(),
            endpoints: BTreeMap::new(),
            next_id: 0,
            window_bytes: config.window_bytes,
            retransmit_limit: u64::try_from(config.retransmit_limit.as_nanos()).unwrap_or(u64::MAX),
            rng: stream(seed, "network", &[]),
            fault_rng: stream(seed, "network faults", &[]),
            now: 0,
            keeps_trace: config.keep_trace,
            effects: Effects::default(),
        }
    }

    pub(crate) const fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        core::mem::take(&mut self.effects)
    }

    /// A new machine and its address.
    pub(crate) fn add_host(&mut self) -> IpAddr {
        let number = u16::try_from(self.hosts.len()).expect("fewer than 65,536 nodes");
        let [high, low] = (number + 1).to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, high, low));
        self.hosts.push(Host {
            ip,
            is_on: true,
            boot: 0,
            listeners: BTreeMap::new(),
            ports_in_use: BTreeSet::new(),
            next_port: FIRST_EPHEMERAL_PORT,
        });
        ip
    }

    pub(crate) fn set_link(&mut self, from: usize, to: usize, settings: LinkSettings) {
        self.links.insert((from, to), settings);
    }

    pub(crate) fn set_cut(&mut self, from: usize, to: usize, is_cut: bool) {
        if is_cut {
            self.cuts.insert((from, to));
        } else {
            self.cuts.remove(&(from, to));
        }
    }

    /// The machine runs (again).
    pub(crate) fn power_on(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if !host.is_on {
            host.is_on = true;
            host.boot += 1;
        }
    }

    /// The machine is off: it forgets everything and says nothing.
    pub(crate) fn power_off(&mut self, host: usize) {
        self.hosts[host].is_on = false;
        for id in self.endpoints_of(host) {
            self.forget(id);
        }
        self.hosts[host].listeners.clear();
    }

    /// The process ends; its kernel closes what it had open.
    pub(crate) fn end_process(&mut self, host: usize) {
        let listeners: Vec<SocketAddr> = self.hosts[host].listeners.keys().copied().collect();
        for address in listeners {
            self.close_listener_at(host, address);
        }
        for id in self.endpoints_of(host) {
            // What the process had closed itself goes on to its end.
            if self.endpoints.get(&id).is_some_and(|end| end.state != State::Closed && !end.is_storm) {
                self.close(id);
            }
        }
    }

    fn endpoints_of(&self, host: usize) -> Vec<EndpointId> {
        self.endpoints.iter().filter(|(_, endpoint)| endpoint.host == host).map(|(id, _)| *id).collect()
    }

    /// Removes an endpoint without a word to its peer.
    fn forget(&mut self, id: EndpointId) {
        let Some(mut endpoint) = self.endpoints.remove(&id) else { return };
        self.tell_undelivered(&endpoint);
        if endpoint.owns_port {
            self.hosts[endpoint.host].ports_in_use.remove(&endpoint.local.port());
        }
        self.effects.wakers.extend(endpoint.take_wakers());
    }

    /// Whether a packet gets from one machine to another now.
    fn passes(&self, from: usize, to: usize) -> bool {
        self.hosts[from].is_on && self.hosts[to].is_on && !self.cuts.contains(&(from, to))
    }

    fn latency(&mut self, from: usize, to: usize) -> u64 {
        let settings = match self.links.get(&(from, to)) {
            Some(settings) => settings,
            None if from == to => &LinkSettings::LOOPBACK,
            None => &self.default_link,
        };
        settings.latency.draw(&mut self.rng)
    }

    pub(crate) fn handle_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Transmit(id) => self.transmit(id),
            NetEvent::Syn { from, attempt, sent } => self.handle_syn(from, attempt, sent),
            NetEvent::Reset { from_host, to, refused, sent } => self.handle_reset(from_host, to, refused, sent),
        }
    }

    fn handle_reset(&mut self, from_host: usize, to: EndpointId, refused: bool, sent: u64) {
        let Some(endpoint) = self.endpoints.get(&to) else { return };
        let (connection, to_host) = (endpoint.connection, endpoint.host);
        let kind = if refused { MessageKind::Refused } else { MessageKind::Reset };
        self.tell_message(connection, from_host, to_host, kind, 0, sent);
        let Some(endpoint) = self.endpoints.get(&to) else { return };
        if self.passes(from_host, endpoint.host) {
            self.effects.events.push((endpoint.host, "reset", to.0));
            let kind = if refused { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::ConnectionReset };
            self.fail(to, kind);
        }
    }

    /// Sends a reset or a refusal, once.
    fn send_reset(&mut self, from_host: usize, to: EndpointId, refused: bool) {
        let Some(endpoint) = self.endpoints.get(&to) else { return };
        let to_host = endpoint.host;
        if endpoint.is_dead {
            return self.happened("half-open");
        }
        if self.passes(from_host, to_host)
            && !self.is_cut_by_fault(from_host, to_host)
            && !self.is_lost(from_host, to_host)
        {
            let at = self.now + self.latency(from_host, to_host);
            self.effects.timers.push((at, NetEvent::Reset { from_host, to, refused, sent: self.now }));
        }
    }

    /// A message has arrived.
    fn tell_message(&mut self, connection: u64, from: usize, to: usize, kind: MessageKind, bytes: usize, sent: u64) {
        if self.keeps_trace {
            let (from, to, bytes, delivered) = (from as u64, to as u64, bytes as u64, Some(self.now));
            let message = Happening::Message { connection, from, to, kind, bytes, sent, delivered };
            self.effects.happenings.push(message);
        }
    }

    /// What an endpoint has sent will not arrive.
    fn tell_undelivered(&mut self, endpoint: &Endpoint) {
        let (true, Some(to)) = (self.keeps_trace, endpoint.peer_host) else { return };
        for sent in &endpoint.outbox {
            let Some(kind) = sent.packet.kind() else { continue };
            self.effects.happenings.push(Happening::Message {
                connection: endpoint.connection,
                from: endpoint.host as u64,
                to: to as u64,
                kind,
                bytes: sent.packet.len() as u64,
                sent: sent.at,
                delivered: None,
            });
        }
    }
}
