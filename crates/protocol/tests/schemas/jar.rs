//! The same facts out of the jar of Kafka's client, where the schemas lie as JSON with comments.

#![expect(clippy::unwrap_used, reason = "a test with broken facts must fail")]

use std::io::{Cursor, Read as _};

use quipu_protocol::schema::Versions;
use serde_json::Value;
use zip::ZipArchive;

use super::facts::{Field, Message, parse_range};

/// The messages with these names; none if the environment names no jar.
pub(crate) fn read(names: &[String]) -> Option<Vec<Message>> {
    let path = std::env::var_os("QUIPU_KAFKA_CLIENTS_JAR")?;
    #[expect(clippy::disallowed_methods, reason = "a file that only this test reads")]
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut message = |name: &String| {
        let mut text = String::new();
        archive.by_name(&format!("common/message/{name}.json")).unwrap().read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let json: Value = serde_json::from_str(&lines.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
        to_message(&json)
    };
    Some(names.iter().map(&mut message).collect())
}

/// Writes the committed facts anew, if the environment says so; tells whether it did.
pub(crate) fn update_if_asked(messages: &[Message]) -> bool {
    if std::env::var_os("QUIPU_UPDATE").is_none() {
        return false;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/kafka-4.4.schemas");
    #[expect(clippy::disallowed_methods, reason = "a fixture that only this test writes")]
    std::fs::write(path, Message::print_all(messages)).unwrap();
    true
}

fn text(json: &Value, key: &str) -> Option<String> {
    match &json[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn range(json: &Value, key: &str) -> Option<Versions> {
    parse_range(&text(json, key)?)
}

fn to_message(json: &Value) -> Message {
    Message {
        name: text(json, "name").unwrap(),
        key: text(json, "apiKey").unwrap().parse().unwrap(),
        direction: text(json, "type").unwrap(),
        versions: range(json, "validVersions").unwrap(),
        unstable: json["latestVersionUnstable"] == true,
        flexible: range(json, "flexibleVersions"),
        fields: to_fields(&json["fields"], &json["commonStructs"]),
    }
}

/// The fields of a structure. One that is named only is looked up among the common ones.
fn to_fields(fields: &Value, common: &Value) -> Vec<Field> {
    let field = |json: &Value| {
        let kind = text(json, "type").unwrap();
        let shared =
            common.as_array().into_iter().flatten().find(|shared| shared["name"] == kind.trim_start_matches("[]"));
        Field {
            name: text(json, "name").unwrap(),
            versions: range(json, "versions").unwrap(),
            nullable: range(json, "nullableVersions"),
            tagged: range(json, "taggedVersions"),
            tag: text(json, "tag").map(|tag| tag.parse().unwrap()),
            default: text(json, "default"),
            ignorable: matches!(text(json, "ignorable").as_deref(), Some("true")),
            fields: to_fields(shared.map_or(&json["fields"], |shared| &shared["fields"]), common),
            kind,
        }
    };
    fields.as_array().into_iter().flatten().map(field).collect()
}
