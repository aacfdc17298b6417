//! Connections: reliable, ordered byte streams, as TCP gives them.
//!
//! A connection is split in a reader and a writer that live in different tasks. Dropping both without
//! [`NetWriter::finish`] closes it; unsent data may be lost then, as with TCP.

use core::{fmt, future::Future, net::SocketAddr, time::Duration};
use std::{collections::VecDeque, io};

use bytes::{Buf, Bytes, BytesMut};

/// Why [`Net::connect`] failed.
#[derive(Debug)]
pub enum ConnectError {
    /// The host answered that nobody listens there.
    Refused,
    /// Nobody answered within the time given.
    TimedOut,
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused: nobody listens at that address"),
            Self::TimedOut => f.write_str("no answer within the time allowed"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {}

/// Listens and connects.
pub trait Net: Clone + Send + Sync + 'static {
    /// Files of which ranges can be sent.
    type File: Clone + Send + Sync + 'static;
    /// A bound listener.
    type Listener: Listener<Reader = Self::Reader, Writer = Self::Writer>;
    /// The receiving half of a connection.
    type Reader: NetReader;
    /// The sending half of a connection.
    type Writer: NetWriter<File = Self::File>;

    /// Listens at `address`; port 0 picks a free one. Errors: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, others.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connects, within `timeout`.
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = Result<(Self::Reader, Self::Writer), ConnectError>> + Send;

    /// The addresses of a host name, or of an address given as text, in the order to try them.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// A bound listener. Dropping it stops listening; connections made stay.
pub trait Listener: Send + 'static {
    /// The receiving half of a connection.
    type Reader: NetReader;
    /// The sending half of a connection.
    type Writer: NetWriter;

    /// The next connection and its peer's address. An error concerns one connection or passing trouble (too many open files):
    /// the caller may go on after a pause.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Reader, Self::Writer, SocketAddr)>> + Send;

    /// The bound address, with the port that was picked.
    fn local_addr(&self) -> SocketAddr;
}

/// The receiving half of a connection.
pub trait NetReader: Send + 'static {
    /// Waits for bytes and appends what is there to `buffer`: up to its spare capacity, or, if it has none, some. 0 means that
    /// the peer has finished sending. Errors: `ConnectionReset`, others. Cancel-safe: a dropped call has taken nothing.
    fn read_buf(&mut self, buffer: &mut BytesMut) -> impl Future<Output = io::Result<usize>> + Send;
}

/// The sending half of a connection.
pub trait NetWriter: Send + 'static {
    /// Files of which ranges can be sent.
    type File: Clone + Send + Sync + 'static;

    /// Waits until the connection takes bytes, gives it some from the queue's front and removes those from the queue. Returns
    /// how many: at least 1 unless the queue is empty. Errors: `ConnectionReset`, `BrokenPipe`; `UnexpectedEof` if a file range
    /// lies beyond the file's end. Cancel-safe: what left the queue was taken, nothing else was.
    fn write(&mut self, queue: &mut WriteQueue<Self::File>) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends FIN after what was written: the peer reads to the end, then 0. Receiving goes on.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends the connection at once in both directions; the peer sees a reset. What was not yet sent is lost.
    fn reset(&mut self);
}

/// Something to send.
#[derive(Clone, Debug)]
pub enum Segment<F> {
    /// From memory.
    Bytes(Bytes),
    /// From a file, by `sendfile` where the system has it.
    File {
        /// The file.
        file: F,
        /// Where in it, in bytes.
        position: u64,
        /// How many bytes.
        length: usize,
    },
}

impl<F> Segment<F> {
    /// Bytes to send.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { length, .. } => *length,
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is to be sent on one connection, in order.
#[derive(Debug)]
pub struct WriteQueue<F> {
    segments: VecDeque<Segment<F>>,
    length: usize,
}

impl<F> Default for WriteQueue<F> {
    fn default() -> Self {
        Self { segments: VecDeque::new(), length: 0 }
    }
}

impl<F> WriteQueue<F> {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to the end; an empty segment is dropped.
    pub fn push(&mut self, segment: Segment<F>) {
        if !segment.is_empty() {
            self.length += segment.len();
            self.segments.push_back(segment);
        }
    }

    /// Bytes in all segments.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The segments, first first.
    pub fn segments(&self) -> impl Iterator<Item = &Segment<F>> {
        self.segments.iter()
    }

    /// Removes `count` bytes from the front.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.length, "{count} bytes were sent of {}", self.length);
        self.length -= count;
        let mut left = count;
        while left > 0 {
            let front = self.segments.front_mut().expect("the length counts the segments' bytes");
            if front.len() <= left {
                left -= front.len();
                self.segments.pop_front();
                continue;
            }
            match front {
                Segment::Bytes(bytes) => bytes.advance(left),
                Segment::File { position, length, .. } => {
                    *position += left as u64;
                    *length -= left;
                }
            }
            left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_cuts_segments_anywhere() {
        let mut queue = WriteQueue::<u8>::new();
        queue.push(Segment::Bytes(Bytes::from_static(b"abc")));
        queue.push(Segment::Bytes(Bytes::new()));
        queue.push(Segment::File { file: 1, position: 10, length: 5 });
        assert_eq!(queue.len(), 8);
        queue.advance(1);
        assert!(matches!(queue.segments().next(), Some(Segment::Bytes(bytes)) if &bytes[..] == b"bc"));
        queue.advance(4);
        assert!(matches!(queue.segments().next(), Some(Segment::File { position: 12, length: 3, .. })));
        queue.advance(3);
        assert!(queue.is_empty() && queue.segments().next().is_none());
    }
}
