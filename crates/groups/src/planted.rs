//! The planted bugs of single groups: looked up where the probe's type is known, so that nothing of their names is left where it says no
//! to all of them.
//!
//! Not here: the bugs of the machine, which has the probe at hand.

use quipu_env::Probe;

/// Which are switched on. None in production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planted {
    pub(crate) wake_up_lost: bool,
    pub(crate) static_fenced_wrongly: bool,
    pub(crate) follower_assigns: bool,
    pub(crate) session_not_extended: bool,
    pub(crate) rebalance_unbounded: bool,
    pub(crate) generation_not_bumped: bool,
    pub(crate) given_before_released: bool,
    pub(crate) member_epoch_not_bumped: bool,
    pub(crate) revocation_unbounded: bool,
    pub(crate) owners_forgotten: bool,
}

impl Planted {
    pub(crate) fn of<P: Probe>(probe: &P) -> Self {
        Self {
            wake_up_lost: probe.planted("groups.wake-up-lost"),
            static_fenced_wrongly: probe.planted("groups.static-fenced-wrongly"),
            follower_assigns: probe.planted("groups.follower-assigns"),
            session_not_extended: probe.planted("groups.session-not-extended"),
            rebalance_unbounded: probe.planted("groups.rebalance-unbounded"),
            generation_not_bumped: probe.planted("groups.generation-not-bumped"),
            given_before_released: probe.planted("groups.given-before-released"),
            member_epoch_not_bumped: probe.planted("groups.member-epoch-not-bumped"),
            revocation_unbounded: probe.planted("groups.revocation-unbounded"),
            owners_forgotten: probe.planted("groups.owners-forgotten"),
        }
    }
}
