//! Latencies and the one line of JSON that every workload ends with.

use std::time::Duration;

use serde_json::{Value, json};

/// Latencies in microseconds, in any order.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Room for `count` without growing: a pause for growth would be measured.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Notes one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes over another's.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Percentiles as JSON: `p50_us`, `p99_us`, `p999_us`, `max_us`.
    pub(crate) fn into_json(mut self) -> Value {
        self.0.sort_unstable();
        json!({
            "p50_us": self.at(500),
            "p99_us": self.at(990),
            "p999_us": self.at(999),
            "max_us": self.0.last().copied().unwrap_or(0),
        })
    }

    /// The smallest latency that `per_mille` of a thousand are not above. They are sorted.
    fn at(&self, per_mille: usize) -> u64 {
        let rank = (self.0.len() * per_mille).div_ceil(1000).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0)
    }
}

/// What a throughput workload did, as JSON: `records`, `bytes` (of values), `seconds`.
pub(crate) fn throughput(records: usize, value_bytes: usize, took: Duration) -> Value {
    json!({ "records": records, "bytes": records * value_bytes, "seconds": took.as_secs_f64() })
}

/// `left` with the fields of `right`.
pub(crate) fn merge(mut left: Value, right: Value) -> Value {
    if let (Value::Object(into), Value::Object(from)) = (&mut left, right) {
        into.extend(from);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        (1..=1000).rev().for_each(|us| latencies.add(Duration::from_micros(us)));
        let json = latencies.into_json();
        assert_eq!(json, json!({ "p50_us": 500, "p99_us": 990, "p999_us": 999, "max_us": 1000 }));
    }
}
