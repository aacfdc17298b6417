//! The same world under `stateright`: every order of a few steps, for two and three nodes.
//!
//! A message that is never delivered is lost, so there is no step for losing one. Time stands still: what needs it is left to the drawn
//! schedules. `QUIPU_REPLICATION_STATES` raises the number of states for a soak.

use quipu_replication::RoleKind;
use stateright::{Checker, Model, Property};

use crate::{controller::node_id, probe::TestProbe, world::World};

/// How often each kind of step may still be taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budget {
    pub(crate) records: u8,
    pub(crate) elections: u8,
    pub(crate) crashes: u8,
    /// Changes of `min.insync.replicas`.
    pub(crate) minimums: u8,
    pub(crate) fences: u8,
    pub(crate) copies: u8,
}

pub(crate) const NOTHING: Budget = Budget { records: 0, elections: 0, crashes: 0, minimums: 0, fences: 0, copies: 0 };

#[derive(Clone)]
pub(crate) struct Small {
    pub(crate) nodes: usize,
    pub(crate) insync_replicas_min: usize,
    pub(crate) budget: Budget,
    /// What has happened before.
    pub(crate) before: fn(&mut World),
    pub(crate) planted: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    world: World,
    left: Budget,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    Deliver(usize),
    /// Delivers, and leaves the message where it is.
    DeliverCopy(usize),
    Sync(usize),
    ReadMetadata(usize),
    Produce(usize),
    Elect(usize),
    Crash(usize),
    Start(usize),
    Minimum(usize),
    Fence(usize),
    Unfence(usize),
    Control,
    Answer,
}

impl Model for Small {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let probe = TestProbe { planted: self.planted, marks: None };
        let mut world = World::started(self.nodes, self.nodes, self.insync_replicas_min, probe);
        (self.before)(&mut world);
        vec![State { world, left: self.budget }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let State { world, left } = state;
        if world.checker.violation.is_some() {
            return;
        }
        steps.extend((0..world.network.len()).map(Step::Deliver));
        if left.copies > 0 {
            steps.extend((0..world.network.len()).map(Step::DeliverCopy));
        }
        for node in world.node_numbers() {
            let this = world.node(node);
            if !world.is_up(node) {
                steps.push(Step::Start(node));
                continue;
            }
            if !this.disk.under_way.is_empty() {
                steps.push(Step::Sync(node));
            }
            if this.seen + 1 < world.controller.log.len() {
                steps.push(Step::ReadMetadata(node));
            }
            if left.records > 0 && world.replica(node).role() == RoleKind::Leader {
                steps.push(Step::Produce(node));
            }
            if left.elections > 0 && world.controller.now().record.leader != Some(node_id(node)) {
                steps.push(Step::Elect(node));
            }
            if left.crashes > 0 {
                steps.push(Step::Crash(node));
            }
            if left.fences > 0 && world.is_in_service(node) {
                steps.push(Step::Fence(node));
            }
            if !world.is_in_service(node) {
                steps.push(Step::Unfence(node));
            }
        }
        if left.minimums > 0 {
            let present = world.controller.now().insync_replicas_min;
            steps.extend((1..=self.nodes).filter(|min| *min != present).map(Step::Minimum));
        }
        if !world.asks.is_empty() {
            steps.push(Step::Control);
        }
        if !world.answers.is_empty() {
            steps.push(Step::Answer);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let State { world, left } = &mut state;
        match step {
            Step::Deliver(index) => world.deliver(index),
            Step::DeliverCopy(index) => {
                left.copies -= 1;
                let packet = world.network[index].clone();
                world.deliver_packet(packet);
            }
            Step::Sync(node) => world.sync(node, 1),
            Step::ReadMetadata(node) => world.inform(&[node]),
            Step::Produce(node) => {
                left.records -= 1;
                world.produce(node, 1);
            }
            Step::Elect(node) => {
                left.elections -= 1;
                world.controller.elect(Some(node_id(node)));
            }
            Step::Crash(node) => {
                left.crashes -= 1;
                world.crash(node, 0);
            }
            Step::Start(node) => world.start_fully(node),
            Step::Minimum(min) => {
                left.minimums -= 1;
                world.controller.change(|image| image.insync_replicas_min = min);
            }
            Step::Fence(node) => {
                left.fences -= 1;
                world.fence(node);
            }
            Step::Unfence(node) => world.unfence_again(node),
            Step::Control => world.control(0, false),
            Step::Answer => world.answer(0),
        }
        // The order of messages under way is no part of the state.
        world.network.sort();
        world.network.dedup();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("nothing is violated", |_, state: &State| state.world.checker.violation.is_none())]
    }
}

/// What is violated within `states` states, if anything, and how many were seen.
pub(crate) fn check(model: Small, states: usize, breadth_first: bool) -> (Option<String>, usize) {
    let builder = model.checker().target_state_count(states);
    let (path, count) = if breadth_first {
        let checker = builder.spawn_bfs().join();
        (checker.discovery("nothing is violated"), checker.unique_state_count())
    } else {
        let checker = builder.spawn_dfs().join();
        (checker.discovery("nothing is violated"), checker.unique_state_count())
    };
    let violation = path.and_then(|path| path.last_state().world.checker.violation.clone());
    (violation, count)
}

pub(crate) fn states() -> usize {
    std::env::var("QUIPU_REPLICATION_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(12_000)
}

pub(crate) fn nothing_before(_world: &mut World) {}

/// A record that nodes 1 and 2 have, node 1 is down, node 3 is elected.
pub(crate) fn committed_before_an_election(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2]);
    world.crash(1, 0);
    world.controller.elect(Some(node_id(3)));
}

/// A record and a seal of node 3 are both on their way to node 2.
pub(crate) fn record_and_seal_under_way(world: &mut World) {
    world.produce(1, 1);
    world.controller.elect(Some(node_id(3)));
    world.inform(&[3]);
    world.sync_all(3);
    world.network.retain(|packet| packet.to == 2);
}

/// Records of two epochs, of which none is committed.
pub(crate) fn two_epochs_before(world: &mut World) {
    world.produce(1, 2);
    world.exchange(&[1]);
    world.lead_among(2, &[2, 3]);
    world.produce(2, 1);
    world.exchange(&[2]);
}

#[test]
fn every_order_of_a_few_steps_violates_nothing() {
    type Space = (usize, usize, Budget, fn(&mut World));
    let base = Budget { records: 1, elections: 1, ..NOTHING };
    let spaces: [Space; 9] = [
        (2, 2, Budget { crashes: 1, ..base }, nothing_before),
        (2, 1, Budget { minimums: 1, ..base }, nothing_before),
        (2, 1, Budget { fences: 1, records: 2, ..base }, nothing_before),
        (3, 2, base, nothing_before),
        (3, 2, Budget { minimums: 1, elections: 0, ..base }, nothing_before),
        (3, 3, Budget { crashes: 1, copies: 1, ..base }, nothing_before),
        (3, 2, base, committed_before_an_election),
        (3, 2, NOTHING, record_and_seal_under_way),
        (3, 2, base, two_epochs_before),
    ];
    for (nodes, insync_replicas_min, budget, before) in spaces {
        for breadth_first in [true, false] {
            let small = Small { nodes, insync_replicas_min, budget, before, planted: None };
            let (violation, count) = check(small, states(), breadth_first);
            println!("{nodes} nodes, min {insync_replicas_min}, {budget:?}: {count} states");
            assert_eq!(violation, None, "{nodes} nodes, min {insync_replicas_min}, {budget:?}");
            assert!(count > 500, "a space of {count} states is too small to tell anything");
        }
    }
}
