//! One connection to one broker: a task that negotiates versions, then sends requests as they come and hands out replies in the
//! order of the requests.
//!
//! ```text
//! pause (back-off) -> connect -> ApiVersions -> serve --+-> broker closed, reply unreadable or late: every call under way fails
//!                         \            \                 `-> nothing to do for long, or nobody holds a handle any more: ends
//!                          `------------`-> failed: every call that waits fails
//! ```
//!
//! Invariants
//! - Calls are sent in the order in which they were handed over, and each is answered exactly once: a [`ReplyTo`] that is dropped
//!   answers by itself.
//! - A request whose reply is late, or that does not leave in time, ends the connection: the broker's answers come in order, so
//!   nothing behind it can come.
//! - Connections that fail before anything was answered keep pauses between them, as do attempts to make one.
//! - At most [`CALLS_WAITING_MAX`] calls wait, at most [`CALLS_IN_FLIGHT_MAX`] are under way.
//! - A broker that asks for a pause (`throttle_time_ms`, KIP-219) is sent nothing more until the pause is over.
//!
//! Not here: which broker to ask (`pool`), whether to try again (whoever asks).

use core::{ops::RangeInclusive, time::Duration};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{Buf, Bytes, BytesMut};
use quipu_env::{Clock, Env, Instant, Net, NetReader, NetWriter, Segment, Sleep, WriteQueue};
use quipu_protocol::{
    ApiKey, Chunk, ErrorCode, Request, RequestHeader, Response, Str, frame,
    messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse},
};
use tokio::sync::{mpsc, oneshot};

use crate::{BrokerAddress, ClientError};

/// Calls handed over to one connection and not yet sent.
const CALLS_WAITING_MAX: usize = 1024;
/// Requests without a reply on one connection; more wait. Brokers stop reading at some hundred.
const CALLS_IN_FLIGHT_MAX: usize = 64;
/// Bytes read at once when it is not known how many come.
const READ_BYTES: usize = 8 * 1024;

/// A reply, and the version it came in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) version: i16,
}

type Callback = Box<dyn FnOnce(Result<Option<Answer>, ClientError>) + Send>;

/// Where a call's outcome goes: exactly once, whatever happens to the call. None: sent, and no reply comes.
pub(crate) struct ReplyTo(Option<Callback>);

impl ReplyTo {
    pub(crate) fn new(callback: impl FnOnce(Result<Option<Answer>, ClientError>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    pub(crate) fn send(mut self, outcome: Result<Option<Answer>, ClientError>) {
        if let Some(callback) = self.0.take() {
            callback(outcome);
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(Err(ClientError::Closed));
        }
    }
}

/// A request on its way.
pub(crate) struct Call {
    pub(crate) request: Request,
    /// The versions that can carry it; the highest of them that the broker serves is used.
    pub(crate) versions: RangeInclusive<i16>,
    /// How long after it was sent the reply must be there, or, if there is none, all of the request have left; or the connection
    /// is given up.
    pub(crate) patience: Duration,
    /// Whether there is a reply at all: not to a produce with acks=0.
    pub(crate) has_reply: bool,
    pub(crate) reply: ReplyTo,
}

/// What a connection is made with.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) address: BrokerAddress,
    pub(crate) client_id: Str,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) response_bytes_max: usize,
    pub(crate) idle_max: Duration,
    /// Connections that came to nothing since the last answer, by which the next pause is chosen.
    pub(crate) failures: Arc<AtomicU32>,
}

/// Hands calls to a connection's task. The task ends when this is dropped.
pub(crate) struct Handle {
    address: BrokerAddress,
    calls: mpsc::Sender<Call>,
    /// Nothing is ever sent: the task ends when it is dropped.
    _alive: oneshot::Sender<()>,
}

impl Handle {
    /// Starts a connection, after a pause.
    pub(crate) fn start<E: Env>(env: &E, settings: Settings, pause: Duration) -> Self {
        let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
        let (alive, gone) = oneshot::channel();
        let address = settings.address.clone();
        let work = run(env.clone(), settings, pause, waiting);
        let task = async move {
            tokio::select! { biased;
                _ = gone => {}
                () = work => {}
            }
        };
        drop(env.spawn(env.current_shard(), "client.connection", task));
        Self { address, calls, _alive: alive }
    }

    /// Whether its task has ended: calls would fail.
    pub(crate) fn is_closed(&self) -> bool {
        self.calls.is_closed()
    }

    pub(crate) fn address(&self) -> &BrokerAddress {
        &self.address
    }

    /// Hands over a call. Never waits: too many calls, or a connection that is gone, are told to the call.
    pub(crate) fn call(&self, call: Call) {
        match self.calls.try_send(call) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(call)) => {
                call.reply.send(Err(ClientError::Busy { address: self.address.clone() }));
            }
            Err(mpsc::error::TrySendError::Closed(call)) => {
                call.reply.send(Err(ClientError::Disconnected { address: self.address.clone(), sent: false }));
            }
        }
    }
}

async fn run<E: Env>(env: E, settings: Settings, pause: Duration, mut calls: mpsc::Receiver<Call>) {
    if !pause.is_zero() {
        env.clock().sleep(pause).await;
    }
    let failure = match Box::pin(Link::establish(&env, &settings)).await {
        Ok(mut link) => {
            let failure = link.serve(&mut calls).await;
            if !link.is_idle() && !link.has_answered {
                settings.failures.fetch_add(1, Ordering::Relaxed);
            }
            link.fail_all(&failure);
            failure
        }
        Err(failure) => {
            settings.failures.fetch_add(1, Ordering::Relaxed);
            failure
        }
    };
    calls.close();
    while let Ok(call) = calls.try_recv() {
        call.reply.send(Err(unsent(&failure)));
    }
}

/// The same failure, for a call of which nothing was sent.
fn unsent(failure: &ClientError) -> ClientError {
    match failure {
        ClientError::Disconnected { address, .. } => {
            ClientError::Disconnected { address: address.clone(), sent: false }
        }
        ClientError::TimedOut { .. } => failure.clone(),
        other => other.clone(),
    }
}

/// A request that was put on the wire.
struct InFlight {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    deadline: Instant,
    /// Where it begins in the stream of all bytes sent.
    begins_at: u64,
    reply: ReplyTo,
}

/// A request without a reply: it is answered when it has left, or, on a connection that takes nothing any more, fails when it is
/// late.
struct Unanswered {
    api: ApiKey,
    deadline: Instant,
    /// Where it ends in the stream of all bytes sent.
    ends_at: u64,
    reply: ReplyTo,
}

/// A connection that is up.
struct Link<E: Env> {
    env: E,
    settings: Settings,
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    queue: WriteQueue<<E::Net as Net>::File>,
    scratch: BytesMut,
    buffer: BytesMut,
    /// By the number of the API.
    served: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
    /// Bytes queued and bytes sent since the beginning.
    queued_bytes: u64,
    sent_bytes: u64,
    in_flight: VecDeque<InFlight>,
    unanswered: VecDeque<Unanswered>,
    /// When something was last asked or answered.
    busy_at: Instant,
    /// The broker has asked for a pause until then.
    muted_until: Instant,
    has_answered: bool,
}

impl<E: Env> Link<E> {
    /// Connects and learns what the broker serves.
    async fn establish(env: &E, settings: &Settings) -> Result<Self, ClientError> {
        let address = &settings.address;
        let failed = |cause: String| ClientError::Connect { address: address.clone(), cause };
        let mut limit = core::pin::pin!(env.clock().sleep(settings.connect_timeout));
        let resolving = env.net().resolve(&address.host, address.port);
        let found = tokio::select! { biased;
            found = resolving => found.map_err(|error| failed(format!("the host name is not known ({error})")))?,
            () = limit.as_mut() => return Err(failed("the host name was not looked up in time".to_owned())),
        };
        let mut last = failed("the host has no address".to_owned());
        for candidate in found {
            match env.net().connect(candidate, settings.connect_timeout).await {
                Ok((reader, writer)) => {
                    let mut link = Self::new(env, settings, reader, writer);
                    link.negotiate().await?;
                    return Ok(link);
                }
                Err(error) => last = failed(error.to_string()),
            }
        }
        Err(last)
    }

    fn new(env: &E, settings: &Settings, reader: <E::Net as Net>::Reader, writer: <E::Net as Net>::Writer) -> Self {
        Self {
            env: env.clone(),
            settings: settings.clone(),
            reader,
            writer,
            queue: WriteQueue::new(),
            scratch: BytesMut::new(),
            buffer: BytesMut::new(),
            served: BTreeMap::new(),
            correlation_id: 0,
            queued_bytes: 0,
            sent_bytes: 0,
            in_flight: VecDeque::new(),
            unanswered: VecDeque::new(),
            busy_at: env.clock().now(),
            muted_until: Instant::ZERO,
            has_answered: false,
        }
    }

    /// Asks what the broker serves; once more in an older version if it does not know ours (KIP-511).
    async fn negotiate(&mut self) -> Result<(), ClientError> {
        let mut version = ApiKey::ApiVersions.served().max;
        loop {
            let response = self.ask_versions(version).await?;
            let served: BTreeMap<i16, (i16, i16)> =
                response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
            match ErrorCode::from_code(response.error_code) {
                Some(ErrorCode::None) => {
                    self.served = served;
                    return Ok(());
                }
                Some(ErrorCode::UnsupportedVersion) if version > 0 => {
                    let known = served.get(&ApiKey::ApiVersions.to_wire()).map_or(0, |(_, max)| *max);
                    version = known.clamp(0, version - 1);
                }
                _ => {
                    let what = format!("negotiate versions with {}", self.settings.address);
                    return Err(ClientError::refused(what, response.error_code, None));
                }
            }
        }
    }

    async fn ask_versions(&mut self, version: i16) -> Result<ApiVersionsResponse, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("quipu-client"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let correlation_id = self.encode(version, &request.into())?;
        let deadline = self.env.clock().now() + self.settings.request_timeout;
        let mut limit = core::pin::pin!(self.env.clock().sleep_until(deadline));
        loop {
            if let Some(frame) = self.take_frame()? {
                let decoded = frame::decode_response(frame, ApiKey::ApiVersions, version);
                let (found, response) = decoded.map_err(|error| self.malformed(error.to_string()))?;
                return match response {
                    Response::ApiVersions(response) if found == correlation_id => Ok(response),
                    _ => Err(self.malformed(format!("a reply to request {found} instead of {correlation_id}"))),
                };
            }
            tokio::select! { biased;
                read = self.reader.read_buf(&mut self.buffer) => self.check_read(read)?,
                written = self.writer.write(&mut self.queue), if !self.queue.is_empty() => {
                    self.take_written(written)?;
                }
                () = limit.as_mut() => return Err(self.late(ApiKey::ApiVersions)),
            }
        }
    }

    /// Sends calls and hands out replies until the connection ends, and says why it did.
    async fn serve(&mut self, calls: &mut mpsc::Receiver<Call>) -> ClientError {
        let mut alarm = Box::pin(self.env.clock().sleep_until(Instant::ZERO));
        let mut alarm_at: Option<Instant> = None;
        loop {
            let next = self.first_deadline().map_or(self.busy_at + self.settings.idle_max, |(deadline, _)| deadline);
            let is_muted = self.muted_until > self.env.clock().now();
            let next = if is_muted { next.min(self.muted_until) } else { next };
            if alarm_at.is_none_or(|at| next < at) {
                alarm.as_mut().reset(next);
                alarm_at = Some(next);
            }
            let may_send = !is_muted && self.in_flight.len() + self.unanswered.len() < CALLS_IN_FLIGHT_MAX;
            let step = tokio::select! { biased;
                read = self.reader.read_buf(&mut self.buffer) => self.check_read(read).and_then(|()| self.take_replies()),
                written = self.writer.write(&mut self.queue), if !self.queue.is_empty() => self.take_written(written),
                call = calls.recv(), if may_send => match call {
                    Some(call) => {
                        self.begin(call);
                        Ok(())
                    }
                    None => return ClientError::Closed,
                },
                () = alarm.as_mut() => {
                    alarm_at = None;
                    self.check_deadlines()
                }
            };
            if let Err(failure) = step {
                return failure;
            }
        }
    }

    /// Queues a call's request; a call that can't be sent has its answer at once.
    fn begin(&mut self, call: Call) {
        let Call { request, versions, patience, has_reply, reply } = call;
        let api = request.api();
        let version = match self.version(api, &versions) {
            Ok(version) => version,
            Err(error) => return reply.send(Err(error)),
        };
        let begins_at = self.queued_bytes;
        self.busy_at = self.env.clock().now();
        let deadline = self.busy_at + patience;
        match self.encode(version, &request) {
            Err(error) => reply.send(Err(error)),
            Ok(_) if !has_reply => {
                let ends_at = self.queued_bytes;
                self.unanswered.push_back(Unanswered { api, deadline, ends_at, reply });
            }
            Ok(correlation_id) => {
                self.in_flight.push_back(InFlight { api, version, correlation_id, deadline, begins_at, reply });
            }
        }
    }

    /// The highest version that both sides know and that can carry the call.
    fn version(&self, api: ApiKey, wanted: &RangeInclusive<i16>) -> Result<i16, ClientError> {
        let served = self.served.get(&api.to_wire()).copied();
        let own = api.served();
        let common = served.and_then(|(min, max)| {
            let (low, high) = (min.max(own.min).max(*wanted.start()), max.min(own.max).min(*wanted.end()));
            (low <= high).then_some(high)
        });
        common.ok_or_else(|| ClientError::Version { address: self.settings.address.clone(), api, served })
    }

    /// Appends a request to the queue, and answers its correlation id.
    fn encode(&mut self, version: i16, request: &Request) -> Result<i32, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: self.correlation_id,
            client_id: Some(self.settings.client_id.clone()),
        };
        let unencodable = |cause: String| ClientError::Unencodable { api: header.api, cause };
        let chunks = frame::encode_request(&mut self.scratch, &header, request);
        for chunk in chunks.map_err(|error| unencodable(error.to_string()))? {
            let Chunk::Bytes(bytes) = chunk else { return Err(unencodable("records with holes".to_owned())) };
            self.queued_bytes += bytes.len() as u64;
            self.queue.push(Segment::Bytes(bytes));
        }
        Ok(self.correlation_id)
    }

    fn check_read(&self, read: std::io::Result<usize>) -> Result<(), ClientError> {
        if matches!(read, Ok(1..)) { Ok(()) } else { Err(self.disconnected(true)) }
    }

    fn take_written(&mut self, written: std::io::Result<usize>) -> Result<(), ClientError> {
        let count = written.map_err(|_| self.disconnected(true))?;
        self.sent_bytes += count as u64;
        while self.unanswered.front().is_some_and(|first| first.ends_at <= self.sent_bytes) {
            if let Some(left) = self.unanswered.pop_front() {
                left.reply.send(Ok(None));
            }
        }
        Ok(())
    }

    fn take_replies(&mut self) -> Result<(), ClientError> {
        while let Some(frame) = self.take_frame()? {
            let found = frame::correlation_id(&frame);
            let expected = self.in_flight.front().map(|first| first.correlation_id);
            if found.is_none() || found != expected {
                return Err(self.malformed(format!("a reply to request {found:?} where {expected:?} was due")));
            }
            let Some(InFlight { api, version, reply, .. }) = self.in_flight.pop_front() else { return Ok(()) };
            self.busy_at = self.env.clock().now();
            self.has_answered = true;
            self.settings.failures.store(0, Ordering::Relaxed);
            match frame::decode_response(frame, api, version) {
                Ok((_, response)) => {
                    let pause_ms = u64::try_from(response.throttle_time_ms()).unwrap_or(0);
                    self.muted_until = self.muted_until.max(self.busy_at + Duration::from_millis(pause_ms));
                    reply.send(Ok(Some(Answer { response, version })));
                }
                Err(error) => {
                    let error = self.malformed(format!("{api} reply, version {version}: {error}"));
                    reply.send(Err(error.clone()));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The next frame, if all of it is there. Otherwise makes room for what is missing.
    fn take_frame(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            self.buffer.reserve(READ_BYTES);
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= self.settings.response_bytes_max);
        let Some(bytes) = bytes else {
            return Err(self.malformed(format!("a reply that claims to have {length} bytes")));
        };
        let missing = (bytes + 4).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.max(READ_BYTES));
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    /// When the first request will be late, and which one that is.
    fn first_deadline(&self) -> Option<(Instant, ApiKey)> {
        let waiting = self.in_flight.front().map(|first| (first.deadline, first.api));
        let leaving = self.unanswered.front().map(|first| (first.deadline, first.api));
        waiting.into_iter().chain(leaving).min_by_key(|(deadline, _)| *deadline)
    }

    /// The alarm rang: the first request is late, nothing was to be done for long, or neither is so any more and the alarm is set
    /// anew by `serve`.
    fn check_deadlines(&self) -> Result<(), ClientError> {
        let now = self.env.clock().now();
        match self.first_deadline() {
            Some((deadline, api)) if deadline <= now => Err(self.late(api)),
            None if self.busy_at + self.settings.idle_max <= now => Err(self.disconnected(false)),
            _ => Ok(()),
        }
    }

    /// Whether nothing is under way.
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.unanswered.is_empty()
    }

    /// Answers everything under way.
    fn fail_all(&mut self, failure: &ClientError) {
        for call in core::mem::take(&mut self.in_flight) {
            let error = if call.begins_at >= self.sent_bytes { unsent(failure) } else { failure.clone() };
            call.reply.send(Err(error));
        }
        for call in core::mem::take(&mut self.unanswered) {
            call.reply.send(Err(failure.clone()));
        }
    }

    fn disconnected(&self, sent: bool) -> ClientError {
        ClientError::Disconnected { address: self.settings.address.clone(), sent }
    }

    fn malformed(&self, cause: String) -> ClientError {
        ClientError::Malformed { address: self.settings.address.clone(), cause }
    }

    fn late(&self, api: ApiKey) -> ClientError {
        let what = format!("{api} reply of {}", self.settings.address);
        ClientError::TimedOut { what, after: self.settings.request_timeout, last: None }
    }
}
