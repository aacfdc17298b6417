//! Every file of the corpus, and a few thousand mutations of each, through its target, on stable.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test, which names the input at fault")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use quipu_base::checksum::crc32c;
use quipu_fuzz::{
    Outcome, TARGETS, Target,
    mutate::{Random, mutated},
};

/// The whole corpus, in bytes: it is cloned by everybody.
const CORPUS_BYTES_MAX: usize = 1 << 20;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = corpus().join(target);
    names(&dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// Says which input it was, if the target panics.
struct Blame<'a>(&'a str, &'a [u8]);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(name, input) = self;
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("the input was {name}, {} bytes: {hex}", input.len());
        }
    }
}

fn check(name: &str) {
    let target = target(name);
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has a corpus");
    let mut accepted = 0;
    for (file, input) in &inputs {
        let _blame = Blame(file, input);
        let outcome = (target.run)(input);
        if file.starts_with("good-") {
            assert_eq!(outcome, Outcome::Accepted, "{name}/{file} is refused");
        }
        accepted += usize::from(outcome == Outcome::Accepted);
    }
    assert!(accepted > 0, "nothing in the corpus of {name} gets past the first check");
    let all: Vec<_> = inputs.values().collect();
    for (file, input) in &inputs {
        let mut random = Random::new(crc32c(format!("{name}/{file}").as_bytes()).into());
        for _ in 0..target.mutations.div_ceil(inputs.len()) {
            let other = all[random.below(all.len())];
            let mutation = mutated(&mut random, input, other);
            let _blame = Blame(&format!("a mutation of {file}"), &mutation);
            (target.run)(&mutation);
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $( #[test] fn $name() { check(stringify!($name)); } )*

        #[test]
        fn every_target_is_tested_and_has_a_binary_and_a_corpus() {
            let tested: Vec<_> = [ $( stringify!($name) ),* ].into();
            let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested, known);
            let mut sorted = known.clone();
            sorted.sort_unstable();
            assert_eq!(names(&corpus()), sorted);
            let binaries = names(&corpus().with_file_name("fuzz_targets"));
            assert_eq!(binaries, sorted.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
        }
    };
}
targets!(frame request response batch batches compressed metadata_record metadata_log metadata_snapshot controller_message config peer raft_message wal manifest superblock segment directory);

#[test]
fn the_corpus_is_small() {
    let size = |target: &Target| inputs(target.name).values().map(Vec::len).sum::<usize>();
    let bytes: usize = TARGETS.iter().map(size).sum();
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}
