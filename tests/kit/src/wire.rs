//! A raw, blocking Kafka connection: one request out, one reply in, old (not flexible) message versions only.
//!
//! It exists for what real clients don't do: hostile frames, exact control of what is in flight, a look at stored batches.
//! Its versions: Produce 7, Fetch 4, ListOffsets 1, Metadata 4, ApiVersions 0, CreateTopics 2, InitProducerId 0.
//!
//! Not here: batches ([`crate::batch`]). Read that next.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Failure, Result};

/// A reply may take this long.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A request or reply body being written.
#[derive(Clone, Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an INT8.
    pub fn i8(mut self, value: i8) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an INT16.
    pub fn i16(mut self, value: i16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an INT32, or an array's count.
    pub fn i32(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an INT64.
    pub fn i64(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a STRING.
    pub fn string(self, value: &str) -> Self {
        let length = i16::try_from(value.len()).expect("strings of tests are short");
        self.i16(length).raw(value.as_bytes())
    }

    /// Appends BYTES or RECORDS: a 32-bit length and the bytes.
    pub fn bytes(self, value: &[u8]) -> Self {
        let length = i32::try_from(value.len()).expect("bytes of tests are below 2 GiB");
        self.i32(length).raw(value)
    }

    /// Appends bytes as they are.
    pub fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A reply (or a request, for servers) being read.
#[derive(Clone, Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    position: usize,
}

impl Reply {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.position + length;
        let taken = self
            .bytes
            .get(self.position..end)
            .ok_or_else(|| Failure::new(format!("a message of {} bytes ends before {end}", self.bytes.len())))?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    /// The next INT8.
    pub fn i8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    /// The next INT16.
    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// The next INT32.
    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next INT64.
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// The next STRING; null is empty.
    pub fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// The next BYTES or RECORDS; null is empty.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.take(length)?.to_vec())
    }

    /// The next array's count; null is 0.
    pub fn count(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    fn nodes(&mut self) -> Result<Vec<i32>> {
        (0..self.count()?).map(|_| self.i32()).collect()
    }

    /// Gives the bytes back, for their allocation.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }
}

/// A Produce reply for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Kafka error code, 0 for none.
    pub error: i16,
    /// Offset of the batch's first record.
    pub base_offset: i64,
}

/// A Fetch reply for one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Kafka error code, 0 for none.
    pub error: i16,
    /// The partition's high watermark.
    pub high_watermark: i64,
    /// Whole batches, and perhaps a part of one.
    pub records: Vec<u8>,
}

/// What Metadata says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// The leader's node id, -1 for none.
    pub leader: i32,
    /// Node ids of its replicas.
    pub replicas: Vec<i32>,
    /// Of them, those in sync.
    pub in_sync: Vec<i32>,
}

/// One connection. Requests are numbered from 1.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
}

impl Wire {
    /// Connects to a broker.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let failed = || Failure::context(format!("cannot connect to {address}"));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(failed())?;
        stream.set_read_timeout(Some(REPLY_LIMIT)).map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// The connection's socket, for writing what is no request at all.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Makes the next request carry `correlation_id`.
    pub fn set_correlation_id(&mut self, correlation_id: i32) {
        self.correlation_id = correlation_id - 1;
    }

    /// Writes one request; returns its correlation id.
    pub fn send(&mut self, key: i16, version: i16, body: &[u8]) -> Result<i32> {
        self.correlation_id += 1;
        let frame = frame(key, version, self.correlation_id, body);
        self.stream.write_all(&frame).map_err(Failure::context("cannot write a request"))?;
        Ok(self.correlation_id)
    }

    /// Reads one reply: correlation id and body. `None`: the broker closed the connection.
    pub fn receive(&mut self) -> Result<Option<(i32, Reply)>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_close(error.kind()) => return Ok(None),
            Err(error) => return Err(Failure::new(format!("cannot read a reply: {error}"))),
        }
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(Failure::context("negative reply length"))?;
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map_err(Failure::context("cannot read a reply"))?;
        let mut reply = Reply::new(bytes);
        Ok(Some((reply.i32()?, reply)))
    }

    /// One request, its reply.
    pub fn call(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Reply> {
        let sent = self.send(key, version, body)?;
        match self.receive()? {
            Some((received, reply)) if received == sent => Ok(reply),
            Some((received, _)) => Err(Failure::new(format!("request {sent} was answered by reply {received}"))),
            None => Err(Failure::new(format!("connection closed instead of an answer to request {key} v{version}"))),
        }
    }

    /// ApiVersions: (key, lowest, highest).
    pub fn api_versions(&mut self) -> Result<Vec<(i16, i16, i16)>> {
        let mut reply = self.call(18, 0, &[])?;
        check(reply.i16()?, "ApiVersions")?;
        let count = reply.count()?;
        (0..count).map(|_| Ok((reply.i16()?, reply.i16()?, reply.i16()?))).collect()
    }

    /// Creates a topic and waits until it is there. An existing one is an error.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        self.create_replicated_topic(name, partitions, 1, configs)?;
        (0..partitions).try_for_each(|partition| self.wait_for_leader(name, partition))
    }

    /// Creates a topic with `replicas` replicas of each partition, and waits until each has a leader.
    pub fn create_replicated_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let mut body = Body::new().i32(1).string(name).i32(partitions).i16(replicas).i32(0);
        body = body.i32(i32::try_from(configs.len()).expect("few configs"));
        for (key, value) in configs {
            body = body.string(key).string(value);
        }
        let body = body.i32(30_000).i8(0);
        let mut reply = self.call(19, 2, &body.into_bytes())?;
        reply.i32()?;
        reply.count()?;
        reply.string()?;
        let error = reply.i16()?;
        let message = reply.string()?;
        check(error, &format!("CreateTopics {name} ({message})"))?;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let led = self.partitions(name)?.iter().filter(|partition| partition.leader >= 0).count();
            if led == usize::try_from(partitions).unwrap_or(0) {
                return Ok(());
            }
            if std::time::Instant::now() > deadline {
                return Err(Failure::new(format!("{led} of {partitions} partitions of {name} have a leader")));
            }
            // The broker tells nobody when a new partition is led: asking again is all that a client can do.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What Metadata says of a topic's partitions; empty when the topic is not there (yet).
    pub fn partitions(&mut self, topic: &str) -> Result<Vec<PartitionMetadata>> {
        let mut reply = self.call(3, 1, &Body::new().i32(1).string(topic).into_bytes())?;
        for _ in 0..reply.count()? {
            reply.i32()?;
            reply.string()?;
            reply.i32()?;
            reply.string()?;
        }
        reply.i32()?;
        let mut partitions = Vec::new();
        for _ in 0..reply.count()? {
            reply.i16()?;
            reply.string()?;
            reply.i8()?;
            for _ in 0..reply.count()? {
                reply.i16()?;
                let (partition, leader) = (reply.i32()?, reply.i32()?);
                let (replicas, in_sync) = (reply.nodes()?, reply.nodes()?);
                partitions.push(PartitionMetadata { partition, leader, replicas, in_sync });
            }
        }
        Ok(partitions)
    }

    /// Of a topic's partitions, from 0 to `partitions` - 1, those that this broker tells the end offset of: it leads and serves them.
    pub fn served(&mut self, topic: &str, partitions: i32) -> Result<Vec<i32>> {
        let mut body = Body::new().i32(-1).i32(1).string(topic).i32(partitions);
        for partition in 0..partitions {
            body = body.i32(partition).i64(-1);
        }
        let mut reply = self.call(2, 1, &body.into_bytes())?;
        reply.count()?;
        reply.string()?;
        let mut served = Vec::new();
        for _ in 0..reply.count()? {
            let (partition, error) = (reply.i32()?, reply.i16()?);
            reply.i64()?;
            reply.i64()?;
            if error == 0 {
                served.push(partition);
            }
        }
        Ok(served)
    }

    /// A Produce request for one batch, acks=all.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Result<Produced> {
        let body = produce_body(-1, topic, partition, batch);
        let reply = self.call(0, 7, &body)?;
        produce_reply(reply)
    }

    /// A Fetch of one partition from `offset`, which waits at most `wait_ms` for a byte.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, wait_ms: i32) -> Result<Fetched> {
        let mut reply = self.call(1, 4, &fetch_body(topic, partition, offset, wait_ms))?;
        reply.i32()?;
        reply.count()?;
        reply.string()?;
        reply.count()?;
        reply.i32()?;
        let error = reply.i16()?;
        let high_watermark = reply.i64()?;
        reply.i64()?;
        for _ in 0..reply.count()? {
            reply.i64()?;
            reply.i64()?;
        }
        Ok(Fetched { error, high_watermark, records: reply.bytes()? })
    }

    /// Everything in a partition from `offset` to its high watermark, as stored.
    pub fn fetch_all(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Vec<u8>> {
        let mut stored = Vec::new();
        let mut next_offset = offset;
        loop {
            let fetched = self.fetch(topic, partition, next_offset, 0)?;
            check(fetched.error, &format!("Fetch {topic}-{partition} at {next_offset}"))?;
            let headers = crate::batch::headers(&fetched.records)?;
            let whole: usize = headers.iter().map(|header| header.bytes).sum();
            stored.extend_from_slice(&fetched.records[..whole]);
            if let Some(last) = headers.last() {
                next_offset = last.base_offset + i64::from(last.count);
            }
            if next_offset >= fetched.high_watermark {
                return Ok(stored);
            }
            if headers.is_empty() {
                return Err(Failure::new(format!(
                    "Fetch {topic}-{partition} gave nothing at {next_offset} below the high watermark {}",
                    fetched.high_watermark
                )));
            }
        }
    }

    /// ListOffsets: -1 the end, -2 the start, else by timestamp. Gives (timestamp, offset).
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<(i64, i64)> {
        let body = Body::new().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp);
        let mut reply = self.call(2, 1, &body.into_bytes())?;
        reply.count()?;
        reply.string()?;
        reply.count()?;
        reply.i32()?;
        check(reply.i16()?, &format!("ListOffsets {topic}-{partition}"))?;
        Ok((reply.i64()?, reply.i64()?))
    }

    /// InitProducerId without a transactional id: (producer id, epoch).
    pub fn init_producer_id(&mut self) -> Result<(i64, i16)> {
        let body = Body::new().i16(-1).i32(60_000);
        let mut reply = self.call(22, 0, &body.into_bytes())?;
        reply.i32()?;
        check(reply.i16()?, "InitProducerId")?;
        Ok((reply.i64()?, reply.i16()?))
    }

    /// The cluster id, as Metadata gives it.
    pub fn cluster_id(&mut self) -> Result<String> {
        let mut reply = self.call(3, 4, &Body::new().i32(0).i8(0).into_bytes())?;
        reply.i32()?;
        for _ in 0..reply.count()? {
            reply.i32()?;
            reply.string()?;
            reply.i32()?;
            reply.string()?;
        }
        reply.string()
    }

    /// Asks for a partition's end until its leader answers, at most 30 seconds.
    fn wait_for_leader(&mut self, topic: &str, partition: i32) -> Result<()> {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match self.list_offset(topic, partition, -1) {
                Ok(_) => return Ok(()),
                Err(error) if std::time::Instant::now() > deadline => return Err(error),
                // The broker tells nobody when a new partition is led: asking again is all that a client can do.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// A whole request frame with a version 1 request header.
pub fn frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let header = Body::new().i16(key).i16(version).i32(correlation_id).string("testkit");
    Body::new().bytes(&header.raw(body).into_bytes()).into_bytes()
}

/// A Fetch of version 4: up to 8 MiB of one partition from `offset`, waiting at most `wait_ms` for a byte.
pub fn fetch_body(topic: &str, partition: i32, offset: i64, wait_ms: i32) -> Vec<u8> {
    let bytes_max = 8 << 20;
    let body = Body::new().i32(-1).i32(wait_ms).i32(1).i32(bytes_max).i8(0);
    body.i32(1).string(topic).i32(1).i32(partition).i64(offset).i32(bytes_max).into_bytes()
}

/// The body of a Produce request, version 7, for one batch. `acks`: -1, 0 or 1.
pub fn produce_body(acks: i16, topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
    let body = Body::new().i16(-1).i16(acks).i32(30_000);
    body.i32(1).string(topic).i32(1).i32(partition).bytes(batch).into_bytes()
}

/// Reads the reply to [`produce_body`].
pub fn produce_reply(mut reply: Reply) -> Result<Produced> {
    reply.count()?;
    reply.string()?;
    reply.count()?;
    reply.i32()?;
    Ok(Produced { error: reply.i16()?, base_offset: reply.i64()? })
}

fn check(error: i16, what: &str) -> Result<()> {
    if error == 0 { Ok(()) } else { Err(Failure::new(format!("{what}: Kafka error {error}"))) }
}

fn is_close(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
