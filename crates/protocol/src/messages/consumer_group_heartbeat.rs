//! A member of a group of the consumer protocol (KIP-848): its sign of life, by which it joins, leaves, is given partitions and gives them up.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// A member's sign of life. What has not changed since the last one may be left out.
    ConsumerGroupHeartbeatRequest: Request of 68, versions 0..=1, flexible 0.. {
        /// The group.
        group_id: Str,
        /// The member: of version 0 empty at first, since then made by the client.
        member_id: Str,
        /// 0 to join, -1 to leave, -2 to leave for a while (static members); else the epoch that it was told.
        member_epoch: i32,
        /// What its owner calls it.
        instance_id: Option<Str> [nullable] = None,
        /// Where it is.
        rack_id: Option<Str> [nullable] = None,
        /// How long it may take to give partitions up, in milliseconds; -1 if that has not changed.
        rebalance_timeout_ms: i32 = -1,
        /// The topics that it wants; null if they have not changed.
        subscribed_topic_names: Option<Vec<Str>> [nullable] = None,
        /// A regular expression for the topics that it wants; null if it has not changed.
        subscribed_topic_regex: Option<Str> [since(1), nullable] = None,
        /// The assignor that it asks for; null if that has not changed.
        server_assignor: Option<Str> [nullable] = None,
        /// What it reads; null if that has not changed.
        topic_partitions: Option<Vec<TopicPartitions>> [nullable] = None,
    }

    /// Partitions of one topic.
    TopicPartitions {
        /// Topic id.
        topic_id: TopicId,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

message! {
    /// What became of it, and what the member is to read from now on.
    ConsumerGroupHeartbeatResponse: Response of 68, versions 0..=1, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable] = None,
        /// The member.
        member_id: Option<Str> [nullable] = None,
        /// Its epoch.
        member_epoch: i32,
        /// When it has to come again, in milliseconds.
        heartbeat_interval_ms: i32,
        /// What it may read; null if that has not changed.
        assignment: Option<Assignment> [nullable] = None,
    }

    /// What a member may read.
    Assignment {
        /// The partitions.
        topic_partitions: Vec<TopicPartitions>,
    }
}
