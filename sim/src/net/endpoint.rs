//! One end of a connection.

use core::task::Waker;
use std::{collections::VecDeque, io, net::SocketAddr};

use bytes::Bytes;

use crate::trace::MessageKind;

/// Names an endpoint; never used twice in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct EndpointId(pub(super) u64);

/// What travels, in order, from one endpoint to the other.
pub(super) enum Packet {
    /// The connection is made.
    Accepted,
    Data(Bytes),
    /// Nothing more will come.
    Finish,
    /// So many bytes have been read.
    Read(usize),
    /// The sender is gone: a reset that keeps its place behind what was sent before.
    Reset,
}

impl Packet {
    /// Bytes of data.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Accepted | Self::Finish | Self::Read(_) | Self::Reset => 0,
        }
    }

    /// As the trace for people tells it, which knows nothing of windows.
    pub(super) const fn kind(&self) -> Option<MessageKind> {
        match self {
            Self::Accepted => Some(MessageKind::Accepted),
            Self::Data(_) => Some(MessageKind::Data),
            Self::Finish => Some(MessageKind::Finish),
            Self::Reset => Some(MessageKind::Reset),
            Self::Read(_) => None,
        }
    }
}

/// A packet on its way.
pub(super) struct Sent {
    /// When it was sent.
    pub(super) at: u64,
    /// When it arrives.
    pub(super) due: u64,
    pub(super) packet: Packet,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Open,
    /// Both halves are dropped; what was accepted for sending is still sent.
    Closed,
}

/// One end of a connection.
pub(super) struct Endpoint {
    /// The same at both ends.
    pub(super) connection: u64,
    pub(super) host: usize,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Known once the connection is made at the other end.
    pub(super) peer: Option<EndpointId>,
    pub(super) peer_host: Option<usize>,
    /// The other machine's boot when the connection was made.
    pub(super) peer_boot: u64,
    /// Whether `local`'s port is to be given back.
    pub(super) owns_port: bool,
    pub(super) state: State,
    /// Why nothing can be received or sent any more.
    pub(super) failure: Option<io::ErrorKind>,
    /// Whether this end reset the connection.
    pub(super) reset_here: bool,

    pub(super) inbox: VecDeque<Bytes>,
    pub(super) peer_finished: bool,
    pub(super) reader: Option<Waker>,
    pub(super) reader_dropped: bool,

    /// In the order of arrival.
    pub(super) outbox: VecDeque<Sent>,
    pub(super) last_arrival: u64,
    pub(super) transmit_scheduled: bool,
    /// Since when the first packet doesn't get through.
    pub(super) stuck_since: Option<u64>,
    pub(super) attempts: u32,
    /// Bytes sent that the other side has not read, as far as is known here.
    pub(super) unread_bytes: usize,
    pub(super) finished: bool,
    pub(super) writer: Option<Waker>,
    pub(super) writer_dropped: bool,

    /// A fault has made the connection: no process owns this end.
    pub(super) is_storm: bool,
    /// Nothing that this end sends arrives any more.
    pub(super) is_dead: bool,
    /// Somebody on the way has closed the connection.
    pub(super) is_severed: bool,
    /// What this end sends arrives no earlier.
    pub(super) held_until: u64,
    /// The connection is reset when this end's peer has got so many more bytes.
    pub(super) reset_after: Option<u64>,
}

impl Endpoint {
    pub(super) fn new(connection: u64, host: usize, local: SocketAddr, remote: SocketAddr, state: State) -> Self {
        Self {
            connection,
            host,
            local,
            remote,
            peer: None,
            peer_host: None,
            peer_boot: 0,
            owns_port: false,
            state,
            failure: None,
            reset_here: false,
            inbox: VecDeque::new(),
            peer_finished: false,
            reader: None,
            reader_dropped: false,
            outbox: VecDeque::new(),
            last_arrival: 0,
            transmit_scheduled: false,
            stuck_since: None,
            attempts: 0,
            unread_bytes: 0,
            finished: false,
            writer: None,
            writer_dropped: false,
            is_storm: false,
            is_dead: false,
            is_severed: false,
            held_until: 0,
            reset_after: None,
        }
    }

    pub(super) fn take_wakers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.reader.take().into_iter().chain(self.writer.take())
    }

    /// Why a read without bytes to read fails, if it does. After the peer's end it doesn't.
    pub(super) fn read_failure(&self) -> Option<io::ErrorKind> {
        if self.reset_here { self.failure } else { self.failure.filter(|_| !self.peer_finished) }
    }

    /// Why a write fails, if it does.
    pub(super) fn write_failure(&self) -> Option<io::ErrorKind> {
        match self.failure {
            Some(io::ErrorKind::ConnectionReset) if self.peer_finished && !self.reset_here => {
                Some(io::ErrorKind::BrokenPipe)
            }
            Some(kind) => Some(kind),
            None if self.finished => Some(io::ErrorKind::BrokenPipe),
            None => None,
        }
    }
}
