//! Panics of a run: kept with their place instead of printed, since a hunt has many runs and a failing one is told in its own
//! words.
//!
//! Invariant: only panics of threads that run a world are kept; everything else is printed as ever.

use std::{
    panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

static LISTENING: Once = Once::new();
static HEARD: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn heard() -> MutexGuard<'static, Vec<(String, String)>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is heard from here on.
pub(crate) struct Heard {
    from: usize,
}

/// Begins to keep panics.
pub(crate) fn listen() -> Heard {
    LISTENING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let current = thread::current();
            let Some(name) = current.name().filter(|name| name.starts_with("seed ")) else { return usual(info) };
            let text = info.payload_as_str().unwrap_or("a panic without a message");
            let place =
                info.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
            heard().push((name.to_owned(), format!("{text}{place}")));
        }));
    });
    Heard { from: heard().len() }
}

impl Heard {
    /// The first panic since.
    pub(crate) fn first(&self) -> Option<String> {
        heard().get(self.from).map(|(_, text)| text.clone())
    }
}
