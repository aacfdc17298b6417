//! Medians, ranges, ratios and verdicts, as a table and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::metrics::{Bound, GOALS, Goal, Metric, Results};
use super::server::Kind;

/// Both tables: every figure, and every goal that can be judged.
pub(crate) fn text(results: &Results) -> String {
    let mut out = String::from("\nmedian (lowest-highest) of the rounds\n");
    let mut header = format!("{:<48}", "");
    for kind in results.kinds() {
        write!(header, "{:>28}", kind.name()).expect("a string takes everything");
    }
    out.push_str(&header);
    out.push('\n');
    for metric in Metric::ALL {
        let cells: Vec<String> = results.kinds().iter().map(|&kind| cell(results, kind, metric)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            write!(out, "{:<48}", metric.name()).expect("a string takes everything");
            for cell in cells {
                write!(out, "{cell:>28}").expect("a string takes everything");
            }
            out.push('\n');
        }
    }
    let verdicts: Vec<Verdict> = GOALS.iter().filter_map(|goal| judge(results, goal)).collect();
    if !verdicts.is_empty() {
        out.push_str("\ngoals\n");
    }
    for verdict in verdicts {
        writeln!(out, "{:<48}{:<40}{:>12}  {}", verdict.metric.name(), verdict.wanted, verdict.reached, verdict.word)
            .expect("a string takes everything");
    }
    out
}

/// Every figure, the medians, and the verdicts.
pub(crate) fn json(results: &Results) -> Value {
    let mut servers = Map::new();
    for &kind in results.kinds() {
        let mut metrics = Map::new();
        for metric in Metric::ALL {
            if let Some(median) = results.median(kind, metric) {
                let rounds = results.all(kind, metric);
                metrics.insert(metric.name().trim().to_owned(), json!({ "median": median, "rounds": rounds }));
            }
        }
        servers.insert(kind.name().to_owned(), Value::Object(metrics));
    }
    let verdict = |goal: &Goal| {
        let verdict = judge(results, goal)?;
        Some(json!({
            "metric": verdict.metric.name(), "wanted": verdict.wanted, "reached": verdict.reached, "verdict": verdict.word,
        }))
    };
    json!({ "servers": servers, "goals": GOALS.iter().filter_map(verdict).collect::<Vec<_>>() })
}

fn cell(results: &Results, kind: Kind, metric: Metric) -> String {
    let Some(median) = results.median(kind, metric) else { return String::new() };
    let rounds = results.all(kind, metric);
    let lowest = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = rounds.iter().copied().fold(0.0, f64::max);
    if rounds.len() == 1 {
        return figure(median);
    }
    format!("{} ({}-{})", figure(median), figure(lowest), figure(highest))
}

/// Three significant digits or so.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

struct Verdict {
    metric: Metric,
    wanted: String,
    reached: String,
    word: &'static str,
}

/// `None`: one of the figures it needs was not measured.
fn judge(results: &Results, goal: &Goal) -> Option<Verdict> {
    let ours = results.median(Kind::Quipu, goal.metric)?;
    let (wanted, reached, met) = match goal.bound {
        Bound::TimesAtLeast(other, times) => {
            let ratio = ours / results.median(other, goal.metric)?;
            (format!("at least {times} x {}", other.name()), format!("{ratio:.2} x"), ratio >= times)
        }
        Bound::TimesAtMost(other, times) => {
            let ratio = ours / results.median(other, goal.metric)?;
            (format!("at most {times} x {}", other.name()), format!("{ratio:.3} x"), ratio <= times)
        }
        Bound::PlainAtMost(most) => (format!("at most {}", figure(most)), figure(ours), ours <= most),
        Bound::OursAtMost(metric) => {
            let most = results.median(Kind::Quipu, metric)?;
            (format!("at most {}", figure(most)), figure(ours), ours <= most)
        }
        Bound::OursAndAtMost(metric, more) => {
            let most = results.median(Kind::Quipu, metric)? + more;
            (format!("at most {}", figure(most)), figure(ours), ours <= most)
        }
        Bound::OursTimesOrAndAtMost(metric, times, more) => {
            let base = results.median(Kind::Quipu, metric)?;
            let most = (base * times).max(base + more);
            (format!("at most {}", figure(most)), figure(ours), ours <= most)
        }
        Bound::PlainAtLeast(least) => (format!("at least {}", figure(least)), figure(ours), ours >= least),
    };
    let of_sink = results.median(Kind::Sink, goal.metric).map(|sink| ours / sink);
    let wanted = match goal.of_sink {
        Some(part) => format!("{wanted} (or {:.0} % of the sink)", part * 100.0),
        None => wanted,
    };
    let word = match (met, goal.of_sink, of_sink) {
        (true, _, _) => "met",
        (false, Some(part), Some(reached)) if reached >= part => "met: the client is the limit",
        _ => "MISSED",
    };
    Some(Verdict { metric: goal.metric, wanted, reached, word })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::metrics::Figures;

    fn results(ours: f64, kafka: f64, sink: f64) -> Results {
        let kinds = [Kind::Quipu, Kind::Kafka, Kind::Sink];
        let mut results = Results::new(&kinds);
        for (kind, value) in kinds.into_iter().zip([ours, kafka, sink]) {
            results.add(kind, Figures::from([(Metric::Produce1k, value)]));
        }
        results
    }

    fn verdict(results: &Results) -> &'static str {
        judge(results, &GOALS[0]).unwrap().word
    }

    #[test]
    fn a_goal_is_met_by_ratio_or_at_the_client_limit() {
        assert_eq!(verdict(&results(300.0, 200.0, 900.0)), "met");
        assert_eq!(verdict(&results(290.0, 200.0, 300.0)), "met: the client is the limit");
        assert_eq!(verdict(&results(290.0, 200.0, 900.0)), "MISSED");
    }

    #[test]
    fn a_goal_without_its_figures_is_not_judged() {
        let mut results = Results::new(&[Kind::Quipu]);
        results.add(Kind::Quipu, Figures::from([(Metric::Produce1k, 1.0)]));
        assert!(judge(&results, &GOALS[0]).is_none());
    }

    #[test]
    fn medians_of_odd_and_even_rounds() {
        let mut results = results(3.0, 1.0, 1.0);
        results.add(Kind::Quipu, Figures::from([(Metric::Produce1k, 1.0)]));
        assert_eq!(results.median(Kind::Quipu, Metric::Produce1k), Some(2.0));
        results.add(Kind::Quipu, Figures::from([(Metric::Produce1k, 7.0)]));
        assert_eq!(results.median(Kind::Quipu, Metric::Produce1k), Some(3.0));
        assert!(text(&results).contains("3.000 (1.000-7.000)"));
    }
}
