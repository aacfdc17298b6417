//! Kafka's `roundrobin`: all partitions of all topics, in order, to one member after the other; who doesn't want one is passed over.

use super::{Candidate, Counts, Shares, empty, partitions_of, subscribers};

pub(super) fn assign(members: &[&Candidate], counts: &Counts) -> Shares {
    let mut shares = empty(members);
    let mut turns = members.iter().cycle();
    for topic in subscribers(members, counts).keys() {
        for partition in partitions_of(topic, counts) {
            // Somebody wants it: the topic is there because of that.
            let next = turns.find(|member| member.subscription.topics.contains(topic));
            if let Some(member) = next {
                shares.entry(member.id.clone()).or_default().insert(partition);
            }
        }
    }
    shares
}
