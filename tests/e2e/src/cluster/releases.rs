//! Two releases in one cluster: this one, and a build whose versions of the peer protocol and of metadata records are higher by one.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quipu_testkit::broker;
use quipu_testkit::clients::Client;
use quipu_testkit::kafka::Jars;
use quipu_testkit::process::run;
use rustix::process::Signal;

use super::{Cluster, NODES, live_through};

const LIMIT: Duration = Duration::from_secs(60);
/// A topic whose record only the next release can say.
const NEW_TOPIC: &str = "of-the-next-release";

/// What `kafka-features` says to raising the level.
fn upgrade(cluster: &Cluster, level: u32) -> Result<String, String> {
    let mut command: Command = Jars::fetch().unwrap().tool("org.apache.kafka.tools.FeatureCommand");
    let feature = format!("metadata.version={level}");
    command.args(["--bootstrap-server", &cluster.bootstrap(), "upgrade", "--feature", &feature]);
    let told = run("kafka-features", command, b"", LIMIT);
    told.map(|printed| String::from_utf8(printed).unwrap()).map_err(|error| error.to_string())
}

fn come_back_as(cluster: &mut Cluster, node: usize, binary: std::path::PathBuf) {
    assert!(cluster.node(node).stop().unwrap().success(), "it stops in good order");
    cluster.node(node).use_binary(binary);
    cluster.node(node).restart().unwrap();
    cluster.wait_until_whole();
}

#[test]
fn two_releases_share_a_cluster_until_all_have_moved_on() {
    if !Client::Java.check("two_releases_share_a_cluster_until_all_have_moved_on") {
        return;
    }
    let next = broker::next_binary().unwrap();
    let round = AtomicUsize::new(0);
    live_through("cluster-releases", NODES, |cluster, _| {
        let node = round.fetch_add(1, Ordering::Relaxed);
        if node >= NODES {
            // A long run goes on with what it has become.
            return come_back_as(cluster, node % NODES, next.clone());
        }
        come_back_as(cluster, node, next.clone());
        if node + 1 < NODES {
            let refused = upgrade(cluster, 3).unwrap_err();
            assert!(refused.contains("metadata.version"), "it says why: {refused}");
            return;
        }
        upgrade(cluster, 3).unwrap();
        cluster.quipu(&["topic", "create", NEW_TOPIC, "--partitions", "1"]);
        an_old_release_does_not_start(cluster);
    });
}

/// What the next release has written this one can't read: it says so, and changes nothing.
fn an_old_release_does_not_start(cluster: &mut Cluster) {
    let (old, next) = (broker::binary().unwrap(), broker::next_binary().unwrap());
    let node = cluster.node(0);
    assert!(node.stop().unwrap().success());
    node.use_binary(old);
    assert!(node.restart().is_err(), "it can't work with this cluster any more");
    let log = std::fs::read_to_string(node.log_file()).unwrap();
    assert!(log.contains("a newer Quipu wrote it"), "it says why: {log}");
    if node.process().ended().is_none() {
        node.process().signal(Signal::KILL).unwrap();
    }
    node.use_binary(next);
    node.restart().unwrap();
    cluster.wait_until_whole();
}
