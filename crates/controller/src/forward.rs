//! Requests of any kind in one type, and their bytes: any node's shell hands a request to the active controller, and its answer back.
//!
//! ```text
//! byte 0      format version of what follows, 1
//! byte 1..    an AnyRequest, or a Result of AnyReply and ControllerError, in postcard
//! ```
//!
//! The order of the kinds is the format: a new one goes to the end. A kind that a node does not know is refused
//! ([`ForwardError::Malformed`]), so a node sends kinds that came after the oldest release in the cluster only once the feature levels
//! say that all know them.
//!
//! Invariants
//! - What is read is at most [`FORWARD_BYTES_MAX`] long, takes memory in proportion, and never panics.
//! - Only what brokers and clients ask for is here. [`Bootstrap`](crate::Bootstrap), [`StartEpoch`](crate::StartEpoch) and the shell's
//!   own sweeps are decided where they arise.

use core::fmt;

use bytes::Bytes;
use quipu_metadata::Image;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    AllocateProducerIds, AlterConfigs, AlterPartitionReassignments, AskPartitions, Context, ControlledShutdown,
    ControllerError, CreatePartitions, CreateTopics, Decision, DeleteTopics, ElectPreferred, ElectUnclean, FenceBroker,
    RegisterBroker, ReplaceConfigs, Request, UnfenceBroker, UnregisterBroker, UpdateFeatures,
    limits::FORWARD_BYTES_MAX,
};

/// The version of the format that this build writes and reads.
const FORMAT_VERSION: u8 = 1;

/// A request that may be handed to the active controller.
pub trait Forward: Request + Into<AnyRequest> {
    /// The reply in `any`; none if it answers a request of another kind.
    fn reply_of(any: AnyReply) -> Option<Self::Reply>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident),+ $(,)?) => {
        /// A request of any kind.
        #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum AnyRequest {
            $($(#[$doc])* $kind($kind)),+
        }

        /// The reply to a request of the kind of the same name.
        #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum AnyReply {
            $($(#[$doc])* $kind(<$kind as Request>::Reply)),+
        }

        impl Request for AnyRequest {
            type Reply = AnyReply;

            fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<AnyReply>, ControllerError> {
                match self {
                    $(Self::$kind(request) => {
                        let Decision { records, reply } = request.decide(image, context)?;
                        Ok(Decision { records, reply: AnyReply::$kind(reply) })
                    })+
                }
            }
        }

        $(
            impl From<$kind> for AnyRequest {
                fn from(request: $kind) -> Self {
                    Self::$kind(request)
                }
            }

            impl Forward for $kind {
                fn reply_of(any: AnyReply) -> Option<Self::Reply> {
                    match any {
                        AnyReply::$kind(reply) => Some(reply),
                        _ => None,
                    }
                }
            }
        )+
    };
}

kinds! {
    /// A broker process started.
    RegisterBroker,
    /// A broker is ready.
    UnfenceBroker,
    /// A broker is gone.
    FenceBroker,
    /// A broker wants to stop.
    ControlledShutdown,
    /// A broker is gone for good.
    UnregisterBroker,
    /// Topics come.
    CreateTopics,
    /// Topics grow.
    CreatePartitions,
    /// Topics go.
    DeleteTopics,
    /// Configs change.
    AlterConfigs,
    /// Configs are replaced.
    ReplaceConfigs,
    /// A broker needs producer ids.
    AllocateProducerIds,
    /// A leader asks about its partitions.
    AskPartitions,
    /// Preferred leaders are wanted.
    ElectPreferred,
    /// Leaders are wanted, whatever is lost.
    ElectUnclean,
    /// Features change.
    UpdateFeatures,
    /// Replicas move.
    AlterPartitionReassignments,
}

/// What the active controller answers.
pub type Answer = Result<AnyReply, ControllerError>;

/// The bytes are no request or answer that this build can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForwardError {
    /// They are too many.
    TooLarge {
        /// How many.
        length: usize,
    },
    /// Another format version than ours.
    Version {
        /// The version found; none if there are no bytes.
        found: Option<u8>,
    },
    /// They do not spell a request or an answer.
    Malformed,
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length } => {
                write!(f, "a message for the controller has {length} bytes, and {FORWARD_BYTES_MAX} is the most: split the request")
            }
            Self::Version { found: None } => f.write_str("a message for the controller is empty: it is damaged"),
            Self::Version { found: Some(found) } => write!(
                f,
                "a message for the controller has format version {found}, and this build knows version {FORMAT_VERSION}: run \
                 releases that belong together"
            ),
            Self::Malformed => f.write_str(
                "a message for the controller cannot be read: it is damaged, or of a kind that this release does not know",
            ),
        }
    }
}

impl core::error::Error for ForwardError {}

impl AnyRequest {
    /// Its bytes.
    ///
    /// Errors: [`ForwardError::TooLarge`].
    pub fn encode(&self) -> Result<Bytes, ForwardError> {
        encode(self)
    }

    /// The request that `bytes` spell.
    ///
    /// Errors: [`ForwardError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ForwardError> {
        decode(bytes)
    }
}

/// The bytes of an answer.
///
/// Errors: [`ForwardError::TooLarge`]; what was asked for is then done all the same.
pub fn encode_answer(answer: &Answer) -> Result<Bytes, ForwardError> {
    encode(answer)
}

/// The answer that `bytes` spell.
///
/// Errors: [`ForwardError`].
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, ForwardError> {
    decode(bytes)
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, ForwardError> {
    let bytes = postcard::to_extend(value, vec![FORMAT_VERSION]);
    let bytes = bytes.expect("plain data, and a vector takes any of it");
    if bytes.len() > FORWARD_BYTES_MAX {
        return Err(ForwardError::TooLarge { length: bytes.len() });
    }
    Ok(bytes.into())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ForwardError> {
    if bytes.len() > FORWARD_BYTES_MAX {
        return Err(ForwardError::TooLarge { length: bytes.len() });
    }
    let body = match bytes.split_first() {
        Some((&FORMAT_VERSION, body)) => body,
        found => return Err(ForwardError::Version { found: found.map(|(version, _)| *version) }),
    };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(ForwardError::Malformed),
    }
}

#[cfg(test)]
mod tests;
