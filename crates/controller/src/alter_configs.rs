//! Dynamic configs change, of topics, brokers and groups: some of them (KIP-339), or all of a resource at once (the older way).
//!
//! Invariants
//! - All changes to one resource are taken, or none of them.
//! - What is stored is in the form that [`Value`](quipu_metadata::config::Value) prints.
//!
//! Not here: configs of client metrics, which come with them.

use std::collections::BTreeMap;

use quipu_metadata::{
    ConfigResource, Configs, Image, MetadataRecord,
    config::{ConfigError, ConfigKey, ConfigLayers, ConfigType, Lookup},
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request,
    draft::Draft,
    mentions::{Mention, Mentions},
};

/// Some configs of resources are to change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterConfigs {
    /// Which, and how.
    pub resources: Vec<(ConfigResource, Vec<ConfigOperation>)>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

/// One change of one config.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigOperation {
    /// The config.
    pub name: String,
    /// What to do.
    pub kind: OperationKind,
    /// With what. Ignored by [`OperationKind::Delete`].
    pub value: Option<String>,
}

/// What to do with a config.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OperationKind {
    /// Give it a value.
    Set,
    /// Take its value away, so that the layer below holds.
    Delete,
    /// Add to a list.
    Append,
    /// Take from a list.
    Subtract,
}

impl OperationKind {
    /// The operation that Kafka's number stands for.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// All dynamic configs of resources are to be exactly these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplaceConfigs {
    /// Which, and their configs.
    pub resources: Vec<(ConfigResource, NamedValues)>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

/// Configs by name, with their values. Of two values of one config the later holds; one without a value is refused.
pub type NamedValues = Vec<(String, Option<String>)>;

/// By resource, each once, in the order of the request.
pub type AlteredConfigs = Vec<(ConfigResource, Result<(), ControllerError>)>;

/// What a resource's configs become: a value, or none.
type Changes = BTreeMap<String, Option<String>>;

impl Request for AlterConfigs {
    type Reply = AlteredConfigs;

    /// Each resource stands for itself.
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<AlteredConfigs>, ControllerError> {
        alter(image, &self.resources, self.validate_only, |resource, operations| {
            let mut changes = Changes::new();
            for operation in operations {
                let changed = change(image, context, resource, operation)?;
                if changes.insert(operation.name.clone(), changed).is_some() {
                    let why = format!("The request changes the config {} of {resource} twice.", operation.name);
                    return Err(ControllerError::InvalidRequest(why));
                }
            }
            check_together(image, context, resource, &changes)?;
            Ok(changes)
        })
    }
}

impl Request for ReplaceConfigs {
    type Reply = AlteredConfigs;

    /// Each resource stands for itself.
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<AlteredConfigs>, ControllerError> {
        alter(image, &self.resources, self.validate_only, |resource, configs| {
            let known = image.configs(resource).into_iter().flat_map(Configs::keys);
            let mut changes: Changes = known.map(|name| (name.clone(), None)).collect();
            for (name, value) in configs {
                let value = accept(resource, name, given(name, value.as_ref())?)?;
                changes.insert(name.clone(), Some(value));
            }
            check_together(image, context, resource, &changes)?;
            Ok(changes)
        })
    }
}

fn alter<T>(
    image: &Image,
    resources: &[(ConfigResource, T)],
    validate_only: bool,
    mut changes: impl FnMut(&ConfigResource, &T) -> Result<Changes, ControllerError>,
) -> Result<Decision<AlteredConfigs>, ControllerError> {
    let mut mentions = Mentions::count(resources.iter().map(|(resource, _)| resource));
    let mut draft = Draft::new(image);
    let mut reply = AlteredConfigs::new();
    for (resource, request) in resources {
        let changed = match mentions.take(&resource) {
            Mention::Only => check_resource(image, resource).and_then(|()| changes(resource, request)),
            Mention::First => {
                Err(ControllerError::InvalidRequest(format!("The request has {resource} more than once.")))
            }
            Mention::Again => continue,
        };
        reply.push((resource.clone(), changed.map(|changes| push_changes(&mut draft, resource, changes))));
    }
    Ok(draft.finish(reply, validate_only))
}

fn check_resource(image: &Image, resource: &ConfigResource) -> Result<(), ControllerError> {
    match resource {
        ConfigResource::Topic(name) if image.topic_id(name).is_none() => {
            Err(ControllerError::UnknownTopic { name: name.clone() })
        }
        ConfigResource::Broker(broker) if image.broker(*broker).is_none() => {
            Err(ControllerError::InvalidRequest(format!("Broker {broker} is not registered.")))
        }
        ConfigResource::Group(name) if name.is_empty() => {
            Err(ControllerError::InvalidRequest("A group's configs need the group's name.".to_owned()))
        }
        ConfigResource::ClientMetrics(name) if name.is_empty() => {
            Err(ControllerError::InvalidRequest("A subscription to client metrics needs a name.".to_owned()))
        }
        _ => Ok(()),
    }
}

/// What only all configs of a resource together tell: a group's have bounds that the broker's set.
fn check_together(
    image: &Image,
    context: &Context<'_>,
    resource: &ConfigResource,
    changes: &Changes,
) -> Result<(), ControllerError> {
    let ConfigResource::Group(_) = resource else { return Ok(()) };
    let mut configs = image.configs(resource).cloned().unwrap_or_default();
    for (name, value) in changes {
        match value {
            Some(value) => drop(configs.insert(name.clone(), value.clone())),
            None => drop(configs.remove(name)),
        }
    }
    let broker = context.layers(image).broker().group_consumer;
    let checked = broker.check_group(ConfigLayers::group_with(&configs));
    checked.map_err(|why| ControllerError::InvalidConfig(ConfigError::Together { why }))
}

/// Writes only what makes a difference.
fn push_changes(draft: &mut Draft, resource: &ConfigResource, changes: Changes) {
    for (key, value) in changes {
        let known = draft.image().configs(resource).and_then(|configs| configs.get(&key));
        if known != value.as_ref() {
            draft.push(MetadataRecord::Config { resource: resource.clone(), key, value });
        }
    }
}

fn change(
    image: &Image,
    context: &Context<'_>,
    resource: &ConfigResource,
    operation: &ConfigOperation,
) -> Result<Option<String>, ControllerError> {
    let name = &operation.name;
    if operation.kind == OperationKind::Delete {
        // A name that nobody knows has no value to lose: not an error, as in Kafka.
        return Ok(None);
    }
    let value = given(name, operation.value.as_ref())?;
    if operation.kind == OperationKind::Set {
        return accept(resource, name, value).map(Some);
    }
    let key = find(resource, name)?;
    if key.kind != ConfigType::List {
        let why =
            format!("The config {name} is not a list: it can be set or deleted, not appended to or subtracted from.");
        return Err(ControllerError::InvalidConfigOperation(why));
    }
    let holds = held(image, context, resource, key);
    let mut items: Vec<&str> = split(&holds).collect();
    if operation.kind == OperationKind::Append {
        items.extend(split(value).filter(|item| !split(&holds).any(|known| known == *item)));
    } else {
        items.retain(|item| !split(value).any(|gone| gone == *item));
    }
    accept(resource, name, &items.join(",")).map(Some)
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The value that holds now.
fn held(image: &Image, context: &Context<'_>, resource: &ConfigResource, key: &ConfigKey) -> String {
    let layers = context.layers(image);
    let entries = match resource {
        ConfigResource::Topic(name) => layers.describe_topic(name).unwrap_or_default(),
        ConfigResource::Group(name) => layers.describe_group(name),
        ConfigResource::ClientMetrics(name) => layers.describe_client_metrics(name),
        _ => layers.describe_broker(),
    };
    let own = image.configs(resource).and_then(|configs| configs.get(key.name));
    let entry = entries.into_iter().find(|entry| entry.key.name == key.name).map(|entry| entry.value);
    own.cloned().or(entry).unwrap_or_default()
}

fn given<'a>(name: &str, value: Option<&'a String>) -> Result<&'a String, ControllerError> {
    value.ok_or_else(|| ControllerError::InvalidRequest(format!("The config {name} is given without a value.")))
}

fn find(resource: &ConfigResource, name: &str) -> Result<&'static ConfigKey, ControllerError> {
    let lookup = match resource {
        ConfigResource::Topic(_) => Lookup::topic(name),
        ConfigResource::Group(_) => Lookup::group(name),
        ConfigResource::ClientMetrics(_) => Lookup::client_metrics(name),
        _ => Lookup::broker(name),
    };
    lookup.known(name).map_err(ControllerError::InvalidConfig)
}

fn accept(resource: &ConfigResource, name: &str, value: &str) -> Result<String, ControllerError> {
    let key = find(resource, name)?;
    let value = key.accept(value).map_err(ControllerError::InvalidConfig)?;
    if !key.dynamic {
        let why = format!("The config {name} is read when a broker starts: set it in its configuration file.");
        return Err(ControllerError::InvalidRequest(why));
    }
    Ok(value.to_string())
}
