//! What the tests of the codec share: bodies made from the schemas, and the way of a body through our codec.
//!
//! The generator here is a second, independent reading of the schemas: it writes bytes, never a message.

#![expect(clippy::unwrap_used, reason = "the figures of a test")]
#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses its part")]

use bytes::{Bytes, BytesMut};
use quipu_protocol::{
    ApiKey, Chunk, Request, RequestHeader, Response,
    frame::{decode_request, decode_response, encode_request, encode_response},
    schema::{Direction, FieldSchema, Kind, MessageSchema, Plain, StructSchema},
};

/// Calls a macro with every API's name.
macro_rules! for_each_api {
    ($callback:ident) => {
        $callback!(
            Produce Fetch ListOffsets Metadata OffsetCommit OffsetFetch FindCoordinator JoinGroup Heartbeat LeaveGroup SyncGroup
            DescribeGroups ListGroups ApiVersions CreateTopics DeleteTopics DeleteRecords InitProducerId OffsetForLeaderEpoch
            DescribeConfigs AlterConfigs DescribeLogDirs CreatePartitions DeleteGroups ElectLeaders IncrementalAlterConfigs
            AlterPartitionReassignments ListPartitionReassignments OffsetDelete DescribeQuorum UpdateFeatures DescribeCluster
            DescribeProducers UnregisterBroker ConsumerGroupHeartbeat ConsumerGroupDescribe GetTelemetrySubscriptions
            PushTelemetry ListConfigResources DescribeTopicPartitions
        )
    };
}
pub(crate) use for_each_api;

/// One message at one version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) api: ApiKey,
    pub(crate) direction: Direction,
    pub(crate) version: i16,
}

impl Case {
    /// Every declared message at every version.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for api in ApiKey::ALL.iter().copied() {
            for version in api.served().min..=api.served().max {
                all.push(Self { api, direction: Direction::Request, version });
                all.push(Self { api, direction: Direction::Response, version });
            }
        }
        all
    }

    pub(crate) fn schema(self) -> MessageSchema {
        match self.direction {
            Direction::Request => self.api.request_schema(),
            Direction::Response => self.api.response_schema(),
            Direction::Record => unreachable!("a case is a request or a response"),
        }
    }

    fn header(self) -> RequestHeader {
        RequestHeader { api: self.api, version: self.version, correlation_id: 7, client_id: None }
    }

    /// The bytes in front of the body, without the frame's length.
    fn prefix(self) -> Vec<u8> {
        let mut prefix = Vec::new();
        let tags = match self.direction {
            Direction::Request => {
                prefix.extend(self.api.to_wire().to_be_bytes());
                prefix.extend(self.version.to_be_bytes());
                prefix.extend([0, 0, 0, 7, 0xff, 0xff]);
                self.api.request_header_version(self.version) == 2
            }
            Direction::Response => {
                prefix.extend([0, 0, 0, 7]);
                self.api.response_header_version(self.version) == 1
            }
            Direction::Record => unreachable!("a case is a request or a response"),
        };
        if tags {
            prefix.push(0);
        }
        prefix
    }

    /// Decodes a body.
    pub(crate) fn decode(self, body: &[u8]) -> Result<Decoded, String> {
        let frame = Bytes::from([&self.prefix()[..], body].concat());
        match self.direction {
            Direction::Request => {
                let (header, request) = decode_request(frame).map_err(|error| error.to_string())?;
                assert_eq!(header, self.header());
                Ok(Decoded::Request(request))
            }
            Direction::Response => {
                let decoded = decode_response(frame, self.api, self.version).map_err(|error| error.to_string())?;
                assert_eq!(decoded.0, 7);
                Ok(Decoded::Response(decoded.1))
            }
            Direction::Record => unreachable!("a case is a request or a response"),
        }
    }

    /// Encodes to a body.
    pub(crate) fn encode(self, decoded: &Decoded) -> Result<Vec<u8>, String> {
        let mut buffer = BytesMut::new();
        let chunks = match decoded {
            Decoded::Request(request) => encode_request(&mut buffer, &self.header(), request),
            Decoded::Response(response) => encode_response(&mut buffer, self.version, 7, response),
        };
        let frame = join(chunks.map_err(|error| error.to_string())?);
        let body = frame[4..].strip_prefix(&self.prefix()[..]).expect("the frame begins with its header");
        Ok(body.to_vec())
    }

    /// A body made from the schema; what `choices` decide.
    pub(crate) fn generate(self, choices: &mut Choices<'_>) -> Vec<u8> {
        self.build(choices, false)
    }

    /// The same body with a tagged field that nobody knows in every structure.
    pub(crate) fn generate_with_unknown_tags(self, choices: &mut Choices<'_>) -> Vec<u8> {
        self.build(choices, true)
    }

    fn build(self, choices: &mut Choices<'_>, unknown_tags: bool) -> Vec<u8> {
        let schema = self.schema();
        let mut builder = Builder {
            version: self.version,
            flexible: schema.is_flexible(self.version),
            unknown_tags,
            out: Vec::new(),
        };
        builder.structure(schema.root, &mut Source::Choices(choices));
        builder.out
    }

    /// The body of a message whose fields all have their defaults.
    pub(crate) fn defaults(self) -> Vec<u8> {
        let schema = self.schema();
        let flexible = schema.is_flexible(self.version);
        let mut builder = Builder { version: self.version, flexible, unknown_tags: false, out: Vec::new() };
        builder.structure(schema.root, &mut Source::Defaults);
        builder.out
    }
}

/// A message of either direction.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Decoded {
    Request(Request),
    Response(Response),
}

/// All bytes of a frame; it must have no holes.
pub(crate) fn join(chunks: Vec<Chunk>) -> Vec<u8> {
    chunks.into_iter().fold(Vec::new(), |mut all, chunk| {
        let Chunk::Bytes(bytes) = chunk else { panic!("a hole in a frame without holes") };
        all.extend_from_slice(&bytes);
        all
    })
}

/// Random decisions, taken from bytes; zero when they run out, so that fewer bytes make a simpler message.
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> usize {
        usize::from(self.byte() % bound)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn length(&mut self) -> usize {
        match self.byte() {
            // Longer than what is copied into the frame's buffer, and than one byte of a compact length says.
            250..=255 => 600,
            200..=249 => 200,
            byte => usize::from(byte % 12),
        }
    }
}

/// Where the values come from.
enum Source<'a, 'b> {
    Choices(&'a mut Choices<'b>),
    Defaults,
}

/// A text whose compact length takes two bytes.
const LONG: &str = "all work and no play makes a dull log, all work and no play makes a dull log, all work and no play makes a \
                    dull log, all work and no play makes a dull log";

struct Builder {
    version: i16,
    flexible: bool,
    unknown_tags: bool,
    out: Vec<u8>,
}

impl Builder {
    fn nested(&self) -> Self {
        Self { out: Vec::new(), ..*self }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        self.out.push(u8::try_from(value).unwrap());
    }

    fn structure(&mut self, schema: &StructSchema, source: &mut Source<'_, '_>) {
        let version = self.version;
        for field in schema.fields.iter().filter(|field| field.rules.is_inline(version)) {
            self.field(field, source);
        }
        if !self.flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in schema.fields.iter().filter(|field| field.rules.is_tagged(version)) {
            let (mut value, mut default) = (self.nested(), self.nested());
            value.field(field, source);
            default.field(field, &mut Source::Defaults);
            if value.out != default.out {
                tagged.push((usize::try_from(field.rules.tag.unwrap()).unwrap(), value.out));
            }
        }
        if self.unknown_tags {
            tagged.push((300, vec![1, 2, 3]));
        }
        self.varint(tagged.len());
        for (tag, value) in tagged {
            self.varint(tag);
            self.varint(value.len());
            self.out.extend(value);
        }
    }

    fn field(&mut self, field: &FieldSchema, source: &mut Source<'_, '_>) {
        let nullable = field.rules.is_nullable(self.version);
        match source {
            Source::Choices(choices) => {
                if nullable && choices.below(3) == 0 {
                    self.null(&field.kind);
                } else {
                    self.value(&field.kind, nullable, choices);
                }
            }
            Source::Defaults => self.default(field, nullable),
        }
    }

    fn null(&mut self, kind: &Kind) {
        match kind {
            Kind::Struct(_) => self.out.push(0xff),
            _ if self.flexible => self.out.push(0),
            Kind::String => self.out.extend([0xff; 2]),
            _ => self.out.extend([0xff; 4]),
        }
    }

    fn length(&mut self, kind: &Kind, length: usize) {
        match kind {
            _ if self.flexible => self.varint(length + 1),
            Kind::String => self.out.extend(u16::try_from(length).unwrap().to_be_bytes()),
            _ => self.out.extend(u32::try_from(length).unwrap().to_be_bytes()),
        }
    }

    fn value(&mut self, kind: &Kind, nullable: bool, choices: &mut Choices<'_>) {
        match kind {
            Kind::Bool => self.out.push(choices.byte() & 1),
            Kind::Int8 => self.out.push(choices.byte()),
            Kind::Int16 | Kind::Uint16 => self.out.extend(choices.bytes(2)),
            Kind::Int32 => self.out.extend(choices.bytes(4)),
            Kind::Int64 => self.out.extend(choices.bytes(8)),
            Kind::Float64 => self.out.extend(f64::from(choices.byte()).to_be_bytes()),
            Kind::Uuid => self.out.extend(choices.bytes(16)),
            Kind::String => {
                let text = ["", "a", "topic", "Ünïcødé", LONG][choices.below(5)];
                self.length(kind, text.len());
                self.out.extend(text.bytes());
            }
            Kind::Bytes | Kind::Records => {
                let length = choices.length();
                self.length(kind, length);
                self.out.extend(choices.bytes(length));
            }
            Kind::Array(element) => {
                let count = choices.below(4);
                self.length(kind, count);
                (0..count).for_each(|_| self.value(element, false, choices));
            }
            Kind::Struct(schema) => {
                if nullable {
                    self.out.push(1);
                }
                self.structure(schema, &mut Source::Choices(choices));
            }
        }
    }

    fn default(&mut self, field: &FieldSchema, nullable: bool) {
        let kind = &field.kind;
        match (kind, (field.default)()) {
            (_, Plain::Null) => self.null(kind),
            (_, Plain::Bool(value)) => self.out.push(u8::from(value)),
            (Kind::Int8, Plain::Integer(value)) => self.out.extend(i8::try_from(value).unwrap().to_be_bytes()),
            (Kind::Int16, Plain::Integer(value)) => self.out.extend(i16::try_from(value).unwrap().to_be_bytes()),
            (Kind::Int32, Plain::Integer(value)) => self.out.extend(i32::try_from(value).unwrap().to_be_bytes()),
            (Kind::Int64, Plain::Integer(value)) => self.out.extend(value.to_be_bytes()),
            (_, Plain::Uuid(id)) => self.out.extend(id),
            (_, Plain::Text(text)) => {
                self.length(kind, text.len());
                self.out.extend(text.bytes());
            }
            (_, Plain::Sequence(length)) => {
                assert_eq!(length, 0, "only empty sequences are defaults");
                self.length(kind, 0);
            }
            (Kind::Struct(schema), Plain::Struct) => {
                if nullable {
                    self.out.push(1);
                }
                self.structure(schema, &mut Source::Defaults);
            }
            (kind, value) => panic!("{value:?} is no default of {kind:?}"),
        }
    }
}
