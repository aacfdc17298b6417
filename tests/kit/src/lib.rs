//! What the end-to-end tests, the benchmarks and `cargo xtask` share.
//!
//! - [`paths`]: where the workspace and its target directory are.
//! - [`scratch`]: fresh directories that go away unless the test failed.
//! - [`process`]: children that never outlive their owner; what they cost in CPU and memory.
//! - [`broker`]: the real `quipu` binary as a process: start, kill, restart, stop.
//! - [`kafka`]: Apache Kafka from its Maven artifacts, as a process, and its console tools.
//! - [`clients`]: kcat, Python clients in a virtual environment, Java tools: found or named as missing.
//! - [`wire`] and [`batch`]: a raw Kafka connection and record batches, written independently of the product's own codec.
//! - [`page_cache`]: forgetting cached files.
//!
//! Invariants
//! - Nothing here depends on a product crate: what is shared with the code under test cannot judge it.
//! - Every child process is killed, by its pid, when its owner is dropped.
//!
//! Not here: tests (`tests/e2e`), load generation (`tests/load`). Read [`broker`] next.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod cluster;
pub mod kafka;
pub mod page_cache;
pub mod paths;
pub mod process;
pub mod scratch;
pub mod wire;

/// What went wrong, in words for whoever runs the command. The kit's callers report, they do not branch on the kind.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure with this message: what happened, where, and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A closure for `map_err`: "`what`: the error".
    pub fn context<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Result of everything in the kit that can fail.
pub type Result<T> = std::result::Result<T, Failure>;
