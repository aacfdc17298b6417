//! Faults as values: drawn, written, read, made milder, refused.

use std::collections::BTreeSet;

use quipu_sim::{
    NodeConfig, Sim, SimConfig,
    fault::{Cost, Fault, FaultError, Targets},
};
use serde::{Deserialize, Serialize};

use crate::kit::{names, run};

fn targets() -> Targets {
    Targets { servers: names(&["a", "b"]), clients: names(&["c", "d"]), data_dir: "/data".to_owned() }
}

/// Faults of every kind, many of each.
fn all() -> Vec<Fault> {
    let report = run(|world| async move {
        let mut rng = world.rng("faults");
        let kinds = Fault::KINDS.iter().flat_map(|kind| [kind; 40]);
        kinds.map(|kind| Fault::draw(kind, &mut rng, &targets())).collect::<Vec<_>>()
    });
    report.value
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Plan {
    faults: Vec<Fault>,
}

#[test]
fn drawn_faults_are_of_their_kind_and_make_sense() {
    let faults = all();
    for (index, fault) in faults.iter().enumerate() {
        assert_eq!(fault.kind(), Fault::KINDS[index / 40]);
        assert_eq!(fault.check(), Ok(()), "{fault:?}");
    }
    let kinds: BTreeSet<&str> = Fault::KINDS.iter().copied().collect();
    assert_eq!(kinds.len(), Fault::KINDS.len());
}

#[test]
fn a_plan_reads_as_it_was_written() {
    let plan = Plan { faults: all() };
    let text = toml::to_string(&plan).expect("it can be written");
    assert_eq!(toml::from_str::<Plan>(&text).expect("it can be read"), plan);
    let kinds = plan.faults.iter().zip(text.lines().filter(|line| line.starts_with("[[") || line.starts_with("[f")));
    assert!(kinds.count() > 0, "{text}");
}

#[test]
fn a_plan_is_written_for_people() {
    let text = "
        [[faults]]
        partition = { from = [\"a\"], to = [\"b\"], one_way = true, lasts_ms = 50 }
        [[faults]]
        latency = { from = [\"a\"], to = [\"b\"], one_way = false, lasts_ms = 5, latency = { uniform = { min_us = 1, max_us = 2 } } }
        [[faults]]
        crash-at = { node = \"a\", point = \"wal.*\", skip = 0, how = \"power-cut\", down_ms = 1, again = [
            { point = { name = \"open\", skip = 1 } }, { disk = { at = 3, moment = \"after\" } } ] }
    ";
    let plan: Plan = toml::from_str(text).expect("it can be read");
    assert_eq!(plan.faults.iter().map(Fault::kind).collect::<Vec<_>>(), ["partition", "latency", "crash-at"]);
    let wrong = [
        ("partitoin = { from = [\"a\"] }", "partitoin"),
        ("pause = { node = \"a\", lasts_ms = 1, percent = 3 }", "percent"),
        ("pause = { node = \"a\" }", "lasts_ms"),
        ("pause = { node = \"a\", lasts_ms = -1 }", "-1"),
    ];
    for (line, named) in wrong {
        let error =
            toml::from_str::<Plan>(&format!("[[faults]]\n{line}\n")).expect_err("it makes no sense").to_string();
        assert!(error.contains(named) && error.contains("line 2"), "{error}");
    }
}

#[test]
fn every_way_to_something_simpler_comes_to_an_end() {
    for fault in all() {
        let (mut simplest, mut steps) = (fault.clone(), 0);
        while let Some(simpler) = simplest.simpler().into_iter().last() {
            assert_ne!(simpler, simplest);
            assert_eq!(simpler.check(), Ok(()), "{simpler:?}");
            simplest = simpler;
            steps += 1;
            assert!(steps < 2000, "{fault:?} never gets simple: {simplest:?}");
        }
        for variant in fault.simpler() {
            assert!(variant.cost() <= fault.cost() && variant != fault, "{variant:?} from {fault:?}");
        }
        assert!(
            !fault.simpler().is_empty()
                || matches!(
                    fault,
                    Fault::Fin { .. } | Fault::HalfOpen { .. } | Fault::ClockStep { .. } | Fault::Reset { .. }
                )
                || simplest == fault
        );
    }
}

#[test]
fn costs_and_times() {
    let rot = |below: &str| Fault::BitRot { node: "a".into(), below: below.into(), file: 0, place_ppm: 0, bits: 1 };
    assert_eq!(rot("/data/seg/t-0").cost(), Cost::Detectable);
    assert_eq!(rot("/data").cost(), Cost::Undetectable, "it may hit the log");
    let lie = Fault::SyncLies { node: "a".into(), below: String::new(), skip: 0, times: 1 };
    assert_eq!(lie.cost(), Cost::Undetectable);
    let kill = Fault::Kill { node: "a".into(), down_ms: 10, times: 3, up_ms: 5 };
    assert_eq!((kill.cost(), kill.lasts().as_millis()), (Cost::Nothing, 45));
    assert_eq!(kill.down().map(|(node, down)| (node, down.as_millis())), Some(("a", 10)));
    let pause = Fault::Pause { node: "a".into(), lasts_ms: 7 };
    assert_eq!((pause.lasts().as_millis(), pause.down()), (7, None));
}

#[test]
fn what_makes_no_sense_is_refused_and_the_field_named() {
    Sim::new(1, SimConfig::default()).run(|world| async move {
        let _node = world.node("a", NodeConfig::default());
        let partition = |from: &[&str], to: &[&str]| Fault::Partition {
            from: names(from),
            to: names(to),
            one_way: false,
            lasts_ms: 1,
        };
        let unknown = world.begin(&partition(&["a"], &["b"])).expect_err("nobody is called b");
        assert_eq!(unknown.to_string(), "partition.to: no machine is called \"b\"");
        let empty = world.begin(&partition(&[], &["a"])).expect_err("nobody");
        assert!(matches!(empty, FaultError::Senseless { field: "from", .. }), "{empty}");
        let loss = Fault::Loss { from: names(&["a"]), to: names(&["a"]), one_way: false, percent: 101, lasts_ms: 1 };
        assert_eq!(world.begin(&loss).expect_err("too much").to_string(), "loss.percent: must be at most 100");
    });
}
