"""What every client is asked for, in Python: flows.py CLIENT BOOTSTRAP, CLIENT one of confluent, pure (kafka-python), aiokafka.

Each flow prints one line, "ok NAME" or "FAIL NAME: WHY"; the first line is "version WHAT". Ends with status 0 unless it could not begin.
"""
import asyncio
import sys
import time
import uuid

LIMIT = 60
COUNT = 300


def flow(name, work, *arguments):
    """Runs one flow and tells how it went; what comes of it is for the next flow."""
    try:
        work(*arguments)
        print(f"ok {name}", flush=True)
    except Exception as error:  # whatever a client raises is the answer
        print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)


def fresh(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def values():
    return [f"value {number}".encode() for number in range(COUNT)]


def same(found, wanted):
    assert sorted(found) == sorted(wanted), f"{len(found)} records for {len(wanted)}"


# confluent-kafka

def confluent(bootstrap):
    import confluent_kafka
    from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
    from confluent_kafka.admin import (
        AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)
    print(f"version {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}")
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def each(futures):
        return {key: future.result(LIMIT) for key, future in futures.items()}

    def topic(partitions=3):
        name = fresh("confluent")
        each(admin.create_topics([NewTopic(name, partitions, 1)]))
        return name

    def send(name, **settings):
        failures = []
        producer = Producer({"bootstrap.servers": bootstrap, **settings})
        for number, value in enumerate(values()):
            producer.produce(name, value=value, key=str(number), headers={"n": str(number)},
                             on_delivery=lambda error, _: error and failures.append(error))
        assert producer.flush(LIMIT) == 0 and not failures, failures[:1]

    def read(name, group, count=COUNT, **settings):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                             "enable.auto.commit": False, **settings})
        consumer.subscribe([name])
        found, deadline = [], time.monotonic() + LIMIT
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found.append(message.value())
        if found:
            consumer.commit(asynchronous=False)
        consumer.close()
        return found

    def codecs():
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            name = topic()
            send(name, **{"compression.type": codec})
            same(read(name, fresh("group")), values())

    def idempotent():
        name = topic()
        send(name, **{"enable.idempotence": True})
        same(read(name, fresh("group")), values())

    def groups(**settings):
        name, group = topic(), fresh("group")
        send(name)
        same(read(name, group, **settings), values())
        committed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        offsets = each(committed)[group].topic_partitions
        assert sum(partition.offset for partition in offsets) == COUNT, offsets
        send(name)
        same(read(name, group, **settings), values())

    def group_admin():
        name, group = topic(1), fresh("group")
        send(name)
        read(name, group)
        listed = admin.list_consumer_groups().result(LIMIT).valid
        assert group in [listing.group_id for listing in listed], "it is listed"
        assert each(admin.describe_consumer_groups([group]))[group].group_id == group
        partition = TopicPartition(name, 0, 7)
        each(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [partition])]))
        assert len(read(name, group, COUNT - 7)) == COUNT - 7
        each(admin.delete_consumer_groups([group]))

    def topics():
        name = topic(1)
        each(admin.create_partitions([NewPartitions(name, 4)]))
        assert len(admin.list_topics(name, timeout=LIMIT).topics[name].partitions) == 4
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[
            ConfigEntry("retention.ms", "86400000", incremental_operation=AlterConfigOpType.SET)])
        each(admin.incremental_alter_configs([resource]))
        told = each(admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]))
        assert list(told.values())[0]["retention.ms"].value == "86400000"
        send(name)
        ends = each(admin.list_offsets({TopicPartition(name, number): OffsetSpec.latest() for number in range(4)}))
        assert sum(end.offset for end in ends.values()) == COUNT
        each(admin.delete_records([TopicPartition(name, 0, ends[TopicPartition(name, 0)].offset)]))
        each(admin.delete_topics([name]))

    flow("produce and consume, every codec", codecs)
    flow("idempotent producer", idempotent)
    flow("classic group: consume, commit, go on", groups)
    flow("classic group, cooperative-sticky", lambda: groups(**{"partition.assignment.strategy": "cooperative-sticky"}))
    flow("group of the consumer protocol (KIP-848)", lambda: groups(**{"group.protocol": "consumer"}))
    flow("admin: groups", group_admin)
    flow("admin: topics, partitions, configs, offsets, records", topics)

    def transactions():
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": fresh("transaction")})
        producer.init_transactions(10)
    flow("transactions", transactions)


# kafka-python

def pure(bootstrap):
    import kafka
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import NewPartitions, NewTopic
    print(f"version {kafka.__version__}")
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def topic(partitions=3):
        name = fresh("pure")
        admin.create_topics([NewTopic(name, partitions, 1)])
        return name

    def send(name, **settings):
        producer = KafkaProducer(bootstrap_servers=bootstrap, **settings)
        futures = [producer.send(name, value, key=value, headers=[("n", b"1")]) for value in values()]
        for future in futures:
            future.get(LIMIT)
        producer.close()

    def read(name, group, count=COUNT, **settings):
        consumer = KafkaConsumer(name, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                                 enable_auto_commit=False, **settings)
        found, deadline = [], time.monotonic() + LIMIT
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(500).values():
                found.extend(record.value for record in records)
        consumer.commit()
        consumer.close()
        return found

    def codecs():
        for codec in (None, "gzip", "snappy", "lz4", "zstd"):
            name = topic()
            send(name, compression_type=codec)
            same(read(name, fresh("group")), values())

    def groups():
        name, group = topic(), fresh("group")
        send(name)
        same(read(name, group), values())
        offsets = admin.list_group_offsets([group])[group] if hasattr(admin, "list_group_offsets") \
            else admin.list_consumer_group_offsets(group)
        assert sum(offset.offset for offset in offsets.values()) == COUNT, offsets
        send(name)
        same(read(name, group), values())

    def seek():
        name = topic(1)
        send(name)
        consumer = KafkaConsumer(bootstrap_servers=bootstrap)
        partition = TopicPartition(name, 0)
        consumer.assign([partition])
        assert consumer.end_offsets([partition])[partition] == COUNT
        assert consumer.beginning_offsets([partition])[partition] == 0
        consumer.seek(partition, COUNT - 5)
        found = []
        deadline = time.monotonic() + LIMIT
        while len(found) < 5 and time.monotonic() < deadline:
            for records in consumer.poll(500).values():
                found.extend(records)
        assert [record.offset for record in found] == list(range(COUNT - 5, COUNT))
        consumer.close()

    def topics():
        name = topic(1)
        admin.create_partitions({name: NewPartitions(4)})
        assert len(admin.describe_topics([name])[0]["partitions"]) == 4
        assert name in admin.list_topics()
        admin.delete_topics([name])

    flow("produce and consume, every codec", codecs)
    flow("idempotent producer", lambda: send(topic(), enable_idempotence=True, acks="all"))
    flow("classic group: consume, commit, go on", groups)
    flow("seek, beginning and end offsets", seek)
    flow("admin: topics and partitions", topics)


# aiokafka

def aiokafka(bootstrap):
    import aiokafka as client
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
    print(f"version {client.__version__}")

    def runs(work):
        return lambda: asyncio.run(asyncio.wait_for(work(), 3 * LIMIT))

    async def topic(partitions=3):
        name = fresh("aio")
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        reply = await admin.create_topics([NewTopic(name, partitions, 1)])
        assert all(error[1] == 0 for error in reply.topic_errors), reply
        await admin.close()
        return name

    async def send(name, **settings):
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **settings)
        await producer.start()
        sent = [await producer.send(name, value, key=value) for value in values()]
        await asyncio.gather(*sent)
        await producer.stop()

    async def read(name, group, count=COUNT):
        consumer = AIOKafkaConsumer(name, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                                    enable_auto_commit=False)
        await consumer.start()
        found, deadline = [], time.monotonic() + LIMIT
        while len(found) < count and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found.extend(record.value for record in records)
        await consumer.commit()
        await consumer.stop()
        return found

    async def codecs():
        for codec in (None, "gzip", "snappy", "lz4", "zstd"):
            name = await topic()
            await send(name, compression_type=codec)
            same(await read(name, fresh("group")), values())

    async def idempotent():
        name = await topic()
        await send(name, enable_idempotence=True)
        same(await read(name, fresh("group")), values())

    async def groups():
        name, group = await topic(), fresh("group")
        await send(name)
        same(await read(name, group), values())
        await send(name)
        same(await read(name, group), values())

    async def shared():
        name, group = await topic(4), fresh("group")
        await send(name)
        found = []
        async def member():
            consumer = AIOKafkaConsumer(name, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest")
            await consumer.start()
            deadline = time.monotonic() + LIMIT
            while len(set(found)) < COUNT and time.monotonic() < deadline:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(record.value for record in records)
            await consumer.stop()
        await asyncio.gather(member(), member(), member())
        assert set(found) == set(values()), f"{len(set(found))} of {COUNT}"

    async def seek():
        name = await topic(1)
        await send(name)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        await consumer.start()
        partition = TopicPartition(name, 0)
        consumer.assign([partition])
        assert (await consumer.end_offsets([partition]))[partition] == COUNT
        consumer.seek(partition, COUNT - 1)
        record = await asyncio.wait_for(consumer.getone(), LIMIT)
        assert record.offset == COUNT - 1
        await consumer.stop()

    async def topics():
        name = await topic(1)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_partitions({name: NewPartitions(4)})
        told = await admin.describe_topics([name])
        assert len(told[0]["partitions"]) == 4
        assert name in await admin.list_topics()
        await admin.delete_topics([name])
        await admin.close()

    flow("produce and consume, every codec", runs(codecs))
    flow("idempotent producer", runs(idempotent))
    flow("classic group: consume, commit, go on", runs(groups))
    flow("classic group of three members", runs(shared))
    flow("seek and end offsets", runs(seek))
    flow("admin: topics and partitions", runs(topics))


if __name__ == "__main__":
    {"confluent": confluent, "pure": pure, "aiokafka": aiokafka}[sys.argv[1]](sys.argv[2])
