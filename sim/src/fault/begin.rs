//! What faults do.
//!
//! Each fault under way has a number. Ways, clocks and conditions keep what it changes under that number, so that its end takes
//! back that and nothing else.

use core::{task::Waker, time::Duration};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{Fault, FaultError, How, Place};
use crate::{
    crashes::Chain,
    disk::{self, Count, CrashPlan, FaultRule, RandomChoices},
    env::StalledTask,
    net::{DoorFault, EndpointId, LinkFault},
    node::{Down, Node, NodeShared, PowerLoss},
    seed::{hash_of, stream},
    trace::Happening,
    world::{World, lock},
};

type End = Box<dyn FnOnce(&World) + Send>;

/// Faults under way.
#[derive(Default)]
pub(crate) struct Faults {
    count: u64,
    /// What ends each that lasts.
    active: BTreeMap<u64, End>,
}

impl World {
    /// Begins a fault now. One that lasts ends by itself, or with [`Self::heal`].
    ///
    /// # Errors
    /// If a machine is unknown or a value makes no sense; then nothing has begun.
    pub fn begin(&self, fault: &Fault) -> Result<(), FaultError> {
        fault.check()?;
        let ways = match fault.ways() {
            Some((from, to, one_way)) => {
                let from = fault.machines(self, "from", from)?;
                Some(Ways { from, to: fault.machines(self, "to", to)?, one_way })
            }
            None => None,
        };
        let node = fault.node().map(|name| fault.machine(self, "node", name)).transpose()?;
        let storm = match fault {
            Fault::ConnectionStorm { from, to, .. } => {
                Some((fault.machine(self, "from", from)?, fault.machine(self, "to", to)?))
            }
            _ => None,
        };
        let begun = Begun { world: self, fault, number: self.count_fault(fault) };
        match (ways, node, storm) {
            (Some(ways), _, _) => begun.between(&ways),
            (_, Some(node), _) => begun.at(&node),
            (_, _, Some((from, to))) => begun.storm(&from, &to),
            (None, None, None) => unreachable!("every fault has machines"),
        }
        Ok(())
    }

    fn count_fault(&self, fault: &Fault) -> u64 {
        let number = {
            let mut faults = lock(&self.0.faults);
            faults.count += 1;
            faults.count
        };
        self.record(None, "fault", hash_of(fault.kind().as_bytes()) ^ number);
        self.with_trace(|trace| trace.fault(fault.kind()).begun += 1);
        self.tell(|at| Happening::Fault { at, number, fault: fault.clone() });
        number
    }

    /// Ends everything that still lasts: faults, cuts, stalls, rules for the disk, ends that wait for their place. What is lost
    /// stays lost, a clock that has stepped stays wrong, and a process that is down is not started.
    pub fn heal(&self) {
        let active = core::mem::take(&mut lock(&self.0.faults).active);
        self.record(None, "heal", active.len() as u64);
        self.tell(|at| Happening::Heal { at });
        active.into_values().for_each(|end| end(self));
        self.with_net(crate::net::NetModel::join_all);
        for shared in self.nodes() {
            let node = Node::new(self.clone(), shared);
            node.resume();
            node.shared().disarm();
            node.shared().stall_disk_until(0);
            node.with_disk(disk::DiskModel::clear_faults);
        }
    }

    /// Keeps how a fault ends, and ends it when its time is over.
    fn lasts(&self, number: u64, lasts_ms: u64, end: impl FnOnce(&Self) + Send + 'static) {
        lock(&self.0.faults).active.insert(number, Box::new(end));
        self.schedule(self.after(Duration::from_millis(lasts_ms)), move |world| world.end_fault(number));
    }

    fn end_fault(&self, number: u64) {
        let end = lock(&self.0.faults).active.remove(&number);
        if let Some(end) = end {
            self.record(None, "fault over", number);
            self.tell(|at| Happening::FaultOver { at, number });
            end(self);
        }
    }
}

/// Machines at both sides of a fault.
struct Ways {
    from: Vec<Node>,
    to: Vec<Node>,
    one_way: bool,
}

impl Ways {
    /// Each way once.
    fn each(&self) -> Vec<(usize, usize)> {
        let mut ways = Vec::new();
        for (from, to) in self.from.iter().flat_map(|from| self.to.iter().map(move |to| (from.number(), to.number()))) {
            ways.push((from, to));
            if !self.one_way {
                ways.push((to, from));
            }
        }
        ways.sort_unstable();
        ways.dedup();
        ways
    }

    fn sides(&self) -> (Vec<usize>, Vec<usize>) {
        (self.from.iter().map(Node::number).collect(), self.to.iter().map(Node::number).collect())
    }
}

/// A fault that begins.
struct Begun<'a> {
    world: &'a World,
    fault: &'a Fault,
    number: u64,
}

impl Begun<'_> {
    fn lasts(&self, end: impl FnOnce(&World) + Send + 'static) {
        self.world.lasts(self.number, self.fault.lasts_ms().unwrap_or(0), end);
    }

    fn between(&self, ways: &Ways) {
        let (these, those) = ways.sides();
        let link_fault = match self.fault {
            Fault::Latency { latency, .. } => LinkFault::Latency(latency.clone()),
            Fault::Loss { percent, .. } => LinkFault::Loss { percent: *percent },
            Fault::Partition { .. } => LinkFault::Cut,
            Fault::Clog { queue_bytes, .. } => LinkFault::Clog { queue_bytes: *queue_bytes },
            Fault::SlowLink { bytes_per_second, .. } => LinkFault::Slow { bytes_per_second: *bytes_per_second },
            Fault::Segments { bytes_max, .. } => LinkFault::Segments { bytes_max: *bytes_max },
            Fault::ZeroWindow { .. } => LinkFault::ZeroWindow,
            Fault::Reset { after_bytes, .. } => {
                return self.world.with_net(|net| net.reset_between(&these, &those, *after_bytes));
            }
            Fault::Fin { .. } => return self.world.with_net(|net| net.finish_between(&these, &those)),
            Fault::HalfOpen { .. } => return self.world.with_net(|net| net.deaden_between(&these, &those)),
            Fault::LateSegments { delay_ms, .. } => {
                let until = self.world.after(Duration::from_millis(*delay_ms));
                let hold = |(from, to)| self.world.with_net(|net| net.hold_back(from, to, until));
                return ways.each().into_iter().for_each(hold);
            }
            _ => unreachable!("no other fault lies between machines"),
        };
        let number = self.number;
        for (from, to) in ways.each() {
            self.world.with_net(|net| net.begin_link_fault(number, from, to, link_fault.clone()));
        }
        self.lasts(move |world| world.with_net(|net| net.end_faults(number)));
    }

    fn at(&self, node: &Node) {
        if self.fault.rule().is_some() {
            return self.rule(node);
        }
        match self.fault {
            Fault::ConnectSilence { .. } => self.door(node, DoorFault::Silence),
            Fault::ConnectRefusal { .. } => self.door(node, DoorFault::Refusal),
            Fault::Pause { .. } | Fault::StallTask { .. } => self.hold_tasks(node),
            Fault::ClockStep { .. }
            | Fault::ClockSkew { .. }
            | Fault::ClockDrift { .. }
            | Fault::ClockFreeze { .. } => self.clock(node),
            Fault::SlowCpu { .. } | Fault::SlowDisk { .. } | Fault::FewDescriptors { .. } => self.condition(node),
            Fault::BitRot { .. } | Fault::Unreadable { .. } => self.rot(node),
            Fault::FullDisk { free_bytes, .. } => {
                node.with_disk(|disk| disk.squeeze(Some(*free_bytes)));
                let node = Arc::clone(node.shared());
                self.lasts(move |world| node.with_disk(world, |disk| disk.squeeze(None)));
            }
            Fault::DiskStall { lasts_ms, .. } => {
                node.stall_disk(Duration::from_millis(*lasts_ms));
                let node = Arc::clone(node.shared());
                self.lasts(move |_| node.stall_disk_until(0));
            }
            Fault::Twin { .. } => self.lasts(|_| {}),
            _ => self.end_process(node),
        }
    }

    fn door(&self, node: &Node, fault: DoorFault) {
        let number = self.number;
        self.world.with_net(|net| net.begin_door_fault(number, node.number(), fault));
        self.lasts(move |world| world.with_net(|net| net.end_faults(number)));
    }

    fn end_process(&self, node: &Node) {
        let kind = self.fault.kind();
        let shared = Arc::clone(node.shared());
        match self.fault {
            Fault::Kill { down_ms, times, up_ms, .. } => {
                let pause = Duration::from_millis(down_ms.saturating_add(*up_ms));
                kill(self.world, self.number, shared, *times, pause);
            }
            Fault::PowerCut { keep, torn_sectors, garbage_tails, .. } => {
                let (keep, torn_sectors, garbage_tails) = (*keep, *torn_sectors, *garbage_tails);
                shared.power_cut(self.world, Some(PowerLoss { keep, torn_sectors, garbage_tails }));
                self.world.fault_happened(kind);
            }
            Fault::WipedDisk { .. } => {
                shared.power_cut(self.world, None);
                if !node.with_disk(|disk| disk.is_empty()) {
                    self.world.fault_happened(kind);
                }
                node.with_disk(|disk| disk.replace(None));
            }
            Fault::StaleSnapshot { age_ms, .. } => self.go_back_later(node, *age_ms),
            Fault::CrashAt { point, skip, how, again, .. } => {
                let down = if *how == How::Kill { Down::Killed } else { Down::PowerCut };
                shared.arm_point(point.clone(), *skip, chain(down, kind, again));
            }
            Fault::CrashAtDisk { at, moment, again, .. } => {
                let plan = CrashPlan { count: Count::Changes, at: *at, moment: *moment };
                shared.arm_disk(plan, chain(Down::PowerCut, kind, again));
            }
            Fault::Stop { .. } => {}
            _ => unreachable!("every fault of a machine is dealt with"),
        }
    }

    fn go_back_later(&self, node: &Node, age_ms: u64) {
        let mut snapshot = node.with_disk(|disk| disk.clone());
        let mut choices = RandomChoices::new(stream(self.world.seed(), "stale snapshot", &[self.number]));
        snapshot.power_cut(&mut choices);
        let (number, node) = (self.number, Arc::clone(node.shared()));
        lock(&self.world.0.faults).active.insert(number, Box::new(|_| {}));
        self.world.schedule(self.world.after(Duration::from_millis(age_ms)), move |world| {
            if lock(&world.0.faults).active.remove(&number).is_some() {
                node.power_cut(world, None);
                node.with_disk(world, |disk| disk.replace(Some(snapshot)));
                world.fault_happened("stale-snapshot");
            }
        });
    }

    fn hold_tasks(&self, node: &Node) {
        let (number, node) = (self.number, Arc::clone(node.shared()));
        if let Fault::StallTask { task, index, .. } = self.fault {
            let stalled = node.life().and_then(|life| life.tasks.stall(task, *index));
            return self.lasts(move |_| stalled.into_iter().for_each(StalledTask::go_on));
        }
        node.condition(|condition| condition.pause(number));
        self.lasts(move |_| node.condition(|condition| condition.resume(number)).into_iter().for_each(Waker::wake));
    }

    fn clock(&self, node: &Node) {
        let (number, now) = (self.number, self.world.now());
        let mut clock = lock(&node.shared().clock);
        match self.fault {
            Fault::ClockStep { by_ms, .. } => return clock.step(*by_ms),
            Fault::ClockSkew { by_ms, .. } => clock.skew(number, *by_ms),
            Fault::ClockDrift { ppm, .. } => clock.drift(now, number, *ppm),
            Fault::ClockFreeze { .. } => clock.freeze(now, number),
            _ => unreachable!("no other fault concerns clocks"),
        }
        drop(clock);
        let node = Arc::clone(node.shared());
        self.lasts(move |world| lock(&node.clock).end(world.now(), number));
    }

    fn condition(&self, node: &Node) {
        let (number, node) = (self.number, Arc::clone(node.shared()));
        let open = open_descriptors(self.world, &node);
        node.condition(|condition| match self.fault {
            Fault::SlowCpu { step_us, .. } => condition.slow_cpu(number, step_us.saturating_mul(1000)),
            Fault::SlowDisk { factor, .. } => condition.slow_disk(number, *factor),
            Fault::FewDescriptors { spare, .. } => condition.limit_descriptors(number, open.saturating_add(*spare)),
            _ => unreachable!("no other fault concerns the condition"),
        });
        self.lasts(move |_| node.condition(|condition| condition.end(number)));
    }

    fn rule(&self, node: &Node) {
        let Some(rule) = self.fault.rule() else { return };
        let fault = match self.fault {
            Fault::SyncFails { .. } => disk::Fault::SyncFails,
            Fault::SyncLies { .. } => disk::Fault::SyncLies,
            Fault::ReadFails { .. } => disk::Fault::ReadFails,
            Fault::WriteFails { .. } => disk::Fault::WriteFails,
            Fault::ShortRead { .. } => disk::Fault::ReadIsShort,
            Fault::PhantomWrite { .. } => disk::Fault::WriteIsLost,
            Fault::MisdirectedWrite { by_blocks, .. } => disk::Fault::WriteGoesAstray { by_blocks: *by_blocks },
            _ => unreachable!("no other fault is a rule"),
        };
        node.inject(FaultRule { fault, below: PathBuf::from(rule.below), skip: rule.skip, times: rule.times });
    }

    fn rot(&self, node: &Node) {
        let (Fault::BitRot { below, file, place_ppm, .. } | Fault::Unreadable { below, file, place_ppm, .. }) =
            self.fault
        else {
            unreachable!("no other fault is rot");
        };
        let files = node.with_disk(|disk| disk.files_below(Path::new(below)));
        let Some(index) = usize::try_from(*file).ok().and_then(|file| file.checked_rem(files.len())) else { return };
        let path = &files[index];
        let length = node.with_disk(|disk| disk.file_size(path)).unwrap_or(0);
        let place = u64::try_from(u128::from(length) * u128::from(*place_ppm) / 1_000_000).unwrap_or(0);
        match self.fault {
            Fault::Unreadable { sectors, .. } => {
                let end = place.saturating_add(sectors.saturating_mul(disk::SECTOR_BYTES as u64)).min(length);
                // The file was just found.
                drop(node.with_disk(|disk| disk.make_unreadable(path, place..end)));
            }
            Fault::BitRot { bits, .. } => {
                for number in 0..*bits {
                    let position = place.saturating_add(number * disk::SECTOR_BYTES as u64);
                    let bit = u8::try_from((self.number + number * 3) % 8).expect("below 8");
                    if node.with_disk(|disk| disk.flip_bit(path, position, bit)).is_ok() {
                        self.world.fault_happened("bit-rot");
                    }
                }
            }
            _ => unreachable!("no other fault is rot"),
        }
    }

    fn storm(&self, from: &Node, to: &Node) {
        let Fault::ConnectionStorm { count, pause_us, hold_ms, .. } = self.fault else { return };
        lock(&self.world.0.faults).active.insert(self.number, Box::new(|_| {}));
        let storm = Storm {
            number: self.number,
            from: from.number(),
            to: Arc::clone(to.shared()),
            pause: Duration::from_micros(*pause_us),
            hold: Duration::from_millis(*hold_ms),
            left: Mutex::new(*count),
        };
        storm_on(self.world, &Arc::new(storm));
    }
}

fn chain(down: Down, kind: &'static str, again: &[Place]) -> Chain {
    Chain { down, kind: Some(kind), again: again.iter().cloned().collect() }
}

/// Ends a process, and again after each pause.
fn kill(world: &World, number: u64, node: Arc<NodeShared>, times: u64, pause: Duration) {
    if node.life().is_some() {
        world.fault_happened("kill");
        node.end_process(world, Down::Killed);
    }
    if times < 2 {
        return;
    }
    lock(&world.0.faults).active.insert(number, Box::new(|_| {}));
    world.schedule(world.after(pause), move |world| {
        if lock(&world.0.faults).active.remove(&number).is_some() {
            kill(world, number, node, times - 1, pause);
        }
    });
}

/// Files, listeners and connections that a machine's process has open.
pub(crate) fn open_descriptors(world: &World, node: &NodeShared) -> u64 {
    let sockets = world.with_net(|net| net.descriptor_count(node.number));
    sockets + node.with_disk(world, |disk| disk.handle_count())
}

/// Connections that are still to be made.
struct Storm {
    number: u64,
    from: usize,
    to: Arc<NodeShared>,
    pause: Duration,
    hold: Duration,
    left: Mutex<u64>,
}

fn storm_on(world: &World, storm: &Arc<Storm>) {
    let left = {
        let mut left = lock(&storm.left);
        *left = left.saturating_sub(1);
        *left
    };
    if !lock(&world.0.faults).active.contains_key(&storm.number) {
        return;
    }
    if let Some(id) = connect(world, storm) {
        world.schedule(world.after(storm.hold), move |world| {
            world.with_net(|net| {
                net.drop_reader(id);
                net.drop_writer(id);
            });
        });
    }
    if left == 0 {
        return world.end_fault(storm.number);
    }
    let storm = Arc::clone(storm);
    world.schedule(world.after(storm.pause), move |world| storm_on(world, &storm));
}

/// One attempt to connect to whatever the target listens at. None if it doesn't, or no port is free.
fn connect(world: &World, storm: &Storm) -> Option<EndpointId> {
    world.with_net(|net| {
        let port = *net.ports(storm.to.number).first()?;
        net.connect_for_storm(storm.from, SocketAddr::new(storm.to.ip, port))
    })
}
