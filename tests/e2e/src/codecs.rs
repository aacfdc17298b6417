//! Compression: a client may silently send without, so the codec bits of the stored batches are looked at, and every other
//! client must read what one wrote.

use quipu_testkit::batch;
use quipu_testkit::clients::Client;
use rdkafka::producer::{BaseRecord, Producer};

use crate::java::java;
use crate::kcat::kcat;
use crate::librdkafka;
use crate::python::{PROGRAMS, python};
use crate::subject::Subject;
use crate::text;

/// Kafka's numbers for the codecs, as they stand in a batch's attributes.
const CODECS: [(&str, i16); 5] = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
const COUNT: usize = 3000;

/// Writes the lines with each codec through `write(bootstrap, topic, codec, lines)`, looks at what is stored, reads it back.
fn check(test: &str, write: impl Fn(&str, &str, &str, &[String])) {
    let subject = Subject::start(test);
    let lines = text::lines(COUNT);
    let bootstrap = subject.bootstrap();
    for (codec, bits) in CODECS {
        subject.topic(codec, 1);
        write(&bootstrap, codec, codec, &lines);
        let stored = subject.wire().fetch_all(codec, 0, 0).unwrap();
        let headers = batch::headers(&stored).unwrap();
        let seen: Vec<i16> = headers.iter().map(batch::Header::codec).collect();
        // A batch of one or two short lines may be smaller without: clients send those as they are.
        let large = headers.iter().filter(|header| header.count > 2).map(batch::Header::codec);
        assert!(large.clone().count() > 0, "{codec}: batches were collected, {seen:?}");
        assert!(large.clone().all(|found| found == bits), "{codec} is {bits}, stored: {seen:?}");
        let records: i32 = headers.iter().map(|header| header.count).sum();
        assert_eq!(usize::try_from(records).unwrap(), COUNT, "{codec}");

        let consumer = librdkafka::consumer(&bootstrap, codec, 0);
        for line in &lines {
            let message = consumer.poll(std::time::Duration::from_secs(60)).expect("a record").unwrap();
            assert_eq!(rdkafka::Message::payload(&message), Some(line.as_bytes()), "{codec}");
        }
    }
}

#[test]
fn librdkafka_compresses_as_asked_and_all_clients_read_it() {
    check("codecs-librdkafka", |bootstrap, topic, codec, lines| {
        let (producer, deliveries) =
            librdkafka::producer(bootstrap, &[("compression.type", codec), ("linger.ms", "50")]);
        for (number, line) in lines.iter().enumerate() {
            let record: BaseRecord<'_, (), _, _> =
                BaseRecord::with_opaque_to(topic, Box::new(number)).partition(0).payload(line);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(deliveries.acknowledged().len(), lines.len());
        let count = lines.len().to_string();
        if Client::Python.check("codecs: python reads") {
            for program in PROGRAMS {
                let back = python(program, bootstrap, &["consume", topic, "1", &count], b"");
                text::assert_whole(&text::printed(&back), lines);
            }
        }
        if Client::Java.check("codecs: java reads") {
            let back = java(bootstrap, &["consume", topic, "1", &count], b"");
            text::assert_whole(&text::printed(&back), lines);
        }
        if Client::Kcat.check("codecs: kcat reads") {
            let back = kcat(bootstrap, &["-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q"], b"");
            assert!(back == text::file(lines), "kcat, {codec}");
        }
    });
}

#[test]
fn kcat_compresses_as_asked() {
    if !Client::Kcat.check("kcat_compresses_as_asked") {
        return;
    }
    check("codecs-kcat", |bootstrap, topic, codec, lines| {
        let arguments = ["-P", "-t", topic, "-p", "0", "-z", codec, "-X", "linger.ms=50"];
        kcat(bootstrap, &arguments, &text::file(lines));
    });
}

#[test]
fn confluent_compresses_as_asked() {
    if !Client::Python.check("confluent_compresses_as_asked") {
        return;
    }
    check("codecs-confluent", |bootstrap, topic, codec, lines| {
        python("confluent", bootstrap, &["produce", topic, "0", codec], &text::file(lines));
    });
}

#[test]
fn kafka_python_compresses_as_asked() {
    if !Client::Python.check("kafka_python_compresses_as_asked") {
        return;
    }
    check("codecs-pure", |bootstrap, topic, codec, lines| {
        python("pure", bootstrap, &["produce", topic, "0", codec], &text::file(lines));
    });
}

#[test]
fn the_java_client_compresses_as_asked() {
    if !Client::Java.check("the_java_client_compresses_as_asked") {
        return;
    }
    check("codecs-java", |bootstrap, topic, codec, lines| {
        java(bootstrap, &["produce", topic, "0", codec], &text::file(lines));
    });
}
