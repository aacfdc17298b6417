"""Drives a broker with kafka-python: pure.py BOOTSTRAP COMMAND [ARGUMENT...]

produce TOPIC PARTITION CODEC    one record per line of stdin
consume TOPIC PARTITIONS COUNT   prints "partition:offset:value" of COUNT records from the beginning
group TOPIC GROUP                prints the value of every record that a member of the group gets, and commits behind it, for ever
admin                            creates, changes and deletes a topic, and checks each step
"""
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

LIMIT = 30


def produce(bootstrap, topic, partition, codec):
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type=None if codec == "none" else codec, linger_ms=20)
    futures = [producer.send(topic, value=line.rstrip(b"\n"), partition=int(partition)) for line in sys.stdin.buffer]
    producer.flush(timeout=120)
    offsets = [future.get(timeout=LIMIT).offset for future in futures]
    assert offsets == sorted(set(offsets)), "acknowledged offsets rise"
    producer.close()


def consume(bootstrap, topic, partitions, count):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, consumer_timeout_ms=LIMIT * 1000)
    places = [TopicPartition(topic, partition) for partition in range(int(partitions))]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    out = sys.stdout.buffer
    left = int(count)
    for message in consumer:
        out.write(b"%d:%d:%s\n" % (message.partition, message.offset, message.value))
        left -= 1
        if left == 0:
            break
    assert left == 0, f"{left} records did not come"
    consumer.close()


def group(bootstrap, topic, name):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest",
        partition_assignment_strategy=[RangePartitionAssignor], session_timeout_ms=6000, heartbeat_interval_ms=500)
    while True:
        batches = consumer.poll(timeout_ms=200)
        if batches:
            for messages in batches.values():
                for message in messages:
                    sys.stdout.buffer.write(message.value + b"\n")
            sys.stdout.buffer.flush()
            try:
                consumer.commit()
            except KafkaError:
                pass  # The group has moved on, or the broker is gone: whoever has the partition now reads it again.


def admin(bootstrap):
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    topic = "pure-admin"
    client.create_topics([NewTopic(name=topic, num_partitions=2, replication_factor=1)])
    refused(lambda: client.create_topics([NewTopic(name=topic, num_partitions=2, replication_factor=1)]), "TopicAlreadyExists")
    assert topic in client.list_topics()
    client.create_partitions({topic: NewPartitions(total_count=3)})
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    assert consumer.partitions_for_topic(topic) == {0, 1, 2}
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for number in range(10):
        producer.send(topic, value=b"%d" % number, partition=0, timestamp_ms=1_700_000_000_000 + number)
    producer.flush(timeout=LIMIT)
    place = TopicPartition(topic, 0)
    found = consumer.offsets_for_times({place: 1_700_000_000_007})[place]
    assert (found.offset, found.timestamp) == (7, 1_700_000_000_007), found
    assert consumer.end_offsets([place]) == {place: 10}
    client.delete_records({place: 4})
    assert consumer.beginning_offsets([place]) == {place: 4}
    assert client.describe_cluster()["cluster_id"]
    client.delete_topics([topic])
    refused(lambda: client.delete_topics([topic]), "UnknownTopicOrPartition")
    for resource in (producer, consumer, client):
        resource.close()


def refused(call, name):
    try:
        answer = call()
    except KafkaError as error:
        assert name in type(error).__name__, f"{type(error).__name__} where {name} was expected: {error}"
        return
    raise AssertionError(f"accepted where {name} was expected: {answer}")


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "group": group, "admin": admin}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
