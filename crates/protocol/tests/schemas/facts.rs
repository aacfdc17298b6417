//! Facts about Kafka's messages, in a compact text: a line per message, a line per field, nesting by indentation.
//!
//! ```text
//! FooRequest key 0 request versions 3-13 flexible 9+
//!   Acks int16 versions 0+
//!   Leader LeaderIdAndEpoch versions 10+ tagged 10+ tag 0
//!     LeaderId int32 versions 10+ default -1
//! ```

#![expect(clippy::unwrap_used, reason = "a test with broken facts must fail")]

use std::{fmt::Write as _, iter::Peekable, str::Lines};

use quipu_protocol::schema::Versions;

/// One message.
#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) key: i16,
    pub(crate) direction: String,
    pub(crate) versions: Versions,
    /// Whether Kafka calls the last version unstable.
    pub(crate) unstable: bool,
    pub(crate) flexible: Option<Versions>,
    pub(crate) fields: Vec<Field>,
}

/// One field.
#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// As Kafka writes it, such as `int32`, `[]string` or `[]Broker`.
    pub(crate) kind: String,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tagged: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    pub(crate) fields: Vec<Field>,
}

/// `3+`, `3-13` or `3`; `none` for none.
pub(crate) fn parse_range(text: &str) -> Option<Versions> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no version"));
    if text == "none" {
        return None;
    }
    Some(match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(min), _) => Versions { min: number(min), max: i16::MAX },
        (None, Some((min, max))) => Versions { min: number(min), max: number(max) },
        (None, None) => Versions { min: number(text), max: number(text) },
    })
}

fn print_range(range: Versions) -> String {
    match range {
        Versions { min, max: i16::MAX } => format!("{min}+"),
        Versions { min, max } if min == max => min.to_string(),
        Versions { min, max } => format!("{min}-{max}"),
    }
}

/// The word after `key`, and whether `key` stands there at all.
fn word<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let place = words.iter().position(|word| *word == key)?;
    Some(words[place + 1])
}

impl Message {
    pub(crate) fn parse_all(text: &str) -> Vec<Self> {
        let mut lines = text.lines().peekable();
        let mut messages = Vec::new();
        while let Some(line) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            messages.push(Self {
                name: words[0].to_owned(),
                key: word(&words, "key").unwrap().parse().unwrap(),
                direction: words[3].to_owned(),
                versions: parse_range(word(&words, "versions").unwrap()).unwrap(),
                unstable: words.contains(&"unstable"),
                flexible: word(&words, "flexible").and_then(parse_range),
                fields: Field::parse_all(&mut lines, 1),
            });
        }
        messages
    }

    pub(crate) fn print_all(messages: &[Self]) -> String {
        let mut text = String::new();
        for Self { name, key, direction, versions, unstable, flexible, fields } in messages {
            write!(text, "{name} key {key} {direction} versions {}", print_range(*versions)).unwrap();
            text.push_str(if *unstable { " unstable" } else { "" });
            writeln!(text, " flexible {}", flexible.map_or_else(|| "none".to_owned(), print_range)).unwrap();
            fields.iter().for_each(|field| field.print(1, &mut text));
        }
        text
    }
}

impl Field {
    fn parse_all(lines: &mut Peekable<Lines<'_>>, depth: usize) -> Vec<Self> {
        let mut fields = Vec::new();
        while let Some(line) = lines.next_if(|line| line.len() - line.trim_start().len() == 2 * depth) {
            let words: Vec<_> = line.trim_start().split(' ').collect();
            fields.push(Self {
                name: words[0].to_owned(),
                kind: words[1].to_owned(),
                versions: word(&words, "versions").and_then(parse_range).unwrap(),
                nullable: word(&words, "nullable").and_then(parse_range),
                tagged: word(&words, "tagged").and_then(parse_range),
                tag: word(&words, "tag").map(|tag| tag.parse().unwrap()),
                default: word(&words, "default")
                    .map(|value| if value == "''" { String::new() } else { value.to_owned() }),
                ignorable: words.contains(&"ignorable"),
                fields: Self::parse_all(lines, depth + 1),
            });
        }
        fields
    }

    fn print(&self, depth: usize, text: &mut String) {
        write!(
            text,
            "{:indent$}{} {} versions {}",
            "",
            self.name,
            self.kind,
            print_range(self.versions),
            indent = 2 * depth
        )
        .unwrap();
        for (key, range) in [("nullable", self.nullable), ("tagged", self.tagged)] {
            if let Some(range) = range {
                write!(text, " {key} {}", print_range(range)).unwrap();
            }
        }
        if let Some(tag) = self.tag {
            write!(text, " tag {tag}").unwrap();
        }
        if let Some(default) = &self.default {
            write!(text, " default {}", if default.is_empty() { "''" } else { default }).unwrap();
        }
        text.push_str(if self.ignorable { " ignorable\n" } else { "\n" });
        self.fields.iter().for_each(|field| field.print(depth + 1, text));
    }
}
