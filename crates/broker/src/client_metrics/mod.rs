//! Metrics that clients push (KIP-714): who may push when, and what came.
//!
//! ```text
//! unknown -> asked -> pushed -> pushed .. -> terminating
//! ```
//!
//! Invariants
//! - A client asks, or pushes, no more often than its interval, but for its first push after it asked, and its last one.
//! - What is kept is bounded whatever clients push: [`limits::CLIENT_INSTANCES_MAX`] clients, [`limits::CLIENT_METRIC_NAMES_MAX`]
//!   names of metrics.
//!
//! What came is told to the log and to those who ask the broker for its totals. Not here: subscriptions
//! (`quipu_metadata::config`), the format ([`otlp`]).

mod otlp;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quipu_base::{ClientInstanceId, limits};
use quipu_env::{Instant, Rng};
use quipu_metadata::config::{Client, ClientMetrics};
use quipu_protocol::ErrorCode;
use quipu_records::{Codec, compression::decompress};
use rand::Rng as _;

/// What clients have pushed to a broker since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientMetricsTotals {
    /// Pushes taken.
    pub pushes: u64,
    /// Pushes refused.
    pub refused: u64,
    /// Their bytes, compressed as they came.
    pub bytes: u64,
    /// Data points by the metric's name; those of too many names stand under the empty name.
    pub points: BTreeMap<String, u64>,
}

/// What a client is told to push.
pub(crate) struct Wanted {
    pub(crate) subscription_id: i32,
    pub(crate) metrics: BTreeSet<String>,
    pub(crate) interval_ms: i32,
}

/// A push.
pub(crate) struct Push {
    pub(crate) subscription_id: i32,
    pub(crate) terminating: bool,
    pub(crate) codec: i8,
    pub(crate) metrics: Bytes,
}

/// A client that has asked or pushed.
#[derive(Clone, Copy)]
struct Instance {
    asked: Option<Instant>,
    pushed: Option<Instant>,
    used: Instant,
    /// It has asked since it pushed: its next push may come when it likes.
    has_asked: bool,
    terminating: bool,
    /// Its last push was refused for something that it has to ask about: it may do so at once.
    has_to_ask: bool,
}

/// See the module.
pub(crate) struct ClientPushes(Mutex<Inner>);

struct Inner {
    rng: Rng,
    instances: BTreeMap<ClientInstanceId, Instance>,
    by_use: BTreeSet<(Instant, ClientInstanceId)>,
    totals: ClientMetricsTotals,
}

/// Codecs that are taken, the best first.
pub(crate) const CODECS: [Codec; 4] = [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy];

impl ClientPushes {
    pub(crate) fn new(rng: Rng) -> Self {
        let (instances, by_use, totals) = (BTreeMap::new(), BTreeSet::new(), ClientMetricsTotals::default());
        Self(Mutex::new(Inner { rng, instances, by_use, totals }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for a client that has none.
    pub(crate) fn new_id(&self) -> ClientInstanceId {
        let mut bytes = [0; 16];
        self.lock().rng.fill_bytes(&mut bytes);
        // A random UUID, of version 4.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        ClientInstanceId(bytes)
    }

    /// A client asks what to push. Errors: it does so too soon.
    pub(crate) fn ask(&self, now: Instant, all: &ClientMetrics, client: &Client) -> Result<Wanted, ErrorCode> {
        let wanted = wanted_of(all, client);
        let mut inner = self.lock();
        let mut instance = inner.instance(now, client.instance_id);
        let may_ask = is_over(now, instance.asked.max(instance.pushed), wanted.interval_ms) || instance.has_to_ask;
        if may_ask {
            (instance.asked, instance.has_asked, instance.has_to_ask) = (Some(now), true, false);
        }
        inner.put(now, client.instance_id, instance);
        if may_ask { Ok(wanted) } else { Err(ErrorCode::ThrottlingQuotaExceeded) }
    }

    /// A client pushes. Errors: Kafka's, for whatever is wrong with it.
    pub(crate) fn push(
        &self,
        now: Instant,
        all: &ClientMetrics,
        client: &Client,
        bytes_max: usize,
        push: &Push,
    ) -> Result<(), ErrorCode> {
        let wanted = wanted_of(all, client);
        let mut inner = self.lock();
        let mut instance = inner.instance(now, client.instance_id);
        let checked = check(now, &instance, &wanted, bytes_max, push);
        instance.has_to_ask =
            matches!(checked, Err(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType));
        if !matches!(checked, Err(ErrorCode::ThrottlingQuotaExceeded | ErrorCode::InvalidRequest)) {
            (instance.pushed, instance.has_asked) = (Some(now), false);
        }
        instance.terminating |= checked.is_ok() && push.terminating;
        inner.put(now, client.instance_id, instance);
        drop(inner);
        let read = checked.and_then(|codec| read(codec, &push.metrics));
        self.lock().count(push.metrics.len(), read)
    }

    /// What came so far.
    pub(crate) fn totals(&self) -> ClientMetricsTotals {
        self.lock().totals.clone()
    }
}

/// The codec, if the push may be taken.
fn check(
    now: Instant,
    instance: &Instance,
    wanted: &Wanted,
    bytes_max: usize,
    push: &Push,
) -> Result<Codec, ErrorCode> {
    if instance.terminating {
        return Err(ErrorCode::InvalidRequest);
    }
    let is_due = instance.has_asked || is_over(now, instance.asked.max(instance.pushed), wanted.interval_ms);
    if !is_due && !push.terminating {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if push.subscription_id != wanted.subscription_id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    let codec = u8::try_from(push.codec).ok().and_then(Codec::from_id).ok_or(ErrorCode::UnsupportedCompressionType)?;
    if push.metrics.len() > bytes_max {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    Ok(codec)
}

/// Data points by the metric's name. Errors: they can't be read.
fn read(codec: Codec, metrics: &Bytes) -> Result<BTreeMap<String, u64>, ErrorCode> {
    if metrics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let plain = decompress(codec, metrics, limits::CLIENT_METRICS_DECOMPRESSED_BYTES_MAX);
    let plain = plain.map_err(|_| ErrorCode::InvalidRecord)?;
    otlp::points_by_name(&plain).ok_or(ErrorCode::InvalidRecord)
}

fn is_over(now: Instant, since: Option<Instant>, interval_ms: i32) -> bool {
    let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(0));
    since.is_none_or(|since| now.since(since) >= interval)
}

/// A subscription's id is a digest of all that it says, and of whom it is for: whatever changes, the id does.
fn wanted_of(all: &ClientMetrics, client: &Client) -> Wanted {
    let (metrics, interval_ms) = all.wanted_of(client);
    let mut text = interval_ms.to_be_bytes().to_vec();
    text.extend_from_slice(&client.instance_id.0);
    for name in &metrics {
        text.extend_from_slice(name.as_bytes());
        text.push(0);
    }
    Wanted { subscription_id: quipu_base::checksum::crc32c(&text).cast_signed(), metrics, interval_ms }
}

impl Inner {
    fn instance(&self, now: Instant, id: ClientInstanceId) -> Instance {
        let fresh =
            Instance { asked: None, pushed: None, used: now, has_asked: false, terminating: false, has_to_ask: false };
        self.instances.get(&id).copied().unwrap_or(fresh)
    }

    fn put(&mut self, now: Instant, id: ClientInstanceId, instance: Instance) {
        if let Some(before) = self.instances.insert(id, Instance { used: now, ..instance }) {
            self.by_use.remove(&(before.used, id));
        }
        self.by_use.insert((now, id));
        while self.instances.len() > limits::CLIENT_INSTANCES_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.instances.remove(&oldest);
        }
    }

    fn count(&mut self, bytes: usize, read: Result<BTreeMap<String, u64>, ErrorCode>) -> Result<(), ErrorCode> {
        match read {
            Ok(points) => {
                self.totals.pushes += 1;
                self.totals.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
                for (name, count) in points {
                    let known = &mut self.totals.points;
                    let has_room = known.contains_key(&name) || known.len() < limits::CLIENT_METRIC_NAMES_MAX;
                    *known.entry(if has_room { name } else { String::new() }).or_default() += count;
                }
                Ok(())
            }
            Err(code) => {
                self.totals.refused += 1;
                Err(code)
            }
        }
    }
}

#[cfg(test)]
mod tests;
