//! Every plan in `sim/scenarios` is run: each tells in its head of a bug that was, and must not come back.

use std::{fs, path::Path};

use quipu_hunt::{Options, Plan, run};

#[test]
fn what_was_found_once_is_not_found_again() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('#'), "{}: a scenario begins with its story", path.display());
        let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = run(&plan, &Options::default());
        assert!(outcome.violations.is_empty(), "{}: {:#?}", path.display(), outcome.violations);
        count += 1;
    }
    assert!(count > 0, "there are scenarios in {}", directory.display());
}
