//! From a happening, or an operation of the history, to an event with words for people; and whether anybody asks for it.
//!
//! Routine is what goes on all the time when all is well: messages that arrive, reads, questions about files, a mark or a fault's
//! bite after the first of its kind.

use std::collections::{BTreeMap, BTreeSet};

use quipu_sim::{Happening, MessageKind, fault::Fault};
use serde_json::Value as Json;

use super::timeline::{Event, Kind, Making, WORLD};
use crate::{
    history::{Found, History, Op, Outcome, Value, What},
    plan::DATA_DIR,
};

/// Operations of a disk that change nothing.
const LOOKS: &[&str] =
    &["open", "list", "file_size", "size", "check_unlocked", "lock", "space", "read_at", "forget_cached"];

/// How a look for what is not there fails.
const NOT_FOUND: &str = "entity not found";

/// What was told so far, and when faults end.
pub(super) struct Seen {
    /// Ends of faults, by their numbers.
    over: BTreeMap<u64, u64>,
    healed: u64,
    marks: BTreeSet<(usize, &'static str)>,
    /// Kinds of fault that have bitten since the last fault began.
    bitten: BTreeSet<&'static str>,
}

impl Seen {
    pub(super) fn new(happenings: &[Happening]) -> Self {
        let mut seen =
            Self { over: BTreeMap::new(), healed: u64::MAX, marks: BTreeSet::new(), bitten: BTreeSet::new() };
        for happening in happenings {
            match happening {
                Happening::FaultOver { at, number } => drop(seen.over.insert(*number, *at)),
                Happening::Heal { at } => seen.healed = seen.healed.min(*at),
                _ => {}
            }
        }
        seen
    }

    /// The event for a happening; none for what shows elsewhere: machines are lanes, a fault's end belongs to the fault.
    pub(super) fn event(&mut self, making: &mut Making, happening: &Happening) -> Option<Event> {
        let event = match happening {
            Happening::Machine { .. } | Happening::FaultOver { .. } => return None,
            Happening::Start { at, node, life } => {
                let lane = making.machine(*node);
                making.begin_life(lane, *at);
                plain(*at, lane, Kind::Process, "start", format!("process {life}"))
            }
            Happening::End { at, node, how } => {
                let lane = making.machine(*node);
                making.end_life(lane, *at);
                let has_failed = how != "the process returned";
                Event { has_failed, ..plain(*at, lane, Kind::Process, "end", how.clone()) }
            }
            Happening::Message { .. } => message(making, happening)?,
            Happening::Disk { .. } => disk(making, happening)?,
            Happening::Fault { at, number, fault } => self.fault(making, *at, *number, fault),
            Happening::FaultHappened { at, kind } => {
                let is_routine = !self.bitten.insert(kind);
                Event { is_routine, ..plain(*at, WORLD, Kind::FaultHappened, kind, String::new()) }
            }
            Happening::Heal { at } => {
                plain(*at, WORLD, Kind::Fault, "heal", "everything that lasted is over".to_owned())
            }
            Happening::Probe { at, node, name, fields } => {
                plain(*at, making.machine(*node), Kind::Probe, name, numbers(fields))
            }
            Happening::Mark { at, node, name } => {
                let lane = making.machine(*node);
                let is_routine = !self.marks.insert((lane, *name));
                Event { is_routine, ..plain(*at, lane, Kind::Mark, name, String::new()) }
            }
            Happening::CrashPoint { at, node, name } => {
                let point = plain(*at, making.machine(*node), Kind::CrashPoint, name, String::new());
                Event { is_routine: true, ..point }
            }
            Happening::Note { at, lane, text } => {
                let lane = making.named(lane);
                plain(*at, lane, Kind::Note, "note", text.clone())
            }
        };
        Some(event)
    }

    fn fault(&mut self, making: &mut Making, at: u64, number: u64, fault: &Fault) -> Event {
        self.bitten.clear();
        let fields = fields(fault);
        let mut others: Vec<usize> = ["node", "from", "to"]
            .iter()
            .filter_map(|name| fields.get(*name))
            .flat_map(|value| match value {
                Json::String(name) => vec![name.as_str()],
                Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
                _ => Vec::new(),
            })
            .map(|name| making.named(name))
            .collect();
        others.sort_unstable();
        others.dedup();
        let lasts = u64::try_from(fault.lasts().as_nanos()).unwrap_or(u64::MAX);
        let planned = (lasts > 0).then(|| at.saturating_add(lasts).min(self.healed.max(at)));
        let until = self.over.get(&number).copied().or(planned);
        let words: Vec<String> = fields.iter().map(|(name, value)| word(name, value)).collect();
        Event { until, others, ..plain(at, WORLD, Kind::Fault, fault.kind(), words.join(" ")) }
    }
}

fn plain(at: u64, lane: usize, kind: Kind, name: &str, text: String) -> Event {
    Event {
        at,
        until: None,
        lane,
        others: Vec::new(),
        kind,
        name: name.to_owned(),
        text,
        answer: None,
        has_failed: false,
        is_routine: false,
        is_evidence: false,
    }
}

fn message(making: &Making, happening: &Happening) -> Option<Event> {
    let Happening::Message { connection, from, to, kind, bytes, sent, delivered } = happening else { return None };
    let (name, is_over) = match kind {
        MessageKind::Connect => ("connect", false),
        MessageKind::Accepted => ("accepted", false),
        MessageKind::Data => ("data", false),
        MessageKind::Finish => ("finish", false),
        MessageKind::Reset => ("reset", true),
        MessageKind::Refused => ("refused", true),
    };
    let size = if *bytes > 0 { format!("{bytes} bytes, ") } else { String::new() };
    let text = format!("{size}connection {connection}");
    Some(Event {
        until: *delivered,
        others: vec![making.machine(*to)],
        answer: delivered.is_none().then(|| "never arrives".to_owned()),
        has_failed: delivered.is_none() || is_over,
        is_routine: delivered.is_some() && !is_over,
        ..plain(*sent, making.machine(*from), Kind::Message, name, text)
    })
}

fn disk(making: &Making, happening: &Happening) -> Option<Event> {
    let Happening::Disk { node, operation, path, position, bytes, begun, ended, failure } = happening else {
        return None;
    };
    let path = path.strip_prefix(DATA_DIR).map_or(path.as_str(), |path| path.trim_start_matches('/'));
    let mut text = if path.is_empty() { ".".to_owned() } else { path.to_owned() };
    match *operation {
        "read_at" | "write_at" => text.push_str(&format!(" {bytes} bytes at {position}")),
        "set_len" => text.push_str(&format!(" to {position}")),
        _ => {}
    }
    Some(Event {
        until: Some(*ended),
        answer: failure.clone(),
        has_failed: failure.is_some(),
        is_routine: LOOKS.contains(operation) && failure.as_deref().is_none_or(|why| why == NOT_FOUND),
        ..plain(*begun, making.machine(*node), Kind::Disk, operation, text)
    })
}

fn numbers(fields: &[(&'static str, i64)]) -> String {
    let words: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ")
}

/// The fields of a fault as its plan writes them.
fn fields(fault: &Fault) -> serde_json::Map<String, Json> {
    let Ok(Json::Object(outer)) = serde_json::to_value(fault) else { return serde_json::Map::new() };
    match outer.into_iter().next() {
        Some((_kind, Json::Object(fields))) => fields,
        _ => serde_json::Map::new(),
    }
}

fn word(name: &str, value: &Json) -> String {
    match value {
        Json::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}

/// The event for an operation of a client.
pub(super) fn operation(history: &History, op: &Op, lane: usize, is_evidence: bool) -> Event {
    let (name, text, told) = words(history, &op.what);
    let answer = match (op.completed, op.outcome) {
        (None, _) => "never answered".to_owned(),
        (_, Outcome::Ok) => {
            if told.is_empty() {
                "ok".to_owned()
            } else {
                format!("ok: {told}")
            }
        }
        (_, Outcome::Fail) => "refused".to_owned(),
        (_, Outcome::Info) => "nobody knows".to_owned(),
    };
    let is_empty = matches!(&op.what, What::Poll { records, .. } if records.is_empty());
    Event {
        until: op.completed,
        answer: Some(answer),
        has_failed: op.completed.is_none() || op.outcome != Outcome::Ok,
        is_routine: is_empty && op.is_ok() && !is_evidence,
        is_evidence,
        ..plain(op.invoked, lane, Kind::Operation, name, text)
    }
}

/// What was asked (its name, and of what), and what was told.
fn words(history: &History, what: &What) -> (&'static str, String, String) {
    match what {
        What::Send { log, values: sent, base_offset } => {
            let at = base_offset.map_or_else(String::new, |offset| format!("at {offset}"));
            ("send", format!("{} {}", history.name(*log), values(sent)), at)
        }
        What::Poll { log, from, records, high_watermark, .. } => {
            let told = format!("{}, high watermark {high_watermark}", found(records));
            ("poll", format!("{} from {from}", history.name(*log)), told)
        }
        What::Seek { log, to } => ("seek", format!("{} to {to}", history.name(*log)), String::new()),
        What::Audit { log, start, end, records } => {
            ("audit", history.name(*log).to_string(), format!("{start}..{end}: {}", found(records)))
        }
        What::Unreadable { log, from, why } => {
            ("unreadable", format!("{} from {from}: {why}", history.name(*log)), String::new())
        }
        What::DeleteRecords { log, to, low_watermark } => {
            let told = low_watermark.map_or_else(String::new, |offset| format!("low watermark {offset}"));
            ("delete-records", format!("{} below {to}", history.name(*log)), told)
        }
        What::CreateTopic { topic } => ("create-topic", topic.clone(), String::new()),
        What::DeleteTopic { topic, id } => ("delete-topic", format!("{topic} ({id})"), String::new()),
        What::Topics { ids } => ("topics", format!("{} are there", ids.len()), String::new()),
        What::Join { group } => ("join", group.clone(), String::new()),
        What::Given { log, group, generation, committed } => {
            let told = format!("generation {generation}, committed {committed}");
            ("given", format!("{} by {group}", history.name(*log)), told)
        }
        What::Taken { log, group, is_lost, .. } => {
            let how = if *is_lost { "unasked" } else { "" };
            ("taken", format!("{} by {group}", history.name(*log)), how.to_owned())
        }
        What::Take { log, group, generation, records } => {
            let told = format!("generation {generation}: {}", found(records));
            ("take", format!("{} for {group}", history.name(*log)), told)
        }
        What::Committed { group, offsets } => {
            let place = |(log, offset): &(crate::history::LogIndex, i64)| format!("{} {offset}", history.name(*log));
            let offsets: Vec<String> = offsets.iter().map(place).collect();
            ("committed", group.clone(), offsets.join(", "))
        }
        What::Commit { group, generation, offsets } => {
            let place = |(log, offset): &(crate::history::LogIndex, i64)| format!("{} {offset}", history.name(*log));
            let offsets: Vec<String> = offsets.iter().map(place).collect();
            ("commit", format!("to {group} in generation {generation}: {}", offsets.join(", ")), String::new())
        }
        What::Strange { checker, detail } => ("strange", format!("{checker}: {detail}"), String::new()),
    }
}

fn values(values: &[Value]) -> String {
    match values {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, .., last] => format!("{first}..{last} ({} records)", values.len()),
    }
}

fn found(records: &[Found]) -> String {
    let place = |found: &Found| format!("{}@{}", found.value, found.offset);
    match records {
        [] => "nothing".to_owned(),
        [one] => place(one),
        [first, .., last] => format!("{}..{} ({} records)", place(first), place(last), records.len()),
    }
}
