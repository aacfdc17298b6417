//! The broker under test: ours, or Apache Kafka to check the tests themselves.

use std::net::SocketAddr;

use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::clients::skip;
use quipu_testkit::kafka::{Jars, Kafka};
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::Wire;

enum Running {
    Quipu(Broker),
    Kafka(Kafka),
}

/// A broker on a fresh directory.
pub(crate) struct Subject {
    running: Running,
    // After the broker, so that the directory outlives it.
    _scratch: Scratch,
}

impl Subject {
    /// Starts the broker that the environment asks for.
    pub(crate) fn start(test: &str) -> Self {
        let scratch = Scratch::new(test).unwrap();
        let running = if against_kafka() {
            let jars = Jars::fetch().unwrap();
            Running::Kafka(Kafka::start(&jars, &scratch.join("kafka"), &[]).unwrap())
        } else {
            Running::Quipu(Broker::start(scratch.join("data")).unwrap())
        };
        Self { running, _scratch: scratch }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.running {
            Running::Quipu(broker) => broker.address(),
            Running::Kafka(kafka) => kafka.address(),
        }
    }

    /// The same, as clients take it.
    pub(crate) fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// A raw connection.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address()).unwrap()
    }

    /// Creates a topic.
    pub(crate) fn topic(&self, name: &str, partitions: i32) {
        self.wire().create_topic(name, partitions, &[]).unwrap();
    }
}

/// One of our own brokers for a test that only makes sense for it; `None` (and a word on the terminal) against Apache Kafka.
pub(crate) fn ours(test: &str) -> Option<(Broker, Scratch)> {
    if skipped_against_kafka(test) {
        return None;
    }
    let scratch = Scratch::new(test).unwrap();
    Some((Broker::start_with(Options::new(scratch.join("data")).unwrap()).unwrap(), scratch))
}

/// Whether the test is about our own process and has nothing to do against Apache Kafka; says so.
pub(crate) fn skipped_against_kafka(test: &str) -> bool {
    if against_kafka() {
        skip(test, "it is about our own binary");
    }
    against_kafka()
}

fn against_kafka() -> bool {
    std::env::var("QUIPU_E2E_SUBJECT").is_ok_and(|subject| subject == "kafka")
}
