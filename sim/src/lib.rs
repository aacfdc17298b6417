//! The simulated world: the product's own code, run on a clock, a network and a disk that one seed controls.
//!
//! Invariants
//! - Every choice comes from the run's seed: the same seed gives the same run, event by event.
//! - There is one disk model ([`disk`]), which the crash tests of storage and whole simulated clusters share.
//!
//! From the inside out: [`disk`] and `net` are pure models; `agenda` lets things happen at their time; [`node`] is a machine
//! and its process, with its [`clock`], its [`condition`] and the [`crashes`] that wait for it; [`mod@env`] is what that
//! process sees; [`world`] is the whole run, and [`fault`] what goes wrong in it.
//!
//! Not here: the traits (`quipu-env`), the suite that holds this world to the real one (`tests/conformance`).
//! Read [`world`] next.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets for every build; an environment variable RUSTFLAGS \
     (or CARGO_ENCODED_RUSTFLAGS) has replaced it: unset that, or add `--cfg madsim` to it"
);

mod agenda;
mod clock;
mod condition;
mod config;
pub mod crash;
mod crashes;
pub mod disk;
pub mod env;
pub mod fault;
mod net;
pub mod node;
mod profile;
mod seed;
mod trace;
pub mod world;

pub use config::{DiskTiming, NodeConfig, PowerCut, SimConfig};
pub use env::SimEnv;
pub use net::{Latency, LinkSettings};
pub use node::{Down, Node, Running};
pub use profile::Share;
pub use trace::{Happening, MessageKind, ProbeEvent, TOO_MANY_EVENTS, TraceEvent};
pub use world::{Report, RunFailure, Sim, World, run_seeds};
