//! Which crate may depend on which: the floors of the house, as one table.
//!
//! A crate depends only on crates of lower floors, and only on those named here: a new edge is a decision, made by adding it to
//! [`CRATES`]. Development dependencies have their own column, since a test may look sideways or at the simulated world.

use std::collections::{BTreeMap, BTreeSet};

use quipu_testkit::{Failure, Result};

use crate::metadata::{Package, packages};

/// One package of the workspace.
struct Crate {
    name: &'static str,
    floor: u8,
    /// Packages of the workspace that it uses.
    uses: &'static [&'static str],
    /// Further ones that its tests use.
    tests_use: &'static [&'static str],
}

const fn krate(
    floor: u8,
    name: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
) -> Crate {
    Crate { name, floor, uses, tests_use }
}

/// Floor, crate, what it uses, what its tests use besides. Floors 0 to 6 are the product; 7 and above judge it.
const CRATES: &[Crate] = &[
    krate(0, "quipu-base", &[], &[]),
    krate(1, "quipu-env", &["quipu-base"], &[]),
    krate(1, "quipu-records", &["quipu-base"], &[]),
    krate(2, "quipu-protocol", &["quipu-base"], &[]),
    krate(2, "quipu-storage", &["quipu-base", "quipu-env", "quipu-records"], &["quipu-sim", "quipu-env-tokio"]),
    krate(2, "quipu-env-tokio", &["quipu-base", "quipu-env"], &["quipu-conformance"]),
    krate(3, "quipu-coordinator", &["quipu-base", "quipu-env"], &[]),
    krate(3, "quipu-metadata", &["quipu-base"], &[]),
    krate(3, "quipu-raft", &["quipu-base", "quipu-env"], &[]),
    krate(
        4,
        "quipu-client",
        &["quipu-base", "quipu-env", "quipu-protocol", "quipu-records"],
        &["quipu-broker", "quipu-env-tokio", "quipu-sim", "quipu-testkit"],
    ),
    krate(4, "quipu-controller", &["quipu-base", "quipu-env", "quipu-metadata"], &[]),
    krate(4, "quipu-groups", &["quipu-base", "quipu-coordinator", "quipu-env", "quipu-protocol"], &[]),
    krate(4, "quipu-peer", &["quipu-base", "quipu-env"], &["quipu-sim"]),
    krate(4, "quipu-replication", &["quipu-base", "quipu-env"], &[]),
    krate(
        5,
        "quipu-broker",
        &[
            "quipu-base",
            "quipu-controller",
            "quipu-coordinator",
            "quipu-env",
            "quipu-env-tokio",
            "quipu-groups",
            "quipu-metadata",
            "quipu-peer",
            "quipu-protocol",
            "quipu-raft",
            "quipu-records",
            "quipu-replication",
            "quipu-storage",
        ],
        &["quipu-sim", "quipu-testkit", "quipu-wire-client"],
    ),
    krate(
        6,
        "quipu-cli",
        &[
            "quipu-base",
            "quipu-broker",
            "quipu-client",
            "quipu-env-tokio",
            "quipu-metadata",
            "quipu-records",
            "quipu-storage",
        ],
        &["quipu-testkit"],
    ),
    krate(7, "quipu-sim", &["quipu-base", "quipu-env"], &["quipu-conformance"]),
    krate(7, "quipu-conformance", &["quipu-base", "quipu-env"], &[]),
    krate(7, "quipu-testkit", &[], &[]),
    krate(7, "quipu-wire-client", &["quipu-base", "quipu-env", "quipu-protocol", "quipu-records"], &[]),
    krate(
        8,
        "quipu-fuzz",
        &[
            "quipu-base",
            "quipu-controller",
            "quipu-env",
            "quipu-metadata",
            "quipu-peer",
            "quipu-protocol",
            "quipu-raft",
            "quipu-records",
            "quipu-storage",
        ],
        &[],
    ),
    krate(
        8,
        "quipu-hunt",
        &[
            "quipu-base",
            "quipu-broker",
            "quipu-client",
            "quipu-env",
            "quipu-protocol",
            "quipu-records",
            "quipu-sim",
            "quipu-storage",
            "quipu-wire-client",
        ],
        &["quipu-testkit"],
    ),
    krate(
        8,
        "quipu-load",
        &["quipu-env", "quipu-env-tokio", "quipu-protocol", "quipu-testkit", "quipu-wire-client"],
        &[],
    ),
    krate(9, "quipu-tests", &["quipu-hunt", "quipu-testkit"], &["quipu-testkit"]),
    krate(8, "xtask", &["quipu-testkit"], &[]),
];

/// Compares the table with `cargo metadata`.
pub(crate) fn check() -> Result<()> {
    let problems = compare(CRATES, &packages(false)?);
    if problems.is_empty() { Ok(()) } else { Err(Failure::new(problems.join("\n"))) }
}

fn compare(table: &[Crate], packages: &[Package]) -> Vec<String> {
    let crates: BTreeMap<&str, &Crate> = table.iter().map(|krate| (krate.name, krate)).collect();
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut problems = Vec::new();
    for krate in table {
        for used in krate.uses {
            if crates.get(used).is_none_or(|used| used.floor >= krate.floor) {
                problems.push(format!("floors: the table lets {} use {used}, which is not below it", krate.name));
            }
        }
    }
    for package in packages {
        let Some(krate) = crates.get(package.name.as_str()) else {
            problems.push(format!("floors: {} has no floor; add it to the table", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let allowed = krate.uses.contains(&name) || (dependency.dev && krate.tests_use.contains(&name));
            if members.contains(name) && !allowed {
                let kind = if dependency.dev { "tests may not use" } else { "may not use" };
                problems.push(format!("floors: {} {kind} {name}", package.name));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependency = |&(name, dev): &(&str, bool)| Dependency { name: name.to_owned(), dev };
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn the_table_itself_goes_strictly_down() {
        assert_eq!(compare(CRATES, &[]), Vec::<String>::new());
    }

    #[test]
    fn edges_beside_the_table_are_named() {
        let table = [krate(0, "a", &[], &["c"]), krate(1, "b", &["a"], &[]), krate(1, "c", &["b"], &[])];
        let packages = [
            package("a", &[("c", true), ("serde", false)]),
            package("b", &[("c", true)]),
            package("c", &[("a", false)]),
            package("d", &[]),
        ];
        let expected = [
            "floors: the table lets c use b, which is not below it",
            "floors: b tests may not use c",
            "floors: c may not use a",
            "floors: d has no floor; add it to the table",
        ];
        assert_eq!(compare(&table, &packages), expected);
    }
}
