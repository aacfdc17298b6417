//! The member's task: gives signs of life, joins and leaves, whatever the application does meanwhile.
//!
//! ```text
//! GroupConsumer --Command--> Session --Ask--> coordinator
//!       ^  ^                  |   |  `--look--> any broker: topics
//!       |  `------News--------'   |
//!       `---- Membership (watch) -'
//! ```
//!
//! Invariants
//! - One request to the coordinator is under way, on a connection of its own: a join may keep its reply for long.
//! - An application that does not poll for [`super::GroupConfig::poll_interval_max`] is no member: others read its partitions, and
//!   what it held is lost. It joins again when it polls.
//! - When the application is gone, the group is told so, once.
//!
//! Not here: what to ask (`classic`, `modern`), commits (`commits`).

mod asking;

use core::{future::Future, pin::Pin, time::Duration};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use quipu_base::BrokerId;
use quipu_env::{Clock, Env, Instant, watch};
use regex::Regex;
use tokio::sync::{mpsc, oneshot};

use self::asking::{Asked, told};
use super::{
    GroupConfig, GroupError, GroupProtocol,
    classic::Classic,
    ledger::{Ask, Change, Ledger, Membership, Verdict},
    modern::{Modern, Wanted},
    topics::{self, Seen, Subscription},
};
use crate::{Client, ClientError, connection::Answer, pool::Pool};

/// How soon topics that are not there are looked for again.
const MISSING_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than a rebalance may take its reply may take.
const REPLY_MARGIN: Duration = Duration::from_secs(5);

/// What the application wants.
pub(crate) enum Command {
    Subscribe(Subscription),
    /// It polls.
    Polled,
    /// The first change that it was told is carried out.
    Done,
    /// It leaves, and is told when that is over.
    Leave(oneshot::Sender<()>),
}

/// What the application is told.
pub(crate) enum News {
    Change(Change),
    /// It is no member any more, and will not be again by itself.
    Failed(GroupError),
}

enum Machine {
    Classic(Box<Classic>),
    Modern(Box<Modern>),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// See the module.
pub(crate) struct Session<E: Env> {
    client: Client<E>,
    config: GroupConfig,
    machine: Machine,
    pool: Arc<Mutex<Pool<E>>>,
    news: mpsc::UnboundedSender<News>,
    membership: watch::Sender<Membership>,
    coordinator: Option<BrokerId>,
    subscription: Option<(Subscription, Option<Regex>)>,
    polled_at: Instant,
    /// It did not poll for too long.
    is_absent: bool,
    asking: Option<Boxed<Asked>>,
    looking: Option<Boxed<Result<Seen, ClientError>>>,
    /// The topics that are looked at; none is all.
    looked_at: Option<BTreeSet<Arc<str>>>,
    look_at: Option<Instant>,
}

impl<E: Env> Session<E> {
    pub(crate) fn new(
        client: &Client<E>,
        config: GroupConfig,
        news: mpsc::UnboundedSender<News>,
        membership: watch::Sender<Membership>,
    ) -> Self {
        let (backoff, rng) = (client.shared().backoff(), client.env().rng("client.group"));
        let machine = match config.protocol {
            GroupProtocol::Classic => Machine::Classic(Box::new(Classic::new(config.clone(), backoff, rng))),
            GroupProtocol::Consumer => Machine::Modern(Box::new(Modern::new(config.clone(), backoff, rng))),
        };
        Self {
            client: client.clone(),
            pool: Arc::new(Mutex::new(client.own_pool())),
            polled_at: client.now(),
            config,
            machine,
            news,
            membership,
            coordinator: None,
            subscription: None,
            is_absent: false,
            asking: None,
            looking: None,
            looked_at: None,
            look_at: None,
        }
    }

    /// Runs until the application is gone, then leaves.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let clock = self.client.env().clock().clone();
        loop {
            let now = clock.now();
            self.check_polls(now);
            self.begin(now);
            self.tell();
            let wake_at = self.deadline();
            tokio::select! { biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => {
                        self.leave("the consumer was dropped").await;
                        return self.tell();
                    }
                },
                (broker, outcome) = under_way(&mut self.asking) => {
                    self.asking = None;
                    self.coordinator = broker;
                    self.handle_outcome(clock.now(), outcome);
                }
                seen = under_way(&mut self.looking) => {
                    self.looking = None;
                    self.handle_seen(clock.now(), seen);
                }
                () = clock.sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        let now = self.client.now();
        match command {
            Command::Subscribe(subscription) => {
                let pattern = match &subscription {
                    Subscription::Pattern(pattern) => topics::compile(pattern).ok(),
                    Subscription::Topics(_) => None,
                };
                self.subscription = Some((subscription, pattern));
                self.polled_at = now;
                self.is_absent = false;
                self.subscribe(now);
            }
            Command::Polled => {
                self.polled_at = now;
                if core::mem::take(&mut self.is_absent) {
                    self.subscribe(now);
                }
            }
            Command::Done => match &mut self.machine {
                Machine::Classic(member) => member.handle_done(now),
                Machine::Modern(member) => member.handle_done(now),
            },
            Command::Leave(done) => {
                self.subscription = None;
                self.leave("the consumer is closed").await;
                self.tell();
                // Dropping it is the answer.
                drop(done);
            }
        }
    }

    /// Hands the subscription to the machine, which joins if it has not; a pattern's topics are found first where they are needed.
    fn subscribe(&mut self, now: Instant) {
        let Some((subscription, _)) = &self.subscription else { return };
        match (&mut self.machine, subscription) {
            (Machine::Classic(member), Subscription::Topics(topics)) => {
                member.handle_topics(now, topics.clone());
                self.look_at = Some(now);
            }
            (Machine::Classic(_), Subscription::Pattern(_)) => self.look_at = Some(now),
            (Machine::Modern(member), Subscription::Topics(topics)) => {
                member.handle_wanted(now, Wanted::Topics(topics.clone()));
            }
            (Machine::Modern(member), Subscription::Pattern(pattern)) => {
                member.handle_wanted(now, Wanted::Pattern(pattern.clone()));
            }
        }
    }

    fn ledger(&mut self) -> &mut Ledger {
        match &mut self.machine {
            Machine::Classic(member) => &mut member.ledger,
            Machine::Modern(member) => &mut member.ledger,
        }
    }

    fn check_polls(&mut self, now: Instant) {
        let is_in = self.subscription.is_some() && !self.is_absent;
        if !is_in || now < self.polled_at + self.config.poll_interval_max {
            return;
        }
        self.is_absent = true;
        if let Some(ask) = self.take_leave("the application did not poll in time") {
            self.send_leave(ask);
        }
    }

    /// When something is due.
    fn deadline(&self) -> Option<Instant> {
        let machine = match &self.machine {
            Machine::Classic(member) => member.deadline(),
            Machine::Modern(member) => member.deadline(),
        };
        let is_in = self.subscription.is_some() && !self.is_absent;
        let polls = is_in.then(|| self.polled_at + self.config.poll_interval_max);
        let look = self.look_at.filter(|_| self.looking.is_none());
        [machine.filter(|_| self.asking.is_none()), polls, look].into_iter().flatten().min()
    }

    /// Begins what is due.
    fn begin(&mut self, now: Instant) {
        if self.asking.is_none() {
            let ask = match &mut self.machine {
                Machine::Classic(member) => member.ask(now),
                Machine::Modern(member) => member.ask(now),
            };
            self.asking = ask.map(|ask| self.send(ask));
        }
        if self.looking.is_some() || self.subscription.is_none() || self.is_absent {
            return;
        }
        let is_due = self.look_at.is_some_and(|at| at <= now);
        let is_pattern = matches!(&self.subscription, Some((Subscription::Pattern(_), _)));
        let client = self.client.clone();
        self.looking = match &self.machine {
            Machine::Classic(member) if is_due || (member.wants_counts() && self.look_at.is_none()) => {
                self.looked_at = (!is_pattern).then(|| member.watched());
                let look: Boxed<_> = match self.looked_at.clone() {
                    Some(watched) => Box::pin(topics::look_at(client, watched)),
                    None => Box::pin(topics::look_at_all(client)),
                };
                Some(look)
            }
            Machine::Modern(member) if !member.unnamed().is_empty() && (is_due || self.look_at.is_none()) => {
                Some(Box::pin(topics::look_at_all(client)))
            }
            _ => None,
        };
    }

    fn handle_seen(&mut self, now: Instant, seen: Result<Seen, ClientError>) {
        let Ok(seen) = seen else {
            // It has been tried for long; signs of life go on.
            self.look_at = Some(now + self.client.config().retry_backoff_max);
            return;
        };
        let max_age = self.client.config().metadata_max_age;
        match &mut self.machine {
            Machine::Modern(member) => {
                member.handle_names(seen.names);
                // A topic without a name has been deleted, or this broker has not heard of it yet.
                let again = self.client.config().retry_backoff_max;
                self.look_at = (!member.unnamed().is_empty()).then(|| now + again);
            }
            Machine::Classic(member) => {
                let mut is_missing = false;
                // What was looked at before it was known what the others want does not do.
                if self.looked_at.as_ref().is_some_and(|looked_at| !member.watched().is_subset(looked_at)) {
                    self.look_at = Some(now);
                    return;
                }
                match &self.subscription {
                    Some((Subscription::Topics(topics), _)) => {
                        is_missing = topics.iter().any(|topic| !seen.counts.contains_key(topic));
                    }
                    Some((_, Some(pattern))) => {
                        let found: BTreeSet<Arc<str>> =
                            seen.counts.keys().filter(|name| pattern.is_match(name)).cloned().collect();
                        is_missing = found.is_empty();
                        member.handle_topics(now, found);
                    }
                    _ => {}
                }
                member.handle_counts(now, &seen.counts);
                let again = if is_missing { max_age.min(MISSING_INTERVAL) } else { max_age };
                self.look_at = Some(now + again);
            }
        }
    }

    fn handle_outcome(&mut self, now: Instant, outcome: Result<Answer, ClientError>) {
        let outcome = outcome.map_err(|error| match error {
            ClientError::Version { .. } if matches!(self.machine, Machine::Modern(_)) => {
                ClientError::Config(format!("{error}: this group needs GroupProtocol::Classic"))
            }
            error => error,
        });
        let verdict = match (&mut self.machine, outcome) {
            (Machine::Classic(member), Ok(answer)) => member.handle_reply(now, answer.response),
            (Machine::Classic(member), Err(error)) => member.handle_trouble(now, &error),
            (Machine::Modern(member), Ok(answer)) => member.handle_reply(now, answer.response),
            (Machine::Modern(member), Err(error)) => member.handle_trouble(now, &error),
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Elsewhere => self.coordinator = None,
            Verdict::Failed(error) => {
                self.subscription = None;
                self.tell();
                drop(self.news.send(News::Failed(error)));
            }
        }
        if let Machine::Classic(member) = &self.machine
            && member.wants_counts()
        {
            self.look_at = Some(now);
        }
    }

    /// Tells the application what has changed. An error means that it is gone, which `run` finds out.
    fn tell(&mut self) {
        let membership = match &self.machine {
            Machine::Classic(member) => member.membership(),
            Machine::Modern(member) => member.membership(),
        };
        let is_new = *self.membership.borrow() != membership;
        if is_new {
            self.membership.send_replace(membership);
        }
        while let Some(change) = self.ledger().take() {
            drop(self.news.send(News::Change(change)));
        }
    }

    /// Finds the coordinator if need be, and asks it.
    fn send(&self, ask: Ask) -> Boxed<Asked> {
        let mut patience = self.client.config().request_timeout;
        if ask.is_long {
            patience = patience.max(self.config.poll_interval_max + REPLY_MARGIN);
        }
        let (client, pool) = (self.client.clone(), Arc::clone(&self.pool));
        Box::pin(asking::ask(client, pool, self.config.group.clone(), self.coordinator, ask, patience))
    }

    fn take_leave(&mut self, reason: &'static str) -> Option<Ask> {
        self.asking = None;
        match &mut self.machine {
            Machine::Classic(member) => member.leave(reason),
            Machine::Modern(member) => member.leave(),
        }
    }

    /// Leaves, and waits until the group has been told, or can't be.
    async fn leave(&mut self, reason: &'static str) {
        if let Some(ask) = self.take_leave(reason) {
            self.told(ask).await;
        }
    }

    /// Has the group told, and does not wait.
    fn send_leave(&self, ask: Ask) {
        let env = self.client.env();
        drop(env.spawn(env.current_shard(), "client.group.leave", self.told(ask)));
    }

    /// Tells the group that the member leaves.
    ///
    /// Of the consumer protocol by the member's own connections, behind the heartbeat that may be under way: a join that the coordinator
    /// hears after the leave makes it a member again, for a session. A classic member's own may be busy with a join for long, and no
    /// request of its revives a member that has left.
    fn told(&self, ask: Ask) -> impl Future<Output = ()> + Send + use<E> {
        let pool = matches!(self.machine, Machine::Modern(_)).then(|| Arc::clone(&self.pool));
        told(self.client.clone(), pool, self.config.group.clone(), self.coordinator, ask)
    }
}

/// Ends when this does; never if there is nothing.
async fn under_way<T>(work: &mut Option<Boxed<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => core::future::pending().await,
    }
}
