//! Whether a fault makes sense.

use core::fmt;

use super::Fault;
use crate::{net::Latency, node::Node, world::World};

/// A fault that can't be begun: which field is wrong, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No machine has that name.
    UnknownMachine {
        /// The fault's kind.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A value that makes no sense.
    Senseless {
        /// The fault's kind.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// Why.
        why: &'static str,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMachine { kind, field, name } => write!(f, "{kind}.{field}: no machine is called {name:?}"),
            Self::Senseless { kind, field, why } => write!(f, "{kind}.{field}: {why}"),
        }
    }
}

impl core::error::Error for FaultError {}

impl Fault {
    /// Whether its values make sense, whatever the machines.
    ///
    /// # Errors
    /// [`FaultError::Senseless`].
    pub fn check(&self) -> Result<(), FaultError> {
        let wrong = match self {
            Self::Latency { latency: Latency::Uniform { min, max }, .. } if min > max => {
                Some(("latency", "min_us is more than max_us"))
            }
            Self::Latency { latency: Latency::Bimodal { one_in: 0, .. }, .. } => {
                Some(("latency", "one_in must be at least 1"))
            }
            Self::Loss { percent, .. } if *percent > 100 => Some(("percent", "must be at most 100")),
            Self::SlowLink { bytes_per_second: 0, .. } => Some(("bytes_per_second", "must be at least 1")),
            Self::Segments { bytes_max: 0, .. } => Some(("bytes_max", "must be at least 1")),
            Self::Kill { times: 0, .. } => Some(("times", "must be at least 1")),
            Self::SlowDisk { factor: 0, .. } => Some(("factor", "must be at least 1")),
            Self::ClockDrift { ppm, .. } if !(-500_000..=1_000_000).contains(ppm) => {
                Some(("ppm", "must lie between -500000 and 1000000"))
            }
            Self::BitRot { place_ppm, .. } | Self::Unreadable { place_ppm, .. } if *place_ppm > 1_000_000 => {
                Some(("place_ppm", "must be at most 1000000"))
            }
            _ => None,
        };
        let empty = match self.ways() {
            Some(([], _, _)) => Some(("from", "names no machine")),
            Some((_, [], _)) => Some(("to", "names no machine")),
            _ => None,
        };
        match wrong.or(empty) {
            Some((field, why)) => Err(FaultError::Senseless { kind: self.kind(), field, why }),
            None => Ok(()),
        }
    }

    pub(super) fn machine(&self, world: &World, field: &'static str, name: &str) -> Result<Node, FaultError> {
        let unknown = || FaultError::UnknownMachine { kind: self.kind(), field, name: name.to_owned() };
        world.node_named(name).ok_or_else(unknown)
    }

    pub(super) fn machines(
        &self,
        world: &World,
        field: &'static str,
        names: &[String],
    ) -> Result<Vec<Node>, FaultError> {
        names.iter().map(|name| self.machine(world, field, name)).collect()
    }
}
