//! What is told of a group to whoever asks.

use super::{
    Consumer, ConsumerSettings, Member,
    reconcile::Current,
    request::{AssignedTopic, ConsumerDescribed, ConsumerDescribedMember, Partitions},
    topics::Topics,
};

impl Consumer {
    /// The group as it is.
    pub(crate) fn describe(&self, settings: &ConsumerSettings, topics: &Topics) -> ConsumerDescribed {
        ConsumerDescribed {
            state: self.state(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor(settings).name(),
            members: self.members.values().map(|member| self.describe_member(member, topics)).collect(),
        }
    }

    fn describe_member(&self, member: &Member, topics: &Topics) -> ConsumerDescribedMember {
        let Current { epoch, .. } = &member.current;
        ConsumerDescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack.clone(),
            member_epoch: *epoch,
            is_classic: member.classic.is_some(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_names: member.names.clone(),
            subscribed_regex: member.regex.clone(),
            assignment: named(&member.current.assigned_partitions(), topics),
            target: self.targets.get(&member.id).map_or_else(Vec::new, |target| named(target, topics)),
        }
    }
}

fn named(partitions: &Partitions, topics: &Topics) -> Vec<AssignedTopic> {
    let named = partitions.iter().filter_map(|(topic_id, partitions)| {
        let topic = topics.name(*topic_id)?.clone();
        Some(AssignedTopic { topic_id: *topic_id, topic, partitions: partitions.iter().copied().collect() })
    });
    named.collect()
}
