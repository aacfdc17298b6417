//! Where replicas go.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quipu_base::{BrokerId, TopicId};

use super::script::Script;
use crate::placement::Placement;

/// Brokers 1, 2, .. each in a rack, or none for `-`.
fn cluster(racks: &[&str]) -> Script {
    let mut script = Script::new();
    for (broker, rack) in (1..).zip(racks) {
        let rack = if *rack == "-" { String::new() } else { format!(" rack={rack}") };
        script.run(&format!("ready {broker}{rack}"));
    }
    script
}

fn replicas(script: &Script, topic: u8, count: usize, factor: i16) -> Vec<Vec<BrokerId>> {
    let placement = Placement::new(&script.image, TopicId([topic; 16]), factor).unwrap();
    (0..count).map(|index| placement.replicas(index)).collect()
}

#[test]
fn replicas_stand_in_different_racks() {
    let script = cluster(&["a", "a", "a", "b", "c"]);
    let rack = |broker: &BrokerId| script.image.broker(*broker).unwrap().registration.rack.clone();
    for placed in replicas(&script, 7, 50, 3) {
        assert_eq!(placed.iter().map(rack).collect::<BTreeSet<_>>().len(), 3, "{placed:?}");
    }
}

#[test]
fn followers_of_one_leader_vary() {
    let script = cluster(&["-"; 4]);
    let mut followers: BTreeMap<BrokerId, BTreeSet<BrokerId>> = BTreeMap::new();
    for placed in replicas(&script, 7, 12, 2) {
        followers.entry(placed[0]).or_default().insert(placed[1]);
    }
    assert!(followers.values().all(|others| others.len() == 3), "{followers:?}");
}

#[test]
fn racks_of_one_size_share_the_followers_evenly() {
    for racks in
        [["a", "a", "b", "b", "c", "c"], ["c", "a", "b", "a", "b", "c"], ["-"; 6], ["a", "a", "a", "b", "b", "b"]]
    {
        let script = cluster(&racks);
        for factor in 1..=3 {
            let mut held: BTreeMap<BrokerId, usize> = BTreeMap::new();
            // Each leader meets each shift of the followers once.
            for broker in replicas(&script, 7, 6 * 5, factor).into_iter().flatten() {
                *held.entry(broker).or_default() += 1;
            }
            let (most, least) = (held.values().max().unwrap(), held.values().min().unwrap());
            assert!(held.len() == 6 && most == least, "{racks:?} factor {factor}: {held:?}");
        }
    }
}

#[test]
fn brokers_that_do_not_serve_get_nothing() {
    let mut script = cluster(&["-", "-"]);
    script.run("register 3 start=1");
    script.run("ready 4");
    script.run("stop 4");
    assert!(replicas(&script, 7, 9, 2).iter().all(|placed| placed.iter().all(|broker| broker.get() < 3)));
    assert!(Placement::new(&script.image, TopicId([7; 16]), 3).is_err());
}

proptest! {
    #[test]
    fn replicas_are_distinct_and_leaders_even(
        racks in prop::collection::vec(prop::sample::select(vec!["-", "a", "b", "c"]), 1..7),
        topic in 1_u8..,
        count in 1..40_usize,
        factor in 1..7_usize,
    ) {
        let script = cluster(&racks);
        let factor = factor.min(racks.len());
        let placed = replicas(&script, topic, count, i16::try_from(factor).unwrap());
        let mut led: BTreeMap<BrokerId, usize> = (1..).take(racks.len()).map(|id| (BrokerId(id), 0)).collect();
        for replicas in &placed {
            prop_assert_eq!(replicas.len(), factor);
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
            *led.get_mut(&replicas[0]).unwrap() += 1;
            let rack = |broker: &BrokerId| racks[usize::try_from(broker.get() - 1).unwrap()];
            let has_racks = replicas.iter().map(rack).filter(|rack| *rack != "-");
            let distinct = has_racks.clone().collect::<BTreeSet<_>>().len();
            // Two in one rack only when nobody stands in another one, or in none.
            let all = racks.iter().filter(|rack| **rack != "-").collect::<BTreeSet<_>>().len();
            let alone = racks.iter().filter(|rack| **rack == "-").count();
            prop_assert!(distinct == has_racks.count() || (distinct == all && factor - alone >= all));
        }
        let (most, least) = (led.values().max().unwrap(), led.values().min().unwrap());
        prop_assert!(most - least <= 1, "{:?}", led);
    }
}
