import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Drives a broker with the Java client: Roundtrip BOOTSTRAP produce|consume|admin [ARGUMENT...], as confluent.py does. */
public class Roundtrip {
    public static void main(String[] args) throws Exception {
        switch (args[1]) {
            case "produce" -> produce(args[0], args[2], Integer.parseInt(args[3]), args[4]);
            case "consume" -> consume(args[0], args[2], Integer.parseInt(args[3]), Integer.parseInt(args[4]));
            case "admin" -> admin(args[0]);
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    static void produce(String bootstrap, String topic, int partition, String codec) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "compression.type", codec, "linger.ms", 20);
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                byte[] value = line.getBytes(StandardCharsets.UTF_8);
                sent.add(producer.send(new ProducerRecord<>(topic, partition, null, value)));
            }
            producer.flush();
            long last = -1;
            for (var future : sent) {
                long offset = future.get().offset();
                check(offset > last, "acknowledged offsets rise");
                last = offset;
            }
        }
    }

    static void consume(String bootstrap, String topic, int partitions, int count) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false);
        var out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> places = new ArrayList<>();
            for (int partition = 0; partition < partitions; partition++) {
                places.add(new TopicPartition(topic, partition));
            }
            consumer.assign(places);
            consumer.seekToBeginning(places);
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            for (int left = count; left > 0; ) {
                check(System.nanoTime() < deadline, left + " records did not come");
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    out.print(record.partition() + ":" + record.offset() + ":");
                    out.write(record.value());
                    out.print("\n");
                    left--;
                }
            }
        }
        out.flush();
    }

    static void admin(String bootstrap) throws Exception {
        String topic = "java-admin";
        try (var admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            var wanted = new NewTopic(topic, 2, (short) 1).configs(Map.of("segment.bytes", "2000000"));
            admin.createTopics(List.of(wanted)).all().get();
            refused(admin.createTopics(List.of(wanted)).all(), TopicExistsException.class);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            check(described.partitions().size() == 4, "four partitions: " + described);
            check(described.topicId() != null, "a topic id: " + described);

            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var change = new AlterConfigOp(new ConfigEntry("compression.type", "zstd"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            check(config.get("compression.type").value().equals("zstd"), "changed: " + config);
            check(config.get("segment.bytes").value().equals("2000000"), "kept: " + config);

            var place = new TopicPartition(topic, 0);
            try (var producer = new KafkaProducer<>(
                    Map.<String, Object>of("bootstrap.servers", bootstrap), new ByteArraySerializer(), new ByteArraySerializer())) {
                for (int number = 0; number < 10; number++) {
                    producer.send(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + number, null, new byte[] {1})).get();
                }
            }
            admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(4))).all().get();
            check(offset(admin, place, OffsetSpec.earliest()) == 4, "starts at 4");
            check(offset(admin, place, OffsetSpec.latest()) == 10, "ends at 10");
            check(offset(admin, place, OffsetSpec.maxTimestamp()) == 9, "the newest timestamp is at 9");
            check(offset(admin, place, OffsetSpec.forTimestamp(1_700_000_000_006L)) == 6, "by timestamp");
            check(admin.describeCluster().nodes().get().size() == 1, "one node");
            check(!admin.describeLogDirs(List.of(1)).allDescriptions().get().isEmpty(), "log directories");
            admin.deleteTopics(Set.of(topic)).all().get();
            refused(admin.deleteTopics(Set.of(topic)).all(), UnknownTopicOrPartitionException.class);
        }
    }

    static long offset(Admin admin, TopicPartition place, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(place, spec)).partitionResult(place).get().offset();
    }

    static void refused(KafkaFuture<?> future, Class<? extends Exception> expected) throws Exception {
        try {
            future.get();
        } catch (ExecutionException error) {
            check(expected.isInstance(error.getCause()), expected.getSimpleName() + " expected: " + error.getCause());
            return;
        }
        throw new AssertionError("accepted where " + expected.getSimpleName() + " was expected");
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
