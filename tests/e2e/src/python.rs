//! confluent-kafka and kafka-python, through `python/*.py`.

use std::process::Command;
use std::time::Duration;

use quipu_testkit::clients::{self, Client};
use quipu_testkit::paths::workspace_root;
use quipu_testkit::process::run;

use crate::subject::Subject;
use crate::text;

const LIMIT: Duration = Duration::from_secs(180);
/// The two programs, which take the same commands.
pub(crate) const PROGRAMS: [&str; 2] = ["confluent", "pure"];

/// Runs `python/<program>.py BOOTSTRAP ...`.
pub(crate) fn python(program: &str, bootstrap: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let script = workspace_root().join("tests/e2e/python").join(format!("{program}.py"));
    let mut command = Command::new(clients::python().unwrap());
    command.arg(script).arg(bootstrap).args(arguments);
    run(&format!("{program}.py {}", arguments.join(" ")), command, input, LIMIT).unwrap()
}

fn writes_and_reads(writer: &str, reader: &str) {
    let subject = Subject::start(&format!("python-{writer}-{reader}"));
    subject.topic("lines", 1);
    let lines = text::lines(20_000);
    let bootstrap = subject.bootstrap();
    python(writer, &bootstrap, &["produce", "lines", "0", "none"], &text::file(&lines));
    let back = python(reader, &bootstrap, &["consume", "lines", "1", "20000"], b"");
    text::assert_whole(&text::printed(&back), &lines);
}

#[test]
fn confluent_writes_kafka_python_reads() {
    if Client::Python.check("confluent_writes_kafka_python_reads") {
        writes_and_reads("confluent", "pure");
    }
}

#[test]
fn kafka_python_writes_confluent_reads() {
    if Client::Python.check("kafka_python_writes_confluent_reads") {
        writes_and_reads("pure", "confluent");
    }
}
