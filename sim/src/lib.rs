//! The simulated world: the product's own code, run on a clock, a network and a disk that one seed controls.
//!
//! Invariants
//! - Every choice comes from the run's seed: the same seed gives the same run, event by event.
//! - There is one disk model ([`disk`]), which the crash tests of storage and whole simulated clusters share.
//!
//! Not here: the traits (`quipu-env`), the suite that holds this world to the real one (`tests/conformance`).
//! Read [`disk`] next.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets for every build; an environment variable RUSTFLAGS \
     (or CARGO_ENCODED_RUSTFLAGS) has replaced it: unset that, or add `--cfg madsim` to it"
);

pub mod disk;
