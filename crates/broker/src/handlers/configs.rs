//! DescribeConfigs (KIP-133, KIP-226, KIP-569), AlterConfigs, IncrementalAlterConfigs (KIP-339), ListConfigResources
//! (KIP-1142).

use std::sync::Arc;

use quipu_base::BrokerId;
use quipu_controller::{AlterConfigs, AlteredConfigs, ConfigOperation, OperationKind, ReplaceConfigs};
use quipu_env::Env;
use quipu_metadata::{
    ConfigResource,
    config::{ConfigEntry, ConfigLayers, ConfigSource, ConfigType},
};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::{
        alter_configs::{AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse},
        describe_configs::{
            DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
            DescribeConfigsResult, DescribeConfigsSynonym,
        },
        incremental_alter_configs::{
            self, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
        },
        list_config_resources::{self, ListConfigResourcesRequest, ListConfigResourcesResponse},
    },
};

use crate::{
    errors::{self, Refusal},
    node::{Node, View},
    quorum::AskError,
};

/// Kafka's numbers for what can be configured.
mod kind {
    pub(super) const TOPIC: i8 = 2;
    pub(super) const BROKER: i8 = 4;
    pub(super) const CLIENT_METRICS: i8 = 16;
    pub(super) const GROUP: i8 = 32;
}

fn resource_of(resource_type: i8, name: &str) -> Result<ConfigResource, Refusal> {
    match resource_type {
        kind::TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        kind::BROKER if name.is_empty() => Ok(ConfigResource::BrokerDefault),
        kind::BROKER => {
            let bad = |_| Refusal::new(ErrorCode::InvalidRequest, format!("broker {name:?} is not a node id"));
            name.parse().map(|id| ConfigResource::Broker(BrokerId(id))).map_err(bad)
        }
        kind::GROUP if name.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "a group's configs need its name"))
        }
        kind::GROUP => Ok(ConfigResource::Group(name.to_owned())),
        kind::CLIENT_METRICS if name.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "a subscription to client metrics needs a name"))
        }
        kind::CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.to_owned())),
        other => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!(
                "resources of type {other} have no configs here: only topics ({}), brokers ({}), client metrics ({}) and groups ({})",
                kind::TOPIC,
                kind::BROKER,
                kind::CLIENT_METRICS,
                kind::GROUP
            ),
        )),
    }
}

pub(super) fn describe<E: Env>(node: &Arc<Node<E>>, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let view = node.view();
    let results = request
        .resources
        .iter()
        .map(|resource| {
            let (resource_type, resource_name) = (resource.resource_type, resource.resource_name.clone());
            match describe_one(node, &view, resource) {
                Ok(entries) => {
                    let mut configs: Vec<_> = entries.into_iter().map(|entry| described(entry, request)).collect();
                    if resource_type == kind::BROKER && !resource_name.is_empty() {
                        configs.extend(addresses(node, &view, resource, request));
                    }
                    DescribeConfigsResult {
                        error_code: ErrorCode::None.code(),
                        error_message: None,
                        resource_type,
                        resource_name,
                        configs,
                    }
                }
                Err(refusal) => DescribeConfigsResult {
                    error_code: refusal.code.code(),
                    error_message: refusal.text(),
                    resource_type,
                    resource_name,
                    configs: Vec::new(),
                },
            }
        })
        .collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

fn describe_one<E: Env>(
    node: &Arc<Node<E>>,
    view: &View<E>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let layers = ConfigLayers::new(&view.image, &node.statics, node.identity.node_id);
    let mut entries = match resource_of(resource.resource_type, &resource.resource_name)? {
        ConfigResource::Topic(name) => {
            quipu_controller::check_topic_name(&name)
                .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
            layers.describe_topic(&name).ok_or_else(|| errors::unknown_topic(false))?
        }
        ConfigResource::BrokerDefault => layers.describe_all_brokers(),
        ConfigResource::Broker(id) if id == node.identity.node_id => layers.describe_broker(),
        ConfigResource::Broker(id) => {
            let message = format!("this is broker {}: ask broker {id} itself", node.identity.node_id);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        ConfigResource::Group(name) => layers.describe_group(&name),
        ConfigResource::ClientMetrics(name) => layers.describe_client_metrics(&name),
    };
    if let Some(names) = &resource.configuration_keys {
        entries.retain(|entry| names.iter().any(|name| name == entry.key.name));
    }
    Ok(entries)
}

/// Where this broker listens and what others are told of it, under Kafka's names and in its notation. They are set by Quipu's own keys
/// `listen` and `advertise`, and so are in no table of configs.
fn addresses<E: Env>(
    node: &Node<E>,
    view: &View<E>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> impl Iterator<Item = DescribeConfigsResourceResult> {
    let broker = view.image.broker(node.identity.node_id);
    let advertised = broker.and_then(|broker| broker.registration.listener(crate::CLIENT_LISTENER));
    // An address of IPv6 stands in brackets.
    let advertised = advertised.map(|listener| {
        let (host, port) = (&listener.host, listener.port);
        if host.contains(':') { format!("PLAINTEXT://[{host}]:{port}") } else { format!("PLAINTEXT://{host}:{port}") }
    });
    let listeners = format!("PLAINTEXT://{}", node.bound);
    let told = [
        ("advertised.listeners", advertised, "What clients are told to connect to (Quipu's key advertise)."),
        ("listeners", Some(listeners), "Where clients are listened for (Quipu's key listen)."),
    ];
    let is_wanted =
        |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name));
    told.into_iter().filter(move |(name, ..)| is_wanted(name)).map(|(name, value, doc)| DescribeConfigsResourceResult {
        name: Str::from_static(name),
        value: value.map(Into::into),
        read_only: true,
        config_source: ConfigSource::StaticBroker.code(),
        config_type: ConfigType::List.code(),
        documentation: request.include_documentation.then(|| Str::from_static(doc)),
        ..Default::default()
    })
}

fn described(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: Str::from_static(entry.key.name),
        value: Some(entry.value.into()),
        read_only: entry.is_read_only,
        config_source: entry.source.code(),
        is_sensitive: false,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: Str::from_static(synonym.name),
                value: Some(synonym.value.into()),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: entry.key.kind.code(),
        documentation: request.include_documentation.then(|| Str::from_static(entry.key.doc)),
    }
}

/// What every answer to a change has.
struct Altered {
    error_code: i16,
    error_message: Option<Str>,
}

impl Altered {
    fn new(result: Result<(), Refusal>) -> Self {
        match result {
            Ok(()) => Self { error_code: ErrorCode::None.code(), error_message: None },
            Err(refusal) => Self { error_code: refusal.code.code(), error_message: refusal.text() },
        }
    }
}

/// The answers in the order of the request: those refused here, and between them those that the controller gave.
fn answers(parsed: Vec<Result<(), Refusal>>, asked: Result<AlteredConfigs, AskError>) -> impl Iterator<Item = Altered> {
    let failed = asked.as_ref().err().map(errors::ask);
    let mut decided = asked.unwrap_or_default().into_iter();
    parsed.into_iter().map(move |parsed| {
        Altered::new(parsed.and_then(|()| match (decided.next(), &failed) {
            (Some((_, result)), _) => result.map_err(|error| errors::controller(&error)),
            (None, Some(refusal)) => Err(refusal.clone()),
            (None, None) => Err(Refusal::plain(ErrorCode::UnknownServerError)),
        }))
    })
}

pub(super) async fn alter<E: Env>(node: Arc<Node<E>>, request: AlterConfigsRequest) -> Response {
    let mut resources = Vec::new();
    let mut parsed = Vec::new();
    for resource in &request.resources {
        parsed.push(resource_of(resource.resource_type, &resource.resource_name).map(|found| {
            let value = |value: &Option<Str>| value.as_ref().map(ToString::to_string);
            let values = resource.configs.iter().map(|config| (config.name.to_string(), value(&config.value)));
            resources.push((found, values.collect()));
        }));
    }
    let asked = node.controller.ask(ReplaceConfigs { resources, validate_only: request.validate_only }).await;
    let responses = request
        .resources
        .into_iter()
        .zip(answers(parsed, asked))
        .map(|(resource, Altered { error_code, error_message })| AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        })
        .collect();
    Response::AlterConfigs(AlterConfigsResponse { responses, ..Default::default() })
}

pub(super) async fn incremental_alter<E: Env>(node: Arc<Node<E>>, request: IncrementalAlterConfigsRequest) -> Response {
    let mut resources = Vec::new();
    let mut parsed = Vec::new();
    for resource in &request.resources {
        let found = resource_of(resource.resource_type, &resource.resource_name);
        parsed.push(found.and_then(|found| {
            let operations = resource.configs.iter().map(operation).collect::<Result<_, _>>()?;
            resources.push((found, operations));
            Ok(())
        }));
    }
    let asked = node.controller.ask(AlterConfigs { resources, validate_only: request.validate_only }).await;
    let responses = request
        .resources
        .into_iter()
        .zip(answers(parsed, asked))
        .map(|(resource, Altered { error_code, error_message })| {
            incremental_alter_configs::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            }
        })
        .collect();
    Response::IncrementalAlterConfigs(IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

fn operation(config: &AlterableConfig) -> Result<ConfigOperation, Refusal> {
    let kind = OperationKind::from_code(config.config_operation).ok_or_else(|| {
        let message = format!("there is no operation {} on a config", config.config_operation);
        Refusal::new(ErrorCode::InvalidRequest, message)
    })?;
    let value = config.value.as_ref().map(ToString::to_string);
    Ok(ConfigOperation { name: config.name.to_string(), kind, value })
}

pub(super) fn list_resources<E: Env>(
    node: &Arc<Node<E>>,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    const SUPPORTED: [i8; 4] = [kind::TOPIC, kind::BROKER, kind::CLIENT_METRICS, kind::GROUP];
    // Version 0 asks for client metrics alone; an empty list asks for everything.
    let wanted: &[i8] = match (version, request.resource_types.as_slice()) {
        (0, _) => &[kind::CLIENT_METRICS],
        (_, []) => &SUPPORTED,
        (_, types) => types,
    };
    if wanted.iter().any(|resource_type| !SUPPORTED.contains(resource_type)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let view = node.view();
    let mut config_resources = Vec::new();
    let mut push = |resource_type, resource_name: Str| {
        config_resources.push(list_config_resources::ConfigResource { resource_name, resource_type });
    };
    if wanted.contains(&kind::TOPIC) {
        view.image.topics().for_each(|topic| push(kind::TOPIC, topic.name().into()));
    }
    if wanted.contains(&kind::BROKER) {
        view.image.brokers().for_each(|(id, _)| push(kind::BROKER, id.to_string().into()));
    }
    for (resource, _) in view.image.configured_resources() {
        match resource {
            ConfigResource::Group(name) if wanted.contains(&kind::GROUP) => push(kind::GROUP, name.as_str().into()),
            ConfigResource::ClientMetrics(name) if wanted.contains(&kind::CLIENT_METRICS) => {
                push(kind::CLIENT_METRICS, name.as_str().into());
            }
            _ => {}
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
