//! Topics go: with their partitions and configs, at once.

use quipu_base::TopicId;
use quipu_metadata::{Image, MetadataRecord};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request,
    draft::Draft,
    mentions::{Mention, Mentions},
};

/// Topics are to be deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteTopics {
    /// Which.
    pub topics: Vec<TopicRef>,
}

/// How a request names a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum TopicRef {
    /// By its name.
    Name(String),
    /// By its id.
    Id(TopicId),
}

/// A topic that was deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// The name it had.
    pub name: String,
    /// The id it had.
    pub topic_id: TopicId,
}

impl TopicRef {
    fn find(&self, image: &Image) -> Result<DeletedTopic, ControllerError> {
        let found = match self {
            Self::Name(name) => image.topic(name).ok_or_else(|| ControllerError::UnknownTopic { name: name.clone() }),
            Self::Id(topic_id) => {
                image.topic_by_id(*topic_id).ok_or(ControllerError::UnknownTopicId { topic_id: *topic_id })
            }
        };
        found.map(|topic| DeletedTopic { name: topic.name().to_owned(), topic_id: topic.topic_id() })
    }
}

impl Request for DeleteTopics {
    /// As the request first names each, in its order.
    type Reply = Vec<(TopicRef, Result<DeletedTopic, ControllerError>)>;

    /// A topic that is named twice, in whatever way, is not deleted.
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        let found: Vec<_> = self.topics.iter().map(|topic| (topic, topic.find(image))).collect();
        let mut mentions = Mentions::count(found.iter().map(|(topic, result)| identity(topic, result)));
        let mut draft = Draft::new(image);
        let mut reply = Vec::new();
        for (topic, result) in found {
            let result = match mentions.take(&identity(topic, &result)) {
                Mention::Only => result,
                Mention::First => {
                    let why = "The topic is named more than once in the request.".to_owned();
                    Err(ControllerError::InvalidRequest(why))
                }
                Mention::Again => continue,
            };
            if let Ok(deleted) = &result {
                draft.push(MetadataRecord::RemoveTopic { topic_id: deleted.topic_id });
            }
            reply.push((topic.clone(), result));
        }
        Ok(draft.finish(reply, false))
    }
}

/// The id of a topic that exists; what the request said of one that does not.
fn identity(topic: &TopicRef, result: &Result<DeletedTopic, ControllerError>) -> TopicRef {
    result.as_ref().map_or_else(|_| topic.clone(), |found| TopicRef::Id(found.topic_id))
}
