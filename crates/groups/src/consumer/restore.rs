//! A group from its records, in whatever order compaction has left them; and the records that end it.

use std::sync::Arc;

use quipu_coordinator::Turn;

use super::{AWAY, Consumer, Hall, Member, reconcile::Current, target};
use crate::{
    codec::consumer::{self as records, SaidOf},
    request::Reply,
};

impl Consumer {
    /// Takes in a record about the group.
    pub(crate) fn replay(&mut self, said: SaidOf) {
        match said {
            SaidOf::Group(value) => {
                (self.epoch, self.metadata_hash) = value.unwrap_or_default();
            }
            SaidOf::TargetEpoch(epoch) => self.assignment_epoch = epoch.unwrap_or_default(),
            SaidOf::Member(id, Some(mut member)) => {
                if let Some(known) = self.members.get(&id) {
                    member.current = known.current.clone();
                }
                self.insert(*member);
            }
            SaidOf::Member(id, None) => {
                self.remove(&id);
            }
            SaidOf::Target(id, value) => {
                let before = self.targets.remove(&id);
                self.target_count -= before.as_ref().map_or(0, target::count);
                if let Some(value) = value {
                    self.target_count += target::count(&value);
                    self.targets.insert(id, value);
                }
            }
            SaidOf::Current(id, Some(current)) => {
                if !self.members.contains_key(&id) {
                    self.insert(Member::new(Arc::clone(&id)));
                }
                self.set_current(&id, current);
            }
            SaidOf::Current(id, None) => self.set_current(&id, Current { epoch: AWAY, ..Current::default() }),
            SaidOf::Regex(regex, value) => {
                if let Some(before) = self.regexes.remove(&regex) {
                    self.member_bytes -= target::bytes_of(&regex, &before);
                }
                if let Some(value) = value {
                    self.member_bytes += target::bytes_of(&regex, &value);
                    self.regexes.insert(regex, value);
                }
            }
        }
    }

    /// The records that end it.
    pub(crate) fn erase(&self, turn: &mut Turn<Reply>) {
        for regex in self.regexes.keys() {
            turn.write(records::regex(&self.id, regex, None));
        }
        turn.write(records::target_epoch(&self.id, None));
        turn.write(records::group(&self.id, None));
    }

    /// Everything is replayed: what one record says and another does not is put right.
    pub(crate) fn settle(&mut self, hall: &mut Hall<'_>) {
        let lost: Vec<Arc<str>> = self.targets.keys().filter(|id| !self.members.contains_key(*id)).cloned().collect();
        for id in lost {
            if let Some(target) = self.targets.remove(&id) {
                self.target_count -= target::count(&target);
            }
        }
        self.owners.clear();
        if hall.planted.owners_forgotten {
            return self.handle_loaded(hall);
        }
        let currents: Vec<(Arc<str>, Current)> =
            self.members.iter().map(|(id, member)| (Arc::clone(id), member.current.clone())).collect();
        for (id, current) in currents {
            self.own(&id, &current);
        }
        self.handle_loaded(hall);
    }
}
