//! Second processes that say they are a node of the cluster: on another machine, with another data directory.
//!
//! | the node | its twin |
//! |---|---|
//! | serves, and nothing else goes wrong | is refused, and told which directory serves; the node does not notice |
//! | is away for longer than its session | may take its place; then it is the node that stops and is refused, until the twin is gone |
//!
//! Invariant: a twin begins only when its node has served once. Before, while the quorum is founded, nobody can tell which of the two
//! is meant, and both are right to stop.
//!
//! Not here: what must hold of the cluster meanwhile, which is what always must.

use core::time::Duration;

use quipu_env::Fatal;
use quipu_sim::{Down, World, disk::RandomChoices, fault::Fault};
use quipu_storage::OpenError;

use super::server::{End, Server};
use crate::{
    check::Violation,
    plan::{DATA_DIR, Plan},
};

/// The exit status of a process that has to be set up otherwise.
const STATUS_REFUSED: u8 = 78;
/// Who is refused is told within this time: the session of a directory that was replaced must be over before, and most voters are to
/// agree.
const TOLD: Duration = Duration::from_millis(11_500);
/// How often to look.
const LOOKS: Duration = Duration::from_millis(5);

/// A second process of a node, and when it is there.
#[derive(Clone)]
pub(super) struct Twin {
    pub(super) server: Server,
    /// The machine of the node.
    of: String,
    at: Duration,
    lasts: Duration,
    is_copied: bool,
    /// Nothing can take the node's place from it.
    is_judged: bool,
}

impl Twin {
    /// Those of a plan, each with a machine.
    pub(super) fn all(world: &World, plan: &Plan) -> Vec<Self> {
        let mut twins = Vec::new();
        for timed in &plan.faults {
            let Fault::Twin { node, copied, .. } = &timed.fault else { continue };
            let Some(number) = plan.config.all_nodes().find(|number| plan.config.machine(*number) == *node) else {
                continue;
            };
            let name = format!("twin-{}", twins.len() + 1);
            let others_vote = plan.config.voters().any(|voter| voter != number);
            let others_serve = plan.config.brokers().any(|broker| broker == number);
            let is_alone = plan.faults.iter().all(|timed| matches!(timed.fault, Fault::Twin { .. }));
            twins.push(Self {
                server: Server::twin(world, plan, number, &name),
                of: node.clone(),
                at: Duration::from_millis(timed.at_ms),
                lasts: timed.fault.lasts(),
                is_copied: *copied,
                is_judged: is_alone && others_vote && others_serve,
            });
        }
        twins
    }

    /// Whether it may still be up, or come up.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now < self.at + self.lasts && !self.server.has_ended()
    }

    /// Starts it at its time, next to `node`, and ends it when its time is over. Answers what is wrong, if something is.
    pub(super) async fn play(&self, world: &World, node: &Server) -> Option<Violation> {
        world.sleep(self.at.saturating_sub(world.elapsed())).await;
        let until = world.elapsed() + self.lasts;
        while !node.is_ready() {
            world.sleep(LOOKS).await;
        }
        if self.is_copied {
            self.copy(world, node).await;
        }
        let begun = world.elapsed();
        if begun >= until {
            return None;
        }
        self.server.start();
        let end = tokio::select! { biased;
            end = self.server.ended() => Some(end),
            () = world.sleep(until.saturating_sub(begun)) => None,
        };
        let is_told = matches!(end, Some(End::Refused { exit_status: STATUS_REFUSED, .. }));
        if is_told || self.server.is_ready() {
            world.fault_happened("twin");
        }
        self.server.node.kill();
        self.judge(end.as_ref(), world.elapsed().saturating_sub(begun))
    }

    /// The node's disk, as a power cut would leave it, with another id.
    async fn copy(&self, world: &World, node: &Server) {
        let mut disk = node.node.with_disk(|disk| disk.clone());
        disk.clear_faults();
        disk.set_crash_plan(None);
        disk.power_cut(&mut RandomChoices::new(world.rng(&self.server.name)));
        self.server.node.with_disk(|empty| *empty = disk);
        let give = |env| async move { quipu_storage::reidentify(&env, DATA_DIR.as_ref()).await.map(drop) };
        if let Ok(Err(OpenError::Damaged { .. }) | Ok(())) = self.server.node.start(give).join().await {
            return;
        }
        // What it could not be given an id on is left out.
        self.server
            .node
            .with_disk(|disk| *disk = quipu_sim::disk::DiskModel::new(quipu_sim::disk::DiskOptions::default()));
    }

    /// By the nodes that it called, or by the controller.
    fn says_why(&self, why: &str) -> bool {
        let number = self.server.number;
        why.contains(&format!("node id {number} is in use"))
            || why.contains(&format!("Broker {number} is already serving"))
    }

    fn judge(&self, end: Option<&End>, was_up: Duration) -> Option<Violation> {
        let (name, of) = (&self.server.name, &self.of);
        let found =
            |message: String| Some(Violation::new("identity", format!("{name}, which says it is {of}: {message}")));
        match end {
            // The node may take back what the twin has taken.
            Some(End::Down(Down::Halted { why: Fatal::Replaced, .. })) if !self.is_judged => None,
            Some(End::Down(down @ Down::Halted { .. })) => found(format!("it ended by itself: {down}")),
            _ if !self.is_judged => None,
            _ if self.server.is_ready() => found("it was let in while that served".to_owned()),
            Some(End::Refused { why, .. }) if !self.says_why(why) => found(format!("it was not told why: {why}")),
            None if was_up >= TOLD => found(format!("nobody has told it within {was_up:?}")),
            _ => None,
        }
    }
}
