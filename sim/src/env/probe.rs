//! What the simulation sees of product code.

use quipu_env::Probe;
use rand::RngExt;

use super::Context;
use crate::{
    seed::{hash_of, stream},
    trace::{Happening, ProbeEvent},
    world::World,
};

/// Records what product code tells, and answers as the run's configuration has it.
#[derive(Clone)]
pub struct SimProbe {
    context: Context,
}

impl SimProbe {
    pub(super) const fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Probe for SimProbe {
    fn event(&self, name: &'static str, fields: &[(&'static str, i64)]) {
        if self.context.is_over() {
            return;
        }
        let mut bytes = name.as_bytes().to_vec();
        for (field, value) in fields {
            bytes.extend_from_slice(field.as_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.context.record("event", hash_of(&bytes));
        let world = &self.context.world;
        let (at, node) = (world.now(), self.context.node.number as u64);
        world.tell(|at| Happening::Probe { at, node, name, fields: fields.to_vec() });
        world.probe_event(ProbeEvent { at, node, name, fields: fields.to_vec() });
    }

    fn sometimes(&self, name: &'static str) {
        if !self.context.is_over() {
            let node = self.context.node.number as u64;
            self.context.world.tell(|at| Happening::Mark { at, node, name });
            self.context.world.with_trace(|trace| *trace.marks.entry(name).or_insert(0) += 1);
        }
    }

    /// In each run a quarter of the places are switched on, and then answer yes one time in four.
    fn buggify(&self, name: &'static str) -> bool {
        let World(shared) = &self.context.world;
        if !shared.config.buggify || self.context.is_over() {
            return false;
        }
        let name_hash = hash_of(name.as_bytes());
        let switched_on = stream(shared.seed, "buggify place", &[name_hash]).random_range(0..4) == 0;
        if !switched_on {
            return false;
        }
        let life = &self.context.life;
        let count = life.count("buggify", name);
        let place = [name_hash, self.context.node.number as u64, life.number, count];
        let is_on = stream(shared.seed, "buggify", &place).random_range(0..4) == 0;
        if is_on {
            self.context.world.with_trace(|trace| *trace.buggified.entry(name).or_insert(0) += 1);
        }
        is_on
    }

    fn planted(&self, name: &'static str) -> bool {
        self.context.world.0.config.planted.contains(name)
    }

    fn crash_point(&self, name: &'static str) {
        if self.context.is_over() {
            return;
        }
        self.context.record("crash point", hash_of(name.as_bytes()));
        let node = self.context.node.number as u64;
        self.context.world.tell(|at| Happening::CrashPoint { at, node, name });
        self.context.world.with_trace(|trace| *trace.crash_points_passed.entry(name).or_insert(0) += 1);
        if let Some((down, kind)) = self.context.node.crash_at(name) {
            self.context.world.with_trace(|trace| *trace.crash_points.entry(name).or_insert(0) += 1);
            kind.into_iter().for_each(|kind| self.context.world.fault_happened(kind));
            self.context.end_process(down);
        }
    }
}
