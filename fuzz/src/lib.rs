//! One function for each parser that meets bytes from outside: it takes any bytes, and panics if a promise is broken.
//!
//! The promises are more than "no panic": what is decoded can be encoded and decoded to the same; no input costs more memory
//! than its size allows; what a check has accepted is what it says it is.
//!
//! - `fuzz_targets/`: the same functions as libFuzzer wants them. `cargo xtask fuzz --seconds N` runs them on a nightly
//!   compiler, with the address sanitizer.
//! - `corpus/<target>/`: inputs worth keeping. A name that begins with `good-` is one that the parser accepts; the others are
//!   hostile, damaged, or were found by the fuzzer. `cargo run -p quipu-fuzz --example seeds` writes those that our own encoders
//!   can make.
//! - `tests/corpus.rs`: runs every file of the corpus and a few thousand mutations of each, on stable.
//!
//! Memory is what Rust code allocates; zstd's own working memory is C's and is not seen.
//!
//! Not here: the parsers' own tests, which are beside them. Read [`Target`] next.

mod batches;
mod compressed;
mod controller;
mod frames;
mod memory;
mod metadata;
pub mod mutate;
mod peer;
mod storage;
mod world;

pub use batches::{batch, batches};
pub use compressed::compressed;
pub use controller::controller_message;
pub use frames::{frame, request, response};
pub use metadata::{config, metadata_log, metadata_record, metadata_snapshot};
pub use peer::{peer, raft_message};
pub use storage::{directory, manifest, pristine_files, segment, superblock, wal};

/// What became of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is what it should be, and all promises about that held.
    Accepted,
    /// It was refused by an error that can be told to somebody.
    Refused,
}

impl Outcome {
    /// Accepted if one of them was.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Accepted => self,
            Self::Refused => other,
        }
    }
}

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the function, of the binary and of the corpus directory.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]) -> Outcome,
    /// How many mutations an ordinary test can afford: a second or two of them.
    pub mutations: usize,
}

macro_rules! targets {
    ($($name:ident: $mutations:literal;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] =
            &[ $( Target { name: stringify!($name), run: $name, mutations: $mutations } ),* ];
    };
}
targets! {
    frame: 100_000;
    request: 100_000;
    response: 100_000;
    batch: 20_000;
    batches: 40_000;
    compressed: 10_000;
    metadata_record: 100_000;
    metadata_log: 20_000;
    metadata_snapshot: 20_000;
    controller_message: 100_000;
    config: 100_000;
    peer: 50_000;
    raft_message: 50_000;
    wal: 3000;
    manifest: 3000;
    superblock: 3000;
    segment: 3000;
    directory: 3000;
}

/// Writes an error out, as a log line or a reply would.
fn refuse(error: &dyn core::error::Error) -> Outcome {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(!text.is_empty(), "every error says something");
    Outcome::Refused
}
