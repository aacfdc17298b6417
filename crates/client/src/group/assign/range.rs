//! Kafka's `range`: of each topic a run of neighbouring partitions for each member, the first ones one more where it doesn't come
//! out even.

use super::{Candidate, Counts, Shares, empty, partitions_of, subscribers};

pub(super) fn assign(members: &[&Candidate], counts: &Counts) -> Shares {
    let mut shares = empty(members);
    for (topic, wanting) in subscribers(members, counts) {
        let all: Vec<_> = partitions_of(&topic, counts).collect();
        let (each, more) = (all.len() / wanting.len(), all.len() % wanting.len());
        let mut rest = all.into_iter();
        for (place, member) in wanting.into_iter().enumerate() {
            let run = rest.by_ref().take(each + usize::from(place < more));
            shares.entry(member.id.clone()).or_default().extend(run);
        }
    }
    shares
}
