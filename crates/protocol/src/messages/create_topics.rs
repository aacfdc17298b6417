//! Creating topics.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Creates topics.
    CreateTopicsRequest: Request of 19, versions 2..=7, flexible 5.. {
        /// The topics to create.
        topics: Vec<CreatableTopic>,
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32 = 60000,
        /// Whether to check without doing it.
        validate_only: bool,
    }

    /// A topic to create.
    CreatableTopic {
        /// Topic name.
        name: Str,
        /// How many partitions; -1 for the default, or if assignments are given.
        num_partitions: i32,
        /// How many replicas; -1 for the default, or if assignments are given.
        replication_factor: i16,
        /// Replicas of each partition, if the client chooses them.
        assignments: Vec<CreatableReplicaAssignment>,
        /// The settings.
        configs: Vec<CreatableTopicConfig>,
    }

    /// The replicas of one partition.
    CreatableReplicaAssignment {
        /// Partition number.
        partition_index: i32,
        /// Node ids of the replicas, the preferred leader first.
        broker_ids: Vec<i32>,
    }

    /// A setting of the topic.
    CreatableTopicConfig {
        /// Name of the setting.
        name: Str,
        /// The value; null for the default.
        value: Option<Str> [nullable],
    }
}

message! {
    /// What became of each topic.
    CreateTopicsResponse: Response of 19, versions 2..=7, flexible 5.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The topics.
        topics: Vec<CreatableTopicResult>,
    }

    /// What became of one topic.
    CreatableTopicResult {
        /// Topic name.
        name: Str,
        /// Topic id; zero for none.
        topic_id: TopicId [since(7), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable],
        /// [`ErrorCode`](crate::ErrorCode) of its settings, if they may not be seen.
        topic_config_error_code: i16 [since(5), tag(0), ignorable],
        /// How many partitions it got; -1 if that may not be seen.
        num_partitions: i32 [since(5), ignorable] = -1,
        /// How many replicas each got; -1 if that may not be seen.
        replication_factor: i16 [since(5), ignorable] = -1,
        /// Its settings; null if they may not be seen.
        configs: Option<Vec<CreatableTopicConfigs>> [since(5), nullable, ignorable],
    }

    /// A setting that the topic has.
    CreatableTopicConfigs {
        /// Name of the setting.
        name: Str,
        /// The value; null if it is a secret or not set.
        value: Option<Str> [nullable],
        /// Whether it cannot be changed.
        read_only: bool,
        /// Where the value comes from: 1 topic, 2 broker, 3 all brokers, 4 static, 5 default, 6 logger; -1 unknown.
        config_source: i8 = -1,
        /// Whether the value is a secret, and so not sent.
        is_sensitive: bool,
    }
}
