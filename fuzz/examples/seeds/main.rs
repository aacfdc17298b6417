//! Writes the part of the corpus that our own encoders can make, and hostile inputs made by hand: `fuzz/corpus/<target>/`.
//!
//! `cargo run -p quipu-fuzz --example seeds`, after a format has changed. Files that are not made here (what the fuzzer found)
//! are left alone.

mod batches;
mod controller;
mod messages;
mod metadata;
mod peer;
mod storage;

use std::{collections::BTreeMap, fs, io, path::Path};

/// Inputs by target and file name.
#[derive(Default)]
pub(crate) struct Seeds(BTreeMap<(&'static str, String), Vec<u8>>);

impl Seeds {
    /// Adds one that the target accepts.
    pub(crate) fn good(&mut self, target: &'static str, name: impl Into<String>, input: Vec<u8>) {
        self.add(target, format!("good-{}", name.into()), input);
    }

    /// Adds one that it refuses.
    pub(crate) fn bad(&mut self, target: &'static str, name: impl Into<String>, input: Vec<u8>) {
        self.add(target, format!("bad-{}", name.into()), input);
    }

    /// Adds one of which the target may think what it likes.
    pub(crate) fn add(&mut self, target: &'static str, name: String, input: Vec<u8>) {
        let before = self.0.insert((target, name.clone()), input);
        assert!(before.is_none(), "{target} has two seeds named {name}");
    }
}

fn main() -> io::Result<()> {
    let mut seeds = Seeds::default();
    messages::add(&mut seeds);
    batches::add(&mut seeds);
    metadata::add(&mut seeds);
    controller::add(&mut seeds);
    peer::add(&mut seeds);
    storage::add(&mut seeds);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for ((target, name), input) in &seeds.0 {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), input)?;
    }
    Ok(())
}
