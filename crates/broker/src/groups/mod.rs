//! Consumer groups on this broker: one task for each partition of `__consumer_offsets` of which it holds a replica.
//!
//! ```text
//! handler -> partition of the group -> its task: not led here | loading | Shard<Groups>
//!   -> records: one batch, appended by the partition's shard as any produce with acks=all, in the epoch in which they were decided
//!   -> below the high watermark: the replies leave
//! ```
//!
//! | what | module |
//! |---|---|
//! | which partition a group belongs to; the topic, made on first use | `topic` |
//! | one partition's task | `task` |
//! | replay of its log | `load` |
//! | what it is told of topics and settings | `told` |
//!
//! Invariants
//! - A task answers for a group only in the epoch in which it has read the whole log, up to where it ended when the epoch began.
//! - When the partition is led in another epoch, or not here, everything that waits is answered, and the state is dropped.
//!
//! Not here: what a group does (`quipu-groups`), parking (`quipu-coordinator`), Kafka's messages ([`crate::handlers`]).

mod load;
mod task;
mod told;
mod topic;

use std::sync::Arc;

use imbl::OrdMap;
use quipu_base::{PartitionIndex, TopicIdPartition};
use quipu_env::{Env, Task, watch};
use quipu_groups::{Reply, Request};
use quipu_metadata::Image;
use tokio::sync::{mpsc, oneshot};

use self::told::{Teller, Told};
pub(crate) use self::topic::{OFFSETS_TOPIC, new_topic, partition_of};
use crate::{node::Node, partition::Partition, view::View};

/// Requests that may wait for one partition's task; whoever brings one more waits.
const ASKS_MAX: usize = 1024;

/// Why a coordinator does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CoordinatorError {
    /// There is no topic for groups yet, or its records could not be kept in time.
    NotAvailable,
    /// Another broker coordinates the group, or none.
    NotCoordinator,
    /// The log is being replayed, or too much waits.
    Loading,
}

type Answer = Result<Reply, CoordinatorError>;

/// A request on its way to a partition's task.
struct Asked {
    request: Request,
    reply: oneshot::Sender<Answer>,
}

type Routes = OrdMap<PartitionIndex, mpsc::Sender<Asked>>;

/// The way to the tasks.
#[derive(Clone)]
pub(crate) struct Coordinators(watch::Receiver<Routes>);

/// The other end of [`Coordinators`].
pub(crate) struct Router(watch::Sender<Routes>);

impl Coordinators {
    /// Leads nowhere until [`run`] runs.
    pub(crate) fn new() -> (Router, Self) {
        let (sender, receiver) = watch::channel(Routes::new());
        (Router(sender), Self(receiver))
    }

    /// Asks the coordinator of a group, if it is here.
    pub(crate) async fn ask<E: Env>(&self, view: &View<E>, group: &str, request: Request) -> Answer {
        let topic = view.image.topic(OFFSETS_TOPIC).ok_or(CoordinatorError::NotAvailable)?;
        self.ask_partition(partition_of(group, topic.partition_count()), request).await
    }

    /// Asks the coordinator of a partition, if it is here.
    pub(crate) async fn ask_partition(&self, partition: PartitionIndex, request: Request) -> Answer {
        let route = self.0.borrow().get(&partition).cloned();
        let (reply, answer) = oneshot::channel();
        let asked = route.ok_or(CoordinatorError::NotCoordinator)?.send(Asked { request, reply }).await;
        asked.map_err(|_| CoordinatorError::NotCoordinator)?;
        answer.await.unwrap_or(Err(CoordinatorError::NotCoordinator))
    }

    /// The partitions whose tasks are here.
    pub(crate) fn partitions(&self) -> Vec<PartitionIndex> {
        self.0.borrow().keys().copied().collect()
    }
}

/// One task, and the replica that it is for.
struct Hosted<E: Env> {
    partition: Arc<Partition<E>>,
    task: E::Task,
}

/// Keeps a task for each replica of a partition of the topic, until the broker stops.
pub(crate) async fn run<E: Env>(node: Arc<Node<E>>, router: Router) {
    let mut views = node.views();
    let mut hosted: OrdMap<PartitionIndex, Arc<Hosted<E>>> = OrdMap::new();
    let mut before = node.view().image;
    let mut teller = Teller::new(&node.broker_config());
    let (teach, _) = watch::channel(None);
    loop {
        let view = views.borrow_and_update().clone();
        if let Some(told) = teller.follow(&view.image, view.broker_config()) {
            teach.send_replace(Some(told));
        }
        follow((&node, &teach), &router, &view, &mut hosted);
        forget_deleted(&node, &view.image, &before);
        before = view.image;
        tokio::select! { biased;
            () = node.stopping.reached() => return,
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

/// Told of the cluster before any of its partitions can be led.
type Teach = watch::Sender<Option<Told>>;

fn follow<E: Env>(
    (node, teach): (&Arc<Node<E>>, &Teach),
    router: &Router,
    view: &View<E>,
    hosted: &mut OrdMap<PartitionIndex, Arc<Hosted<E>>>,
) {
    let topic_id = view.image.topic(OFFSETS_TOPIC).map(quipu_metadata::Topic::topic_id);
    let held: OrdMap<PartitionIndex, Arc<Partition<E>>> = match topic_id {
        Some(topic_id) => {
            view.partitions_of(topic_id).map(|partition| (partition.id.partition, Arc::clone(partition))).collect()
        }
        None => OrdMap::new(),
    };
    let mut routes = router.0.subscribe().borrow().clone();
    let is_gone = |(index, known): &(&PartitionIndex, &Arc<Hosted<E>>)| {
        held.get(*index).is_none_or(|partition| !Arc::ptr_eq(partition, &known.partition))
    };
    let gone: Vec<PartitionIndex> = hosted.iter().filter(is_gone).map(|(index, _)| *index).collect();
    let mut is_changed = !gone.is_empty();
    for index in gone {
        routes.remove(&index);
        if let Some(known) = hosted.remove(&index) {
            known.task.abort();
        }
    }
    for (index, partition) in held {
        if hosted.contains_key(&index) {
            continue;
        }
        let (sender, asked) = mpsc::channel(ASKS_MAX);
        let run = task::run(Arc::clone(node), Arc::clone(&partition), asked, teach.subscribe());
        let task = node.env.spawn(partition.shard, "groups", run);
        hosted.insert(index, Arc::new(Hosted { partition, task }));
        routes.insert(index, sender);
        is_changed = true;
    }
    if is_changed {
        router.0.send_replace(routes);
    }
}

/// Offsets of topics that are gone are forgotten. What a leader misses because it was not there falls to the offsets' retention.
fn forget_deleted<E: Env>(node: &Arc<Node<E>>, image: &Image, before: &Image) {
    let gone: Vec<Arc<str>> = image.topics_gone_since(before).iter().map(|topic| topic.shared_name()).collect();
    if gone.is_empty() {
        return;
    }
    for partition in node.groups.partitions() {
        let (node, gone) = (Arc::clone(node), gone.clone());
        let shard = node.env.current_shard();
        let env = node.env.clone();
        let _task = env.spawn(shard, "groups-forget", async move {
            // Whoever does not lead the partition has nothing to forget.
            drop(node.groups.ask_partition(partition, Request::TopicsDeleted(gone)).await);
        });
    }
}

/// The partition of the internal topic that a group belongs to, if there is such a topic.
pub(crate) fn coordinator_of<E: Env>(view: &View<E>, group: &str) -> Option<TopicIdPartition> {
    let topic = view.image.topic(OFFSETS_TOPIC)?;
    let partition = partition_of(group, topic.partition_count());
    Some(TopicIdPartition { topic_id: topic.topic_id(), partition })
}
