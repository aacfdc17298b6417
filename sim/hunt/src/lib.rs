//! Hunting for bugs: the unmodified broker in the simulated world, with real workloads, faults of every kind, and checkers.
//!
//! ```text
//! seed -> swarm -> plan -> run (world, workload, faults) -> history -> check -> verdict -> shrink -> a smaller plan
//! ```
//!
//! Invariants
//! - A plan means the same for ever, and a run is a function of its plan.
//! - Checkers know nothing of bugs that are switched on.
//!
//! Not here: the world itself and its faults (`quipu-sim`), the command line's help for builders (`xtask`).
//! Read [`plan`], then [`mod@run`], then [`check`].

pub mod check;
mod copies;
pub mod history;
mod inside;
pub mod mutants;
mod panics;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod swarm;
pub mod trace;
pub mod workload;

pub use plan::{Plan, PlanError};
pub use run::{EVENTS_MAX, Options, Outcome, run};
