// Writes the golden batches `java-*.bin` of this folder with Apache Kafka's Java client, and reads batches of ours with it.
//
//   java -cp <kafka-clients and its dependencies> Golden.java write <folder>
//   java -cp <the same> Golden.java read <file>...     prints every record
import java.nio.ByteBuffer;
import java.nio.file.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

class Golden {
    static final long TIME = 1700000000000L;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            for (CompressionType type : CompressionType.values()) {
                Path folder = Path.of(args[1]);
                Files.write(folder.resolve("java-short-" + type.name + ".bin"), shortBatch(type));
                Files.write(folder.resolve("java-long-" + type.name + ".bin"), longBatch(type));
            }
            return;
        }
        for (int i = 1; i < args.length; i++) {
            read(Path.of(args[i]));
        }
    }

    static byte[] shortBatch(CompressionType type) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 0, RecordBatch.NO_TIMESTAMP, 4711, (short) 3, 17, true,
            false, RecordBatch.NO_PARTITION_LEADER_EPOCH, 1 << 16);
        builder.append(TIME, "k".getBytes(), "v".getBytes(), new Header[] {new RecordHeader("h", "x".getBytes())});
        builder.append(TIME + 5, null, "value".getBytes());
        builder.append(TIME + 2, "key".getBytes(), null,
            new Header[] {new RecordHeader("a", (byte[]) null), new RecordHeader("", new byte[0])});
        return bytes(builder);
    }

    static byte[] longBatch(CompressionType type) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), TimestampType.CREATE_TIME, 0, RecordBatch.NO_TIMESTAMP,
            RecordBatch.NO_PRODUCER_ID, RecordBatch.NO_PRODUCER_EPOCH, RecordBatch.NO_SEQUENCE, false,
            false, RecordBatch.NO_PARTITION_LEADER_EPOCH, 1 << 20);
        for (int i = 0; i < 1000; i++) {
            builder.append(TIME + i, null, ("value " + i + " ").repeat(10).getBytes());
        }
        return bytes(builder);
    }

    static byte[] bytes(MemoryRecordsBuilder builder) {
        ByteBuffer buffer = builder.build().buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static void read(Path file) throws Exception {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
        for (MutableRecordBatch batch : records.batches()) {
            batch.ensureValid();
            int count = 0;
            long sum = 0;
            for (var record : batch) {
                count++;
                sum += record.sizeInBytes();
                if (count <= 3) {
                    System.out.println(file.getFileName() + " " + record);
                }
            }
            System.out.println(file.getFileName() + " " + batch.compressionType() + ": " + count + " records, " + sum);
        }
    }
}
