//! Groups of the consumer protocol (KIP-848) and their members.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Asks about groups.
    ConsumerGroupDescribeRequest: Request of 69, versions 0..=1, flexible 0.. {
        /// The groups.
        group_ids: Vec<Str>,
        /// Whether to say what the caller may do to them.
        include_authorized_operations: bool,
    }
}

message! {
    /// What is known of them.
    ConsumerGroupDescribeResponse: Response of 69, versions 0..=1, flexible 0.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The groups.
        groups: Vec<DescribedGroup>,
    }

    /// One group.
    DescribedGroup {
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [nullable] = None,
        /// The group.
        group_id: Str,
        /// Its state's name.
        group_state: Str,
        /// Counts the changes of what its members want and what topics there are.
        group_epoch: i32,
        /// The group epoch for which partitions were assigned.
        assignment_epoch: i32,
        /// Who assigned them.
        assignor_name: Str,
        /// Its members.
        members: Vec<Member>,
        /// Bit set of what the caller may do to it; `i32::MIN` if not asked for.
        authorized_operations: i32 = i32::MIN,
    }

    /// One member.
    Member {
        /// The member.
        member_id: Str,
        /// What its owner calls it.
        instance_id: Option<Str> [nullable] = None,
        /// Where it is.
        rack_id: Option<Str> [nullable] = None,
        /// Its epoch.
        member_epoch: i32,
        /// What its client calls itself.
        client_id: Str,
        /// Where it connects from.
        client_host: Str,
        /// Topics that it wants by name.
        subscribed_topic_names: Vec<Str>,
        /// Topics that it wants by a regular expression.
        subscribed_topic_regex: Option<Str> [nullable] = None,
        /// What it may read.
        assignment: Assignment,
        /// What it is to read.
        target_assignment: Assignment,
        /// Which protocol it speaks: 0 classic, 1 consumer, -1 unknown.
        member_type: i8 [since(1), ignorable] = -1,
    }

    /// Partitions of topics.
    Assignment {
        /// By topic.
        topic_partitions: Vec<TopicPartitions>,
    }

    /// Partitions of one topic.
    TopicPartitions {
        /// Topic id.
        topic_id: TopicId,
        /// Topic name.
        topic_name: Str,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}
