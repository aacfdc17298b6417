//! The two halves of a connection.
//!
//! Invariants
//! - Nothing is taken from or given to the kernel by a call that does not return it: each call ends with the first system
//!   call that moved bytes.
//! - A read or write that moved less than it could is the last before the kernel would say "try later", so readiness is given
//!   back at once and the call that would only bring `EAGAIN` is saved. The registration is edge-triggered: what arrives
//!   later sets readiness anew.
//!
//! Not here: SIGPIPE. Rust programs ignore it from the start, `sendmsg` is told not to raise it, `sendfile` cannot be told.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{BufMut, BytesMut};
use quipu_base::limits::{KIB, MIB};
use quipu_env::{File, NetReader, NetWriter, Segment, WriteQueue};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown},
};

use super::socket::Socket;
use crate::disk::TokioFile;

/// Room that a read makes in a buffer that has none.
const READ_BYTES: usize = 16 * KIB;
/// Slices of memory given to the kernel in one call.
const SLICES_MAX: usize = 64;
/// Bytes of a file given to the kernel in one call, so that one connection does not hold up a shard.
const SENDFILE_BYTES_MAX: usize = MIB;

/// What the halves share.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// This end has reset it.
    is_reset: AtomicBool,
}

impl Connection {
    fn check_not_reset(&self) -> io::Result<()> {
        if self.is_reset.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// What the kernel said; after a reset of our own, whatever it says, that.
    fn error(&self, errno: Errno) -> io::Error {
        self.check_not_reset().err().unwrap_or_else(|| errno.into())
    }
}

/// Splits a connected socket. It is closed when both halves are dropped.
pub(super) fn split(socket: Socket) -> (TokioReader, TokioWriter) {
    let connection = Arc::new(Connection { socket, is_reset: AtomicBool::new(false) });
    (TokioReader { connection: Arc::clone(&connection) }, TokioWriter { connection })
}

/// The receiving half.
#[derive(Debug)]
pub struct TokioReader {
    connection: Arc<Connection>,
}

/// The sending half.
#[derive(Debug)]
pub struct TokioWriter {
    connection: Arc<Connection>,
}

impl TokioReader {
    #[expect(unsafe_code, reason = "receives into memory that is not initialised yet")]
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let registered = self.connection.socket.registered()?;
        if buffer.capacity() == buffer.len() {
            buffer.reserve(READ_BYTES);
        }
        loop {
            let mut guard = ready!(registered.poll_read_ready(context))?;
            self.connection.check_not_reset()?;
            let room = buffer.spare_capacity_mut();
            let room_bytes = room.len();
            let received = rustix::net::recv(registered.get_ref(), room, RecvFlags::DONTWAIT);
            match received.map(|(_, count)| count) {
                Ok(count) => {
                    if count > 0 && count < room_bytes {
                        guard.clear_ready();
                    }
                    // SAFETY: the kernel has written `count` bytes to the start of the spare capacity.
                    unsafe { buffer.advance_mut(count) };
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(self.connection.error(errno))),
            }
        }
    }
}

impl NetReader for TokioReader {
    async fn read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }
}

impl TokioWriter {
    fn poll_write(&self, context: &mut Context<'_>, queue: &mut WriteQueue<TokioFile>) -> Poll<io::Result<usize>> {
        if queue.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let registered = self.connection.socket.registered()?;
        loop {
            let mut guard = ready!(registered.poll_write_ready(context))?;
            self.connection.check_not_reset()?;
            match send_front(registered.get_ref(), queue) {
                Ok(Sent { count, was_all }) => {
                    if !was_all {
                        guard.clear_ready();
                    }
                    queue.advance(count);
                    return Poll::Ready(Ok(count));
                }
                Err(SendError::System(Errno::WOULDBLOCK)) => guard.clear_ready(),
                Err(SendError::System(errno)) => return Poll::Ready(Err(self.connection.error(errno))),
                Err(SendError::File(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl NetWriter for TokioWriter {
    type File = TokioFile;

    async fn write(&mut self, queue: &mut WriteQueue<TokioFile>) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(context, queue)).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.connection.check_not_reset()?;
        rustix::net::shutdown(self.connection.socket.fd(), Shutdown::Write)
            .map_err(|errno| self.connection.error(errno))
    }

    /// Not by closing with a linger time of zero: the reader still holds the socket, and must wake up.
    fn reset(&mut self) {
        self.connection.is_reset.store(true, Ordering::Release);
        // Linux takes this as "disconnect": it sends RST, drops what was not sent and wakes who waits. It fails only if the
        // connection is gone already.
        rustix::net::connect_unspec(self.connection.socket.fd()).ok();
    }
}

struct Sent {
    count: usize,
    /// Whether the kernel took all that it was offered.
    was_all: bool,
}

enum SendError {
    System(Errno),
    File(io::Error),
}

/// Gives the kernel some of the queue's front, by one call: either a run of segments in memory, or part of a file.
fn send_front(socket: &OwnedFd, queue: &WriteQueue<TokioFile>) -> Result<Sent, SendError> {
    match queue.segments().next() {
        Some(Segment::File { file, position, length }) => send_file(socket, file, *position, *length),
        _ => send_memory(socket, queue).map_err(SendError::System),
    }
}

fn send_memory(socket: &OwnedFd, queue: &WriteQueue<TokioFile>) -> Result<Sent, Errno> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let (mut slice_count, mut offered) = (0, 0);
    let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    for segment in queue.segments().take(SLICES_MAX) {
        match segment {
            Segment::Bytes(bytes) => {
                slices[slice_count] = IoSlice::new(bytes);
                slice_count += 1;
                offered += bytes.len();
            }
            Segment::File { .. } => {
                // Held back until the file's first bytes follow, so that a header does not travel alone.
                flags |= SendFlags::MORE;
                break;
            }
        }
    }
    let slices = &slices[..slice_count];
    let count = retry_on_intr(|| rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags))?;
    Ok(Sent { count, was_all: count == offered })
}

fn send_file(socket: &OwnedFd, file: &TokioFile, position: u64, length: usize) -> Result<Sent, SendError> {
    let mut from = position;
    let wanted = length.min(SENDFILE_BYTES_MAX);
    let count = retry_on_intr(|| rustix::fs::sendfile(socket, file.fd(), Some(&mut from), wanted))
        .map_err(SendError::System)?;
    if count == 0 {
        let message = format!("{} ends before byte {position}, which was to be sent", file.path().display());
        return Err(SendError::File(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
    }
    // A short count may also mean the end of the file, so the next call must find out.
    Ok(Sent { count, was_all: true })
}
