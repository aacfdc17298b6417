//! The probe of the tests: one planted bug at most, and a count of the marks reached.

use core::{
    fmt,
    hash::{Hash, Hasher},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use quipu_env::Probe;

/// How often each mark was reached.
pub(crate) type Marks = Arc<Mutex<BTreeMap<&'static str, u64>>>;

#[derive(Clone, Default)]
pub(crate) struct TestProbe {
    pub(crate) planted: Option<&'static str>,
    pub(crate) marks: Option<Marks>,
}

impl Probe for TestProbe {
    fn event(&self, _name: &'static str, _fields: &[(&'static str, i64)]) {}

    fn sometimes(&self, name: &'static str) {
        if let Some(marks) = &self.marks {
            *marks.lock().unwrap().entry(name).or_default() += 1;
        }
    }

    fn buggify(&self, _name: &'static str) -> bool {
        false
    }

    fn planted(&self, name: &'static str) -> bool {
        self.planted == Some(name)
    }

    fn crash_point(&self, _name: &'static str) {}
}

/// States that differ only in what was marked are the same.
impl PartialEq for TestProbe {
    fn eq(&self, other: &Self) -> bool {
        self.planted == other.planted
    }
}

impl Eq for TestProbe {}

impl Hash for TestProbe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.planted.hash(state);
    }
}

impl fmt::Debug for TestProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestProbe").field(&self.planted).finish()
    }
}
