//! What a broker does by itself to keep its logs in order: retention, compaction, and reading them for damage.
//!
//! Not here: what is to be done to a log (`quipu-storage`), and what its replica has to say to it ([`crate::shard`]).

use core::time::Duration;
use std::sync::Arc;

use quipu_env::{Clock, Env, Probe};
use quipu_storage::{CleanError, CleanerOptions, ScrubPlace};

use crate::{node::Node, shard::Command};

/// A broker that has just started has other things to read.
const FIRST_SCRUB_AFTER: Duration = Duration::from_secs(300);

/// A log that was just being written is tried again after so long.
const OVERTAKEN_PAUSE: Duration = Duration::from_millis(100);

/// Has the partitions that are led here looked through for what retention has passed, from time to time.
pub(crate) async fn retain<E: Env>(node: Arc<Node<E>>) {
    let pause = Duration::from_millis(node.broker_config().retention_check_ms);
    loop {
        node.env.clock().sleep(pause).await;
        let view = node.view();
        for partition in view.partitions().filter(|partition| partition.is_active()) {
            if node.send(partition.shard, Command::Retain(partition.id)).await.is_err() {
                return;
            }
        }
    }
}

/// Compacts the logs that are to be, one after the other. Each replica does so by itself.
pub(crate) async fn compact<E: Env>(node: Arc<Node<E>>) {
    loop {
        let config = node.broker_config();
        let backoff = Duration::from_millis(config.cleaner_backoff_ms);
        let options =
            CleanerOptions { memory_bytes: config.cleaner_bytes, bytes_per_second: config.cleaner_bytes_per_second };
        match node.store.clean(&options).await {
            Ok(Some(_)) => node.env.probe().sometimes("upkeep.compacted"),
            Ok(None) => node.env.clock().sleep(backoff).await,
            Err(CleanError::Overtaken) => node.env.clock().sleep(OVERTAKEN_PAUSE.min(backoff)).await,
            Err(error) => {
                tracing::warn!(%error, "a log could not be compacted");
                if matches!(error, CleanError::Read(_)) {
                    node.view().partitions().for_each(|partition| node.tell_damage(partition));
                }
                node.env.clock().sleep(backoff).await;
            }
        }
    }
}

/// Reads the segments that are not appended to any more, slowly, so that damage is found, and repaired from a peer, before somebody
/// needs what it hit.
pub(crate) async fn scrub<E: Env>(node: Arc<Node<E>>) {
    let config = node.broker_config();
    let clock = node.env.clock();
    let interval = Duration::from_millis(config.scrub_interval_ms);
    if config.scrub_bytes_per_second == 0 {
        return;
    }
    let pause = |bytes: u64| {
        let nanos = u128::from(bytes) * Duration::from_secs(1).as_nanos() / u128::from(config.scrub_bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    let mut due = clock.now() + FIRST_SCRUB_AFTER.min(interval);
    loop {
        clock.sleep_until(due).await;
        due = clock.now() + interval;
        for partition in node.view().partitions() {
            let mut place = ScrubPlace::default();
            while let Some(scrubbed) = partition.log.scrub(&mut place).await {
                if let Err(error) = scrubbed.result {
                    tracing::error!(partition = %partition.id, %error, "damage was found in a segment that nobody was reading");
                    node.tell_damage(partition);
                }
                clock.sleep(pause(scrubbed.bytes)).await;
            }
        }
    }
}
