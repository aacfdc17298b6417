//! Every declaration against Kafka 4.4's own schemas, field by field.
//!
//! The facts lie in `testdata/kafka-4.4.schemas`. With `QUIPU_KAFKA_CLIENTS_JAR=<kafka-clients-4.4.0.jar>` they are read from
//! the JSON files in that jar instead, and compared with the committed ones; with `QUIPU_UPDATE=1` as well, those are written
//! anew.

mod kit;
mod schemas {
    pub(crate) mod facts;
    pub(crate) mod jar;
}

use kit::Case;
use quipu_protocol::{
    ApiKey,
    schema::{FieldSchema, Kind, Plain, StructSchema, Versions},
};
use schemas::{
    facts::{Field, Message},
    jar,
};

const COMMITTED: &str = include_str!("testdata/kafka-4.4.schemas");

/// Names of Kafka's files, without `.json`.
fn names() -> Vec<String> {
    ApiKey::ALL.iter().flat_map(|api| [format!("{api}Request"), format!("{api}Response")]).collect()
}

fn facts() -> Vec<Message> {
    let Some(published) = jar::read(&names()) else { return Message::parse_all(COMMITTED) };
    let updated = jar::update_if_asked(&published);
    assert!(
        updated || Message::print_all(&published) == COMMITTED,
        "the committed facts are not the jar's: set QUIPU_UPDATE=1 to write them anew"
    );
    published
}

#[test]
fn facts_are_printed_as_they_are_read() {
    assert_eq!(Message::print_all(&Message::parse_all(COMMITTED)), COMMITTED);
}

#[test]
fn declarations_are_kafkas() {
    let facts = facts();
    assert_eq!(facts.iter().map(|message| &message.name).collect::<Vec<_>>(), names().iter().collect::<Vec<_>>());
    let mut differences = Vec::new();
    for fact in &facts {
        let case = Case::all()
            .into_iter()
            .find(|case| case.schema().root.name == fact.name)
            .unwrap_or_else(|| panic!("{} is not declared", fact.name));
        // Kafka marks the request alone, and means both.
        let unstable = facts.iter().any(|other| other.key == fact.key && other.unstable);
        compare_message(fact, unstable, case, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare_message(fact: &Message, unstable: bool, case: Case, differences: &mut Vec<String>) {
    let schema = case.schema();
    let mut expect = |what: &str, ours: String, kafkas: String| {
        if ours != kafkas {
            differences.push(format!("{}: {what} is {ours}, Kafka's is {kafkas}", fact.name));
        }
    };
    expect("key", schema.key.to_string(), fact.key.to_string());
    expect("direction", format!("{:?}", schema.direction).to_lowercase(), fact.direction.clone());
    let Versions { min, max } = fact.versions;
    // Kafka does not serve its newest version while it is called unstable; neither do we.
    let stable = Versions { min, max: if unstable { max - 1 } else { max } };
    expect("versions", format!("{:?}", schema.versions), format!("{stable:?}"));
    expect("flexible", format!("{:?}", schema.flexible_since), format!("{:?}", fact.flexible.map(|range| range.min)));
    compare_fields(&fact.name, &fact.fields, schema.root, schema.versions, differences);
}

fn intersect(one: Versions, other: Versions) -> Option<Versions> {
    let both = Versions { min: one.min.max(other.min), max: one.max.min(other.max) };
    (both.min <= both.max).then_some(both)
}

/// `within` are the versions in which the structure occurs.
fn compare_fields(path: &str, facts: &[Field], schema: &StructSchema, within: Versions, differences: &mut Vec<String>) {
    let facts: Vec<_> = facts.iter().filter(|fact| intersect(fact.versions, within).is_some()).collect();
    let ours: Vec<_> = schema.fields.iter().map(|field| field.name.to_owned()).collect();
    let kafkas: Vec<_> = facts.iter().map(|fact| snake_case(&fact.name)).collect();
    if ours != kafkas {
        differences.push(format!("{path}: fields are {ours:?}, Kafka's are {kafkas:?}"));
        return;
    }
    for (fact, field) in facts.into_iter().zip(schema.fields) {
        compare_field(&format!("{path}.{}", fact.name), fact, field, within, differences);
    }
}

fn compare_field(path: &str, fact: &Field, field: &FieldSchema, within: Versions, differences: &mut Vec<String>) {
    let mut expect = |what: &str, ours: String, kafkas: String| {
        if ours != kafkas {
            differences.push(format!("{path}: {what} is {ours}, Kafka's is {kafkas}"));
        }
    };
    let rules = field.rules;
    let versions = intersect(fact.versions, within);
    expect("versions", format!("{:?}", intersect(rules.versions, within)), format!("{versions:?}"));
    let versions = versions.expect("fields of other versions are left out");
    expect("type", type_name(&field.kind), fact.kind.clone());
    let ours = rules.nullable_since.and_then(|min| intersect(Versions { min, max: i16::MAX }, versions));
    let kafkas = fact.nullable.and_then(|range| intersect(range, versions));
    expect("nullability", format!("{ours:?}"), format!("{kafkas:?}"));
    expect("default", format!("{:?}", (field.default)()), format!("{:?}", default_of(fact, kafkas.is_some())));
    expect("tag", format!("{:?}", rules.tag), format!("{:?}", fact.tag));
    let tagged = rules.tag.map(|_| versions);
    expect(
        "tagged versions",
        format!("{tagged:?}"),
        format!("{:?}", fact.tagged.and_then(|range| intersect(range, versions))),
    );
    // What exists in every version of its structure is never left out.
    if versions != within {
        expect("ignorable", rules.ignorable.to_string(), fact.ignorable.to_string());
    }
    let mut kind = &field.kind;
    while let Kind::Array(element) = kind {
        kind = element;
    }
    if let Kind::Struct(inner) = kind {
        compare_fields(path, &fact.fields, inner, versions, differences);
    }
}

/// `ErrorCode` and `timeoutMs` as `error_code` and `timeout_ms`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, character) in name.char_indices() {
        if character.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// As Kafka writes it.
fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Array(element) => format!("[]{}", type_name(element)),
        Kind::Struct(schema) => schema.name.to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The value that Kafka's generator gives a field of this type and declared default.
fn default_of(fact: &Field, nullable: bool) -> Plain {
    match (fact.kind.as_str(), fact.default.as_deref()) {
        (_, Some("null")) => Plain::Null,
        ("records", None) if nullable => Plain::Null,
        ("bool", value) => Plain::Bool(value.unwrap_or("false").eq_ignore_ascii_case("true")),
        ("int8" | "int16" | "uint16" | "int32" | "int64", value) => {
            let value = value.unwrap_or("0");
            let value = match value.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => value.parse(),
            };
            Plain::Integer(value.expect("a number in the schemas"))
        }
        ("string", value) => Plain::Text(value.unwrap_or("").to_owned()),
        ("uuid", None) => Plain::Uuid([0; 16]),
        ("bytes" | "records", None) => Plain::Sequence(0),
        (kind, None) if kind.starts_with("[]") => Plain::Sequence(0),
        (kind, None) if kind.starts_with(char::is_uppercase) => Plain::Struct,
        (kind, default) => panic!("no default {default:?} of {kind}"),
    }
}
