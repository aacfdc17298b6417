//! The broker: connections, one handler file for each API, shards, and the wiring between them.
//!
//! A library, generic over [`Env`]: production runs [`main`] on tokio, the simulator and other people's tests call
//! [`Broker::start`].
//!
//! Invariants
//! - Acknowledged means durable: a reply that tells of a change leaves after the change's sync.
//! - Protocol types stop in `handlers`; one file (`errors`) maps inner errors to Kafka's codes.
//! - Everything that waits, waits within a budget or a bound of `quipu_base::limits`.
//!
//! Not here: bytes on disk (`quipu-storage`), bytes on the wire (`quipu-protocol`), decisions about the cluster
//! (`quipu-controller`). Read `start`, then `connection`, then `handlers`.

mod asks;
mod client_metrics;
mod config;
mod connection;
mod entry;
mod errors;
mod fetch_sessions;
mod groups;
mod handlers;
mod lagging;
mod listener;
mod membership;

mod memory;
mod node;
mod partition;
mod producer_ids;
mod quorum;
mod reach;
mod shard;
mod start;
mod turned_away;
mod upkeep;
mod view;
mod waiters;

pub use client_metrics::ClientMetricsTotals;
pub use config::{Config, ConfigError, HostPort, LogFormat, Origin, Roles, SETTINGS, Setting};
pub use entry::main;
pub use quorum::snapshots::newest_metadata_snapshot;
pub use start::{Broker, StartError};

#[doc(no_inline)]
pub use quipu_env::Env;

/// The name of the listener for Kafka clients, in a broker's registration.
pub(crate) const CLIENT_LISTENER: &str = "CLIENT";
/// The name of the listener for other nodes, in a broker's registration.
pub(crate) const PEER_LISTENER: &str = "PEER";
