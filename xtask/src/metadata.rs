//! What `cargo metadata` says: packages, what they depend on, where they come from.

use std::time::Duration;

use quipu_testkit::process::run;
use quipu_testkit::{Failure, Result};
use serde_json::Value;

use crate::step::cargo;

/// One package.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence expression, if it states one.
    pub(crate) license: Option<String>,
    /// Its registry or repository; `None` for a package of this workspace.
    pub(crate) source: Option<String>,
    /// What it depends on, by name.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One edge of the dependency graph.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    /// The package depended on.
    pub(crate) name: String,
    /// Whether only tests, examples and benchmarks use it.
    pub(crate) dev: bool,
}

/// The packages of the workspace alone, or with all that they depend on, as resolved by the lock file.
pub(crate) fn packages(with_dependencies: bool) -> Result<Vec<Package>> {
    let mut command = cargo(&["metadata", "--format-version", "1", "--locked"]);
    if !with_dependencies {
        command.arg("--no-deps");
    }
    let output = run("cargo metadata", command, &[], Duration::from_secs(300))?;
    let root: Value = serde_json::from_slice(&output).map_err(Failure::context("cargo metadata"))?;
    let packages = root["packages"].as_array().ok_or_else(|| Failure::new("cargo metadata names no packages"))?;
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let required = |field: &str| text(field).ok_or_else(|| Failure::new(format!("a package without {field}")));
    let dependencies = value["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Package {
        name: required("name")?,
        version: required("version")?,
        license: text("license"),
        source: text("source"),
        dependencies: dependencies.iter().filter_map(dependency).collect(),
    })
}

fn dependency(value: &Value) -> Option<Dependency> {
    let dev = value["kind"].as_str() == Some("dev");
    value["name"].as_str().map(|name| Dependency { name: name.to_owned(), dev })
}
