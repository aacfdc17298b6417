//! A run's machines, and what happens to them in which order.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use quipu_env::Fatal;
use quipu_sim::{Down, Node, NodeConfig, World, fault::Fault};
use quipu_storage::OpenError;

use super::{
    leftovers,
    mirror::Mirror,
    outcome::Tally,
    server::{End, Server},
    twins::Twin,
};
use crate::{
    check::Violation,
    history::{History, Recorder, What},
    inside::{self, Findings},
    plan::{DATA_DIR, Loss, Plan, operation::Operation},
    workload::{self, Scene},
};

/// How long to wait between two whole-log comparisons at least.
const BETWEEN_COPIES: Duration = Duration::from_millis(2);
/// How often clients that have crashed are looked at.
const LOOKS_AT_CLIENTS: Duration = Duration::from_millis(5);
/// How long the broker rests after a start that was refused.
const REFUSED: Duration = Duration::from_millis(200);

/// What a run leaves.
#[derive(Default)]
pub(super) struct Played {
    pub(super) history: History,
    pub(super) violations: Vec<Violation>,
    pub(super) tally: Tally,
    /// What may have been lost.
    pub(super) loss: Loss,
}

/// What the run's parts tell each other.
struct State {
    violations: Vec<Violation>,
    tally: Tally,
    /// All faults have begun.
    is_last_begun: bool,
    is_healed: bool,
    /// What may be lost: what the plan says, or more if rot has hit what no later group proves.
    loss: Loss,
    /// Rot has hit the write-ahead log.
    is_wal_rotten: bool,
}

/// All that is in a world. A clone is the same.
#[derive(Clone)]
pub(super) struct Stage {
    plan: Arc<Plan>,
    world: World,
    scene: Scene,
    /// In the order of their numbers.
    servers: Vec<Server>,
    /// In the order in which they begin.
    twins: Vec<Twin>,
    inside: Findings,
    auditor: Node,
    /// Where copies of the broker's disk are looked at.
    mirror: Mirror,
    clients: Vec<Node>,
    state: Arc<Mutex<State>>,
}

/// Nobody waits any longer.
struct Late;

impl Stage {
    pub(super) fn new(world: &World, plan: &Arc<Plan>, recorder: Recorder) -> Self {
        let servers: Vec<Server> = plan.config.all_nodes().map(|number| Server::new(world, plan, number)).collect();
        let client = |client: &crate::plan::Client| world.node(&client.name, NodeConfig::default());
        let state = State {
            violations: Vec::new(),
            tally: Tally::default(),
            is_last_begun: plan.faults.is_empty(),
            is_healed: false,
            loss: plan.budget.loss,
            is_wal_rotten: false,
        };
        let twins = Twin::all(world, plan);
        let all = servers.iter().chain(twins.iter().map(|twin| &twin.server));
        let inside = inside::watch(world, all.map(|server| &server.node));
        Self {
            inside,
            plan: Arc::clone(plan),
            world: world.clone(),
            scene: Scene::new(world, plan, recorder),
            servers,
            twins,
            auditor: world.node("auditor", NodeConfig::default()),
            mirror: Mirror::new(world, plan),
            clients: plan.workload.clients.iter().map(client).collect(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violation(&self, checker: &str, message: impl Into<String>) {
        let now = u64::try_from(self.world.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.state().violations.push(Violation::new(checker, message).seen_at(now));
    }

    /// Nothing goes wrong but the wall clock, by which nothing may be timed.
    fn is_gentle(&self) -> bool {
        self.plan.faults.iter().all(|timed| ["clock-step", "clock-skew", "clock-freeze"].contains(&timed.fault.kind()))
    }

    /// All of it.
    pub(super) async fn play(self) -> Played {
        if self.plan.config.is_cluster() {
            self.scene.recorder.of_cluster();
        }
        if self.is_gentle() {
            self.scene.recorder.quiet(0);
        }
        let turbulent = async {
            tokio::select! { biased;
                () = self.operate() => unreachable!("the operator never leaves"),
                () = self.begin_again() => unreachable!("it waits for the next one"),
                () = self.strike() => unreachable!("faults end, striking does not"),
                () = self.play_twins() => unreachable!("it waits for the end"),
                () = self.compare_copies() => unreachable!("there is always another event"),
                done = self.turbulence() => done,
            }
        };
        if turbulent.await.is_ok() {
            // An error has been noted where it was found.
            let _late = self.calm().await;
        }
        self.into_played()
    }

    fn into_played(self) -> Played {
        let codes = self.scene.codes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let apis = self.scene.apis.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let history = self.scene.recorder.take();
        let mut state = self.state();
        let mut tally = core::mem::take(&mut state.tally);
        let completed = history.ops.iter().filter(|op| op.completed.is_some());
        tally.operations = completed.count() as u64;
        let sends = history.ops.iter().filter(|op| op.is_ok() && matches!(op.what, What::Send { .. }));
        tally.acknowledged = sends.count() as u64;
        (tally.codes, tally.apis) = (codes, apis);
        let mut violations = core::mem::take(&mut state.violations);
        let may_lose = if self.plan.config.is_cluster() { state.loss } else { self.plan.budget.loss };
        if may_lose == Loss::None {
            violations.extend(self.inside.take());
        }
        // Who does not start any more has told of everything that is lost, and of what it has served before its damage was seen.
        let is_refused = state.loss == Loss::Reported && !self.servers.iter().all(Server::is_ready);
        Played { history, violations, tally, loss: if is_refused { Loss::Silent } else { state.loss } }
    }

    /// Clients work while faults happen; then everything heals, and they finish.
    async fn turbulence(&self) -> Result<(), Late> {
        let scene = self.scene.clone();
        let topics = self.auditor.start(|env| workload::make_topics(env, scene));
        let clients = async {
            // Whatever ends a client's machine ends the client.
            let _down = topics.join().await;
            let mut running = Vec::new();
            for (number, node) in (0..).zip(&self.clients) {
                let scene = self.scene.clone();
                running.push(node.start(|env| workload::run_client(env, scene, number)));
            }
            for (number, client) in running.into_iter().enumerate() {
                if !follows(&self.plan, number) {
                    let _down = client.join().await;
                    self.client_ended(number).await;
                }
            }
        };
        let mut clients = core::pin::pin!(clients);
        let is_done = tokio::select! { biased;
            () = clients.as_mut() => true,
            () = self.until_faults_pass() => false,
        };
        if is_done {
            self.until_faults_began().await;
            self.sleep_until(Duration::from_millis(self.plan.heal_ms)).await;
            while self.twins.iter().any(|twin| twin.is_due(self.world.elapsed())) {
                self.world.sleep(LOOKS_AT_CLIENTS).await;
            }
        }
        self.heal();
        if !is_done {
            self.within("clients finish", clients).await?;
        }
        self.scene.over.store(true, Ordering::Relaxed);
        self.within("followers finish", async {
            for number in 0..self.clients.len() {
                self.client_ended(number).await;
            }
        })
        .await?;
        self.settle("the cluster settles").await?;
        self.audit("the first audit").await
    }

    /// Ends when a client's last process has ended.
    async fn client_ended(&self, number: usize) {
        let _down = self.clients[number].wait_down().await;
        while self.plan.crashes(number) && self.is_followed(number) {
            self.world.sleep(LOOKS_AT_CLIENTS).await;
            let _down = self.clients[number].wait_down().await;
        }
    }

    fn is_followed(&self, number: usize) -> bool {
        u32::try_from(number).is_ok_and(|number| self.scene.is_followed(number))
    }

    /// Begins another process of each client that has crashed, when it is time.
    async fn begin_again(&self) {
        let crashes = |(number, _): &(u32, &Node)| self.plan.crashes(*number as usize);
        let clients: Vec<(u32, &Node)> = (0..).zip(&self.clients).filter(crashes).collect();
        while !clients.is_empty() {
            self.world.sleep(LOOKS_AT_CLIENTS).await;
            for (number, node) in &clients {
                if !node.is_up() && self.scene.follows_now(*number) {
                    let (scene, number) = (self.scene.clone(), *number);
                    drop(node.start(|env| workload::run_client(env, scene, number)));
                }
            }
        }
        core::future::pending::<()>().await;
    }

    /// Ends when the last fault has begun.
    async fn until_faults_began(&self) {
        let last = self.plan.faults.iter().map(|timed| timed.at_ms).max().unwrap_or(0);
        self.sleep_until(Duration::from_millis(last)).await;
        while !self.state().is_last_begun {
            self.world.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends when the last fault has passed, and things may heal.
    async fn until_faults_pass(&self) {
        self.until_faults_began().await;
        let end = |timed: &crate::plan::TimedFault| Duration::from_millis(timed.at_ms) + timed.fault.lasts();
        let last = self.plan.faults.iter().map(end).max().unwrap_or_default();
        self.sleep_until(last.max(Duration::from_millis(self.plan.heal_ms))).await;
    }

    async fn sleep_until(&self, at: Duration) {
        self.world.sleep(at.saturating_sub(self.world.elapsed())).await;
    }

    fn heal(&self) {
        self.world.heal();
        self.twins.iter().for_each(|twin| twin.server.node.kill());
        self.state().is_healed = true;
    }

    /// Ends when `limit` has passed and no client got an answer meanwhile. Those that go on, however slowly, have more time.
    async fn until_stuck(&self, limit: Duration) {
        let clients = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let mut before = self.scene.recorder.answered(clients);
        for _ in 0..TIMES_MAX {
            self.world.sleep(limit).await;
            let now = self.scene.recorder.answered(clients);
            if now == before {
                break;
            }
            before = now;
        }
    }

    /// Waits, but no longer than the budget has it.
    async fn within<T>(&self, what: &str, wait: impl Future<Output = T>) -> Result<T, Late> {
        let limit = Duration::from_millis(self.plan.budget.liveness_ms) + self.plan.rest();
        tokio::select! { biased;
            value = wait => Ok(value),
            () = self.until_stuck(limit) => {
                // What is lost is told of, so that nobody waits for it; if that is not the whole node.
                let is_served = self.state().loss == Loss::Reported && self.servers.iter().all(Server::is_ready);
                if self.plan.budget.loss == Loss::None || is_served {
                    self.violation("liveness", format!("{what}: not within {limit:?} after everything healed{}", self.stuck()));
                }
                Err(Late)
            }
        }
    }

    /// Who is not done.
    fn stuck(&self) -> String {
        let names: Vec<&str> = self
            .clients
            .iter()
            .zip(&self.plan.workload.clients)
            .filter(|(node, _)| node.is_up())
            .map(|(_, client)| client.name.as_str())
            .collect();
        let down = self.servers.iter().filter(|server| !server.is_ready());
        let brokers: String = down.map(|server| format!("; the {} is not up", server.name)).collect();
        if names.is_empty() { brokers } else { format!("; still busy: {}{brokers}", names.join(", ")) }
    }

    /// Of a cluster: everybody knows the same, every partition has a leader, and all its replicas are in sync.
    async fn settle(&self, what: &str) -> Result<(), Late> {
        if !self.plan.config.is_cluster() {
            return Ok(());
        }
        let (scene, unsettled) = (self.scene.clone(), Arc::new(Mutex::new(String::new())));
        let why = Arc::clone(&unsettled);
        let settled = self.auditor.start(|env| workload::settle(env, scene, why));
        let done = self.within(what, settled.join()).await;
        if done.is_err() {
            self.auditor.kill();
            let why = unsettled.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.violation("liveness", format!("{what}: {why}"));
        }
        let _settled = done?;
        self.level(what).await
    }

    /// Every replica knows of all that was committed.
    async fn level(&self, what: &str) -> Result<(), Late> {
        let machine = |node: &u32| self.servers.get(*node as usize - 1).map(|server| server.node.number() as u64);
        let holders = self.scene.holders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holders =
            holders.into_iter().map(|(log, nodes)| (log, nodes.iter().filter_map(machine).collect())).collect();
        let level = async {
            while self.inside.behind(&holders).is_some() {
                self.world.sleep(Duration::from_millis(1)).await;
            }
        };
        let done = self.within(what, level).await;
        if done.is_err()
            && let Some(why) = self.inside.behind(&holders)
        {
            self.violation("liveness", format!("{what}: {why}"));
        }
        done
    }

    async fn audit(&self, what: &str) -> Result<(), Late> {
        let scene = self.scene.clone();
        let audited = self.auditor.start(|env| workload::audit(env, scene));
        let done = self.within(what, audited.join()).await;
        if done.is_err() {
            self.auditor.kill();
        }
        done.map(|_| ())
    }

    /// Nothing is wrong any more: a stop, a look at what lies there, a start, and everything is read again.
    async fn calm(&self) -> Result<(), Late> {
        for server in self.servers.iter().filter(|server| !server.node.is_up()) {
            server.start();
        }
        self.within("the broker starts", all(self.servers.iter().map(|server| server.started(&self.world)))).await?;
        self.servers.iter().for_each(Server::stop);
        for server in &self.servers {
            let end = self.within("the broker stops", server.ended()).await?;
            if !matches!(end, End::Stopped) && self.plan.budget.loss == Loss::None {
                self.violation("end", format!("{}: asked to stop when nothing was wrong: {end}", server.name));
            }
        }
        for server in &self.servers {
            self.verify(server).await?;
        }
        if self.plan.budget.loss == Loss::None {
            for server in &self.servers {
                self.within("a comparison of all logs", self.compare_copy(server, true)).await?;
            }
        }
        tokio::select! { biased;
            () = self.operate() => unreachable!("the operator never leaves"),
            done = self.look_again() => done,
        }
    }

    /// After a cold start.
    async fn look_again(&self) -> Result<(), Late> {
        self.scene.cold.store(true, Ordering::Relaxed);
        self.settle("the cluster settles after a cold start").await?;
        if self.plan.budget.loss == Loss::None {
            let scene = self.scene.clone();
            self.within("the echo", self.auditor.start(|env| workload::echo(env, scene)).join()).await?.ok();
        }
        self.audit("the audit after a cold start").await
    }

    /// Whole-log comparisons, whenever one is due.
    async fn compare_copies(&self) {
        if self.plan.budget.loss > Loss::None {
            core::future::pending::<()>().await;
        }
        let mut nodes = self.servers.iter().cycle();
        while self.mirror.is_wanted() {
            let machine = self.inside.copy_due().await;
            let wanted = self.servers.iter().find(|server| machine == Some(server.node.number() as u64));
            self.compare_copy(wanted.unwrap_or_else(|| nodes.next().expect("there is a node")), false).await;
            self.world.sleep(BETWEEN_COPIES).await;
        }
        core::future::pending::<()>().await;
    }

    async fn compare_copy(&self, server: &Server, is_settled: bool) {
        // Until its broker opens the disk that it has got, what is known of it is what another held.
        if server.is_replaced_since(self.inside.opened(&server.node), self.world.elapsed()) {
            return;
        }
        let found = self.mirror.compare(server, &self.inside, self.scene.served(), is_settled).await;
        let now = u64::try_from(self.world.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.state().violations.extend(found.into_iter().map(|violation| violation.seen_at(now)));
    }

    async fn verify(&self, server: &Server) -> Result<(), Late> {
        let look = |env| async move { quipu_storage::verify(&env, DATA_DIR.as_ref()).await };
        let verified = self.within("verify", server.node.start(look).join()).await?;
        if self.plan.budget.loss > Loss::None {
            return Ok(());
        }
        let name = &server.name;
        match verified {
            Ok(Ok(report)) => {
                // Rot that nobody has read yet is still there; what was read has been repaired from the others.
                let may_rot = self.plan.config.is_cluster() && server.has_met(ROTS_DISK);
                if let Some(first) = report.damaged.first().filter(|_| !may_rot) {
                    let count = report.damaged.len();
                    self.violation("verify", format!("{name}: {count} ranges are damaged, the first: {first:?}"));
                }
                leftovers::check(&server.node, &self.scene.recorder).into_iter().for_each(|left| {
                    self.violation("leaked-file", format!("{name}: {left}"));
                });
                let holders = self.scene.holders.lock().unwrap_or_else(PoisonError::into_inner).clone();
                leftovers::check_moved(&server.node, server.number, &holders).into_iter().for_each(|left| {
                    self.violation("leaked-file", format!("{name}: {left}"));
                });
            }
            Ok(Err(error)) => self.violation("verify", format!("{name}: {error}")),
            Err(down) => self.violation("verify", format!("{name}: {down}")),
        }
        Ok(())
    }

    /// Starts each broker whenever it is down.
    async fn operate(&self) {
        all(self.servers.iter().map(|server| self.operate_one(server))).await;
    }

    async fn operate_one(&self, server: &Server) {
        loop {
            self.reidentify(server).await;
            self.state().tally.starts += 1;
            server.start();
            let end = server.ended().await;
            {
                let mut state = self.state();
                state.tally.stops += u64::from(matches!(end, End::Stopped));
                state.tally.failed_starts += u64::from(!server.is_ready());
            }
            if let Some((checker, message)) = self.judge(server, &end)
                && !self.state().violations.iter().any(|known| known.checker == checker && known.message == message)
            {
                self.violation(checker, message);
            }
            if server.has_gone_back_unseen(self.world.elapsed()) {
                self.state().loss = Loss::Silent;
            }
            let mut down = server.take_down();
            if let End::Refused { .. } = end {
                down = down.max(REFUSED);
                self.replace_disk(server, &end);
            }
            self.world.sleep(down).await;
        }
    }

    /// Gives the data directory of a machine that has gone back another id, however often that is cut short.
    async fn reidentify(&self, server: &Server) {
        while server.needs_new_id(self.world.elapsed()) {
            let give = |env| async move { quipu_storage::reidentify(&env, DATA_DIR.as_ref()).await.map(drop) };
            match server.node.start(give).join().await {
                // On a disk on which nothing is yet nothing needs another id.
                Ok(Ok(()) | Err(OpenError::Damaged { .. })) => server.has_new_id(self.world.elapsed()),
                Ok(Err(_)) | Err(_) => self.world.sleep(server.take_down()).await,
            }
        }
    }

    /// In a cluster a node whose disk is damaged such that it does not start any more gets a new one.
    fn replace_disk(&self, server: &Server, end: &End) {
        let is_for_good = matches!(end, End::Refused { exit_status: STATUS_DAMAGED | STATUS_OTHER, .. });
        if is_for_good && self.plan.config.is_cluster() && server.has_met(ROTS_DISK) {
            let wiped = Fault::WipedDisk { node: server.name.clone(), down_ms: 0 };
            self.begin(&wiped);
        }
    }

    /// What is wrong with an end, if something is.
    fn judge(&self, server: &Server, end: &End) -> Option<(&'static str, String)> {
        let disk = server.has_met(HURTS_DISK);
        // A start must be able to open files, and a stop to note that it was one; all else goes on, or waits, without.
        let files = disk || server.has_met(&["few-descriptors"]);
        let is_excused = match end {
            End::Stopped => server.is_stopping(),
            // Another one has taken its place while it was away.
            End::Refused { exit_status: STATUS_OTHER, .. } if server.has_met(&["twin"]) => self.plan.faults.len() > 1,
            End::StoppedBadly(_) | End::Refused { .. } => files,
            End::Down(Down::Killed | Down::PowerCut) => true,
            End::Down(Down::Halted { why: Fatal::WalSync, .. }) => disk,
            End::Down(Down::Halted { why: Fatal::Replaced, .. }) => {
                server.has_met(&["twin"]) && self.plan.faults.len() > 1
            }
            // One whose metadata can't be read back any more leaves the others to go on.
            End::Down(Down::Halted { .. }) => disk && self.plan.config.is_cluster(),
            End::Down(_) => false,
        };
        (!is_excused).then(|| ("end", format!("the {} ended by itself: {end}", server.name)))
    }

    /// Second processes of nodes come and go.
    async fn play_twins(&self) {
        all(self.twins.iter().map(|twin| async {
            let node = self.servers.iter().find(|server| server.number == twin.server.number);
            let Some(node) = node else { return };
            let found = tokio::select! { biased;
                () = self.until_healed() => None,
                found = twin.play(&self.world, node) => found,
            };
            if let Some(found) = found {
                self.violation(&found.checker, found.message);
            }
        }))
        .await;
        core::future::pending::<()>().await;
    }

    async fn until_healed(&self) {
        while !self.state().is_healed {
            self.world.sleep(LOOKS_AT_CLIENTS).await;
        }
    }

    /// Begins each fault at its time.
    async fn strike(&self) {
        for timed in &self.plan.faults {
            self.sleep_until(Duration::from_millis(timed.at_ms)).await;
            if self.state().is_healed {
                break;
            }
            self.begin(&timed.fault);
        }
        self.state().is_last_begun = true;
        core::future::pending::<()>().await;
    }

    fn begin(&self, fault: &Fault) {
        let server = fault.node().and_then(|name| self.servers.iter().find(|server| server.name == name));
        if let Some(server) = server {
            server.note_fault(fault.kind(), fault.down().map(|(_, down)| down));
        }
        if let (Fault::StaleSnapshot { age_ms, new_id, .. }, Some(server)) = (fault, server) {
            let at = self.world.elapsed() + Duration::from_millis(*age_ms);
            if *new_id { server.note_restored(at) } else { server.note_snapshot(at) }
        }
        if let (Fault::WipedDisk { .. }, Some(server)) = (fault, server) {
            server.note_wiped(self.world.elapsed());
        }
        if let Fault::BitRot { below, .. } = fault
            && below.split('/').any(|name| name == "wal")
            && !self.plan.config.is_cluster()
        {
            // Unproven groups, and groups whose proof is hit as well, count as torn.
            let mut state = self.state();
            if state.is_wal_rotten || !self.inside.is_wal_proven() {
                state.loss = Loss::Silent;
            }
            state.is_wal_rotten = true;
        }
        if let Err(error) = self.world.begin(fault) {
            self.violation("plan", format!("{}: {error}", fault.kind()));
        }
        if let (Fault::Stop { .. }, Some(server)) = (fault, server) {
            server.stop();
        }
    }
}

/// Waits for all of them, which take turns.
async fn all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut left: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    poll_fn(|context| {
        left.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// How often the budget's time is given to clients that go on.
const TIMES_MAX: u32 = 4;
/// Faults after which what a disk holds may be damaged for good.
const ROTS_DISK: &[&str] = &["sync-lies", "phantom-write", "misdirected-write", "bit-rot", "unreadable"];
/// The exit status of a node whose data is damaged.
const STATUS_DAMAGED: u8 = 65;
/// And of one whose disk the others don't know.
const STATUS_OTHER: u8 = 78;

/// Faults after which a broker may stop by itself, or not start.
pub(super) const HURTS_DISK: &[&str] = &[
    "sync-fails",
    "sync-lies",
    "read-fails",
    "write-fails",
    "phantom-write",
    "misdirected-write",
    "bit-rot",
    "unreadable",
    "full-disk",
    "wiped-disk",
    "stale-snapshot",
];

/// Whether a client goes on until the workload is over.
fn follows(plan: &Plan, number: usize) -> bool {
    let operations = &plan.workload.clients[number].operations;
    operations.iter().any(|operation| matches!(operation, Operation::Follow { .. } | Operation::Serve))
}
