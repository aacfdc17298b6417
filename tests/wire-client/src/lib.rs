//! A Kafka connection for tests, on any [`Env`]: sends single requests, receives their replies, each within a deadline.
//!
//! ```text
//! connect -> call (send, then receive)          one at a time
//!         -> send, send, .., receive, receive   pipelined: replies come in the order of the requests
//! ```
//!
//! Invariants
//! - Every wait ends: at the deadline that the connection was made with.
//! - What only a broken broker does (a reply that can't be read, or to another request) is told apart from a connection that
//!   is gone: see [`CallError::is_broken_promise`].
//!
//! Not here: retries, leaders, groups, anything that a real client does by itself. Read [`mod@requests`] next.

pub mod requests;

use core::{fmt, net::SocketAddr, time::Duration};
use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use quipu_env::{Clock, ConnectError, Env, Instant, Net, NetReader, NetWriter, Segment, WriteQueue};
use quipu_protocol::{ApiKey, Chunk, DecodeError, Request, RequestHeader, Response, frame};

/// Largest reply that is accepted, bytes.
const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why there is no reply.
#[derive(Debug)]
pub enum CallError {
    /// The connection could not be made.
    Connect(ConnectError),
    /// The connection ended.
    Closed,
    /// Nothing came within the deadline.
    TimedOut,
    /// The reply can't be read.
    Malformed(DecodeError),
    /// The frame's length is negative or absurd.
    FrameLength(i32),
    /// The reply is to another request: replies must come in the order of the requests.
    OutOfTurn {
        /// The correlation id of the first request that has no reply.
        expected: i32,
        /// The one of the reply.
        found: i32,
    },
}

impl CallError {
    /// Whether no network and no crash excuses it: the broker has sent something that it must not.
    #[must_use]
    pub const fn is_broken_promise(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::FrameLength(_) | Self::OutOfTurn { .. })
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Closed => f.write_str("the broker closed the connection"),
            Self::TimedOut => f.write_str("the broker did not answer within the deadline"),
            Self::Malformed(error) => write!(f, "the reply can't be read: {error}"),
            Self::FrameLength(length) => write!(f, "a reply claims to have {length} bytes"),
            Self::OutOfTurn { expected, found } => {
                write!(f, "a reply to request {found} came where the one to {expected} was due")
            }
        }
    }
}

impl core::error::Error for CallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Malformed(error) => Some(error),
            Self::Closed | Self::TimedOut | Self::FrameLength(_) | Self::OutOfTurn { .. } => None,
        }
    }
}

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// One connection.
pub struct Connection<E: Env> {
    env: E,
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    buffer: BytesMut,
    patience: Duration,
    last_correlation_id: i32,
    sent: VecDeque<Sent>,
}

impl<E: Env> Connection<E> {
    /// Connects. `patience` is how long this, and later each send and each receive, may take.
    ///
    /// Errors: [`CallError::Connect`].
    pub async fn connect(env: &E, address: SocketAddr, patience: Duration) -> Result<Self, CallError> {
        let (reader, writer) = env.net().connect(address, patience).await.map_err(CallError::Connect)?;
        Ok(Self {
            env: env.clone(),
            reader,
            writer,
            buffer: BytesMut::new(),
            patience,
            last_correlation_id: 0,
            sent: VecDeque::new(),
        })
    }

    /// Changes how long each send and each receive may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends bytes as they are.
    ///
    /// Errors: `Closed`, `TimedOut`; part of it may have left.
    pub async fn send_bytes(&mut self, bytes: Bytes) -> Result<(), CallError> {
        let mut queue = WriteQueue::new();
        queue.push(Segment::Bytes(bytes));
        let mut limit = core::pin::pin!(self.env.clock().sleep_until(self.deadline()));
        while !queue.is_empty() {
            tokio::select! { biased;
                written = self.writer.write(&mut queue) => written.map_err(|_| CallError::Closed)?,
                () = limit.as_mut() => return Err(CallError::TimedOut),
            };
        }
        Ok(())
    }

    /// Sends a request, whose reply is to be received after those of all requests before it.
    ///
    /// Errors: as of [`Self::send_bytes`].
    ///
    /// # Panics
    /// If the request can't be encoded in that version.
    pub async fn send(&mut self, version: i16, request: impl Into<Request>) -> Result<(), CallError> {
        let request = request.into();
        self.last_correlation_id += 1;
        let (api, correlation_id) = (request.api(), self.last_correlation_id);
        let header = RequestHeader { api, version, correlation_id, client_id: Some("test".into()) };
        let chunks =
            frame::encode_request(&mut BytesMut::new(), &header, &request).expect("the version has the fields");
        let mut bytes = BytesMut::new();
        for chunk in chunks {
            let Chunk::Bytes(chunk) = chunk else { panic!("a request has no holes") };
            bytes.extend_from_slice(&chunk);
        }
        self.sent.push_back(Sent { api, version, correlation_id });
        self.send_bytes(bytes.freeze()).await
    }

    /// Gives up the last request's reply: a produce with acks=0 has none.
    ///
    /// # Panics
    /// If every request has its reply.
    pub fn expect_no_reply(&mut self) {
        self.sent.pop_back().expect("a request was sent");
    }

    /// The reply to the first request that has none.
    ///
    /// Errors: all but `Connect`.
    ///
    /// # Panics
    /// If every request has its reply.
    pub async fn receive(&mut self) -> Result<Response, CallError> {
        let Sent { api, version, correlation_id } = self.sent.pop_front().expect("a request waits for its reply");
        let frame = self.receive_frame().await?;
        let (found, response) = frame::decode_response(frame, api, version).map_err(CallError::Malformed)?;
        if found != correlation_id {
            return Err(CallError::OutOfTurn { expected: correlation_id, found });
        }
        Ok(response)
    }

    /// Sends a request and receives its reply.
    ///
    /// Errors: all but `Connect`.
    ///
    /// # Panics
    /// If an earlier request still waits for its reply.
    pub async fn call(&mut self, version: i16, request: impl Into<Request>) -> Result<Response, CallError> {
        assert!(self.sent.is_empty(), "the next reply belongs to an earlier request");
        self.send(version, request).await?;
        self.receive().await
    }

    /// The next frame as it is, without its length.
    ///
    /// Errors: `Closed`, `TimedOut`, `FrameLength`.
    pub async fn receive_frame(&mut self) -> Result<Bytes, CallError> {
        let mut limit = core::pin::pin!(self.env.clock().sleep_until(self.deadline()));
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            let read = tokio::select! { biased;
                read = self.reader.read_buf(&mut self.buffer) => read,
                () = limit.as_mut() => return Err(CallError::TimedOut),
            };
            if !matches!(read, Ok(1..)) {
                return Err(CallError::Closed);
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.env.clock().now() + self.patience
    }
}

/// The first frame, if all of it is there.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, CallError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*prefix);
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= REPLY_BYTES_MAX);
    let bytes = bytes.ok_or(CallError::FrameLength(length))?;
    if buffer.len() - 4 < bytes {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(bytes).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_their_length_says() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(take_frame(&mut buffer).unwrap().unwrap(), [7, 8][..]);
        assert!(take_frame(&mut buffer).unwrap().unwrap().is_empty());
        assert!(take_frame(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(&[2, 5]);
        assert!(take_frame(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(&[6]);
        assert_eq!(take_frame(&mut buffer).unwrap().unwrap(), [5, 6][..]);
        let mut negative = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(take_frame(&mut negative), Err(CallError::FrameLength(-1))));
    }
}
