//! Members of groups, in both protocols: against Quipu's broker over loopback sockets, in a calm simulated world, and against
//! Apache Kafka where Java is at hand. Each scenario has topics and groups of its own.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use quipu_client::*;
use quipu_env::Clock;

use crate::suite::{create, partition};

/// Rounds of polls, one member after the other, until something must have happened.
const ROUNDS: usize = 600;
const WAIT: Duration = Duration::from_millis(50);

pub(crate) const PROTOCOLS: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Consumer];

fn config(protocol: GroupProtocol, group: &str) -> GroupConfig {
    GroupConfig {
        protocol,
        heartbeat_interval: Duration::from_millis(100),
        session_timeout: Duration::from_secs(10),
        auto_commit: None,
        consumer: ConsumerConfig { offset_reset: OffsetReset::Start, ..Default::default() },
        ..GroupConfig::new(group)
    }
}

/// A name of its own for each protocol.
fn name(protocol: GroupProtocol, name: &str) -> String {
    format!("{name}-{protocol:?}").to_lowercase()
}

fn join<E: Env>(client: &Client<E>, config: GroupConfig, topic: &str) -> GroupConsumer<E> {
    let mut member = client.group_consumer(config).unwrap();
    member.subscribe(Subscription::topics([topic])).unwrap();
    member
}

async fn send<E: Env>(client: &Client<E>, topic: &str, partitions: i32, values: core::ops::Range<usize>) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for value in values {
        let to = PartitionIndex(i32::try_from(value).unwrap() % partitions);
        drop(producer.send(ProducerRecord::new(topic, value.to_string()).with_partition(to)).await.unwrap());
    }
    producer.flush().await;
    producer.close().await;
}

fn number(record: &ConsumerRecord) -> usize {
    str::from_utf8(record.value.as_deref().unwrap()).unwrap().parse().unwrap()
}

/// Polls all members in turn until it is as wanted; gives what they read.
async fn until<E: Env>(
    what: &str,
    members: &mut [&mut GroupConsumer<E>],
    mut is_enough: impl FnMut(&[&mut GroupConsumer<E>], &BTreeSet<usize>) -> bool,
) -> BTreeSet<usize> {
    let mut read = BTreeSet::new();
    for _ in 0..ROUNDS {
        for member in members.iter_mut() {
            read.extend(member.poll(WAIT).await.unwrap_or_else(|error| panic!("{what}: {error}")).iter().map(number));
        }
        if is_enough(members, &read) {
            return read;
        }
    }
    let owned: Vec<Vec<String>> =
        members.iter().map(|member| member.assignment().map(ToString::to_string).collect()).collect();
    panic!("{what}: {} records, {owned:?}", read.len());
}

fn counts<E: Env>(members: &[&mut GroupConsumer<E>]) -> Vec<usize> {
    members.iter().map(|member| member.assignment().count()).collect()
}

/// Members come and go, and together read everything; what is committed is the end.
async fn shares<E: Env>(client: &Client<E>, protocol: GroupProtocol, assignors: Vec<Assignor>) {
    let topic = name(protocol, &format!("shares-{}", assignors[0].name()));
    create(client, NewTopic::new(&topic, 4)).await;
    send(client, &topic, 4, 0..100).await;
    let config = GroupConfig { assignors, auto_commit: Some(Duration::from_millis(100)), ..config(protocol, &topic) };
    let mut one = join(client, config.clone(), &topic);
    let mut read = until("one", &mut [&mut one], |_, read| read.len() == 100).await;
    let mut two = join(client, config.clone(), &topic);
    until("two", &mut [&mut one, &mut two], |members, _| counts(members) == [2, 2]).await;
    send(client, &topic, 4, 100..200).await;
    read.extend(until("both", &mut [&mut one, &mut two], |_, read| (100..200).all(|n| read.contains(&n))).await);
    let described = client.admin().describe_groups(vec![topic.clone()]).await.remove(0).1.unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::Stable, 2));
    let held: usize = described.members.iter().map(|member| member.partitions.len()).sum();
    assert_eq!(held, 4);
    one.close().await.unwrap();
    send(client, &topic, 4, 200..300).await;
    read.extend(until("the other", &mut [&mut two], |_, read| (200..300).all(|n| read.contains(&n))).await);
    two.close().await.unwrap();
    assert_eq!(read.len(), 300);
    let committed = client.admin().list_group_offsets(&topic, None).await.unwrap();
    let offsets: Vec<i64> = committed.values().map(|committed| committed.offset.0).collect();
    assert_eq!(offsets, [75; 4]);
    assert!(committed.values().all(|committed| committed.leader_epoch.is_some()));
}

/// What was not committed is read again, what was is not.
async fn goes_on<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "goes-on");
    create(client, NewTopic::new(&topic, 1)).await;
    send(client, &topic, 1, 0..20).await;
    let few = ConsumerConfig { poll_records_max: 5, ..config(protocol, &topic).consumer };
    let config = GroupConfig { consumer: few, ..config(protocol, &topic) };
    let mut member = join(client, config.clone(), &topic);
    let read = until("first", &mut [&mut member], |_, read| read.len() >= 10).await;
    assert_eq!(read, (0..10).collect());
    member.commit().await.unwrap();
    until("more", &mut [&mut member], |_, read| !read.is_empty()).await;
    member.close().await.unwrap();
    let mut member = join(client, config, &topic);
    let read = until("second", &mut [&mut member], |_, read| read.len() >= 5).await;
    assert_eq!(read, (10..15).collect());
    let own = partition(&topic, 0);
    let metadata = "half done".to_owned();
    let to_commit = OffsetToCommit { metadata, ..OffsetToCommit::new(Offset(12)) };
    member.commit_offsets([(own.clone(), to_commit)].into()).await.unwrap();
    let committed = member.committed(std::slice::from_ref(&own)).await.unwrap().remove(&own).unwrap();
    assert_eq!((committed.offset, &*committed.metadata), (Offset(12), "half done"));
    let other = partition("another", 0);
    let error = member.commit_offsets([(other.clone(), OffsetToCommit::new(Offset(1)))].into()).await;
    assert_eq!(error, Err(GroupError::NotOwned(other)));
    member.close().await.unwrap();
}

/// Who does not poll loses what it had to others, is told so, and can't commit.
async fn absence<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "absence");
    create(client, NewTopic::new(&topic, 2)).await;
    send(client, &topic, 2, 0..10).await;
    let short = GroupConfig { poll_interval_max: Duration::from_millis(700), ..config(protocol, &topic) };
    let mut absent = join(client, short, &topic);
    until("absent", &mut [&mut absent], |_, read| read.len() == 10).await;
    let mut other = join(client, config(protocol, &topic), &topic);
    let read = until("other", &mut [&mut other], |members, read| counts(members) == [2] && read.len() == 10).await;
    assert_eq!(read.len(), 10);
    let error = absent.commit().await.unwrap_err();
    assert!(matches!(error, GroupError::Stale { .. }), "{error}");
    other.commit().await.unwrap();
    until("back", &mut [&mut absent, &mut other], |members, _| counts(members) == [1, 1]).await;
    absent.close().await.unwrap();
    other.close().await.unwrap();
}

/// A static member that comes back has what it had, and nobody else notices.
async fn static_members<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "static");
    create(client, NewTopic::new(&topic, 2)).await;
    let named = |name: &str| GroupConfig { instance_id: Some(name.to_owned()), ..config(protocol, &topic) };
    let mut one = join(client, named("one"), &topic);
    let mut two = join(client, named("two"), &topic);
    until("both", &mut [&mut one, &mut two], |members, _| counts(members) == [1, 1]).await;
    let had: Vec<TopicPartition> = one.assignment().cloned().collect();
    let generation = two.membership().generation;
    one.close().await.unwrap();
    let mut again = join(client, named("one"), &topic);
    until("again", &mut [&mut again, &mut two], |members, _| counts(members) == [1, 1]).await;
    assert_eq!(again.assignment().cloned().collect::<Vec<_>>(), had);
    if protocol == GroupProtocol::Classic {
        assert_eq!(two.membership().generation, generation, "nobody noticed");
        let mut usurper = join(client, named("one"), &topic);
        let mut fenced = None;
        for _ in 0..ROUNDS {
            drop(usurper.poll(WAIT).await.unwrap());
            drop(two.poll(WAIT).await.unwrap());
            fenced = again.poll(WAIT).await.err();
            if fenced.is_some() {
                break;
            }
        }
        assert!(matches!(&fenced, Some(GroupError::Fenced { instance_id, .. }) if instance_id == "one"), "{fenced:?}");
        usurper.close().await.unwrap();
    }
    drop(again);
    two.close().await.unwrap();
}

/// Without a committed offset, and without a word about that, it is told; a seek ends it.
async fn no_offset<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "no-offset");
    create(client, NewTopic::new(&topic, 1)).await;
    send(client, &topic, 1, 0..3).await;
    let config = GroupConfig { consumer: ConsumerConfig::default(), ..config(protocol, &topic) };
    let mut member = join(client, config, &topic);
    let mut told = None;
    for _ in 0..ROUNDS {
        told = member.poll(WAIT).await.err();
        if told.is_some() {
            break;
        }
    }
    let own = partition(&topic, 0);
    assert_eq!(told, Some(GroupError::NoOffset(own.clone())));
    assert_eq!(member.assignment().collect::<Vec<_>>(), [&own]);
    member.seek(&own, Position::Offset(Offset(1))).unwrap();
    let read = until("sought", &mut [&mut member], |_, read| read.len() == 2).await;
    assert_eq!(read, [1, 2].into());
    member.pause(&own).unwrap();
    send(client, &topic, 1, 3..4).await;
    assert!(member.poll(Duration::from_millis(300)).await.unwrap().is_empty());
    member.resume(&own).unwrap();
    until("resumed", &mut [&mut member], |_, read| read.contains(&3)).await;
    member.close().await.unwrap();
}

/// A pattern finds the topics there are, and those that come.
async fn pattern<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let prefix = name(protocol, "pattern");
    create(client, NewTopic::new(&format!("{prefix}-a"), 1)).await;
    create(client, NewTopic::new(&format!("not-{prefix}-b"), 1)).await;
    let mut member = client.group_consumer(config(protocol, &prefix)).unwrap();
    member.subscribe(Subscription::pattern(format!("{prefix}-[a-c]"))).unwrap();
    until("the first", &mut [&mut member], |members, _| counts(members) == [1]).await;
    create(client, NewTopic::new(&format!("{prefix}-b"), 2)).await;
    until("the second", &mut [&mut member], |members, _| counts(members) == [3]).await;
    member.subscribe(Subscription::topics([format!("{prefix}-b")])).unwrap();
    until("only the second", &mut [&mut member], |members, _| counts(members) == [2]).await;
    member.unsubscribe().await.unwrap();
    assert_eq!(member.poll(WAIT).await, Err(GroupError::NotSubscribed));
    member.subscribe(Subscription::topics([format!("{prefix}-a")])).unwrap();
    until("anew", &mut [&mut member], |members, _| counts(members) == [1]).await;
    member.close().await.unwrap();
}

/// What a listener was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn add(&self, what: &str, partitions: impl Iterator<Item = TopicPartition>) {
        let numbers: Vec<String> = partitions.map(|partition| partition.partition.to_string()).collect();
        self.0.lock().unwrap().push(format!("{what} {}", numbers.join(",")));
    }
}

impl RebalanceListener for Told {
    fn assigned(&mut self, places: &mut BTreeMap<TopicPartition, Option<Position>>) {
        self.add("assigned", places.keys().cloned());
        places.values_mut().for_each(|place| *place = Some(Position::Offset(Offset(2))));
    }

    fn revoked(&mut self, partitions: &[TopicPartition], commits: &mut BTreeMap<TopicPartition, OffsetToCommit>) {
        assert!(commits.is_empty(), "nothing is committed by itself");
        self.add("revoked", partitions.iter().cloned());
        commits.extend(partitions.iter().map(|partition| (partition.clone(), OffsetToCommit::new(Offset(3)))));
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.add("lost", partitions.iter().cloned());
    }
}

/// A listener says where to begin and what to commit at the end.
async fn listener<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "listener");
    create(client, NewTopic::new(&topic, 1)).await;
    send(client, &topic, 1, 0..5).await;
    let short = GroupConfig { poll_interval_max: Duration::from_millis(700), ..config(protocol, &topic) };
    let mut member = join(client, short, &topic);
    let told = Told::default();
    member.set_listener(told.clone());
    let read = until("from the listener's place", &mut [&mut member], |_, read| read.len() == 3).await;
    assert_eq!(read, (2..5).collect());
    client.env().clock().sleep(Duration::from_millis(1500)).await;
    until("again", &mut [&mut member], |_, read| read.len() == 3).await;
    member.close().await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), ["assigned 0", "lost 0", "assigned 0", "revoked 0"]);
    let committed = client.admin().list_group_offsets(&topic, None).await.unwrap();
    assert_eq!(committed.values().map(|one| one.offset).collect::<Vec<_>>(), [Offset(3)]);
}

/// Groups from outside: listed, described, their offsets set and forgotten, and away with them.
async fn administration<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "administration");
    let admin = client.admin();
    create(client, NewTopic::new(&topic, 2)).await;
    let group = vec![topic.clone()];
    let error = admin.describe_groups(group.clone()).await.remove(0).1.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound));
    let mut member = join(client, config(protocol, &topic), &topic);
    until("in", &mut [&mut member], |members, _| counts(members) == [2]).await;
    let listed = admin.list_groups().await.unwrap();
    let own = listed.iter().find(|listed| listed.group == topic).unwrap();
    let expected =
        if protocol == GroupProtocol::Classic { GroupProtocolType::Classic } else { GroupProtocolType::Consumer };
    assert_eq!((&own.protocol, &own.state), (&expected, &GroupState::Stable));
    let offsets: BTreeMap<_, _> =
        (0..2).map(|index| (partition(&topic, index), OffsetToCommit::new(Offset(7)))).collect();
    let refused: Result<(), ClientError> =
        async { admin.alter_group_offsets(&topic, &offsets).await?.into_iter().try_for_each(|(_, outcome)| outcome) }
            .await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::UnknownMemberId), "it has a member");
    let error = admin.delete_groups(group.clone()).await.remove(0).1.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup));
    let outcome = admin.delete_group_offsets(&topic, &[partition(&topic, 0)]).await.unwrap().remove(0).1;
    assert_eq!(outcome.unwrap_err().code(), Some(ErrorCode::GroupSubscribedToTopic));
    member.close().await.unwrap();
    for (_, outcome) in admin.alter_group_offsets(&topic, &offsets).await.unwrap() {
        outcome.unwrap();
    }
    admin.delete_group_offsets(&topic, &[partition(&topic, 0)]).await.unwrap().remove(0).1.unwrap();
    let committed = admin.list_group_offsets(&topic, None).await.unwrap();
    assert_eq!(committed.keys().cloned().collect::<Vec<_>>(), [partition(&topic, 1)]);
    admin.delete_groups(group).await.remove(0).1.unwrap();
    assert!(admin.list_group_offsets(&topic, None).await.unwrap().is_empty());
}

/// A member that is closed while it joins is none afterwards: the join must not come to the coordinator behind the leave.
async fn leaves_while_joining<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    let topic = name(protocol, "leaves-while-joining");
    create(client, NewTopic::new(&topic, 1)).await;
    for round in 0..20 {
        let group = format!("{topic}-{round}");
        let mut member = join(client, config(protocol, &group), &topic);
        member.poll(Duration::from_micros(100 * round)).await.unwrap();
        member.close().await.unwrap();
        let described = client.admin().describe_groups(vec![group]).await.remove(0).1;
        let left = described.map_or(0, |group| group.members.len());
        assert_eq!(left, 0, "round {round}: it is a member still");
    }
}

/// Everything, in one protocol.
pub(crate) async fn all<E: Env>(client: &Client<E>, protocol: GroupProtocol) {
    for assignors in [
        vec![Assignor::Range, Assignor::CooperativeSticky],
        vec![Assignor::RoundRobin],
        vec![Assignor::CooperativeSticky],
    ] {
        if protocol == GroupProtocol::Classic || assignors.len() > 1 {
            shares(client, protocol, assignors).await;
        }
    }
    goes_on(client, protocol).await;
    absence(client, protocol).await;
    static_members(client, protocol).await;
    no_offset(client, protocol).await;
    pattern(client, protocol).await;
    listener(client, protocol).await;
    administration(client, protocol).await;
    leaves_while_joining(client, protocol).await;
}
