//! Which clients of a drawn workload are the Rust client's, and how those are set up.
//!
//! Invariant: what producers send fits their settings, so that nothing is refused for its size alone.

use quipu_env::Rng;
use rand::RngExt;

use super::{one_in, pick};
use crate::plan::{
    Client, From, Kind, Workload,
    operation::{BatchSpec, Operation},
};

/// Bytes that a record takes beside what its plan calls its bytes, at most.
const BESIDE: usize = 200;

/// Gives most clients to the Rust client.
pub(super) fn draw(rng: &mut Rng, workload: &mut Workload) {
    for client in &mut workload.clients {
        if one_in(rng, 3) {
            // The altering of all settings at once is for both.
            replace_some(rng, client);
            continue;
        }
        client.kind = Kind::Client;
        settings_of_producers(rng, client);
        settings_of_consumers(rng, client);
        replace_some(rng, client);
    }
}

fn settings_of_producers(rng: &mut Rng, client: &mut Client) {
    let batches = client.operations.iter().flat_map(|operation| match operation {
        Operation::Produce { batches, .. } => batches.as_slice(),
        _ => &[],
    });
    let largest = batches.map(|BatchSpec { bytes, .. }| *bytes as usize + BESIDE).max().unwrap_or(BESIDE);
    client.client_linger_ms = pick(rng, &[0, 0, 1, 5, 30]);
    client.client_memory_bytes = largest + pick(rng, &[0, 1000, 20_000, 1 << 20]);
    client.client_batch_bytes = pick(rng, &[1, 500, 4000, 16_384, 16_384]).min(client.client_memory_bytes);
    // No more than brokers with little room take.
    client.client_request_bytes = pick(rng, &[10_000, 60_000]).max(largest);
    client.client_send_ms = pick(rng, &[100, 500, 2000]);
    client.client_delivery_ms = pick(rng, &[300, 2000, 10_000, 20_000]);
    client.client_metadata_ms = pick(rng, &[50, 500, 300_000]);
}

fn settings_of_consumers(rng: &mut Rng, client: &mut Client) {
    client.client_from = pick(rng, &[From::Zero, From::Start, From::Start, From::End, From::Now]);
    client.client_resets = rng.random();
    client.client_prefetch_bytes = pick(rng, &[0, 1000, 64 * 1024, 1 << 20]);
    client.client_poll_records = pick(rng, &[1, 5, 500, 500]);
    client.client_pauses = one_in(rng, 3);
    // A partition that was just read up waits until the fetch of the idle ones is answered, as with Kafka's own consumer.
    client.fetch_wait_ms = client.fetch_wait_ms.min(500);
}

fn replace_some(rng: &mut Rng, client: &mut Client) {
    for operation in &mut client.operations {
        if let Operation::Alter { topic, name, value } = operation
            && one_in(rng, 3)
        {
            *operation = Operation::Replace { topic: topic.clone(), name: name.clone(), value: value.clone() };
        }
    }
}
