//! The README's five minutes: every line of them is run, as it stands there.
//!
//! Only the address is changed (to that of the test's own broker), and the Python packages come from the tests' environment:
//! the line that makes one is run with it. The blocks stand between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use quipu_testkit::broker::{Broker, Options, binary};
use quipu_testkit::clients::{Client, PYTHON_PACKAGES};
use quipu_testkit::paths::workspace_root;
use quipu_testkit::process::run;
use quipu_testkit::scratch::Scratch;

use crate::subject::skipped_against_kafka;

/// The address that the README uses.
const ADDRESS: &str = "127.0.0.1:9092";

#[test]
fn every_line_of_the_tour_runs() {
    let test = "every_line_of_the_tour_runs";
    if skipped_against_kafka(test) || !Client::Kcat.check(test) || !Client::Python.check(test) {
        return;
    }
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let scratch = Scratch::new("tour").unwrap();
    let mut broker = Broker::start_with(Options::new(scratch.join("quipu-data")).unwrap()).unwrap();
    let here = |text: &str| text.replace(ADDRESS, &broker.bootstrap());
    std::fs::write(scratch.join("tour.py"), here(&block(&readme, "tour.py"))).unwrap();
    let lines = here(&block(&readme, "tour"));
    assert!(lines.lines().count() >= 5, "the tour has lines: {lines}");
    // The version of the package is the tests' own, so that a new release elsewhere fails nothing here.
    let pinned = lines.replace("confluent-kafka", PYTHON_PACKAGES[0]);
    shell(&pinned, scratch.path());
    assert!(broker.stop().unwrap().success());
    shell(&block(&readme, "tour-stopped"), scratch.path());
}

#[test]
fn every_line_of_our_own_tour_runs() {
    if skipped_against_kafka("every_line_of_our_own_tour_runs") {
        return;
    }
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let scratch = Scratch::new("tour-quipu").unwrap();
    let broker = Broker::start_with(Options::new(scratch.join("quipu-data")).unwrap()).unwrap();
    let lines = block(&readme, "tour-quipu").replace(ADDRESS, &broker.bootstrap());
    assert!(lines.lines().count() >= 5 && lines.contains(&broker.bootstrap()), "{lines}");
    shell(&lines, scratch.path());
}

/// Runs lines as `sh -e` does, with the binary under test on the PATH; any that fails fails the test.
fn shell(lines: &str, directory: &Path) {
    let mut path = vec![binary().unwrap().parent().unwrap().to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut sh = Command::new("sh");
    sh.arg("-exc").arg(lines).current_dir(directory).env("PATH", std::env::join_paths(path).unwrap());
    run("the tour", sh, b"", Duration::from_secs(300)).unwrap();
}

/// The fenced text between the markers called `name`.
fn block(readme: &str, name: &str) -> String {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let (_, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("the README has no {begin}"));
    let (marked, _) = rest.split_once(&end).unwrap_or_else(|| panic!("the README has no {end}"));
    let fenced: Vec<&str> = marked.trim().lines().collect();
    let (first, last) = (fenced.first().unwrap(), fenced.last().unwrap());
    assert!(first.starts_with("```") && *last == "```", "{name} is one fenced block");
    fenced[1..fenced.len() - 1].join("\n") + "\n"
}
