//! Every declared message at every version: there and back, cut anywhere, damaged anywhere, with tags that nobody knows.

mod kit;

use kit::{Case, Choices, Decoded, for_each_api};
use proptest::{collection::vec, prelude::*};
use quipu_protocol::{
    ApiKey, Request, Response,
    messages::*,
    schema::{Direction, Kind, StructSchema},
};

/// Bytes that make every generated message a rich one.
fn rich_choices() -> Vec<u8> {
    (0..20_000_u32).map(|index| u8::try_from((index * 7919 + index / 251) % 251).expect("below 251")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bodies_come_back(choices in vec(any::<u8>(), 0..1500)) {
        for case in Case::all() {
            let body = case.generate(&mut Choices::new(&choices));
            let decoded = case.decode(&body).unwrap_or_else(|error| panic!("{case:?}: {error}"));
            prop_assert_eq!(case.encode(&decoded), Ok(body), "{:?}", case);
        }
    }

    #[test]
    fn unknown_tags_are_skipped(choices in vec(any::<u8>(), 0..1500)) {
        for case in Case::all() {
            let body = case.generate(&mut Choices::new(&choices));
            let tagged = case.generate_with_unknown_tags(&mut Choices::new(&choices));
            prop_assert_eq!(tagged != body, case.schema().is_flexible(case.version), "{:?}", case);
            prop_assert_eq!(case.decode(&tagged), case.decode(&body), "{:?}", case);
        }
    }

    #[test]
    fn damage_ends_in_an_error_or_another_message(
        choices in vec(any::<u8>(), 0..1500),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for case in Case::all() {
            let mut body = case.generate(&mut Choices::new(&choices));
            for (place, byte) in damage.iter().filter(|_| !body.is_empty()).collect::<Vec<_>>() {
                let place = place.index(body.len());
                body[place] ^= byte;
            }
            if let Ok(decoded) = case.decode(&body) {
                let again = case.encode(&decoded).map(|body| case.decode(&body));
                prop_assert_eq!(again, Ok(Ok(decoded)), "{:?}", case);
            }
        }
    }

    #[test]
    fn garbage_never_panics(body in vec(any::<u8>(), 0..200)) {
        for case in Case::all() {
            if let Ok(decoded) = case.decode(&body) {
                prop_assert!(case.encode(&decoded).is_ok(), "{:?}", case);
            }
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    let choices = rich_choices();
    for case in Case::all() {
        let body = case.generate(&mut Choices::new(&choices));
        for cut in 0..body.len() {
            assert!(case.decode(&body[..cut]).is_err(), "{case:?} cut at {cut} of {}", body.len());
        }
        let longer = case.decode(&[&body[..], &[0]].concat());
        match case.direction {
            Direction::Request => assert_eq!(longer, case.decode(&body), "{case:?}"),
            Direction::Record => unreachable!("a case is a request or a response"),
            Direction::Response => assert!(longer.unwrap_err().contains("after the end"), "{case:?}"),
        }
    }
}

#[test]
fn defaults_are_written_as_the_schema_says() {
    let mut seen = 0;
    macro_rules! check {
        ($($api:ident)*) => { $(
            for case in Case::all().into_iter().filter(|case| case.api == ApiKey::$api) {
                let decoded = match case.direction {
                    Direction::Request => Decoded::Request(Request::$api(Default::default())),
                    Direction::Response => Decoded::Response(Response::$api(Default::default())),
                    Direction::Record => unreachable!("a case is a request or a response"),
                };
                assert_eq!(case.encode(&decoded), Ok(case.defaults()), "{case:?}");
                seen += 1;
            }
        )* };
    }
    for_each_api!(check);
    assert_eq!(seen, Case::all().len(), "an API is missing in the list");
}

fn check_tags(schema: &StructSchema) {
    let tags: Vec<_> = schema.fields.iter().filter_map(|field| field.rules.tag).collect();
    assert!(tags.is_sorted_by(|earlier, later| earlier < later), "{}: {tags:?}", schema.name);
    for field in schema.fields {
        let mut kind = field.kind;
        while let Kind::Array(element) = kind {
            kind = *element;
        }
        assert!(field.rules.tag.is_none() || !matches!(kind, Kind::Records), "{}.{}", schema.name, field.name);
        if let Kind::Struct(inner) = kind {
            check_tags(inner);
        }
    }
}

#[test]
fn tags_ascend_and_carry_no_records() {
    for case in Case::all() {
        check_tags(case.schema().root);
    }
}

#[test]
fn a_version_without_the_field_refuses_its_value() {
    let encode = |version, request: Request| {
        Case { api: request.api(), direction: Direction::Request, version }.encode(&Decoded::Request(request))
    };
    let keys = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    assert_eq!(
        encode(3, keys.clone().into()).unwrap_err(),
        "FindCoordinatorRequest.coordinator_keys has a value that version 3 cannot carry: use a later version or leave it out"
    );
    assert_eq!(encode(4, keys.into()).unwrap(), [0, 2, 2, b'g', 0]);
    // Ignorable: dropped.
    let named = ApiVersionsRequest { client_software_name: "quipu".into(), ..Default::default() };
    assert_eq!(encode(2, named.into()), Ok(vec![]));
    // Null where the version has no null.
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(encode(0, all.clone().into()).unwrap_err(), "MetadataRequest.topics may not be null at this version");
    assert_eq!(encode(1, all.into()), Ok(vec![0xff; 4]));
    assert_eq!(encode(14, MetadataRequest::default().into()).unwrap_err(), "MetadataRequest has no version 14");
    let long = FindCoordinatorRequest { key: "k".repeat(40_000).into(), ..Default::default() };
    assert_eq!(encode(0, long.into()).unwrap_err(), "FindCoordinatorRequest.key is too long to send: 40000");
}
