//! What is committed becomes the image, and everybody hears of it.
//!
//! Invariant: entries are applied in the order of the log, each once, and only when they are committed and durable here.
//!
//! Not here: what a record does to the image (`quipu-metadata`).

use std::collections::BTreeMap;

use quipu_base::{BrokerId, DirectoryId, checksum::crc32c};
use quipu_env::{Env, Fatal, Probe};
use quipu_metadata::{Delta, Image};
use quipu_peer::{Expected, PeerAddress};
use quipu_raft::{Entry, Payload};

use super::{
    Quorum,
    entries::records_of,
    load::{LoadError, READ_BYTES, read_entries},
};
use crate::PEER_LISTENER;

impl<E: Env> Quorum<E> {
    /// Applies everything that is committed.
    pub(super) async fn apply(&mut self) {
        if self.applied >= self.committed {
            return;
        }
        let mut image = self.serving.image().clone();
        let mut delta = Delta::default();
        while self.applied < self.committed {
            let entries = match self.next_entries().await {
                Ok(entries) => entries,
                Err(error) => self.give_up("committed metadata can't be read back", &error),
            };
            for entry in entries {
                if let Err(error) = self.apply_entry(&entry, &mut image, &mut delta) {
                    self.give_up("committed metadata can't be applied", &error);
                }
            }
        }
        self.env.probe().crash_point("quorum.applied");
        self.serving.advance(image, &delta).await;
        if delta.controller_changed || !delta.brokers_changed.is_empty() {
            self.follow_image();
        }
        self.after_apply();
    }

    fn apply_entry(&mut self, entry: &Entry, image: &mut Image, delta: &mut Delta) -> Result<(), LoadError> {
        for (offset, record) in records_of(entry)? {
            image.apply(offset, &record, delta).map_err(LoadError::Apply)?;
        }
        self.applied_bytes += entry.cost() as u64;
        let (base, end) = (self.applied, entry.end(self.applied).expect("Raft has counted its offsets"));
        let crc = match &entry.payload {
            Payload::Data(data) => crc32c(&data.bytes),
            Payload::LeaderChange { .. } | Payload::Voters(_) => 0,
        };
        let fields =
            [("base", base.0), ("end", end.0), ("epoch", i64::from(entry.epoch.get())), ("crc", i64::from(crc))];
        self.env.probe().event("quorum.applied", &fields);
        self.applied = end;
        Ok(())
    }

    /// The next entries to apply, at least one: from memory, or else from the log.
    async fn next_entries(&mut self) -> Result<Vec<Entry>, LoadError> {
        // What an earlier start has applied already may be here still.
        while self.tail.front().is_some_and(|(base, _)| *base < self.applied) {
            self.tail.pop_front();
        }
        let until = match self.tail.front() {
            Some((base, _)) if *base == self.applied => {
                let (_, entry) = self.tail.pop_front().expect("it was just seen");
                return Ok(vec![entry]);
            }
            Some((base, _)) => (*base).min(self.committed),
            None => self.committed,
        };
        read_entries(&self.log, self.applied, until, READ_BYTES).await
    }

    /// Others may have been waiting for what is applied now.
    pub(super) fn after_apply(&mut self) {
        self.answer_reads();
        self.forwarded.release(self.applied);
        self.finish_round();
    }

    /// Where other nodes are, who serves, and which cluster this is, by the image.
    pub(super) fn follow_image(&mut self) {
        self.check_place();
        let image = self.serving.image();
        let mut known: BTreeMap<BrokerId, (PeerAddress, Option<Expected>)> =
            self.settings.voters.iter().map(|(voter, address)| (*voter, (address.clone(), None))).collect();
        for (broker, state) in image.brokers() {
            if let Some(listener) = state.registration.listener(PEER_LISTENER) {
                let registered = PeerAddress { host: listener.host.clone(), port: listener.port };
                let directory = state.registration.directory_id;
                let is_serving = !state.fenced
                    && self.knows_who_serves(broker, directory)
                    && !self.env.probe().planted("controller.node-id-in-use-accepted");
                // A voter whose place another directory has had, and has left, is where the settings say.
                let voter = self.node.voters().get(broker).filter(|voter| state.fenced && voter.directory != directory);
                let set = voter.and_then(|_| self.settings.voters.get(&broker).cloned());
                known.insert(broker, (set.unwrap_or(registered), Some(Expected { directory, is_serving })));
            }
        }
        known.remove(&self.settings.me.id);
        for gone in self.addressed.iter().filter(|node| !known.contains_key(node)) {
            self.peers.set_address(*gone, None, None);
        }
        self.addressed = known.keys().copied().collect();
        for (node, (address, expected)) in known {
            self.peers.set_address(node, Some(address), expected);
        }
        let cluster_id = image.cluster_id();
        if cluster_id.is_some() && self.own.borrow().cluster_id != cluster_id {
            self.own.send_modify(|own| own.cluster_id = cluster_id);
        }
        self.follow_sessions();
    }

    /// Whether the image can be believed that this directory still serves: a node that was away must not turn away those whose
    /// directory was replaced meanwhile, and the leader among them, from whom alone it can hear of that.
    fn knows_who_serves(&self, node: BrokerId, directory: DirectoryId) -> bool {
        self.leader.is_some_and(|leader| leader.id != node || leader.directory == directory)
    }

    /// A node that was away for longer than its session may find another directory registered in its place. Then everything that it
    /// is to the others has ended: they know it by its broker epoch.
    fn check_place(&self) {
        let Some(own) = self.own.borrow().broker_epoch else { return };
        let me = self.settings.me.id;
        let registered = self.serving.image().broker(me).filter(|state| state.broker_epoch > own);
        if let Some(state) = registered.filter(|_| !self.env.probe().planted("start.replaced-goes-on")) {
            let directory = state.registration.directory_id;
            let why = format!(
                "while this node was not heard of, another process was registered as node {me}, with data directory {directory}: \
                 this one stops"
            );
            self.env.halt(Fatal::Replaced, &why);
        }
    }
}
