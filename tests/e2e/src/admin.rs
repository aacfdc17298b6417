//! Topics, partitions, configs and deleted records through each client's admin side. The steps and their checks are in the
//! programs; here is what only the tools show.

use quipu_testkit::clients::Client;

use crate::java::{java, tool};
use crate::python::python;
use crate::subject::Subject;

#[test]
fn confluent_admin() {
    if Client::Python.check("confluent_admin") {
        let subject = Subject::start("admin-confluent");
        python("confluent", &subject.bootstrap(), &["admin"], b"");
    }
}

#[test]
fn kafka_python_admin() {
    if Client::Python.check("kafka_python_admin") {
        let subject = Subject::start("admin-pure");
        python("pure", &subject.bootstrap(), &["admin"], b"");
    }
}

#[test]
fn java_admin() {
    if Client::Java.check("java_admin") {
        let subject = Subject::start("admin-java");
        java(&subject.bootstrap(), &["admin"], b"");
    }
}

#[test]
fn the_console_tools_administer() {
    if !Client::Java.check("the_console_tools_administer") {
        return;
    }
    let subject = Subject::start("admin-tools");
    let bootstrap = subject.bootstrap();
    let topics = |arguments: &[&str]| tool("org.apache.kafka.tools.TopicCommand", &bootstrap, arguments, b"");
    let configs = |arguments: &[&str]| tool("kafka.admin.ConfigCommand", &bootstrap, arguments, b"");
    topics(&["--create", "--topic", "tools", "--partitions", "2", "--config", "max.message.bytes=5000"]);
    assert_eq!(topics(&["--list"]).trim(), "tools");
    let described = topics(&["--describe", "--topic", "tools"]);
    assert!(described.contains("PartitionCount: 2"), "{described}");
    topics(&["--alter", "--topic", "tools", "--partitions", "3"]);
    let described = topics(&["--describe", "--topic", "tools"]);
    assert!(described.contains("PartitionCount: 3") && described.contains("max.message.bytes=5000"), "{described}");

    let entity = ["--entity-type", "topics", "--entity-name", "tools"];
    configs(&[&entity[..], &["--alter", "--add-config", "message.timestamp.type=LogAppendTime"]].concat());
    configs(&[&entity[..], &["--alter", "--delete-config", "max.message.bytes"]].concat());
    let described = configs(&[&entity[..], &["--describe"]].concat());
    assert!(described.contains("message.timestamp.type=LogAppendTime"), "{described}");
    assert!(!described.contains("max.message.bytes=5000"), "{described}");
    topics(&["--delete", "--topic", "tools"]);
    assert_eq!(topics(&["--list"]).trim(), "");
}
