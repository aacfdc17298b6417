//! What the group wants, what topics there are, and who is to read what for it.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::TopicId;

use super::{
    Consumer, ConsumerSettings, Hall, Member, PARTITION_BYTES, Resolved,
    assign::{Assignor, TopicRacks, Wish},
    pattern::Pattern,
    request::Partitions,
    topics::Topics,
};
use crate::{codec::consumer as records, limits};

/// Expressions are resolved anew at most this often when topics change. Kafka's number.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// What a topic and a partition take in a record, at most.
const TOPIC_RECORD_BYTES: usize = 40;
const PARTITION_RECORD_BYTES: usize = 10;

pub(super) fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

impl Consumer {
    /// The topics that the member wants and that exist.
    pub(super) fn wanted(&self, member: &Member, topics: &Topics) -> BTreeSet<TopicId> {
        let resolved = member.regex.as_ref().and_then(|regex| self.regexes.get(regex));
        let names = member.names.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics));
        names.filter_map(|name| topics.get(name)).map(|topic| topic.id).collect()
    }

    /// Finds what an expression means, if that is not known.
    pub(super) fn resolve(&mut self, hall: &mut Hall<'_>, regex: &Arc<str>) {
        if self.regexes.contains_key(regex) {
            return;
        }
        let resolved = matches(regex, hall);
        self.member_bytes += bytes_of(regex, &resolved);
        hall.turn.write(records::regex(&self.id, regex, Some(&resolved)));
        self.regexes.insert(Arc::clone(regex), resolved);
    }

    /// Nobody may use the expression any more.
    pub(super) fn forget_unused(&mut self, hall: &mut Hall<'_>, regex: &Arc<str>) {
        if self.members.values().any(|member| member.regex.as_ref() == Some(regex)) {
            return;
        }
        if let Some(resolved) = self.regexes.remove(regex) {
            self.member_bytes -= bytes_of(regex, &resolved);
            hall.turn.write(records::regex(&self.id, regex, None));
        }
    }

    /// The group's epoch follows what has changed: `bump` says that members have, and topics are looked at.
    pub(super) fn refresh(&mut self, hall: &mut Hall<'_>, bump: bool) {
        let version = hall.topics.version();
        let is_stale = self.seen != Some(version);
        if !bump && !is_stale {
            return;
        }
        let has_other_topics = is_stale && self.resolve_anew(hall);
        let hash = hall.topics.hash(self.subscribed().into_iter());
        if bump || has_other_topics || hash != self.metadata_hash {
            self.epoch += 1;
            self.metadata_hash = hash;
            hall.turn.write(records::group(&self.id, Some((self.epoch, hash))));
        }
        if self.regexes.values().all(|resolved| resolved.version == version) {
            self.seen = Some(version);
        }
    }

    /// Resolves what was resolved on older topics, unless that was just done. Whether anything came out otherwise.
    fn resolve_anew(&mut self, hall: &mut Hall<'_>) -> bool {
        let now = hall.context.now;
        if self.refreshed.is_some_and(|at| now < at + REFRESH_PAUSE) {
            return false;
        }
        let version = hall.topics.version();
        let old = self.regexes.iter().filter(|(_, resolved)| resolved.version != version);
        let old: Vec<Arc<str>> = old.map(|(regex, _)| Arc::clone(regex)).collect();
        if !old.is_empty() {
            self.refreshed = Some(now);
        }
        let mut differs = false;
        for regex in &old {
            let resolved = matches(regex, hall);
            let known = self.regexes.get_mut(regex).expect("it was just seen");
            if known.topics != resolved.topics {
                differs = true;
                self.member_bytes = self.member_bytes - bytes_of(regex, known) + bytes_of(regex, &resolved);
                hall.turn.write(records::regex(&self.id, regex, Some(&resolved)));
            }
            *known = resolved;
        }
        differs
    }

    /// A new target, if the group's epoch has left the last one behind.
    pub(super) fn retarget(&mut self, hall: &mut Hall<'_>) {
        if self.epoch <= self.assignment_epoch {
            return;
        }
        let names = self.subscribed();
        let topics = names.iter().filter_map(|name| hall.topics.get(name));
        let topics: BTreeMap<TopicId, TopicRacks<'_>> =
            topics.map(|topic| (topic.id, topic.racks.as_slice())).collect();
        let partitions: usize = topics.values().map(|racks| racks.len()).sum();
        let record = topics.len() * TOPIC_RECORD_BYTES + partitions * PARTITION_RECORD_BYTES;
        let memory = (partitions * PARTITION_BYTES).saturating_sub(self.target_count * PARTITION_BYTES);
        if record > limits::GROUP_BYTES_MAX || memory > hall.room {
            tracing::warn!(group = %self.id, partitions, "the group's topics have more partitions than can be assigned");
            return;
        }
        let wishes: Vec<Wish> = self.members.values().map(|member| self.wish(member, hall.topics)).collect();
        let targets = self.assignor(hall.settings).assign(&wishes, &topics);
        for (wish, target) in wishes.iter().zip(&targets) {
            if self.targets.get(&wish.member_id) != Some(target) {
                hall.turn.write(records::target(&self.id, &wish.member_id, Some(target)));
            }
        }
        let now_ms = hall.context.wall.get();
        hall.turn.write(records::target_epoch(&self.id, Some((self.epoch, now_ms))));
        self.target_count = targets.iter().map(count).sum();
        self.targets = wishes.into_iter().map(|wish| wish.member_id).zip(targets).collect();
        self.assignment_epoch = self.epoch;
        tracing::info!(group = %self.id, epoch = self.epoch, members = self.members.len(), partitions, "a new target assignment");
    }

    fn wish(&self, member: &Member, topics: &Topics) -> Wish {
        Wish {
            member_id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            rack: member.rack.clone(),
            topics: self.wanted(member, topics),
            before: self.targets.get(&member.id).cloned().unwrap_or_default(),
        }
    }

    /// The one that most members ask for.
    pub(super) fn assignor(&self, settings: &ConsumerSettings) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let best = votes.into_iter().max_by_key(|(assignor, votes)| (*votes, core::cmp::Reverse(*assignor)));
        let default = settings.assignors.first().copied().unwrap_or(Assignor::Uniform);
        best.map_or(default, |(assignor, _)| assignor)
    }
}

fn matches(regex: &str, hall: &Hall<'_>) -> Resolved {
    let topics = match Pattern::compile(regex) {
        Ok(pattern) => hall.topics.names().filter(|name| pattern.matches(name)).cloned().collect(),
        Err(error) => {
            // It was written by somebody with other bounds.
            tracing::warn!(regex, %error, "a regular expression can't be used, and matches nothing");
            BTreeSet::new()
        }
    };
    Resolved { topics, version: hall.topics.version(), at_ms: hall.context.wall.get() }
}

pub(super) fn bytes_of(regex: &str, resolved: &Resolved) -> usize {
    regex.len() + resolved.topics.len() * super::NAME_OVERHEAD_BYTES
}
