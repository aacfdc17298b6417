//! What no client does: garbage, half requests, absurd lengths, connections without end. It must not hurt anybody.

use bytes::{BufMut, BytesMut};
use rand::RngExt;

use super::client::{Client, noise};
use crate::plan::operation::Operation;

/// Does it, if it is one of these.
pub(super) async fn run(client: &mut Client, operation: &Operation) {
    match operation {
        Operation::Garbage { bytes } => garbage(client, *bytes).await,
        Operation::Half { bytes } => half(client, *bytes).await,
        Operation::Huge => huge(client).await,
        Operation::Storm { connections } => storm(client, *connections).await,
        _ => {}
    }
}

/// Sends bytes that mean nothing, and takes in what comes for it.
async fn garbage(client: &mut Client, bytes: u32) {
    let Some(mut connection) = client.connect().await else { return };
    let mut noise = BytesMut::from(&noise(&mut client.rng, bytes)[..]);
    if client.rng.random() {
        // A frame that says its length right, with a request that exists, and nonsense in it.
        let mut frame = BytesMut::new();
        frame.put_u32(bytes + 4);
        frame.put_i16(client.rng.random_range(0..80));
        frame.put_i16(client.rng.random_range(0..20));
        frame.extend_from_slice(&noise);
        noise = frame;
    }
    if connection.send_bytes(noise.freeze()).await.is_ok() {
        // Whatever comes, or nothing: it was not a request.
        let _answer = connection.receive_frame().await;
    }
}

/// Sends the beginning of a request, and leaves.
async fn half(client: &mut Client, bytes: u32) {
    let Some(mut connection) = client.connect().await else { return };
    let mut frame = BytesMut::new();
    frame.put_u32(bytes);
    frame.extend_from_slice(&noise(&mut client.rng, bytes / 2));
    let _sent = connection.send_bytes(frame.freeze()).await;
    let ms = client.rng.random_range(0..200);
    client.sleep_ms(ms).await;
}

/// Says that two gibibytes will come.
async fn huge(client: &mut Client) {
    let Some(mut connection) = client.connect().await else { return };
    let mut frame = BytesMut::new();
    frame.put_i32(i32::MAX);
    frame.extend_from_slice(&noise(&mut client.rng, 1000));
    let _sent = connection.send_bytes(frame.freeze()).await;
    let _answer = connection.receive_frame().await;
}

/// Opens many connections at once, and leaves.
async fn storm(client: &mut Client, connections: u32) {
    let mut open = Vec::new();
    for _ in 0..connections {
        let Some(connection) = client.connect().await else { break };
        open.push(connection);
    }
    let ms = client.rng.random_range(0..200);
    client.sleep_ms(ms).await;
}
