//! From a plan to a verdict.
//!
//! ```text
//! broker, clients, faults at their times  ->  heal  ->  everything finishes  ->  all logs are read
//!   ->  orderly stop  ->  the data directory is whole and nothing is left behind  ->  cold start  ->  all logs are read again
//! ```
//!
//! Invariants
//! - What is asserted follows from the plan's budget, decided before anything runs.
//! - After healing every wait has a bound: what takes longer is a violation of `liveness`.
//! - The verdict and the hash are functions of the plan (and of bugs that were switched on).
//!
//! Not here: what clients do ([`crate::workload`]), what must not be in what they saw ([`crate::check`]). Read `stage` next.

mod leftovers;
mod mirror;
mod outcome;
mod server;
mod stage;
mod twins;

use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

use quipu_base::BrokerId;
use quipu_broker::{Config as BrokerConfig, HostPort, Origin, Roles};
use quipu_sim::{DiskTiming, Latency, LinkSettings, NodeConfig, Sim, SimConfig, disk::DiskOptions};

use self::stage::{Played, Stage};
pub use self::{
    outcome::{Outcome, Tally},
    server::End,
};
use crate::{
    check,
    history::Recorder,
    plan::{Config, DATA_DIR, Plan},
    workload::PORT,
};

/// Where nodes listen for each other.
const PEER_PORT: u16 = 9192;

/// No run takes longer, in virtual time.
const TIME_LIMIT: Duration = Duration::from_secs(100 * 24 * 3600);

/// No run has more events: one that does goes round in circles.
pub const EVENTS_MAX: u64 = 2_000_000;

/// How to run a plan, beside what stands in it.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// Bugs to switch on.
    pub planted: BTreeSet<&'static str>,
    /// Whether to keep every event.
    pub keep_trace: bool,
    /// Whether to measure where the processor's time goes.
    pub profile: bool,
    /// A run with more events than this fails; [`EVENTS_MAX`] if not given.
    pub event_limit: Option<u64>,
}

impl Options {
    /// With these bugs switched on. Their names live as long as the process.
    #[must_use]
    pub fn with_planted(names: &[String]) -> Self {
        let planted = names.iter().map(|name| -> &'static str { Box::leak(name.clone().into_boxed_str()) }).collect();
        Self { planted, ..Self::default() }
    }
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan, options: &Options) -> Outcome {
    let plan = Arc::new(plan.clone());
    let config = SimConfig {
        time_limit: TIME_LIMIT,
        event_limit: options.event_limit.unwrap_or(EVENTS_MAX),
        keep_trace: options.keep_trace,
        profile: options.profile,
        link: LinkSettings { latency: latency(&plan.config) },
        disk_timing: DiskTiming {
            sync: Duration::from_micros(plan.config.sync_us),
            late_one_in: plan.config.late_disk_one_in,
            ..DiskTiming::default()
        },
        window_bytes: plan.config.window_bytes,
        buggify: plan.config.buggify,
        planted: options.planted.clone(),
        ..SimConfig::default()
    };
    let begun = crate::panics::listen();
    let recorder = Recorder::default();
    let played = Sim::new(plan.seed, config).try_run(|world| {
        let stage = Stage::new(&world, &plan, recorder.clone());
        async move { stage.play().await }
    });
    match played {
        Ok(mut report) => {
            let Played { history, violations, tally, loss } = core::mem::take(&mut report.value);
            let mut all = violations;
            all.extend(check::check(&history, loss));
            if plan.may_forget_producers() {
                all.retain(|violation| violation.checker != "duplicate");
            }
            Outcome::new(report, history, all, tally)
        }
        Err(failure) => {
            let place = begun.first().unwrap_or(failure.message);
            Outcome::panicked(*failure.until_then, recorder.take(), &place)
        }
    }
}

fn latency(config: &Config) -> Latency {
    Latency::Uniform {
        min: Duration::from_micros(config.latency_min_us),
        max: Duration::from_micros(config.latency_max_us),
    }
}

/// A node's machine.
pub(crate) fn node_config(config: &Config) -> NodeConfig {
    NodeConfig {
        shards: config.shards,
        disk: DiskOptions {
            capacity_bytes: None,
            direct: config.direct_io,
            torn_sectors: config.torn_sectors,
            garbage_tails: config.garbage_tails,
        },
        power_cut: config.power_cut,
        disk_timing: None,
    }
}

/// A node's configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn broker_config(config: &Config, node: u32) -> Result<BrokerConfig, String> {
    let mut broker = BrokerConfig {
        node_id: id(node),
        data_dir: DATA_DIR.into(),
        listen: HostPort { host: "0.0.0.0".into(), port: PORT },
        advertise: Some(HostPort { host: config.machine(node), port: PORT }),
        insecure_listen: true,
        wal_file_bytes: config.wal_file_bytes,
        metadata_snapshot_bytes: config.metadata_snapshot_bytes,
        memory_tail_bytes: config.memory_tail_bytes,
        memory_requests_bytes: config.memory_requests_bytes,
        memory_replies_bytes: config.memory_replies_bytes,
        ..BrokerConfig::default()
    };
    if config.is_cluster() {
        let peer = |node: u32| HostPort { host: config.machine(node), port: PEER_PORT };
        broker.peer_listen = Some(HostPort { host: "0.0.0.0".into(), port: PEER_PORT });
        broker.peer_advertise = Some(peer(node));
        broker.voters = config.voters().map(|voter| (id(voter), peer(voter))).collect();
        let votes = config.voters().any(|voter| voter == node);
        let serves = config.brokers().any(|broker| broker == node);
        broker.roles = match (serves, votes) {
            (true, true) => Roles::Both,
            (true, false) => Roles::Broker,
            (false, _) => Roles::Controller,
        };
        let place = usize::try_from(node - 1).unwrap_or(0);
        broker.rack = place.checked_rem(config.racks.len()).map(|index| config.racks[index].clone());
    }
    for (name, value) in &config.kafka {
        broker.apply_default(name, value, Origin::Flag(name.clone())).map_err(|error| error.message)?;
    }
    broker.check().map_err(|error| error.message)?;
    Ok(broker)
}

fn id(node: u32) -> BrokerId {
    BrokerId(node.cast_signed())
}

/// What the broker serves: Kafka's number and name of each request.
pub fn served_apis() -> impl Iterator<Item = (i16, String)> {
    quipu_protocol::ApiKey::ALL.iter().map(|api| (*api as i16, api.name().to_owned()))
}
