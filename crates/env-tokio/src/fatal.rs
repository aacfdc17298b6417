//! The two ways in which the process ends without unwinding: a panic anywhere, and [`halt`].
//!
//! Invariants
//! - Nothing runs after either: no destructor, no exit handler, no write to any file. What the kernel holds of the data
//!   directory is then exactly what it held at the moment of the decision.
//!
//! In release builds `panic = "abort"` does the first; [`AbortOnPanic`] makes debug builds behave the same.

use std::{
    io::{self, Write},
    process, thread,
};

use quipu_env::Fatal;

/// Ends the process if it is dropped by a panic. Hold one wherever a panic would otherwise be swallowed by tokio or end one
/// thread only.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&format!("`{}` panicked; the process stops, since it cannot know what was left undone", self.0));
            process::abort();
        }
    }
}

/// Logs `message` and ends the process with the exit status of `why`.
#[expect(unsafe_code, reason = "std has no exit that skips the exit handlers")]
pub(crate) fn halt(why: Fatal, message: &str) -> ! {
    tell(message);
    // SAFETY: `_exit` takes any status, never returns, and leaves memory and files alone.
    unsafe { libc::_exit(i32::from(why.exit_status())) }
}

/// To the log; to standard error where nobody has set up one.
fn tell(message: &str) {
    tracing::error!("{message}");
    let mut stderr = io::stderr().lock();
    if !tracing::dispatcher::has_been_set() {
        // Nothing is left to be done about a closed standard error.
        drop(writeln!(stderr, "quipu: {message}"));
    }
    drop(stderr.flush());
}
