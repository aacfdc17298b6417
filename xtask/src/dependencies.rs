//! What we build on: licences, sources, duplicates, known faults.
//!
//! Everything is read from the lock file and `cargo metadata`, without a network. An advisory database cannot be fetched
//! where CI runs, so advisories are those in [`ADVISORIES`], kept by hand; whoever has `cargo-deny` and a network should run
//! it as well. A yanked version shows when cargo resolves anew, not from a lock file: `cargo update` tells.

use std::collections::{BTreeMap, BTreeSet};

use quipu_testkit::{Failure, Result};

use crate::metadata::{Package, packages};

/// Licences that a dependency may have; an expression passes when one of its alternatives has only these. The MPL binds the
/// library's own files only, which we don't change.
const LICENSES: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "MPL-2.0",
    "MPL-2.0+",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Registries that a dependency may come from: cargo's default one, under either of its names.
const SOURCES: [&str; 2] = ["registry+", "sparse+"];

/// Package, versions below which it is known to be at fault, what the fault is.
const ADVISORIES: &[(&str, [u64; 3], &str)] = &[
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007: overflow in BytesMut::reserve"),
    ("crossbeam-channel", [0, 5, 15], "RUSTSEC-2025-0024: double free on drop"),
    ("slab", [0, 4, 11], "RUSTSEC-2025-0047: out-of-bounds access in get_disjoint_mut"),
    ("tokio", [1, 44, 2], "RUSTSEC-2025-0023: broadcast channel clones without Sync"),
];

/// Checks every package that the lock file resolves.
pub(crate) fn check() -> Result<()> {
    let packages = packages(true)?;
    let foreign: Vec<&Package> = packages.iter().filter(|package| package.source.is_some()).collect();
    let duplicates = duplicates(&foreign);
    if !duplicates.is_empty() {
        println!("in more than one version (not an error): {}", duplicates.join(", "));
    }
    let problems: Vec<String> = foreign.iter().flat_map(|package| faults(package)).collect();
    if problems.is_empty() {
        println!("{} packages: licences, sources and known advisories are in order", foreign.len());
        return Ok(());
    }
    Err(Failure::new(problems.join("\n")))
}

fn faults(package: &Package) -> Vec<String> {
    let name = format!("{} {}", package.name, package.version);
    let mut faults = Vec::new();
    match package.license.as_deref() {
        None => faults.push(format!("{name} states no licence")),
        Some(license) if !is_allowed(license) => faults.push(format!("{name}: licence {license} is not on the list")),
        Some(_) => {}
    }
    let source = package.source.as_deref().unwrap_or_default();
    if !SOURCES.iter().any(|allowed| source.starts_with(allowed)) {
        faults.push(format!("{name} comes from {source}, not from a registry"));
    }
    for &(at_fault, fixed, what) in ADVISORIES {
        if package.name == at_fault && version(&package.version) < fixed {
            faults.push(format!("{name}: {what}; update it"));
        }
    }
    faults
}

/// Whether one alternative of `expression` consists of allowed licences only. `/` is an old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

/// `A OR B`. `None`: malformed.
fn any_of(tokens: &mut &[&str]) -> Option<bool> {
    let mut allowed = all_of(tokens)?;
    while eat(tokens, "OR") {
        // Both sides are always read: the tokens must be used up.
        allowed |= all_of(tokens)?;
    }
    Some(allowed)
}

/// `A AND B`. `None`: malformed.
fn all_of(tokens: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(tokens)?;
    while eat(tokens, "AND") {
        allowed &= one(tokens)?;
    }
    Some(allowed)
}

/// A licence, perhaps with an exception, or something in parentheses. `None`: malformed.
fn one(tokens: &mut &[&str]) -> Option<bool> {
    if eat(tokens, "(") {
        let allowed = any_of(tokens)?;
        return eat(tokens, ")").then_some(allowed);
    }
    let mut name = next(tokens)?.to_owned();
    if eat(tokens, "WITH") {
        name = format!("{name} WITH {}", next(tokens)?);
    }
    Some(LICENSES.contains(&name.as_str()))
}

fn next<'a>(tokens: &mut &[&'a str]) -> Option<&'a str> {
    let (first, rest) = tokens.split_first()?;
    *tokens = rest;
    Some(first)
}

fn eat(tokens: &mut &[&str], wanted: &str) -> bool {
    let there = tokens.first() == Some(&wanted);
    if there {
        *tokens = &tokens[1..];
    }
    there
}

/// Packages with more than one version: "name (2 versions)".
fn duplicates(packages: &[&Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<[u64; 3]>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(version(&package.version));
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several.map(|(name, versions)| format!("{name} ({} versions)", versions.len())).collect()
}

/// The three numbers of a version; what follows `-` or `+` is left out.
fn version(text: &str) -> [u64; 3] {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|number| number.parse().unwrap_or(0));
    [0; 3].map(|_: u64| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        for allowed in
            ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception OR X"]
        {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in
            ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT WITH exception", "(MIT OR GPL-3.0) AND GPL-3.0"]
        {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.9.0") < version("1.10.0-alpha+x"));
        assert_eq!(version("4.10.0+2.12.1"), [4, 10, 0]);
    }
}
