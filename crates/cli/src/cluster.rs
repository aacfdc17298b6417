//! `quipu cluster status`: who is there, who controls, how the quorum and the partitions are, on one screen.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use quipu_client::{BrokerId, Client, ClientError, Cluster, Offset, Partition, Quorum, QuorumReplica};
use quipu_env_tokio::TokioEnv;
use serde_json::json;

use crate::{
    client::{self, Failure, with_bootstrap, with_json},
    output::{Output, Table, count},
};

/// A voter not heard of for this long, while another one was, is not there.
const SILENCE_MS: i64 = 2000;
/// With `--watch`: between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Moves the terminal's cursor to the upper left corner, and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

pub(crate) fn command() -> Command {
    let status = Command::new("status")
        .about("Show nodes, the controller, the metadata quorum, and partitions that lack replicas or a leader")
        .arg(Arg::new("watch").long("watch").action(ArgAction::SetTrue).help("Look again every second, until Ctrl-C"));
    Command::new("cluster")
        .about("Look at a cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_json(with_bootstrap(status), "Print one JSON object a look"))
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("status", matches)) => {
            let (watch, is_json) = (matches.get_flag("watch"), matches.get_flag("json"));
            client::run(matches, move |client| status(client, watch, Output::new(is_json)))
        }
        _ => unreachable!("clap requires one of the subcommands"),
    }
}

/// What one look has found.
struct Status {
    cluster: Cluster,
    quorum: Quorum,
    partitions: usize,
    under_replicated: Vec<String>,
    offline: Vec<String>,
    /// Nodes that hold replicas, or vote, and are not there.
    missing: BTreeSet<BrokerId>,
}

async fn status(client: Client<TokioEnv>, watch: bool, mut output: Output) -> Result<ExitCode, Failure> {
    loop {
        let status = look(&client).await?;
        let told = if output.json {
            output.json(&status.as_json())
        } else {
            let clear = watch.then(|| CLEAR.to_owned());
            clear.into_iter().chain(status.as_text()).try_for_each(|line| output.line(&line))
        };
        if !watch || told.is_break() {
            return Ok(output.finish(0)?);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn look(client: &Client<TokioEnv>) -> Result<Status, ClientError> {
    let admin = client.admin();
    let cluster = admin.describe_cluster().await?;
    let quorum = admin.describe_quorum().await?;
    let topics = admin.list_topics().await?;
    let mut status = Status {
        partitions: 0,
        under_replicated: Vec::new(),
        offline: Vec::new(),
        missing: quorum.voters.iter().map(|voter| voter.node).collect(),
        cluster,
        quorum,
    };
    for topic in &topics {
        for partition in &topic.partitions {
            status.partitions += 1;
            status.missing.extend(&partition.replicas);
            let name = format!("{}-{}", topic.name, partition.index);
            match state(partition) {
                State::Whole => {}
                State::UnderReplicated => status.under_replicated.push(name),
                State::Offline => status.offline.push(name),
            }
        }
    }
    status.missing.retain(|node| !status.cluster.brokers.contains_key(node));
    Ok(status)
}

enum State {
    Whole,
    UnderReplicated,
    Offline,
}

fn state(partition: &Partition) -> State {
    match partition.leader {
        None => State::Offline,
        Some(_) if partition.isr.len() < partition.replicas.len() => State::UnderReplicated,
        Some(_) => State::Whole,
    }
}

impl Status {
    /// Records of the metadata log that a voter lacks; none if that is not known.
    fn lag(&self, node: BrokerId) -> Option<i64> {
        let end = |replica: &QuorumReplica| replica.log_end;
        let leader = self.quorum.voters.iter().find(|voter| Some(voter.node) == self.quorum.leader).and_then(end);
        let all = self.quorum.voters.iter().chain(&self.quorum.observers);
        let own: Option<Offset> = all.clone().find(|replica| replica.node == node).and_then(end);
        Some(leader?.get().saturating_sub(own?.get()).max(0))
    }

    /// Whether the node is there: a broker says so itself, of one that only votes the controller has heard as lately as of anybody.
    fn is_up(&self, node: BrokerId) -> bool {
        let latest = self.quorum.voters.iter().filter_map(|voter| voter.heard).max();
        let heard = self.quorum.voters.iter().find(|voter| voter.node == node).and_then(|voter| voter.heard);
        let is_heard = latest.zip(heard).is_some_and(|(latest, heard)| latest.0 - heard.0 < SILENCE_MS);
        self.cluster.brokers.contains_key(&node) || self.quorum.leader == Some(node) || is_heard
    }

    fn is_voter(&self, node: BrokerId) -> bool {
        self.quorum.voters.iter().any(|voter| voter.node == node)
    }

    fn roles(&self, node: BrokerId) -> Vec<&'static str> {
        let is_broker = self.cluster.brokers.contains_key(&node);
        let roles = [(is_broker, "broker"), (self.is_voter(node), "controller")];
        roles.into_iter().filter(|(has, _)| *has).map(|(_, role)| role).collect()
    }

    fn nodes(&self) -> BTreeSet<BrokerId> {
        self.cluster.brokers.keys().copied().chain(self.missing.iter().copied()).collect()
    }

    fn as_json(&self) -> serde_json::Value {
        let node = |node: BrokerId| {
            let broker = self.cluster.brokers.get(&node);
            json!({
                "node": node.0,
                "address": broker.map(|broker| broker.address.to_string()),
                "rack": broker.and_then(|broker| broker.rack.as_deref()),
                "roles": self.roles(node),
                "up": self.is_up(node),
                "quorum_lag": self.lag(node),
            })
        };
        json!({
            "cluster_id": self.cluster.id,
            "controller": self.quorum.leader.map(|id| id.0),
            "controller_epoch": self.quorum.leader_epoch.0,
            "metadata_offset": self.quorum.high_watermark.0,
            "observers": self.quorum.observers.iter().map(|observer| observer.node.0).collect::<Vec<_>>(),
            "nodes": self.nodes().into_iter().map(node).collect::<Vec<_>>(),
            "partitions": self.partitions,
            "under_replicated": self.under_replicated,
            "offline": self.offline,
        })
    }

    fn as_text(&self) -> Vec<String> {
        let controller = self.quorum.leader.map_or_else(|| "none".to_owned(), |id| format!("node {id}"));
        let id = self.cluster.id.as_deref().unwrap_or("unknown");
        let mut lines = vec![format!("cluster {id}, controller {controller}, epoch {}", self.quorum.leader_epoch)];
        let mut table = Table::new(&["  NODE", "ADDRESS", "RACK", "ROLES", "STATE", "QUORUM LAG"]);
        for node in self.nodes() {
            let broker = self.cluster.brokers.get(&node);
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            table.push(vec![
                format!("  {node}"),
                text(broker.map(|broker| broker.address.to_string())),
                text(broker.and_then(|broker| broker.rack.clone())),
                self.roles(node).join(","),
                if self.is_up(node) { "up" } else { "not serving" }.to_owned(),
                text(self.lag(node).map(|lag| lag.to_string())),
            ]);
        }
        lines.extend(table.lines());
        lines.push(format!(
            "{}: {} under-replicated, {} offline",
            count(self.partitions, "partition"),
            self.under_replicated.len(),
            self.offline.len()
        ));
        lines.extend(named("under-replicated", &self.under_replicated));
        lines.extend(named("offline", &self.offline));
        lines
    }
}

/// So many partitions are named; the screen has an end.
const NAMED_MAX: usize = 10;

fn named(what: &str, partitions: &[String]) -> Option<String> {
    let first = partitions.get(..partitions.len().min(NAMED_MAX)).filter(|first| !first.is_empty())?;
    let more = partitions.len() - first.len();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Some(format!("  {what}: {}{more}", first.join(", ")))
}
