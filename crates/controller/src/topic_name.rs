//! Which names a topic can have: Kafka's rules.

use core::fmt;

use quipu_base::limits::TOPIC_NAME_LENGTH_MAX;
use quipu_metadata::Image;
use serde::{Deserialize, Serialize};

/// The metadata log's own name, which no topic can have.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// The topic of groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Whether clients may not write to the topic: a coordinator's state is in it.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    name == OFFSETS_TOPIC
}

/// Why no topic can have the name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TopicNameError {
    /// It is empty.
    Empty,
    /// It is `.` or `..`.
    Dots,
    /// It is longer than [`TOPIC_NAME_LENGTH_MAX`].
    TooLong {
        /// Its length.
        length: usize,
    },
    /// It has something else than letters, digits, dots, underscores and hyphens.
    BadCharacter {
        /// The name.
        name: String,
    },
    /// It is the metadata log's.
    Reserved,
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The topic name is invalid: ")?;
        match self {
            Self::Empty => f.write_str("it is empty."),
            Self::Dots => f.write_str("it is \".\" or \"..\"."),
            Self::TooLong { length } => {
                write!(f, "it has {length} characters, and at most {TOPIC_NAME_LENGTH_MAX} are allowed.")
            }
            Self::BadCharacter { name } => {
                write!(f, "{name:?} has other characters than ASCII letters, digits, '.', '_' and '-'.")
            }
            Self::Reserved => write!(f, "{METADATA_TOPIC} is the metadata log's name."),
        }
    }
}

impl core::error::Error for TopicNameError {}

/// Errors: the first rule of Kafka's that the name breaks.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        Err(TopicNameError::Empty)
    } else if name == "." || name == ".." {
        Err(TopicNameError::Dots)
    } else if name.len() > TOPIC_NAME_LENGTH_MAX {
        Err(TopicNameError::TooLong { length: name.chars().count() })
    } else if !name.bytes().all(is_legal) {
        Err(TopicNameError::BadCharacter { name: name.to_owned() })
    } else if name == METADATA_TOPIC {
        Err(TopicNameError::Reserved)
    } else {
        Ok(())
    }
}

/// A topic whose name differs from `name` only in dots and underscores.
///
/// Such names agree up to the first dot or underscore, so only those that begin alike are looked at.
pub(crate) fn find_collision<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    let prefix = &name[..name.find(['.', '_'])?];
    let unify = |byte: u8| if byte == b'.' { b'_' } else { byte };
    image
        .topics_from(prefix)
        .map(quipu_metadata::Topic::name)
        .take_while(|other| other.starts_with(prefix))
        .find(|other| other.len() == name.len() && other.bytes().map(unify).eq(name.bytes().map(unify)))
}
