//! The connections of one user: of the client itself, of a producer, of a consumer. One for each broker, made at the first call,
//! ended when it has nothing to do for long, and made anew when it is gone.
//!
//! A consumer's fetches wait at the broker for records, and replies come in order; so each consumer and each producer has
//! connections of its own.
//!
//! Not here: which broker leads what (`cluster`), retries (whoever calls).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use quipu_base::BrokerId;
use quipu_env::{Env, Rng};
use quipu_protocol::ErrorCode;

use crate::{
    BrokerAddress, ClientConfig, ClientError,
    backoff::Backoff,
    cluster::Cluster,
    connection::{Call, Handle, Settings},
};

/// What everything that belongs to one client shares.
pub(crate) struct Shared<E: Env> {
    pub(crate) env: E,
    pub(crate) config: ClientConfig,
    cluster: Mutex<Arc<Cluster>>,
}

impl<E: Env> Shared<E> {
    pub(crate) fn new(env: E, config: ClientConfig) -> Self {
        Self { env, config, cluster: Mutex::default() }
    }

    /// What is known now.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn update_cluster<T>(&self, update: impl FnOnce(&mut Cluster) -> T) -> T {
        update(Arc::make_mut(&mut self.cluster.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max)
    }
}

/// Whom to connect to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Target {
    /// A broker of the cluster.
    Broker(BrokerId),
    /// A bootstrap address, by its place in the list.
    Bootstrap(usize),
}

struct Slot {
    handle: Handle,
    failures: Arc<AtomicU32>,
}

/// See the module. Dropping it ends the connections.
pub(crate) struct Pool<E: Env> {
    shared: Arc<Shared<E>>,
    slots: BTreeMap<Target, Slot>,
    rng: Rng,
}

impl<E: Env> Pool<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        let rng = shared.env.rng("client.connections");
        Self { shared, slots: BTreeMap::new(), rng }
    }

    /// Hands over a call; never waits. Calls to the same target are sent in the order in which they come here.
    pub(crate) fn call(&mut self, target: Target, call: Call) {
        match self.handle(target) {
            Ok(handle) => handle.call(call),
            Err(error) => call.reply.send(Err(error)),
        }
    }

    /// Where a target is, if that is known.
    pub(crate) fn address(&self, target: Target) -> Option<BrokerAddress> {
        match target {
            Target::Bootstrap(index) => self.shared.config.bootstrap.get(index).cloned(),
            Target::Broker(id) => self.shared.cluster().brokers.get(&id).map(|broker| broker.address.clone()),
        }
    }

    fn handle(&mut self, target: Target) -> Result<&Handle, ClientError> {
        let is_open = self.slots.get(&target).is_some_and(|slot| !slot.handle.is_closed());
        if !is_open {
            let known = self.slots.get(&target).map(|slot| (slot.handle.address().clone(), Arc::clone(&slot.failures)));
            // A broker that is down is not in the list for a while: its last address is as good as any.
            let address = self.address(target).or_else(|| known.as_ref().map(|(address, _)| address.clone()));
            let address = address.ok_or_else(|| unknown(target))?;
            let failures =
                known.filter(|(before, _)| *before == address).map(|(_, failures)| failures).unwrap_or_default();
            let slot = self.connect(address, failures);
            self.slots.insert(target, slot);
        }
        self.slots.get(&target).map(|slot| &slot.handle).ok_or_else(|| unknown(target))
    }

    fn connect(&mut self, address: BrokerAddress, failures: Arc<AtomicU32>) -> Slot {
        let config = &self.shared.config;
        let pause = match failures.load(Ordering::Relaxed) {
            0 => core::time::Duration::ZERO,
            count => self.shared.backoff().pause(count, &mut self.rng),
        };
        let settings = Settings {
            address,
            client_id: config.client_id.as_str().into(),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            response_bytes_max: config.response_bytes_max,
            idle_max: config.connection_idle_max,
            failures: Arc::clone(&failures),
        };
        Slot { handle: Handle::start(&self.shared.env, settings, pause), failures }
    }
}

fn unknown(target: Target) -> ClientError {
    let what = match target {
        Target::Broker(id) => format!("connect to broker {id}, which is not in the cluster's list"),
        Target::Bootstrap(index) => format!("connect to bootstrap address {index}"),
    };
    ClientError::refused(what, ErrorCode::LeaderNotAvailable.code(), None)
}
