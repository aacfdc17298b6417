//! The tables agree with themselves and with what happens; layers give the value that holds.

use std::collections::BTreeSet;

use quipu_base::{BrokerId, limits};

use super::*;
use crate::{
    ConfigResource, Configs, Delta, Image, InsyncReplicasMin, MetadataRecord,
    samples::{registration, topic_id},
};

fn names(known: &[ConfigKey], not_yet: &[NotYetKey]) -> Vec<&'static str> {
    known.iter().map(|key| key.name).chain(not_yet.iter().map(|key| key.name)).collect()
}

#[test]
fn tables_are_sorted_and_disjoint() {
    assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name) && TOPIC_KEYS_NOT_YET.is_sorted_by_key(|key| key.name));
    assert!(BROKER_KEYS.is_sorted_by_key(|key| key.name) && BROKER_KEYS_NOT_YET.is_sorted_by_key(|key| key.name));
    assert!(GROUP_KEYS.is_sorted_by_key(|key| key.name) && GROUP_KEYS_NOT_YET.is_sorted_by_key(|key| key.name));
    assert!(CLIENT_METRICS_KEYS.is_sorted_by_key(|key| key.name));
    let group = names(GROUP_KEYS, GROUP_KEYS_NOT_YET);
    let topic = names(TOPIC_KEYS, TOPIC_KEYS_NOT_YET);
    let broker = names(BROKER_KEYS, BROKER_KEYS_NOT_YET);
    // As many as the release has that we follow: 38 of topics, 379 of brokers, 27 of groups. Two of brokers are our own.
    assert_eq!((topic.len(), BTreeSet::from_iter(&topic).len()), (38, 38));
    assert_eq!((broker.len(), BTreeSet::from_iter(&broker).len()), (382, 382));
    assert_eq!((group.len(), BTreeSet::from_iter(&group).len()), (27, 27));
    assert_eq!(broker.iter().filter(|name| name.starts_with("log.scrub.")).count(), 2);
}

#[test]
fn every_default_is_taken_as_it_stands() {
    for key in TOPIC_KEYS.iter().chain(GROUP_KEYS).chain(BROKER_KEYS).chain(CLIENT_METRICS_KEYS) {
        let value = key.accept(key.default).unwrap_or_else(|error| panic!("{}: {error}", key.name));
        assert_eq!(value.to_string(), key.default, "{}", key.name);
        assert!(!key.doc.is_empty() && key.doc.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn a_topic_config_agrees_with_the_broker_config_behind_it() {
    for key in TOPIC_KEYS {
        let name = key.broker_name.unwrap();
        let Lookup::Known(behind) = Lookup::broker(name) else { panic!("{name} is not in the table") };
        assert_eq!(
            (key.kind, key.default, key.check, key.status, key.dynamic),
            (behind.kind, behind.default, behind.check, behind.status, behind.dynamic),
            "{} and {name}",
            key.name
        );
    }
}

#[test]
fn a_group_config_agrees_with_the_broker_config_behind_it() {
    for key in GROUP_KEYS {
        let name = key.broker_name.unwrap();
        let Lookup::Known(behind) = Lookup::broker(name) else { panic!("{name} is not in the table") };
        let of = |key: &ConfigKey| (key.kind, key.default, key.check, key.status);
        assert_eq!(of(key), of(behind), "{} and {name}", key.name);
    }
}

#[test]
fn the_defaults_of_topics_are_the_limits_of_the_product() {
    let (image, statics) = (Image::new(), StaticConfig::new());
    let layers = ConfigLayers::new(&image, &statics, BrokerId(1));
    assert_eq!(
        layers.topic("any"),
        TopicConfig {
            cleanup: CleanupPolicy { deletes: true, compacts: false },
            compression: Compression::Producer,
            tombstone_retention_ms: 86_400_000,
            file_delete_delay_ms: 0,
            compaction_lag_max_ms: i64::MAX,
            message_bytes_max: limits::BATCH_BYTES_MAX,
            timestamp_after_max_ms: 3_600_000,
            timestamp_before_max_ms: i64::MAX,
            timestamp_type: TimestampType::CreateTime,
            dirty_ratio_min_millionths: 500_000,
            compaction_lag_min_ms: 0,
            insync_replicas_min: InsyncReplicasMin(1),
            retention_bytes: None,
            retention_ms: Some(604_800_000),
            segment_bytes: limits::SEGMENT_BYTES,
            segment_ms: limits::SEGMENT_MS,
            unclean_election: false,
        }
    );
}

#[test]
fn the_defaults_of_brokers_are_the_limits_of_the_product() {
    let (image, statics) = (Image::new(), StaticConfig::new());
    let layers = ConfigLayers::new(&image, &statics, BrokerId(1));
    assert_eq!(
        layers.broker(),
        BrokerConfig {
            auto_create_topics: true,
            balance_leaders: true,
            balance_interval_seconds: 300,
            heartbeat_interval_ms: 150,
            session_timeout_ms: 700,
            replica_lag_max_ms: 30_000,
            connection_idle_ms: limits::CONNECTION_IDLE_MS,
            replication_factor: 1,
            fetch_sessions_max: limits::FETCH_SESSIONS_MAX,
            telemetry_bytes_max: 1024 * 1024,
            group_consumer: ConsumerGroupConfig {
                assignors: vec!["uniform".into(), "range".into()],
                heartbeat_interval_ms: 5000,
                heartbeat_interval_bounds_ms: (5000, 15_000),
                session_timeout_ms: 45_000,
                session_timeout_bounds_ms: (45_000, 60_000),
                size_max: usize::try_from(i32::MAX).unwrap(),
                upgrades: true,
                downgrades: true,
            },
            group_initial_rebalance_delay_ms: 3000,
            group_session_timeout_max_ms: 1_800_000,
            group_size_max: 2_147_483_647,
            group_session_timeout_min_ms: 6000,
            cleaner_backoff_ms: 15_000,
            cleaner_bytes: limits::CLEANER_BYTES,
            cleaner_bytes_per_second: limits::CLEANER_BYTES_PER_SECOND,
            catch_up_bytes_per_second: limits::CATCH_UP_BYTES_PER_SECOND,
            retention_check_ms: 300_000,
            scrub_bytes_per_second: limits::SCRUB_BYTES_PER_SECOND,
            scrub_interval_ms: 86_400_000,
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address_max: 2_147_483_647,
            partition_count: 1,
            offset_metadata_bytes_max: 4096,
            offsets_retention_check_ms: 600_000,
            offsets_retention_minutes: 10_080,
            offsets_topic_partition_count: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 104_857_600,
            producer_expiration_ms: limits::PRODUCER_EXPIRATION_MS,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
        }
    );
}

#[test]
fn facts_are_the_limits_of_the_product() {
    let fixed = |name: &str| Lookup::topic(name).known(name).unwrap().default.to_owned();
    assert_eq!(fixed("index.interval.bytes"), limits::INDEX_INTERVAL_BYTES.to_string());
    assert_eq!(fixed("max.decompressed.message.bytes"), limits::DECOMPRESSED_BYTES_MAX.to_string());
}

/// (config, value, what is said).
const ANSWERS: &[(&str, &str, &str)] = &[
    ("segment.bytes", " 1048576 ", "ok 1048576"),
    (
        "segment.bytes",
        "1048575",
        r#"Invalid value "1048575" for segment.bytes: it must be a 32-bit integer of at least 1048576."#,
    ),
    (
        "segment.bytes",
        "3000000000",
        r#"Invalid value "3000000000" for segment.bytes: it must be a 32-bit integer of at least 1048576."#,
    ),
    ("segment.ms", "ten", r#"Invalid value "ten" for segment.ms: it must be a 64-bit integer of at least 1."#),
    ("compression.type", "zstd", "ok zstd"),
    (
        "compression.type",
        "none",
        r#"Invalid value "none" for compression.type: it must be one of uncompressed, zstd, lz4, snappy, gzip, producer."#,
    ),
    (
        "compression.gzip.level",
        "0",
        r#"Invalid value "0" for compression.gzip.level: it must be a 32-bit integer from 1 to 9, or -1."#,
    ),
    (
        "compression.zstd.level",
        "23",
        r#"Invalid value "23" for compression.zstd.level: it must be a 32-bit integer from -131072 to 22."#,
    ),
    (
        "compression.lz4.level",
        "9",
        "compression.lz4.level is not supported by Quipu: our lz4 encoder has one level only.",
    ),
    ("cleanup.policy", "delete", "ok delete"),
    ("cleanup.policy", "compact", "ok compact"),
    ("cleanup.policy", "compact, delete", "ok compact,delete"),
    (
        "cleanup.policy",
        "keep",
        r#"Invalid value "keep" for cleanup.policy: it must be a list, separated by commas, of compact, delete."#,
    ),
    ("retention.ms", "-1", "ok -1"),
    ("retention.ms", "-2", r#"Invalid value "-2" for retention.ms: it must be a 64-bit integer of at least -1."#),
    ("min.cleanable.dirty.ratio", " 0.10 ", "ok 0.1"),
    (
        "min.cleanable.dirty.ratio",
        "1.5",
        r#"Invalid value "1.5" for min.cleanable.dirty.ratio: it must be a number from 0 to 1."#,
    ),
    (
        "min.cleanable.dirty.ratio",
        "NaN",
        r#"Invalid value "NaN" for min.cleanable.dirty.ratio: it must be a number from 0 to 1."#,
    ),
    ("preallocate", "FALSE", "ok false"),
    ("preallocate", "no", r#"Invalid value "no" for preallocate: it must be true or false."#),
    ("unclean.leader.election.enable", "true", "ok true"),
    ("file.delete.delay.ms", "60000", "ok 60000"),
    ("segment.byte", "1", "Unknown config name: segment.byte."),
];

#[test]
fn what_is_taken_and_what_is_not() {
    for (name, value, expected) in ANSWERS {
        let said = match Lookup::topic(name).known(name).and_then(|key| key.accept(value)) {
            Ok(value) => format!("ok {value}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, *expected);
    }
}

fn config(resource: ConfigResource, key: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config { resource, key: key.into(), value: Some(value.into()) }
}

fn image_with(configs: Vec<MetadataRecord>) -> Image {
    let mut image = Image::new();
    let broker = MetadataRecord::RegisterBroker { broker: BrokerId(1), registration: registration(1, 1) };
    let topic = MetadataRecord::Topic { name: "t".into(), topic_id: topic_id(1) };
    for record in [broker, topic].iter().chain(&configs) {
        image.apply(image.next_offset(), record, &mut Delta::default()).unwrap();
    }
    image
}

#[test]
fn the_strongest_layer_holds_and_all_are_told() {
    let topic = || ConfigResource::Topic("t".into());
    let mut statics = StaticConfig::new();
    let mut configs = Vec::new();
    let told = |configs: &[MetadataRecord], statics: &StaticConfig| {
        let image = image_with(configs.to_vec());
        let layers = ConfigLayers::new(&image, statics, BrokerId(1));
        let entries = layers.describe_topic("t").unwrap();
        let entry = entries.into_iter().find(|entry| entry.key.name == "segment.ms").unwrap();
        assert_eq!(entry.value, layers.topic("t").segment_ms.to_string(), "what is told is what holds");
        assert_eq!((entry.source, &entry.value), (entry.synonyms[0].source, &entry.synonyms[0].value));
        let synonym = |synonym: &ConfigSynonym| format!("{} {}={}", synonym.source.code(), synonym.name, synonym.value);
        entry.synonyms.iter().map(synonym).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(told(&configs, &statics), "5 log.roll.ms=604800000");
    statics.set("log.roll.ms", "4").unwrap();
    assert_eq!(told(&configs, &statics), "4 log.roll.ms=4, 5 log.roll.ms=604800000");
    configs.push(config(ConfigResource::BrokerDefault, "log.roll.ms", "3"));
    assert_eq!(told(&configs, &statics), "3 log.roll.ms=3, 4 log.roll.ms=4, 5 log.roll.ms=604800000");
    configs.push(config(ConfigResource::Broker(BrokerId(2)), "log.roll.ms", "22"));
    configs.push(config(ConfigResource::Broker(BrokerId(1)), "log.roll.ms", "2"));
    configs.push(config(topic(), "segment.ms", "1"));
    assert_eq!(
        told(&configs, &statics),
        "1 segment.ms=1, 2 log.roll.ms=2, 3 log.roll.ms=3, 4 log.roll.ms=4, 5 log.roll.ms=604800000"
    );
    // Stored by a build that took it: this one does not, so the next layer holds.
    configs.push(config(topic(), "segment.ms", "never"));
    assert!(told(&configs, &statics).starts_with("2 log.roll.ms=2, "));
}

#[test]
fn every_working_config_of_a_topic_takes_effect() {
    let (image, statics) = (Image::new(), StaticConfig::new());
    let layers = ConfigLayers::new(&image, &statics, BrokerId(1));
    let with = |overrides: &[(&str, &str)]| {
        let overrides: Configs =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        layers.topic_with(&overrides)
    };
    let default = with(&[]);
    for key in TOPIC_KEYS.iter().filter(|key| key.status == Status::Works && !key.name.ends_with(".level")) {
        let other = ["true", "gzip", "LogAppendTime", "1048577", "compact", "0.25"];
        let other = other.into_iter().find(|value| key.accept(value).is_ok()).unwrap();
        assert_ne!(with(&[(key.name, other)]), default, "{}={other}", key.name);
    }
    for (name, level, expected) in [
        ("gzip", "9", Compression::Gzip { level: Some(9) }),
        ("gzip", "-1", Compression::Gzip { level: None }),
        ("zstd", "-5", Compression::Zstd { level: -5 }),
    ] {
        let level_name = format!("compression.{name}.level");
        assert_eq!(with(&[("compression.type", name), (&level_name, level)]).compression, expected);
    }
    for (name, expected) in
        [("snappy", Compression::Snappy), ("lz4", Compression::Lz4), ("uncompressed", Compression::Uncompressed)]
    {
        assert_eq!(with(&[("compression.type", name)]).compression, expected);
    }
}

#[test]
fn every_working_config_of_a_broker_can_be_set_in_the_file() {
    let image = Image::new();
    let resolved = |statics: &StaticConfig| {
        let layers = ConfigLayers::new(&image, statics, BrokerId(1));
        (layers.broker(), layers.topic("any"))
    };
    let default = resolved(&StaticConfig::new());
    for key in BROKER_KEYS.iter().filter(|key| key.status == Status::Works && !key.name.ends_with(".level")) {
        let mut statics = StaticConfig::new();
        let other = ["false", "true", "gzip", "LogAppendTime", "1048577", "7", "range", "upgrade", "compact", "0.25"];
        let is_other = |value: &&str| *value != key.default && key.accept(value).is_ok();
        let other = other.into_iter().find(is_other).unwrap();
        statics.set(key.name, other).unwrap();
        assert_eq!(statics.get(key.name), Some(other));
        assert_ne!(resolved(&statics), default, "{}={other}", key.name);
    }
}

#[test]
fn the_file_takes_only_what_works() {
    let mut statics = StaticConfig::new();
    let mut set = |name: &str, value: &str| statics.set(name, value).map_err(|error| error.to_string());
    assert_eq!(set("num.partitions", "3"), Ok(()));
    assert_eq!(
        set("log.retention.hours", "168").unwrap_err(),
        "log.retention.hours is not supported by Quipu: use the config of the same name that ends in .ms."
    );
    assert_eq!(
        set("broker.id", "1").unwrap_err(),
        "broker.id is not supported by Quipu: Quipu has keys of its own for that: node_id, data_dir, listen, advertise."
    );
    assert_eq!(set("num.partition", "3").unwrap_err(), "Unknown config name: num.partition.");
    assert_eq!(
        set("num.partitions", "0").unwrap_err(),
        r#"Invalid value "0" for num.partitions: it must be a 32-bit integer of at least 1."#
    );
    assert_eq!(statics.iter().collect::<Vec<_>>(), [("num.partitions", "3")]);
}

#[test]
fn brokers_are_described_with_what_can_change() {
    let image = image_with(vec![
        config(ConfigResource::BrokerDefault, "log.roll.ms", "3"),
        config(ConfigResource::Broker(BrokerId(1)), "compression.type", "gzip"),
    ]);
    let mut statics = StaticConfig::new();
    statics.set("num.partitions", "8").unwrap();
    let layers = ConfigLayers::new(&image, &statics, BrokerId(1));
    let line = |entry: &ConfigEntry| {
        format!("{}={} {:?} read-only {}", entry.key.name, entry.value, entry.source, entry.is_read_only)
    };
    let entries = layers.describe_broker();
    let lines: Vec<String> = entries.iter().filter(|entry| entry.source != ConfigSource::Default).map(line).collect();
    assert_eq!(
        lines,
        [
            "compression.type=gzip DynamicBroker read-only false",
            "log.roll.ms=3 DynamicDefaultBroker read-only false",
            "num.partitions=8 StaticBroker read-only true",
        ]
    );
    assert_eq!(entries.len(), BROKER_KEYS.len());
    let lines: Vec<String> = layers.describe_all_brokers().iter().map(line).collect();
    assert_eq!(lines, ["log.roll.ms=3 DynamicDefaultBroker read-only false"]);
    assert!(layers.describe_topic("nobody").is_none());
}

#[test]
fn a_groups_configs_hold_for_it_alone_and_have_bounds() {
    let group = ConfigResource::Group("g".into());
    let image = image_with(vec![config(group.clone(), "consumer.session.timeout.ms", "50000")]);
    let statics = StaticConfig::new();
    let layers = ConfigLayers::new(&image, &statics, BrokerId(1));
    let lines = |name| -> Vec<String> {
        let line = |entry: ConfigEntry| format!("{}={} {:?}", entry.key.name, entry.value, entry.source);
        layers.describe_group(name).into_iter().map(line).collect()
    };
    let beat = "consumer.heartbeat.interval.ms=5000 Default".to_owned();
    assert_eq!(lines("g"), [beat.clone(), "consumer.session.timeout.ms=50000 DynamicGroup".into()]);
    assert_eq!(lines("h"), [beat, "consumer.session.timeout.ms=45000 Default".into()]);
    let own = ConfigLayers::group_with(image.configs(&group).unwrap());
    let broker = layers.broker().group_consumer;
    assert_eq!(own, GroupConfig { session_timeout_ms: Some(50_000), heartbeat_interval_ms: None });
    assert_eq!((broker.check(), broker.check_group(own)), (Ok(()), Ok(())));
    for (session, beat) in [(44_999, 5000), (60_001, 5000), (45_000, 4999), (45_000, 15_001)] {
        let bad = GroupConfig { session_timeout_ms: Some(session), heartbeat_interval_ms: Some(beat) };
        assert!(broker.check_group(bad).is_err(), "{session} {beat}");
    }
    let even = ConsumerGroupConfig { heartbeat_interval_bounds_ms: (1, 90_000), ..broker };
    let bad = GroupConfig { session_timeout_ms: Some(45_000), heartbeat_interval_ms: Some(45_000) };
    assert!(even.check_group(bad).unwrap_err().contains("not less"));
}

#[test]
fn resources_have_kafkas_codes() {
    for resource in [
        ConfigResource::Topic("t".into()),
        ConfigResource::Broker(BrokerId(7)),
        ConfigResource::BrokerDefault,
        ConfigResource::ClientMetrics("m".into()),
        ConfigResource::Group("g".into()),
    ] {
        let (code, name) = resource.to_kafka();
        assert_eq!(ConfigResource::from_kafka(code, &name), Some(resource));
    }
    assert_eq!(ConfigResource::from_kafka(4, "seven"), None);
    assert_eq!(ConfigResource::from_kafka(8, "7"), None);
}
