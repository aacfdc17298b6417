"use strict";
// The run, which part of it is in view, and what is chosen, hidden and searched for. Times are nanoseconds.

const run = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Sorts of events as they are drawn and hidden: the kinds, with a disk's operations told apart.
const STYLES = ["violation", "operation", "fault", "process", "message", "sync", "write", "read", "probe", "mark", "crash-point", "note"];
const READS = new Set(["open", "list", "file_size", "size", "check_unlocked", "lock", "space", "read_at", "forget_cached"]);

function styleOf(kind, name) {
  if (kind === "fault-happened") return "fault";
  if (kind !== "disk") return kind;
  if (name.startsWith("sync")) return "sync";
  return READS.has(name) ? "read" : "write";
}

const lanes = run.lanes.map((lane, index) => ({ ...lane, index, operationRows: 0, hasDisk: false, hasPoints: false }));

const events = run.events.map(([at, until, lane, others, kind, name, text, answer, flags], index) => ({
  index, at, until, lane, others, kind, name, text, answer,
  style: styleOf(kind, name),
  failed: (flags & 1) !== 0, routine: (flags & 2) !== 0, evidence: (flags & 4) !== 0,
  words: [lanes[lane].name, kind, name, text, answer || "", ...others.map((other) => lanes[other].name)].join(" ").toLowerCase(),
  row: 0,
}));

const violations = events.filter((event) => event.kind === "violation");
const end = Math.max(run.end, 1000, ...violations.map((event) => event.at));
const view = { from: 0, until: end };
const hidden = new Set();
const search = { text: "", matches: [], set: null, place: -1 };
let chosen = null;
let hovered = null;

const ROWS_MAX = 5;

// Gives what overlaps in time rows of its own, as far as there is room.
function pack(list) {
  const free = [];
  for (const event of list) {
    let row = free.findIndex((time) => time <= event.at);
    if (row < 0) row = free.length < ROWS_MAX ? free.length : event.index % ROWS_MAX;
    event.row = row;
    free[row] = Math.max(free[row] || 0, (event.until ?? event.at) + 1);
  }
  return free.length;
}

for (const lane of lanes) {
  const own = events.filter((event) => event.lane === lane.index);
  lane.operationRows = pack(own.filter((event) => event.kind === (lane.index === 0 ? "fault" : "operation")));
  lane.hasDisk = own.some((event) => event.kind === "disk");
  lane.hasPoints = own.some((event) => ["probe", "mark", "crash-point", "note"].includes(event.kind));
}

const seconds = (time, digits = 6) => (time / 1e9).toFixed(digits);
const took = (event) => (event.until === null ? "" : `${((event.until - event.at) / 1e6).toFixed(3)} ms`);
const isShown = (event) => !hidden.has(event.style);
const isMatch = (event) => search.set === null || search.set.has(event.index);

function setView(from, until) {
  const margin = end * 0.02;
  const span = Math.min(Math.max(until - from, 2000), end + 2 * margin);
  view.from = Math.min(Math.max(from, -margin), end + margin - span);
  view.until = view.from + span;
}

function zoom(factor, around) {
  const left = (around - view.from) * factor;
  setView(around - left, around - left + (view.until - view.from) * factor);
}

// Moves the event into the middle, unless it is well in view; comes closer if that shows too much.
function reveal(event) {
  const span = Math.min(view.until - view.from, end * 0.1);
  const isInside = event.at > view.from + span * 0.1 && event.at < view.until - span * 0.1;
  if (!isInside || span < view.until - view.from) setView(event.at - span / 2, event.at + span / 2);
}

// From the first event that shows the first violation to the violation itself.
function toViolation() {
  const violation = violations[0];
  if (!violation) return setView(0, end);
  const shown = events.filter((event) => event.evidence && event.kind !== "violation" && event.at <= violation.at);
  const first = shown.length ? Math.min(...shown.map((event) => event.at)) : violation.at - end * 0.05;
  const near = (index) => events[Math.max(0, Math.min(events.length - 1, index))].at;
  const margin = Math.max((violation.at - first) * 0.12, violation.at - near(violation.index - 60), near(violation.index + 60) - violation.at);
  chosen = violation;
  return setView(first - margin, violation.at + margin);
}

function find(text) {
  search.text = text.trim().toLowerCase();
  const words = search.text.split(/\s+/).filter(Boolean);
  search.matches = words.length ? events.filter((event) => words.every((word) => event.words.includes(word))) : [];
  search.set = words.length ? new Set(search.matches.map((event) => event.index)) : null;
  search.place = -1;
}

// To the next match, or the one before.
function step(by) {
  const { matches } = search;
  if (!matches.length) return;
  if (search.place < 0) {
    const next = matches.findIndex((event) => event.at >= view.from);
    search.place = next < 0 ? 0 : next;
  } else {
    search.place = (search.place + by + matches.length) % matches.length;
  }
  chosen = matches[search.place];
  reveal(chosen);
}
