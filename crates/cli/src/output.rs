//! Writing to stdout until nobody reads it any more.
//!
//! Invariant: a reader that goes away (`| head`) ends the command quietly; any other failure is told.

use std::{
    io::{self, BufWriter, ErrorKind, Stdout, Write},
    ops::ControlFlow,
    process::ExitCode,
};

use serde::Serialize;

/// Where the answer goes.
pub(crate) struct Output {
    pub(crate) json: bool,
    stdout: BufWriter<Stdout>,
    failure: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::with_capacity(64 * 1024, io::stdout()), failure: None }
    }

    /// Writes a line. `Break` once that has failed.
    pub(crate) fn line(&mut self, line: &str) -> ControlFlow<()> {
        self.take(|stdout| writeln!(stdout, "{line}"))
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> ControlFlow<()> {
        self.take(|stdout| {
            serde_json::to_writer(&mut *stdout, value)?;
            stdout.write_all(b"\n")
        })
    }

    fn take(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> ControlFlow<()> {
        if self.failure.is_none()
            && let Err(error) = write(&mut self.stdout)
        {
            self.failure = Some(error);
        }
        if self.failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Shows what was written so far: for answers that go on.
    pub(crate) fn flush(&mut self) {
        let _told = self.take(Write::flush);
    }

    /// Ends the answer. `status` counts, unless nobody has read it to its end.
    ///
    /// Errors: the answer can't be written.
    pub(crate) fn finish(mut self, status: u8) -> io::Result<ExitCode> {
        if self.failure.is_none() {
            self.failure = self.stdout.flush().err();
        }
        match self.failure {
            None => Ok(ExitCode::from(status)),
            Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error),
        }
    }
}

/// A number of things, for people.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A table whose columns fit what is in them.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}
