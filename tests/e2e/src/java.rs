//! The Java client 4.4 through `java/Roundtrip.java`, and the console tools.

use std::time::Duration;

use quipu_testkit::clients::Client;
use quipu_testkit::kafka::Jars;
use quipu_testkit::paths::workspace_root;
use quipu_testkit::process::run;

use crate::subject::Subject;
use crate::text;

const LIMIT: Duration = Duration::from_secs(180);

/// Runs `java/Roundtrip.java BOOTSTRAP ...`.
pub(crate) fn java(bootstrap: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Jars::fetch().unwrap().source(&workspace_root().join("tests/e2e/java/Roundtrip.java"));
    command.arg(bootstrap).args(arguments);
    run(&format!("Roundtrip.java {}", arguments.join(" ")), command, input, LIMIT).unwrap()
}

/// Runs a console tool with `--bootstrap-server` and these arguments.
pub(crate) fn tool(class: &str, bootstrap: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Jars::fetch().unwrap().tool(class);
    command.args(["--bootstrap-server", bootstrap]).args(arguments);
    let output = run(&format!("{class} {}", arguments.join(" ")), command, input, LIMIT).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn the_java_client_writes_and_reads() {
    if !Client::Java.check("the_java_client_writes_and_reads") {
        return;
    }
    let subject = Subject::start("java-client");
    subject.topic("lines", 1);
    let lines = text::lines(20_000);
    let bootstrap = subject.bootstrap();
    java(&bootstrap, &["produce", "lines", "0", "none"], &text::file(&lines));
    let back = java(&bootstrap, &["consume", "lines", "1", "20000"], b"");
    text::assert_whole(&text::printed(&back), &lines);
}

#[test]
fn the_console_tools_write_and_read() {
    if !Client::Java.check("the_console_tools_write_and_read") {
        return;
    }
    let subject = Subject::start("java-console");
    let bootstrap = subject.bootstrap();
    let topics = "org.apache.kafka.tools.TopicCommand";
    tool(topics, &bootstrap, &["--create", "--topic", "console", "--partitions", "2"], b"");
    let file = text::file(&text::lines(1000));
    // The sticky partitioner of the producer chooses: one batch at a time goes to one of the two partitions.
    tool("org.apache.kafka.tools.ConsoleProducer", &bootstrap, &["--topic", "console"], &file);
    let mut back = Vec::new();
    for partition in ["0", "1"] {
        let arguments =
            ["--topic", "console", "--partition", partition, "--offset", "earliest", "--timeout-ms", "4000"];
        let read = tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &bootstrap, &arguments, b"");
        let numbers: Vec<usize> = read.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "partition {partition} keeps the order");
        back.extend(read.lines().map(str::to_owned));
    }
    back.sort();
    let mut expected = text::lines(1000);
    expected.sort();
    assert_eq!(back, expected);
    let offsets = tool("org.apache.kafka.tools.GetOffsetShell", &bootstrap, &["--topic", "console"], b"");
    let ends: Vec<usize> = offsets.lines().map(|line| line.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert_eq!((ends.len(), ends.iter().sum::<usize>()), (2, 1000), "{offsets}");
}

#[test]
fn the_console_tools_tell_producers_and_subscribe_to_client_metrics() {
    if !Client::Java.check("the_console_tools_tell_producers_and_subscribe_to_client_metrics") {
        return;
    }
    let subject = Subject::start("java-producers");
    subject.topic("lines", 1);
    let bootstrap = subject.bootstrap();
    let metrics = "org.apache.kafka.tools.ClientMetricsCommand";
    let own = ["--alter", "--name", "own", "--metrics", "org.apache.kafka.", "--interval", "1000"];
    tool(metrics, &bootstrap, &own, b"");
    assert_eq!(tool(metrics, &bootstrap, &["--list"], b"").trim(), "own");
    let described = tool(metrics, &bootstrap, &["--describe", "--name", "own"], b"");
    assert!(described.contains("interval.ms=1000") && described.contains("metrics=org.apache.kafka."), "{described}");
    // The producer is idempotent, as Java's are by default, and pushes metrics at its end.
    java(&bootstrap, &["produce", "lines", "0", "none"], &text::file(&text::lines(100)));
    let arguments = ["describe-producers", "--topic", "lines", "--partition", "0"];
    let told = tool("org.apache.kafka.tools.TransactionsCommand", &bootstrap, &arguments, b"");
    let last = told.lines().nth(1).unwrap_or_default();
    let fields: Vec<&str> = last.split_whitespace().collect();
    assert_eq!((fields[1], fields[2], fields[3]), ("0", "-1", "99"), "{told}");
    tool(metrics, &bootstrap, &["--delete", "--name", "own"], b"");
    assert_eq!(tool(metrics, &bootstrap, &["--list"], b"").trim(), "");
}
