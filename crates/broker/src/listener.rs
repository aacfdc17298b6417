//! Accepts connections, up to the bounds, and spreads them over the shards.
//!
//! Invariants
//! - There are never more connections than `max.connections`, nor from one address than `max.connections.per.ip`; what is
//!   beyond is closed at once, with one log line.
//! - Trouble with one connection, or a lack of file descriptors, never ends the listener.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quipu_env::{Clock, Env, Listener, Net, NetWriter, Probe, ShardId};
use tokio::sync::mpsc;

use crate::{connection, node::Node};

/// How long to pause when the system refuses to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open connections.
#[derive(Default)]
struct Connections(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// One connection's place among them; also keeps `done` open, so that who waits for all connections can.
struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
    _done: mpsc::Sender<()>,
}

impl Connections {
    fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        total_max: usize,
        per_address_max: usize,
        done: mpsc::Sender<()>,
    ) -> Result<Place, &'static str> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= total_max {
            return Err("there are too many connections (max.connections)");
        }
        let ours = counts.by_address.get(&address).copied().unwrap_or(0);
        if ours >= per_address_max {
            return Err("there are too many connections from its address (max.connections.per.ip)");
        }
        counts.total += 1;
        counts.by_address.insert(address, ours + 1);
        Ok(Place { connections: Arc::clone(self), address, _done: done })
    }
}

impl Place {
    fn is_last(&self) -> bool {
        self.connections.0.lock().unwrap_or_else(PoisonError::into_inner).total == 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until the broker begins to stop. `done` is dropped when the last connection has ended.
pub(crate) async fn run<E: Env>(node: Arc<Node<E>>, mut listener: <E::Net as Net>::Listener, done: mpsc::Sender<()>) {
    let connections = Arc::new(Connections::default());
    let mut next_shard = 0;
    loop {
        let accepted = tokio::select! { biased;
            () = node.stopping.reached() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((reader, mut writer, peer)) => {
                let config = node.broker_config();
                let (all_max, address_max) = (config.connections_max, config.connections_per_address_max);
                let entered = connections.enter(peer.ip(), all_max, address_max, done.clone());
                match entered {
                    Ok(place) => {
                        let shard = ShardId(next_shard);
                        next_shard = (next_shard + 1) % node.env.shard_count();
                        start(&node, shard, reader, writer, peer, place);
                    }
                    Err(reason) => {
                        writer.reset();
                        tracing::info!(%peer, reason, "connection refused");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again soon");
                node.env.clock().sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn start<E: Env>(
    node: &Arc<Node<E>>,
    shard: ShardId,
    reader: <E::Net as Net>::Reader,
    writer: <E::Net as Net>::Writer,
    peer: SocketAddr,
    place: Place,
) {
    let env = node.env.clone();
    let node = Arc::clone(node);
    // The task goes on by itself; nobody joins it.
    let _task = env.spawn(shard, "connection", async move {
        connection::serve(Arc::clone(&node), reader, writer, peer).await;
        if place.is_last() {
            node.env.probe().event("broker.quiet", &node.taken_by_connections());
        }
        drop(place);
    });
}
