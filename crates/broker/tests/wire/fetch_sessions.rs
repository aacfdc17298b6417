//! Fetch sessions (KIP-227): what changed is told, what did not is not, and whoever loses a session loses no record.

use std::time::Duration;

use quipu_base::TopicId;
use quipu_env::{Clock, Env};
use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::DeleteTopicsRequest,
        fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData},
    },
};

use crate::support::{Client, batch, produce_request, records_of, with_broker};

/// A request in a session, by name at versions below 13, else by id.
struct Poll {
    session: (i32, i32),
    version: i16,
    topic: (&'static str, TopicId),
    /// Partitions with the offsets wanted.
    wanted: Vec<(i32, i64)>,
    forgotten: Vec<i32>,
    bytes_max: i32,
    wait_ms: i32,
}

impl Poll {
    fn new(session: (i32, i32)) -> Self {
        let (wanted, forgotten) = (Vec::new(), Vec::new());
        Self { session, version: 12, topic: ("t", TopicId::ZERO), wanted, forgotten, bytes_max: i32::MAX, wait_ms: 0 }
    }

    fn from(mut self, wanted: &[(i32, i64)]) -> Self {
        self.wanted = wanted.to_vec();
        self
    }

    fn by_id(mut self, id: TopicId) -> Self {
        (self.version, self.topic) = (18, ("", id));
        self
    }

    fn without(mut self, forgotten: &[i32]) -> Self {
        self.forgotten = forgotten.to_vec();
        self
    }

    fn waiting(mut self) -> Self {
        self.wait_ms = 30_000;
        self
    }

    fn up_to(mut self, bytes_max: i32) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    fn request(self) -> (i16, FetchRequest) {
        let (name, topic_id) = self.topic;
        let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let partitions: Vec<_> = self.wanted.iter().map(partition).collect();
        let topic = FetchTopic { topic: name.into(), topic_id, partitions };
        let forgotten = ForgottenTopic { topic: name.into(), topic_id, partitions: self.forgotten };
        let request = FetchRequest {
            max_wait_ms: self.wait_ms,
            min_bytes: 1,
            max_bytes: self.bytes_max,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: if topic.partitions.is_empty() { Vec::new() } else { vec![topic] },
            forgotten_topics_data: if forgotten.partitions.is_empty() { Vec::new() } else { vec![forgotten] },
            ..Default::default()
        };
        (self.version, request)
    }

    async fn send(self, client: &mut Client) {
        let (version, request) = self.request();
        client.send(version, request).await;
    }

    async fn call(self, client: &mut Client) -> FetchResponse {
        self.send(client).await;
        receive(client).await
    }
}

async fn receive(client: &mut Client) -> FetchResponse {
    let Response::Fetch(response) = client.receive().await else { panic!() };
    response
}

/// Partition, error, high watermark and records of everything told.
fn told(response: &FetchResponse) -> Vec<(i32, i16, i64, usize)> {
    let all = response.responses.iter().flat_map(|topic| &topic.partitions);
    let of =
        |data: &PartitionData| (data.partition_index, data.error_code, data.high_watermark, records_of(data).len());
    all.map(of).collect()
}

/// Begins a session with these partitions.
async fn begin(client: &mut Client, wanted: &[(i32, i64)]) -> i32 {
    let response = Poll::new((0, 0)).from(wanted).call(client).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(told(&response).len(), wanted.len());
    response.session_id
}

async fn produce(client: &mut Client, partition: i32) {
    let Response::Produce(response) = client.call(9, produce_request("t", partition, batch(&["x"]), -1)).await else {
        panic!()
    };
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn code(code: ErrorCode) -> i16 {
    code.code()
}

#[test]
fn only_what_changed_is_told() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        let id = client.create_topic("t", 3, &[]).await;
        for by_id in [false, true] {
            let start = i64::from(by_id);
            let poll = |session| if by_id { Poll::new(session).by_id(id) } else { Poll::new(session) };
            let all = [(0, start), (1, start), (2, start)];
            let first = poll((0, 0)).from(&all).call(&mut client).await;
            let none = [(0, 0, start, 0), (1, 0, start, 0), (2, 0, start, 0)];
            assert_eq!(told(&first), none, "the first answer has everything");
            let session = first.session_id;
            assert!(session > 0);
            let second = poll((session, 1)).call(&mut client).await;
            assert_eq!((second.session_id, told(&second)), (session, vec![]));
            for partition in 0..3 {
                produce(&mut other, partition).await;
            }
            let third = poll((session, 2)).waiting().call(&mut client).await;
            assert_eq!(told(&third).len(), 3);
            let again = poll((session, 3)).from(&[(1, start + 1)]).call(&mut client).await;
            let still = [(0, 0, start + 1, 1), (2, 0, start + 1, 1)];
            assert_eq!(told(&again), still, "who did not read on gets it again");
            let rest = poll((session, 4)).from(&[(0, start + 1), (2, start + 1)]).call(&mut client).await;
            assert_eq!(told(&rest), []);
            let closed = poll((session, -1)).from(&all).call(&mut client).await;
            assert_eq!((closed.session_id, told(&closed).len()), (0, 3));
            let gone = poll((session, 5)).call(&mut client).await;
            assert_eq!(gone.error_code, code(ErrorCode::FetchSessionIdNotFound));
        }
    });
}

#[test]
fn offsets_that_move_without_records_are_told_too() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        client.create_topic("t", 2, &[]).await;
        produce(&mut other, 0).await;
        produce(&mut other, 1).await;
        let session = begin(&mut client, &[(0, 1), (1, 1)]).await;
        assert_eq!(told(&Poll::new((session, 1)).call(&mut client).await), []);
        let partitions = vec![DeleteRecordsPartition { partition_index: 1, offset: 1 }];
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
        other.call(2, DeleteRecordsRequest { topics, timeout_ms: 10_000 }).await;
        let moved = Poll::new((session, 2)).call(&mut client).await;
        assert_eq!(told(&moved), [(1, 0, 1, 0)]);
        assert_eq!(moved.responses[0].partitions[0].log_start_offset, 1);
        assert_eq!(told(&Poll::new((session, 3)).call(&mut client).await), []);
    });
}

#[test]
fn a_session_is_known_by_its_id_its_next_epoch_and_its_connection() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        let id = client.create_topic("t", 1, &[]).await;
        let session = begin(&mut client, &[(0, 0)]).await;
        let error = async |client: &mut Client, poll: Poll| {
            let response = poll.call(client).await;
            assert_eq!((response.session_id, told(&response)), (0, vec![]));
            response.error_code
        };
        let unknown = code(ErrorCode::FetchSessionIdNotFound);
        for wrong in [0, -1, session ^ 1, i32::MIN] {
            assert_eq!(error(&mut client, Poll::new((wrong, 1))).await, unknown, "id {wrong}");
        }
        assert_eq!(error(&mut other, Poll::new((session, 1))).await, unknown);
        for wrong in [2, -2, i32::MAX, i32::MIN] {
            let found = error(&mut client, Poll::new((session, wrong))).await;
            assert_eq!(found, code(ErrorCode::InvalidFetchSessionEpoch), "epoch {wrong}");
        }
        let mixed = error(&mut client, Poll::new((session, 1)).by_id(id)).await;
        assert_eq!(mixed, code(ErrorCode::FetchSessionTopicIdError));
        let well = Poll::new((session, 1)).call(&mut client).await;
        assert_eq!((well.error_code, well.session_id), (0, session), "none of it has harmed the session");
        let next = begin(&mut client, &[(0, 0)]).await;
        assert!(next != session);
        assert_eq!(error(&mut client, Poll::new((session, 2))).await, unknown, "another has taken its place");
    });
}

#[test]
fn partitions_come_and_go() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        client.create_topic("t", 3, &[]).await;
        let session = begin(&mut client, &[(0, 0), (1, 0)]).await;
        let added = Poll::new((session, 1)).from(&[(2, 0)]).without(&[0]).call(&mut client).await;
        assert_eq!(told(&added), [(2, 0, 0, 0)], "a new one is told of, whatever it has");
        for partition in 0..3 {
            produce(&mut other, partition).await;
        }
        let news = Poll::new((session, 2)).call(&mut client).await;
        assert_eq!(told(&news), [(1, 0, 1, 1), (2, 0, 1, 1)]);
        let unknown = Poll::new((session, 3)).from(&[(1, 1), (2, 1), (7, 0)]).call(&mut client).await;
        assert_eq!(told(&unknown), [(7, code(ErrorCode::UnknownTopicOrPartition), -1, 0)]);
        let still = Poll::new((session, 4)).call(&mut client).await;
        assert_eq!(told(&still).len(), 1, "an error is told until it is no more");
        let empty = Poll::new((session, 5)).without(&[1, 2, 7, 9]).waiting().call(&mut client).await;
        assert_eq!((empty.error_code, empty.session_id, told(&empty)), (0, 0, vec![]));
    });
}

#[test]
fn a_topic_that_goes_and_comes_again_is_told_of() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut by_id, mut other) =
            (fixture.client().await, fixture.client().await, fixture.client().await);
        let id = client.create_topic("t", 1, &[]).await;
        let session = begin(&mut client, &[(0, 0)]).await;
        let session_by_id = Poll::new((0, 0)).by_id(id).from(&[(0, 0)]).call(&mut by_id).await.session_id;
        // Both are parked, or will be; either way they hear of it.
        Poll::new((session, 1)).waiting().send(&mut client).await;
        Poll::new((session_by_id, 1)).by_id(id).waiting().send(&mut by_id).await;
        let topic_names = vec!["t".into()];
        other.call(5, DeleteTopicsRequest { topic_names, timeout_ms: 10_000, ..Default::default() }).await;
        let gone = [code(ErrorCode::UnknownTopicOrPartition), code(ErrorCode::NotLeaderOrFollower)];
        let (_, found, _, _) = told(&receive(&mut client).await)[0];
        assert!(gone.contains(&found), "{found}");
        let (_, found, _, _) = told(&receive(&mut by_id).await)[0];
        assert!(found != 0, "{found}");
        other.create_topic("t", 1, &[]).await;
        produce(&mut other, 0).await;
        assert_eq!(told(&Poll::new((session, 2)).call(&mut client).await), [(0, 0, 1, 1)]);
        let old = Poll::new((session_by_id, 2)).by_id(id).call(&mut by_id).await;
        assert_eq!(told(&old), [(0, code(ErrorCode::UnknownTopicId), -1, 0)], "another topic with the same name");
    });
}

#[test]
fn a_parked_request_is_woken_by_any_of_its_partitions() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        client.create_topic("t", 100, &[]).await;
        let all: Vec<(i32, i64)> = (0..100).map(|partition| (partition, 0)).collect();
        let session = begin(&mut client, &all).await;
        let begin = fixture.env.clock().now();
        let mut read = Vec::new();
        for (epoch, partition) in (1..).zip([99, 0, 50]) {
            Poll::new((session, epoch)).from(&read).waiting().send(&mut client).await;
            produce(&mut other, partition).await;
            assert_eq!(told(&receive(&mut client).await), [(partition, 0, 1, 1)]);
            read = vec![(partition, 1)];
        }
        assert!(fixture.env.clock().now().since(begin) < Duration::from_secs(20));
    });
}

#[test]
fn everybodys_turn_comes_when_an_answer_has_room_for_one() {
    with_broker(&[], |fixture| async move {
        let (mut client, mut other) = (fixture.client().await, fixture.client().await);
        client.create_topic("t", 3, &[]).await;
        for partition in 0..3 {
            produce(&mut other, partition).await;
            produce(&mut other, partition).await;
        }
        let session = begin(&mut client, &[(0, 2), (1, 2), (2, 2)]).await;
        let mut turns = Vec::new();
        let mut wanted = vec![(0, 0), (1, 0), (2, 0)];
        for epoch in 1..=6 {
            let answer = Poll::new((session, epoch)).from(&wanted).up_to(1).call(&mut client).await;
            let (partition, _, _, count) = *told(&answer).iter().find(|(_, _, _, count)| *count > 0).unwrap();
            assert_eq!(count, 1);
            turns.push(partition);
            let read = i64::try_from(turns.iter().filter(|one| **one == partition).count()).unwrap();
            wanted = vec![(partition, read)];
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    });
}

#[test]
fn whoever_finds_no_place_fetches_without_a_session() {
    with_broker(&[("max.incremental.fetch.session.cache.slots", "2")], |fixture| async move {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(fixture.client().await);
        }
        clients[0].create_topic("t", 1, &[]).await;
        produce(&mut clients[0], 0).await;
        let mut sessions = Vec::new();
        for client in &mut clients {
            sessions.push(begin(client, &[(0, 0)]).await);
        }
        assert!(sessions[0] > 0 && sessions[1] > 0 && sessions[0] != sessions[1]);
        assert_eq!(sessions[2], 0);
        // A connection that ends leaves its place to others, as soon as the broker sees it.
        drop(clients.remove(0));
        let deadline = fixture.env.clock().now() + Duration::from_secs(30);
        while begin(&mut clients[1], &[(0, 0)]).await == 0 {
            assert!(fixture.env.clock().now() < deadline, "the place is not given back");
        }
    });
}

#[test]
fn hostile_sessions_get_typed_errors() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        for round in 0..200 {
            for number in 0..100 {
                Poll::new((round * 7919 + number, 0)).from(&[(0, 0)]).send(&mut client).await;
            }
            for _ in 0..100 {
                let response = receive(&mut client).await;
                assert!(response.error_code == 0 && response.session_id > 0, "each takes the last one's place");
            }
        }
        let session = begin(&mut client, &[(0, 0)]).await;
        let nobody: Vec<i32> = (1..500_000).collect();
        let forgotten = Poll::new((session, 1)).without(&nobody).call(&mut client).await;
        assert_eq!((forgotten.error_code, forgotten.session_id, told(&forgotten)), (0, session, vec![]));
        let (_, mut request) = Poll::new((session, 2)).from(&[(0, 0)]).request();
        request.topics[0].topic = "n".repeat(30_000).into();
        let Response::Fetch(response) = client.call(12, request).await else { panic!() };
        assert_eq!(response.error_code, code(ErrorCode::FetchSessionIdNotFound), "no topic has such a name");
        let many: Vec<(i32, i64)> = (0..150_000).map(|partition| (partition, 0)).collect();
        let first = Poll::new((0, 0)).from(&many).call(&mut client).await;
        assert_eq!((first.error_code, first.session_id), (0, 0), "more than all sessions may have");
        let session = begin(&mut client, &[(0, 0)]).await;
        let grown = Poll::new((session, 1)).from(&many).call(&mut client).await;
        assert_eq!((grown.error_code, grown.session_id), (code(ErrorCode::FetchSessionIdNotFound), 0));
        assert!(begin(&mut client, &[(0, 0)]).await > 0, "nothing is left of it");
    });
}

#[test]
fn idle_partitions_cost_no_bytes() {
    with_broker(&[], |fixture| async move {
        let mut lengths = Vec::new();
        for (topic, count) in [("few", 1), ("many", 1000)] {
            let mut client = fixture.client().await;
            client.create_topic(topic, count, &[]).await;
            let all: Vec<(i32, i64)> = (0..count).map(|partition| (partition, 0)).collect();
            let first = Poll { topic: (topic, TopicId::ZERO), ..Poll::new((0, 0)).from(&all) }.call(&mut client).await;
            Poll::new((first.session_id, 1)).send(&mut client).await;
            lengths.push(client.receive_frame().await.unwrap().len());
        }
        assert_eq!(lengths[0], lengths[1]);
        assert!(lengths[1] < 32, "{lengths:?}");
    });
}

#[test]
fn idle_partitions_cost_no_time() {
    with_broker(&[], |fixture| async move {
        let clock = fixture.env.clock();
        let mut sessions = Vec::new();
        for (topic, count) in [("few", 1), ("many", 1000)] {
            let mut client = fixture.client().await;
            client.create_topic(topic, count, &[]).await;
            let all: Vec<(i32, i64)> = (0..count).map(|partition| (partition, 0)).collect();
            let first = Poll { topic: (topic, TopicId::ZERO), ..Poll::new((0, 0)).from(&all) }.call(&mut client).await;
            Poll::new((first.session_id, 1)).call(&mut client).await;
            sessions.push((client, first.session_id, Duration::MAX));
        }
        // The best of many rounds: whatever else the machine does, it does not do all the time.
        for round in 0..20 {
            for (client, session, best) in &mut sessions {
                let begin = clock.now();
                for poll in 0..50 {
                    assert_eq!(told(&Poll::new((*session, 2 + round * 50 + poll)).call(client).await), []);
                }
                *best = clock.now().since(begin).min(*best);
            }
        }
        let (few, many) = (sessions[0].2, sessions[1].2);
        assert!(many < few * 3, "50 polls take {few:?} with one partition, {many:?} with a thousand");
    });
}
