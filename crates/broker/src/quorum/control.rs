//! The active controller: decides requests in rounds, keeps the sessions of brokers, and answers.
//!
//! ```text
//!             its first entry applied          EpochStart applied
//! Replaying -------------------------> Starting ---------------> Active
//!     any -- steps down --> gone: what was not proposed goes to the next leader, what was is unknown
//! ```
//!
//! Invariants
//! - One round is one entry; the next begins when it is applied. So every decision is made on the newest committed image.
//! - Nothing is decided before everything that an earlier controller committed is applied.
//! - Sessions exist only while active, and begin full, but for nodes whose links are lost: those have to be heard of soon.
//!
//! Not here: what is decided (`quipu-controller`), how requests come here (`forward`).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quipu_base::{BrokerId, ClusterId, ControllerEpoch, LeaderEpoch, Offset, TopicId, TopicIdPartition};
use quipu_controller::{
    AnyReply, AnyRequest, BalanceLeaders, Bootstrap, Context, ControllerError, Decision, Doubts, ElectLeaderless,
    Heartbeat, HeartbeatDecision, Lost, Request, SessionSettings, Sessions, StartEpoch, UncleanElection, Wants,
    find_unclean, has_leaderless,
    limits::{ASKS_PER_REQUEST_MAX, ELECTIONS_PER_DECISION_MAX},
};
use quipu_env::{Clock, Env, Instant, Probe};
use quipu_metadata::{
    Delta, Image, MetadataRecord, codec,
    config::{BrokerConfig, ConfigLayers},
    record::Voter,
};
use quipu_raft::{Data, ProposeError, limits::ENTRY_BYTES_MAX};
use quipu_records::{Batch, BatchBuilder, NewRecord};
use quipu_storage::Class;
use rand::Rng as _;

use super::{
    Quorum,
    forward::Ticket,
    handle::{AskError, CommitError},
    messages::Message,
    reports::Purpose,
};

/// Requests decided in one round, which is one entry and one sync.
const REQUESTS_PER_ROUND: usize = 256;
/// Requests that may wait for a round.
const WAITING_MAX: usize = 1024;
/// Records of one entry at most: 10,000 partitions and their topics are created by one request.
const ENTRY_RECORDS_MAX: usize = 32 * 1024;
/// Between two tries of a new controller to begin: there is no room for its first entry, or the leadership is being handed on.
const BEGIN_PAUSE: Duration = Duration::from_millis(50);
/// How often partitions without a leader are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Leaderships that go back to their preferred leaders at once: each is a short pause of its partition.
const BALANCED_AT_ONCE_MAX: usize = 256;
/// Nobody is late whom nobody can hear.
const ENDLESS: Duration = Duration::from_secs(u32::MAX as u64);

/// What is to be decided.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// What somebody asked for.
    Asked(AnyRequest),
    /// That this controller begins.
    Begin,
    /// Leaders where there are none.
    ElectLeaderless,
    /// Preferred leaders where others lead.
    BalanceLeaders,
}

/// Work, and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) asker: Option<Asker>,
}

/// Whom to answer.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) node: BrokerId,
    pub(super) ticket: Ticket,
}

type Answered = Result<AnyReply, AskError>;

/// A round under way.
struct Round {
    end: Offset,
    answers: Vec<(Asker, Answered)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Replaying,
    Starting,
    Active,
}

/// This node leads the quorum.
pub(super) struct Leading {
    epoch: LeaderEpoch,
    /// Where its first entry stands.
    start: Offset,
    stage: Stage,
    waiting: VecDeque<Job>,
    round: Option<Round>,
    sessions: Option<Sessions>,
    /// Before then it does not try to begin (again).
    begin_at: Instant,
    sweep_at: Option<Instant>,
    /// When preferred leaders are looked for again, if at all, and how often.
    balance_at: Option<Instant>,
    balance_interval: Option<Duration>,
}

impl Leading {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.as_ref().and_then(Sessions::next_deadline);
        let begin = (self.stage == Stage::Replaying && self.begin_at > Instant::ZERO).then_some(self.begin_at);
        self.sweep_at.into_iter().chain(self.balance_at).chain(sessions).chain(begin).min()
    }
}

impl<E: Env> Quorum<E> {
    pub(super) fn become_leading(&mut self, epoch: LeaderEpoch, start: Offset) {
        tracing::info!(%epoch, "this node leads the metadata quorum");
        self.env.probe().event("quorum.leads", &[("epoch", i64::from(epoch.get())), ("start", start.0)]);
        let stage = Stage::Replaying;
        let waiting = VecDeque::new();
        let balance_interval = self.balance_interval();
        self.leading = Some(Leading {
            epoch,
            start,
            stage,
            waiting,
            round: None,
            sessions: None,
            begin_at: Instant::ZERO,
            sweep_at: None,
            balance_at: None,
            balance_interval,
        });
    }

    /// Another leads, or nobody: what was not proposed is passed on; of the rest nobody knows.
    pub(super) fn step_down(&mut self, epoch: LeaderEpoch) {
        tracing::info!(%epoch, "this node leads the metadata quorum no more");
        let Some(leading) = self.leading.take() else { return };
        for asker in leading.waiting.into_iter().filter_map(|job| job.asker) {
            self.turn_away(asker);
        }
        for (asker, _) in leading.round.into_iter().flat_map(|round| round.answers) {
            self.answer(asker, self.applied, Err(AskError::Commit(CommitError::Unknown)));
        }
    }

    /// Lets work wait for the next round. Gives the asker back if there is no room, or this node does not lead.
    pub(super) fn take_on(&mut self, job: Job) -> Result<(), Option<Asker>> {
        match &mut self.leading {
            Some(leading) if leading.waiting.len() < WAITING_MAX => {
                leading.waiting.push_back(job);
                Ok(())
            }
            _ => Err(job.asker),
        }
    }

    /// Begins a round, if there is something to decide. Whether anything was done.
    pub(super) async fn decide(&mut self) -> bool {
        let (applied, now) = (self.applied, self.env.clock().now());
        let hastes = self.env.probe().planted("controller.begins-before-replay");
        let Some(leading) = &mut self.leading else { return false };
        if leading.round.is_some() {
            return false;
        }
        let jobs: Vec<Job> = match leading.stage {
            Stage::Replaying if (applied > leading.start || hastes) && leading.begin_at <= now => {
                leading.stage = Stage::Starting;
                vec![Job { work: Work::Begin, asker: None }]
            }
            Stage::Active if !leading.waiting.is_empty() => {
                let count = leading.waiting.len().min(REQUESTS_PER_ROUND);
                leading.waiting.drain(..count).collect()
            }
            _ => return false,
        };
        self.round(jobs).await;
        true
    }

    async fn round(&mut self, jobs: Vec<Job>) {
        let base = self.log_end().offset;
        let mut draft = Draft { image: self.serving.image().clone(), next: base, records: Vec::new() };
        let mut answers = Vec::new();
        let mut jobs = jobs.into_iter();
        for job in jobs.by_ref() {
            let (records, answer) = match self.decide_one(&job.work, &draft.image) {
                Ok(Decision { records, reply }) => (records, Ok(reply)),
                Err(error) => (Vec::new(), Err(AskError::Declined(error))),
            };
            if !draft.records.is_empty() && draft.records.len() + records.len() > ENTRY_RECORDS_MAX {
                // Decided anew in the next round.
                self.put_back(job);
                break;
            }
            draft.apply(records);
            match (job.asker, answer) {
                (Some(asker), Ok(Some(reply))) => answers.push((asker, Ok(reply))),
                (Some(asker), Err(error)) => answers.push((asker, Err(error))),
                (None, Err(error)) => {
                    tracing::warn!(work = ?job.work, %error, "the controller declines its own request")
                }
                (_, Ok(_)) => {}
            }
        }
        // In their order: the last of them comes to stand last.
        jobs.rev().for_each(|job| self.put_back(job));
        if draft.records.is_empty() {
            return self.answer_all(answers);
        }
        match self.propose(base, &draft.records).await {
            Ok(end) => {
                if let Some(leading) = &mut self.leading {
                    leading.round = Some(Round { end, answers });
                }
            }
            Err(error) => {
                let failed = |(asker, _): (Asker, Answered)| (asker, Err(AskError::Commit(error.clone())));
                self.answer_all(answers.into_iter().map(failed).collect());
                if let Some(leading) = &mut self.leading
                    && leading.stage == Stage::Starting
                {
                    leading.stage = Stage::Replaying;
                    leading.begin_at = self.env.clock().now() + BEGIN_PAUSE;
                }
            }
        }
    }

    fn put_back(&mut self, job: Job) {
        if let Some(leading) = &mut self.leading {
            leading.waiting.push_front(job);
        }
    }

    /// Proposes one entry at `base`, which is the log's end. Where it ends.
    async fn propose(&mut self, base: Offset, records: &[MetadataRecord]) -> Result<Offset, CommitError> {
        let epoch = self.leading.as_ref().map_or(LeaderEpoch::NONE, |leading| leading.epoch);
        let bytes = self.build(base, epoch, records)?;
        self.store.reserve(bytes.len(), Class::Reserve).await.map(drop).map_err(CommitError::Full)?;
        let count = u32::try_from(records.len()).map_err(|_| CommitError::TooLarge)?;
        let proposed = self.node.handle_proposal(self.env.clock().now(), vec![Data { records: count, bytes }]);
        match proposed {
            Ok(proposed) => {
                assert!(
                    proposed.start == base && proposed.epoch == epoch,
                    "an entry stands where its offsets say: {proposed:?}, not {base} in {epoch}"
                );
                Ok(proposed.end)
            }
            Err(ProposeError::TooLarge) => Err(CommitError::TooLarge),
            Err(ProposeError::NotLeader { .. } | ProposeError::Transferring | ProposeError::Busy) => {
                Err(self.no_controller())
            }
        }
    }

    fn build(&self, base: Offset, epoch: LeaderEpoch, records: &[MetadataRecord]) -> Result<Bytes, CommitError> {
        let now = self.env.clock().wall();
        let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(epoch);
        for record in records {
            let value = codec::encode(record);
            let record = NewRecord { timestamp: now, key: None, value: Some(&value), headers: &[] };
            builder.push(&record).map_err(|_| CommitError::TooLarge)?;
        }
        let bytes = builder.build().map(Batch::into_bytes).map_err(|_| CommitError::TooLarge)?;
        if bytes.len() <= ENTRY_BYTES_MAX { Ok(bytes) } else { Err(CommitError::TooLarge) }
    }

    fn decide_one(&mut self, work: &Work, image: &Image) -> Result<Decision<Option<AnyReply>>, ControllerError> {
        let now = self.env.clock().now();
        let me = self.settings.me;
        let voters = self.node.voters().iter();
        let voters: Vec<Voter> = voters.map(|voter| Voter { node: voter.id, directory_id: voter.directory }).collect();
        let Some(leading) = &mut self.leading else { return Err(ControllerError::NoCluster) };
        let controller_epoch = ControllerEpoch(leading.epoch.get());
        let mut random = [0; 16];
        self.rng.fill_bytes(&mut random);
        let rng = &mut self.rng;
        let reuses = self.env.probe().planted("controller.topic-id-reused");
        let mut lowest = 0;
        let mut new_topic_id = || {
            if reuses {
                lowest += 1;
                return TopicId([lowest; 16]);
            }
            let mut id = [0; 16];
            rng.fill_bytes(&mut id);
            TopicId(id)
        };
        let mut none = Doubts::new();
        let doubts = leading.sessions.as_mut().map_or(&mut none, |sessions| sessions.doubts(now));
        let statics = self.serving.statics();
        let mut context = Context { node: me.id, statics, new_topic_id: &mut new_topic_id, doubts };
        let (node, directory_id) = (me.id, me.directory);
        match work {
            Work::Asked(request) => {
                let decision = keep(request.decide(image, &mut context)?, Some);
                decision.records.iter().for_each(tell_unclean);
                Ok(decision)
            }
            Work::ElectLeaderless => {
                let request = ElectLeaderless { changes_max: ELECTIONS_PER_DECISION_MAX };
                Ok(keep(request.decide(image, &mut context)?, |_| None))
            }
            Work::BalanceLeaders => {
                let request = BalanceLeaders { changes_max: BALANCED_AT_ONCE_MAX };
                let Decision { records, reply: left } = request.decide(image, &mut context)?;
                if left > 0 {
                    leading.balance_at = Some(now + SWEEP_INTERVAL);
                }
                Ok(Decision { records, reply: None })
            }
            Work::Begin if image.cluster_id().is_none() => {
                let cluster_id = ClusterId(random);
                let request = Bootstrap { cluster_id, node, directory_id, controller_epoch, voters };
                Ok(keep(request.decide(image, &mut context)?, |()| None))
            }
            Work::Begin => {
                let request = StartEpoch { node, directory_id, controller_epoch, voters };
                Ok(keep(request.decide(image, &mut context)?, |()| None))
            }
        }
    }

    fn answer_all(&mut self, answers: Vec<(Asker, Answered)>) {
        let offset = self.applied;
        for (asker, answer) in answers {
            self.answer(asker, offset, answer);
        }
    }

    /// The round's entry may be applied by now.
    pub(super) fn finish_round(&mut self) {
        let (applied, now, settings) = (self.applied, self.env.clock().now(), self.session_settings());
        let Some(leading) = &mut self.leading else { return };
        let Some(round) = leading.round.take_if(|round| round.end <= applied) else { return };
        if leading.stage == Stage::Starting {
            leading.stage = Stage::Active;
            let mut sessions = Sessions::new(now, self.serving.image(), settings);
            // Who was lost before, the controller before this one perhaps, has to be heard of soon.
            self.unreachable.iter().for_each(|(node, lost)| sessions.handle_disconnect(now, *node, *lost));
            leading.sessions = Some(sessions);
            leading.balance_at = leading.balance_interval.map(|interval| now + interval);
            // On a single node as well: a disk that is full for a while leaves its partitions without a leader.
            leading.sweep_at = Some(now + SWEEP_INTERVAL);
            tracing::info!(epoch = %leading.epoch, "this node is the active controller");
        }
        self.env.probe().crash_point("controller.committed");
        self.answer_all(round.answers);
    }

    /// What brokers are held to.
    fn session_settings(&self) -> SessionSettings {
        if self.settings.is_alone() {
            return SessionSettings { timeout: ENDLESS, heartbeat_interval: ENDLESS };
        }
        let config = self.broker_config();
        SessionSettings {
            timeout: Duration::from_millis(config.session_timeout_ms),
            heartbeat_interval: Duration::from_millis(config.heartbeat_interval_ms),
        }
    }

    /// How often preferred leaders are looked for, if at all.
    fn balance_interval(&self) -> Option<Duration> {
        let config = self.broker_config();
        let is_wanted = config.balance_leaders && !self.settings.is_alone();
        is_wanted.then(|| Duration::from_secs(config.balance_interval_seconds))
    }

    fn broker_config(&self) -> BrokerConfig {
        ConfigLayers::new(self.serving.image(), self.serving.statics(), self.settings.me.id).broker()
    }

    /// Brokers changed in the image.
    pub(super) fn follow_sessions(&mut self) {
        let now = self.env.clock().now();
        if let Some(leading) = &mut self.leading
            && let Some(sessions) = &mut leading.sessions
        {
            sessions.follow(now, self.serving.image());
        }
    }

    /// Fences who is not heard of, finds leaders where there are none, and brings leaderships back to preferred leaders.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some(leading) = &mut self.leading else { return };
        if let Some(sessions) = &mut leading.sessions
            && sessions.next_deadline().is_some_and(|deadline| deadline <= now)
        {
            for request in sessions.due(now, self.serving.image()) {
                tracing::warn!(broker = %request.broker, "a broker was not heard of in time and is fenced");
                leading.waiting.push_back(Job { work: Work::Asked(request.into()), asker: None });
            }
        }
        if leading.balance_at.is_some_and(|at| at <= now) {
            leading.balance_at = leading.balance_interval.map(|interval| now + interval);
            leading.waiting.push_back(Job { work: Work::BalanceLeaders, asker: None });
        }
        if leading.sweep_at.is_some_and(|at| at <= now) {
            leading.sweep_at = Some(now + SWEEP_INTERVAL);
            let is_leaderless = has_leaderless(self.serving.image());
            if is_leaderless {
                leading.waiting.push_back(Job { work: Work::ElectLeaderless, asker: None });
            }
            if self.serving.image().brokers().any(|(_, broker)| !broker.is_serving()) || is_leaderless {
                self.collect_for_unclean();
            }
            self.collect_for_doubts();
            self.mend_voters();
        }
    }

    /// Topics that may lose records rather than wait: what is left of their partitions is asked for first.
    fn collect_for_unclean(&mut self) {
        let (image, me) = (self.serving.image().clone(), self.settings.me.id);
        let mut new_topic_id = || TopicId::ZERO;
        let mut doubts = Doubts::new();
        let statics = self.serving.statics();
        let context = Context { node: me, statics, new_topic_id: &mut new_topic_id, doubts: &mut doubts };
        let wanted = find_unclean(&image, &context, ASKS_PER_REQUEST_MAX);
        self.collect(wanted, Purpose::Election);
    }

    /// Replicas that said that they can't lead are asked whether they still can't.
    fn collect_for_doubts(&mut self) {
        let image = self.serving.image();
        let Some(sessions) = self.leading.as_mut().and_then(|leading| leading.sessions.as_mut()) else { return };
        let doubts = sessions.doubts(self.env.clock().now());
        doubts.retain_partitions(|partition| image.partition(partition).is_some());
        let mut wanted: BTreeMap<TopicIdPartition, Vec<BrokerId>> = BTreeMap::new();
        for (partition, broker) in doubts.damaged().take(ASKS_PER_REQUEST_MAX) {
            wanted.entry(partition).or_default().push(broker);
        }
        let wanted = wanted.into_iter().map(|(partition, brokers)| (partition, LeaderEpoch::NONE, brokers));
        self.collect(wanted.collect(), Purpose::Doubts);
    }

    /// Who reports a sound log may lead again.
    pub(super) fn drop_doubts(&mut self, partitions: &[UncleanElection]) {
        let now = self.env.clock().now();
        let Some(sessions) = self.leading.as_mut().and_then(|leading| leading.sessions.as_mut()) else { return };
        let doubts = sessions.doubts(now);
        for election in partitions {
            for report in election.reports.iter().filter(|report| !report.is_faulty) {
                doubts.note_sound(election.partition, report.member.broker);
            }
        }
    }

    /// The connection to a node was lost.
    pub(super) fn probe_session(&mut self, now: Instant, node: BrokerId, lost: Lost) {
        if let Some(leading) = &mut self.leading
            && let Some(sessions) = &mut leading.sessions
        {
            sessions.handle_disconnect(now, node, lost);
        }
    }

    /// Tells the active controller that this broker lives, once it is registered.
    pub(super) fn beat(&mut self, now: Instant) {
        self.heartbeat_at = now + self.session_settings().heartbeat_interval;
        if self.settings.is_alone() {
            return;
        }
        self.tell_lagging(now);
        let Some(broker_epoch) = self.own.borrow().broker_epoch else { return };
        let Some(leader) = self.leader else { return };
        let metadata_offset = self.serving.image().next_offset();
        let heartbeat = Heartbeat { broker: self.settings.me.id, broker_epoch, metadata_offset, wants: Wants::Serve };
        if leader.id == self.settings.me.id {
            self.hear(now, &heartbeat);
        } else {
            self.say(leader.id, &Message::Heartbeat(heartbeat));
        }
    }

    /// Every broker is to know which members lag: clients ask any of them.
    fn tell_lagging(&self, now: Instant) {
        self.serving.lagging().forget(now);
        let own = self.serving.lagging().own();
        if own.is_empty() {
            return;
        }
        let message = Message::Lagging(own);
        let others = self.serving.image().brokers().filter(|(_, state)| !state.fenced).map(|(broker, _)| broker);
        for broker in others.filter(|broker| *broker != self.settings.me.id) {
            self.say(broker, &message);
        }
    }

    /// Takes in a heartbeat, if this node is the active controller. What to answer.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        heartbeat: &Heartbeat,
    ) -> Option<Result<quipu_controller::HeartbeatReply, ControllerError>> {
        let leading = self.leading.as_mut()?;
        let sessions = leading.sessions.as_mut()?;
        let heard = match sessions.handle_heartbeat(now, self.serving.image(), heartbeat) {
            Ok(heard) => heard,
            Err(error) => return Some(Err(error)),
        };
        let request = heard.decide.map(|decision| match decision {
            HeartbeatDecision::Unfence(request) => AnyRequest::from(request),
            HeartbeatDecision::ShutDown(request) => request.into(),
        });
        // A broker asks with every heartbeat until it is done: once is enough for a round.
        let is_new = |request: &AnyRequest| {
            !leading.waiting.iter().any(|job| matches!(&job.work, Work::Asked(other) if other == request))
        };
        if let Some(request) = request.filter(|request| leading.round.is_none() && is_new(request)) {
            leading.waiting.push_back(Job { work: Work::Asked(request), asker: None });
        }
        Some(Ok(heard.reply))
    }
}

/// Everybody who looks after the cluster is to see it.
fn tell_unclean(record: &MetadataRecord) {
    if let MetadataRecord::PartitionChange { partition, election: Some(election), .. } = record
        && election.unclean
    {
        let leader = election.leader.unwrap_or(BrokerId(-1));
        tracing::error!(%partition, %leader, "an unclean election: acknowledged records of this partition may be lost");
    }
}

fn keep<R>(decision: Decision<R>, reply: impl FnOnce(R) -> Option<AnyReply>) -> Decision<Option<AnyReply>> {
    Decision { records: decision.records, reply: reply(decision.reply) }
}

/// The image as a round will make it.
struct Draft {
    image: Image,
    next: Offset,
    records: Vec<MetadataRecord>,
}

impl Draft {
    fn apply(&mut self, records: Vec<MetadataRecord>) {
        // Nobody is told of it before it is committed.
        let mut delta = Delta::default();
        for record in records {
            let applied = self.image.apply(self.next, &record, &mut delta);
            assert!(applied.is_ok(), "the controller decided on a record that the image refuses: {applied:?}");
            self.next = self.next.next();
            self.records.push(record);
        }
    }
}
