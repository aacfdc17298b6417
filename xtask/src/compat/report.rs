//! The page: a table of clients and suites, then for each what fails and what is excluded, with the reason.

use std::fmt::Write;

use super::{Line, Outcome, Verdict};

/// The whole page.
pub(super) fn page(outcomes: &[Outcome], broker: &str, date: &str) -> String {
    let mut page = format!(
        "# Compatibility\n\nWritten by `cargo xtask compat` on {date}, with {broker}; never edited by hand.\n\n\
         | client | version | suite | run on | passes | fails | excluded |\n|---|---|---|---|---|---|---|\n"
    );
    for outcome in outcomes {
        let Outcome { client, suite, version, date, .. } = outcome;
        let counts = match &outcome.lines {
            Ok(lines) => format!(
                "{} | {} | {}",
                count(lines, Verdict::Passes),
                count(lines, Verdict::Fails),
                count(lines, Verdict::Excluded)
            ),
            Err(_) => "not run | |".to_owned(),
        };
        writeln!(page, "| {client} | {version} | {suite} | {date} | {counts} |").expect("a string takes everything");
    }
    outcomes.iter().for_each(|outcome| section(&mut page, outcome));
    page
}

fn count(lines: &[Line], verdict: Verdict) -> usize {
    lines.iter().filter(|line| line.verdict == verdict).count()
}

fn section(page: &mut String, outcome: &Outcome) {
    write!(page, "\n## {}: {}\n\n", outcome.client, outcome.suite).expect("a string takes everything");
    let lines = match &outcome.lines {
        Ok(lines) => lines,
        Err(why) => return page.push_str(&format!("Not run: {}\n", cell(why))),
    };
    for line in lines {
        match line.verdict {
            Verdict::Passes => writeln!(page, "- passes: {}", cell(&line.name)),
            Verdict::Fails => writeln!(page, "- **fails**: {}: {}", cell(&line.name), cell(&line.why)),
            Verdict::Excluded => writeln!(page, "- excluded: {}: {}", cell(&line.name), cell(&line.why)),
        }
        .expect("a string takes everything");
    }
}

/// Text as Markdown shows it, on one line and not too long.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(300).collect();
    line.replace('|', "\\|").replace('<', "&lt;").replace('_', "\\_").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_counted_and_told() {
        let line = |verdict, why: &str| Line { verdict, name: "a_b".into(), why: why.into() };
        let lines = vec![line(Verdict::Passes, ""), line(Verdict::Fails, "x | y"), line(Verdict::Excluded, "later")];
        let some = Outcome { client: "c", suite: "s", date: "then".into(), version: "1".into(), lines: Ok(lines) };
        let none = Outcome {
            client: "d",
            suite: "s",
            date: String::new(),
            version: String::new(),
            lines: Err("no node".into()),
        };
        let page = page(&[some, none], "quipu 1", "2001-02-03");
        assert!(
            page.contains("| c | 1 | s | then | 1 | 1 | 1 |") && page.contains("| d |  | s |  | not run | | |"),
            "{page}"
        );
        assert!(page.contains("- **fails**: a\\_b: x \\| y") && page.contains("Not run: no node"), "{page}");
    }
}
