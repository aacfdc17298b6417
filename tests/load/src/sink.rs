//! A server that answers canned replies and stores nothing: what the client can do at most.
//!
//! It speaks old (not flexible) versions only: ApiVersions 0, Metadata 4, Produce 3-7, Fetch 4, ListOffsets 1, CreateTopics 2,
//! FindCoordinator 0. Topics exist as soon as they are named; `x-4` has 4 partitions, any other name 1. Every partition is
//! endless: a fetch at any offset gets the same batch again, its base offset patched.
//!
//! Deliberately not here: checking of anything. It parses just enough to answer. A thread per connection.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use quipu_testkit::batch::{Producer, build};
use quipu_testkit::wire::{Body, Reply};
use quipu_testkit::{Failure, Result};
use serde_json::Value;

/// Bytes of values in the batch that every fetch gets: what librdkafka puts into a batch when it is busy.
const BATCH_VALUE_BYTES: usize = 950_000;
/// What every partition claims to hold.
const END_OFFSET: i64 = 1 << 40;
/// A frame that claims more is refused.
const FRAME_BYTES_MAX: usize = 128 << 20;

const API_VERSIONS: [(i16, i16, i16); 7] =
    [(0, 0, 7), (1, 0, 4), (2, 0, 1), (3, 0, 4), (10, 0, 0), (18, 0, 0), (19, 2, 2)];

/// Serves until killed; prints `sink: ready on HOST:PORT`.
pub(crate) fn run(listen: SocketAddr, record_bytes: usize) -> Result<Value> {
    let listener = TcpListener::bind(listen).map_err(Failure::context(format!("cannot listen on {listen}")))?;
    let address = listener.local_addr().map_err(Failure::context("cannot listen"))?;
    println!("sink: ready on {address}");
    let canned = Canned::new(record_bytes);
    loop {
        let (stream, _) = listener.accept().map_err(Failure::context("cannot accept"))?;
        let connection = Connection { address, canned: canned.clone(), reply: Vec::new() };
        std::thread::spawn(move || {
            // A client that breaks off, or speaks a version that we didn't offer, is closed.
            drop(connection.serve(stream));
        });
    }
}

/// The batch that every fetch gets.
#[derive(Clone, Debug)]
struct Canned {
    batch: Vec<u8>,
    records: i64,
}

impl Canned {
    fn new(record_bytes: usize) -> Self {
        let count = (BATCH_VALUE_BYTES / record_bytes.max(1)).max(1);
        let pool = crate::produce::pool(record_bytes);
        let values: Vec<_> = (0..count).map(|number| crate::produce::value(&pool, number, record_bytes)).collect();
        let records = i64::try_from(count).expect("a batch holds few records");
        Self { batch: build(&values, 1_700_000_000_000, Producer::NONE), records }
    }
}

struct Connection {
    address: SocketAddr,
    canned: Canned,
    /// The reply being built; its allocation is kept.
    reply: Vec<u8>,
}

impl Connection {
    fn serve(mut self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true).map_err(Failure::context("nodelay"))?;
        let mut input = BufReader::with_capacity(1 << 20, &stream);
        let mut frame = Vec::new();
        loop {
            let mut length = [0; 4];
            input.read_exact(&mut length).map_err(Failure::context("read"))?;
            let length = usize::try_from(i32::from_be_bytes(length)).map_err(Failure::context("frame"))?;
            if length > FRAME_BYTES_MAX {
                return Err(Failure::new("a huge frame"));
            }
            frame.resize(length, 0);
            input.read_exact(&mut frame).map_err(Failure::context("read"))?;
            self.reply.clear();
            self.reply.extend_from_slice(&[0; 4]);
            let mut request = Reply::new(std::mem::take(&mut frame));
            let answered = self.answer(&mut request)?;
            frame = request.into_bytes();
            if answered {
                let length = i32::try_from(self.reply.len() - 4).expect("replies are small");
                self.reply[..4].copy_from_slice(&length.to_be_bytes());
                (&stream).write_all(&self.reply).map_err(Failure::context("write"))?;
            }
        }
    }

    /// Builds the reply; false when there is none (acks=0).
    fn answer(&mut self, request: &mut Reply) -> Result<bool> {
        let (key, version, correlation_id) = (request.i16()?, request.i16()?, request.i32()?);
        request.string()?;
        self.reply.extend_from_slice(&correlation_id.to_be_bytes());
        match key {
            18 => self.api_versions(version),
            3 => self.metadata(request)?,
            0 => return self.produce(request),
            1 => self.fetch(request)?,
            2 => self.list_offsets(request)?,
            10 => self.put(Body::new().i16(15).i32(-1).string("").i32(-1)),
            19 => self.create_topics(request)?,
            _ => return Err(Failure::new(format!("request {key}"))),
        }
        Ok(true)
    }

    fn put(&mut self, body: Body) {
        self.reply.extend_from_slice(&body.into_bytes());
    }

    fn api_versions(&mut self, version: i16) {
        // A version that we don't have is answered with error 35 in a version 0 body, as Kafka does.
        let error = if version == 0 { 0 } else { 35 };
        let mut body = Body::new().i16(error).i32(API_VERSIONS.len().try_into().expect("few"));
        for (key, lowest, highest) in API_VERSIONS {
            body = body.i16(key).i16(lowest).i16(highest);
        }
        self.put(body);
    }

    fn metadata(&mut self, request: &mut Reply) -> Result<()> {
        let count = request.count()?;
        let host = self.address.ip().to_string();
        let mut body = Body::new().i32(0).i32(1).i32(1).string(&host).i32(i32::from(self.address.port()));
        body = body.i16(-1).string("sink").i32(1).i32(i32::try_from(count).map_err(Failure::context("topics"))?);
        for _ in 0..count {
            let name = request.string()?;
            let partitions = partitions_of(&name);
            body = body.i16(0).string(&name).i8(0).i32(partitions);
            for partition in 0..partitions {
                body = body.i16(0).i32(partition).i32(1).i32(1).i32(1).i32(1).i32(1);
            }
        }
        self.put(body);
        Ok(())
    }

    fn produce(&mut self, request: &mut Reply) -> Result<bool> {
        request.string()?;
        let acks = request.i16()?;
        request.i32()?;
        let topics = request.i32()?;
        let mut body = Body::new().i32(topics);
        for _ in 0..topics {
            let name = request.string()?;
            let partitions = request.i32()?;
            body = body.string(&name).i32(partitions);
            for _ in 0..partitions {
                let partition = request.i32()?;
                let length = request.count()?;
                request.take(length)?;
                body = body.i32(partition).i16(0).i64(0).i64(-1).i64(0);
            }
        }
        self.put(body.i32(0));
        Ok(acks != 0)
    }

    fn fetch(&mut self, request: &mut Reply) -> Result<()> {
        for _ in 0..4 {
            request.i32()?;
        }
        request.i8()?;
        let topics = request.i32()?;
        self.put(Body::new().i32(0).i32(topics));
        for _ in 0..topics {
            let name = request.string()?;
            let partitions = request.i32()?;
            self.put(Body::new().string(&name).i32(partitions));
            for _ in 0..partitions {
                let (partition, offset) = (request.i32()?, request.i64()?);
                request.i32()?;
                // A batch begins at every multiple of its record count; the client skips what it didn't ask for.
                let base_offset = offset - offset.rem_euclid(self.canned.records);
                self.canned.batch[..8].copy_from_slice(&base_offset.to_be_bytes());
                self.put(Body::new().i32(partition).i16(0).i64(END_OFFSET).i64(END_OFFSET).i32(0));
                let length = i32::try_from(self.canned.batch.len()).expect("a batch is small");
                self.reply.extend_from_slice(&length.to_be_bytes());
                self.reply.extend_from_slice(&self.canned.batch);
            }
        }
        Ok(())
    }

    fn list_offsets(&mut self, request: &mut Reply) -> Result<()> {
        request.i32()?;
        let topics = request.i32()?;
        let mut body = Body::new().i32(topics);
        for _ in 0..topics {
            let name = request.string()?;
            let partitions = request.i32()?;
            body = body.string(&name).i32(partitions);
            for _ in 0..partitions {
                let (partition, timestamp) = (request.i32()?, request.i64()?);
                let offset = if timestamp == -1 { END_OFFSET } else { 0 };
                body = body.i32(partition).i16(0).i64(-1).i64(offset);
            }
        }
        self.put(body);
        Ok(())
    }

    /// One topic, as the testkit asks for it.
    fn create_topics(&mut self, request: &mut Reply) -> Result<()> {
        request.i32()?;
        let name = request.string()?;
        self.put(Body::new().i32(0).i32(1).string(&name).i16(0).i16(-1));
        Ok(())
    }
}

fn partitions_of(topic: &str) -> i32 {
    topic.rsplit_once('-').and_then(|(_, count)| count.parse().ok()).unwrap_or(1)
}
