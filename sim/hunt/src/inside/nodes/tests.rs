//! Hand-made events of three nodes: what may be passes, and each check tells what may not.

use super::*;

type Fields = Vec<(&'static str, i64)>;

struct Script {
    nodes: Nodes,
    at: u64,
    is_durable: bool,
}

impl Script {
    /// Node 1 leads in epoch 1, and what it has appended is durable on nodes 1 and 2.
    fn new() -> Self {
        let mut script = Self { nodes: Nodes::default(), at: 0, is_durable: true };
        for node in 1..=3 {
            script.tell(node, "store.opened", vec![]);
            script.of_log(node, "replica.opened", vec![("high-watermark", 0)]);
        }
        script.activated(1, 1, 0);
        for node in 1..=3 {
            script.append(node, 0, 5);
        }
        script.durable(1).durable(2);
        script
    }

    fn tell(&mut self, node: u64, name: &'static str, fields: Fields) -> &mut Self {
        self.at += 1;
        let is_durable = self.is_durable;
        self.nodes.see(&ProbeEvent { at: self.at, node, name, fields }, &|_, _| is_durable);
        self
    }

    fn of_log(&mut self, node: u64, name: &'static str, mut fields: Fields) -> &mut Self {
        fields.extend([("topic", 1), ("partition", 0)]);
        self.tell(node, name, fields)
    }

    fn append(&mut self, node: u64, base: i64, end: i64) -> &mut Self {
        self.of_log(node, "log.appended", vec![("base", base), ("end", end), ("ticket", end)])
    }

    fn durable(&mut self, node: u64) -> &mut Self {
        self.tell(node, "wal.durable", vec![("ticket", 100), ("file", 0), ("position", 0), ("length", 4096)])
    }

    fn activated(&mut self, node: u64, epoch: i64, start: i64) -> &mut Self {
        self.of_log(node, "replica.activated", vec![("epoch", epoch), ("start", start)])
    }

    fn commits(&mut self, node: u64, epoch: i64, high_watermark: i64, leads: bool) -> &mut Self {
        let fields = vec![
            ("epoch", epoch),
            ("leads", leads.into()),
            ("quorum", 2),
            ("high-watermark", high_watermark),
            ("idle", 1),
        ];
        self.of_log(node, "replica.high-watermark", fields)
    }

    fn told(&mut self, node: u64, shown: i64, told: i64) -> &mut Self {
        self.of_log(node, "broker.committed", vec![("high-watermark", shown), ("told", told)])
    }

    fn found(&self) -> Vec<&str> {
        self.nodes.violations.iter().map(|violation| violation.checker.as_str()).collect()
    }
}

#[test]
fn a_quorum_that_commits_and_a_leader_that_follows_another_are_right() {
    let mut script = Script::new();
    script.commits(1, 1, 5, true).told(1, 5, 5).commits(2, 1, 5, false);
    script.activated(2, 2, 5).append(2, 5, 7).append(1, 5, 7).durable(2).durable(1).commits(2, 2, 7, true);
    assert!(script.found().is_empty(), "{:?}", script.nodes.violations);
    let holders = [((1, 0), [1_u64, 2])];
    let behind = script.nodes.behind(holders.iter().map(|(log, nodes)| (*log, nodes.as_slice())));
    assert!(behind.is_some_and(|why| why.contains("machine 1 knows of 5")));
    assert_eq!(script.nodes.promised(1), Promised::from([((1, 0), 5)]));
}

#[test]
fn each_check_tells_what_must_not_be() {
    let found = |change: &dyn Fn(&mut Script)| {
        let mut script = Script::new();
        change(&mut script);
        script.found().iter().map(|checker| (*checker).to_owned()).collect::<Vec<_>>()
    };
    let few = |script: &mut Script| {
        script.append(1, 5, 9).append(2, 5, 9).durable(1).commits(1, 1, 9, true);
    };
    assert_eq!(found(&few), ["quorum"]);
    let back = |script: &mut Script| {
        script.commits(2, 1, 5, false).commits(2, 1, 4, false);
    };
    assert_eq!(found(&back), ["high-watermark"]);
    let two = |script: &mut Script| {
        script.activated(2, 1, 5);
    };
    assert_eq!(found(&two), ["two-leaders"]);
    let again = |script: &mut Script| {
        script.tell(1, "store.opened", vec![]).activated(1, 1, 5);
    };
    assert_eq!(found(&again), ["two-leaders"]);
    let incomplete = |script: &mut Script| {
        script.commits(1, 1, 5, true).activated(3, 2, 3);
    };
    assert_eq!(found(&incomplete), ["leader-completeness"]);
    let overtaken = |script: &mut Script| {
        script.activated(3, 2, 3).commits(1, 1, 5, true);
    };
    assert_eq!(found(&overtaken), ["leader-completeness"]);
    let cut = |script: &mut Script| {
        script.commits(2, 1, 5, false).append(2, 4, 6);
    };
    assert_eq!(found(&cut), ["committed-cut"]);
    let early = |script: &mut Script| {
        script.append(1, 5, 9).commits(1, 1, 5, true).told(1, 5, 9);
    };
    assert_eq!(found(&early), ["durable-acknowledgement"]);
    let ahead = |script: &mut Script| {
        script.told(1, 5, 5);
    };
    assert_eq!(found(&ahead), ["high-watermark"]);
    let lost = |script: &mut Script| {
        script.is_durable = false;
        script.durable(3);
    };
    assert_eq!(found(&lost), ["durable"]);
}
