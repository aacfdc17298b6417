//! Properties of the assignors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use quipu_base::{PartitionIndex, TopicId};

use crate::consumer::{
    Assignor,
    assign::{TopicRacks, Wish},
    request::Partitions,
};

type Racks = BTreeMap<TopicId, Vec<BTreeSet<Arc<str>>>>;

fn id(topic: u8) -> TopicId {
    TopicId([topic + 1; 16])
}

fn views(topics: &Racks) -> BTreeMap<TopicId, TopicRacks<'_>> {
    topics.iter().map(|(topic, racks)| (*topic, racks.as_slice())).collect()
}

fn topics() -> impl Strategy<Value = Racks> {
    let partition = prop::collection::btree_set(prop::sample::select(vec!["r0", "r1", "r2"]), 0..3);
    let topic = prop::collection::vec(partition, 0..9);
    prop::collection::vec(topic, 1..6).prop_map(|topics| {
        let shared = |racks: BTreeSet<&str>| racks.into_iter().map(Arc::from).collect();
        let topics = topics.into_iter().map(|racks| racks.into_iter().map(shared).collect());
        (0..).map(id).zip(topics).collect()
    })
}

/// Members, and whether all want the same.
fn wishes() -> impl Strategy<Value = (Vec<Wish>, bool)> {
    let member = (prop::collection::btree_set(0_u8..6, 0..6), prop::option::of(0_u8..3), any::<bool>());
    (prop::collection::vec(member, 1..8), any::<bool>()).prop_map(|(members, alike)| {
        let same = members[0].0.clone();
        let wish = |(at, (topics, rack, is_static)): (usize, (BTreeSet<u8>, Option<u8>, bool))| Wish {
            member_id: format!("m{at}").into(),
            instance_id: is_static.then(|| format!("i{at}").into()),
            rack: rack.map(|rack| format!("r{rack}").into()),
            topics: if alike { &same } else { &topics }.iter().copied().map(id).collect(),
            before: Partitions::new(),
        };
        (members.into_iter().enumerate().map(wish).collect(), alike)
    })
}

fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

fn pieces(partitions: &Partitions) -> BTreeSet<(TopicId, PartitionIndex)> {
    partitions.iter().flat_map(|(topic, held)| held.iter().map(|partition| (*topic, *partition))).collect()
}

/// Every partition that somebody wants has one owner, who wants it; no other has one.
fn check_owners(wishes: &[Wish], targets: &[Partitions], topics: &Racks) {
    let mut owned = BTreeSet::new();
    for (wish, target) in wishes.iter().zip(targets) {
        for (topic, partition) in pieces(target) {
            assert!(wish.topics.contains(&topic), "nobody gets what it does not want");
            assert!(owned.insert((topic, partition)), "nobody gets what another has");
        }
    }
    let is_wanted = |topic: &TopicId| wishes.iter().any(|wish| wish.topics.contains(topic));
    let all = topics.iter().filter(|(topic, _)| is_wanted(topic)).flat_map(|(topic, racks)| {
        (0..racks.len()).map(move |at| (*topic, PartitionIndex(i32::try_from(at).unwrap())))
    });
    assert_eq!(owned, all.collect(), "nothing is left over");
}

fn check_balance(wishes: &[Wish], targets: &[Partitions], alike: bool) {
    let loads: Vec<usize> = targets.iter().map(count).collect();
    if alike {
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
    }
    for (from, target) in targets.iter().enumerate() {
        for topic in target.keys() {
            for (to, wish) in wishes.iter().enumerate() {
                assert!(!wish.topics.contains(topic) || loads[from] <= loads[to] + 1, "{from} has more than {to}");
            }
        }
    }
}

fn with_before(wishes: &[Wish], targets: &[Partitions]) -> Vec<Wish> {
    let wishes = wishes.iter().zip(targets);
    wishes.map(|(wish, target)| Wish { before: target.clone(), ..wish.clone() }).collect()
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_who_wants_it((wishes, _) in wishes(), topics in topics()) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            check_owners(&wishes, &assignor.assign(&wishes, &views(&topics)), &topics);
        }
    }

    #[test]
    fn uniform_is_balanced_and_stays((wishes, alike) in wishes(), topics in topics()) {
        let targets = Assignor::Uniform.assign(&wishes, &views(&topics));
        check_balance(&wishes, &targets, alike);
        let again = with_before(&wishes, &targets);
        prop_assert_eq!(Assignor::Uniform.assign(&again, &views(&topics)), targets);
    }

    #[test]
    fn uniform_moves_no_more_than_balance_takes((wishes, alike) in wishes(), topics in topics(), gone in any::<prop::sample::Index>()) {
        let targets = Assignor::Uniform.assign(&wishes, &views(&topics));
        let mut left = with_before(&wishes, &targets);
        left.remove(gone.index(wishes.len()));
        if left.is_empty() {
            return Ok(());
        }
        let then = Assignor::Uniform.assign(&left, &views(&topics));
        check_owners(&left, &then, &topics);
        check_balance(&left, &then, alike);
        if alike {
            for (wish, target) in left.iter().zip(&then) {
                prop_assert!(pieces(target).is_superset(&pieces(&wish.before)), "who stays keeps what it has");
            }
            // It comes back: only it gains.
            let mut back = with_before(&left, &then);
            back.push(Wish { before: Partitions::new(), ..wishes[gone.index(wishes.len())].clone() });
            let finally = Assignor::Uniform.assign(&back, &views(&topics));
            check_balance(&back, &finally, alike);
            for (wish, target) in left.iter().zip(&finally) {
                prop_assert!(pieces(target).is_subset(&pieces(&then[left.iter().position(|at| at.member_id == wish.member_id).unwrap()])));
            }
        }
    }
}

#[test]
fn a_thousand_members_and_ten_thousand_partitions_take_no_time() {
    let topics: Racks = (0..10).map(|topic| (id(topic), vec![BTreeSet::new(); 1000])).collect();
    let wish = |at: usize| Wish {
        member_id: format!("m{at}").into(),
        instance_id: None,
        rack: None,
        topics: topics.keys().copied().collect(),
        before: Partitions::new(),
    };
    let wishes: Vec<Wish> = (0..1000).map(wish).collect();
    let targets = Assignor::Uniform.assign(&wishes, &views(&topics));
    assert!(targets.iter().all(|target| count(target) == 10));
}
