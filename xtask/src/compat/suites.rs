//! What is run: each suite with what it needs, how it is run, and how its output becomes lines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quipu_testkit::kafka::{Jars, SERVER_VERSION, TOOLS_VERSION};
use quipu_testkit::process::{output_so_far, run};
use quipu_testkit::{Failure, Result, clients, paths};
use serde_json::Value;

use super::console;
use crate::step::cargo;

/// Beside the Python clients of the tests: one more, and what runs their suites.
const PYTHON: [&str; 4] = ["aiokafka==0.14.0", "pytest==9.0.2", "pytest-mock==3.15.1", "pytest-timeout==2.4.0"];
const KAFKA_PYTHON: &str = "3.0.12";
const KAFKAJS: &str = "kafkajs@2.2.4";
/// Fetching and compiling.
const PREPARE_LIMIT: Duration = Duration::from_secs(1800);
/// A suite may take this long.
const SUITE_LIMIT: Duration = Duration::from_secs(900);

/// Tests of rust-rdkafka's own that can't pass, and why.
const RUST_EXCLUDED: [(&str, &str); 2] = [
    ("test_transactions ", "transactions come in a later release"),
    ("test_admin test_configs", "expects settings and defaults of one particular server image"),
];

/// One suite.
pub(super) struct Suite {
    pub(super) client: &'static str,
    pub(super) name: &'static str,
    /// The broker's settings, as TOML.
    pub(super) settings: &'static str,
    /// For suites that don't tell.
    pub(super) version: fn() -> String,
    /// Fetches what it needs; gives what [`Self::run`] runs.
    pub(super) prepare: fn() -> Result<PathBuf>,
    /// Runs it against a broker, with a directory to work in; gives its lines.
    pub(super) run: fn(&Path, &str, &Path) -> Result<String>,
}

fn unknown() -> String {
    String::new()
}

const FLOWS: &str = "our flows";

const fn flows(
    client: &'static str,
    prepare: fn() -> Result<PathBuf>,
    run: fn(&Path, &str, &Path) -> Result<String>,
) -> Suite {
    Suite { client, name: FLOWS, settings: "", version: unknown, prepare, run }
}

/// All of them, in the order of the page.
pub(super) const ALL: [Suite; 11] = [
    Suite {
        version: kcat_version,
        ..flows("kcat (librdkafka)", none, |_, bootstrap, _| Ok(console::kcat_flows(bootstrap)))
    },
    flows("confluent-kafka (librdkafka)", python, |python, bootstrap, _| python_flows(python, "confluent", bootstrap)),
    flows("kafka-python", python, |python, bootstrap, _| python_flows(python, "pure", bootstrap)),
    Suite {
        client: "kafka-python",
        name: "its own integration suite",
        settings: "node_id = 0\n[defaults]\n\"num.partitions\" = 4\n\"group.initial.rebalance.delay.ms\" = 0\n\"group.min.session.timeout.ms\" = 1000\n",
        version: || KAFKA_PYTHON.to_owned(),
        prepare: kafka_python,
        run: kafka_python_suite,
    },
    flows("aiokafka", python, |python, bootstrap, _| python_flows(python, "aiokafka", bootstrap)),
    Suite {
        version: || format!("{SERVER_VERSION} (tools {TOOLS_VERSION})"),
        ..flows("Apache Kafka's Java client and console tools", jars, |_, bootstrap, scratch| {
            console::tool_flows(bootstrap, scratch)
        })
    },
    flows("franz-go", go, |program, bootstrap, _| go_flows(program, "franz", bootstrap)),
    flows("sarama", go, |program, bootstrap, _| go_flows(program, "sarama", bootstrap)),
    flows("kafkajs", node, node_flows),
    Suite {
        client: "rust-rdkafka (librdkafka)",
        name: "its own tests",
        settings: "node_id = 0\n[defaults]\n\"num.partitions\" = 3\n",
        version: || rdkafka().map(|(version, _)| version).unwrap_or_default(),
        prepare: rust,
        run: rust_suite,
    },
    flows("quipu-client (ours)", none, |_, bootstrap, _| Ok(console::our_flows(bootstrap))),
];

/// What a command prints, without the line end.
pub(super) fn told(command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = run(&name, command, &[], Duration::from_secs(60))?;
    Ok(String::from_utf8_lossy(&output).trim().to_owned())
}

/// Everything that a program prints on stdout, however it ends; with a line more if it had to be ended.
fn printed(name: &str, mut command: Command) -> Result<String> {
    let (output, is_late) = output_so_far(name, &mut command, &[], SUITE_LIMIT)?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if is_late {
        text.push_str(&format!("\nFAIL {name}: did not end within {SUITE_LIMIT:?}\n"));
    }
    Ok(text)
}

fn sources() -> PathBuf {
    paths::workspace_root().join("tests/compat")
}

fn fetched(name: &str) -> Result<PathBuf> {
    let directory = paths::target_dir().join("compat").join(name);
    std::fs::create_dir_all(&directory).map_err(Failure::context(directory.display()))?;
    Ok(directory)
}

fn needs(program: &str) -> Result<()> {
    match paths::program(program) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!("`{program}` is not on the PATH"))),
    }
}

fn none() -> Result<PathBuf> {
    Ok(PathBuf::new())
}

fn kcat_version() -> String {
    let mut command = Command::new("kcat");
    command.arg("-V");
    let told = told(command).unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("Version ")).unwrap_or_default();
    line.split_whitespace()
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(", librdkafka ")
}

fn jars() -> Result<PathBuf> {
    Jars::fetch().map(|_| PathBuf::new())
}

fn python() -> Result<PathBuf> {
    clients::python_with(&PYTHON)
}

fn python_flows(python: &Path, client: &str, bootstrap: &str) -> Result<String> {
    let mut command = Command::new(python);
    command.arg(sources().join("python/flows.py")).args([client, bootstrap]);
    printed(client, command)
}

/// The suite's directory: the source package, unpacked.
fn kafka_python() -> Result<PathBuf> {
    let python = python()?;
    let directory = fetched("kafka-python")?;
    let root = directory.join(format!("kafka_python-{KAFKA_PYTHON}"));
    if !root.join("test").is_dir() {
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-binary",
            ":all:",
        ]);
        pip.arg("--dest").arg(&directory).arg(format!("kafka-python=={KAFKA_PYTHON}"));
        run("pip download", pip, &[], PREPARE_LIMIT)?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(directory.join(format!("kafka_python-{KAFKA_PYTHON}.tar.gz"))).arg("-C").arg(&directory);
        run("tar", tar, &[], PREPARE_LIMIT)?;
    }
    Ok(root)
}

fn kafka_python_suite(root: &Path, bootstrap: &str, _: &Path) -> Result<String> {
    let mut command = Command::new(python()?);
    command.args(["-m", "pytest", "-q", "-s", "--timeout=60", "--timeout-method=signal", "-p", "no:cacheprovider"]);
    command.args(["-p", "suite", "test/integration"]).current_dir(root);
    command.env("PYTHONPATH", sources().join("python")).env("QUIPU_COMPAT_SUITE", root);
    // It wants a directory of a server, and looks into it only to start one.
    command.env("KAFKA_ROOT", root);
    command.env("KAFKA_VERSION", "4.3.0").env("KAFKA_URI", format!("kafka://{bootstrap}"));
    // Nobody listens there: the suite asks for an address, and nothing else.
    command.env("ZOOKEEPER_URI", "zk://127.0.0.1:1").env("PYTHONDONTWRITEBYTECODE", "1");
    printed("pytest", command)
}

fn go() -> Result<PathBuf> {
    needs("go")?;
    let program = fetched("go")?.join("flows");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".").current_dir(sources().join("go"));
    run("go build", build, &[], PREPARE_LIMIT)?;
    Ok(program)
}

fn go_flows(program: &Path, client: &str, bootstrap: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args([client, bootstrap]);
    printed(client, command)
}

fn node() -> Result<PathBuf> {
    needs("node")?;
    needs("npm")?;
    let directory = fetched("node")?;
    if !directory.join("node_modules/kafkajs").is_dir() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-save", "--prefix"]).arg(&directory).arg(KAFKAJS).current_dir(&directory);
        run("npm install", npm, &[], PREPARE_LIMIT)?;
    }
    Ok(directory.join("node_modules"))
}

fn node_flows(modules: &Path, bootstrap: &str, _: &Path) -> Result<String> {
    let mut command = Command::new("node");
    command.arg(sources().join("js/flows.js")).arg(bootstrap).env("NODE_PATH", modules);
    printed("kafkajs", command)
}

/// The version of the crate that this workspace is locked to, and where its source is.
fn rdkafka() -> Result<(String, PathBuf)> {
    let metadata = run(
        "cargo metadata",
        cargo(&["metadata", "--format-version", "1", "--locked"]),
        &[],
        Duration::from_secs(300),
    )?;
    let root: Value = serde_json::from_slice(&metadata).map_err(Failure::context("cargo metadata"))?;
    let packages = root["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = packages.iter().find(|package| package["name"] == "rdkafka");
    let found = found.ok_or_else(|| Failure::new("the workspace does not use rdkafka"))?;
    let text = |field: &str| found[field].as_str().map(str::to_owned).unwrap_or_default();
    let manifest = PathBuf::from(text("manifest_path"));
    Ok((text("version"), manifest.parent().unwrap_or(Path::new("")).to_path_buf()))
}

/// A copy of the crate's source in which cargo may build.
fn rust() -> Result<PathBuf> {
    let (version, source) = rdkafka()?;
    let copy = fetched("rust-rdkafka")?.join(version);
    if !copy.is_dir() {
        let mut cp = Command::new("cp");
        cp.arg("-r").arg(&source).arg(&copy);
        run("cp", cp, &[], PREPARE_LIMIT)?;
    }
    let mut build = rust_tests(&copy);
    build.arg("--no-run");
    run("cargo test --no-run", build, &[], PREPARE_LIMIT)?;
    Ok(copy)
}

fn rust_tests(copy: &Path) -> Command {
    let mut command = Command::new(paths::cargo());
    command.args(["test", "--no-fail-fast", "--tests"]).current_dir(copy);
    command.env("CARGO_TARGET_DIR", copy.with_file_name("target"));
    // Built once: neither is of use, and both are large.
    command.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    command
}

fn rust_suite(copy: &Path, bootstrap: &str, _: &Path) -> Result<String> {
    let mut lines = String::new();
    let mut tests: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(copy.join("tests")).map_err(Failure::context(copy.display()))? {
        let name = entry.map_err(Failure::context(copy.display()))?.file_name().to_string_lossy().into_owned();
        tests.extend(name.strip_suffix(".rs").filter(|name| name.starts_with("test_")).map(str::to_owned));
    }
    tests.sort();
    for test in tests {
        let file = format!("{test} ");
        if let Some((_, why)) = RUST_EXCLUDED.iter().find(|(part, _)| *part == file) {
            lines.push_str(&format!("excluded {test}: {why}\n"));
            continue;
        }
        let mut command = rust_tests(copy);
        // One at a time: some of them expect what no other test disturbs.
        command.args(["--test", &test, "--", "--test-threads=1"]).env("KAFKA_HOST", bootstrap);
        lines.push_str(&rust_lines(&test, &printed(&test, command)?));
    }
    Ok(lines)
}

/// The test runner's lines as a suite's.
fn rust_lines(file: &str, output: &str) -> String {
    let mut lines = String::new();
    for line in output.lines() {
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) else {
            continue;
        };
        let name = format!("{file} {name}");
        if verdict == "ok" {
            lines.push_str(&format!("ok {name}\n"));
        } else if let Some((_, why)) = RUST_EXCLUDED.iter().find(|(part, _)| *part == name) {
            lines.push_str(&format!("excluded {name}: {why}\n"));
        } else {
            lines.push_str(&format!("FAIL {name}: {}\n", panic_of(output, &name).unwrap_or(verdict)));
        }
    }
    lines
}

/// What the test said when it panicked: the line behind the one that says where.
fn panic_of<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    let thread = format!("thread '{}'", name.rsplit(' ').next()?);
    let mut lines = output.lines().skip_while(|line| !(line.starts_with(&thread) && line.contains("panicked")));
    lines.nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_runners_lines_become_a_suites() {
        let output = "test a ... ok\ntest b ... FAILED\ntest test_configs ... FAILED\n\nthread 'b' (3) panicked at x:1:\nno broker\n";
        let lines = rust_lines("test_admin", output);
        let why = RUST_EXCLUDED[1].1;
        assert_eq!(
            lines,
            format!("ok test_admin a\nFAIL test_admin b: no broker\nexcluded test_admin test_configs: {why}\n")
        );
    }
}
