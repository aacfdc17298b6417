//! The catalogue of planted bugs: it names what product code asks for, and each bug's small plan shows it.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use quipu_hunt::{Options, Plan, mutants, run};
use quipu_sim::fault::Fault;

const CALL: &str = "planted(\"";
/// Every change of the product shifts what chance does under a plan's seed; so the ones after it are tried as well.
const SEEDS_MAX: u64 = 64;

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every name that product code asks for.
fn asked_for() -> BTreeSet<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates")).unwrap() {
        let directory = entry.unwrap().path();
        sources(&directory.join("src"), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let calls = text.split(CALL).skip(1);
        names.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    names
}

#[test]
fn the_catalogue_has_what_product_code_asks_for_and_nothing_else() {
    let listed: Vec<String> = mutants::catalogue().map(|mutant| mutant.name.to_owned()).collect();
    let names: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(names.len(), listed.len(), "a name stands there twice");
    assert_eq!(names, asked_for());
    assert!(names.len() >= 25, "{} bugs", names.len());
    for mutant in mutants::catalogue() {
        assert!(mutant.story.len() > 100 && mutant.bug.ends_with('.'), "{}: its story is short", mutant.name);
    }
}

#[test]
fn what_models_find_instead_is_planted_and_has_no_plan() {
    for (name, why) in mutants::BY_MODELS {
        let mutant = mutants::find(name).unwrap_or_else(|| panic!("{name}: there is no such bug"));
        assert!(!mutant.plan_file().exists(), "{name} has a plan that shows it");
        assert!(name.starts_with("raft.") || name.starts_with("replication."), "{name}: its crate has no models");
        assert!(why.ends_with('.'), "{name}: {why}");
    }
}

fn seen() -> impl Iterator<Item = &'static mutants::Mutant> {
    let is_kept = |mutant: &&mutants::Mutant| !mutant.needs_cluster() || mutant.plan_file().exists();
    mutants::catalogue().filter(|mutant| !mutants::UNSEEN.contains(&mutant.name)).filter(is_kept)
}

fn plan(mutant: &mutants::Mutant) -> Plan {
    let file = mutant.plan_file();
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Plan::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn each_is_found_by_its_plan_and_by_nothing_else_in_it() {
    assert!(seen().count() >= 25, "{} bugs are found", seen().count());
    let mut lost = Vec::new();
    for mutant in seen() {
        let mut plan = plan(mutant);
        let is_found = (0..SEEDS_MAX).any(|_| {
            let sound = run(&plan, &Options::default());
            assert!(sound.violations.is_empty(), "{}: without the bug: {:#?}", mutant.name, sound.violations);
            let broken = run(&plan, &mutant.options());
            plan.seed += 1;
            !broken.violations.is_empty()
        });
        if !is_found {
            lost.push(mutant.name);
        }
    }
    assert!(lost.is_empty(), "no longer found by their plans: {lost:?}; `cargo xtask sim mutants --keep --only NAME`");
}

/// Faults of a plan; each crash in a start that follows a crash is one more.
fn faults(plan: &Plan) -> usize {
    let again = |fault: &Fault| match fault {
        Fault::CrashAt { again, .. } | Fault::CrashAtDisk { again, .. } => again.len(),
        _ => 0,
    };
    plan.faults.iter().map(|timed| 1 + again(&timed.fault)).sum()
}

#[test]
fn most_need_faults_and_their_plans_are_small() {
    let plans: Vec<Plan> = seen().map(plan).collect();
    let with = |least: usize| plans.iter().filter(|plan| faults(plan) >= least).count();
    assert!(2 * with(1) >= plans.len(), "{} of {} need a fault", with(1), plans.len());
    assert!(4 * with(2) >= plans.len(), "{} of {} need more than one", with(2), plans.len());
    let median = |mut sizes: Vec<usize>| {
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    assert!(median(plans.iter().map(faults).collect()) <= 5);
    assert!(median(plans.iter().map(Plan::operation_count).collect()) <= 20);
}

#[test]
fn every_plan_belongs_to_a_bug() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../mutants")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(seen().any(|mutant| mutant.name == name), "{}: there is no such bug, or it is unseen", path.display());
    }
}
