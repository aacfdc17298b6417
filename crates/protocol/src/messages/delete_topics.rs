//! Deleting topics, by name or (KIP-516) by id.

use quipu_base::TopicId;

use crate::Str;

message! {
    /// Deletes topics.
    DeleteTopicsRequest: Request of 20, versions 1..=6, flexible 4.. {
        /// The topics to delete, by name or by id.
        topics: Vec<DeleteTopicState> [since(6)],
        /// Names of the topics.
        topic_names: Vec<Str> [until(5), ignorable],
        /// How long the broker may take, in milliseconds.
        timeout_ms: i32,
    }

    /// A topic to delete.
    DeleteTopicState {
        /// Topic name; null to go by id.
        name: Option<Str> [nullable] = None,
        /// Topic id; zero for none.
        topic_id: TopicId,
    }
}

message! {
    /// What became of each topic.
    DeleteTopicsResponse: Response of 20, versions 1..=6, flexible 4.. {
        /// How long the client must wait because of a quota, in milliseconds.
        throttle_time_ms: i32,
        /// An answer for each topic.
        responses: Vec<DeletableTopicResult>,
    }

    /// What became of one topic.
    DeletableTopicResult {
        /// Topic name; null if asked by an id that is unknown.
        name: Option<Str> [nullable_since(6)],
        /// Topic id; zero for none.
        topic_id: TopicId [since(6), ignorable],
        /// [`ErrorCode`](crate::ErrorCode); 0 is none.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<Str> [since(5), nullable, ignorable] = None,
    }
}
