//! Moments that don't count when two states are compared.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use quipu_env::Instant;

/// A moment. It hashes to nothing, so that a model checker takes states for equal that differ only in when they came about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct When(pub(crate) Instant);

impl Hash for When {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl When {
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }

    /// Time from `earlier` to this moment, zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.since(earlier.0)
    }
}
