//! Leaving.

use std::sync::Arc;

use super::{Classic, Desk, State};
use crate::{error::GroupError, request::Leaver};

impl Classic {
    /// Members leave: what became of each, in order.
    pub(crate) fn handle_leave(
        &mut self,
        desk: &mut Desk<'_>,
        leavers: Vec<Leaver>,
    ) -> Vec<(Leaver, Result<(), GroupError>)> {
        let mut has_left = false;
        let mut answers = Vec::with_capacity(leavers.len());
        for leaver in leavers {
            let result = self.leave(desk, &leaver);
            has_left |= result.is_ok();
            answers.push((leaver, result));
        }
        // An id that was given and never used takes nobody's place.
        if has_left && self.state() != State::Empty && !desk.planted.wake_up_lost {
            self.rebalance_or_complete(desk);
        }
        answers
    }

    fn leave(&mut self, desk: &mut Desk<'_>, leaver: &Leaver) -> Result<(), GroupError> {
        let Leaver { member_id, instance_id, reason } = leaver;
        let member_id: Arc<str> = match instance_id {
            Some(instance_id) if member_id.is_empty() => {
                self.statics.get(instance_id).cloned().ok_or(GroupError::UnknownMemberId)?
            }
            None if self.pending.remove(member_id).is_some() => return Ok(()),
            _ => {
                self.check_member(member_id, instance_id.as_deref())?;
                Arc::clone(member_id)
            }
        };
        tracing::info!(group = %self.id, member = %member_id, reason, "a member leaves");
        self.drop_member(desk, &member_id, GroupError::UnknownMemberId);
        Ok(())
    }
}
