//! `cooperative-sticky`: as even as can be, with as few moves as can be.
//!
//! 1. Everybody keeps what it validly holds: of two that claim a partition the one of the later generation, neither if they are equal.
//! 2. What nobody holds goes to whoever has least, of those who want it; first what few want.
//! 3. As long as some member has two more than another one that its partitions could reach, directly or through members between
//!    them, one partition moves along the shortest such way.
//!
//! Step 3 ends, since the sum of the squares falls with each move, and what it ends with can't be more even.
//!
//! Kafka's assignor of this name decides otherwise in places. That does not matter: one member decides for all, and what they tell
//! each other is the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Candidate, Counts, Shares, partitions_of, subscribers};
use crate::TopicPartition;

/// The work on one assignment. Members are places in the list.
struct Table {
    /// What each member has.
    held: Vec<BTreeSet<TopicPartition>>,
    /// Who wants each topic.
    wanting: BTreeMap<Arc<str>, Vec<usize>>,
}

pub(super) fn assign(members: &[&Candidate], counts: &Counts) -> Shares {
    let place: BTreeMap<&str, usize> = members.iter().enumerate().map(|(at, member)| (&*member.id, at)).collect();
    let wanting = subscribers(members, counts)
        .into_iter()
        .map(|(topic, members)| (topic, members.iter().filter_map(|member| place.get(&*member.id).copied()).collect()))
        .collect();
    let mut table = Table { held: kept(members, counts), wanting };
    table.give_rest(counts);
    while table.move_one() {}
    members.iter().zip(table.held).map(|(member, held)| (member.id.clone(), held)).collect()
}

/// What each member validly holds.
fn kept(members: &[&Candidate], counts: &Counts) -> Vec<BTreeSet<TopicPartition>> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<usize>)> = BTreeMap::new();
    for (at, Candidate { subscription, .. }) in members.iter().enumerate() {
        let generation = subscription.generation;
        for partition in &subscription.owned {
            let count = counts.get(&partition.topic).copied().unwrap_or(0);
            if !subscription.topics.contains(&partition.topic) || !(0..count).contains(&partition.partition.0) {
                continue;
            }
            let claim = claims.entry(partition).or_insert((generation, Some(at)));
            if generation > claim.0 {
                *claim = (generation, Some(at));
            } else if generation == claim.0 && claim.1 != Some(at) {
                claim.1 = None;
            }
        }
    }
    let mut held = vec![BTreeSet::new(); members.len()];
    for (partition, (_, owner)) in claims {
        if let Some(owner) = owner {
            held[owner].insert(partition.clone());
        }
    }
    held
}

impl Table {
    fn give_rest(&mut self, counts: &Counts) {
        let taken: BTreeSet<TopicPartition> = self.held.iter().flatten().cloned().collect();
        let mut topics: Vec<&Arc<str>> = self.wanting.keys().collect();
        topics.sort_by_key(|topic| self.wanting.get(*topic).map_or(0, Vec::len));
        // By load; each topic has a queue of its own, since not everybody wants it.
        for topic in topics {
            let wanting = self.wanting.get(topic).into_iter().flatten();
            let mut by_load: BTreeSet<(usize, usize)> = wanting.map(|at| (self.held[*at].len(), *at)).collect();
            for partition in partitions_of(topic, counts).filter(|partition| !taken.contains(partition)) {
                if let Some((load, at)) = by_load.pop_first() {
                    self.held[at].insert(partition);
                    by_load.insert((load + 1, at));
                }
            }
        }
    }

    /// Moves a partition from somebody who has much towards somebody who has at least two less. False: there is no such pair.
    fn move_one(&mut self) -> bool {
        let mut by_load: Vec<usize> = (0..self.held.len()).collect();
        by_load.sort_by_key(|at| core::cmp::Reverse(self.held[*at].len()));
        let least = by_load.last().map_or(0, |at| self.held[*at].len());
        let rich = by_load.into_iter().take_while(|at| self.held[*at].len() >= least + 2).collect::<Vec<_>>();
        rich.into_iter().any(|from| self.move_from(from))
    }

    /// The shortest way from a member to one with at least two less, over partitions that the next one wants.
    fn move_from(&mut self, from: usize) -> bool {
        let load = self.held[from].len();
        // By whom each member was reached, and with which partition.
        let mut reached: BTreeMap<usize, (usize, TopicPartition)> = BTreeMap::new();
        let mut seen_topics: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for partition in &self.held[at] {
                // Whoever wants the topic was reached when it was first seen.
                if !seen_topics.insert(Arc::clone(&partition.topic)) {
                    continue;
                }
                for next in self.wanting.get(&partition.topic).into_iter().flatten().copied() {
                    if next == from || reached.contains_key(&next) {
                        continue;
                    }
                    reached.insert(next, (at, partition.clone()));
                    queue.push_back(next);
                }
            }
        }
        let poorest = reached.keys().copied().min_by_key(|at| self.held[*at].len());
        let Some(mut to) = poorest.filter(|at| self.held[*at].len() + 2 <= load) else { return false };
        while let Some((giver, partition)) = reached.remove(&to) {
            self.held[giver].remove(&partition);
            self.held[to].insert(partition);
            to = giver;
        }
        true
    }
}

/// Takes out what somebody else still holds: it gives that up first, and the next round gives it on (KIP-429).
pub(super) fn without_moves(members: &[&Candidate], mut shares: Shares) -> Shares {
    for holder in members {
        for partition in &holder.subscription.owned {
            for (id, share) in &mut shares {
                if *id != holder.id {
                    share.remove(partition);
                }
            }
        }
    }
    shares
}
