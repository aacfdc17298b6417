//! The top level of the repository is a fixed list: whoever opens it sees the whole shape at once.

use quipu_testkit::process::run;
use quipu_testkit::{Failure, Result, paths};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// All that may stand at the top, beside dot files.
const TOP_LEVEL: [&str; 10] =
    ["CHANGELOG.md", "Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "crates", "fuzz", "sim", "tests", "xtask"];

/// Compares the top level, as git has it, with the list.
pub(crate) fn check() -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(paths::workspace_root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let files = run("git ls-files", git, &[], Duration::from_secs(60))?;
    let files = String::from_utf8_lossy(&files).into_owned();
    let top: BTreeSet<&str> = files.split('\0').filter_map(|file| file.split('/').next()).collect();
    let problems = compare(&top);
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("\n"))) }
}

fn compare(top: &BTreeSet<&str>) -> Vec<String> {
    let expected: BTreeSet<&str> = TOP_LEVEL.into();
    let seen: BTreeSet<&str> = top.iter().copied().filter(|name| !name.is_empty() && !name.starts_with('.')).collect();
    let extra = seen.difference(&expected).map(|name| format!("top level: `{name}` does not belong there"));
    let missing = expected.difference(&seen).map(|name| format!("top level: `{name}` is missing"));
    extra.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_and_missing_entries_are_named() {
        let mut top: BTreeSet<&str> = TOP_LEVEL.into();
        top.extend([".ci", ""]);
        assert!(compare(&top).is_empty());
        top.remove("sim");
        top.insert("scripts");
        let expected = ["top level: `scripts` does not belong there", "top level: `sim` is missing"];
        assert_eq!(compare(&top), expected);
    }
}
