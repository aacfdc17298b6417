//! Topics come: with their partitions and configs, at once.
//!
//! Order of the checks, as in Kafka: number of partitions in the whole request; name given twice; name; topic exists; names
//! that metrics cannot tell apart; configs; partition count, replication factor or assignment.
//!
//! Stricter than Kafka: names of one request that metrics cannot tell apart collide as well.

use std::collections::BTreeMap;

use quipu_base::{BrokerId, PartitionIndex, TopicId, limits::PARTITIONS_PER_REQUEST_MAX};
use quipu_metadata::{
    ConfigResource, Configs, Image, InsyncReplicasMin, MetadataRecord, PartitionState,
    config::{ConfigEntry, ConfigError, ConfigSource, Lookup},
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request, assignment,
    draft::Draft,
    mentions::{Mention, Mentions},
    placement::Placement,
    topic_name::{check_topic_name, find_collision},
};

/// Topics are to be created.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateTopics {
    /// Which.
    pub topics: Vec<NewTopic>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for `num.partitions`, and if there are assignments.
    pub partition_count: i32,
    /// How many replicas of each; -1 for `default.replication.factor`, and if there are assignments.
    pub replication_factor: i16,
    /// The replicas of each partition, if somebody chose them.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// Its configs. Of two values of one config the later holds.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic of which everything but the name is left to the defaults.
    #[must_use]
    pub fn with_defaults(name: &str) -> Self {
        let (assignments, configs) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), partition_count: -1, replication_factor: -1, assignments, configs }
    }
}

/// A topic as it was created, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id; [`TopicId::ZERO`] if the request only asked.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partition_count: usize,
    /// How many replicas each has.
    pub replication_factor: usize,
    /// All its configs, as `DescribeConfigs` would tell them.
    pub configs: Vec<CreatedConfig>,
}

/// A config of a topic as it was created: what is told of a [`ConfigEntry`] to another node, which may be of another release.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatedConfig {
    /// Its name.
    pub name: String,
    /// The value that holds.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
}

impl From<ConfigEntry> for CreatedConfig {
    fn from(entry: ConfigEntry) -> Self {
        let ConfigEntry { key, value, source, is_read_only, .. } = entry;
        Self { name: key.name.to_owned(), value, source, is_read_only }
    }
}

impl Request for CreateTopics {
    /// By name, each once, in the order of the request.
    type Reply = Vec<(String, Result<CreatedTopic, ControllerError>)>;

    /// Errors: [`ControllerError::TooManyPartitions`].
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        self.check_partition_total(context.layers(image).broker().partition_count)?;
        let mut mentions = Mentions::count(self.topics.iter().map(|topic| &topic.name));
        let mut draft = Draft::new(image);
        let mut reply = Vec::new();
        for topic in &self.topics {
            let result = match mentions.take(&&topic.name) {
                Mention::Only => create_topic(&mut draft, topic, context),
                Mention::First => {
                    let why = format!("The request has the topic {:?} more than once.", topic.name);
                    Err(ControllerError::InvalidRequest(why))
                }
                Mention::Again => continue,
            };
            let hide_id = |mut created: CreatedTopic| {
                created.topic_id = if self.validate_only { TopicId::ZERO } else { created.topic_id };
                created
            };
            reply.push((topic.name.clone(), result.map(hide_id)));
        }
        Ok(draft.finish(reply, self.validate_only))
    }
}

impl CreateTopics {
    fn check_partition_total(&self, default_count: i32) -> Result<(), ControllerError> {
        let count = |topic: &NewTopic| match topic.partition_count {
            _ if !topic.assignments.is_empty() => topic.assignments.len(),
            -1 => usize::try_from(default_count).unwrap_or(0),
            count => usize::try_from(count).unwrap_or(0),
        };
        let total = self.topics.iter().map(count).fold(0_usize, usize::saturating_add);
        if total > PARTITIONS_PER_REQUEST_MAX { Err(ControllerError::TooManyPartitions) } else { Ok(()) }
    }
}

fn create_topic(
    draft: &mut Draft,
    topic: &NewTopic,
    context: &mut Context<'_>,
) -> Result<CreatedTopic, ControllerError> {
    let name = &topic.name;
    check_topic_name(name).map_err(ControllerError::InvalidTopicName)?;
    if draft.image().topic_id(name).is_some() {
        return Err(ControllerError::TopicExists { name: name.clone() });
    }
    if let Some(existing) = find_collision(draft.image(), name) {
        return Err(ControllerError::TopicNameCollides { name: name.clone(), existing: existing.to_owned() });
    }
    let overrides = accept_configs(topic)?;
    let topic_id = draw_topic_id(draft.image(), context);
    let layers = context.layers(draft.image());
    let insync_replicas_min = layers.topic_with(&overrides).insync_replicas_min;
    let configs = layers.describe_topic_with(&overrides).into_iter().map(CreatedConfig::from).collect();
    let partitions = if topic.assignments.is_empty() {
        let defaults = layers.broker();
        let count = or_default(topic.partition_count, defaults.partition_count);
        let factor = or_default(topic.replication_factor, defaults.replication_factor);
        placed_partitions(draft.image(), topic_id, count, factor, insync_replicas_min)?
    } else {
        chosen_partitions(draft.image(), topic, insync_replicas_min)?
    };
    let replication_factor = partitions.first().map_or(0, |state| state.replicas.len());
    let created = CreatedTopic { topic_id, partition_count: partitions.len(), replication_factor, configs };
    draft.push(MetadataRecord::Topic { name: name.clone(), topic_id });
    for (partition, state) in (0..).map(PartitionIndex).zip(partitions) {
        draft.push(MetadataRecord::Partition { topic_id, partition, state });
    }
    for (key, value) in &overrides {
        let (resource, key, value) = (ConfigResource::Topic(name.clone()), key.clone(), Some(value.clone()));
        draft.push(MetadataRecord::Config { resource, key, value });
    }
    Ok(created)
}

fn accept_configs(topic: &NewTopic) -> Result<Configs, ControllerError> {
    let mut overrides = Configs::new();
    for (name, value) in &topic.configs {
        let accepted = |value: &String| -> Result<String, ConfigError> {
            Ok(Lookup::topic(name).known(name)?.accept(value)?.to_string())
        };
        let value = value.as_ref().ok_or_else(|| {
            ControllerError::InvalidConfigOperation(format!("The config {name} is given without a value."))
        })?;
        overrides.insert(name.clone(), accepted(value).map_err(ControllerError::InvalidConfig)?);
    }
    Ok(overrides)
}

/// An id that no topic has. Kafka's clients print ids; one that begins with a hyphen looks like an option there, so none does.
fn draw_topic_id(image: &Image, context: &mut Context<'_>) -> TopicId {
    let is_free = |id: &TopicId| {
        *id != TopicId::ZERO
            && *id != TopicId::METADATA
            && !id.to_string().starts_with('-')
            && image.topic_by_id(*id).is_none()
    };
    let drawn = std::iter::repeat_with(|| (context.new_topic_id)()).take(TOPIC_ID_DRAWS_MAX).find(is_free);
    drawn.expect("one in 64 random ids begins with a hyphen, and next to none is taken: the source is not random")
}

/// One draw in 64 is passed over for its hyphen, so that many in a row have a probability of 2^-600.
const TOPIC_ID_DRAWS_MAX: usize = 100;

fn or_default<T: From<i8> + PartialEq>(number: T, default: T) -> T {
    if number == T::from(-1) { default } else { number }
}

fn placed_partitions(
    image: &Image,
    topic_id: TopicId,
    count: i32,
    factor: i16,
    insync_replicas_min: InsyncReplicasMin,
) -> Result<Vec<PartitionState>, ControllerError> {
    let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
        let why = format!("The partition count {count} is neither above 0 nor -1, which stands for the default.");
        ControllerError::InvalidPartitions(why)
    })?;
    if factor <= 0 {
        let why = format!("The replication factor {factor} is neither above 0 nor -1, which stands for the default.");
        return Err(ControllerError::InvalidReplicationFactor(why));
    }
    let placement = Placement::new(image, topic_id, factor)?;
    (0..count).map(|index| assignment::new_partition(image, placement.replicas(index), insync_replicas_min)).collect()
}

fn chosen_partitions(
    image: &Image,
    topic: &NewTopic,
    insync_replicas_min: InsyncReplicasMin,
) -> Result<Vec<PartitionState>, ControllerError> {
    for (is_set, what) in
        [(topic.replication_factor != -1, "replication factor"), (topic.partition_count != -1, "partition count")]
    {
        if is_set {
            let why = format!("The topic has an assignment of replicas, and so its {what} must be -1.");
            return Err(ControllerError::InvalidRequest(why));
        }
    }
    let mut chosen: BTreeMap<PartitionIndex, &Vec<BrokerId>> = BTreeMap::new();
    for (partition, replicas) in &topic.assignments {
        if chosen.insert(*partition, replicas).is_some() {
            let why = format!("The assignment has partition {partition} twice.");
            return Err(ControllerError::InvalidReplicaAssignment(why));
        }
    }
    if !chosen.keys().copied().eq((0..).map(PartitionIndex).take(chosen.len())) {
        let why = "The assignment's partitions are not numbered from 0 without gaps.".to_owned();
        return Err(ControllerError::InvalidReplicaAssignment(why));
    }
    let factor = chosen.values().next().map(|replicas| replicas.len());
    let partition = |replicas: &Vec<BrokerId>| {
        assignment::check_chosen(image, replicas, factor)?;
        assignment::new_partition(image, replicas.clone(), insync_replicas_min)
    };
    chosen.into_values().map(partition).collect()
}
