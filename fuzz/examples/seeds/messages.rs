//! Frames of real clients, and one body for each message at its lowest, first flexible and highest version.

use quipu_protocol::{
    ApiKey,
    schema::{FieldSchema, Kind, MessageSchema, Plain, StructSchema},
};

use crate::Seeds;

const RECORDINGS: [(&str, &str); 3] = [
    ("kcat", include_str!("../../../crates/protocol/tests/testdata/clients/kcat-librdkafka-2.0.2.frames")),
    ("confluent", include_str!("../../../crates/protocol/tests/testdata/clients/confluent-kafka-2.16.1.frames")),
    ("kafka-python", include_str!("../../../crates/protocol/tests/testdata/clients/kafka-python-3.0.12.frames")),
];

pub(crate) fn add(seeds: &mut Seeds) {
    for (client, text) in RECORDINGS {
        for (number, line) in text.lines().filter(|line| !line.starts_with('#')).enumerate() {
            let words: Vec<_> = line.split(' ').collect();
            let [api, version, _, hex] = words[..] else { panic!("no recording: {line}") };
            seeds.good("frame", format!("{client}-{number:02}-{api}-{version}"), unhex(hex));
        }
    }
    add_hostile_frames(seeds);
    for (index, api) in (0..).zip(ApiKey::ALL.iter().copied()) {
        add_bodies(seeds, "request", index, api.name(), api.request_schema());
        add_bodies(seeds, "response", index, api.name(), api.response_schema());
    }
    for (name, body) in hostile_bodies() {
        seeds.bad("request", name, body.clone());
        seeds.bad("response", name, body);
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn add_hostile_frames(seeds: &mut Seeds) {
    let frame = |start: &[u8], body: &[u8]| [start, b"\0\0\0\x01\xff\xff", body].concat();
    let metadata_1 = |body: &[u8]| frame(b"\0\x03\0\x01", body);
    let metadata_9 = |body: &[u8]| frame(b"\0\x03\0\x09", &[b"\0", body].concat());
    seeds.bad("frame", "empty", Vec::new());
    seeds.bad("frame", "only-a-key", b"\0\x03".to_vec());
    seeds.bad("frame", "unknown-api", frame(b"\x7f\xff\0\0", b""));
    seeds.bad("frame", "negative-api", frame(b"\xff\xff\0\0", b""));
    seeds.bad("frame", "unknown-version", frame(b"\0\x03\x7f\xff", b""));
    seeds.bad("frame", "api-versions-too-new", frame(b"\0\x12\0\x63", b""));
    seeds.bad("frame", "client-id-longer-than-the-frame", b"\0\x03\0\x01\0\0\0\x01\x7f\xff".to_vec());
    seeds.bad("frame", "client-id-of-negative-length", b"\0\x03\0\x01\0\0\0\x01\xff\xfe".to_vec());
    seeds.bad("frame", "client-id-not-utf8", b"\0\x03\0\x01\0\0\0\x01\0\x02\xc3\x28\xff\xff\xff\xff".to_vec());
    seeds.bad("frame", "metadata-7fffffff-topics", metadata_1(b"\x7f\xff\xff\xff"));
    seeds.bad("frame", "metadata-80000000-topics", metadata_1(b"\x80\0\0\0"));
    seeds.bad("frame", "metadata-many-compact-topics", metadata_9(b"\x80\x80\x80\x80\x08"));
    seeds.bad("frame", "metadata-negative-compact-topics", metadata_9(b"\xff\xff\xff\xff\x0f"));
    seeds.bad("frame", "metadata-endless-varint", metadata_9(b"\x80\x80\x80\x80\x80\x80\x80"));
    seeds.bad("frame", "metadata-many-tags-in-the-header", frame(b"\0\x03\0\x09", b"\xff\xff\xff\xff\x0f"));
    seeds.bad("frame", "metadata-more-topics-than-bytes", metadata_1(b"\0\0\0\x05\0\0\0\0\0\0\0\0\0"));
    let tiny_topics = [&2000_u32.to_be_bytes()[..], &[0; 4000]].concat();
    seeds.good("frame", "metadata-many-tiny-topics", metadata_1(&tiny_topics));
    seeds.good("frame", "metadata-bytes-behind-the-request", metadata_1(b"\xff\xff\xff\xffabc"));
    let produce = b"\xff\xff\0\x01\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0";
    for (name, length) in [("7fffffff", b"\x7f\xff\xff\xff"), ("negative", b"\xff\xff\xff\xfe")] {
        let body = [&produce[..], length, b"abc"].concat();
        seeds.bad("frame", format!("produce-records-of-{name}-bytes"), frame(b"\0\0\0\x03", &body));
    }
}

fn hostile_bodies() -> [(&'static str, Vec<u8>); 4] {
    [
        ("no-body", vec![3]),
        ("metadata-7fffffff-elements", b"\x03\x01\x7f\xff\xff\xff".to_vec()),
        ("fetch-all-ones", [&b"\x01\x0b"[..], &[0xff; 64]].concat()),
        ("describe-topic-partitions-zeros", [&b"\x12\0"[..], &[0; 64]].concat()),
    ]
}

fn add_bodies(seeds: &mut Seeds, target: &'static str, index: u8, name: &str, schema: MessageSchema) {
    let versions = schema.versions;
    let mut chosen = vec![versions.min, schema.flexible_since.unwrap_or(versions.min).max(versions.min), versions.max];
    chosen.dedup();
    for version in chosen {
        let flexible = schema.is_flexible(version);
        let mut body = Body { version, flexible, bytes: Vec::new() };
        body.structure(schema.root);
        let choice = u8::try_from(version - versions.min).expect("few versions");
        let input = [&[index, choice][..], &body.bytes].concat();
        seeds.good(target, format!("{name}-{version}"), input);
    }
}

/// A body in which every array has two elements, nothing is null, and every tagged field is there.
struct Body {
    version: i16,
    flexible: bool,
    bytes: Vec<u8>,
}

impl Body {
    fn structure(&mut self, schema: &StructSchema) {
        let version = self.version;
        for field in schema.fields.iter().filter(|field| field.rules.is_inline(version)) {
            self.field(field);
        }
        if !self.flexible {
            return;
        }
        let is_sent = |field: &&FieldSchema| field.rules.is_tagged(version);
        let tagged: Vec<_> = schema.fields.iter().filter(is_sent).collect();
        self.length(tagged.len());
        for field in tagged {
            let mut value = Self { bytes: Vec::new(), ..*self };
            value.field(field);
            self.length(usize::try_from(field.rules.tag.expect("it is tagged")).expect("a small number"));
            self.length(value.bytes.len());
            self.bytes.append(&mut value.bytes);
        }
    }

    fn field(&mut self, field: &FieldSchema) {
        if matches!(field.kind, Kind::Struct(_)) && field.rules.is_nullable(self.version) {
            self.bytes.push(1);
        }
        // A default that is not zero marks what is not there: an epoch of -1, say.
        match ((field.default)(), &field.kind) {
            (Plain::Integer(-1), Kind::Int32) => self.bytes.extend([0xff; 4]),
            (_, kind) => self.value(kind),
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Bool => self.bytes.push(1),
            Kind::Int8 => self.bytes.push(2),
            Kind::Int16 | Kind::Uint16 => self.bytes.extend(3_u16.to_be_bytes()),
            Kind::Int32 => self.bytes.extend(4_u32.to_be_bytes()),
            Kind::Int64 => self.bytes.extend(8_u64.to_be_bytes()),
            Kind::Float64 => self.bytes.extend(0.5_f64.to_be_bytes()),
            Kind::Uuid => self.bytes.extend([0xab; 16]),
            Kind::String if self.flexible => self.bytes.extend(b"\x03ab"),
            Kind::String => self.bytes.extend(b"\0\x02ab"),
            Kind::Bytes | Kind::Records => {
                self.count(5);
                self.bytes.extend(b"bytes");
            }
            Kind::Array(element) => {
                self.count(2);
                self.value(element);
                self.value(element);
            }
            Kind::Struct(schema) => self.structure(schema),
        }
    }

    fn count(&mut self, count: u8) {
        if self.flexible {
            self.bytes.push(count + 1);
        } else {
            self.bytes.extend(u32::from(count).to_be_bytes());
        }
    }

    fn length(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(0x80 | u8::try_from(value & 0x7f).expect("seven bits"));
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).expect("seven bits"));
    }
}
