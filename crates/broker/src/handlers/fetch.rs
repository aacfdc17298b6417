//! Fetch (KIP-74, KIP-320, KIP-516): whole batches as they are stored, as soon as there are enough or the time is up.
//!
//! Invariants
//! - Nothing at or above the high watermark is sent.
//! - At least one whole batch for the first partition that has any, however small the limits; beyond it the limits hold.
//! - A waiter is registered before the logs are looked at for the last time, so no growth is missed.
//! - Records are empty, never null.
//!
//! Not here: fetches in a session ([`in_session`]), which sessions there are ([`crate::fetch_sessions`]), reading
//! (`quipu-storage`).

mod in_session;

use core::time::Duration;
use std::sync::Arc;

use quipu_base::{LeaderEpoch, Offset, PartitionIndex, TopicIdPartition};
use quipu_env::{Clock, Env, Probe, Segment, Sleep};
use quipu_protocol::{
    ErrorCode, Piece, Records, Response,
    messages::fetch::{
        EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
        NodeEndpoint, PartitionData,
    },
};
use quipu_storage::ReadResult;
use tokio::sync::Notify;

use super::{Call, leaders::Leaders};
use crate::{
    connection::{Close, FileOf, Finish},
    errors::{self, Refusal},
    fetch_sessions::{Keeper, session::Session},
    node::{Node, View},
    partition::Partition,
};

/// How slow a task may be where it must not miss anything. Only simulations are.
const SLOW: Duration = Duration::from_millis(20);

/// A request whose answer may have to wait.
struct Fetch<E: Env> {
    node: Arc<Node<E>>,
    request: FetchRequest,
    by_id: bool,
    /// The connection's session.
    keeper: Keeper<Session<E>>,
}

/// What the session id and epoch of a request ask for.
enum Mode {
    /// An answer with everything, and the end of the session that is named.
    Alone,
    /// An answer with everything, and a new session, in place of the one that is named.
    Begin,
    /// What changed since the last answer in the session.
    GoOn,
}

/// One look at all partitions.
struct Look<E: Env> {
    response: FetchResponse,
    /// The file ranges that the holes in the response stand for.
    files: Vec<Segment<FileOf<E>>>,
    bytes: usize,
    /// Whether something must be told at once: an error, a divergence.
    urgent: bool,
}

pub(super) fn start<E: Env>(
    call: Call<E>,
    keeper: &Keeper<Session<E>>,
    request: FetchRequest,
) -> Result<Finish<E>, Close> {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return Err(Close("it asked to fetch as a replica, which only Quipu's own peer protocol may".into()));
    }
    let version = call.version();
    let fetch = Fetch { node: Arc::clone(&call.node), by_id: version >= 13, keeper: keeper.clone(), request };
    Ok(Box::pin(async move {
        let Look { mut response, files, .. } = match fetch.mode() {
            Mode::Alone => {
                drop(fetch.keeper.take(fetch.request.session_id));
                fetch.run().await
            }
            Mode::Begin => fetch.begin_session().await,
            Mode::GoOn => fetch.go_on().await,
        };
        name_leaders(&fetch.node.view(), version, &mut response);
        call.reply_with_files(&Response::Fetch(response), files).await
    }))
}

impl<E: Env> Fetch<E> {
    fn mode(&self) -> Mode {
        match self.request.session_epoch {
            -1 => Mode::Alone,
            0 => Mode::Begin,
            _ => Mode::GoOn,
        }
    }

    /// The fewest bytes to answer with before the time is up. More than may be sent need not come.
    fn bytes_min(&self) -> usize {
        usize::try_from(self.request.min_bytes.min(self.request.max_bytes)).unwrap_or(0)
    }

    fn bytes_max(&self) -> usize {
        usize::try_from(self.request.max_bytes).unwrap_or(0)
    }

    /// How long the answer may wait.
    fn wait(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.request.max_wait_ms).unwrap_or(0))
    }

    async fn run(&self) -> Look<E> {
        let (bytes_min, wait) = (self.bytes_min(), self.wait());
        let deadline = self.node.env.clock().now() + wait;
        let first = self.look(&self.node.view()).await;
        if first.urgent || first.bytes >= bytes_min || wait.is_zero() || self.request.topics.is_empty() {
            return first;
        }
        drop(first);
        self.wait_and_look(bytes_min, deadline).await
    }

    async fn wait_and_look(&self, bytes_min: usize, mut deadline: quipu_env::Instant) -> Look<E> {
        let clock = self.node.env.clock();
        let notify = Arc::new(Notify::new());
        let mut timer = Box::pin(clock.sleep_until(deadline));
        let mut views = self.node.views();
        let wall_deadline = clock.wall().0 + i64::from(self.request.max_wait_ms);
        let registers_late = self.node.env.probe().planted("fetch.wake-up-lost");
        loop {
            if self.node.env.probe().planted("fetch.wall-clock") {
                let left = u64::try_from(wall_deadline - clock.wall().0).unwrap_or(0);
                deadline = clock.now() + Duration::from_millis(left);
                timer.as_mut().reset(deadline);
            }
            let view = views.borrow_and_update().clone();
            let partitions: Vec<_> = self.wanted(&view).filter_map(|(_, _, partition)| partition.ok()).collect();
            let register = || partitions.iter().map(|p| p.waiters.register(&notify)).collect::<Vec<_>>();
            let mut _registrations = if registers_late { Vec::new() } else { register() };
            let look = self.look(&view).await;
            if look.urgent || look.bytes >= bytes_min || clock.now() >= deadline || self.node.stopping.is_reached() {
                return look;
            }
            drop(look);
            self.node.env.probe().sometimes("broker.fetch.parked");
            if self.node.env.probe().buggify("broker.fetch.slow-to-park") {
                clock.sleep(SLOW).await;
            }
            if registers_late {
                _registrations = register();
            }
            tokio::select! { biased;
                () = notify.notified() => {}
                // A topic that was deleted or created changes the answer.
                _ = views.changed() => {}
                () = self.node.stopping.reached() => {}
                () = timer.as_mut() => {}
            }
        }
    }

    /// Every partition asked for, with its place in the request.
    fn wanted<'a>(
        &'a self,
        view: &'a View<E>,
    ) -> impl Iterator<Item = (usize, &'a FetchPartition, Result<Arc<Partition<E>>, Refusal>)> {
        self.request.topics.iter().enumerate().flat_map(move |(topic_index, topic)| {
            let known =
                if self.by_id { view.image.topic_by_id(topic.topic_id) } else { view.image.topic(&topic.topic) };
            let topic_id = known.map(quipu_metadata::Topic::topic_id);
            topic.partitions.iter().map(move |wanted| {
                let partition = topic_id.ok_or_else(|| errors::unknown_topic(self.by_id)).and_then(|topic_id| {
                    view.partition(TopicIdPartition { topic_id, partition: PartitionIndex(wanted.partition) })
                });
                (topic_index, wanted, partition)
            })
        })
    }

    /// Reads what is there now.
    async fn look(&self, view: &View<E>) -> Look<E> {
        let topics = self.request.topics.iter();
        let responses = topics
            .map(|topic| FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions: Vec::with_capacity(topic.partitions.len()),
            })
            .collect();
        let mut look = Look::new(FetchResponse { responses, ..Default::default() });
        for (topic_index, wanted, partition) in self.wanted(view) {
            let data = self.look_at(&mut look, wanted, partition).await;
            look.response.responses[topic_index].partitions.push(data);
        }
        look
    }

    /// Reads what one partition has now.
    async fn look_at(
        &self,
        look: &mut Look<E>,
        wanted: &FetchPartition,
        partition: Result<Arc<Partition<E>>, Refusal>,
    ) -> PartitionData {
        let data = match partition {
            Ok(partition) => {
                let data = look.partition(&partition, wanted, self.bytes_max()).await;
                if data.is_err() {
                    self.node.tell_damage(&partition);
                }
                data
            }
            Err(refusal) => Err(refusal),
        };
        data.unwrap_or_else(|refusal| {
            look.urgent = true;
            failed(wanted, refusal.code)
        })
    }
}

impl<E: Env> Look<E> {
    fn new(response: FetchResponse) -> Self {
        Self { response, files: Vec::new(), bytes: 0, urgent: false }
    }

    async fn partition(
        &mut self,
        partition: &Arc<Partition<E>>,
        wanted: &FetchPartition,
        bytes_max: usize,
    ) -> Result<PartitionData, Refusal> {
        errors::check_leader_epoch(wanted.current_leader_epoch, partition)?;
        let high_watermark = partition.high_watermark();
        errors::check_sound(&partition.log)?;
        let offsets = partition.log.offsets();
        let mut data = PartitionData {
            partition_index: wanted.partition,
            high_watermark: high_watermark.get(),
            last_stable_offset: high_watermark.get(),
            log_start_offset: offsets.log_start.get(),
            aborted_transactions: None,
            records: Some(Records::EMPTY),
            ..Default::default()
        };
        if let Some(diverging_epoch) = diverging(partition, wanted, partition.readable_elsewhere())? {
            self.urgent = true;
            data.diverging_epoch = diverging_epoch;
            return Ok(data);
        }
        let offset = Offset(wanted.fetch_offset);
        if offset < offsets.log_start || offset > offsets.log_end {
            self.urgent = true;
            data.error_code = ErrorCode::OffsetOutOfRange.code();
            return Ok(data);
        }
        let at_least_one = self.bytes == 0;
        let left = bytes_max.saturating_sub(self.bytes);
        let limit = left.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
        if offset >= high_watermark || (limit == 0 && !at_least_one) {
            return Ok(data);
        }
        let read = partition.log.read(offset, high_watermark, limit, at_least_one).await;
        let read = read.map_err(|error| errors::read(&error))?;
        data.records = Some(self.take(read));
        Ok(data)
    }

    /// Takes what was read: bytes as they are, file ranges as holes.
    fn take(&mut self, read: ReadResult<E>) -> Records {
        self.bytes += read.bytes;
        let pieces = read
            .segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Bytes(bytes) => Piece::Bytes(bytes),
                file @ Segment::File { .. } => {
                    let id = u32::try_from(self.files.len()).expect("a response has fewer ranges than bytes");
                    let length = u32::try_from(file.len()).expect("a segment file is below 4 GiB");
                    self.files.push(file);
                    Piece::Hole { id, length }
                }
            })
            .collect::<Vec<_>>();
        Records::from(pieces)
    }
}

/// Tells who leads the partitions that this broker does not.
fn name_leaders<E: Env>(view: &View<E>, version: i16, response: &mut FetchResponse) {
    if version < 16 {
        return;
    }
    let mut leaders = Leaders::default();
    for answers in &mut response.responses {
        let topic = view.image.topic_by_id(answers.topic_id);
        for answer in &mut answers.partitions {
            if let Some((leader, epoch)) = leaders.name(view, topic, answer.partition_index, answer.error_code) {
                answer.current_leader = LeaderIdAndEpoch { leader_id: leader.get(), leader_epoch: epoch.get() };
            }
        }
    }
    response.node_endpoints =
        leaders.endpoints(view, |node_id, host, port, rack| NodeEndpoint { node_id, host, port, rack });
}

/// Where the log that the consumer has read parts from ours (KIP-320), if it does. Errors: our log doesn't know its epoch.
fn diverging<E: Env>(
    partition: &Partition<E>,
    wanted: &FetchPartition,
    upper: Offset,
) -> Result<Option<EpochEndOffset>, Refusal> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let fetched = LeaderEpoch(wanted.last_fetched_epoch);
    let (epoch, end_offset) = partition.epoch_end(fetched, upper);
    if epoch == LeaderEpoch::NONE {
        return Err(Refusal::plain(ErrorCode::OffsetOutOfRange));
    }
    let parts = epoch < fetched || end_offset.get() < wanted.fetch_offset;
    Ok(parts.then(|| EpochEndOffset { epoch: epoch.get(), end_offset: end_offset.get() }))
}

fn failed(wanted: &FetchPartition, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: wanted.partition,
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Some(Records::EMPTY),
        ..Default::default()
    }
}
