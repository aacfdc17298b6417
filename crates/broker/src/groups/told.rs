//! What coordinators are told of the cluster: the topics, with the racks of their replicas, and the settings for groups.
//!
//! Invariants
//! - What has not changed is not told again: a topic whose leader moves is the same topic to groups.
//! - A topic that has not changed costs nothing when others do, unless a broker moves to another rack.
//!
//! Not here: what groups make of it (`quipu-groups`).

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::BrokerId;
use quipu_groups::consumer::{Assignor, ConsumerSettings, GroupSettings, Migration, Topic, Topics};
use quipu_metadata::{
    ConfigResource, Configs, Image,
    config::{BrokerConfig, ConfigLayers},
};

/// What is told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) topics: Arc<Topics>,
    pub(super) settings: Arc<ConsumerSettings>,
}

/// What was told last, and of which image.
pub(super) struct Teller {
    image: Image,
    racks: BTreeMap<BrokerId, Arc<str>>,
    told: Told,
}

impl Teller {
    /// Nothing is known yet.
    pub(super) fn new(config: &BrokerConfig) -> Self {
        let image = Image::new();
        let settings = Arc::new(settings(&image, config));
        Self { image, racks: BTreeMap::new(), told: Told { topics: Arc::default(), settings } }
    }

    /// What there is to tell of the image, which is later than the one before: none if nothing has changed.
    pub(super) fn follow(&mut self, image: &Image, config: &BrokerConfig) -> Option<Told> {
        let has_settings = !image.shares_configs_with(&self.image);
        if has_settings {
            self.told.settings = Arc::new(settings(image, config));
        }
        let racks = racks_of(image);
        let base = if racks == self.racks { core::mem::take(&mut self.image) } else { Image::new() };
        self.racks = racks;
        let has_topics = self.follow_topics(image, &base);
        self.image = image.clone();
        (has_settings || has_topics).then(|| self.told.clone())
    }

    /// Takes over what is different in the two.
    fn follow_topics(&mut self, image: &Image, base: &Image) -> bool {
        let mut topics = Topics::clone(&self.told.topics);
        let gone = image.topics_gone_since(base);
        let mut differs = !gone.is_empty();
        for topic in gone {
            topics.remove(topic.topic_id());
        }
        for topic in image.topics_changed_since(base) {
            let told = self.topic(&topic);
            if topics.get(topic.name()) != Some(&told) {
                topics.insert(topic.shared_name(), told);
                differs = true;
            }
        }
        if differs {
            topics.set_version(image.next_offset().get());
            self.told.topics = Arc::new(topics);
        }
        differs
    }

    fn topic(&self, topic: &quipu_metadata::Topic) -> Topic {
        let racks = topic.partitions().map(|(_, state)| -> BTreeSet<Arc<str>> {
            state.replicas.iter().filter_map(|broker| self.racks.get(broker)).cloned().collect()
        });
        Topic { id: topic.topic_id(), racks: racks.collect() }
    }
}

fn racks_of(image: &Image) -> BTreeMap<BrokerId, Arc<str>> {
    let rack = |(broker, state): (BrokerId, &quipu_metadata::record::BrokerState)| {
        Some((broker, state.registration.rack.as_deref()?.into()))
    };
    image.brokers().filter_map(rack).collect()
}

fn settings(image: &Image, config: &BrokerConfig) -> ConsumerSettings {
    let config = &config.group_consumer;
    let millis = Duration::from_millis;
    let own = |(resource, configs): (&ConfigResource, &Configs)| {
        let ConfigResource::Group(group) = resource else { return None };
        let own = ConfigLayers::group_with(configs);
        // The bounds may be other ones than when it was set.
        let within = |value: u64, (min, max): (u64, u64)| millis(value.max(min).min(max));
        let own = GroupSettings {
            session_timeout: own.session_timeout_ms.map(|value| within(value, config.session_timeout_bounds_ms)),
            heartbeat_interval: own
                .heartbeat_interval_ms
                .map(|value| within(value, config.heartbeat_interval_bounds_ms)),
        };
        Some((Arc::from(group.as_str()), own))
    };
    ConsumerSettings {
        session_timeout: millis(config.session_timeout_ms),
        heartbeat_interval: millis(config.heartbeat_interval_ms),
        group_size_max: config.size_max,
        assignors: config.assignors.iter().filter_map(|name| Assignor::find(name)).collect(),
        migration: Migration { upgrades: config.upgrades, downgrades: config.downgrades },
        groups: image.configured_resources().filter_map(own).collect(),
    }
}
