//! Plans as text: printed so that people like to read them, read with errors that name line and field.

use core::fmt;

use quipu_records::Codec;
use serde::Deserialize;
use toml::Value;

use super::{Client, Config, FORMAT, Kind, Plan, operation::Operation};

/// Why a text is no plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanError {
    /// Where, from 1; none if it is nowhere in particular.
    pub line: Option<usize>,
    /// What, with the field's name.
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl core::error::Error for PlanError {}

/// Only what tells the format.
#[derive(Deserialize)]
struct Head {
    format: Option<toml::Spanned<Value>>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// If the text is no TOML, a field is unknown or has a value that it can't have, or the format is another.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let failed = |error: toml::de::Error| {
            let line = error.span().map(|span| line_of(text, span.start));
            let field = error.span().and_then(|span| field_at(text, span.start));
            let message = error.message().trim_end().to_owned();
            let message = match field {
                Some(field) if !message.contains(&field) => format!("{field}: {message}"),
                _ => message,
            };
            PlanError { line, message }
        };
        let head: Head = toml::from_str(text).map_err(failed)?;
        match head.format {
            Some(format) if *format.get_ref() == Value::Integer(FORMAT) => {}
            Some(format) => {
                let message =
                    format!("format: it is {}, and this program reads plans of format {FORMAT} only", format.get_ref());
                return Err(PlanError { line: Some(line_of(text, format.span().start)), message });
            }
            None => return Err(PlanError { line: None, message: format!("format is missing: format = {FORMAT}") }),
        }
        let plan: Self = toml::from_str(text).map_err(failed)?;
        plan.check().map_err(|(needle, message)| PlanError { line: line_with(text, &needle), message })?;
        Ok(plan)
    }

    /// What only all of it together tells. Errors: a word to look for in the text, and the message.
    fn check(&self) -> Result<(), (String, String)> {
        nodes(&self.config)?;
        let servers: Vec<String> = self.config.all_nodes().map(|node| self.config.machine(node)).collect();
        let mut names: std::collections::BTreeSet<&str> = servers.iter().map(String::as_str).collect();
        for client in &self.workload.clients {
            let quoted = format!("\"{}\"", client.name);
            if !names.insert(&client.name) {
                return Err((quoted, format!("name: there is a machine {:?} already", client.name)));
            }
            let in_client = |field: &str, why: String| (quoted.clone(), format!("client {quoted}: {field}: {why}"));
            client.codec.parse::<Codec>().map_err(|error| in_client("codec", error.to_string()))?;
            if !(-1..=1).contains(&client.acks) {
                return Err(in_client("acks", format!("{} is neither -1, 0 nor 1", client.acks)));
            }
            if !(1..=5).contains(&client.pipelined) {
                return Err(in_client("pipelined", format!("{} is not from 1 to 5", client.pipelined)));
            }
            if !(3..=13).contains(&client.produce_version) {
                return Err(in_client("produce_version", format!("{} is not from 3 to 13", client.produce_version)));
            }
            if !(4..=18).contains(&client.fetch_version) {
                return Err(in_client("fetch_version", format!("{} is not from 4 to 18", client.fetch_version)));
            }
            settings_of_the_client(client).map_err(|(field, why)| in_client(field, why.to_owned()))?;
        }
        let config = &self.config;
        if !(1..=64).contains(&config.shards) {
            return Err(("shards".to_owned(), format!("config.shards: {} is not from 1 to 64", config.shards)));
        }
        if config.latency_min_us > config.latency_max_us {
            let message = "config.latency_min_us: it is more than latency_max_us".to_owned();
            return Err(("latency_min_us".to_owned(), message));
        }
        names.extend(["auditor", "mirror"]);
        for timed in &self.faults {
            let is_node = |name: &str| name.starts_with("broker-") || name.starts_with("controller-");
            let unknown = |name: &&str| is_node(name) && !names.contains(name);
            if let Some(name) = timed.fault.machines_named().into_iter().find(unknown) {
                let known: Vec<&str> = names.iter().copied().collect();
                let message =
                    format!("{}: no machine is called {name:?}; there are {}", timed.fault.kind(), known.join(", "));
                return Err((format!("{name:?}"), message));
            }
        }
        crate::run::broker_config(config, 1)
            .map(|_| ())
            .map_err(|message| (String::new(), format!("config: {message}")))
    }

    /// Prints a plan.
    ///
    /// # Panics
    /// Never: every plan has a text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Ok(Value::Table(plan)) = Value::try_from(self) else { panic!("every plan is a table") };
        let mut out = String::new();
        scalars(&mut out, &plan);
        section(&mut out, "config", &without_defaults(table(&plan, "config"), &Config::default()));
        section(&mut out, "budget", table(&plan, "budget"));
        let workload = table(&plan, "workload");
        for list in ["topics", "clients"] {
            for entry in entries(workload, list) {
                out.push_str(&format!("\n[[workload.{list}]]\n"));
                let plain = Client { name: String::new(), ..Client::default() };
                if list == "clients" {
                    scalars(&mut out, &without_defaults(entry, &plain))
                } else {
                    scalars(&mut out, entry)
                }
                if let Some(Value::Table(kafka)) = entry.get("kafka").filter(|kafka| !is_empty(kafka)) {
                    out.push_str(&format!("[workload.{list}.kafka]\n"));
                    scalars(&mut out, kafka);
                }
            }
        }
        for entry in entries(&plan, "faults") {
            out.push_str("\n[[faults]]\n");
            scalars(&mut out, entry);
            for (kind, fault) in table(entry, "fault") {
                out.push_str(&format!("fault.{kind} = {fault}\n"));
            }
        }
        out
    }
}

/// What no cluster can be.
fn nodes(config: &Config) -> Result<(), (String, String)> {
    if !(1..=super::NODES_MAX).contains(&config.nodes) {
        let message = format!("config.nodes: {} is not from 1 to {}", config.nodes, super::NODES_MAX);
        return Err(("nodes".to_owned(), message));
    }
    if config.controllers >= config.nodes {
        let message = format!("config.controllers: {} of {} nodes leave no broker", config.controllers, config.nodes);
        return Err(("controllers".to_owned(), message));
    }
    Ok(())
}

/// What the Rust client would refuse. Errors: the field, and why.
fn settings_of_the_client(client: &Client) -> Result<(), (&'static str, &'static str)> {
    if client.client_batch_bytes == 0 || client.client_batch_bytes > client.client_memory_bytes {
        Err(("client_batch_bytes", "it is 0, or more than client_memory_bytes"))
    } else if u32::try_from(client.client_memory_bytes).is_err() {
        Err(("client_memory_bytes", "it is more than 4 GiB"))
    } else if client.client_request_bytes < 128 || i32::try_from(client.client_request_bytes).is_err() {
        Err(("client_request_bytes", "it is less than 128, or more than 2 GiB"))
    } else if client.client_delivery_ms <= client.client_linger_ms {
        Err(("client_delivery_ms", "it is not more than client_linger_ms"))
    } else if client.kind == Kind::Wire && client.operations.iter().any(Operation::is_of_members) {
        Err(("operations", "only a client of the kind \"client\" is a member of a group, or crashes"))
    } else if sends(client) && client.operations.iter().any(|operation| matches!(operation, Operation::Crash { .. })) {
        Err(("operations", "who produces does not crash: the next one would name its records alike"))
    } else if client.group_heartbeat_ms == 0 || client.group_heartbeat_ms >= client.group_session_ms {
        Err(("group_heartbeat_ms", "it is 0, or not less than group_session_ms"))
    } else if client.group_poll_ms == 0 {
        Err(("group_poll_ms", "it is 0"))
    } else if client.client_poll_records == 0 {
        Err(("client_poll_records", "it is 0"))
    } else {
        Ok(())
    }
}

fn sends(client: &Client) -> bool {
    client.operations.iter().any(|operation| matches!(operation, Operation::Produce { .. }))
}

type Table = toml::Table;

/// What differs from the defaults, which are a part of the format.
fn without_defaults(values: &Table, plain: &impl serde::Serialize) -> Table {
    let Ok(Value::Table(plain)) = Value::try_from(plain) else { panic!("settings are a table") };
    let differs = |(name, value): &(&String, &Value)| plain.get(name.as_str()) != Some(value);
    values.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn table<'a>(of: &'a Table, name: &str) -> &'a Table {
    of.get(name).and_then(Value::as_table).expect("it is a table of every plan")
}

fn entries<'a>(of: &'a Table, name: &str) -> impl Iterator<Item = &'a Table> {
    of.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

fn is_empty(value: &Value) -> bool {
    value.as_table().is_some_and(Table::is_empty)
}

fn section(out: &mut String, name: &str, values: &Table) {
    out.push_str(&format!("\n[{name}]\n"));
    scalars(out, values);
    for (inner, value) in values {
        if let Some(value) = value.as_table() {
            section(out, &format!("{name}.{inner}"), value);
        }
    }
}

/// What stands first.
const FIRST: &[&str] = &["format", "seed", "heal_ms", "name", "at_ms"];

/// All that is no table; operations one on a line, after everything else.
fn scalars(out: &mut String, values: &Table) {
    let place = |name: &str| match FIRST.iter().position(|first| *first == name) {
        Some(place) => place,
        None if name == "operations" => FIRST.len() + 1,
        None => FIRST.len(),
    };
    let mut sorted: Vec<(&String, &Value)> = values.iter().collect();
    sorted.sort_by_key(|(name, _)| place(name));
    for (name, value) in sorted {
        let name = if name.contains('.') { format!("{name:?}") } else { name.clone() };
        match value {
            Value::Table(_) => {}
            Value::Array(list) if list.is_empty() || list.iter().any(Value::is_table) => {}
            Value::Array(list) if list.len() > 1 => {
                out.push_str(&format!("{name} = [\n"));
                list.iter().for_each(|item| out.push_str(&format!("    {item},\n")));
                out.push_str("]\n");
            }
            value => out.push_str(&format!("{name} = {value}\n")),
        }
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text[..text.floor_char_boundary(position)].matches('\n').count() + 1
}

fn line_with(text: &str, needle: &str) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    text.rfind(needle).map(|position| line_of(text, position))
}

/// The name before the `=` in the line that holds this position.
fn field_at(text: &str, position: usize) -> Option<String> {
    let line = text.lines().nth(line_of(text, position) - 1)?;
    let (name, _) = line.split_once('=')?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm;

    fn refused(text: &str) -> String {
        Plan::parse(text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for seed in 0..200 {
            let plan = swarm::plan(seed);
            let text = plan.to_text();
            let again = Plan::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
            assert!(again == plan, "seed {seed}: another plan is read than was printed:\n{text}");
        }
    }

    #[test]
    fn an_empty_plan_is_a_plan() {
        let plan = Plan::parse("format = 1\n").unwrap();
        assert_eq!((plan.config.shards, plan.budget.liveness_ms), (1, 120_000));
    }

    #[test]
    fn who_puts_the_clock_a_day_ahead_may_make_the_broker_forget() {
        let plan = |kafka: &str, faults: &[(&str, i64)]| {
            let fault = |(node, by_ms): &(&str, i64)| {
                format!("[[faults]]\nat_ms = 5\nfault.clock-step = {{ node = \"{node}\", by_ms = {by_ms} }}\n")
            };
            let faults: String = faults.iter().map(fault).collect();
            let kafka = format!("[config.kafka]\n\"socket.request.max.bytes\" = \"2097152\"\n{kafka}\n");
            Plan::parse(&format!("format = 1\n{kafka}{faults}")).unwrap().may_forget_producers()
        };
        assert!(!plan("", &[("broker", 50_000_000), ("broker", -50_000_000)]));
        assert!(plan("", &[("broker", 50_000_000), ("broker", 50_000_000)]), "together");
        assert!(!plan("", &[("admin", 100_000_000)]), "nobody asks that clock");
        assert!(plan("\"producer.id.expiration.ms\" = \"60000\"", &[]), "it may just take as long");
    }

    #[test]
    fn errors_name_line_and_field() {
        assert!(refused("seed = 1\n").contains("format is missing"));
        let other = refused("# a plan\nformat = 2\n");
        assert!(other.starts_with("line 2: format: it is 2"), "{other}");
        let field = refused("format = 1\n[config]\nshards = 1\nshrads = 2\n");
        assert!(field.starts_with("line 4: ") && field.contains("shrads"), "{field}");
        let kind = refused("format = 1\n[config]\nshards = \"two\"\n");
        assert!(kind.starts_with("line 3: ") && kind.contains("shards"), "{kind}");
        let fault = refused("format = 1\n\n[[faults]]\nat_ms = 5\nfault.earthquake = { strength = 7 }\n");
        assert!(fault.starts_with("line 5: ") && fault.contains("earthquake"), "{fault}");
        let parameter = refused("format = 1\n[[faults]]\nat_ms = 5\nfault.pause = { node = \"broker\", last = 7 }\n");
        assert!(parameter.starts_with("line 4: ") && parameter.contains("last"), "{parameter}");
        let operation = refused(
            "format = 1\n[[workload.clients]]\nname = \"a\"\noperations = [\n  \"sleep 5\",\n  \"sleep long\",\n]\n",
        );
        assert!(operation.contains("sleep long"), "{operation}");
        let codec = refused("format = 1\n[[workload.clients]]\nname = \"a\"\ncodec = \"rar\"\n");
        assert!(codec.contains("client \"a\": codec"), "{codec}");
        let property = refused("format = 1\n[config.kafka]\n\"no.such\" = \"1\"\n");
        assert!(property.contains("no.such"), "{property}");
        let wire = refused("format = 1\n[[workload.clients]]\nname = \"a\"\noperations = [\"serve\"]\n");
        assert!(wire.contains("only a client of the kind"), "{wire}");
        assert!(refused("format = \n").starts_with("line 1"));
        let nodes = refused("format = 1\n[config]\nnodes = 8\n");
        assert!(nodes.starts_with("line 3: config.nodes: 8 is not from 1 to 7"), "{nodes}");
        let controllers = refused("format = 1\n[config]\nnodes = 3\ncontrollers = 3\n");
        assert!(controllers.starts_with("line 4: config.controllers: 3 of 3"), "{controllers}");
        let pause = |node: &str| {
            let fault = format!("fault.pause = {{ node = \"{node}\", lasts_ms = 7 }}");
            Plan::parse(&format!("format = 1\n[config]\nnodes = 3\ncontrollers = 1\n[[faults]]\nat_ms = 5\n{fault}\n"))
        };
        assert!(pause("broker-2").is_ok() && pause("controller-3").is_ok());
        let unknown = pause("broker-3").expect_err("it is a controller").to_string();
        assert!(unknown.starts_with("line 7: pause: no machine is called \"broker-3\""), "{unknown}");
    }
}
