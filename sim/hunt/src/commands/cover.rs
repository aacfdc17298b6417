//! `cover`: what a hunt never reached of all that the sources mark.
//!
//! The catalogue is read off the sources: every probe is called with a literal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use clap::Args;
use quipu_hunt::run::served_apis;
use quipu_protocol::ErrorCode;
use quipu_sim::fault::Fault;

use super::{
    Done, Failed,
    hunt::{self, Sum},
    source::{Bugs, results_dir},
};

/// Names what a hunt never reached: marks, crash points, unusual branches, kinds of fault, requests, error codes.
///
/// Looks at the last hunt's target/sim/coverage.json, or hunts itself if --minutes is given. What these worlds can't reach is named
/// with the reason. Ends with one summary line.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Hunt for so long first.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Worlds at once.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Exit with status 1 if anything was never reached that can be.
    #[arg(long)]
    strict: bool,
}

/// What no world reaches, by the reason.
const BEYOND: &[(&str, &[&str])] = &[
    (
        "groups at work are with the end-to-end tests",
        &[
            "groups.serving",
            "CoordinatorLoadInProgress",
            "FencedInstanceId",
            "GroupIdNotFound",
            "GroupMaxSizeReached",
            "GroupSubscribedToTopic",
            "IllegalGeneration",
            "InconsistentGroupProtocol",
            "InvalidGroupId",
            "InvalidSessionTimeout",
            "MemberIdRequired",
            "NonEmptyGroup",
            "NotCoordinator",
            "OffsetMetadataTooLarge",
            "RebalanceInProgress",
            "UnknownMemberId",
        ],
    ),
    (
        "it takes a frame of the log with a right checksum that no release writes; storage's own tests forge them",
        &["recovery.batch-below-end", "recovery.misplaced-frame", "recovery.not-a-batch", "recovery.repair-misplaced"],
    ),
    (
        "clients of the hunt send no such request; the broker's own tests do",
        &[
            "CorruptMessage",
            "ElectionNotNeeded",
            "EligibleLeadersNotAvailable",
            "InvalidRecord",
            "InvalidRequest",
            "MessageTooLarge",
            "NoReassignmentInProgress",
            "PolicyViolation",
            "UnsupportedCompressionType",
            "UnsupportedVersion",
        ],
    ),
    (
        "only nodes are answered so, and clients are not told",
        &["DuplicateBrokerRegistration", "InconsistentClusterId", "StaleBrokerEpoch"],
    ),
    ("there is no unclean election in these worlds", &["replication.left-out-of-unclean-election"]),
    ("it would be a bug", &["UnknownServerError", "replication.committed-records-missing"]),
];

/// Names in the sources, by the probe's method.
struct Catalogue(BTreeMap<&'static str, BTreeSet<String>>);

const METHODS: &[&str] = &["sometimes", "crash_point", "buggify"];

pub(super) fn run(arguments: &Arguments) -> Done {
    let sum = match arguments.minutes {
        Some(minutes) => {
            let bugs = Bugs { planted: Vec::new() };
            hunt::hunt(&hunt::Arguments::plain(minutes, arguments.jobs, bugs))?.sum
        }
        None => {
            let file = results_dir()?.join("coverage.json");
            let text = fs::read_to_string(&file)
                .map_err(|error| Failed::Usage(format!("{}: {error}; run hunt, or give --minutes", file.display())))?;
            serde_json::from_str(&text).map_err(|error| Failed::Other(format!("{}: {error}", file.display())))?
        }
    };
    let holes = holes(&sum)?;
    let (mut all, mut reached, mut beyond) = (0, 0, 0);
    for (what, names, missing) in &holes {
        all += names;
        reached += names - missing.len();
        println!("{what}: {} of {names} reached", names - missing.len());
        for name in missing {
            match why_beyond(name) {
                Some(why) => {
                    beyond += 1;
                    println!("    not in these worlds: {name} ({why})");
                }
                None => println!("    never: {name}"),
            }
        }
    }
    let never = all - reached - beyond;
    println!("cover: {reached} of {all} reached in {} worlds, {never} never, {beyond} not in these worlds", sum.worlds);
    if arguments.strict && never > 0 { Err(Failed::Told) } else { Ok(()) }
}

/// Why worlds don't reach something, if it is known.
fn why_beyond(name: &str) -> Option<&'static str> {
    BEYOND.iter().find(|(_, names)| names.contains(&name)).map(|(why, _)| *why)
}

/// What it is, how many there are, and those that were never reached.
type Holes = (&'static str, usize, Vec<String>);

fn holes(sum: &Sum) -> Result<Vec<Holes>, Failed> {
    let catalogue = Catalogue::read(Path::new("crates"))?;
    let missing = |names: &BTreeSet<String>, has: &dyn Fn(&str) -> bool| {
        (names.len(), names.iter().filter(|name| !has(name)).cloned().collect::<Vec<_>>())
    };
    let marks = missing(catalogue.of("sometimes"), &|name| sum.marks.contains_key(name));
    let points = missing(catalogue.of("crash_point"), &|name| sum.crash_points.contains_key(name));
    let unusual = missing(catalogue.of("buggify"), &|name| sum.buggified.contains_key(name));
    let kinds: BTreeSet<String> = Fault::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let happened = |name: &str| {
        // An orderly stop is the run's own doing, and always happens.
        sum.faults.get(name).is_some_and(|(begun, happened)| *happened > 0 || (name == "stop" && *begun > 0))
    };
    let kinds = missing(&kinds, &happened);
    let apis: BTreeSet<String> = served_apis().map(|(_, name)| name).collect();
    let asked: BTreeSet<String> =
        served_apis().filter(|(number, _)| sum.apis.contains_key(number)).map(|(_, name)| name).collect();
    let apis = missing(&apis, &|name| asked.contains(name));
    let codes = error_codes(Path::new("crates/broker/src/errors.rs"))?;
    let answered: BTreeSet<String> =
        sum.codes.keys().filter_map(|code| ErrorCode::from_code(*code)).map(|code| format!("{code:?}")).collect();
    let codes = missing(&codes, &|name| answered.contains(name));
    Ok([
        ("marks", marks),
        ("crash points", points),
        ("unusual branches", unusual),
        ("faults", kinds),
        ("requests", apis),
        ("error codes", codes),
    ]
    .into_iter()
    .map(|(what, (count, missing))| (what, count, missing))
    .collect())
}

/// Every code that inner errors become.
fn error_codes(file: &Path) -> Result<BTreeSet<String>, Failed> {
    let text = fs::read_to_string(file).map_err(Failed::io(file.display()))?;
    Ok(codes_in(&text))
}

fn codes_in(source: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
    source.split("ErrorCode::").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

impl Catalogue {
    /// Every name in the sources below a directory, tests left out.
    fn read(directory: &Path) -> Result<Self, Failed> {
        let mut catalogue = Self(METHODS.iter().map(|method| (*method, BTreeSet::new())).collect());
        catalogue.add_all(directory)?;
        Ok(catalogue)
    }

    fn of(&self, method: &str) -> &BTreeSet<String> {
        &self.0[method]
    }

    fn add_all(&mut self, directory: &Path) -> Result<(), Failed> {
        let entries = fs::read_dir(directory).map_err(Failed::io(directory.display()))?;
        for entry in entries {
            let path = entry.map_err(Failed::io(directory.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "tests" {
                    self.add_all(&path)?;
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).map_err(Failed::io(path.display()))?;
                self.add(&text);
            }
        }
        Ok(())
    }

    fn add(&mut self, source: &str) {
        for (method, names) in &mut self.0 {
            let call = format!(".{method}(");
            for (position, _) in source.match_indices(&call) {
                let rest = source[position + call.len()..].trim_start();
                if let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_off_calls_with_literals() {
        let mut catalogue = Catalogue(METHODS.iter().map(|method| (*method, BTreeSet::new())).collect());
        catalogue
            .add("probe.sometimes(\"a.b\"); probe\n    .crash_point(\n        \"c\",\n    ); probe.sometimes(name);");
        assert_eq!(catalogue.of("sometimes").iter().collect::<Vec<_>>(), ["a.b"]);
        assert_eq!(catalogue.of("crash_point").iter().collect::<Vec<_>>(), ["c"]);
        assert!(catalogue.of("buggify").is_empty());
    }

    #[test]
    fn what_is_said_to_be_out_of_reach_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let Ok(catalogue) = Catalogue::read(&root.join("crates")) else { panic!("the sources can be read") };
        let Ok(codes) = error_codes(&root.join("crates/broker/src/errors.rs")) else { panic!("so can the mapping") };
        for name in BEYOND.iter().flat_map(|(_, names)| *names) {
            let is_known = METHODS.iter().any(|method| catalogue.of(method).contains(*name)) || codes.contains(*name);
            assert!(is_known, "{name} is in no source any more");
        }
    }

    #[test]
    fn codes_are_read_off_the_match() {
        let codes = codes_in(
            "A => ErrorCode::NotController, B | C => {\n ErrorCode::InvalidConfig\n }; ErrorCode::NotController",
        );
        assert_eq!(codes.iter().collect::<Vec<_>>(), ["InvalidConfig", "NotController"]);
    }
}
