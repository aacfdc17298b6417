//! What the way from one machine to another is like.

use core::time::Duration;

use quipu_env::Rng;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How long a packet takes. In a plan, times are whole microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Latency {
    /// Any time between the two, each as likely.
    Uniform {
        /// At least.
        #[serde(rename = "min_us", with = "micros")]
        min: Duration,
        /// At most.
        #[serde(rename = "max_us", with = "micros")]
        max: Duration,
    },
    /// At least `min`, and more by an exponential distribution.
    Exponential {
        /// At least.
        #[serde(rename = "min_us", with = "micros")]
        min: Duration,
        /// How much more on average.
        #[serde(rename = "mean_us", with = "micros")]
        mean: Duration,
    },
    /// Mostly `usual`, but one packet in `one_in` takes `slow`.
    Bimodal {
        /// Mostly.
        #[serde(rename = "usual_us", with = "micros")]
        usual: Duration,
        /// Sometimes.
        #[serde(rename = "slow_us", with = "micros")]
        slow: Duration,
        /// How seldom.
        one_in: u32,
    },
}

impl Latency {
    /// Nanoseconds for one packet.
    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Uniform { min, max } => rng.random_range(nanos(*min)..=nanos(*max)),
            Self::Exponential { min, mean } => nanos(*min) + exponential(nanos(*mean), rng),
            Self::Bimodal { usual, slow, one_in } => {
                nanos(if rng.random_range(0..*one_in) == 0 { *slow } else { *usual })
            }
        }
    }
}

/// Halvings of the mean's seventy percent, without floating point: the time to the next tail of a fair coin, spread evenly
/// within each step. Close enough to an exponential distribution, and the same on every machine.
fn exponential(mean: u64, rng: &mut Rng) -> u64 {
    let half_life = mean / 10 * 7;
    let steps = rng.random::<u32>().leading_ones().min(16);
    u64::from(steps) * half_life + rng.random_range(0..=half_life)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Durations as whole microseconds.
mod micros {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

/// One direction between two machines.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// How long a packet takes.
    pub latency: Latency,
}

impl LinkSettings {
    /// Within one machine.
    pub(super) const LOOPBACK: Self =
        Self { latency: Latency::Uniform { min: Duration::from_micros(10), max: Duration::from_micros(50) } };
}

impl Default for LinkSettings {
    /// Within one data centre.
    fn default() -> Self {
        Self { latency: Latency::Uniform { min: Duration::from_micros(100), max: Duration::from_micros(500) } }
    }
}
