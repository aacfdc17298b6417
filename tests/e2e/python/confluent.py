"""Drives a broker with confluent-kafka: confluent.py BOOTSTRAP COMMAND [ARGUMENT...]

produce TOPIC PARTITION CODEC    one record per line of stdin; PARTITION -1 and lines "key:value" for keyed records
consume TOPIC PARTITIONS COUNT   prints "partition:offset:value" of COUNT records from the beginning
group TOPIC GROUP                prints the value of every record that a member of the group gets, and commits behind it, for ever
modern TOPIC GROUP               the same with the consumer protocol (KIP-848), until it is told to end; what it is given and gives up is
                                 told as "# given N" and "# taken N"
admin                            creates, changes and deletes a topic, and checks each step
"""
import signal
import sys
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)

LIMIT = 30


def produce(bootstrap, topic, partition, codec):
    failures = []
    producer = Producer({
        "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "compression.type": codec,
        "linger.ms": 20, "queue.buffering.max.messages": 1000000})
    for line in sys.stdin.buffer:
        line = line.rstrip(b"\n")
        place = {"value": line, "partition": int(partition)}
        if int(partition) < 0:
            key, value = line.split(b":", 1)
            place = {"key": key, "value": value}
        while True:
            try:
                producer.produce(topic, on_delivery=lambda error, _: error and failures.append(error), **place)
                break
            except BufferError:
                producer.poll(1)
    left = producer.flush(120)
    assert left == 0 and not failures, f"{left} records unacknowledged, failures: {failures[:3]}"


def consume(bootstrap, topic, partitions, count):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "enable.auto.commit": False,
        "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(int(partitions))])
    out = sys.stdout.buffer
    for number in range(int(count)):
        message = consumer.poll(LIMIT)
        assert message is not None, f"only {number} of {count} records came"
        if message.error():
            raise KafkaException(message.error())
        out.write(b"%d:%d:%s\n" % (message.partition(), message.offset(), message.value()))
    consumer.close()


def group(bootstrap, topic, name):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": name, "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "range", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
    consumer.subscribe([topic])
    while True:
        messages = [message for message in consumer.consume(100, timeout=0.2) if not message.error()]
        if messages:
            show(message.value() for message in messages)
            try:
                consumer.commit(asynchronous=False)
            except KafkaException:
                pass  # The group has moved on, or the broker is gone: whoever has the partition now reads it again.


def modern(bootstrap, topic, name):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": name, "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "group.protocol": "consumer"})
    consumer.subscribe(
        [topic], on_assign=lambda _, partitions: show([b"# given %d" % len(partitions)]),
        on_revoke=lambda _, partitions: show([b"# taken %d" % len(partitions)]))
    is_told = []
    signal.signal(signal.SIGTERM, lambda *_: is_told.append(True))
    while not is_told:
        messages = [message for message in consumer.consume(100, timeout=0.2) if not message.error()]
        if messages:
            show(message.value() for message in messages)
            try:
                consumer.commit(asynchronous=False)
            except KafkaException:
                pass  # As in `group`.
    consumer.close()


def show(values):
    for value in values:
        sys.stdout.buffer.write(value + b"\n")
    sys.stdout.buffer.flush()


def done(futures):
    return {key: future.result(LIMIT) for key, future in futures.items()}


def refused(futures, name):
    for future in futures.values():
        try:
            future.result(LIMIT)
        except KafkaException as error:
            assert error.args[0].name() == name, f"{error.args[0].name()} where {name} was expected: {error}"
        else:
            raise AssertionError(f"accepted where {name} was expected")


def admin(bootstrap):
    client = AdminClient({"bootstrap.servers": bootstrap})
    topic = "confluent-admin"
    done(client.create_topics([NewTopic(topic, 2, 1, config={"segment.bytes": "2000000"})]))
    refused(client.create_topics([NewTopic(topic, 2, 1)]), "TOPIC_ALREADY_EXISTS")
    refused(client.create_topics([NewTopic("bad topic!", 1, 1)]), "TOPIC_EXCEPTION")
    refused(client.create_topics([NewTopic("too-wide", 1, 3)]), "INVALID_REPLICATION_FACTOR")
    refused(client.create_topics([NewTopic("odd", 1, 1, config={"no.such.config": "1"})]), "INVALID_CONFIG")
    metadata = client.list_topics(topic, timeout=LIMIT).topics[topic]
    assert sorted(metadata.partitions) == [0, 1] and metadata.error is None, metadata

    done(client.create_partitions([NewPartitions(topic, 5)]))
    refused(client.create_partitions([NewPartitions(topic, 5)]), "INVALID_PARTITIONS")
    assert len(client.list_topics(topic, timeout=LIMIT).topics[topic].partitions) == 5

    resource = ConfigResource(ResourceType.TOPIC, topic)
    assert config(client, resource, "segment.bytes") == "2000000"
    change = ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
    done(client.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])]))
    assert config(client, resource, "max.message.bytes") == "2000"
    assert config(client, resource, "segment.bytes") == "2000000", "an incremental change leaves the others alone"
    too_large(bootstrap, topic)

    produce_lines(bootstrap, topic, [b"%d" % number for number in range(100)])
    place = TopicPartition(topic, 0, 40)
    deleted = done(client.delete_records([place]))
    assert [answer.low_watermark for answer in deleted.values()] == [40], deleted
    earliest = done(client.list_offsets({TopicPartition(topic, 0): OffsetSpec.earliest()}))
    latest = done(client.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}))
    assert [answer.offset for answer in earliest.values()] == [40]
    assert [answer.offset for answer in latest.values()] == [100]

    cluster = client.describe_cluster().result(LIMIT)
    assert cluster.cluster_id and len(cluster.nodes) == 1, cluster
    done(client.delete_topics([topic]))
    refused(client.delete_topics([topic]), "UNKNOWN_TOPIC_OR_PART")


def config(client, resource, name):
    return next(iter(done(client.describe_configs([resource])).values()))[name].value


def too_large(bootstrap, topic):
    seen = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value=b"x" * 4000, partition=1, on_delivery=lambda error, _: seen.append(error))
    producer.flush(LIMIT)
    assert seen and seen[0] is not None and seen[0].name() == "MSG_SIZE_TOO_LARGE", seen


def produce_lines(bootstrap, topic, lines):
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for line in lines:
        producer.produce(topic, value=line, partition=0)
    assert producer.flush(LIMIT) == 0


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "group": group, "modern": modern, "admin": admin}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
