//! A parsed strace log: calls with the line on which each began and ended.
//!
//! Line forms (`-f -y`): `PID name(arguments) = result`, or in two parts `PID name(arguments <unfinished ...>` and
//! `PID <... name resumed>arguments) = result` when another thread's line came between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One system call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments as strace prints them; descriptors as `12</path>`.
    pub(crate) arguments: String,
    /// The line, from 0, on which it began.
    pub(crate) begin: usize,
    /// The line on which it had ended.
    pub(crate) end: usize,
    /// What it returned; for a new descriptor with its path.
    result: String,
    /// The file that it is about, if there is one.
    path: PathBuf,
}

impl Call {
    /// The file that it is about; empty when there is none.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether that file lies below `directory`.
    pub(crate) fn is_below(&self, directory: &Path) -> bool {
        self.path.starts_with(directory)
    }

    /// Whether it wrote to a file.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.name.as_str(), "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev")
            && self.path.is_absolute()
            && self.succeeded()
    }

    /// Whether it sent to a socket.
    pub(crate) fn sends(&self) -> bool {
        matches!(self.name.as_str(), "sendto" | "sendmsg" | "write" | "writev" | "sendfile")
            && self.path.to_string_lossy().starts_with("socket:")
    }

    /// Whether it made a file or a directory. An open with O_CREAT may also have found one: only the first for a path makes it.
    pub(crate) fn creates(&self) -> bool {
        let opens = matches!(self.name.as_str(), "open" | "openat") && self.arguments.contains("O_CREAT");
        (opens || self.name == "mkdir") && self.succeeded()
    }

    /// From where to where, if it renamed.
    pub(crate) fn rename(&self) -> Option<(&Self, PathBuf, PathBuf)> {
        if !self.name.starts_with("rename") || !self.succeeded() {
            return None;
        }
        let mut quoted = self.arguments.split('"').skip(1).step_by(2);
        Some((self, PathBuf::from(quoted.next()?), PathBuf::from(quoted.next()?)))
    }

    fn syncs(&self) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync") && self.result == "0"
    }

    fn succeeded(&self) -> bool {
        !self.result.starts_with('-') && !self.result.starts_with('?')
    }
}

/// A whole log.
#[derive(Debug)]
pub(crate) struct Trace {
    calls: Vec<Call>,
    lines: usize,
}

impl Trace {
    /// Reads a log. Lines that are no calls (exits, signals) are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut calls = Vec::new();
        let mut unfinished: BTreeMap<&str, (usize, String, String)> = BTreeMap::new();
        let mut lines = 0;
        for (line, text) in text.lines().enumerate() {
            lines = line + 1;
            let Some((pid, rest)) = text.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
                if let Some((name, arguments)) = begun.split_once('(') {
                    unfinished.insert(pid, (line, name.to_owned(), arguments.trim_end().to_owned()));
                }
            } else if let Some((_, ended)) = rest.split_once(" resumed>") {
                if let Some((begin, name, arguments)) = unfinished.remove(pid) {
                    calls.extend(call(name, &(arguments + ended), begin, line));
                }
            } else if let Some((name, ended)) = rest.split_once('(') {
                calls.extend(call(name.to_owned(), ended, line, line));
            }
        }
        calls.sort_by_key(|call| call.begin);
        Self { calls, lines }
    }

    /// All calls, by their beginning.
    pub(crate) fn calls(&self) -> impl DoubleEndedIterator<Item = &Call> {
        self.calls.iter()
    }

    /// After the last line.
    pub(crate) fn end(&self) -> usize {
        self.lines
    }

    /// Whether `path` (a file or a directory) was synced by a call that began after `from` and had ended before `until`.
    pub(crate) fn synced_between(&self, path: &Path, from: usize, until: usize) -> bool {
        self.calls.iter().any(|call| call.syncs() && call.path == path && call.begin > from && call.end < until)
    }
}

/// A call from `arguments) = result`.
fn call(name: String, ended: &str, begin: usize, end: usize) -> Option<Call> {
    let (arguments, result) = ended.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments).to_owned();
    let path = match name.as_str() {
        // The file that it gives.
        "open" | "openat" => in_brackets(result),
        "mkdir" => arguments.split('"').nth(1),
        // The first descriptor.
        _ => in_brackets(arguments.split(", ").next()?),
    };
    Some(Call { path: PathBuf::from(path.unwrap_or_default()), name, arguments, begin, end, result: result.to_owned() })
}

/// The text in the first `<...>`: the path of a descriptor.
fn in_brackets(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('<')?;
    rest.split_once('>').map(|(path, _)| path)
}

#[test]
fn a_log_in_two_parts_is_read() {
    let text = "8 write(2</dev/null>, \"x\", 1) = 1\n\
                7 fdatasync(12</d/wal/1> <unfinished ...>\n\
                8 openat(AT_FDCWD</d>, \"/d/x\", O_RDWR|O_CREAT, 0666) = 13</d/x>\n\
                7 <... fdatasync resumed>) = 0\n\
                8 rename(\"/d/x\", \"/d/y\") = 0\n\
                8 +++ exited with 0 +++\n";
    let trace = Trace::parse(text);
    assert!(trace.synced_between(Path::new("/d/wal/1"), 0, 4), "from line 1 to line 3");
    assert!(!trace.synced_between(Path::new("/d/wal/1"), 0, 3), "it had not ended");
    assert!(!trace.synced_between(Path::new("/d/wal/1"), 1, 4), "it had begun");
    let names: Vec<_> = trace.calls().map(|call| (call.name.as_str(), call.begin, call.end)).collect();
    assert_eq!(names, [("write", 0, 0), ("fdatasync", 1, 3), ("openat", 2, 2), ("rename", 4, 4)]);
    let created = trace.calls().find(|call| call.creates()).unwrap();
    assert_eq!(created.path(), Path::new("/d/x"));
    let (_, from, to) = trace.calls().find_map(Call::rename).unwrap();
    assert_eq!((from.as_path(), to.as_path()), (Path::new("/d/x"), Path::new("/d/y")));
}
