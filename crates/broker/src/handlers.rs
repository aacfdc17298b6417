//! One file for each API: protocol types in, protocol types out, and no farther.
//!
//! A request has two parts. [`start`] runs its first part at once, in the order of arrival; what it returns is the second
//! part, which ends with the reply (see [`crate::connection`]).
//!
//! Invariants
//! - What ApiVersions lists is what [`start`] serves: both come from the protocol crate's one table.
//! - A handler never panics on what a client sent.

mod api_versions;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod delete_groups;
mod describe_cluster;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leaders;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod partitions;
mod produce;
mod push_telemetry;
mod reassignments;
mod records;
mod sync_group;
mod topics;
mod unregister_broker;
mod update_features;

use core::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quipu_base::{ClientInstanceId, limits};
use quipu_env::{Env, Segment};
use quipu_metadata::config::Client;
use quipu_protocol::{
    Chunk, Request, RequestError, RequestHeader, Response, frame, messages::api_versions::ApiVersionsRequest,
    reader::Reader,
};

use crate::{
    connection::{Close, FileOf, Finish, Reply, Session},
    memory::Permit,
    node::Node,
};

/// One request, on its way to its reply.
pub(crate) struct Call<E: Env> {
    pub(crate) node: Arc<Node<E>>,
    version: i16,
    correlation_id: i32,
    /// For what the request's arrays take besides its frame.
    _memory: Option<Permit>,
}

/// Arrays of a request up to this size are not counted: they live as long as the request, like its frame.
const UNCOUNTED_BYTES_MAX: usize = 16 * limits::KIB;

impl<E: Env> Call<E> {
    /// The request's version, and the reply's.
    pub(crate) const fn version(&self) -> i16 {
        self.version
    }

    /// A reply from memory.
    pub(crate) fn reply(&self, response: &Response) -> Result<Reply<FileOf<E>>, Close> {
        Ok(Reply::Frame(self.encode(response, &[])?, None))
    }

    /// A reply whose holes are these file ranges. Takes the memory of its records from the replies budget.
    pub(crate) async fn reply_with_files(
        &self,
        response: &Response,
        files: Vec<Segment<FileOf<E>>>,
    ) -> Result<Reply<FileOf<E>>, Close> {
        let segments = self.encode(response, &files)?;
        let permit = self.node.account(&segments).await;
        Ok(Reply::Frame(segments, permit))
    }

    fn encode(&self, response: &Response, files: &[Segment<FileOf<E>>]) -> Result<Vec<Segment<FileOf<E>>>, Close> {
        let mut buffer = BytesMut::new();
        let chunks = frame::encode_response(&mut buffer, self.version, self.correlation_id, response)
            .map_err(|error| Close(format!("a reply could not be encoded: {error}").into()))?;
        let segments = chunks
            .into_iter()
            .map(|chunk| match chunk {
                Chunk::Bytes(bytes) => Segment::Bytes(bytes),
                Chunk::Hole { id, .. } => files[usize::try_from(id).expect("it counts our ranges")].clone(),
            })
            .collect();
        Ok(segments)
    }

    /// The second part of a request that is all waiting.
    fn later<F>(self, respond: impl FnOnce(Arc<Node<E>>) -> F) -> Finish<E>
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let response = respond(Arc::clone(&self.node));
        Box::pin(async move { self.reply(&response.await) })
    }

    /// The second part of a request that was answered at once.
    fn now(self, response: impl Into<Response>) -> Finish<E> {
        let response = response.into();
        Box::pin(async move { self.reply(&response) })
    }
}

/// Counts the arrays of a request, which may be several times as large as its frame. It is not waited for, because the request
/// holds the frame's memory meanwhile.
fn memory_of<E: Env>(node: &Node<E>, bytes: usize) -> Result<Option<Permit>, Close> {
    if bytes <= UNCOUNTED_BYTES_MAX {
        return Ok(None);
    }
    let too_much = || Close(format!("its request takes {bytes} bytes when decoded, more than is free").into());
    node.requests.try_take(bytes).map(Some).ok_or_else(too_much)
}

/// Runs a request's first part. Errors: the connection must be closed.
pub(crate) async fn start<E: Env>(
    node: &Arc<Node<E>>,
    session: &mut Session<E>,
    frame: Bytes,
) -> Result<Finish<E>, Close> {
    let mut reader = Reader::new(frame);
    let (header, request) = match frame::decode_request_from(&mut reader) {
        Ok(decoded) => decoded,
        Err(RequestError::ApiVersions { correlation_id, .. }) => {
            let call = Call { node: Arc::clone(node), version: 0, correlation_id, _memory: None };
            return Ok(call.now(api_versions::unsupported()));
        }
        Err(error) => return Err(Close(error.to_string().into())),
    };
    let RequestHeader { version, correlation_id, client_id, .. } = header;
    if session.client_id.as_deref() != client_id.as_deref() {
        session.client_id = client_id.map(|id| id.to_string());
    }
    let call = Call { node: Arc::clone(node), version, correlation_id, _memory: memory_of(node, reader.allocated())? };
    dispatch(call, session, request).await
}

async fn dispatch<E: Env>(call: Call<E>, session: &mut Session<E>, request: Request) -> Result<Finish<E>, Close> {
    let (node, version) = (&Arc::clone(&call.node), call.version());
    match request {
        Request::Produce(request) => produce::start(call, request, &mut session.turned_away).await,
        Request::Fetch(request) => fetch::start(call, &session.fetch, request),
        Request::ListOffsets(request) => Ok(call.later(|node| list_offsets::respond(node, version, request))),
        Request::Metadata(request) => Ok(call.later(|node| metadata::respond(node, version, request))),
        Request::FindCoordinator(request) => Ok(call.later(|node| find_coordinator::respond(node, version, request))),
        request @ (Request::OffsetCommit(_)
        | Request::OffsetFetch(_)
        | Request::JoinGroup(_)
        | Request::Heartbeat(_)
        | Request::LeaveGroup(_)
        | Request::SyncGroup(_)
        | Request::DescribeGroups(_)
        | Request::ListGroups(_)
        | Request::DeleteGroups(_)
        | Request::ConsumerGroupHeartbeat(_)
        | Request::ConsumerGroupDescribe(_)
        | Request::OffsetDelete(_)) => Ok(start_group(call, session, request)),
        Request::ApiVersions(request) => {
            note_software(session, &request);
            let response = api_versions::respond(node, version, &request);
            Ok(call.now(response))
        }
        Request::CreateTopics(request) => Ok(call.later(|node| topics::create(node, request))),
        Request::DeleteTopics(request) => Ok(call.later(|node| topics::delete(node, version, request))),
        Request::DeleteRecords(request) => Ok(call.later(|node| records::delete(node, request))),
        Request::InitProducerId(request) => Ok(call.later(|node| init_producer_id::respond(node, request))),
        Request::OffsetForLeaderEpoch(request) => {
            let response = offset_for_leader_epoch::respond(node, &request);
            Ok(call.now(response))
        }
        Request::DescribeConfigs(request) => {
            let response = configs::describe(node, &request);
            Ok(call.now(response))
        }
        Request::AlterConfigs(request) => Ok(call.later(|node| configs::alter(node, request))),
        Request::DescribeLogDirs(request) => Ok(call.later(|node| describe_log_dirs::respond(node, request))),
        Request::CreatePartitions(request) => Ok(call.later(|node| partitions::create(node, request))),
        Request::ElectLeaders(request) => Ok(call.later(|node| elect_leaders::respond(node, request))),
        Request::IncrementalAlterConfigs(request) => Ok(call.later(|node| configs::incremental_alter(node, request))),
        Request::AlterPartitionReassignments(request) => Ok(call.later(|node| reassignments::alter(node, request))),
        Request::ListPartitionReassignments(request) => {
            let response = reassignments::list(node, &request);
            Ok(call.now(response))
        }
        Request::DescribeQuorum(request) => Ok(call.later(|node| describe_quorum::respond(node, request))),
        Request::UpdateFeatures(request) => Ok(call.later(|node| update_features::respond(node, request))),
        Request::DescribeCluster(request) => {
            let response = describe_cluster::respond(node, &request);
            Ok(call.now(response))
        }
        Request::DescribeProducers(request) => Ok(call.later(|node| describe_producers::respond(node, request))),
        request @ (Request::GetTelemetrySubscriptions(_) | Request::PushTelemetry(_)) => {
            Ok(start_telemetry(call, session, request))
        }
        Request::UnregisterBroker(request) => Ok(call.later(|node| unregister_broker::respond(node, request))),
        Request::ListConfigResources(request) => {
            let response = configs::list_resources(node, version, &request);
            Ok(call.now(response))
        }
        Request::DescribeTopicPartitions(request) => {
            let response = describe_topic_partitions::respond(node, &request);
            Ok(call.now(response))
        }
    }
}

/// The requests about a client's own metrics, all of which are answered at once.
fn start_telemetry<E: Env>(call: Call<E>, session: &Session<E>, request: Request) -> Finish<E> {
    let (node, client) = (Arc::clone(&call.node), pusher(session));
    match request {
        Request::GetTelemetrySubscriptions(request) => {
            call.now(get_telemetry_subscriptions::respond(&node, client, &request))
        }
        Request::PushTelemetry(request) => call.now(push_telemetry::respond(&node, client, request)),
        _ => unreachable!("only requests about clients' metrics come here"),
    }
}

/// Remembers the library that a client uses, as far as it could be one.
fn note_software<E: Env>(session: &mut Session<E>, request: &ApiVersionsRequest) {
    let names = [&request.client_software_name, &request.client_software_version];
    if names.iter().all(|name| name.len() <= SOFTWARE_NAME_BYTES_MAX) {
        let [name, version] = names.map(ToString::to_string);
        session.software = (name, version);
    }
}

/// Longer names of clients' libraries are not remembered.
const SOFTWARE_NAME_BYTES_MAX: usize = 255;

/// A client that may push metrics. Its id comes with its request.
fn pusher<E: Env>(session: &Session<E>) -> Client {
    let (client_id, host) = client_of(session);
    let (software_name, software_version) = session.software.clone();
    Client {
        instance_id: ClientInstanceId::ZERO,
        client_id,
        software_name,
        software_version,
        address: host.trim_start_matches('/').to_owned(),
        port: session.client_port,
    }
}

/// What a client calls itself, and where it comes from.
fn client_of<E: Env>(session: &Session<E>) -> (String, String) {
    (session.client_id.clone().unwrap_or_default(), session.client_host.clone())
}

/// The requests to groups, all of which wait.
fn start_group<E: Env>(call: Call<E>, session: &Session<E>, request: Request) -> Finish<E> {
    let version = call.version();
    match request {
        Request::OffsetCommit(request) => call.later(|node| offset_commit::respond(node, version, request)),
        Request::OffsetFetch(request) => call.later(|node| offset_fetch::respond(node, version, request)),
        Request::JoinGroup(request) => {
            let client = client_of(session);
            call.later(|node| join_group::respond(node, version, client, request))
        }
        Request::ConsumerGroupHeartbeat(request) => {
            let client = client_of(session);
            call.later(|node| consumer_group_heartbeat::respond(node, version, client, request))
        }
        Request::ConsumerGroupDescribe(request) => call.later(|node| consumer_group_describe::respond(node, request)),
        Request::Heartbeat(request) => call.later(|node| heartbeat::respond(node, request)),
        Request::LeaveGroup(request) => call.later(|node| leave_group::respond(node, version, request)),
        Request::SyncGroup(request) => call.later(|node| sync_group::respond(node, request)),
        Request::DescribeGroups(request) => call.later(|node| describe_groups::respond(node, version, request)),
        Request::ListGroups(request) => call.later(|node| list_groups::respond(node, request)),
        Request::DeleteGroups(request) => call.later(|node| delete_groups::respond(node, request)),
        Request::OffsetDelete(request) => call.later(|node| offset_delete::respond(node, request)),
        _ => unreachable!("only requests to groups come here"),
    }
}
