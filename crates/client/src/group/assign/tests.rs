//! Shares are whole, even and sticky.

use proptest::prelude::*;

use super::*;
use crate::group::wire::NO_GENERATION;

fn candidate(id: &str, topics: &[&str], owned: &[(&str, i32)]) -> Candidate {
    let owned = owned.iter().map(|(topic, number)| TopicPartition::new(*topic, PartitionIndex(*number))).collect();
    Candidate {
        id: id.to_owned(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            user_data: None,
            owned,
            generation: NO_GENERATION,
            rack: None,
        },
    }
}

fn counts(all: &[(&str, i32)]) -> Counts {
    all.iter().map(|(topic, count)| ((*topic).into(), *count)).collect()
}

fn text(shares: &Shares) -> String {
    let one = |(id, share): (&String, &BTreeSet<TopicPartition>)| {
        format!("{id}: {}", share.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    shares.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[test]
fn range_gives_neighbours_of_each_topic() {
    let members = [candidate("b", &["x", "y"], &[]), candidate("a", &["x", "y"], &[]), candidate("c", &["y"], &[])];
    let shares = assign(Assignor::Range, &members, &counts(&[("x", 3), ("y", 3), ("z", 1)]));
    assert_eq!(text(&shares), "a: x-0 x-1 y-0; b: x-2 y-1; c: y-2");
}

#[test]
fn round_robin_goes_round_and_passes_over_who_does_not_want() {
    let members = [candidate("a", &["x"], &[]), candidate("b", &["x", "y"], &[]), candidate("c", &["x", "y"], &[])];
    let shares = assign(Assignor::RoundRobin, &members, &counts(&[("x", 1), ("y", 3)]));
    assert_eq!(text(&shares), "a: x-0; b: y-0 y-2; c: y-1");
}

#[test]
fn static_members_come_first_and_by_their_names() {
    let named = |id: &str, name: &str| Candidate { instance_id: Some(name.to_owned()), ..candidate(id, &["x"], &[]) };
    let members = [candidate("a", &["x"], &[]), named("z", "one"), named("b", "two")];
    let shares = assign(Assignor::Range, &members, &counts(&[("x", 3)]));
    assert_eq!(text(&shares), "a: x-2; b: x-1; z: x-0");
}

#[test]
fn what_somebody_else_holds_is_given_only_in_the_next_round() {
    let all = [("x", 0), ("x", 1), ("x", 2), ("x", 3)];
    let members = [candidate("a", &["x"], &all), candidate("b", &["x"], &[])];
    let first = assign(Assignor::CooperativeSticky, &members, &counts(&[("x", 4)]));
    assert_eq!(first.get("a").unwrap().len(), 2);
    assert_eq!(first.get("b").unwrap().len(), 0);
    let kept: Vec<(&str, i32)> = first.get("a").unwrap().iter().map(|one| ("x", one.partition.0)).collect();
    let members = [candidate("a", &["x"], &kept), candidate("b", &["x"], &[])];
    let second = assign(Assignor::CooperativeSticky, &members, &counts(&[("x", 4)]));
    assert_eq!((second.get("a"), second.get("b").unwrap().len()), (first.get("a"), 2));
}

#[test]
fn of_two_that_claim_a_partition_the_later_generation_has_it() {
    let mut old = candidate("a", &["x"], &[("x", 0), ("x", 1)]);
    old.subscription.generation = 4;
    let mut new = candidate("b", &["x"], &[("x", 0)]);
    new.subscription.generation = 5;
    let shares = sticky::assign(&[&old, &new], &counts(&[("x", 2)]));
    assert_eq!(text(&shares), "a: x-1; b: x-0");
}

#[test]
fn a_way_through_others_is_found() {
    // `a` can give only to `b`, `b` only to `c`.
    let members = [
        candidate("a", &["x"], &[("x", 0), ("x", 1), ("x", 2)]),
        candidate("b", &["x", "y"], &[("y", 0), ("y", 1)]),
        candidate("c", &["y"], &[("y", 2)]),
    ];
    let members: Vec<&Candidate> = members.iter().collect();
    let shares = sticky::assign(&members, &counts(&[("x", 3), ("y", 3)]));
    assert!(shares.values().all(|share| share.len() == 2), "{}", text(&shares));
}

const TOPICS: [&str; 4] = ["w", "x", "y", "z"];

prop_compose! {
    fn group()(
        wants in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..9),
        sizes in prop::collection::vec(0..7, 4),
    ) -> (Vec<Candidate>, Counts) {
        let member = |(number, wants): (usize, &Vec<bool>)| {
            let topics: Vec<&str> = TOPICS.into_iter().zip(wants).filter(|(_, wants)| **wants).map(|(t, _)| t).collect();
            candidate(&format!("m{number}"), &topics, &[])
        };
        let members = wants.iter().enumerate().map(member).collect();
        (members, TOPICS.into_iter().map(Arc::from).zip(sizes).collect())
    }
}

/// Each wanted partition at one member that wants it, and no other.
fn assert_whole(members: &[Candidate], counts: &Counts, shares: &Shares) {
    let mut given = BTreeSet::new();
    for member in members {
        for partition in &shares[&member.id] {
            assert!(member.subscription.topics.contains(&partition.topic), "{partition} at {}", member.id);
            assert!(given.insert(partition.clone()), "{partition} is given twice");
        }
    }
    let list: Vec<&Candidate> = members.iter().collect();
    let wanted: BTreeSet<TopicPartition> =
        subscribers(&list, counts).keys().flat_map(|topic| partitions_of(topic, counts).collect::<Vec<_>>()).collect();
    assert_eq!(given, wanted);
}

fn with_owned(members: &[Candidate], shares: &Shares) -> Vec<Candidate> {
    let mut members = members.to_vec();
    for member in &mut members {
        member.subscription.owned = shares.get(&member.id).cloned().unwrap_or_default();
        member.subscription.generation = 1;
    }
    members
}

fn sticky(members: &[Candidate], counts: &Counts) -> Shares {
    sticky::assign(&members.iter().collect::<Vec<_>>(), counts)
}

proptest! {
    #[test]
    fn every_assignor_gives_everything_once((members, counts) in group()) {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            assert_whole(&members, &counts, &assign(assignor, &members, &counts));
        }
    }

    /// No member has two more than another one that wants one of its topics.
    #[test]
    fn sticky_is_even((members, counts) in group()) {
        let shares = sticky(&members, &counts);
        for rich in &members {
            for poor in &members {
                let could = shares[&rich.id].iter().any(|one| poor.subscription.topics.contains(&one.topic));
                prop_assert!(!could || shares[&rich.id].len() < shares[&poor.id].len() + 2, "{}", text(&shares));
            }
        }
    }

    #[test]
    fn sticky_stays_as_it_is_when_nothing_changes((members, counts) in group()) {
        let shares = sticky(&members, &counts);
        prop_assert_eq!(&sticky(&with_owned(&members, &shares), &counts), &shares);
    }

    /// Where all want the same, one that goes leaves only its own, and one that comes takes no more than its part.
    #[test]
    fn sticky_moves_no_more_than_it_must(count in 1..8_usize, size in 0..30) {
        let members: Vec<Candidate> = (0..count).map(|n| candidate(&format!("m{n}"), &["x"], &[])).collect();
        let counts = counts(&[("x", size)]);
        let before = sticky(&members, &counts);
        let mut more = with_owned(&members, &before);
        more.push(candidate("new", &["x"], &[]));
        let after = sticky(&more, &counts);
        let moved: usize = members.iter().map(|one| before[&one.id].difference(&after[&one.id]).count()).sum();
        prop_assert_eq!(moved, after["new"].len());
        prop_assert!(after["new"].len() <= usize::try_from(size).unwrap().div_ceil(count + 1));
        if count > 1 {
            let fewer = with_owned(&members, &before).split_off(1);
            let after = sticky(&fewer, &counts);
            prop_assert!(fewer.iter().all(|one| before[&one.id].is_subset(&after[&one.id])));
        }
    }

    /// A few rounds of the cooperative protocol come to the whole, and stay there.
    #[test]
    fn cooperation_ends((members, counts) in group(), (others, _) in group()) {
        let mut shares = sticky(&others, &counts);
        for _ in 0..5 {
            shares = assign(Assignor::CooperativeSticky, &with_owned(&members, &shares), &counts);
        }
        assert_whole(&members, &counts, &shares);
        let again = assign(Assignor::CooperativeSticky, &with_owned(&members, &shares), &counts);
        prop_assert_eq!(again, shares);
    }
}
