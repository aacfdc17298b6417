//! `quipu produce`.

use std::{fs::File, io::Read, process::Stdio};

use serde_json::Value;

use crate::world::{World, values};

const BACK: [&str; 4] = ["consume", "orders", "--exit-at-end", "--format"];

fn back(world: &World, format: &str) -> Vec<u8> {
    world.good(&[&BACK[..], &[format]].concat(), b"")
}

#[test]
fn lines_are_bytes_and_come_back_as_they_were() {
    let world = World::with_topic("cli-bytes", "orders", 1);
    // No text, an empty line, a carriage return, no newline at the end.
    let input = b"\xff\xfe\0\n\nwith\r\nlast";
    assert_eq!(world.good(&["produce", "orders"], input), b"4 records delivered to orders (15 B)\n");
    assert_eq!(back(&world, "%v\\n"), [&input[..], b"\n"].concat());
    assert_eq!(world.good(&["produce", "orders"], b""), b"0 records delivered to orders (0 B)\n");
}

#[test]
fn a_file_is_delivered_with_every_codec_and_every_acks() {
    let world = World::with_topic("cli-codecs", "orders", 1);
    let file = world.scratch.join("lines.txt");
    let lines: String = (0..30_000).map(|number| format!("line {number}\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    let ways = [("none", "all"), ("gzip", "all"), ("snappy", "1"), ("lz4", "1"), ("zstd", "all"), ("zstd", "0")];
    for (codec, acks) in ways {
        let arguments = ["produce", "orders", file.to_str().unwrap(), "--compression", codec, "--acks", acks, "--json"];
        let summary = &world.json(&arguments)[0];
        assert_eq!((&summary["delivered"], &summary["failed"]), (&30_000.into(), &0.into()), "{summary}");
        assert_eq!(summary["partitions"][0]["first_offset"].is_null(), acks == "0", "{summary}");
    }
    // Those without acknowledgement need not be there yet when the command has ended: wait for the last one.
    let all = world.good(&["consume", "orders", "--count", "180000"], b"");
    assert!(all == lines.repeat(6).into_bytes(), "{} bytes came back", all.len());
    let dumped = {
        let World { mut broker, scratch } = world;
        assert!(broker.stop().unwrap().success());
        let mut dump = crate::world::quipu(&["log", "dump", "--json", "--topic", "orders"]);
        let output = dump.arg(scratch.join("data")).output().unwrap();
        values(&output.stdout)
    };
    for (codec, _) in ways {
        assert!(dumped.iter().any(|batch| batch["codec"] == codec), "{codec}");
    }
}

#[test]
fn keys_choose_the_partition_and_headers_come_along() {
    let world = World::with_topic("cli-keys", "orders", 4);
    let lines: String = (0..1000).map(|number| format!("key {}\\{number}\n", number % 7)).collect();
    let arguments = ["produce", "orders", "--key-separator", "\\\\", "--header", "from=test", "--header", "empty="];
    world.good(&arguments, lines.as_bytes());
    let records = values(&world.good(&["consume", "orders", "--exit-at-end", "--json"], b""));
    assert_eq!(records.len(), 1000);
    for key in 0..7 {
        let own: Vec<&Value> = records.iter().filter(|record| record["key"] == format!("key {key}")).collect();
        assert!(own.iter().all(|record| record["partition"] == own[0]["partition"]), "{key}");
        let numbers: Vec<usize> = own.iter().map(|record| record["value"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, (key..1000).step_by(7).collect::<Vec<_>>());
    }
    let headers = serde_json::json!([{ "key": "from", "value": "test" }, { "key": "empty", "value": "" }]);
    assert!(records.iter().all(|record| record["headers"] == headers));

    world.good(&["produce", "orders", "--partition", "2", "--key-separator", "=>"], b"a=>b=>c\nno key\n=>\n");
    let printed = world.good(
        &["consume", "orders", "--partition", "2", "--from", "-1h", "--exit-at-end", "--format", "%p[%k][%v]\\n"],
        b"",
    );
    assert!(printed.ends_with(b"2[a][b=>c]\n2[][no key]\n2[][]\n"), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn a_line_that_is_too_long_is_named_and_what_came_before_it_is_delivered() {
    let world = World::with_topic("cli-long", "orders", 1);
    world.good(&["topic", "alter", "orders", "--config", "max.message.bytes=3000"], b"");
    // Longer than a record may be; and not longer itself, but with all that belongs to a record.
    for (length, seen) in [(500_000, 3), (2990, 6)] {
        let input = format!("one\ntwo\nthree\n{}\nfive\n", "x".repeat(length));
        let output = world.run(&["produce", "orders"], input.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.starts_with(b"3 records delivered to orders"), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        for word in ["line 4", "3000 bytes", "max.message.bytes", "3 delivered, 1 not", "no line after 4"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert_eq!(back(&world, "%v\\n"), b"one\ntwo\nthree\n".repeat(seen / 3));
    }
}

#[test]
fn ctrl_c_delivers_what_was_read() {
    let world = World::with_topic("cli-produce-interrupt", "orders", 1);
    let first = (0..50_000).map(|number| format!("{number}\n")).collect::<String>();
    let mut reader = world.start(&["consume", "orders", "--format", "%o\\n"]);
    let mut running = world.start(&["produce", "orders", "--json"]);
    running.write(first.as_bytes());
    assert_eq!(reader.line(), "0\n");
    running.interrupt();
    let (status, summary, stderr) = running.end();
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "stdin has no end that was missed");
    let delivered = values(&summary)[0]["delivered"].as_u64().unwrap();
    assert!(delivered > 0);
    let found = back(&world, "%v\\n").iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!(found, delivered, "what is in the topic is what it told");
}

#[test]
fn a_file_that_was_not_read_to_its_end_is_a_failure() {
    let world = World::with_topic("cli-file-interrupt", "orders", 1);
    let mut reader = world.start(&["consume", "orders"]);
    let mut running = world.start(&["produce", "orders", "/dev/stdin"]);
    running.write(b"one\ntwo\n");
    assert_eq!((reader.line(), reader.line()), ("one\n".to_owned(), "two\n".to_owned()));
    running.interrupt();
    let (status, stdout, stderr) = running.end();
    assert_eq!((status, stdout), (Some(1), b"2 records delivered to orders (8 B)\n".to_vec()));
    assert!(stderr.contains("/dev/stdin was sent up to line 2"), "{stderr}");
}

#[test]
fn a_terminal_sees_how_far_it_is_and_a_file_does_not() {
    let world = World::with_topic("cli-progress", "orders", 1);
    let file = world.scratch.join("lines.txt");
    std::fs::write(&file, "line\n".repeat(1000)).unwrap();
    let arguments = ["produce", "orders", file.to_str().unwrap()];
    let (mut terminal, its_other_end) = pseudo_terminal();
    let mut command = world.command(&arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(its_other_end).spawn();
    assert!(child.unwrap().wait().unwrap().success());
    drop(command);
    let mut seen = Vec::new();
    // Reading a terminal whose other end is closed ends with an error, behind all that was written.
    terminal.read_to_end(&mut seen).unwrap_err();
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("100%  1000 records  5.0 kB"), "{seen:?}");
    assert!(seen.ends_with("\r\x1b[K"), "it takes its line away: {seen:?}");
    // `good` asserts that stderr is empty.
    world.good(&arguments, b"");
}

fn pseudo_terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let other = File::options().read(true).write(true).open(name).unwrap();
    (File::from(terminal), other)
}
