//! The flows of programs: kcat, the console tools of Apache Kafka, and our own command line, which stands for our client.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use quipu_testkit::kafka::Jars;
use quipu_testkit::process::run;
use quipu_testkit::{Failure, Result, broker, clients};

const LIMIT: Duration = Duration::from_secs(120);
const TOPIC: &str = "console";
const GROUP: &str = "readers";

/// Lines of flows, each one line.
struct Flows(String);

impl Flows {
    fn flow(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let line = match work() {
            Ok(()) => format!("ok {name}"),
            Err(error) => {
                format!("FAIL {name}: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
            }
        };
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}

fn lines() -> String {
    (0..300).map(|number| format!("line {number}\n")).collect()
}

fn same(what: &str, found: &str, wanted: &str) -> Result<()> {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    if sorted(found) == sorted(wanted) {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: {} lines for {}", found.lines().count(), wanted.lines().count())))
}

fn contains(found: &str, wanted: &str) -> Result<()> {
    if found.contains(wanted) { Ok(()) } else { Err(Failure::new(format!("no `{wanted}` in: {found}"))) }
}

fn text(name: &str, command: Command, input: &str) -> Result<String> {
    let output = run(name, command, input.as_bytes(), LIMIT)?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// kcat.
pub(super) fn kcat_flows(bootstrap: &str) -> String {
    let kcat = |arguments: &[&str], input: &str| {
        let mut command = clients::kcat(bootstrap);
        command.args(arguments);
        text("kcat", command, input)
    };
    let mut flows = Flows(String::new());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        flows.flow(&format!("produce and consume, {codec}"), || {
            let topic = format!("kcat-{codec}");
            kcat(&["-P", "-t", &topic, "-z", codec, "-X", "acks=all"], &lines())?;
            same("records", &kcat(&["-C", "-t", &topic, "-o", "beginning", "-e", "-q"], "")?, &lines())
        });
    }
    flows
        .flow("metadata", || contains(&kcat(&["-L", "-t", "kcat-none"], "")?, "topic \"kcat-none\" with 1 partitions"));
    flows.flow("offset by time", || contains(&kcat(&["-Q", "-t", "kcat-none:0:-1"], "")?, "offset 300"));
    flows.flow("consumer group", || {
        let arguments = ["-G", GROUP, "-c", "300", "-q", "-X", "auto.offset.reset=earliest", "kcat-gzip"];
        same("records", &kcat(&arguments, "")?, &lines())
    });
    flows.0
}

/// Kafka's console tools.
pub(super) fn tool_flows(bootstrap: &str, scratch: &Path) -> Result<String> {
    let jars = Jars::fetch()?;
    let tool = |class: &str, arguments: &[&str], input: &str| {
        let mut command = jars.tool(class);
        command.args(["--bootstrap-server", bootstrap]).args(arguments);
        text(class, command, input)
    };
    let topics = |arguments: &[&str]| tool("org.apache.kafka.tools.TopicCommand", arguments, "");
    let configs = |arguments: &[&str]| tool("kafka.admin.ConfigCommand", arguments, "");
    let groups = |arguments: &[&str]| tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", arguments, "");
    let consumer = |arguments: &[&str]| tool("org.apache.kafka.tools.consumer.ConsoleConsumer", arguments, "");
    let mut flows = Flows(String::new());
    flows.flow("kafka-topics", || {
        topics(&["--create", "--topic", TOPIC, "--partitions", "2"])?;
        topics(&["--alter", "--topic", TOPIC, "--partitions", "3"])?;
        contains(&topics(&["--describe", "--topic", TOPIC])?, "PartitionCount: 3")?;
        contains(&topics(&["--list"])?, TOPIC)?;
        topics(&["--create", "--topic", "gone"])?;
        topics(&["--delete", "--topic", "gone"]).map(drop)
    });
    flows.flow("kafka-console-producer and -consumer", || {
        tool("org.apache.kafka.tools.ConsoleProducer", &["--topic", TOPIC], &lines())?;
        let arguments = ["--topic", TOPIC, "--from-beginning", "--max-messages", "300", "--timeout-ms", "60000"];
        same("records", &consumer(&arguments)?, &lines())
    });
    for protocol in ["classic", "consumer"] {
        flows.flow(&format!("kafka-console-consumer, group of the {protocol} protocol"), || {
            let property = format!("group.protocol={protocol}");
            let group = format!("{GROUP}-{protocol}");
            let arguments = ["--topic", TOPIC, "--from-beginning", "--max-messages", "300", "--timeout-ms", "60000"];
            let member = ["--group", &group, "--command-property", &property];
            same("records", &consumer(&[&arguments[..], &member].concat())?, &lines())?;
            contains(&groups(&["--describe", "--group", &group])?, TOPIC)
        });
    }
    flows.flow("kafka-consumer-groups", || {
        let group = format!("{GROUP}-classic");
        contains(&groups(&["--list"])?, &group)?;
        let moved = ["--reset-offsets", "--group", &group, "--topic", TOPIC, "--to-earliest", "--execute"];
        groups(&moved)?;
        groups(&["--describe", "--group", &group, "--state"])?;
        contains(&groups(&["--delete", "--group", &group])?, "successful")
    });
    flows.flow("kafka-configs: topics, brokers, groups", || {
        for (kind, name, config) in [
            ("topics", TOPIC, "retention.ms=86400000"),
            ("brokers", "1", "log.cleaner.backoff.ms=14000"),
            ("groups", GROUP, "consumer.heartbeat.interval.ms=7000"),
        ] {
            let entity = ["--entity-type", kind, "--entity-name", name];
            configs(&[&entity[..], &["--alter", "--add-config", config]].concat())?;
            contains(&configs(&[&entity[..], &["--describe"]].concat())?, config)?;
        }
        Ok(())
    });
    flows.flow("kafka-get-offsets", || {
        let told = tool("org.apache.kafka.tools.GetOffsetShell", &["--topic", TOPIC], "")?;
        let ends: u32 = told.lines().filter_map(|line| line.rsplit(':').next()?.parse::<u32>().ok()).sum();
        if ends == 300 { Ok(()) } else { Err(Failure::new(told)) }
    });
    flows.flow("kafka-log-dirs", || {
        contains(
            &tool("org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", TOPIC], "")?,
            "console-0",
        )
    });
    cluster_flows(&tool, scratch, &mut flows);
    Ok(flows.0)
}

/// Of the console tools, those that look after a cluster.
fn cluster_flows(tool: &impl Fn(&str, &[&str], &str) -> Result<String>, scratch: &Path, flows: &mut Flows) {
    flows.flow("kafka-client-metrics", || {
        let metrics = |arguments: &[&str]| tool("org.apache.kafka.tools.ClientMetricsCommand", arguments, "");
        metrics(&["--alter", "--name", "all", "--metrics", "org.apache.kafka", "--interval", "10000"])?;
        contains(&metrics(&["--describe", "--name", "all"])?, "org.apache.kafka")?;
        metrics(&["--delete", "--name", "all"]).map(drop)
    });
    flows.flow("kafka-delete-records", || {
        let file = written(scratch, r#"{"version":1,"partitions":[{"topic":"console","partition":0,"offset":1}]}"#)?;
        tool("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", &file], "").map(drop)
    });
    flows.flow("kafka-reassign-partitions", || {
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let file =
            written(scratch, r#"{"version":1,"partitions":[{"topic":"console","partition":0,"replicas":[1]}]}"#)?;
        tool(class, &["--reassignment-json-file", &file, "--execute"], "")?;
        let told = tool(class, &["--reassignment-json-file", &file, "--verify", "--preserve-throttles"], "")?;
        contains(&told, "is completed")
    });
    flows.flow("kafka-leader-election", || {
        let arguments = ["--election-type", "preferred", "--topic", TOPIC, "--partition", "0"];
        tool("org.apache.kafka.tools.LeaderElectionCommand", &arguments, "").map(drop)
    });
    flows.flow("kafka-metadata-quorum", || {
        contains(&tool("org.apache.kafka.tools.MetadataQuorumCommand", &["describe", "--status"], "")?, "LeaderId")
    });
    flows.flow("kafka-features", || {
        contains(&tool("org.apache.kafka.tools.FeatureCommand", &["describe"], "")?, "metadata.version")
    });
    flows.flow("kafka-transactions describe-producers", || {
        let arguments = ["describe-producers", "--topic", TOPIC, "--partition", "0"];
        contains(&tool("org.apache.kafka.tools.TransactionsCommand", &arguments, "")?, "ProducerId")
    });
    flows.flow("kafka-broker-api-versions", || {
        contains(&tool("org.apache.kafka.tools.BrokerApiVersionsCommand", &[], "")?, "ConsumerGroupHeartbeat")
    });
}

fn written(scratch: &Path, json: &str) -> Result<String> {
    let file = scratch.join("arguments.json");
    std::fs::write(&file, json).map_err(Failure::context(file.display()))?;
    Ok(file.to_string_lossy().into_owned())
}

/// Our own command line.
pub(super) fn our_flows(bootstrap: &str) -> String {
    let quipu = |arguments: &[&str], input: &str| {
        let mut command = Command::new(broker::binary()?);
        command.args(arguments).args(["--bootstrap", bootstrap]);
        text("quipu", command, input)
    };
    let mut flows = Flows(String::new());
    flows.flow("topics", || {
        quipu(&["topic", "create", TOPIC, "--partitions", "3"], "")?;
        contains(&quipu(&["topic", "describe", TOPIC], "")?, TOPIC)
    });
    flows.flow("produce and consume", || {
        quipu(&["produce", TOPIC], &lines())?;
        same("records", &quipu(&["consume", TOPIC, "--from", "start", "--exit-at-end"], "")?, &lines())
    });
    for protocol in ["classic", "consumer"] {
        flows.flow(&format!("group of the {protocol} protocol"), || {
            let arguments = ["consume", TOPIC, "--group", protocol, "--group-protocol", protocol, "--exit-at-end"];
            same("records", &quipu(&arguments, "")?, &lines())?;
            same("records once more", &quipu(&arguments, "")?, "")?;
            quipu(&["group", "lag", protocol], "")?;
            quipu(&["group", "delete", protocol], "").map(drop)
        });
    }
    flows.0
}
