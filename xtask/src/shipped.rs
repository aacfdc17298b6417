//! The binary that users run, and what must not be in it: planted bugs, which only simulations can switch on. The production
//! probe answers a constant, so the compiler drops the switches and their names; this looks whether it did.
//!
//! Not here: the bugs (`sim/hunt/src/mutants`).

use quipu_testkit::process::run;
use quipu_testkit::{Failure, Result, broker, paths};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// How product code asks for a planted bug.
const CALL: &str = "planted(\"";
/// What the binary says of itself: if not even that is found, the search is broken.
const SURE_TO_BE_THERE: &str = "quipu: ready on ";

/// Builds the binary as the README says, and searches it for the name of every planted bug.
pub(crate) fn check() -> Result<()> {
    let names = names()?;
    let binary = broker::build_binary(true)?;
    let bytes = std::fs::read(&binary).map_err(Failure::context(format!("cannot read {}", binary.display())))?;
    if !contains(&bytes, SURE_TO_BE_THERE) {
        return Err(Failure::new(format!("{} does not even contain {SURE_TO_BE_THERE:?}", binary.display())));
    }
    let found: Vec<&str> = names.iter().map(String::as_str).filter(|name| contains(&bytes, name)).collect();
    if !found.is_empty() {
        return Err(Failure::new(format!("{} has planted bugs in it: {}", binary.display(), found.join(", "))));
    }
    println!("{} knows none of {} planted bugs", binary.display(), names.len());
    Ok(())
}

/// Every name in the product's source.
fn names() -> Result<BTreeSet<String>> {
    let mut git = Command::new("git");
    git.current_dir(paths::workspace_root());
    git.args(["grep", "--untracked", "-h", "-F", CALL, "--", "crates/*.rs"]);
    let lines = run("git grep", git, &[], Duration::from_secs(60))?;
    let names = names_in(&String::from_utf8_lossy(&lines));
    if names.is_empty() { Err(Failure::new("no planted bug is found in crates/")) } else { Ok(names) }
}

fn names_in(source: &str) -> BTreeSet<String> {
    source.split(CALL).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_off_the_source_and_found_in_bytes() {
        let source = "if probe.planted(\"wal.one\") || probe.planted(\"log.two\") {\n// planted(name)";
        assert_eq!(names_in(source), BTreeSet::from(["wal.one".to_owned(), "log.two".to_owned()]));
        assert!(contains(b"\0\0wal.one\0", "wal.one") && !contains(b"\0wal.on", "wal.one"));
        assert!(names().expect("git is there").contains("broker.acknowledge-unsynced"));
    }
}
