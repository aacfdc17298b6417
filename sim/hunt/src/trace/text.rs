//! The trace as text: one line for each event, in the order of time.
//!
//! ```text
//!    seconds  lane      what       details
//! ! 0.204511  world     violation  unseen: knots-0: 1 of 9 known records are gone, ...
//! ```
//!
//! What takes long has a line when it ends, too; an operation of a disk only then, since that is when it takes place. Routine is
//! counted (`. 12 message, 3 disk`) unless all is wanted. `!` marks violations and the operations that show them.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use super::{
    milliseconds, seconds,
    timeline::{Event, Kind, Timeline},
};

/// What to show. By default everything but routine.
#[derive(Clone, Default, Debug)]
pub struct Filter {
    /// Only these lanes, and what concerns them; all if empty.
    pub lanes: Vec<usize>,
    /// Only these, routine included; all if empty.
    pub kinds: Vec<Kind>,
    /// Not before, in nanoseconds.
    pub from: Option<u64>,
    /// Not from then on, in nanoseconds.
    pub until: Option<u64>,
    /// Routine as well.
    pub all: bool,
}

/// A line in the making: when, of which event, and what it says.
struct Line<'a> {
    at: u64,
    event: &'a Event,
    text: String,
}

/// The lines of a timeline.
#[must_use]
pub fn text(timeline: &Timeline, filter: &Filter) -> String {
    let mut lines: Vec<Line<'_>> = timeline
        .events
        .iter()
        .filter(|event| filter.concerns(event))
        .flat_map(|event| lines(timeline, event))
        .collect();
    lines.sort_by_key(|line| line.at);
    let width = timeline.lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut left_out: BTreeMap<&'static str, u64> = BTreeMap::new();
    for line in lines.iter().filter(|line| filter.is_in_time(line.at)) {
        if !filter.shows(line.event) {
            *left_out.entry(line.event.kind.name()).or_insert(0) += 1;
            continue;
        }
        tell_left_out(&mut text, &mut left_out, width);
        let sign = if line.event.is_evidence { '!' } else { ' ' };
        let lane = &timeline.lanes[line.event.lane].name;
        let kind = line.event.kind.name();
        let _infallible = writeln!(text, "{sign}{:>12}  {lane:width$}  {kind:14}  {}", seconds(line.at), line.text);
    }
    tell_left_out(&mut text, &mut left_out, width);
    text
}

fn tell_left_out(text: &mut String, left_out: &mut BTreeMap<&'static str, u64>, width: usize) {
    if left_out.is_empty() {
        return;
    }
    let counts: Vec<String> = left_out.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let _infallible = writeln!(text, "{:>13}  {:width$}  {}", ".", "", counts.join(", "));
    left_out.clear();
}

impl Filter {
    fn concerns(&self, event: &Event) -> bool {
        let is_of = |lane: &usize| event.lane == *lane || event.others.contains(lane);
        (self.lanes.is_empty() || self.lanes.iter().any(is_of))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    fn is_in_time(&self, at: u64) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    fn shows(&self, event: &Event) -> bool {
        self.all || !event.is_routine || self.kinds.contains(&event.kind)
    }
}

/// One line, or two: when it begins and when it ends.
fn lines<'a>(timeline: &'a Timeline, event: &'a Event) -> Vec<Line<'a>> {
    let line = |at, text| Line { at, event, text };
    let begin = format!("{} {}", event.name, event.text).trim_end().to_owned();
    let took = event.until.map(|until| milliseconds(until.saturating_sub(event.at)));
    match (event.kind, event.until, took) {
        (Kind::Disk, Some(until), Some(took)) => {
            let failure = event.answer.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            vec![line(until, format!("{begin} (took {took}){failure}"))]
        }
        (Kind::Operation, Some(until), Some(took)) if until > event.at => {
            let answer = event.answer.as_deref().unwrap_or_default();
            vec![line(event.at, begin.clone()), line(until, format!("{begin} -> {answer} (took {took})"))]
        }
        (Kind::Fault, Some(until), _) => vec![line(event.at, begin), line(until, format!("{} is over", event.name))],
        (Kind::Message, _, took) => {
            let to = event.others.first().map_or("?", |lane| timeline.lanes[*lane].name.as_str());
            let arrives = took.map_or_else(|| "never arrives".to_owned(), |took| format!("arrives after {took}"));
            vec![line(event.at, format!("-> {to} {begin}, {arrives}"))]
        }
        (Kind::Violation, ..) => vec![line(event.at, format!("{}: {}", event.name, event.text))],
        _ => {
            let answer = event.answer.as_ref().map_or_else(String::new, |answer| format!(" -> {answer}"));
            vec![line(event.at, format!("{begin}{answer}"))]
        }
    }
}
