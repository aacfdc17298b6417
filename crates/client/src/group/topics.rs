//! Which topics there are, for members that decide by them or know them by id.
//!
//! Not here: who leads what (`cluster`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::TopicId;
use quipu_env::Env;
use regex::Regex;

use super::assign::Counts;
use crate::{Client, ClientError};

/// What to read in a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Subscription {
    /// These topics. One that does not exist is read once it does.
    Topics(BTreeSet<Arc<str>>),
    /// All topics whose whole name this regular expression describes, those to come included. In the consumer protocol the
    /// coordinator looks for them, in the classic one each member; the client knows the syntax of the `regex` crate, brokers RE2's,
    /// which have nearly everything in common.
    Pattern(String),
}

impl Subscription {
    /// These topics.
    pub fn topics<T: Into<Arc<str>>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self::Topics(topics.into_iter().map(Into::into).collect())
    }

    /// All topics with such a name.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::Pattern(pattern.into())
    }

    /// Errors: [`ClientError::Config`].
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        match self {
            Self::Topics(topics) if topics.is_empty() => {
                Err(ClientError::Config("subscribe to at least one topic; unsubscribe ends a subscription".to_owned()))
            }
            Self::Topics(_) => Ok(()),
            Self::Pattern(pattern) => compile(pattern).map(drop),
        }
    }
}

/// A pattern of whole names.
pub(crate) fn compile(pattern: &str) -> Result<Regex, ClientError> {
    let bad = |error| ClientError::Config(format!("`{pattern}` is no regular expression: {error}"));
    Regex::new(&format!("^(?:{pattern})$")).map_err(bad)
}

/// The topics that were looked at.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) counts: Counts,
    pub(crate) names: BTreeMap<TopicId, Arc<str>>,
}

/// Looks at these topics.
pub(crate) async fn look_at<E: Env>(client: Client<E>, topics: BTreeSet<Arc<str>>) -> Result<Seen, ClientError> {
    let topics: Vec<Arc<str>> = topics.into_iter().collect();
    client.refresh(&topics).await?;
    let cluster = client.cluster();
    let mut seen = Seen::default();
    topics.iter().filter_map(|name| cluster.topic(name)).for_each(|topic| seen.add(topic));
    Ok(seen)
}

/// Looks at all topics but the system's own.
pub(crate) async fn look_at_all<E: Env>(client: Client<E>) -> Result<Seen, ClientError> {
    let mut seen = Seen::default();
    client.admin().list_topics().await?.iter().for_each(|topic| seen.add(topic));
    Ok(seen)
}

impl Seen {
    fn add(&mut self, topic: &crate::Topic) {
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        self.names.insert(topic.id, Arc::clone(&topic.name));
        if !topic.is_internal {
            self.counts.insert(Arc::clone(&topic.name), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_describe_whole_names() {
        let pattern = compile("orders|orders-.*").unwrap();
        let matches = ["orders", "orders-1", "old-orders", "ordersx"].map(|name| pattern.is_match(name));
        assert_eq!(matches, [true, true, false, false]);
        assert!(Subscription::pattern("(").check().unwrap_err().to_string().contains("regular expression"));
        assert!(Subscription::topics::<&str>([]).check().is_err());
    }
}
