//! Frames: a header and one message, in front of them (on the wire) a length of four bytes.
//!
//! ```text
//! request   length i32 | api key i16 | version i16 | correlation id i32 | client id: nullable string | tagged fields | body
//! response  length i32 | correlation id i32 | tagged fields | body
//! ```
//!
//! The tagged fields are there if the message's version is flexible (request header 2 and response header 1; otherwise 1 and
//! 0). Two exceptions, both so that versions can be negotiated before they are known: the client id is never compact, and an
//! ApiVersions response never has tagged fields in its header. Request header 0 died with ControlledShutdown 0.
//!
//! Not here: reading a frame of bounded length from a connection (`quipu-broker`), what to answer. Read
//! [`messages`](crate::messages) next.

use core::fmt;

use bytes::{Bytes, BytesMut};

use crate::{
    message::Message,
    messages::*,
    reader::{DecodeError, Reader, allowance},
    schema::{MessageSchema, Versions},
    str::Str,
    wire::{Format, Nullable, Wire},
    writer::{Chunk, EncodeError, Writer},
};

/// A response's throttle time, or, where it has none, what is said instead.
macro_rules! throttle_time {
    ($response:ident) => {
        $response.throttle_time_ms
    };
    ($response:ident, $throttled:literal) => {{
        let _ = $response;
        $throttled
    }};
}

/// The table of APIs: the enums, and everything that is asked per API.
macro_rules! apis {
    ($( $(#[$doc:meta])* $api:ident = $key:literal: $request:ident, $response:ident $(, advertised from $advertised:literal)? $(, throttled by $throttled:literal)?; )*) => {
        /// The APIs that are declared, with Kafka's numbers.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $( $(#[$doc])* $api = $key, )*
        }

        impl ApiKey {
            /// All of them, in order of number.
            pub const ALL: &'static [Self] = &[ $( Self::$api, )* ];

            /// The API with this number.
            #[must_use]
            pub const fn from_wire(key: i16) -> Option<Self> {
                match key {
                    $( $key => Some(Self::$api), )*
                    _ => None,
                }
            }

            /// Kafka's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$api => stringify!($api), )*
                }
            }

            /// The request's declaration.
            #[must_use]
            pub const fn request_schema(self) -> MessageSchema {
                match self {
                    $( Self::$api => <$request as Message>::SCHEMA, )*
                }
            }

            /// The response's declaration.
            #[must_use]
            pub const fn response_schema(self) -> MessageSchema {
                match self {
                    $( Self::$api => <$response as Message>::SCHEMA, )*
                }
            }

            /// The versions to list in an ApiVersions response: those that are served, and for Produce also 0 to 2, which
            /// are refused. Without them librdkafka 2.0 believes that compression isn't possible.
            #[must_use]
            pub const fn advertised(self) -> Versions {
                match self {
                    $( Self::$api => {
                        #[allow(unused_mut, unused_assignments, reason = "most APIs advertise what they serve")]
                        let mut versions = <$request as Message>::SCHEMA.versions;
                        $( versions.min = $advertised; )?
                        versions
                    } )*
                }
            }
        }

        /// A request of any API.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Request {
            $( $(#[$doc])* $api($request), )*
        }

        impl Request {
            /// Its API.
            #[must_use]
            pub const fn api(&self) -> ApiKey {
                match self {
                    $( Self::$api(_) => ApiKey::$api, )*
                }
            }

            fn decode(api: ApiKey, reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
                match api {
                    $( ApiKey::$api => <$request as Message>::decode(reader, version).map(Self::$api), )*
                }
            }

            fn encode(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
                match self {
                    $( Self::$api(request) => request.encode(writer, version), )*
                }
            }
        }

        /// A response of any API.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Response {
            $( $(#[$doc])* $api($response), )*
        }

        impl Response {
            /// Its API.
            #[must_use]
            pub const fn api(&self) -> ApiKey {
                match self {
                    $( Self::$api(_) => ApiKey::$api, )*
                }
            }

            /// For how long the client is asked to send nothing more on the connection, milliseconds (KIP-219); 0 for not at all.
            #[must_use]
            pub const fn throttle_time_ms(&self) -> i32 {
                match self {
                    $( Self::$api(response) => throttle_time!(response $(, $throttled)?), )*
                }
            }

            fn decode(api: ApiKey, reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
                match api {
                    $( ApiKey::$api => <$response as Message>::decode(reader, version).map(Self::$api), )*
                }
            }

            fn encode(&self, writer: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
                match self {
                    $( Self::$api(response) => response.encode(writer, version), )*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$api(request)
                }
            }

            impl From<$response> for Response {
                fn from(response: $response) -> Self {
                    Self::$api(response)
                }
            }

            const _: () = {
                let (request, response) = (<$request as Message>::SCHEMA, <$response as Message>::SCHEMA);
                assert!(request.key == $key && response.key == $key, "one API has one number");
                assert!(request.versions.min == response.versions.min && request.versions.max == response.versions.max);
            };
        )*
    };
}

apis! {
    /// Append record batches.
    Produce = 0: ProduceRequest, ProduceResponse, advertised from 0;
    /// Read record batches.
    Fetch = 1: FetchRequest, FetchResponse;
    /// Offsets by time.
    ListOffsets = 2: ListOffsetsRequest, ListOffsetsResponse;
    /// Brokers, topics, leaders.
    Metadata = 3: MetadataRequest, MetadataResponse;
    /// Commit offsets.
    OffsetCommit = 8: OffsetCommitRequest, OffsetCommitResponse;
    /// Committed offsets.
    OffsetFetch = 9: OffsetFetchRequest, OffsetFetchResponse;
    /// Who coordinates a group or a transaction.
    FindCoordinator = 10: FindCoordinatorRequest, FindCoordinatorResponse;
    /// Join a group.
    JoinGroup = 11: JoinGroupRequest, JoinGroupResponse;
    /// A member's sign of life.
    Heartbeat = 12: HeartbeatRequest, HeartbeatResponse;
    /// Leave a group.
    LeaveGroup = 13: LeaveGroupRequest, LeaveGroupResponse;
    /// A generation's assignment.
    SyncGroup = 14: SyncGroupRequest, SyncGroupResponse;
    /// Groups and their members.
    DescribeGroups = 15: DescribeGroupsRequest, DescribeGroupsResponse;
    /// Groups of a broker.
    ListGroups = 16: ListGroupsRequest, ListGroupsResponse;
    /// What a broker serves.
    ApiVersions = 18: ApiVersionsRequest, ApiVersionsResponse;
    /// Create topics.
    CreateTopics = 19: CreateTopicsRequest, CreateTopicsResponse;
    /// Delete topics.
    DeleteTopics = 20: DeleteTopicsRequest, DeleteTopicsResponse;
    /// Delete from the beginning of a log.
    DeleteRecords = 21: DeleteRecordsRequest, DeleteRecordsResponse;
    /// Producer ids and epochs.
    InitProducerId = 22: InitProducerIdRequest, InitProducerIdResponse;
    /// Where leader epochs end.
    OffsetForLeaderEpoch = 23: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    /// Read settings.
    DescribeConfigs = 32: DescribeConfigsRequest, DescribeConfigsResponse;
    /// Replace all settings.
    AlterConfigs = 33: AlterConfigsRequest, AlterConfigsResponse;
    /// Data directories.
    DescribeLogDirs = 35: DescribeLogDirsRequest, DescribeLogDirsResponse;
    /// Add partitions.
    CreatePartitions = 37: CreatePartitionsRequest, CreatePartitionsResponse;
    /// Delete groups.
    DeleteGroups = 42: DeleteGroupsRequest, DeleteGroupsResponse;
    /// Elect leaders.
    ElectLeaders = 43: ElectLeadersRequest, ElectLeadersResponse;
    /// Change single settings.
    IncrementalAlterConfigs = 44: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    /// Move partitions to other brokers.
    AlterPartitionReassignments = 45: AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    /// Partitions that are being moved.
    ListPartitionReassignments = 46: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    /// Forget committed offsets.
    OffsetDelete = 47: OffsetDeleteRequest, OffsetDeleteResponse;
    /// The metadata quorum.
    DescribeQuorum = 55: DescribeQuorumRequest, DescribeQuorumResponse, throttled by 0;
    /// Feature levels.
    UpdateFeatures = 57: UpdateFeaturesRequest, UpdateFeaturesResponse;
    /// Members of the cluster.
    DescribeCluster = 60: DescribeClusterRequest, DescribeClusterResponse;
    /// Producers of partitions.
    DescribeProducers = 61: DescribeProducersRequest, DescribeProducersResponse;
    /// Forget a broker.
    UnregisterBroker = 64: UnregisterBrokerRequest, UnregisterBrokerResponse;
    /// A sign of life of a member of the consumer protocol.
    ConsumerGroupHeartbeat = 68: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    /// Groups of the consumer protocol and their members.
    ConsumerGroupDescribe = 69: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    /// Which metrics a client is asked for.
    GetTelemetrySubscriptions = 71: GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse;
    /// A client's metrics.
    PushTelemetry = 72: PushTelemetryRequest, PushTelemetryResponse;
    /// What has a configuration.
    ListConfigResources = 74: ListConfigResourcesRequest, ListConfigResourcesResponse;
    /// Partitions, page by page.
    DescribeTopicPartitions = 75: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

impl ApiKey {
    /// Kafka's number.
    #[must_use]
    pub const fn to_wire(self) -> i16 {
        self as i16
    }

    /// The versions that are served.
    #[must_use]
    pub const fn served(self) -> Versions {
        self.request_schema().versions
    }

    /// The version of the header in front of a request of this version.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.request_schema().is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response of this version.
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        let flexible = self.response_schema().is_flexible(version) && !matches!(self, Self::ApiVersions);
        if flexible { 1 } else { 0 }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What stands in front of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// The API.
    pub api: ApiKey,
    /// The version of the request, and of the response.
    pub version: i16,
    /// The client's number for the request, returned in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// A frame that is no request we serve: the peer's fault. What to do differs by variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// An ApiVersions request of a version that is too new (or negative). The answer is an ApiVersions response **of version
    /// 0** with error UNSUPPORTED_VERSION that lists ApiVersions alone; the client asks again.
    ApiVersions {
        /// The request's correlation id.
        correlation_id: i32,
        /// The version it asked for.
        version: i16,
    },
    /// An API that isn't served. The connection is closed.
    UnknownApi {
        /// Its number.
        key: i16,
        /// The version it asked for.
        version: i16,
    },
    /// A version that isn't served. The connection is closed.
    UnknownVersion {
        /// The API.
        api: ApiKey,
        /// The version it asked for.
        version: i16,
    },
    /// Bytes that are no request. The connection is closed.
    Malformed {
        /// The API and version, if the frame was long enough to say.
        api: Option<(ApiKey, i16)>,
        /// What was wrong.
        error: DecodeError,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiVersions { version, .. } => {
                write!(f, "ApiVersions has no version {version}: the client should ask again")
            }
            Self::UnknownApi { key, version } => {
                write!(f, "no API with number {key} is served (version {version} asked for)")
            }
            Self::UnknownVersion { api, version } => {
                let Versions { min, max } = api.served();
                write!(f, "{api} is served in versions {min} to {max}, not {version}")
            }
            Self::Malformed { api: Some((api, version)), error } => {
                write!(f, "malformed {api} request (version {version}): {error}")
            }
            Self::Malformed { api: None, error } => write!(f, "malformed request: {error}"),
        }
    }
}

impl core::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// How the client id is written, at every header version.
const CLIENT_ID: Format = Format { version: 0, flexible: false, nullable: true };

/// Decodes a request frame, without its length prefix. Strings and records share the frame's memory.
///
/// Bytes after the request are ignored, as Kafka does: librdkafka 2.16 sends three too many when it asks for all topics.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    decode_request_from(&mut Reader::new(frame))
}

/// The same from a reader, which says afterwards how much memory the request takes ([`Reader::allocated`]) and how many bytes
/// were ignored ([`Reader::remaining`]).
pub fn decode_request_from(reader: &mut Reader) -> Result<(RequestHeader, Request), RequestError> {
    let unknown = |error| RequestError::Malformed { api: None, error };
    let key = reader.i16().map_err(unknown)?;
    let version = reader.i16().map_err(unknown)?;
    let correlation_id = reader.i32().map_err(unknown)?;
    let api = ApiKey::from_wire(key).ok_or(RequestError::UnknownApi { key, version })?;
    if !api.served().contains(version) {
        return Err(match api {
            ApiKey::ApiVersions => RequestError::ApiVersions { correlation_id, version },
            _ => RequestError::UnknownVersion { api, version },
        });
    }
    let malformed = |error| RequestError::Malformed { api: Some((api, version)), error };
    let client_id = Str::read_nullable(reader, CLIENT_ID).map_err(|error| malformed(error.within("client_id")))?;
    if api.request_header_version(version) >= 2 {
        reader.skip_tags().map_err(malformed)?;
    }
    let request = Request::decode(api, reader, version).map_err(malformed)?;
    Ok((RequestHeader { api, version, correlation_id, client_id }, request))
}

/// Encodes a response to a request of `version`, with its length prefix. `buffer` is scratch memory: it is emptied first, and
/// what remains of it serves the next frame.
///
/// Errors: a version that isn't served, or a response that has what the version cannot carry.
pub fn encode_response(
    buffer: &mut BytesMut,
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Vec<Chunk>, EncodeError> {
    let mut writer = Writer::new(buffer);
    writer.begin_frame();
    writer.i32(correlation_id);
    if response.api().response_header_version(version) >= 1 {
        writer.varint(0);
    }
    response.encode(&mut writer, version)?;
    writer.end_frame()?;
    Ok(writer.finish())
}

/// Encodes a request, with its length prefix. `buffer` is scratch memory, as for [`encode_response`].
///
/// Errors: a version that isn't declared, or a request that has what the version cannot carry.
///
/// # Panics
/// If the header's API is not the request's.
pub fn encode_request(
    buffer: &mut BytesMut,
    header: &RequestHeader,
    request: &Request,
) -> Result<Vec<Chunk>, EncodeError> {
    let RequestHeader { api, version, correlation_id, client_id } = header;
    assert_eq!(*api, request.api(), "a header of another API");
    let mut writer = Writer::new(buffer);
    writer.begin_frame();
    writer.i16(api.to_wire());
    writer.i16(*version);
    writer.i32(*correlation_id);
    client_id.write(&mut writer, CLIENT_ID).map_err(|error| error.within("client_id"))?;
    if api.request_header_version(*version) >= 2 {
        writer.varint(0);
    }
    request.encode(&mut writer, *version)?;
    writer.end_frame()?;
    Ok(writer.finish())
}

/// The correlation id of a response frame, by which the client finds out what it answers. None if it is too short.
#[must_use]
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().copied().map(i32::from_be_bytes)
}

/// Decodes a response frame, without its length prefix, to a request of `version`; gives its correlation id as well.
///
/// An ApiVersions response with error UNSUPPORTED_VERSION is read in version 0, whatever was asked. Errors: also bytes after
/// the response.
pub fn decode_response(frame: Bytes, api: ApiKey, version: i16) -> Result<(i32, Response), DecodeError> {
    // A broker is trusted further than a client, and its metadata of many partitions grows more when decoded.
    let memory_max = allowance(frame.len().saturating_mul(8));
    let unsupported = frame.get(4..6) == Some(&crate::ErrorCode::UnsupportedVersion.code().to_be_bytes());
    let mut reader = Reader::with_allowance(frame, memory_max);
    let correlation_id = reader.i32()?;
    if api.response_header_version(version) >= 1 {
        reader.skip_tags()?;
    }
    let version = if api == ApiKey::ApiVersions && unsupported { 0 } else { version };
    let response = Response::decode(api, &mut reader, version)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

#[cfg(test)]
mod tests;
