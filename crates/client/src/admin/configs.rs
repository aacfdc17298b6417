//! Settings: read, change, replace, list what has any.

use quipu_base::BrokerId;
use quipu_env::Env;
use quipu_protocol::messages::{
    alter_configs, describe_configs,
    describe_configs::{DescribeConfigsRequest, DescribeConfigsResourceResult},
    incremental_alter_configs as incremental,
    list_config_resources::ListConfigResourcesRequest,
};

use super::{Admin, Outcome, Rounds, check, expect_reply};
use crate::pool::Target;

/// What has settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// All brokers: the cluster's defaults.
    Brokers,
    /// One broker's loggers.
    Logger(BrokerId),
    /// A subscription of client metrics.
    ClientMetrics(String),
    /// A group.
    Group(String),
}

impl ConfigResource {
    const fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::Brokers => 4,
            Self::Logger(_) => 8,
            Self::ClientMetrics(_) => 16,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) | Self::ClientMetrics(name) | Self::Group(name) => name.clone(),
            Self::Broker(id) | Self::Logger(id) => id.to_string(),
            Self::Brokers => String::new(),
        }
    }

    fn from_wire(kind: i8, name: &str) -> Option<Self> {
        let id = || name.parse().ok().map(BrokerId);
        match kind {
            2 => Some(Self::Topic(name.to_owned())),
            4 if name.is_empty() => Some(Self::Brokers),
            4 => id().map(Self::Broker),
            8 => id().map(Self::Logger),
            16 => Some(Self::ClientMetrics(name.to_owned())),
            32 => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }

    fn is(&self, kind: i8, name: &str) -> bool {
        self.kind() == kind && self.name() == name
    }
}

impl core::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Brokers => f.write_str("all brokers"),
            Self::Logger(id) => write!(f, "loggers of broker {id}"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker, while it ran.
    Broker,
    /// Set for all brokers.
    Brokers,
    /// Set in the broker's file.
    Static,
    /// Nobody set it.
    Default,
    /// Set for a logger.
    Logger,
    /// Set for a client metrics subscription.
    ClientMetrics,
    /// Set for a group.
    Group,
    /// The broker does not tell.
    Unknown,
}

impl ConfigSource {
    const fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::Brokers,
            4 => Self::Static,
            5 => Self::Default,
            6 => Self::Logger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }
}

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none if it is a secret, or not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can't be changed.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// All sources of the value, the strongest first: name, value, source.
    pub synonyms: Vec<(String, Option<String>, ConfigSource)>,
    /// What it does, if that was asked for.
    pub documentation: Option<String>,
}

/// What to do with one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigOperation {
    /// Set it.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add to a list, separated by commas.
    Append(String),
    /// Take from a list.
    Subtract(String),
}

/// Changes of one resource's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    /// Whose.
    pub resource: ConfigResource,
    /// By name of the setting.
    pub operations: Vec<(String, ConfigOperation)>,
}

impl<E: Env> Admin<E> {
    /// Settings of each resource; with `documentation` what each does.
    ///
    /// Errors of a resource: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST and others.
    pub async fn describe_configs(
        &self,
        resources: Vec<ConfigResource>,
        documentation: bool,
    ) -> Vec<(ConfigResource, Outcome<Vec<ConfigEntry>>)> {
        let mut rounds = self.rounds("describe configs", resources);
        while let Some(open) = rounds.next().await {
            for (target, part) in self.route(&open, |resource| resource).await {
                let wanted = |at: &usize| {
                    let resource = &open[*at].1;
                    describe_configs::DescribeConfigsResource {
                        resource_type: resource.kind(),
                        resource_name: resource.name().into(),
                        configuration_keys: None,
                    }
                };
                let request = DescribeConfigsRequest {
                    resources: part.iter().map(wanted).collect(),
                    include_synonyms: true,
                    include_documentation: documentation,
                };
                let versions = if documentation { 3..=i16::MAX } else { 1..=i16::MAX };
                let answer = match target {
                    Ok(target) => self.client.call(target, request, versions).await,
                    Err(error) => Err(error),
                };
                let answered = answer.map(|answer| expect_reply!(answer, DescribeConfigs).results);
                settle(&mut rounds, &open, &part, answered, |resource, results| {
                    let found = results.iter().find(|one| resource.is(one.resource_type, &one.resource_name))?;
                    let what = || format!("describe configs of {resource}");
                    let checked = check(what, found.error_code, found.error_message.as_deref());
                    Some(checked.map(|()| found.configs.iter().map(entry).collect()))
                });
            }
        }
        rounds.finish()
    }

    /// Changes single settings and leaves the others (KIP-339); with `validate_only` it is only checked.
    ///
    /// Errors of a resource: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG and others.
    pub async fn alter_configs(
        &self,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Vec<(ConfigChange, Outcome<()>)> {
        let mut rounds = self.rounds("alter configs", changes);
        while let Some(open) = rounds.next().await {
            for (target, part) in self.route(&open, |change| &change.resource).await {
                let request = incremental::IncrementalAlterConfigsRequest {
                    resources: part.iter().map(|at| incremental_change(&open[*at].1)).collect(),
                    validate_only,
                };
                let answer = match target {
                    Ok(target) => self.client.call(target, request, 0..=i16::MAX).await,
                    Err(error) => Err(error),
                };
                let answered = answer.map(|answer| expect_reply!(answer, IncrementalAlterConfigs).responses);
                settle(&mut rounds, &open, &part, answered, |change, results| {
                    let resource = &change.resource;
                    let found = results.iter().find(|one| resource.is(one.resource_type, &one.resource_name))?;
                    let what = || format!("alter configs of {resource}");
                    Some(check(what, found.error_code, found.error_message.as_deref()))
                });
            }
        }
        rounds.finish()
    }

    /// Replaces **all** settings of each resource, as the old AlterConfigs does: what is not named goes back to its default. Prefer
    /// [`Self::alter_configs`].
    ///
    /// Errors of a resource: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG and others.
    pub async fn replace_configs(
        &self,
        configs: Vec<(ConfigResource, Vec<(String, String)>)>,
        validate_only: bool,
    ) -> Vec<(ConfigResource, Outcome<()>)> {
        let mut rounds = self.rounds("replace configs", configs);
        while let Some(open) = rounds.next().await {
            for (target, part) in self.route(&open, |(resource, _)| resource).await {
                let resource = |at: &usize| {
                    let (resource, configs) = &open[*at].1;
                    let config = |(name, value): &(String, String)| alter_configs::AlterableConfig {
                        name: name.as_str().into(),
                        value: Some(value.as_str().into()),
                    };
                    alter_configs::AlterConfigsResource {
                        resource_type: resource.kind(),
                        resource_name: resource.name().into(),
                        configs: configs.iter().map(config).collect(),
                    }
                };
                let resources = part.iter().map(resource).collect();
                let request = alter_configs::AlterConfigsRequest { resources, validate_only };
                let answer = match target {
                    Ok(target) => self.client.call(target, request, 0..=i16::MAX).await,
                    Err(error) => Err(error),
                };
                let answered = answer.map(|answer| expect_reply!(answer, AlterConfigs).responses);
                settle(&mut rounds, &open, &part, answered, |(resource, _), results| {
                    let found = results.iter().find(|one| resource.is(one.resource_type, &one.resource_name))?;
                    let what = || format!("replace configs of {resource}");
                    Some(check(what, found.error_code, found.error_message.as_deref()))
                });
            }
        }
        rounds.finish().into_iter().map(|((resource, _), outcome)| (resource, outcome)).collect()
    }

    /// What has settings of its own, of all kinds that the broker knows.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn list_config_resources(&self) -> Outcome<Vec<ConfigResource>> {
        let mut retry = self.client.retry("list config resources");
        loop {
            let asked = match self.client.any_broker().await {
                Ok(target) => self.client.call(target, ListConfigResourcesRequest::default(), 0..=i16::MAX).await,
                Err(error) => Err(error),
            };
            let listed = asked.and_then(|answer| {
                let response = expect_reply!(answer, ListConfigResources);
                check(|| "list config resources".to_owned(), response.error_code, None).map(|()| response)
            });
            match listed {
                Ok(response) => {
                    let own = response.config_resources.iter();
                    let known = own.filter_map(|one| ConfigResource::from_wire(one.resource_type, &one.resource_name));
                    return Ok(known.collect());
                }
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// By whom to ask: a broker about itself, the controller about everything else. Places in `open`.
    async fn route<K>(
        &self,
        open: &[(usize, K)],
        resource: impl Fn(&K) -> &ConfigResource,
    ) -> Vec<(Outcome<Target>, Vec<usize>)> {
        let mut own: Vec<(BrokerId, Vec<usize>)> = Vec::new();
        let mut others = Vec::new();
        for (place, (_, item)) in open.iter().enumerate() {
            match resource(item) {
                ConfigResource::Broker(id) | ConfigResource::Logger(id) => {
                    match own.iter_mut().find(|(known, _)| known == id) {
                        Some((_, places)) => places.push(place),
                        None => own.push((*id, vec![place])),
                    }
                }
                _ => others.push(place),
            }
        }
        let mut routes = Vec::new();
        if !others.is_empty() {
            routes.push((self.client.controller().await, others));
        }
        routes.extend(own.into_iter().map(|(id, places)| (Ok(Target::Broker(id)), places)));
        routes
    }
}

/// Settles what one reply says of the things at these places.
fn settle<E: Env, K: Clone, T, R>(
    rounds: &mut Rounds<E, K, T>,
    open: &[(usize, K)],
    places: &[usize],
    answered: Outcome<Vec<R>>,
    find: impl Fn(&K, &[R]) -> Option<Outcome<T>>,
) {
    match answered {
        Ok(results) => {
            for place in places {
                let (at, item) = &open[*place];
                let outcome = find(item, &results);
                rounds.settle(*at, outcome.unwrap_or_else(|| Err(super::left_out())));
            }
        }
        Err(error) => rounds.settle_all(places.iter().map(|place| open[*place].0), &error),
    }
}

fn incremental_change(change: &ConfigChange) -> incremental::AlterConfigsResource {
    let config = |(name, operation): &(String, ConfigOperation)| {
        let (config_operation, value) = match operation {
            ConfigOperation::Set(value) => (0, Some(value)),
            ConfigOperation::Delete => (1, None),
            ConfigOperation::Append(value) => (2, Some(value)),
            ConfigOperation::Subtract(value) => (3, Some(value)),
        };
        let value = value.map(|value| value.as_str().into());
        incremental::AlterableConfig { name: name.as_str().into(), config_operation, value }
    };
    incremental::AlterConfigsResource {
        resource_type: change.resource.kind(),
        resource_name: change.resource.name().into(),
        configs: change.operations.iter().map(config).collect(),
    }
}

fn entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    let text = |text: &Option<quipu_protocol::Str>| text.as_ref().map(ToString::to_string);
    let synonym = |synonym: &describe_configs::DescribeConfigsSynonym| {
        (synonym.name.to_string(), text(&synonym.value), ConfigSource::from_wire(synonym.source))
    };
    ConfigEntry {
        name: config.name.to_string(),
        value: text(&config.value),
        source: ConfigSource::from_wire(config.config_source),
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        synonyms: config.synonyms.iter().map(synonym).collect(),
        documentation: text(&config.documentation),
    }
}
