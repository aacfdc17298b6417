//! The machine on which copies of the broker's disk are looked at.
//!
//! Invariants
//! - A copy is what a power cut at that moment would leave, by chance of its own: the broker's chance is not touched.
//! - There are at most [`COPIES_MAX`] in a run, and one more at its end.
//!
//! Not here: what must hold in a copy ([`crate::copies`]).

use core::time::Duration;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use quipu_broker::Config as BrokerConfig;
use quipu_sim::{
    DiskTiming, Node, NodeConfig, World,
    disk::{KeepAll, LoseAll, PageChoices, RandomChoices},
};
use quipu_storage::StoreOptions;

use crate::{
    check::Violation,
    copies::{self, Expected, Served, Stored},
    inside::Findings,
    plan::{DATA_DIR, Plan, operation::Operation},
};

use super::{server::Server, stage::HURTS_DISK};

/// Copies that a run may look at before its end.
const COPIES_MAX: u64 = 24;

/// See the module. A clone is the same.
#[derive(Clone)]
pub(super) struct Mirror {
    node: Node,
    world: World,
    config: BrokerConfig,
    is_cluster: bool,
    may_be_gone: bool,
    may_forget: bool,
    count: Arc<AtomicU64>,
    stored: Arc<Mutex<Stored>>,
}

impl Mirror {
    pub(super) fn new(world: &World, plan: &Plan) -> Self {
        let deletes =
            |operation: &Operation| matches!(operation, Operation::Delete { .. } | Operation::Reassign { .. });
        // The sooner it is done with one copy, the closer to its event the next one is.
        let disk_timing = Some(DiskTiming { sync: Duration::from_micros(1), ..DiskTiming::default() });
        let node = NodeConfig { disk_timing, ..super::node_config(&plan.config) };
        let operations = plan.workload.clients.iter().flat_map(|client| &client.operations);
        Self {
            node: world.node("mirror", node),
            world: world.clone(),
            config: super::broker_config(&plan.config, 1).expect("the plan was checked"),
            is_cluster: plan.config.is_cluster(),
            may_be_gone: operations.clone().any(deletes),
            may_forget: plan.may_forget_producers(),
            count: Arc::default(),
            stored: Arc::default(),
        }
    }

    /// Whether another copy may be looked at.
    pub(super) fn is_wanted(&self) -> bool {
        self.count.load(Ordering::Relaxed) < COPIES_MAX
    }

    /// Copies the disk of a node, and looks at it. `served`: what clients were given until now. When the cluster `is_settled`, a node
    /// holds all that it is to hold.
    pub(super) async fn compare(
        &self,
        server: &Server,
        inside: &Findings,
        served: Served,
        is_settled: bool,
    ) -> Vec<Violation> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (promised, mut disk) = (inside.promised(&server.node), server.node.with_disk(|disk| disk.clone()));
        disk.clear_faults();
        disk.set_capacity(None);
        disk.set_crash_plan(None);
        match number % 4 {
            0 => disk.power_cut(&mut LoseAll),
            1 => disk.power_cut(&mut KeepAll),
            2 => disk.power_cut(&mut PageChoices::new(self.world.rng(&format!("mirror {number}")))),
            _ => disk.power_cut(&mut RandomChoices::new(self.world.rng(&format!("mirror {number}")))),
        }
        // A machine that has no data directory yet has promised nothing.
        if disk.list(Path::new(DATA_DIR)).is_err() {
            return Vec::new();
        }
        // The run may have given up waiting for the one before.
        self.node.kill();
        self.node.with_disk(|mirrored| *mirrored = disk);
        let stored = core::mem::take(&mut *self.stored());
        let (may_be_gone, may_forget) = (self.may_be_gone, self.may_forget);
        let is_replica = self.is_cluster && !is_settled;
        let may_be_damaged = self.is_cluster && server.has_met(HURTS_DISK);
        let hurt = server.hurt();
        let expected = Expected { promised, is_replica, may_be_damaged, hurt, may_be_gone, may_forget, stored, served };
        let options = StoreOptions {
            wal_file_bytes: self.config.wal_file_bytes,
            tail_bytes: self.config.memory_tail_bytes,
            ..StoreOptions::new(DATA_DIR, super::id(server.number))
        };
        match self.node.start(|env| copies::compare(env, options, expected)).join().await {
            Ok((stored, mut violations)) => {
                *self.stored() = stored;
                if self.is_cluster {
                    violations
                        .iter_mut()
                        .for_each(|found| found.message = format!("{}: {}", server.name, found.message));
                }
                violations
            }
            Err(down) => {
                vec![Violation::new("copy-opens", format!("whoever opens what a power cut would leave: {down}"))]
            }
        }
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
