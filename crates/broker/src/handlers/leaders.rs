//! Who leads instead (KIP-951): told with an answer that says that this broker does not, so that the client need not ask.
//!
//! A leader that is not told, because it is this broker and not active yet, or nobody, is found by asking for the metadata.

use std::collections::BTreeSet;

use quipu_base::{BrokerId, LeaderEpoch, PartitionIndex};
use quipu_env::Env;
use quipu_metadata::Topic;
use quipu_protocol::{ErrorCode, Str};

use crate::node::View;

/// The leaders that one response names.
#[derive(Default)]
pub(super) struct Leaders(BTreeSet<BrokerId>);

impl Leaders {
    /// The leader of a partition whose answer has this error, if it helps to know it.
    pub(super) fn name<E: Env>(
        &mut self,
        view: &View<E>,
        topic: Option<&Topic>,
        partition: i32,
        error_code: i16,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let explains = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        if !explains.iter().any(|code| code.code() == error_code) {
            return None;
        }
        let state = topic?.partition(PartitionIndex(partition))?;
        let leader = state.leader.filter(|leader| *leader != view.node_id())?;
        self.0.insert(leader);
        Some((leader, state.leader_epoch))
    }

    /// Where those named listen: what `endpoint` makes of id, host, port and rack.
    pub(super) fn endpoints<E: Env, N>(
        &self,
        view: &View<E>,
        endpoint: impl Fn(i32, Str, i32, Option<Str>) -> N,
    ) -> Vec<N> {
        let named = self.0.iter().filter_map(|broker| {
            let registration = &view.image.broker(*broker)?.registration;
            let listener = registration.listener(crate::CLIENT_LISTENER)?;
            let rack = registration.rack.as_deref().map(Str::from);
            Some(endpoint(broker.get(), listener.host.as_str().into(), i32::from(listener.port), rack))
        });
        named.collect()
    }
}
